//! Budgets of a fleet are exact: several pods with the real code, one rate-limit service as a plain book of counters
//! (`service.rs`), and between them a network that is slow, loses calls and answers, and a service that goes down, forgets, and has
//! another clock. Within a pod, workers come between any two accesses to shared data.
//!
//! `ATTACHE_FLEET_STEPS` (default 20,000) steps, `ATTACHE_FLEET_SEED` to begin with. A run that fails is made small, and told.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod network;
mod pod;
mod service;
mod steps;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use steps::{Dice, Step, Tally};
use world::World;

/// Steps of one run.
const RUN: usize = 400;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(seed: u64, steps: &[Step]) -> Result<Tally, String> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let world = World::new(seed);
        steps.iter().for_each(|step| world.step(step));
        world.finish()
    }));
    result.map_err(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// The shortest list of steps that still fails, as far as taking steps away finds it.
fn shrunk(seed: u64, mut steps: Vec<Step>) -> (Vec<Step>, String) {
    let mut message = run(seed, &steps).unwrap_err();
    let mut piece = steps.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + piece).min(steps.len()));
            match run(seed, &fewer) {
                Err(told) => (steps, message) = (fewer, told),
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    (steps, message)
}

#[test]
fn no_fleet_overruns_a_limit_or_leaves_more_than_its_slices() {
    let (wanted, first) = (number("ATTACHE_FLEET_STEPS", 20_000), number("ATTACHE_FLEET_SEED", 1));
    let mut all = Tally::default();
    let mut seed = first;
    while all.steps < wanted {
        let mut dice = Dice(seed ^ 0x5eed);
        let plan: Vec<Step> = (0..RUN).map(|_| Step::random(&mut dice)).collect();
        match run(seed, &plan) {
            Ok(tally) => all.add(&tally),
            Err(_) => {
                std::panic::set_hook(Box::new(|_| {}));
                let (plan, message) = shrunk(seed, plan);
                let _ = std::panic::take_hook();
                panic!("seed {seed}: {message}\nafter {} steps: {plan:#?}", plan.len());
            }
        }
        seed += 1;
    }
    println!("{all:#?}\nseeds {first} to {}", seed - 1);
    assert_eq!(all.overshoot, 0, "with a service that keeps what it counted, and closed while it is down");
    for (what, count) in [
        ("admitted", all.admitted),
        ("refused", all.refused),
        ("kept waiting", all.waited),
        ("refused while the service was down", all.unavailable),
        ("admitted while the service was down", all.open),
        ("granted in part", all.dry),
        ("given back", all.given_back),
        ("lost on the way", all.lost),
        ("counted again", all.counted_again),
        ("interrupted", all.interrupted),
    ] {
        assert!(count > 0, "nothing was {what}");
    }
}
