//! A request under way: how much more it may answer, and what it used in the end.

use std::rc::Rc;

use super::account::{Account, Reach, Settling};
use super::amount::{Unit, Used, charge, need};
use super::fleet::Link;
use super::reserve::rates;
use super::slots::{self, Page, slot};
use super::{Crossed, Item, Reservation, Rule, Standing};
use crate::outcome::Around;

/// What came of the end of a reservation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settled {
    pub crossed: Vec<Crossed>,
    /// Budgets in which it was not found: it was settled before, or its window is over.
    pub unknown: Vec<String>,
    /// Budgets in which it used more than it held, and how much more.
    pub beyond: Vec<(String, u64)>,
    /// Budgets in dollars that were charged all that was held, since nobody knows what it cost.
    pub unpriced: Vec<String>,
    /// Budgets that could not be written; there it lapses.
    pub lost: Vec<String>,
    /// Budgets in which it goes on in an account that it shares ([`super::Admitted::shared`]).
    pub shared: Vec<String>,
}

/// An account to be written.
type Changed = Vec<(u64, Rc<Rule>, Account)>;

impl Reservation {
    /// Some budget ends a stream that uses more than it held.
    pub fn stops(&self) -> bool {
        self.items.iter().any(|item| item.rule.stops())
    }

    /// How many tokens of its answers it used more than it held; nothing where no budget ends a stream for it.
    pub fn over(&self, so_far: &Used) -> u64 {
        self.items.iter().filter_map(|item| item.over(so_far)).max().unwrap_or_default()
    }

    /// Names of the budgets of which it used more than it held.
    pub fn stopping(&self, so_far: &Used) -> Vec<String> {
        let over = |item: &&Item| item.over(so_far).is_some_and(|over| over > 0);
        self.items.iter().filter(over).map(|item| item.rule.name.clone()).collect()
    }

    /// Holds more, for this many more tokens of its answers or as many as every budget has left. Returns for how many;
    /// none once its window is over or it has lapsed.
    pub fn extend(&mut self, around: &Around<'_>, more: u64, so_far: &Used) -> u64 {
        let each = |item: &Item| {
            need(item.rule.unit, 0, rates(so_far.rates.as_ref(), &item.rule)).map_or(0, |(_, each)| each)
        };
        let mut granted = more;
        let before: Vec<u64> = self.items.iter().map(|item| item.amount).collect();
        for item in self.items.iter_mut().filter(|item| each(item) > 0) {
            match grow(around, item, granted, each(item)) {
                Some(grown) => {
                    granted = grown;
                    item.amount = item.amount.saturating_add(grown.saturating_mul(each(item)));
                }
                None if item.rule.shadow => {}
                None => granted = 0,
            }
        }
        // What one had left and another had not goes back.
        for (item, before) in self.items.iter_mut().zip(before) {
            let wanted = before.saturating_add(granted.saturating_mul(each(item)));
            if item.amount > wanted {
                item.amount = wanted;
                alter(around, item, |account| account.change(item.number, item.held()));
            }
        }
        self.output = self.output.saturating_add(granted);
        granted
    }

    /// Another attempt is to follow one that used this. Where the budget charges it, it is held beside what the next may use.
    /// `false`: some budget has no room for both, and nothing has changed.
    pub fn keep(&mut self, around: &Around<'_>, used: &Used) -> bool {
        let mut kept: Vec<u64> = Vec::with_capacity(self.items.len());
        for item in &self.items {
            match item.keep(around, used) {
                Some(more) => kept.push(more),
                None => break,
            }
        }
        let all = kept.len() == self.items.len();
        for (item, more) in self.items.iter_mut().zip(kept).filter(|(_, more)| *more > 0) {
            if all {
                item.wasted = item.wasted.saturating_add(more);
            } else {
                alter(around, item, |account| account.change(item.number, item.held()));
            }
        }
        all
    }

    /// Charges what the answer and the attempts that failed before it used, and frees the rest. A second time it does nothing.
    pub fn settle(&self, around: &Around<'_>, used: &Used, failed: &[Used]) -> Settled {
        let mut settled = Settled::default();
        self.end(around, &mut settled, |item, settled| {
            let unit = item.rule.unit;
            let one = |used: &Used| charge(unit, used, rates(used.rates.as_ref(), &item.rule));
            let charged = item.rule.charge_failed && !unit.certain();
            let failed = failed.get(usize::from(item.since)..).filter(|_| charged).unwrap_or_default();
            let all = [used].into_iter().chain(failed);
            let sum = all.map(one).try_fold(0u64, |sum, one| Some(sum.saturating_add(one?)));
            let Some(sum) = sum else {
                settled.unpriced.push(item.rule.name.clone());
                return item.held();
            };
            if sum > item.held() {
                settled.beyond.push((item.rule.name.clone(), sum - item.held()));
            }
            sum
        });
        settled
    }

    /// Frees all of it: the request was never sent.
    pub fn release(&self, around: &Around<'_>) -> Settled {
        let mut settled = Settled::default();
        self.end(around, &mut settled, |_, _| 0);
        settled
    }

    /// Ends it in each row of accounts with one write.
    fn end(
        &self,
        around: &Around<'_>,
        settled: &mut Settled,
        mut charge: impl FnMut(&Item, &mut Settled) -> u64,
    ) {
        let charges: Vec<u64> = self.items.iter().map(|item| charge(item, settled)).collect();
        let both: Vec<(&Item, u64)> = self.items.iter().zip(charges).collect();
        for row in both.chunk_by(|(one, _), (other, _)| slot(one.account) == slot(other.account)) {
            let Some((first, _)) = row.first() else { continue };
            let done = slots::update(around.store, slot(first.account), around.now, |page| {
                end_row(page, row, around.now)
            });
            match done {
                Some(done) => {
                    settled.crossed.extend(done.crossed);
                    settled.unknown.extend(done.unknown);
                }
                None => settled.lost.extend(row.iter().map(|(item, _)| item.rule.name.clone())),
            }
        }
        settled.beyond.retain(|(name, _)| !settled.unknown.contains(name));
        settled.unpriced.retain(|name| !settled.unknown.contains(name));
    }
}

impl Item {
    fn held(&self) -> u64 {
        self.amount.saturating_add(self.wasted)
    }

    /// Holds what a failed attempt is charged with, too, and returns how much that is; `None`: there is no room.
    fn keep(&self, around: &Around<'_>, used: &Used) -> Option<u64> {
        let more = charge(self.rule.unit, used, rates(used.rates.as_ref(), &self.rule)).unwrap_or_default();
        if more == 0 || !self.rule.charge_failed || self.rule.unit.certain() {
            return Some(0);
        }
        let reach = reach(around, self);
        let fits = alter(around, self, |account| {
            let held = account.holds(self.number)?;
            let fits = self.rule.shadow || account.left(&self.rule, reach) >= more;
            if fits {
                account.change(self.number, held.saturating_add(more))?;
            }
            Some(fits)
        });
        match fits {
            Some(true) => Some(more),
            Some(false) => None,
            // It holds nothing any more: its window is over.
            None => Some(0),
        }
    }

    /// Tokens of answers that were used beyond what is held; `None`: it ends no stream.
    fn over(&self, so_far: &Used) -> Option<u64> {
        let rates = rates(so_far.rates.as_ref(), &self.rule);
        let (_, each) = need(self.rule.unit, 0, rates)?;
        let ends = self.rule.stops() && each > 0;
        let beyond = charge(self.rule.unit, so_far, rates)?.saturating_sub(self.amount);
        ends.then(|| beyond.div_ceil(each))
    }
}

fn end_row(page: &Page, row: &[(&Item, u64)], now: u64) -> (Changed, Settled) {
    let mut changed = Vec::new();
    let mut settled = Settled::default();
    for (item, charge) in row {
        let mut account = page.account(item.account).unwrap_or_default();
        account.roll(&item.rule, now);
        if account.settle(item.number, *charge) == Settling::Unknown {
            settled.unknown.push(item.rule.name.clone());
            continue;
        }
        settled.crossed.extend(Crossed::all(account.crossed(&item.rule), &item.rule, &item.whose));
        changed.push((item.account, item.rule.clone(), account));
    }
    (changed, settled)
}

/// How much of its limit a request under way may have: it does not wait for the fleet, and has what this pod was granted.
pub(super) fn reach(around: &Around<'_>, item: &Item) -> Reach {
    let closed = |fleet: &super::Leased| fleet.closed || !Link::read(around.store).is_down(around.now);
    if item.rule.fleet.as_ref().is_some_and(closed) { Reach::Granted } else { Reach::Limit }
}

/// The same for a request that goes on to another target: it may be a slice ahead of what was granted, as where it is new.
pub(super) fn reach_ahead(around: &Around<'_>, item: &Item) -> Reach {
    let is_up = item.rule.fleet.is_some() && !Link::read(around.store).is_down(around.now);
    let dry = || {
        let account = slots::Page::read(around.store, slot(item.account)).account(item.account);
        account.and_then(|account| account.grant).is_some_and(|grant| grant.dry > around.now)
    };
    if is_up && !dry() { Reach::Ahead } else { reach(around, item) }
}

/// Lets an item hold `each` for up to this many tokens more, and returns for how many; `None`: it holds nothing any more.
fn grow(around: &Around<'_>, item: &Item, tokens: u64, each: u64) -> Option<u64> {
    let reach = reach(around, item);
    alter(around, item, |account| {
        let held = account.holds(item.number)?;
        let left = if item.rule.shadow { u64::MAX } else { account.left(&item.rule, reach) };
        let tokens = left.checked_div(each)?.min(tokens);
        account.change(item.number, held.saturating_add(tokens.saturating_mul(each)))?;
        Some(tokens)
    })
}

pub(super) fn alter<R>(
    around: &Around<'_>,
    item: &Item,
    mut change: impl FnMut(&mut Account) -> Option<R>,
) -> Option<R> {
    slots::update(around.store, slot(item.account), around.now, |page| {
        let mut account = page.account(item.account).unwrap_or_default();
        account.roll(&item.rule, around.now);
        match change(&mut account) {
            Some(result) => (vec![(item.account, item.rule.clone(), account)], Some(result)),
            None => (Vec::new(), None),
        }
    })?
}

impl Account {
    pub(super) fn standing(&self, rule: &Rule, now: u64) -> Standing {
        Standing {
            budget: rule.name.clone(),
            unit: rule.unit,
            limit: rule.limit,
            spent: self.spent(),
            held: self.held(),
            remaining: self.remaining(rule),
            shadow: rule.shadow,
            reset: (rule.unit != Unit::Concurrent)
                .then(|| rule.window.end(rule.window.cell(now)).saturating_sub(now)),
        }
    }
}
