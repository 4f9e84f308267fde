//! What single budgets do; that they are exact together is proven in `tests/budget`.

pub(super) mod fleet;
mod keys;
mod typed;

use std::borrow::Cow;

use serde_json::{Value, json};

use super::*;
use crate::config::Fault;
use crate::store::Memory;
use crate::tokens::Bounds;

const T0: u64 = 1_800_000_000_000;
const RATES: Rates = Rates {
    input: 1000,
    cached_input: 100,
    cache_write: 1250,
    cache_write_hour: 2000,
    output: 5000,
    audio_input: 1000,
    audio_output: 5000,
};

struct Sent(&'static [(&'static str, &'static str)]);

impl Facts for Sent {
    fn fact(&self, fact: &Fact) -> Option<Cow<'_, str>> {
        self.0
            .iter()
            .find(|(name, _)| Fact::parse(name).as_ref() == Some(fact))
            .map(|(_, value)| (*value).into())
    }
}

fn read(typed: Value) -> Result<Budgets, Vec<String>> {
    read_with(typed, &config::FleetConfig::default())
}

fn read_with(typed: Value, fleet: &config::FleetConfig) -> Result<Budgets, Vec<String>> {
    let typed: Vec<BudgetConfig> = serde_json::from_value(typed).unwrap();
    let fleet = super::fleet::Fleet::new(fleet, &mut Vec::new());
    let known = Known {
        providers: &["openai", "claude"],
        routes: &["smart", "cheap", "gpt-*"],
        served: &|model| ["smart", "cheap", "gpt-4o"].contains(&model),
        asked: &|pattern| !pattern.starts_with("smart"),
        passthrough: false,
        open: true,
        fleet: Some(&fleet),
    };
    let mut faults: Vec<Fault> = Vec::new();
    let budgets = Budgets::new(&typed, &known, &mut faults);
    if faults.is_empty() {
        return Ok(budgets);
    }
    Err(faults.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect())
}

fn want(input: u64, output: u64) -> Want {
    Want {
        input: Bounds { low: input, likely: input, high: input },
        counted: false,
        output_limit: Some(output),
        most_output: 1_000_000,
        candidates: 1,
        rates: Some(RATES),
        unpriced: false,
        expires: T0 + 600_000,
        since: T0,
        downgraded: false,
        patience: None,
    }
}

fn used(input: u64, output: u64) -> Used {
    Used { input, output, rates: Some(RATES), ..Used::default() }
}

/// One budget, one client, and a clock.
struct Bench {
    store: Memory,
    budgets: Budgets,
    now: u64,
}

impl Bench {
    fn new(mut budget: Value) -> Bench {
        budget["name"] = json!("b");
        let store = Memory::default();
        prepare(&store);
        Bench { store, budgets: read(json!([budget])).unwrap(), now: T0 }
    }
    fn around(&self) -> Around<'_> {
        Around { now: self.now, store: &self.store }
    }
    fn claims(&self, facts: &'static [(&'static str, &'static str)]) -> Vec<Claim> {
        self.budgets.claims(&Sent(facts))
    }
    fn reserve(&self, want: &Want) -> Decision {
        reserve(&self.around(), &self.claims(&[]), want)
    }
    fn admit(&self, want: &Want) -> Admitted {
        match self.reserve(want) {
            Decision::Admitted(admitted) => *admitted,
            other => panic!("{other:?}"),
        }
    }
    fn refuse(&self, want: &Want) -> Refused {
        match self.reserve(want) {
            Decision::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }
    fn standing(&self) -> (u64, u64) {
        let standing = standings(&self.around(), &self.claims(&[])).remove(0);
        (standing.spent, standing.held)
    }
}

fn tokens(limit: u64, on_exceed: Value) -> Bench {
    Bench::new(json!({ "limit": { "tokens": limit }, "window": { "fixed": "1m" }, "onExceed": on_exceed }))
}

#[test]
fn what_was_held_and_not_used_comes_back_once() {
    let bench = tokens(1000, json!("reject"));
    let first = bench.admit(&want(100, 500));
    assert_eq!(bench.standing(), (0, 600));
    let refused = bench.refuse(&want(100, 500));
    assert_eq!((refused.why, refused.remaining, refused.limit), (Why::Spent, 400, 1000));
    assert_eq!(refused.retry_after, Some(1000), "nothing is spent yet, so it may come back at any time");
    let settled = first.reservation.settle(&bench.around(), &used(90, 60), &[]);
    assert_eq!((settled.unknown.len(), bench.standing()), (0, (150, 0)));
    let again = first.reservation.settle(&bench.around(), &used(90, 60), &[]);
    assert_eq!((again.unknown.len(), bench.standing()), (1, (150, 0)), "twice is once");
    assert_eq!(bench.admit(&want(100, 500)).clamp, None);
}

#[test]
fn a_clamp_gives_what_is_left_and_no_more() {
    let bench = tokens(1000, json!("clamp"));
    let first = bench.admit(&want(100, 500));
    assert_eq!((first.clamp, first.reservation.output), (None, 500));
    let second = bench.admit(&want(100, 500));
    assert_eq!((second.clamp, bench.standing()), (Some(300), (0, 1000)));
    assert_eq!(bench.refuse(&want(1, 1)).why, Why::Spent);
    let over = |input, output| second.reservation.over(&used(input, output));
    assert_eq!([over(100, 300), over(100, 310)], [0, 10]);
    // The prompt was shorter than thought, and another gave back.
    assert_eq!([over(40, 360), over(40, 370)], [0, 10]);
    first.reservation.settle(&bench.around(), &used(100, 0), &[]);
    let mut second = second.reservation;
    assert_eq!(second.extend(&bench.around(), 50, &used(0, 0)), 50);
    assert_eq!(second.extend(&bench.around(), 1000, &used(0, 0)), 450, "as many as there are");
    assert_eq!(bench.standing(), (100, 900));
    // Several answers share what is left.
    let bench = tokens(1000, json!("clamp"));
    let three = bench.admit(&Want { candidates: 3, ..want(99, 500) });
    assert_eq!((three.clamp, three.reservation.output), (Some(300), 900));
}

#[test]
fn money_is_exact_and_has_a_price() {
    let budget = json!({ "limit": { "usd": 0.00001 }, "window": { "calendar": "day" }, "onExceed": "clamp" });
    let bench = Bench::new(budget.clone());
    let admitted = bench.admit(&want(1000, 5000));
    assert_eq!(
        admitted.clamp,
        Some((10_000_000 - 1000 * 2000) / 5000),
        "a prompt's dearest token is written to a cache"
    );
    let used = Used { input: 1000, cache_read: 400, output: 100, rates: Some(RATES), ..Used::default() };
    admitted.reservation.settle(&bench.around(), &used, &[]);
    assert_eq!(bench.standing(), (600 * 1000 + 400 * 100 + 100 * 5000, 0));
    let unpriced = Want { rates: None, ..want(1, 1) };
    assert_eq!((bench.refuse(&unpriced).why, bench.refuse(&unpriced).retry_after), (Why::Unpriced, None));
    let mut defaults = budget;
    defaults["defaultPrices"] = json!({ "input": 1, "output": 2 });
    let bench = Bench::new(defaults);
    let admitted = bench.admit(&Want { rates: None, ..want(1, 2) });
    assert_eq!(bench.standing(), (0, 1_000_000 + 4_000_000));
    let settled = admitted.reservation.settle(&bench.around(), &Used { input: 1, ..Used::default() }, &[]);
    assert_eq!((settled.unpriced.len(), bench.standing()), (0, (1_000_000, 0)));
}

#[test]
fn an_unknown_price_in_the_end_costs_all_that_was_held() {
    let bench = Bench::new(json!({ "limit": { "usd": 1 }, "window": { "fixed": "1h" } }));
    let admitted = bench.admit(&want(10, 10));
    let (_, held) = bench.standing();
    let unknown = Used { input: 1, ..Used::default() };
    let settled = admitted.reservation.settle(&bench.around(), &unknown, &[]);
    assert_eq!((settled.unpriced, bench.standing()), (vec!["b".to_owned()], (held, 0)));
}

#[test]
fn what_nobody_answered_costs_nothing_whatever_the_price() {
    let bench = Bench::new(json!({ "limit": { "usd": 1 }, "window": { "fixed": "1h" } }));
    let admitted = bench.admit(&want(10, 10));
    let settled = admitted.reservation.settle(&bench.around(), &Used::default(), &[]);
    assert_eq!((settled, bench.standing()), (Settled::default(), (0, 0)));
}

#[test]
fn the_exact_count_is_asked_for_where_it_decides() {
    let bounds = Bounds { low: 50, likely: 100, high: 400 };
    let vague = |output| Want { input: bounds, ..want(0, output) };
    let bench = tokens(500, json!("reject"));
    assert!(matches!(bench.reserve(&vague(451)), Decision::Refused(_)), "not even the fewest fit");
    assert_eq!(bench.reserve(&vague(450)), Decision::CountFirst);
    assert_eq!(bench.reserve(&vague(101)), Decision::CountFirst);
    let counted = Want { counted: true, ..vague(101) };
    assert!(matches!(bench.reserve(&counted), Decision::Refused(_)), "the upper bound is what is held");
    bench.admit(&vague(100));
    let bench = tokens(500, json!("clamp"));
    assert_eq!(bench.reserve(&vague(200)), Decision::CountFirst, "a shorter prompt leaves a longer answer");
    assert_eq!(bench.admit(&Want { counted: true, ..vague(200) }).clamp, Some(100));
}

#[test]
fn a_window_rolls_and_a_reservation_lapses() {
    let mut bench = tokens(1000, json!("reject"));
    let late = bench.admit(&want(500, 400));
    late.reservation.settle(&bench.around(), &used(500, 300), &[]);
    let over = bench.admit(&want(100, 100));
    assert_eq!(bench.refuse(&want(1, 0)).retry_after, Some(1000));
    assert_eq!(bench.refuse(&want(500, 0)).retry_after, Some(60_000), "the window is over then");
    bench.now += 60_000;
    assert_eq!(bench.standing(), (0, 0));
    bench.admit(&want(1000, 0));
    over.reservation.settle(&bench.around(), &used(100, 100), &[]);
    assert_eq!(bench.standing(), (0, 1000), "it belongs to the window in which it was admitted");

    let mut bench = Bench::new(json!({ "limit": { "tokens": 1000 }, "window": { "calendar": "month" } }));
    let crashed = bench.admit(&want(100, 900));
    bench.now += 600_000;
    assert_eq!(bench.standing(), (0, 0));
    let settled = crashed.reservation.settle(&bench.around(), &used(100, 800), &[]);
    assert_eq!((settled.unknown.len(), bench.standing()), (0, (900, 0)), "it was only late");
}

#[test]
fn requests_and_those_under_way() {
    let mut bench = Bench::new(json!({ "limit": { "requests": 2 }, "window": { "sliding": "10s" } }));
    let unsent = bench.admit(&want(1, 1));
    unsent.reservation.release(&bench.around());
    assert_eq!(bench.standing(), (0, 0));
    bench.admit(&want(1, 1));
    bench.now += 5000;
    bench.admit(&want(1, 1)).reservation.settle(&bench.around(), &used(9, 9), &[]);
    let wait = bench.refuse(&want(1, 1)).retry_after.unwrap();
    assert_eq!(wait, 1000, "nobody knows yet whether the first was sent");
    bench.now = T0 + 10_000 + 2 * 313;
    bench.admit(&want(1, 1));

    let mut bench = Bench::new(json!({ "limit": { "concurrent": 1 } }));
    let first = bench.admit(&want(1, 1));
    bench.now += 100_000;
    assert_eq!(bench.refuse(&want(1, 1)).retry_after, Some(1000));
    first.reservation.settle(&bench.around(), &used(1, 1), &[]);
    bench.admit(&want(1, 1));
    bench.now += 600_000;
    bench.admit(&want(1, 1));
}

#[test]
fn what_exceeds_may_be_downgraded_wait_or_only_be_told() {
    let bench = tokens(100, json!({ "downgrade": { "model": "cheap" } }));
    let to = Decision::Downgrade { budget: "b".to_owned(), to: "cheap".to_owned() };
    assert_eq!(bench.reserve(&want(1, 100)), to);
    assert_eq!(bench.refuse(&Want { downgraded: true, ..want(1, 100) }).why, Why::TooLarge);

    let mut bench = tokens(100, json!({ "queue": "5s" }));
    let holder = bench.admit(&want(1, 99));
    let waits = Decision::Wait { budget: "b".to_owned(), again: 100, until: T0 + 5000 };
    assert_eq!(bench.reserve(&want(1, 9)), waits);
    assert_eq!(bench.refuse(&want(1, 100)).retry_after, None, "it would wait for ever");
    bench.now += 4950;
    assert_eq!(bench.refuse(&want(1, 9)).why, Why::Spent, "it has waited long enough");
    bench.now = T0;
    holder.reservation.settle(&bench.around(), &used(1, 99), &[]);
    assert_eq!(bench.refuse(&want(1, 9)).retry_after, Some(60_000), "the window ends too late to wait for");

    let bench = tokens(100, json!("shadow"));
    assert_eq!(bench.admit(&want(1, 50)).shadowed.len(), 0);
    assert_eq!(bench.admit(&want(1, 50)).shadowed, ["b"]);
    assert_eq!(bench.standing(), (0, 102));
}

#[test]
fn thresholds_are_told_once_in_a_window() {
    let mut bench = tokens(1000, json!("reject"));
    let mut spend = |tokens: u64, now: u64| {
        bench.now = now;
        let settled =
            bench.admit(&want(tokens, 0)).reservation.settle(&bench.around(), &used(tokens, 0), &[]);
        settled.crossed.into_iter().map(|crossed| crossed.per_cent).collect::<Vec<_>>()
    };
    assert_eq!(spend(499, T0), [0u16; 0]);
    assert_eq!(spend(1, T0), [50]);
    assert_eq!(spend(100, T0), [0u16; 0]);
    assert_eq!(spend(400, T0), [80, 100]);
    assert_eq!(spend(900, T0 + 60_000), [50, 80]);
    let bench = Bench::new(json!({ "limit": { "requests": 2 }, "window": { "fixed": "1m" } }));
    let told = |admitted: Admitted| admitted.crossed.into_iter().map(|one| one.per_cent).collect::<Vec<_>>();
    assert_eq!(told(bench.admit(&want(1, 1))), [50]);
    assert_eq!(told(bench.admit(&want(1, 1))), [80, 100]);
}

#[test]
fn several_budgets_admit_together_or_not_at_all() {
    let store = Memory::default();
    prepare(&store);
    let budgets = read(json!([
        { "name": "day", "limit": { "tokens": 1000 }, "window": { "calendar": "day" }, "onExceed": "clamp" },
        { "name": "rate", "limit": { "requests": 2 }, "window": { "fixed": "1s" } },
        { "name": "team", "limit": { "outputTokens": 200 }, "window": { "fixed": "1m" }, "onExceed": "clamp",
          "match": { "models": ["gpt-*"] } },
    ]))
    .unwrap();
    let around = Around { now: T0, store: &store };
    let claims = budgets.claims(&Sent(&[("model", "gpt-4o")]));
    assert_eq!(claims.iter().map(Claim::budget).collect::<Vec<_>>(), ["day", "rate", "team"]);
    assert_eq!(budgets.claims(&Sent(&[("model", "claude")])).len(), 2);
    let Decision::Admitted(first) = reserve(&around, &claims, &want(100, 500)) else { panic!() };
    assert_eq!(first.clamp, Some(200), "the least of all");
    let spent = |index: usize| standings(&around, &claims[index..=index])[0].held;
    assert_eq!([spent(0), spent(1), spent(2)], [300, 1, 200]);
    let Decision::Refused(refused) = reserve(&around, &claims, &want(100, 500)) else { panic!() };
    assert_eq!(refused.budget, "team");
    assert_eq!([spent(0), spent(1), spent(2)], [300, 1, 200], "nothing is held for it");
    let kept: Reservation =
        postcard::from_bytes(&postcard::to_extend(&first.reservation, Vec::new()).unwrap()).unwrap();
    assert_eq!(kept, first.reservation, "it travels in the ticket");
    kept.settle(&around, &used(100, 50), &[used(70, 0)]);
    assert_eq!([spent(0), spent(1), spent(2)], [0, 0, 0]);
}

#[test]
fn failed_attempts_cost_where_the_budget_says_so() {
    let budget =
        json!({ "limit": { "tokens": 1000 }, "window": { "fixed": "1m" }, "failedAttempts": "charge" });
    let bench = Bench::new(budget);
    let admitted = bench.admit(&want(100, 100));
    let settled =
        admitted.reservation.settle(&bench.around(), &used(100, 100), &[used(100, 7), used(100, 0)]);
    assert_eq!((bench.standing(), settled.beyond), ((407, 0), vec![("b".to_owned(), 207)]));
}

#[test]
fn what_failed_attempts_used_is_held_beside_what_the_next_may_use() {
    let budget =
        json!({ "limit": { "tokens": 500 }, "window": { "fixed": "1m" }, "failedAttempts": "charge" });
    let bench = Bench::new(budget);
    let mut reservation = bench.admit(&want(100, 100)).reservation;
    let failed = used(100, 50);
    assert!(reservation.keep(&bench.around(), &failed));
    assert_eq!(bench.standing(), (0, 350));
    assert!(reservation.keep(&bench.around(), &failed), "the limit itself may be reached");
    let full = reservation.clone();
    assert!(!reservation.keep(&bench.around(), &used(1, 0)), "and not exceeded");
    assert_eq!((&reservation, bench.standing()), (&full, (0, 500)));
    let settled = reservation.settle(&bench.around(), &used(100, 100), &[failed, failed]);
    assert_eq!((bench.standing(), settled.beyond), ((500, 0), Vec::new()));
    // Where nothing is charged nothing is held.
    let free = Bench::new(json!({ "limit": { "tokens": 200 }, "window": { "fixed": "1m" } }));
    let mut reservation = free.admit(&want(100, 100)).reservation;
    assert!(reservation.keep(&free.around(), &failed) && free.standing() == (0, 200));
}

#[test]
fn a_new_limit_holds_at_once_and_what_was_spent_stays() {
    let mut bench = tokens(1000, json!("reject"));
    bench.admit(&want(600, 0)).reservation.settle(&bench.around(), &used(600, 0), &[]);
    bench.budgets = tokens(700, json!("reject")).budgets;
    assert_eq!(bench.refuse(&want(101, 0)).remaining, 100);
    bench.budgets = tokens(2000, json!("reject")).budgets;
    bench.admit(&want(1400, 0));
}

#[test]
fn a_clock_that_is_set_back_frees_nothing_and_blocks_nothing() {
    let mut bench = tokens(1000, json!("reject"));
    bench.admit(&want(600, 0)).reservation.settle(&bench.around(), &used(600, 0), &[]);
    let under_way = bench.admit(&want(300, 0));
    bench.now -= 3000;
    assert_eq!(bench.standing(), (600, 300), "a worker was slow");
    bench.now = T0 - 86_400_000;
    assert_eq!(bench.refuse(&want(101, 0)).remaining, 100);
    bench.admit(&want(100, 0));
    under_way.reservation.settle(&bench.around(), &used(200, 0), &[]);
    assert_eq!(bench.standing(), (800, 100));
    bench.now += 60_000;
    assert_eq!(bench.standing(), (0, 0), "the window is over a minute later, not a day");
}
