//! Errors in the gateway's own words, where no provider has said any.

use attache_protocol::error::{ApiError, ErrorKind};

use crate::admission::too_large;
use crate::gateway::Limits;
use crate::ticket::{Entry, Tried};

/// The attempts of an exchange that is over.
pub struct Past(Option<Entry>);

impl Past {
    /// From the filter state as the last attempt left it.
    pub fn read(state: &[u8]) -> Past {
        Past(Entry::read(state))
    }
    pub fn attempts(&self) -> usize {
        self.made().count()
    }
    /// Those in the log that were made: what was passed over for a budget was none.
    fn made(&self) -> impl Iterator<Item = &Tried> {
        let log = self.0.iter().flat_map(|entry| &entry.progress.log);
        log.filter(|tried| tried.class != Tried::OVER_BUDGET)
    }
    /// As [`crate::headers::ATTEMPT_LOG_HEADER`] tells them.
    pub fn log(&self) -> String {
        self.0.as_ref().map(|entry| entry.attempt_log(&entry.progress)).unwrap_or_default()
    }
    /// How the last attempt ended.
    fn last(&self) -> Option<ErrorKind> {
        let class = self.made().last()?.class;
        ErrorKind::ALL.get(usize::from(class)).copied()
    }
    /// `; tried openai, anthropic`, each once; nothing where nobody was asked.
    fn tried(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for tried in self.made() {
            let step = self.0.as_ref().and_then(|entry| entry.ticket.plan.get(usize::from(tried.step)));
            let name = step.map(|step| step.cluster()).unwrap_or_default();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() { String::new() } else { format!("; tried {}", names.join(", ")) }
    }
}

/// A provider's answer that ended with its head, as an error in the gateway's words.
pub fn empty_error(status: u16, past: &Past) -> ApiError {
    let message = format!("the provider's answer had no body{}", past.tried());
    let mut error = ApiError::new(ErrorKind::of_status(status), message).with_code("empty_answer");
    error.status = status;
    error
}

/// The answer to a request whose body did not come to its end: no attempt has been made.
fn too_slow(details: &str) -> ApiError {
    let message = match details.contains("idle") {
        true => "the request's body came no further; it may pause as long as the chart's `queueLimitSeconds`",
        false => "the request's body did not come to its end in time",
    };
    let mut error = ApiError::new(ErrorKind::Timeout, message).with_code("request_timeout");
    error.status = 408;
    error
}

/// An answer that Envoy made itself, as an error in the gateway's words. `details`: Envoy's response code details.
pub fn envoy_error(status: u16, details: &str, past: &Past, limits: &Limits) -> ApiError {
    let (kind, message) = match (status, past.last()) {
        (413, _) => return too_large(limits),
        (408 | 504, _) if past.0.is_none() => return too_slow(details),
        _ if details.contains("response_payload_too_large") => {
            (ErrorKind::Malformed, "the provider's answer is larger than can be held")
        }
        (408 | 504, _) | (_, Some(ErrorKind::Timeout)) => {
            (ErrorKind::Timeout, "no provider answered in time")
        }
        (503, _) if details.contains("overflow") => {
            (ErrorKind::Overloaded, "too many requests are under way to the provider")
        }
        (_, Some(ErrorKind::Truncated)) => (ErrorKind::Truncated, "every provider's answer broke off"),
        (502 | 503, _) => (ErrorKind::Connection, "no provider could be reached"),
        _ => (ErrorKind::of_status(status), "the request failed"),
    };
    // The router's word for an attempt that was given up before it was made.
    let details = if details.contains("no_healthy_upstream") { "" } else { details };
    let details: String = details.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(160).collect();
    let last = if details.is_empty() { String::new() } else { format!("; the last: {details}") };
    let mut error = ApiError::new(kind, format!("{message}{}{last}", past.tried())).with_code(kind.name());
    // An answer too large to hold, or broken off, is the provider's fault, not the gateway's.
    error.status = match kind {
        ErrorKind::Malformed | ErrorKind::Truncated | ErrorKind::Timeout => kind.status(),
        _ => status,
    };
    error
}
