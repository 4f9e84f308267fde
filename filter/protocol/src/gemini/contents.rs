//! A Gemini client's `contents` and `systemInstruction` → messages.
//!
//! Gemini 2 gives calls no ids: a call without one is named by its place, and a result without one answers the
//! first open call of its function. So every other provider sees ids that agree.

use std::collections::{HashMap, VecDeque};
use std::iter;

use crate::base64::standard;
use crate::codec::Protocol;
use crate::gemini::request::{fault, said};
use crate::gemini::signature::uncarried;
use crate::gemini::wire::{self, Blob, Content, FileData, FunctionCall, FunctionResponse};
use crate::request::{At, Media, MediaKind, Message, Part, PartKind, Role, Source};
use crate::text::{Extras, Raw, Text};
use crate::wire::Fault;

/// The messages read so far, and the calls in them.
#[derive(Default)]
pub struct Conversation<'a> {
    pub messages: Vec<Message<'a>>,
    calls: Vec<Call<'a>>,
    /// The first call of an id.
    ids: HashMap<Text<'a>, usize>,
    /// Calls of a function in their order; those answered by their id are passed over when they are met.
    open: HashMap<Text<'a>, VecDeque<usize>>,
}

struct Call<'a> {
    id: Text<'a>,
    answered: bool,
}

impl<'a> Conversation<'a> {
    /// The system text; its role does not matter (recorded clients write `user` and `model`).
    pub fn system(&mut self, content: Content<'a>) -> Result<(), Fault> {
        self.message(Role::System, At::SYSTEM, content)
    }

    pub fn content(&mut self, index: usize, content: Content<'a>) -> Result<(), Fault> {
        let role = match content.role.as_deref() {
            None | Some("user" | "function" | "tool" | "") => Role::User,
            Some("model") => Role::Assistant,
            Some(other) => {
                return fault(
                    format!("contents[{index}].role"),
                    format!("unknown role `{other}`; expected `user` or `model`"),
                );
            }
        };
        self.message(role, u32::try_from(index).unwrap_or(At::SYSTEM), content)
    }

    fn message(&mut self, role: Role, message: u32, content: Content<'a>) -> Result<(), Fault> {
        let parts = content.parts.unwrap_or_default().0;
        if parts.is_empty() && role == Role::User {
            return fault(
                format!("{}.parts", place(message)),
                "expected a list of at least one part such as {\"text\":\"…\"}",
            );
        }
        if parts.is_empty() {
            return Ok(());
        }
        let mut read = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let part = self.part(At { message, part: u32::try_from(index).unwrap_or(At::WHOLE) }, part)?;
            if let Some(part) = joined(&mut read, part) {
                read.push(part);
            }
        }
        let at = At { message, part: At::WHOLE };
        self.messages.push(Message { role, parts: read, name: None, at, extras: said(content.extras) });
        Ok(())
    }

    fn part(&mut self, at: At, mut part: wire::Part<'a>) -> Result<Part<'a>, Fault> {
        part.extras = said(part.extras);
        let path = || format!("{}.parts[{}]", place(at.message), at.part);
        if is_foreign(&part) {
            return Ok(Part { at, ..Part::new(PartKind::Foreign(Raw::of(&part))) });
        }
        let (signature, redacted) = match part.thought_signature.map(uncarried) {
            Some((signature, redacted)) => (Some(signature), redacted),
            None => (None, false),
        };
        let mut extras = part.extras;
        let kind = if let Some(call) = part.function_call {
            self.call(call, &mut extras, path)?
        } else if let Some(response) = part.function_response {
            self.result(at, response, &mut extras, path)?
        } else if let Some(blob) = part.inline_data {
            PartKind::Media(inline(blob, || format!("{}.inlineData", path()))?)
        } else if let Some(file) = part.file_data {
            PartKind::Media(file_data(file, || format!("{}.fileData", path()))?)
        } else if part.thought == Some(true) {
            PartKind::Reasoning { text: part.text.unwrap_or_default(), redacted }
        } else if let Some(text) = part.text.or(signature.as_ref().map(|_| Text::default())) {
            PartKind::Text(text)
        } else {
            let kinds = "text, inlineData, fileData, functionCall or functionResponse";
            return fault(path(), format!("expected a part with one of {kinds}"));
        };
        Ok(Part { kind, signature, at, extras })
    }

    fn call(
        &mut self,
        call: FunctionCall<'a>,
        extras: &mut Extras<'a>,
        path: impl Fn() -> String,
    ) -> Result<PartKind<'a>, Fault> {
        let Some(name) = call.name.filter(|name| !name.is_empty()) else {
            return fault(format!("{}.functionCall.name", path()), "missing: expected the function's name");
        };
        let arguments = match call.args {
            None => Text::borrowed("{}"),
            Some(args) if args.is_object() => args.into_text(),
            Some(_) => return fault(format!("{}.functionCall.args", path()), "expected an object"),
        };
        nest("functionCall.", call.extras, extras);
        let id = call.id.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| Text::from(format!("gemini_call_{}", self.calls.len())));
        self.ids.entry(id.clone()).or_insert(self.calls.len());
        self.open.entry(name.clone()).or_default().push_back(self.calls.len());
        self.calls.push(Call { id: id.clone(), answered: false });
        Ok(PartKind::ToolCall { id, name, arguments })
    }

    fn result(
        &mut self,
        at: At,
        result: FunctionResponse<'a>,
        extras: &mut Extras<'a>,
        path: impl Fn() -> String,
    ) -> Result<PartKind<'a>, Fault> {
        let Some(name) = result.name.filter(|name| !name.is_empty()) else {
            return fault(
                format!("{}.functionResponse.name", path()),
                "missing: expected the function's name",
            );
        };
        let (text, error) = match result.response {
            None => (Text::borrowed("{}"), false),
            Some(response) if response.is_object() => output(response),
            Some(_) => return fault(format!("{}.functionResponse.response", path()), "expected an object"),
        };
        nest("functionResponse.", result.extras, extras);
        let mut content = vec![Part { at, ..Part::text(text) }];
        for (index, part) in result.parts.unwrap_or_default().0.into_iter().enumerate() {
            let inner = || format!("{}.functionResponse.parts[{index}]", path());
            let media = match (part.inline_data, part.file_data) {
                (Some(blob), _) => inline(blob, || format!("{}.inlineData", inner()))?,
                (None, Some(file)) => file_data(file, || format!("{}.fileData", inner()))?,
                (None, None) => return fault(inner(), "expected a part with inlineData or fileData"),
            };
            content.push(Part { at, extras: said(part.extras), ..Part::new(PartKind::Media(media)) });
        }
        Ok(PartKind::ToolResult { id: self.answered(result.id, &name), name: Some(name), content, error })
    }

    /// The id of the call that a result answers: its own, else that of the first open call of this function.
    fn answered(&mut self, id: Option<Text<'a>>, name: &str) -> Text<'a> {
        let id = id.filter(|id| !id.is_empty());
        let Conversation { calls, ids, open, .. } = self;
        let by_id = id.as_ref().and_then(|id| ids.get(id)).copied();
        let found = by_id.or_else(|| {
            let open = open.get_mut(name)?;
            iter::from_fn(|| open.pop_front())
                .find(|&index| calls.get(index).is_some_and(|call| !call.answered))
        });
        match found.and_then(|index| self.calls.get_mut(index)) {
            Some(call) => {
                call.answered = true;
                call.id.clone()
            }
            None => id.unwrap_or_else(|| Text::from(format!("gemini_call_of_{name}"))),
        }
    }
}

/// Thinking of another provider that the client got in pieces, the signature last, is one part again: to its owner
/// the signature is worth nothing without the whole text. Gemini's own signed parts are never merged.
fn joined<'a>(before: &mut [Part<'a>], part: Part<'a>) -> Option<Part<'a>> {
    let foreign = part.signature.as_ref().is_none_or(|signature| signature.owner != Protocol::Gemini);
    let last = before.last_mut().filter(|last| last.signature.is_none() && foreign);
    let (Some(last), PartKind::Reasoning { text, redacted: false }) = (last, &part.kind) else {
        return Some(part);
    };
    let PartKind::Reasoning { text: first, redacted: false } = &mut last.kind else { return Some(part) };
    if !text.is_empty() {
        *first = Text::from([&**first, &**text].concat());
    }
    last.signature = part.signature;
    last.extras.0.extend(part.extras.0);
    None
}

fn place(message: u32) -> String {
    if message == At::SYSTEM { "systemInstruction".to_owned() } else { format!("contents[{message}]") }
}

/// Envelope of an object inside a part, under their path from the part.
fn nest<'a>(prefix: &str, inner: Extras<'a>, extras: &mut Extras<'a>) {
    extras.0.extend(
        said(inner).0.into_iter().map(|(name, value)| (Text::from(format!("{prefix}{name}")), value)),
    );
}

/// A part of a kind that only Gemini knows (`executableCode`, `toolCall` …): no modelled kind, but something.
pub fn is_foreign(part: &wire::Part<'_>) -> bool {
    let modelled = part.function_call.is_some()
        || part.function_response.is_some()
        || part.inline_data.is_some()
        || part.file_data.is_some()
        || part.text.is_some();
    !modelled && part.extras.names().next().is_some()
}

/// A function's response as text, and whether it is an error. google-genai `types.FunctionResponse.response`: "Use
/// "output" key to specify function output and "error" key to specify error details"; the SDKs and recordings
/// write `result` too. An object with nothing but such a key and a string is that string, any other its own JSON.
fn output(response: Raw<'_>) -> (Text<'_>, bool) {
    let Ok(Envelope { output, result, error, extras }) = response.read::<Envelope<'_>>() else {
        return (response.into_text(), false);
    };
    let alone = extras.0.is_empty();
    let (text, failed) = match (output, result, error) {
        (None, None, Some(value)) if alone => {
            (Some(string(&value).unwrap_or_else(|| value.get().to_owned())), true)
        }
        (Some(value), None, None) | (None, Some(value), None) if alone => (string(&value), false),
        _ => (None, false),
    };
    (text.map_or_else(|| response.clone().into_text(), Text::from), failed)
}

crate::wire! {
    struct Envelope<'a> { output: Raw<'a>, result: Raw<'a>, error: Raw<'a> }
}

fn string(value: &Raw<'_>) -> Option<String> {
    value.get().starts_with('"').then(|| value.read::<String>().ok()).flatten()
}

pub fn inline<'a>(blob: Blob<'a>, path: impl Fn() -> String) -> Result<Media<'a>, Fault> {
    let Some(mime) = blob.mime_type.filter(|mime| !mime.is_empty()) else {
        return fault(format!("{}.mimeType", path()), "missing: expected a media type such as `image/png`");
    };
    let Some(data) = blob.data else {
        return fault(format!("{}.data", path()), "missing: expected base64 data");
    };
    let source = Source::Inline { base64: standard(data), mime: mime.clone() };
    Ok(Media { kind: kind_of(&mime), source, name: blob.display_name, detail: None })
}

fn file_data<'a>(file: FileData<'a>, path: impl Fn() -> String) -> Result<Media<'a>, Fault> {
    let Some(uri) = file.file_uri.filter(|uri| !uri.is_empty()) else {
        return fault(format!("{}.fileUri", path()), "missing: expected a URI");
    };
    let mime = file.mime_type.filter(|mime| !mime.is_empty());
    let kind = match mime.as_deref().or_else(|| mime_of(&uri)) {
        Some(mime) => kind_of(mime),
        None if uri.contains("youtube.com/") || uri.contains("youtu.be/") => MediaKind::Video,
        None => MediaKind::Document,
    };
    // Files API: `https://generativelanguage.googleapis.com/v1beta/files/…`; anything else on the web anybody can fetch.
    let public = uri.starts_with("http") && !uri.contains("googleapis.com/");
    let source = if public { Source::Url { url: uri, mime } } else { Source::File { id: uri, mime } };
    Ok(Media { kind, source, name: file.display_name, detail: None })
}

fn kind_of(mime: &str) -> MediaKind {
    match mime.split('/').next() {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => MediaKind::Document,
    }
}

/// The media type that a URL's ending tells.
pub fn mime_of(url: &str) -> Option<&'static str> {
    const ENDINGS: [(&str, &str); 15] = [
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("webp", "image/webp"),
        ("gif", "image/gif"),
        ("heic", "image/heic"),
        ("pdf", "application/pdf"),
        ("txt", "text/plain"),
        ("html", "text/html"),
        ("csv", "text/csv"),
        ("json", "application/json"),
        ("mp3", "audio/mp3"),
        ("wav", "audio/wav"),
        ("mp4", "video/mp4"),
        ("webm", "video/webm"),
    ];
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, ending) = path.rsplit_once('.')?;
    ENDINGS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)).map(|(_, mime)| *mime)
}
