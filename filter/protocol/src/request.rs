//! A conversation and what is asked of the model, in no protocol's words.
//!
//! Terms: OpenTelemetry GenAI (*tool call*, *reasoning*), Gemini (*part*), OpenAI and Anthropic (*message*, *role*).

use std::collections::HashMap;

use crate::codec::Protocol;
use crate::text::{Extras, Raw, Text};

/// One request. What it borrows, it borrows from the client's body.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// Whose words the extras, foreign parts and untagged signatures are.
    pub protocol: Protocol,
    /// The model asked for.
    pub model: Text<'a>,
    /// In the client's order. Tool results are parts of `User` messages, system text is a message.
    pub messages: Vec<Message<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub tool_choice: Option<ToolChoice<'a>>,
    /// `Some(false)`: at most one tool call in an answer.
    pub parallel_tool_calls: Option<bool>,
    pub sampling: Sampling<'a>,
    pub output: Output<'a>,
    pub reasoning: Reasoning,
    /// An identifier of the end user, for the provider's abuse checks.
    pub user: Option<Text<'a>>,
    /// The answer comes as a stream of events.
    pub stream: bool,
    /// The client asked for usage in the stream (OpenAI `stream_options.include_usage`; always so elsewhere).
    pub include_usage: bool,
    /// Top-level members that no codec models.
    pub extras: Extras<'a>,
}

/// Where something stood in the client's request: `messages[message].content[part]` in that protocol's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// Index in the client's message list; `At::SYSTEM` for a separate system member.
    pub message: u32,
    /// Index in the message's part list; `At::WHOLE` where the content is not a list.
    pub part: u32,
}

impl At {
    pub const SYSTEM: u32 = u32::MAX;
    pub const WHOLE: u32 = u32::MAX;
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message<'a> {
    pub role: Role,
    pub parts: Vec<Part<'a>>,
    /// OpenAI's `name` of a participant.
    pub name: Option<Text<'a>>,
    pub at: At,
    pub extras: Extras<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    /// OpenAI's successor of `system`; the same as `System` elsewhere.
    Developer,
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Part<'a> {
    pub kind: PartKind<'a>,
    /// Anthropic signs thinking, Gemini signs any part.
    pub signature: Option<Signature<'a>>,
    pub at: At,
    pub extras: Extras<'a>,
}

impl<'a> Part<'a> {
    pub fn new(kind: PartKind<'a>) -> Self {
        Part { kind, signature: None, at: At::default(), extras: Extras::default() }
    }
    pub fn text(text: impl Into<Text<'a>>) -> Self {
        Part::new(PartKind::Text(text.into()))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum PartKind<'a> {
    Text(Text<'a>),
    Media(Media<'a>),
    /// Thinking. Empty text with a signature: thinking that the provider redacted or did not show.
    Reasoning {
        text: Text<'a>,
        /// Anthropic's `redacted_thinking`: the signature is its opaque `data`.
        redacted: bool,
    },
    Refusal(Text<'a>),
    ToolCall {
        /// Unique in the conversation; a codec whose protocol has no ids makes one.
        id: Text<'a>,
        name: Text<'a>,
        /// JSON text of an object. A model may have produced something else: see [`arguments_object`].
        arguments: Text<'a>,
    },
    ToolResult {
        /// The call's id.
        id: Text<'a>,
        /// The function's name, from the result or from the call that it answers.
        name: Option<Text<'a>>,
        content: Vec<Part<'a>>,
        /// The tool failed.
        error: bool,
    },
    /// A block that only its owner understands (server tools, search results, container uploads …), verbatim.
    Foreign(Raw<'a>),
}

/// A provider's opaque proof of its own reasoning. It goes back to its owner only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    pub owner: Protocol,
    pub data: Text<'a>,
}

/// Marks a signature that passed through a client of another protocol: `attache-gemini:…`.
const CARRIED: &str = "attache-";

/// In place of a signature that there is not, where a protocol wants one: thinking of a provider that signs none.
pub const UNSIGNED: &str = "attache-unsigned:";
/// The base64 of `attache-`, as far as the bytes after it leave it alone (Gemini's clients carry base64).
pub const CARRIED_BASE64: &str = "YXR0YWNoZS";

impl<'a> Signature<'a> {
    /// Whether a client's data is another provider's, marked by [`Signature::carried`].
    pub fn is_carried(data: &str) -> bool {
        data.starts_with(CARRIED)
    }
    /// Whether a body may hold such data at all: a look at its bytes.
    pub fn may_be_carried(body: &[u8]) -> bool {
        let holds = |mark: &str| memchr::memmem::find(body, mark.as_bytes()).is_some();
        holds(CARRIED) || holds(CARRIED_BASE64)
    }
    /// As a client of `reader`'s protocol carries it: its own plain, another's with the owner's name before it.
    pub fn carried(&self, reader: Protocol) -> Text<'_> {
        if self.owner == reader {
            self.data.reborrow()
        } else {
            Text::from(format!("{CARRIED}{}:{}", self.owner.name(), &*self.data))
        }
    }
    /// The inverse of [`Signature::carried`]: plain data is `reader`'s own.
    pub fn uncarried(data: Text<'a>, reader: Protocol) -> Self {
        let tagged = data.strip_prefix(CARRIED).and_then(|rest| rest.split_once(':'));
        match tagged.and_then(|(owner, rest)| Some((Protocol::from_name(owner)?, rest.to_owned()))) {
            Some((owner, rest)) => Signature { owner, data: Text::from(rest) },
            None => Signature { owner: reader, data },
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Media<'a> {
    pub kind: MediaKind,
    pub source: Source<'a>,
    /// File name or title.
    pub name: Option<Text<'a>>,
    /// OpenAI's image `detail`.
    pub detail: Option<Text<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    Image,
    Audio,
    Video,
    Document,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Source<'a> {
    /// `mime` such as `image/png`; data in standard base64.
    Inline { mime: Text<'a>, base64: Text<'a> },
    /// Fetched by the provider.
    Url { url: Text<'a>, mime: Option<Text<'a>> },
    /// A file uploaded to the owner of the request's protocol before.
    File { id: Text<'a>, mime: Option<Text<'a>> },
    /// Plain text given as a document.
    Text(Text<'a>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Tool<'a> {
    Function(Function<'a>),
    /// A tool that its owner runs itself (web search, code execution …), verbatim.
    Foreign {
        name: Text<'a>,
        verbatim: Raw<'a>,
        at: u32,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Function<'a> {
    pub name: Text<'a>,
    pub description: Option<Text<'a>>,
    /// JSON schema of the arguments; `None`: no arguments.
    pub parameters: Option<Raw<'a>>,
    pub strict: Option<bool>,
    /// Index in the client's tool list.
    pub at: u32,
    pub extras: Extras<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice<'a> {
    Auto,
    /// No tool may be called.
    None,
    /// Some tool must be called.
    Required,
    /// This function must be called.
    Function(Text<'a>),
    /// One of these must be called (`required`), or may be.
    Among {
        names: Vec<Text<'a>>,
        required: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling<'a> {
    /// Upper bound of output tokens, reasoning included.
    pub max_output_tokens: Option<u64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u64>,
    pub seed: Option<i64>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub stop: Vec<Text<'a>>,
    /// OpenAI token ids → bias.
    pub logit_bias: Option<Raw<'a>>,
    /// Log probabilities of output tokens; the number of alternatives for each.
    pub logprobs: Option<u64>,
    /// How many answers (OpenAI `n`, Gemini `candidateCount`); `None` is one.
    pub candidates: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Output<'a> {
    #[default]
    Text,
    /// Some JSON object.
    Json,
    JsonSchema {
        name: Option<Text<'a>>,
        description: Option<Text<'a>>,
        schema: Raw<'a>,
        strict: Option<bool>,
    },
}

/// How much the model may think before it answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasoning {
    pub amount: ReasoningAmount,
    /// Whether thoughts are to be shown; `None`: the provider's default.
    pub show: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum ReasoningAmount {
    #[default]
    Unset,
    Off,
    /// As much as the model sees fit.
    Adaptive,
    Effort(Effort),
    /// Tokens.
    Budget(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    Minimal,
    Low,
    Medium,
    High,
    /// OpenAI `xhigh`, Anthropic `max`.
    Max,
}

/// The one table between effort and thinking tokens, for protocols that have only one of them.
/// A budget means the largest effort whose tokens it reaches.
pub const EFFORT_BUDGETS: [(Effort, u64); 5] = [
    (Effort::Minimal, 1024),
    (Effort::Low, 2048),
    (Effort::Medium, 8192),
    (Effort::High, 16384),
    (Effort::Max, 32768),
];

impl Effort {
    pub fn budget(self) -> u64 {
        EFFORT_BUDGETS.iter().find(|(effort, _)| *effort == self).map_or(8192, |(_, tokens)| *tokens)
    }
    pub fn of_budget(tokens: u64) -> Effort {
        EFFORT_BUDGETS
            .iter()
            .rev()
            .find(|(_, least)| tokens >= *least)
            .map_or(Effort::Minimal, |(effort, _)| *effort)
    }
}

/// What an answer keeps for itself where thinking must be cut down to the output limit, which holds both.
const LEAST_ANSWER: u64 = 1024;

/// A thinking budget between the least that there is and the output limit: itself, or what leaves the answer its room.
/// `None`: nothing lies between them.
pub fn budget_below(limit: u64, budget: u64, least: u64) -> Option<u64> {
    let roomy = if budget < limit { budget } else { limit.saturating_sub(LEAST_ANSWER).max(limit / 2) };
    Some(roomy.max(least)).filter(|tokens| *tokens < limit)
}

/// Under this member a protocol whose arguments must be an object carries what a model wrote instead of one.
pub const INVALID_ARGUMENTS: &str = "__invalid_json";

/// Tool-call arguments as a JSON object: themselves, `{}` for nothing, else wrapped under [`INVALID_ARGUMENTS`].
pub fn arguments_object<'t>(arguments: &'t str) -> Raw<'t> {
    let trimmed = arguments.trim();
    if trimmed.is_empty() || trimmed == "null" {
        return Raw::of(&serde_json::Map::new());
    }
    match serde_json::from_str::<Raw<'t>>(trimmed) {
        Ok(raw) if raw.is_object() => raw,
        _ => Raw::of(&std::collections::BTreeMap::from([(INVALID_ARGUMENTS, arguments)])),
    }
}

/// Members that only their owner can honour, and without which the answer would be to another request.
const OWNERS_ALONE: [(Protocol, &str, &str); 9] = [
    (Protocol::Gemini, "cachedContent", "the beginning of the conversation lies in the owner's cache"),
    (Protocol::Gemini, "cached_content", "the beginning of the conversation lies in the owner's cache"),
    (Protocol::Anthropic, "container", "only its owner has this container"),
    (Protocol::Anthropic, "mcp_servers", "only its owner calls these servers"),
    (Protocol::Gemini, "generationConfig.responseMimeType", "only its owner answers in this form"),
    (Protocol::Gemini, "generationConfig.responseModalities", "the answer is to be more than text"),
    (Protocol::OpenAiChat, "modalities", "the answer is to be more than text"),
    (Protocol::OpenAiChat, "audio", "only its owner answers in speech"),
    (Protocol::OpenAiChat, "web_search_options", "only its owner searches the web"),
];

/// Whether a list of the answer's kinds (`modalities`, `responseModalities`) names text alone, which is what every
/// provider answers without being asked.
pub fn text_alone(kinds: &Raw<'_>) -> bool {
    kinds
        .read::<Vec<Text<'_>>>()
        .is_ok_and(|kinds| kinds.iter().all(|kind| kind.eq_ignore_ascii_case("text")))
}

/// The reason why a request without an answer goes to its owner alone: "Set to `0` to populate the prompt cache without
/// generating a response" (anthropic SDK `message_create_params.py`, `max_tokens`). To others 0 is an error, or no limit at all.
pub const NO_ANSWER: &str = "only its owner fills a cache without answering";

/// The place of an answer that the assistant has begun: the last message, where it is the assistant's own words.
/// Anthropic and some Gemini models go on from there; OpenAI's answer anew.
pub fn begun_answer(messages: &[Message<'_>]) -> Option<At> {
    let spoken = |message: &&Message<'_>| !matches!(message.role, Role::System | Role::Developer);
    let last = messages.iter().rev().find(spoken)?;
    let said = last.parts.iter().any(|part| match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) => !text.is_empty(),
        _ => false,
    });
    let called = last.parts.iter().any(|part| matches!(part.kind, PartKind::ToolCall { .. }));
    (last.role == Role::Assistant && said && !called).then_some(last.at)
}

/// The user's turn that makes a provider answer anew where the client's own would do so by itself.
pub const GO_ON: &str = "(Please continue.)";

impl Request<'_> {
    /// Of the members that no codec models those that are contract, each with the reason.
    pub fn owners_alone(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.extras.names().filter_map(|name| {
            let row = OWNERS_ALONE.iter().find(|(owner, known, _)| *owner == self.protocol && *known == name);
            row.map(|(_, _, reason)| (name, *reason))
        })
    }
    /// Gives each tool result the function name of the call that it answers, where the protocol did not.
    pub fn name_tool_results(&mut self) {
        let unnamed = |part: &Part<'_>| matches!(part.kind, PartKind::ToolResult { name: None, .. });
        if !self.messages.iter().any(|message| message.parts.iter().any(unnamed)) {
            return;
        }
        // The last call of an id is the one that a result answers.
        let mut calls: HashMap<String, Text<'static>> = HashMap::new();
        for message in &mut self.messages {
            for part in &mut message.parts {
                match &mut part.kind {
                    PartKind::ToolCall { id, name, .. } => {
                        calls.insert(id.to_string(), name.clone().into_owned());
                    }
                    PartKind::ToolResult { id, name: name @ None, .. } => {
                        *name = calls.get(&**id).cloned();
                    }
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_go_home() {
        let signature = Signature { owner: Protocol::Gemini, data: "abc:d".into() };
        assert_eq!(&*signature.carried(Protocol::Gemini), "abc:d");
        let carried = signature.carried(Protocol::Anthropic).into_owned();
        assert_eq!(&*carried, "attache-gemini:abc:d");
        assert_eq!(Signature::uncarried(carried, Protocol::Anthropic), signature);
        assert_eq!(Signature::uncarried("x".into(), Protocol::Anthropic).owner, Protocol::Anthropic);
    }

    #[test]
    fn arguments_become_an_object() {
        assert_eq!(arguments_object("").get(), "{}");
        assert_eq!(arguments_object(r#" {"b":1,"a":2} "#).get(), r#"{"b":1,"a":2}"#);
        assert_eq!(arguments_object(r#"{"cut"#).get(), r#"{"__invalid_json":"{\"cut"}"#);
    }

    #[test]
    fn budgets_leave_the_answer_room() {
        for (limit, budget, least, below) in [
            (11, 10, 0, Some(10)),
            (5000, 5000, 1024, Some(3976)),
            (1500, 5000, 128, Some(750)),
            (1500, 5000, 1024, Some(1024)),
            (1025, 10, 1024, Some(1024)),
            (1024, 1024, 1024, None),
            (1, 9, 0, Some(0)),
            (0, 9, 0, None),
        ] {
            assert_eq!(budget_below(limit, budget, least), below, "{budget} below {limit}");
        }
    }

    #[test]
    fn effort_and_budget_agree() {
        for (effort, tokens) in EFFORT_BUDGETS {
            assert_eq!(effort.budget(), tokens);
            assert_eq!(Effort::of_budget(tokens), effort);
        }
        assert_eq!(Effort::of_budget(1), Effort::Minimal);
    }
}
