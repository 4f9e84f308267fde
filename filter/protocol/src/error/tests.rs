//! Error bodies as providers were seen to write them, each with its kind.

use std::time::Duration;

use super::*;

fn read(status: u16, body: &str) -> ApiError {
    let error = body::read(Some(status), body.as_bytes());
    assert!(!error.message.is_empty(), "{body}");
    error
}

fn check(cases: &[(u16, &str, ErrorKind)]) {
    for (status, body, kind) in cases {
        let error = read(*status, body);
        assert_eq!((error.kind, error.status), (*kind, *status), "{body}");
    }
}

#[test]
fn openais_errors() {
    use ErrorKind::*;
    let error = |message: &str, kind: &str, code: &str| {
        format!(r#"{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":{code}}}}}"#)
    };
    let invalid = "invalid_request_error";
    for (status, message, kind, code, expected) in [
        (400, "m", invalid, "null", BadRequest),
        (400, "Unknown parameter: 'quality'.", invalid, r#""unknown_parameter""#, BadRequest),
        (400, "Unsupported parameter: 'stop' …", invalid, r#""unsupported_parameter""#, Unsupported),
        (400, "Unsupported value: 'minimal' …", invalid, r#""unsupported_value""#, Unsupported),
        (
            400,
            "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
            invalid,
            "null",
            Unsupported,
        ),
        (
            404,
            "This is not a chat model and thus not supported in the v1/chat/completions endpoint.",
            invalid,
            "null",
            Unsupported,
        ),
        (400, "too long", invalid, r#""context_length_exceeded""#, ContextTooLong),
        (400, "This model's maximum context length is 8192 tokens.", invalid, "null", ContextTooLong),
        (
            400,
            "Invalid 'messages[0].content': string too long. Expected …",
            invalid,
            r#""string_above_max_length""#,
            ContextTooLong,
        ),
        (
            400,
            "Invalid 'user': string too long. Expected …",
            invalid,
            r#""string_above_max_length""#,
            BadRequest,
        ),
        (
            400,
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
            invalid,
            r#""invalid_prompt""#,
            ContentFilter,
        ),
        (400, "m", "image_generation_user_error", r#""content_policy_violation""#, ContentFilter),
        (401, "Incorrect API key provided: x.", invalid, r#""invalid_api_key""#, Authentication),
        (401, "You must be a member of an organization", invalid, "null", Authentication),
        (
            403,
            "Country, region, or territory not supported",
            "request_forbidden",
            r#""unsupported_country_region_territory""#,
            Permission,
        ),
        (404, "The model `x` does not exist …", invalid, r#""model_not_found""#, NotFound),
        (409, "m", invalid, "null", Server),
        (429, "Rate limit reached for x …", "requests", r#""rate_limit_exceeded""#, RateLimit),
        (429, "m", "rate_limit_error", r#""slow_down""#, RateLimit),
        (
            429,
            "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 45000.",
            "tokens",
            r#""rate_limit_exceeded""#,
            Unsupported,
        ),
        (
            429,
            "You exceeded your current quota …",
            "insufficient_quota",
            r#""insufficient_quota""#,
            QuotaSpent,
        ),
        (429, "m", "insufficient_quota", r#""project_spend_limit_exceeded""#, QuotaSpent),
        (500, "The server had an error", "server_error", "null", Server),
        (503, "The engine is currently overloaded", "server_error", "null", Overloaded),
        (503, "m", "service_unavailable_error", r#""server_is_overloaded""#, Overloaded),
    ] {
        check(&[(status, &error(message, kind, code), expected)]);
    }
}

#[test]
fn errors_of_those_who_speak_openais_protocol() {
    use ErrorKind::*;
    check(&[
        // Azure
        (
            400,
            r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            ContentFilter,
        ),
        (
            400,
            r#"{"error":{"message":"m","code":"400","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            ContentFilter,
        ),
        (
            404,
            r#"{"error":{"type":"invalid_request_error","code":"DeploymentNotFound","message":"m"}}"#,
            NotFound,
        ),
        // DeepSeek
        (
            400,
            r#"{"error":{"code":"invalid_request_error","message":"Failed to deserialize the JSON body into the target type: messages[0]: unknown variant `image_url`, expected `text`","type":"invalid_request_error"}}"#,
            Unsupported,
        ),
        (
            400,
            r#"{"error":{"code":"invalid_request_error","message":"Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"}}"#,
            Unsupported,
        ),
        (
            400,
            r#"{"error":{"message":"Content Exists Risk","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#,
            ContentFilter,
        ),
        (
            402,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#,
            QuotaSpent,
        ),
        // Groq
        (
            400,
            r#"{"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"x"}}"#,
            Malformed,
        ),
        (
            400,
            r#"{"error":{"message":"Please reduce the length of the messages or completion.","type":"invalid_request_error"}}"#,
            ContextTooLong,
        ),
        (
            413,
            r#"{"error":{"message":"Request too large for model `llama-3.1-8b-instant` … on tokens per minute (TPM): Limit 6000, Requested 36114","type":"tokens","code":"rate_limit_exceeded"}}"#,
            Unsupported,
        ),
        (
            498,
            r#"{"error":{"message":"m","type":"invalid_request_error","code":"capacity_exceeded"}}"#,
            Overloaded,
        ),
        // Mistral
        (
            400,
            r#"{"code":"3051","message":"Logprobs are not enabled for this model","object":"error","param":null,"raw_status_code":400,"type":"invalid_request_invalid_args"}"#,
            Unsupported,
        ),
        (
            400,
            r#"{"code":"1500","message":"Invalid model: x","object":"error","type":"invalid_model"}"#,
            NotFound,
        ),
        (
            400,
            r#"{"object":"error","message":"Prompt contains 65673 tokens, too large for model with 32768 maximum context length","type":"invalid_request_error","code":"3051"}"#,
            ContextTooLong,
        ),
        (
            429,
            r#"{"object":"error","message":"Service tier capacity exceeded for this model.","type":"invalid_request_error","code":null}"#,
            Overloaded,
        ),
        (
            429,
            r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#,
            RateLimit,
        ),
        (
            422,
            r#"{"object":"error","message":{"detail":[{"loc":["body"],"msg":"m"}]},"type":"x"}"#,
            BadRequest,
        ),
        (401, r#"{"detail":"Invalid API Key"}"#, Authentication),
        // OpenRouter
        (400, r#"{"error":{"code":400,"message":"Model no-such/model does not exist"}}"#, NotFound),
        (402, r#"{"error":{"code":402,"message":"Insufficient credits"}}"#, QuotaSpent),
        (
            402,
            r#"{"error":{"code":402,"message":"m","metadata":{"limit_source":"openrouter_in_flight_budget"}}}"#,
            RateLimit,
        ),
        (
            403,
            r#"{"error":{"code":403,"message":"x requires moderation. Your input was flagged for \"violence\"."}}"#,
            ContentFilter,
        ),
        (403, r#"{"error":{"code":403,"message":"Key limit exceeded (daily limit)."}}"#, QuotaSpent),
        (404, r#"{"error":{"message":"No endpoints found that support tool use.","code":404}}"#, Unsupported),
        (404, r#"{"error":{"message":"No endpoints found matching your data policy","code":404}}"#, NotFound),
        (
            429,
            r#"{"error":{"message":"Rate limit exceeded: limit_rpm/x. High demand for x on OpenRouter - limited to 1 requests per minute. Please retry shortly.","code":429}}"#,
            RateLimit,
        ),
        (
            400,
            r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"m\",\"code\":\"context_length_exceeded\"}}"}}}"#,
            ContextTooLong,
        ),
        (
            502,
            r#"{"error":{"message":"ConnectionError: {\"message\": \"This model's maximum context length is 16000 tokens.\"}","code":502}}"#,
            ContextTooLong,
        ),
        // Together
        (
            403,
            r#"{"error":{"message":"Input token count + max_tokens must be less than the context length of the model","type":"invalid_request_error"}}"#,
            ContextTooLong,
        ),
        (503, r#"{"error":{"message":"Engine overloaded","type":"server_error"}}"#, Overloaded),
        // xAI
        (
            400,
            r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: x"}"#,
            Authentication,
        ),
        (
            400,
            r#"{"code":"x","error":"This model's maximum prompt length is 131072 but the request contains 537812 tokens"}"#,
            ContextTooLong,
        ),
        (
            403,
            r#"{"code":"The caller does not have permission to execute the specified operation","error":"Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}"#,
            ContentFilter,
        ),
        (
            403,
            r#"{"code":"x","error":"Your team has either used all available credits or reached its monthly spending limit."}"#,
            QuotaSpent,
        ),
        // vLLM, llama.cpp, Ollama
        (
            400,
            r#"{"object":"error","message":"x is not a multimodal model","type":"BadRequestError","param":null,"code":400}"#,
            Unsupported,
        ),
        (
            400,
            r#"{"error":{"code":400,"message":"request (13392 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_ctx":8192}}"#,
            ContextTooLong,
        ),
        (
            400,
            r#"{"error":{"message":"registry.ollama.ai/library/gemma3:4b does not support tools","type":"api_error"}}"#,
            Unsupported,
        ),
        (404, r#"{"error":"model 'x' not found"}"#, NotFound),
        // Nobody's
        (413, "<html>413 Request Entity Too Large</html>", TooLarge),
        (503, "<html>busy</html>", Overloaded),
        (524, "error code: 524", Timeout),
        (500, "", Server),
        (502, "\u{0}\u{1}", Server),
        (400, "[]", BadRequest),
        (400, "7", BadRequest),
        (404, "{\"error\":null}", NotFound),
    ]);
}

#[test]
fn anthropics_errors() {
    use ErrorKind::*;
    for (status, kind, message, expected) in [
        (400, "invalid_request_error", "prompt is too long: 215000 tokens > 200000 maximum", ContextTooLong),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 86888 + 119866 > 204648",
            ContextTooLong,
        ),
        (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API.",
            QuotaSpent,
        ),
        (400, "invalid_request_error", "You have reached your specified API usage limits.", QuotaSpent),
        (400, "invalid_request_error", "Output blocked by content filtering policy", ContentFilter),
        (400, "invalid_request_error", "This model does not support assistant message prefill.", Unsupported),
        (
            400,
            "invalid_request_error",
            "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens for x",
            Unsupported,
        ),
        (400, "invalid_request_error", "max_tokens: field required", BadRequest),
        (401, "authentication_error", "invalid x-api-key", Authentication),
        (402, "billing_error", "pay", QuotaSpent),
        (403, "permission_error", "no", Permission),
        (404, "not_found_error", "model: x", NotFound),
        (409, "conflict_error", "again", Server),
        (413, "request_too_large", "big", TooLarge),
        (429, "rate_limit_error", "slow down", RateLimit),
        (500, "api_error", "oops", Server),
        (504, "timeout_error", "late", Timeout),
        (529, "overloaded_error", "Overloaded", Overloaded),
    ] {
        let body = format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"r"}}"#
        );
        check(&[(status, &body, expected)]);
    }
    let spent = r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
    let error = read(429, spent);
    assert_eq!((error.kind, error.code.as_deref()), (QuotaSpent, Some("enforced_spend_limit_reached")));
}

#[test]
fn googles_errors() {
    use ErrorKind::*;
    let error = |status: u16, name: &str, message: &str, details: &str| {
        format!(
            r#"{{"error":{{"code":{status},"message":"{message}","status":"{name}","details":[{details}]}}}}"#
        )
    };
    let key = r#"{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}"#;
    let quota = |id: &str| format!(r#"{{"violations":[{{"quotaId":"{id}","quotaValue":"50"}}]}}"#);
    let retry = r#"{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.074824224s"}"#;
    let both = |id: &str| format!("{},{retry}", quota(id));
    let quota_text = "You exceeded your current quota, please check your plan and billing details.";
    for (status, name, message, details, expected) in [
        (400, "INVALID_ARGUMENT", "API key not valid.", key.to_owned(), Authentication),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1048580) exceeds the maximum number of tokens allowed (1048576).",
            String::new(),
            ContextTooLong,
        ),
        (400, "INVALID_ARGUMENT", "Thinking is not enabled for models/x", String::new(), Unsupported),
        (400, "INVALID_ARGUMENT", "contents is not specified", String::new(), BadRequest),
        (
            400,
            "FAILED_PRECONDITION",
            "User location is not supported for the API use.",
            String::new(),
            Permission,
        ),
        (402, "RESOURCE_EXHAUSTED", "m", String::new(), QuotaSpent),
        (
            403,
            "PERMISSION_DENIED",
            "Method doesn't allow unregistered callers",
            String::new(),
            Authentication,
        ),
        (403, "PERMISSION_DENIED", "m", String::new(), Permission),
        (
            404,
            "NOT_FOUND",
            "models/x is not found for API version v1beta, or is not supported for generateContent.",
            String::new(),
            NotFound,
        ),
        (429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later.", String::new(), RateLimit),
        (
            429,
            "RESOURCE_EXHAUSTED",
            quota_text,
            both("GenerateRequestsPerMinutePerProjectPerModel"),
            RateLimit,
        ),
        (429, "RESOURCE_EXHAUSTED", quota_text, retry.to_owned(), RateLimit),
        (
            429,
            "RESOURCE_EXHAUSTED",
            quota_text,
            both("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
            QuotaSpent,
        ),
        (429, "RESOURCE_EXHAUSTED", quota_text, String::new(), QuotaSpent),
        (499, "CANCELLED", "m", String::new(), Server),
        (500, "INTERNAL", "m", String::new(), Server),
        (503, "UNAVAILABLE", "The model is overloaded.", String::new(), Overloaded),
        (504, "DEADLINE_EXCEEDED", "m", String::new(), Timeout),
    ] {
        let body = error(status, name, message, &details);
        check(&[(status, &body, expected), (status, &format!("[{body}]"), expected)]);
        // Inside a 200 the body alone says as much.
        let found = body::read(None, body.as_bytes());
        assert_eq!((found.kind, found.status), (expected, status), "{body}");
    }
    let minute = read(429, &error(429, "RESOURCE_EXHAUSTED", "m", &both("PerMinute")));
    assert_eq!(minute.retry_after, Some(Duration::from_nanos(34_074_824_224)));
    assert_eq!(read(429, &error(429, "RESOURCE_EXHAUSTED", "m", &both("PerDay"))).retry_after, None);
}

#[test]
fn waits_in_bodies() {
    let wait = |message: &str| read(429, &format!(r#"{{"error":{{"message":"{message}"}}}}"#)).retry_after;
    assert_eq!(wait("Rate limit reached. Please try again in 6m0s. Visit …"), Some(Duration::from_secs(360)));
    assert_eq!(wait("Please retry shortly."), None);
}

#[test]
fn errors_inside_an_answer() {
    use ErrorKind::*;
    let inside = |body: &str| body::read(None, body.as_bytes());
    let openrouter = inside(
        r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"slow down"}}}"#,
    );
    assert_eq!((openrouter.kind, openrouter.status), (RateLimit, 429));
    assert_eq!((&*openrouter.message, openrouter.code), ("Provider returned error: slow down", None));
    for (body, kind, status) in [
        (r#"{"error":{"message":"x","type":"t","status_code":400}}"#, BadRequest, 400),
        (r#"{"error":"it broke"}"#, Server, 500),
        (r#"{"error":"Rate limit exceeded"}"#, RateLimit, 429),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Overloaded, 503),
        (r#"{"error":{"message":"{\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\"}}"}}"#, Overloaded, 503),
        ("overloaded", Overloaded, 503),
        ("\u{feff} \n{\"error\": {\n  \"code\": \"insufficient_quota\"\n}}", QuotaSpent, 429),
    ] {
        assert_eq!((inside(body).kind, inside(body).status), (kind, status), "{body}");
    }
    for (body, found) in [
        (r#"{"object":"error","message":"m","code":400}"#, Some(BadRequest)),
        (r#"{"detail":"Rate limit reached"}"#, Some(RateLimit)),
        (r#"{"id":"x","object":"chat.completion.chunk","usage":{}}"#, None),
        (r#"{"message":{"role":"assistant","content":"error"}}"#, None),
        ("overloaded", None),
        ("{\"message\":\"m", None),
    ] {
        assert_eq!(body::find(body).map(|error| error.kind), found, "{body}");
    }
}

#[test]
fn what_a_program_tests_and_what_a_person_reads() {
    let error =
        read(400, r#"{"error":{"message":"m","type":"invalid_request_error","param":"stop","code":"x"}}"#);
    assert_eq!((error.code.as_deref(), error.param.as_deref()), (Some("x"), Some("stop")));
    let error = read(400, r#"{"error":"outer","message":"said","param":7}"#);
    assert_eq!((&*error.message, error.param.as_deref()), ("said", Some("7")));
    let error = read(500, &format!(r#"{{"error":{{"message":"{}"}},"message":"outer"}}"#, "é".repeat(3000)));
    assert!(error.message.starts_with("éé") && error.message.ends_with('…') && error.message.len() < 2010);
    assert_eq!(
        read(502, "<!doctype html><title>x</title>").message,
        "the provider answered 502 without a message"
    );
    let deep = r#"{"error":"#.repeat(200) + "1" + &"}".repeat(200);
    assert_eq!(read(400, &deep).kind, ErrorKind::BadRequest);
}
