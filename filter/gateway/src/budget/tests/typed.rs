//! What is wrong with a budget, and what it says.

use serde_json::{Value, json};

use super::super::Claim;
use super::super::config::{Span, Usd};
use super::read;

#[test]
fn faults_of_budgets() {
    let minute = json!({ "fixed": "1m" });
    let budget = |name: &str, more: Value| {
        let mut budget = json!({ "name": name, "limit": { "tokens": 5 }, "window": minute });
        for (member, value) in more.as_object().unwrap() {
            budget[member] = value.clone();
        }
        budget
    };
    let found = read(json!([
        budget("a b", json!({})),
        budget("c", json!({ "limit": { "tokens": 5, "requests": 1 } })),
        budget("c", json!({ "limit": { "tokens": 0 }, "window": {} })),
        { "name": "d", "limit": { "concurrent": 2 }, "window": minute, "onExceed": "clamp" },
        budget("e", json!({ "per": ["workload.namespce", "user", "user", "header.x-team"], "match": { "facts": { "clientKey": ["k"] } } })),
        budget("f", json!({ "onFull": "share", "match": { "providers": ["opnai"], "routes": ["gpt-*", "smrt"] }, "thresholds": [80, 50], "maxKeys": 5 })),
        budget("g", json!({ "onExceed": { "downgrade": {} } })),
        budget("h", json!({ "onExceed": { "downgrade": { "model": "none" } }, "defaultPrices": { "input": 1 }, "match": { "facts": { "provider": ["opnai"] } } })),
        budget("i", json!({ "per": ["peer", "jwt.sub", "workload.label.app"], "maxKeys": 0 })),
        budget("j", json!({ "per": ["model"] })),
        budget("k", json!({ "match": { "models": ["smart"] } })),
        budget("l", json!({ "match": { "models": ["smart", "gpt-4o"] } })),
    ]))
    .unwrap_err();
    let header = "a client writes its headers itself, so any client can spend from another's account or from a new one each time; type `forgeable: true` if that is meant";
    let body = header.replace("headers", "body");
    let key = header.replace(
        "a client writes its headers itself",
        "nobody checks the client's key where providers get another",
    );
    let model = header.replace(
        "a client writes its headers itself",
        "behind a `*` in a route's `models` a client chooses any name",
    );
    assert_eq!(
        found,
        [
            "budgets[0].name: expected up to 63 letters, digits, `-`, `_` and `.`, found `a b`".to_owned(),
            "budgets[1].limit: expected exactly one of `tokens`, `inputTokens`, `outputTokens`, `usd`, `requests`, `concurrent`".to_owned(),
            "budgets[2].name: `c` is there already; names are unique".to_owned(),
            "budgets[2].limit.tokens: expected more than 0".to_owned(),
            "budgets[2].window: expected exactly one of `fixed`, `sliding`, `calendar`".to_owned(),
            "budgets[3].window: `concurrent` counts what is under way; leave the window out".to_owned(),
            "budgets[3].onExceed: a shorter answer takes no less of this limit; `clamp` is for `tokens`, `outputTokens` and `usd`".to_owned(),
            "budgets[4].per[0]: unknown key `workload.namespce`; did you mean `workload.namespace`?".to_owned(),
            "budgets[4].per[2]: `user` is there already".to_owned(),
            format!("budgets[4].per: {body}"),
            format!("budgets[4].per: {header}"),
            format!("budgets[4].match.facts: {key}"),
            "budgets[5].match.routes[1]: `smrt` matches none; did you mean `smart`?".to_owned(),
            "budgets[5].match.providers[0]: `opnai` matches none; did you mean `openai`?".to_owned(),
            "budgets[5].thresholds: expected up to 8 numbers from 1 to 1000, ascending".to_owned(),
            "budgets[5].maxKeys: there is one account where `per` names nothing; leave it out".to_owned(),
            "budgets[5].onFull: there is one account where `per` names nothing; leave it out".to_owned(),
            "budgets[6].onExceed.downgrade: expected exactly one of `route`, `model`".to_owned(),
            "budgets[7].match.facts.provider: `opnai` matches none; did you mean `openai`?".to_owned(),
            "budgets[7].onExceed.downgrade.model: no route serves `none`".to_owned(),
            "budgets[7].defaultPrices: the limit is not in dollars; leave them out".to_owned(),
            "budgets[7].defaultPrices: expected at least `input` and `output`".to_owned(),
            "budgets[8].maxKeys: expected a number from 1 to 100000, found `0`".to_owned(),
            format!("budgets[9].per: {model}"),
            "budgets[10].match.models: no target's model is among these, so the budget would never hold; models are named as their providers name them, and what clients ask for by `match.routes`".to_owned(),
        ]
    );
}

#[test]
fn nobody_waits_longer_than_a_request_is_kept() {
    let budget = |name: &str, wait: &str| json!({ "name": name, "limit": { "concurrent": 1 }, "onExceed": { "queue": wait } });
    let budgets = read(json!([budget("a", "60s"), budget("b", "2m")])).unwrap();
    let faults: Vec<String> = budgets.queue_within(60_000).into_iter().map(|fault| fault.path).collect();
    assert_eq!(faults, ["budgets[1].onExceed.queue"]);
}

#[test]
fn dollars_and_spans_as_people_type_them() {
    let usd = |value: Value| serde_json::from_value::<Usd>(value).ok().map(|usd| usd.0);
    assert_eq!(usd(json!("0.05")), Some(50_000_000_000));
    assert_eq!(usd(json!(0.1)), Some(100_000_000_000));
    assert_eq!(usd(json!(25)), Some(25_000_000_000_000));
    assert_eq!(usd(json!("0.000000000001")), Some(1));
    for bad in [json!("0.0000000000001"), json!(-1), json!("1e3"), json!("+1"), json!(""), json!("99999999")]
    {
        assert_eq!(usd(bad.clone()), None, "{bad}");
    }
    assert_eq!(Span::parse("31d").map(|span| span.millis), Some(31 * 86_400_000));
    assert_eq!(["999ms", "32d", "d", "1w"].map(Span::parse), [None; 4]);
}

#[test]
fn a_model_is_the_same_in_upper_and_lower_case() {
    let budgets = read(json!([
        { "name": "a", "limit": { "tokens": 5 }, "window": { "fixed": "1m" }, "match": { "models": ["GPT-*"] }, "per": ["model"], "forgeable": true },
        { "name": "b", "limit": { "tokens": 5 }, "window": { "fixed": "1m" }, "match": { "facts": { "model": ["gpt-4o"] } }, "forgeable": true },
    ]))
    .unwrap();
    let claims = |facts: &'static [(&str, &str)]| budgets.claims(&super::Sent(facts));
    let names = |claims: &[Claim]| claims.iter().map(|claim| claim.budget().to_owned()).collect::<Vec<_>>();
    let [upper, lower, other] =
        [claims(&[("model", "GPT-4o")]), claims(&[("model", "gpt-4o")]), claims(&[("model", "gpt-5")])];
    assert_eq!(
        (names(&upper), names(&lower), names(&other)),
        (vec!["a".to_owned(), "b".to_owned()], vec!["a".to_owned(), "b".to_owned()], vec!["a".to_owned()])
    );
    assert_eq!(upper[0].account, lower[0].account, "nor has it another account");
    assert_ne!(other[0].account, lower[0].account);
}
