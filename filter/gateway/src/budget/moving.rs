//! Budgets that are kept by who answers: a request that goes on to another target leaves their accounts for others.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::config::OnExceed;
use super::reserve::need_of;
use super::{Claim, Decision, Item, Keyed, Reservation, Rule, Settled, Used, Want, reserve, settle, slots};
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
    /// It may end a stream.
    pub fn stops(&self) -> bool {
        self.rule.stops()
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

impl Item {
    /// The target's account is held already.
    fn is_of(&self, moving: &Moving) -> bool {
        self.rule.moves && self.rule.name == moving.rule.name && moving.is_at(self.account)
    }

    /// Holds as much as another target of the same account may use, which may be dearer, with so many tokens of answers; returns
    /// with how many it does. `None`: there is no room, and nothing has changed.
    fn refit(&mut self, around: &Around<'_>, want: &Want, output: u64, clamps: bool) -> Option<u64> {
        let (fixed, each) = need_of(&self.rule, want.input.high, want)?;
        let needs = |output: u64| fixed.saturating_add(output.saturating_mul(each));
        if needs(output) <= self.amount {
            return Some(output);
        }
        let reach = settle::reach(around, self);
        let fitted = settle::alter(around, self, |account| {
            let held = account.holds(self.number)?;
            let left = if self.rule.shadow { u64::MAX } else { account.left(&self.rule, reach) };
            let room = left.saturating_add(self.amount);
            let most = || room.checked_sub(fixed)?.checked_div(each).filter(|_| clamps);
            let most = if needs(output) <= room { Some(output) } else { most().map(|most| most.min(output)) };
            let most = most.map(|most| most - most % want.answers()).filter(|most| *most > 0 || output == 0);
            let amount = most.map(|most| needs(most).max(self.amount));
            if let Some(amount) = amount {
                account.change(self.number, held.saturating_add(amount - self.amount))?;
            }
            Some(most.zip(amount))
        });
        match fitted {
            Some(fitted) => {
                let (output, amount) = fitted?;
                self.amount = amount;
                Some(output)
            }
            // It holds nothing any more: its window is over.
            None => Some(output),
        }
    }
}

impl Reservation {
    /// Goes on to a target with these claims: reserves in the accounts that are not held yet, sees to it that those that are
    /// hold enough for it, then leaves those that are none of its, which are charged with what attempts there used where the
    /// budget says so. `failed`: all of them. `None`: some budget refuses.
    pub fn follow(
        &mut self,
        around: &Around<'_>,
        moving: &[Moving],
        want: &Want,
        failed: &[Used],
    ) -> Option<Settled> {
        if moving.is_empty() && !self.items.iter().any(|item| item.rule.moves) {
            return Some(Settled::default());
        }
        let new = moving.iter().filter(|moving| !self.items.iter().any(|item| item.is_of(moving)));
        let claims: Vec<Claim> = new.map(Moving::claim).collect();
        let Decision::Admitted(admitted) = reserve(around, &claims, want) else { return None };
        let (mut added, mut output) = (admitted.reservation, self.output);
        if !claims.is_empty() {
            output = output.min(added.output);
        }
        for item in &mut self.items {
            let Some(moving) = moving.iter().find(|moving| item.is_of(moving)) else { continue };
            let Some(fitted) = item.refit(around, want, output, moving.clamps) else {
                // What others hold more now is theirs until the end.
                added.release(around);
                return None;
            };
            output = fitted;
        }
        let since = u16::try_from(failed.len()).unwrap_or(u16::MAX);
        added.items.iter_mut().for_each(|item| item.since = since);
        let stays = |item: &Item| !item.rule.moves || moving.iter().any(|moving| item.is_of(moving));
        let (kept, left) = std::mem::take(&mut self.items).into_iter().partition(stays);
        self.items = kept;
        self.items.extend(added.items);
        self.items.sort_by_key(|item| slots::slot(item.account));
        self.output = output;
        let left = Reservation { output: 0, items: left };
        let mut settled = left.settle(around, &Used::default(), failed);
        settled.crossed.extend(admitted.crossed);
        settled.shared = admitted.shared;
        Some(settled)
    }
}
