//! Events → chunks, as OpenAI streams them to its clients.

use super::answer::{finish_word, tier_word};
use super::json::{self, List, Object};
use super::{errors, reasoning, response};
use crate::codec::{StreamEncoder, View};
use crate::event::{Delta, PartHead, StreamEvent};
use crate::request::Signature;
use crate::response::{Finish, FinishReason, Usage};

pub struct Encoder {
    view: View,
    /// A chunk up to its choices; the same for all of them.
    head: Vec<u8>,
    /// What the open part is.
    part: Open,
    /// The client has been told the role.
    greeted: bool,
    calls: u32,
    /// Entries of `reasoning_details` so far.
    entries: u32,
    /// Bytes of reasoning that no entry of `reasoning_details` has claimed yet, before and within the open part.
    unclaimed: usize,
    thought: usize,
    usage: Option<Usage>,
    end: End,
    /// Further choices that have begun and not finished; only a provider of this protocol has any.
    others: Vec<u64>,
}

/// How far the stream's end has come.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    Open,
    /// The first choice has its finish reason.
    Told {
        usage: bool,
    },
    Over,
}

enum Open {
    Text,
    Reasoning { redacted: bool },
    Refusal,
    Call { index: u32, empty: bool },
    Silent,
}

impl Encoder {
    pub fn new(view: &View) -> Self {
        Encoder {
            view: view.clone(),
            head: Vec::new(),
            part: Open::Silent,
            greeted: false,
            calls: 0,
            entries: 0,
            unclaimed: 0,
            thought: 0,
            usage: None,
            end: End::Open,
            others: Vec::new(),
        }
    }

    /// Goes on after a provider's own chunks, with their `created` for `now`.
    pub fn after(view: View, id: &str, model: &str, end: End, others: Vec<u64>) -> Self {
        let mut encoder = Encoder { greeted: true, end, others, ..Encoder::new(&view) };
        encoder.start(id, model);
        encoder
    }

    fn start(&mut self, id: &str, model: &str) {
        self.head = b"data: ".to_vec();
        let mut object = Object::open(&mut self.head);
        response::head(&mut object, id, model, "chat.completion.chunk", &self.view);
        self.head.extend_from_slice(b",\"choices\":[");
    }

    /// A chunk with one delta; `write` adds the members.
    fn delta(&mut self, finish: Option<&str>, out: &mut Vec<u8>, write: impl FnOnce(&mut Object<'_>)) {
        self.chunk(0, finish, out, write);
    }

    fn chunk(
        &mut self,
        index: u64,
        finish: Option<&str>,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Object<'_>),
    ) {
        out.extend_from_slice(&self.head);
        let mut choice = Object::open(out);
        choice.set("index", &index);
        let mut delta = choice.object("delta");
        if !self.greeted {
            self.greeted = true;
            delta.set("role", "assistant");
            match self.part {
                Open::Text => delta.set("content", ""),
                _ => delta.raw("content", "null"),
            }
        }
        write(&mut delta);
        delta.close();
        choice.raw("logprobs", "null");
        choice.set("finish_reason", &finish);
        choice.close();
        let end: &[u8] = if self.view.include_usage { b"],\"usage\":null}\n\n" } else { b"]}\n\n" };
        out.extend_from_slice(end);
    }

    fn part_start(&mut self, head: &PartHead<'_>, out: &mut Vec<u8>) {
        match head {
            PartHead::Text => self.part = Open::Text,
            PartHead::Refusal => self.part = Open::Refusal,
            PartHead::Foreign => self.part = Open::Silent,
            PartHead::Reasoning | PartHead::RedactedReasoning => {
                self.unclaimed += self.thought;
                self.thought = 0;
                self.part = Open::Reasoning { redacted: *head == PartHead::RedactedReasoning };
            }
            PartHead::ToolCall { id, name } => {
                let index = self.calls;
                self.calls += 1;
                self.part = Open::Call { index, empty: true };
                self.delta(None, out, |delta| {
                    call(delta, index, |call| {
                        call.set("id", id);
                        call.set("type", "function");
                        let mut function = call.object("function");
                        function.set("name", name);
                        function.set("arguments", "");
                        function.close();
                    });
                });
                return;
            }
        }
        if !self.greeted && !matches!(self.part, Open::Silent) {
            self.delta(None, out, |_| {});
        }
    }

    fn piece(&mut self, piece: &Delta<'_>, out: &mut Vec<u8>) {
        match (piece, &mut self.part) {
            (Delta::Text(text), _) if text.is_empty() => {}
            (Delta::Text(text), Open::Text) => self.delta(None, out, |delta| delta.set("content", text)),
            (Delta::Text(text), Open::Refusal) => self.delta(None, out, |delta| delta.set("refusal", text)),
            (Delta::Text(text), Open::Reasoning { .. }) => {
                self.thought += text.len();
                self.delta(None, out, |delta| delta.set("reasoning_content", text));
            }
            (Delta::Arguments(text), Open::Call { .. }) if text.is_empty() => {}
            (Delta::Arguments(text), Open::Call { index, empty }) => {
                *empty = false;
                let index = *index;
                self.arguments(index, text, out);
            }
            (Delta::Signature(signature), _) => self.signature(signature, out),
            (Delta::Text(_) | Delta::Arguments(_), _) => {}
        }
    }

    fn arguments(&mut self, index: u32, text: &str, out: &mut Vec<u8>) {
        self.delta(None, out, |delta| {
            call(delta, index, |call| {
                let mut function = call.object("function");
                function.set("arguments", text);
                function.close();
            });
        });
    }

    fn signature(&mut self, signature: &Signature<'_>, out: &mut Vec<u8>) {
        match self.part {
            Open::Reasoning { redacted } => {
                let (before, own) = (self.unclaimed, self.thought);
                (self.unclaimed, self.thought) = (0, 0);
                let first = self.entries;
                let index = first + u32::from(before > 0);
                self.entries = index + 1;
                self.details(out, |list| {
                    if before > 0 {
                        reasoning::entry(list, first, before, false, None);
                    }
                    reasoning::entry(list, index, own, redacted, Some(signature));
                });
            }
            Open::Call { index, .. } => self.delta(None, out, |delta| {
                call(delta, index, |call| {
                    // Clients that add up the pieces read `function.arguments` of each.
                    let mut function = call.object("function");
                    function.set("arguments", "");
                    function.close();
                    reasoning::write_call(call, signature);
                });
            }),
            Open::Text => {
                let index = self.entries;
                self.entries += 1;
                self.details(out, |list| reasoning::text_entry(list, index, signature));
            }
            Open::Refusal | Open::Silent => {}
        }
    }

    fn details(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut List<'_>)) {
        self.delta(None, out, |delta| {
            let mut list = delta.list("reasoning_details");
            write(&mut list);
            list.close();
        });
    }

    fn finish(&mut self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        self.part = Open::Text;
        let word = response::word(finish, self.calls > 0);
        self.delta(Some(word), out, |_| {});
        self.close(self.view.include_usage, out);
    }

    fn close(&mut self, usage: bool, out: &mut Vec<u8>) {
        if let Some(usage) = self.usage.filter(|_| usage) {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            response::write_usage(&usage, out);
            if let Some(tier) = tier_word(&usage) {
                out.extend_from_slice(b",\"service_tier\":");
                json::value(out, tier);
            }
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        self.end = End::Over;
    }
}

/// One entry of `delta.tool_calls`.
fn call(delta: &mut Object<'_>, index: u32, write: impl FnOnce(&mut Object<'_>)) {
    let mut list = delta.list("tool_calls");
    let mut object = list.object();
    json::value(object.key("index"), &index);
    write(&mut object);
    object.close();
    list.close();
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &StreamEvent<'_>, out: &mut Vec<u8>) {
        if self.end == End::Over {
            return;
        }
        match event {
            StreamEvent::Start { id, model } => self.start(id, model),
            StreamEvent::PartStart { index: _, part } => self.part_start(part, out),
            StreamEvent::Delta { index: _, delta } => self.piece(delta, out),
            StreamEvent::Beside(_) => {}
            StreamEvent::PartEnd { index: _ } => {
                // Clients parse the arguments; nothing is no JSON.
                if let Open::Call { index, empty: true } = self.part {
                    self.arguments(index, "{}", out);
                }
                self.part = Open::Silent;
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Finish(finish) => self.finish(finish, out),
            // No `[DONE]` after it: a stream that failed did not end.
            StreamEvent::Failed(error) => {
                out.extend_from_slice(b"data: ");
                errors::encode(error, out);
                out.extend_from_slice(b"\n\n");
                self.end = End::Over;
            }
        }
    }

    /// A call that is under way stays as far as it came: what makes its arguments JSON would make it look whole.
    fn stop(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        let end = std::mem::replace(&mut self.end, End::Over);
        if end == End::Over {
            return;
        }
        if self.head.is_empty() {
            self.start("", "");
        }
        let length = Some(finish_word(FinishReason::Length, false));
        self.part = Open::Text;
        if end == End::Open {
            self.delta(length, out, |_| {});
        }
        for index in std::mem::take(&mut self.others) {
            self.chunk(index, length, out, |_| {});
        }
        let mut total = self.usage.unwrap_or_default();
        total.update(usage);
        self.usage = Some(total).filter(|total| !total.is_empty());
        self.close(self.view.include_usage && end != End::Told { usage: true }, out);
    }
}
