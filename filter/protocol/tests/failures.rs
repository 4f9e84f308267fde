//! Failures under a 200, as every protocol's providers and the proxies before them tell them: in whole answers, in the
//! first event of a stream, and where a stream should be. Each has its kind, however the bytes come.

use attache_protocol::codec::Protocol;
use attache_protocol::error::ErrorKind;
use attache_protocol::event::StreamEvent;

/// What a body under a 200 says → the kind.
const BODIES: [(&str, ErrorKind); 14] = [
    (r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, ErrorKind::Overloaded),
    (
        r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
        ErrorKind::Overloaded,
    ),
    (
        r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[]}}]"#,
        ErrorKind::RateLimit,
    ),
    (r#"{"error":{"message":"m","type":"requests","code":"rate_limit_exceeded"}}"#, ErrorKind::RateLimit),
    (r#"{"error":{"message":"m","type":"insufficient_quota"}}"#, ErrorKind::QuotaSpent),
    (r#"{"error":{"message":"This model's maximum context length is 5 tokens"}}"#, ErrorKind::ContextTooLong),
    (r#"{"error":"it broke"}"#, ErrorKind::Server),
    (r#"{"error":{}}"#, ErrorKind::Server),
    (r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#, ErrorKind::BadRequest),
    (r#"{"detail":"Too many requests"}"#, ErrorKind::RateLimit),
    (r#"{"message":"Invalid API key"}"#, ErrorKind::Authentication),
    ("{\n  \"error\": {\n    \"code\": 500,\n\n    \"message\": \"m\"\n  }\n}\n", ErrorKind::Server),
    (" \n\n \t\r\n  {\"error\":{\"code\":\"insufficient_quota\"}}\n", ErrorKind::QuotaSpent),
    ("<html><body>502 Bad Gateway</body></html>", ErrorKind::Malformed),
];

fn failed(protocol: Protocol, pieces: &[&[u8]]) -> ErrorKind {
    let mut decoder = protocol.codec().stream_decoder();
    let mut kinds = Vec::new();
    let mut sink = |event: &StreamEvent<'_>| match event {
        StreamEvent::Failed(error) => kinds.push(error.kind),
        event => assert!(!event.is_token(), "{protocol:?}: {event:?}"),
    };
    pieces.iter().for_each(|piece| decoder.push(piece, &mut sink));
    decoder.end(&mut sink);
    assert_eq!(kinds.len(), 1, "{protocol:?}: {:?}", String::from_utf8_lossy(&pieces.concat()));
    kinds.swap_remove(0)
}

/// The same however the bytes are split.
fn check(protocol: Protocol, stream: &str, kind: ErrorKind) {
    for at in 0..stream.len() {
        let (first, second) = stream.as_bytes().split_at(at);
        assert_eq!(failed(protocol, &[first, second]), kind, "{protocol:?}: {stream:?} split at {at}");
    }
}

#[test]
fn a_body_that_is_an_error() {
    for protocol in Protocol::ALL {
        for (body, kind) in BODIES {
            let whole = protocol.codec().decode_response(body).map(|response| response.finish);
            assert_eq!(whole.map_err(|error| error.kind), Err(kind), "{protocol:?}: {body}");
            check(protocol, body, kind);
        }
        assert!(protocol.codec().decode_response("").is_err());
        check(protocol, " ", ErrorKind::Truncated);
    }
}

#[test]
fn an_event_that_is_an_error() {
    for protocol in Protocol::ALL {
        let json = BODIES.iter().filter(|(body, _)| body.starts_with('{') && !body.contains('\n'));
        for (body, kind) in json {
            check(protocol, &format!("data: {body}\n\n"), *kind);
            check(protocol, &format!(": hello\n\nevent: error\ndata: {body}\r\n\r\ndata: [DONE]\n\n"), *kind);
            check(protocol, &format!("event: ping\ndata: {{\"type\":\"ping\"}}\n\ndata: {body}"), *kind);
        }
        check(protocol, "event: error\ndata: Overloaded\n\n", ErrorKind::Overloaded);
        check(protocol, "event: error\ndata: \"rate limit\"\n\n", ErrorKind::RateLimit);
        check(protocol, "event: error\ndata: \n\n", ErrorKind::Server);
        check(protocol, "event: error\n\n", ErrorKind::Truncated);
    }
}

#[test]
fn a_first_event_that_cannot_be_read() {
    for protocol in Protocol::ALL {
        for event in [
            "data: {\"id\n\n",
            "data: oops\n\ndata: [DONE]\n\n",
            "data: [1]\n\n",
            "data: {\n  \"error\": {\n\n",
        ] {
            check(protocol, event, ErrorKind::Malformed);
        }
    }
}

#[test]
fn gemini_ends_an_answer_that_failed() {
    let chunk = r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}],"usageMetadata":{}}"#;
    check(Protocol::Gemini, &format!("data: {chunk}\n\n"), ErrorKind::Malformed);
    check(Protocol::Gemini, &format!("[{chunk}\n]"), ErrorKind::Malformed);
}
