//! What of an answer every protocol can say: text, reasoning, tool calls, the class of its end, token totals.

use attache_protocol::codec::{Protocol, StreamDecoder, View};
use attache_protocol::error::ErrorKind;
use attache_protocol::event::{Delta, Grammar, PartHead, StreamEvent};
use attache_protocol::request::{Part, PartKind};
use attache_protocol::response::{FinishReason, Response, Usage};
use serde_json::Value;

/// The model that a view names where the provider named none.
pub const MODEL: &str = "some-model";

pub fn view(include_usage: bool, sse: bool) -> View {
    View { model: MODEL.to_owned(), now: 1_700_000_000, include_usage, sse }
}

/// Ends that are one to a client of any protocol: not each has a word for each.
#[derive(Clone, Copy, Debug, Default)]
pub enum End {
    #[default]
    None,
    /// Done; Gemini and OpenAI do not tell a matched stop sequence, Anthropic's pause is a stop elsewhere.
    Stop,
    Length,
    ToolCalls,
    /// A filter or the model itself declined.
    Withheld,
    /// Said in a part of its own kind: OpenAI then ends with `stop`, Anthropic in a refusal, Gemini knows neither.
    Refused,
    Other,
    Failed(ErrorKind),
}

impl PartialEq for End {
    fn eq(&self, other: &End) -> bool {
        match (self, other) {
            (End::Refused, End::Stop | End::Withheld) | (End::Stop | End::Withheld, End::Refused) => true,
            (End::Failed(one), End::Failed(other)) => one == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Text and refusals, in order: not every protocol keeps them apart.
    pub said: String,
    pub reasoning: String,
    /// Id, name, arguments (a JSON value, or the text where it is no JSON).
    pub calls: Vec<(String, String, Value)>,
    pub end: End,
    /// Input and output tokens; what is not said counts as none.
    pub tokens: (u64, u64),
}

pub fn end_of(reason: FinishReason) -> End {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence | FinishReason::Pause => End::Stop,
        FinishReason::Length => End::Length,
        FinishReason::ToolCalls => End::ToolCalls,
        FinishReason::ContentFilter | FinishReason::Refusal => End::Withheld,
        FinishReason::Other => End::Other,
    }
}

pub fn json_or_text(arguments: &str) -> Value {
    match arguments.trim() {
        "" => Value::Object(serde_json::Map::new()),
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(arguments.to_owned())),
    }
}

fn totals(usage: Option<&Usage>) -> (u64, u64) {
    usage.map_or((0, 0), |usage| (usage.input.unwrap_or(0), usage.output.unwrap_or(0)))
}

impl Content {
    pub fn of_response(response: &Response<'_>) -> Content {
        let mut content = Content {
            end: end_of(response.finish.reason),
            tokens: totals(response.usage.as_ref()),
            ..Content::default()
        };
        for part in &response.parts {
            content.add(part);
        }
        if response.parts.iter().any(|part| matches!(part.kind, PartKind::Refusal(_))) {
            content.end = End::Refused;
        }
        content
    }
    fn add(&mut self, part: &Part<'_>) {
        match &part.kind {
            PartKind::Text(text) | PartKind::Refusal(text) => self.said.push_str(text),
            PartKind::Reasoning { text, .. } => self.reasoning.push_str(text),
            PartKind::ToolCall { id, name, arguments } => {
                self.calls.push((id.to_string(), name.to_string(), json_or_text(arguments)));
            }
            PartKind::Media(_) | PartKind::ToolResult { .. } | PartKind::Foreign(_) => {}
        }
    }
    pub fn of_events(events: &[StreamEvent<'_>]) -> Content {
        let mut content = Content::default();
        let mut arguments = String::new();
        let mut head: Option<PartHead<'_>> = None;
        let mut refused = false;
        for event in events {
            match event {
                StreamEvent::Start { .. } | StreamEvent::Beside(_) => {}
                StreamEvent::PartStart { part, .. } => {
                    refused |= matches!(part, PartHead::Refusal);
                    head = Some(part.clone());
                }
                StreamEvent::Delta { delta: Delta::Text(text), .. } => match head {
                    Some(PartHead::Reasoning | PartHead::RedactedReasoning) => {
                        content.reasoning.push_str(text)
                    }
                    _ => content.said.push_str(text),
                },
                StreamEvent::Delta { delta: Delta::Arguments(text), .. } => arguments.push_str(text),
                StreamEvent::Delta { delta: Delta::Signature(_), .. } => {}
                StreamEvent::PartEnd { .. } => {
                    if let Some(PartHead::ToolCall { id, name }) = head.take() {
                        content.calls.push((id.to_string(), name.to_string(), json_or_text(&arguments)));
                    }
                    arguments.clear();
                }
                StreamEvent::Usage(usage) => content.tokens = totals(Some(usage)),
                StreamEvent::Finish(finish) => content.end = end_of(finish.reason),
                StreamEvent::Failed(error) => content.end = End::Failed(error.kind),
            }
        }
        if refused && content.end == End::Refused {
            content.end = End::Refused;
        }
        content
    }
}

/// Every event of a stream that comes in these pieces.
pub fn events_of<'p>(
    protocol: Protocol,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Vec<StreamEvent<'static>> {
    let mut decoder = protocol.codec().stream_decoder();
    events_from(decoder.as_mut(), pieces)
}

pub fn events_from<'p>(
    decoder: &mut dyn StreamDecoder,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Vec<StreamEvent<'static>> {
    let mut events = Vec::new();
    let mut sink = |event: &StreamEvent<'_>| events.push(event.clone().into_owned());
    for piece in pieces {
        decoder.push(piece, &mut sink);
    }
    decoder.end(&mut sink);
    events
}

/// Whether the events obey the grammar and come to an end.
pub fn grammar(events: &[StreamEvent<'_>]) -> Result<(), String> {
    let mut grammar = Grammar::default();
    for event in events {
        grammar.take(event)?;
    }
    match grammar.ended() {
        true => Ok(()),
        false => Err(format!("no end after {} events", events.len())),
    }
}

/// A client's stream of these events.
pub fn stream_of(protocol: Protocol, events: &[StreamEvent<'_>], view: &View) -> Vec<u8> {
    let mut encoder = protocol.codec().stream_encoder(view);
    let mut out = Vec::new();
    for event in events {
        encoder.event(event, &mut out);
    }
    out
}
