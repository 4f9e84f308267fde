//! What a client that hangs up is charged with: what was generated, seen or not, and no more than was held.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use attache_gateway::admission::{Admission, Head};
use attache_gateway::attempt::Attempt;
use attache_gateway::budget::standings;
use attache_gateway::exchange::{Ending, Exchange};
use attache_gateway::gateway::Gateway;
use attache_gateway::outcome::Around;
use serde_json::{Value, json};
use support::{Memory, NOW, Nobody};

/// Tokens a second, of which too little is known (`tokens/speed.rs`).
const USUAL: u64 = 100;

struct Bench {
    gateway: Gateway,
    store: Memory,
}

impl Bench {
    fn new(model: &str) -> Bench {
        let gateway = Gateway::new(json!({
            "providers": [{ "name": "openai" }],
            "routes": [{ "models": ["m"], "targets": [{ "provider": "openai", "model": model }] }],
            "budgets": [{ "name": "b", "limit": { "tokens": 10_000_000 }, "window": { "calendar": "month" } }],
        }));
        Bench { gateway: gateway.unwrap(), store: Memory::default() }
    }

    fn around(&self, millis: u64) -> Around<'_> {
        Around { now: NOW + millis, store: &self.store }
    }

    /// An attempt that has just begun.
    fn begin(&self, members: Value) -> Exchange {
        let head = [(":path", "/v1/chat/completions"), (":method", "POST")];
        let head = Head::new(head.into_iter().map(|(name, value)| (name.into(), value.into())));
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let admission = Admission::begin(&head, &self.gateway).unwrap();
        let admitted = support::admit(admission, &self.gateway, &body.to_string(), &self.around(0)).unwrap();
        Exchange::new(Attempt::new(&admitted.state()).unwrap(), NOW)
    }

    /// Tokens beside the prompt that the next to be settled is charged with.
    fn charged(&self, settle: impl FnOnce()) -> u64 {
        let before = self.spent();
        settle();
        let standing = &standings(&self.around(0), &self.gateway.budgets.claims(&Nobody))[0];
        assert_eq!(standing.held, 0);
        standing.spent - before
    }

    fn spent(&self) -> u64 {
        standings(&self.around(0), &self.gateway.budgets.claims(&Nobody))[0].spent
    }

    /// Tokens of an answer that its client left after so many milliseconds, before it had any of it.
    fn left(&self, members: Value, millis: u64) -> u64 {
        let exchange = self.begin(members);
        self.charged(|| _ = exchange.close(Ending::ClientLeft, &self.around(millis))) - self.prompt()
    }

    /// Tokens of the prompt, which any client pays for whose provider was reached.
    fn prompt(&self) -> u64 {
        let exchange = self.begin(json!({}));
        self.charged(|| _ = exchange.close(Ending::ClientLeft, &self.around(0)))
    }
}

fn piece(text: &str) -> String {
    let choice = json!({ "index": 0, "delta": { "content": text } });
    format!("data: {}\n\n", json!({ "id": "c", "model": "m", "choices": [choice] }))
}

#[test]
fn a_whole_answer_costs_what_its_model_makes_in_the_time() {
    let bench = Bench::new("gpt-4o");
    assert_eq!(bench.prompt(), 8);
    assert_eq!(bench.left(json!({}), 3000), 3 * USUAL);
    assert_eq!(bench.left(json!({ "n": 3 }), 3000), 9 * USUAL);
    assert_eq!(bench.left(json!({}), 0), 0);
    // No more than was held for it: all that it may have had.
    assert_eq!(bench.left(json!({ "max_completion_tokens": 50 }), 3000), 50);
    assert_eq!(bench.left(json!({ "max_completion_tokens": 50, "n": 3 }), 3000), 150);
}

#[test]
fn what_no_provider_had_or_what_was_an_error_costs_nothing() {
    let bench = Bench::new("gpt-4o");
    let exchange = bench.begin(json!({}));
    assert_eq!(bench.charged(|| _ = exchange.close(Ending::LeftUnreached, &bench.around(3000))), 0);
    let mut exchange = bench.begin(json!({}));
    exchange.head(503, std::iter::empty(), NOW + 2000);
    assert_eq!(bench.charged(|| _ = exchange.close(Ending::ClientLeft, &bench.around(3000))), 0);
}

#[test]
fn what_a_model_thinks_unseen_is_not_free() {
    let stream = |more: Value| {
        let mut members = json!({ "stream": true });
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        members
    };
    // Whoever does not think has made nothing before the first token; of an unknown model nobody knows.
    for (model, more, expected) in [
        ("gpt-4o", json!({}), 0),
        ("o4-mini", json!({}), 20 * USUAL),
        ("gpt-5", json!({}), 20 * USUAL),
        ("my-own", json!({}), 20 * USUAL),
        ("my-own", json!({ "reasoning_effort": "none" }), 0),
        ("gpt-5", json!({ "max_completion_tokens": 700 }), 700),
    ] {
        assert_eq!(Bench::new(model).left(stream(more.clone()), 20_000), expected, "{model} {more}");
    }
    // Then what is shown counts, and the time of the thoughts before it.
    for (model, thought) in [("gpt-4o", 0), ("gpt-5", 5 * USUAL)] {
        let bench = Bench::new(model);
        let mut exchange = bench.begin(stream(json!({})));
        exchange.head(200, std::iter::empty(), NOW + 500);
        exchange.body(piece(&" a".repeat(40)).as_bytes(), false, &bench.around(5000));
        exchange.body(piece(&" a".repeat(40)).as_bytes(), false, &bench.around(60_000));
        let charged = bench.charged(|| _ = exchange.close(Ending::ClientLeft, &bench.around(90_000)));
        assert_eq!(charged - bench.prompt(), 80 + thought, "{model}");
    }
}

#[test]
fn how_fast_a_model_is_is_learned() {
    let bench = Bench::new("gpt-4o");
    for _ in 0..20 {
        let mut exchange = bench.begin(json!({}));
        exchange.head(200, std::iter::empty(), NOW + 10_000);
        let answer = json!({ "id": "c", "model": "m", "choices": [{ "index": 0, "message": { "content": " a".repeat(4000) }, "finish_reason": "stop" }],
                             "usage": { "prompt_tokens": 8, "completion_tokens": 4000, "total_tokens": 4008 } });
        exchange.body(answer.to_string().as_bytes(), true, &bench.around(10_000));
    }
    let left = bench.left(json!({}), 10_000);
    assert!(left.abs_diff(4000) < 500, "{left}");
    assert_eq!(Bench::new("gpt-4o").left(json!({}), 10_000), 10 * USUAL, "others know nothing of it");
}

#[test]
fn what_no_answer_has_is_not_charged() {
    let charged = |usage: Value, text: &str, stream: bool| {
        let bench = Bench::new("gpt-4o");
        let mut exchange = bench.begin(json!({ "max_completion_tokens": 5000, "stream": stream }));
        exchange.head(200, std::iter::empty(), NOW);
        let answer = if stream {
            let end = json!({ "id": "c", "model": "m", "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }], "usage": usage });
            format!("{}data: {end}\n\ndata: [DONE]\n\n", piece(text))
        } else {
            let choice = json!({ "index": 0, "message": { "content": text }, "finish_reason": "stop" });
            json!({ "id": "c", "model": "m", "choices": [choice], "usage": usage }).to_string()
        };
        let charged = bench.charged(|| _ = exchange.body(answer.as_bytes(), true, &bench.around(0)));
        let counts = exchange.effects().counts;
        let doubted = counts.iter().filter_map(|count| count.name.strip_prefix("attache_doubted;"));
        let kinds: Vec<_> = doubted.map(|name| name.split("type=").nth(1).unwrap().to_owned()).collect();
        let tokens = counts.iter().filter(|count| count.name.starts_with("attache_tokens"));
        assert!(tokens.map(|count| count.by).max().unwrap_or_default() < 1_000_000, "{counts:?}");
        (charged, kinds.join(","))
    };
    let text = " a".repeat(300);
    for stream in [false, true] {
        for (usage, expected, doubted) in [
            (json!({ "prompt_tokens": 20, "completion_tokens": 310 }), 330, ""),
            (json!({ "prompt_tokens": 8, "completion_tokens": 90_000 }), 90_008, ""),
            (json!({ "prompt_tokens": 1e30, "completion_tokens": 310 }), 318, "input"),
            (json!({ "prompt_tokens": 20, "completion_tokens": 1e30 }), 320, "output"),
            (json!({ "prompt_tokens": -5, "completion_tokens": -5 }), 308, "input,output"),
            (json!({ "prompt_tokens": "NaN", "completion_tokens": 0 }), 308, "input,output"),
            (
                json!({ "prompt_tokens": 20, "completion_tokens": 310, "prompt_tokens_details": { "cached_tokens": 1e30 } }),
                330,
                "cached",
            ),
        ] {
            let found = charged(usage.clone(), &text, stream);
            assert_eq!(found, (expected, doubted.to_owned()), "{stream} {usage}");
        }
    }
}
