//! Which keys of a budget have accounts: a list with room for so many, each with the time until which its place is taken.
//!
//! An account comes to be only once its key has a place for at least as long as it counts, so there are never more
//! accounts than places, whatever clients send and whichever worker dies when.

use serde::{Deserialize, Serialize};

use super::account::STALE;
use super::slots::{ROUNDS, prepare_one};
use crate::store::Store;

/// Lists are spread over so many values; each holds those of the budgets whose number says so.
const LISTS: u64 = 64;
const PREFIX: &str = "attache.budget.keys.1.";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct List {
    budget: u64,
    /// Keys, in order, and until when their places are theirs.
    places: Vec<(u64, u64)>,
}

pub(super) fn prepare(store: &dyn Store) {
    for list in 0..LISTS {
        prepare_one(store, &name(list));
    }
}

fn name(list: u64) -> String {
    format!("{PREFIX}{list}")
}

/// A place for a key until at least this time, and to `spare` where it has to be written; returns until when.
/// `None`: there is no room.
pub(super) fn lease(
    store: &dyn Store,
    budget: u64,
    key: u64,
    most: u64,
    now: u64,
    (until, spare): (u64, u64),
) -> Option<u64> {
    let name = name(budget % LISTS);
    // What another worker's clock has not reached yet has not come.
    let taken = |(_, until): &(u64, u64)| until.saturating_add(STALE) > now;
    for _ in 0..ROUNDS {
        let (bytes, version) = store.read(&name).unwrap_or_default();
        let mut lists: Vec<List> = postcard::from_bytes(&bytes).unwrap_or_default();
        if !lists.iter().any(|list| list.budget == budget) {
            lists.push(List { budget, places: Vec::new() });
        }
        let list = lists.iter_mut().find(|list| list.budget == budget)?;
        match list.places.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(index) => {
                let place = list.places.get_mut(index)?;
                if place.1 >= until {
                    return Some(place.1);
                }
                place.1 = spare;
            }
            Err(_) => {
                if list.places.len() as u64 >= most {
                    list.places.retain(taken);
                }
                if list.places.len() as u64 >= most {
                    return None;
                }
                let index = list.places.partition_point(|(known, _)| *known < key);
                list.places.insert(index, (key, spare));
            }
        }
        // Budgets that are configured no more leave with their last place.
        lists.retain(|list| list.budget == budget || list.places.iter().any(taken));
        if store.write(&name, &postcard::to_extend(&lists, Vec::new()).unwrap_or_default(), version) {
            return Some(spare);
        }
    }
    None
}
