//! Errors: reads every shape that providers of this protocol answer with, and writes OpenAI's.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::string_or_json;
use super::json::Object;
use crate::error::{ApiError, ErrorKind};

/// Longest message that is passed on: an HTML page or a prompt that is quoted back is not a message.
const MAX_MESSAGE: usize = 2000;

/// How many objects deep an error is looked for: a proxy wraps a provider's body once.
const MAX_INNER: usize = 3;

/// Every member that any of the shapes has; all of them may be anything.
#[derive(Deserialize, Default)]
struct Shape<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(rename = "type", borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    param: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    raw_status_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

/// OpenRouter puts the upstream's own words here.
#[derive(Deserialize, Default)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    raw: Option<&'a RawValue>,
}

/// What a body says, before it is classified.
#[derive(Default)]
struct Told {
    message: String,
    code: Option<String>,
    kind: Option<String>,
    param: Option<String>,
    status: Option<u16>,
}

/// Reads an error body that came with `status` (200: inside an answer). Any body gives some error.
pub fn decode(status: u16, body: &[u8]) -> ApiError {
    let text = String::from_utf8_lossy(body);
    let mut told = Told::default();
    let list = serde_json::from_str::<Vec<&RawValue>>(&text).ok();
    let object = match list.as_deref() {
        Some([first, ..]) => first.get(),
        _ => text.trim(),
    };
    match serde_json::from_str::<Shape<'_>>(object) {
        Ok(shape) => told.take(&shape, MAX_INNER),
        Err(_) => match serde_json::from_str::<String>(object) {
            Ok(message) => told.message = message,
            Err(_) => told.message = plain(&text),
        },
    }
    let status = if status >= 400 { status } else { told.status.unwrap_or(status) };
    let kind = classify(status, &told);
    if told.message.is_empty() {
        told.message = format!("the provider answered with status {status} and no message");
    }
    shorten(&mut told.message);
    ApiError {
        kind,
        status: if status >= 400 { status } else { kind.status() },
        code: told.code.filter(|code| !code.is_empty()).or(told.kind),
        message: told.message,
        param: told.param,
        retry_after: None,
    }
}

impl Told {
    /// Inner objects say more than outer ones; `inner` levels of them are read.
    fn take(&mut self, shape: &Shape<'_>, inner: usize) {
        let word = |raw: Option<&RawValue>| {
            raw.map(string_or_json).filter(|text| !text.is_empty()).map(|text| text.into_string())
        };
        let number = |raw: Option<&RawValue>| {
            string_or_json(raw?).parse::<u16>().ok().filter(|status| (400..600).contains(status))
        };
        self.code = word(shape.code).or(self.code.take());
        self.kind = word(shape.kind).or(self.kind.take());
        self.param = word(shape.param).or(self.param.take());
        self.status = number(shape.status_code)
            .or_else(|| number(shape.raw_status_code))
            .or_else(|| number(shape.code))
            .or_else(|| number(shape.status))
            .or(self.status);
        for said in [shape.error, shape.message, shape.detail].into_iter().flatten() {
            match serde_json::from_str::<Shape<'_>>(said.get()) {
                Ok(_) if inner == 0 => {}
                Ok(shape) => self.take(&shape, inner - 1),
                Err(_) => self.message = string_or_json(said).into_string(),
            }
        }
        let metadata = shape.metadata.and_then(|raw| serde_json::from_str::<Metadata<'_>>(raw.get()).ok());
        if let Some(raw) = metadata.and_then(|metadata| metadata.raw) {
            self.message = format!("{}: {}", self.message, string_or_json(raw));
        }
    }
}

/// What is left of a body that is no JSON: its text, unless it is a page.
fn plain(body: &str) -> String {
    let text = body.trim();
    if text.starts_with('<') { String::new() } else { text.to_owned() }
}

fn shorten(message: &mut String) {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
}

/// Codes and types that say it all, whatever the status.
const WORDS: [(&str, ErrorKind); 32] = [
    ("insufficient_quota", ErrorKind::QuotaSpent),
    ("billing_hard_limit_reached", ErrorKind::QuotaSpent),
    ("billing_not_active", ErrorKind::QuotaSpent),
    ("insufficient_balance", ErrorKind::QuotaSpent),
    ("context_length_exceeded", ErrorKind::ContextTooLong),
    ("string_above_max_length", ErrorKind::ContextTooLong),
    ("request_too_large", ErrorKind::TooLarge),
    ("content_filter", ErrorKind::ContentFilter),
    ("content_policy_violation", ErrorKind::ContentFilter),
    ("ResponsibleAIPolicyViolation", ErrorKind::ContentFilter),
    ("invalid_api_key", ErrorKind::Authentication),
    ("authentication_error", ErrorKind::Authentication),
    ("invalid_authentication", ErrorKind::Authentication),
    ("permission_error", ErrorKind::Permission),
    ("permission_denied", ErrorKind::Permission),
    ("model_not_found", ErrorKind::NotFound),
    ("DeploymentNotFound", ErrorKind::NotFound),
    ("not_found_error", ErrorKind::NotFound),
    ("rate_limit_exceeded", ErrorKind::RateLimit),
    ("rate_limit_error", ErrorKind::RateLimit),
    ("RateLimitReached", ErrorKind::RateLimit),
    ("too_many_requests", ErrorKind::RateLimit),
    ("overloaded_error", ErrorKind::Overloaded),
    ("overloaded", ErrorKind::Overloaded),
    ("engine_overloaded", ErrorKind::Overloaded),
    ("service_unavailable", ErrorKind::Overloaded),
    ("server_error", ErrorKind::Server),
    ("internal_server_error", ErrorKind::Server),
    ("api_error", ErrorKind::Server),
    ("timeout", ErrorKind::Timeout),
    ("timeout_error", ErrorKind::Timeout),
    ("unsupported", ErrorKind::Unsupported), // a gateway such as this one
];

/// Sentences of providers whose codes say too little: (lower case, kind).
const SENTENCES: [(&str, ErrorKind); 17] = [
    ("maximum context length", ErrorKind::ContextTooLong),
    ("context length", ErrorKind::ContextTooLong),
    ("context window", ErrorKind::ContextTooLong),
    ("maximum prompt length", ErrorKind::ContextTooLong), // xAI
    ("prompt is too long", ErrorKind::ContextTooLong),
    ("input is too long", ErrorKind::ContextTooLong),
    ("too many tokens in the prompt", ErrorKind::ContextTooLong),
    ("incorrect api key", ErrorKind::Authentication), // xAI answers 400
    ("invalid api key", ErrorKind::Authentication),
    ("api key not valid", ErrorKind::Authentication),
    ("exceeded your current quota", ErrorKind::QuotaSpent),
    ("insufficient balance", ErrorKind::QuotaSpent), // DeepSeek, 402
    ("insufficient credits", ErrorKind::QuotaSpent), // OpenRouter, 402
    ("used all available credits", ErrorKind::QuotaSpent), // xAI
    ("content management policy", ErrorKind::ContentFilter), // Azure
    ("content policy", ErrorKind::ContentFilter),
    ("overloaded", ErrorKind::Overloaded),
];

fn classify(status: u16, told: &Told) -> ErrorKind {
    let by_status = ErrorKind::of_status(status);
    let own = told.code.as_deref().and_then(ErrorKind::from_name);
    if let Some(kind @ (ErrorKind::Connection | ErrorKind::Truncated | ErrorKind::Malformed)) = own {
        return kind;
    }
    let words = [told.code.as_deref(), told.kind.as_deref()];
    let word = words.into_iter().flatten().find_map(|word| {
        WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, kind)| *kind)
    });
    // "The server's fault" says less than any error status.
    match word {
        Some(ErrorKind::Server) if status >= 400 => {}
        Some(kind) => return kind,
        None => {}
    }
    let message = told.message.to_ascii_lowercase();
    let sentence = SENTENCES.iter().find(|(known, _)| message.contains(known)).map(|(_, kind)| *kind);
    match (sentence, status) {
        (Some(ErrorKind::Overloaded), 400..=428) => by_status,
        (Some(kind), 200 | 400..=499) => kind,
        (Some(kind @ ErrorKind::Overloaded), _) => kind,
        (_, 200..=399) if told.kind.as_deref() == Some("invalid_request_error") => ErrorKind::BadRequest,
        _ => by_status,
    }
}

/// OpenAI's `type` and `code` for each kind (openai SDK: the status decides the class of the exception, `code` and
/// `type` are shown). `true`: a code that programs test for, written instead of the provider's own.
fn words(kind: ErrorKind) -> (&'static str, &'static str, bool) {
    match kind {
        ErrorKind::BadRequest => ("invalid_request_error", "bad_request", false),
        ErrorKind::Unsupported => ("invalid_request_error", "unsupported", false),
        ErrorKind::Authentication => ("invalid_request_error", "invalid_api_key", false),
        ErrorKind::Permission => ("invalid_request_error", "permission_denied", false),
        ErrorKind::NotFound => ("invalid_request_error", "not_found", false),
        ErrorKind::TooLarge => ("invalid_request_error", "request_too_large", false),
        ErrorKind::RateLimit => ("requests", "rate_limit_exceeded", false),
        ErrorKind::QuotaSpent => ("insufficient_quota", "insufficient_quota", true),
        ErrorKind::ContextTooLong => ("invalid_request_error", "context_length_exceeded", true),
        ErrorKind::ContentFilter => ("invalid_request_error", "content_filter", true),
        ErrorKind::Overloaded
        | ErrorKind::Server
        | ErrorKind::Timeout
        | ErrorKind::Connection
        | ErrorKind::Truncated
        | ErrorKind::Malformed => ("server_error", kind.name(), false),
    }
}

/// `{"error": {…}}`, as a body and as the last event of a stream that failed.
pub fn encode(error: &ApiError, out: &mut Vec<u8>) {
    let ApiError { kind, status: _, code, message, param, retry_after: _ } = error;
    let (class, usual, always) = words(*kind);
    let mut object = Object::open(out);
    let mut inner = object.object("error");
    inner.set("message", message);
    inner.set("type", class);
    inner.set("param", param);
    inner.set("code", code.as_deref().filter(|_| !always).unwrap_or(usual));
    inner.close();
    object.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> (ErrorKind, u16) {
        let error = decode(status, body.as_bytes());
        (error.kind, error.status)
    }

    #[test]
    fn every_shape_is_read() {
        let openai = br#"{"error":{"message":"m","type":"invalid_request_error","param":"stop","code":"unsupported_parameter"}}"#;
        let error = decode(400, openai);
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::BadRequest, "m"));
        assert_eq!(
            (error.code.as_deref(), error.param.as_deref()),
            (Some("unsupported_parameter"), Some("stop"))
        );
        let cases = [
            (
                429,
                r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#,
                ErrorKind::QuotaSpent,
            ),
            (
                400,
                r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#,
                ErrorKind::ContextTooLong,
            ),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens","code":null}}"#,
                ErrorKind::ContextTooLong,
            ),
            (
                400,
                r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: x"}"#,
                ErrorKind::Authentication,
            ),
            (401, r#"{"detail":"Invalid API Key"}"#, ErrorKind::Authentication),
            (
                400,
                r#"{"object":"error","message":"Logprobs","type":"x","param":null,"code":"3051","raw_status_code":400}"#,
                ErrorKind::BadRequest,
            ),
            (
                422,
                r#"{"object":"error","message":{"detail":[{"loc":["body"],"msg":"m"}]},"type":"x"}"#,
                ErrorKind::BadRequest,
            ),
            (402, r#"{"error":{"code":402,"message":"Insufficient credits"}}"#, ErrorKind::QuotaSpent),
            (400, r#"{"error":{"code":"content_filter","message":"Azure"}}"#, ErrorKind::ContentFilter),
            (404, r#"{"error":"model 'x' not found"}"#, ErrorKind::NotFound),
            (503, "<html>busy</html>", ErrorKind::Overloaded),
            (500, "", ErrorKind::Server),
            (502, "\u{0}\u{1}", ErrorKind::Server),
        ];
        for (status, body, expected) in cases {
            assert_eq!(kind(status, body), (expected, status), "{body}");
            assert!(!decode(status, body.as_bytes()).message.is_empty(), "{body}");
        }
    }

    #[test]
    fn errors_inside_an_answer() {
        let openrouter =
            r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"slow down"}}}"#;
        assert_eq!(kind(200, openrouter), (ErrorKind::RateLimit, 429));
        assert_eq!(decode(200, openrouter.as_bytes()).message, "Provider returned error: slow down");
        assert_eq!(
            kind(200, r#"{"error":{"message":"x","type":"t","status_code":400}}"#),
            (ErrorKind::BadRequest, 400)
        );
        assert_eq!(kind(200, r#"{"error":"it broke"}"#), (ErrorKind::Server, 500));
        assert_eq!(
            kind(200, r#"{"error":{"type":"overloaded_error","message":"Overloaded"}}"#),
            (ErrorKind::Overloaded, 503)
        );
    }

    #[test]
    fn openais_shape_is_written() {
        let mut error = ApiError::new(ErrorKind::ContextTooLong, "long \"prompt\"");
        error.code = Some("invalid_request_error".into());
        let mut out = Vec::new();
        encode(&error, &mut out);
        let expected = r#"{"error":{"message":"long \"prompt\"","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        for kind in ErrorKind::ALL.into_iter().filter(|kind| kind.status() != 502) {
            let mut out = Vec::new();
            encode(&ApiError::new(kind, "m"), &mut out);
            assert_eq!(decode(kind.status(), &out).kind.status(), kind.status(), "{kind:?}");
        }
    }
}
