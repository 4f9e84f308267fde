//! An error, as Anthropic tells it.

use serde::Serialize;

use crate::error::{ApiError, ErrorKind};

/// `error.type` (SDK `types/shared/error_type.py`; `request_too_large` from the API's error reference). The class of the
/// SDK's exception follows the status (`_client._make_status_error`), what an application tests is this.
fn type_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadRequest
        | ErrorKind::Unsupported
        | ErrorKind::ContextTooLong
        | ErrorKind::ContentFilter => "invalid_request_error",
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::RateLimit => "rate_limit_error",
        ErrorKind::QuotaSpent => "billing_error",
        ErrorKind::Overloaded => "overloaded_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Server | ErrorKind::Connection | ErrorKind::Truncated | ErrorKind::Malformed => {
            "api_error"
        }
    }
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
    let details = ShownDetails { error_code: code };
    let error = ShownError { kind: type_name(*kind), message, code, param: param.as_deref(), details };
    serde_json::to_vec(&Shown { kind: "error", error, request_id: None }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::body::read;

    #[test]
    fn every_kind_has_its_type_and_comes_back() {
        for kind in ErrorKind::ALL {
            let error = ApiError {
                param: Some("messages[0]".into()),
                ..ApiError::new(kind, "m").with_code("some_code")
            };
            let body = encode(&error);
            let back = read(Some(kind.status()), &body);
            assert_eq!((back.code.as_deref(), &*back.message), (Some("some_code"), "m"));
            assert_eq!(back.param.as_deref(), Some("messages[0]"));
        }
    }
}
