//! What becomes of requests that exceed a budget, without Envoy: when they are to come again, and who else serves them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use attache_gateway::admission::{Admission, Admitted, Head, Reject, Verdict};
use attache_gateway::attempt::Attempt;
use attache_gateway::exchange::Exchange;
use attache_gateway::gateway::Gateway;
use attache_gateway::outcome::Around;
use serde_json::{Value, json};
use support::{Memory, NOW, Nobody};

/// A gateway with these budgets, and what its workers share.
struct Bench {
    gateway: Gateway,
    store: Memory,
}

impl Bench {
    fn new(budgets: Value) -> Bench {
        let target = |model: &str| json!([{ "provider": "openai", "model": model }]);
        let gateway = Gateway::new(json!({
            "providers": [{ "name": "openai" }],
            "catalogue": [{ "model": "deaf", "figures": { "output": 1000, "tools": false }, "at": { "openai": { "names": ["deaf"] } } }],
            "routes": [
                { "models": ["m"], "targets": target("gpt-4o-mini") },
                { "models": ["small"], "targets": target("gpt-4.1-nano") },
                { "models": ["deaf"], "targets": target("deaf") },
            ],
            "budgets": budgets,
        }));
        Bench { gateway: gateway.unwrap(), store: Memory::default() }
    }

    fn ask(&self, members: Value, now: u64) -> Result<Verdict, Box<Reject>> {
        let head = [(":path", "/v1/chat/completions"), (":method", "POST")];
        let head = Head::new(head.into_iter().map(|(name, value)| (name.into(), value.into())));
        let mut body =
            json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 100 });
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        let around = Around { now, store: &self.store };
        let admission = Admission::begin(&head, &self.gateway).unwrap();
        admission.admit(&self.gateway, body.to_string().as_bytes(), &around, &Nobody)
    }

    fn admit(&self, members: Value, now: u64) -> Admitted {
        match self.ask(members, now) {
            Ok(Verdict::Go(admitted)) => *admitted,
            other => panic!("{other:?}"),
        }
    }

    fn refuse(&self, members: Value, now: u64) -> Box<Reject> {
        self.ask(members, now).unwrap_err()
    }

    /// The provider answers, and reports so many tokens.
    fn answer(&self, admitted: Admitted, (input, output): (u64, u64), now: u64) {
        let mut exchange = Exchange::new(Attempt::new(&admitted.state()).unwrap(), now);
        exchange.head(200, std::iter::empty(), now);
        let usage =
            json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output });
        let message = json!({ "index": 0, "message": { "role": "assistant", "content": "x" }, "finish_reason": "stop" });
        let answer = json!({ "id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "choices": [message], "usage": usage });
        exchange.body(answer.to_string().as_bytes(), true, &Around { now, store: &self.store });
    }
}

fn told<'r>(headers: &'r [(String, String)], name: &str) -> Option<&'r str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[test]
fn who_comes_again_when_he_was_told_to_is_admitted() {
    for window in [
        json!({ "fixed": "10s" }),
        json!({ "sliding": "10s" }),
        json!({ "sliding": "1s" }),
        json!({ "sliding": "31d" }),
        json!({ "calendar": "hour" }),
        json!({ "calendar": "day" }),
        json!({ "calendar": "week" }),
        json!({ "calendar": "month" }),
    ] {
        for limit in [
            json!({ "requests": 3 }),
            json!({ "tokens": 700 }),
            json!({ "outputTokens": 600 }),
            json!({ "usd": "0.0003" }),
        ] {
            for step in [0, 1, 333, 7_777] {
                let bench = Bench::new(json!([{ "name": "b", "limit": limit, "window": window }]));
                let mut now = NOW + 12_345;
                let mut refused = 0;
                for _ in 0..12 {
                    match bench.ask(json!({}), now) {
                        Ok(Verdict::Go(admitted)) => bench.answer(*admitted, (9, 200), now),
                        Ok(Verdict::Wait(waiting)) => panic!("{waiting:?}"),
                        Err(reject) => {
                            refused += 1;
                            let after: u64 = told(&reject.headers, "retry-after").unwrap().parse().unwrap();
                            if step == 333 && after > 1 {
                                // A second less is too early, or it was no second too many.
                                let early = bench.ask(json!({}), now + after * 1000 - 1000);
                                assert!(early.is_err(), "{limit} {window} {after}");
                            }
                            now += after * 1000;
                            let Ok(Verdict::Go(admitted)) = bench.ask(json!({}), now) else {
                                panic!("{limit} {window} {step}: refused again after {after} s")
                            };
                            bench.answer(*admitted, (9, 200), now);
                        }
                    }
                    now += step;
                }
                assert!(refused > 0 || step > 0, "{limit} {window} {step}");
            }
        }
    }
}

#[test]
fn who_cannot_be_served_by_another_model_is_told_of_his_budget() {
    let bench = Bench::new(json!([
        { "name": "b", "limit": { "requests": 1 }, "window": { "calendar": "month" }, "match": { "routes": ["m"] }, "onExceed": { "downgrade": { "model": "deaf" } } },
    ]));
    let tools = json!({ "tools": [{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }] });
    let first = bench.admit(tools.clone(), NOW);
    assert_eq!(first.ticket.plan[0].model, "gpt-4o-mini");
    let refused = bench.refuse(tools, NOW);
    assert_eq!((refused.error.status, refused.error.code.as_deref()), (429, Some("budget_exceeded")));
    assert_eq!(told(&refused.headers, "x-attache-budget"), Some("b;reject"));
    let other = bench.admit(json!({}), NOW);
    assert_eq!(other.ticket.plan[0].model, "deaf");
    assert_eq!(told(&other.headers, "x-attache-budget"), Some("b;downgrade"));
}

#[test]
fn who_shares_an_account_is_told_of_that_one() {
    let bench = Bench::new(json!([
        { "name": "b", "limit": { "requests": 2 }, "window": { "fixed": "1m" }, "per": ["user"], "forgeable": true, "maxKeys": 1, "onFull": "share" },
    ]));
    for (user, shares) in [("a", false), ("b", true), ("c", true)] {
        let counts = bench.admit(json!({ "user": user }), NOW).effects.counts;
        assert_eq!(
            counts.iter().any(|count| count.name.ends_with(";class=share")),
            shares,
            "{user} {counts:?}"
        );
    }
    let refused = bench.refuse(json!({ "user": "d" }), NOW);
    assert_eq!(told(&refused.headers, "x-ratelimit-remaining-requests"), Some("0"), "b and c have spent it");
    assert!(refused.error.message.contains("0 left of 2"), "{}", refused.error.message);
}
