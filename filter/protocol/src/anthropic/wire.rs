//! Anthropic's JSON as it stands in requests, answers and stream events
//! (shapes: `types/` of the official Python SDK `anthropic` 2.11).

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::text::{Extras, Raw, Text};
use crate::wire;
use crate::wire::{Count, StringOr, Told};

wire! {
    /// A request's body.
    pub struct Body<'a> {
        model: Text<'a>,
        max_tokens: u64,
        system: StringOr<'a, Vec<Block<'a>>>,
        messages: Vec<Turn<'a>>,
        tools: Vec<ToolDef<'a>>,
        tool_choice: Choice<'a>,
        temperature: f64,
        top_p: f64,
        top_k: u64,
        stop_sequences: Vec<Text<'a>>,
        thinking: Thinking<'a>,
        output_config: OutputConfig<'a>,
        /// The beta's place of `output_config.format`, still accepted.
        output_format: Format<'a>,
        metadata: Metadata<'a>,
        stream: bool,
    }
    pub struct Turn<'a> { role: Text<'a>, content: StringOr<'a, Vec<Block<'a>>> }
    /// A content block of any type, and what a stream's `content_block_start` shows of one.
    pub struct Block<'a> {
        kind = "type": Text<'a>,
        text: Text<'a>,
        thinking: Text<'a>,
        signature: Text<'a>,
        data: Text<'a>,
        id: Text<'a>,
        name: Text<'a>,
        input: Raw<'a>,
        tool_use_id: Text<'a>,
        content: StringOr<'a, Nested<'a>>,
        is_error: bool,
        source: StringOr<'a, Box<Source<'a>>>,
        title: Text<'a>,
    }
    pub struct Source<'a> {
        kind = "type": Text<'a>,
        media_type: Text<'a>,
        data: Text<'a>,
        url: Text<'a>,
        file_id: Text<'a>,
        content: StringOr<'a, Vec<Block<'a>>>,
    }
    pub struct ToolDef<'a> {
        kind = "type": Text<'a>,
        name: Text<'a>,
        description: Text<'a>,
        input_schema: Raw<'a>,
        strict: bool,
    }
    pub struct Choice<'a> { kind = "type": Text<'a>, name: Text<'a>, disable_parallel_tool_use: bool }
    pub struct Thinking<'a> { kind = "type": Text<'a>, budget_tokens: u64, display: Text<'a> }
    pub struct OutputConfig<'a> { effort: Text<'a>, format: Format<'a> }
    pub struct Format<'a> { kind = "type": Text<'a>, schema: Raw<'a> }
    pub struct Metadata<'a> { user_id: Text<'a> }

    /// A whole answer, `message` of a `message_start`, or an error body.
    pub struct Answer<'a> {
        kind = "type": Text<'a>,
        id: Text<'a>,
        model: Text<'a>,
        content: Vec<Block<'a>>,
        stop_reason: Text<'a>,
        stop_sequence: Text<'a>,
        usage: Told<Counts<'a>>,
        error: Raw<'a>,
    }
    pub struct Counts<'a> {
        input_tokens: Count,
        cache_creation_input_tokens: Count,
        cache_read_input_tokens: Count,
        cache_creation: CacheCreation<'a>,
        output_tokens: Count,
        output_tokens_details: OutputDetails<'a>,
        service_tier: Raw<'a>,
        speed: Raw<'a>,
    }
    pub struct CacheCreation<'a> {
        minutes = "ephemeral_5m_input_tokens": Count,
        hour = "ephemeral_1h_input_tokens": Count,
    }
    pub struct OutputDetails<'a> { thinking_tokens: Count }
    /// The data of a stream event.
    pub struct Event<'a> {
        kind = "type": Text<'a>,
        index: u64,
        delta: Piece<'a>,
        content_block: Block<'a>,
        message: Answer<'a>,
        usage: Told<Counts<'a>>,
        error: Raw<'a>,
    }
    /// `delta` of a `content_block_delta` or of the `message_delta`.
    pub struct Piece<'a> {
        kind = "type": Text<'a>,
        text: Text<'a>,
        partial_json: Text<'a>,
        thinking: Text<'a>,
        signature: Text<'a>,
        stop_reason: Text<'a>,
        stop_sequence: Text<'a>,
    }
    /// An object of which only the members matter.
    pub struct Object<'a> {}
}

/// What a block's `content` is where it is not a string: blocks, or the object of a server tool's result.
#[derive(Clone, Debug, PartialEq)]
pub enum Nested<'a> {
    Blocks(Vec<Block<'a>>),
    Object(Extras<'a>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Nested<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Nested<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of content blocks")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Nested<'de>, A::Error> {
                let mut blocks = Vec::with_capacity(seq.size_hint().unwrap_or(1));
                while let Some(block) = seq.next_element()? {
                    blocks.push(block);
                }
                Ok(Nested::Blocks(blocks))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Nested<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Nested::Object(Extras(members)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Nested::Blocks(blocks) => blocks.serialize(serializer),
            Nested::Object(Extras(members)) => serializer.collect_map(members.iter().map(|(k, v)| (k, v))),
        }
    }
}

impl<'a> Block<'a> {
    pub fn of(kind: &'static str) -> Self {
        Block { kind: Some(Text::borrowed(kind)), ..Block::default() }
    }
    pub fn text(text: Text<'a>) -> Self {
        Block { text: Some(text), ..Block::of("text") }
    }
    pub fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }
}
