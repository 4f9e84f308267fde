//! What the tests of policy share: a clock that stands still, and shared data of one worker.

use std::cell::RefCell;
use std::collections::HashMap;

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
