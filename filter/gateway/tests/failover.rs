//! Failover as it is told by its table: a configuration, what each attempt meets, and who is asked next.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use attache_gateway::admission::{Admission, Head};
use attache_gateway::attempt::Attempt;
use attache_gateway::exchange::{Ending, Exchange, Flow, RETRY_STATUS};
use attache_gateway::gateway::Gateway;
use attache_gateway::outcome::{Around, Effects};
use serde_json::{Value, json};
use support::{Memory, NOW};

/// What an attempt meets.
#[derive(Clone, Copy)]
enum Met {
    /// A status, headers, and an OpenAI error of this code.
    Error(u16, &'static [(&'static str, &'static str)], &'static str),
    /// The connection breaks before an answer.
    Broken,
    /// Nothing for this many milliseconds, until the router's limit.
    Silence(u64),
    Answer,
}
use Met::{Answer, Broken, Error, Silence};

fn world(route: Value, more: Value) -> Gateway {
    let mut config = json!({
        "providers": [
            { "name": "a", "provider": "openai" },
            { "name": "b", "provider": "openai" },
            { "name": "c", "provider": "openai" },
            { "name": "many", "provider": "openai", "keys": [{ "name": "x" }, { "name": "y" }] },
            { "name": "own", "provider": "openai", "credentials": "passthrough" },
        ],
        "routes": [{ "models": ["m"], "firstToken": "1s", "answer": "5s", "total": "20s", "waitLimit": "3s" }],
        "health": { "consecutiveFailures": 2, "coolDown": "4s" },
    });
    for (name, value) in route.as_object().unwrap() {
        config["routes"][0][name] = value.clone();
    }
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    Gateway::new(config).unwrap()
}

fn targets(names: &[&str]) -> Value {
    let targets: Vec<Value> =
        names.iter().map(|name| json!({ "provider": name, "model": format!("{name}-m") })).collect();
    json!({ "targets": targets })
}

/// One request at `now`; attempt by attempt what it meets. Returns the clusters asked in order, each with the seconds
/// waited before it, and the status at the end.
fn run(gateway: &Gateway, store: &Memory, now: u64, script: &[Met]) -> (Vec<(String, u64)>, u16) {
    run_as(gateway, store, now, &[], "hi", script)
}

fn run_as(
    gateway: &Gateway,
    store: &Memory,
    mut now: u64,
    headers: &[(&str, &str)],
    text: &str,
    script: &[Met],
) -> (Vec<(String, u64)>, u16) {
    let own = [(":path", "/v1/chat/completions"), (":method", "POST")];
    let headers = own.iter().chain(headers).map(|(name, value)| ((*name).into(), (*value).into()));
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] }).to_string();
    let admission = Admission::begin(&Head::new(headers), gateway).unwrap();
    let admitted = support::admit(admission, gateway, &body, &Around { now, store }).unwrap();
    let retries = admitted.retries;
    let mut state = admitted.state();
    let (mut asked, mut wait) = (Vec::new(), 0);
    for met in script {
        let cluster = String::from_utf8(state.split(|byte| *byte == b'/').next().unwrap().to_vec()).unwrap();
        asked.push((cluster, wait));
        now += wait * 1000;
        let (status, effects) = meet(&state, *met, &mut now, store);
        wait = match status {
            Some((RETRY_STATUS, wait)) => wait,
            Some((status, _)) => return (asked, status),
            None => 0,
        };
        state = effects.state.unwrap();
        assert!(asked.len() <= retries + 1, "more attempts than the router was told");
        if state.starts_with(b"-/") {
            return (asked, 503);
        }
    }
    (asked, 0)
}

/// The status that goes to the router with the seconds to wait; `None`: Envoy ended the attempt.
fn meet(state: &[u8], met: Met, now: &mut u64, store: &Memory) -> (Option<(u16, u64)>, Effects) {
    let mut exchange = Exchange::new(Attempt::new(state).unwrap(), *now);
    let (status, headers, body) = match met {
        Broken => return (None, exchange.close(Ending::Broken, &Around { now: *now, store })),
        Silence(millis) => {
            *now += millis;
            return (None, exchange.close(Ending::Broken, &Around { now: *now, store }));
        }
        Answer => {
            let answer = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
                { "index": 0, "message": { "role": "assistant", "content": "Hi" }, "finish_reason": "stop" }] });
            (200, &[][..], answer.to_string())
        }
        Error(status, headers, code) => {
            let error = json!({ "error": { "message": code, "type": code, "param": null, "code": code } });
            (status, headers, error.to_string())
        }
    };
    exchange.head(status, headers.iter().copied(), *now);
    let around = Around { now: *now, store };
    let Flow::Release { head, .. } = exchange.body(body.as_bytes(), true, &around) else { panic!("held") };
    let wait = head.set.iter().find(|(name, _)| *name == "x-attache-wait");
    let wait = wait.map_or(0, |(_, seconds)| seconds.parse().unwrap());
    (Some((head.status.unwrap_or(200), wait)), exchange.effects())
}

fn names(asked: &[(String, u64)]) -> Vec<&str> {
    asked.iter().map(|(name, _)| name.as_str()).collect()
}

const SLOW: Met = Error(429, &[], "rate_limit_exceeded");
const DOWN: Met = Error(503, &[], "server_error");
const REFUSED: Met = Error(401, &[], "invalid_api_key");
const SPENT: Met = Error(429, &[], "insufficient_quota");

#[test]
fn each_class_has_its_way_on() {
    for (what, script, asked, status) in [
        ("server error", &[DOWN, Answer][..], &["a", "b"][..], 200),
        ("connection", &[Broken, Answer], &["a", "b"], 200),
        ("silence", &[Silence(5000), Answer], &["a", "b"], 200),
        ("rate limit", &[SLOW, Answer], &["a", "b"], 200),
        ("refused key", &[REFUSED, Answer], &["a", "b"], 200),
        ("spent quota", &[SPENT, Answer], &["a", "b"], 200),
        ("too long", &[Error(400, &[], "context_length_exceeded"), Answer], &["a", "b"], 200),
        ("bad request", &[Error(400, &[], "invalid_value")], &["a"], 400),
        ("filtered", &[Error(400, &[], "content_policy_violation")], &["a"], 400),
        ("not found", &[Error(404, &[], "model_not_found")], &["a"], 404),
        ("all down", &[DOWN, DOWN, DOWN], &["a", "b", "c"], 503),
        ("all broken", &[Broken, Broken, Broken], &["a", "b", "c"], 503),
    ] {
        let gateway = world(targets(&["a", "b", "c"]), json!({}));
        let (found, ended) = run(&gateway, &Memory::default(), NOW, script);
        assert_eq!((names(&found), ended), (asked.to_vec(), status), "{what}");
        assert!(found.iter().all(|(_, wait)| *wait == 0), "{what}: {found:?}");
    }
}

#[test]
fn the_only_target_is_asked_once_more_after_a_pause_but_not_after_a_silence() {
    let gateway = world(targets(&["a"]), json!({}));
    for (script, asked, status) in [
        (&[DOWN, Answer][..], &[0, 1][..], 200),
        (&[DOWN, DOWN], &[0, 1], 503),
        (&[SLOW, SLOW], &[0, 1], 429),
        (&[Silence(5000)], &[0], 503),
        (&[REFUSED], &[0], 401),
    ] {
        let (found, ended) = run(&gateway, &Memory::default(), NOW, script);
        let waits: Vec<u64> = found.iter().map(|(_, wait)| *wait).collect();
        assert_eq!((waits, ended), (asked.to_vec(), status));
    }
}

#[test]
fn a_short_told_wait_is_waited_out_and_a_long_one_rests_the_target() {
    let gateway = world(targets(&["a", "b"]), json!({}));
    let store = Memory::default();
    let short = Error(429, &[("retry-after", "2")], "rate_limit_exceeded");
    let (found, status) = run(&gateway, &store, NOW, &[short, Answer]);
    assert_eq!((found, status), (vec![("a".to_owned(), 0), ("a".to_owned(), 2)], 200));
    let (found, _) = run(&gateway, &store, NOW, &[short, short, short, Answer]);
    assert_eq!(names(&found), ["a", "a", "a", "b"], "not more than twice");

    let (store, long) = (Memory::default(), Error(429, &[("retry-after", "60")], "rate_limit_exceeded"));
    let (found, _) = run(&gateway, &store, NOW, &[long, Answer]);
    assert_eq!(found, [("a".to_owned(), 0), ("b".to_owned(), 0)]);
    let (found, _) = run(&gateway, &store, NOW + 30_000, &[Answer]);
    assert_eq!(names(&found), ["b"], "it rests");
    let (found, _) = run(&gateway, &store, NOW + 30_000, &[DOWN, long]);
    assert_eq!(names(&found), ["b", "a"], "and is the last door");
    let (found, _) = run(&gateway, &store, NOW + 91_000, &[Answer]);
    assert_eq!(names(&found), ["a"]);
}

#[test]
fn keys_change_for_the_keys_faults_and_targets_for_the_providers() {
    let gateway = world(targets(&["many", "b"]), json!({}));
    let first = names(&run(&gateway, &Memory::default(), NOW, &[Answer]).0)[0].to_owned();
    let second = if first == "many.x" { "many.y" } else { "many.x" };
    for (script, asked) in [
        (&[REFUSED, Answer][..], &[&*first, second][..]),
        (&[SPENT, REFUSED, Answer], &[&*first, second, "b"]),
        (&[SLOW, Answer], &[&*first, second]),
        (&[DOWN, Answer], &[&*first, "b"]),
        // The key that was passed over is tried when no target is left.
        (&[DOWN, DOWN, Answer], &[&*first, "b", second]),
        // But not where the target was silent: it is not asked twice, with whatever key.
        (&[Silence(5000), DOWN, Answer], &[&*first, "b"]),
        (&[Silence(5000), SLOW, Answer], &[&*first, "b"]),
    ] {
        assert_eq!(names(&run(&gateway, &Memory::default(), NOW, script).0), asked);
    }
    let store = Memory::default();
    run(&gateway, &store, NOW, &[REFUSED, Answer]);
    assert_eq!(names(&run(&gateway, &store, NOW + 1000, &[Answer]).0), [second], "a refused key rests");
}

#[test]
fn the_clients_own_key_is_the_clients_own_matter() {
    let gateway = world(targets(&["own", "a"]), json!({}));
    let store = Memory::default();
    assert_eq!(run(&gateway, &store, NOW, &[REFUSED]).1, 401);
    assert_eq!(run(&gateway, &store, NOW, &[SPENT]).1, 429);
    assert_eq!(
        names(&run(&gateway, &store, NOW, &[Answer]).0),
        ["own"],
        "and says nothing about others' keys"
    );
}

#[test]
fn a_route_may_rule_otherwise() {
    let rules = |rules: Value| {
        let mut route = targets(&["a", "b"]);
        route["onError"] = rules;
        world(route, json!({}))
    };
    let gateway =
        rules(json!({ "content_filter": "nextTarget", "server_error": "again", "rate_limit": "giveUp" }));
    let filtered = Error(400, &[], "content_policy_violation");
    assert_eq!(names(&run(&gateway, &Memory::default(), NOW, &[filtered, Answer]).0), ["a", "b"]);
    assert_eq!(run(&gateway, &Memory::default(), NOW, &[SLOW]).1, 429);
    let mut route = targets(&["many"]);
    route["onError"] = json!({ "timeout": "nextKey" });
    let (found, status) = run(&world(route, json!({})), &Memory::default(), NOW, &[Silence(5000), Answer]);
    assert_eq!((found.len(), status), (2, 200));
    let down = Error(500, &[], "server_error");
    let (found, _) = run(&gateway, &Memory::default(), NOW, &[down, down, Answer]);
    assert_eq!(found, [("a".to_owned(), 0), ("a".to_owned(), 1), ("b".to_owned(), 0)]);
    let faults = Gateway::new(json!({ "providers": [{ "name": "openai" }], "routes": [
        { "models": ["m"], "targets": [{ "provider": "openai" }], "onError": { "rate_limits": "wait", "timeout": "again!" } }] }));
    let told: Vec<String> =
        faults.unwrap_err().into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
    assert!(told[0].starts_with("routes[0].onError.timeout: unknown value `again!`"), "{told:?}");
    assert_eq!(told[1], "routes[0].onError.rate_limits: unknown class of error; did you mean `rate_limit`?");
}

#[test]
fn a_target_that_keeps_failing_is_left_alone_probed_once_and_taken_back() {
    let gateway = world(targets(&["a", "b"]), json!({}));
    let store = Memory::default();
    for _ in 0..2 {
        assert_eq!(names(&run(&gateway, &store, NOW, &[DOWN, Answer]).0), ["a", "b"]);
    }
    assert_eq!(names(&run(&gateway, &store, NOW + 100, &[Answer]).0), ["b"], "it rests");
    assert_eq!(names(&run(&gateway, &store, NOW + 4000, &[DOWN, Answer]).0), ["a", "b"], "one probe");
    assert_eq!(names(&run(&gateway, &store, NOW + 4100, &[Answer]).0), ["b"], "it rests again");
    assert_eq!(names(&run(&gateway, &store, NOW + 12_100, &[Answer]).0), ["a"], "it is well again");
    assert_eq!(names(&run(&gateway, &store, NOW + 12_200, &[Answer]).0), ["a"]);
}

#[test]
fn a_probe_that_meets_something_else_does_not_block_the_next() {
    let gateway = world(targets(&["a", "b"]), json!({}));
    for (ill, met) in [(DOWN, Broken), (Broken, DOWN)] {
        let store = Memory::default();
        for _ in 0..2 {
            assert_eq!(names(&run(&gateway, &store, NOW, &[ill, Answer]).0), ["a", "b"]);
        }
        assert_eq!(names(&run(&gateway, &store, NOW + 100, &[Answer]).0), ["b"], "it rests");
        assert_eq!(names(&run(&gateway, &store, NOW + 4000, &[met, Answer]).0), ["a", "b"], "a probe");
        assert_eq!(names(&run(&gateway, &store, NOW + 4100, &[Answer]).0), ["a"], "and another");
    }
}

#[test]
fn a_client_that_hangs_up_after_the_last_event_leaves_no_probe_behind() {
    let gateway = world(targets(&["a", "b"]), json!({}));
    let store = Memory::default();
    for _ in 0..2 {
        run(&gateway, &store, NOW, &[DOWN, Answer]);
    }
    let head = [(":path", "/v1/chat/completions"), (":method", "POST")];
    let head = head.map(|(name, value)| (name.into(), value.into()));
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let around = Around { now: NOW + 4000, store: &store };
    let admission = Admission::begin(&Head::new(head.into_iter()), &gateway).unwrap();
    let state = support::admit(admission, &gateway, body, &around).unwrap().state();
    assert!(state.starts_with(b"a/"), "the probe");
    let mut exchange = Exchange::new(Attempt::new(&state).unwrap(), around.now);
    exchange.head(200, std::iter::empty(), around.now);
    let stream = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    assert!(matches!(exchange.body(stream.as_bytes(), false, &around), Flow::Release { .. }));
    exchange.close(Ending::ClientLeft, &around);
    assert_eq!(names(&run(&gateway, &store, NOW + 4100, &[Answer]).0), ["a"], "it is well again");
}

#[test]
fn a_route_of_very_many_targets_asks_each_once() {
    let many: Vec<Value> = (0..400).map(|n| json!({ "provider": "a", "model": format!("m{n}") })).collect();
    let health = json!({ "health": { "consecutiveFailures": 1000, "minimumRequests": 1000 } });
    let gateway = world(json!({ "targets": many }), health);
    let (asked, _) = run(&gateway, &Memory::default(), NOW, &[Broken; 500]);
    assert_eq!(asked.len(), 250, "and the router is not told of more");
}

#[test]
fn the_last_door_is_never_shut() {
    let gateway = world(targets(&["a", "b"]), json!({}));
    let store = Memory::default();
    for _ in 0..2 {
        run(&gateway, &store, NOW, &[Broken, Broken]);
    }
    let (found, status) = run(&gateway, &store, NOW + 100, &[DOWN, Answer]);
    assert_eq!((found.len(), status), (2, 200), "both rest, and both are tried");
}

#[test]
fn what_does_not_fit_goes_only_to_a_larger_window() {
    let catalogue = json!([
        { "model": "small", "figures": { "context": 8000 }, "at": { "a": { "names": ["a-m"] }, "b": { "names": ["b-m"] } } },
        { "model": "large", "figures": { "context": 200_000 }, "at": { "c": { "names": ["c-m"] } } },
    ]);
    let gateway = world(targets(&["a", "b", "c"]), json!({ "catalogue": catalogue }));
    let long = Error(400, &[], "context_length_exceeded");
    assert_eq!(names(&run(&gateway, &Memory::default(), NOW, &[long, Answer]).0), ["a", "c"]);
    let gateway = world(targets(&["a", "c", "b"]), json!({ "catalogue": catalogue }));
    assert_eq!(
        names(&run(&gateway, &Memory::default(), NOW, &[long, DOWN, Answer]).0),
        ["a", "c"],
        "nor later"
    );
    let gateway = world(targets(&["c", "a"]), json!({ "catalogue": catalogue }));
    assert_eq!(run(&gateway, &Memory::default(), NOW, &[long]).1, 400, "nobody has a larger one");
}

#[test]
fn a_conversation_keeps_its_key_and_stays_away_from_a_target_that_has_forgotten_it() {
    let gateway = world(targets(&["many"]), json!({}));
    let store = Memory::default();
    let key = |session: &str| {
        names(&run_as(&gateway, &store, NOW, &[("x-session-id", session)], "hi", &[Answer]).0)[0].to_owned()
    };
    let keys: Vec<String> = (0..40).map(|n| key(&n.to_string())).collect();
    assert!((0..40).all(|n| key(&n.to_string()) == keys[n]), "the same every time");
    let x = keys.iter().filter(|key| *key == "many.x").count();
    assert!((8..=32).contains(&x), "both are used: {x} of 40");

    // A told rest of seven minutes: the conversation lives at b, and its cache at a goes cold.
    let gateway = world(targets(&["a", "b"]), json!({}));
    let (store, text) = (Memory::default(), "a long conversation ".repeat(300));
    let session = [("x-session-id", "s")];
    let ask = |at: u64, script: &[Met]| {
        names(&run_as(&gateway, &store, NOW + at, &session, &text, script).0).join(" ")
    };
    let rest = Error(429, &[("retry-after", "420")], "rate_limit_exceeded");
    assert_eq!(ask(0, &[rest, Answer]), "a b");
    assert_eq!(ask(240_000, &[Answer]), "b");
    assert_eq!(ask(430_000, &[Answer]), "b", "a is well, but has forgotten what b has cached");
    assert_eq!(
        names(&run(&gateway, &store, NOW + 430_000, &[Answer]).0),
        ["a"],
        "another conversation goes to a"
    );
    assert_eq!(ask(430_000 + 301_000, &[Answer]), "a", "b has forgotten it too");
}
