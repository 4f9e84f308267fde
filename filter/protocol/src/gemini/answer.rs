//! A whole answer of Gemini ↔ [`Response`], and what its chunks share with it: finish reasons, usage, call ids.

use serde::Deserialize;

use crate::codec::View;
use crate::error::{ApiError, body};
use crate::gemini::beside;
use crate::gemini::contents::{inline, is_foreign};
use crate::gemini::json::Json;
use crate::gemini::signature::{carried, uncarried};
use crate::gemini::wire::{self, Number, Word};
use crate::request::{Part, PartKind, Source, arguments_object};
use crate::response::{Finish, FinishReason, Response, ServiceTier, Usage};
use crate::text::{Raw, Text};
use crate::wire::Told;

/// What is read of a `GenerateContentResponse`; its other members concern nobody else.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer<'a> {
    #[serde(borrow)]
    pub candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow)]
    pub prompt_feedback: Option<PromptFeedback<'a>>,
    #[serde(borrow)]
    pub usage_metadata: Option<Told<UsageMetadata<'a>>>,
    #[serde(borrow)]
    pub model_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub response_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub error: Option<Raw<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate<'a> {
    #[serde(borrow)]
    pub content: Option<Content<'a>>,
    #[serde(borrow)]
    pub finish_reason: Option<Word<'a>>,
    #[serde(borrow)]
    finish_message: Option<Text<'a>>,
    pub index: Option<Number>,
}

#[derive(Debug, Deserialize)]
pub struct Content<'a> {
    #[serde(borrow)]
    pub parts: Option<Vec<wire::Part<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptFeedback<'a> {
    #[serde(borrow)]
    pub block_reason: Option<Word<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageMetadata<'a> {
    prompt_token_count: Option<Number>,
    tool_use_prompt_token_count: Option<Number>,
    cached_content_token_count: Option<Number>,
    candidates_token_count: Option<Number>,
    thoughts_token_count: Option<Number>,
    #[serde(borrow)]
    prompt_tokens_details: Option<Raw<'a>>,
    #[serde(borrow)]
    candidates_tokens_details: Option<Raw<'a>>,
    #[serde(borrow)]
    service_tier: Option<Raw<'a>>,
    #[serde(borrow)]
    traffic_type: Option<Raw<'a>>,
}

/// google-genai `types.ModalityTokenCount`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ByModality<'a> {
    #[serde(borrow)]
    modality: Option<Text<'a>>,
    token_count: Option<Number>,
}

/// Of the tokens those that are sound.
fn audio(details: Option<&Raw<'_>>) -> Option<u64> {
    let details = details?.read::<Vec<ByModality<'_>>>().ok()?;
    details.into_iter().find(|part| part.modality.as_deref() == Some("AUDIO"))?.token_count?.count()
}

/// The Gemini API's `serviceTier` (recorded; google-genai `types.ServiceTier`).
const TIERS: [(&str, ServiceTier); 3] =
    [("standard", ServiceTier::Standard), ("flex", ServiceTier::Flex), ("priority", ServiceTier::Priority)];
/// Vertex's `trafficType` (recorded; google-genai `types.TrafficType`).
const TRAFFIC: [(&str, ServiceTier); 4] = [
    ("PROVISIONED_THROUGHPUT", ServiceTier::Provisioned),
    ("ON_DEMAND", ServiceTier::Standard),
    ("ON_DEMAND_FLEX", ServiceTier::Flex),
    ("ON_DEMAND_PRIORITY", ServiceTier::Priority),
];

impl UsageMetadata<'_> {
    /// `promptTokenCount` includes what was cached; results of Gemini's own tools are counted beside it, and
    /// thoughts beside the candidates (google-genai `types.GenerateContentResponseUsageMetadata`).
    pub fn usage(&self) -> Usage {
        let count = |number: Option<Number>| number.and_then(Number::count);
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        let thoughts = count(self.thoughts_token_count);
        let tier = |raw: Option<&Raw<'_>>, table: &[(&str, ServiceTier)]| {
            ServiceTier::find(table, raw?.get().trim_matches('"'))
        };
        Usage {
            input: sum(count(self.prompt_token_count), count(self.tool_use_prompt_token_count)),
            cache_read: count(self.cached_content_token_count),
            cache_write: None,
            cache_write_hour: None,
            audio_input: audio(self.prompt_tokens_details.as_ref()),
            output: sum(count(self.candidates_token_count), thoughts),
            reasoning: thoughts,
            audio_output: audio(self.candidates_tokens_details.as_ref()),
            tier: tier(self.service_tier.as_ref(), &TIERS).or(tier(self.traffic_type.as_ref(), &TRAFFIC)),
        }
    }
}

use FinishReason as F;
/// `Candidate.FinishReason` (google-genai `types.FinishReason`; numbers: google.ai.generativelanguage v1beta).
const FINISH: &[(&str, i64, FinishReason)] = &[
    ("STOP", 1, F::Stop),
    ("MAX_TOKENS", 2, F::Length),
    ("SAFETY", 3, F::ContentFilter),
    ("OTHER", 5, F::Other),
    ("RECITATION", 4, F::ContentFilter),
    ("LANGUAGE", 6, F::Other),
    ("BLOCKLIST", 7, F::ContentFilter),
    ("PROHIBITED_CONTENT", 8, F::ContentFilter),
    ("SPII", 9, F::ContentFilter),
    ("IMAGE_SAFETY", 11, F::ContentFilter),
    ("IMAGE_PROHIBITED_CONTENT", UNNUMBERED, F::ContentFilter),
    ("IMAGE_RECITATION", UNNUMBERED, F::ContentFilter),
    ("IMAGE_OTHER", UNNUMBERED, F::Other),
    ("NO_IMAGE", UNNUMBERED, F::Other),
    ("ESCALATION", UNNUMBERED, F::ContentFilter),
    ("PUP_LIMITED_DISABLED", UNNUMBERED, F::ContentFilter),
    ("CONTINUATION", UNNUMBERED, F::Length),
    ("MODEL_ARMOR", UNNUMBERED, F::ContentFilter),
];
/// Not in the published protos.
const UNNUMBERED: i64 = i64::MIN;

/// Reasons that say that there is no answer: what the model made could not be read. Google's own client takes such a
/// stream for invalid and asks again (google-gemini/gemini-cli `geminiChat.ts`, `InvalidStreamError`).
const FAILED: &[(&str, i64, ())] = &[
    ("MALFORMED_FUNCTION_CALL", 10, ()),
    ("UNEXPECTED_TOOL_CALL", 12, ()),
    ("TOO_MANY_TOOL_CALLS", UNNUMBERED, ()),
    ("MISSING_THOUGHT_SIGNATURE", UNNUMBERED, ()),
    ("MALFORMED_RESPONSE", UNNUMBERED, ()),
];

/// A candidate that failed, in Gemini's words.
pub fn failure(candidate: &Candidate<'_>) -> Option<ApiError> {
    let (name, ..) = candidate.finish_reason.as_ref()?.find(FAILED)?;
    let words = candidate.finish_message.as_deref().unwrap_or_default();
    let colon = if words.is_empty() { "" } else { ": " };
    Some(ApiError::malformed(format_args!("it ended with {name}{colon}{words}")).with_code(name))
}

/// A finish reason and Gemini's word for it; `None`: the model has not finished.
pub fn finish(word: &Word<'_>) -> Option<(FinishReason, String)> {
    let unset = matches!(word, Word::Number(0))
        || matches!(word, Word::Name(name) if name == "FINISH_REASON_UNSPECIFIED");
    let known = word.find(FINISH).map(|(name, _, reason)| (*reason, (*name).to_owned()));
    (!unset).then(|| known.unwrap_or_else(|| (F::Other, word.to_string())))
}

/// Gemini's word for a reason: the very one it was, where it was Gemini's.
pub fn finish_word(finish: &Finish<'_>) -> &'static str {
    let reason = match finish.reason {
        F::ToolCalls | F::StopSequence => F::Stop,
        F::Refusal => F::ContentFilter,
        // The client may go on with another turn, but nothing of Gemini's says so.
        F::Pause => F::Other,
        reason @ (F::Stop | F::Length | F::ContentFilter | F::Other) => reason,
    };
    let same = |(name, _, known): &&(&str, i64, FinishReason)| {
        finish.raw.as_deref() == Some(name) && *known == reason
    };
    let first = |(_, _, known): &&(&str, i64, FinishReason)| *known == reason;
    FINISH.iter().find(same).or_else(|| FINISH.iter().find(first)).map_or("OTHER", |(name, _, _)| name)
}

/// Why the prompt was blocked: an answer without candidates that the content filter ended.
pub fn blocked(feedback: Option<&PromptFeedback<'_>>) -> Option<String> {
    feedback.and_then(|feedback| feedback.block_reason.as_ref()).map(Word::to_string)
}

/// Ids for calls without one: unique over turns by the response's id, of letters that every provider takes and
/// short enough for OpenAI's 40.
#[derive(Default)]
pub struct CallIds {
    answer: String,
    next: usize,
}

impl CallIds {
    /// `id`: the response's; `text`: what to tell it by where there is none.
    pub fn new(id: &str, text: &str) -> Self {
        let mut answer: String =
            id.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).take(28).collect();
        if answer.is_empty() {
            // FNV-1a, 64 bits.
            let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            answer = format!("{hash:016x}");
        }
        CallIds { answer, next: 0 }
    }
    pub fn take<'a>(&mut self, own: Option<Text<'a>>) -> Text<'a> {
        let made = || Text::from(format!("call_{}_{}", self.answer, self.next));
        let id = own.filter(|id| !id.is_empty()).unwrap_or_else(made);
        self.next += 1;
        id
    }
}

pub fn decode(text: &str) -> Result<Response<'_>, ApiError> {
    let answer: Answer<'_> = serde_json::from_str(text).map_err(|error| body::unreadable(text, &error))?;
    if answer.error.is_some() {
        return Err(body::read(None, text.as_bytes()));
    }
    let id = answer.response_id.unwrap_or_default();
    let model = answer.model_version.unwrap_or_default();
    let usage = answer.usage_metadata.as_ref().and_then(Told::get).map(UsageMetadata::usage);
    let mut candidates = answer.candidates.unwrap_or_default().into_iter();
    let Some(candidate) = candidates.next() else {
        let Some(raw) = blocked(answer.prompt_feedback.as_ref()) else {
            let nothing = || ApiError::malformed("there is no candidate in it");
            return Err(body::find(text).unwrap_or_else(nothing));
        };
        let finish = Finish { reason: F::ContentFilter, raw: Some(Text::from(raw)), stop_sequence: None };
        return Ok(Response { id, model, parts: Vec::new(), beside: Vec::new(), finish, usage });
    };
    if let Some(error) = failure(&candidate) {
        return Err(error);
    }
    let mut ids = CallIds::new(&id, text);
    let parts = candidate.content.and_then(|content| content.parts).unwrap_or_default();
    let parts: Vec<Part<'_>> = parts.into_iter().filter_map(|part| read_part(part, &mut ids)).collect();
    let calls = parts.iter().any(|part| matches!(part.kind, PartKind::ToolCall { .. }));
    let (reason, raw) = match candidate.finish_reason.as_ref().and_then(finish) {
        Some((F::Stop, raw)) if calls => (F::ToolCalls, Some(Text::from(raw))),
        Some((reason, raw)) => (reason, Some(Text::from(raw))),
        None => (F::Other, None),
    };
    let mut beside = Vec::new();
    parts.iter().for_each(|part| beside::shown(part.kind.clone(), &mut |one| beside.push(one)));
    let others = candidates.filter_map(|other| other.content?.parts).flatten();
    others.for_each(|part| beside::candidate(part, &mut |one| beside.push(one)));
    let finish = Finish { reason, raw, stop_sequence: None };
    Ok(Response { id, model, parts, beside, finish, usage })
}

/// A part of an answer; `None`: an empty one (Gemini 3 ends some answers with `{"text": ""}`).
pub fn read_part<'a>(part: wire::Part<'a>, ids: &mut CallIds) -> Option<Part<'a>> {
    if is_foreign(&part) {
        return Some(Part::new(PartKind::Foreign(Raw::of(&part))));
    }
    let (signature, redacted) = match part.thought_signature.clone().map(uncarried) {
        Some((signature, redacted)) => (Some(signature), redacted),
        None => (None, false),
    };
    let kind = match (part.function_call, part.inline_data, part.text) {
        (Some(call), _, _) => PartKind::ToolCall {
            id: ids.take(call.id),
            name: call.name.unwrap_or_default(),
            arguments: call.args.map_or(Text::borrowed("{}"), Raw::into_text),
        },
        (None, Some(blob), _) => PartKind::Media(inline(blob, String::new).ok()?),
        (None, None, text) => {
            let text = text.unwrap_or_default();
            if text.is_empty() && signature.is_none() {
                return None;
            }
            if part.thought == Some(true) {
                PartKind::Reasoning { text, redacted }
            } else {
                PartKind::Text(text)
            }
        }
    };
    Some(Part { signature, ..Part::new(kind) })
}

pub fn encode(response: &Response<'_>, view: &View) -> Vec<u8> {
    let Response { id, model, parts, beside: _, finish, usage } = response;
    let mut out = Vec::with_capacity(512);
    let mut json = Json::new(&mut out);
    json.open(b'{').key("candidates").open(b'[').open(b'{').key("content").open(b'{').key("parts").open(b'[');
    parts.iter().for_each(|part| write_part(part, &mut json));
    json.close(b']').key("role").str("model").close(b'}');
    json.key("finishReason").str(finish_word(finish)).key("index").show(0).close(b'}').close(b']');
    write_usage(usage.as_ref(), &mut json);
    json.key("modelVersion").str(if model.is_empty() { &view.model } else { model });
    json.key("responseId").str(id).close(b'}');
    out
}

fn write_part(part: &Part<'_>, json: &mut Json<'_>) {
    let redacted = matches!(part.kind, PartKind::Reasoning { redacted: true, .. });
    let start = json.out.len();
    json.open(b'{');
    match &part.kind {
        // A refusal is what the model says; Gemini has no other word for it.
        PartKind::Text(text) | PartKind::Refusal(text) => {
            json.key("text").str(text);
        }
        PartKind::Reasoning { text, .. } => {
            json.key("text").str(text).key("thought").show(true);
        }
        PartKind::ToolCall { id, name, arguments } => write_call(id, name, arguments, json),
        PartKind::Media(media) => match &media.source {
            Source::Inline { mime, base64 } => {
                json.key("inlineData")
                    .open(b'{')
                    .key("mimeType")
                    .str(mime)
                    .key("data")
                    .str(base64)
                    .close(b'}');
            }
            Source::Url { url, .. } | Source::File { id: url, .. } => {
                json.key("fileData").open(b'{').key("fileUri").str(url).close(b'}');
            }
            Source::Text(text) => {
                json.key("text").str(text);
            }
        },
        // Results do not stand in answers, and another owner's block says nothing to a Gemini client.
        PartKind::ToolResult { .. } | PartKind::Foreign(_) => {
            json.out.truncate(start);
            return;
        }
    }
    if let Some(signature) = &part.signature {
        json.key("thoughtSignature").str(&carried(signature, redacted));
    }
    json.close(b'}');
}

pub fn write_call(id: &str, name: &str, arguments: &str, json: &mut Json<'_>) {
    json.key("functionCall").open(b'{').key("id").str(id).key("name").str(name);
    json.key("args").raw(arguments_object(arguments).get()).close(b'}');
}

pub fn write_usage(usage: Option<&Usage>, json: &mut Json<'_>) {
    let Some(usage) = usage else { return };
    let Usage {
        input,
        cache_read,
        // Gemini does not count what was written to the cache.
        cache_write: _,
        cache_write_hour: _,
        audio_input,
        output,
        reasoning,
        audio_output,
        tier,
    } = usage;
    json.key("usageMetadata").open(b'{');
    let candidates = output.map(|output| output.saturating_sub(reasoning.unwrap_or(0)));
    let total = input.zip(*output).map(|(input, output)| input.saturating_add(output));
    let members = [
        ("promptTokenCount", *input),
        ("cachedContentTokenCount", *cache_read),
        ("candidatesTokenCount", candidates),
        ("thoughtsTokenCount", *reasoning),
        ("totalTokenCount", total),
    ];
    for (name, count) in members {
        if let Some(count) = count {
            json.key(name).show(count);
        }
    }
    for (name, audio) in [("promptTokensDetails", audio_input), ("candidatesTokensDetails", audio_output)] {
        if let Some(audio) = audio.filter(|audio| *audio > 0) {
            json.key(name).open(b'[').open(b'{').key("modality").str("AUDIO");
            json.key("tokenCount").show(audio).close(b'}').close(b']');
        }
    }
    if let Some(tier) = tier.and_then(|tier| tier.word(&TIERS)) {
        json.key("serviceTier").str(tier);
    } else if let Some(traffic) = tier.and_then(|tier| tier.word(&TRAFFIC)) {
        json.key("trafficType").str(traffic);
    }
    json.close(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(json: &str) -> Usage {
        serde_json::from_str::<UsageMetadata<'_>>(json).unwrap().usage()
    }

    #[test]
    fn tiers_and_sound() {
        let flex = usage(
            r#"{"promptTokenCount":9,"promptTokensDetails":[{"modality":"TEXT","tokenCount":2},{"modality":"AUDIO","tokenCount":7}],
            "candidatesTokensDetails":"odd","serviceTier":"flex"}"#,
        );
        assert_eq!((flex.audio_input, flex.audio_output), (Some(7), None));
        assert_eq!(flex.tier, Some(ServiceTier::Flex));
        let mut out = Vec::new();
        let mut json = Json::new(&mut out);
        write_usage(Some(&flex), json.open(b'{'));
        let written = String::from_utf8(out).unwrap();
        assert_eq!(
            written,
            r#"{"usageMetadata":{"promptTokenCount":9,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":7}],"serviceTier":"flex"}"#
        );
        assert_eq!(usage(r#"{"trafficType":"PROVISIONED_THROUGHPUT"}"#).tier, Some(ServiceTier::Provisioned));
        assert_eq!(usage(r#"{"trafficType":"ON_DEMAND_PRIORITY"}"#).tier, Some(ServiceTier::Priority));
        assert_eq!(usage(r#"{"serviceTier":5,"trafficType":"NEW"}"#).tier, None);
    }
}
