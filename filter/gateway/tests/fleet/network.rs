//! What lies between pods and their service: calls that are slow, lost, or late.

use attache_gateway::budget::Ask;
use attache_gateway::budget::fleet::{answered, request};
use attache_gateway::outcome::Around;

use super::pod::View;
use super::steps::Dice;
use super::world::{DEEPEST, World};

/// Milliseconds after which Envoy ends a call.
const TIMEOUT: u64 = 250;

pub struct Call {
    pod: usize,
    sent: u64,
    asks: Vec<Ask>,
    bytes: Vec<u8>,
    /// Once the service has taken it.
    answer: Option<Option<Vec<u8>>>,
}

impl World {
    pub fn send(&self, pod: usize, asks: Vec<Ask>) {
        if asks.is_empty() {
            return;
        }
        self.tally.borrow_mut().calls += 1;
        self.pods[pod].leases[0].borrow_mut().expect(&asks);
        let bytes = request("attache", &asks);
        self.calls.borrow_mut().push(Call { pod, sent: self.clock.get(), asks, bytes, answer: None });
    }

    pub fn serve(&self, dice: &mut Dice) {
        let mut calls = self.calls.borrow_mut();
        let open: Vec<usize> = (0..calls.len()).filter(|index| calls[*index].answer.is_none()).collect();
        if !open.is_empty() {
            let call = &mut calls[dice.one(&open)];
            let now = self.clock.get().saturating_add_signed(self.service_skew);
            call.answer = Some(self.service.borrow_mut().serve(&call.bytes, now));
        }
    }

    pub fn deliver(&self, depth: usize, dice: &mut Dice) {
        let index = {
            let calls = self.calls.borrow();
            let done: Vec<usize> = (0..calls.len()).filter(|index| calls[*index].answer.is_some()).collect();
            if done.is_empty() {
                return;
            }
            dice.one(&done)
        };
        let call = self.calls.borrow_mut().swap_remove(index);
        self.answer(call.pod, &call.asks, call.answer.flatten().as_deref(), depth);
    }

    fn answer(&self, pod: usize, asks: &[Ask], answer: Option<&[u8]>, depth: usize) {
        let view = View { world: self, pod, depth };
        let result = answered(&Around { now: self.now(pod), store: &view }, asks, answer);
        for count in &result.counts {
            self.tally.borrow_mut().dry += u64::from(count.name.ends_with("dry"));
        }
        // It may have another year than the pod: then it is as if it were not there.
        if result.notes.iter().any(|note| note.text.contains("does not answer")) {
            self.disturbed.set(true);
        }
        let again = result.notes.iter().filter(|note| note.text.contains("counted again")).count();
        self.tally.borrow_mut().counted_again += again as u64;
        assert!(again == 0 || self.forgot.get() || self.disturbed.get(), "nothing was forgotten");
        self.send(pod, result.asks);
    }

    /// A call, or its answer, does not arrive.
    pub fn lose(&self, dice: &mut Dice) {
        let count = self.calls.borrow().len() as u64;
        if count > 0 {
            let call = self.calls.borrow_mut().swap_remove(dice.below(count) as usize);
            self.tally.borrow_mut().lost += 1;
            self.fail(&call);
        }
    }

    fn fail(&self, call: &Call) {
        self.disturbed.set(true);
        self.answer(call.pod, &call.asks, None, DEEPEST);
    }

    /// Envoy ends calls whose time is up; what the service then answers reaches nobody.
    pub fn time_out(&self) {
        loop {
            let late = self.calls.borrow().iter().position(|call| call.sent + TIMEOUT < self.clock.get());
            let Some(index) = late else { return };
            let call = self.calls.borrow_mut().swap_remove(index);
            if call.answer.is_none() && self.dice.borrow_mut().below(2) == 0 {
                let now = self.clock.get().saturating_add_signed(self.service_skew);
                self.service.borrow_mut().serve(&call.bytes, now);
            }
            self.fail(&call);
        }
    }

    pub fn tick(&self, pod: usize, worker: usize, depth: usize) {
        // The worker's own, which nobody else touches meanwhile.
        let mut leases = self.pods[pod].leases[worker].take();
        let view = View { world: self, pod, depth };
        let asks = leases.tick(&Around { now: self.now(pod), store: &view });
        let probes = self.service.borrow().down;
        self.tally.borrow_mut().given_back += u64::from(!asks.is_empty() && !probes);
        let mut place = self.pods[pod].leases[worker].borrow_mut();
        let met = std::mem::replace(&mut *place, leases);
        place.join(met);
        drop(place);
        self.send(pod, asks);
    }
}
