//! An error, as OpenAI tells it.

use super::json::Object;
use crate::error::{ApiError, ErrorKind};

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
    use crate::error::body::read;

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
            assert_eq!(read(Some(kind.status()), &out).kind.status(), kind.status(), "{kind:?}");
        }
    }
}
