//! What a pod of a fleet asks for, when, and what it does without an answer. That a fleet is exact is proven in `tests/fleet`.

use serde_json::json;

use super::super::config::FleetConfig;
use super::super::fleet::{Answered, Fleet, Leases, answered, request};
use super::*;

const ROOM: u64 = u32::MAX as u64;

/// A rule over tokens.
pub fn rule(limit: u64, window: Window) -> Rule {
    Rule {
        name: "b".to_owned(),
        unit: Unit::Tokens,
        limit,
        window,
        thresholds: Vec::new(),
        shadow: false,
        charge_failed: false,
        default_rates: None,
        moves: false,
        fleet: None,
    }
}

/// The same of a fleet.
pub fn fleet_rule(limit: u64, window: Window) -> Rule {
    let fleet = Fleet::new(&FleetConfig::default(), &mut Vec::new());
    Rule { fleet: Some(fleet.leased(5)), ..rule(limit, window) }
}

fn pod(limit: u64, policy: &str) -> Bench {
    let typed: FleetConfig = serde_json::from_value(json!({ "onUnavailable": policy })).unwrap();
    let budget =
        json!({ "name": "b", "limit": { "tokens": limit }, "window": { "fixed": "1h" }, "scope": "fleet" });
    let store = Memory::default();
    prepare(&store);
    Bench { store, budgets: read_with(json!([budget]), &typed).unwrap(), now: T0 }
}

fn patient(bench: &Bench, tokens: u64) -> Want {
    Want { patience: Some(bench.now + 2000), ..want(0, tokens) }
}

/// It has to wait; what is asked for.
fn lease(bench: &Bench, want: &Want) -> Vec<Ask> {
    match bench.reserve(want) {
        Decision::Lease { budget, asks, .. } => {
            assert_eq!(budget, "b");
            asks
        }
        other => panic!("{other:?}"),
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push((number % 128) as u8 + 128);
        number /= 128;
    }
    bytes.push(number as u8);
    bytes
}

fn member(field: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2, bytes.len() as u8], bytes.to_vec()].concat()
}

/// The service's answer to one ask: hits given back and taken. The window of an hour at [`T0`] is counted in its day.
fn answer(bench: &Bench, [returned, taken]: [u64; 2], limit: u64) -> Vec<u8> {
    let limit = member(2, &[vec![8], varint(limit), vec![16, 4]].concat());
    let reset = member(4, &[vec![8], varint(86_400 - bench.now / 1000 % 86_400)].concat());
    let status =
        |count: u64| [vec![8, 1], limit.clone(), vec![24], varint(ROOM - count), reset.clone()].concat();
    [returned, taken].map(|count| member(2, &status(count))).concat()
}

fn tell(bench: &Bench, asks: &[Ask], numbers: [u64; 2]) -> Answered {
    answered(&bench.around(), asks, Some(&answer(bench, numbers, ROOM)))
}

#[test]
fn faults_of_fleets() {
    let minute = json!({ "fixed": "1m" });
    let budget = |name: &str, more: Value| {
        let mut budget =
            json!({ "name": name, "limit": { "tokens": 5 }, "window": minute, "scope": "fleet" });
        for (member, value) in more.as_object().unwrap() {
            budget[member] = value.clone();
        }
        budget
    };
    let found = read(json!([
        budget("a", json!({ "slice": 0 })),
        budget("b", json!({ "scope": "pod", "slice": 5 })),
        budget("c", json!({ "window": { "sliding": "1h" } })),
        { "name": "d", "limit": { "concurrent": 2 }, "scope": "fleet" },
        budget("e", json!({ "window": { "calendar": "month" }, "slice": 100 })),
    ]))
    .unwrap_err();
    assert_eq!(
        found,
        [
            "budgets[0].slice: expected a number from 1 to 100, found `0`",
            "budgets[1].slice: a pod has all of its limit; leave it out, or type `scope: fleet`",
            "budgets[2].window: the fleet's windows begin together; type `fixed` or `calendar`",
            "budgets[3].scope: the fleet's service counts what was spent, not what is under way; `concurrent` is for a `pod`",
        ]
    );
    let typed: Vec<BudgetConfig> = serde_json::from_value(json!([budget("a", json!({}))])).unwrap();
    let mut faults = Vec::new();
    Budgets::new(&typed, &Known::default(), &mut faults);
    assert_eq!(faults[0].message, "`fleet` needs the rate-limit service, in `gateway.fleet`");
    let typed: FleetConfig = serde_json::from_value(json!({ "domain": "", "timeout": "1m" })).unwrap();
    let mut faults = Vec::new();
    Fleet::new(&typed, &mut faults);
    assert_eq!(faults.len(), 2, "{faults:?}");
}

#[test]
fn a_request_waits_for_its_slice_and_others_for_the_same_answer() {
    let bench = pod(10_000, "closed");
    let asks = lease(&bench, &patient(&bench, 10));
    assert_eq!(asks.len(), 1);
    let bytes = request("attache", &asks);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("attache") && text.contains("{b/tokens/") && text.contains("/taken"), "{text}");
    assert!(text.contains(&format!("/{}-{}/1/", T0 - T0 % 3_600_000, T0 - T0 % 3_600_000 + 3_600_000)));
    assert_eq!(lease(&bench, &patient(&bench, 10)), [], "somebody has asked already");
    assert_eq!(tell(&bench, &asks, [0, 62]).asks, []);
    let admitted = bench.admit(&patient(&bench, 10));
    assert_eq!((admitted.asks.len(), admitted.standings[0].remaining), (0, 9990));
    assert_eq!(bench.standing(), (0, 10));
    // The next slice is taken before it is needed.
    let admitted = bench.admit(&patient(&bench, 25));
    assert_eq!(admitted.asks.len(), 1);
    tell(&bench, &admitted.asks, [0, 124]);
    assert_eq!(lease(&bench, &patient(&bench, 100)).len(), 1, "and where that is not enough it waits");
}

#[test]
fn a_worker_that_dies_while_it_asks_is_waited_for_and_no_longer() {
    let mut bench = pod(10_000, "closed");
    assert_eq!(lease(&bench, &patient(&bench, 10)).len(), 1);
    bench.now += 1249;
    assert_eq!(lease(&bench, &patient(&bench, 10)).len(), 0);
    bench.now += 1;
    assert_eq!(lease(&bench, &patient(&bench, 10)).len(), 1);
}

#[test]
fn who_is_refused_knows_until_when() {
    let mut bench = pod(1000, "closed");
    let asks = lease(&bench, &patient(&bench, 100));
    let told = tell(&bench, &asks, [0, 1080]);
    assert_eq!(told.asks.len(), 1, "80 hits beyond the limit go back");
    let refused = bench.refuse(&patient(&bench, 100));
    assert_eq!((refused.why, refused.remaining), (Why::Spent, 20));
    assert_eq!(refused.retry_after, Some(3_600_000 - T0 % 3_600_000));
    assert_eq!(bench.admit(&patient(&bench, 20)).asks, [], "what is there is there");
    bench.now += 10_000;
    assert_eq!(lease(&bench, &patient(&bench, 100)).len(), 1, "others may have given something back");
}

#[test]
fn without_the_service_a_pod_has_its_grants_or_all_of_it() {
    for (policy, open) in [("closed", false), ("open", true)] {
        let mut bench = pod(1000, policy);
        let asks = lease(&bench, &patient(&bench, 10));
        let told = answered(&bench.around(), &asks, None);
        assert_eq!(told.notes.len(), 1, "an operator is told");
        let decision = bench.reserve(&patient(&bench, 900));
        match decision {
            Decision::Admitted(admitted) if open => assert_eq!(admitted.asks, []),
            Decision::Refused(refused) if !open => {
                assert_eq!((refused.why, refused.retry_after), (Why::Unavailable, Some(1000)));
            }
            other => panic!("{other:?}"),
        }
        if open {
            assert_eq!(
                bench.refuse(&patient(&bench, 200)).why,
                Why::Spent,
                "the pod's own limit stays in force"
            );
        }
        // It is tried again, by one worker at a time.
        let (mut leases, mut other) = (Leases::default(), Leases::default());
        leases.expect(&asks);
        other.expect(&asks);
        bench.now += 250;
        let probe = leases.tick(&bench.around());
        assert_eq!((probe.len(), other.tick(&bench.around()).len()), (1, 0));
        assert_eq!(tell(&bench, &probe, [0, 0]).notes.len(), 1, "it is back");
        bench.now += 1000;
        let debt = leases.tick(&bench.around());
        assert_eq!(debt.len(), usize::from(open), "what was spent meanwhile is counted");
        if open {
            tell(&bench, &debt, [0, 900]);
            assert_eq!(bench.standing(), (0, 900));
            assert_eq!(bench.refuse(&patient(&bench, 200)).why, Why::Spent);
        }
    }
}

#[test]
fn where_nobody_tries_the_service_again_a_request_does() {
    let mut bench = pod(1000, "closed");
    let asks = lease(&bench, &patient(&bench, 10));
    answered(&bench.around(), &asks, None);
    bench.now += 1250;
    assert_eq!(bench.refuse(&patient(&bench, 10)).why, Why::Unavailable);
    bench.now += 1;
    assert_eq!(lease(&bench, &patient(&bench, 10)).len(), 1);
}

#[test]
fn an_answer_that_does_not_count_as_we_do_is_none() {
    let bench = pod(1000, "closed");
    let asks = lease(&bench, &patient(&bench, 10));
    let told = answered(&bench.around(), &asks, Some(&answer(&bench, [0, 6], 1000)));
    assert!(told.notes[0].text.contains("its configuration lacks our units"), "{told:?}");
    let mut bench = pod(1000, "closed");
    let asks = lease(&bench, &patient(&bench, 10));
    let bytes = answer(&bench, [0, 6], ROOM);
    bench.now += 13 * 3_600_000;
    assert!(answered(&bench.around(), &asks, Some(&bytes)).notes[0].text.contains("its clock is not ours"));
    for bytes in [&b""[..], b"\x12", b"\x12\x02\x08\x01"] {
        let bench = pod(1000, "closed");
        let asks = lease(&bench, &patient(&bench, 10));
        assert_eq!(answered(&bench.around(), &asks, Some(bytes)).notes.len(), 1);
    }
}

#[test]
fn a_request_that_cannot_wait_is_ahead_by_one_slice_at_most() {
    let bench = pod(1000, "closed");
    assert_eq!(bench.admit(&want(0, 50)).asks, []);
    assert_eq!(bench.refuse(&want(0, 1)).why, Why::Spent);
    // What it owes is asked for with what is needed next.
    let asks = lease(&bench, &patient(&bench, 10));
    tell(&bench, &asks, [0, 60]);
    assert_eq!(bench.admit(&patient(&bench, 10)).standings[0].held, 60);
}

#[test]
fn what_is_idle_goes_back() {
    let mut bench = pod(10_000, "closed");
    let asks = lease(&bench, &patient(&bench, 10));
    tell(&bench, &asks, [0, 62]);
    let mut leases = Leases::default();
    leases.watch(&bench.admit(&patient(&bench, 10)).reservation);
    bench.now += 9999;
    assert_eq!(leases.tick(&bench.around()), []);
    bench.now += 1000;
    let back = leases.tick(&bench.around());
    assert_eq!(back.len(), 1);
    assert!(
        String::from_utf8_lossy(&request("attache", &back)).contains("/returned\x1a\x02\x08\x34"),
        "52 of 62"
    );
    bench.now += 11_000;
    assert_eq!(leases.tick(&bench.around()), [], "once");
    assert_eq!(lease(&bench, &patient(&bench, 10)).len(), 1);
    bench.now += 3_600_000;
    leases.tick(&bench.around());
    assert!(leases.is_empty(), "its window is over");
}
