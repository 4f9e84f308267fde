//! Shared data as one operation sees it: others come between, and each write that succeeds is entered in the book.

use std::cell::RefCell;

use attache_gateway::budget::{Claim, Decision, Fact, Facts, Rates, Unit, Want, reserve, standings};
use attache_gateway::outcome::Around;
use attache_gateway::store::Store;
use attache_gateway::tokens::Bounds;

use super::world::{BEGIN, World};

/// What an operation of one worker has done to the book so far.
pub struct Act {
    pub request: u64,
    pub now: u64,
    pub claims: Vec<Claim>,
    /// Names of the accounts in the book, in the order of the claims.
    pub accounts: Vec<String>,
    /// Values of shared data in which they lie.
    pub slots: Vec<String>,
    pub limits: Vec<u64>,
    pub doing: Doing,
    pub holding: Vec<bool>,
    /// What the book said when the account was read last: left, and whether it knew the request.
    pub left: Vec<u64>,
    pub knew: Vec<bool>,
}

pub enum Doing {
    Reserve { expires: u64 },
    Settle(Vec<u64>),
    Extend,
}

/// Shared data as one operation sees it.
pub struct View<'w> {
    pub world: &'w World,
    pub depth: usize,
    pub act: RefCell<Act>,
}

impl Store for View<'_> {
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.world.interrupt(self.depth);
        self.note_read(key);
        Plain(self.world).read(key)
    }
    fn write(&self, key: &str, value: &[u8], version: u32) -> bool {
        self.world.interrupt(self.depth);
        let spurious = self.world.dice.borrow_mut().below(40) == 0;
        let written = !spurious && Plain(self.world).write(key, value, version);
        if written {
            self.note_write(key);
        } else {
            self.world.tally.borrow_mut().failed_writes += 1;
        }
        written
    }
}

/// A run has few accounts. So that they meet in one value, and each write sees others that may be dead, there are but four.
fn crowded(key: &str) -> String {
    let (name, number) = key.rsplit_once('.').unwrap();
    format!("{name}.{}", number.parse::<u64>().unwrap() % 4)
}

/// Shared data without anybody between.
pub struct Plain<'w>(pub &'w World);

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

pub struct Who(pub String);

impl Facts for Who {
    fn fact(&self, fact: &Fact) -> Option<std::borrow::Cow<'_, str>> {
        (*fact == Fact::Header("who".to_owned())).then(|| self.0.as_str().into())
    }
}

impl View<'_> {
    fn note_read(&self, key: &str) {
        let act = &mut *self.act.borrow_mut();
        let book = self.world.book.borrow();
        for index in (0..act.accounts.len()).filter(|index| act.slots[*index] == key) {
            let account = &book[&act.accounts[index]];
            let used = account.spent(act.now) + account.held(act.now);
            act.left[index] = act.limits[index].saturating_sub(used);
            act.knew[index] = account.knows(act.request, act.now);
        }
    }

    /// The write has succeeded: what it did is entered in the book.
    fn note_write(&self, key: &str) {
        let act = &mut *self.act.borrow_mut();
        let around = Around { now: act.now, store: &Plain(self.world) };
        for index in (0..act.accounts.len()).filter(|index| act.slots[*index] == key) {
            let mut book = self.world.book.borrow_mut();
            let account = book.get_mut(&act.accounts[index]).unwrap();
            match &act.doing {
                Doing::Reserve { .. } if act.holding[index] && account.knows(act.request, act.now) => {
                    account.settle(act.request, 0, act.now);
                    act.holding[index] = false;
                    self.world.tally.borrow_mut().given_back += 1;
                }
                Doing::Reserve { expires } => {
                    let others = account.held(act.now);
                    let held = standings(&around, &act.claims[index..=index])[0].held;
                    let mut amount = held.checked_sub(others).unwrap();
                    if *expires <= account.moment(act.now) && account.unit == Unit::Requests {
                        // It has lapsed while others came between; it was sent all the same.
                        amount = 1;
                    }
                    let shadow = self.world.typed_of(&act.accounts[index]).policy == "shadow";
                    let limit = act.limits[index];
                    if !shadow && account.spent(act.now) + others + amount > limit {
                        self.world.tally.borrow_mut().overshoot += 1;
                        panic!("{} is overrun: {others} + {amount} of {limit}", act.accounts[index]);
                    }
                    account.hold(act.request, amount, *expires, act.now);
                    act.holding[index] = true;
                }
                Doing::Settle(charges) => account.settle(act.request, charges[index], act.now),
                Doing::Extend => {
                    if !account.knows(act.request, act.now) {
                        continue;
                    }
                    let before = account.amount(act.request);
                    if !account.holds(act.request, act.now) {
                        // It has lapsed while others came between, and what it held no longer matters.
                        account.alter(act.request, before, act.now);
                        continue;
                    }
                    let others = account.held(act.now) - before;
                    let held = standings(&around, &act.claims[index..=index])[0].held;
                    account.alter(act.request, held - others, act.now);
                    let used = account.spent(act.now) + held;
                    let shadow = self.world.typed_of(&act.accounts[index]).policy == "shadow";
                    if !shadow && held - others > before && used > act.limits[index] {
                        self.world.tally.borrow_mut().overshoot += 1;
                        panic!("{} is overrun by an extension", act.accounts[index]);
                    }
                }
            }
        }
    }
}

/// The value in which an account lies: the one that a reservation writes.
pub fn slot(claim: &Claim) -> String {
    struct Spy(RefCell<String>);
    impl Store for Spy {
        fn read(&self, _: &str) -> Option<(Vec<u8>, u32)> {
            None
        }
        fn write(&self, key: &str, _: &[u8], _: u32) -> bool {
            *self.0.borrow_mut() = key.to_owned();
            true
        }
    }
    let spy = Spy(RefCell::default());
    let want = Want {
        input: Bounds::default(),
        counted: true,
        output_limit: Some(1),
        most_output: 1,
        candidates: 1,
        rates: Some(Rates::default()),
        unpriced: false,
        expires: 1,
        since: 0,
        downgraded: false,
    };
    let decision = reserve(&Around { now: BEGIN, store: &spy }, std::slice::from_ref(claim), &want);
    assert!(matches!(decision, Decision::Admitted(_)));
    spy.0.into_inner()
}
