//! Budgets that are kept by something: how many accounts there are, and whose.

use std::collections::HashMap;

use super::*;

#[test]
fn keys_are_bounded() {
    let budget = |on_full: &str| json!({ "limit": { "requests": 2 }, "window": { "fixed": "1m" }, "per": ["jwt.sub"], "maxKeys": 2, "onFull": on_full });
    let ask = |bench: &Bench, who: &'static [(&'static str, &'static str)]| match reserve(
        &bench.around(),
        &bench.claims(who),
        &want(1, 1),
    ) {
        Decision::Admitted(admitted) => {
            admitted.reservation.settle(&bench.around(), &used(1, 1), &[]);
            None
        }
        Decision::Refused(refused) => Some(refused.why),
        other => panic!("{other:?}"),
    };
    let mut bench = Bench::new(budget("reject"));
    assert_eq!(ask(&bench, &[("jwt.sub", "a")]), None);
    assert_eq!(ask(&bench, &[]), None, "those without have one account together");
    assert_eq!(ask(&bench, &[("jwt.sub", "c")]), Some(Why::Full));
    assert_eq!(ask(&bench, &[("jwt.sub", "a")]), None);
    assert_eq!(ask(&bench, &[("jwt.sub", "a")]), Some(Why::Spent), "each has its own");
    let Decision::Refused(refused) =
        reserve(&bench.around(), &bench.claims(&[("jwt.sub", "c")]), &want(1, 1))
    else {
        panic!("there is a place")
    };
    let wait = refused.retry_after.unwrap();
    bench.now += wait - 1;
    assert_eq!(ask(&bench, &[("jwt.sub", "c")]), Some(Why::Full));
    bench.now += 1;
    assert_eq!(ask(&bench, &[("jwt.sub", "c")]), None, "the first place is free when it was told to be");

    let bench = Bench::new(budget("share"));
    for who in [&[("jwt.sub", "a")], &[("jwt.sub", "b")], &[("jwt.sub", "c")], &[("jwt.sub", "d")]] {
        assert_eq!(ask(&bench, who), None);
    }
    assert_eq!(ask(&bench, &[("jwt.sub", "e")]), Some(Why::Spent), "c and d have spent it");
    assert_eq!(ask(&bench, &[("jwt.sub", "b")]), None);
}

#[test]
fn accounts_and_places_never_outnumber_their_bound() {
    let budget = json!({ "limit": { "requests": 5 }, "window": { "sliding": "2s" }, "per": ["user"], "forgeable": true, "maxKeys": 7 });
    let mut bench = Bench::new(budget);
    let names: Vec<String> = (0..40).map(|n| format!("u{n}")).collect();
    struct One<'n>(&'n str);
    impl Facts for One<'_> {
        fn fact(&self, _: &Fact) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
    }
    let (mut admitted, mut full) = (0, 0);
    for turn in 0..4000usize {
        bench.now += (turn as u64 * 7919) % 300;
        let claims = bench.budgets.claims(&One(&names[turn * 31 % (1 + turn / 100)]));
        match reserve(&bench.around(), &claims, &want(1, 1)) {
            Decision::Admitted(one) if turn % 3 == 0 => _ = one.reservation.release(&bench.around()),
            Decision::Admitted(_) => admitted += 1,
            Decision::Refused(refused) => full += usize::from(refused.why == Why::Full),
            other => panic!("{other:?}"),
        }
        if turn % 16 > 0 {
            continue;
        }
        let map = bench.store.0.borrow();
        let pages = (0..1024).map(|slot| slots::Page::read(&Plain(&map), slot).living(bench.now));
        assert!(pages.sum::<usize>() <= 7);
    }
    assert!(admitted > 100 && full > 100, "{admitted} {full}");
    struct Plain<'m>(&'m HashMap<String, (Vec<u8>, u32)>);
    impl Store for Plain<'_> {
        fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
            self.0.get(key).cloned()
        }
        fn write(&self, _: &str, _: &[u8], _: u32) -> bool {
            false
        }
    }
}

#[test]
fn who_has_no_account_of_his_own_stays_in_the_shared_one() {
    let bench = Bench::new(json!({ "limit": { "tokens": 200 }, "window": { "fixed": "1m" },
        "per": ["provider", "user"], "maxKeys": 1, "onFull": "share", "forgeable": true }));
    let facts: &[_] = &[("provider", "openai"), ("user", "a")];
    let other: &[_] = &[("provider", "openai"), ("user", "b")];
    let admit = |facts| match reserve(&bench.around(), &bench.claims(facts), &want(60, 60)) {
        Decision::Admitted(admitted) => admitted.reservation,
        other => panic!("{other:?}"),
    };
    admit(facts);
    let mut shared = admit(other);
    let moving = bench.budgets.moving(&Sent(other));
    let mut follows = |input| shared.follow(&bench.around(), &moving, &want(input, 60), &[]).is_some();
    assert!(follows(60), "there is no room for a second of its kind, nor need");
    assert!(follows(140) && !follows(141), "it may grow to the limit");
}

#[test]
fn who_shares_an_account_leaves_it_for_one_of_his_own() {
    let bench = Bench::new(json!({ "limit": { "tokens": 200 }, "window": { "fixed": "1m" },
        "per": ["provider", "user"], "maxKeys": 1, "onFull": "share", "forgeable": true }));
    let (own, other): (&[_], &[_]) =
        (&[("provider", "openai"), ("user", "a")], &[("provider", "gemini"), ("user", "a")]);
    let admit = |facts| match reserve(&bench.around(), &bench.claims(facts), &want(60, 60)) {
        Decision::Admitted(admitted) => admitted.reservation,
        other => panic!("{other:?}"),
    };
    let held = |facts| standings(&bench.around(), &bench.claims(facts))[0].held;
    let (first, mut second) = (admit(own), admit(other));
    assert_eq!(held(own), 120);
    let mut follows =
        || second.follow(&bench.around(), &bench.budgets.moving(&Sent(own)), &want(60, 60), &[]);
    assert!(follows().is_none(), "its own account has 80 left");
    first.release(&bench.around());
    assert!(follows().is_some());
    assert_eq!(held(own), 120);
}

#[test]
fn a_threshold_says_whose_account_reached_it() {
    let bench =
        Bench::new(json!({ "limit": { "requests": 4 }, "window": { "fixed": "1m" }, "thresholds": [50],
        "per": ["user", "clientKey"], "maxKeys": 1, "onFull": "share", "forgeable": true }));
    let whose = |facts| match reserve(&bench.around(), &bench.claims(facts), &want(1, 1)) {
        Decision::Admitted(admitted) => admitted.crossed.first().map(|crossed| crossed.whose.clone()),
        other => panic!("{other:?}"),
    };
    let known: &[_] = &[("user", "ann")];
    assert_eq!([whose(known), whose(known)], [None, Some(Some("ann, (none)".into()))]);
    let others: &[_] = &[("user", "bob"), ("clientKey", "sk-secret")];
    assert_eq!([whose(others), whose(others)], [None, Some(None)], "they have an account together");
}
