//! A provider's chunks → events.

use super::answer::{Answer, Call, CallFunction, Choice, Said, call_signature, content_parts, finish_reason};
use super::stream_encode::{Encoder, End};
use super::{beside, reasoning, response};
use crate::choices::Choices;
use crate::codec::{StreamDecoder, StreamEncoder, View};
use crate::error::{ApiError, body};
use crate::event::{Beside, Delta, PartHead, Sink, StreamEvent};
use crate::request::{PartKind, Signature};
use crate::response::{Finish, FinishReason, Response, Usage};
use crate::sse::{Frame, LARGEST_FRAME, Parser};
use crate::text::Text;

/// Bytes → frames, or one JSON body where a provider answers a stream request with none.
#[derive(Default)]
pub struct Decoder {
    form: Form,
    chunks: Chunks,
}

#[derive(Default)]
enum Form {
    #[default]
    Unknown,
    Events(Parser),
    Body(Vec<u8>),
}

impl StreamDecoder for Decoder {
    fn push(&mut self, bytes: &[u8], sink: &mut Sink<'_>) {
        if self.chunks.ended {
            return;
        }
        if matches!(self.form, Form::Unknown) {
            // White space and a byte order mark say nothing; an event stream never starts with `{` or `<`.
            self.form = match bytes.iter().find(|byte| !b" \t\r\n\xEF\xBB\xBF".contains(byte)) {
                Some(b'{' | b'[' | b'<') => Form::Body(Vec::new()),
                Some(_) => Form::Events(Parser::default()),
                None => Form::Unknown,
            };
        }
        match &mut self.form {
            Form::Unknown => {}
            Form::Events(parser) => {
                let chunks = &mut self.chunks;
                parser.push(bytes, &mut |frame| chunks.frame(frame, sink));
                if parser.held() > LARGEST_FRAME {
                    chunks.fail(ApiError::malformed("an event is larger than 16 MiB"), sink);
                }
            }
            Form::Body(held) => {
                held.extend_from_slice(bytes);
                if held.len() > LARGEST_FRAME {
                    let chunks = &mut self.chunks;
                    chunks.fail(
                        ApiError::malformed(
                            "a whole answer of more than 16 MiB came where a stream was expected",
                        ),
                        sink,
                    );
                }
            }
        }
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        let chunks = &mut self.chunks;
        match std::mem::take(&mut self.form) {
            Form::Unknown => {}
            Form::Events(mut parser) => {
                chunks.last = true;
                parser.finish(&mut |frame| chunks.frame(frame, sink));
            }
            Form::Body(held) if !chunks.ended => match response::decode(&String::from_utf8_lossy(&held)) {
                Ok(response) => chunks.whole(response, sink),
                Err(error) => chunks.fail(error, sink),
            },
            Form::Body(_) => {}
        }
        if chunks.reopened {
            chunks.fail(ApiError::truncated(), sink);
        }
        chunks.done(sink);
    }

    fn usage(&self) -> Usage {
        self.chunks.usage
    }

    fn answers(&self) -> u64 {
        u64::from(self.chunks.started) + self.chunks.others.count()
    }

    fn encoder(&self, view: &View) -> Box<dyn StreamEncoder> {
        let Chunks { ended, started, id, model, created, others, finish, reopened, usage_told, .. } =
            &self.chunks;
        if !*started && !*ended {
            return Box::new(Encoder::new(view));
        }
        let end = match (*ended, finish.is_some() && !*reopened) {
            (true, _) => End::Over,
            (false, true) => End::Told { usage: *usage_told },
            (false, false) => End::Open,
        };
        let view = View { now: created.unwrap_or(view.now), ..view.clone() };
        Box::new(Encoder::after(view, id, model, end, others.unfinished().collect()))
    }
}

/// What of the answer has been seen.
#[derive(Default)]
struct Chunks {
    ended: bool,
    /// The bytes have ended: a frame that cannot be read was cut.
    last: bool,
    started: bool,
    id: String,
    model: String,
    created: Option<u64>,
    others: Choices,
    /// Index of the next part.
    next: u32,
    inside: Inside,
    open: Open,
    /// Indices of the calls so far, as the provider counts them.
    calls: Vec<u64>,
    made: usize,
    finish: Option<(FinishReason, String)>,
    /// More has come after the finish reason: without `[DONE]`, the end of the bytes is not the end of the answer.
    reopened: bool,
    usage: Usage,
    /// Usage came with the finish reason or after it.
    usage_told: bool,
}

/// Whether a part has been started and not ended.
#[derive(Default, PartialEq)]
enum Inside {
    #[default]
    No,
    Part,
    /// A call without a piece of its arguments so far.
    EmptyCall,
}

#[derive(Default, PartialEq)]
enum Open {
    #[default]
    Nothing,
    Text,
    Reasoning,
    Refusal,
    Call {
        index: Option<u64>,
        id: String,
    },
}

impl Chunks {
    fn frame(&mut self, frame: Frame<'_>, sink: &mut Sink<'_>) {
        if self.ended {
            return;
        }
        let data = frame.data.trim();
        if data == "[DONE]" {
            self.done(sink);
        } else if frame.event == "error" {
            self.fail(body::read(None, data.as_bytes()), sink);
        } else if let Err(error) = self.chunk(data, sink) {
            self.fail(error, sink);
        }
    }

    fn chunk(&mut self, data: &str, sink: &mut Sink<'_>) -> Result<(), ApiError> {
        let answer: Answer<'_> = match serde_json::from_str(data) {
            Ok(answer) => answer,
            Err(why) => {
                return match body::find(data) {
                    Some(error) => Err(error),
                    // A cut last frame says nothing: whether the answer was whole, its finish reason told.
                    None if self.last => Ok(()),
                    None => Err(ApiError::malformed(why)),
                };
            }
        };
        if answer.error.is_some() {
            return Err(body::read(None, data.as_bytes()));
        }
        // vLLM's and Mistral's errors have no `error` member.
        if answer.choices.is_none()
            && let Some(error) = body::find(data)
        {
            return Err(error);
        }
        self.usage.update(&answer.usage());
        let told = answer.usage.is_some();
        let choices = answer.choices.unwrap_or_default();
        // Azure's first chunk has no choices and empty names.
        if !self.started {
            keep(&mut self.id, answer.id.as_deref());
            keep(&mut self.model, answer.model.as_deref());
            self.created = answer.created.and_then(|raw| raw.get().parse().ok()).or(self.created);
            if !choices.is_empty() {
                self.start(sink);
            }
        }
        for choice in choices {
            match choice.index.unwrap_or(0) {
                0 => self.choice(choice, sink)?,
                index => self.other(index, choice, sink),
            }
        }
        self.usage_told |= told && self.finish.is_some();
        Ok(())
    }

    fn start(&mut self, sink: &mut Sink<'_>) {
        if !self.started {
            self.started = true;
            sink(&StreamEvent::Start { id: Text::from(&*self.id), model: Text::from(&*self.model) });
        }
    }

    fn choice(&mut self, mut choice: Choice<'_>, sink: &mut Sink<'_>) -> Result<(), ApiError> {
        if let Some(said) = choice.delta.take() {
            self.said(said, sink)?;
        }
        if let Some(error) = response::failure(&choice) {
            return Err(error);
        }
        // OpenRouter repeats it in its usage chunk; Together tells one after each tool call.
        let word = choice.finish_reason.filter(|word| !word.is_empty());
        if let Some(word) = word.filter(|_| self.finish.is_none() || self.reopened) {
            self.reopened = false;
            self.finish = Some((finish_reason(&word, self.made > 0), word.into_string()));
        }
        Ok(())
    }

    /// A piece of a choice beside the first.
    fn other(&mut self, index: u64, mut choice: Choice<'_>, sink: &mut Sink<'_>) {
        if let Some(said) = choice.delta.take().or(choice.message.take()) {
            beside::choice(said, &mut |beside| sink(&StreamEvent::Beside(beside)));
        }
        let finished = choice.finish_reason.is_some_and(|word| !word.is_empty());
        self.others.note(index, finished || choice.error.is_some());
    }

    fn said(&mut self, mut said: Said<'_>, sink: &mut Sink<'_>) -> Result<(), ApiError> {
        let thought = said.thought();
        match said.details() {
            details if details.is_empty() => {
                if let Some(thought) = thought {
                    self.text(Open::Reasoning, thought, sink);
                }
            }
            details => {
                let reasoned = reasoning::read(thought, details);
                for part in reasoned.parts {
                    if let PartKind::Reasoning { text, redacted } = part.kind {
                        self.thought(text, redacted, part.signature, sink);
                    }
                }
                if let (Some(signature), Open::Text) = (reasoned.of_text, &self.open) {
                    self.delta(Delta::Signature(signature), sink);
                }
            }
        }
        if said.audio.is_some() {
            self.foreign(sink);
        }
        beside::shown(&said, &mut |beside| sink(&StreamEvent::Beside(beside)));
        if let Some(content) = said.content {
            self.content(content, sink);
        }
        if let Some(refusal) = said.refusal {
            self.text(Open::Refusal, refusal, sink);
        }
        for call in said.tool_calls.unwrap_or_default() {
            self.call(call, sink)?;
        }
        if let Some(function) = said.function_call {
            self.call(Call { index: None, id: None, function: Some(function), extra_content: None }, sink)?;
        }
        Ok(())
    }

    fn thought(
        &mut self,
        text: Text<'_>,
        redacted: bool,
        signature: Option<Signature<'_>>,
        sink: &mut Sink<'_>,
    ) {
        if redacted {
            self.part(Open::Nothing, PartHead::RedactedReasoning, sink);
        } else {
            self.text(Open::Reasoning, text, sink);
        }
        if let Some(signature) = signature {
            if !redacted && self.open != Open::Reasoning {
                self.part(Open::Reasoning, PartHead::Reasoning, sink);
            }
            self.delta(Delta::Signature(signature), sink);
            // It signs all that came before: what follows is another block.
            self.end_part(sink);
        }
    }

    fn content(&mut self, raw: &serde_json::value::RawValue, sink: &mut Sink<'_>) {
        if let Ok(text) = serde_json::from_str::<Text<'_>>(raw.get()) {
            self.text(Open::Text, text, sink);
            return;
        }
        for part in content_parts(raw) {
            match part.kind {
                PartKind::Text(text) => self.text(Open::Text, text, sink),
                PartKind::Reasoning { text, .. } => self.text(Open::Reasoning, text, sink),
                other => {
                    self.foreign(sink);
                    beside::content(other, &mut |beside| sink(&StreamEvent::Beside(beside)));
                }
            }
        }
    }

    fn foreign(&mut self, sink: &mut Sink<'_>) {
        self.part(Open::Nothing, PartHead::Foreign, sink);
        self.end_part(sink);
    }

    /// A piece of text of some kind. An empty one opens nothing.
    fn text(&mut self, kind: Open, text: Text<'_>, sink: &mut Sink<'_>) {
        if text.is_empty() {
            return;
        }
        if self.open != kind {
            let head = match kind {
                Open::Reasoning => PartHead::Reasoning,
                Open::Refusal => PartHead::Refusal,
                Open::Text | Open::Nothing | Open::Call { .. } => PartHead::Text,
            };
            self.part(kind, head, sink);
        }
        self.delta(Delta::Text(text), sink);
    }

    fn call(&mut self, call: Call<'_>, sink: &mut Sink<'_>) -> Result<(), ApiError> {
        let function = call.function.unwrap_or(CallFunction { name: None, arguments: None });
        let id = call.id.filter(|id| !id.is_empty());
        let name = function.name.as_ref().filter(|name| !name.is_empty());
        let seen = call.index.is_some_and(|index| self.calls.contains(&index));
        let continues = match &self.open {
            Open::Call { index, id: open } => {
                let same = call.index.is_none() || *index == call.index;
                // Some servers count every call 0 or not at all: a new id with a name is a new call.
                let renewed =
                    name.is_some() && id.as_ref().is_none_or(|id| **id != **open) && (id.is_some() || !same);
                same && !renewed
            }
            _ => false,
        };
        if !continues {
            let Some(name) = name else {
                let what = if seen { "tool calls are interleaved" } else { "a tool call has no name" };
                return Err(ApiError::malformed(what));
            };
            if seen && id.is_none() {
                return Err(ApiError::malformed("tool calls are interleaved"));
            }
            let id = id.unwrap_or_else(|| Text::from(response::made_id(&self.id, self.made)));
            self.made += 1;
            self.calls.extend(call.index);
            let open = Open::Call { index: call.index, id: id.to_string() };
            self.part(open, PartHead::ToolCall { id, name: name.reborrow() }, sink);
        }
        let arguments = function.arguments();
        if !arguments.is_empty() {
            self.delta(Delta::Arguments(arguments), sink);
        }
        if let Some(signature) = call_signature(call.extra_content) {
            self.delta(Delta::Signature(signature), sink);
        }
        Ok(())
    }

    /// Opens a part, after closing the one before.
    fn part(&mut self, open: Open, part: PartHead<'_>, sink: &mut Sink<'_>) {
        self.end_part(sink);
        self.inside =
            if matches!(part, PartHead::ToolCall { .. }) { Inside::EmptyCall } else { Inside::Part };
        self.reopened = self.finish.is_some();
        sink(&StreamEvent::PartStart { index: self.next, part });
        self.open = open;
    }

    fn delta(&mut self, delta: Delta<'_>, sink: &mut Sink<'_>) {
        if matches!(delta, Delta::Arguments(_)) {
            self.inside = Inside::Part;
        }
        self.reopened = self.finish.is_some();
        sink(&StreamEvent::Delta { index: self.next, delta });
    }

    fn end_part(&mut self, sink: &mut Sink<'_>) {
        // No arguments are an empty object, here as in whole answers.
        if self.inside == Inside::EmptyCall {
            self.delta(Delta::Arguments(Text::from("{}")), sink);
        }
        if std::mem::take(&mut self.inside) == Inside::Part {
            sink(&StreamEvent::PartEnd { index: self.next });
            self.next += 1;
        }
        self.open = Open::Nothing;
    }

    /// The end, by `[DONE]` or by the end of bytes: some providers send no `[DONE]`, all tell the finish reason.
    fn done(&mut self, sink: &mut Sink<'_>) {
        if self.ended {
            return;
        }
        // Each choice tells its finish reason: without one it is no more at its end than the first.
        let Some((reason, word)) = self.finish.take().filter(|_| self.others.all_finished()) else {
            return self.fail(ApiError::truncated(), sink);
        };
        self.ended = true;
        self.start(sink);
        self.end_part(sink);
        if !self.usage.is_empty() {
            sink(&StreamEvent::Usage(self.usage));
        }
        sink(&StreamEvent::Finish(Finish { reason, raw: Some(Text::from(word)), stop_sequence: None }));
    }

    fn fail(&mut self, error: ApiError, sink: &mut Sink<'_>) {
        if !self.ended {
            self.ended = true;
            sink(&StreamEvent::Failed(error));
        }
    }

    /// A whole answer to a stream request, as if it had been streamed.
    fn whole(&mut self, response: Response<'_>, sink: &mut Sink<'_>) {
        keep(&mut self.id, Some(&response.id));
        keep(&mut self.model, Some(&response.model));
        self.start(sink);
        for part in response.parts {
            match part.kind {
                PartKind::Text(text) => self.text(Open::Text, text, sink),
                PartKind::Refusal(text) => self.text(Open::Refusal, text, sink),
                PartKind::Reasoning { text, redacted } => self.thought(text, redacted, part.signature, sink),
                PartKind::ToolCall { id, name, arguments } => {
                    self.part(Open::Nothing, PartHead::ToolCall { id, name }, sink);
                    self.delta(Delta::Arguments(arguments), sink);
                    if let Some(signature) = part.signature {
                        self.delta(Delta::Signature(signature), sink);
                    }
                }
                PartKind::Media(_) | PartKind::ToolResult { .. } | PartKind::Foreign(_) => self.foreign(sink),
            }
        }
        response.beside.into_iter().for_each(|beside: Beside<'_>| sink(&StreamEvent::Beside(beside)));
        self.usage = response.usage.unwrap_or_default();
        let word = response.finish.raw.map(Text::into_string).unwrap_or_default();
        self.finish = Some((response.finish.reason, word));
    }
}

/// Takes a name that says something.
fn keep(place: &mut String, name: Option<&str>) {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        name.clone_into(place);
    }
}
