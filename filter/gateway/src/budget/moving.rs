//! Budgets that are kept by who answers: a request that goes on to another target leaves their accounts for others.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::config::OnExceed;
use super::{Claim, Decision, Keyed, Reservation, Rule, Settled, Used, Want, reserve};
use crate::outcome::Around;

/// A claim of such a budget, as it travels in the ticket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moving {
    rule: Rc<Rule>,
    account: u64,
    whose: Option<Rc<str>>,
    keyed: Option<Keyed>,
    clamps: bool,
}

impl Moving {
    pub(super) fn new(claim: Claim) -> Moving {
        let clamps = claim.on_exceed == OnExceed::Clamp;
        let Claim { rule, on_exceed: _, account, whose, keyed, per_target: _ } = claim;
        Moving { rule, account, whose, keyed, clamps }
    }
    /// This is its account, or the one of those for whom there was no room.
    fn is_at(&self, account: u64) -> bool {
        account == self.account || self.keyed.is_some_and(|keyed| account == keyed.shared)
    }
    /// A target under way neither waits nor becomes another one: what does not fit is refused.
    fn claim(&self) -> Claim {
        let on_exceed = if self.clamps { OnExceed::Clamp } else { OnExceed::Reject };
        Claim {
            rule: self.rule.clone(),
            on_exceed,
            account: self.account,
            whose: self.whose.clone(),
            keyed: self.keyed,
            per_target: true,
        }
    }
}

impl Reservation {
    /// A target with these claims has the accounts that are held already.
    pub fn stays(&self, moving: &[Moving]) -> bool {
        let here = || self.items.iter().filter(|item| item.rule.moves);
        here().count() == moving.len()
            && moving.iter().all(|other| {
                here().any(|item| other.is_at(item.account) && item.rule.name == other.rule.name)
            })
    }

    /// Goes on to a target with other accounts: reserves there, then leaves those before, which are charged with what attempts
    /// there used where the budget says so. `None`: some budget refuses, and nothing has changed.
    pub fn follow(
        &mut self,
        around: &Around<'_>,
        moving: &[Moving],
        want: &Want,
        failed: &[Used],
    ) -> Option<Settled> {
        let claims: Vec<Claim> = moving.iter().map(Moving::claim).collect();
        let Decision::Admitted(admitted) = reserve(around, &claims, want) else { return None };
        let (left, kept) = std::mem::take(&mut self.items).into_iter().partition(|item| item.rule.moves);
        let left = Reservation { output: 0, items: left };
        self.items = kept;
        self.items.extend(admitted.reservation.items);
        self.items.sort_by_key(|item| super::slots::slot(item.account));
        if !moving.is_empty() {
            self.output = self.output.min(admitted.reservation.output);
        }
        let mut settled = left.settle(around, &Used::default(), failed);
        settled.crossed.extend(admitted.crossed);
        Some(settled)
    }
}
