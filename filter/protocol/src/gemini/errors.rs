//! An error, as Google tells it (google.aip.dev/193): `{"error": {"code", "message", "status", "details"}}`.
//!
//! What a program can test beyond the status stands in the details: our `code` as the `reason` of an `ErrorInfo`, the
//! member at fault as a field violation of a `BadRequest`, the wait as the `retryDelay` of a `RetryInfo`.

use crate::error::{ApiError, ErrorKind};
use crate::gemini::json::Json;

/// The status name that a Gemini client tests.
fn status_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadRequest
        | ErrorKind::Unsupported
        | ErrorKind::TooLarge
        | ErrorKind::ContextTooLong
        | ErrorKind::ContentFilter => "INVALID_ARGUMENT",
        ErrorKind::Authentication => "UNAUTHENTICATED",
        ErrorKind::Permission => "PERMISSION_DENIED",
        ErrorKind::NotFound => "NOT_FOUND",
        ErrorKind::RateLimit | ErrorKind::QuotaSpent => "RESOURCE_EXHAUSTED",
        ErrorKind::Overloaded | ErrorKind::Connection | ErrorKind::Truncated => "UNAVAILABLE",
        ErrorKind::Server | ErrorKind::Malformed => "INTERNAL",
        ErrorKind::Timeout => "DEADLINE_EXCEEDED",
    }
}

pub fn encode(error: &ApiError) -> Vec<u8> {
    let ApiError { kind, status, code, message, param, retry_after } = error;
    // google-genai raises only for a code from 400 on.
    let status = if (400..600).contains(status) { *status } else { kind.status() };
    let mut out = Vec::with_capacity(256);
    let mut json = Json::new(&mut out);
    json.open(b'{').key("error").open(b'{').key("code").show(status).key("message").str(message);
    json.key("status").str(status_name(*kind)).key("details").open(b'[');
    json.open(b'{').key("@type").str("type.googleapis.com/google.rpc.ErrorInfo");
    json.key("reason").str(code.as_deref().unwrap_or(kind.name())).key("domain").str("attache").close(b'}');
    if let Some(param) = param {
        json.open(b'{').key("@type").str("type.googleapis.com/google.rpc.BadRequest").key("fieldViolations");
        json.open(b'[')
            .open(b'{')
            .key("field")
            .str(param)
            .key("description")
            .str(message)
            .close(b'}')
            .close(b']')
            .close(b'}');
    }
    if let Some(wait) = retry_after {
        json.open(b'{').key("@type").str("type.googleapis.com/google.rpc.RetryInfo");
        json.key("retryDelay").str(&format!("{}s", wait.as_secs_f64())).close(b'}');
    }
    json.close(b']').close(b'}').close(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::body::read;

    #[test]
    fn errors_survive_a_client_that_passes_them_on() {
        for kind in ErrorKind::ALL {
            let error = ApiError { param: Some("contents[0]".into()), ..ApiError::new(kind, "m") }
                .with_code("a_code");
            let back = read(Some(error.status), &encode(&error));
            assert_eq!(
                (back.status, back.code, back.param, back.message),
                (error.status, error.code, error.param, error.message)
            );
        }
    }
}
