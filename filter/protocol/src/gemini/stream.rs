//! A Gemini stream → events: SSE (`alt=sse`), one JSON array (without it), or the plain JSON body of an error,
//! which Google sends as `text/event-stream` too.

use crate::choices::Choices;
use crate::codec::{StreamDecoder, StreamEncoder, View};
use crate::error::{ApiError, body};
use crate::event::{Delta, PartHead, Sink, StreamEvent};
use crate::gemini::answer::{Answer, CallIds, blocked, failure, finish, read_part};
use crate::gemini::beside;
use crate::gemini::stream_out::Encoder;
use crate::gemini::wire::Number;
use crate::request::{Part, PartKind, Signature};
use crate::response::{Finish, FinishReason, Usage};
use crate::sse::{Frame, LARGEST_FRAME, Parser};
use crate::text::{Text, mend};
use crate::wire::Told;

#[derive(Default)]
pub struct Decoder {
    framing: Framing,
    chunks: Chunks,
}

/// How chunks are told apart, by the first byte that says something.
#[derive(Default)]
enum Framing {
    #[default]
    Unknown,
    Sse(Parser),
    Json(Objects),
}

impl StreamDecoder for Decoder {
    fn push(&mut self, bytes: &[u8], sink: &mut Sink<'_>) {
        if self.chunks.over {
            return;
        }
        let mut bytes = bytes;
        if matches!(self.framing, Framing::Unknown) {
            // White space, or a byte order mark.
            let is_blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0xEF | 0xBB | 0xBF);
            let Some(start) = bytes.iter().position(|byte| !is_blank(byte)) else { return };
            bytes = bytes.get(start..).unwrap_or_default();
            self.framing = match bytes.first() {
                Some(b'[' | b'{') => Framing::Json(Objects::default()),
                Some(b'<') => {
                    return self.chunks.fail(ApiError::malformed("a page came, not a stream"), sink);
                }
                _ => Framing::Sse(Parser::default()),
            };
        }
        let chunks = &mut self.chunks;
        match &mut self.framing {
            Framing::Unknown => {}
            Framing::Sse(parser) => {
                parser.push(bytes, &mut |frame| chunks.frame(frame, sink));
                if parser.held() > LARGEST_FRAME {
                    chunks.fail(ApiError::malformed("an event is larger than 16 MiB"), sink);
                }
            }
            Framing::Json(objects) => {
                if !objects.push(bytes, &mut |chunk| chunks.take(chunk, sink)) {
                    chunks.fail(ApiError::malformed("expected a list of objects"), sink);
                }
                if objects.held.len() > LARGEST_FRAME {
                    chunks.fail(ApiError::malformed("an object is larger than 16 MiB"), sink);
                }
            }
        }
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        let chunks = &mut self.chunks;
        match &mut self.framing {
            Framing::Unknown => {}
            Framing::Sse(parser) => {
                chunks.last = true;
                parser.finish(&mut |frame| chunks.frame(frame, sink));
            }
            Framing::Json(objects) if !objects.whole() => chunks.fail(ApiError::truncated(), sink),
            Framing::Json(_) => {}
        }
        chunks.end(sink);
    }

    fn usage(&self) -> Usage {
        self.chunks.usage
    }

    fn answers(&self) -> u64 {
        u64::from(self.chunks.started) + self.chunks.others.count()
    }

    fn encoder(&self, view: &View) -> Box<dyn StreamEncoder> {
        let Chunks { started, over, id, model, usage, finish, others, .. } = &self.chunks;
        let sse = match &self.framing {
            Framing::Unknown => view.sse,
            Framing::Sse(_) => true,
            Framing::Json(objects) if *over || (*started && (objects.closed || !objects.array)) => {
                return Box::new(Encoder::over(view));
            }
            Framing::Json(_) => false,
        };
        Box::new(match (*over, *started) {
            (true, _) => Encoder::over(view),
            (false, false) => Encoder::new(&View { sse, ..view.clone() }),
            (false, true) => {
                let model = if model.is_empty() { &view.model } else { model };
                let first = finish.is_none().then_some(0);
                let unfinished = first.into_iter().chain(others.unfinished()).collect();
                Encoder::after(sse, id, model, *usage, unfinished)
            }
        })
    }
}

/// Finds the objects in a JSON array (or one object alone) as its bytes come.
#[derive(Default)]
struct Objects {
    held: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    array: bool,
    closed: bool,
}

impl Objects {
    /// `false`: this is no list of objects.
    fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(&str)) -> bool {
        for &byte in bytes {
            if self.depth == 0 {
                match byte {
                    b'{' => {}
                    b'[' if !self.array => {
                        self.array = true;
                        continue;
                    }
                    b']' if self.array => {
                        self.closed = true;
                        continue;
                    }
                    b',' | b' ' | b'\t' | b'\r' | b'\n' => continue,
                    _ => return false,
                }
            }
            self.held.push(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' if !self.in_string => self.depth += 1,
                b'}' if !self.in_string => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        each(&String::from_utf8_lossy(&self.held));
                        self.held.clear();
                    }
                }
                _ => {}
            }
        }
        true
    }
    /// Whether the bytes so far are a whole JSON text.
    fn whole(&self) -> bool {
        self.depth == 0 && (self.closed || !self.array)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Reasoning,
}

/// Chunks → events. Pieces of text of one kind that follow each other are one part.
#[derive(Default)]
struct Chunks {
    started: bool,
    id: String,
    model: String,
    others: Choices,
    /// `Finish` or `Failed` is out.
    over: bool,
    /// The bytes have ended: what cannot be read now was cut off.
    last: bool,
    open: Option<Open>,
    index: u32,
    ids: CallIds,
    calls: bool,
    usage: Usage,
    finish: Option<(FinishReason, String)>,
}

impl Chunks {
    /// Google names no event; a proxy may name an error.
    fn frame(&mut self, frame: Frame<'_>, sink: &mut Sink<'_>) {
        match frame.event {
            "error" => self.fail(body::read(None, frame.data.as_bytes()), sink),
            _ => self.take(frame.data, sink),
        }
    }

    fn take(&mut self, chunk: &str, sink: &mut Sink<'_>) {
        // Gemini has no such ending; servers that imitate it do.
        if self.over || chunk == "[DONE]" {
            return;
        }
        let answer: Answer<'_> = match serde_json::from_str(chunk) {
            Ok(answer) => answer,
            Err(why) => {
                return match (body::find(chunk), mend(chunk)) {
                    (Some(error), _) => self.fail(error, sink),
                    _ if self.last => self.fail(ApiError::truncated(), sink),
                    (None, Some(mended)) => self.take(&mended, sink),
                    (None, None) => self.fail(ApiError::malformed(why), sink),
                };
            }
        };
        if answer.error.is_some() {
            return self.fail(body::read(None, chunk.as_bytes()), sink);
        }
        if answer.candidates.is_none()
            && let Some(error) = body::find(chunk)
        {
            return self.fail(error, sink);
        }
        if !self.started {
            self.started = true;
            let id = answer.response_id.unwrap_or_default();
            self.ids = CallIds::new(&id, chunk);
            let model = answer.model_version.unwrap_or_default();
            (self.id, self.model) = (id.to_string(), model.to_string());
            sink(&StreamEvent::Start { id, model });
        }
        if let Some(usage) = answer.usage_metadata.as_ref().and_then(Told::get) {
            self.usage.update(&usage.usage());
        }
        if let Some(raw) = blocked(answer.prompt_feedback.as_ref()) {
            self.finish = Some((FinishReason::ContentFilter, raw));
        }
        // Of several candidates the first makes the events: nobody else's client can ask for more.
        for candidate in answer.candidates.into_iter().flatten() {
            match candidate.index.map_or(Some(0), Number::count) {
                Some(0) => {}
                Some(index) => {
                    self.others.note(index, candidate.finish_reason.as_ref().and_then(finish).is_some());
                    for part in candidate.content.and_then(|content| content.parts).into_iter().flatten() {
                        beside::candidate(part, &mut |one| sink(&StreamEvent::Beside(one)));
                    }
                    continue;
                }
                None => continue,
            }
            if let Some(error) = failure(&candidate) {
                return self.fail(error, sink);
            }
            for part in candidate.content.and_then(|content| content.parts).into_iter().flatten() {
                if let Some(part) = read_part(part, &mut self.ids) {
                    self.part(part, sink);
                }
            }
            if let Some(finish) = candidate.finish_reason.as_ref().and_then(finish) {
                self.finish = Some(finish);
            }
        }
    }

    fn part(&mut self, part: Part<'_>, sink: &mut Sink<'_>) {
        match part.kind {
            PartKind::Text(text) | PartKind::Refusal(text) => {
                self.text(Open::Text, text, part.signature, sink)
            }
            PartKind::Reasoning { text, .. } => self.text(Open::Reasoning, text, part.signature, sink),
            PartKind::ToolCall { id, name, arguments } => {
                self.calls = true;
                self.whole(PartHead::ToolCall { id, name }, Some(arguments), part.signature, sink);
            }
            kind @ (PartKind::Media(_) | PartKind::ToolResult { .. } | PartKind::Foreign(_)) => {
                self.whole(PartHead::Foreign, None, None, sink);
                beside::shown(kind, &mut |one| sink(&StreamEvent::Beside(one)));
            }
        }
    }

    fn text(&mut self, kind: Open, text: Text<'_>, signature: Option<Signature<'_>>, sink: &mut Sink<'_>) {
        if self.open != Some(kind) {
            self.close(sink);
            let part = if kind == Open::Text { PartHead::Text } else { PartHead::Reasoning };
            sink(&StreamEvent::PartStart { index: self.index, part });
            self.open = Some(kind);
        }
        if !text.is_empty() {
            sink(&StreamEvent::Delta { index: self.index, delta: Delta::Text(text) });
        }
        if let Some(signature) = signature {
            sink(&StreamEvent::Delta { index: self.index, delta: Delta::Signature(signature) });
            // A signature belongs to what came before it (docs/thought-signatures: never merge signed parts).
            self.close(sink);
        }
    }

    fn whole(
        &mut self,
        part: PartHead<'_>,
        arguments: Option<Text<'_>>,
        signature: Option<Signature<'_>>,
        sink: &mut Sink<'_>,
    ) {
        self.close(sink);
        let index = self.index;
        sink(&StreamEvent::PartStart { index, part });
        if let Some(arguments) = arguments {
            sink(&StreamEvent::Delta { index, delta: Delta::Arguments(arguments) });
        }
        if let Some(signature) = signature {
            sink(&StreamEvent::Delta { index, delta: Delta::Signature(signature) });
        }
        sink(&StreamEvent::PartEnd { index });
        self.index += 1;
    }

    fn close(&mut self, sink: &mut Sink<'_>) {
        if self.open.take().is_some() {
            sink(&StreamEvent::PartEnd { index: self.index });
            self.index += 1;
        }
    }

    fn fail(&mut self, error: ApiError, sink: &mut Sink<'_>) {
        if !std::mem::replace(&mut self.over, true) {
            sink(&StreamEvent::Failed(error));
        }
    }

    /// Only now is it known that no second finish reason and no later usage comes (recorded streams have both).
    fn end(&mut self, sink: &mut Sink<'_>) {
        if self.over {
            return;
        }
        // Each candidate tells its finish reason, or is not at its end.
        let Some((reason, raw)) = self.finish.take().filter(|_| self.others.all_finished()) else {
            return self.fail(ApiError::truncated(), sink);
        };
        self.over = true;
        self.close(sink);
        if !self.usage.is_empty() {
            sink(&StreamEvent::Usage(self.usage));
        }
        let reason =
            if reason == FinishReason::Stop && self.calls { FinishReason::ToolCalls } else { reason };
        sink(&StreamEvent::Finish(Finish { reason, raw: Some(Text::from(raw)), stop_sequence: None }));
    }
}
