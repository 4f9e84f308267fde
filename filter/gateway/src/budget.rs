//! Budgets: accounts in shared data, from which a request reserves what it may use before it is sent, and to which it
//! gives back what it did not use.
//!
//! [`Budgets::claims`] says which accounts a request concerns, [`reserve`] holds what it may use in each or in none,
//! [`Reservation::over`] and [`Reservation::extend`] watch its answer, [`Reservation::settle`] charges what it used. A
//! reservation needs no configuration: it travels in the ticket. One of which nothing more is heard (the VM died) lapses.
//!
//! - For every account, what is spent and held together never exceeds the limit, whichever workers race: each change is one
//!   compare-and-set. Only a request that uses more than it held (its estimate was wrong) takes an account beyond it.
//! - A request is charged to the window in which it was admitted, however long it takes, so no window's end loses or
//!   doubles anything; what it still holds then counts no more.
//! - A request that several budgets concern is seen by others while it is being admitted: what it holds so far counts, and
//!   is given back if another budget refuses. It is looked at in all before it is written to any, so that this is rare.
//! - What was spent outlives a configuration, under the budget's name, its unit and the key; a new limit holds from the
//!   next request on, and for a request under way the old one.
//! - There are never more accounts than `maxKeys` for each budget (`budget/keys.rs`), in a fixed number of values
//!   (`budget/slots.rs`).
//! - The clock may go back: up to 5 s are taken for a worker's delay, more for somebody's doing, and then
//!   what counted goes on to count from there.

mod account;
mod amount;
mod check;
pub mod config;
mod fact;
pub mod fleet;
mod hash;
mod headers;
mod keys;
mod moving;
mod reserve;
mod settle;
mod slots;
#[cfg(test)]
mod tests;
mod window;

use std::rc::Rc;

use serde::{Deserialize, Serialize};

pub use self::amount::{Rates, Unit, Used, Want};
pub use self::check::Known;
use self::config::{BudgetConfig, OnExceed, OnFull};
pub use self::fact::{Fact, Facts};
pub use self::fleet::{Ask, Leased};
pub(crate) use self::hash::siphash;
pub use self::headers::{Dollars, headers};
pub use self::moving::Moving;
pub use self::reserve::reserve;
pub use self::settle::Settled;
pub use self::window::{Calendar, Window};
use crate::config::Fault;
use crate::gateway::Glob;
use crate::outcome::Around;
use crate::store::Store;

/// The budgets of a configuration.
#[derive(Debug, Default)]
pub struct Budgets {
    budgets: Vec<Budget>,
    needs: Vec<Fact>,
    /// Some budget's account depends on who answers.
    moves: bool,
}

#[derive(Debug)]
struct Budget {
    rule: Rc<Rule>,
    on_exceed: OnExceed,
    per: Vec<Fact>,
    globs: Vec<(Fact, Vec<Glob>)>,
    values: Vec<(Fact, Vec<String>)>,
    most: u64,
    on_full: OnFull,
    /// Of its name and unit.
    number: u64,
}

/// What of a budget travels with a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub name: String,
    pub unit: Unit,
    pub limit: u64,
    pub window: Window,
    thresholds: Vec<u16>,
    pub shadow: bool,
    charge_failed: bool,
    default_rates: Option<Rates>,
    /// All pods of a fleet share it.
    fleet: Option<Leased>,
    /// Its account depends on who answers: a request that goes on to another target may leave it for another one.
    moves: bool,
}

impl Rule {
    /// A stream that uses more than it held of it is ended.
    fn stops(&self) -> bool {
        self.unit.clamps() && !self.shadow
    }
}

/// An account that a request concerns.
#[derive(Clone, Debug)]
pub struct Claim {
    rule: Rc<Rule>,
    on_exceed: OnExceed,
    account: u64,
    /// The same for the operator ([`Crossed::whose`]).
    whose: Option<Rc<str>>,
    /// `None`: the budget has one account.
    keyed: Option<Keyed>,
    /// Who answers has an account of its own.
    per_target: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Keyed {
    budget: u64,
    /// The account of those for whom there is no room.
    shared: u64,
    most: u64,
    on_full: OnFull,
}

/// What became of a request's claims.
#[derive(Debug, PartialEq)]
pub enum Decision {
    Admitted(Box<Admitted>),
    /// It depends on how many tokens the prompt has exactly: count them, and ask again.
    CountFirst,
    Refused(Refused),
    /// It is to be planned as if this model had been asked for, and asked again with [`Want::downgraded`].
    Downgrade {
        budget: String,
        to: String,
    },
    /// It is to be asked again after so many milliseconds; `until` (Unix time) is when it will be refused.
    Wait {
        budget: String,
        again: u64,
        until: u64,
    },
    /// The fleet's service must grant more first. These asks are to be sent; there are none where another worker has. It is
    /// to be asked again after so many milliseconds, and at once when an answer has come.
    Lease {
        budget: String,
        asks: Vec<Ask>,
        again: u64,
    },
}

#[derive(Debug, PartialEq)]
pub struct Admitted {
    pub reservation: Reservation,
    /// The most tokens that each answer may have, where that is less than it would have been.
    pub clamp: Option<u64>,
    /// The budget that says so.
    pub clamped_by: Option<String>,
    pub crossed: Vec<Crossed>,
    /// Budgets in shadow that would have refused it, or limited its answer.
    pub shadowed: Vec<String>,
    /// Budgets with no room for its key, where it shares an account with others.
    pub shared: Vec<String>,
    /// How its budgets stand, itself counted.
    pub standings: Vec<Standing>,
    /// To be sent to the fleet's service; the request does not wait for them.
    pub asks: Vec<Ask>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    pub budget: String,
    pub unit: Unit,
    pub why: Why,
    pub limit: u64,
    pub remaining: u64,
    /// Milliseconds; `None`: it would never fit.
    pub retry_after: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// What is left is too little.
    Spent,
    /// It asks for more than the whole limit.
    TooLarge,
    /// Its key has no account, and there is no room for another.
    Full,
    /// The limit is in dollars, and the model's price is not known.
    Unpriced,
    /// Too many workers wrote at the same time.
    Busy,
    /// The fleet's service does not answer, and what it granted before is too little.
    Unavailable,
}

/// A threshold that was reached, told by the one write that reached it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossed {
    pub budget: String,
    /// For the operator, where the budget has several accounts: what `per` names of its requests.
    pub whose: Option<Rc<str>>,
    /// Of the limit.
    pub per_cent: u16,
}

/// How an account stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub budget: String,
    pub unit: Unit,
    pub limit: u64,
    pub spent: u64,
    /// For requests under way.
    pub held: u64,
    pub remaining: u64,
    /// Milliseconds until what is spent now counts no more; `None`: there is no window.
    pub reset: Option<u64>,
    /// It only watches.
    pub shadow: bool,
}

/// What a request holds. It goes into the ticket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// Tokens of all its answers together.
    pub output: u64,
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    rule: Rc<Rule>,
    account: u64,
    whose: Option<Rc<str>>,
    number: u64,
    /// For the attempt under way.
    amount: u64,
    /// For those that failed, beside it.
    wasted: u64,
    /// How many attempts had failed before it came to this account.
    since: u16,
}

/// Makes sure that all values are there. Before the first request: Envoy compares versions only of keys that exist.
pub fn prepare(store: &dyn Store) {
    slots::prepare(store);
    keys::prepare(store);
    fleet::prepare(store);
}

impl Budgets {
    /// What was typed under `budgets`, with every fault of it. Entries with faults in `faults` already are passed over.
    pub fn new(typed: &[BudgetConfig], known: &Known<'_>, faults: &mut Vec<Fault>) -> Budgets {
        let budgets = check::budgets(typed, known, faults);
        let mut needs: Vec<Fact> = Vec::new();
        for budget in &budgets {
            let matched = budget.globs.iter().map(|(fact, _)| fact);
            let values = budget.values.iter().map(|(fact, _)| fact);
            needs.extend(budget.per.iter().chain(matched).chain(values).cloned());
        }
        needs.sort_unstable();
        needs.dedup();
        let moves = budgets.iter().any(|budget| budget.rule.moves);
        Budgets { budgets, needs, moves }
    }

    /// Whether [`Budgets::moving`] may name any.
    pub fn moves(&self) -> bool {
        self.moves
    }

    pub fn is_empty(&self) -> bool {
        self.budgets.is_empty()
    }

    /// Budgets for which a request may wait longer than so many milliseconds.
    pub fn queue_within(&self, limit: u64) -> Vec<Fault> {
        let longer = self.budgets.iter().enumerate().filter_map(|(at, budget)| {
            let OnExceed::Queue(wait) = &budget.on_exceed else { return None };
            let message = format!(
                "a request is kept for {} s at most; the chart's `queueLimitSeconds` says so",
                limit / 1000
            );
            (wait.millis > limit).then(|| Fault::new(format!("budgets[{at}].onExceed.queue"), message))
        });
        longer.collect()
    }

    /// What [`Budgets::claims`] may ask for.
    pub fn needs(&self) -> &[Fact] {
        &self.needs
    }

    /// The accounts that a request concerns.
    pub fn claims(&self, facts: &dyn Facts) -> Vec<Claim> {
        self.claims_of(facts, &|_| true)
    }

    /// Those of them that hang on the target, which `facts` name.
    pub fn moving(&self, facts: &dyn Facts) -> Vec<Moving> {
        let claims = self.claims_of(facts, &|budget| budget.rule.moves);
        claims.into_iter().map(Moving::new).collect()
    }

    fn claims_of(&self, facts: &dyn Facts, wanted: &dyn Fn(&Budget) -> bool) -> Vec<Claim> {
        if self.budgets.is_empty() {
            return Vec::new();
        }
        let known: Vec<_> =
            self.needs.iter().map(|fact| (fact, facts.fact(fact).map(|value| fact.plain(value)))).collect();
        let value =
            |fact: &Fact| known.iter().find(|(name, _)| *name == fact).and_then(|(_, v)| v.as_deref());
        let wanted = self.budgets.iter().filter(|budget| wanted(budget));
        wanted.filter_map(|budget| budget.claim(&value)).collect()
    }
}

impl Budget {
    fn claim<'v>(&self, value: &dyn Fn(&Fact) -> Option<&'v str>) -> Option<Claim> {
        let globs = |(fact, globs): &(Fact, Vec<Glob>)| {
            value(fact).is_some_and(|value| globs.iter().any(|glob| glob.matches(value)))
        };
        let fixed = |(fact, values): &(Fact, Vec<String>)| {
            value(fact).is_some_and(|value| values.iter().any(|one| one == value))
        };
        if !(self.globs.iter().all(globs) && self.values.iter().all(fixed)) {
            return None;
        }
        let number = self.number.to_le_bytes();
        let (rule, on_exceed) = (self.rule.clone(), self.on_exceed.clone());
        if self.per.is_empty() {
            let account = hash::siphash(&[b"all", &number]);
            return Some(Claim { rule, on_exceed, account, whose: None, keyed: None, per_target: false });
        }
        let mut parts: Vec<&[u8]> = vec![b"key", &number];
        for fact in &self.per {
            let (mark, value): (&[u8], _) = value(fact).map_or((b"-", ""), |value| (b"=", value));
            parts.extend([mark, value.as_bytes()]);
        }
        let whose = self.per.iter().map(|fact| fact.told(value(fact))).collect::<Vec<_>>().join(", ");
        let keyed = Keyed {
            budget: self.number,
            shared: hash::siphash(&[b"shared", &number]),
            most: self.most,
            on_full: self.on_full,
        };
        let per_target = self.per.iter().any(|fact| matches!(fact, Fact::Model | Fact::Provider));
        Some(Claim {
            rule,
            on_exceed,
            account: hash::siphash(&parts),
            whose: Some(whose.into()),
            keyed: Some(keyed),
            per_target,
        })
    }
}

impl Crossed {
    fn all<'c>(
        per_cents: Vec<u16>,
        rule: &'c Rule,
        whose: &'c Option<Rc<str>>,
    ) -> impl Iterator<Item = Crossed> + 'c {
        let crossed = |per_cent| Crossed { budget: rule.name.clone(), whose: whose.clone(), per_cent };
        per_cents.into_iter().map(crossed)
    }
}

impl Claim {
    pub fn budget(&self) -> &str {
        &self.rule.name
    }
    pub fn account(&self) -> u64 {
        self.account
    }
    /// It is of this budget, which has an account for each of those who may answer.
    pub fn is_per_target_as(&self, budget: &str) -> bool {
        self.per_target && self.rule.name == budget
    }
    /// Its limit is in dollars, and it neither has prices of its own for models of unknown price nor only watches.
    pub fn needs_prices(&self) -> bool {
        self.rule.unit == Unit::Usd && self.rule.default_rates.is_none() && !self.rule.shadow
    }
    /// How many tokens a prompt has makes a difference.
    pub fn counts_tokens(&self) -> bool {
        !self.rule.unit.certain() && self.rule.unit != Unit::OutputTokens
    }
}

/// How the accounts of these claims stand; nothing is written.
pub fn standings(around: &Around<'_>, claims: &[Claim]) -> Vec<Standing> {
    let stand = |claim: &Claim| {
        let page = slots::Page::read(around.store, slots::slot(claim.account));
        let mut account = page.account(claim.account).unwrap_or_default();
        let now = account.roll(&claim.rule, around.now);
        account.standing(&claim.rule, now)
    };
    claims.iter().map(stand).collect()
}
