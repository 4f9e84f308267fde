//! Calls of the fleet's rate-limit service. They are made by the root context, whatever request wants them: a stream may be gone
//! when its answer comes, and what was granted is for all.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use attache_gateway::budget::fleet::{Fleet, Leases, METHOD, SERVICE, TARGET, answered, request};
use attache_gateway::budget::{Ask, Reservation};
use attache_gateway::gateway::Gateway;
use attache_gateway::outcome::{Around, Effects};

use crate::Counters;
use crate::host::{self, Body, Shared};

/// Asks of one call.
const MOST: usize = 100;
/// Milliseconds between two looks at what was granted.
const LOOK: u64 = 250;
/// `google.rpc.Code`
const OK: u32 = 0;

#[derive(Default)]
pub struct Calls {
    /// Where the configuration has one.
    gateway: Option<Rc<Gateway>>,
    counters: Rc<Counters>,
    leases: RefCell<Leases>,
    /// To be sent at the next tick.
    outbox: RefCell<Vec<Ask>>,
    under_way: RefCell<HashMap<u32, Vec<Ask>>>,
}

impl Calls {
    pub fn new(gateway: Rc<Gateway>, counters: Rc<Counters>) -> Calls {
        Calls { gateway: Some(gateway), counters, ..Calls::default() }
    }

    fn fleet(&self) -> Option<&Fleet> {
        self.gateway.as_ref()?.fleet.as_ref()
    }

    /// A request was admitted.
    pub fn watch(&self, reservation: &Reservation) {
        if self.fleet().is_some()
            && let Ok(mut leases) = self.leases.try_borrow_mut()
        {
            leases.watch(reservation);
        }
    }

    pub fn send(&self, asks: Vec<Ask>) {
        if let Ok(mut outbox) = self.outbox.try_borrow_mut() {
            outbox.extend(asks);
        }
    }

    /// In how many milliseconds [`Calls::tick`] is to be called; `None`: it need not be.
    pub fn pace(&self) -> Option<u64> {
        if self.outbox.try_borrow().is_ok_and(|outbox| !outbox.is_empty()) {
            return Some(1);
        }
        self.leases.try_borrow().is_ok_and(|leases| !leases.is_empty()).then_some(LOOK)
    }

    /// Returns whether anything was answered.
    pub fn tick(&self, now: u64) -> bool {
        let Some(fleet) = self.fleet() else { return false };
        if let Ok(mut leases) = self.leases.try_borrow_mut() {
            self.send(leases.tick(&Around { now, store: &Shared }));
        }
        let Ok(mut asks) = self.outbox.try_borrow_mut().map(|mut outbox| std::mem::take(&mut *outbox)) else {
            return false;
        };
        if let Ok(mut leases) = self.leases.try_borrow_mut() {
            leases.expect(&asks);
        }
        let mut failed = false;
        while !asks.is_empty() {
            let rest = asks.split_off(asks.len().min(MOST));
            let bytes = request(&fleet.domain, &asks);
            match host::call(TARGET, SERVICE, METHOD, &bytes, fleet.timeout) {
                Some(token) => {
                    if let Ok(mut under_way) = self.under_way.try_borrow_mut() {
                        under_way.insert(token, asks);
                    }
                }
                None => {
                    self.apply(&asks, None, now);
                    failed = true;
                }
            }
            asks = rest;
        }
        failed
    }

    /// A call is over.
    pub fn answered(&self, token: u32, status: u32, size: usize, now: u64) {
        let asks = self.under_way.try_borrow_mut().ok().and_then(|mut calls| calls.remove(&token));
        let body = (status == OK).then(|| host::body(Body::CallResponse, 0, size));
        self.apply(&asks.unwrap_or_default(), body.as_deref(), now);
    }

    fn apply(&self, asks: &[Ask], answer: Option<&[u8]>, now: u64) {
        if asks.is_empty() {
            return;
        }
        let answered = answered(&Around { now, store: &Shared }, asks, answer);
        self.counters.apply(Effects { counts: answered.counts, notes: answered.notes, ..Effects::default() });
        self.send(answered.asks);
    }
}
