//! What a prompt names and does not hold: what lies with its provider already, and what that fetches while it answers. Nobody
//! here knows how long it is, and all of it is billed as input. The prompt is then at most what its model takes; about, as is
//! said here.

use attache_protocol::codec::Protocol;
use attache_protocol::raw::may_say;
use attache_protocol::request::{Media, MediaKind, Message, Part, PartKind, Request, Source, Tool};

use super::Bounds;

/// The most tokens of a prompt that names such things, where the catalogue does not know what its model takes: the largest
/// window of any that it knows but two.
pub const WINDOW: u64 = 1 << 20;

/// Members of a request, with about as many tokens as they bring.
/// - Gemini's cached content is the beginning of the conversation, at least 1024 tokens (ai.google.dev/gemini-api/docs/caching,
///   "Explicit caching", the smallest of its table).
/// - Anthropic's MCP servers bring their tools' definitions and results (SDK `beta/message_create_params.py`), a container its
///   skills and files.
/// - OpenAI's stored conversations and prompts are those of its Responses API (SDK `responses/response_create_params.py`), which
///   other servers take in chats as well.
/// - What a search finds is billed "at the model's input token rate", of two models as "a fixed block of 8,000 input tokens per
///   call" (OpenAI's pricing page; recorded of Claude: 22,205 for a question of 60). xAI's `search_parameters` search
///   likewise; OpenRouter's `plugins` may, or only read a document that is here.
const MEMBERS: [(Protocol, &str, u64); 11] = [
    (Protocol::Gemini, "cachedContent", 1 << 15),
    (Protocol::Gemini, "cached_content", 1 << 15),
    (Protocol::Anthropic, "mcp_servers", SEARCH),
    (Protocol::Anthropic, "container", SEARCH),
    (Protocol::OpenAiChat, "previous_response_id", SEARCH),
    (Protocol::OpenAiChat, "conversation", SEARCH),
    (Protocol::OpenAiChat, "prompt", SEARCH),
    (Protocol::OpenAiChat, "web_search_options", SEARCH),
    (Protocol::OpenAiChat, "search_parameters", SEARCH),
    (Protocol::OpenAiChat, "plugins", 0),
    (Protocol::OpenAiChat, "mcp_servers", SEARCH),
];
const SEARCH: u64 = 8000;

/// Tools without a schema that bring nothing by themselves: the client runs them, so what they answer stands in a later
/// prompt (platform.claude.com, "Tool use", "Client tools"; OpenAI's custom tools; Gemini's computer use), or what they find is
/// here already (Anthropic's tool search) or not billed as tokens (Google's search, as recorded). Beginnings of their kinds.
const BRING_NOTHING: [&str; 10] = [
    "bash_",
    "text_editor_",
    "computer_",
    "memory_",
    "tool_search_tool_",
    "custom",
    "computerUse",
    "googleSearch",
    "google_search",
    "enterpriseWebSearch",
];

/// About how many tokens a prompt has beside what is in it; `None`: it names nothing that is elsewhere.
pub fn names(request: &Request<'_>) -> Option<Bounds> {
    let members = request.extras.0.iter().filter(|(_, value)| !matches!(value.get(), "null" | "[]"));
    let members = members.filter_map(|(name, value)| {
        let row = MEMBERS.iter().find(|(owner, known, _)| *owner == request.protocol && name == known)?;
        (name != "plugins" || searches(value.get())).then_some(row.2)
    });
    let tools = request.tools.iter().filter(|tool| fetches(tool, request.protocol)).map(|_| SEARCH);
    let messages = request.messages.iter().flat_map(named);
    let likely = members.chain(tools).chain(messages).reduce(u64::saturating_add)?;
    Some(Bounds { low: 0, likely, high: likely })
}

/// OpenRouter's plugins that bring nothing beside what is in the prompt: one reads its documents, one mends the answer's JSON
/// (openrouter.ai/docs/guides/features/plugins, "Available Plugins"; recorded of a page of PDF).
const PLUGINS_WITHIN: [&str; 2] = ["file-parser", "response-healing"];

#[derive(serde::Deserialize)]
struct Plugin {
    id: Option<String>,
}

fn searches(plugins: &str) -> bool {
    let within = |plugin: &Plugin| plugin.id.as_ref().is_some_and(|id| PLUGINS_WITHIN.contains(&id.as_str()));
    serde_json::from_str::<Vec<Plugin>>(plugins).map_or(true, |plugins| !plugins.iter().all(within))
}

fn fetches(tool: &Tool<'_>, protocol: Protocol) -> bool {
    let Tool::Foreign { name, verbatim, .. } = tool else { return false };
    let kind = match protocol {
        Protocol::Gemini => Some(name.to_string()),
        Protocol::Anthropic | Protocol::OpenAiChat => verbatim.read::<Kind>().ok().and_then(|tool| tool.kind),
    };
    !kind.is_some_and(|kind| BRING_NOTHING.iter().any(|known| kind.starts_with(known)))
}

#[derive(serde::Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Of a message what is not counted by its parts.
fn named<'m>(message: &'m Message<'_>) -> impl Iterator<Item = u64> + 'm {
    // OpenAI: an earlier answer's sound, by its id (SDK `chat_completion_assistant_message_param.py`).
    let sound = message.extras.0.iter().filter(|(name, value)| name == "audio" && !value.is_null());
    sound.map(|_| SEARCH).chain(message.parts.iter().filter_map(part))
}

fn part(part: &Part<'_>) -> Option<u64> {
    match &part.kind {
        // About as many tokens as `media.rs` says; pictures have a largest size, and those are bounds already.
        PartKind::Media(Media {
            kind: MediaKind::Document | MediaKind::Audio | MediaKind::Video,
            source: Source::Url { .. } | Source::File { .. },
            ..
        }) => Some(0),
        PartKind::ToolResult { content, .. } => content.iter().find_map(self::part),
        // A file for a container: its bytes are no part of the prompt, what code prints of them is.
        PartKind::Foreign(raw) => may_say(raw.get(), "\"container_upload\"").then_some(SEARCH),
        PartKind::Media(_)
        | PartKind::Text(_)
        | PartKind::Refusal(_)
        | PartKind::Reasoning { .. }
        | PartKind::ToolCall { .. } => None,
    }
}
