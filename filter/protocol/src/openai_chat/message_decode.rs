//! Reads a client's messages: roles, content parts, tool calls and their results.

use super::reasoning;
use super::request_decode::{fault, unlike};
use super::wire::{CalledFunction, WireCall, WireMessage, WirePart, WireUrl};
use crate::request::{At, Media, MediaKind, Message, Part, PartKind, Role, Source};
use crate::text::{Extras, Raw, Text};
use crate::wire::{Fault, StringOr};

/// Places in `At::part` beside the content list; `place` gives them back their names.
pub const TOOL_CALLS: u32 = 1 << 24;
pub const REASONING: u32 = 2 << 24;
pub const REFUSAL: u32 = 3 << 24;
pub const DETAILS: u32 = 4 << 24;

/// The JSON path of a part below its message.
pub fn place(part: u32) -> String {
    let index = part % TOOL_CALLS;
    match part - index {
        _ if part == At::WHOLE => "content".to_owned(),
        0 => format!("content[{index}]"),
        TOOL_CALLS => format!("tool_calls[{index}]"),
        REASONING => "reasoning_content".to_owned(),
        DETAILS => format!("reasoning_details[{index}]"),
        _ => "refusal".to_owned(),
    }
}

pub fn decode(wire: Vec<WireMessage<'_>>) -> Result<Vec<Message<'_>>, Fault> {
    let mut messages: Vec<Message<'_>> = Vec::with_capacity(wire.len());
    // The last call in the words of 2023, which has no id: (function, id made here).
    let mut called: Option<(String, String)> = None;
    let mut after_result = false;
    for (index, message) in (0u32..).zip(wire) {
        if !message.extras.0.is_empty() {
            unlike(&message.extras, &["role", "content", "tool_calls"], &format!("messages[{index}]."))?;
        }
        let role = message.role.as_deref().unwrap_or_default();
        let is_result = matches!(role, "tool" | "function");
        if is_result {
            let part = tool_result(message, index, called.as_ref())?;
            match messages.last_mut() {
                Some(last) if after_result => last.parts.push(part),
                _ => messages.push(Message {
                    role: Role::User,
                    parts: vec![part],
                    name: None,
                    at: At { message: index, part: At::WHOLE },
                    extras: Extras::default(),
                }),
            }
        } else {
            if let Some(name) = message.function_call.as_ref().and_then(|function| function.name.as_ref()) {
                called = Some((name.to_string(), format!("call_fn_{index}")));
            }
            messages.push(one(message, index)?);
        }
        after_result = is_result;
    }
    Ok(messages)
}

/// Any message but a tool's.
fn one(mut wire: WireMessage<'_>, index: u32) -> Result<Message<'_>, Fault> {
    let at = At { message: index, part: At::WHOLE };
    let role = match wire.role.as_deref() {
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(other) => {
            let known = "`system`, `developer`, `user`, `assistant` or `tool`";
            return Err(fault(
                format!("messages[{index}].role"),
                format!("unknown role `{other}`: expected {known}"),
            ));
        }
        None => return Err(fault(format!("messages[{index}].role"), "required: who speaks")),
    };
    let name = wire.name.take();
    let content = wire.content.take();
    if role == Role::Assistant {
        let extras = std::mem::take(&mut wire.extras);
        return Ok(Message { role, parts: assistant(wire, content, index)?, name, at, extras });
    }
    let content = content.ok_or_else(|| {
        fault(format!("messages[{index}].content"), "required: a string or a list of content parts")
    })?;
    Ok(Message { role, parts: parts(content, index)?, name, at, extras: wire.extras })
}

type Content<'a> = StringOr<'a, Vec<WirePart<'a>>>;

/// Reasoning first, then what was said, then what was called: the order in which models write.
fn assistant<'a>(
    wire: WireMessage<'a>,
    content: Option<Content<'a>>,
    index: u32,
) -> Result<Vec<Part<'a>>, Fault> {
    let at = |part| At { message: index, part };
    let thought = wire.reasoning_content.filter(|text| !text.is_empty()).or(wire.reasoning);
    let reasoned = reasoning::read(thought, wire.reasoning_details.unwrap_or_default());
    let mut found = reasoned.parts;
    found.iter_mut().for_each(|part| part.at.message = index);
    match content {
        Some(StringOr::Text(text)) if text.is_empty() => {}
        Some(content) => found.extend(parts(content, index)?),
        None => {}
    }
    if let Some(signature) = reasoned.of_text {
        match found.iter_mut().rev().find(|part| matches!(part.kind, PartKind::Text(_))) {
            Some(part) => part.signature = Some(signature),
            None => found.push(Part { signature: Some(signature), at: at(At::WHOLE), ..Part::text("") }),
        }
    }
    if let Some(refusal) = wire.refusal.filter(|refusal| !refusal.is_empty()) {
        found.push(Part { at: at(REFUSAL), ..Part::new(PartKind::Refusal(refusal)) });
    }
    for (k, call) in (0u32..).zip(wire.tool_calls.unwrap_or_default()) {
        found.push(Part { at: at(TOOL_CALLS + k), ..tool_call(call, index, k)? });
    }
    if let Some(function) = wire.function_call {
        let id = Text::from(format!("call_fn_{index}"));
        let kind = called(function, id, || format!("messages[{index}].function_call"))?;
        found.push(Part { at: at(TOOL_CALLS), ..Part::new(kind) });
    }
    Ok(found)
}

fn tool_call(mut wire: WireCall<'_>, message: u32, k: u32) -> Result<Part<'_>, Fault> {
    let path = || format!("messages[{message}].tool_calls[{k}]");
    if wire.kind.as_deref().is_some_and(|kind| kind != "function") {
        return Ok(Part::new(PartKind::Foreign(Raw::of(&wire))));
    }
    let id = wire.id.take().filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| fault(format!("{}.id", path()), "required: the call's id, a string"))?;
    let function = wire.function.take();
    let function =
        function.ok_or_else(|| fault(format!("{}.function", path()), "required: `name` and `arguments`"))?;
    let kind = called(function, id, || format!("{}.function", path()))?;
    let signature = reasoning::of_call(wire.extra_content);
    Ok(Part { signature, extras: wire.extras, ..Part::new(kind) })
}

fn called<'a>(
    function: CalledFunction<'a>,
    id: Text<'a>,
    path: impl Fn() -> String,
) -> Result<PartKind<'a>, Fault> {
    let name = function.name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| fault(format!("{}.name", path()), "required: the function's name"))?;
    Ok(PartKind::ToolCall { id, name, arguments: function.arguments.unwrap_or_default() })
}

fn tool_result<'a>(
    wire: WireMessage<'a>,
    index: u32,
    last: Option<&(String, String)>,
) -> Result<Part<'a>, Fault> {
    let id = match (wire.tool_call_id.filter(|id| !id.is_empty()), &wire.name) {
        (Some(id), _) => id,
        (None, Some(name)) if wire.role.as_deref() == Some("function") => match last {
            Some((function, id)) if **name == **function => Text::from(id.clone()),
            _ => Text::from(format!("call_fn_{name}")),
        },
        (None, _) => {
            let member = if wire.role.as_deref() == Some("function") { "name" } else { "tool_call_id" };
            return Err(fault(
                format!("messages[{index}].{member}"),
                "required: which call this answers, a string",
            ));
        }
    };
    let content = match wire.content {
        Some(content) => parts(content, index)?,
        None => Vec::new(),
    };
    let kind = PartKind::ToolResult { id, name: wire.name, content, error: false };
    Ok(Part { at: At { message: index, part: At::WHOLE }, extras: wire.extras, ..Part::new(kind) })
}

fn parts<'a>(content: Content<'a>, message: u32) -> Result<Vec<Part<'a>>, Fault> {
    match content {
        StringOr::Text(text) => Ok(vec![Part { at: At { message, part: At::WHOLE }, ..Part::text(text) }]),
        StringOr::Other(list) => {
            let mut found = Vec::with_capacity(list.len());
            for (part, wire) in (0u32..).zip(list) {
                found.push(Part { at: At { message, part }, ..part_of(wire, message, part)? });
            }
            Ok(found)
        }
    }
}

const PART_TYPES: &str = "`text`, `image_url`, `input_audio`, `file`, `video_url` or `refusal`";

fn part_of<'a>(mut wire: WirePart<'a>, message: u32, part: u32) -> Result<Part<'a>, Fault> {
    let path = |member: &str| format!("messages[{message}].content[{part}].{member}");
    let missing = |member: &str| fault(path(member), format!("required in a part of type `{member}`"));
    let kind = match wire.kind.as_deref() {
        Some("text") => PartKind::Text(wire.text.take().ok_or_else(|| missing("text"))?),
        Some("refusal") => PartKind::Refusal(wire.refusal.take().ok_or_else(|| missing("refusal"))?),
        Some("image_url") => {
            let url = link(wire.image_url.take(), &mut wire.extras).ok_or_else(|| missing("image_url"))?;
            media(MediaKind::Image, url.0, url.1)
        }
        // OpenRouter, Qwen and vLLM know this one beside OpenAI's own.
        Some("video_url") => {
            let url = link(wire.video_url.take(), &mut wire.extras).ok_or_else(|| missing("video_url"))?;
            media(MediaKind::Video, url.0, url.1)
        }
        Some("input_audio") => {
            let audio = wire.input_audio.take().ok_or_else(|| missing("input_audio"))?;
            let base64 =
                audio.data.ok_or_else(|| fault(path("input_audio.data"), "required: audio in base64"))?;
            let format =
                audio.format.ok_or_else(|| fault(path("input_audio.format"), "required: `wav` or `mp3`"))?;
            wire.extras.0.extend(audio.extras.0);
            PartKind::Media(Media {
                kind: MediaKind::Audio,
                source: Source::Inline { mime: audio_mime(&format), base64 },
                name: None,
                detail: None,
            })
        }
        Some("file") => {
            let file = wire.file.take().ok_or_else(|| missing("file"))?;
            wire.extras.0.extend(file.extras.0);
            let source = match (file.file_data, file.file_id) {
                (Some(data), _) => match inline(data) {
                    // Some clients send the bare base64 of a PDF.
                    Source::Url { url, .. } => {
                        Source::Inline { mime: Text::from("application/pdf"), base64: url }
                    }
                    inline => inline,
                },
                (None, Some(id)) => Source::File { id, mime: None },
                (None, None) => {
                    return Err(fault(path("file.file_data"), "required: `file_data` or `file_id`"));
                }
            };
            PartKind::Media(Media { kind: MediaKind::Document, source, name: file.filename, detail: None })
        }
        // Mistral's reasoning models take their own blocks back.
        Some("thinking") => PartKind::Reasoning { text: thought(wire.thinking.take()), redacted: false },
        Some("reference") => PartKind::Foreign(Raw::of(&wire)),
        Some(other) => {
            return Err(fault(path("type"), format!("unknown part type `{other}`: expected {PART_TYPES}")));
        }
        None => return Err(fault(path("type"), format!("required: {PART_TYPES}"))),
    };
    let extras = if matches!(kind, PartKind::Foreign(_)) { Extras::default() } else { wire.extras };
    Ok(Part { extras, ..Part::new(kind) })
}

type Link<'a> = (Text<'a>, Option<Text<'a>>);

/// URL and detail; Mistral and some clients write the URL alone.
fn link<'a>(wire: Option<StringOr<'a, WireUrl<'a>>>, extras: &mut Extras<'a>) -> Option<Link<'a>> {
    match wire? {
        StringOr::Text(url) => Some((url, None)),
        StringOr::Other(object) => {
            extras.0.extend(object.extras.0);
            Some((object.url?, object.detail))
        }
    }
}

fn media<'a>(kind: MediaKind, url: Text<'a>, detail: Option<Text<'a>>) -> PartKind<'a> {
    PartKind::Media(Media { kind, source: inline(url), name: None, detail })
}

/// `data:MIME;base64,DATA` is data, everything else is for the provider to fetch. Other protocols take the bare media
/// type, without parameters (`;charset=…`), and none of them knows `image/jpg`, which OpenAI takes for JPEG.
fn inline(url: Text<'_>) -> Source<'_> {
    let head = url.get(..url.len().min(MAX_HEAD)).or_else(|| url.split(',').next());
    let found = head.and_then(|head| {
        let comma = head.find(',')?;
        let mime = head.get(..comma)?.strip_prefix("data:")?.strip_suffix(";base64")?;
        let bare = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Some((comma, if bare == "image/jpg" { "image/jpeg".to_owned() } else { bare }))
    });
    match found {
        Some((comma, mime)) => Source::Inline { mime: Text::from(mime), base64: url.skip(comma + 1) },
        None => Source::Url { url, mime: None },
    }
}

/// Where the comma of a data URL must have come: nobody writes a longer media type.
const MAX_HEAD: usize = 256;

fn audio_mime(format: &str) -> Text<'static> {
    Text::from(match format {
        "mp3" => "audio/mpeg".to_owned(),
        other => format!("audio/{other}"),
    })
}

fn thought<'a>(thinking: Option<StringOr<'a, Vec<WirePart<'a>>>>) -> Text<'a> {
    match thinking {
        Some(StringOr::Text(text)) => text,
        Some(StringOr::Other(blocks)) => {
            Text::from(blocks.iter().filter_map(|block| block.text.as_deref()).collect::<String>())
        }
        None => Text::default(),
    }
}
