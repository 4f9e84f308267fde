//! A whole answer, in no protocol's words.

use crate::error::{ApiError, ErrorKind};
use crate::event::Beside;
use crate::request::{Part, PartKind};
use crate::text::Text;

#[derive(Clone, Debug, PartialEq)]
pub struct Response<'a> {
    pub id: Text<'a>,
    /// The model that answered, as the provider names it; empty where it does not.
    pub model: Text<'a>,
    /// Text, reasoning, refusals, tool calls and foreign parts, in order.
    pub parts: Vec<Part<'a>>,
    /// What of it no other protocol shows: for who counts it.
    pub beside: Vec<Beside<'a>>,
    pub finish: Finish<'a>,
    pub usage: Option<Usage>,
}

impl Response<'_> {
    /// [`Finish::filtered`], if nothing was said before.
    pub fn withheld(&self) -> Option<ApiError> {
        let mute = |part: &Part<'_>| matches!(part.kind, PartKind::Reasoning { .. });
        self.finish.filtered().filter(|_| self.parts.iter().all(mute))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finish<'a> {
    pub reason: FinishReason,
    /// The provider's own word.
    pub raw: Option<Text<'a>>,
    /// Which stop sequence matched, where the provider tells.
    pub stop_sequence: Option<Text<'a>>,
}

impl Finish<'_> {
    pub fn of(reason: FinishReason) -> Self {
        Finish { reason, raw: None, stop_sequence: None }
    }
    /// The provider's filter ended the answer, in the words of an error: to the client it is an answer all the same, but a
    /// policy may wish to ask elsewhere where nothing was said before (Gemini blocks prompts so, with a 200).
    pub fn filtered(&self) -> Option<ApiError> {
        let raw = self.raw.as_deref().unwrap_or_default();
        let message = format!("the provider's filter withheld the answer: {raw}");
        (self.reason == FinishReason::ContentFilter)
            .then(|| ApiError::new(ErrorKind::ContentFilter, message).with_code(raw))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done, or a stop sequence matched where the protocol does not tell them apart.
    Stop,
    StopSequence,
    /// The output limit or the context window was reached.
    Length,
    ToolCalls,
    /// The provider's filter cut or withheld the answer.
    ContentFilter,
    /// The model declined (Anthropic `refusal`).
    Refusal,
    /// Anthropic `pause_turn`: a server tool needs another turn.
    Pause,
    /// A reason that is not known here; `raw` has it.
    Other,
}

/// Token counts, and what else the price of an answer hangs on. `None`: the provider did not say. `input` includes cached
/// tokens, `output` includes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: Option<u64>,
    /// Read from the prompt cache.
    pub cache_read: Option<u64>,
    /// Written to the prompt cache.
    pub cache_write: Option<u64>,
    /// Of what was written, what is kept for an hour (Anthropic).
    pub cache_write_hour: Option<u64>,
    /// Of the input, what was sound.
    pub audio_input: Option<u64>,
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
    /// Of the output, what was sound.
    pub audio_output: Option<u64>,
    /// How the request was served in the end, whatever was asked for.
    pub tier: Option<ServiceTier>,
}

/// Ways to serve a request that have prices of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceTier {
    Standard,
    /// Cheaper, when there is room.
    Flex,
    Priority,
    /// The fastest there is: Anthropic's `speed`, OpenAI's `ultrafast`.
    Fast,
    Batch,
    /// From capacity that is paid for by time, not by token.
    Provisioned,
}

impl ServiceTier {
    /// The tier of a provider's word.
    pub fn find(table: &[(&str, ServiceTier)], word: &str) -> Option<ServiceTier> {
        table.iter().find(|(known, _)| *known == word).map(|(_, tier)| *tier)
    }
    /// The first word of this tier.
    pub fn word<'w>(self, table: &[(&'w str, ServiceTier)]) -> Option<&'w str> {
        table.iter().find(|(_, tier)| *tier == self).map(|(word, _)| *word)
    }
}

impl Usage {
    /// Later figures replace earlier ones (streams repeat cumulative counts); what is not said stays.
    pub fn update(&mut self, later: &Usage) {
        *self = Usage {
            input: later.input.or(self.input),
            cache_read: later.cache_read.or(self.cache_read),
            cache_write: later.cache_write.or(self.cache_write),
            cache_write_hour: later.cache_write_hour.or(self.cache_write_hour),
            audio_input: later.audio_input.or(self.audio_input),
            output: later.output.or(self.output),
            reasoning: later.reasoning.or(self.reasoning),
            audio_output: later.audio_output.or(self.audio_output),
            tier: later.tier.or(self.tier),
        };
    }
    /// Whether no tokens are told; a tier alone is no bill.
    pub fn is_empty(&self) -> bool {
        Usage { tier: None, ..*self } == Usage::default()
    }
}
