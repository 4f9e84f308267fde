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
use crate::headers::{
    ATTEMPT_LOG_HEADER, ATTEMPTS_HEADER, LOST_HEADER, MODEL_HEADER, PROVIDER_HEADER, STATUS_HEADER,
    UNREAD_HEADER, WAIT_HEADER,
};
use crate::metrics;
use crate::outcome::{Around, Effects, abandoned, answered, failed, logged};
use crate::relay::{Relay, Stream};
use crate::retry_after::{self, headroom};

/// The one status on which the router makes another attempt.
pub const RETRY_STATUS: u16 = 599;
/// Held bytes of a live stream without a token beyond which it goes out all the same: heartbeats are small, and memory is
/// not the provider's to fill.
const MOST_HELD: usize = 1 << 20;
/// Paths in [`LOST_HEADER`]; the rest is counted.
const MOST_LOST: usize = 50;
/// The largest answer that is held; beyond it Envoy's own buffer (the chart's `bufferLimitBytes`) would end the exchange
/// without a word to the next target.
pub const MOST_WHOLE: usize = 30 << 20;
/// Bytes of an error body that are read.
const MOST_ERROR: usize = 1 << 20;
/// Milliseconds after its head in which an error's body must have come; then its status has to say it all.
const ERROR_BODY: u64 = 3000;
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

/// What the shell does when a deadline has passed.
#[derive(Debug, PartialEq)]
pub enum Expiry {
    /// Let the held head go so, without what is held of the body: the router makes another attempt.
    Retry(ResponseHead),
    /// Answer the client here: nobody else will.
    Reply { head: ResponseHead, body: Vec<u8> },
    /// The client has had bytes, and nothing comes to which an error could be added: break the connection off.
    Cut,
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
    state: State,
    reported: bool,
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
            state: State::Waiting,
            reported: false,
            effects: Effects::default(),
        }
    }

    pub fn attempt(&mut self) -> &mut Attempt {
        &mut self.attempt
    }

    /// Another attempt may be made beside this one.
    pub fn is_hedged(&self) -> bool {
        self.attempt.ticket().policy.hedge_after.is_some()
    }

    /// What is to be done beside the answer, since the last call.
    pub fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
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
        if !success {
            self.told = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        } else if self.attempt.step().key.is_some() {
            self.spare = headroom(headers).is_some_and(|left| left < LITTLE);
        }
        if !(success && self.attempt.ticket().stream) {
            self.state = State::Whole;
            return Listen::Whole;
        }
        self.state =
            State::Stream(Box::new(Stream::new(self.attempt.provider().stream_decoder(), self.relay(), now)));
        Listen::Pieces
    }

    fn relay(&self) -> Relay {
        let (attempt, view) = (&self.attempt, &self.attempt.ticket().view);
        if !attempt.same_protocol() {
            return Relay::Encode(attempt.client().stream_encoder(view));
        }
        match attempt.client().hide_usage().filter(|_| attempt.hides_usage()) {
            Some(filter) => Relay::Filter(filter),
            // Without `alt=sse` Gemini streams a JSON array.
            None if attempt.ticket().protocol == Protocol::Gemini && !view.sse => Relay::Bytes,
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
                    self.well(&Usage::default(), around);
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

    /// Time has passed.
    pub fn tick(&mut self, around: &Around<'_>) -> Option<Expiry> {
        let policy = &self.attempt.ticket().policy;
        let error = match &mut self.state {
            State::Waiting | State::Unread | State::Ended => return None,
            State::Whole => {
                let late = self.status >= 300 && around.now.saturating_sub(self.answered) > ERROR_BODY;
                late.then(|| unread_error(self.status))?
            }
            State::Stream(stream) => stream.late(policy, self.started, around.now)?,
        };
        if let State::Stream(stream) = &mut self.state
            && stream.live
        {
            if stream.closed || stream.overdue(error.clone(), around.now) {
                return Some(Expiry::Cut);
            }
            // The next byte that comes, if one comes soon, carries the error.
            return None;
        }
        self.state = State::Ended;
        Some(match self.fail(error, false, around) {
            Flow::Release { head, body } if head.status != Some(RETRY_STATUS) => {
                Expiry::Reply { head, body: body.unwrap_or_default() }
            }
            Flow::Release { mut head, .. } => {
                head.set.retain(|(name, _)| !name.starts_with("content-"));
                head.set.push((UNREAD_HEADER, "1".to_owned()));
                Expiry::Retry(head)
            }
            Flow::Hold | Flow::Pass(_) => return None,
        })
    }

    /// The exchange is over, however: what is left to count, and for the router to do.
    pub fn close(mut self, why: Ending, around: &Around<'_>) -> Effects {
        let live = match &self.state {
            State::Stream(stream) => stream.live,
            State::Unread => true,
            State::Waiting | State::Whole | State::Ended => false,
        };
        let finished =
            matches!(&self.state, State::Stream(stream) if stream.finished && (stream.live || !stream.whole));
        if let State::Stream(stream) = &self.state
            && !self.reported
        {
            self.report_usage(&{ stream.usage });
        }
        match why {
            _ if self.reported || matches!(self.state, State::Ended) => {}
            // Clients hang up after the last event, before the last byte.
            _ if finished => self.report("ok"),
            Ending::ClientLeft => {
                self.report("cancelled");
                abandoned(&self.attempt, around);
            }
            Ending::OtherAnswered if !live => {
                self.report("lost");
                abandoned(&self.attempt, around);
            }
            Ending::OtherAnswered | Ending::Broken => {
                let error = self.broken(around.now);
                self.report(error.kind.name());
                let over = failed(&self.attempt, &error, None, self.started, around, &mut self.effects);
                if !live {
                    let entry = self.attempt.entry();
                    self.effects.state = Some(match over.next {
                        Some(next) => entry.state(&next.progress(over.progress)),
                        None => entry.closed(&over.progress),
                    });
                }
            }
        }
        self.effects
    }

    /// What it was that Envoy ended before an answer was there.
    fn broken(&self, now: u64) -> ApiError {
        let policy = &self.attempt.ticket().policy;
        let limit = match (self.attempt.ticket().stream, policy.whole) {
            (true, false) => policy.first_token,
            _ => policy.answer,
        };
        let late = now.saturating_sub(self.started) + CLOCK >= limit || now >= policy.deadline;
        match &self.state {
            State::Stream(stream) if stream.live => ApiError::truncated(),
            _ if late => ApiError::new(ErrorKind::Timeout, "the provider did not answer in time"),
            State::Waiting => ApiError::new(ErrorKind::Connection, "the provider could not be reached"),
            _ => ApiError::truncated(),
        }
    }

    fn report(&mut self, class: &str) {
        if !self.reported {
            self.reported = true;
            self.effects.counts.push(metrics::attempt(self.attempt.step(), class));
        }
    }

    fn report_usage(&mut self, usage: &Usage) {
        self.effects.counts.extend(metrics::tokens(self.attempt.step(), usage));
    }

    /// The answer is complete and good.
    fn well(&mut self, usage: &Usage, around: &Around<'_>) {
        self.report("ok");
        self.report_usage(usage);
        answered(&self.attempt, self.spare, around, &mut self.effects);
    }

    fn whole(&mut self, bytes: &[u8], around: &Around<'_>) -> Flow {
        if !(200..300).contains(&self.status) {
            if self.status < 400 {
                // A redirect is followed by nobody: a key would go where the configuration does not say.
                return self.fail(ApiError::malformed(format_args!("status {}", self.status)), false, around);
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
        let (body, mut set) = if self.attempt.same_protocol() {
            (None, Vec::new())
        } else {
            let body = self.attempt.client().encode_response(&response, &self.attempt.ticket().view);
            let length = body.len().to_string();
            (Some(body), vec![("content-type", "application/json".to_owned()), ("content-length", length)])
        };
        let usage = response.usage.unwrap_or_default();
        self.well(&usage, around);
        set.extend(self.headers(around.now));
        Flow::Release { head: ResponseHead { status: None, set }, body }
    }

    /// Ends the attempt with an error before anything reached the client.
    fn fail(&mut self, error: ApiError, verbatim: bool, around: &Around<'_>) -> Flow {
        self.report(error.kind.name());
        let told = self.told.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let told = retry_after::told(told, &error, around.now);
        let over = failed(&self.attempt, &error, told, self.started, around, &mut self.effects);
        let entry = self.attempt.entry();
        let mut set = self.headers_with(&entry.attempt_log(&over.progress));
        let status = client_status(&error, self.attempt.same_protocol());
        if let Some(next) = &over.next {
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
        let status = if over.next.is_some() { RETRY_STATUS } else { status };
        Flow::Release { head: ResponseHead { status: Some(status), set }, body }
    }

    fn piece(&mut self, stream: &mut Stream, bytes: &[u8], end: bool, around: &Around<'_>) -> Flow {
        let was_closed = stream.closed;
        let out = stream.take(bytes, end, around.now);
        if stream.live {
            return self.live(stream, bytes, out, was_closed, end, around);
        }
        if let Some(error) = stream.failed.take() {
            stream.closed = true;
            stream.live = true;
            return self.fail(error, false, around);
        }
        stream.held += bytes.len();
        stream.pending.extend(out.unwrap_or_default());
        stream.whole = self.attempt.delivers_whole();
        let enough = match stream.whole {
            true => stream.finished || stream.held >= MOST_WHOLE,
            false => stream.token || stream.held >= MOST_HELD,
        };
        if !enough && !end {
            return Flow::Hold;
        }
        stream.live = true;
        if self.is_hedged() {
            let entry = self.attempt.entry();
            self.effects.state = Some(entry.closed(&entry.progress));
        }
        let mut set = self.headers(around.now);
        let body = match stream.relay {
            Relay::Bytes => None,
            Relay::Events(_) if stream.pending.len() == stream.held => None,
            Relay::Events(_) | Relay::Filter(_) => Some(std::mem::take(&mut stream.pending)),
            Relay::Encode(_) => {
                let kind = self.attempt.client().stream_content_type(&self.attempt.ticket().view);
                set.push(("content-type", kind.to_owned()));
                Some(std::mem::take(&mut stream.pending))
            }
        };
        if end {
            self.well(&stream.usage, around);
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
                self.well(&stream.usage, around);
            }
            // What a filter left alone need not be written again.
            return Flow::Pass(out.filter(|out| out != bytes));
        };
        self.report(error.kind.name());
        self.report_usage(&stream.usage);
        failed(&self.attempt, &error, None, self.started, around, &mut self.effects);
        stream.closed = true;
        let own_words =
            !matches!(error.kind, ErrorKind::Truncated | ErrorKind::Malformed) && !stream.is_overdue();
        if own_words && !matches!(stream.relay, Relay::Encode(_)) {
            return Flow::Pass(out);
        }
        let mut out = out.unwrap_or_default();
        match &mut stream.relay {
            Relay::Encode(encoder) => encoder.event(&StreamEvent::Failed(error), &mut out),
            Relay::Bytes | Relay::Events(_) | Relay::Filter(_) => {
                let mut encoder = self.attempt.client().stream_encoder(&self.attempt.ticket().view);
                encoder.event(&StreamEvent::Failed(error), &mut out);
            }
        }
        Flow::Pass(Some(out))
    }

    /// Who answered well, at which attempt, and what the translation had to drop.
    fn headers(&mut self, now: u64) -> Vec<(&'static str, String)> {
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

    fn headers_with(&self, log: &str) -> Vec<(&'static str, String)> {
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

    fn losses(&mut self, set: &mut Vec<(&'static str, String)>) {
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

/// How an exchange came to its end when the filter had no part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    ClientLeft,
    /// The client has the answer of an attempt that was made beside this one.
    OtherAnswered,
    Broken,
}

/// Milliseconds by which Envoy's timers and the filter's clock may differ.
const CLOCK: u64 = 25;

/// An error whose body does not come.
fn unread_error(status: u16) -> ApiError {
    let mut error = ApiError::new(ErrorKind::of_status(status), "the provider's error had no end");
    error.status = status;
    error
}

/// The status for a client: the provider's own where it has a meaning for every client.
fn client_status(error: &ApiError, same_protocol: bool) -> u16 {
    match error.status {
        // A provider's own 599 must not look like ours.
        RETRY_STATUS => 502,
        status if same_protocol && (400..600).contains(&status) => status,
        // Anthropic's own number; the same meaning elsewhere.
        529 => 503,
        status if (400..600).contains(&status) => status,
        _ => error.kind.status(),
    }
}

/// Header values are visible ASCII.
fn header_value(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(256).collect()
}
