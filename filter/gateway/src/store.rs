//! What all workers share: Envoy's shared data, as the gateway sees it.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::budget;
use crate::tokens::learned;

/// A map of bytes with compare-and-set. Envoy's is lost when Envoy restarts, and outlives a new configuration.
pub trait Store {
    /// The value and its version; `None`: there is none.
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Writes if the version is still this one. `false`: somebody else was faster.
    fn write(&self, key: &str, value: &[u8], version: u32) -> bool;
}

/// Shared data of one thread, for tests and measurements: like Envoy's, which writes over whatever is there at version 0.
#[derive(Default)]
pub struct Memory(pub(crate) RefCell<HashMap<String, (Vec<u8>, u32)>>);

impl Store for Memory {
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.0.borrow().get(key).cloned()
    }
    fn write(&self, key: &str, value: &[u8], version: u32) -> bool {
        let mut map = self.0.borrow_mut();
        let entry = map.entry(key.to_owned()).or_default();
        let same = version == 0 || entry.1 == version;
        if same {
            *entry = (value.to_vec(), entry.1 + 1);
        }
        same
    }
}

/// The health of keys and targets ([`crate::health::Health`]).
pub const HEALTH: &str = "attache.health";
/// Where conversations live that had to move ([`crate::sticky::Moves`]).
pub const MOVES: &str = "attache.moves";

/// More than there are workers: each round somebody's write succeeds.
const ROUNDS: usize = 256;

/// Changes a value: `change` gets what stands there and returns what shall, `None` to leave it, and may be called
/// again where another worker came first.
pub fn update<R>(store: &dyn Store, key: &str, mut change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, R)) -> R {
    for _ in 1..ROUNDS {
        let (value, version) = store.read(key).unwrap_or_default();
        match change(&value) {
            (Some(value), result) if store.write(key, &value, version) => return result,
            (Some(_), _) => {}
            (None, result) => return result,
        }
    }
    change(&store.read(key).unwrap_or_default().0).1
}

/// Makes sure that every value is there: Envoy compares versions only of keys that exist.
pub fn prepare(store: &dyn Store) {
    for key in [HEALTH, MOVES] {
        if store.read(key).is_none() {
            store.write(key, b"", 0);
        }
    }
    budget::prepare(store);
    learned::prepare(store);
}
