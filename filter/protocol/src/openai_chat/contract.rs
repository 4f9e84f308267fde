//! What of a request that came in another protocol OpenAI Chat Completions cannot keep.

use super::message_encode::audio_format;
use super::{models, schema};
use crate::codec::{Field, Loss};
use crate::dialect::{Dialect, MaxTokens};
use crate::request::{
    Media, MediaKind, NO_ANSWER, Output, Part, PartKind, Request, Role, Source, Tool, begun_answer,
};

/// "Up to 4 sequences" (openai SDK, `types/chat/completion_create_params.py`).
const MOST_STOP_SEQUENCES: usize = 4;

pub fn check(request: &Request<'_>, dialect: &Dialect, model: &str) -> Vec<Loss> {
    let mut losses = Vec::new();
    let mut lose = |field: Field<'_>, reason: &str| {
        losses.push(Loss { path: request.protocol.codec().path_of(field), reason: reason.to_owned() });
    };
    for (name, reason) in request.owners_alone() {
        lose(Field::Extra(name), reason);
    }
    if request.sampling.max_output_tokens == Some(0) {
        lose(Field::MaxOutputTokens, NO_ANSWER);
    }
    if request.sampling.candidates.is_some_and(|wanted| wanted > 1) {
        lose(Field::Candidates, "an answer that is translated has one candidate");
    }
    if !request.sampling.stop.is_empty() && !models::limits(request.protocol, dialect, model).stop {
        lose(Field::Stop, &format!("the model `{model}` takes no stop sequences"));
    }
    // OpenAI's own limits; who else serves the protocol may know none.
    if dialect.max_tokens == MaxTokens::MaxCompletionTokens {
        if request.sampling.stop.len() > MOST_STOP_SEQUENCES {
            lose(Field::Stop, "OpenAI takes at most 4 stop sequences");
        }
        if matches!(&request.output, Output::JsonSchema { schema, .. } if !schema::is_object(schema)) {
            lose(Field::Output, "OpenAI's answers in JSON are objects, and so must their schema be");
        }
    }
    for tool in &request.tools {
        match tool {
            Tool::Foreign { name, at, .. } => {
                lose(Field::Tool(*at, ""), &format!("only its own provider can run the tool `{}`", &**name));
            }
            Tool::Function(function) if !is_name(&function.name) => {
                lose(
                    Field::Tool(function.at, "name"),
                    "a name has at most 64 letters, digits, `_` and `-` there",
                );
            }
            Tool::Function(_) => {}
        }
    }
    if let Some(at) = begun_answer(&request.messages) {
        lose(
            Field::Message(at, ""),
            "OpenAI Chat Completions does not go on from a begun answer: it gives a new one",
        );
    }
    for message in &request.messages {
        for part in &message.parts {
            if let Some(reason) = part_reason(part, message.role) {
                lose(Field::Part(part.at, ""), reason);
            }
            if let PartKind::ToolResult { content, .. } = &part.kind {
                for inner in content {
                    if let Some(reason) = part_reason(inner, Role::User) {
                        lose(Field::Part(part.at, ""), reason);
                    }
                }
            }
        }
    }
    losses
}

/// "Must be a-z, A-Z, 0-9, or contain underscores and dashes, with a maximum length of 64" (openai SDK,
/// `types/shared_params/function_definition.py`).
fn is_name(name: &str) -> bool {
    name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn part_reason(part: &Part<'_>, role: Role) -> Option<&'static str> {
    match &part.kind {
        PartKind::Foreign(_) => Some("only its own provider understands this block"),
        PartKind::Media(Media { source: Source::Text(_), .. }) => None,
        PartKind::Media(media) if role == Role::User => media_reason(media),
        PartKind::Media(_) => Some("only user messages hold media in OpenAI Chat Completions"),
        PartKind::Text(_)
        | PartKind::Reasoning { .. }
        | PartKind::Refusal(_)
        | PartKind::ToolCall { .. }
        | PartKind::ToolResult { .. } => None,
    }
}

/// The parts there are: openai SDK, `types/chat/chat_completion_content_part_param.py`.
fn media_reason(media: &Media<'_>) -> Option<&'static str> {
    match (media.kind, &media.source) {
        (_, Source::Text(_)) => None,
        (_, Source::File { .. }) => Some("the file lies with another provider"),
        (MediaKind::Video, _) => Some("OpenAI Chat Completions takes no video"),
        (MediaKind::Image, _) => None,
        (MediaKind::Audio, Source::Inline { mime, .. }) => match audio_format(mime) {
            "wav" | "mp3" => None,
            _ => Some("OpenAI Chat Completions takes audio as wav or mp3 only"),
        },
        (MediaKind::Audio, Source::Url { .. }) => Some("OpenAI Chat Completions takes no audio by URL"),
        (MediaKind::Document, Source::Inline { .. }) => None,
        (MediaKind::Document, Source::Url { .. }) => Some("OpenAI Chat Completions takes no document by URL"),
    }
}
