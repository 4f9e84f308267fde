//! Stream events, their grammar and its checker.
//!
//! `Start (PartStart Delta* PartEnd)* Usage? (Finish | Failed)`, and nothing after the last; `Failed` may come
//! anywhere, `Beside` anywhere between `Start` and the end. The end of bytes without the protocol's end is
//! `Failed(Truncated)`, never an invented `Finish`.

use crate::error::ApiError;
use crate::request::Signature;
use crate::response::{Finish, Usage};
use crate::text::Text;

#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent<'a> {
    /// `model` is empty where the provider does not say.
    Start {
        id: Text<'a>,
        model: Text<'a>,
    },
    /// Parts come one after the other; `index` counts them from 0.
    PartStart {
        index: u32,
        part: PartHead<'a>,
    },
    Delta {
        index: u32,
        delta: Delta<'a>,
    },
    PartEnd {
        index: u32,
    },
    /// No encoder writes it: it is there for who counts and times the answer.
    Beside(Beside<'a>),
    Usage(Usage),
    Finish(Finish<'a>),
    Failed(ApiError),
}

#[derive(Clone, Debug, PartialEq)]
pub enum PartHead<'a> {
    Text,
    Reasoning,
    /// Anthropic's `redacted_thinking`; its data follows as a signature.
    RedactedReasoning,
    Refusal,
    ToolCall {
        id: Text<'a>,
        name: Text<'a>,
    },
    /// A block that only its owner understands; other protocols show nothing of it.
    Foreign,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Delta<'a> {
    /// Of text, reasoning and refusal parts.
    Text(Text<'a>),
    /// A piece of the JSON text of a tool call's arguments.
    Arguments(Text<'a>),
    Signature(Signature<'a>),
}

/// What belongs to an answer, and to its bill, and is shown by no other protocol: choices beside the first, and blocks that
/// only their owner understands. Cited passages are no part of it: "`cited_text` … does not count towards output tokens"
/// (platform.claude.com, "Citations").
#[derive(Clone, Debug, PartialEq)]
pub enum Beside<'a> {
    /// Words for the client, arguments of a call, code that the provider runs, and what came of it.
    Text(Text<'a>),
    /// Of another choice.
    Thought(Text<'a>),
    /// A call begins, of a function of this name.
    Call(Text<'a>),
    /// Of another choice.
    Signature(Signature<'a>),
    /// Sound, so many letters of base64 of it.
    Sound(u64),
    /// A picture that the model made.
    Picture,
}

impl Beside<'_> {
    fn is_token(&self) -> bool {
        match self {
            Beside::Text(text) | Beside::Thought(text) => !text.is_empty(),
            Beside::Call(_) | Beside::Signature(_) | Beside::Sound(_) | Beside::Picture => true,
        }
    }
    fn into_owned(self) -> Beside<'static> {
        match self {
            Beside::Text(text) => Beside::Text(text.into_owned()),
            Beside::Thought(text) => Beside::Thought(text.into_owned()),
            Beside::Call(name) => Beside::Call(name.into_owned()),
            Beside::Signature(Signature { owner, data }) => {
                Beside::Signature(Signature { owner, data: data.into_owned() })
            }
            Beside::Sound(letters) => Beside::Sound(letters),
            Beside::Picture => Beside::Picture,
        }
    }
}

impl StreamEvent<'_> {
    /// Whether this shows that the model is answering: heartbeats, starts and empty pieces do not.
    pub fn is_token(&self) -> bool {
        match self {
            StreamEvent::Start { .. }
            | StreamEvent::PartEnd { .. }
            | StreamEvent::Usage(_)
            | StreamEvent::Failed(_) => false,
            StreamEvent::PartStart { part, .. } => {
                matches!(part, PartHead::ToolCall { .. } | PartHead::Foreign)
            }
            StreamEvent::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => !text.is_empty(),
            StreamEvent::Delta { delta: Delta::Signature(_), .. } | StreamEvent::Finish(_) => true,
            StreamEvent::Beside(beside) => beside.is_token(),
        }
    }
    pub fn into_owned(self) -> StreamEvent<'static> {
        match self {
            StreamEvent::Start { id, model } => {
                StreamEvent::Start { id: id.into_owned(), model: model.into_owned() }
            }
            StreamEvent::PartStart { index, part } => {
                StreamEvent::PartStart { index, part: part.into_owned() }
            }
            StreamEvent::Delta { index, delta } => StreamEvent::Delta { index, delta: delta.into_owned() },
            StreamEvent::PartEnd { index } => StreamEvent::PartEnd { index },
            StreamEvent::Beside(beside) => StreamEvent::Beside(beside.into_owned()),
            StreamEvent::Usage(usage) => StreamEvent::Usage(usage),
            StreamEvent::Finish(Finish { reason, raw, stop_sequence }) => StreamEvent::Finish(Finish {
                reason,
                raw: raw.map(Text::into_owned),
                stop_sequence: stop_sequence.map(Text::into_owned),
            }),
            StreamEvent::Failed(error) => StreamEvent::Failed(error),
        }
    }
}

impl PartHead<'_> {
    fn into_owned(self) -> PartHead<'static> {
        match self {
            PartHead::Text => PartHead::Text,
            PartHead::Reasoning => PartHead::Reasoning,
            PartHead::RedactedReasoning => PartHead::RedactedReasoning,
            PartHead::Refusal => PartHead::Refusal,
            PartHead::ToolCall { id, name } => {
                PartHead::ToolCall { id: id.into_owned(), name: name.into_owned() }
            }
            PartHead::Foreign => PartHead::Foreign,
        }
    }
}

impl Delta<'_> {
    fn into_owned(self) -> Delta<'static> {
        match self {
            Delta::Text(text) => Delta::Text(text.into_owned()),
            Delta::Arguments(text) => Delta::Arguments(text.into_owned()),
            Delta::Signature(Signature { owner, data }) => {
                Delta::Signature(Signature { owner, data: data.into_owned() })
            }
        }
    }
}

/// Where events go. Encoders and listeners take them by reference, borrowed from the frame in hand.
pub type Sink<'s> = dyn FnMut(&StreamEvent<'_>) + 's;

/// Checks the grammar, one event at a time.
#[derive(Debug, Default)]
pub enum Grammar {
    #[default]
    Before,
    Between {
        next: u32,
    },
    Inside {
        index: u32,
    },
    Counted,
    Ended,
}

impl Grammar {
    /// Takes the next event, or says why it may not come here.
    pub fn take(&mut self, event: &StreamEvent<'_>) -> Result<(), String> {
        let next = match (&*self, event) {
            (Grammar::Ended, _) => None,
            (_, StreamEvent::Failed(_)) => Some(Grammar::Ended),
            (Grammar::Before, StreamEvent::Start { .. }) => Some(Grammar::Between { next: 0 }),
            (Grammar::Between { next }, StreamEvent::PartStart { index, .. }) if index == next => {
                Some(Grammar::Inside { index: *index })
            }
            (Grammar::Inside { index: open }, StreamEvent::Delta { index, .. }) if index == open => {
                Some(Grammar::Inside { index: *open })
            }
            (Grammar::Inside { index: open }, StreamEvent::PartEnd { index }) if index == open => {
                Some(Grammar::Between { next: open + 1 })
            }
            (Grammar::Between { next }, StreamEvent::Beside(_)) => Some(Grammar::Between { next: *next }),
            (Grammar::Inside { index }, StreamEvent::Beside(_)) => Some(Grammar::Inside { index: *index }),
            (Grammar::Between { .. }, StreamEvent::Usage(_)) => Some(Grammar::Counted),
            (Grammar::Between { .. } | Grammar::Counted, StreamEvent::Finish(_)) => Some(Grammar::Ended),
            _ => None,
        };
        match next {
            Some(next) => {
                *self = next;
                Ok(())
            }
            None => Err(format!("{event:?} may not come in state {self:?}")),
        }
    }
    /// Whether the stream has had its last event.
    pub fn ended(&self) -> bool {
        matches!(self, Grammar::Ended)
    }
}
