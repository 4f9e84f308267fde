//! Budgets that are kept by who answers: a request that goes on to another target leaves their accounts for others.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::config::OnExceed;
use super::reserve::need_of;
use super::slots::Page;
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
    /// This holds of its account; or of the one of those for whom there is no room, as long as it has none of its own.
    fn is_held_by(&self, item: &Item, around: &Around<'_>) -> bool {
        let shares =
            || self.keyed.is_some_and(|keyed| item.account == keyed.shared) && !self.has_place(around);
        item.rule.moves && item.rule.name == self.rule.name && (item.account == self.account || shares())
    }
    /// Its key has an account.
    fn has_place(&self, around: &Around<'_>) -> bool {
        let page = Page::read(around.store, slots::slot(self.account));
        page.account(self.account).is_some_and(|account| account.leased > around.now)
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
    /// Holds as much as another target of the same account may use, which may be dearer, with so many tokens of answers; returns
    /// with how many it does. `None`: there is no room, and nothing has changed.
    fn refit(&mut self, around: &Around<'_>, want: &Want, output: u64, clamps: bool) -> Option<u64> {
        let Some((fixed, each)) = need_of(&self.rule, want.input.high, want) else {
            // Who only watches lets pass what has no price.
            return self.rule.shadow.then_some(output);
        };
        let needs = |output: u64| fixed.saturating_add(output.saturating_mul(each));
        if needs(output) <= self.amount {
            return Some(output);
        }
        let reach = settle::reach_ahead(around, self);
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
    /// Goes on to a target with these claims: sees to it that accounts that are held hold enough for it, reserves in those that
    /// are not, then leaves those that are none of its, which are charged with what attempts there used where the budget says so. `failed`: all of them. `None`: some budget refuses.
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
        let held = |item: &Item| moving.iter().position(|moving| moving.is_held_by(item, around));
        let places: Vec<Option<usize>> = self.items.iter().map(held).collect();
        let mut output = self.output;
        // What can be shorter comes first: the others then need less.
        for clamps in [true, false] {
            for (item, place) in self.items.iter_mut().zip(&places) {
                let moving =
                    place.and_then(|place| moving.get(place)).filter(|moving| moving.clamps == clamps);
                if moving.is_some() {
                    // Where there is no room what others hold more now is theirs until the end.
                    output = item.refit(around, want, output, clamps)?;
                }
            }
        }
        let new = moving.iter().enumerate().filter(|(at, _)| !places.contains(&Some(*at)));
        let claims: Vec<Claim> = new.map(|(_, moving)| moving.claim()).collect();
        let want = Want { output_limit: Some(output / want.answers()), ..*want };
        let Decision::Admitted(admitted) = reserve(around, &claims, &want) else { return None };
        let mut added = admitted.reservation;
        if !claims.is_empty() {
            output = output.min(added.output);
        }
        let since = u16::try_from(failed.len()).unwrap_or(u16::MAX);
        added.items.iter_mut().for_each(|item| item.since = since);
        let (mut kept, mut left) = (Vec::new(), Vec::new());
        for (item, place) in std::mem::take(&mut self.items).into_iter().zip(&places) {
            let stays = place.is_some() || !item.rule.moves;
            if stays { kept.push(item) } else { left.push(item) }
        }
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
