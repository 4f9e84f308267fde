//! A request holds what it may use in every account that it concerns, or in none.

use std::collections::BTreeMap;

use super::account::{Account, Reach};
use super::amount::{Rates, Want, need};
use super::config::{OnExceed, OnFull};
use super::fleet::{Ask, Link};
use super::slots::{self, Page, ROUNDS, slot};
use super::window::Window;
use super::{Admitted, Claim, Crossed, Decision, Item, Refused, Reservation, Rule, Why, keys};
use crate::outcome::Around;

/// Milliseconds after which what others hold may have come back.
const SOON: u64 = 1000;
/// After which another worker may have had an answer from the fleet's service.
const SHORTLY: u64 = 5;
/// As often as a request that waits is looked at again.
const AGAIN: u64 = 100;
/// A key's place is taken for this much longer than it must be, so that the list is not written with every request.
const SPARE: std::ops::RangeInclusive<u64> = 10_000..=600_000;

/// One claim with its account as it was read.
struct Draft<'c> {
    claim: &'c Claim,
    account: u64,
    state: Account,
    now: u64,
    /// What it will hold.
    amount: u64,
    reach: Reach,
    /// Of the fleet's service, where it matters.
    link: Link,
    patience: Option<u64>,
}

/// Reserves for a request. All its budgets admit it, or it holds nothing.
pub fn reserve(around: &Around<'_>, claims: &[Claim], want: &Want) -> Decision {
    let mut crowded: Vec<u64> = Vec::new();
    let mut crossed = Vec::new();
    let mut asks = Vec::new();
    for _ in 0..ROUNDS {
        let (mut pages, mut drafts) = look(around, claims, &crowded, want);
        let plan = match decide(&mut drafts, want) {
            Ok(plan) => plan,
            Err(decision) => return decision,
        };
        match lease(around, &mut drafts, want) {
            Ok(()) => {}
            Err(full) if full.share => {
                crowded.push(full.account);
                continue;
            }
            Err(full) => return Decision::Refused(full.refused),
        }
        if let Some(draft) = drafts.iter().find(|draft| draft.lacks() > 0) {
            // The fewer tokens it is known to need, the fewer are asked for.
            if vague(want) {
                return Decision::CountFirst;
            }
            let budget = draft.claim.rule.name.clone();
            match ask(around, &drafts, &mut asks) {
                Lacks::Grants => return Decision::Lease { budget, asks, again: SHORTLY },
                Lacks::Nothing => continue,
            }
        }
        let mut reservation = Reservation { output: plan.output, items: Vec::new() };
        let told = (&mut crossed, &mut asks);
        if hold(around, &mut pages, &mut drafts, want, &mut reservation, told) {
            let standings =
                drafts.iter().map(|draft| draft.state.standing(&draft.claim.rule, draft.now)).collect();
            let shared = drafts.iter().filter(|draft| draft.account != draft.claim.account);
            let shared = shared.map(|draft| draft.claim.rule.name.clone()).collect();
            let clamp = (plan.output < want.output()).then_some(plan.output / want.answers());
            return Decision::Admitted(Box::new(Admitted {
                reservation,
                clamped_by: plan.clamped_by.filter(|_| clamp.is_some()),
                clamp,
                crossed,
                shadowed: plan.shadowed,
                shared,
                standings,
                asks,
            }));
        }
        crossed.extend(reservation.release(around).crossed);
    }
    match claims.first() {
        Some(claim) => Decision::Refused(Refused {
            budget: claim.rule.name.clone(),
            unit: claim.rule.unit,
            why: Why::Busy,
            limit: claim.rule.limit,
            remaining: 0,
            retry_after: Some(SOON),
        }),
        None => Decision::CountFirst,
    }
}

/// Reads the accounts, in the order in which they will be written.
fn look<'c>(
    around: &Around<'_>,
    claims: &'c [Claim],
    crowded: &[u64],
    want: &Want,
) -> (BTreeMap<u64, Page>, Vec<Draft<'c>>) {
    let mut pages = BTreeMap::new();
    let fleet = claims.iter().any(|claim| claim.rule.fleet.is_some());
    let link = if fleet { Link::read(around.store) } else { Link::default() };
    let mut drafts: Vec<Draft<'c>> = Vec::with_capacity(claims.len());
    for claim in claims {
        let account = match &claim.keyed {
            Some(keyed) if crowded.contains(&claim.account) => keyed.shared,
            _ => claim.account,
        };
        let page = pages.entry(slot(account)).or_insert_with(|| Page::read(around.store, slot(account)));
        let (state, now, reach) = (Account::default(), around.now, Reach::Limit);
        let mut draft = Draft { claim, account, state, now, amount: 0, reach, link, patience: want.patience };
        draft.read(page, around.now);
        drafts.push(draft);
    }
    drafts.sort_by_key(|draft| slot(draft.account));
    (pages, drafts)
}

impl Draft<'_> {
    fn read(&mut self, page: &Page, now: u64) {
        self.state = page.account(self.account).unwrap_or_default();
        self.now = self.state.roll(&self.claim.rule, now);
        self.reach = match &self.claim.rule.fleet {
            None => Reach::Limit,
            Some(fleet) if self.link.is_down(self.now) && fleet.closed => Reach::Granted,
            Some(_) if self.link.is_down(self.now) => Reach::Limit,
            Some(_) if self.dry().is_some() => Reach::Granted,
            Some(_) => match self.patience {
                None => Reach::Ahead,
                Some(until) if until <= now => Reach::Granted,
                Some(_) => Reach::Ask,
            },
        };
    }
    fn left(&self) -> u64 {
        self.state.left(&self.claim.rule, self.reach)
    }
    /// The fleet's service has nothing more for now: milliseconds until it is asked again.
    fn dry(&self) -> Option<u64> {
        self.state.grant.and_then(|grant| grant.dry.checked_sub(self.now)).filter(|wait| *wait > 0)
    }
    /// What must be granted first; 0: nothing.
    fn lacks(&self) -> u64 {
        let asks = self.reach == Reach::Ask && !self.claim.rule.shadow;
        if asks { self.state.lacks(self.amount) } else { 0 }
    }
    fn fits(&self, amount: u64) -> bool {
        self.claim.rule.shadow || amount <= self.left() && self.lacks() == 0
    }
    /// What it needs of this many tokens of a prompt, and of each token of the answers.
    fn need(&self, input: u64, want: &Want) -> Option<(u64, u64)> {
        need_of(&self.claim.rule, input, want)
    }
    /// Until when its account will count.
    fn until(&self, want: &Want) -> u64 {
        let window = self.claim.rule.window;
        let (_, period) = window.period(self.now);
        period.max(if window == Window::Open { want.expires } else { window.end(window.cell(self.now)) })
    }
    /// Its key has its place for so long, or needs none.
    fn placed(&self, want: &Want) -> bool {
        let keyed = self.claim.keyed.is_some_and(|keyed| keyed.shared != self.account);
        !keyed || self.state.leased >= self.until(want)
    }
    /// Milliseconds until this may fit; `None`: it never will.
    fn wait(&self, amount: u64) -> Option<u64> {
        let wait = self.state.wait(&self.claim.rule, amount)?;
        if matches!(self.reach, Reach::Limit | Reach::Ask) {
            return Some(wait);
        }
        if self.link.is_down(self.now) {
            return Some(self.link.wait(self.now).max(SOON));
        }
        let window = self.claim.rule.window;
        Some(if self.dry().is_some() { window.end(window.cell(self.now)) - self.now } else { wait.max(SOON) })
    }
    fn refused(&self, why: Why, retry_after: Option<u64>) -> Refused {
        let rule = &self.claim.rule;
        Refused {
            budget: rule.name.clone(),
            unit: rule.unit,
            why,
            limit: rule.limit,
            remaining: self.left(),
            retry_after,
        }
    }
}

struct Plan {
    /// Tokens of all answers together.
    output: u64,
    /// The budget that limits it most.
    clamped_by: Option<String>,
    shadowed: Vec<String>,
}

/// How a request stands with one budget.
enum Fit {
    Fits,
    /// The exact number of its tokens decides.
    Unsure,
    /// It would take so much.
    Fails(u64),
    Unpriced,
}

/// Whether all admit it, and with how long an answer; the amounts go into the drafts.
fn decide(drafts: &mut [Draft<'_>], want: &Want) -> Result<Plan, Decision> {
    let mut output = want.output();
    let (mut unsure, mut clamped_by) = (false, None);
    for draft in drafts.iter().filter(|draft| draft.claim.on_exceed == OnExceed::Clamp) {
        if let Some(most) = most_output(draft, want.input.high, want).filter(|most| *most < output) {
            // A shorter prompt leaves more for the answer.
            unsure |= vague(want) && most_output(draft, want.input.low, want) != Some(most);
            if most >= want.answers() {
                output = most - most % want.answers();
                clamped_by = Some(draft.claim.rule.name.clone());
            }
        }
    }
    let mut failures = Vec::new();
    let mut shadowed = Vec::new();
    for draft in drafts.iter_mut() {
        match fit(draft, output, want) {
            Fit::Fits => {}
            // Its amount stands all the same.
            _ if draft.claim.rule.shadow => shadowed.push(draft.claim.rule.name.clone()),
            Fit::Unsure => unsure = true,
            Fit::Fails(amount) => failures.push(failure(draft, amount, want)),
            Fit::Unpriced => failures.push(Decision::Refused(draft.refused(Why::Unpriced, None))),
        }
    }
    match failures.into_iter().max_by_key(weight) {
        Some(decision) => Err(decision),
        None if unsure => Err(Decision::CountFirst),
        None => Ok(Plan { output, clamped_by, shadowed }),
    }
}

/// An exact count may tell something new.
fn vague(want: &Want) -> bool {
    !want.counted && want.input.low < want.input.high
}

/// The most tokens of answers that are left beside a prompt; `None`: not even that fits, or nobody knows.
fn most_output(draft: &Draft<'_>, input: u64, want: &Want) -> Option<u64> {
    let (fixed, each) = draft.need(input, want)?;
    draft.left().checked_sub(fixed)?.checked_div(each)
}

fn fit(draft: &mut Draft<'_>, output: u64, want: &Want) -> Fit {
    let Some((fixed, each)) = draft.need(want.input.high, want) else { return Fit::Unpriced };
    draft.amount = fixed.saturating_add(output.saturating_mul(each));
    let left = draft.left();
    if draft.amount <= left {
        return Fit::Fits;
    }
    // With a clamp the answer may be as short as can be.
    let clamps = draft.claim.on_exceed == OnExceed::Clamp && draft.claim.rule.unit.clamps();
    let least = if clamps { want.answers().min(output) } else { output };
    let Some((fixed_low, _)) = draft.need(want.input.low, want) else { return Fit::Unpriced };
    if vague(want) && fixed_low.saturating_add(least.saturating_mul(each)) <= left {
        return Fit::Unsure;
    }
    Fit::Fails(fixed.saturating_add(least.saturating_mul(each)))
}

/// What follows where a request does not fit.
fn failure(draft: &Draft<'_>, amount: u64, want: &Want) -> Decision {
    let claim = draft.claim;
    let wait = draft.wait(amount);
    let refused = || {
        let (why, retry_after) = match wait {
            None => (Why::TooLarge, None),
            Some(wait) if draft.reach == Reach::Granted && draft.link.is_down(draft.now) => {
                (Why::Unavailable, Some(wait))
            }
            Some(wait) => (Why::Spent, Some(if wait == 0 { SOON } else { wait })),
        };
        Decision::Refused(draft.refused(why, retry_after))
    };
    match (&claim.on_exceed, wait) {
        (OnExceed::Downgrade(to), _) if !want.downgraded => {
            let to = to.route.as_ref().or(to.model.as_ref()).cloned().unwrap_or_default();
            Decision::Downgrade { budget: claim.rule.name.clone(), to }
        }
        (OnExceed::Queue(longest), Some(wait)) => {
            let until = want.since.saturating_add(longest.millis);
            // What is spent comes back with the window, what is held at any time, and what others of the fleet hold as well.
            let wait = if claim.rule.fleet.is_some() { draft.dry().unwrap_or(wait) } else { wait };
            let again =
                if draft.state.held() > 0 && !(1..AGAIN).contains(&wait) { AGAIN } else { wait.max(1) };
            if draft.now.saturating_add(again) > until {
                return refused();
            }
            Decision::Wait { budget: claim.rule.name.clone(), again, until }
        }
        _ => refused(),
    }
}

/// Of several that do not admit a request the one that says so most surely, and for the longest.
fn weight(decision: &Decision) -> (u8, u64) {
    match decision {
        Decision::Refused(refused) => (3, refused.retry_after.unwrap_or(u64::MAX)),
        Decision::Downgrade { .. } => (2, 0),
        Decision::Wait { again, .. } => (1, *again),
        Decision::Admitted(_) | Decision::CountFirst | Decision::Lease { .. } => (0, 0),
    }
}

/// There is no room for a key.
struct Full {
    account: u64,
    /// It goes to the shared account.
    share: bool,
    refused: Refused,
}

/// Sees to it that each key has its place for as long as its account will count.
fn lease(around: &Around<'_>, drafts: &mut [Draft<'_>], want: &Want) -> Result<(), Full> {
    for draft in drafts {
        let rule = &draft.claim.rule;
        let Some(keyed) = draft.claim.keyed.filter(|_| !draft.placed(want)) else { continue };
        let until = draft.until(want);
        let (period, end) = rule.window.period(draft.now);
        let spare = until.saturating_add((end - period).clamp(*SPARE.start(), *SPARE.end()));
        let key = draft.claim.account;
        match keys::lease(around.store, keyed.budget, key, keyed.most, draft.now, (until, spare)) {
            Some(leased) => draft.state.leased = leased,
            None => {
                let wait = keys::free_at(around.store, keyed.budget).saturating_sub(draft.now);
                let refused = draft.refused(Why::Full, Some(wait.max(SOON)));
                let share = keyed.on_full == OnFull::Share || rule.shadow;
                return Err(Full { account: key, share, refused });
            }
        }
    }
    Ok(())
}

/// What a request lacks before it can be admitted.
#[derive(PartialEq)]
enum Lacks {
    Grants,
    /// Nothing any more: another worker has had an answer.
    Nothing,
}

/// Asks the fleet's service for what has not been granted yet, unless another worker does.
fn ask(around: &Around<'_>, drafts: &[Draft<'_>], asks: &mut Vec<Ask>) -> Lacks {
    let mut lacks = Lacks::Nothing;
    for draft in drafts.iter().filter(|draft| draft.lacks() > 0) {
        let rule = &draft.claim.rule;
        let asked = slots::update(around.store, slot(draft.account), around.now, |page| {
            let mut state = page.account(draft.account).unwrap_or_default();
            let now = state.roll(rule, around.now);
            state.leased = state.leased.max(draft.state.leased);
            let missing = state.lacks(draft.amount);
            if missing == 0 {
                return (Vec::new(), None);
            }
            match state.ask(rule, draft.account, missing, now) {
                Ok(ask) => (vec![(draft.account, rule.clone(), state)], Some(Some(ask))),
                Err(_) => (Vec::new(), Some(None)),
            }
        });
        match asked {
            Some(None) => {}
            Some(Some(ask)) => {
                asks.extend(ask);
                lacks = Lacks::Grants;
            }
            None => lacks = Lacks::Grants,
        }
    }
    lacks
}

/// Writes the amounts, row by row. `false`: it fits no more; what was written is in the reservation.
fn hold(
    around: &Around<'_>,
    pages: &mut BTreeMap<u64, Page>,
    drafts: &mut [Draft<'_>],
    want: &Want,
    reservation: &mut Reservation,
    (crossed, asks): (&mut Vec<Crossed>, &mut Vec<Ask>),
) -> bool {
    for row in drafts.chunk_by_mut(|one, other| slot(one.account) == slot(other.account)) {
        let Some(number) = row.first().map(|draft| slot(draft.account)) else { continue };
        let mut written = false;
        for _ in 0..ROUNDS {
            let Some(page) = pages.get(&number) else { break };
            let (items, told, refills) = held(row, want);
            let changed: Vec<_> =
                row.iter().map(|draft| (draft.account, &*draft.claim.rule, &draft.state)).collect();
            written = page.commit(around.store, &changed, around.now);
            if written {
                reservation.items.extend(items);
                crossed.extend(told);
                asks.extend(refills);
                break;
            }
            // Somebody else came first. With the same amounts it may fit all the same.
            let page = Page::read(around.store, number);
            for draft in row.iter_mut() {
                let leased = draft.state.leased;
                draft.read(&page, around.now);
                draft.state.leased = draft.state.leased.max(leased);
            }
            pages.insert(number, page);
            if !row.iter().all(|draft| draft.fits(draft.amount) && draft.placed(want)) {
                break;
            }
        }
        if !written {
            return false;
        }
    }
    true
}

fn held(row: &mut [Draft<'_>], want: &Want) -> (Vec<Item>, Vec<Crossed>, Vec<Ask>) {
    let mut items = Vec::with_capacity(row.len());
    let mut told = Vec::new();
    let mut refills = Vec::new();
    for draft in row {
        let rule = &draft.claim.rule;
        let number = draft.state.hold(rule, draft.amount, want.expires);
        let (account, amount) = (draft.account, draft.amount);
        // For whom there is no room shares an account with others.
        let whose = draft.claim.whose.clone().filter(|_| account == draft.claim.account);
        told.extend(Crossed::all(draft.state.crossed(rule), rule, &whose));
        items.push(Item { rule: rule.clone(), account, whose, number, amount, wasted: 0, since: 0 });
        if draft.reach == Reach::Ask {
            refills.extend(draft.state.refill(rule, draft.account, draft.now));
        }
    }
    (items, told, refills)
}

/// What a budget needs of this many tokens of a prompt, and of each token of the answers. `None`: nobody knows the price.
pub(super) fn need_of(rule: &Rule, input: u64, want: &Want) -> Option<(u64, u64)> {
    let own = rule.default_rates.filter(|_| want.unpriced || want.rates.is_none());
    let rates = match (want.rates, own) {
        (Some(known), Some(own)) => Some(known.worst(own)),
        // Another that may answer has no price at all.
        (Some(_), None) if want.unpriced && !rule.shadow => None,
        (known, own) => known.or(own),
    };
    need(rule.unit, input, rates.as_ref())
}

/// The prices by which a limit in dollars is charged.
pub(super) fn rates<'r>(known: Option<&'r Rates>, rule: &'r Rule) -> Option<&'r Rates> {
    known.or(rule.default_rates.as_ref())
}
