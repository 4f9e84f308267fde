//! OpenAI Chat Completions, as clients speak it and as its author and many others serve it.

mod answer;
mod beside;
mod contract;
mod errors;
mod hide_usage;
mod json;
mod message_decode;
mod message_encode;
mod models;
mod reasoning;
#[cfg(test)]
mod recorded;
mod request_decode;
mod request_encode;
mod response;
mod same_protocol;
mod schema;
mod stream_decode;
mod stream_encode;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
mod wire;

use crate::codec::{
    Codec, Field, Line, Loss, SameProtocol, StreamDecoder, StreamEncoder, StreamFilter, View,
};
use crate::dialect::Dialect;
use crate::error::{ApiError, body};
use crate::request::{At, Request};
use crate::response::Response;
use crate::wire::Fault;

pub struct OpenAiChat;

impl Codec for OpenAiChat {
    fn decode_request<'a>(&self, _line: &Line, body: &'a str) -> Result<Request<'a>, Fault> {
        request_decode::decode(body)
    }

    fn path_of(&self, field: Field<'_>) -> String {
        path_of(field)
    }

    fn contract(&self, request: &Request<'_>, dialect: &Dialect, model: &str) -> Vec<Loss> {
        contract::check(request, dialect, model)
    }

    fn encode_request(
        &self,
        request: &Request<'_>,
        dialect: &Dialect,
        model: &str,
        losses: &mut Vec<Loss>,
    ) -> Vec<u8> {
        request_encode::encode(request, dialect, model, losses)
    }

    fn edit_request(&self, body: &str, dialect: &Dialect, edits: &SameProtocol<'_>) -> Option<Vec<u8>> {
        same_protocol::edit(body, dialect, edits)
    }

    fn endpoint(&self, _model: &str, _stream: bool) -> String {
        "/v1/chat/completions".to_owned()
    }

    fn decode_response<'a>(&self, body: &'a str) -> Result<Response<'a>, ApiError> {
        response::decode(body)
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        body::read(Some(status), body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(stream_decode::Decoder::default())
    }

    fn encode_response(&self, response: &Response<'_>, view: &View) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        response::encode(response, view, &mut out);
        out
    }

    fn encode_error(&self, error: &ApiError) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        errors::encode(error, &mut out);
        out
    }

    fn stream_encoder(&self, view: &View) -> Box<dyn StreamEncoder> {
        Box::new(stream_encode::Encoder::new(view))
    }

    fn stream_content_type(&self, _view: &View) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn hide_usage(&self) -> Option<Box<dyn StreamFilter>> {
        Some(Box::new(hide_usage::HideUsage::default()))
    }
}

fn path_of(field: Field<'_>) -> String {
    let below =
        |base: String, member: &str| if member.is_empty() { base } else { format!("{base}.{member}") };
    let name = match field {
        Field::MaxOutputTokens => "max_completion_tokens",
        Field::Temperature => "temperature",
        Field::TopP => "top_p",
        Field::TopK => "top_k",
        Field::Seed => "seed",
        Field::FrequencyPenalty => "frequency_penalty",
        Field::PresencePenalty => "presence_penalty",
        Field::Stop => "stop",
        Field::LogitBias => "logit_bias",
        Field::Logprobs => "logprobs",
        Field::Candidates => "n",
        Field::Output => "response_format",
        Field::Schema(member) => return below("response_format.json_schema".to_owned(), member),
        Field::Reasoning => "reasoning_effort",
        Field::User => "user",
        Field::ToolChoice => "tool_choice",
        Field::ParallelToolCalls => "parallel_tool_calls",
        Field::Extra(name) => name,
        Field::Tool(index, "") => return format!("tools[{index}]"),
        Field::Tool(index, member) => return format!("tools[{index}].function.{member}"),
        Field::Message(at, member) => return below(format!("messages[{}]", at.message), member),
        Field::Part(At { message, part }, member) => {
            return below(format!("messages[{message}].{}", message_decode::place(part)), member);
        }
    };
    name.to_owned()
}
