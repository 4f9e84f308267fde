//! What an exchange is charged with: counted as the answer comes, stopped where nothing is left, settled once.

use attache_protocol::response::{Response, Usage};

use super::{Exchange, Flow, ResponseHead};
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

    /// What was used, as the provider reported it; what it did not, as it was counted (of all answers together) or expected.
    pub(super) fn used(&self, usage: &Usage, counted: u64) -> Option<Used> {
        let terms = self.attempt.ticket().terms.as_ref()?;
        let input = usage.input.unwrap_or(terms.input.likely);
        Some(Used {
            input,
            cache_read: usage.cache_read.unwrap_or(0),
            cache_write: usage.cache_write.unwrap_or(0),
            cache_write_hour: usage.cache_write_hour.unwrap_or(0),
            audio_input: usage.audio_input.unwrap_or(0),
            output: usage.output.unwrap_or(counted),
            audio_output: usage.audio_output.unwrap_or(0),
            rates: terms.rates(self.attempt.step(), input, self.answerer.as_deref(), usage.tier),
        })
    }

    /// Tokens that the answers may have had, where nobody has read them.
    pub(super) fn most(&self) -> u64 {
        self.attempt.reservation().output
    }

    /// What a failed attempt is known to have used: only what was answered or reported counts.
    pub(super) fn wasted(&self, stream: &Stream) -> Option<Used> {
        let counted = stream.counted();
        let told = stream.partial();
        self.used(&told, counted).filter(|_| counted > 0 || !told.is_empty())
    }

    /// The exchange is over, and has used this; a second time does nothing.
    pub(super) fn settle(&mut self, used: Option<Used>, progress: Option<&Progress>, around: &Around<'_>) {
        if std::mem::replace(&mut self.settled, true) || self.attempt.ticket().terms.is_none() {
            return;
        }
        let progress = progress.unwrap_or(self.attempt.progress());
        ledger::settle(progress, &used.unwrap_or_default(), around, &mut self.effects);
    }

    /// What the provider reported of the prompt teaches how its model counts.
    pub(super) fn learn(&self, usage: &Usage, around: &Around<'_>) {
        let (Some(terms), Some(input)) = (self.attempt.ticket().terms.as_ref(), usage.input) else { return };
        let step = self.attempt.step();
        if let Some(offer) = terms.offer(step) {
            learned::learn(around.store, learned::model(step), &offer.measure, input, around.now);
        }
    }

    /// The tokens of a whole answer whose provider counted none.
    pub(super) fn counted(&self, response: &Response<'_>) -> u64 {
        let Some(mut meter) =
            self.meter().filter(|_| response.usage.is_none_or(|usage| usage.output.is_none()))
        else {
            return 0;
        };
        meter.response(response);
        meter.tokens()
    }

    /// Whether a stream has used more than its budgets held for it, and they have no more.
    pub(super) fn is_spent(&mut self, stream: &Stream, around: &Around<'_>) -> bool {
        if stream.finished || !self.attempt.reservation().stops() {
            return false;
        }
        let Some(so_far) = self.used(&stream.partial(), stream.surely()) else { return false };
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
        let used = self.used(&told, stream.counted()).unwrap_or_default();
        let usage = Usage { input: Some(used.input), output: Some(used.output), ..told };
        let mut body = out.unwrap_or_else(|| bytes.to_vec());
        stream.stop(&self.attempt.ticket().view, &usage, &mut body);
        for name in self.attempt.reservation().stopping(&used) {
            self.effects.counts.push(metrics::budget(&name, "stop"));
        }
        self.effects.end = true;
        (stream.closed, stream.finished) = (true, true);
        if stream.live {
            self.well(&usage, used.output, around);
            return Flow::Pass(Some(body));
        }
        stream.live = true;
        stream.pending.extend(body);
        let mut set = self.headers(around.now);
        if matches!(stream.relay, Relay::Encode(_)) {
            let kind = self.attempt.client().stream_content_type(&self.attempt.ticket().view);
            set.push(("content-type", kind.to_owned()));
        }
        self.well(&usage, used.output, around);
        let body = Some(std::mem::take(&mut stream.pending));
        Flow::Release { head: ResponseHead { status: None, set }, body }
    }
}

/// Tokens by which a stream's reservation grows where it was too small.
const EXTENSION: u64 = 64;
