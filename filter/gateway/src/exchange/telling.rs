//! What the client is told beside the answer: who gave it, what was tried, what went wrong.

use attache_protocol::error::{ApiError, ErrorKind};

use super::{Exchange, Flow, RETRY_STATUS, ResponseHead};
use crate::headers::{
    ATTEMPT_LOG_HEADER, ATTEMPTS_HEADER, LOST_HEADER, MODEL_HEADER, PROVIDER_HEADER, STATUS_HEADER,
    WAIT_HEADER,
};
use crate::metrics;
use crate::outcome::{Around, failed, logged};
use crate::retry_after;

/// Paths in [`LOST_HEADER`]; the rest is counted.
const MOST_LOST: usize = 50;

impl Exchange {
    /// Ends the attempt with an error before anything reached the client.
    pub(super) fn fail(&mut self, error: ApiError, verbatim: bool, around: &Around<'_>) -> Flow {
        self.report(error.kind.name());
        let told = self.told.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let told = retry_after::told(told, &error, around.now);
        let wasted = self.wasted.take();
        let mut over = failed(&self.attempt, &error, told, self.started, wasted, around, &mut self.effects);
        let next = over.next(self.attempt.ticket(), &error, around, &mut self.effects);
        if next.is_none() {
            self.settle(None, Some(&over.progress), around);
        }
        let entry = self.attempt.entry();
        let mut set = self.headers_with(&entry.attempt_log(&over.progress));
        let status = client_status(&error, self.attempt.same_protocol());
        if let Some(next) = &next {
            set.push((STATUS_HEADER, status.to_string()));
            if next.wait > 0 {
                set.push((WAIT_HEADER, next.wait.div_ceil(1000).to_string()));
            }
            self.effects.state = Some(entry.state(&next.progress(over.progress)));
        }
        let body = if verbatim {
            None
        } else {
            let body = self.attempt.client().encode_error(&error);
            // With its length the error is complete for the client, whatever the provider still does.
            set.push(("content-type", "application/json".to_owned()));
            set.push(("content-length", body.len().to_string()));
            Some(body)
        };
        self.losses(&mut set);
        let status = if next.is_some() { RETRY_STATUS } else { status };
        Flow::Release { head: ResponseHead { status: Some(status), set }, body }
    }

    /// Who answered well, at which attempt, and what the translation had to drop.
    pub(super) fn headers(&mut self, now: u64) -> Vec<(&'static str, String)> {
        let log = match self.attempt.progress().log.is_empty() {
            true => String::new(),
            false => {
                let progress = logged(&self.attempt, usize::from(u8::MAX), false, self.started, now);
                self.attempt.entry().attempt_log(&progress)
            }
        };
        let mut set = self.headers_with(&log);
        self.losses(&mut set);
        set
    }

    pub(super) fn headers_with(&self, log: &str) -> Vec<(&'static str, String)> {
        let step = self.attempt.step();
        let mut set = vec![
            (PROVIDER_HEADER, step.provider.clone()),
            (MODEL_HEADER, header_value(&step.model)),
            (ATTEMPTS_HEADER, self.attempt.number().to_string()),
        ];
        if !log.is_empty() {
            set.push((ATTEMPT_LOG_HEADER, log.to_owned()));
        }
        set
    }

    pub(super) fn losses(&mut self, set: &mut Vec<(&'static str, String)>) {
        let losses = &self.attempt.losses;
        if losses.is_empty() {
            return;
        }
        let (client, provider) = (self.attempt.ticket().protocol, &self.attempt.step().provider);
        self.effects.counts.push(metrics::lost(client, provider, losses.len()));
        let mut paths: Vec<String> =
            losses.iter().take(MOST_LOST).map(|loss| header_value(&loss.path)).collect();
        paths.dedup();
        if losses.len() > MOST_LOST {
            paths.push(format!("and {} more", losses.len() - MOST_LOST));
        }
        set.push((LOST_HEADER, paths.join(", ")));
    }
}

/// The status for a client, by which SDKs choose the class of their exception: the provider's own, unless the client
/// speaks another protocol and the body said better than the status what it is (a filter's 403, a wrong key's 400).
fn client_status(error: &ApiError, same_protocol: bool) -> u16 {
    match error.status {
        // A provider's own 599 must not look like ours.
        RETRY_STATUS => 502,
        status if same_protocol && (400..600).contains(&status) => status,
        // Anthropic's own number; the same meaning elsewhere.
        529 => 503,
        status if ErrorKind::of_status(status) != error.kind => error.kind.status(),
        status if (400..600).contains(&status) => status,
        _ => error.kind.status(),
    }
}

/// Header values are visible ASCII.
fn header_value(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_what_the_body_says() {
        for (kind, status, own, other) in [
            (ErrorKind::ContentFilter, 403, 403, 400),
            (ErrorKind::Authentication, 400, 400, 401),
            (ErrorKind::Unsupported, 404, 404, 400),
            (ErrorKind::BadRequest, 422, 422, 422),
            (ErrorKind::QuotaSpent, 402, 402, 402),
            (ErrorKind::Overloaded, 529, 529, 503),
            (ErrorKind::Server, 599, 502, 502),
            (ErrorKind::Truncated, 502, 502, 502),
        ] {
            let error = ApiError { status, ..ApiError::new(kind, "") };
            assert_eq!((client_status(&error, true), client_status(&error, false)), (own, other), "{kind:?}");
        }
    }
}
