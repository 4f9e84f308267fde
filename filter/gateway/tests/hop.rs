//! Streams through the hop within Envoy: which do, what their attempts are told, and how they are ended.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use attache_gateway::admission::{Admission, Admitted, Head};
use attache_gateway::attempt::Attempt;
use attache_gateway::exchange::{Ending, Exchange, Expiry, Flow};
use attache_gateway::gateway::Gateway;
use attache_gateway::outcome::Around;
use attache_gateway::ticket::Progress;
use serde_json::json;
use support::{Memory, NOW};

const TOKEN: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const STOP: &str = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const HALF: &str = "data: {\"id\":\"c";

fn admit(model: &str, stream: bool, delivery: &str) -> Admitted {
    let targets = json!([{ "provider": "openai", "model": "m" }]);
    let gateway = Gateway::new(json!({
        "providers": [{ "name": "openai" }],
        "routes": [
            { "models": ["cut"], "targets": targets, "firstToken": "2s" },
            { "models": ["told"], "targets": targets, "silence": "told", "firstToken": "2s", "answer": "9s" },
        ],
    }))
    .unwrap();
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }], "stream": stream })
        .to_string();
    let headers = [(":path", "/v1/chat/completions"), (":method", "POST"), ("x-attache-delivery", delivery)];
    let head = Head::new(headers.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    let store = Memory::default();
    let around = Around { now: NOW, store: &store };
    support::admit(Admission::begin(&head, &gateway).unwrap(), &gateway, &body, &around).unwrap()
}

fn attempt(admitted: Admitted) -> Attempt {
    let progress = Progress { number: 1, ..Progress::default() };
    Attempt::new(&admitted.ticket.entry(progress.clone()).state(&progress)).unwrap()
}

/// A live stream through the hop, whose client has had a token.
fn live(model: &str, store: &Memory) -> Exchange {
    let mut exchange = Exchange::new(attempt(admit(model, true, "live")), NOW);
    exchange.head(200, std::iter::empty(), NOW);
    let flow = exchange.body(TOKEN.as_bytes(), false, &Around { now: NOW, store });
    assert!(matches!(flow, Flow::Release { .. }), "{flow:?}");
    exchange
}

/// The classes of attempts that were counted since the last call.
fn classes(exchange: &mut Exchange) -> Vec<String> {
    let counts = exchange.effects().counts.into_iter().map(|count| count.name);
    counts.filter_map(|name| name.split_once("class=").map(|(_, class)| class.to_owned())).collect()
}

fn passed(flow: Flow) -> String {
    match flow {
        Flow::Pass(Some(body)) => String::from_utf8(body).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_streams_that_may_have_to_be_ended_take_it() {
    for (model, stream, delivery, cluster, limit) in [
        ("cut", true, "live", "openai", None),
        ("cut", true, "whole", "hop", Some("2000")),
        // The first router's own limit is to come first.
        ("told", true, "live", "hop", Some("3000")),
        ("told", true, "whole", "hop", Some("2000")),
        ("told", false, "live", "openai", None),
    ] {
        let admitted = admit(model, stream, delivery);
        let first_limit = admitted.attempt_timeout;
        let progress = Progress { number: 1, ..Progress::default() };
        let state = admitted.ticket.entry(progress.clone()).state(&progress);
        assert!(state.starts_with(format!("{cluster}/").as_bytes()), "{model} {stream} {delivery}");
        let attempt = Attempt::new(&state).unwrap();
        assert_eq!(attempt.takes_hop(), cluster == "hop");
        let set = attempt.outgoing().set;
        let header = |name: &str| set.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(header("x-attache-timeout"), limit, "{model} {stream} {delivery}");
        assert_eq!(header("x-attache-cluster"), limit.map(|_| "bare.openai"));
        if model == "told" && stream && delivery == "live" {
            assert_eq!(first_limit, 2000);
        }
    }
}

#[test]
fn silence_ends_it_and_the_end_carries_the_error() {
    let store = Memory::default();
    let around = |now| Around { now, store: &store };
    let mut exchange = live("told", &store);
    assert_eq!(passed(exchange.body(HALF.as_bytes(), false, &around(NOW))), "");
    assert_eq!(exchange.tick(&around(NOW + 59_000)), None);
    assert_eq!(exchange.tick(&around(NOW + 60_000)), Some(Expiry::End));
    let told = passed(exchange.body(b"", true, &around(NOW + 60_001)));
    // Half an event must not run into it.
    assert!(told.starts_with("data: {\"error\"") && told.contains("sent nothing for 60 s"), "{told}");
    assert_eq!(classes(&mut exchange), ["timeout"]);
    assert!(exchange.is_told());
}

#[test]
fn without_the_hop_it_waits_for_a_byte_and_is_cut() {
    let store = Memory::default();
    let around = |now| Around { now, store: &store };
    let mut exchange = live("cut", &store);
    assert_eq!(exchange.tick(&around(NOW + 60_000)), None);
    assert_eq!(exchange.tick(&around(NOW + 61_000)), Some(Expiry::Cut));
    assert_eq!(classes(&mut exchange), ["timeout"]);
}

#[test]
fn a_hop_that_is_gone_leaves_a_cut_that_is_told_as_what_it_is() {
    let store = Memory::default();
    let around = |now| Around { now, store: &store };
    let mut exchange = live("told", &store);
    assert_eq!(exchange.tick(&around(NOW + 60_000)), Some(Expiry::End));
    let counts = exchange.close(Ending::Broken, &around(NOW + 60_000)).counts;
    assert!(counts[0].name.ends_with("class=timeout"), "{counts:?}");
}

#[test]
fn a_complete_stream_that_is_not_ended_ends_well() {
    let store = Memory::default();
    let around = |now| Around { now, store: &store };
    let mut exchange = live("told", &store);
    exchange.body(STOP.as_bytes(), false, &around(NOW));
    assert_eq!(exchange.tick(&around(NOW + 59_000)), None);
    assert_eq!(exchange.tick(&around(NOW + 60_000)), Some(Expiry::End));
    assert_eq!(exchange.body(b"", true, &around(NOW + 60_001)), Flow::Pass(None));
    assert_eq!(classes(&mut exchange), ["ok"]);
}

#[test]
fn what_follows_an_error_is_not_waited_for() {
    let store = Memory::default();
    let around = Around { now: NOW, store: &store };
    for (model, ends) in [("told", true), ("cut", false)] {
        let mut exchange = live(model, &store);
        assert!(!exchange.effects().end);
        let told = passed(exchange.body(b"data: {x}\n\n", false, &around));
        assert!(told.contains("could not be read"), "{told}");
        assert_eq!(exchange.effects().end, ends, "{model}");
        // What was on its way already.
        assert_eq!(passed(exchange.body(TOKEN.as_bytes(), false, &around)), "");
        assert_eq!(passed(exchange.body(b"", true, &around)), "");
        // An end that comes by itself need not be made.
        let mut exchange = live(model, &store);
        assert!(passed(exchange.body(b"", true, &around)).contains("ended before"));
        assert!(!exchange.effects().end, "{model}");
    }
}
