//! The answer's half of an attempt: hold ► verdict ► translate.
//!
//! Nothing reaches the client before the verdict: a stream is held until its first token (or, delivered whole, until its
//! end), a whole answer and an error until their end. A failure that another attempt may mend becomes
//! [`RETRY_STATUS`], on which alone Envoy's router retries; everything else is told to the client in its own protocol.

use attache_protocol::codec::Protocol;
use attache_protocol::error::{ApiError, ErrorKind};
use attache_protocol::event::StreamEvent;
use attache_protocol::response::Usage;

use crate::attempt::Attempt;
use crate::budget::Used;
use crate::failover::{self, index_of};
use crate::headers::ENVOY_HEADER;
use crate::metrics;
use crate::outcome::{Around, Effects, answered, failed, logged};
use crate::relay::{Elements, Relay};
use crate::retry_after::headroom;
use crate::stream::Stream;

mod belief;
mod charging;
mod ending;
mod telling;

pub use belief::Seen;
use belief::believe;
pub use ending::{Ending, Expiry};

/// The one status on which the router makes another attempt.
pub const RETRY_STATUS: u16 = 599;
/// Held bytes of a live stream without a token beyond which it goes out all the same: heartbeats are small, and memory is
/// not the provider's to fill.
const MOST_HELD: usize = 1 << 20;
/// The largest answer that is held; beyond it Envoy's own buffer (the chart's `bufferLimitBytes`) would end the exchange
/// without a word to the next target.
pub const MOST_WHOLE: usize = 30 << 20;
/// Bytes that all held streams of a worker may take up together; beyond it they go out live. A VM that runs out of its
/// 4 GiB ends every exchange of its worker.
pub const MOST_KEPT: usize = 256 << 20;
/// Bytes of an error body that are read.
const MOST_ERROR: usize = 1 << 20;
/// A key with less than this of any of its limits left, in thousandths, gives way to others.
const LITTLE: u16 = 50;

/// When the shell hands over the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Each piece as it comes.
    Pieces,
    /// Once, whole.
    Whole,
}

/// What the shell does with the answer.
#[derive(Debug, PartialEq)]
pub enum Flow {
    /// Keep head and body back.
    Hold,
    /// Let the head go, changed so, and the body held until now with it: replaced, or as it is (`None`).
    Release { head: ResponseHead, body: Option<Vec<u8>> },
    /// This piece goes on, replaced or as it is.
    Pass(Option<Vec<u8>>),
}

#[derive(Debug, PartialEq)]
pub struct ResponseHead {
    /// `None`: as the provider gave it.
    pub status: Option<u16>,
    pub set: Vec<(&'static str, String)>,
}

/// The answer of one attempt.
pub struct Exchange {
    attempt: Attempt,
    /// Unix times in milliseconds: when the attempt began, and when its answer's head came.
    started: u64,
    answered: u64,
    status: u16,
    /// The headers that tell a time to wait; of errors only.
    told: Vec<(String, String)>,
    spare: bool,
    /// Why the hop's router answered in the provider's place.
    unreached: Option<String>,
    /// Too much is held already: a stream is not held until its end.
    hurried: bool,
    /// The model that answers, as the provider names it.
    answerer: Option<String>,
    /// What a stream had used when it failed.
    wasted: Option<Used>,
    state: State,
    reported: bool,
    /// It has been charged.
    settled: bool,
    effects: Effects,
}

enum State {
    /// No answer yet.
    Waiting,
    /// A whole answer or an error.
    Whole,
    Stream(Box<Stream>),
    /// A whole answer too large to be held, in the client's own protocol: passed on unread.
    Unread,
    Ended,
}

impl Exchange {
    pub fn new(attempt: Attempt, now: u64) -> Self {
        Exchange {
            attempt,
            started: now,
            answered: now,
            status: 0,
            told: Vec::new(),
            spare: false,
            unreached: None,
            hurried: false,
            answerer: None,
            wasted: None,
            state: State::Waiting,
            reported: false,
            settled: false,
            effects: Effects::default(),
        }
    }

    pub fn attempt(&mut self) -> &mut Attempt {
        &mut self.attempt
    }

    /// What is to be done beside the answer, since the last call.
    pub fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Bytes of a stream that are held here.
    pub fn kept(&self) -> usize {
        match &self.state {
            State::Stream(stream) => stream.pending.len(),
            _ => 0,
        }
    }

    /// All that is held here is more than [`MOST_KEPT`].
    pub fn hurry(&mut self) {
        self.hurried = true;
    }

    /// The provider's head is there; names of headers in lower case.
    pub fn head<'h>(
        &mut self,
        status: u16,
        headers: impl Iterator<Item = (&'h str, &'h str)> + Clone,
        now: u64,
    ) -> Listen {
        (self.status, self.answered) = (status, now);
        let success = (200..300).contains(&status);
        let is_json = headers.clone().any(|(name, value)| {
            name == "content-type" && value.trim_start().to_ascii_lowercase().starts_with("application/json")
        });
        if !success {
            if self.attempt.takes_hop() {
                let mut reasons = headers.clone().filter(|(name, _)| *name == ENVOY_HEADER);
                self.unreached = reasons.next().map(|(_, reason)| reason.to_owned());
            }
            self.told = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        } else if self.attempt.step().key.is_some() {
            self.spare = headroom(headers).is_some_and(|left| left < LITTLE);
        }
        if !(success && self.attempt.ticket().stream) {
            self.state = State::Whole;
            return Listen::Whole;
        }
        let relay = self.relay(is_json);
        self.state = State::Stream(Box::new(Stream::new(
            self.attempt.provider().stream_decoder(),
            relay,
            self.meter(),
            self.attempt.ticket().answers,
            (self.started, now),
        )));
        Listen::Pieces
    }

    /// `is_json`: the provider answers with JSON, not with events.
    fn relay(&self, is_json: bool) -> Relay {
        let (attempt, view) = (&self.attempt, &self.attempt.ticket().view);
        // A server that knows no streams answers whole; the client has asked for a stream all the same.
        let whole_answer = is_json && attempt.ticket().protocol == Protocol::OpenAiChat;
        if !attempt.same_protocol() || whole_answer {
            return Relay::Encode(attempt.client().stream_encoder(view));
        }
        match attempt.client().hide_usage().filter(|_| attempt.hides_usage()) {
            Some(filter) => Relay::Filter(filter),
            // Without `alt=sse` Gemini streams a JSON array.
            None if attempt.ticket().protocol == Protocol::Gemini && !view.sse => {
                Relay::Elements(Elements::default())
            }
            None => Relay::Events(Vec::new()),
        }
    }

    /// A piece of the body (all of it for [`Listen::Whole`]).
    pub fn body(&mut self, bytes: &[u8], end: bool, around: &Around<'_>) -> Flow {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Whole if !end => {
                self.state = State::Whole;
                Flow::Hold
            }
            State::Whole => self.whole(bytes, around),
            State::Stream(mut stream) => {
                let flow = self.piece(&mut stream, bytes, end, around);
                if !end {
                    self.state = State::Stream(stream);
                }
                flow
            }
            State::Unread => {
                if end {
                    self.well(&Usage::default(), Seen::about(self.most()), around);
                } else {
                    self.state = State::Unread;
                }
                Flow::Pass(None)
            }
            State::Waiting => Flow::Pass(None),
            // The client has its answer; what the provider still sends belongs to nobody.
            State::Ended => Flow::Pass(Some(Vec::new())),
        }
    }

    /// The answer has grown over [`MOST_WHOLE`] and is not at its end. One in the client's own protocol needs no reading.
    pub fn too_large(&mut self, around: &Around<'_>) -> Flow {
        if self.attempt.same_protocol() && (200..300).contains(&self.status) {
            self.state = State::Unread;
            return Flow::Release {
                head: ResponseHead { status: None, set: self.headers(around.now) },
                body: None,
            };
        }
        self.state = State::Ended;
        self.fail(
            ApiError::malformed(format_args!("it is larger than {} MiB", MOST_WHOLE >> 20)),
            false,
            around,
        )
    }

    fn report(&mut self, class: &str) {
        if !self.reported {
            self.reported = true;
            self.effects.counts.push(metrics::attempt(self.attempt.step(), class));
        }
    }

    /// Tells the operator what the provider told. `seen`: of an answer that is complete.
    fn report_usage(&mut self, told: &Usage, seen: Seen) {
        let mut doubted = Vec::new();
        let usage = believe(told, &self.known(seen), Some(&mut doubted));
        let step = self.attempt.step();
        self.effects.counts.extend(doubted.into_iter().map(|kind| metrics::doubted(step, kind)));
        self.effects.counts.extend(metrics::tokens(step, &usage));
    }

    /// The answer is complete and good. `seen`: tokens of it, should its provider have counted none.
    fn well(&mut self, usage: &Usage, seen: Seen, around: &Around<'_>) {
        self.report("ok");
        self.report_usage(usage, seen);
        answered(&self.attempt, self.spare, self.started, around, &mut self.effects);
        self.learn(usage, seen, around);
        self.settle(self.used(usage, seen), None, around);
    }

    fn whole(&mut self, bytes: &[u8], around: &Around<'_>) -> Flow {
        if !(200..300).contains(&self.status) {
            if self.status < 400 {
                // A redirect is followed by nobody: a key would go where the configuration does not say.
                return self.fail(ApiError::malformed(format_args!("status {}", self.status)), false, around);
            }
            if let Some(reason) = &self.unreached {
                return self.fail(unreached(self.status, reason), false, around);
            }
            let bytes = bytes.get(..MOST_ERROR).unwrap_or(bytes);
            let error = self.attempt.provider().decode_error(self.status, bytes);
            // An error keeps its own words where the client speaks its protocol; a page of HTML is nobody's protocol.
            let object = bytes.trim_ascii_start().starts_with(b"{");
            return self.fail(error, object && self.attempt.same_protocol(), around);
        }
        let decoded = match std::str::from_utf8(bytes) {
            Ok(text) => self.attempt.provider().decode_response(text),
            Err(error) => Err(ApiError::malformed(error)),
        };
        let response = match decoded {
            Ok(response) => response,
            Err(error) => return self.fail(error, false, around),
        };
        self.answerer = Some(response.model.to_string());
        if let Some(error) = response.withheld().filter(|error| self.has_elsewhere(error, around)) {
            let usage = response.usage.filter(|usage| !usage.is_empty());
            self.wasted = usage.and_then(|usage| self.used(&usage, self.counted(&response)));
            return self.fail(error, false, around);
        }
        let (body, mut set) = if self.attempt.same_protocol() {
            (None, Vec::new())
        } else {
            let body = self.attempt.client().encode_response(&response, &self.attempt.ticket().view);
            let length = body.len().to_string();
            (Some(body), vec![("content-type", "application/json".to_owned()), ("content-length", length)])
        };
        let usage = response.usage.unwrap_or_default();
        let counted = self.counted(&response);
        self.well(&usage, counted, around);
        set.extend(self.headers(around.now));
        Flow::Release { head: ResponseHead { status: None, set }, body }
    }

    /// Whether the route wishes this to be tried elsewhere, and can.
    fn has_elsewhere(&self, error: &ApiError, around: &Around<'_>) -> bool {
        let ticket = self.attempt.ticket();
        let progress = logged(&self.attempt, index_of(error.kind), false, self.started, around.now);
        let left = ticket.policy.deadline.saturating_sub(around.now);
        failover::next(ticket, &progress, error, None, left).is_some()
    }

    fn piece(&mut self, stream: &mut Stream, bytes: &[u8], end: bool, around: &Around<'_>) -> Flow {
        let was_closed = stream.closed;
        let out = stream.take(bytes, end, around.now);
        if self.answerer.is_none() {
            self.answerer = stream.answerer.take();
        }
        if !was_closed && !end && stream.failed.is_none() && self.is_spent(stream, around) {
            return self.stop(stream, bytes, out, around);
        }
        if stream.live {
            return self.live(stream, bytes, out, was_closed, end, around);
        }
        let withheld = || stream.withheld.take().filter(|error| self.has_elsewhere(error, around));
        if let Some(error) = stream.failed.take().or_else(withheld) {
            stream.closed = true;
            stream.live = true;
            self.wasted = self.wasted(stream);
            return self.fail(error, false, around);
        }
        stream.held += bytes.len();
        stream.pending.extend(out.unwrap_or_default());
        stream.whole = self.attempt.delivers_whole() && !self.hurried;
        let enough = match stream.whole {
            // Written anew, small events grow.
            true => stream.finished || stream.held.max(stream.pending.len()) >= MOST_WHOLE,
            false => stream.token || stream.held >= MOST_HELD,
        };
        if !enough && !end {
            return Flow::Hold;
        }
        stream.live = true;
        if self.attempt.step().ailing {
            // It is well from its first token on: those that wait for the probe need not wait for the last.
            answered(&self.attempt, self.spare, self.started, around, &mut self.effects);
        }
        let mut set = self.headers(around.now);
        let body = match stream.relay {
            Relay::Events(_) | Relay::Elements(_) if stream.pending.len() == stream.held => None,
            Relay::Events(_) | Relay::Elements(_) | Relay::Filter(_) => {
                Some(std::mem::take(&mut stream.pending))
            }
            Relay::Encode(_) => {
                let kind = self.attempt.client().stream_content_type(&self.attempt.ticket().view);
                set.push(("content-type", kind.to_owned()));
                Some(std::mem::take(&mut stream.pending))
            }
        };
        if end {
            self.well(&stream.usage, self.seen(stream, 0), around);
        }
        Flow::Release { head: ResponseHead { status: None, set }, body }
    }

    /// The client has had bytes already: nothing can be taken back, but an error is told, never a clean end.
    fn live(
        &mut self,
        stream: &mut Stream,
        bytes: &[u8],
        out: Option<Vec<u8>>,
        was_closed: bool,
        end: bool,
        around: &Around<'_>,
    ) -> Flow {
        if was_closed {
            return Flow::Pass(Some(Vec::new()));
        }
        let Some(error) = stream.failed.take() else {
            if end {
                self.well(&stream.usage, self.seen(stream, 0), around);
            }
            // What a filter left alone need not be written again.
            return Flow::Pass(out.filter(|out| out != bytes));
        };
        self.report(error.kind.name());
        self.report_usage(&stream.usage, Seen::default());
        failed(&self.attempt, &error, None, self.started, None, around, &mut self.effects);
        self.settle(self.used(&stream.partial(), self.seen(stream, 0)), None, around);
        stream.closed = true;
        // What the provider still sends belongs to nobody, and costs.
        self.effects.end = !end && self.attempt.takes_hop();
        let own_words =
            !matches!(error.kind, ErrorKind::Truncated | ErrorKind::Malformed) && !stream.is_overdue();
        let ticket = self.attempt.ticket();
        let told = || {
            let mut told = Vec::new();
            let mut encoder = ticket.protocol.codec().stream_encoder(&ticket.view);
            encoder.event(&StreamEvent::Failed(error.clone()), &mut told);
            told
        };
        let mut changed = out.clone().unwrap_or_default();
        match &mut stream.relay {
            Relay::Encode(encoder) => encoder.event(&StreamEvent::Failed(error), &mut changed),
            Relay::Elements(elements) if own_words => elements.fail(None, &mut changed),
            Relay::Elements(elements) => elements.fail(Some(&told()), &mut changed),
            Relay::Events(_) | Relay::Filter(_) if own_words => return Flow::Pass(out),
            Relay::Events(_) | Relay::Filter(_) => changed.extend(told()),
        }
        Flow::Pass(Some(changed))
    }
}

/// A provider that gave no answer at all, as the hop's router tells it.
fn unreached(status: u16, reason: &str) -> ApiError {
    match status {
        408 | 504 => ApiError::new(ErrorKind::Timeout, "the provider did not answer in time"),
        _ => ApiError::new(ErrorKind::Connection, format!("the provider could not be reached: {reason}")),
    }
}
