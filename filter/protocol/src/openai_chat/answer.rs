//! What providers answer, whole or chunk by chunk: one reading for both, forgiving about everything unasked for.
//!
//! Shapes: openai SDK `types/chat/chat_completion.py` and `chat_completion_chunk.py`, and what providers of the same
//! protocol were recorded to send beside or instead of it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::{Detail, ExtraContent};
use crate::request::{Part, PartKind, Signature};
use crate::response::{FinishReason, ServiceTier, Usage};
use crate::text::{Raw, Text, mend};
use crate::wire::{Count, Told};

/// A completion or a chunk.
#[derive(Deserialize)]
pub struct Answer<'a> {
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub model: Option<Text<'a>>,
    /// A number, as far as anybody asks.
    #[serde(borrow, default)]
    pub created: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    pub usage: Option<Told<WireUsage<'a>>>,
    /// A word, as far as anybody asks.
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
    /// Groq's own place for usage.
    #[serde(borrow, default)]
    pub x_groq: Option<Groq<'a>>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub struct Groq<'a> {
    #[serde(borrow, default)]
    pub usage: Option<Told<WireUsage<'a>>>,
}

#[derive(Deserialize)]
pub struct Choice<'a> {
    #[serde(default)]
    pub index: Option<u64>,
    #[serde(borrow, default)]
    pub message: Option<Said<'a>>,
    #[serde(borrow, default)]
    pub delta: Option<Said<'a>>,
    #[serde(borrow, default)]
    pub finish_reason: Option<Text<'a>>,
    /// OpenRouter tells of an upstream's failure here, with finish reason `error`.
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

/// A message, or a piece of one.
#[derive(Deserialize, Default)]
pub struct Said<'a> {
    /// A string; a list of blocks (Mistral); an object (Cloudflare's JSON mode).
    #[serde(borrow, default)]
    pub content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub refusal: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub reasoning_content: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow, default)]
    pub function_call: Option<CallFunction<'a>>,
    #[serde(borrow, default)]
    pub audio: Option<&'a RawValue>,
    /// Pictures that a model made (OpenRouter's image generation guide).
    #[serde(borrow, default)]
    pub images: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub struct Call<'a> {
    #[serde(default)]
    pub index: Option<u64>,
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub function: Option<CallFunction<'a>>,
    #[serde(borrow, default)]
    pub extra_content: Option<ExtraContent<'a>>,
}

#[derive(Deserialize)]
pub struct CallFunction<'a> {
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// A string; some servers write the object itself.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
}

impl<'a> CallFunction<'a> {
    pub fn arguments(&self) -> Text<'a> {
        self.arguments.map(string_or_json).unwrap_or_default()
    }
}

impl<'a> Said<'a> {
    /// Details of another shape than OpenRouter's are no reason to lose the answer.
    pub fn details(&self) -> Vec<Detail<'a>> {
        self.reasoning_details.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }
    /// The reasoning, under whichever name; OpenRouter says it twice, here and in the details.
    pub fn thought(&mut self) -> Option<Text<'a>> {
        self.reasoning_content.take().or_else(|| self.reasoning.take()).filter(|text| !text.is_empty())
    }
}

/// The text of a JSON string; any other value's JSON.
pub fn string_or_json(raw: &RawValue) -> Text<'_> {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| {
        let mended = mend(raw.get()).and_then(|json| serde_json::from_str::<String>(&json).ok());
        mended.map_or_else(|| Text::from(raw.get()), Text::from)
    })
}

/// A content block of Mistral's models.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
}

/// Content in all its forms, as parts. Nothing for the empty string.
pub fn content_parts(raw: &RawValue) -> Vec<Part<'_>> {
    let blocks = match raw.get().as_bytes().first() {
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(raw.get()).unwrap_or_default(),
        _ => {
            let text = string_or_json(raw);
            return if text.is_empty() { Vec::new() } else { vec![Part::text(text)] };
        }
    };
    blocks.into_iter().filter_map(block_part).collect()
}

fn block_part(raw: &RawValue) -> Option<Part<'_>> {
    let block: Block<'_> = serde_json::from_str(raw.get()).ok()?;
    let kind = match (block.kind.as_deref(), block.thinking) {
        (Some("text") | None, _) => PartKind::Text(block.text?),
        (Some("thinking"), Some(thinking)) => {
            PartKind::Reasoning { text: thinking_text(thinking), redacted: false }
        }
        _ => PartKind::Foreign(serde_json::from_str::<Raw<'_>>(raw.get()).ok()?),
    };
    let empty = match &kind {
        PartKind::Text(text) | PartKind::Reasoning { text, .. } => text.is_empty(),
        _ => false,
    };
    (!empty).then(|| Part::new(kind))
}

fn thinking_text(raw: &RawValue) -> Text<'_> {
    match serde_json::from_str::<Vec<Block<'_>>>(raw.get()) {
        Ok(blocks) => Text::from(blocks.iter().filter_map(|block| block.text.as_deref()).collect::<String>()),
        Err(_) => string_or_json(raw),
    }
}

/// A Gemini signature on a call.
pub fn call_signature<'a>(extra: Option<ExtraContent<'a>>) -> Option<Signature<'a>> {
    super::reasoning::of_call(extra).filter(|signature| !signature.data.is_empty())
}

#[derive(Deserialize)]
pub struct WireUsage<'a> {
    #[serde(default)]
    prompt_tokens: Option<Count>,
    #[serde(default)]
    completion_tokens: Option<Count>,
    #[serde(default)]
    total_tokens: Option<Count>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
    /// DeepSeek's counter, beside OpenAI's.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<Count>,
    /// Together and Hugging Face.
    #[serde(default)]
    cached_tokens: Option<Count>,
    /// Mistral.
    #[serde(default)]
    num_cached_tokens: Option<Count>,
    /// Databricks and others that serve Anthropic's models.
    #[serde(default)]
    cache_read_input_tokens: Option<Count>,
    #[serde(default)]
    cache_creation_input_tokens: Option<Count>,
    #[serde(default)]
    reasoning_tokens: Option<Count>,
    /// Mistral's place for it.
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<Count>,
    #[serde(default)]
    cache_write_tokens: Option<Count>,
    #[serde(default)]
    audio_tokens: Option<Count>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<Count>,
    #[serde(default)]
    audio_tokens: Option<Count>,
}

/// `service_tier` of answers; the first word of a tier is the one written. openai SDK `types/chat/chat_completion.py`
/// ("The response will show `service_tier=priority` regardless of if you specify `service_tier=fast` or `priority`"),
/// groq SDK `types/chat/chat_completion.py` (`on_demand`), mistralai SDK `models/usageinfo.py` ("standard or priority"),
/// LiteLLM 1.109.1 `types/utils.py` (`ultrafast`, "OpenAI ultrafast service tier pricing").
const TIERS: [(&str, ServiceTier); 8] = [
    ("default", ServiceTier::Standard),
    ("flex", ServiceTier::Flex),
    ("priority", ServiceTier::Priority),
    ("ultrafast", ServiceTier::Fast),
    ("scale", ServiceTier::Provisioned),
    ("on_demand", ServiceTier::Standard),
    ("standard", ServiceTier::Standard),
    ("fast", ServiceTier::Priority),
];

fn tier(raw: Option<&RawValue>) -> Option<ServiceTier> {
    ServiceTier::find(&TIERS, raw?.get().trim_matches('"'))
}

pub fn tier_word(usage: &Usage) -> Option<&'static str> {
    usage.tier?.word(&TIERS)
}

impl WireUsage<'_> {
    pub fn usage(&self) -> Usage {
        let count = |count: Option<Count>| count.map(|count| count.0);
        let prompt = self.prompt_tokens_details.as_ref();
        let read = prompt
            .and_then(|details| details.cached_tokens)
            .or(self.prompt_cache_hit_tokens)
            .or(self.cached_tokens)
            .or(self.num_cached_tokens)
            .or(self.cache_read_input_tokens);
        let written =
            prompt.and_then(|details| details.cache_write_tokens).or(self.cache_creation_input_tokens);
        let details = self.completion_tokens_details.as_ref();
        let reasoning = count(details.and_then(|details| details.reasoning_tokens).or(self.reasoning_tokens));
        let (input, output) = (count(self.prompt_tokens), count(self.completion_tokens));
        // xAI leaves reasoning out of `completion_tokens`, and its total shows it; Vercel's gateway may leave it out of
        // both, and then there is more reasoning than output.
        let apart = match (input, output, reasoning, count(self.total_tokens)) {
            (Some(input), Some(output), Some(reasoning), Some(total)) => {
                reasoning > output
                    || [output, reasoning].into_iter().try_fold(input, u64::checked_add) == Some(total)
            }
            _ => false,
        };
        Usage {
            input,
            cache_read: count(read),
            cache_write: count(written),
            cache_write_hour: None,
            audio_input: count(prompt.and_then(|details| details.audio_tokens)),
            output: if apart {
                output.map(|output| output.saturating_add(reasoning.unwrap_or(0)))
            } else {
                output
            },
            reasoning,
            audio_output: count(details.and_then(|details| details.audio_tokens)),
            tier: tier(self.service_tier),
        }
    }
}

impl Answer<'_> {
    /// The usage that this answer or chunk tells; empty where it tells none.
    pub fn usage(&self) -> Usage {
        let wire = self.usage.as_ref().or_else(|| self.x_groq.as_ref()?.usage.as_ref());
        let usage = wire.and_then(Told::get).map(WireUsage::usage).unwrap_or_default();
        Usage { tier: tier(self.service_tier).or(usage.tier), ..usage }
    }
}

/// Finish reasons, both ways: the first word of a reason is the one that is written. What OpenAI has no word for is
/// written as the nearest: `content_filter` where the answer was withheld, else `stop`.
const FINISH: [(FinishReason, &str); 15] = [
    (FinishReason::Stop, "stop"),
    (FinishReason::Stop, "eos"), // Together
    (FinishReason::Stop, "end_turn"),
    (FinishReason::StopSequence, "stop"),
    (FinishReason::StopSequence, "stop_sequence"),
    (FinishReason::Length, "length"),
    (FinishReason::Length, "max_tokens"),
    (FinishReason::Length, "model_length"), // Mistral
    (FinishReason::ToolCalls, "tool_calls"),
    (FinishReason::ToolCalls, "tool_call"),     // Azure AI
    (FinishReason::ToolCalls, "function_call"), // OpenAI in 2023
    (FinishReason::ContentFilter, "content_filter"),
    (FinishReason::Refusal, "content_filter"),
    (FinishReason::Pause, "stop"),
    (FinishReason::Other, "stop"),
];

/// The reason for a word. OpenAI itself says `stop` where the call was forced by `tool_choice`.
pub fn finish_reason(word: &str, calls: bool) -> FinishReason {
    match FINISH.iter().find(|(_, known)| *known == word) {
        Some((FinishReason::Stop, _)) if calls => FinishReason::ToolCalls,
        Some((reason, _)) => *reason,
        None => FinishReason::Other,
    }
}

/// The word for a reason. An answer with tool calls that just ended is `tool_calls` to OpenAI's clients.
pub fn finish_word(reason: FinishReason, calls: bool) -> &'static str {
    match FINISH.iter().find(|(known, _)| *known == reason) {
        Some((_, "stop")) if calls => "tool_calls",
        Some((_, word)) => word,
        None => "stop",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(json: &str) -> Usage {
        serde_json::from_str::<WireUsage>(json).unwrap().usage()
    }

    #[test]
    fn counts_of_all_kinds() {
        let plain = usage(
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,
            "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}"#,
        );
        let expected = Usage {
            input: Some(10),
            cache_read: Some(4),
            output: Some(5),
            reasoning: Some(3),
            ..Usage::default()
        };
        assert_eq!(plain, expected);
        let sound = usage(
            r#"{"prompt_tokens_details":{"audio_tokens":4},"completion_tokens_details":{"audio_tokens":9},"service_tier":"priority"}"#,
        );
        assert_eq!((sound.audio_input, sound.audio_output), (Some(4), Some(9)));
        assert_eq!((sound.tier, tier_word(&sound)), (Some(ServiceTier::Priority), Some("priority")));
        assert_eq!(usage(r#"{"service_tier":{"new":1}}"#).tier, None);
        let xai = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":18,"completion_tokens_details":{"reasoning_tokens":3}}"#;
        assert_eq!(usage(xai).output, Some(8));
        assert_eq!(
            usage(r#"{"prompt_cache_hit_tokens":7.0,"prompt_tokens_details":null}"#).cache_read,
            Some(7)
        );
        assert!(usage("{}").is_empty());
    }

    #[test]
    fn finish_reasons_both_ways() {
        for (reason, word) in [
            (FinishReason::Stop, "stop"),
            (FinishReason::Length, "length"),
            (FinishReason::ToolCalls, "tool_calls"),
            (FinishReason::ContentFilter, "content_filter"),
        ] {
            assert_eq!(finish_reason(word, false), reason);
            assert_eq!(finish_word(reason, false), word);
        }
        assert_eq!(finish_reason("eos", false), FinishReason::Stop);
        assert_eq!(finish_reason("new", true), FinishReason::Other);
        assert_eq!(finish_word(FinishReason::Stop, true), "tool_calls");
        assert_eq!(finish_word(FinishReason::Refusal, false), "content_filter");
    }

    #[test]
    fn content_of_all_kinds() {
        let parts = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            content_parts(&raw).into_iter().map(|part| format!("{:?}", part.kind)).collect::<Vec<_>>()
        };
        assert_eq!(parts(r#""""#), Vec::<String>::new());
        assert_eq!(parts(r#""a\nb""#), [r#"Text("a\nb")"#]);
        assert_eq!(parts(r#"{"a": 1}"#), [r#"Text("{\"a\": 1}")"#]);
        let mistral = r#"[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"so"},
            {"type":"reference","reference_ids":[1]}]"#;
        assert_eq!(parts(mistral).len(), 3);
        assert!(parts(mistral)[0].contains("hm"));
    }
}
