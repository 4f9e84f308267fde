//! How an exchange ends when no byte of the provider ends it: by time, by the client, by Envoy.

use attache_protocol::error::{ApiError, ErrorKind};
use attache_protocol::response::Usage;

use super::{Exchange, Flow, RETRY_STATUS, ResponseHead, Seen, State};
use crate::headers::UNREAD_HEADER;
use crate::outcome::{Around, Effects, abandoned, answered, failed};

/// What the shell does when a deadline has passed.
#[derive(Debug, PartialEq)]
pub enum Expiry {
    /// Let the held head go so, without what is held of the body: the router makes another attempt.
    Retry(ResponseHead),
    /// Answer the client here: nobody else will.
    Reply { head: ResponseHead, body: Vec<u8> },
    /// The client has had bytes, and nothing comes to which an error or the end could be added: end the answer in the hop.
    /// Its end comes here as any other, and takes what is to be added; where there is no hop any more, break it off.
    End,
    /// The same without a hop: break the connection off.
    Cut,
}

/// How an exchange came to its end when the filter had no part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    ClientLeft,
    /// The client left before the provider had any of its request.
    LeftUnreached,
    Broken,
}

/// Milliseconds after its head in which an error's body must have come; then its status has to say it all.
const ERROR_BODY: u64 = 3000;
/// Milliseconds by which Envoy's timers and the filter's clock may differ.
const CLOCK: u64 = 25;

/// An error whose body does not come.
fn unread_error(status: u16) -> ApiError {
    let mut error = ApiError::new(ErrorKind::of_status(status), "the provider's error had no end");
    error.status = status;
    error
}

impl Exchange {
    /// Time has passed.
    pub fn tick(&mut self, around: &Around<'_>) -> Option<Expiry> {
        let policy = &self.attempt.ticket().policy;
        let error = match &mut self.state {
            State::Waiting | State::Unread | State::Ended => return None,
            State::Whole => {
                let late = self.status >= 300 && around.now.saturating_sub(self.answered) > ERROR_BODY;
                late.then(|| unread_error(self.status))?
            }
            State::Stream(stream) if stream.lingers(policy, around.now) => {
                if policy.hop {
                    return Some(Expiry::End);
                }
                return self.linger(around);
            }
            State::Stream(stream) => stream.late(policy, self.started, around.now)?,
        };
        if let State::Stream(stream) = &mut self.state
            && stream.live
        {
            if !stream.closed && !stream.overdue(error.clone(), around.now) {
                // The next byte that comes, if one comes soon, carries the error; so does the end.
                return policy.hop.then_some(Expiry::End);
            }
            return self.cut(&error, around);
        }
        if let State::Stream(stream) = std::mem::replace(&mut self.state, State::Ended) {
            self.wasted = self.wasted(&stream);
        }
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

    /// A complete answer that its provider does not end.
    fn linger(&mut self, around: &Around<'_>) -> Option<Expiry> {
        let State::Stream(stream) = std::mem::replace(&mut self.state, State::Ended) else { return None };
        self.well(&stream.usage, self.seen(&stream, 0), around);
        Some(Expiry::Cut)
    }

    /// A live stream that no byte came to for too long.
    fn cut(&mut self, error: &ApiError, around: &Around<'_>) -> Option<Expiry> {
        if let State::Stream(stream) = &self.state
            && !self.reported
        {
            let (told, used) = (stream.told(), self.used(&stream.partial(), self.seen(stream, 0)));
            self.report(error.kind.name());
            self.report_usage(&told, Seen::default());
            failed(&self.attempt, error, None, self.started, None, around, &mut self.effects);
            self.settle(used, None, around);
        }
        Some(Expiry::Cut)
    }

    /// How it ended has been told: nothing is left to do.
    pub fn is_told(&self) -> bool {
        self.reported
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
        let (told, used) = match &self.state {
            State::Stream(stream) => {
                let (told, seen) = (stream.told(), self.seen(stream, 0));
                let output = told.output.filter(|_| finished);
                (told, self.used(&Usage { output, ..told }, seen))
            }
            State::Unread => (Usage::default(), self.used(&Usage::default(), Seen::about(self.most()))),
            State::Waiting | State::Whole | State::Ended => (Usage::default(), None),
        };
        self.report_usage(&told, Seen::default());
        match why {
            _ if matches!(self.state, State::Ended) => {}
            // Clients hang up after the last event, before the last byte.
            _ if finished => {
                self.report("ok");
                answered(&self.attempt, self.spare, self.started, around, &mut self.effects);
                self.settle(used, None, around);
            }
            Ending::ClientLeft | Ending::LeftUnreached => {
                self.report("cancelled");
                abandoned(&self.attempt, around);
                let used = if why == Ending::ClientLeft { self.left(around) } else { None };
                self.settle(used, None, around);
            }
            Ending::Broken => {
                let error = self.broken(around.now);
                self.report(error.kind.name());
                let wasted = match &self.state {
                    State::Stream(stream) if !live => self.wasted(stream),
                    _ => None,
                };
                let effects = &mut self.effects;
                let mut over = failed(&self.attempt, &error, None, self.started, wasted, around, effects);
                if live {
                    self.settle(used, None, around);
                    return self.effects;
                }
                let next = over.next(self.attempt.ticket(), &error, around, &mut self.effects);
                if next.is_none() {
                    self.settle(None, Some(&over.progress), around);
                }
                let entry = self.attempt.entry();
                self.effects.state = Some(match next {
                    Some(next) => entry.state(&next.progress(over.progress)),
                    None => entry.closed(&over.progress),
                });
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
            State::Stream(stream) if stream.live => {
                stream.overdue_error().cloned().unwrap_or_else(ApiError::truncated)
            }
            _ if late => ApiError::new(ErrorKind::Timeout, "the provider did not answer in time"),
            State::Waiting => ApiError::new(ErrorKind::Connection, "the provider could not be reached"),
            _ => ApiError::truncated(),
        }
    }
}
