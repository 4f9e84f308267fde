//! Reasoning and signatures in an assistant message: `reasoning_content` and `reasoning_details` ↔ parts.
//!
//! OpenAI has no member for either. Readers know `reasoning_content` (DeepSeek and most others), `reasoning`
//! (Groq, Ollama) and OpenRouter's `reasoning_details[]`: `reasoning.text` with `text` and `signature`,
//! `reasoning.encrypted` with `data`. To OpenAI clients Attaché writes all reasoning as `reasoning_content`, and
//! details only where a signature needs a place. Such an entry does not repeat its text; its `length` says how many
//! bytes of `reasoning_content` are its own, so that a client that echoes the message gives every block back whole.
//! Each has an `index`: the openai SDK adds up a stream's lists by it, and raises where an entry has none
//! (`lib/streaming/_deltas.py`).

use super::json::List;
use super::message_decode::{DETAILS, REASONING};
use super::wire::{Detail, ExtraContent};
use crate::codec::Protocol;
use crate::request::{At, Part, PartKind, Signature};
use crate::text::Text;

const OWN: Protocol = Protocol::OpenAiChat;
/// The least budget of reasoning, which the output limit must exceed: "used directly with a minimum of 1024 tokens",
/// "max_tokens must be strictly higher than the reasoning budget" (openrouter.ai, "Reasoning tokens").
pub const LEAST_BUDGET: u64 = 1024;

/// Marks an entry whose data signs the message's text (Gemini signs any part).
const TEXT_SIGNATURE: &str = "attache-text";

/// What an assistant message says of reasoning.
#[derive(Default)]
pub struct Reasoned<'a> {
    pub parts: Vec<Part<'a>>,
    /// The signature of the message's last text part.
    pub of_text: Option<Signature<'a>>,
}

/// Reads the two members. Where the entries hold the text themselves (OpenRouter repeats it in both), they count.
pub fn read<'a>(content: Option<Text<'a>>, details: Vec<Detail<'a>>) -> Reasoned<'a> {
    let mut rest = content.unwrap_or_default();
    let speaks = |text: &Option<Text<'_>>| text.as_ref().is_some_and(|text| !text.is_empty());
    if details.iter().any(|detail| speaks(&detail.text) || speaks(&detail.summary)) {
        rest = Text::default();
    }
    let mut found = Reasoned::default();
    let mut texts = 0;
    for (k, detail) in (0u32..).zip(details) {
        let sealed = detail.data.filter(|data| !data.is_empty());
        if sealed.is_some() && detail.id.as_deref() == Some(TEXT_SIGNATURE) {
            found.of_text = sealed.map(|data| Signature::uncarried(data, OWN));
            continue;
        }
        let mut extras = detail.extras;
        if let Some(id) = detail.id {
            extras.0.push((Text::from("id"), crate::text::Raw::of(&id)));
        }
        let (text, redacted, signature) = match sealed {
            Some(data) => (Text::default(), true, Some(data)),
            None => {
                texts += 1;
                let own = detail.text.filter(|text| !text.is_empty()).or(detail.summary);
                (own.unwrap_or_else(|| cut(&mut rest, detail.length)), false, detail.signature)
            }
        };
        let signature = signature.filter(|data| !data.is_empty()).map(|data| Signature::uncarried(data, OWN));
        if signature.is_some() || !text.is_empty() {
            let at = At { part: DETAILS + k, ..At::default() };
            found.parts.push(Part {
                signature,
                extras,
                at,
                ..Part::new(PartKind::Reasoning { text, redacted })
            });
        }
    }
    if !rest.is_empty() {
        let place = if texts == 0 { 0 } else { found.parts.len() };
        let at = At { part: REASONING, ..At::default() };
        let kind = PartKind::Reasoning { text: rest, redacted: false };
        found.parts.insert(place, Part { at, ..Part::new(kind) });
    }
    found
}

/// Takes the first `length` bytes; all of it where no length is said or it does not fit the text.
fn cut<'a>(rest: &mut Text<'a>, length: Option<u64>) -> Text<'a> {
    let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
    match rest.get(..length) {
        Some(head) => {
            let head = Text::from(head.to_owned());
            *rest = std::mem::take(rest).skip(length);
            head
        }
        None => std::mem::take(rest),
    }
}

/// The text of all reasoning, if there is any.
pub fn joined<'p>(parts: &'p [Part<'_>]) -> Option<Text<'p>> {
    let mut texts = parts.iter().filter_map(|part| match &part.kind {
        PartKind::Reasoning { text, .. } if !text.is_empty() => Some(&**text),
        _ => None,
    });
    let first = texts.next()?;
    match texts.next() {
        None => Some(Text::from(first)),
        Some(second) => Some(Text::from(texts.fold(format!("{first}{second}"), |all, text| all + text))),
    }
}

/// Whether a signature needs `reasoning_details`.
pub fn signed(parts: &[Part<'_>]) -> bool {
    parts.iter().any(|part| {
        part.signature.is_some() && matches!(part.kind, PartKind::Reasoning { .. } | PartKind::Text(_))
    })
}

/// One entry of an answer's `reasoning_details`: `length` bytes of `reasoning_content` belong to it.
pub fn entry(
    list: &mut List<'_>,
    index: u32,
    length: usize,
    redacted: bool,
    signature: Option<&Signature<'_>>,
) {
    let mut object = list.object();
    object.set("type", if redacted { "reasoning.encrypted" } else { "reasoning.text" });
    object.set("index", &index);
    if !redacted {
        object.set("length", &length);
    }
    let place = if redacted { "data" } else { "signature" };
    object.set_some(place, signature.map(|signature| signature.carried(OWN)));
    object.close();
}

/// The entry that holds the signature of the text.
pub fn text_entry(list: &mut List<'_>, index: u32, signature: &Signature<'_>) {
    let mut object = list.object();
    object.set("type", "reasoning.encrypted");
    object.set("index", &index);
    object.set("id", TEXT_SIGNATURE);
    object.set("data", &signature.carried(OWN));
    object.close();
}

/// `reasoning_details` of a whole answer.
pub fn write(list: &mut List<'_>, parts: &[Part<'_>]) {
    let mut index = 0;
    for part in parts {
        match (&part.kind, &part.signature) {
            (PartKind::Reasoning { text, redacted }, signature) => {
                entry(list, index, text.len(), *redacted, signature.as_ref())
            }
            (PartKind::Text(_), Some(signature)) => text_entry(list, index, signature),
            _ => continue,
        }
        index += 1;
    }
}

/// `reasoning_details` of an earlier turn, for a provider that takes them back: OpenRouter's form, with the text.
/// `own`: the entries came in this protocol and keep their other members.
pub fn write_back(list: &mut List<'_>, parts: &[Part<'_>], own: bool) {
    let mut index = 0;
    for part in parts {
        let carried = part.signature.as_ref().filter(|signature| own || signature.owner == OWN);
        match &part.kind {
            PartKind::Reasoning { text, redacted } if carried.is_some() || !text.is_empty() => {
                let mut object = list.object();
                object.set("type", if *redacted { "reasoning.encrypted" } else { "reasoning.text" });
                object.set("index", &index);
                if !redacted {
                    object.set("text", text);
                }
                let place = if *redacted { "data" } else { "signature" };
                object.set_some(place, carried.map(|signature| signature.carried(OWN)));
                if own {
                    object.extras(&part.extras, "");
                }
                object.close();
            }
            PartKind::Text(_) if own => match &part.signature {
                Some(signature) => text_entry(list, index, signature),
                None => continue,
            },
            _ => continue,
        }
        index += 1;
    }
}

/// Gemini's signature of a tool call.
pub fn of_call<'a>(extra: Option<ExtraContent<'a>>) -> Option<Signature<'a>> {
    let data = extra?.google?.thought_signature?;
    Some(Signature::uncarried(data, Protocol::Gemini))
}

/// Writes a call's signature, where Google's OpenAI-compatible endpoint has it.
pub fn write_call(call: &mut super::json::Object<'_>, signature: &Signature<'_>) {
    let mut extra = call.object("extra_content");
    let mut google = extra.object("google");
    google.set("thought_signature", &signature.carried(Protocol::Gemini));
    google.close();
    extra.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasoning(text: &str, signature: Option<(Protocol, &'static str)>) -> Part<'static> {
        let signature = signature.map(|(owner, data)| Signature { owner, data: data.into() });
        let kind = PartKind::Reasoning { text: Text::from(text.to_owned()), redacted: false };
        Part { signature, ..Part::new(kind) }
    }

    #[test]
    fn signatures_survive_a_client_that_echoes() {
        let redacted = Part {
            signature: Some(Signature { owner: Protocol::Anthropic, data: "sealed".into() }),
            ..Part::new(PartKind::Reasoning { text: Text::default(), redacted: true })
        };
        let mut text = Part::text("answer");
        text.signature = Some(Signature { owner: Protocol::Gemini, data: "t".into() });
        let parts = [
            reasoning("first é", Some((Protocol::Anthropic, "a"))),
            redacted,
            reasoning("unsigned", None),
            reasoning("third", Some((Protocol::OpenAiChat, "b"))),
            text,
        ];
        let mut json = Vec::new();
        let mut list = List::open(&mut json);
        write(&mut list, &parts);
        list.close();
        let json = String::from_utf8(json).unwrap();
        let details: Vec<Detail<'_>> = serde_json::from_str(&json).unwrap();
        let mut found = read(joined(&parts), details);
        let places: Vec<u32> = found.parts.iter().map(|part| part.at.part - DETAILS).collect();
        assert_eq!(places, [0, 1, 2, 3]);
        found.parts.iter_mut().for_each(|part| part.at = At::default());
        assert_eq!(found.parts, parts[..4]);
        assert_eq!(found.of_text, parts[4].signature);
    }

    #[test]
    fn entries_with_text_count_before_the_plain_member() {
        let details = r#"[{"type":"reasoning.text","text":"abc","signature":"s","index":0}]"#;
        let found = read(Some("abc".into()), serde_json::from_str(details).unwrap());
        assert_eq!(found.parts.len(), 1);
        assert_eq!(found.parts[0].signature.as_ref().unwrap().owner, OWN);
        let plain = read(Some("abc".into()), vec![]).parts.remove(0);
        assert_eq!((plain.at.part, plain.kind), (REASONING, reasoning("abc", None).kind));
        let odd = r#"[{"type":"reasoning.text","length":2,"signature":"s"}]"#;
        assert_eq!(read(Some("é".into()), serde_json::from_str(odd).unwrap()).parts.len(), 1);
    }
}
