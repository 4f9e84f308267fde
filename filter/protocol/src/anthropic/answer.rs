//! Whole answers both ways, and the two tables they share with streams: finish reasons and token counts.

use serde::Serialize;

use super::JSON_TOOL;
use super::decode::{Place, part};
use super::wire::{Answer, Block, Counts};
use crate::codec::{Protocol, View};
use crate::error::{ApiError, body};
use crate::event::Beside;
use crate::request::{At, Part, PartKind, Signature, UNSIGNED, arguments_object};
use crate::response::{Finish, FinishReason, Response, ServiceTier, Usage};
use crate::text::{Raw, Text};
use crate::wire::{Count, Told};

/// `stop_reason` (SDK `stop_reason.py`). Read top down, the first word of a reason is the one written: Anthropic
/// has no word for a filtered answer but `refusal`.
const FINISHES: [(&str, FinishReason); 9] = [
    ("end_turn", FinishReason::Stop),
    ("stop_sequence", FinishReason::StopSequence),
    ("max_tokens", FinishReason::Length),
    ("model_context_window_exceeded", FinishReason::Length),
    ("tool_use", FinishReason::ToolCalls),
    ("refusal", FinishReason::Refusal),
    ("pause_turn", FinishReason::Pause),
    ("refusal", FinishReason::ContentFilter),
    ("end_turn", FinishReason::Other),
];

/// Anthropic's word → the reason; `None` (some servers leave it out) and words of the future are `Other`.
pub fn finish<'a>(stop_reason: Option<Text<'a>>, stop_sequence: Option<Text<'a>>) -> Finish<'a> {
    let known = FINISHES.iter().find(|(word, _)| stop_reason.as_deref() == Some(word));
    let reason = known.map_or(FinishReason::Other, |(_, reason)| *reason);
    Finish { reason, raw: stop_reason, stop_sequence }
}

/// The word for the client. `refused`: the answer holds a refusal, which Anthropic tells by the stop reason only.
pub fn stop_reason(finish: &Finish<'_>, refused: bool) -> &'static str {
    if refused && matches!(finish.reason, FinishReason::Stop | FinishReason::Other) {
        return "refusal";
    }
    let own = FINISHES
        .iter()
        .find(|(word, reason)| finish.raw.as_deref() == Some(word) && *reason == finish.reason);
    own.or_else(|| FINISHES.iter().find(|(_, reason)| *reason == finish.reason))
        .map_or("end_turn", |(word, _)| *word)
}

/// Anthropic counts cached tokens beside `input_tokens`, not in it (SDK `usage.py`).
pub fn usage(counts: &Counts<'_>) -> Usage {
    let count = |count: Option<Count>| count.map(|Count(count)| count);
    let (read, written) = (count(counts.cache_read_input_tokens), count(counts.cache_creation_input_tokens));
    let hour = count(counts.cache_creation.as_ref().and_then(|by_time| by_time.hour));
    Usage {
        input: count(counts.input_tokens)
            .map(|fresh| fresh.saturating_add(read.unwrap_or(0)).saturating_add(written.unwrap_or(0))),
        cache_read: read,
        cache_write: written,
        cache_write_hour: hour,
        audio_input: None,
        output: count(counts.output_tokens),
        reasoning: count(counts.output_tokens_details.as_ref().and_then(|details| details.thinking_tokens)),
        audio_output: None,
        tier: tier(counts),
    }
}

/// `service_tier` (SDK `usage.py`: "If the request used the priority, standard, or batch tier").
const TIERS: [(&str, ServiceTier); 3] =
    [("standard", ServiceTier::Standard), ("priority", ServiceTier::Priority), ("batch", ServiceTier::Batch)];

/// `speed` beside it (SDK `usage.py`: "The inference speed mode used for this request") has a price of its own.
pub fn tier(counts: &Counts<'_>) -> Option<ServiceTier> {
    let fast = counts.speed.as_ref().is_some_and(|speed| speed.get() == "\"fast\"");
    let word = |raw: &Raw<'_>| ServiceTier::find(&TIERS, raw.get().trim_matches('"'));
    if fast { Some(ServiceTier::Fast) } else { counts.service_tier.as_ref().and_then(word) }
}

/// The same the other way. `input_tokens` and `output_tokens` are always there: clients read them unasked.
#[derive(Serialize)]
pub struct ShownUsage {
    input_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read_input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation: Option<ShownCreation>,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<ShownDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<&'static str>,
}
#[derive(Serialize)]
struct ShownDetails {
    thinking_tokens: u64,
}
#[derive(Serialize)]
struct ShownCreation {
    ephemeral_5m_input_tokens: u64,
    ephemeral_1h_input_tokens: u64,
}

impl ShownUsage {
    pub fn of(usage: &Usage) -> Self {
        let Usage {
            input,
            cache_read,
            cache_write,
            cache_write_hour,
            // Anthropic has no counts of sound.
            audio_input: _,
            output,
            reasoning,
            audio_output: _,
            tier,
        } = *usage;
        let cached = cache_read.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
        ShownUsage {
            input_tokens: input.unwrap_or(0).saturating_sub(cached),
            cache_creation_input_tokens: cache_write,
            cache_read_input_tokens: cache_read,
            cache_creation: cache_write_hour.map(|hour| ShownCreation {
                ephemeral_5m_input_tokens: cache_write.unwrap_or(0).saturating_sub(hour),
                ephemeral_1h_input_tokens: hour,
            }),
            output_tokens: output.unwrap_or(0),
            output_tokens_details: reasoning.map(|thinking_tokens| ShownDetails { thinking_tokens }),
            service_tier: tier.and_then(|tier| tier.word(&TIERS)),
            speed: (tier == Some(ServiceTier::Fast)).then_some("fast"),
        }
    }
}

/// Blocks in which the model calls a tool that Anthropic runs (SDK `server_tool_use_block.py`, `beta_mcp_tool_use_block.py`).
pub const SERVER_CALLS: [&str; 2] = ["server_tool_use", "mcp_tool_use"];

/// What only Anthropic's clients see of a block.
fn beside<'a>(block: &Block<'a>, beside: &mut Vec<Beside<'a>>) {
    if SERVER_CALLS.iter().any(|kind| block.is(kind)) {
        beside.push(Beside::Call(block.name.clone().unwrap_or_default()));
        beside.extend(block.input.clone().map(|input| Beside::Text(input.into_text())));
    }
}

pub fn decode<'a>(text: &'a str) -> Result<Response<'a>, ApiError> {
    let answer: Answer<'a> = serde_json::from_str(text).map_err(|why| body::unreadable(text, &why))?;
    let Answer {
        kind, id, model, content, stop_reason, stop_sequence, usage: counts, error: failure, ..
    } = answer;
    if failure.is_some() || kind.as_deref() == Some("error") {
        return Err(body::read(None, text.as_bytes()));
    }
    let missing = || body::find(text).unwrap_or_else(|| ApiError::malformed("`content` is missing"));
    let blocks = content.ok_or_else(missing)?;
    let mut parts = Vec::with_capacity(blocks.len());
    let (mut answered, mut beside) = (false, Vec::new());
    for block in blocks {
        self::beside(&block, &mut beside);
        let place = Place { at: At::default(), inner: None };
        let read = part(block, &place)
            .map_err(|fault| ApiError::malformed(format_args!("content: {}", fault.reason)))?;
        parts.push(match read {
            Part { kind: PartKind::ToolCall { name, arguments, .. }, .. } if name == JSON_TOOL => {
                answered = true;
                Part::text(arguments)
            }
            part => part,
        });
    }
    let mut finish = finish(stop_reason, stop_sequence);
    if answered {
        finish = json_finish(finish);
    }
    Ok(Response {
        id: id.unwrap_or_default(),
        model: model.unwrap_or_default(),
        parts,
        beside,
        finish,
        usage: counts.as_ref().and_then(Told::get).map(usage),
    })
}

/// The call of the tool that stands for JSON mode is the answer, so calling it is its end.
pub fn json_finish(finish: Finish<'_>) -> Finish<'_> {
    match finish.reason {
        FinishReason::ToolCalls => Finish { raw: None, ..Finish::of(FinishReason::Stop) },
        _ => finish,
    }
}

#[derive(Serialize)]
struct Shown<'s> {
    id: &'s str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'s str,
    content: Vec<Block<'s>>,
    stop_reason: &'static str,
    stop_sequence: Option<&'s str>,
    usage: ShownUsage,
}

pub fn encode(response: &Response<'_>, view: &View) -> Vec<u8> {
    let Response { id, model, parts, beside: _, finish, usage } = response;
    let mut content = Vec::with_capacity(parts.len());
    for part in parts {
        show(part, &mut content);
    }
    let refused = parts.iter().any(|part| matches!(part.kind, PartKind::Refusal(_)));
    let id = shown_id(id, view);
    let shown = Shown {
        id: &id,
        kind: "message",
        role: "assistant",
        model: if model.is_empty() { &view.model } else { model },
        content,
        stop_reason: stop_reason(finish, refused),
        stop_sequence: finish.stop_sequence.as_deref(),
        usage: ShownUsage::of(&usage.unwrap_or_default()),
    };
    serde_json::to_vec(&shown).unwrap_or_default()
}

/// The provider's id as it is (people look answers up by it), or one made where there is none.
pub fn shown_id<'s>(id: &'s str, view: &View) -> Text<'s> {
    if id.is_empty() { Text::from(format!("msg_{:x}", view.now)) } else { Text::borrowed(id) }
}

/// A part as content blocks. Foreign parts are of another protocol here (an answer of this one is relayed as it
/// came) and a client would not know them.
fn show<'s>(part: &'s Part<'_>, content: &mut Vec<Block<'s>>) {
    let Part { kind, signature, at: _, extras: _ } = part;
    match kind {
        PartKind::Text(text) if text.is_empty() => {}
        PartKind::Text(text) | PartKind::Refusal(text) => content.push(Block::text(text.reborrow())),
        PartKind::Reasoning { text, redacted } => {
            let mut block = thinking(text, *redacted, signature.as_ref());
            if signature.is_none() {
                block.signature = Some(Text::borrowed(UNSIGNED));
            }
            content.push(block);
            return;
        }
        PartKind::ToolCall { id, name, arguments } => content.push(Block {
            id: Some(id.reborrow()),
            name: Some(name.reborrow()),
            input: Some(arguments_object(arguments)),
            ..Block::of("tool_use")
        }),
        PartKind::Media(_) | PartKind::ToolResult { .. } | PartKind::Foreign(_) => return,
    }
    // Gemini signs text and calls, where Anthropic has no place for a signature: an empty thinking block after
    // the part carries it, and `decode.rs` joins it again when the client sends it back.
    if signature.is_some() {
        content.push(thinking("", false, signature.as_ref()));
    }
}

/// A thinking block. Only Anthropic's own data is redacted thinking to a client of Anthropic.
pub fn thinking<'s>(text: &'s str, redacted: bool, signature: Option<&'s Signature<'_>>) -> Block<'s> {
    let carried = signature.map(|signature| signature.carried(Protocol::Anthropic)).unwrap_or_default();
    match signature {
        Some(Signature { owner: Protocol::Anthropic, .. }) if redacted => {
            Block { data: Some(carried), ..Block::of("redacted_thinking") }
        }
        _ => {
            Block { thinking: Some(Text::borrowed(text)), signature: Some(carried), ..Block::of("thinking") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_are_part_of_the_input_here_and_beside_it_there() {
        let body = r#"{"type":"message","id":"msg_1","role":"assistant","model":"claude","content":[{"type":"text","text":"hi"}],
            "stop_reason":"model_context_window_exceeded","stop_sequence":null,
            "usage":{"input_tokens":3,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":2,
            "cache_creation":{"ephemeral_1h_input_tokens":4,"ephemeral_5m_input_tokens":1},"service_tier":"priority",
            "output_tokens_details":{"thinking_tokens":1}}}"#;
        let response = decode(body).unwrap();
        let usage = Usage {
            input: Some(15),
            cache_read: Some(7),
            cache_write: Some(5),
            cache_write_hour: Some(4),
            output: Some(2),
            reasoning: Some(1),
            tier: Some(ServiceTier::Priority),
            ..Usage::default()
        };
        assert_eq!(response.usage, Some(usage));
        assert_eq!(response.finish.reason, FinishReason::Length);
        let shown = String::from_utf8(encode(&response, &View::default())).unwrap();
        assert_eq!(
            shown,
            r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[{"type":"text","text":"hi"}],"stop_reason":"model_context_window_exceeded","stop_sequence":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":1,"ephemeral_1h_input_tokens":4},"output_tokens":2,"output_tokens_details":{"thinking_tokens":1},"service_tier":"priority"}}"#
        );
        let fast =
            body.replace(r#""service_tier":"priority""#, r#""service_tier":"standard","speed":"fast""#);
        let response = decode(&fast).unwrap();
        assert_eq!(response.usage.unwrap().tier, Some(ServiceTier::Fast));
        let shown = String::from_utf8(encode(&response, &View::default())).unwrap();
        assert!(shown.ends_with(r#","speed":"fast"}}"#), "{shown}");
    }

    #[test]
    fn json_mode_answers_by_its_tool() {
        let body = format!(
            r#"{{"content":[{{"type":"tool_use","id":"t","name":"{JSON_TOOL}","input":{{"b":1}}}}],"stop_reason":"tool_use"}}"#
        );
        let response = decode(&body).unwrap();
        assert_eq!(response.parts, [Part::text(r#"{"b":1}"#)]);
        assert_eq!(response.finish, Finish::of(FinishReason::Stop));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        use crate::error::ErrorKind;
        assert_eq!(decode("<html>").unwrap_err().kind, ErrorKind::Malformed);
        assert_eq!(decode("{}").unwrap_err().kind, ErrorKind::Malformed);
        let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(decode(overloaded).unwrap_err().kind, ErrorKind::Overloaded);
    }

    #[test]
    fn a_refusal_is_text_with_its_stop_reason() {
        let refusal = Part::new(PartKind::Refusal("no".into()));
        let response = Response {
            id: "x".into(),
            model: "".into(),
            parts: vec![refusal],
            beside: Vec::new(),
            finish: Finish::of(FinishReason::Stop),
            usage: None,
        };
        let shown =
            String::from_utf8(encode(&response, &View { model: "m".into(), ..View::default() })).unwrap();
        assert!(shown.contains(r#""text":"no""#) && shown.contains(r#""stop_reason":"refusal""#), "{shown}");
        assert!(shown.contains(r#""model":"m""#) && shown.contains(r#""output_tokens":0"#), "{shown}");
    }
}
