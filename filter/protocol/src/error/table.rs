//! What an error means: one table of providers' words for all protocols, since a proxy hands on another protocol's words
//! and servers that speak one protocol are written by many.
//!
//! A word for programs says it first, then the status, and a sentence may say more than both. Each row has its evidence
//! beside it: "recorded" is a recording that the laws run over, an SDK, a document, or an issue that quotes the answer.

use ErrorKind as K;

use super::ErrorKind;

/// What an error says of itself.
pub(crate) struct Said<'s> {
    /// The HTTP status, or the one that the body names under a 200.
    pub status: Option<u16>,
    /// Codes, reasons and types; the most exact first.
    pub words: &'s [&'s str],
    pub message: &'s str,
}

pub(crate) fn kind(said: &Said<'_>) -> ErrorKind {
    let status = said.status.filter(|status| *status >= 400).map(ErrorKind::of_status);
    let word = said.words.iter().find_map(|word| find(WORDS, word).or_else(|| own(word)));
    let known = word.or(status).or_else(|| said.words.iter().find_map(|word| find(VAGUE, word)));
    let message = said.message.to_ascii_lowercase();
    let sentence = SENTENCES
        .iter()
        .find(|(pieces, of, _)| known.is_none_or(|known| of.contains(&known)) && contains(&message, pieces));
    sentence.map(|(_, _, kind)| *kind).or(known).unwrap_or(K::Server)
}

fn find(rows: &[(&str, ErrorKind)], word: &str) -> Option<ErrorKind> {
    rows.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, kind)| *kind)
}

/// The name that a gateway such as this one gives a kind, but for those that say no more than a status.
fn own(word: &str) -> Option<ErrorKind> {
    ErrorKind::from_name(word).filter(|kind| !matches!(kind, K::BadRequest | K::Server))
}

/// Whether the pieces, which an asterisk parts, follow each other in a text.
fn contains(mut text: &str, pieces: &str) -> bool {
    pieces.split('*').all(|piece| match text.split_once(piece) {
        Some((_, rest)) => {
            text = rest;
            true
        }
        None => false,
    })
}

/// Words that say it, whatever the status. Upper and lower case are one.
const WORDS: &[(&str, ErrorKind)] = &[
    // `error.metadata.limit_source` of OpenRouter (its "Errors and debugging"): a 402 of the first is over in seconds.
    ("openrouter_in_flight_budget", K::RateLimit),
    ("openrouter_guardrail_budget", K::QuotaSpent),
    ("openrouter_workspace_budget", K::QuotaSpent),
    ("openrouter_key_limit", K::QuotaSpent),
    // `details.error_code` of Anthropic (SDK `types/shared/*_error_details.py`).
    ("contract_spend_limit_reached", K::QuotaSpent),
    ("enforced_spend_limit_reached", K::QuotaSpent),
    ("linked_organization_spend_limit_reached", K::QuotaSpent),
    ("linked_organization_billing_unavailable", K::QuotaSpent),
    ("ramp_limit_exceeded", K::RateLimit),
    ("organization_on_hold", K::Permission),
    // OpenAI's 429s that no wait mends (its "Error codes", and Microsoft's Dev Proxy on `insufficient_quota`).
    ("insufficient_quota", K::QuotaSpent), // recorded
    ("credit_balance_exhausted", K::QuotaSpent),
    ("organization_spend_limit_exceeded", K::QuotaSpent),
    ("project_spend_limit_exceeded", K::QuotaSpent),
    ("organization_usage_limit_exceeded", K::QuotaSpent),
    ("billing_hard_limit_reached", K::QuotaSpent),
    ("billing_not_active", K::QuotaSpent),
    ("billing_error", K::QuotaSpent),    // Anthropic: SDK `ErrorType`
    ("payment_required", K::QuotaSpent), // Gemini, OpenRouter: their error pages
    ("quota_exhausted", K::QuotaSpent),  // Google: gemini-cli `googleQuotaErrors.ts`
    ("billing_disabled", K::QuotaSpent), // google.api.ErrorReason
    ("context_length_exceeded", K::ContextTooLong), // OpenAI, Azure, OpenRouter; openai/codex `is_context_window_error`
    ("exceed_context_size_error", K::ContextTooLong), // llama.cpp's server
    ("request_too_large", K::TooLarge),             // Anthropic "Errors"
    ("content_filter", K::ContentFilter),           // Azure: openai-python#331
    ("content_policy_violation", K::ContentFilter), // OpenAI: litellm `exception_mapping_utils.py`
    ("responsibleaipolicyviolation", K::ContentFilter), // Azure's `innererror.code`: litellm#16231
    ("cyber_policy", K::ContentFilter),             // OpenAI: openai/codex `is_cyber_policy_error`
    ("unsupported_parameter", K::Unsupported),      // OpenAI: recorded
    ("unsupported_value", K::Unsupported),          // OpenAI: recorded
    ("unimplemented", K::Unsupported),              // google.rpc.Code
    // The model's call or JSON could not be read by Groq (huggingface/smolagents#1119): a failed answer, told as a 400.
    ("tool_use_failed", K::Malformed),
    ("json_validate_failed", K::Malformed),
    ("invalid_api_key", K::Authentication), // OpenAI, Together: recorded
    ("authentication_error", K::Authentication), // Anthropic: recorded
    ("invalid_authentication", K::Authentication),
    ("unauthenticated", K::Authentication), // google.rpc.Code
    // google.api.ErrorReason; the first is recorded of Gemini, as a 400.
    ("api_key_invalid", K::Authentication),
    ("api_key_service_blocked", K::Authentication),
    ("api_key_http_referrer_blocked", K::Authentication),
    ("api_key_ip_address_blocked", K::Authentication),
    ("api_key_android_app_blocked", K::Authentication),
    ("api_key_ios_app_blocked", K::Authentication),
    ("credentials_missing", K::Authentication),
    ("access_token_expired", K::Authentication),
    ("permission_error", K::Permission),   // Anthropic: SDK `ErrorType`
    ("permission_denied", K::Permission),  // google.rpc.Code: recorded
    ("model_not_found", K::NotFound),      // OpenAI, Groq: recorded
    ("deploymentnotfound", K::NotFound),   // Azure: recorded
    ("invalid_model", K::NotFound),        // Mistral, with a 400: recorded
    ("not_found_error", K::NotFound),      // Anthropic: recorded
    ("rate_limit_exceeded", K::RateLimit), // OpenAI, Groq, google.api.ErrorReason
    ("rate_limit_error", K::RateLimit),    // Anthropic: SDK `ErrorType`
    ("rate_limited", K::RateLimit),        // Mistral: cline/cline#9085
    ("ratelimitreached", K::RateLimit),    // Azure
    ("too_many_requests", K::RateLimit),
    ("overloaded_error", K::Overloaded), // Anthropic: SDK `ErrorType`
    ("engine_overloaded", K::Overloaded),
    ("server_is_overloaded", K::Overloaded), // OpenAI: openai/codex `is_server_overloaded_error`
    ("capacity_exceeded", K::Overloaded),    // Groq, 498: its "Flex processing"
    ("service_unavailable", K::Overloaded),
    ("unavailable", K::Overloaded),    // google.rpc.Code
    ("aborted", K::Overloaded),        // google.rpc.Code: a conflict that a retry mends
    ("cancelled", K::Server),          // google.rpc.Code: not by us
    ("timeout_error", K::Timeout),     // Anthropic: SDK `ErrorType`
    ("deadline_exceeded", K::Timeout), // google.rpc.Code
];

/// Words that say less than a status does; they count where there is none, in a stream.
const VAGUE: &[(&str, ErrorKind)] = &[
    ("invalid_request_error", K::BadRequest),
    ("badrequesterror", K::BadRequest), // vLLM: vllm#13513
    ("invalid_argument", K::BadRequest),
    ("failed_precondition", K::BadRequest),
    ("out_of_range", K::BadRequest),
    ("already_exists", K::BadRequest),
    ("resource_exhausted", K::RateLimit), // with a 402 it is a spent balance (Gemini's "Billing")
    ("slow_down", K::RateLimit),          // OpenAI: a 503 once, a 429 now
];

// What kinds of error a sentence may be about: a word or a status that says something else is not overruled by what may
// be the client's own text, quoted.
const REFUSED: &[ErrorKind] = &[K::BadRequest];
const REFUSED_OR_BARRED: &[ErrorKind] = &[K::BadRequest, K::Permission];
/// Together's context overflow is a 403 (its "Error codes"), a proxy's a 500 or 502.
const TOO_LONG: &[ErrorKind] = &[K::BadRequest, K::TooLarge, K::Permission, K::Server];
const BLOCKED: &[ErrorKind] = &[K::BadRequest, K::Permission, K::Server];
const LIMITED: &[ErrorKind] = &[K::BadRequest, K::Permission, K::RateLimit];
const BUSY: &[ErrorKind] = &[K::RateLimit, K::Server];
const FAILED: &[ErrorKind] = &[K::Server];
const MISSING: &[ErrorKind] = &[K::NotFound];
const OVER: &[ErrorKind] = &[K::RateLimit, K::TooLarge, K::BadRequest];

/// Sentences, of which the first that fits counts: (pieces of the lower-case message in their order, what the error was
/// taken for so far, what it is). An asterisk stands for anything.
const SENTENCES: &[(&str, &[ErrorKind], ErrorKind)] = &[
    ("incorrect api key", REFUSED, K::Authentication), // xAI, 400
    ("invalid api key", REFUSED, K::Authentication),
    ("api key not valid", REFUSED, K::Authentication), // Gemini, 400
    ("api key expired", REFUSED, K::Authentication),   // Gemini, 400
    ("unregistered callers", REFUSED_OR_BARRED, K::Authentication), // Gemini, 403: recorded
    // ai.google.dev/gemini-api/docs/troubleshooting, FAILED_PRECONDITION.
    ("user location is not supported", REFUSED, K::Permission),
    ("enable billing", REFUSED, K::Permission),
    ("credit balance is too low", LIMITED, K::QuotaSpent), // Anthropic, 400
    ("usage limits", LIMITED, K::QuotaSpent), // Anthropic, 400: "You have reached your specified API usage limits."
    ("spend limit", LIMITED, K::QuotaSpent),
    ("exceeded your current quota", LIMITED, K::QuotaSpent), // OpenAI: recorded
    ("insufficient balance", LIMITED, K::QuotaSpent),        // DeepSeek "Error codes"
    ("insufficient credits", LIMITED, K::QuotaSpent),        // OpenRouter "Errors and debugging"
    ("credits are depleted", LIMITED, K::QuotaSpent),        // Gemini, 429: dyad-sh/dyad#3626
    ("used all available credits", LIMITED, K::QuotaSpent),  // xAI, 403 and 429
    ("key limit exceeded", LIMITED, K::QuotaSpent),          // OpenRouter, 403
    ("budget limit exceeded", LIMITED, K::QuotaSpent),       // OpenRouter, 403
    ("content management policy", BLOCKED, K::ContentFilter), // Azure: openai-python#331
    ("content filtering policy", BLOCKED, K::ContentFilter), // Anthropic: litellm `exception_mapping_utils.py`
    ("content policy", BLOCKED, K::ContentFilter),
    ("violating our usage policy", BLOCKED, K::ContentFilter), // OpenAI `invalid_prompt`: litellm
    ("result of our safety system", BLOCKED, K::ContentFilter), // OpenAI: litellm
    ("violates usage guidelines", BLOCKED, K::ContentFilter),  // xAI, 403: UKGovernmentBEIS/inspect_ai#2267
    ("input was flagged", BLOCKED, K::ContentFilter),          // OpenRouter, 403: "Errors and debugging"
    ("content exists risk", BLOCKED, K::ContentFilter),        // DeepSeek, 400: deepseek-ai/DeepSeek-V2#30
    // No wait makes it fit: "Request too large for model … (TPM): Limit 6000, Requested 36114" (Groq, 413; OpenAI, 429).
    ("request too large for", OVER, K::Unsupported),
    // An output limit is this model's own.
    ("max_tokens*supports at most", REFUSED, K::Unsupported), // OpenAI
    ("maximum allowed number of output tokens", REFUSED, K::Unsupported), // Anthropic
    ("valid range of max_tokens", REFUSED, K::Unsupported),   // DeepSeek: deepseek-ai/DeepSeek-V3#69
    ("maximum value for `max_tokens`", REFUSED, K::Unsupported), // Groq
    ("prompt is too long", TOO_LONG, K::ContextTooLong),      // Anthropic: "215000 tokens > 200000 maximum"
    ("exceed context limit", TOO_LONG, K::ContextTooLong),    // Anthropic: stackblitz/bolt.new#7422
    // OpenAI, Azure, vLLM, DeepSeek, OpenRouter, Mistral ("too large for model with 32768 maximum context length").
    ("maximum context length", TOO_LONG, K::ContextTooLong),
    ("context window", TOO_LONG, K::ContextTooLong), // OpenAI: "Your input exceeds the context window of this model"
    ("context length", TOO_LONG, K::ContextTooLong), // Ollama, LM Studio: "greater than the context length"
    ("available context size", TOO_LONG, K::ContextTooLong), // llama.cpp
    ("input token count*exceed", TOO_LONG, K::ContextTooLong), // Gemini
    ("maximum prompt length", TOO_LONG, K::ContextTooLong), // xAI
    ("reduce the length of the messages", TOO_LONG, K::ContextTooLong), // Groq
    ("`inputs` tokens + `max_new_tokens` must be", TOO_LONG, K::ContextTooLong), // Together: litellm
    ("exceeded model token limit", TOO_LONG, K::ContextTooLong), // Moonshot: badlogic/pi-mono `overflow.ts`
    ("current length is*while limit is", TOO_LONG, K::ContextTooLong), // Cerebras: litellm
    ("input is too long", TOO_LONG, K::ContextTooLong), // Bedrock: pi-mono
    ("too many*tokens", TOO_LONG, K::ContextTooLong),
    // OpenAI's `string_above_max_length`, which is also said of a user's name.
    ("invalid 'messages*string too long", TOO_LONG, K::ContextTooLong),
    ("no endpoints found that", MISSING, K::Unsupported), // OpenRouter, 404 "… support tool use": Routstr/routstr-core#554
    ("not a chat model", MISSING, K::Unsupported),        // OpenAI, 404
    ("only supported in v1/responses", MISSING, K::Unsupported), // OpenAI, 404
    ("model*does not exist", REFUSED, K::NotFound),       // OpenRouter, 400: recorded
    ("is not a valid model id", REFUSED, K::NotFound),    // OpenRouter, 400
    ("model not exist", REFUSED, K::NotFound),            // DeepSeek, 400: ConardLi/easy-dataset#9
    ("does not support", REFUSED, K::Unsupported), // Anthropic on prefill: recorded; Ollama "… does not support tools"
    ("not supported", REFUSED, K::Unsupported),    // OpenAI: recorded
    ("unsupported", REFUSED, K::Unsupported),
    ("not enabled for", REFUSED, K::Unsupported), // Mistral on logprobs: recorded; Gemini on thinking: lobehub#7985
    ("unknown variant", REFUSED, K::Unsupported), // DeepSeek on images: recorded
    ("not a multimodal model", REFUSED, K::Unsupported), // vLLM: studio-dots-ai/dots.ocr#61
    ("image(s) may be provided", REFUSED, K::Unsupported), // vLLM: vllm#13513
    ("only works in thinking mode", REFUSED, K::Unsupported), // Gemini on a budget of nothing
    ("overloaded", BUSY, K::Overloaded),          // Gemini, Moonshot
    ("capacity exceeded", BUSY, K::Overloaded), // Mistral, 429 "Service tier capacity exceeded": continuedev/continue#6185
    ("over capacity", BUSY, K::Overloaded),     // Groq
    // Under a 200, where there is no status.
    ("rate limit", FAILED, K::RateLimit),
    ("too many requests", FAILED, K::RateLimit),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_can_be_met() {
        for (word, _) in WORDS.iter().chain(VAGUE) {
            let rows = WORDS.iter().chain(VAGUE).filter(|(other, _)| other == word).count();
            assert_eq!((rows, word.to_ascii_lowercase().as_str()), (1, *word));
        }
        for (at, (pieces, of, kind)) in SENTENCES.iter().enumerate() {
            assert_eq!(pieces.to_ascii_lowercase(), *pieces);
            assert!(!of.contains(kind), "{pieces}");
            let status = of.iter().map(|of| of.status()).next();
            let message = pieces.replace('*', " … ");
            let earlier = SENTENCES.get(..at).unwrap_or_default();
            let hidden = earlier.iter().any(|row| row.1 == *of && contains(&message, row.0));
            assert!(!hidden, "{pieces} is behind a row that says it");
            assert_eq!(super::kind(&Said { status, words: &[], message: &message }), *kind, "{pieces}");
        }
    }

    #[test]
    fn words_then_status_then_sentences() {
        let kind = |status, words: &[&str], message| super::kind(&Said { status, words, message });
        assert_eq!(kind(Some(400), &["insufficient_quota"], ""), K::QuotaSpent);
        assert_eq!(kind(Some(429), &["", "invalid_request_error"], ""), K::RateLimit);
        assert_eq!(kind(None, &["invalid_request_error"], ""), K::BadRequest);
        assert_eq!(kind(None, &["quota_spent"], ""), K::QuotaSpent);
        assert_eq!(kind(Some(503), &["server_error"], ""), K::Overloaded);
        assert_eq!(kind(Some(200), &[], "it broke"), K::Server);
        assert_eq!(kind(None, &[], "Rate limit reached"), K::RateLimit);
        assert_eq!(kind(None, &[], "x does not support tools"), K::Unsupported);
        // The client's own text, quoted back.
        assert_eq!(kind(Some(401), &[], "'the maximum context length'"), K::Authentication);
        assert_eq!(
            kind(Some(404), &[], "x is not found, or is not supported for generateContent"),
            K::NotFound
        );
        assert_eq!(kind(Some(503), &[], "credit balance is too low"), K::Overloaded);
        assert!(contains("abc", "a*c") && !contains("abc", "c*a") && !contains("ab", "b*b"));
    }
}
