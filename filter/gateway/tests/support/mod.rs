//! What the tests of policy share: a clock that stands still, and shared data of one worker.

#![allow(dead_code)]

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

use attache_gateway::admission::{Admission, Admitted, Reject, Verdict};
use attache_gateway::budget::{Fact, Facts};
use attache_gateway::gateway::Gateway;
use attache_gateway::outcome::Around;
use attache_gateway::store::Store;

/// Unix time in milliseconds at which everything here happens.
pub const NOW: u64 = 1_700_000_000_000;

/// Shared data of one worker.
#[derive(Default)]
pub struct Memory(RefCell<HashMap<String, (Vec<u8>, u32)>>);

impl Store for Memory {
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.0.borrow().get(key).cloned()
    }
    fn write(&self, key: &str, value: &[u8], version: u32) -> bool {
        let mut map = self.0.borrow_mut();
        let entry = map.entry(key.to_owned()).or_default();
        let same = entry.1 == version;
        if same {
            *entry = (value.to_vec(), version + 1);
        }
        same
    }
}

/// Nothing is known of who sends a request.
pub struct Nobody;

impl Facts for Nobody {
    fn fact(&self, _: &Fact) -> Option<Cow<'_, str>> {
        None
    }
}

/// Admits a request at once, as without budgets every one is that can be planned.
pub fn admit(
    admission: Admission,
    gateway: &Gateway,
    body: &str,
    around: &Around<'_>,
) -> Result<Admitted, Box<Reject>> {
    match admission.admit(gateway, body.as_bytes(), around, &Nobody)? {
        Verdict::Go(admitted) => Ok(*admitted),
        Verdict::Wait(waiting) => panic!("{waiting:?}"),
    }
}
