//! A provider's error → what happens next.

use attache_protocol::error::{ApiError, ErrorKind};

/// Whether another target may do better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The fault is the client's own: every provider would say the same.
    Never,
    /// The next target, at once.
    Elsewhere,
}

/// The failover rule. `passthrough`: the key is the client's own.
pub fn retry(error: &ApiError, passthrough: bool) -> Retry {
    match error.kind {
        ErrorKind::RateLimit
        | ErrorKind::QuotaSpent
        | ErrorKind::Overloaded
        | ErrorKind::Server
        | ErrorKind::Timeout
        | ErrorKind::Connection
        | ErrorKind::Truncated
        | ErrorKind::Malformed
        | ErrorKind::Unsupported => Retry::Elsewhere,
        // A key that the gateway injects is the operator's; the client cannot mend it.
        ErrorKind::Authentication | ErrorKind::Permission if !passthrough => Retry::Elsewhere,
        ErrorKind::BadRequest
        | ErrorKind::Authentication
        | ErrorKind::Permission
        | ErrorKind::NotFound
        | ErrorKind::TooLarge
        | ErrorKind::ContextTooLong
        | ErrorKind::ContentFilter => {
            if error.status == 429 || error.status >= 500 {
                Retry::Elsewhere
            } else {
                Retry::Never
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_own_faults_stay_where_they_are() {
        for status in [400, 404, 413, 422] {
            let mut error = ApiError::new(ErrorKind::of_status(status), "");
            error.status = status;
            assert_eq!(retry(&error, false), Retry::Never, "{status}");
        }
        for status in [429, 500, 502, 503, 504, 529, 401, 403, 408] {
            let mut error = ApiError::new(ErrorKind::of_status(status), "");
            error.status = status;
            assert_eq!(retry(&error, false), Retry::Elsewhere, "{status}");
        }
        assert_eq!(retry(&ApiError::new(ErrorKind::Authentication, ""), true), Retry::Never);
    }
}
