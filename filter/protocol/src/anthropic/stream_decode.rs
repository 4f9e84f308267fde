//! Anthropic's stream → events.
//!
//! `message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop`, with
//! `ping` anywhere and `error` at any point (platform.claude.com "Streaming messages").

use super::JSON_TOOL;
use super::answer::{SERVER_CALLS, finish, json_finish, tier, usage};
use super::stream_encode::{Encoder, End, Kind as Shown};
use super::wire::{Answer, Block, Counts, Event, Piece};
use crate::codec::{Protocol, StreamDecoder, StreamEncoder, View};
use crate::error::{ApiError, body};
use crate::event::{Beside, Delta, PartHead, Sink, StreamEvent};
use crate::request::{Signature, UNSIGNED};
use crate::response::{Finish, ServiceTier, Usage};
use crate::sse;
use crate::text::{Text, mend};
use crate::wire::Told;

/// Most of a body without frames that is kept: error bodies are small, and what is larger is none.
const LARGEST_BODY: usize = 1 << 20;

#[derive(Default)]
pub struct Decoder {
    framing: Framing,
    answer: Reader,
}

/// What the bytes are.
#[derive(Default)]
enum Framing {
    #[default]
    Unknown,
    Frames(sse::Parser),
    /// JSON (or a page of HTML) where a stream was expected.
    Body(Vec<u8>),
}

impl StreamDecoder for Decoder {
    fn push(&mut self, bytes: &[u8], sink: &mut Sink<'_>) {
        if self.answer.ended {
            return;
        }
        if let Framing::Unknown = self.framing {
            // White space and a byte order mark say nothing.
            self.framing = match bytes.iter().find(|byte| !b" \t\r\n\xEF\xBB\xBF".contains(byte)) {
                None => return,
                Some(b'{' | b'[' | b'<') => Framing::Body(Vec::new()),
                Some(_) => Framing::Frames(sse::Parser::default()),
            };
        }
        let answer = &mut self.answer;
        match &mut self.framing {
            Framing::Unknown => {}
            Framing::Frames(parser) => {
                parser.push(bytes, &mut |frame| answer.frame(frame, false, sink));
                if parser.held() > sse::LARGEST_FRAME {
                    answer.fail(ApiError::malformed("an event is larger than 16 MiB"), sink);
                }
            }
            Framing::Body(body) => {
                let room = LARGEST_BODY.saturating_sub(body.len());
                body.extend(bytes.iter().take(room));
            }
        }
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        let answer = &mut self.answer;
        match &mut self.framing {
            Framing::Unknown => {}
            Framing::Frames(parser) => parser.finish(&mut |frame| answer.frame(frame, true, sink)),
            Framing::Body(body) => {
                let text = String::from_utf8_lossy(body);
                let failure = match super::answer::decode(&text) {
                    Ok(_) => ApiError::malformed("a whole answer came where a stream was expected"),
                    Err(failure) => failure,
                };
                answer.fail(failure, sink);
            }
        }
        answer.end(sink);
    }

    fn usage(&self) -> Usage {
        self.answer.counts.usage()
    }

    fn answers(&self) -> u64 {
        1
    }

    fn encoder(&self, view: &View) -> Box<dyn StreamEncoder> {
        let Reader { started, ended, open, finish, .. } = &self.answer;
        let block = open.as_ref().map(|open| {
            let unsigned = open.kind == Kind::Thinking && !open.signed;
            // A client that gives the thinking back later needs a signature; the mark has it taken out then.
            (open.index, if unsigned { Shown::Thinking } else { Shown::Text })
        });
        let end = match (*ended, finish.is_some(), *started) {
            (true, ..) => End::Over,
            (_, true, _) => End::Told,
            (_, _, true) => End::Open,
            (_, _, false) => End::Before,
        };
        Box::new(Encoder::after(view, self.usage(), block, end))
    }
}

/// Reads frames; lax towards servers that leave out starts and stops.
#[derive(Default)]
struct Reader {
    started: bool,
    ended: bool,
    /// Parts begun so far.
    parts: u32,
    open: Option<Open>,
    /// The index that the event in hand names.
    named: Option<u32>,
    counts: Counted,
    finish: Option<Finish<'static>>,
    json: bool,
}

#[derive(Default)]
struct Counted {
    seen: bool,
    total: Counts<'static>,
    tier: Option<ServiceTier>,
}

impl Counted {
    fn usage(&self) -> Usage {
        Usage { tier: self.tier, ..usage(&self.total) }
    }
}

struct Open {
    kind: Kind,
    /// Its block's index on the wire.
    index: u32,
    /// Thinking that has had a signature.
    signed: bool,
    /// A call's input that came whole with its start, until pieces of it come.
    input: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Thinking,
    Call,
    /// The tool that stands for JSON mode: its input is the answer's text.
    Json,
    /// Nothing of it is shown.
    Other,
}

impl Reader {
    fn frame(&mut self, frame: sse::Frame<'_>, last: bool, sink: &mut Sink<'_>) {
        if self.ended {
            return;
        }
        // OpenRouter ends with `data: [DONE]`.
        if frame.data.trim() == "[DONE]" {
            if self.finish.is_some() {
                self.end(sink);
            }
            return;
        }
        if frame.event == "error" {
            return self.fail(body::read(None, frame.data.as_bytes()), sink);
        }
        let event: Event<'_> = match serde_json::from_str(frame.data) {
            Ok(event) => event,
            Err(why) => {
                return match (body::find(frame.data), mend(frame.data)) {
                    (Some(error), _) => self.fail(error, sink),
                    // The last frame of bytes that were cut.
                    _ if last => {}
                    (None, Some(data)) => self.frame(sse::Frame { data: &data, ..frame }, last, sink),
                    (None, None) => self.fail(ApiError::malformed(why), sink),
                };
            }
        };
        if event.error.is_some() || event.kind.as_deref() == Some("error") {
            return self.fail(body::read(None, frame.data.as_bytes()), sink);
        }
        if event.kind.is_none()
            && let Some(error) = body::find(frame.data)
        {
            return self.fail(error, sink);
        }
        self.event(event, sink);
    }

    fn event(&mut self, event: Event<'_>, sink: &mut Sink<'_>) {
        let Event { kind, index, delta, content_block, message, usage, error: _, extras: _ } = event;
        self.named = index.and_then(|index| u32::try_from(index).ok());
        match kind.as_deref().unwrap_or_default() {
            "content_block_delta" => self.piece(delta.unwrap_or_default(), sink),
            "message_start" => {
                let Answer { id, model, usage, .. } = message.unwrap_or_default();
                self.count(usage);
                self.start(id.unwrap_or_default(), model.unwrap_or_default(), sink);
            }
            "content_block_start" => self.block(content_block.unwrap_or_default(), sink),
            "content_block_stop" => self.close(sink),
            "message_delta" => {
                self.count(usage);
                let Piece { stop_reason, stop_sequence, .. } = delta.unwrap_or_default();
                if stop_reason.is_some() {
                    let own = |text: Option<Text<'_>>| text.map(Text::into_owned);
                    self.finish = Some(finish(own(stop_reason), own(stop_sequence)));
                }
            }
            "message_stop" => {
                self.finish.get_or_insert_with(|| finish(None, None));
                self.end(sink);
            }
            // Pings and what later versions add.
            _ => {}
        }
    }

    fn start(&mut self, id: Text<'_>, model: Text<'_>, sink: &mut Sink<'_>) {
        if !std::mem::replace(&mut self.started, true) {
            sink(&StreamEvent::Start { id, model });
        }
    }

    fn count(&mut self, counts: Option<Told<Counts<'_>>>) {
        let Some(counts) = counts.and_then(Told::take) else { return };
        self.counts.tier = tier(&counts).or(self.counts.tier);
        let Counts {
            input_tokens, cache_creation_input_tokens, cache_read_input_tokens, output_tokens, ..
        } = counts;
        let total = &mut self.counts.total;
        self.counts.seen = true;
        // Cumulative, and older servers repeat only the output.
        total.input_tokens = input_tokens.or(total.input_tokens);
        total.cache_creation_input_tokens = cache_creation_input_tokens.or(total.cache_creation_input_tokens);
        total.cache_read_input_tokens = cache_read_input_tokens.or(total.cache_read_input_tokens);
        total.output_tokens = output_tokens.or(total.output_tokens);
        if let Some(thinking) = counts.output_tokens_details.and_then(|details| details.thinking_tokens) {
            total.output_tokens_details.get_or_insert_default().thinking_tokens = Some(thinking);
        }
        if let Some(hour) = counts.cache_creation.and_then(|by_time| by_time.hour) {
            total.cache_creation.get_or_insert_default().hour = Some(hour);
        }
    }

    fn open(&mut self, kind: Kind, part: PartHead<'_>, sink: &mut Sink<'_>) {
        self.close(sink);
        self.start(Text::default(), Text::default(), sink);
        sink(&StreamEvent::PartStart { index: self.parts, part });
        self.open = Some(Open { kind, index: self.named.unwrap_or(self.parts), signed: false, input: None });
    }

    fn delta(&self, delta: Delta<'_>, sink: &mut Sink<'_>) {
        sink(&StreamEvent::Delta { index: self.parts, delta });
    }

    fn close(&mut self, sink: &mut Sink<'_>) {
        let Some(Open { kind, input, index: _, signed: _ }) = self.open.take() else { return };
        match (kind, input) {
            (Kind::Call, Some(input)) => self.delta(Delta::Arguments(Text::from(input)), sink),
            (Kind::Json, Some(input)) => self.delta(Delta::Text(Text::from(input)), sink),
            _ => {}
        }
        sink(&StreamEvent::PartEnd { index: self.parts });
        self.parts += 1;
    }

    fn block(&mut self, block: Block<'_>, sink: &mut Sink<'_>) {
        let Block { kind, text, thinking, signature, data, id, name, input, .. } = block;
        match kind.as_deref().unwrap_or_default() {
            "text" => {
                self.open(Kind::Text, PartHead::Text, sink);
                self.text(text, sink);
            }
            "thinking" => {
                self.open(Kind::Thinking, PartHead::Reasoning, sink);
                self.text(thinking, sink);
                self.signature(signature, sink);
            }
            "redacted_thinking" => {
                self.open(Kind::Other, PartHead::RedactedReasoning, sink);
                self.signature(data, sink);
            }
            "tool_use" => {
                let (id, name) = (id.unwrap_or_default(), name.unwrap_or_default());
                if name == JSON_TOOL {
                    self.json = true;
                    self.open(Kind::Json, PartHead::Text, sink);
                } else {
                    self.open(Kind::Call, PartHead::ToolCall { id, name }, sink);
                }
                let whole = input.map(|input| input.get().to_owned()).filter(|input| input.len() > 2);
                if let Some(open) = &mut self.open {
                    open.input = whole;
                }
            }
            kind => {
                self.open(Kind::Other, PartHead::Foreign, sink);
                // The model calls a tool of the provider's own; what that answers is billed as input.
                if SERVER_CALLS.contains(&kind) {
                    sink(&StreamEvent::Beside(Beside::Call(name.unwrap_or_default())));
                }
            }
        }
    }

    fn text(&self, text: Option<Text<'_>>, sink: &mut Sink<'_>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.delta(Delta::Text(text), sink);
        }
    }

    fn signature(&mut self, data: Option<Text<'_>>, sink: &mut Sink<'_>) {
        if let Some(open) = self.open.as_mut().filter(|_| data.as_ref().is_some_and(|data| !data.is_empty()))
        {
            open.signed = true;
        }
        if let Some(data) = data.filter(|data| !data.is_empty() && *data != UNSIGNED) {
            self.delta(Delta::Signature(Signature { owner: Protocol::Anthropic, data }), sink);
        }
    }

    fn piece(&mut self, piece: Piece<'_>, sink: &mut Sink<'_>) {
        let Piece { kind, text, partial_json, thinking, signature, .. } = piece;
        let kind = kind.as_deref().unwrap_or_default();
        // Some servers send no `content_block_start` before text.
        match (kind, &self.open) {
            ("text_delta", None) => self.open(Kind::Text, PartHead::Text, sink),
            ("thinking_delta", None) => self.open(Kind::Thinking, PartHead::Reasoning, sink),
            _ => {}
        }
        let Some(open) = &mut self.open else { return };
        match (kind, open.kind) {
            ("text_delta", Kind::Text) => self.text(text, sink),
            ("thinking_delta", Kind::Thinking) => self.text(thinking, sink),
            ("signature_delta", Kind::Thinking) => self.signature(signature, sink),
            ("input_json_delta", Kind::Call | Kind::Json) => {
                let Some(json) = partial_json.filter(|json| !json.is_empty()) else { return };
                open.input = None;
                let delta = if open.kind == Kind::Json { Delta::Text(json) } else { Delta::Arguments(json) };
                self.delta(delta, sink);
            }
            ("input_json_delta", Kind::Other) => {
                if let Some(json) = partial_json.filter(|json| !json.is_empty()) {
                    sink(&StreamEvent::Beside(Beside::Text(json)));
                }
            }
            // Citations, pieces of blocks that are not shown, and what later versions add.
            _ => {}
        }
    }

    fn fail(&mut self, failure: ApiError, sink: &mut Sink<'_>) {
        if !std::mem::replace(&mut self.ended, true) {
            sink(&StreamEvent::Failed(failure));
        }
    }

    /// The protocol's end, or the end of bytes: whole if the reason of the end was told.
    fn end(&mut self, sink: &mut Sink<'_>) {
        if self.ended {
            return;
        }
        let Some(finish) = self.finish.take() else { return self.fail(ApiError::truncated(), sink) };
        self.close(sink);
        self.start(Text::default(), Text::default(), sink);
        if self.counts.seen {
            sink(&StreamEvent::Usage(self.counts.usage()));
        }
        let finish = if self.json { json_finish(finish) } else { finish };
        self.ended = true;
        sink(&StreamEvent::Finish(finish));
    }
}
