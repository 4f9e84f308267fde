//! One account: what was spent in the window's cells, and what is held for requests under way.

use serde::{Deserialize, Serialize};

use super::Rule;
use super::amount::Unit;
use super::fleet::Grant;
use super::window::Window;

/// Workers read the clock before they write: a moment that is so much older is the same moment.
pub(super) const STALE: u64 = 5000;
/// A reservation that lapsed is still known for so long: what it used is charged if it comes.
const LINGER: u64 = 10 * 60_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Account {
    /// When it was last looked at for good.
    seen: u64,
    /// The newest reservation's number.
    last: u64,
    /// Until then its key has a place among the budget's ([`super::keys`]).
    pub leased: u64,
    /// The begin of the period whose thresholds were told, and how many of them.
    told: (u64, u8),
    /// Cells and what was spent in each.
    spent: Vec<(u64, u64)>,
    held: Vec<Hold>,
    /// Of a budget of the fleet's.
    pub grant: Option<Grant>,
}

/// How far an account may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// To the limit.
    Limit,
    /// To the limit, and what lies beyond the grant is asked for first.
    Ask,
    /// What has been granted.
    Granted,
    /// The same and one slice more.
    Ahead,
}

/// One reservation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hold {
    number: u64,
    amount: u64,
    /// It counts until then.
    expires: u64,
    /// The cell in which the request was admitted, and which it is charged to.
    cell: u64,
}

/// How a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settling {
    Done,
    /// It was settled before, its window is over, or it lapsed long ago.
    Unknown,
}

impl Account {
    pub fn read(bytes: &[u8]) -> Account {
        postcard::from_bytes(bytes).unwrap_or_default()
    }
    pub fn write(&self) -> Vec<u8> {
        postcard::to_extend(self, Vec::with_capacity(64)).unwrap_or_default()
    }

    /// Brings it to this moment: forgets what counts no more. Returns the moment, which may be another worker's.
    pub fn roll(&mut self, rule: &Rule, now: u64) -> u64 {
        let now = if self.seen > now && self.seen - now <= STALE { self.seen } else { now };
        if now < self.seen {
            self.set_back(rule.window, now);
        }
        self.seen = now;
        let oldest = rule.window.oldest(now);
        if rule.unit == Unit::Requests {
            // Nobody knows how it went, but it was sent.
            let lapsed: Vec<Hold> = self.held.extract_if(.., |hold| hold.expires <= now).collect();
            lapsed.iter().for_each(|hold| self.spend(hold.cell, hold.amount));
        }
        self.spent.retain(|(cell, _)| *cell >= oldest);
        // Where nothing is charged there is nothing to be late with.
        let linger = if rule.unit == Unit::Concurrent { 0 } else { LINGER };
        self.held.retain(|hold| hold.cell >= oldest && hold.expires.saturating_add(linger) > now);
        match rule.fleet {
            Some(_) => {
                let used = self.used();
                self.grant.get_or_insert_default().roll(rule, now, used);
            }
            None => self.grant = None,
        }
        now
    }

    /// Somebody set the clock back. What counted goes on to count, from now on.
    fn set_back(&mut self, window: Window, now: u64) {
        let (by, cell) = (self.seen - now, window.cell(now));
        let oldest = window.oldest(self.seen);
        let counted = self.spent.iter().filter(|(at, _)| *at >= oldest).map(|(_, spent)| *spent);
        let sum = counted.fold(0, u64::saturating_add);
        self.spent = if sum > 0 { vec![(cell, sum)] } else { Vec::new() };
        self.held.retain(|hold| hold.cell >= oldest);
        for hold in &mut self.held {
            hold.expires = hold.expires.saturating_sub(by);
            hold.cell = cell;
        }
        self.told.0 = window.period(now).0;
    }

    pub fn spent(&self) -> u64 {
        self.spent.iter().fold(0, |sum, (_, spent)| sum.saturating_add(*spent))
    }
    pub fn held(&self) -> u64 {
        self.live().fold(0, |sum, hold| sum.saturating_add(hold.amount))
    }
    fn live(&self) -> impl Iterator<Item = &Hold> {
        self.held.iter().filter(|hold| hold.expires > self.seen)
    }
    pub fn used(&self) -> u64 {
        self.spent().saturating_add(self.held())
    }
    /// What is left. Call [`Account::roll`] first; so with all below.
    pub fn left(&self, rule: &Rule, reach: Reach) -> u64 {
        let granted = self.grant.as_ref().map_or(0, Grant::covers);
        let reached = match reach {
            Reach::Limit | Reach::Ask => rule.limit,
            Reach::Granted => granted,
            Reach::Ahead => granted.saturating_add(self.grant.as_ref().map_or(0, |grant| grant.slice(rule))),
        };
        reached.min(rule.limit).saturating_sub(self.used())
    }
    /// What is left to the whole fleet, as far as this pod knows.
    pub fn remaining(&self, rule: &Rule) -> u64 {
        let own = self.left(rule, Reach::Granted);
        let fleet = self.grant.as_ref().map_or(0, |grant| grant.known_free(rule).saturating_add(own));
        self.left(rule, Reach::Limit).min(if rule.fleet.is_some() { fleet } else { u64::MAX })
    }
    /// What must be granted first, that so much more may be held.
    pub fn lacks(&self, amount: u64) -> u64 {
        let covers = self.grant.as_ref().map_or(0, Grant::covers);
        self.used().saturating_add(amount).saturating_sub(covers)
    }
    /// Milliseconds since it was written last.
    pub fn idle(&self, now: u64) -> u64 {
        now.saturating_sub(self.seen)
    }

    /// Milliseconds until `amount` fits beside what is spent, if nothing else happens; `None`: it never does.
    pub fn wait(&self, rule: &Rule, amount: u64) -> Option<u64> {
        let room = rule.limit.checked_sub(amount)?;
        // In whatever order they came in.
        let mut cells = self.spent.clone();
        cells.sort_unstable();
        let mut spent = self.spent();
        let mut until = self.seen;
        for (cell, of_cell) in cells {
            if spent <= room {
                break;
            }
            spent -= of_cell.min(spent);
            until = until.max(rule.window.end(cell));
        }
        Some(until - self.seen)
    }

    /// Holds an amount, and returns the reservation's number: no other of this account ever has it.
    pub fn hold(&mut self, rule: &Rule, amount: u64, expires: u64) -> u64 {
        // An account that was forgotten and made anew goes on from its clock, which no one outruns by 256 in a millisecond.
        let number = self.last.saturating_add(1).max(self.seen << 8);
        self.last = number;
        self.held.push(Hold { number, amount, expires, cell: rule.window.cell(self.seen) });
        number
    }

    /// Ends a reservation, once: what it held is free, and what it used is spent.
    pub fn settle(&mut self, number: u64, charge: u64) -> Settling {
        let Some(index) = self.held.iter().position(|hold| hold.number == number) else {
            return Settling::Unknown;
        };
        let hold = self.held.swap_remove(index);
        self.spend(hold.cell, charge);
        Settling::Done
    }

    /// Lets a reservation hold another amount. `None`: it is not known.
    pub fn change(&mut self, number: u64, amount: u64) -> Option<()> {
        let hold = self.held.iter_mut().find(|hold| hold.number == number)?;
        hold.amount = amount;
        Some(())
    }

    /// What a reservation holds now; nothing once it has lapsed.
    pub fn holds(&self, number: u64) -> Option<u64> {
        self.live().find(|hold| hold.number == number).map(|hold| hold.amount)
    }

    fn spend(&mut self, cell: u64, amount: u64) {
        if amount == 0 {
            return;
        }
        match self.spent.iter_mut().find(|(at, _)| *at == cell) {
            Some((_, spent)) => *spent = spent.saturating_add(amount),
            None => self.spent.push((cell, amount)),
        }
    }

    /// Thresholds crossed since they were last told in this period.
    pub fn crossed(&mut self, rule: &Rule) -> Vec<u16> {
        let held = if rule.unit.certain() { self.held() } else { 0 };
        // What others of the fleet have taken counts as spent.
        let others = rule.limit.saturating_sub(self.used()).saturating_sub(self.remaining(rule));
        let counted = u128::from(self.spent().saturating_add(held).saturating_add(others)) * 100;
        let reached = |threshold: &&u16| counted >= u128::from(**threshold) * u128::from(rule.limit);
        let reached = rule.thresholds.iter().filter(reached).count();
        let period = rule.window.period(self.seen).0;
        let before = if self.told.0 == period { usize::from(self.told.1) } else { 0 };
        if reached <= before {
            return Vec::new();
        }
        self.told = (period, u8::try_from(reached).unwrap_or(u8::MAX));
        rule.thresholds.get(before..reached).unwrap_or_default().to_vec()
    }

    /// From when on it is as if it had never been.
    pub fn until(&self, rule: &Rule) -> u64 {
        let told = if self.told.1 > 0 { rule.window.period(self.told.0).1 } else { 0 };
        // Its clock and what was told are not worth a longer lease.
        let told = told.max(self.seen).min(if self.leased > 0 { self.leased } else { u64::MAX });
        let cells = self.spent.iter().map(|(cell, _)| *cell).chain(self.held.iter().map(|hold| hold.cell));
        let counts = match rule.window {
            Window::Open => self.held.iter().map(|hold| hold.expires).max(),
            window => cells.max().map(|cell| window.end(cell)),
        };
        let granted = self.grant.filter(|grant| grant.covers() > 0 || grant.asking > self.seen);
        counts.unwrap_or(0).max(told).max(granted.map_or(0, |grant| grant.counter.end))
    }
}
