//! Whole answers: read from a provider, written for a client.

use super::answer::{self, Answer, Call, Said, content_parts, finish_reason, finish_word};
use super::json::{List, Object};
use super::{beside, reasoning};
use crate::codec::View;
use crate::error::{ApiError, ErrorKind, body};
use crate::request::{Media, MediaKind, Part, PartKind, Source};
use crate::response::{Finish, FinishReason, Response, Usage};
use crate::text::{Raw, Text};

pub fn decode(text: &str) -> Result<Response<'_>, ApiError> {
    let answer: Answer<'_> = serde_json::from_str(text).map_err(|error| body::unreadable(text, &error))?;
    if answer.error.is_some() {
        return Err(body::read(None, text.as_bytes()));
    }
    let usage = Some(answer.usage()).filter(|usage| !usage.is_empty());
    let choices = answer.choices.unwrap_or_default();
    let (mut first, others): (Vec<_>, Vec<_>) =
        choices.into_iter().partition(|choice| choice.index.unwrap_or(0) == 0);
    let Some(mut choice) = (!first.is_empty()).then(|| first.swap_remove(0)) else {
        // Some providers answer 200 with an error that has no `error` member.
        return Err(body::find(text).unwrap_or_else(|| ApiError::malformed("it has no choices")));
    };
    if let Some(error) = failure(&choice) {
        return Err(error);
    }
    let said = choice.message.take().or(choice.delta.take()).unwrap_or_default();
    let id = answer.id.unwrap_or_default();
    let Some(word) = choice.finish_reason.filter(|word| !word.is_empty()) else {
        return Err(ApiError::truncated());
    };
    let mut beside = Vec::new();
    beside::shown(&said, &mut |one| beside.push(one));
    for mut other in others {
        let said = other.message.take().or(other.delta.take()).unwrap_or_default();
        beside::choice(said, &mut |one| beside.push(one));
    }
    let parts = parts(said, &id);
    let calls = parts.iter().any(|part| matches!(part.kind, PartKind::ToolCall { .. }));
    let finish = Finish { reason: finish_reason(&word, calls), raw: Some(word), stop_sequence: None };
    Ok(Response { parts, beside, id, model: answer.model.unwrap_or_default(), finish, usage })
}

/// A choice that says that its upstream failed: OpenRouter's `error`, DeepSeek's `insufficient_system_resource`
/// ("the request is interrupted due to insufficient resource of the inference system", its API reference).
pub fn failure(choice: &answer::Choice<'_>) -> Option<ApiError> {
    if let Some(error) = choice.error {
        return Some(body::read(None, error.get().as_bytes()));
    }
    match choice.finish_reason.as_deref() {
        Some("error") => {
            Some(ApiError::new(ErrorKind::Server, "the provider ended the answer with an error"))
        }
        Some("insufficient_system_resource") => Some(ApiError::new(
            ErrorKind::Overloaded,
            "the provider interrupted the answer for lack of resources",
        )),
        _ => None,
    }
}

fn parts<'a>(mut said: Said<'a>, id: &str) -> Vec<Part<'a>> {
    let thought = said.thought();
    let reasoned = reasoning::read(thought, said.details());
    let mut found = reasoned.parts;
    // The members of an entry are of use to its author's clients only.
    found.iter_mut().for_each(|part| part.extras.0.clear());
    found.extend(said.content.map(content_parts).unwrap_or_default());
    if let Some(signature) = reasoned.of_text {
        match found.iter_mut().rev().find(|part| matches!(part.kind, PartKind::Text(_))) {
            Some(part) => part.signature = Some(signature),
            None => found.push(Part { signature: Some(signature), ..Part::text("") }),
        }
    }
    if let Some(refusal) = said.refusal.filter(|refusal| !refusal.is_empty()) {
        found.push(Part::new(PartKind::Refusal(refusal)));
    }
    if let Some(audio) = said.audio.and_then(|audio| serde_json::from_str::<Raw<'a>>(audio.get()).ok()) {
        found.push(Part::new(PartKind::Foreign(audio)));
    }
    for (index, call) in said.tool_calls.unwrap_or_default().into_iter().enumerate() {
        found.extend(call_part(call, id, index));
    }
    if let Some(function) = said.function_call {
        found.extend(call_part(
            Call { index: None, id: None, function: Some(function), extra_content: None },
            id,
            0,
        ));
    }
    found
}

fn call_part<'a>(call: Call<'a>, answer: &str, index: usize) -> Option<Part<'a>> {
    let function = call.function?;
    let arguments = function.arguments();
    let kind = PartKind::ToolCall {
        id: call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| Text::from(made_id(answer, index))),
        name: function.name.filter(|name| !name.is_empty())?,
        arguments: if arguments.trim().is_empty() { Text::from("{}") } else { arguments },
    };
    Some(Part { signature: answer::call_signature(call.extra_content), ..Part::new(kind) })
}

/// An id for a call that came without one, unique by its answer's id. OpenAI takes ids of at most 40 characters back.
pub fn made_id(answer: &str, index: usize) -> String {
    let letters = answer.chars().rev().filter(char::is_ascii_alphanumeric).take(24).collect::<Vec<_>>();
    format!("call_{}_{index}", letters.into_iter().rev().collect::<String>())
}

pub fn encode(response: &Response<'_>, view: &View, out: &mut Vec<u8>) {
    let Response { id, model, parts, beside: _, finish, usage } = response;
    let mut object = Object::open(out);
    head(&mut object, id, model, "chat.completion", view);
    let mut choices = object.list("choices");
    let mut choice = choices.object();
    choice.set("index", &0);
    let calls = parts.iter().any(|part| matches!(part.kind, PartKind::ToolCall { .. }));
    write_message(parts, choice.object("message"));
    choice.raw("logprobs", "null");
    choice.set("finish_reason", word(finish, calls));
    choice.close();
    choices.close();
    if let Some(usage) = usage {
        write_usage(usage, object.key("usage"));
        object.set_some("service_tier", answer::tier_word(usage));
    }
    object.close();
}

/// The members before the choices, the same in answers and chunks.
pub fn head(object: &mut Object<'_>, id: &str, model: &str, kind: &str, view: &View) {
    match id {
        "" => object.set("id", &format!("chatcmpl-{}", view.now)),
        id => object.set("id", id),
    }
    object.set("object", kind);
    object.set("created", &view.now);
    object.set("model", if model.is_empty() { view.model.as_str() } else { model });
}

pub fn word(finish: &Finish<'_>, calls: bool) -> &'static str {
    let Finish { reason, raw: _, stop_sequence: _ } = finish;
    finish_word(*reason, calls && matches!(reason, FinishReason::Stop | FinishReason::Other))
}

fn write_message(parts: &[Part<'_>], mut message: Object<'_>) {
    message.set("role", "assistant");
    let mut texts = parts.iter().filter_map(|part| match &part.kind {
        PartKind::Text(text) if !text.is_empty() => Some(&**text),
        _ => None,
    });
    match (texts.next(), texts.next()) {
        (None, _) => message.raw("content", "null"),
        (Some(text), None) => message.set("content", text),
        (Some(first), Some(second)) => {
            message.set("content", &texts.fold(format!("{first}{second}"), |all, text| all + text))
        }
    }
    let refusal = parts.iter().find_map(|part| match &part.kind {
        PartKind::Refusal(text) => Some(text),
        _ => None,
    });
    message.set("refusal", &refusal);
    message.set_some("reasoning_content", reasoning::joined(parts));
    if reasoning::signed(parts) {
        let mut list = message.list("reasoning_details");
        reasoning::write(&mut list, parts);
        list.close();
    }
    write_images(parts, &mut message);
    write_calls(parts, &mut message);
    message.close();
}

/// Images that a model made, where OpenRouter has them (`message.images`, its image generation guide).
fn write_images(parts: &[Part<'_>], message: &mut Object<'_>) {
    let mut images = parts.iter().filter_map(|part| match &part.kind {
        PartKind::Media(Media {
            kind: MediaKind::Image, source: Source::Inline { mime, base64 }, ..
        }) => Some(format!("data:{mime};base64,{base64}")),
        PartKind::Media(Media { kind: MediaKind::Image, source: Source::Url { url, .. }, .. }) => {
            Some(url.to_string())
        }
        _ => None,
    });
    let Some(first) = images.next() else { return };
    let mut list = message.list("images");
    for url in std::iter::once(first).chain(images) {
        let mut image = list.object();
        image.set("type", "image_url");
        let mut inner = image.object("image_url");
        inner.set("url", &url);
        inner.close();
        image.close();
    }
    list.close();
}

fn write_calls(parts: &[Part<'_>], message: &mut Object<'_>) {
    if !parts.iter().any(|part| matches!(part.kind, PartKind::ToolCall { .. })) {
        return;
    }
    let mut list: List<'_> = message.list("tool_calls");
    for part in parts {
        let PartKind::ToolCall { id, name, arguments } = &part.kind else { continue };
        let mut call = list.object();
        call.set("id", id);
        call.set("type", "function");
        let mut function = call.object("function");
        function.set("name", name);
        // Clients parse this; nothing is no JSON.
        function.set("arguments", if arguments.trim().is_empty() { "{}" } else { arguments });
        function.close();
        if let Some(signature) = &part.signature {
            reasoning::write_call(&mut call, signature);
        }
        call.close();
    }
    list.close();
}

/// Usage as OpenAI's clients read it; `cache_write_tokens` is OpenRouter's addition.
pub fn write_usage(usage: &Usage, out: &mut Vec<u8>) {
    let Usage {
        input,
        cache_read,
        cache_write,
        // How long it is kept has no place here.
        cache_write_hour: _,
        audio_input,
        output,
        reasoning,
        audio_output,
        // It stands beside the usage.
        tier: _,
    } = *usage;
    let (prompt, completion) = (input.unwrap_or(0), output.unwrap_or(0));
    let mut object = Object::open(out);
    object.set("prompt_tokens", &prompt);
    object.set("completion_tokens", &completion);
    object.set("total_tokens", &prompt.saturating_add(completion));
    if cache_read.is_some() || cache_write.is_some() || audio_input.is_some() {
        let mut details = object.object("prompt_tokens_details");
        details.set_some("cached_tokens", cache_read);
        details.set_some("cache_write_tokens", cache_write);
        details.set_some("audio_tokens", audio_input);
        details.close();
    }
    if reasoning.is_some() || audio_output.is_some() {
        let mut details = object.object("completion_tokens_details");
        details.set_some("reasoning_tokens", reasoning);
        details.set_some("audio_tokens", audio_output);
        details.close();
    }
    object.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View { model: "asked".into(), now: 7, include_usage: false, sse: true }
    }
    fn again(body: &str) -> String {
        let mut out = Vec::new();
        encode(&decode(body).unwrap(), &view(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_is_written_as_openai_does() {
        let body = r#" {"id":"c1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,
            "tool_calls":[{"id":"x","function":{"name":"f","arguments":""}}]},"finish_reason":"tool_calls"}],
            "usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
        let expected = concat!(
            r#"{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"#,
            r#""role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"x","type":"function","#,
            r#""function":{"name":"f","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"#,
            r#""usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#
        );
        assert_eq!(again(body), expected);
        assert_eq!(again(expected), expected);
    }

    #[test]
    fn reasoning_refusals_and_old_calls_are_read() {
        let body = r#"{"choices":[{"message":{"content":"","reasoning":"hm","refusal":"no",
            "function_call":{"name":"f","arguments":"{}"}},"finish_reason":"stop"}]}"#;
        let response = decode(body).unwrap();
        assert_eq!(response.parts.len(), 3);
        assert!(again(body).contains(r#""model":"asked""#));
        assert!(again(body).contains(r#""reasoning_content":"hm""#));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert_eq!(decode(r#"{"error":{"message":"m","code":429}}"#).unwrap_err().kind, ErrorKind::RateLimit);
        assert_eq!(decode(r#"{"choices":[]}"#).unwrap_err().kind, ErrorKind::Malformed);
        assert_eq!(decode(r#"{"choices":[{"#).unwrap_err().kind, ErrorKind::Truncated);
        assert_eq!(decode("").unwrap_err().kind, ErrorKind::Malformed);
        assert_eq!(decode("<html>").unwrap_err().kind, ErrorKind::Malformed);
    }
}
