//! Requests that wait for their budgets, and reservations that nobody settled: looked after ten times a second.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use attache_gateway::ledger;
use attache_gateway::outcome::Around;

use crate::Counters;
use crate::host::{self, Shared};
use crate::identity::Workload;
use crate::listener::Case;

/// Milliseconds between two looks.
const PERIOD: u32 = 100;
/// Requests of one worker that may wait at a time: each holds its body.
const SEATS: usize = 1000;
/// Milliseconds after its end in which who answered an exchange has surely settled it.
const LATER: u64 = 1000;

/// What the root context of the listener's filter keeps.
#[derive(Default)]
pub struct Desk {
    pub workload: Workload,
    counters: Rc<Counters>,
    /// By the context's number, which is the order in which they came; and when each is to be asked again.
    waiting: RefCell<BTreeMap<u32, Seat>>,
    /// Filter states of exchanges that are over, and when to look at them.
    later: RefCell<VecDeque<(u64, Vec<u8>)>>,
    ticking: Cell<bool>,
}

/// When to ask, and for whom.
type Seat = (u64, Weak<RefCell<Case>>);

impl Desk {
    pub fn new(workload: Workload, counters: Rc<Counters>) -> Desk {
        Desk { workload, counters, ..Desk::default() }
    }

    /// A request waits. `false`: too many do already.
    pub fn seat(&self, id: u32, case: &Rc<RefCell<Case>>, due: u64) -> bool {
        let Ok(mut waiting) = self.waiting.try_borrow_mut() else { return false };
        if waiting.len() >= SEATS {
            return false;
        }
        waiting.insert(id, (due, Rc::downgrade(case)));
        self.tick_on();
        true
    }

    pub fn forget(&self, id: u32) {
        if let Ok(mut waiting) = self.waiting.try_borrow_mut() {
            waiting.remove(&id);
        }
    }

    /// The exchange of this filter state is over, and perhaps nobody has settled it.
    pub fn settle_later(&self, state: Vec<u8>, now: u64) {
        if let Ok(mut later) = self.later.try_borrow_mut() {
            later.push_back((now + LATER, state));
            self.tick_on();
        }
    }

    fn tick_on(&self) {
        if !self.ticking.replace(true) {
            host::tick_every(PERIOD);
        }
    }

    pub fn tick(&self) {
        let now = host::now();
        self.settle(now);
        self.ask(now);
        let idle = self.waiting.try_borrow().is_ok_and(|waiting| waiting.is_empty())
            && self.later.try_borrow().is_ok_and(|later| later.is_empty());
        if idle {
            self.ticking.set(false);
            host::tick_every(0);
        }
    }

    fn settle(&self, now: u64) {
        let due = || {
            let mut later = self.later.try_borrow_mut().ok()?;
            later.pop_front_if(|(due, _)| *due <= now)
        };
        while let Some((_, state)) = due() {
            self.counters.apply(ledger::abandon(&state, &Around { now, store: &Shared }));
        }
    }

    /// In the order in which they came.
    fn ask(&self, now: u64) {
        let Ok(due) = self.waiting.try_borrow().map(|waiting| {
            let due = waiting.iter().filter(|(_, (due, _))| *due <= now);
            due.map(|(id, (_, case))| (*id, case.clone())).collect::<Vec<_>>()
        }) else {
            return;
        };
        for (id, case) in due {
            let again = case.upgrade().and_then(|case| {
                host::act_for(id);
                case.try_borrow_mut().ok()?.ask(now)
            });
            let Ok(mut waiting) = self.waiting.try_borrow_mut() else { return };
            match (again, waiting.get_mut(&id)) {
                (Some(again), Some((due, _))) => *due = now + again,
                _ => _ = waiting.remove(&id),
            }
        }
    }
}
