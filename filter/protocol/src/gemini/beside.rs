//! What of an answer only clients of this protocol see: candidates beside the first, sound, pictures, and code that Gemini
//! runs itself.

use crate::event::Beside;
use crate::gemini::contents::is_foreign;
use crate::gemini::signature::uncarried;
use crate::gemini::wire;
use crate::request::{Media, MediaKind, PartKind, Source};
use crate::text::{Raw, Text};

/// "Tokens representing generated code are counted as output tokens … Code execution results are also counted as output
/// tokens" (ai.google.dev/gemini-api/docs/code-execution, "Billing").
pub fn shown<'a>(kind: PartKind<'a>, each: &mut dyn FnMut(Beside<'a>)) {
    match kind {
        PartKind::Media(Media { kind, source: Source::Inline { base64, .. }, .. }) => {
            each(media(kind, &base64));
        }
        PartKind::Foreign(raw) => each(Beside::Text(raw.into_text())),
        PartKind::Media(_)
        | PartKind::Text(_)
        | PartKind::Refusal(_)
        | PartKind::Reasoning { .. }
        | PartKind::ToolCall { .. }
        | PartKind::ToolResult { .. } => {}
    }
}

fn media<'a>(kind: MediaKind, base64: &str) -> Beside<'a> {
    match kind {
        MediaKind::Audio | MediaKind::Video => Beside::Sound(base64.len() as u64),
        MediaKind::Image | MediaKind::Document => Beside::Picture,
    }
}

/// A part of a candidate beside the first.
pub fn candidate<'a>(part: wire::Part<'a>, each: &mut dyn FnMut(Beside<'a>)) {
    if is_foreign(&part) {
        return each(Beside::Text(Raw::of(&part).into_text()));
    }
    if let Some(text) = part.text.filter(|text| !text.is_empty()) {
        each(if part.thought == Some(true) { Beside::Thought(text) } else { Beside::Text(text) });
    }
    if let Some(call) = part.function_call {
        each(Beside::Call(call.name.unwrap_or_default()));
        each(Beside::Text(call.args.map_or(Text::borrowed("{}"), Raw::into_text)));
    }
    if let Some(blob) = part.inline_data {
        let sound = blob.mime_type.is_some_and(|mime| mime.starts_with("audio/"));
        let kind = if sound { MediaKind::Audio } else { MediaKind::Image };
        each(media(kind, &blob.data.unwrap_or_default()));
    }
    if let Some(signature) = part.thought_signature {
        each(Beside::Signature(uncarried(signature).0));
    }
}
