//! Requests that wait for their budgets, reservations that nobody settled, and what the fleet has granted: looked after several
//! times a second.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::{Rc, Weak};

use attache_gateway::budget::{Ask, Reservation};
use attache_gateway::ledger;
use attache_gateway::outcome::Around;

use crate::Counters;
use crate::fleet::Calls;
use crate::host::{self, Shared};
use crate::identity::Workload;
use crate::listener::{Again, Case};

/// Milliseconds between two looks, at most.
const PERIOD: u64 = 100;
/// At least, for the first of those who wait for what others hold; one more for each account of which there is such a first.
const BRISK: u64 = 10;
/// Requests of one worker that may wait at a time, and the bytes of their bodies together: Envoy keeps those, and at the
/// chart's `overload.heapBytes` (1 GiB) it refuses everybody's requests. One may always wait.
const SEATS: usize = 1000;
const BYTES: u64 = 128 << 20;
/// Milliseconds after its end in which who answered an exchange has surely settled it.
const LATER: u64 = 1000;

/// What the root context of the listener's filter keeps.
#[derive(Default)]
pub struct Desk {
    /// The root context's number.
    id: u32,
    pub workload: Workload,
    counters: Rc<Counters>,
    calls: Calls,
    /// By the context's number, which is the order in which they came.
    waiting: RefCell<BTreeMap<u32, Seat>>,
    /// Filter states of exchanges that are over, and when to look at them.
    later: RefCell<VecDeque<(u64, Vec<u8>)>>,
    /// Milliseconds between two ticks; 0: there are none.
    period: Cell<u64>,
}

struct Seat {
    /// When to ask.
    due: u64,
    /// It waits for what others hold, which may come back at any time.
    soon: bool,
    account: u64,
    /// Or when the fleet's service has answered.
    leases: bool,
    /// Of its body.
    bytes: u64,
    case: Weak<RefCell<Case>>,
}

impl Seat {
    fn wait(&mut self, now: u64, again: Again) {
        self.due = now + again.millis;
        self.soon = again.millis <= PERIOD && !again.leases;
        (self.leases, self.account) = (again.leases, again.account);
    }
}

impl Desk {
    pub fn new(id: u32, workload: Workload, counters: Rc<Counters>, calls: Calls) -> Desk {
        Desk { id, workload, counters, calls, ..Desk::default() }
    }

    /// A request with a body of so many bytes waits. `false`: too many do already.
    pub fn seat(&self, id: u32, case: &Rc<RefCell<Case>>, bytes: u64, now: u64, again: Again) -> bool {
        let Ok(mut waiting) = self.waiting.try_borrow_mut() else { return false };
        let kept: u64 = waiting.values().map(|seat| seat.bytes).sum();
        if waiting.len() >= SEATS || !waiting.is_empty() && kept.saturating_add(bytes) > BYTES {
            return false;
        }
        let case = Rc::downgrade(case);
        let mut seat = Seat { due: 0, soon: false, account: 0, leases: false, bytes, case };
        seat.wait(now, again);
        waiting.insert(id, seat);
        drop(waiting);
        self.pace(now);
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
        }
        self.pace(now);
    }

    /// A request holds this, and wants that asked of the fleet's service.
    pub fn holds(&self, reservation: &Reservation, asks: Vec<Ask>) {
        self.calls.watch(reservation);
        self.send(asks);
        if self.calls.pace().is_some() && self.period.get() == 0 {
            self.pace(host::now());
        }
    }

    pub fn send(&self, asks: Vec<Ask>) {
        if !asks.is_empty() {
            self.calls.send(asks);
            self.tick_every(1);
        }
    }

    /// Sets the time of the next tick.
    fn pace(&self, now: u64) {
        let seats = self.waiting.try_borrow().ok().and_then(|waiting| {
            let due = waiting.values().map(|seat| seat.due).min()?.saturating_sub(now);
            let soon = waiting.values().filter(|seat| seat.soon).map(|seat| seat.account);
            let accounts = soon.collect::<BTreeSet<u64>>().len() as u64;
            let brisk = if accounts > 0 { BRISK + accounts } else { PERIOD };
            Some(due.min(brisk).clamp(1, PERIOD))
        });
        let later = self.later.try_borrow().is_ok_and(|later| !later.is_empty()).then_some(PERIOD);
        let times = [seats, later, self.calls.pace()];
        self.tick_every(times.into_iter().flatten().min().unwrap_or(0));
    }

    fn tick_every(&self, period: u64) {
        if self.period.replace(period) != period {
            host::tick_every(u32::try_from(period).unwrap_or(u32::MAX));
        }
    }

    /// Another configuration is in force, and the last exchange of this one is over: no tick comes any more.
    pub fn close(&self) {
        self.settle(u64::MAX);
    }

    pub fn tick(&self) {
        let now = host::now();
        self.settle(now);
        let failed = self.calls.tick(now);
        self.ask(now, true, |seat| seat.due <= now || failed && seat.leases);
        // What has been asked for meanwhile goes at once.
        if self.calls.pace() == Some(1) {
            self.calls.tick(now);
        }
        self.pace(now);
    }

    /// The fleet's service has answered, or has not.
    pub fn answered(&self, token: u32, status: u32, size: usize) {
        let now = host::now();
        self.calls.answered(token, status, size, now);
        self.ask(now, false, |seat| seat.leases);
        self.pace(now);
    }

    /// All that is due by then.
    fn settle(&self, until: u64) {
        let due = || {
            let mut later = self.later.try_borrow_mut().ok()?;
            later.pop_front_if(|(due, _)| *due <= until)
        };
        while let Some((_, state)) = due() {
            let around = Around { now: host::now(), store: &Shared };
            self.counters.apply(ledger::abandon(&state, &around));
        }
    }

    /// In the order in which they came. `firsts`: also the first that waits for an account, and when that is let go, the next.
    fn ask(&self, now: u64, firsts: bool, whom: impl Fn(&Seat) -> bool) {
        let Ok(seats) = self.waiting.try_borrow().map(|waiting| {
            let seats = waiting.iter().filter(|(_, seat)| whom(seat) || firsts && seat.soon);
            let seats = seats.map(|(id, seat)| (*id, whom(seat), seat.account, seat.case.clone()));
            seats.collect::<Vec<_>>()
        }) else {
            return;
        };
        let mut shut = BTreeSet::new();
        for (id, due, account, case) in seats {
            if !due && shut.contains(&account) {
                continue;
            }
            let again = case.upgrade().and_then(|case| {
                host::act_for(id);
                case.try_borrow_mut().ok()?.ask(now)
            });
            let Ok(mut waiting) = self.waiting.try_borrow_mut() else { return };
            match (again, waiting.get_mut(&id)) {
                (Some(again), Some(seat)) => {
                    seat.wait(now, again);
                    shut.insert(again.account);
                }
                _ => _ = waiting.remove(&id),
            }
        }
        host::act_for(self.id);
    }
}
