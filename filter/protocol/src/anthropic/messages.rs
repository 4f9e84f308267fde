//! The conversation's messages → Anthropic's `system` and `messages`.

use std::mem;

use super::answer::thinking;
use super::schema;
use super::wire::{Block, Nested, Source as WireSource, Turn};
use crate::base64;
use crate::codec::{Codec, Field, Loss, Protocol};
use crate::request::*;
use crate::text::{Extras, Text};
use crate::wire::StringOr;

/// Stands before a conversation that the assistant opens: Anthropic answers "first message must use the \"user\"
/// role" otherwise.
const OPENING: &str = "(The assistant begins.)";

/// Collects what is lost, by its path in the client's request.
pub struct Losses<'l> {
    client: &'static dyn Codec,
    from: Protocol,
    /// The client spoke Anthropic's protocol: nothing is adjusted, its own provider judges its words.
    pub own: bool,
    list: &'l mut Vec<Loss>,
}

impl<'l> Losses<'l> {
    pub fn new(protocol: Protocol, list: &'l mut Vec<Loss>) -> Self {
        Losses { client: protocol.codec(), from: protocol, own: protocol == Protocol::Anthropic, list }
    }
    pub fn add(&mut self, field: Field<'_>, reason: &str) {
        self.list.push(Loss { path: self.client.path_of(field), reason: reason.to_owned() });
    }
    /// Own extras go along, another protocol's are lost.
    pub fn extras<'s>(&mut self, extras: &'s Extras<'_>, field: impl Fn(&'s str) -> Field<'s>) -> Extras<'s> {
        if self.own {
            return extras.reborrow();
        }
        for name in extras.names() {
            self.add(field(name), "not known to Anthropic");
        }
        Extras::default()
    }
}

/// A message in the making.
struct Draft<'r> {
    role: &'static str,
    blocks: Vec<Block<'r>>,
    /// One text that was a plain string.
    plain: bool,
    extras: Extras<'r>,
}

pub struct Written<'r> {
    pub system: Option<StringOr<'r, Vec<Block<'r>>>>,
    pub messages: Vec<Turn<'r>>,
}

pub fn write<'r>(messages: &'r [Message<'_>], losses: &mut Losses<'_>) -> Written<'r> {
    let mut system: Option<Draft<'r>> = None;
    let mut drafts: Vec<Draft<'r>> = Vec::with_capacity(messages.len());
    for message in messages {
        let Message { role, parts: _, name, at, extras: _ } = message;
        let draft = draft(message, losses);
        if name.is_some() {
            losses.add(Field::Message(*at, "name"), "Anthropic's messages have no names");
        }
        let separate = at.message == At::SYSTEM || drafts.is_empty() || !losses.own;
        if draft.blocks.is_empty() && !losses.own {
            continue;
        }
        match role {
            Role::System | Role::Developer if separate => {
                if !drafts.is_empty() {
                    losses.add(
                        Field::Message(*at, "role"),
                        "Anthropic's system text stands before the conversation",
                    );
                }
                join(&mut system, draft);
            }
            Role::System | Role::Developer | Role::User | Role::Assistant => match drafts.last_mut() {
                Some(last) if last.role == draft.role && !losses.own => extend(last, draft),
                _ => drafts.push(draft),
            },
        }
    }
    if !losses.own {
        open(&mut system, &mut drafts, messages, losses);
        close(&mut drafts, messages, losses);
        for draft in &mut drafts {
            // Results first: "tool_result blocks must come first in the content array".
            draft.blocks.sort_by_key(|block| draft.role == "user" && !block.is("tool_result"));
        }
    }
    Written { system: system.map(content), messages: drafts.into_iter().map(turn).collect() }
}

fn turn(mut draft: Draft<'_>) -> Turn<'_> {
    let extras = mem::take(&mut draft.extras);
    Turn { role: Some(Text::borrowed(draft.role)), content: Some(content(draft)), extras }
}

fn content(draft: Draft<'_>) -> StringOr<'_, Vec<Block<'_>>> {
    let Draft { mut blocks, plain, .. } = draft;
    match blocks.first_mut().and_then(|block| block.text.take_if(|_| plain)) {
        Some(text) => StringOr::Text(text),
        None => StringOr::Other(blocks),
    }
}

fn join<'r>(whole: &mut Option<Draft<'r>>, next: Draft<'r>) {
    match whole {
        Some(whole) => extend(whole, next),
        None => *whole = Some(next),
    }
}

fn extend<'r>(whole: &mut Draft<'r>, next: Draft<'r>) {
    whole.blocks.extend(next.blocks);
    whole.extras.0.extend(next.extras.0);
    whole.plain = false;
}

/// A conversation opens with the user. System text alone becomes what the user says.
fn open<'r>(
    system: &mut Option<Draft<'r>>,
    drafts: &mut Vec<Draft<'r>>,
    messages: &[Message<'_>],
    losses: &mut Losses<'_>,
) {
    let at = messages.first().map_or(At::default(), |message| message.at);
    match drafts.first() {
        Some(first) if first.role == "user" => {}
        Some(_) => {
            let blocks = vec![Block::text(Text::borrowed(OPENING))];
            drafts.insert(0, Draft { role: "user", blocks, plain: true, extras: Extras::default() });
            losses.add(
                Field::Message(at, "role"),
                "Anthropic's conversations begin with the user: a line was put before it",
            );
        }
        None => {
            if let Some(only) = system.take() {
                drafts.push(Draft { role: "user", ..only });
                losses.add(
                    Field::Message(at, "role"),
                    "Anthropic wants a user's message: the system text was sent as one",
                );
            }
        }
    }
}

/// A begun answer at the end: a client of OpenAI's protocol expects a new one, where Anthropic would go on or refuse.
/// Gemini's goes on; "final assistant content cannot end with trailing whitespace" (the API's 400).
fn close(drafts: &mut Vec<Draft<'_>>, messages: &[Message<'_>], losses: &mut Losses<'_>) {
    let Some(at) = begun_answer(messages) else { return };
    if losses.from == Protocol::OpenAiChat {
        let blocks = vec![Block::text(Text::borrowed(GO_ON))];
        drafts.push(Draft { role: "user", blocks, plain: true, extras: Extras::default() });
        losses.add(
            Field::Message(at, "role"),
            "Anthropic's conversations end with the user: a line was put after it",
        );
    } else if let Some(text) = drafts.last_mut().and_then(|last| last.blocks.last_mut()?.text.as_mut()) {
        *text = Text::from(text.trim_end().to_owned());
    }
}

fn draft<'r>(message: &'r Message<'_>, losses: &mut Losses<'_>) -> Draft<'r> {
    let Message { role, parts, name: _, at, extras } = message;
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        blocks.extend(block(part, *role, losses));
        let marked = matches!(part.kind, PartKind::Text(_) | PartKind::ToolCall { .. }) && losses.own;
        if let (true, Some(signature)) = (marked, &part.signature) {
            blocks.push(thinking("", false, Some(signature)));
        }
    }
    let plain = matches!((&*blocks, &**parts), ([block], [part])
        if part.at.part == At::WHOLE && block.text.is_some() && block.extras.0.is_empty());
    let extras = losses.extras(extras, |name| Field::Message(*at, name));
    let role = match role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    Draft { role, blocks, plain, extras }
}

fn block<'r>(part: &'r Part<'_>, role: Role, losses: &mut Losses<'_>) -> Option<Block<'r>> {
    let Part { kind, signature, at, extras } = part;
    let block = match kind {
        // "text content blocks must contain non-whitespace text" (the API's 400).
        PartKind::Text(text) | PartKind::Refusal(text) if text.trim().is_empty() && !losses.own => None,
        PartKind::Text(text) | PartKind::Refusal(text) => Some(Block::text(text.reborrow())),
        PartKind::Media(media) => Some(media_block(media, *at, losses)),
        PartKind::Reasoning { text, redacted } => match signature {
            Some(own @ Signature { owner: Protocol::Anthropic, .. }) if role == Role::Assistant => {
                Some(thinking(text, *redacted, Some(own)))
            }
            _ if losses.own => Some(thinking(text, *redacted, signature.as_ref())),
            _ => {
                losses.add(Field::Part(*at, ""), "Anthropic takes back only thinking that it signed");
                None
            }
        },
        PartKind::ToolCall { id, name, arguments } => Some(Block {
            id: Some(tool_id(id)),
            name: Some(name.reborrow()),
            input: Some(arguments_object(arguments)),
            ..Block::of("tool_use")
        }),
        PartKind::ToolResult { id, name: _, content, error } => Some(Block {
            tool_use_id: Some(tool_id(id)),
            content: result(content, role, losses),
            is_error: error.then_some(true),
            ..Block::of("tool_result")
        }),
        PartKind::Foreign(raw) if losses.own => raw.read().ok(),
        PartKind::Foreign(_) => {
            losses.add(Field::Part(*at, ""), "not known to Anthropic");
            None
        }
    };
    let mut block = block?;
    block.extras.0.extend(losses.extras(extras, |name| Field::Part(*at, name)).0);
    Some(block)
}

fn result<'r>(
    content: &'r [Part<'_>],
    role: Role,
    losses: &mut Losses<'_>,
) -> Option<StringOr<'r, Nested<'r>>> {
    let mut blocks: Vec<_> = content.iter().filter_map(|part| block(part, role, losses)).collect();
    match &mut *blocks {
        [] => None,
        [Block { text: text @ Some(_), extras, .. }] if extras.0.is_empty() => {
            text.take().map(StringOr::Text)
        }
        _ => Some(StringOr::Other(Nested::Blocks(blocks))),
    }
}

fn media_block<'r>(media: &'r Media<'_>, at: At, losses: &mut Losses<'_>) -> Block<'r> {
    let Media { kind, source, name, detail } = media;
    if detail.as_deref().is_some_and(|detail| detail != "auto") {
        losses.add(Field::Part(at, "image_url.detail"), "Anthropic has no detail of images");
    }
    let of = |kind: &'static str| WireSource { kind: Some(Text::borrowed(kind)), ..WireSource::default() };
    let of_text =
        |text| WireSource { media_type: Some(Text::borrowed("text/plain")), data: Some(text), ..of("text") };
    let text = match (kind, source) {
        (MediaKind::Document, Source::Inline { mime, base64 }) if !losses.own => inline_text(mime, base64),
        _ => None,
    };
    let source = match (text, source) {
        (Some(text), _) => of_text(Text::from(text)),
        (None, Source::Inline { mime, base64 }) => {
            WireSource { media_type: Some(mime.reborrow()), data: Some(base64.reborrow()), ..of("base64") }
        }
        (None, Source::Url { url, mime: _ }) => WireSource { url: Some(url.reborrow()), ..of("url") },
        (None, Source::File { id, mime: _ }) => WireSource { file_id: Some(id.reborrow()), ..of("file") },
        (None, Source::Text(text)) => of_text(text.reborrow()),
    };
    let (kind, title) = match kind {
        MediaKind::Image => ("image", None),
        MediaKind::Document | MediaKind::Audio | MediaKind::Video => {
            ("document", name.as_ref().map(Text::reborrow))
        }
    };
    Block { source: Some(StringOr::Other(Box::new(source))), title, ..Block::of(kind) }
}

/// The text of an inline text file: Anthropic takes text as text, and base64 for PDF only.
pub fn inline_text(mime: &str, base64: &str) -> Option<String> {
    if !mime.starts_with("text/") && mime != "application/json" {
        return None;
    }
    String::from_utf8(base64::decode(base64)?).ok()
}

/// Tool ids must match `^[a-zA-Z0-9_-]+$` (the API's 400). Others are made so, the same way in call and result;
/// a hash of the whole keeps two of them apart.
fn tool_id<'r>(id: &'r Text<'_>) -> Text<'r> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !id.is_empty() && id.bytes().all(fits) {
        return id.reborrow();
    }
    // FNV-1a.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let readable: String = id.bytes().map(|byte| if fits(byte) { char::from(byte) } else { '_' }).collect();
    Text::from(format!("{readable}_{hash:016x}"))
}

/// Whether the conversation stands in a tool loop whose last calls begin without signed thinking.
pub fn unsigned_loop(messages: &[Turn<'_>]) -> bool {
    let blocks = |turn: &'_ Turn<'_>, kind: &str, first: bool| match &turn.content {
        Some(StringOr::Other(blocks)) if first => blocks
            .first()
            .is_some_and(|block| block.kind.as_deref().is_some_and(|found| found.ends_with(kind))),
        Some(StringOr::Other(blocks)) => blocks.iter().any(|block| block.is(kind)),
        _ => false,
    };
    match messages {
        [.., call, result] => {
            blocks(result, "tool_result", false)
                && blocks(call, "tool_use", false)
                && !blocks(call, "thinking", true)
        }
        _ => false,
    }
}

/// A function as Anthropic's tool.
pub fn parameters<'r>(function: &'r Function<'_>, own: bool) -> crate::text::Raw<'r> {
    match &function.parameters {
        Some(schema) if own => schema.reborrow(),
        schema => schema::input(schema.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_text_files_become_text() {
        assert_eq!(inline_text("text/plain", "w7xiZXI=").as_deref(), Some("über"));
        assert_eq!(inline_text("text/csv", "YSxi\r\nCg==").as_deref(), Some("a,b\n"));
        assert_eq!(inline_text("text/plain", "/w=="), None);
        assert_eq!(inline_text("application/pdf", "YQ=="), None);
    }
}
