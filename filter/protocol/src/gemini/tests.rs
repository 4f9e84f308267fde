//! The rules that no recording shows.

use super::*;
use crate::error::ErrorKind;
use crate::event::{Delta, Grammar, PartHead, StreamEvent};
use crate::request::*;
use crate::response::FinishReason;

pub fn line() -> Line {
    Line { model: Some("gemini-2.5-flash".into()), stream: false, sse: true }
}
fn decode(body: &str) -> Request<'_> {
    Gemini.decode_request(&line(), body).unwrap()
}
fn encode(request: &Request<'_>, model: &str) -> (serde_json::Value, Vec<String>) {
    let mut losses = Vec::new();
    let body = Gemini.encode_request(request, &Dialect::STANDARD, model, &mut losses);
    let value =
        serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&body)));
    (value, losses.into_iter().map(|loss| loss.path).collect())
}
fn fault(body: &str) -> Fault {
    Gemini.decode_request(&line(), body).unwrap_err()
}

/// Events of a stream that comes in these pieces, its pieces of text put together, the grammar checked.
pub fn events(pieces: &[&[u8]]) -> Vec<StreamEvent<'static>> {
    let mut grammar = Grammar::default();
    let mut found: Vec<StreamEvent<'static>> = Vec::new();
    let mut sink = |event: &StreamEvent<'_>| {
        grammar.take(event).unwrap();
        found.push(event.clone().into_owned());
    };
    let mut decoder = Gemini.stream_decoder();
    for piece in pieces {
        decoder.push(piece, &mut sink);
    }
    decoder.end(&mut sink);
    assert!(grammar.ended(), "{found:?}");
    found
}

pub fn encoded(events: &[StreamEvent<'_>], sse: bool) -> String {
    let view = View { model: "asked".into(), now: 0, include_usage: true, sse };
    let mut encoder = Gemini.stream_encoder(&view);
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.event(event, &mut out));
    String::from_utf8(out).unwrap()
}

/// Neighbouring text deltas as one, so that only what is said counts.
pub fn squeezed(events: &[StreamEvent<'static>]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut text = String::new();
    for event in events {
        if let StreamEvent::Delta { delta: Delta::Text(piece), .. } = event {
            text.push_str(piece);
            continue;
        }
        if !text.is_empty() {
            out.push(format!("text {}", std::mem::take(&mut text)));
        }
        out.push(format!("{event:?}"));
    }
    out
}

#[test]
fn thinking_that_came_in_pieces_is_one_part_again() {
    let signed = Signature { owner: Protocol::Anthropic, data: "s".into() };
    let piece = |text: &str, signature: &str| format!(r#"{{"text":"{text}","thought":true{signature}}}"#);
    let carried =
        |redacted| format!(r#","thoughtSignature":"{}""#, super::signature::carried(&signed, redacted));
    let parts = [
        piece("a", ""),
        piece("b", ""),
        piece("", &carried(false)),
        piece("", &carried(true)),
        r#"{"text":"x"}"#.to_owned(),
    ];
    let body = format!(r#"{{"contents":[{{"role":"model","parts":[{}]}}]}}"#, parts.join(","));
    let request = decode(&body);
    let kinds: Vec<_> =
        request.messages[0].parts.iter().map(|part| (part.kind.clone(), part.signature.clone())).collect();
    assert_eq!(
        kinds,
        [
            (PartKind::Reasoning { text: "ab".into(), redacted: false }, Some(signed.clone())),
            (PartKind::Reasoning { text: "".into(), redacted: true }, Some(signed)),
            (PartKind::Text("x".into()), None),
        ]
    );
}

#[test]
fn names_in_both_spellings_and_single_objects() {
    let body = r#"{"system_instruction":{"parts":{"text":"S"}},"contents":{"parts":[{"text":"U"},{"inline_data":{"mime_type":"image/png","data":"ab-_"}}]},
        "generation_config":{"max_output_tokens":"7","topK":40.0,"stop_sequences":["x"],"response_mime_type":"application/json",
        "response_schema":{"type":"OBJECT","nullable":true},"mediaResolution":"LOW","thinkingConfig":{"thinking_level":"low"}},
        "tool_config":{"function_calling_config":{"mode":2,"allowed_function_names":["a"]}},"labels":{"k":"v"},"safetySettings":null,
        "tools":{"function_declarations":{"name":"a"}}}"#;
    let request = decode(body);
    assert_eq!(request.messages.len(), 2);
    assert_eq!((request.messages[0].role, request.messages[0].at.message), (Role::System, At::SYSTEM));
    assert_eq!(request.messages[1].role, Role::User);
    let PartKind::Media(media) = &request.messages[1].parts[1].kind else { panic!() };
    assert_eq!(media.kind, MediaKind::Image);
    assert!(matches!(&media.source, Source::Inline { base64, .. } if base64 == "ab+/"));
    assert_eq!((request.sampling.max_output_tokens, request.sampling.top_k), (Some(7), Some(40)));
    let Output::JsonSchema { schema, .. } = &request.output else { panic!() };
    assert_eq!(schema.get(), r#"{"type":["object","null"]}"#);
    assert_eq!(request.reasoning.amount, ReasoningAmount::Effort(Effort::Low));
    assert_eq!(request.tool_choice, Some(ToolChoice::Function("a".into())));
    assert_eq!(request.extras.names().collect::<Vec<_>>(), ["labels", "generationConfig.mediaResolution"]);
    assert_eq!(Gemini.path_of(Field::Part(request.messages[1].parts[1].at, "x")), "contents[0].parts[1].x");
    assert_eq!(
        Gemini.path_of(Field::Part(request.messages[0].parts[0].at, "")),
        "systemInstruction.parts[0]"
    );
    let (written, losses) = encode(&request, "gemini-3-pro-preview");
    assert!(losses.is_empty(), "{losses:?}");
    assert_eq!(written["generationConfig"]["mediaResolution"], "LOW");
    assert_eq!(written["generationConfig"]["thinkingConfig"]["thinkingLevel"], "LOW");
}

#[test]
fn faults_say_where_and_what() {
    let check = |body: &str, path: &str, reason: &str| {
        let fault = fault(body);
        assert_eq!(fault.path, path, "{fault:?}");
        assert!(fault.reason.contains(reason), "{fault:?}");
    };
    check("{}", "contents", "at least one content");
    check(r#"{"contents":[]}"#, "contents", "at least one content");
    check(r#"{"contents":"hi"}"#, "contents", "a list of objects");
    check(r#"{"contents":[{"role":"bot","parts":[{"text":"x"}]}]}"#, "contents[0].role", "`user` or `model`");
    check(r#"{"contents":[{"parts":[{"text":5}]}]}"#, "contents[0].parts[0].text", "expected a string");
    check(r#"{"contents":[{"parts":[{}]}]}"#, "contents[0].parts[0]", "text");
    check(r#"{"contents":[{"parts":[]}]}"#, "contents[0].parts", "at least one part");
    check(
        r#"{"contents":[{"parts":[{"functionCall":{"args":{}}}]}]}"#,
        "contents[0].parts[0].functionCall.name",
        "missing",
    );
    check(
        r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"temperature":"warm"}}"#,
        "generationConfig.temperature",
        "a number",
    );
    check(
        r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"topK":1.5}}"#,
        "generationConfig.topK",
        "whole number",
    );
    check(
        r#"{"contents":[{"parts":[{"text":"x"}]}],"toolConfig":{"functionCallingConfig":{"mode":"SOME"}}}"#,
        "toolConfig.functionCallingConfig.mode",
        "AUTO",
    );
    check("{\"contents\":", "contents", "EOF");
    let nameless =
        Gemini.decode_request(&Line::default(), r#"{"contents":[{"parts":[{"text":"x"}]}]}"#).unwrap_err();
    assert_eq!(nameless.path, "model");
    let deep = format!(
        r#"{{"contents":[{{"parts":[{{"functionCall":{{"name":"f","args":{}{}}}}}]}}]}}"#,
        "{\"a\":".repeat(9000),
        "1".to_owned() + &"}".repeat(9000)
    );
    assert!(!fault(&deep).reason.is_empty());
}

#[test]
fn calls_without_ids_are_matched_with_their_results() {
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"go"}]},
        {"role":"model","parts":[{"functionCall":{"name":"a","args":{"x":1}},"thoughtSignature":"SIG"},{"functionCall":{"name":"b"}},{"functionCall":{"name":"a","args":{}}}]},
        {"role":"function","parts":[{"functionResponse":{"name":"b","response":{"result":"B"}}},{"functionResponse":{"name":"a","response":{"error":"no"}}},{"functionResponse":{"name":"a","response":{"n":1}}}]}]}"#;
    let mut request = decode(body);
    let ids: Vec<String> = request
        .messages
        .iter()
        .flat_map(|m| &m.parts)
        .filter_map(|p| match &p.kind {
            PartKind::ToolCall { id, .. } | PartKind::ToolResult { id, .. } => Some(id.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(
        ids,
        [
            "gemini_call_0",
            "gemini_call_1",
            "gemini_call_2",
            "gemini_call_1",
            "gemini_call_0",
            "gemini_call_2"
        ]
    );
    request.protocol = Protocol::Anthropic;
    let (written, losses) = encode(&request, "gemini-2.5-flash");
    assert!(losses.is_empty(), "{losses:?}");
    // Before Gemini 3 no ids: the results stand in the calls' order.
    assert_eq!(
        written["contents"][2]["parts"],
        serde_json::json!([
            {"functionResponse": {"name": "a", "response": {"error": "no"}}},
            {"functionResponse": {"name": "b", "response": {"output": "B"}}},
            {"functionResponse": {"name": "a", "response": {"n": 1}}},
        ])
    );
    assert_eq!(written["contents"][1]["parts"][0]["thoughtSignature"], "SIG");
    for message in &mut request.messages {
        message.parts.iter_mut().for_each(|part| part.signature = None);
    }
    let (written, _) = encode(&request, "gemini-3-pro-preview");
    assert_eq!(written["contents"][1]["parts"][0]["thoughtSignature"], "skip_thought_signature_validator");
    assert!(written["contents"][1]["parts"][1].get("thoughtSignature").is_none());
    assert_eq!(written["contents"][2]["parts"][0]["functionResponse"]["id"], "gemini_call_0");
}

#[test]
fn other_protocols_lose_what_gemini_cannot_say() {
    let mut request = decode(
        r#"{"contents":[{"parts":[{"text":"x"}]}],"tools":[{"functionDeclarations":[{"name":"f"}]},{"googleSearch":{}}]}"#,
    );
    request.protocol = Protocol::Anthropic;
    request.sampling = Sampling {
        candidates: Some(2),
        logprobs: Some(3),
        stop: vec!["a".into(); 6],
        seed: Some(1 << 40),
        logit_bias: crate::text::Raw::parse("{}"),
        ..Sampling::default()
    };
    assert_eq!(Gemini.contract(&request, &Dialect::STANDARD, "gemini-2.5-flash").len(), 4);
    request.output = Output::Json;
    assert_eq!(Gemini.contract(&request, &Dialect::STANDARD, "gemini-3-flash-preview").len(), 4);
    let with_json = Gemini.contract(&request, &Dialect::STANDARD, "gemini-2.5-flash");
    assert_eq!(with_json.len(), 5, "{with_json:?}");
    request.parallel_tool_calls = Some(false);
    request.user = Some("u".into());
    let (_, losses) = encode(&request, "gemini-2.5-flash");
    assert_eq!(losses.len(), 4, "{losses:?}");
}

#[test]
fn thinking_fits_the_model() {
    let check = |amount: ReasoningAmount, model: &str, expected: serde_json::Value, lost: usize| {
        let mut request = decode(r#"{"contents":[{"parts":[{"text":"x"}]}]}"#);
        request.protocol = Protocol::Anthropic;
        request.reasoning.amount = amount;
        let (written, losses) = encode(&request, model);
        assert_eq!(written["generationConfig"]["thinkingConfig"], expected, "{model}");
        assert_eq!(losses.len(), lost, "{model} {losses:?}");
    };
    use serde_json::json;
    check(
        ReasoningAmount::Effort(Effort::High),
        "gemini-2.5-pro",
        json!({"thinkingBudget": 16384, "includeThoughts": true}),
        0,
    );
    check(
        ReasoningAmount::Effort(Effort::Medium),
        "gemini-3-pro-preview",
        json!({"thinkingLevel": "HIGH", "includeThoughts": true}),
        1,
    );
    check(
        ReasoningAmount::Budget(3000),
        "gemini-3-flash-preview",
        json!({"thinkingLevel": "LOW", "includeThoughts": true}),
        0,
    );
    check(ReasoningAmount::Off, "gemini-2.5-flash", json!({"thinkingBudget": 0}), 0);
    check(ReasoningAmount::Off, "gemini-2.5-pro", json!({"thinkingBudget": 128}), 1);
    check(
        ReasoningAmount::Adaptive,
        "gemini-2.5-pro",
        json!({"thinkingBudget": -1, "includeThoughts": true}),
        0,
    );
    check(ReasoningAmount::Effort(Effort::Low), "gemini-2.0-flash", json!(null), 1);
}

#[test]
fn system_text_goes_to_the_head() {
    let mut request = decode(
        r#"{"system_instruction":{"parts":[{"text":"S"}]},"contents":[{"parts":[{"text":"a"}]},{"parts":[{"text":"b"}]},{"role":"model","parts":[{"text":"c"}]}]}"#,
    );
    request.protocol = Protocol::Anthropic;
    let mut late = request.messages[0].clone();
    late.at = At { message: 7, part: At::WHOLE };
    request.messages.insert(2, late);
    let mut losses = Vec::new();
    let body = Gemini.encode_request(
        &Request { protocol: Protocol::Gemini, ..request.clone() },
        &Dialect::STANDARD,
        "m",
        &mut losses,
    );
    assert_eq!(losses[0].path, "contents[7].role");
    assert_eq!(
        String::from_utf8(body).unwrap(),
        concat!(
            r#"{"systemInstruction":{"parts":[{"text":"S"},{"text":"S"}]},"contents":["#,
            r#"{"role":"user","parts":[{"text":"a"},{"text":"b"}]},{"role":"model","parts":[{"text":"c"}]}]}"#
        )
    );
    request.messages.truncate(1);
    assert_eq!(encode(&request, "m").0["contents"][0]["parts"][0]["text"], "S");
}

#[test]
fn streams_that_fail_say_so() {
    let ok =
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hi\"}]}}],\"responseId\":\"r\"}\r\n\r\n";
    let last = |text: &str| match events(&[text.as_bytes()]).pop() {
        Some(StreamEvent::Failed(error)) => error.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(last(""), ErrorKind::Truncated);
    assert_eq!(last(ok), ErrorKind::Truncated);
    assert_eq!(last(&format!("{ok}data: {{\"candi")), ErrorKind::Truncated);
    assert_eq!(last(&format!("{ok}data: oops\r\n\r\n{ok}")), ErrorKind::Malformed);
    assert_eq!(
        last(&format!(
            "{ok}data: {{\"error\":{{\"code\":503,\"status\":\"UNAVAILABLE\",\"message\":\"m\"}}}}\r\n\r\n"
        )),
        ErrorKind::Overloaded
    );
    assert_eq!(last("[{\"candidates\":[{\"finishReason\":\"STOP\"}]}"), ErrorKind::Truncated);
    assert_eq!(last("[{\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\"}}]"), ErrorKind::RateLimit);
    assert_eq!(last("[1]"), ErrorKind::Malformed);
    let blocked =
        events(&[b"data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"responseId\":\"r\"}\n\n"]);
    assert!(
        matches!(blocked.last(), Some(StreamEvent::Finish(finish)) if finish.reason == FinishReason::ContentFilter)
    );
    let failed = [
        StreamEvent::Start { id: "i".into(), model: "m".into() },
        StreamEvent::Failed(ApiError::truncated()),
    ];
    assert!(encoded(&failed, true).starts_with("data: {\"error\":{\"code\":502,"));
    assert!(
        serde_json::from_str::<Vec<serde_json::Value>>(&encoded(&failed, false)).unwrap()[0]["error"]["code"]
            == 502
    );
}

#[test]
fn signatures_and_calls_are_streamed_whole() {
    let text = concat!(
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"think\",\"thought\":true}]}}],\"responseId\":\"r\",\"modelVersion\":\"m\"}\r\n\r\n",
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"},{\"text\":\"b\"},{\"text\":\"\",\"thoughtSignature\":\"S1\"}]},\"finishReason\":\"STOP\"}]}\r\n\r\n",
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\",\"args\":{\"x\":1}},\"thoughtSignature\":\"S2\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":2,\"thoughtsTokenCount\":4}}\r\n\r\n"
    );
    let got = events(&[text.as_bytes()]);
    let StreamEvent::PartStart { index: 2, part: PartHead::ToolCall { id, .. } } = &got[9] else {
        panic!("{got:#?}")
    };
    assert_eq!(&**id, "call_r_0");
    assert!(
        matches!(got.last(), Some(StreamEvent::Finish(finish)) if finish.reason == FinishReason::ToolCalls)
    );
    assert!(got.contains(&StreamEvent::Usage(crate::response::Usage {
        input: Some(3),
        output: Some(6),
        reasoning: Some(4),
        ..Default::default()
    })));
    let written = encoded(&got, true);
    assert!(written.contains("{\"functionCall\":{\"id\":\"call_r_0\",\"name\":\"f\",\"args\":{\"x\":1}},\"thoughtSignature\":\"S2\"}"), "{written}");
    assert_eq!(squeezed(&events(&[written.as_bytes()])), squeezed(&got));
}

#[test]
fn paths_and_bodies_name_the_model() {
    assert_eq!(Gemini.endpoint("gemini-2.5-pro", false), "/v1beta/models/gemini-2.5-pro:generateContent");
    assert_eq!(Gemini.endpoint("models/a b", true), "/v1beta/models/a%20b:streamGenerateContent?alt=sse");
    assert_eq!(Gemini.endpoint("tunedModels/x", false), "/v1beta/tunedModels/x:generateContent");
    assert_eq!(Gemini.endpoint("../v1/files?x", false), "/v1beta/models/..%2Fv1%2Ffiles%3Fx:generateContent");
    assert_eq!(
        Gemini.endpoint("tunedModels/../x", false),
        "/v1beta/models/tunedModels%2F..%2Fx:generateContent"
    );
    let edit = |body: &str, model| {
        Gemini.edit_request(
            body,
            &Dialect::STANDARD,
            &SameProtocol { model, add_usage: true, ..SameProtocol::default() },
        )
    };
    assert_eq!(edit(r#"{"contents":[]}"#, Some("b")), None);
    assert_eq!(edit(r#"{"model":"a"}"#, None), None);
    assert_eq!(edit(r#"{"model":"models/a", "x":1}"#, Some("b")).unwrap(), br#"{"model":"models/b", "x":1}"#);
}

#[test]
fn blocked_prompts_and_odd_answers() {
    let response = Gemini.decode_response(r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":5}}"#).unwrap();
    assert_eq!((response.finish.reason, response.parts.len()), (FinishReason::ContentFilter, 0));
    let malformed =
        r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"call: x","index":0}]}"#;
    let error = Gemini.decode_response(malformed).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert_eq!(error.code.as_deref(), Some("MALFORMED_FUNCTION_CALL"));
    assert!(error.message.ends_with("MALFORMED_FUNCTION_CALL: call: x"), "{}", error.message);
    let response = Gemini.decode_response(r#"{"candidates":[{"content":{"parts":[{"executableCode":{"code":"1"}},{"functionCall":{"name":"f"}}]},"finishReason":"STOP"}]}"#).unwrap();
    assert_eq!(response.finish.reason, FinishReason::ToolCalls);
    assert!(
        matches!(&response.parts[0].kind, PartKind::Foreign(raw) if raw.get() == r#"{"executableCode":{"code":"1"}}"#)
    );
    assert!(matches!(&response.parts[1].kind, PartKind::ToolCall { arguments, .. } if arguments == "{}"));
    assert_eq!(Gemini.decode_response("{}").unwrap_err().kind, ErrorKind::Malformed);
    assert_eq!(Gemini.decode_response("<html>").unwrap_err().kind, ErrorKind::Malformed);
    assert_eq!(
        Gemini
            .decode_response(r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"m"}}"#)
            .unwrap_err()
            .kind,
        ErrorKind::Overloaded
    );
}
