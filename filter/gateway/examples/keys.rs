//! What budgets cost whose keys are many (`make bench`): prints one line for each, natively or under a WASI host, beside what
//! Envoy's shared data cost.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::borrow::Cow;
use std::time::Instant;

use attache_gateway::budget::{Budgets, Decision, Fact, Facts, Known, Rates, Used, Want, prepare, reserve};
use attache_gateway::outcome::Around;
use attache_gateway::store::Memory;
use attache_gateway::tokens::Bounds;
use serde_json::json;

const T0: u64 = 1_800_000_000_000;
const KEYS: usize = 10_000;

struct Who(String);

impl Facts for Who {
    fn fact(&self, _: &Fact) -> Option<Cow<'_, str>> {
        Some(self.0.as_str().into())
    }
}

fn main() {
    let typed = json!([{ "name": "each", "limit": { "tokens": 1_000_000 }, "window": { "fixed": "1h" }, "per": ["user"],
        "forgeable": true, "maxKeys": KEYS }]);
    let budgets =
        Budgets::new(&serde_json::from_value::<Vec<_>>(typed).unwrap(), &Known::default(), &mut Vec::new());
    let store = Memory::default();
    prepare(&store);
    let around = Around { now: T0, store: &store };
    let want = Want {
        input: Bounds::exactly(100),
        counted: true,
        output_limit: Some(100),
        most_output: 100,
        candidates: 1,
        rates: Some(Rates::default()),
        unpriced: false,
        expires: T0 + 600_000,
        since: T0,
        downgraded: false,
        patience: None,
    };
    let used = Used { input: 100, output: 50, ..Used::default() };
    let ask = |who: usize| match reserve(&around, &budgets.claims(&Who(format!("user {who}"))), &want) {
        Decision::Admitted(admitted) => _ = admitted.reservation.settle(&around, &used, &[]),
        Decision::Refused(_) => {}
        other => panic!("{other:?}"),
    };
    let timed = |what: &str, keys: std::ops::Range<usize>| {
        let (began, count) = (Instant::now(), keys.len());
        keys.for_each(&ask);
        println!("{what}: {:.1} µs", began.elapsed().as_secs_f64() * 1e6 / count as f64);
    };
    timed("a key that is new, of the first 1000", 0..1000);
    (1000..KEYS - 1000).for_each(&ask);
    timed("a key that is new, of the last 1000 of 10,000", KEYS - 1000..KEYS);
    timed("a key that is known, among 10,000", 0..KEYS);
    timed("a key for which there is no room", KEYS..KEYS + 1000);
}
