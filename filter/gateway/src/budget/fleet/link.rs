//! Whether the fleet's service answers: one value for all workers of a pod.

use serde::{Deserialize, Serialize};

use crate::outcome::{Around, Note};
use crate::store::{self, Store};

const KEY: &str = "attache.fleet.1";
/// Milliseconds until it is tried again, the first time and at most; each time twice as long.
const FIRST: u64 = 250;
const LONGEST: u64 = 5000;
/// So much later than that somebody else tries it.
const LATE: u64 = 1000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// In a row; 0: it answers.
    failures: u32,
    /// When it is tried again.
    again: u64,
    /// When it failed first.
    since: u64,
}

pub fn prepare(store: &dyn Store) {
    if store.read(KEY).is_none() {
        store.write(KEY, b"", 0);
    }
}

fn decode(bytes: &[u8]) -> Link {
    postcard::from_bytes(bytes).unwrap_or_default()
}

fn encode(link: &Link) -> Option<Vec<u8>> {
    postcard::to_extend(link, Vec::new()).ok()
}

impl Link {
    pub fn read(store: &dyn Store) -> Link {
        store.read(KEY).map(|(bytes, _)| decode(&bytes)).unwrap_or_default()
    }
    /// It did not answer, and is left to those who look after it ([`probes`]). Where nobody does, requests try.
    pub fn is_down(&self, now: u64) -> bool {
        self.failures > 0 && (!self.is_due(now) || now.abs_diff(self.again) <= LATE)
    }
    /// Milliseconds until it is tried again.
    pub fn wait(&self, now: u64) -> u64 {
        if self.is_due(now) { 0 } else { self.again.saturating_sub(now) }
    }
    /// It may be tried; also where somebody set the clock back.
    fn is_due(&self, now: u64) -> bool {
        now >= self.again || self.again - now > 2 * LONGEST
    }
    fn fail(&mut self, now: u64) {
        let pause = (FIRST << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.again = now.saturating_add(pause);
    }
}

/// It answered. Something is to be told if it did not before.
pub fn answered(around: &Around<'_>) -> Option<Note> {
    if Link::read(around.store).failures == 0 {
        return None;
    }
    store::update(around.store, KEY, |bytes| {
        let link = decode(bytes);
        if link.failures == 0 {
            return (None, None);
        }
        let seconds = around.now.saturating_sub(link.since) / 1000;
        let text = format!("the fleet's rate-limit service answers again, after {seconds} s");
        (encode(&Link::default()), Some(Note { severe: false, text }))
    })
}

/// It did not. Something is to be told if it did before.
pub fn failed(around: &Around<'_>, why: &str) -> Option<Note> {
    store::update(around.store, KEY, |bytes| {
        let mut link = decode(bytes);
        // Many asks fail together, and are one failure.
        if link.failures > 0 && !link.is_due(around.now) {
            return (None, None);
        }
        let first = link.failures == 0;
        if first {
            link.since = around.now;
        }
        link.fail(around.now);
        let text = || {
            format!("the fleet's rate-limit service does not answer ({why}); it is tried again until it does")
        };
        (encode(&link), first.then(|| Note { severe: true, text: text() }))
    })
}

/// Whether this worker is the one to try it again. If it fails, the next one does so after a pause.
pub fn probes(around: &Around<'_>) -> bool {
    store::update(around.store, KEY, |bytes| {
        let mut link = decode(bytes);
        if link.failures == 0 || !link.is_due(around.now) {
            return (None, false);
        }
        link.fail(around.now);
        (encode(&link), true)
    })
}
