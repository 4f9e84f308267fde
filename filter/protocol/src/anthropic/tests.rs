//! The codec as a whole: requests of other protocols, streams, and every recording of real traffic.

use super::*;
use crate::codec::Protocol;
use crate::error::ErrorKind;
use crate::event::{Delta, Grammar, PartHead, StreamEvent};
use crate::request::*;
use crate::response::{FinishReason, Usage};
use crate::text::Extras;

fn decode(body: &str) -> Request<'_> {
    Anthropic.decode_request(&Line::default(), body).unwrap_or_else(|fault| panic!("{fault:?}: {body}"))
}

fn encode(request: &Request<'_>, model: &str) -> (String, Vec<String>) {
    let mut losses = Vec::new();
    let body = Anthropic.encode_request(request, &Dialect::STANDARD, model, &mut losses);
    (String::from_utf8(body).unwrap(), losses.into_iter().map(|loss| loss.path).collect())
}

/// A request as another protocol's codec would give it.
fn foreign(messages: Vec<Message<'static>>) -> Request<'static> {
    Request {
        protocol: Protocol::Gemini,
        model: "m".into(),
        messages,
        tools: Vec::new(),
        tool_choice: None,
        parallel_tool_calls: None,
        sampling: Sampling { max_output_tokens: Some(100), ..Sampling::default() },
        output: Output::Text,
        reasoning: Reasoning::default(),
        user: None,
        stream: false,
        include_usage: true,
        extras: Extras::default(),
    }
}

fn contract(request: &Request<'_>, model: &str) -> Vec<Loss> {
    Anthropic.contract(request, &Dialect::STANDARD, model)
}

fn say(role: Role, parts: Vec<Part<'static>>) -> Message<'static> {
    Message { role, parts, name: None, at: At::default(), extras: Extras::default() }
}

fn whole(text: &'static str) -> Vec<Part<'static>> {
    vec![Part { at: At { message: 0, part: At::WHOLE }, ..Part::text(text) }]
}

#[test]
fn messages_take_the_shape_that_anthropic_wants() {
    let call = |id: &'static str| {
        Part::new(PartKind::ToolCall { id: id.into(), name: "f".into(), arguments: "".into() })
    };
    let result = |id: &'static str| {
        Part::new(PartKind::ToolResult {
            id: id.into(),
            name: None,
            content: vec![Part::text("4")],
            error: false,
        })
    };
    let request = foreign(vec![
        say(Role::System, whole("be brief")),
        say(Role::User, whole("what?")),
        say(Role::Assistant, vec![Part::text(" "), call("a:1"), call("b")]),
        say(Role::User, vec![result("a:1")]),
        say(Role::User, vec![result("b")]),
        say(Role::Developer, whole("be kind")),
        say(Role::User, whole("go on")),
    ]);
    let (body, _) = encode(&request, "claude-haiku-4-5");
    assert_eq!(
        body,
        concat!(
            r#"{"model":"claude-haiku-4-5","max_tokens":100,"system":[{"type":"text","text":"be brief"},{"type":"text","text":"be kind"}],"messages":["#,
            r#"{"role":"user","content":"what?"},"#,
            r#"{"role":"assistant","content":[{"type":"tool_use","id":"a_1_e661e41904a09e69","name":"f","input":{}},{"type":"tool_use","id":"b","name":"f","input":{}}]},"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a_1_e661e41904a09e69","content":"4"},{"type":"tool_result","tool_use_id":"b","content":"4"},{"type":"text","text":"go on"}]}],"#,
            r#""tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"none"}}"#,
        )
    );
}

#[test]
fn a_conversation_begins_with_the_user() {
    let (body, _) = encode(&foreign(vec![say(Role::System, whole("only this"))]), "claude-haiku-4-5");
    assert!(body.ends_with(r#""messages":[{"role":"user","content":"only this"}]}"#), "{body}");
    let (body, _) = encode(&foreign(vec![say(Role::Assistant, whole("hello"))]), "claude-haiku-4-5");
    assert!(body.contains(r#""messages":[{"role":"user","content":"(The"#), "{body}");
}

#[test]
fn json_mode_is_a_forced_tool() {
    let request = Request { output: Output::Json, ..foreign(vec![say(Role::User, whole("x"))]) };
    let (body, _) = encode(&request, "claude-sonnet-5");
    assert!(
        body.contains(
            r#""tool_choice":{"type":"tool","name":"attache_json_answer","disable_parallel_tool_use":true}"#
        ),
        "{body}"
    );
    assert!(body.contains(r#""thinking":{"type":"disabled"}"#), "{body}");
    assert!(contract(&request, "claude-sonnet-5").is_empty());
    assert_eq!(contract(&request, "claude-opus-5-5").len(), 1);
}

#[test]
fn another_protocols_thinking_does_not_go_along() {
    let signed = |owner, data: &'static str| Part {
        signature: Some(Signature { owner, data: data.into() }),
        ..Part::new(PartKind::Reasoning { text: "hm".into(), redacted: false })
    };
    let parts = vec![signed(Protocol::Gemini, "g"), signed(Protocol::Anthropic, "a"), Part::text("so")];
    let (body, _) =
        encode(&foreign(vec![say(Role::User, whole("x")), say(Role::Assistant, parts)]), "claude-sonnet-5");
    assert!(
        body.contains(
            r#""content":[{"type":"thinking","thinking":"hm","signature":"a"},{"type":"text","text":"so"}]"#
        ),
        "{body}"
    );
}

#[test]
fn what_is_refused_and_what_is_lost() {
    let media = |kind, source| Part::new(PartKind::Media(Media { kind, source, name: None, detail: None }));
    let inline = |mime: &'static str| Source::Inline { mime: mime.into(), base64: "aa".into() };
    let function = |name: &'static str, strict| {
        let parameters =
            crate::text::Raw::parse(r#"{"type":"object","properties":{"a":{"type":"integer","minimum":1}}}"#);
        let (at, extras) = (0, Extras::default());
        Tool::Function(Function { name: name.into(), description: None, parameters, strict, at, extras })
    };
    let with = |parts| foreign(vec![say(Role::User, parts)]);
    let base = || with(whole("x"));
    let refused = [
        with(vec![media(MediaKind::Audio, inline("audio/wav"))]),
        with(vec![media(MediaKind::Image, inline("image/tiff"))]),
        with(vec![media(MediaKind::Image, Source::File { id: "f".into(), mime: None })]),
        with(vec![media(MediaKind::Document, Source::Url { url: "gs://b/x".into(), mime: None })]),
        with(vec![Part::new(PartKind::Foreign(crate::text::Raw::of("x")))]),
        foreign(vec![say(Role::Assistant, vec![media(MediaKind::Image, inline("image/png"))])]),
        Request { sampling: Sampling { candidates: Some(2), ..Sampling::default() }, ..base() },
        Request { sampling: Sampling { logprobs: Some(0), ..Sampling::default() }, ..base() },
        Request { tools: vec![function("a.b", None)], ..base() },
        Request { tools: vec![function("f", None)], output: Output::Json, ..base() },
    ];
    for request in refused {
        let losses = contract(&request, "claude-haiku-4-5");
        assert!(
            losses.len() == 1 && losses[0].reason.starts_with("Anthropic Messages "),
            "{request:?}: {losses:?}"
        );
    }
    let forced =
        Request { tools: vec![function("f", None)], tool_choice: Some(ToolChoice::Required), ..base() };
    assert!(contract(&forced, "claude-haiku-4-5").is_empty());
    assert_eq!(contract(&forced, "claude-sonnet-5-5").len(), 1);

    let sampling = Sampling {
        temperature: Some(1.5),
        top_p: Some(0.9),
        top_k: Some(5),
        seed: Some(1),
        ..Sampling::default()
    };
    let request = Request { sampling, tools: vec![function("f", Some(true))], ..base() };
    let cases = [
        // seed, top_p; the schema's `minimum`.
        ("claude-haiku-4-5", r#""tool_choice""#, r#""temperature":1.0,"top_k":5"#, 4),
        ("claude-sonnet-5", r#""temperature""#, r#""strict":true"#, 5),
        ("claude-3-haiku-20240307", r#""strict""#, r#""temperature":1.0,"top_p":0.9,"top_k":5"#, 3),
    ];
    for (model, without, with, lost) in cases {
        let (body, losses) = encode(&request, model);
        assert!(!body.contains(without) && body.contains(with), "{body}");
        assert_eq!(losses.len(), lost, "{model}: {losses:?}");
    }
}

#[test]
fn an_own_request_comes_back_as_it_was() {
    let body = r#"{"model":"claude-opus-4-8","max_tokens":10,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"document","source":{"type":"content","content":[{"type":"text","text":"d"}]}},{"type":"search_result","content":[{"type":"text","text":"x"}],"source":"s","title":"t"}]},{"role":"assistant","content":[{"type":"server_tool_use","id":"i","name":"web_search","input":{"q":1}},{"type":"web_search_tool_result","tool_use_id":"i","content":{"type":"web_search_tool_result_error","error_code":"x"}}]},{"role":"system","content":"mid"}],"tools":[{"name":"f","input_schema":{"type":"object"},"strict":false,"eager_input_streaming":true},{"type":"web_search_20250305","name":"web_search","max_uses":1}],"tool_choice":{"type":"auto","disable_parallel_tool_use":false},"temperature":2.0,"stop_sequences":["\n"],"thinking":{"type":"between_tools"},"output_config":{"effort":"high","format":{"type":"json_schema","schema":{"type":"object"}},"x":1},"metadata":{"user_id":"u","more":2},"stream":true,"service_tier":"auto"}"#;
    let (again, losses) = encode(&decode(body), "claude-opus-4-8");
    assert_eq!(again, body);
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn only_the_model_is_edited() {
    let body = "{ \"model\" : \"a\", \"messages\": [] }";
    let edits = |model| SameProtocol { model, add_usage: true, ..SameProtocol::default() };
    assert_eq!(Anthropic.edit_request(body, &Dialect::STANDARD, &edits(None)), None);
    let edited = Anthropic.edit_request(body, &Dialect::STANDARD, &edits(Some("b"))).unwrap();
    assert_eq!(String::from_utf8(edited).unwrap(), body.replace("\"a\"", "\"b\""));
}

fn events(pieces: &[&[u8]]) -> Vec<StreamEvent<'static>> {
    let mut decoder = Anthropic.stream_decoder();
    let mut grammar = Grammar::default();
    let mut found: Vec<StreamEvent<'static>> = Vec::new();
    let mut sink = |event: &StreamEvent<'_>| {
        grammar.take(event).unwrap();
        found.push(event.clone().into_owned());
    };
    for piece in pieces {
        decoder.push(piece, &mut sink);
    }
    decoder.end(&mut sink);
    assert!(grammar.ended(), "{found:?}");
    found
}

fn shown(events: &[StreamEvent<'_>]) -> Vec<u8> {
    let mut encoder = Anthropic.stream_encoder(&View { model: "m".into(), now: 1, ..View::default() });
    let mut out = Vec::new();
    for event in events {
        encoder.event(event, &mut out);
    }
    out
}

const STREAM: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"c\",\"usage\":{\"input_tokens\":4,\"cache_read_input_tokens\":2,\"output_tokens\":1}}   }\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"sig\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":1}\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":9}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[test]
fn a_stream_becomes_events_and_a_stream_again() {
    let found = events(&[STREAM.as_bytes()]);
    let expected = [
        StreamEvent::Start { id: "msg_1".into(), model: "c".into() },
        StreamEvent::PartStart { index: 0, part: PartHead::Reasoning },
        StreamEvent::Delta { index: 0, delta: Delta::Text("hm".into()) },
        StreamEvent::Delta {
            index: 0,
            delta: Delta::Signature(Signature { owner: Protocol::Anthropic, data: "sig".into() }),
        },
        StreamEvent::PartEnd { index: 0 },
        StreamEvent::PartStart { index: 1, part: PartHead::ToolCall { id: "t".into(), name: "f".into() } },
        StreamEvent::Delta { index: 1, delta: Delta::Arguments("{\"a\":1}".into()) },
        StreamEvent::PartEnd { index: 1 },
        StreamEvent::Usage(Usage {
            input: Some(6),
            cache_read: Some(2),
            output: Some(9),
            ..Usage::default()
        }),
    ];
    assert_eq!(found[..expected.len()], expected);
    assert!(
        matches!(&found[expected.len()..], [StreamEvent::Finish(finish)] if finish.reason == FinishReason::ToolCalls)
    );
    laws(STREAM.as_bytes());
}

#[test]
fn streams_that_go_wrong_fail() {
    let kind = |text: &str| match events(&[text.as_bytes()]).pop() {
        Some(StreamEvent::Failed(error)) => error.kind,
        other => panic!("{other:?}"),
    };
    let overloaded =
        "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}";
    assert_eq!(kind(&format!("event: error\ndata: {overloaded}     \n\n")), ErrorKind::Overloaded);
    assert_eq!(kind(overloaded), ErrorKind::Overloaded);
    assert_eq!(kind(""), ErrorKind::Truncated);
    assert_eq!(kind("<html>"), ErrorKind::Malformed);
    assert_eq!(kind("data: nonsense\n\n"), ErrorKind::Malformed);
    assert_eq!(kind(STREAM.split("event: message_delta").next().unwrap()), ErrorKind::Truncated);
    // The reason of the end was told: the answer is whole.
    let untidy = events(&[STREAM.split("event: message_stop").next().unwrap().as_bytes()]);
    assert!(matches!(untidy.last(), Some(StreamEvent::Finish(_))));
}

#[test]
fn a_json_mode_stream_is_text() {
    let json = STREAM.replace("\"name\":\"f\"", "\"name\":\"attache_json_answer\"");
    let found = events(&[json.as_bytes()]);
    assert_eq!(found[5], StreamEvent::PartStart { index: 1, part: PartHead::Text });
    assert_eq!(found[6], StreamEvent::Delta { index: 1, delta: Delta::Text("{\"a\":1}".into()) });
    assert!(matches!(found.last(), Some(StreamEvent::Finish(finish)) if finish.reason == FinishReason::Stop));
}

#[test]
fn a_call_signed_by_gemini_keeps_its_signature_through_the_client() {
    let sign = Delta::Signature(Signature { owner: Protocol::Gemini, data: "zz".into() });
    let stream = shown(&[
        StreamEvent::Start { id: "".into(), model: "".into() },
        StreamEvent::PartStart { index: 0, part: PartHead::ToolCall { id: "t".into(), name: "f".into() } },
        StreamEvent::Delta { index: 0, delta: sign },
        StreamEvent::PartEnd { index: 0 },
        StreamEvent::Finish(crate::response::Finish::of(FinishReason::ToolCalls)),
    ]);
    let text = String::from_utf8(stream).unwrap();
    assert!(
        text.contains(r#""index":1,"delta":{"type":"signature_delta","signature":"attache-gemini:zz"}"#),
        "{text}"
    );
    assert!(text.contains(r#""id":"msg_1""#) && text.contains(r#""output_tokens":0"#), "{text}");
}

/// Splits, truncation, and the way back.
fn laws(stream: &[u8]) {
    let found = events(&[stream]);
    let step = (stream.len() / 24).max(1);
    for a in (0..stream.len()).step_by(step) {
        for b in (a..stream.len()).step_by(step) {
            assert_eq!(events(&[&stream[..a], &stream[a..b], &stream[b..]]), found, "split at {a}, {b}");
        }
    }
    // Every byte of a short stream; decoding a long one from its start at every byte would take minutes.
    for cut in (0..stream.len()).step_by(stream.len() / 2000 + 1) {
        events(&[&stream[..cut]]);
    }
    let once = shown(&found);
    let again = events(&[&once]);
    assert_eq!(shown(&again), once);
    let visible = |events: &[StreamEvent<'_>]| {
        events.iter().filter(|event| matches!(event, StreamEvent::Delta { .. })).count()
    };
    assert_eq!(visible(&again), visible(&found));
}

/// Every recorded exchange of this protocol, where the recordings are at hand.
#[cfg(not(target_arch = "wasm32"))]
mod recordings {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Recording<'a> {
        id: String,
        api: String,
        streaming: bool,
        #[serde(borrow)]
        request: Sent<'a>,
        response: Received,
    }
    #[derive(Deserialize)]
    struct Sent<'a> {
        #[serde(borrow)]
        body: Option<&'a serde_json::value::RawValue>,
    }
    #[derive(Deserialize)]
    struct Received {
        status: u16,
        body: String,
    }

    #[test]
    fn obey_the_laws() {
        let folder = std::env::var("ATTACHE_RECORDINGS").unwrap_or_else(|_| {
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/recordings").to_owned()
        });
        let Ok(file) = std::fs::read_to_string(format!("{folder}/recordings.jsonl")) else {
            eprintln!("skipped: no recordings in {folder} (set ATTACHE_RECORDINGS)");
            return;
        };
        let all = file.lines().map(|line| serde_json::from_str::<Recording<'_>>(line).unwrap());
        let mut checked = 0;
        for recording in all.filter(|recording| recording.api == "anthropic.messages") {
            let Recording { id, request, response, streaming, .. } = recording;
            eprintln!("{id}");
            if let Some(body) = request.body.map(|body| body.get()).filter(|body| body.contains("\"model\":"))
            {
                round_trip(body);
            }
            match (response.status, streaming) {
                (200, true) if response.body.contains("event:") => laws(response.body.as_bytes()),
                (200, _) => whole_answer(&response.body),
                (status, _) => {
                    assert_ne!(Anthropic.decode_error(status, response.body.as_bytes()).message, "")
                }
            }
            checked += 1;
        }
        assert!(checked > 0);
    }

    fn round_trip(body: &str) {
        let request = decode(body);
        let (first, losses) = encode(&request, &request.model);
        assert!(losses.is_empty(), "{losses:?}");
        let again = decode(&first);
        assert_eq!(again, request);
        assert_eq!(encode(&again, &request.model).0, first);
    }

    fn whole_answer(body: &str) {
        let view = View::default();
        let answer = Anthropic.decode_response(body).unwrap();
        let first = String::from_utf8(Anthropic.encode_response(&answer, &view)).unwrap();
        let again = Anthropic.decode_response(&first).unwrap();
        assert_eq!((&again.finish, &again.usage), (&answer.finish, &answer.usage));
        assert_eq!(String::from_utf8(Anthropic.encode_response(&again, &view)).unwrap(), first);
    }
}

#[test]
fn texts_stay_borrowed() {
    let body = String::from(r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"plain"}]}"#);
    let request = decode(&body);
    let PartKind::Text(text) = &request.messages[0].parts[0].kind else { panic!() };
    let range = body.as_bytes().as_ptr_range();
    assert!(range.contains(&str::as_ptr(text)), "copied");
}
