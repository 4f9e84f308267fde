//! What exchanges are charged with, without Envoy: a configuration with a budget, what providers send, and what is spent then.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::borrow::Cow;

use attache_gateway::admission::{Admission, Admitted, Head};
use attache_gateway::attempt::Attempt;
use attache_gateway::budget::{Fact, Facts, standings};
use attache_gateway::exchange::{Ending, Exchange, Flow, RETRY_STATUS};
use attache_gateway::gateway::Gateway;
use attache_gateway::outcome::Around;
use serde_json::{Value, json};
use support::{Memory, NOW};

const LIMIT: u64 = 50_000;

/// A gateway with one budget, and what its workers share.
struct Bench {
    gateway: Gateway,
    store: Memory,
}

/// Of requests that go to this provider.
struct At(&'static str);

impl Facts for At {
    fn fact(&self, fact: &Fact) -> Option<Cow<'_, str>> {
        (*fact == Fact::Provider).then_some(Cow::Borrowed(self.0))
    }
}

impl Bench {
    fn new(targets: Value, members: Value) -> Bench {
        let budget = json!({ "name": "b", "limit": { "tokens": LIMIT }, "window": { "calendar": "month" } });
        Bench::of(targets, json!([with(budget, members)]))
    }

    fn of(targets: Value, budgets: Value) -> Bench {
        let gateway = Gateway::new(json!({
            "providers": [
                { "name": "openai" },
                { "name": "gemini" },
                { "name": "anthropic", "keys": [{ "name": "k1" }, { "name": "k2" }] },
            ],
            "catalogue": [{ "model": "terse", "figures": { "output": 1000 }, "at": { "openai": { "names": ["terse"] } } }],
            "routes": [{ "models": ["m"], "targets": targets, "onError": { "content_filter": "nextTarget" } }],
            "budgets": budgets,
        }));
        Bench { gateway: gateway.unwrap(), store: Memory::default() }
    }

    fn around(&self) -> Around<'_> {
        Around { now: NOW, store: &self.store }
    }

    fn admit(&self, members: Value) -> Admitted {
        let head = [(":path", "/v1/chat/completions"), (":method", "POST")];
        let head = Head::new(head.into_iter().map(|(name, value)| (name.into(), value.into())));
        let body = with(json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] }), members);
        let admission = Admission::begin(&head, &self.gateway).unwrap();
        support::admit(admission, &self.gateway, &body.to_string(), &self.around()).unwrap()
    }

    /// The provider answers the attempt of this state so. Returns where it was, and the next one's state, if there is one.
    fn answer(&self, state: &[u8], status: u16, answer: &str) -> (String, Option<Vec<u8>>) {
        let mut exchange = Exchange::new(Attempt::new(state).unwrap(), NOW);
        let cluster = exchange.attempt().step().cluster();
        exchange.head(status, std::iter::empty(), NOW);
        let flow = exchange.body(answer.as_bytes(), true, &self.around());
        let Flow::Release { head, .. } = flow else { panic!("{flow:?}") };
        (cluster, exchange.effects().state.filter(|_| head.status == Some(RETRY_STATUS)))
    }

    fn spent_at(&self, provider: &'static str) -> u64 {
        standings(&self.around(), &self.gateway.budgets.claims(&At(provider)))[0].spent
    }

    fn held(&self) -> u64 {
        standings(&self.around(), &self.gateway.budgets.claims(&At("")))[0].held
    }
}

fn with(mut object: Value, members: Value) -> Value {
    object.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    object
}

/// A good answer of Anthropic's.
fn claude(input: u64, output: u64) -> String {
    let usage = json!({ "input_tokens": input, "output_tokens": output });
    json!({ "id": "m", "type": "message", "role": "assistant", "model": "c", "content": [{ "type": "text", "text": "x" }],
            "stop_reason": "end_turn", "stop_sequence": null, "usage": usage })
    .to_string()
}

/// A good answer of OpenAI's.
fn gpt(input: u64, output: u64) -> String {
    let choice =
        json!({ "index": 0, "message": { "role": "assistant", "content": "x" }, "finish_reason": "stop" });
    let usage =
        json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output });
    json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "g", "choices": [choice], "usage": usage })
        .to_string()
}

/// A stream of Anthropic's that fails before its first token, its prompt read.
const FAILED: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",",
    "\"model\":\"c\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":1000,\"output_tokens\":0}}}\n\n",
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
);
const ANSWERED: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",",
    "\"model\":\"c\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":8,\"output_tokens\":0}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":4}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[test]
fn what_failed_is_charged_once_to_the_provider_where_it_failed() {
    let claude = |model: &str| json!({ "provider": "anthropic", "model": model });
    let other = json!({ "provider": "openai", "model": "gpt-4o" });
    let error =
        "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n";
    // A second target of the same provider; and a second key of it after another provider.
    for (targets, path) in [
        (json!([claude("claude-sonnet-4-5"), claude("claude-haiku-4-5")]), &["anthropic", "anthropic"][..]),
        (json!([claude("claude-sonnet-4-5"), other]), &["anthropic", "openai", "anthropic"][..]),
    ] {
        let budget =
            json!({ "per": ["provider"], "failedAttempts": "charge", "limit": { "tokens": 500_000 } });
        let bench = Bench::new(targets, budget);
        let mut state = Some(bench.admit(json!({ "stream": true, "max_completion_tokens": 9 })).state());
        for (at, provider) in path.iter().enumerate() {
            let answer = match at {
                _ if at == path.len() - 1 => ANSWERED,
                0 => FAILED,
                _ => error,
            };
            let (cluster, next) = bench.answer(&state.unwrap(), 200, answer);
            assert_eq!(cluster.split('.').next(), Some(*provider), "{at}");
            state = next;
        }
        assert_eq!((bench.spent_at("anthropic"), bench.spent_at("openai")), (1012, 0), "{path:?}");
    }
}

const BUSY: &str = r#"{"error":{"message":"busy","type":"server_error"}}"#;
/// Two providers, and two models of the second, the dearer one last.
fn dearer_and_dearer() -> Value {
    json!([
        { "provider": "gemini", "model": "gemini-2.5-flash" },
        { "provider": "openai", "model": "gpt-4o-mini" },
        { "provider": "openai", "model": "gpt-4o" },
    ])
}

#[test]
fn who_stays_in_an_account_holds_enough_for_the_dearest_there() {
    let budget = json!({ "per": ["provider"], "limit": { "usd": "1" } });
    let bench = Bench::new(dearer_and_dearer(), budget);
    let held = || standings(&bench.around(), &bench.gateway.budgets.claims(&At("openai")))[0].held;
    let mut state = bench.admit(json!({ "max_completion_tokens": 1000 })).state();
    // 1000 tokens of gpt-4o-mini cost 0.0006 dollars, of gpt-4o 0.01.
    for (provider, least) in [("gemini", 600_000_000), ("openai", 10_000_000_000)] {
        let (at, next) = bench.answer(&state, 503, BUSY);
        state = next.unwrap();
        assert_eq!((at.as_str(), held() / least), (provider, 1));
    }
    assert_eq!(bench.answer(&state, 200, &gpt(8, 1000)), ("openai".to_owned(), None));
    assert_eq!((held(), bench.spent_at("openai")), (0, 10_020_000_000));
}

#[test]
fn who_stays_in_an_account_that_has_too_little_is_answered_shorter_or_not_at_all() {
    // 0.00198 dollars are left, for a prompt of up to 68 tokens at 2.5 a million, and an answer at 10.
    for (policy, limit) in [("clamp", Some(181)), ("reject", None)] {
        let budget = json!({ "per": ["provider"], "limit": { "usd": "0.003" }, "onExceed": policy });
        let bench = Bench::new(dearer_and_dearer(), budget);
        let to_the_last = |tokens: u64| {
            let state = bench.admit(json!({ "max_completion_tokens": tokens })).state();
            let second = bench.answer(&state, 503, BUSY).1.unwrap();
            bench.answer(&second, 503, BUSY).1
        };
        bench.answer(&to_the_last(100).unwrap(), 200, &gpt(8, 100));
        let last = to_the_last(250);
        assert_eq!(last.and_then(|state| Attempt::new(&state).unwrap().output_limit()), limit, "{policy}");
    }
}

#[test]
fn a_budget_that_only_watches_lets_pass_what_has_no_price() {
    let targets = json!([
        { "provider": "openai", "model": "gpt-4o-mini" },
        { "provider": "openai", "model": "nobody-knows-its-price" },
        { "provider": "gemini", "model": "nor-of-this" },
    ]);
    let bench =
        Bench::new(targets, json!({ "per": ["provider"], "limit": { "usd": "1" }, "onExceed": "shadow" }));
    let mut state = bench.admit(json!({})).state();
    for provider in ["openai", "openai"] {
        let (at, next) = bench.answer(&state, 503, BUSY);
        assert_eq!(at, provider);
        state = next.expect("the next target is asked");
    }
    assert_eq!(bench.answer(&state, 503, BUSY).0, "gemini");
}

#[test]
fn a_budget_that_only_a_later_target_concerns_is_asked_there() {
    let budget = json!({ "match": { "providers": ["openai"] }, "limit": { "tokens": 2000 } });
    let bench = Bench::new(dearer_and_dearer(), budget);
    let second = || {
        let admitted = bench.admit(json!({ "max_completion_tokens": 1000, "stream": true }));
        assert!(admitted.ticket.policy.hop, "it may have to be ended there");
        bench.answer(&admitted.state(), 503, BUSY).1
    };
    let (first, other) = (second().unwrap(), second());
    assert_eq!(other, None, "both together may use more than all of it");
    bench.answer(&first, 200, &gpt(8, 900));
    assert_eq!(bench.spent_at("openai"), 908);
}

#[test]
fn who_leaves_one_account_stays_in_the_others() {
    let window = json!({ "calendar": "month" });
    let budgets = json!([
        { "name": "at-once", "limit": { "concurrent": 1 }, "per": ["provider"] },
        { "name": "each", "limit": { "tokens": 50_000 }, "window": window, "per": ["model"] },
    ]);
    let bench = Bench::of(dearer_and_dearer(), budgets);
    let mut state = bench.admit(json!({ "max_completion_tokens": 1000 })).state();
    for provider in ["gemini", "openai"] {
        let (at, next) = bench.answer(&state, 503, BUSY);
        assert_eq!(at, provider);
        state = next.expect(provider);
    }
}

#[test]
fn what_failed_before_one_account_was_left_is_charged_to_those_that_stay() {
    let claude = |model: &str| json!({ "provider": "anthropic", "model": model });
    let budget = |name: &str, per: &str| {
        json!({ "name": name, "limit": { "tokens": 50_000 }, "window": { "calendar": "month" }, "per": [per],
            "failedAttempts": "charge" })
    };
    let budgets = json!([budget("provider", "provider"), budget("model", "model")]);
    let bench = Bench::of(json!([claude("claude-sonnet-4-5"), claude("claude-haiku-4-5")]), budgets);
    let state = bench.admit(json!({ "stream": true, "max_completion_tokens": 9 })).state();
    let (_, next) = bench.answer(&state, 200, FAILED);
    bench.answer(&next.unwrap(), 200, ANSWERED);
    assert_eq!(bench.spent_at("anthropic"), 1000 + 12);
}

#[test]
fn an_answer_that_is_passed_on_unread_costs_all_that_was_held() {
    let bench = Bench::new(json!([{ "provider": "openai", "model": "gpt-4o" }]), json!({}));
    let admitted = || bench.admit(json!({ "max_completion_tokens": 500, "n": 2 })).state();
    let begun = || {
        let mut exchange = Exchange::new(Attempt::new(&admitted()).unwrap(), NOW);
        exchange.head(200, std::iter::empty(), NOW);
        let Flow::Release { body: None, .. } = exchange.too_large(&bench.around()) else { panic!("held") };
        exchange
    };
    begun().body(b"}", true, &bench.around());
    let whole = bench.spent_at("");
    assert!((1000..1020).contains(&whole), "{whole}");
    for ending in [Ending::ClientLeft, Ending::Broken] {
        let before = bench.spent_at("");
        begun().close(ending, &bench.around());
        assert_eq!(bench.spent_at("") - before, whole, "{ending:?}");
    }
    assert_eq!(bench.held(), 0);
}

#[test]
fn an_answer_that_a_filter_withheld_has_been_paid_for() {
    let targets = json!([{ "provider": "gemini", "model": "gemini-2.5-flash" }, { "provider": "openai", "model": "gpt-4o" }]);
    for (policy, expected) in [("free", 12), ("charge", 812)] {
        let bench = Bench::new(targets.clone(), json!({ "failedAttempts": policy }));
        let blocked = r#"{"promptFeedback":{"blockReason":"OTHER"},"usageMetadata":{"promptTokenCount":800,"totalTokenCount":800},"responseId":"r"}"#;
        let (_, next) =
            bench.answer(&bench.admit(json!({ "max_completion_tokens": 9 })).state(), 200, blocked);
        let answer = r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":4,"total_tokens":12}}"#;
        bench.answer(&next.unwrap(), 200, answer);
        assert_eq!(bench.spent_at(""), expected, "{policy}");
    }
}

#[test]
fn an_answer_is_not_allowed_more_than_a_model_can_say() {
    let targets =
        json!([{ "provider": "openai", "model": "gpt-4o" }, { "provider": "openai", "model": "terse" }]);
    let bench = Bench::new(targets, json!({ "onExceed": "clamp", "limit": { "tokens": 9000 } }));
    let state = bench.admit(json!({})).state();
    let limit = |state: &[u8]| Attempt::new(state).unwrap().output_limit().unwrap();
    assert!((8000..9000).contains(&limit(&state)), "{}", limit(&state));
    let error = r#"{"error":{"message":"no","type":"server_error","param":null,"code":null}}"#;
    let (_, next) = bench.answer(&state, 500, error);
    assert_eq!(limit(&next.unwrap()), 1000);
}

#[test]
fn what_was_learned_of_a_model_still_counts_where_the_limit_is_near() {
    let targets = json!([{ "provider": "anthropic", "model": "claude-sonnet-4-5" }]);
    let bench = Bench::new(targets, json!({ "onExceed": "clamp", "limit": { "tokens": 16_000 } }));
    let text = json!({ "messages": [{ "role": "user", "content": "one word after another ".repeat(25) }] });
    // Each has three times as many tokens as were to be expected.
    for _ in 0..20 {
        let admitted = bench.admit(with(json!({ "max_completion_tokens": 9 }), text.clone()));
        bench.answer(&admitted.state(), 200, &claude(400, 1));
    }
    let left = 16_000 - bench.spent_at("");
    let admitted = bench.admit(text);
    let clamped = Attempt::new(&admitted.state()).unwrap().output_limit().unwrap();
    assert!(left - clamped >= 400, "{left} are left, and an answer may have {clamped}");
}

/// Picodollars that a bench with a budget in dollars has spent: a token of the prompt costs 1, of the answer 10 (`cheap`), or
/// a hundred times as much (`dear`); served with priority, twice.
fn dollars(members: Value, answer: Option<Value>) -> Result<u64, String> {
    let prices = |times: u64| {
        let dollars = |pico: u64| pico as f64 * times as f64 / 1e6;
        json!({ "output": 1000, "prices": { "input": dollars(1), "output": dollars(10) },
                "tiers": { "priority": { "prices": { "input": dollars(2), "output": dollars(20) } } } })
    };
    let at = |name: &str| json!({ "openrouter": { "names": [name] } });
    let budget = json!({ "name": "b", "limit": { "usd": "1" }, "window": { "calendar": "month" } });
    let gateway = Gateway::new(json!({
        "providers": [{ "name": "openrouter" }],
        "catalogue": [
            { "model": "cheap", "figures": prices(1), "at": at("x/cheap") },
            { "model": "dear", "figures": prices(100), "at": at("x/dear") },
        ],
        "routes": [{ "models": ["m"], "targets": [{ "provider": "openrouter", "model": "x/cheap" }] }],
        "budgets": [budget],
    }))
    .unwrap();
    let bench = Bench { gateway, store: Memory::default() };
    let head = [(":path", "/v1/chat/completions"), (":method", "POST")];
    let head = Head::new(head.into_iter().map(|(name, value)| (name.into(), value.into())));
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "max_completion_tokens": 100 });
    let admission = Admission::begin(&head, &bench.gateway).unwrap();
    let admitted =
        support::admit(admission, &bench.gateway, &with(body, members).to_string(), &bench.around());
    let state = admitted.map_err(|reject| reject.error.message)?.state();
    let Some(answer) = answer else { return Ok(bench.held()) };
    let whole = json!({ "id": "c", "model": "x/cheap", "choices": [{ "index": 0, "message": { "content": "Hi" }, "finish_reason": "stop" }],
                        "usage": { "prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20 } });
    bench.answer(&state, 200, &with(whole, answer).to_string());
    Ok(bench.spent_at(""))
}

#[test]
fn of_several_models_that_may_answer_the_dearest_is_held_and_the_one_that_did_is_charged() {
    let (alone, both) = (json!({}), json!({ "models": ["x/cheap", "x/dear"] }));
    let held = dollars(alone.clone(), None).unwrap();
    assert!((1000..1100).contains(&held), "{held}");
    assert_eq!(dollars(both.clone(), None).unwrap(), 100 * held);
    for (request, model, expected) in [
        (&alone, "x/cheap", 110),
        // Nothing else was asked for.
        (&alone, "x/dear", 110),
        (&both, "x/cheap", 110),
        (&both, "x/cheap-2026-01-01", 110),
        (&both, "x/dear", 11_000),
        // Who it was is not told.
        (&both, "", 11_000),
        (&both, "y", 11_000),
    ] {
        assert_eq!(dollars(request.clone(), Some(json!({ "model": model }))).unwrap(), expected, "{model}");
    }
    let refused = dollars(json!({ "models": ["x/dear", "x/unknown"] }), None).unwrap_err();
    assert!(refused.contains("the price of `x/unknown` is not known"), "{refused}");
}

#[test]
fn how_a_request_was_served_is_the_dearest_that_it_allows_until_it_is_told() {
    let priority = json!({ "service_tier": "priority" });
    for (request, told, expected) in [
        (json!({}), json!({}), 110),
        (json!({ "service_tier": "flex" }), json!({}), 110),
        (priority.clone(), json!({}), 220),
        (priority.clone(), json!({ "service_tier": "default" }), 110),
        (priority.clone(), json!({ "service_tier": "priority" }), 220),
        (json!({}), json!({ "service_tier": "priority" }), 220),
    ] {
        assert_eq!(dollars(request.clone(), Some(told)).unwrap(), expected, "{request}");
    }
    assert_eq!(dollars(priority, None).unwrap(), 2 * dollars(json!({}), None).unwrap());
}

#[test]
fn what_a_prompt_names_elsewhere_is_held_as_long_as_its_model_takes() {
    let held = |model: &str, members: Value| {
        let targets = json!([{ "provider": "openai", "model": model }]);
        let bench = Bench::new(targets, json!({ "limit": { "inputTokens": 5_000_000 } }));
        bench.admit(members);
        bench.held()
    };
    let search = json!({ "web_search_options": {} });
    assert!(held("gpt-4o", json!({})) < 10);
    // As the catalogue has it; of an unknown model as of the largest.
    assert_eq!(held("gpt-4o", search.clone()), 128_000);
    assert_eq!(held("my-own", search.clone()), 1 << 20);
    // Where it does not fit, a hard limit stays hard.
    let bench = Bench::new(json!([{ "provider": "openai", "model": "gpt-4o" }]), json!({}));
    let head = [(":path", "/v1/chat/completions"), (":method", "POST")];
    let head = Head::new(head.into_iter().map(|(name, value)| (name.into(), value.into())));
    let body = with(json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] }), search);
    let admission = Admission::begin(&head, &bench.gateway).unwrap();
    let refused = support::admit(admission, &bench.gateway, &body.to_string(), &bench.around()).unwrap_err();
    assert_eq!(refused.error.code.as_deref(), Some("budget_exceeded"));
}
