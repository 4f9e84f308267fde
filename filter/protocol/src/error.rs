//! An error of a provider or of the gateway, in no protocol's words. Each codec gives it its own shape.

pub(crate) mod body;
mod table;
#[cfg(test)]
mod tests;
pub mod wait;

use std::time::Duration;

/// What went wrong, as far as it matters to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    BadRequest,
    /// This model or provider cannot do what was asked; another may.
    Unsupported,
    Authentication,
    Permission,
    NotFound,
    TooLarge,
    RateLimit,
    /// Credit or quota is used up: waiting does not help.
    QuotaSpent,
    ContextTooLong,
    ContentFilter,
    Overloaded,
    Server,
    Timeout,
    /// The provider could not be reached, or the connection broke.
    Connection,
    /// The answer ended before its protocol's end.
    Truncated,
    /// The provider's answer is not its protocol.
    Malformed,
}

impl ErrorKind {
    pub const ALL: [ErrorKind; 16] = [
        ErrorKind::BadRequest,
        ErrorKind::Unsupported,
        ErrorKind::Authentication,
        ErrorKind::Permission,
        ErrorKind::NotFound,
        ErrorKind::TooLarge,
        ErrorKind::RateLimit,
        ErrorKind::QuotaSpent,
        ErrorKind::ContextTooLong,
        ErrorKind::ContentFilter,
        ErrorKind::Overloaded,
        ErrorKind::Server,
        ErrorKind::Timeout,
        ErrorKind::Connection,
        ErrorKind::Truncated,
        ErrorKind::Malformed,
    ];
    /// Stable name, used as a metric label and as `code` where nothing more exact is known.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::BadRequest => "bad_request",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Authentication => "authentication",
            ErrorKind::Permission => "permission",
            ErrorKind::NotFound => "not_found",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::RateLimit => "rate_limit",
            ErrorKind::QuotaSpent => "quota_spent",
            ErrorKind::ContextTooLong => "context_too_long",
            ErrorKind::ContentFilter => "content_filter",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Server => "server_error",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Connection => "connection",
            ErrorKind::Truncated => "truncated",
            ErrorKind::Malformed => "malformed_answer",
        }
    }
    /// The inverse of [`ErrorKind::name`]: how a gateway behind this one says it.
    pub fn from_name(name: &str) -> Option<ErrorKind> {
        ErrorKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
    /// HTTP status for a client when the provider gave none that fits.
    pub fn status(self) -> u16 {
        match self {
            ErrorKind::BadRequest
            | ErrorKind::Unsupported
            | ErrorKind::ContextTooLong
            | ErrorKind::ContentFilter => 400,
            ErrorKind::Authentication => 401,
            ErrorKind::Permission => 403,
            ErrorKind::NotFound => 404,
            ErrorKind::TooLarge => 413,
            ErrorKind::RateLimit | ErrorKind::QuotaSpent => 429,
            ErrorKind::Overloaded | ErrorKind::Connection => 503,
            ErrorKind::Server => 500,
            ErrorKind::Timeout => 504,
            ErrorKind::Truncated | ErrorKind::Malformed => 502,
        }
    }
    /// The kind when nothing but the HTTP status is known.
    pub fn of_status(status: u16) -> ErrorKind {
        match status {
            401 => ErrorKind::Authentication,
            402 => ErrorKind::QuotaSpent,
            403 => ErrorKind::Permission,
            404 => ErrorKind::NotFound,
            // 524: Cloudflare's, for a server that took too long.
            408 | 504 | 524 => ErrorKind::Timeout,
            413 => ErrorKind::TooLarge,
            429 => ErrorKind::RateLimit,
            503 | 529 => ErrorKind::Overloaded,
            // A conflict (409) passes: the SDKs of OpenAI and Anthropic ask again (`_should_retry`). And nobody here hung up
            // (499, google.rpc's CANCELLED).
            409 | 499 => ErrorKind::Server,
            400..=499 => ErrorKind::BadRequest,
            _ => ErrorKind::Server,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub kind: ErrorKind,
    /// HTTP status that goes with it.
    pub status: u16,
    /// The provider's or the gateway's own code (`context_length_exceeded`, `unknown_model` …).
    pub code: Option<String>,
    pub message: String,
    /// JSON path of the member at fault.
    pub param: Option<String>,
    /// How long to wait, where the body says it. What the headers say is the gateway's to read.
    pub retry_after: Option<Duration>,
}

/// Longest piece of a body that is no JSON: enough for a sentence, not for a page.
const EXCERPT: usize = 300;

/// What a body that is no JSON says to a person; of a page of HTML nothing.
fn excerpt(body: &str) -> String {
    let text = body.trim();
    if text.starts_with('<') { String::new() } else { text.chars().take(EXCERPT).collect() }
}

impl ApiError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ApiError {
            kind,
            status: kind.status(),
            code: None,
            message: message.into(),
            param: None,
            retry_after: None,
        }
    }
    pub fn with_code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }
    pub fn truncated() -> Self {
        ApiError::new(ErrorKind::Truncated, "the provider's answer ended before it was complete")
    }
    pub fn malformed(what: impl std::fmt::Display) -> Self {
        ApiError::new(ErrorKind::Malformed, format!("the provider's answer could not be read: {what}"))
    }
}
