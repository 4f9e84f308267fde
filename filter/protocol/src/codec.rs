//! The protocols, what each one's codec can do, and the one `match` from a protocol to its codec.

use crate::dialect::Dialect;
use crate::error::ApiError;
use crate::event::{Sink, StreamEvent};
use crate::request::Request;
use crate::response::{Response, Usage};
use crate::wire::Fault;

/// A protocol that clients speak and providers answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Protocol {
    Anthropic,
    Gemini,
    OpenAiChat,
}

impl Protocol {
    pub const ALL: [Protocol; 3] = [Protocol::Anthropic, Protocol::Gemini, Protocol::OpenAiChat];

    pub fn codec(self) -> &'static dyn Codec {
        match self {
            Protocol::Anthropic => &crate::anthropic::Anthropic,
            Protocol::Gemini => &crate::gemini::Gemini,
            Protocol::OpenAiChat => &crate::openai_chat::OpenAiChat,
        }
    }
    /// Stable name, as in the provider table and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Anthropic => "anthropic",
            Protocol::Gemini => "gemini",
            Protocol::OpenAiChat => "openai-chat",
        }
    }
    pub fn from_name(name: &str) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.name() == name)
    }
    /// The protocol as a person calls it.
    pub fn title(self) -> &'static str {
        match self {
            Protocol::Anthropic => "Anthropic Messages",
            Protocol::Gemini => "Gemini generateContent",
            Protocol::OpenAiChat => "OpenAI Chat Completions",
        }
    }
}

/// What the request line says beside the body: some protocols keep the model and the streaming there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The model in the path, percent-decoded (Gemini).
    pub model: Option<String>,
    /// The method in the path asks for a stream (Gemini).
    pub stream: bool,
    /// `alt=sse` (Gemini); without it a Gemini stream is one JSON array.
    pub sse: bool,
}

/// How the client wants to see the answer; everything that an encoder needs beside the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct View {
    /// The model to name where the provider named none.
    pub model: String,
    /// Unix time in seconds, for OpenAI's `created`.
    pub now: u64,
    /// Usage is shown in the stream.
    pub include_usage: bool,
    /// `false`: a Gemini stream goes out as one JSON array.
    pub sse: bool,
}

/// Something of the request that a provider's protocol cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// JSON path in the client's request.
    pub path: String,
    pub reason: String,
}

/// Which member of a request, to name it in the client's own words. See [`Codec::path_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'f> {
    MaxOutputTokens,
    Temperature,
    TopP,
    TopK,
    Seed,
    FrequencyPenalty,
    PresencePenalty,
    Stop,
    LogitBias,
    Logprobs,
    Candidates,
    Output,
    /// A member of what describes the answer's schema.
    Schema(&'f str),
    Reasoning,
    User,
    ToolChoice,
    ParallelToolCalls,
    /// A tool by its index, or a member of it.
    Tool(u32, &'f str),
    /// A message, or a member of it (empty: the message itself).
    Message(crate::request::At, &'f str),
    /// A part, or a member of it (empty: the part itself).
    Part(crate::request::At, &'f str),
    /// A top-level member that no codec models.
    Extra(&'f str),
}

/// One protocol: as the client's and as the provider's.
pub trait Codec: Sync {
    // ---- request, client side ----
    /// Reads a client's body. Faults carry the JSON path and say what was expected.
    fn decode_request<'a>(&self, line: &Line, body: &'a str) -> Result<Request<'a>, Fault>;
    /// A field's JSON path in this protocol's request.
    fn path_of(&self, field: Field<'_>) -> String;

    // ---- request, provider side ----
    /// What of the request's contract this protocol cannot keep (`n > 1`, media without a place, a foreign tool …).
    /// `model` is the provider's: what it can keep may hang on it. Non-empty: the target is not tried. Only called
    /// for requests that came in another protocol.
    fn contract(&self, request: &Request<'_>, dialect: &Dialect, model: &str) -> Vec<Loss>;
    /// Writes the body for `model` at the provider. Only for requests without a contract loss here; tuning that has
    /// no place is dropped and added to `losses` by its path in the client's request.
    fn encode_request(
        &self,
        request: &Request<'_>,
        dialect: &Dialect,
        model: &str,
        losses: &mut Vec<Loss>,
    ) -> Vec<u8>;
    /// The named edits when client and provider both speak this protocol; `None`: the body goes as it came.
    fn edit_request(&self, body: &str, dialect: &Dialect, edits: &SameProtocol<'_>) -> Option<Vec<u8>>;
    /// Path (and query) of the endpoint below the origin's prefix.
    fn endpoint(&self, model: &str, stream: bool) -> String;

    // ---- answer, provider side ----
    /// Reads a whole answer. An error body under a 200 is an `Err` with its own kind, anything unreadable `Malformed`.
    fn decode_response<'a>(&self, body: &'a str) -> Result<Response<'a>, ApiError>;
    /// Reads the body of an error status; any body gives some error.
    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError;
    fn stream_decoder(&self) -> Box<dyn StreamDecoder>;

    // ---- answer, client side ----
    fn encode_response(&self, response: &Response<'_>, view: &View) -> Vec<u8>;
    fn encode_error(&self, error: &ApiError) -> Vec<u8>;
    fn stream_encoder(&self, view: &View) -> Box<dyn StreamEncoder>;
    /// Content type of a stream to the client.
    fn stream_content_type(&self, view: &View) -> &'static str;
    /// Takes usage out of a same-protocol stream that the client did not ask to have it in; `None`: nothing to take.
    fn hide_usage(&self) -> Option<Box<dyn StreamFilter>>;
}

/// What a same-protocol request needs changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SameProtocol<'e> {
    /// The provider's name of the model, when it differs from what the client wrote.
    pub model: Option<&'e str>,
    /// Usage is to be reported in the stream although the client did not ask.
    pub add_usage: bool,
    /// Another protocol's provider may have answered an earlier turn ([`Signature::may_be_carried`]): what only it
    /// understands is taken out, since this one would refuse it.
    ///
    /// [`Signature::may_be_carried`]: crate::request::Signature::may_be_carried
    pub others: bool,
    /// The most tokens that each answer may have: where the client asked for more or said nothing, this is asked for, in
    /// the client's own spelling. Thinking makes do with what is below it.
    pub output_limit: Option<u64>,
}

impl SameProtocol<'_> {
    /// Whether nothing is wanted: the body goes as it came, unread.
    pub fn is_nothing(&self) -> bool {
        *self == SameProtocol::default()
    }
}

/// A provider's stream → events. Bytes come in any pieces; events obey [`crate::event::Grammar`].
pub trait StreamDecoder {
    fn push(&mut self, bytes: &[u8], sink: &mut Sink<'_>);
    /// The bytes have ended. Emits the last event (`Finish`, or `Failed`) unless it came already.
    fn end(&mut self, sink: &mut Sink<'_>);
    /// What the provider has told of tokens so far; as an event it comes only with the end.
    fn usage(&self) -> Usage;
    /// How many answers have begun.
    fn answers(&self) -> u64;
    /// For a client of this very protocol that has had the whole events among these bytes as they are: an encoder as if it
    /// had written them. It is there to end the stream, by [`StreamEncoder::stop`] or by a failure.
    fn encoder(&self, view: &View) -> Box<dyn StreamEncoder>;
}

/// Events → the client's stream.
pub trait StreamEncoder {
    fn event(&mut self, event: &StreamEvent<'_>, out: &mut Vec<u8>);
    /// Ends the stream here, wherever it stands, as a complete answer that has reached its limit (`FinishReason::Length`);
    /// `usage` is its bill, where it says more than what is known here. Of an end that has begun it writes what is missing,
    /// after one nothing, and no event does after it.
    fn stop(&mut self, usage: &Usage, out: &mut Vec<u8>);
}

/// A stream → the same stream without something.
pub trait StreamFilter {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>);
    fn end(&mut self, out: &mut Vec<u8>);
}
