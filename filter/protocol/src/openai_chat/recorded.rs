//! Recorded traffic of every provider of this protocol, through every function of the codec.
//!
//! Reads `ATTACHE_RECORDINGS`, or `recordings.jsonl` in `../shared/recordings` beside the checkout; says so and passes
//! where there are none.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::OpenAiChat;
use crate::codec::{Codec, Line, SameProtocol, View};
use crate::dialect::Dialect;
use crate::error::ErrorKind;
use crate::event::{Delta, Grammar, PartHead, StreamEvent};

#[derive(Deserialize)]
struct Recording {
    id: String,
    api: String,
    streaming: bool,
    request: Sent,
    response: Received,
}
#[derive(Deserialize)]
struct Sent {
    body: Box<RawValue>,
}
#[derive(Deserialize)]
struct Received {
    status: u16,
    body: String,
}

fn recordings() -> Vec<Recording> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/recordings");
    let folder = std::env::var_os("ATTACHE_RECORDINGS").map_or(beside, PathBuf::from);
    let file = if folder.is_dir() { folder.join("recordings.jsonl") } else { folder };
    let Ok(text) = std::fs::read_to_string(&file) else {
        eprintln!("skipped: no recordings at {}", file.display());
        return Vec::new();
    };
    let read = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).is_ok().then(|| serde_json::from_str(line).ok())?
    };
    text.lines()
        .filter_map(read)
        .filter(|recording: &Recording| matches!(recording.api.as_str(), "openai.chat" | "mistral.chat"))
        .collect()
}

fn events(pieces: &[&[u8]]) -> Vec<StreamEvent<'static>> {
    let mut decoder = OpenAiChat.stream_decoder();
    let mut found = Vec::new();
    let mut grammar = Grammar::default();
    let mut sink = |event: &StreamEvent<'_>| {
        grammar.take(event).unwrap();
        found.push(event.clone().into_owned());
    };
    for piece in pieces {
        decoder.push(piece, &mut sink);
    }
    decoder.end(&mut sink);
    assert!(grammar.ended());
    found
}

fn view() -> View {
    View { model: "m".into(), now: 1, include_usage: true, sse: true }
}

#[test]
fn requests_decode_and_come_back() {
    let mut count = 0;
    for recording in recordings() {
        let body = recording.request.body.get();
        // Azure's deployments name the model in the path.
        if !body.starts_with('{') || !body.contains("\"messages\"") || !body.contains("\"model\"") {
            continue;
        }
        count += 1;
        let line = Line::default();
        let first = OpenAiChat
            .decode_request(&line, body)
            .unwrap_or_else(|fault| panic!("{}: {fault:?}", recording.id));
        let mut losses = Vec::new();
        let written = OpenAiChat.encode_request(&first, &Dialect::STANDARD, &first.model, &mut losses);
        let written = String::from_utf8(written).unwrap();
        assert_eq!(losses, [], "{}", recording.id);
        let second = OpenAiChat.decode_request(&line, &written).unwrap();
        assert_eq!(first, second, "{}\n{body}\n{written}", recording.id);
        let again = OpenAiChat.encode_request(&second, &Dialect::STANDARD, &second.model, &mut losses);
        assert_eq!(written, String::from_utf8(again).unwrap(), "{}", recording.id);
    }
    eprintln!("{count} requests");
}

#[test]
fn answers_decode_and_come_back() {
    let mut count = 0;
    for recording in recordings() {
        let body = &recording.response.body;
        if recording.response.status != 200 {
            let error = OpenAiChat.decode_error(recording.response.status, body.as_bytes());
            eprintln!("{} {}: {error:?}", recording.id, recording.response.status);
            assert_eq!(error.status, recording.response.status);
            continue;
        }
        if recording.streaming {
            continue;
        }
        count += 1;
        let first =
            OpenAiChat.decode_response(body).unwrap_or_else(|error| panic!("{}: {error:?}", recording.id));
        let mut written = OpenAiChat.encode_response(&first, &view());
        let text = String::from_utf8(written.clone()).unwrap();
        let second = OpenAiChat.decode_response(&text).unwrap();
        // Foreign parts stay with their owner, texts are joined, and the provider's own word becomes OpenAI's.
        let joined = OpenAiChat.encode_response(&second, &view());
        assert_eq!(text, String::from_utf8(joined).unwrap(), "{}", recording.id);
        assert_eq!(first.usage, second.usage, "{}", recording.id);
        written.clear();
        for end in
            (0..body.len()).step_by((body.len() / 200).max(1)).filter(|end| body.is_char_boundary(*end))
        {
            let cut = OpenAiChat.decode_response(&body[..end]);
            assert!(cut.is_err() || body[end..].trim().is_empty(), "{} {end}", recording.id);
        }
    }
    eprintln!("{count} answers");
}

#[test]
fn streams_keep_the_grammar_in_every_split() {
    let mut count = 0;
    for recording in
        recordings().iter().filter(|recording| recording.streaming && recording.response.status == 200)
    {
        count += 1;
        let bytes = recording.response.body.as_bytes();
        let whole = events(&[bytes]);
        let last = whole.last().unwrap();
        let failed = recording.response.body.contains("\"error\"");
        assert!(failed || matches!(last, StreamEvent::Finish(_)), "{}: {last:?}", recording.id);
        let step = (bytes.len() / 12).max(1);
        for a in (0..bytes.len()).step_by(step) {
            for b in (a..bytes.len()).step_by(step * 3 + 1) {
                assert_eq!(
                    events(&[&bytes[..a], &bytes[a..b], &bytes[b..]]),
                    whole,
                    "{} {a} {b}",
                    recording.id
                );
            }
        }
        assert_eq!(events(&bytes.chunks(1).collect::<Vec<_>>()), whole, "{}", recording.id);
        assert_eq!(merged(&through_encoder(&whole)), merged(&whole), "{}", recording.id);
    }
    eprintln!("{count} streams");
}

#[test]
fn a_stream_that_is_cut_anywhere_ends() {
    for recording in
        recordings().iter().filter(|recording| recording.streaming && recording.response.status == 200)
    {
        let bytes = recording.response.body.as_bytes();
        let step = (bytes.len() / 40).max(1);
        for end in (0..bytes.len()).step_by(step).chain(bytes.len().saturating_sub(120)..bytes.len()) {
            let found = events(&[&bytes[..end]]);
            if let Some(StreamEvent::Failed(error)) = found.last() {
                assert!(
                    error.kind == ErrorKind::Truncated || recording.response.body.contains("\"error\""),
                    "{} {end}: {error:?}",
                    recording.id
                );
            }
        }
    }
}

#[test]
fn hidden_usage_changes_nothing_else() {
    for recording in
        recordings().iter().filter(|recording| recording.streaming && recording.response.status == 200)
    {
        let bytes = recording.response.body.as_bytes();
        let filtered = |pieces: &[&[u8]]| {
            let mut filter = OpenAiChat.hide_usage().unwrap();
            let mut out = Vec::new();
            pieces.iter().for_each(|piece| filter.push(piece, &mut out));
            filter.end(&mut out);
            out
        };
        let whole = filtered(&[bytes]);
        for a in (0..bytes.len()).step_by((bytes.len() / 20).max(1)) {
            assert_eq!(filtered(&[&bytes[..a], &bytes[a..]]), whole, "{}", recording.id);
        }
        let without = |found: Vec<StreamEvent<'static>>| -> Vec<_> {
            found.into_iter().filter(|event| !matches!(event, StreamEvent::Usage(_))).collect()
        };
        assert_eq!(without(events(&[&whole])), without(events(&[bytes])), "{}", recording.id);
        // Groq's own `x_groq.usage` comes unasked and stays.
        let told =
            recording.response.body.contains("\"usage\"") && !recording.response.body.contains("x_groq");
        assert!(!told || whole.len() < bytes.len(), "{}", recording.id);
        if !recording.response.body.contains("\"usage\"") {
            assert_eq!(whole, bytes);
        }
    }
}

/// Deterministic noise (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
    /// The bytes with a few of them changed, doubled or gone; the new ones are those that matter to JSON.
    fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.roll(4) {
            let (at, byte) = (self.roll(bytes.len()), b"\"{}[],:\\0n-e \n\xFF"[self.roll(15)]);
            match self.roll(3) {
                _ if bytes.is_empty() => {}
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    }
}

#[test]
fn spoiled_bytes_never_panic() {
    let rounds = std::env::var("ATTACHE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let mut dice = Dice(7);
    for recording in recordings() {
        for _ in 0..rounds {
            let sent = dice.spoil(recording.request.body.get().as_bytes());
            if let Ok(text) = std::str::from_utf8(&sent) {
                let _ = OpenAiChat.edit_request(
                    text,
                    &Dialect::STANDARD,
                    &SameProtocol { model: Some("x"), add_usage: true, others: true, output_limit: Some(50) },
                );
                if let Ok(request) = OpenAiChat.decode_request(&Line::default(), text) {
                    let _ = OpenAiChat.encode_request(&request, &Dialect::STANDARD, "m", &mut Vec::new());
                }
            }
            let answered = dice.spoil(recording.response.body.as_bytes());
            let _ = OpenAiChat.decode_error(500, &answered);
            events(&[&answered]);
            let mut filter = OpenAiChat.hide_usage().unwrap();
            filter.push(&answered, &mut Vec::new());
            if let Ok(response) = std::str::from_utf8(&answered)
                .map_err(drop)
                .and_then(|text| OpenAiChat.decode_response(text).map_err(drop))
            {
                let _ = OpenAiChat.encode_response(&response, &view());
            }
        }
    }
}

fn through_encoder(events: &[StreamEvent<'static>]) -> Vec<StreamEvent<'static>> {
    let mut encoder = OpenAiChat.stream_encoder(&view());
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.event(event, &mut out));
    self::events(&[&out])
}

/// What a client has after adding up all pieces.
fn merged(events: &[StreamEvent<'static>]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for event in events {
        match event {
            StreamEvent::PartStart { part: PartHead::Foreign, .. }
            | StreamEvent::PartEnd { .. }
            | StreamEvent::Beside(_)
            | StreamEvent::Start { .. } => {}
            StreamEvent::PartStart { part, .. } => {
                if !found.last().is_some_and(|last| last.starts_with(&format!("{part:?}:"))) {
                    found.push(format!("{part:?}:"));
                }
            }
            StreamEvent::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => {
                found.last_mut().unwrap().push_str(text);
            }
            StreamEvent::Delta { delta: Delta::Signature(signature), .. } => {
                found.push(format!("signed {signature:?}"))
            }
            StreamEvent::Usage(usage) => found.push(format!("{usage:?}")),
            StreamEvent::Finish(finish) => found.push(format!("{:?}", finish.reason)),
            StreamEvent::Failed(_) => found.push("failed".to_owned()),
        }
    }
    found
}
