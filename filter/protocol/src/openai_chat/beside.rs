//! What of an answer only clients of this protocol see: choices beside the first, sound and pictures.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{Said, call_signature, content_parts};
use super::reasoning;
use crate::event::Beside;
use crate::request::PartKind;
use crate::text::Text;

/// openai SDK `types/chat/chat_completion_audio.py`; a stream has it in pieces. The transcript is billed beside the sound
/// (recorded: `text_tokens` next to `audio_tokens`).
#[derive(Deserialize)]
struct Audio<'a> {
    #[serde(borrow, default)]
    data: Option<Text<'a>>,
    #[serde(borrow, default)]
    transcript: Option<Text<'a>>,
}

/// Sound and pictures of a message, or of a piece of one.
pub fn shown<'a>(said: &Said<'a>, each: &mut dyn FnMut(Beside<'a>)) {
    let audio = said.audio.and_then(|raw| serde_json::from_str::<Audio<'a>>(raw.get()).ok());
    if let Some(Audio { data, transcript }) = audio {
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            each(Beside::Sound(data.len() as u64));
        }
        if let Some(text) = transcript.filter(|text| !text.is_empty()) {
            each(Beside::Text(text));
        }
    }
    let images = said.images.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok());
    images.into_iter().flatten().for_each(|_| each(Beside::Picture));
}

/// A message, or a piece of one, of a choice beside the first.
pub fn choice<'a>(mut said: Said<'a>, each: &mut dyn FnMut(Beside<'a>)) {
    shown(&said, each);
    let thought = said.thought();
    match said.details() {
        details if details.is_empty() => each_text(thought, Beside::Thought, each),
        details => {
            let reasoned = reasoning::read(thought, details);
            for part in reasoned.parts {
                if let PartKind::Reasoning { text, .. } = part.kind {
                    each_text(Some(text), Beside::Thought, each);
                }
                part.signature.into_iter().for_each(|signature| each(Beside::Signature(signature)));
            }
            reasoned.of_text.into_iter().for_each(|signature| each(Beside::Signature(signature)));
        }
    }
    if let Some(raw) = said.content {
        match serde_json::from_str::<Text<'a>>(raw.get()) {
            Ok(text) => each_text(Some(text), Beside::Text, each),
            Err(_) => content_parts(raw).into_iter().for_each(|part| content(part.kind, each)),
        }
    }
    each_text(said.refusal, Beside::Text, each);
    let calls = said.tool_calls.unwrap_or_default();
    let signatures = calls.into_iter().map(|call| (call.function, call_signature(call.extra_content)));
    for (function, signature) in signatures.chain(said.function_call.map(|function| (Some(function), None))) {
        if let Some(function) = function {
            let arguments = function.arguments();
            each_text(function.name, Beside::Call, each);
            each_text(Some(arguments), Beside::Text, each);
        }
        signature.into_iter().for_each(|signature| each(Beside::Signature(signature)));
    }
}

/// A block of a message's content.
pub fn content<'a>(kind: PartKind<'a>, each: &mut dyn FnMut(Beside<'a>)) {
    match kind {
        PartKind::Text(text) | PartKind::Refusal(text) => each_text(Some(text), Beside::Text, each),
        PartKind::Reasoning { text, .. } => each_text(Some(text), Beside::Thought, each),
        PartKind::Foreign(raw) => each_text(Some(raw.into_text()), Beside::Text, each),
        PartKind::Media(_) | PartKind::ToolCall { .. } | PartKind::ToolResult { .. } => {}
    }
}

fn each_text<'a>(
    text: Option<Text<'a>>,
    kind: impl Fn(Text<'a>) -> Beside<'a>,
    each: &mut dyn FnMut(Beside<'a>),
) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        each(kind(text));
    }
}
