//! Policy without Envoy: a configuration, a request, a script of what the provider sends; the effects are asserted.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use attache_gateway::admission::{Admission, Admitted, Head, Reject};
use attache_gateway::attempt::{Attempt, Outgoing};
use attache_gateway::exchange::{Ending, Exchange, Expiry, Flow, Listen, RETRY_STATUS};
use attache_gateway::gateway::Gateway;
use attache_gateway::outcome::Around;
use attache_gateway::ticket::{Progress, Ticket, Tried};
use attache_protocol::codec::Protocol;
use serde_json::{Value, json};
use support::{Memory, NOW};

fn gateway() -> Gateway {
    Gateway::new(json!({
        "providers": [
            { "name": "openai", "origin": "http://127.0.0.1:1/base" },
            { "name": "anthropic" },
            { "name": "gemini" },
            { "name": "own", "provider": "openai", "credentials": "passthrough" },
        ],
        "routes": [
            { "models": ["smart"], "targets": [
                { "provider": "openai", "model": "gpt-4o" },
                { "provider": "anthropic", "model": "claude-sonnet-4-5", "maxOutputTokens": 100 },
                { "provider": "gemini", "model": "gemini-2.5-pro" },
            ], "firstToken": "2s", "answer": "9s", "total": "20s" },
            { "models": ["claude-*"], "targets": [{ "provider": "anthropic" }] },
            { "models": ["unfiltered"], "targets": [{ "provider": "gemini", "model": "g" }, { "provider": "openai", "model": "o" }],
              "onError": { "content_filter": "nextTarget" } },
            { "models": ["mine"], "targets": [{ "provider": "anthropic", "model": "c" }, { "provider": "own", "model": "m" }] },
        ],
    }))
    .unwrap()
}

fn head<'h>(path: &'h str, more: &[(&'h str, &'h str)]) -> Head<'h> {
    let own = [(":path", path), (":method", "POST")];
    let headers: Vec<_> =
        own.iter().chain(more).map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Head::new(headers.into_iter())
}

fn admit_with(
    store: &Memory,
    now: u64,
    path: &str,
    more: &[(&str, &str)],
    body: &str,
) -> Result<Admitted, Box<Reject>> {
    let gateway = gateway();
    let around = Around { now, store };
    support::admit(Admission::begin(&head(path, more), &gateway)?, &gateway, body, &around)
}

fn admit(path: &str, more: &[(&str, &str)], body: &str) -> Result<Admitted, Box<Reject>> {
    admit_with(&Memory::default(), NOW, path, more, body)
}

fn chat(extra: Value) -> String {
    let mut body = json!({ "model": "smart", "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

fn attempt(ticket: &Ticket, number: u16) -> Attempt {
    Attempt::new(&state(ticket, number)).unwrap()
}

/// The filter state of an attempt that comes after others that failed.
fn state(ticket: &Ticket, number: u16) -> Vec<u8> {
    let tried = |step| Tried { step, class: 0, millis: 1, rests: false };
    let step = u8::try_from(number - 1).unwrap();
    let progress = Progress { number, step, log: (0..step).map(tried).collect(), ..Progress::default() };
    ticket.clone().entry(progress.clone()).state(&progress)
}

fn set<'o>(outgoing: &'o Outgoing, name: &str) -> Option<&'o str> {
    outgoing.set.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The cluster of the attempt that follows when this one's connection breaks, as the route's matcher reads it; `-`: none.
fn next(attempt: Attempt) -> String {
    let store = Memory::default();
    let around = Around { now: NOW + 10, store: &store };
    let state = Exchange::new(attempt, NOW).close(Ending::Broken, &around).state.unwrap();
    String::from_utf8(state.split(|byte| *byte == b'/').next().unwrap().to_vec()).unwrap()
}

#[test]
fn a_plan_names_every_target_and_its_limits() {
    let admitted = admit("/v1/chat/completions", &[], &chat(json!({ "stream": true }))).unwrap();
    // Envoy's own limit comes after the one that a stream can still be told.
    assert_eq!((admitted.attempt_timeout, admitted.total_timeout), (2000, 21_000));
    let models: Vec<&str> = admitted.ticket.plan.iter().map(|step| step.model.as_str()).collect();
    assert_eq!(models, ["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro"]);
    assert_eq!(admit("/v1/chat/completions", &[], &chat(json!({}))).unwrap().attempt_timeout, 9000);
}

#[test]
fn each_attempt_derives_its_head_from_the_ticket() {
    let headers = [("authorization", "Bearer client"), ("openai-project", "p")];
    let ticket = admit("/v1/chat/completions", &headers, &chat(json!({}))).unwrap().ticket;
    assert_eq!(ticket.credential, None, "no target passes the client's key through, so it is not kept");
    let first = attempt(&ticket, 1).outgoing();
    assert_eq!(
        (first.path.as_deref().unwrap(), &*first.authority, &*next(attempt(&ticket, 1))),
        ("/base/v1/chat/completions", "127.0.0.1:1", "anthropic")
    );
    assert_eq!(
        set(&first, "openai-project"),
        None,
        "it belongs to the client's key, and another is injected"
    );
    let second = attempt(&ticket, 2).outgoing();
    assert_eq!(
        (second.path.as_deref().unwrap(), &*second.authority, &*next(attempt(&ticket, 2))),
        ("/v1/messages", "api.anthropic.com", "gemini")
    );
    assert_eq!(set(&second, "anthropic-version"), Some("2023-06-01"));

    let third = attempt(&ticket, 3).outgoing();
    assert_eq!(
        (third.path.as_deref(), &*next(attempt(&ticket, 3))),
        (Some("/v1beta/models/gemini-2.5-pro:generateContent"), "-")
    );
    let removes = |outgoing: &Outgoing, name: &str| outgoing.remove.iter().any(|key| key == name);
    for outgoing in [&second, &third] {
        for name in ["authorization", "x-api-key", "x-goog-api-key", "api-key"] {
            assert!(removes(outgoing, name), "{name} must be removed: the map is shared by all attempts");
        }
    }
    let client = head(
        "/v1/chat/completions",
        &[("authorization", "x"), ("cookie", "x"), ("x-envoy-y", "x"), ("accept", "x")],
    );
    assert_eq!(client.private().collect::<Vec<_>>(), ["authorization", "cookie", "x-envoy-y"]);
    assert!(removes(&second, "openai-project") && removes(&third, "anthropic-version"));
    assert!(Attempt::new(&state(&ticket, 4)).is_none());
}

#[test]
fn a_passed_through_key_reaches_only_its_provider() {
    let body = chat(json!({ "model": "mine" }));
    let ticket = admit("/v1/chat/completions", &[("authorization", "Bearer client")], &body).unwrap().ticket;
    let anthropic = attempt(&ticket, 1).outgoing();
    assert!(set(&anthropic, "authorization").is_none() && set(&anthropic, "x-api-key").is_none());
    assert_eq!(set(&attempt(&ticket, 2).outgoing(), "authorization"), Some("Bearer client"));
    let message =
        json!({ "model": "mine", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] })
            .to_string();
    let ticket = admit("/v1/messages", &[("x-api-key", "client")], &message).unwrap().ticket;
    assert_eq!(set(&attempt(&ticket, 2).outgoing(), "authorization"), Some("Bearer client"));
}

#[test]
fn the_limit_that_anthropic_requires_comes_from_the_target() {
    let body = chat(json!({}));
    let ticket = admit("/v1/chat/completions", &[], &body).unwrap().ticket;
    let rewritten = attempt(&ticket, 2).rewrite(body.as_bytes()).unwrap().unwrap();
    let sent: Value = serde_json::from_slice(&rewritten).unwrap();
    assert_eq!((sent["max_tokens"].as_u64(), sent["model"].as_str()), (Some(100), Some("claude-sonnet-4-5")));
}

#[test]
fn what_belongs_to_the_contract_skips_targets_or_is_refused() {
    let several = admit("/v1/chat/completions", &[], &chat(json!({ "n": 2 }))).unwrap().ticket;
    assert_eq!(several.plan.len(), 1, "only OpenAI gives two answers to an OpenAI client");
    let Reject { error, .. } =
        *admit("/v1/chat/completions", &[], &chat(json!({ "n": 2, "model": "claude-3" }))).unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("n")));
    assert!(error.message.contains("anthropic"), "{}", error.message);
}

#[test]
fn bad_requests_say_where_and_what() {
    for (path, body, status, code, says) in [
        ("/v1/chat/completions", "{", 400, "invalid_request", "body"),
        ("/v1/chat/completions", "", 400, "empty_body", "JSON object"),
        (
            "/v1/chat/completions",
            r#"{"model":"smart","messages":[{"role":"user","content":5}]}"#,
            400,
            "invalid_request",
            "`messages[0].content`",
        ),
        (
            "/v1/chat/completions",
            r#"{"model":"smrt","messages":[{"role":"user","content":"x"}]}"#,
            404,
            "model_not_found",
            "did you mean `smart`",
        ),
        (
            "/v1/messages",
            r#"{"model":"smart","max_tokens":1,"messages":[]}"#,
            400,
            "invalid_request",
            "messages",
        ),
        ("/v1beta/models/smart:generateContent", r#"{}"#, 400, "invalid_request", "contents"),
        ("/v2/what", "{}", 404, "unknown_path", "/v1/messages"),
    ] {
        let Reject { error, .. } = *admit(path, &[], body).unwrap_err();
        assert_eq!(
            (error.status, error.code.as_deref()),
            (status, Some(code)),
            "{path} {body}: {}",
            error.message
        );
        assert!(error.message.contains(says), "{}", error.message);
    }
}

/// What the client would see of one attempt, whose answer comes in these pieces.
fn answer(protocol: &str, stream: bool, number: u16, status: u16, pieces: &[&str]) -> Vec<String> {
    answer_of("smart", protocol, stream, number, status, pieces)
}

fn answer_of(
    model: &str,
    protocol: &str,
    stream: bool,
    number: u16,
    status: u16,
    pieces: &[&str],
) -> Vec<String> {
    let (path, body) = match protocol {
        "openai" => ("/v1/chat/completions", chat(json!({ "model": model, "stream": stream }))),
        _ => ("/v1/messages", json!({ "model": model, "max_tokens": 9, "stream": stream, "messages": [{ "role": "user", "content": "x" }] }).to_string()),
    };
    let ticket = admit(path, &[], &body).unwrap().ticket;
    let mut attempt = attempt(&ticket, number);
    attempt.rewrite(body.as_bytes()).unwrap();
    let store = Memory::default();
    let around = Around { now: NOW, store: &store };
    let mut exchange = Exchange::new(attempt, NOW);
    let listen = exchange.head(status, std::iter::empty(), NOW);
    let whole = pieces.concat();
    let script: Vec<&str> = if listen == Listen::Whole { vec![&whole] } else { pieces.to_vec() };
    let last = script.len() - 1;
    let mut seen = Vec::new();
    for (index, piece) in script.iter().enumerate() {
        seen.push(match exchange.body(piece.as_bytes(), index == last, &around) {
            Flow::Hold => "hold".to_owned(),
            Flow::Release { head, body } => {
                let body =
                    body.map_or_else(|| "as it is".to_owned(), |body| String::from_utf8(body).unwrap());
                format!("{:?} {body}", head.status)
            }
            Flow::Pass(body) => {
                body.map_or_else(|| "as it is".to_owned(), |body| String::from_utf8(body).unwrap())
            }
        });
    }
    seen
}

const TOKEN: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const STOP: &str = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

#[test]
fn a_stream_is_held_until_its_first_token() {
    let seen = answer("openai", true, 1, 200, &[": wait\n\n", TOKEN, STOP]);
    assert_eq!(seen[0], "hold");
    assert_eq!(seen[1], format!("None : wait\n\n{TOKEN}"));
    // What hiding usage leaves alone is not written again.
    assert_eq!(seen[2], "as it is");
}

/// A stream under way at OpenAI, for a client of the same protocol.
fn streaming(headers: &[(&str, &str)]) -> Exchange {
    let body = chat(json!({ "stream": true }));
    let ticket = admit("/v1/chat/completions", headers, &body).unwrap().ticket;
    let mut exchange = Exchange::new(attempt(&ticket, 1), NOW);
    exchange.head(200, std::iter::empty(), NOW);
    exchange
}

#[test]
fn where_too_much_is_held_a_stream_goes_out_before_its_end() {
    let store = Memory::default();
    let around = Around { now: NOW, store: &store };
    let mut exchange = streaming(&[("x-attache-delivery", "whole")]);
    assert_eq!(exchange.body(TOKEN.as_bytes(), false, &around), Flow::Hold);
    assert_eq!(exchange.kept(), TOKEN.len());
    exchange.hurry();
    let Flow::Release { .. } = exchange.body(TOKEN.as_bytes(), false, &around) else { panic!("held") };
    assert_eq!(exchange.kept(), 0);
}

#[test]
fn a_stream_that_is_finished_but_not_ended_is_not_waited_for() {
    let store = Memory::default();
    let around = |now| Around { now, store: &store };
    let mut exchange = streaming(&[]);
    exchange.body(format!("{TOKEN}{STOP}").as_bytes(), false, &around(NOW));
    assert_eq!(exchange.tick(&around(NOW + 59_000)), None);
    assert_eq!(exchange.tick(&around(NOW + 60_000)), Some(Expiry::Cut));
    let counts: Vec<String> = exchange.effects().counts.into_iter().map(|count| count.name).collect();
    assert!(counts[0].ends_with("class=ok"), "{counts:?}");
}

#[test]
fn half_an_event_after_the_finish_reaches_nobody() {
    let finish = STOP.strip_suffix("data: [DONE]\n\n").unwrap();
    for (end, told) in [("data: {\"id\":\"c", finish), ("data: [DONE]", "as it is")] {
        let seen = answer("openai", true, 1, 200, &[TOKEN, &format!("{finish}{end}")]);
        assert_eq!(seen[1], told, "{end}");
    }
}

#[test]
fn a_whole_answer_to_a_stream_request_becomes_a_stream() {
    let ticket = admit("/v1/chat/completions", &[], &chat(json!({ "stream": true }))).unwrap().ticket;
    let store = Memory::default();
    let mut exchange = Exchange::new(attempt(&ticket, 1), NOW);
    exchange.head(200, [("content-type", "application/json; charset=utf-8")].into_iter(), NOW);
    let whole =
        r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;
    let flow = exchange.body(whole.as_bytes(), true, &Around { now: NOW, store: &store });
    let Flow::Release { head, body: Some(body) } = flow else { panic!("{flow:?}") };
    let kind = head.set.iter().find(|(name, _)| *name == "content-type");
    assert!(kind.is_some_and(|(_, kind)| kind.starts_with("text/event-stream")), "{head:?}");
    let body = String::from_utf8(body).unwrap();
    assert!(body.starts_with("data: ") && body.ends_with("data: [DONE]\n\n"), "{body}");
}

#[test]
fn failures_go_elsewhere_while_there_is_an_elsewhere() {
    let retried = format!("Some({RETRY_STATUS})");
    let error = r#"{"error":{"message":"no","type":"server_error","param":null,"code":null}}"#;
    for stream in [false, true] {
        for status in [429, 500, 503, 529] {
            assert!(answer("openai", stream, 1, status, &[error])[0].starts_with(&retried), "{status}");
        }
        for status in [400, 404, 413, 422] {
            assert!(
                answer("openai", stream, 1, status, &[error])[0].starts_with(&format!("Some({status})")),
                "{status}"
            );
        }
    }
    assert!(answer("openai", true, 1, 200, &[&format!("data: {error}\n\n")])[0].starts_with(&retried));
    assert!(answer("openai", true, 1, 200, &[""])[0].starts_with(&retried), "an empty stream");
    assert!(
        answer("openai", true, 1, 200, &[": ping\n\n", "data: {\"ch"])[1].starts_with(&retried),
        "a cut before any token"
    );
    assert!(answer("openai", false, 1, 200, &["<html>"])[0].starts_with(&retried));
    assert!(
        answer(
            "openai",
            false,
            3,
            429,
            &[r#"{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"}}"#]
        )[0]
        .starts_with("Some(429)"),
        "the last target's error is told"
    );
}

#[test]
fn a_withheld_answer_goes_elsewhere_where_the_route_wishes_so() {
    let blocked = r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"responseId":"r"}"#;
    let filtered = r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"content":null},"delta":{},"finish_reason":"content_filter"}]}"#;
    for stream in [false, true] {
        let framed = |json: &str| if stream { format!("data: {json}\n\n") } else { json.to_owned() };
        let (blocked, filtered) = (framed(blocked), framed(filtered));
        let seen =
            |model, number, answer: &str| answer_of(model, "openai", stream, number, 200, &[answer]).concat();
        assert!(seen("unfiltered", 1, &blocked).starts_with(&format!("Some({RETRY_STATUS})")), "{stream}");
        // The last one's answer is the answer, and so is the first one's where nobody wishes otherwise.
        let last = seen("unfiltered", 2, &filtered);
        assert!(last == "None as it is" || last == format!("None {filtered}"), "{last}");
        let told = seen("smart", 3, &blocked);
        assert!(told.starts_with("None") && told.contains(r#""finish_reason":"content_filter""#), "{told}");
    }
}

#[test]
fn a_cut_after_the_first_token_ends_in_an_error() {
    let seen = answer("openai", true, 1, 200, &[TOKEN, "data: {\"cut"]);
    assert!(seen[1].contains("\"error\"") && !seen[1].contains("[DONE]"), "{seen:?}");
    let seen = answer("anthropic", true, 1, 200, &[TOKEN, ""]);
    assert!(seen[0].contains("content_block_delta"), "{seen:?}");
    assert!(seen[1].contains("event: error") && !seen[1].contains("message_stop"), "{seen:?}");
}

#[test]
fn tickets_of_strangers_are_not_read() {
    for bytes in [&b""[..], b"\xff\xff\xff\xff\xff", b"{}"] {
        assert!(Attempt::new(bytes).is_none());
    }
    assert_eq!(Protocol::ALL.len(), 3);
}
