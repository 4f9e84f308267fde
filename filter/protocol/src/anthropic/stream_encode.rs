//! Events → the stream that an Anthropic client reads.

use serde::Serialize;

use super::answer::{ShownUsage, shown_id, stop_reason, thinking};
use super::error;
use super::wire::Block;
use crate::codec::{Protocol, StreamEncoder, View};
use crate::event::{Delta, PartHead, StreamEvent};
use crate::request::{Signature, UNSIGNED};
use crate::response::{Finish, FinishReason, Usage};
use crate::text::Text;

pub struct Encoder {
    view: View,
    /// Blocks begun so far; parts that a client would not know have none, so it counts apart from the parts.
    blocks: u32,
    open: Open,
    usage: Usage,
    refused: bool,
    end: End,
}

/// How far the stream has come.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    /// `message_start` is missing yet.
    Before,
    Open,
    /// `message_delta` told why it ends.
    Told,
    Over,
}

enum Open {
    Nothing,
    /// Nothing of the part is shown.
    Hidden,
    /// A block has begun. The signature waits for the block's end: clients take one piece of it as the whole.
    Block {
        kind: Kind,
        signature: Option<Signature<'static>>,
    },
    /// Redacted thinking, which begins with its data.
    Redacted,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Text,
    Thinking,
    Call,
    /// Thinking that began with all it has.
    Sealed,
}

impl Encoder {
    pub fn new(view: &View) -> Self {
        Encoder {
            view: view.clone(),
            blocks: 0,
            open: Open::Nothing,
            usage: Usage::default(),
            refused: false,
            end: End::Before,
        }
    }

    /// Goes on after a provider's own events. `block`: the one that is open, by its index.
    pub fn after(view: &View, usage: Usage, block: Option<(u32, Kind)>, end: End) -> Self {
        let (blocks, open) = match block {
            None => (0, Open::Nothing),
            Some((index, kind)) => (index, Open::Block { kind, signature: None }),
        };
        Encoder { blocks, open, usage, end, ..Encoder::new(view) }
    }

    fn start(&mut self, id: &str, model: &str, out: &mut Vec<u8>) {
        self.end = End::Open;
        let id = shown_id(id, &self.view);
        let model = if model.is_empty() { &self.view.model } else { model };
        let message = Started {
            id: &id,
            kind: "message",
            role: "assistant",
            model,
            content: [],
            stop_reason: None,
            stop_sequence: None,
            usage: ShownUsage::of(&self.usage),
        };
        frame("message_start", &MessageStart { kind: "message_start", message }, out);
    }

    fn begin(&mut self, block: &Block<'_>, out: &mut Vec<u8>) {
        let start = BlockStart { kind: "content_block_start", index: self.blocks, content_block: block };
        frame("content_block_start", &start, out);
    }

    fn part(&mut self, head: &PartHead<'_>, out: &mut Vec<u8>) {
        let (kind, block) = match head {
            PartHead::Text => (Kind::Text, Block::text(Text::default())),
            PartHead::Refusal => {
                self.refused = true;
                (Kind::Text, Block::text(Text::default()))
            }
            PartHead::Reasoning => (Kind::Thinking, thinking("", false, None)),
            PartHead::ToolCall { id, name } => {
                let (id, name) = (Some(id.reborrow()), Some(name.reborrow()));
                let input = Some(crate::request::arguments_object(""));
                (Kind::Call, Block { id, name, input, ..Block::of("tool_use") })
            }
            PartHead::RedactedReasoning => {
                self.open = Open::Redacted;
                return;
            }
            PartHead::Foreign => {
                self.open = Open::Hidden;
                return;
            }
        };
        self.begin(&block, out);
        self.open = Open::Block { kind, signature: None };
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        match (&mut self.open, delta) {
            (Open::Block { kind, .. }, Delta::Text(text)) if !text.is_empty() => match kind {
                Kind::Text => piece(self.blocks, "text_delta", "text", text, out),
                Kind::Thinking => piece(self.blocks, "thinking_delta", "thinking", text, out),
                Kind::Call | Kind::Sealed => {}
            },
            (Open::Block { kind: Kind::Call, .. }, Delta::Arguments(json)) if !json.is_empty() => {
                piece(self.blocks, "input_json_delta", "partial_json", json, out);
            }
            (Open::Block { signature, .. }, Delta::Signature(Signature { owner, data })) => match signature {
                Some(Signature { data: begun, .. }) => {
                    *begun = Text::from(format!("{}{}", &**begun, &**data))
                }
                None => *signature = Some(Signature { owner: *owner, data: data.clone().into_owned() }),
            },
            (Open::Redacted, Delta::Signature(signature)) => {
                let redacted = thinking("", true, Some(signature));
                self.begin(&redacted, out);
                self.open = Open::Block { kind: Kind::Sealed, signature: None };
            }
            _ => {}
        }
    }

    fn end_part(&mut self, out: &mut Vec<u8>) {
        let Open::Block { kind, signature } = std::mem::replace(&mut self.open, Open::Nothing) else {
            return;
        };
        let carried = signature.as_ref().map(|signature| signature.carried(Protocol::Anthropic));
        match carried {
            Some(data) if kind == Kind::Thinking => {
                piece(self.blocks, "signature_delta", "signature", &data, out);
                self.stop(out);
            }
            // See `answer.rs`: the signature of another part travels in an empty thinking block after it.
            Some(data) => {
                self.stop(out);
                self.begin(&thinking("", false, None), out);
                piece(self.blocks, "signature_delta", "signature", &data, out);
                self.stop(out);
            }
            None => {
                if kind == Kind::Thinking {
                    piece(self.blocks, "signature_delta", "signature", UNSIGNED, out);
                }
                self.stop(out);
            }
        }
    }

    fn stop(&mut self, out: &mut Vec<u8>) {
        frame("content_block_stop", &BlockStop { kind: "content_block_stop", index: self.blocks }, out);
        self.blocks += 1;
    }

    fn finish(&mut self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        let stop_reason = stop_reason(finish, self.refused);
        let delta = Ended { stop_reason, stop_sequence: finish.stop_sequence.as_deref() };
        let usage = ShownUsage::of(&self.usage);
        frame("message_delta", &MessageDelta { kind: "message_delta", delta, usage }, out);
        self.close(out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        frame("message_stop", &MessageStop { kind: "message_stop" }, out);
        self.end = End::Over;
    }
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &StreamEvent<'_>, out: &mut Vec<u8>) {
        if self.end == End::Over {
            return;
        }
        match event {
            StreamEvent::Start { id, model } => self.start(id, model, out),
            StreamEvent::PartStart { index: _, part } => self.part(part, out),
            StreamEvent::Delta { index: _, delta } => self.delta(delta, out),
            StreamEvent::Beside(_) => {}
            StreamEvent::PartEnd { index: _ } => self.end_part(out),
            StreamEvent::Usage(usage) => self.usage.update(usage),
            StreamEvent::Finish(finish) => self.finish(finish, out),
            StreamEvent::Failed(failure) => {
                out.extend_from_slice(b"event: error\ndata: ");
                out.extend_from_slice(&error::encode(failure));
                out.extend_from_slice(b"\n\n");
                self.end = End::Over;
            }
        }
    }

    fn stop(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        match self.end {
            End::Over => return,
            End::Told => return self.close(out),
            End::Open => {}
            End::Before => {
                self.usage.update(&Usage { output: None, ..*usage });
                self.start("", "", out);
            }
        }
        self.end_part(out);
        self.usage.update(usage);
        self.finish(&Finish::of(FinishReason::Length), out);
    }
}

fn frame<T: Serialize>(event: &str, data: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(&mut *out, data);
    out.extend_from_slice(b"\n\n");
}

/// A `content_block_delta`: the hot path, so written by hand.
fn piece(index: u32, kind: &str, member: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
    let _ = serde_json::to_writer(&mut *out, &index);
    for piece in [",\"delta\":{\"type\":\"", kind, "\",\"", member, "\":"] {
        out.extend_from_slice(piece.as_bytes());
    }
    let _ = serde_json::to_writer(&mut *out, text);
    out.extend_from_slice(b"}}\n\n");
}

#[derive(Serialize)]
struct MessageStart<'s> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: Started<'s>,
}
#[derive(Serialize)]
struct Started<'s> {
    id: &'s str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'s str,
    content: [(); 0],
    stop_reason: Option<()>,
    stop_sequence: Option<()>,
    usage: ShownUsage,
}
#[derive(Serialize)]
struct BlockStart<'s> {
    #[serde(rename = "type")]
    kind: &'static str,
    index: u32,
    content_block: &'s Block<'s>,
}
#[derive(Serialize)]
struct BlockStop {
    #[serde(rename = "type")]
    kind: &'static str,
    index: u32,
}
#[derive(Serialize)]
struct MessageDelta<'s> {
    #[serde(rename = "type")]
    kind: &'static str,
    delta: Ended<'s>,
    usage: ShownUsage,
}
#[derive(Serialize)]
struct Ended<'s> {
    stop_reason: &'static str,
    stop_sequence: Option<&'s str>,
}
#[derive(Serialize)]
struct MessageStop {
    #[serde(rename = "type")]
    kind: &'static str,
}
