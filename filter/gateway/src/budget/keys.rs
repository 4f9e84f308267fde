//! Which keys of a budget have accounts: places, each with the time until which it is taken.
//!
//! An account comes to be only once its key has a place for at least as long as it counts, so there are never more
//! accounts than places, whatever clients send and whichever worker dies when. Keys are spread over [`PARTS`] lists, so that
//! one that is new writes a short one. How many places each part may have stands in one value for all, the room:
//!
//! - All shares of the room together are never more than the budget's `maxKeys`, and no part has more places than its share.
//! - A part takes new places only while its epoch is its share's, and within an epoch a share only grows.
//! - To take places from a part that does not need them, its epoch is raised first, in its own value: whoever was about to
//!   write there fails, and looks again. Then the share follows. Where a worker died in between, the next one does that.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::account::STALE;
use super::slots::{ROUNDS, prepare_one};
use crate::store::Store;

/// Many enough that the lists of ten thousand keys are short, few enough to be looked through when all are full.
const PARTS: u64 = 128;
/// Values of shared data: so many that one seldom has parts of several budgets.
const VALUES: u64 = 1024;
const SPREAD: u64 = VALUES / PARTS;
const PREFIX: &str = "attache.budget.keys.2.";
const ROOMS: u64 = 64;
const ROOM: &str = "attache.budget.room.2.";
/// A share grows by no more than this at once.
const MOST_AHEAD: u64 = 16;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Part {
    budget: u64,
    index: u64,
    epoch: u64,
    /// Keys, in order, and until when their places are theirs.
    places: Vec<(u64, u64)>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Room {
    budget: u64,
    /// All places were taken, and until then none comes free.
    full: u64,
    shares: Vec<Share>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Share {
    places: u64,
    epoch: u64,
}

/// One of those in a value of shared data, as it was read.
struct Entry<T> {
    name: String,
    version: u32,
    own: T,
    others: Vec<T>,
}

impl<T: Serialize + DeserializeOwned> Entry<T> {
    fn read(store: &dyn Store, name: String, is: impl Fn(&T) -> bool, new: T) -> Entry<T> {
        let (bytes, version) = store.read(&name).unwrap_or_default();
        let mut others: Vec<T> = postcard::from_bytes(&bytes).unwrap_or_default();
        let own = others.iter().position(is).map_or(new, |at| others.swap_remove(at));
        Entry { name, version, own, others }
    }

    /// `false`: another worker was faster, and nothing was written.
    fn write(&self, store: &dyn Store) -> bool {
        let all: Vec<&T> = self.others.iter().chain([&self.own]).collect();
        store.write(&self.name, &postcard::to_extend(&all, Vec::new()).unwrap_or_default(), self.version)
    }
}

pub(super) fn prepare(store: &dyn Store) {
    (0..VALUES).for_each(|value| prepare_one(store, &format!("{PREFIX}{value}")));
    (0..ROOMS).for_each(|value| prepare_one(store, &format!("{ROOM}{value}")));
}

fn part(store: &dyn Store, budget: u64, index: u64) -> Entry<Part> {
    let name = format!("{PREFIX}{}", (budget % VALUES + index * SPREAD) % VALUES);
    let new = Part { budget, index, ..Part::default() };
    Entry::read(store, name, |part| part.budget == budget && part.index == index, new)
}

fn room(store: &dyn Store, budget: u64) -> Entry<Room> {
    let new = Room { budget, full: 0, shares: Vec::new() };
    let name = format!("{ROOM}{}", budget % ROOMS);
    let mut room = Entry::read(store, name, |room| room.budget == budget, new);
    room.own.shares.resize(PARTS as usize, Share::default());
    room
}

/// What another worker's clock has not reached yet has not come.
fn taken(now: u64) -> impl Fn(&(u64, u64)) -> bool {
    move |(_, until)| until.saturating_add(STALE) > now
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
    let index = key % PARTS;
    for _ in 0..ROUNDS {
        let mut part = part(store, budget, index);
        let places = &mut part.own.places;
        match places.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => {
                let place = places.get_mut(at)?;
                if place.1 >= until {
                    return Some(place.1);
                }
                place.1 = spare;
            }
            Err(_) => {
                match admit(store, &mut part.own, most, now) {
                    Admission::Room => {}
                    Admission::Again => continue,
                    Admission::Full => return None,
                }
                let places = &mut part.own.places;
                let at = places.partition_point(|(known, _)| *known < key);
                places.insert(at, (key, spare));
            }
        }
        // Of budgets that are configured no more little stays: where places were taken away, the epoch.
        part.others.retain(|part| part.epoch > 0 || part.places.iter().any(taken(now)));
        if part.write(store) {
            return Some(spare);
        }
    }
    None
}

/// When a place may come free, where [`lease`] has just found none.
pub(super) fn free_at(store: &dyn Store, budget: u64) -> u64 {
    room(store, budget).own.full
}

enum Admission {
    /// The part may have one place more, if nobody has written to it since it was read.
    Room,
    Again,
    Full,
}

fn admit(store: &dyn Store, part: &mut Part, most: u64, now: u64) -> Admission {
    let mut room = room(store, part.budget);
    let all: u64 = room.own.shares.iter().map(|share| share.places).sum();
    let Some(share) = room.own.shares.get_mut(part.index as usize) else { return Admission::Full };
    if share.epoch != part.epoch {
        // Somebody is at it, or died.
        follow(store, part.budget, &[part.share()]);
        return Admission::Again;
    }
    if part.places.len() as u64 >= share.places {
        part.places.retain(taken(now));
    }
    // Where the configuration has fewer than there were, shares go down first.
    if (part.places.len() as u64) < share.places && all <= most {
        return Admission::Room;
    }
    match most.saturating_sub(all) {
        0 if now < room.own.full => Admission::Full,
        0 => reclaim(store, room, now),
        free => {
            // Ahead of need while there is plenty, so that the room is seldom written.
            share.places += (free / (4 * PARTS)).clamp(1, MOST_AHEAD);
            room.own.full = 0;
            if room.write(store) { Admission::Room } else { Admission::Again }
        }
    }
}

impl Part {
    /// Which one, and its share once it has come to this epoch.
    fn share(&self) -> (u64, Share) {
        (self.index, Share { places: self.places.len() as u64, epoch: self.epoch })
    }
}

/// Takes from all parts the places that nobody has.
fn reclaim(store: &dyn Store, mut room: Entry<Room>, now: u64) -> Admission {
    let mut freed = Vec::new();
    let mut again = false;
    let mut first = u64::MAX;
    let shares = room.own.shares.iter().zip(0..).filter(|(share, _)| share.places > 0);
    for (share, index) in shares {
        let mut part = part(store, room.own.budget, index);
        if part.own.epoch == share.epoch {
            part.own.places.retain(taken(now));
            if part.own.places.len() as u64 >= share.places {
                first = part.own.places.iter().fold(first, |first, (_, until)| first.min(*until));
                continue;
            }
            part.own.epoch = part.own.epoch.saturating_add(1);
            if !part.write(store) {
                again = true;
                continue;
            }
        }
        freed.push(part.own.share());
    }
    if freed.is_empty() && !again {
        // Whoever has written the room meanwhile may know better.
        room.own.full = first.saturating_add(STALE);
        return if room.write(store) { Admission::Full } else { Admission::Again };
    }
    follow(store, room.own.budget, &freed);
    Admission::Again
}

/// Lets shares come to the epochs of their parts. No part gains a place until it has.
fn follow(store: &dyn Store, budget: u64, parts: &[(u64, Share)]) {
    for _ in 0..ROUNDS {
        let mut room = room(store, budget);
        let mut behind = false;
        for (index, new) in parts {
            if let Some(share) = room.own.shares.get_mut(*index as usize).filter(|old| old.epoch < new.epoch)
            {
                *share = *new;
                behind = true;
            }
        }
        room.own.full = 0;
        if !behind || room.write(store) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::{BTreeSet, HashMap};
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::*;

    const BUDGET: u64 = 77;
    /// What the configuration says, one after the other.
    const MOST: [u64; 5] = [5, 3, 7, 4, 5];

    #[derive(Default)]
    struct World {
        values: RefCell<HashMap<String, (Vec<u8>, u32)>>,
        /// Places that somebody took away, by a clock that may be ahead of others'.
        gone: RefCell<Vec<(u64, u64)>>,
        most: Cell<u64>,
        now: Cell<u64>,
        dice: Cell<u64>,
        admitted: Cell<u64>,
        full: Cell<u64>,
        died: Cell<u64>,
        reclaimed: Cell<u64>,
    }

    impl World {
        fn below(&self, most: u64) -> u64 {
            self.dice.set(self.dice.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
            let mixed = (self.dice.get() ^ (self.dice.get() >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % most
        }

        fn parts(&self) -> Vec<Part> {
            let values = self.values.borrow();
            let parts = values.iter().filter(|(name, _)| name.starts_with(PREFIX));
            parts
                .flat_map(|(_, (bytes, _))| postcard::from_bytes::<Vec<Part>>(bytes).unwrap_or_default())
                .collect()
        }
        fn places(&self) -> Vec<(u64, u64)> {
            self.parts().into_iter().flat_map(|part| part.places).collect()
        }
        fn taken(&self, now: u64) -> u64 {
            self.places().iter().filter(|place| taken(now)(place)).count() as u64
        }

        /// A worker asks for a place, while others do between any two of its accesses.
        fn ask(&self, key: u64, depth: u64) {
            let now = self.now.get() - if self.below(8) == 0 { self.below(1500) } else { 0 };
            let until = now + self.below(4000);
            let view = View { world: self, depth, now, most: Cell::new(0) };
            let asked = || lease(&view, BUDGET, key, self.most.get(), now, (until, until + 3000));
            match catch_unwind(AssertUnwindSafe(asked)) {
                Ok(Some(leased)) => {
                    assert!(leased >= until);
                    let place = self.places().into_iter().find(|(known, _)| *known == key);
                    assert!(depth > 0 || place.is_some_and(|(_, until)| until >= leased));
                    self.admitted.set(self.admitted.get() + 1);
                }
                Ok(None) => {
                    assert!(view.most.get() >= self.most.get(), "there was room all the time");
                    self.full.set(self.full.get() + 1);
                }
                Err(cause) if cause.is::<Died>() => self.died.set(self.died.get() + 1),
                Err(cause) => resume_unwind(cause),
            }
        }
    }

    /// Shared data with nobody between.
    impl Store for World {
        fn read(&self, name: &str) -> Option<(Vec<u8>, u32)> {
            self.values.borrow().get(&crowded(name)).cloned()
        }
        fn write(&self, name: &str, value: &[u8], version: u32) -> bool {
            let before = self.places();
            let mut values = self.values.borrow_mut();
            let entry = values.entry(crowded(name)).or_default();
            // As Envoy's: version 0 is written over whatever is there.
            let same = version == 0 || entry.1 == version;
            if same {
                *entry = (value.to_vec(), entry.1 + 1);
            }
            drop(values);
            let places = self.places();
            let away = before.iter().filter(|(key, _)| !places.iter().any(|(known, _)| known == key));
            self.gone.borrow_mut().extend(away);
            let keys: BTreeSet<u64> = places.iter().map(|(key, _)| *key).collect();
            assert_eq!(keys.len(), places.len(), "a key has two places");
            assert!(places.len() <= before.len().max(self.most.get() as usize), "{} places", places.len());
            let epochs = self.parts().iter().map(|part| part.epoch).sum();
            self.reclaimed.set(self.reclaimed.get().max(epochs));
            same
        }
    }

    struct Died;

    struct View<'w> {
        world: &'w World,
        depth: u64,
        now: u64,
        /// Places that were taken at any of its accesses, by its clock.
        most: Cell<u64>,
    }

    impl View<'_> {
        fn others(&self) {
            if self.depth < 3 && self.world.below(10) == 0 {
                self.world.ask(key(self.world.below(14)), self.depth + 1);
            }
            if self.world.below(150) == 0 {
                resume_unwind(Box::new(Died));
            }
            let gone = self.world.gone.borrow().iter().filter(|place| taken(self.now)(place)).count() as u64;
            self.most.set(self.most.get().max(self.world.taken(self.now) + gone));
        }
    }

    /// So few values that parts meet in them.
    fn crowded(name: &str) -> String {
        let (prefix, number) = name.rsplit_once('.').unwrap();
        format!("{prefix}.{}", number.parse::<u64>().unwrap() % 16 / 8)
    }

    impl Store for View<'_> {
        fn read(&self, name: &str) -> Option<(Vec<u8>, u32)> {
            self.others();
            self.world.read(name)
        }
        fn write(&self, name: &str, value: &[u8], version: u32) -> bool {
            self.others();
            self.world.below(40) > 0 && self.world.write(name, value, version)
        }
    }

    /// Of three parts.
    fn key(number: u64) -> u64 {
        number / 3 * PARTS + number % 3
    }

    #[test]
    fn no_interleaving_makes_more_places_or_loses_one() {
        for seed in 0..200 {
            let world = World { now: Cell::new(1_000_000), dice: Cell::new(seed), ..World::default() };
            // Version 0 would be written over whatever is there.
            for name in [PREFIX, ROOM].iter().flat_map(|prefix| [0, 1].map(|n| format!("{prefix}{n}"))) {
                world.values.borrow_mut().insert(name, (Vec::new(), 1));
            }
            for turn in 0..500 {
                world.most.set(MOST[turn as usize / 100]);
                world.now.set(world.now.get() + world.below(900));
                world.ask(key(world.below(14)), 0);
                if turn % 3 > 0 {
                    continue;
                }
                // While nobody else is at it, a key that is new gets a place where there is one, whoever died before.
                let (now, stranger) = (world.now.get(), key(1000 + turn));
                let (most, free) = (world.most.get(), world.taken(now) < world.most.get());
                let leased = lease(&world, BUDGET, stranger, most, now, (now + 100, now + 2000));
                assert_eq!(leased.is_some(), free);
            }
            let counted = [&world.admitted, &world.full, &world.died, &world.reclaimed].map(Cell::get);
            assert!(counted.iter().all(|count| *count > 0), "{counted:?}");
        }
    }
}
