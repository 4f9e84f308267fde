//! What an exchange is charged with: counted as the answer comes, stopped where nothing is left, settled once.

use attache_protocol::event::Beside;
use attache_protocol::request::PartKind;
use attache_protocol::response::{Response, Usage};

use super::belief::{ABSURD, Known, believe};
use super::{Exchange, Flow, ResponseHead, Seen, State};
use crate::bill::Offer;
use crate::budget::Used;
use crate::ledger;
use crate::metrics;
use crate::outcome::Around;
use crate::relay::Relay;
use crate::stream::Stream;
use crate::ticket::Progress;
use crate::tokens::{Family, Meter, learned};

impl Exchange {
    /// A counter of this attempt's answer; `None`: no budget concerns it.
    pub(super) fn meter(&self) -> Option<Meter> {
        self.attempt.ticket().terms.as_ref()?;
        let step = self.attempt.step();
        Some(Meter::new(Family::of(step.row()?.name, &step.model)))
    }

    /// What is known here of this exchange, to judge its provider's counts by.
    pub(super) fn known(&self, seen: Seen) -> Known {
        let prompt = self.attempt.ticket().terms.as_ref().map(|terms| terms.input);
        Known { prompt, held: self.attempt.reservation().output, seen }
    }

    /// What was used, as the provider told it and is believed; else as it was counted (of all answers together) or expected.
    pub(super) fn used(&self, told: &Usage, seen: Seen) -> Option<Used> {
        let terms = self.attempt.ticket().terms.as_ref()?;
        let usage = believe(told, &self.known(seen), None);
        let input = usage.input.unwrap_or(terms.input.likely);
        Some(Used {
            input,
            cache_read: usage.cache_read.unwrap_or(0),
            cache_write: usage.cache_write.unwrap_or(0),
            cache_write_hour: usage.cache_write_hour.unwrap_or(0),
            audio_input: usage.audio_input.unwrap_or(0),
            output: usage.output.unwrap_or(seen.tokens),
            audio_output: usage.audio_output.unwrap_or(0),
            rates: terms.rates(self.attempt.step(), input, self.answerer.as_deref(), usage.tier),
        })
    }

    /// Tokens of a stream's answers so far, counted or told.
    pub(super) fn seen(&self, stream: &Stream, unseen: u64) -> Seen {
        let seen = stream.seen(unseen);
        let told = believe(&stream.told(), &self.known(seen), None).output.unwrap_or(0);
        Seen { tokens: seen.tokens.max(told), surely: seen.surely.max(told) }
    }

    /// What a client that hangs up has used: its prompt; of its answer what was made until then, seen or not. No provider is
    /// known to stop at once, nor tells what it made, so that is what its model makes in such a time, and no more than was
    /// held for it. `None`: nothing, for it was an error.
    pub(super) fn left(&self, around: &Around<'_>) -> Option<Used> {
        let unseen = |millis: u64| {
            let step = self.attempt.step();
            let speed = learned::speed(around.store, learned::model(step));
            let answers = self.attempt.ticket().answers.max(1);
            (speed.saturating_mul(millis) / 1000).saturating_mul(answers).min(self.most())
        };
        let elapsed = around.now.saturating_sub(self.started);
        let terms = self.attempt.ticket().terms.as_ref()?;
        // What a model that does not think has made of a stream, the client has had.
        let thinks = || terms.offer(self.attempt.step()).is_some_and(Offer::thinks);
        let nothing = Usage::default();
        match &self.state {
            State::Whole if self.status >= 300 => None,
            State::Unread => self.used(&nothing, Seen::about(self.most())),
            State::Stream(stream) => {
                let dark = if thinks() { unseen(stream.dark(around.now)) } else { 0 };
                self.used(&stream.partial(), self.seen(stream, dark))
            }
            State::Waiting | State::Whole if !self.attempt.ticket().stream || thinks() => {
                self.used(&nothing, Seen::about(unseen(elapsed)))
            }
            State::Waiting | State::Whole | State::Ended => self.used(&nothing, Seen::default()),
        }
    }

    /// Tokens that the answers may have had, where nobody has read them.
    pub(super) fn most(&self) -> u64 {
        self.attempt.reservation().output
    }

    /// What a failed attempt is known to have used: only what was answered or reported counts.
    pub(super) fn wasted(&self, stream: &Stream) -> Option<Used> {
        let (seen, told) = (self.seen(stream, 0), stream.partial());
        self.used(&told, seen).filter(|_| seen.tokens > 0 || !told.is_empty())
    }

    /// The exchange is over, and has used this; a second time does nothing.
    pub(super) fn settle(&mut self, used: Option<Used>, progress: Option<&Progress>, around: &Around<'_>) {
        if std::mem::replace(&mut self.settled, true) || self.attempt.ticket().terms.is_none() {
            return;
        }
        let progress = progress.unwrap_or(self.attempt.progress());
        ledger::settle(progress, &used.unwrap_or_default(), around, &mut self.effects);
    }

    /// What the provider reported teaches how its model counts prompts, and how fast it answers.
    pub(super) fn learn(&self, told: &Usage, seen: Seen, around: &Around<'_>) {
        let Some(terms) = self.attempt.ticket().terms.as_ref() else { return };
        let usage = believe(told, &self.known(seen), None);
        let step = self.attempt.step();
        let (model, dice) = (learned::model(step), around.now);
        if let Some((offer, input)) = terms.offer(step).zip(usage.input) {
            learned::learn(around.store, model, &offer.measure, input, dice);
        }
        if let Some(output) = usage.output {
            let one = output / self.attempt.ticket().answers.max(1);
            let millis = around.now.saturating_sub(self.started);
            learned::timed(around.store, model, (one, millis), dice);
        }
    }

    /// The tokens of a whole answer, where its provider counted none, or so many or so few that they have to be counted here.
    pub(super) fn counted(&self, response: &Response<'_>) -> Seen {
        // No text worth the name has a token for so many bytes.
        let few = |told: u64| told.saturating_mul(8 * ABSURD) < bytes(response);
        let usage = response.usage.unwrap_or_default();
        let told = believe(&usage, &self.known(Seen::default()), None).output;
        let Some(mut meter) = self.meter().filter(|_| told.is_none_or(few)) else { return Seen::default() };
        meter.response(response);
        Seen { tokens: meter.tokens(), surely: meter.surely() }
    }

    /// Whether a stream has used more than its budgets held for it, and they have no more.
    pub(super) fn is_spent(&mut self, stream: &Stream, around: &Around<'_>) -> bool {
        if stream.finished || !self.attempt.reservation().stops() {
            return false;
        }
        let seen = Seen::about(self.seen(stream, 0).surely);
        let Some(so_far) = self.used(&stream.partial(), seen) else { return false };
        let over = self.attempt.reservation().over(&so_far);
        // What was expected of it was wrong. It may have more, if there is more.
        over > 0 && self.attempt.reservation_mut().extend(around, over.max(EXTENSION), &so_far) < over
    }

    /// Ends a stream at its limit, as complete and cut for length.
    pub(super) fn stop(
        &mut self,
        stream: &mut Stream,
        bytes: &[u8],
        out: Option<Vec<u8>>,
        around: &Around<'_>,
    ) -> Flow {
        let told = stream.partial();
        let used = self.used(&told, self.seen(stream, 0)).unwrap_or_default();
        let usage = Usage { input: Some(used.input), output: Some(used.output), ..told };
        let mut body = out.unwrap_or_else(|| bytes.to_vec());
        stream.stop(&self.attempt.ticket().view, &usage, &mut body);
        for name in self.attempt.reservation().stopping(&used) {
            self.effects.counts.push(metrics::budget(&name, "stop"));
        }
        self.effects.end = true;
        (stream.closed, stream.finished) = (true, true);
        if stream.live {
            self.well(&usage, Seen::about(used.output), around);
            return Flow::Pass(Some(body));
        }
        stream.live = true;
        stream.pending.extend(body);
        let mut set = self.headers(around.now);
        if matches!(stream.relay, Relay::Encode(_)) {
            let kind = self.attempt.client().stream_content_type(&self.attempt.ticket().view);
            set.push(("content-type", kind.to_owned()));
        }
        self.well(&usage, Seen::about(used.output), around);
        let body = Some(std::mem::take(&mut stream.pending));
        Flow::Release { head: ResponseHead { status: None, set }, body }
    }
}

/// Of an answer's text.
fn bytes(response: &Response<'_>) -> u64 {
    let parts = response.parts.iter().map(|part| match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) | PartKind::Reasoning { text, .. } => text.len(),
        PartKind::ToolCall { arguments, .. } => arguments.len(),
        PartKind::Media(_) | PartKind::ToolResult { .. } | PartKind::Foreign(_) => 0,
    });
    let beside = response.beside.iter().map(|beside| match beside {
        Beside::Text(text) | Beside::Thought(text) => text.len(),
        Beside::Call(_) | Beside::Signature(_) | Beside::Sound(_) | Beside::Picture => 0,
    });
    parts.chain(beside).sum::<usize>() as u64
}

/// Tokens by which a stream's reservation grows where it was too small.
const EXTENSION: u64 = 64;
