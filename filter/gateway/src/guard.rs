//! The capability guard: what a request asks of a model that the catalogue knows not to have it.
//!
//! It holds for every target, also where both sides speak the same protocol, and beside what the protocol's codec says of
//! its contract. What the catalogue does not know is tried.

#[cfg(test)]
mod tests;

use std::cell::OnceCell;

use attache_protocol::codec::{Codec, Field, Loss, Protocol};
use attache_protocol::error::{ApiError, ErrorKind};
use attache_protocol::request::{
    At, MediaKind, Message, Output, Part, PartKind, ReasoningAmount, Request, Role, Source, Tool,
    begun_answer,
};

use crate::catalogue::{Catalogue, Figures, Modalities, Reasoning};
use crate::gateway::Target;

/// Which targets can keep a request's contract, and why others cannot.
pub struct Guard<'r> {
    catalogue: &'r Catalogue,
    request: &'r Request<'r>,
    needs: OnceCell<Needs<'r>>,
    refused: Vec<Refused<'r>>,
}

/// What the catalogue knows of the model of a target that is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Known {
    /// Tokens.
    pub longest_prompt: Option<u64>,
    /// It thinks before it answers, unless it is told not to.
    pub reasons: bool,
}

/// A target that is not tried, and why.
struct Refused<'r> {
    protocol: Protocol,
    provider: &'r str,
    lacks: Lacks,
}

/// More reasons than this do not make a message clearer.
const MOST_REASONS: usize = 8;

impl<'r> Guard<'r> {
    pub fn new(catalogue: &'r Catalogue, request: &'r Request<'r>) -> Guard<'r> {
        Guard { catalogue, request, needs: OnceCell::new(), refused: Vec::new() }
    }

    /// Whether the target can keep the contract: then what else is known of its model.
    pub fn admits(&mut self, target: &'r Target) -> Option<Known> {
        let (request, row) = (self.request, target.provider.row);
        let name = target.model.as_deref().unwrap_or(&request.model);
        let mut lacks = Lacks::default();
        if row.protocol != request.protocol {
            lacks.losses = row.protocol.codec().contract(request, &row.dialect, name);
        }
        let known = self.catalogue.model(&target.provider.name, row.name, name);
        if let Some(known) = known {
            let needs = self.needs.get_or_init(|| Needs::of(request));
            lacks.add(needs.lacks(&known.figures, name, row.protocol));
        }
        if lacks.losses.is_empty() {
            let figures = known.map(|known| &known.figures);
            return Some(Known {
                longest_prompt: figures.and_then(Figures::longest_prompt),
                reasons: figures.is_some_and(|figures| {
                    matches!(figures.reasoning, Some(Reasoning::Optional | Reasoning::Always))
                }),
            });
        }
        self.refused.push(Refused { protocol: row.protocol, provider: &target.provider.name, lacks });
        None
    }

    /// The error of a request that no target can serve: each one's reasons.
    pub fn refusal(&self) -> ApiError {
        let of_one = |Refused { protocol, provider, lacks }: &Refused<'_>| -> Vec<String> {
            let told = |Loss { path, reason }: &Loss| {
                format!("`{path}` at {provider} ({}): {reason}", protocol.title())
            };
            lacks.losses.iter().map(told).collect()
        };
        let reasons: Vec<String> = self.refused.iter().flat_map(of_one).take(MOST_REASONS).collect();
        let message =
            format!("no target of this model's route can serve the request as it is: {}", reasons.join("; "));
        let mut error = if self.refused.iter().all(|refused| refused.lacks.too_long) {
            // Without a code of ours, so that the client's protocol gives its own.
            ApiError::new(ErrorKind::ContextTooLong, message)
        } else {
            ApiError::new(ErrorKind::BadRequest, message).with_code("unsupported_by_targets")
        };
        let first = self.refused.first().and_then(|refused| refused.lacks.losses.first());
        error.param = first.map(|loss| loss.path.clone());
        error
    }
}

/// What a request asks of any model, looked up once for all targets.
pub struct Needs<'r> {
    request: &'r Request<'r>,
    /// Media by kind, in [`KINDS`]' order: where the first of each stands.
    media: [Option<At>; 4],
    /// The first function tool.
    tool: Option<u32>,
    /// An answer that the assistant has begun, and that is to be gone on from.
    begun: Option<At>,
    /// Bytes of the messages' text. `None`: who answers may shorten the prompt.
    text: Option<u64>,
    words: OnceCell<u64>,
}

/// What a target's model lacks.
#[derive(Debug, Default, PartialEq)]
pub struct Lacks {
    pub losses: Vec<Loss>,
    /// The only reason is that the prompt is longer than the model holds.
    pub too_long: bool,
}

impl Lacks {
    /// Of two reasons for one member the one that is there already counts.
    fn add(&mut self, more: Lacks) {
        self.too_long = more.too_long && self.losses.is_empty();
        for loss in more.losses {
            if !self.losses.iter().any(|known| known.path == loss.path) {
                self.losses.push(loss);
            }
        }
    }
}

/// A kind of media: its place in [`Needs::media`], whether a model takes it, and its name.
struct Kind {
    takes: fn(&Modalities) -> Option<bool>,
    name: &'static str,
}
const KINDS: [Kind; 4] = [
    Kind { takes: |inputs| inputs.image, name: "images" },
    Kind { takes: |inputs| inputs.audio, name: "audio" },
    Kind { takes: |inputs| inputs.video, name: "video" },
    Kind { takes: |inputs| inputs.pdf, name: "PDF documents" },
];

/// Members by which a client lets the provider shorten a prompt: Anthropic's context editing, OpenRouter's transforms
/// and context compression. What is sent then says nothing of what the model reads.
const SHORTENS: [(Protocol, &str); 3] = [
    (Protocol::Anthropic, "context_management"),
    (Protocol::OpenAiChat, "transforms"),
    (Protocol::OpenAiChat, "plugins"),
];
/// Members of the last message that make a begun answer welcome where it is refused without them (Mistral and
/// DeepSeek: "Assistant with prefix True").
const GOES_ON: &str = "prefix";

impl<'r> Needs<'r> {
    pub fn of(request: &'r Request<'r>) -> Needs<'r> {
        let mut media = [None; 4];
        let mut text = 0;
        for message in &request.messages {
            for part in &message.parts {
                look(part, part.at, &mut media, &mut text);
            }
        }
        let shortens = |(owner, member): &(Protocol, &str)| {
            *owner == request.protocol && request.extras.names().any(|name| name == *member)
        };
        let last = request.messages.iter().rev().find(|message| message.role == Role::Assistant);
        let welcome = |message: &Message<'_>| message.extras.names().any(|name| name == GOES_ON);
        Needs {
            request,
            media,
            tool: request.tools.iter().find_map(|tool| match tool {
                Tool::Function(function) => Some(function.at),
                Tool::Foreign { .. } => None,
            }),
            begun: begun_answer(&request.messages).filter(|_| !last.is_some_and(welcome)),
            text: (!SHORTENS.iter().any(shortens)).then_some(text),
            words: OnceCell::new(),
        }
    }

    /// What of this a model lacks at a provider of `protocol`. `name` is the provider's name of it.
    pub fn lacks(&self, model: &Figures, name: &str, protocol: Protocol) -> Lacks {
        let request = self.request;
        let client = request.protocol.codec();
        let mut lacks = Lacks::default();
        let mut lose = |field: Field<'_>, reason: String| {
            lacks
                .losses
                .push(Loss { path: client.path_of(field), reason: format!("the model `{name}` {reason}") });
        };
        for (kind, at) in KINDS.iter().zip(self.media) {
            if let (Some(at), Some(false)) = (at, (kind.takes)(&model.inputs)) {
                lose(Field::Part(at, ""), format!("takes no {}", kind.name));
            }
        }
        if let (Some(tool), Some(false)) = (self.tool, model.tools) {
            lose(Field::Tool(tool, ""), "takes no tools".to_owned());
        }
        let parallel = request.parallel_tool_calls == Some(true) && self.tool.is_some();
        if parallel && model.parallel_tools == Some(false) {
            lose(Field::ParallelToolCalls, "makes one tool call at a time".to_owned());
        }
        if matches!(request.output, Output::JsonSchema { .. }) && model.json_schema == Some(false) {
            lose(Field::Output, "keeps to no JSON schema".to_owned());
        }
        if model.reasoning == Some(Reasoning::None)
            && reasons(&request.reasoning.amount, request.protocol == protocol)
        {
            lose(Field::Reasoning, "does not reason".to_owned());
        }
        let most = model.output.map_or(u64::MAX, std::num::NonZeroU64::get);
        if request.sampling.max_output_tokens.is_some_and(|wanted| wanted > most) {
            lose(Field::MaxOutputTokens, format!("answers with at most {most} tokens"));
        }
        // An OpenAI client expects a new answer, and elsewhere is given one: the codecs see to that.
        let goes_on = protocol == request.protocol || request.protocol != Protocol::OpenAiChat;
        if let (Some(at), Some(false)) = (self.begun.filter(|_| goes_on), model.prefill) {
            lose(Field::Message(at, ""), "does not go on from a begun answer".to_owned());
        }
        let fits = lacks.losses.is_empty();
        if let Some(loss) = self.too_long(model, name, client) {
            lacks.too_long = fits;
            lacks.losses.push(loss);
        }
        lacks
    }

    /// A prompt has at least as many tokens as it has words after white space, wherever no token holds white space
    /// between two letters (the catalogue's `wholeWords`): between the first characters of two such words lies
    /// white space, so no token holds both, and each word's first letter is in a token of its own. So what is
    /// refused here cannot fit. That holds for OpenAI's vocabularies by their pattern (tiktoken, `openai_public.py`):
    /// it cuts the text into pieces of which those with letters hold white space at most as their first
    /// character, and no token crosses pieces. Only text that every provider puts into the prompt counts: no tools,
    /// no arguments of calls, no earlier reasoning, no media.
    ///
    /// Words are counted only where there could be too many: each needs two bytes, and the lengths are known.
    fn too_long(&self, model: &Figures, name: &str, client: &dyn Codec) -> Option<Loss> {
        let holds = model.longest_prompt().filter(|_| model.whole_words == Some(true))?;
        if self.text? / 2 <= holds {
            return None;
        }
        let words = *self.words.get_or_init(|| self.request.messages.iter().map(message_words).sum());
        if words <= holds {
            return None;
        }
        let path = client.path_of(Field::Message(At::default(), ""));
        let path = path.split('[').next().unwrap_or_default().to_owned();
        let reason =
            format!("the model `{name}` holds {holds} tokens, and the messages are at least {words}");
        Some(Loss { path, reason })
    }
}

/// Notes a part's media and the bytes of its text; `at`: its place, or that of the tool result around it.
fn look(part: &Part<'_>, at: At, media: &mut [Option<At>; 4], text: &mut u64) {
    match &part.kind {
        PartKind::Text(said) => *text += said.len() as u64,
        PartKind::Media(found) => {
            let kind = match (found.kind, &found.source) {
                (_, Source::Text(said)) => {
                    *text += said.len() as u64;
                    return;
                }
                (MediaKind::Image, _) => 0,
                (MediaKind::Audio, _) => 1,
                (MediaKind::Video, _) => 2,
                // Of other documents no catalogue says who takes them.
                (MediaKind::Document, Source::Inline { mime, .. }) if *mime == "application/pdf" => 3,
                (MediaKind::Document, Source::Url { mime: Some(mime), .. }) if *mime == "application/pdf" => {
                    3
                }
                (MediaKind::Document, _) => return,
            };
            if let Some(place) = media.get_mut(kind) {
                place.get_or_insert(at);
            }
        }
        PartKind::ToolResult { content, .. } => {
            for inner in content {
                look(inner, at, media, text);
            }
        }
        PartKind::Reasoning { .. }
        | PartKind::Refusal(_)
        | PartKind::ToolCall { .. }
        | PartKind::Foreign(_) => {}
    }
}

/// Whether reasoning is asked for. "As much as the model sees fit" may be none, but a model of the client's own protocol
/// that does not reason does not know the words.
fn reasons(amount: &ReasoningAmount, same: bool) -> bool {
    match amount {
        ReasoningAmount::Unset | ReasoningAmount::Off => false,
        ReasoningAmount::Adaptive => same,
        ReasoningAmount::Effort(_) | ReasoningAmount::Budget(_) => true,
    }
}

fn message_words(message: &Message<'_>) -> u64 {
    message.parts.iter().map(part_words).sum()
}

fn part_words(part: &Part<'_>) -> u64 {
    match &part.kind {
        PartKind::Text(said) => words(said),
        PartKind::Media(media) => match &media.source {
            Source::Text(said) => words(said),
            Source::Inline { .. } | Source::Url { .. } | Source::File { .. } => 0,
        },
        PartKind::ToolResult { content, .. } => content.iter().map(part_words).sum(),
        PartKind::Reasoning { .. }
        | PartKind::Refusal(_)
        | PartKind::ToolCall { .. }
        | PartKind::Foreign(_) => 0,
    }
}

/// ASCII letters that follow a space or the end of a line; eight bytes at a time, since only megabytes are counted.
fn words(text: &str) -> u64 {
    const LOW: u64 = each(0x7f);
    const HIGH: u64 = each(0x80);
    // The high bit of each byte that is `byte`.
    let is = |eight: u64, byte: u8| {
        let other = eight ^ each(byte);
        !(((other & LOW) + LOW) | other) & HIGH
    };
    let letters = |eight: u64| {
        let small = (eight | each(0x20)) & LOW;
        (small + each(0x80 - b'a')) & !(small + each(0x80 - b'z' - 1)) & !eight & HIGH
    };
    let (eights, rest) = text.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(byte, from)| *byte = *from);
    let (mut count, mut before) = (0, 0);
    for bytes in eights.iter().chain([&last]) {
        let eight = u64::from_le_bytes(*bytes);
        let white = is(eight, b' ') | is(eight, b'\n');
        count += u64::from(((white << 8 | before) & letters(eight)).count_ones());
        before = white >> 56;
    }
    count
}

/// A byte eight times.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}
