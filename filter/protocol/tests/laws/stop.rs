//! Streams that are stopped at their limit, after any event: complete, length-finished answers of what had come.

use attache_protocol::codec::{Protocol, StreamEncoder};
use attache_protocol::error::{ApiError, ErrorKind};
use attache_protocol::event::{PartHead, StreamEvent};
use attache_protocol::response::Usage;
use attache_protocol::sse::event_end;
use serde_json::Value;

use crate::recording::{self, Recording};
use crate::support::content::{Content, End, events_of, grammar, view};
use crate::support::findings::Findings;

/// Up to here a stream is stopped after every event (the work grows with the square), a longer one after every so many.
const EVERY_EVENT: usize = 400;

/// What a stopped answer is billed for.
const BILL: Usage = Usage {
    input: Some(11),
    cache_read: Some(0),
    cache_write: Some(0),
    cache_write_hour: Some(0),
    audio_input: Some(0),
    output: Some(7),
    reasoning: Some(0),
    audio_output: Some(0),
    tier: None,
};

/// In its own protocol: what the decoder has only listened to is continued.
pub fn relayed() {
    let mut findings = Findings::of("streams stop anywhere in their own protocol");
    for recording in recording::streams() {
        let bytes = recording.answer.as_bytes();
        let sse = !bytes.trim_ascii_start().starts_with(b"[");
        let ends = few(if sse { events(bytes) } else { elements(bytes) });
        let mut decoder = recording.protocol.codec().stream_decoder();
        let (mut before, mut seen, mut from) = (Vec::new(), Vec::new(), 0);
        for (nth, end) in ends.iter().enumerate() {
            let who = format!("{} at {end} of {}", recording.id, bytes.len());
            findings.case(&who, |findings| {
                decoder.push(&bytes[from..*end], &mut |event| seen.push(event.clone().into_owned()));
                before.extend(frames(&bytes[from..*end]));
                let usage = nth % 2 == 0;
                let mut encoder = decoder.encoder(&view(usage, sse));
                let out = stopped(&who, encoder.as_mut(), Vec::new(), findings);
                let stream = [&bytes[..*end], &out].concat();
                let again = events_of(recording.protocol, [stream.as_slice()]);
                let own = ends.len() - nth < 9 || Content::of_events(&again).end != End::Length;
                let own = own.then(|| match own_end(&recording, &bytes[..*end], sse) {
                    // Another choice has no end yet; that of the first stays as it was told.
                    End::Failed(ErrorKind::Truncated) if first_ended(&before) => {
                        own_end(&recording, bytes, sse)
                    }
                    own => own,
                });
                continues(&who, recording.protocol, &seen, own, &again, usage, findings);
                written(&who, &recording, &before, &frames(&out), usage, findings);
                if !sse {
                    let array = serde_json::from_slice::<Vec<Value>>(&stream);
                    findings.check(array.is_ok(), &who, || format!("no JSON array: {array:?}"));
                }
            });
            from = *end;
        }
    }
    findings.done();
}

/// Whether of several choices the first has told how it ends.
fn first_ended(frames: &[Value]) -> bool {
    let choices: Vec<_> = frames.iter().filter_map(|frame| frame["choices"].as_array()).flatten().collect();
    let first = |choice: &Value| choice["index"].as_u64().unwrap_or(0) == 0;
    let ended = choices.iter().any(|choice| first(choice) && choice["finish_reason"].is_string());
    ended && choices.iter().any(|choice| !first(choice))
}

/// What the beginning ends with by itself.
fn own_end(recording: &Recording, prefix: &[u8], sse: bool) -> End {
    let bracket: &[u8] = if sse || prefix.trim_ascii_end().ends_with(b"]") { b"" } else { b"]" };
    Content::of_events(&events_of(recording.protocol, [prefix, bracket])).end
}

/// The places where an event has just ended, and the beginning.
fn events(bytes: &[u8]) -> Vec<usize> {
    let next = |from: &usize| event_end(bytes, *from);
    std::iter::successors(Some(0), next).collect()
}

/// The same of a JSON array's elements.
fn elements(bytes: &[u8]) -> Vec<usize> {
    let (mut ends, mut at) = (vec![0], 0);
    while let Some(open) = bytes[at..].iter().position(|byte| *byte == b'{').map(|found| at + found) {
        let mut values = serde_json::Deserializer::from_slice(&bytes[open..]).into_iter::<Value>();
        assert!(values.next().unwrap().is_ok());
        at = open + values.byte_offset();
        ends.push(at);
    }
    ends
}

fn few(places: Vec<usize>) -> Vec<usize> {
    let step = places.len().div_ceil(EVERY_EVENT);
    let late = places.len().saturating_sub(9);
    let chosen = places.iter().enumerate().filter(|(nth, _)| nth % step == 0 || *nth >= late);
    chosen.map(|(_, place)| *place).collect()
}

/// What the encoder has written when it is stopped; after that it writes no more.
fn stopped(who: &str, encoder: &mut dyn StreamEncoder, mut out: Vec<u8>, findings: &mut Findings) -> Vec<u8> {
    encoder.stop(&BILL, &mut out);
    let length = out.len();
    encoder.stop(&BILL, &mut out);
    encoder.event(&StreamEvent::Start { id: "x".into(), model: "y".into() }, &mut out);
    encoder.event(&StreamEvent::PartStart { index: 0, part: PartHead::Text }, &mut out);
    encoder.event(&StreamEvent::Failed(ApiError::new(ErrorKind::Server, "late")), &mut out);
    findings.equal(who, "written after the end", &String::from_utf8_lossy(&out[length..]), &"".into());
    out
}

/// The events so far, with an open part closed: what a complete answer of them holds.
fn closed(events: &[StreamEvent<'static>]) -> Vec<StreamEvent<'static>> {
    let mut closed = events.to_vec();
    // What is beside the parts neither opens nor closes one.
    let last = events.iter().rfind(|event| !matches!(event, StreamEvent::Beside(_)));
    if let Some(StreamEvent::PartStart { index, .. } | StreamEvent::Delta { index, .. }) = last {
        closed.push(StreamEvent::PartEnd { index: *index });
    }
    closed
}

/// The whole of beginning and end against the beginning. `own`: the end that the beginning has by itself, where it may have
/// one.
fn continues(
    who: &str,
    protocol: Protocol,
    seen: &[StreamEvent<'static>],
    own: Option<End>,
    again: &[StreamEvent<'static>],
    usage: bool,
    findings: &mut Findings,
) {
    let verdict = grammar(again);
    findings.check(verdict.is_ok(), who, || verdict.unwrap_err());
    let got = Content::of_events(again);
    let expected = Content::of_events(&closed(seen));
    findings.equal(who, "said", &got.said, &expected.said);
    findings.equal(who, "reasoning", &got.reasoning, &expected.reasoning);
    findings.equal(who, "calls", &got.calls, &expected.calls);
    match own {
        None | Some(End::Failed(ErrorKind::Truncated)) => {
            findings.equal(who, "end", &got.end, &End::Length);
            if usage || protocol != Protocol::OpenAiChat {
                findings.equal(who, "tokens", &got.tokens, &(11, 7));
            }
        }
        Some(end) => findings.equal(who, "the provider's own end", &got.end, &end),
    }
    if let (Some(StreamEvent::Start { id, model }), Some(start)) = (seen.first(), again.first()) {
        let same = matches!(start, StreamEvent::Start { id: i, model: m } if i == id && m == model);
        findings.check(same, who, || format!("{:?} became {start:?}", seen.first()));
    }
}

/// What is written at the end, frame by frame, as strictly as the provider wrote the beginning.
fn written(
    who: &str,
    recording: &Recording,
    before: &[Value],
    after: &[Value],
    usage: bool,
    findings: &mut Findings,
) {
    if before.iter().any(|frame| !frame["error"].is_null()) {
        return findings.equal(who, "after an error", &after.len(), &0);
    }
    match recording.protocol {
        Protocol::Anthropic => anthropic(who, before, after, findings),
        Protocol::OpenAiChat => openai(who, before, after, usage, findings),
        Protocol::Gemini => gemini(who, before, after, findings),
    }
}

/// The data of every event or element; what is no JSON (`[DONE]`) as a string.
fn frames(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    if text.trim_start().starts_with(['[', ',', '{']) {
        let array = format!("[{}", text.trim_start().trim_start_matches(['[', ',']));
        let array = if array.trim_end().ends_with(']') { array } else { format!("{array}]") };
        return serde_json::from_str(&array).unwrap();
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data.trim()))).collect()
}

fn anthropic(who: &str, before: &[Value], after: &[Value], findings: &mut Findings) {
    let kinds = |frames: &[Value], kind: &str| frames.iter().filter(|frame| frame["type"] == kind).count();
    let mut open: Option<&Value> = None;
    let mut unsigned = false;
    for frame in before {
        match frame["type"].as_str().unwrap_or_default() {
            "content_block_start" => {
                open = Some(&frame["index"]);
                unsigned = frame["content_block"]["type"] == "thinking";
            }
            "content_block_delta" if frame["delta"]["type"] == "signature_delta" => unsigned = false,
            "content_block_stop" => open = None,
            _ => {}
        }
    }
    let mut expected: Vec<String> = Vec::new();
    let mut expect = |wanted: bool, kind: &str| expected.extend(wanted.then(|| kind.to_owned()));
    expect(kinds(before, "message_start") == 0, "message_start");
    expect(open.is_some() && unsigned, "content_block_delta");
    expect(open.is_some(), "content_block_stop");
    expect(kinds(before, "message_delta") == 0, "message_delta");
    expect(kinds(before, "message_stop") == 0, "message_stop");
    let told: Vec<String> = after.iter().map(|frame| frame["type"].as_str().unwrap().to_owned()).collect();
    findings.equal(who, "events", &told, &expected);
    for frame in after {
        match frame["type"].as_str().unwrap_or_default() {
            "content_block_delta" | "content_block_stop" => {
                findings.equal(who, "block", &Some(&frame["index"]), &open);
            }
            "message_delta" => {
                findings.equal(who, "reason", &frame["delta"]["stop_reason"], &Value::from("max_tokens"));
                findings.equal(who, "output", &frame["usage"]["output_tokens"], &Value::from(7));
            }
            _ => {}
        }
    }
}

fn openai(who: &str, before: &[Value], after: &[Value], usage: bool, findings: &mut Findings) {
    let choices = |frames: &[Value]| -> Vec<(u64, bool)> {
        let choices = frames.iter().filter_map(|frame| frame["choices"].as_array()).flatten();
        choices
            .map(|choice| (choice["index"].as_u64().unwrap_or(0), choice["finish_reason"].is_string()))
            .collect()
    };
    let (was, is) = (choices(before), choices(after));
    let over = before.last() == Some(&Value::from("[DONE]"));
    for (index, _) in was.iter().chain(&[(0, false)]).filter(|_| !over) {
        let finished = was.iter().chain(&is).filter(|(choice, finish)| choice == index && *finish).count();
        findings.check(finished >= 1, who, || format!("choice {index} has no finish reason"));
        // Together tells one after each tool call.
        let again = is.iter().filter(|(choice, finish)| choice == index && *finish).count();
        findings.check(again <= 1, who, || format!("choice {index} ends {again} times"));
    }
    match after {
        [] => findings.check(over, who, || "no end is written".to_owned()),
        [.., last] => findings.equal(who, "last", last, &Value::from("[DONE]")),
    }
    let counted = after.iter().filter(|frame| frame["usage"].is_object()).count();
    findings.check(counted <= usize::from(usage), who, || format!("usage {counted} times"));
    // A few providers give each chunk its own time, and one gives the last another id.
    let begun: Vec<&Value> = before.iter().filter(|frame| !frame["choices"][0].is_null()).collect();
    for (chunk, name) in after.iter().flat_map(|chunk| ["id", "created", "model"].map(|name| (chunk, name))) {
        let said = begun.iter().any(|frame| !frame[name].is_null());
        let same = begun.iter().any(|frame| frame[name] == chunk[name]);
        findings.check(!said || same || !chunk.is_object(), who, || format!("{name} is new: {chunk}"));
    }
}

fn gemini(who: &str, before: &[Value], after: &[Value], findings: &mut Findings) {
    findings.check(after.len() <= 1, who, || format!("{} chunks at the end", after.len()));
    let Some(last) = after.last() else { return };
    findings.equal(who, "reason", &last["candidates"][0]["finishReason"], &Value::from("MAX_TOKENS"));
    findings.equal(who, "total", &last["usageMetadata"]["totalTokenCount"], &Value::from(18));
    for name in ["modelVersion", "responseId"] {
        let was = before.first().map_or(&Value::Null, |first| &first[name]);
        findings.check(was.is_null() || last[name] == *was, who, || format!("{name} was {was}: {last}"));
    }
}

/// In every protocol: what an encoder has written is completed.
pub fn translated() {
    let mut findings = Findings::of("streams stop anywhere in every protocol");
    for recording in recording::streams() {
        let events = events_of(recording.protocol, [recording.answer.as_bytes()]);
        for client in Protocol::ALL {
            for (usage, sse) in [(true, true), (false, false)] {
                for count in few((0..=events.len()).collect()) {
                    let who = format!("{} → {} usage={usage} after {count}", recording.id, client.name());
                    findings.case(&who, |findings| {
                        stops(&who, client, &events[..count], &view(usage, sse), findings);
                    });
                }
            }
        }
    }
    findings.done();
}

fn stops(
    who: &str,
    client: Protocol,
    events: &[StreamEvent<'static>],
    view: &attache_protocol::codec::View,
    findings: &mut Findings,
) {
    let mut encoder = client.codec().stream_encoder(view);
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.event(event, &mut out));
    let length = out.len();
    let out = stopped(who, encoder.as_mut(), out, findings);
    if let Some(StreamEvent::Finish(_) | StreamEvent::Failed(_)) = events.last() {
        return findings.equal(who, "after the end", &out.len(), &length);
    }
    let again = events_of(client, [out.as_slice()]);
    let verdict = grammar(&again);
    findings.check(verdict.is_ok(), who, || verdict.unwrap_err());
    let got = Content::of_events(&again);
    let mut expected = Content::of_events(&closed(events));
    if client == Protocol::Gemini && half_a_call(events) {
        expected.calls.pop();
    }
    findings.equal(who, "end", &got.end, &End::Length);
    findings.equal(who, "said", &got.said, &expected.said);
    findings.equal(who, "reasoning", &got.reasoning, &expected.reasoning);
    findings.equal(who, "calls", &got.calls, &expected.calls);
    if view.include_usage || client != Protocol::OpenAiChat {
        findings.equal(who, "tokens", &got.tokens, &(11, 7));
    }
}

/// Whether the last part is a call whose arguments are not whole: Gemini's clients never see half of one.
fn half_a_call(events: &[StreamEvent<'static>]) -> bool {
    let open = closed(events).len() > events.len();
    let from = events.iter().rposition(|event| matches!(event, StreamEvent::PartStart { .. })).unwrap_or(0);
    let call =
        matches!(events.get(from), Some(StreamEvent::PartStart { part: PartHead::ToolCall { .. }, .. }));
    let arguments: String = events[from..]
        .iter()
        .filter_map(|event| match event {
            StreamEvent::Delta { delta: attache_protocol::event::Delta::Arguments(text), .. } => {
                Some(&**text)
            }
            _ => None,
        })
        .collect();
    open && call && !serde_json::from_str::<Value>(&arguments).is_ok_and(|value| value.is_object())
}
