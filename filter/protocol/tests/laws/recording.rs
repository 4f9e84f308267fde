//! The recordings of real traffic that the laws are tried on. They are other people's: read where they lie,
//! `recordings.jsonl` in `$ATTACHE_RECORDINGS` or `../shared/recordings` beside the repository, never copied.

use attache_protocol::codec::{Line, Protocol};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::support::files;

pub struct Recording {
    pub id: String,
    pub protocol: Protocol,
    /// The provider is one that keeps the model in the path although its protocol has it in the body.
    pub model_in_path: bool,
    pub line: Line,
    pub streaming: bool,
    /// `None`: only the answer was recorded.
    pub request: Option<String>,
    pub status: u16,
    pub answer: String,
}

#[derive(Deserialize)]
struct Line_<'r> {
    id: String,
    provider: String,
    api: String,
    streaming: bool,
    #[serde(borrow)]
    request: Asked<'r>,
    response: Answered,
}

#[derive(Deserialize)]
struct Asked<'r> {
    url: String,
    #[serde(borrow)]
    body: Option<&'r RawValue>,
}

#[derive(Deserialize)]
struct Answered {
    status: u16,
    body: String,
}

/// The recordings of the protocols that have a codec; empty (and said so) where they are absent.
pub fn all() -> Vec<Recording> {
    let beside = format!("{}/../shared/recordings", files::TOP);
    let folder = files::setting("ATTACHE_RECORDINGS").unwrap_or(beside);
    let path = format!("{folder}/recordings.jsonl");
    let Some(text) = files::read(&path) else {
        static SAID: std::sync::Once = std::sync::Once::new();
        SAID.call_once(|| {
            files::say(&format!(
                "laws: skipped, no recordings at {path} (ATTACHE_RECORDINGS names another place)"
            ));
        });
        return Vec::new();
    };
    let only = files::setting("ATTACHE_ONLY").unwrap_or_default();
    let recordings = text.lines().filter(|line| !line.trim().is_empty()).filter_map(recording);
    recordings.filter(|recording| recording.id.contains(&only)).collect()
}

pub fn answers() -> impl Iterator<Item = Recording> {
    all().into_iter().filter(|recording| recording.status == 200 && !recording.streaming)
}
pub fn streams() -> impl Iterator<Item = Recording> {
    all().into_iter().filter(|recording| recording.status == 200 && recording.streaming)
}
pub fn errors() -> impl Iterator<Item = Recording> {
    all().into_iter().filter(|recording| recording.status != 200)
}
pub fn requests() -> impl Iterator<Item = Recording> {
    all().into_iter().filter(|recording| recording.request.is_some())
}

fn recording(line: &str) -> Option<Recording> {
    let parsed: Line_<'_> = serde_json::from_str(line).unwrap();
    let protocol = match parsed.api.as_str() {
        "openai.chat" => Protocol::OpenAiChat,
        "anthropic.messages" => Protocol::Anthropic,
        "gemini.generateContent" | "gemini.streamGenerateContent" => Protocol::Gemini,
        _ => return None,
    };
    Some(Recording {
        id: format!("{} ({} {})", parsed.id, parsed.provider, parsed.api),
        protocol,
        model_in_path: matches!(parsed.provider.as_str(), "azure" | "vertex") && protocol != Protocol::Gemini,
        line: line_of(protocol, &parsed.request.url),
        streaming: parsed.streaming,
        request: parsed.request.body.map(|body| body.get().to_owned()).filter(|body| body != "null"),
        status: parsed.response.status,
        answer: parsed.response.body,
    })
}

/// What a request's path says beside its body.
pub fn line_of(protocol: Protocol, url: &str) -> Line {
    if protocol != Protocol::Gemini {
        return Line::default();
    }
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let (model, method) = path.rsplit('/').next().and_then(|last| last.rsplit_once(':')).unwrap_or(("", ""));
    Line {
        model: Some(model.to_owned()),
        stream: method == "streamGenerateContent",
        sse: query.split('&').any(|pair| pair == "alt=sse"),
    }
}
