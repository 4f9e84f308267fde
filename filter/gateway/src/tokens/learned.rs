//! What was learned of models' tokens and speed, shared by all workers: a fixed number of values in shared data, each with room for a
//! few models.

use serde::{Deserialize, Serialize};

use super::speed::USUAL;
use super::{Measure, Ratio, Speed};
use crate::budget::siphash;
use crate::store::{Store, update};
use crate::ticket::Step;

const ROWS: u64 = 64;
/// Models of one row; the one of which least is known makes room.
const ROOM: usize = 8;
const PREFIX: &str = "attache.ratio.2.";
/// Once so much is known, one report of so many is enough.
const KNOWN: u32 = 64;
const ONE_OF: u64 = 8;

#[derive(Default, Serialize, Deserialize)]
struct Entry {
    model: u64,
    ratio: Ratio,
    speed: Speed,
}

impl Entry {
    fn reports(&self) -> u32 {
        self.ratio.reports().max(self.speed.reports())
    }
}

/// Makes sure that all values are there: Envoy compares versions only of keys that exist.
pub fn prepare(store: &dyn Store) {
    for row in 0..ROWS {
        let key = format!("{PREFIX}{row}");
        if store.read(&key).is_none() {
            store.write(&key, b"", 0);
        }
    }
}

/// A provider's model, as a number.
pub fn model(step: &Step) -> u64 {
    siphash(&[step.provider.as_bytes(), step.model.as_bytes()])
}

fn key(model: u64) -> String {
    format!("{PREFIX}{}", model % ROWS)
}

fn entry(store: &dyn Store, model: u64) -> Option<Entry> {
    let (bytes, _) = store.read(&key(model))?;
    let row: Vec<Entry> = postcard::from_bytes(&bytes).ok()?;
    row.into_iter().find(|entry| entry.model == model)
}

pub fn read(store: &dyn Store, model: u64) -> Option<Ratio> {
    entry(store, model).map(|entry| entry.ratio)
}

/// Tokens a second of an answer, as they were learned; else the usual.
pub fn speed(store: &dyn Store, model: u64) -> u64 {
    entry(store, model).and_then(|entry| entry.speed.likely()).unwrap_or(USUAL)
}

/// The provider reported so many input tokens. `dice`: any number.
pub fn learn(store: &dyn Store, model: u64, measure: &Measure, reported: u64, dice: u64) {
    if measure.learns() {
        change(store, model, |entry| {
            let known = entry.ratio.reports();
            if rests(known, dice) {
                return false;
            }
            measure.learn(&mut entry.ratio, reported);
            entry.ratio.reports() != known
        });
    }
}

/// One answer had so many tokens after so many milliseconds. `dice`: any number.
pub fn timed(store: &dyn Store, model: u64, (tokens, millis): (u64, u64), dice: u64) {
    if Speed::default().update(tokens, millis) {
        change(store, model, |entry| {
            !rests(entry.speed.reports(), dice) && entry.speed.update(tokens, millis)
        });
    }
}

/// Once enough is known, only one report of several is taken: each is a write of data that all workers share.
fn rests(known: u32, dice: u64) -> bool {
    known >= KNOWN && !dice.is_multiple_of(ONE_OF)
}

/// Changes what is known of a model; nothing is written where `learn` says so.
fn change(store: &dyn Store, model: u64, learn: impl Fn(&mut Entry) -> bool) {
    update(store, &key(model), |bytes| {
        let mut row: Vec<Entry> = postcard::from_bytes(bytes).unwrap_or_default();
        let place = row.iter().position(|entry| entry.model == model);
        if place.is_none() {
            if row.len() >= ROOM
                && let Some(least) = (0..row.len()).min_by_key(|at| row.get(*at).map(Entry::reports))
            {
                row.swap_remove(least);
            }
            row.push(Entry { model, ..Entry::default() });
        }
        let place = place.unwrap_or(row.len() - 1);
        let Some(entry) = row.get_mut(place) else { return (None, ()) };
        let learned = learn(entry);
        (learned.then(|| postcard::to_extend(&row, Vec::new()).unwrap_or_default()), ())
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;
    use crate::tokens::Bounds;

    #[test]
    fn models_learn_apart_and_in_bounded_room() {
        let store = Memory::default();
        prepare(&store);
        let measure = Measure { text: Bounds { low: 500, likely: 1000, high: 1500 }, ..Measure::default() };
        for dice in 0..200 {
            learn(&store, 5, &measure, 1200, dice);
            learn(&store, 5 + ROWS, &measure, 800, dice);
        }
        let likely = |model| measure.bounds(read(&store, model).as_ref()).likely;
        assert!(likely(5).abs_diff(1200) < 40 && likely(5 + ROWS).abs_diff(800) < 40);
        assert_eq!(likely(6), 1000, "of another model nothing was learned");
        assert_eq!(speed(&store, 5), USUAL);
        (0..20).for_each(|dice| timed(&store, 5, (400, 1000), dice));
        assert!(speed(&store, 5).abs_diff(400) < 40 && likely(5).abs_diff(1200) < 40);
        assert_eq!(speed(&store, 6), USUAL);
        for model in 2..100 {
            learn(&store, 5 + model * ROWS, &measure, 900, 0);
        }
        assert!(read(&store, 5).is_some() && store.0.borrow().len() == ROWS as usize);
        assert!(store.0.borrow().values().all(|(bytes, _)| bytes.len() < 2000));
    }
}
