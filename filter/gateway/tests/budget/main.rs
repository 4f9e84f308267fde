//! Budgets are exact: the real code against a plain sequential book (`model.rs`), over shared data that lets other workers in
//! before any access. Each write that succeeds is entered in the book at that moment, and what the code then says must be
//! what the book says.
//!
//! `ATTACHE_BUDGET_STEPS` (default 20,000) steps, `ATTACHE_BUDGET_SEED` to begin with. A run that fails is made small, and told.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod model;
mod steps;
mod typed;
mod view;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use steps::{Step, Tally};
use world::World;

/// Steps of one run; those that interrupt others come on top.
const RUN: usize = 400;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(seed: u64, steps: &[Step]) -> Result<Tally, String> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let world = World::new(seed);
        steps.iter().for_each(|step| world.top(step));
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
fn no_interleaving_loses_doubles_or_overruns_anything() {
    let (wanted, first) = (number("ATTACHE_BUDGET_STEPS", 20_000), number("ATTACHE_BUDGET_SEED", 1));
    let began = Instant::now();
    let mut all = Tally::default();
    let mut seed = first;
    while all.steps < wanted {
        let plan = steps::steps(seed, RUN);
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
    println!("{all:#?}\nseeds {first} to {}, {:?}", seed - 1, began.elapsed());
    println!("overshoot {}, undershoot {}, lost {}", all.overshoot, all.undershoot, all.lost);
    assert_eq!((all.overshoot, all.undershoot, all.lost, all.told_twice), (0, 0, 0, 0));
    for (what, count) in [
        ("admitted", all.admitted),
        ("refused", all.refused),
        ("clamped", all.clamped),
        ("settled", all.settled),
        ("known no more", all.unknown),
        ("lapsed", all.crashed),
        ("interrupted", all.interrupted),
        ("failed writes", all.failed_writes),
        ("extended", all.extended),
        ("given back", all.given_back),
        ("thresholds", all.told),
    ] {
        assert!(count > 0, "nothing was {what}");
    }
}
