//! One pod: its shared data, into which workers come at any access, its clock, and what each worker looks after.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use attache_gateway::budget::fleet::Leases;
use attache_gateway::budget::{Fact, Facts};
use attache_gateway::store::Store;

use super::world::World;

pub const WORKERS: usize = 2;

#[derive(Default)]
pub struct Pod {
    pub values: RefCell<HashMap<String, (Vec<u8>, u32)>>,
    /// Milliseconds that its clock is ahead of the world's, or behind.
    pub skew: Cell<i64>,
    pub leases: [RefCell<Leases>; WORKERS],
}

/// Shared data without anybody between.
pub struct Plain<'p>(pub &'p Pod);

impl Store for Plain<'_> {
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.0.values.borrow().get(&crowded(key)).cloned()
    }
    // As Envoy's: version 0 is written over whatever is there.
    fn write(&self, key: &str, value: &[u8], version: u32) -> bool {
        let mut values = self.0.values.borrow_mut();
        let entry = values.entry(crowded(key)).or_default();
        let same = version == 0 || entry.1 == version;
        if same {
            *entry = (value.to_vec(), entry.1 + 1);
        }
        same
    }
}

/// Few values, so that accounts meet in them.
fn crowded(key: &str) -> String {
    let (name, number) = key.rsplit_once('.').unwrap();
    format!("{name}.{}", number.parse::<u64>().unwrap() % 4)
}

/// Shared data as one operation sees it: others come between.
pub struct View<'w> {
    pub world: &'w World,
    pub pod: usize,
    pub depth: usize,
}

impl Store for View<'_> {
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.world.interrupt(self.pod, self.depth);
        Plain(&self.world.pods[self.pod]).read(key)
    }
    fn write(&self, key: &str, value: &[u8], version: u32) -> bool {
        self.world.interrupt(self.pod, self.depth);
        Plain(&self.world.pods[self.pod]).write(key, value, version)
    }
}

pub struct Who(pub String);

impl Facts for Who {
    fn fact(&self, fact: &Fact) -> Option<Cow<'_, str>> {
        (*fact == Fact::Header("who".to_owned())).then(|| self.0.as_str().into())
    }
}
