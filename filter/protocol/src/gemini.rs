//! Gemini `generateContent` and `streamGenerateContent` (v1beta), as the client's and as the provider's protocol.
//!
//! Evidence: ai.google.dev/api and /gemini-api/docs, the google-genai SDK's `types.py`, `models.py` and
//! `errors.py`, recorded traffic of the Gemini API and of Vertex.

mod answer;
mod beside;
mod contents;
mod encode;
mod errors;
mod json;
mod models;
#[cfg(test)]
mod recorded;
mod request;
mod same_protocol;
mod schema;
mod signature;
mod stream;
mod stream_out;
#[cfg(test)]
mod tests;
mod turns;
mod wire;

use crate::codec::*;
use crate::dialect::Dialect;
use crate::error::{ApiError, body};
use crate::request::{At, Request};
use crate::response::Response;
use crate::wire::Fault;

pub struct Gemini;

impl Codec for Gemini {
    fn decode_request<'a>(&self, line: &Line, body: &'a str) -> Result<Request<'a>, Fault> {
        request::decode(line, body)
    }
    fn path_of(&self, field: Field<'_>) -> String {
        let setting = match field {
            Field::MaxOutputTokens => "maxOutputTokens",
            Field::Temperature => "temperature",
            Field::TopP => "topP",
            Field::TopK => "topK",
            Field::Seed => "seed",
            Field::FrequencyPenalty => "frequencyPenalty",
            Field::PresencePenalty => "presencePenalty",
            Field::Stop => "stopSequences",
            Field::Logprobs => "responseLogprobs",
            Field::Candidates => "candidateCount",
            Field::Output | Field::Schema(_) => "responseJsonSchema",
            Field::Reasoning => "thinkingConfig",
            // Gemini has no such member; this is where it would be.
            Field::LogitBias => "logitBias",
            Field::User => return "user".to_owned(),
            Field::ParallelToolCalls => return "toolConfig".to_owned(),
            Field::ToolChoice => return "toolConfig.functionCallingConfig".to_owned(),
            Field::Tool(at, member) => return tool_path(at, member),
            Field::Message(at, member) => return joined(message_path(at), member),
            Field::Part(at, member) if at.part == At::WHOLE => return joined(message_path(at), member),
            Field::Part(at, member) => {
                return joined(format!("{}.parts[{}]", message_path(at), at.part), member);
            }
            Field::Extra(name) => return name.to_owned(),
        };
        format!("{}{setting}", request::GENERATION)
    }
    fn contract(&self, request: &Request<'_>, _: &Dialect, model: &str) -> Vec<Loss> {
        encode::contract(request, model)
    }
    fn encode_request(
        &self,
        request: &Request<'_>,
        _: &Dialect,
        model: &str,
        losses: &mut Vec<Loss>,
    ) -> Vec<u8> {
        encode::encode(request, model, losses)
    }
    fn edit_request(&self, body: &str, _: &Dialect, edits: &SameProtocol<'_>) -> Option<Vec<u8>> {
        same_protocol::edit(body, edits)
    }
    fn endpoint(&self, model: &str, stream: bool) -> String {
        let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        format!("/v1beta/{}:{method}", resource(model))
    }
    fn decode_response<'a>(&self, body: &'a str) -> Result<Response<'a>, ApiError> {
        answer::decode(body)
    }
    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        body::read(Some(status), body)
    }
    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(stream::Decoder::default())
    }
    fn encode_response(&self, response: &Response<'_>, view: &View) -> Vec<u8> {
        answer::encode(response, view)
    }
    fn encode_error(&self, error: &ApiError) -> Vec<u8> {
        errors::encode(error)
    }
    fn stream_encoder(&self, view: &View) -> Box<dyn StreamEncoder> {
        Box::new(stream_out::Encoder::new(view))
    }
    fn stream_content_type(&self, view: &View) -> &'static str {
        if view.sse { "text/event-stream" } else { "application/json" }
    }
    /// Gemini always shows usage.
    fn hide_usage(&self) -> Option<Box<dyn StreamFilter>> {
        None
    }
}

fn message_path(at: At) -> String {
    if at.message == At::SYSTEM {
        "systemInstruction".to_owned()
    } else {
        format!("contents[{}]", at.message)
    }
}

fn tool_path(at: u32, member: &str) -> String {
    let (group, declaration) = (at >> 16, at & request::WHOLE_GROUP);
    let tool = match declaration {
        request::WHOLE_GROUP => format!("tools[{group}]"),
        declaration => format!("tools[{group}].functionDeclarations[{declaration}]"),
    };
    joined(tool, member)
}

fn joined(path: String, member: &str) -> String {
    if member.is_empty() { path } else { format!("{path}.{member}") }
}

/// The model's resource name, safe in a path. A name with a collection of its own (`tunedModels/x`,
/// `publishers/google/models/x`) keeps its slashes; in any other a slash is part of the model's name.
fn resource(model: &str) -> String {
    const COLLECTIONS: [&str; 3] = ["tunedModels/", "publishers/", "projects/"];
    let model = request::bare(model);
    let own = COLLECTIONS.iter().any(|collection| model.starts_with(collection));
    let safe = model.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    if own && safe {
        model.split('/').map(escaped).collect::<Vec<_>>().join("/")
    } else {
        format!("models/{}", escaped(model))
    }
}

/// Everything but unreserved characters (RFC 3986, 2.3) percent-encoded.
fn escaped(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
