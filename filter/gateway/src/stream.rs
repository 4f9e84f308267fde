//! A stream under way: decoded to be watched, relayed, and timed.

use attache_protocol::codec::{StreamDecoder, View};
use attache_protocol::error::{ApiError, ErrorKind};
use attache_protocol::event::{Beside, Delta, PartHead, StreamEvent};
use attache_protocol::response::Usage;

use crate::exchange::Seen;
use crate::relay::Relay;
use crate::ticket::Policy;
use crate::tokens::Meter;

/// A stream under way. Times are Unix times in milliseconds.
pub struct Stream {
    pub decoder: Box<dyn StreamDecoder>,
    pub relay: Relay,
    pub usage: Usage,
    pub token: bool,
    pub failed: Option<ApiError>,
    /// The provider's filter ended it before its first token.
    pub withheld: Option<ApiError>,
    /// The provider has said all that belongs to the answer.
    pub finished: bool,
    /// The client has had its last event.
    pub closed: bool,
    pub live: bool,
    /// It is held until it is finished.
    pub whole: bool,
    pub held: usize,
    /// Output made while the head is held.
    pub pending: Vec<u8>,
    /// `None`: no budget concerns it.
    pub meter: Option<Meter>,
    /// The model that answers, as the provider names it.
    pub answerer: Option<String>,
    /// Answers asked for.
    asked: u64,
    pace: Pace,
    overdue: Option<(ApiError, u64)>,
}

/// How fast a stream comes.
struct Pace {
    /// The last event.
    last: u64,
    /// The provider runs a tool of its own, which may take long.
    working: bool,
    /// Bytes of text since the window began.
    generated: u64,
    window: u64,
    /// The part under way is a thought.
    thinking: bool,
    /// Milliseconds so far in which the model may have thought more than it showed: before its first token, and in thoughts,
    /// which may be summaries.
    dark: u64,
}

/// Milliseconds for which an error waits for a piece that can carry it to the client.
pub const GRACE: u64 = 1000;

impl Stream {
    pub fn new(
        decoder: Box<dyn StreamDecoder>,
        relay: Relay,
        meter: Option<Meter>,
        asked: u64,
        (started, now): (u64, u64),
    ) -> Self {
        Stream {
            decoder,
            relay,
            usage: Usage::default(),
            token: false,
            failed: None,
            withheld: None,
            finished: false,
            closed: false,
            live: false,
            whole: false,
            held: 0,
            pending: Vec::new(),
            meter,
            answerer: None,
            asked,
            pace: Pace::new(started, now),
            overdue: None,
        }
    }

    /// The deadline that has passed, as an error.
    pub fn late(&mut self, policy: &Policy, started: u64, now: u64) -> Option<ApiError> {
        let since = |then: u64| now.saturating_sub(then);
        let timeout = |what: String| Some(ApiError::new(ErrorKind::Timeout, what));
        if self.finished {
            return None;
        }
        if now >= policy.deadline {
            return timeout("the answer took longer than all of it may".to_owned());
        }
        if !self.token {
            let late = since(started) >= policy.first_token;
            return late.then(|| ApiError::new(ErrorKind::Timeout, "the provider sent no token in time"));
        }
        if self.whole && since(started) >= policy.answer {
            return timeout("the provider's answer took too long".to_owned());
        }
        let idle = if self.pace.working { policy.answer } else { policy.idle };
        if since(self.pace.last) >= idle {
            return timeout(format!("the provider sent nothing for {} s", since(self.pace.last) / 1000));
        }
        if since(self.pace.window) >= policy.idle {
            let least = policy.min_throughput.saturating_mul(since(self.pace.window)) / 1000;
            let generated = std::mem::take(&mut self.pace.generated);
            self.pace.window = now;
            if generated < least && !self.pace.working {
                let rate = generated * 1000 / policy.idle.max(1);
                return timeout(format!("the provider's answer came at {rate} bytes per second"));
            }
        }
        None
    }

    /// The answer is complete, and the client has it, but the provider does not end it.
    pub fn lingers(&self, policy: &Policy, now: u64) -> bool {
        self.finished && self.live && !self.closed && now.saturating_sub(self.pace.last) >= policy.idle
    }

    /// Tokens of the answer so far, as they were counted. `unseen`: those of thoughts, where they may be more than was seen.
    pub fn seen(&self, unseen: u64) -> Seen {
        let seen = |meter: &Meter| Seen { tokens: meter.with_unseen(unseen), surely: meter.surely() };
        self.meter.as_ref().map_or(Seen::default(), seen)
    }

    /// Milliseconds so far in which the model may have thought more than it showed.
    pub fn dark(&self, now: u64) -> u64 {
        let under_way =
            if self.token && !self.pace.thinking { 0 } else { now.saturating_sub(self.pace.last) };
        self.pace.dark + under_way
    }

    /// What the provider has told of tokens so far.
    pub fn told(&self) -> Usage {
        let mut told = self.decoder.usage();
        told.update(&self.usage);
        told
    }

    /// The same, without what it told of the answer: before the end that is less than what was counted.
    pub fn partial(&self) -> Usage {
        Usage { output: None, ..self.told() }
    }

    /// Writes the end of an answer that is cut for length, after what the client has had of it.
    pub fn stop(&mut self, view: &View, usage: &Usage, out: &mut Vec<u8>) {
        match &mut self.relay {
            Relay::Encode(encoder) => encoder.stop(usage, out),
            Relay::Events(_) | Relay::Elements(_) | Relay::Filter(_) => {
                self.decoder.encoder(view).stop(usage, out);
            }
        }
    }

    /// Notes the error for the next piece. `true`: none has come for too long.
    pub fn overdue(&mut self, error: ApiError, now: u64) -> bool {
        match &self.overdue {
            Some((_, since)) => now.saturating_sub(*since) >= GRACE,
            None => {
                self.overdue = Some((error, now));
                false
            }
        }
    }

    pub fn is_overdue(&self) -> bool {
        self.overdue.is_some()
    }

    /// The error that has found no piece to carry it.
    pub fn overdue_error(&self) -> Option<&ApiError> {
        self.overdue.as_ref().map(|(error, _)| error)
    }

    /// Decodes a piece and makes of it what the relay makes; `None`: the bytes as they are.
    pub fn take(&mut self, bytes: &[u8], end: bool, now: u64) -> Option<Vec<u8>> {
        if self.closed {
            return None;
        }
        if let Some((error, _)) = self.overdue.as_ref().filter(|_| !end) {
            self.failed = Some(error.clone());
            return Some(Vec::new());
        }
        let Stream {
            decoder, relay, usage, token, failed, withheld, finished, meter, answerer, pace, ..
        } = self;
        let mut out = Vec::new();
        let mut sink = |event: &StreamEvent<'_>| {
            pace.event(event, *token, now);
            if let Some(meter) = meter {
                meter.event(event);
            }
            let mute = !*token;
            *token |= event.is_token();
            match event {
                StreamEvent::Start { model, .. } => *answerer = Some(model.to_string()),
                StreamEvent::Usage(counts) => usage.update(counts),
                StreamEvent::Failed(error) => {
                    *failed = Some(error.clone());
                    return;
                }
                StreamEvent::Finish(finish) => {
                    *finished = true;
                    *withheld = finish.filtered().filter(|_| mute);
                }
                _ => {}
            }
            if let Relay::Encode(encoder) = relay {
                encoder.event(event, &mut out);
            }
        };
        decoder.push(bytes, &mut sink);
        if end {
            decoder.end(&mut sink);
        }
        let mut failed = self.failed.as_ref().map(|error| error.kind);
        if end && self.overdue.is_some() && failed.is_none() && self.decoder.answers() < self.asked {
            // It fell silent before all that were asked for had begun.
            (failed, self.finished) = (Some(ErrorKind::Truncated), false);
        }
        let out = self.relay.pass(bytes, out, failed, end, self.live);
        match (failed, &self.overdue) {
            // It ended because it was overdue.
            (Some(ErrorKind::Truncated), Some((error, _))) => self.failed = Some(error.clone()),
            _ if end => self.overdue = None,
            _ => {}
        }
        out
    }
}

impl Pace {
    fn new(started: u64, now: u64) -> Pace {
        let dark = now.saturating_sub(started);
        Pace { last: now, working: false, generated: 0, window: now, thinking: false, dark }
    }

    fn event(&mut self, event: &StreamEvent<'_>, begun: bool, now: u64) {
        if !begun || self.thinking {
            self.dark += now.saturating_sub(self.last);
        }
        self.last = now;
        if !begun {
            self.window = now;
        }
        match event {
            StreamEvent::PartStart { part, .. } => {
                self.thinking = matches!(part, PartHead::Reasoning | PartHead::RedactedReasoning);
                let was_working = std::mem::replace(&mut self.working, matches!(part, PartHead::Foreign));
                if was_working {
                    // The tool's time is not the text's.
                    self.window = now;
                }
            }
            StreamEvent::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => {
                self.generated += text.len() as u64;
            }
            StreamEvent::Beside(Beside::Text(text) | Beside::Thought(text) | Beside::Call(text)) => {
                self.generated += text.len() as u64;
            }
            // What else comes is no text, but work all the same.
            StreamEvent::Delta { delta: Delta::Signature(_), .. } | StreamEvent::Beside(_) => {
                self.window = now;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_tool_is_not_that_of_the_text() {
        let mut pace = Pace::new(0, 0);
        let mut begin = |part: PartHead<'static>, now: u64| {
            pace.event(&StreamEvent::PartStart { index: 0, part }, true, now);
            (pace.working, pace.window)
        };
        assert_eq!(begin(PartHead::Text, 100), (false, 0));
        assert_eq!(begin(PartHead::Foreign, 200), (true, 0));
        assert_eq!(begin(PartHead::Text, 59_000), (false, 59_000));
        assert_eq!(begin(PartHead::Text, 59_500), (false, 59_000));
    }
    #[test]
    fn the_time_in_which_a_model_may_think_unseen_is_told_apart() {
        let mut pace = Pace::new(100, 300);
        assert_eq!(pace.dark, 200, "until its head");
        let delta = || StreamEvent::Delta { index: 0, delta: Delta::Text("x".into()) };
        let start = |part| StreamEvent::PartStart { index: 0, part };
        pace.event(&start(PartHead::Text), false, 1000);
        pace.event(&delta(), false, 1000);
        assert_eq!(pace.dark, 900, "until its first token");
        pace.event(&delta(), true, 5000);
        assert_eq!(pace.dark, 900);
        pace.event(&start(PartHead::Reasoning), true, 5000);
        pace.event(&delta(), true, 5500);
        pace.event(&start(PartHead::Text), true, 6000);
        pace.event(&delta(), true, 9000);
        assert_eq!(pace.dark, 1900, "and in thoughts");
    }
}
