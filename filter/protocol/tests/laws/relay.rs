//! Same protocol, same bytes: nothing changes but what is named.

use attache_protocol::codec::{Protocol, SameProtocol};
use attache_protocol::dialect::Dialect;
use serde_json::Value;

use crate::hostile::Dice;
use crate::recording;
use crate::support::content::{Content, MODEL, events_of};
use crate::support::findings::Findings;

pub fn requests_keep_their_bytes() {
    let mut findings = Findings::of("requests with the same protocol keep their bytes");
    for recording in recording::requests() {
        let body = recording.request.as_deref().unwrap_or_default();
        let codec = recording.protocol.codec();
        findings.case(&recording.id, |findings| {
            let edit = |model, add_usage| {
                // Whatever its history, a recording holds nothing that this gateway carried.
                let edits = SameProtocol { model, add_usage, others: true, output_limit: None };
                let edited = codec.edit_request(body, &Dialect::STANDARD, &edits);
                edited.map(|bytes| String::from_utf8(bytes).unwrap())
            };
            findings.equal(&recording.id, "nothing to edit", &edit(None, false), &None);
            let value: Value = serde_json::from_str(body).unwrap();
            let Some(model) = value["model"].as_str().filter(|_| recording.protocol != Protocol::Gemini)
            else {
                // The model is in the path.
                return;
            };
            let edited = edit(Some(MODEL), false).unwrap_or_else(|| body.to_owned());
            let at = places(body, model).find(|at| splice(body, *at, model, MODEL) == edited);
            findings.check(at.is_some(), &recording.id, || format!("more than the model changed: {edited}"));
            let mut expected = value.clone();
            expected["model"] = Value::from(MODEL);
            findings.equal(&recording.id, "model", &parsed(&edited), &expected);
            if recording.protocol == Protocol::OpenAiChat && value["stream"] == true {
                let edited = edit(None, true).unwrap_or_else(|| body.to_owned());
                let mut expected = value.clone();
                if !expected["stream_options"].is_object() {
                    expected["stream_options"] = serde_json::json!({});
                }
                expected["stream_options"]["include_usage"] = Value::from(true);
                findings.equal(&recording.id, "usage asked for", &parsed(&edited), &expected);
            }
        });
    }
    findings.done();
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Where a JSON text holds this string as a value or name.
fn places<'t>(body: &'t str, string: &str) -> impl Iterator<Item = usize> + 't {
    let quoted = serde_json::to_string(string).unwrap();
    body.match_indices(&quoted).map(|(at, _)| at).collect::<Vec<_>>().into_iter()
}

fn splice(body: &str, at: usize, old: &str, new: &str) -> String {
    let old = serde_json::to_string(old).unwrap();
    format!("{}{}{}", &body[..at], serde_json::to_string(new).unwrap(), &body[at + old.len()..])
}

/// What is left is the stream with usage cut out: a subsequence of its bytes, the same answer without tokens.
pub fn usage_is_hidden() {
    let mut findings = Findings::of("usage is hidden and nothing else");
    for recording in recording::streams() {
        let Some(_) = recording.protocol.codec().hide_usage() else { continue };
        findings.case(&recording.id, |findings| {
            let bytes = recording.answer.as_bytes();
            let left = filtered(recording.protocol, [bytes]);
            findings.equal(
                &recording.id,
                "byte by byte",
                &filtered(recording.protocol, bytes.chunks(1)),
                &left,
            );
            let mut dice = Dice::new(&recording.id);
            for _ in 0..20 {
                let (head, tail) = bytes.split_at(dice.below(bytes.len()));
                findings.check(filtered(recording.protocol, [head, tail]) == left, &recording.id, || {
                    format!("split at {} leaves other bytes", head.len())
                });
            }
            let text = String::from_utf8(left).unwrap();
            // Comments before the cut, line ends and every other frame are as they came.
            let kept = recording
                .answer
                .lines()
                .filter(|line| !line.contains("\"usage\""))
                .all(|line| text.contains(line));
            findings.check(kept, &recording.id, || "a line without usage is gone".to_owned());
            let mut rest = bytes.iter();
            let subsequence = text.bytes().all(|byte| rest.any(|other| *other == byte));
            findings.check(subsequence, &recording.id, || "bytes were added".to_owned());
            if !recording.answer.contains("\"usage\"") {
                findings.equal(&recording.id, "a stream without usage", &text, &recording.answer);
            }
            let before = Content::of_events(&events_of(recording.protocol, [bytes]));
            let after = Content::of_events(&events_of(recording.protocol, [text.as_bytes()]));
            findings.equal(&recording.id, "answer", &after, &Content { tokens: after.tokens, ..before });
        });
    }
    findings.done();
}

fn filtered<'p>(protocol: Protocol, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    let mut filter = protocol.codec().hide_usage().unwrap();
    let mut out = Vec::new();
    for piece in pieces {
        filter.push(piece, &mut out);
    }
    filter.end(&mut out);
    out
}
