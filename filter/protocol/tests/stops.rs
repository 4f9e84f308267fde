//! Streams stopped at their limit: what is written after a provider's own bytes, and after what an encoder wrote.

// A test asserts by panicking; clippy.toml allows it only inside #[test] functions themselves.
#![allow(clippy::unwrap_used)]

use attache_protocol::codec::{Protocol, View};
use attache_protocol::event::{Delta, PartHead, StreamEvent};
use attache_protocol::response::Usage;

const BILL: Usage =
    Usage { input: Some(9), cache_read: None, cache_write: None, output: Some(4), reasoning: None };

fn view(include_usage: bool, sse: bool) -> View {
    View { model: "asked".into(), now: 7, include_usage, sse }
}

/// What ends a stream of these bytes.
fn after(protocol: Protocol, bytes: &str, view: &View) -> String {
    let mut decoder = protocol.codec().stream_decoder();
    decoder.push(bytes.as_bytes(), &mut |_| {});
    let mut out = Vec::new();
    decoder.encoder(view).stop(&BILL, &mut out);
    String::from_utf8(out).unwrap()
}

/// Server-sent events of these data, named by their type.
fn events(data: &[&str]) -> String {
    data.iter().map(|data| format!("data: {data}\n\n")).collect()
}

#[test]
fn openai_goes_on_with_the_same_names() {
    // Azure's first chunk names nothing.
    let azure = r#"{"choices":[],"created":0,"id":"","model":"","object":""}"#;
    let said = r#"{"id":"c1","created":5,"model":"m-1","choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}"#;
    let half = "data: {\"id\":\"c1\",\"cho";
    let finish = concat!(
        r#"data: {"id":"c1","object":"chat.completion.chunk","created":5,"model":"m-1","choices":[{"index":0,"#,
        r#""delta":{},"logprobs":null,"finish_reason":"length"}]"#
    );
    let usage = concat!(
        r#"data: {"id":"c1","object":"chat.completion.chunk","created":5,"model":"m-1","choices":[],"usage":"#,
        r#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}"#
    );
    let begun = events(&[azure, said]) + half;
    assert_eq!(
        after(Protocol::OpenAiChat, &begun, &view(true, true)),
        format!("{finish},\"usage\":null}}\n\n{usage}\n\ndata: [DONE]\n\n")
    );
    assert_eq!(
        after(Protocol::OpenAiChat, &begun, &view(false, true)),
        format!("{finish}}}\n\ndata: [DONE]\n\n")
    );
    // Nothing has come but a heartbeat: the whole stream is ours.
    let whole = after(Protocol::OpenAiChat, ": waiting\n\n", &view(false, true));
    assert!(
        whole.contains(r#""model":"asked""#)
            && whole.contains(r#""delta":{"role":"assistant","content":""}"#)
    );
}

#[test]
fn openai_writes_of_an_end_what_is_missing() {
    let said = r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"hi"}}]}"#;
    let finish = r#"{"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let both = r#"{"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#;
    let usage = r#"{"id":"c1","choices":[],"usage":{"prompt_tokens":1}}"#;
    let rest = |data: &[&str], usage| after(Protocol::OpenAiChat, &events(data), &view(usage, true));
    assert_eq!(rest(&[said, finish], false), "data: [DONE]\n\n");
    let counted = rest(&[said, finish], true);
    assert!(
        counted.starts_with("data: {\"id\":\"c1\"") && counted.contains("\"total_tokens\":13"),
        "{counted}"
    );
    assert!(!counted.contains("finish_reason"), "{counted}");
    assert_eq!(rest(&[said, finish, usage], true), "data: [DONE]\n\n");
    assert_eq!(rest(&[said, both], true), "data: [DONE]\n\n");
    assert_eq!(rest(&[said, finish, "[DONE]"], true), "");
    assert_eq!(rest(&[said, r#"{"error":{"message":"m","code":500}}"#], true), "");
}

#[test]
fn every_choice_is_finished() {
    let chunk = |index: u32, rest: &str| format!(r#"{{"id":"c","choices":[{{"index":{index},{rest}}}]}}"#);
    let (first, second, third) = (
        chunk(0, r#""delta":{"content":"a"}"#),
        chunk(1, r#""delta":{},"finish_reason":"stop""#),
        chunk(2, r#""delta":{"content":"b"}"#),
    );
    let end = after(Protocol::OpenAiChat, &events(&[&first, &second, &third]), &view(false, true));
    let finished = ["\"index\":0", "\"index\":1", "\"index\":2"].map(|index| end.matches(index).count());
    assert_eq!((finished, end.matches("\"length\"").count()), ([1, 0, 1], 2), "{end}");

    let begun = events(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP","index":0},{"content":{"parts":[{"text":"b"}]},"index":1}],"responseId":"r"}"#,
    ]);
    let end = after(Protocol::Gemini, &begun, &view(true, true));
    assert_eq!((end.matches("MAX_TOKENS").count(), end.matches("\"index\":1").count()), (1, 1), "{end}");
}

#[test]
fn anthropic_closes_the_block_that_is_open() {
    let start = r#"{"type":"message_start","message":{"id":"m1","model":"c","usage":{"input_tokens":5,"cache_read_input_tokens":3,"output_tokens":1}}}"#;
    let end = |delta: &str, block: &str| {
        format!(
            "{delta}event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{block}}}\n\n{}",
            concat!(
                "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\",",
                "\"stop_sequence\":null},\"usage\":{\"input_tokens\":6,\"cache_read_input_tokens\":3,\"output_tokens\":4}}\n\n",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
            )
        )
    };
    let check = |block: &str, more: &[&str], expected: String| {
        let start_of_block = format!(r#"{{"type":"content_block_start","index":4,"content_block":{block}}}"#);
        let data: Vec<&str> = [start, &start_of_block].into_iter().chain(more.iter().copied()).collect();
        assert_eq!(after(Protocol::Anthropic, &events(&data), &view(true, true)), expected, "{block}");
    };
    check(r#"{"type":"text","text":""}"#, &[], end("", "4"));
    let piece = r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"a"}}"#;
    check(r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#, &[piece], end("", "4"));
    // A block that no other protocol knows.
    check(r#"{"type":"server_tool_use","id":"t","name":"web_search","input":{}}"#, &[], end("", "4"));
    // Thinking without a signature would be refused when the client gives it back; the mark has it taken out.
    let thought =
        r#"{"type":"content_block_delta","index":4,"delta":{"type":"thinking_delta","thinking":"hm"}}"#;
    let signed =
        r#"{"type":"content_block_delta","index":4,"delta":{"type":"signature_delta","signature":"s"}}"#;
    let mark = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":4,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"attache-unsigned:\"}}\n\n";
    let thinking = r#"{"type":"thinking","thinking":"","signature":""}"#;
    check(thinking, &[thought], end(mark, "4"));
    check(thinking, &[thought, signed], end("", "4"));
    // The reason is told already.
    let told = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#;
    let rest = after(Protocol::Anthropic, &events(&[start, told]), &view(true, true));
    assert_eq!(rest, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

#[test]
fn gemini_ends_events_and_arrays() {
    let chunk = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"index":0}],"modelVersion":"g","responseId":"r"}"#;
    let last = r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"MAX_TOKENS","index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4,"totalTokenCount":13},"modelVersion":"g","responseId":"r"}"#;
    let end = |bytes: &str| after(Protocol::Gemini, bytes, &view(true, false));
    assert_eq!(end(&events(&[chunk])), format!("data: {last}\r\n\r\n"));
    assert_eq!(end(&format!("[{chunk}")), format!(",\r\n{last}]\r\n"));
    assert_eq!(end(&format!("[{chunk},\r\n{{\"cand")), format!(",\r\n{last}]\r\n"));
    let asked = last.replace("\"g\"", "\"asked\"").replace("\"r\"", "\"\"");
    assert_eq!(end(""), format!("[{asked}]\r\n"));
    assert_eq!(end("["), format!("[{asked}]\r\n"));
    let told = chunk.replace(r#""index":0"#, r#""finishReason":"STOP","index":0"#);
    assert_eq!(end(&events(&[&told])), "");
    assert_eq!(end(&format!("[{told}")), "]\r\n");
    assert_eq!(end(&format!("[{told}]")), "");
}

/// A call whose arguments break off: OpenAI's and Anthropic's clients have its beginning, Gemini's have nothing of it.
#[test]
fn half_a_call_does_not_look_whole() {
    let stopped = |protocol: Protocol, pieces: &[&str]| {
        let mut encoder = protocol.codec().stream_encoder(&view(false, true));
        let mut out = Vec::new();
        let head = PartHead::ToolCall { id: "t".into(), name: "f".into() };
        encoder.event(&StreamEvent::Start { id: "i".into(), model: "m".into() }, &mut out);
        encoder.event(&StreamEvent::PartStart { index: 0, part: head }, &mut out);
        for piece in pieces {
            let delta = Delta::Arguments((*piece).into());
            encoder.event(&StreamEvent::Delta { index: 0, delta }, &mut out);
        }
        encoder.stop(&BILL, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert!(!stopped(Protocol::OpenAiChat, &[]).contains(r#""arguments":"{}""#));
    assert!(!stopped(Protocol::Gemini, &[]).contains("functionCall"));
    assert!(!stopped(Protocol::Gemini, &["{\"a\":"]).contains("functionCall"));
    assert!(stopped(Protocol::Gemini, &["{\"a\":", "1}"]).contains(r#""args":{"a":1}"#));
    for protocol in Protocol::ALL {
        let end = stopped(protocol, &["{\"a\":"]);
        let reason = match protocol {
            Protocol::Anthropic => "\"stop_reason\":\"max_tokens\"",
            Protocol::Gemini => "\"finishReason\":\"MAX_TOKENS\"",
            Protocol::OpenAiChat => "\"finish_reason\":\"length\"",
        };
        assert_eq!(end.matches(reason).count(), 1, "{end}");
    }
}

#[test]
fn what_a_provider_told_so_far_is_known() {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":5,"cache_read_input_tokens":3,"output_tokens":1}}}"#;
    let mut decoder = Protocol::Anthropic.codec().stream_decoder();
    decoder.push(events(&[start]).as_bytes(), &mut |_| {});
    let told = Usage { input: Some(8), cache_read: Some(3), output: Some(1), ..Usage::default() };
    assert_eq!(decoder.usage(), told);
}
