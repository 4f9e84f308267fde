//! Google's error model (google.aip.dev/193): `{"error": {code, message, status, details}}` ↔ [`ApiError`].
//!
//! What a program can test beyond the status stands in the details: our `code` as the `reason` of an `ErrorInfo`,
//! the member at fault as a field violation of a `BadRequest`.

use serde::Deserialize;

use crate::error::{ApiError, ErrorKind};
use crate::gemini::json::Json;
use crate::gemini::wire::Number;
use crate::text::{Raw, Text};

#[derive(Debug, Default, Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    error: Option<Raw<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Status<'a> {
    code: Option<Number>,
    #[serde(borrow)]
    message: Option<Text<'a>>,
    #[serde(borrow)]
    status: Option<Text<'a>>,
    #[serde(borrow)]
    details: Option<Vec<Raw<'a>>>,
}

/// The members of all kinds of details that are read here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    #[serde(borrow)]
    field_violations: Option<Vec<Violation<'a>>>,
    #[serde(borrow)]
    violations: Option<Vec<Violation<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Violation<'a> {
    #[serde(borrow)]
    field: Option<Text<'a>>,
    #[serde(borrow)]
    quota_id: Option<Text<'a>>,
    #[serde(borrow)]
    quota_value: Option<Text<'a>>,
}

/// Longest piece of an unreadable body that is shown.
const SHOWN: usize = 300;

/// The body of an error status, whatever it is.
pub fn decode(status: u16, body: &[u8]) -> ApiError {
    of_body(Some(status), body).unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        let text: String = text.trim().chars().take(SHOWN).collect();
        let kind = ErrorKind::of_status(status);
        let message =
            if text.is_empty() { format!("the provider answered {status} without a body") } else { text };
        ApiError { status, ..ApiError::new(kind, message) }
    })
}

/// An error body; without `alt=sse` a stream's is a list of one.
pub fn of_body(status: Option<u16>, body: &[u8]) -> Option<ApiError> {
    let text = std::str::from_utf8(body).ok()?.trim_start();
    let error = if text.starts_with('[') {
        serde_json::from_str::<Vec<Body<'_>>>(text).ok()?.into_iter().find_map(|body| body.error)?
    } else {
        serde_json::from_str::<Body<'_>>(text).ok()?.error?
    };
    Some(of_object(status, &error))
}

/// The value of `error`; `status`: the HTTP status, where it is not a 200's.
pub fn of_object(status: Option<u16>, error: &Raw<'_>) -> ApiError {
    let Ok(object) = error.read::<Status<'_>>() else {
        let status = status.unwrap_or(500);
        return ApiError { status, ..ApiError::new(ErrorKind::of_status(status), error.get()) };
    };
    let said = object.code.and_then(Number::count).and_then(|code| u16::try_from(code).ok());
    let name = object.status.as_deref().unwrap_or_default();
    let named = STATUSES.iter().find(|(known, _, _)| *known == name);
    let status =
        status.or(said.filter(|code| (400..600).contains(code))).or(named.map(|row| row.1)).unwrap_or(500);
    let details: Vec<Detail<'_>> =
        object.details.iter().flatten().filter_map(|detail| detail.read().ok()).collect();
    let reason = details.iter().find_map(|detail| detail.reason.as_deref());
    let message = object.message.as_deref().unwrap_or("the provider gave no message");
    let kind = reason.and_then(ErrorKind::from_name).unwrap_or_else(|| {
        kind(status, named.map(|row| row.2), reason.unwrap_or_default(), message, &details)
    });
    let param = details
        .iter()
        .flat_map(|detail| detail.field_violations.iter().flatten())
        .find_map(|v| v.field.as_deref());
    ApiError {
        kind,
        status,
        code: reason.or(Some(name).filter(|name| !name.is_empty())).map(str::to_owned),
        message: message.to_owned(),
        param: param.map(str::to_owned),
        retry_after: None,
    }
}

/// google.rpc.Code with its HTTP status (google/rpc/code.proto), and what it means by itself.
const STATUSES: &[(&str, u16, ErrorKind)] = &[
    ("INVALID_ARGUMENT", 400, ErrorKind::BadRequest),
    ("FAILED_PRECONDITION", 400, ErrorKind::BadRequest),
    ("OUT_OF_RANGE", 400, ErrorKind::BadRequest),
    ("UNAUTHENTICATED", 401, ErrorKind::Authentication),
    ("PERMISSION_DENIED", 403, ErrorKind::Permission),
    ("NOT_FOUND", 404, ErrorKind::NotFound),
    ("ALREADY_EXISTS", 409, ErrorKind::BadRequest),
    ("ABORTED", 409, ErrorKind::Overloaded),
    ("RESOURCE_EXHAUSTED", 429, ErrorKind::RateLimit),
    ("CANCELLED", 499, ErrorKind::Server),
    ("INTERNAL", 500, ErrorKind::Server),
    ("UNKNOWN", 500, ErrorKind::Server),
    ("DATA_LOSS", 500, ErrorKind::Server),
    ("UNIMPLEMENTED", 501, ErrorKind::BadRequest),
    ("UNAVAILABLE", 503, ErrorKind::Overloaded),
    ("DEADLINE_EXCEEDED", 504, ErrorKind::Timeout),
];

fn kind(
    status: u16,
    named: Option<ErrorKind>,
    reason: &str,
    message: &str,
    details: &[Detail<'_>],
) -> ErrorKind {
    let general = named.unwrap_or_else(|| ErrorKind::of_status(status));
    match general {
        // A wrong key is a 400 INVALID_ARGUMENT with this reason, a missing one a 403 (recorded).
        _ if reason.starts_with("API_KEY_") || message.contains("API key not valid") => {
            ErrorKind::Authentication
        }
        _ if message.contains("unregistered callers") => ErrorKind::Authentication,
        // FAILED_PRECONDITION: "User location is not supported for the API use.", "… enable billing …"
        // (ai.google.dev/gemini-api/docs/troubleshooting).
        ErrorKind::BadRequest if message.contains("User location") || message.contains("enable billing") => {
            ErrorKind::Permission
        }
        // "The input token count (…) exceeds the maximum number of tokens allowed (…)."
        ErrorKind::BadRequest if message.contains("token count") && message.contains("exceed") => {
            ErrorKind::ContextTooLong
        }
        ErrorKind::BadRequest if status == 413 => ErrorKind::TooLarge,
        ErrorKind::RateLimit => {
            let mut quotas = details.iter().flat_map(|detail| detail.violations.iter().flatten());
            // A quota of a day, or of nothing at all (a model outside the free tier), does not come back by waiting.
            let spent = quotas.any(|quota| {
                quota.quota_id.as_deref().is_some_and(|id| id.contains("PerDay"))
                    || quota.quota_value.as_deref() == Some("0")
            });
            if spent { ErrorKind::QuotaSpent } else { ErrorKind::RateLimit }
        }
        other => other,
    }
}

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
    let ApiError { kind, status, code, message, param, retry_after: _ } = error;
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
    json.close(b']').close(b'}').close(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, kind: ErrorKind) -> ApiError {
        let error = decode(status, body.as_bytes());
        assert_eq!((error.kind, error.status), (kind, status), "{body}");
        error
    }

    #[test]
    fn google_errors_have_their_kinds() {
        check(
            400,
            r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#,
            ErrorKind::Authentication,
        );
        check(
            403,
            r#"{"error":{"code":403,"message":"Method doesn't allow unregistered callers (callers without established identity).","status":"PERMISSION_DENIED"}}"#,
            ErrorKind::Authentication,
        );
        check(
            400,
            r#"{"error":{"code":400,"message":"The input token count (1048580) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#,
            ErrorKind::ContextTooLong,
        );
        check(404, r#"[{"error":{"code":404,"message":"x","status":"NOT_FOUND"}}]"#, ErrorKind::NotFound);
        let quota = |id: &str| {
            format!(
                r#"{{"error":{{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED","details":[{{"violations":[{{"quotaId":"{id}"}}]}},{{"retryDelay":"34s"}}]}}}}"#
            )
        };
        check(429, &quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), ErrorKind::QuotaSpent);
        check(429, &quota("GenerateRequestsPerMinutePerProjectPerModel"), ErrorKind::RateLimit);
        check(
            503,
            r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
            ErrorKind::Overloaded,
        );
        check(504, r#"{"error":{"code":504,"status":"DEADLINE_EXCEEDED"}}"#, ErrorKind::Timeout);
        check(502, "<html>bad gateway</html>", ErrorKind::Server);
        check(500, "", ErrorKind::Server);
    }

    #[test]
    fn errors_survive_a_client_that_passes_them_on() {
        for kind in ErrorKind::ALL {
            let error = ApiError { param: Some("contents[0]".into()), ..ApiError::new(kind, "m") }
                .with_code("a_code");
            let back = decode(error.status, &encode(&error));
            assert_eq!(
                (back.status, back.code, back.param, back.message),
                (error.status, error.code, error.param, error.message)
            );
        }
    }
}
