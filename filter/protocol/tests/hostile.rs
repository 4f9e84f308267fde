//! Answers that no provider should send, in every protocol: halves of characters, odd counts, events without end.

use attache_protocol::codec::Protocol;
use attache_protocol::error::ErrorKind;
use attache_protocol::event::{Delta, StreamEvent};
use attache_protocol::response::Usage;

/// What a provider of the protocol streams to say `text` (JSON, without quotes) and count `input` tokens.
fn stream(protocol: Protocol, text: &str, input: &str) -> String {
    let events = match protocol {
        Protocol::OpenAiChat => vec![
            format!(r#"{{"id":"a","model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#),
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(),
            format!(r#"{{"choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":1}}}}"#),
            "[DONE]".to_owned(),
        ],
        Protocol::Anthropic => vec![
            format!(
                r#"{{"type":"message_start","message":{{"id":"a","model":"m","usage":{{"input_tokens":{input}}}}}}}"#
            ),
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#
                .to_owned(),
            format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
            ),
            r#"{"type":"content_block_stop","index":0}"#.to_owned(),
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}"#
                .to_owned(),
            r#"{"type":"message_stop"}"#.to_owned(),
        ],
        Protocol::Gemini => vec![format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}},"finishReason":"STOP"}}],"usageMetadata":{{"promptTokenCount":{input}}}}}"#
        )],
    };
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn events(protocol: Protocol, pieces: &[&[u8]]) -> Vec<StreamEvent<'static>> {
    let mut decoder = protocol.codec().stream_decoder();
    let mut found = Vec::new();
    let mut sink = |event: &StreamEvent<'_>| found.push(event.clone().into_owned());
    pieces.iter().for_each(|piece| decoder.push(piece, &mut sink));
    decoder.end(&mut sink);
    found
}

fn said(events: &[StreamEvent<'_>]) -> String {
    let text = events.iter().filter_map(|event| match event {
        StreamEvent::Delta { delta: Delta::Text(text), .. } => Some(&**text),
        _ => None,
    });
    text.collect()
}

#[test]
fn half_a_character_is_shown_as_one_that_is_missing() {
    for protocol in Protocol::ALL {
        let stream = stream(protocol, r"a\ud83d b\ude00 \ud83d\ude00", "5");
        let events = events(protocol, &[stream.as_bytes()]);
        assert_eq!(said(&events), "a\u{fffd} b\u{fffd} \u{1f600}", "{protocol:?}");
        assert!(matches!(events.last(), Some(StreamEvent::Finish(_))), "{protocol:?}");
    }
}

#[test]
fn an_odd_count_costs_no_answer() {
    for protocol in Protocol::ALL {
        for (count, meant) in [("5.0", Some(5)), (r#""5""#, Some(5))] {
            let stream = stream(protocol, "hi", count);
            let events = events(protocol, &[stream.as_bytes()]);
            let told = events.iter().find_map(|event| match event {
                StreamEvent::Usage(usage) => Some(usage.input),
                _ => None,
            });
            assert_eq!(told, Some(meant), "{protocol:?} {count}");
            assert!(matches!(events.last(), Some(StreamEvent::Finish(_))), "{protocol:?} {count}");
        }
        for count in ["-5", "99999999999999999999"] {
            let events = events(protocol, &[stream(protocol, "hi", count).as_bytes()]);
            assert!(matches!(events.last(), Some(StreamEvent::Finish(_))), "{protocol:?} {count}");
        }
    }
}

/// A whole answer that says "hi", with this usage.
fn whole(protocol: Protocol, usage: &str) -> String {
    match protocol {
        Protocol::OpenAiChat => format!(
            r#"{{"choices":[{{"message":{{"content":"hi"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
        ),
        Protocol::Anthropic => format!(
            r#"{{"content":[{{"type":"text","text":"hi"}}],"stop_reason":"end_turn","usage":{usage}}}"#
        ),
        Protocol::Gemini => format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"hi"}}]}},"finishReason":"STOP"}}],"usageMetadata":{usage}}}"#
        ),
    }
}

#[test]
fn what_is_no_count_is_not_told_and_costs_no_answer() {
    for protocol in Protocol::ALL {
        for count in ["{}", r#""many""#, "[5]", "true", r#"{"a":{"b":[]}}"#] {
            let events = events(protocol, &[stream(protocol, "hi", count).as_bytes()]);
            assert_eq!(said(&events), "hi", "{protocol:?} {count}");
            assert!(matches!(events.last(), Some(StreamEvent::Finish(_))), "{protocol:?} {count}");
            let input =
                |event: &StreamEvent<'_>| matches!(event, StreamEvent::Usage(Usage { input: Some(_), .. }));
            assert!(!events.iter().any(input), "{protocol:?} {count}");
        }
        let name = match protocol {
            Protocol::OpenAiChat => "prompt_tokens",
            Protocol::Anthropic => "input_tokens",
            Protocol::Gemini => "promptTokenCount",
        };
        let twice = format!(r#"{{"{name}":5,"{name}":5}}"#);
        for usage in ["[]", "7", r#""none""#, "null", "false", &format!(r#"{{"{name}":{{}}}}"#), &twice] {
            let answer = whole(protocol, usage);
            let told = protocol.codec().decode_response(&answer).map(|response| response.usage);
            assert_eq!(told, Ok(None), "{protocol:?} {usage}");
        }
    }
}

#[test]
fn an_event_without_end_is_not_held_for_ever() {
    let piece = vec![b'x'; 1 << 20];
    let lines = b"data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n".repeat(1 << 14);
    for protocol in Protocol::ALL {
        for (start, piece) in [(&b"data: {\"x\":\""[..], &piece), (b"data: x\n", &lines)] {
            let mut decoder = protocol.codec().stream_decoder();
            let mut failed = None;
            let mut sink = |event: &StreamEvent<'_>| {
                if let StreamEvent::Failed(error) = event {
                    failed = Some(error.kind);
                }
            };
            decoder.push(start, &mut sink);
            for _ in 0..32 {
                decoder.push(piece, &mut sink);
            }
            assert_eq!(failed, Some(ErrorKind::Malformed), "{protocol:?}");
        }
    }
}
