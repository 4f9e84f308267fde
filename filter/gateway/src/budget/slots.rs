//! Where accounts lie: a fixed number of values in shared data, since none can ever be taken away. An account lies in the
//! value that its number says, whatever the configuration; each is a row of accounts, and the dead ones go with the next write.

use serde::{Deserialize, Serialize};

use super::Rule;
use super::account::{Account, STALE};
use crate::store::Store;

/// Many enough that workers seldom meet, and that ten thousand accounts make short rows.
const SLOTS: u64 = 1024;
/// A value's name begins so; the number is the format's.
const PREFIX: &str = "attache.budget.1.";
/// More than there are workers: each round somebody's write succeeds.
pub(super) const ROUNDS: usize = 256;

pub(super) fn slot(account: u64) -> u64 {
    account % SLOTS
}

/// Makes sure that every value is there: Envoy compares versions only of keys that exist.
pub(super) fn prepare(store: &dyn Store) {
    for slot in 0..SLOTS {
        prepare_one(store, &name(slot));
    }
}

pub(super) fn prepare_one(store: &dyn Store, key: &str) {
    if store.read(key).is_none() {
        store.write(key, b"", 0);
    }
}

fn name(slot: u64) -> String {
    format!("{PREFIX}{slot}")
}

/// One account of a row.
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    account: u64,
    /// Then it is dead.
    until: u64,
    #[serde(borrow)]
    state: &'a [u8],
}

/// A row as it was read.
pub(super) struct Page {
    key: String,
    bytes: Vec<u8>,
    version: u32,
}

impl Page {
    pub fn read(store: &dyn Store, slot: u64) -> Page {
        let key = name(slot);
        let (bytes, version) = store.read(&key).unwrap_or_default();
        Page { key, bytes, version }
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (entry, after) = postcard::take_from_bytes(rest).ok()?;
            rest = after;
            Some(entry)
        })
    }

    /// `None`: nothing of it counts.
    pub fn account(&self, account: u64) -> Option<Account> {
        self.entries().find(|entry| entry.account == account).map(|entry| Account::read(entry.state))
    }

    /// Accounts that are not dead.
    #[cfg(test)]
    pub fn living(&self, now: u64) -> usize {
        self.entries().filter(|entry| entry.until > now).count()
    }

    /// Writes the row with these accounts in it. `false`: another worker was faster, and nothing was written.
    pub fn commit(&self, store: &dyn Store, changed: &[(u64, &Rule, &Account)], now: u64) -> bool {
        let mut row = Vec::with_capacity(self.bytes.len() + 128);
        let mut add = |account: u64, until: u64, state: &[u8]| {
            if until.saturating_add(STALE) > now {
                row = postcard::to_extend(&Entry { account, until, state }, std::mem::take(&mut row))
                    .unwrap_or_default();
            }
        };
        for entry in self.entries() {
            if !changed.iter().any(|(account, ..)| *account == entry.account) {
                add(entry.account, entry.until, entry.state);
            }
        }
        for (account, rule, state) in changed {
            add(*account, state.until(rule), &state.write());
        }
        store.write(&self.key, &row, self.version)
    }
}

/// Changes accounts of one row: `change` may be called again where another worker came first, and says whether there is
/// anything to write. `None`: it was not written, however often it was tried.
pub(super) fn update<R>(
    store: &dyn Store,
    slot: u64,
    now: u64,
    mut change: impl FnMut(&Page) -> (Vec<(u64, std::rc::Rc<Rule>, Account)>, R),
) -> Option<R> {
    for _ in 0..ROUNDS {
        let page = Page::read(store, slot);
        let (changed, result) = change(&page);
        let changed: Vec<_> = changed.iter().map(|(id, rule, account)| (*id, &**rule, account)).collect();
        if changed.is_empty() || page.commit(store, &changed, now) {
            return Some(result);
        }
    }
    None
}
