//! Anthropic Messages: `POST /v1/messages`.
//!
//! `wire.rs` has the JSON; `decode.rs`, `encode.rs` (with `messages.rs`, `schema.rs`, `reasoning.rs`, `models.rs`,
//! `contract.rs`, `same_protocol.rs`) are for requests; `answer.rs`, `error.rs`, `stream_decode.rs`, `stream_encode.rs` for answers.

mod answer;
mod contract;
mod decode;
mod encode;
mod error;
mod messages;
mod models;
mod reasoning;
mod same_protocol;
mod schema;
mod stream_decode;
mod stream_encode;
#[cfg(test)]
mod tests;
mod wire;

pub use self::reasoning::DEFAULT_MAX_TOKENS;
use crate::codec::*;
use crate::dialect::Dialect;
use crate::error::{ApiError, body};
use crate::request::{At, Request};
use crate::response::Response;
use crate::wire::Fault;

pub struct Anthropic;

/// Anthropic has no JSON mode without a schema: a tool of this name is forced, and its call is the answer.
const JSON_TOOL: &str = "attache_json_answer";

impl Codec for Anthropic {
    fn decode_request<'a>(&self, _: &Line, body: &'a str) -> Result<Request<'a>, Fault> {
        decode::request(body)
    }
    fn path_of(&self, field: Field<'_>) -> String {
        path_of(field)
    }
    fn contract(&self, request: &Request<'_>, _: &Dialect, model: &str) -> Vec<Loss> {
        contract::check(request, model)
    }
    fn encode_request(
        &self,
        request: &Request<'_>,
        _: &Dialect,
        model: &str,
        losses: &mut Vec<Loss>,
    ) -> Vec<u8> {
        encode::request(request, model, losses)
    }
    fn edit_request(&self, body: &str, _: &Dialect, edits: &SameProtocol<'_>) -> Option<Vec<u8>> {
        same_protocol::edit(body, edits)
    }
    fn endpoint(&self, _: &str, _: bool) -> String {
        "/v1/messages".to_owned()
    }
    fn decode_response<'a>(&self, body: &'a str) -> Result<Response<'a>, ApiError> {
        answer::decode(body)
    }
    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        body::read(Some(status), body)
    }
    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(stream_decode::Decoder::default())
    }
    fn encode_response(&self, response: &Response<'_>, view: &View) -> Vec<u8> {
        answer::encode(response, view)
    }
    fn encode_error(&self, error: &ApiError) -> Vec<u8> {
        error::encode(error)
    }
    fn stream_encoder(&self, view: &View) -> Box<dyn StreamEncoder> {
        Box::new(stream_encode::Encoder::new(view))
    }
    fn stream_content_type(&self, _: &View) -> &'static str {
        "text/event-stream"
    }
    fn hide_usage(&self) -> Option<Box<dyn StreamFilter>> {
        None
    }
}

/// Where a field stands in a Messages request. Members that Anthropic does not have keep their usual names.
fn path_of(field: Field<'_>) -> String {
    let place =
        |base: String, member: &str| if member.is_empty() { base } else { format!("{base}.{member}") };
    let message = |at: At| match at.message {
        At::SYSTEM => "system".to_owned(),
        index => format!("messages[{index}]"),
    };
    match field {
        Field::MaxOutputTokens => "max_tokens".to_owned(),
        Field::Temperature => "temperature".to_owned(),
        Field::TopP => "top_p".to_owned(),
        Field::TopK => "top_k".to_owned(),
        Field::Seed => "seed".to_owned(),
        Field::FrequencyPenalty => "frequency_penalty".to_owned(),
        Field::PresencePenalty => "presence_penalty".to_owned(),
        Field::Stop => "stop_sequences".to_owned(),
        Field::LogitBias => "logit_bias".to_owned(),
        Field::Logprobs => "logprobs".to_owned(),
        Field::Candidates => "n".to_owned(),
        Field::Output => "output_config.format".to_owned(),
        Field::Schema(member) => place("output_config.format".to_owned(), member),
        Field::Reasoning => "thinking".to_owned(),
        Field::User => "metadata.user_id".to_owned(),
        Field::ToolChoice => "tool_choice".to_owned(),
        Field::ParallelToolCalls => "tool_choice.disable_parallel_tool_use".to_owned(),
        Field::Tool(index, member) => {
            // The model's words of a function, in Anthropic's.
            let member = if member == "parameters" { "input_schema" } else { member };
            place(format!("tools[{index}]"), member)
        }
        Field::Message(at, member) => place(message(at), member),
        Field::Part(at, member) => {
            let base = match (at.message, at.part) {
                (At::SYSTEM, At::WHOLE) => "system".to_owned(),
                (At::SYSTEM, part) => format!("system[{part}]"),
                (_, At::WHOLE) => format!("{}.content", message(at)),
                (_, part) => format!("{}.content[{part}]", message(at)),
            };
            place(base, member)
        }
        Field::Extra(name) => name.to_owned(),
    }
}
