//! Limits that all pods of a fleet share, kept by Envoy's rate-limit service: a pod takes a slice of the limit, spends it
//! by itself, and takes the next.
//!
//! [`super::reserve`] says what must be asked for first ([`super::Decision::Lease`]) or may be asked for meanwhile
//! ([`super::Admitted::asks`]); [`request`] and [`answered`] are the two ends of a call, [`Leases`] gives back what
//! is not used and tries a service again that does not answer.
//!
//! - What all pods have been granted in a window is never more than the limit (`fleet/grant.rs`), and a pod admits no more than it
//!   has been granted. So nothing is overrun; a pod that dies keeps its slice from the others, until the window ends.
//! - An answer that is lost costs the others what it would have granted, until the window ends.
//! - While the service does not answer: with `closed` a pod has what it was granted; with `open` the whole limit, and counts
//!   with the service afterwards what it spent beyond its grants.
//! - A service that lost its data is told again what each pod knows to have been taken, when that pod asks next.

mod counter;
mod grant;
mod link;
mod wire;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use self::counter::Counter;
pub(super) use self::grant::Grant;
pub(super) use self::link::{Link, prepare};
pub use self::wire::{METHOD, SERVICE, TARGET};
use super::Reservation;
use super::Rule;
use super::account::Account;
use super::config::{FleetConfig, OnUnavailable};
use super::slots::{self, Page, slot};
use crate::config::Fault;
use crate::metrics::{self, Count};
use crate::outcome::{Around, Note};

/// Milliseconds that a request may wait for the service in all.
pub const PATIENCE: u64 = 2000;
/// A worker that asks may be answered for so much longer than its call lasts, in milliseconds; then another one asks.
const GRACE: u64 = 1000;
/// What has not been used for so long is given back.
const IDLE: u64 = 10_000;
/// As often as a worker looks for what is idle.
const LOOK: u64 = 1000;
const TIMEOUT: u64 = 250;
const LONGEST_TIMEOUT: u64 = 5000;
const DOMAIN: &str = "attache";
/// The limit under which the service counts: it tells a counter's number only below its limit, so ours is not the
/// service's to know.
const ROOM: u64 = u32::MAX as u64;

/// What a configuration says of the fleet's service.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    pub domain: String,
    /// Milliseconds that a call may last.
    pub timeout: u64,
    closed: bool,
}

/// What of it a budget knows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leased {
    /// The most of the limit that a pod takes at once, per cent.
    pub(super) slice: u8,
    pub(super) closed: bool,
    timeout: u64,
}

/// What one account wants of the service.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    rule: Rc<Rule>,
    account: u64,
    counter: Counter,
    /// Hits to be counted as taken, and as given back.
    take: u64,
    back: u64,
    purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// What is taken is the pod's.
    Grant,
    /// Nothing depends on the answer.
    Report,
}

/// What came of asks.
#[derive(Debug, Default, PartialEq)]
pub struct Answered {
    /// To be sent next; nobody waits for them.
    pub asks: Vec<Ask>,
    pub counts: Vec<Count>,
    pub notes: Vec<Note>,
}

impl Fleet {
    pub fn new(typed: &FleetConfig, faults: &mut Vec<Fault>) -> Fleet {
        let domain = typed.domain.clone().unwrap_or_else(|| DOMAIN.to_owned());
        if domain.is_empty() {
            faults.push(Fault::new("fleet.domain", "expected a name, such as `attache`"));
        }
        let timeout = typed.timeout.map_or(TIMEOUT, |timeout| timeout.millis);
        if timeout > LONGEST_TIMEOUT {
            faults.push(Fault::new("fleet.timeout", "requests wait for it; expected at most `5s`"));
        }
        Fleet { domain, timeout, closed: typed.on_unavailable == OnUnavailable::Closed }
    }

    pub(super) fn leased(&self, slice: u8) -> Leased {
        Leased { slice, closed: self.closed, timeout: self.timeout }
    }
}

impl Leased {
    /// How long an ask may be under way.
    fn patience(&self) -> u64 {
        self.timeout + GRACE
    }
}

impl Account {
    /// Asks for so much more, unless somebody does already: then until when he may be answered.
    pub(super) fn ask(&mut self, rule: &Rc<Rule>, account: u64, missing: u64, now: u64) -> Result<Ask, u64> {
        let patience = rule.fleet.as_ref().map_or(0, Leased::patience);
        let grant = self.grant.get_or_insert_default();
        if (now..=now + patience).contains(&grant.asking.saturating_sub(1)) {
            return Err(grant.asking);
        }
        grant.asking = now + patience;
        let take = grant.size(rule, missing);
        let counter = grant.counter;
        Ok(Ask { rule: rule.clone(), account, counter, take, back: 0, purpose: Purpose::Grant })
    }

    /// The next slice, before it is needed.
    pub(super) fn refill(&mut self, rule: &Rc<Rule>, account: u64, now: u64) -> Option<Ask> {
        let (used, grant) = (self.used(), self.grant.as_ref()?);
        if !grant.is_low(used) || grant.dry > now || grant.known_free(rule) == 0 {
            return None;
        }
        self.ask(rule, account, used.saturating_sub(grant.covers()), now).ok()
    }
}

/// The bytes of a call. `asks` belong to its answer.
pub fn request(domain: &str, asks: &[Ask]) -> Vec<u8> {
    let descriptors: Vec<_> = asks.iter().flat_map(Ask::descriptors).collect();
    wire::request(domain, &descriptors)
}

impl Ask {
    /// What was given back is read first: whatever it counts was then taken before ours.
    fn descriptors(&self) -> [wire::Descriptor<'_>; 2] {
        let (rule, counter) = (&self.rule, &self.counter);
        // Nothing of the key stands there but a hash of it. In braces: both lie in one place of a Redis cluster.
        let account = format!("{{{}/{}/{:016x}}}", rule.name, rule.unit.name(), self.account);
        let window = format!("{}-{}/{}", counter.begin, counter.end, counter.scale);
        [("returned", self.back), ("taken", self.take)].map(|(what, hits)| wire::Descriptor {
            key: counter.unit().name,
            value: format!("{account}/{window}/{what}"),
            hits,
        })
    }
    fn report(&self, take: u64, back: u64) -> Ask {
        Ask { take, back, purpose: Purpose::Report, ..self.clone() }
    }
}

/// An answer has come, or (`None`) none will: it failed, or its time is up. Each ask is answered once.
pub fn answered(around: &Around<'_>, asks: &[Ask], answer: Option<&[u8]>) -> Answered {
    let mut answered = Answered::default();
    let statuses = answer.map(|answer| wire::statuses(answer).unwrap_or_default());
    let told = statuses.as_deref().ok_or("no answer").and_then(|statuses| {
        let pairs = statuses.as_chunks::<2>().0;
        if statuses.len() != 2 * asks.len() {
            return Err("an answer that cannot be read");
        }
        asks.iter().zip(pairs).map(|(ask, pair)| told(ask, pair, around.now)).collect::<Result<Vec<_>, _>>()
    });
    match told {
        Ok(told) => {
            answered.notes.extend(link::answered(around));
            for (ask, told) in asks.iter().zip(told) {
                if ask.purpose == Purpose::Grant {
                    apply(around, ask, told, &mut answered);
                }
            }
        }
        Err(why) => {
            answered.counts.push(metrics::fleet("failed"));
            answered.notes.extend(link::failed(around, why));
            for ask in asks.iter().filter(|ask| ask.purpose == Purpose::Grant) {
                change(around, ask, |grant| grant.asking = 0);
            }
        }
    }
    answered
}

/// A counter's two numbers, taken and returned; `None`: they are beyond what the service can tell.
type Told = Option<(u64, u64)>;

fn told(ask: &Ask, [returned, taken]: &[wire::Status; 2], now: u64) -> Result<Told, &'static str> {
    let unit = ask.counter.unit().number;
    if [returned, taken].iter().any(|status| (status.limit, status.unit) != (ROOM, unit)) {
        return Err("its configuration lacks our units, or limits them otherwise; see README");
    }
    if [returned, taken].iter().any(|status| !ask.counter.is_counted(now, status.reset)) {
        return Err("its clock is not ours");
    }
    match (returned.code, taken.code) {
        (wire::OK, wire::OK) => {
            Ok(Some((ROOM.saturating_sub(taken.remaining), ROOM.saturating_sub(returned.remaining))))
        }
        (wire::OK | wire::OVER_LIMIT, wire::OK | wire::OVER_LIMIT) => Ok(None),
        _ => Err("an answer that cannot be read"),
    }
}

fn apply(around: &Around<'_>, ask: &Ask, told: Told, answered: &mut Answered) {
    let Some((taken, returned)) = told else {
        change(around, ask, |grant| grant.run_dry(around.now));
        return answered.counts.push(metrics::fleet("dry"));
    };
    let rule = &*ask.rule;
    let result = change(around, ask, |grant| grant.take(rule, ask.take, (taken, returned), around.now));
    // Where it is for another window already, nobody misses it.
    let Some(result) = result else { return answered.counts.push(metrics::fleet("late")) };
    answered.counts.push(metrics::fleet(if result.refused > 0 { "dry" } else { "granted" }));
    if result.lost > 0 {
        let text = format!(
            "budget {}: the fleet's rate-limit service has lost what it counted; what this pod knows of is counted again",
            rule.name
        );
        answered.notes.push(Note { severe: true, text });
    }
    if (result.refused, result.lost) != (0, 0) {
        answered.asks.push(ask.report(result.lost, result.refused));
    }
}

/// Changes the grant that an ask is for; `None`: there is another one by now.
fn change<R>(around: &Around<'_>, ask: &Ask, mut change: impl FnMut(&mut Grant) -> R) -> Option<R> {
    slots::update(around.store, slot(ask.account), around.now, |page| {
        let mut account = page.account(ask.account).unwrap_or_default();
        account.roll(&ask.rule, around.now);
        let grant = account.grant.get_or_insert_default();
        if grant.counter != ask.counter {
            return (Vec::new(), None);
        }
        let result = change(grant);
        (vec![(ask.account, ask.rule.clone(), account)], Some(result))
    })?
}

/// The accounts of which a worker knows that something was granted to them, or will be.
#[derive(Debug, Default)]
pub struct Leases {
    accounts: BTreeMap<u64, Rc<Rule>>,
    looked: u64,
}

impl Leases {
    /// A request was admitted.
    pub fn watch(&mut self, reservation: &Reservation) {
        for item in reservation.items.iter().filter(|item| item.rule.fleet.is_some()) {
            self.accounts.entry(item.account).or_insert_with(|| item.rule.clone());
        }
    }

    /// This is asked.
    pub fn expect(&mut self, asks: &[Ask]) {
        for ask in asks {
            self.accounts.entry(ask.account).or_insert_with(|| ask.rule.clone());
        }
    }

    /// Another worker's are this one's as well.
    pub fn join(&mut self, other: Leases) {
        self.accounts.extend(other.accounts);
    }

    /// There is nothing to look after.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Time has passed. Returns what is to be asked, and nobody waits for.
    pub fn tick(&mut self, around: &Around<'_>) -> Vec<Ask> {
        if Link::read(around.store).is_down(around.now) {
            return self.probe(around);
        }
        if around.now.abs_diff(self.looked) < LOOK {
            return Vec::new();
        }
        self.looked = around.now;
        let mut asks = Vec::new();
        self.accounts.retain(|account, rule| match look(around, *account, rule) {
            Some(ask) => {
                asks.extend(ask);
                true
            }
            None => false,
        });
        asks
    }

    fn probe(&self, around: &Around<'_>) -> Vec<Ask> {
        let first = self.accounts.first_key_value().filter(|_| link::probes(around));
        let ask = |(account, rule): (&u64, &Rc<Rule>)| {
            let counter = Counter::of(rule, around.now);
            let rule = rule.clone();
            Ask { rule, account: *account, counter, take: 0, back: 0, purpose: Purpose::Report }
        };
        first.map(ask).into_iter().collect()
    }
}

/// What an account has to give back, or to ask for since it spent it already; `None`: nothing counts there any more.
fn look(around: &Around<'_>, number: u64, rule: &Rc<Rule>) -> Option<Option<Ask>> {
    let now = around.now;
    let looked = |page: &Page| {
        let mut account = page.account(number)?;
        let idle = account.idle(now) >= IDLE;
        account.roll(rule, now);
        let used = account.used();
        let grant = account.grant.as_mut()?;
        let (covers, counter) = (grant.covers(), grant.counter);
        let ask = if used > covers && grant.dry <= now {
            account.ask(rule, number, used - covers, now).ok()
        } else if idle && used < covers {
            let back = grant.give_back(used);
            let ask =
                Ask { rule: rule.clone(), account: number, counter, take: 0, back, purpose: Purpose::Report };
            (back > 0).then_some(ask)
        } else {
            None
        };
        Some((covers > 0 || used > 0, account, ask))
    };
    slots::update(around.store, slot(number), now, |page| match looked(page) {
        Some((_, account, Some(ask))) => (vec![(number, rule.clone(), account)], Some(Some(ask))),
        Some((true, ..)) => (Vec::new(), Some(None)),
        Some((false, ..)) | None => (Vec::new(), None),
    })?
}
