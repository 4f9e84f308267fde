//! Anthropic's error bodies ↔ [`ApiError`].

use serde::Serialize;

use super::wire::{Answer, ErrorBody, ErrorDetails};
use crate::error::{ApiError, ErrorKind};
use crate::text::{Raw, Text};
use crate::wire::StringOr;

/// `error.type` (SDK `types/shared/error_type.py`; `request_too_large` from the API's error reference). The first
/// row of a kind is what a client reads.
const TYPES: [(&str, ErrorKind); 16] = [
    ("invalid_request_error", ErrorKind::BadRequest),
    ("authentication_error", ErrorKind::Authentication),
    ("billing_error", ErrorKind::QuotaSpent),
    ("permission_error", ErrorKind::Permission),
    ("not_found_error", ErrorKind::NotFound),
    ("request_too_large", ErrorKind::TooLarge),
    ("rate_limit_error", ErrorKind::RateLimit),
    ("timeout_error", ErrorKind::Timeout),
    ("api_error", ErrorKind::Server),
    ("overloaded_error", ErrorKind::Overloaded),
    ("invalid_request_error", ErrorKind::Unsupported),
    ("invalid_request_error", ErrorKind::ContextTooLong),
    ("invalid_request_error", ErrorKind::ContentFilter),
    ("api_error", ErrorKind::Connection),
    ("api_error", ErrorKind::Truncated),
    ("api_error", ErrorKind::Malformed),
];

/// What Anthropic says in words only: part of the lower-case message → kind.
const MESSAGES: [(&str, ErrorKind); 8] = [
    ("prompt is too long", ErrorKind::ContextTooLong),
    ("exceed context limit", ErrorKind::ContextTooLong),
    ("exceeds the maximum context", ErrorKind::ContextTooLong),
    ("context window", ErrorKind::ContextTooLong),
    ("credit balance is too low", ErrorKind::QuotaSpent),
    ("usage limits", ErrorKind::QuotaSpent),
    ("spend limit", ErrorKind::QuotaSpent),
    ("content filtering policy", ErrorKind::ContentFilter),
];

/// Longest piece of an unreadable error body that is shown: enough for a sentence, not for a page.
const EXCERPT: usize = 300;

/// The body of an error status.
pub fn decode(status: u16, body: &[u8]) -> ApiError {
    let text = String::from_utf8_lossy(body);
    match serde_json::from_str::<Answer<'_>>(&text) {
        Ok(Answer { error: Some(error), .. }) => of_body(Some(status), Some(error)),
        Ok(answer) => {
            let said = ["message", "detail"].into_iter().find_map(|name| answer.extras.get(name));
            let said = said.and_then(|raw| raw.read::<String>().ok()).unwrap_or_else(|| excerpt(&text));
            bare(status, said)
        }
        Err(_) => bare(status, excerpt(&text)),
    }
}

fn bare(status: u16, message: String) -> ApiError {
    let message = if message.is_empty() {
        format!("the provider answered {status} without a message")
    } else {
        message
    };
    ApiError { status, ..ApiError::new(ErrorKind::of_status(status), message) }
}

fn excerpt(text: &str) -> String {
    text.trim().chars().take(EXCERPT).collect()
}

/// The `error` member; `status` is `None` where it came under a 200.
pub fn of_body(status: Option<u16>, error: Option<StringOr<'_, ErrorBody<'_>>>) -> ApiError {
    let error = match error {
        Some(StringOr::Other(error)) => error,
        Some(StringOr::Text(text)) => ErrorBody { message: Some(text), ..ErrorBody::default() },
        None => ErrorBody::default(),
    };
    let ErrorBody { kind: name, message, code, param, details, extras: _ } = error;
    let kind = kind(status, name.as_deref(), message.as_deref().unwrap_or_default());
    let message = message.map_or_else(|| "the provider gave no message".to_owned(), Text::into_string);
    let detail =
        details.and_then(|details| Some(details.read::<ErrorDetails<'_>>().ok()?.error_code?.into_string()));
    let code = detail.or_else(|| code.as_ref().and_then(string));
    let kind = code.as_deref().and_then(ErrorKind::from_name).unwrap_or(kind);
    let code = code.or_else(|| name.map(Text::into_string));
    ApiError {
        kind,
        status: status.unwrap_or(kind.status()),
        code,
        message,
        param: param.as_ref().and_then(string),
        retry_after: None,
    }
}

fn string(raw: &Raw<'_>) -> Option<String> {
    raw.read::<Option<String>>().ok().flatten().or_else(|| (!raw.is_null()).then(|| raw.get().to_owned()))
}

fn kind(status: Option<u16>, name: Option<&str>, message: &str) -> ErrorKind {
    let of_name = TYPES.iter().find(|(known, _)| name == Some(known)).map(|(_, kind)| *kind);
    let by_status = status.map(ErrorKind::of_status);
    let kind = match (of_name, by_status) {
        // `api_error` is said of anything inside; a status may know more.
        (Some(ErrorKind::Server) | None, Some(by_status)) => by_status,
        (Some(kind), _) => kind,
        (None, None) => ErrorKind::Server,
    };
    if !matches!(kind, ErrorKind::BadRequest | ErrorKind::RateLimit | ErrorKind::Permission) {
        return kind;
    }
    let message = message.to_ascii_lowercase();
    MESSAGES.iter().find(|(piece, _)| message.contains(piece)).map_or(kind, |(_, kind)| *kind)
}

/// For a client. `details.error_code` is where the official SDK reads a code (`APIStatusError.error_code`).
#[derive(Serialize)]
struct Shown<'s> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: ShownError<'s>,
    request_id: Option<&'s str>,
}
#[derive(Serialize)]
struct ShownError<'s> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'s str,
    code: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'s str>,
    details: ShownDetails<'s>,
}
#[derive(Serialize)]
struct ShownDetails<'s> {
    error_code: &'s str,
}

pub fn encode(error: &ApiError) -> Vec<u8> {
    let ApiError { kind, status: _, code, message, param, retry_after: _ } = error;
    let code = code.as_deref().unwrap_or(kind.name());
    let name = TYPES.iter().find(|(_, known)| known == kind).map_or("api_error", |(name, _)| *name);
    let details = ShownDetails { error_code: code };
    let error = ShownError { kind: name, message, code, param: param.as_deref(), details };
    serde_json::to_vec(&Shown { kind: "error", error, request_id: None }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_type_status_and_words() {
        let body = |kind: &str, message: &str| {
            format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#)
        };
        let cases = [
            (
                400,
                body("invalid_request_error", "prompt is too long: 215,000 tokens > 200000 maximum"),
                ErrorKind::ContextTooLong,
            ),
            (
                400,
                body("invalid_request_error", "Your credit balance is too low to access the API"),
                ErrorKind::QuotaSpent,
            ),
            (
                400,
                body("invalid_request_error", "Output blocked by content filtering policy"),
                ErrorKind::ContentFilter,
            ),
            (400, body("invalid_request_error", "max_tokens: field required"), ErrorKind::BadRequest),
            (401, body("authentication_error", "invalid x-api-key"), ErrorKind::Authentication),
            (402, body("billing_error", "pay"), ErrorKind::QuotaSpent),
            (403, body("permission_error", "no"), ErrorKind::Permission),
            (404, body("not_found_error", "model: x"), ErrorKind::NotFound),
            (413, body("request_too_large", "big"), ErrorKind::TooLarge),
            (429, body("rate_limit_error", "slow down"), ErrorKind::RateLimit),
            (500, body("api_error", "oops"), ErrorKind::Server),
            (529, body("overloaded_error", "Overloaded"), ErrorKind::Overloaded),
            (529, "<html>".to_owned(), ErrorKind::Overloaded),
            (502, String::new(), ErrorKind::Server),
            (401, r#"{"error":"no key"}"#.to_owned(), ErrorKind::Authentication),
            (422, r#"{"detail":"no field"}"#.to_owned(), ErrorKind::BadRequest),
        ];
        for (status, body, kind) in cases {
            let error = decode(status, body.as_bytes());
            assert_eq!((error.kind, error.status), (kind, status), "{body}");
            assert!(!error.message.is_empty());
        }
    }

    #[test]
    fn every_kind_has_its_type_and_comes_back() {
        for kind in ErrorKind::ALL {
            let error = ApiError {
                param: Some("messages[0]".into()),
                ..ApiError::new(kind, "m").with_code("some_code")
            };
            let body = encode(&error);
            let back = decode(kind.status(), &body);
            assert_eq!((back.code.as_deref(), &*back.message), (Some("some_code"), "m"));
            assert_eq!(back.param.as_deref(), Some("messages[0]"));
        }
    }
}
