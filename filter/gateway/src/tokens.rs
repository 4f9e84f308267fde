//! How many tokens a request's prompt has: bounds by a cheap look, or exactly where the vocabulary is published.
//!
//! [`measure`] looks once; [`Measure::bounds`] says what follows for a model whose [`Ratio`] was learned, and
//! [`Measure::learn`] learns from what the provider reports. [`count`] counts OpenAI's tokens, which costs ten times as
//! much. What providers add around the client's words (chat templates, tools, images) follows the rules in `family.rs`
//! and `media.rs` in both, so the bounds of text are hard and what `count` says lies between them.

mod bpe;
mod elsewhere;
mod family;
mod hash;
mod image;
pub mod learned;
mod look;
mod media;
mod meter;
mod ratio;
pub mod speed;
mod split;
#[cfg(test)]
mod tests;
mod tools;
mod vocabulary;

use attache_protocol::request::{
    Function, Media, Message, Output, Part, PartKind, Request, Source, Tool, ToolChoice,
};
use serde::{Deserialize, Serialize};

pub use bpe::Counter;
pub use elsewhere::WINDOW;
pub use family::Family;
pub use meter::Meter;
pub use ratio::Ratio;
pub use speed::Speed;
pub use vocabulary::Vocabulary;

use look::Look;

/// Tokens: at least, about, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub low: u64,
    pub likely: u64,
    pub high: u64,
}

impl Bounds {
    pub const fn exactly(tokens: u64) -> Bounds {
        Bounds { low: tokens, likely: tokens, high: tokens }
    }
    /// Of two readings of one prompt the one that costs more.
    pub fn worst(self, other: Bounds) -> Bounds {
        Bounds {
            low: self.low.max(other.low),
            likely: self.likely.max(other.likely),
            high: self.high.max(other.high),
        }
    }
    pub const fn and(self, other: Bounds) -> Bounds {
        Bounds {
            low: self.low.saturating_add(other.low),
            likely: self.likely.saturating_add(other.likely),
            high: self.high.saturating_add(other.high),
        }
    }
}

/// What one look at a prompt found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Text, tools' schemas among it. `low` and `high` are hard where the vocabulary is known.
    pub text: Bounds,
    /// Everything else: templates, images, documents, sound.
    pub rest: Bounds,
    /// The vocabulary is known, so no report moves the bounds.
    hard: bool,
    /// It names what lies or is found elsewhere: it may be as long as its model takes.
    pub open: bool,
}

/// Bytes of text, or a little more, beyond which nobody counts: tokens are counted at some 12 MB a second, and meanwhile all
/// of the worker's other clients wait. The largest window of a published vocabulary has 1,047,576 tokens, and ordinary text
/// four or five bytes for each.
const COUNTABLE: u64 = 6 << 20;

impl Measure {
    /// It may be counted exactly without others waiting for it.
    pub fn is_countable(&self) -> bool {
        self.text.high <= COUNTABLE
    }

    /// Reports may move its bounds. What is elsewhere teaches nothing about text.
    pub fn learns(&self) -> bool {
        !self.hard && !self.open
    }

    /// `ratio`: what was learned of the model. Without one, the family's own usual share.
    pub fn bounds(&self, ratio: Option<&Ratio>) -> Bounds {
        let learned = ratio.and_then(|ratio| ratio.bounds(self.text.likely));
        let text = match learned {
            Some(learned) if self.hard => {
                Bounds { likely: learned.likely.clamp(self.text.low, self.text.high), ..self.text }
            }
            Some(learned) => learned,
            None => self.text,
        };
        text.and(self.rest)
    }

    /// The provider reported so many input tokens for this prompt, cached ones among them. Prompts whose media weigh more
    /// than their text teach nothing about text.
    pub fn learn(&self, ratio: &mut Ratio, reported: u64) {
        if self.rest.likely <= self.text.likely {
            ratio.update(self.text.likely, reported.saturating_sub(self.rest.likely));
        }
    }
}

/// Bounds of a prompt's tokens, as far as they are here; [`measure`] with [`Measure::bounds`].
pub fn estimate(family: Family, request: &Request<'_>, ratio: Option<&Ratio>) -> Bounds {
    measure(family, request).bounds(ratio)
}

/// One cheap look at a prompt.
pub fn measure(family: Family, request: &Request<'_>) -> Measure {
    let mut glance = Glance::default();
    walk(&family, request, &mut glance);
    let Glance { said, tools, schema, maybe, rest, open } = glance;
    let [of_tools, of_schema] = family.chat.schema;
    let likely = said.likely()
        + tools.likely() * of_tools / 256
        + schema.likely() * of_schema / 256
        + maybe.likely() / 2;
    let most = said.most()
        + 2 * (tools.most() + schema.most())
        + maybe.most()
        + DECLARATION * request.tools.len() as u64;
    let text = if family.vocabulary.is_some() {
        Bounds { low: said.least(), likely: likely.max(said.least()), high: most.max(likely) }
    } else {
        let likely = likely * family.scale / 256;
        Bounds { low: likely / 2, likely, high: (likely * 3 / 2 + 16).min(most.max(likely)) }
    };
    Measure { text, rest, hard: family.vocabulary.is_some(), open }
}

/// Characters that a function's declaration has beside what is its schema's.
const DECLARATION: u64 = 64;

/// A prompt's tokens, where the family's vocabulary is published: text to the token, so that a chat of text alone is exact;
/// what providers make of tools, schemas and media is known about.
pub fn count(family: Family, request: &Request<'_>) -> Option<Bounds> {
    let mut count = Count {
        counter: Counter::new(family.vocabulary?),
        schema: family.chat.schema[1],
        tokens: Bounds::default(),
    };
    walk(&family, request, &mut count);
    Some(count.tokens)
}

/// What a prompt consists of.
trait Sink {
    /// Text that is certainly in the prompt.
    fn text(&mut self, text: &str);
    /// Text that the provider may leave out: earlier reasoning, blocks that only it understands.
    fn maybe(&mut self, text: &str);
    fn tool(&mut self, function: &Function<'_>);
    /// A schema that the answer must keep to, or a tool of the provider's own.
    fn schema(&mut self, json: &str);
    fn rest(&mut self, tokens: Bounds);
    /// It names what is elsewhere.
    fn elsewhere(&mut self, tokens: Bounds) {
        self.rest(tokens);
    }
}

#[derive(Default)]
struct Glance {
    said: Look,
    tools: Look,
    schema: Look,
    maybe: Look,
    rest: Bounds,
    open: bool,
}

impl Sink for Glance {
    fn text(&mut self, text: &str) {
        self.said.add(text);
    }
    fn maybe(&mut self, text: &str) {
        self.maybe.add(text);
    }
    fn tool(&mut self, function: &Function<'_>) {
        self.tools.add(&function.name);
        self.tools.add(function.description.as_deref().unwrap_or_default());
        self.tools.add(function.parameters.as_ref().map_or("", |schema| schema.get()));
    }
    fn schema(&mut self, json: &str) {
        self.schema.add(json);
    }
    fn rest(&mut self, tokens: Bounds) {
        self.rest = self.rest.and(tokens);
    }
    fn elsewhere(&mut self, tokens: Bounds) {
        self.open = true;
        self.rest(tokens);
    }
}

struct Count {
    counter: Counter,
    /// Of the schema that an answer must keep to: tokens for 256 of its text.
    schema: u64,
    tokens: Bounds,
}

impl Count {
    fn add(&mut self, tokens: Bounds) {
        self.tokens = self.tokens.and(tokens);
    }
}

impl Sink for Count {
    fn text(&mut self, text: &str) {
        let tokens = self.counter.count(text);
        self.add(Bounds::exactly(tokens));
    }
    fn maybe(&mut self, text: &str) {
        let high = self.counter.count(text);
        self.add(Bounds { low: 0, likely: high / 2, high });
    }
    fn tool(&mut self, function: &Function<'_>) {
        // How providers show tools to their models is found out by trials, which recorded traffic keeps to within a fifth.
        let likely = self.counter.count(&tools::typescript(function));
        self.add(Bounds { low: likely / 2, likely, high: likely + likely / 2 + DECLARATION });
    }
    fn schema(&mut self, json: &str) {
        let all = self.counter.count(json);
        self.add(Bounds { low: 0, likely: all * self.schema / 256, high: 2 * all });
    }
    fn rest(&mut self, tokens: Bounds) {
        self.add(tokens);
    }
}

fn walk(family: &Family, request: &Request<'_>, sink: &mut dyn Sink) {
    let chat = family.chat;
    sink.rest(family.template(chat.prompt));
    if let Some(more) = elsewhere::names(request) {
        sink.elsewhere(more);
    }
    for message in &request.messages {
        said(family, message, sink);
    }
    if !request.tools.is_empty() {
        let forced = !matches!(request.tool_choice, None | Some(ToolChoice::Auto | ToolChoice::None));
        let words = if forced { chat.tools[1] } else { chat.tools[0] };
        let all = words + chat.tool * request.tools.len() as u64;
        sink.rest(Bounds { low: 0, likely: all, high: all.max(1024) });
    }
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => sink.tool(function),
            Tool::Foreign { verbatim, .. } => sink.schema(verbatim.get()),
        }
    }
    if let Output::JsonSchema { description, schema, .. } = &request.output {
        sink.schema(schema.get());
        // "Used by the model to determine how to respond in the format" (openai SDK `response_format_json_schema.py`).
        sink.schema(description.as_deref().unwrap_or_default());
        sink.rest(Bounds { low: 0, likely: chat.answer, high: 2 * chat.answer });
    }
}

fn said(family: &Family, message: &Message<'_>, sink: &mut dyn Sink) {
    let overhead = family.chat.message;
    // Results are messages of their own in most templates.
    let results =
        message.parts.iter().filter(|part| matches!(part.kind, PartKind::ToolResult { .. })).count() as u64;
    let own = u64::from(message.parts.len() as u64 > results || results == 0);
    sink.rest(family.template(overhead * own));
    if let Some(name) = &message.name {
        sink.text(name);
        sink.rest(Bounds::exactly(1));
    }
    for inner in &message.parts {
        part(family, inner, sink);
    }
}

fn part(family: &Family, part: &Part<'_>, sink: &mut dyn Sink) {
    let call = family.chat.call;
    if let Some(signature) = &part.signature {
        // Gemini 3 counts its own thoughts when they come back, which no length tells; others count none.
        let most = signature.data.len() as u64 / 2;
        sink.rest(Bounds { low: 0, likely: family.chat.signature.min(most), high: most });
    }
    if let PartKind::Media(media) = &part.kind {
        // A document's title and context "will be passed to the model" (platform.claude.com, "Citations"), a file's name may be.
        let context = part.extras.get("context").map_or(0, |context| context.get().len());
        let most = media.name.as_deref().map_or(0, str::len) + context;
        sink.rest(Bounds { low: 0, likely: 0, high: most as u64 });
    }
    match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) => sink.text(text),
        PartKind::Media(Media { source: Source::Text(text), .. }) => sink.text(text),
        PartKind::Media(media) => sink.rest(media::media(family, media)),
        PartKind::Reasoning { text, .. } => sink.maybe(text),
        PartKind::ToolCall { name, arguments, .. } => {
            sink.text(name);
            sink.text(arguments);
            sink.rest(Bounds { low: 0, likely: call, high: 2 * call + 8 });
        }
        PartKind::ToolResult { content, .. } => {
            sink.rest(Bounds { low: 0, likely: family.chat.message, high: 2 * call + 8 });
            content.iter().for_each(|inner| self::part(family, inner, sink));
        }
        PartKind::Foreign(raw) => sink.maybe(raw.get()),
    }
}
