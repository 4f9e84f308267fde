//! Time: attempts under way whose deadlines Envoy does not know, looked at ten times a second.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use attache_gateway::exchange::MOST_KEPT;

use crate::host;
use crate::upstream::Answer;

/// Milliseconds between two looks. Limits are seconds; reading the clock for each event would cost more than the event.
const PERIOD: u32 = 100;

/// The attempts of one root context, and a clock that is as coarse as the looks.
#[derive(Default)]
pub struct Watch {
    attempts: RefCell<HashMap<u32, Weak<RefCell<Answer>>>>,
    ticking: Cell<bool>,
    /// Bytes of answers that the attempts hold, or a little more: what ended since the last look is still counted.
    kept: Cell<usize>,
    now: Cell<u64>,
}

impl Watch {
    /// Looks after an attempt until it is dropped. Returns the time.
    pub fn over(&self, id: u32, answer: &Rc<RefCell<Answer>>) {
        if let Ok(mut attempts) = self.attempts.try_borrow_mut() {
            attempts.insert(id, Rc::downgrade(answer));
        }
        if !self.ticking.replace(true) {
            host::tick_every(PERIOD);
        }
    }

    pub fn forget(&self, id: u32) {
        if let Ok(mut attempts) = self.attempts.try_borrow_mut() {
            attempts.remove(&id);
        }
    }

    /// Unix time in milliseconds, by Envoy's clock.
    pub fn now(&self) -> u64 {
        self.now.set(host::now());
        self.now.get()
    }

    /// The same as of the last look or reading.
    pub fn about_now(&self) -> u64 {
        self.now.get()
    }

    /// The attempts hold more of their answers than all together may.
    pub fn is_crowded(&self) -> bool {
        self.kept.get() > MOST_KEPT
    }

    /// What an attempt holds has changed.
    pub fn keeps(&self, before: usize, after: usize) {
        self.kept.set((self.kept.get() + after).saturating_sub(before));
    }

    pub fn tick(&self) {
        let now = self.now();
        // An attempt may end, and be forgotten, by what is done here.
        let Ok(attempts) = self.attempts.try_borrow().map(|attempts| attempts.clone()) else { return };
        if attempts.is_empty() {
            self.ticking.set(false);
            host::tick_every(0);
        }
        let mut kept = 0;
        for answer in attempts.into_values() {
            let Some(answer) = answer.upgrade() else { continue };
            if let Ok(mut answer) = answer.try_borrow_mut() {
                answer.tick(now);
                kept += answer.kept();
            }
        }
        self.kept.set(kept);
    }
}
