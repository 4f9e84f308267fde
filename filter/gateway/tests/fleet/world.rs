//! Pods, the service, and what lies between them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use attache_gateway::budget::config::{BudgetConfig, FleetConfig};
use attache_gateway::budget::fleet::Fleet;
use attache_gateway::budget::{
    Budgets, Claim, Decision, Known, Rates, Reservation, Unit, Used, Want, Why, reserve, standings,
};
use attache_gateway::outcome::Around;
use attache_gateway::tokens::Bounds;
use serde_json::json;

use super::network::Call;
use super::pod::{Plain, Pod, View, WORKERS, Who};
use super::service::Service;
use super::steps::{Dice, Kind, Step, Tally};

const KEYS: u64 = 2;
pub const DEEPEST: usize = 2;
/// A request may wait so long for the service, and is looked at so often.
const PATIENCE: u64 = 2000;
const MOST_LOOKS: u64 = 3000;

/// One token costs so many picodollars.
const RATES: Rates = Rates {
    input: 7_000_000,
    cached_input: 7_000_000,
    cache_write: 7_000_000,
    cache_write_hour: 7_000_000,
    output: 7_000_000,
    audio_input: 7_000_000,
    audio_output: 7_000_000,
};

struct Live {
    pod: usize,
    key: u64,
    cell: u64,
    amount: u64,
    tokens: u64,
    reservation: Reservation,
}

struct Waiting {
    pod: usize,
    worker: usize,
    key: u64,
    tokens: u64,
    /// `None`: it cannot wait.
    patience: Option<u64>,
    looks: u64,
}

pub struct World {
    pub pods: Vec<Pod>,
    pub service: RefCell<Service>,
    pub service_skew: i64,
    budgets: Budgets,
    unit: Unit,
    limit: u64,
    per_cent: u64,
    window: Length,
    open: bool,
    trouble: Trouble,
    /// Some requests cannot wait, and go ahead of what was granted.
    ahead: bool,
    pub clock: Cell<u64>,
    live: RefCell<Vec<Live>>,
    waiting: RefCell<Vec<Waiting>>,
    pub calls: RefCell<Vec<Call>>,
    /// Spent and held, for each key, cell and pod; and the largest amount.
    used: RefCell<HashMap<(u64, u64, usize), u64>>,
    largest: Cell<u64>,
    /// Something happened after which a limit may be overrun, or more may be left over.
    pub was_down: Cell<bool>,
    pub forgot: Cell<bool>,
    pub disturbed: Cell<bool>,
    pub dice: RefCell<Dice>,
    pub tally: RefCell<Tally>,
}

/// What may go wrong in a run.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Nothing,
    Losses,
    Outages,
    All,
}

#[derive(Clone, Copy)]
enum Length {
    Fixed(u64),
    /// December 2026, in which the service's year ends.
    December,
}

/// 2026-12-01, and the 18th.
const DECEMBER: u64 = 1_796_083_200_000;
const CUT: u64 = 1_797_552_000_000;

impl World {
    pub fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let unit = dice.one(&[Unit::Tokens, Unit::Tokens, Unit::Usd, Unit::Requests]);
        let limit = (20 + dice.below(180)) * if unit == Unit::Usd { RATES.input } else { 1 };
        let window = dice.one(&[
            Length::Fixed(1000),
            Length::Fixed(20_000),
            Length::Fixed(60_000),
            Length::Fixed(3_600_000),
            Length::December,
        ]);
        let per_cent = dice.one(&[1, 5, 5, 20]);
        let open = dice.below(2) == 0;
        let trouble =
            dice.one(&[Trouble::Nothing, Trouble::Nothing, Trouble::Losses, Trouble::Outages, Trouble::All]);
        let mut budget = json!({ "name": "b", "scope": "fleet", "slice": per_cent });
        budget["limit"] = match unit {
            Unit::Tokens => json!({ "tokens": limit }),
            Unit::Usd => json!({ "usd": format!("0.{limit:012}") }),
            _ => json!({ "requests": limit }),
        };
        budget["window"] = match window {
            Length::Fixed(3_600_000) => json!({ "calendar": "hour" }),
            Length::Fixed(millis) => json!({ "fixed": format!("{millis}ms") }),
            Length::December => json!({ "calendar": "month" }),
        };
        budget["per"] = json!(["header.who"]);
        budget["forgeable"] = json!(true);
        let typed: Vec<BudgetConfig> = serde_json::from_value(json!([budget])).unwrap();
        let policy = if open { "open" } else { "closed" };
        let fleet: FleetConfig = serde_json::from_value(json!({ "onUnavailable": policy })).unwrap();
        let mut faults = Vec::new();
        let fleet = Fleet::new(&fleet, &mut faults);
        let known = Known { fleet: Some(&fleet), ..Known::default() };
        let budgets = Budgets::new(&typed, &known, &mut faults);
        assert_eq!(faults, []);
        let skew = |dice: &mut Dice| if dice.below(3) == 0 { dice.below(4000) as i64 - 2000 } else { 0 };
        let pods: Vec<Pod> = (0..2 + dice.below(3)).map(|_| Pod::default()).collect();
        for pod in &pods {
            pod.skew.set(skew(&mut dice));
            attache_gateway::budget::prepare(&Plain(pod));
        }
        let clock = match window {
            Length::Fixed(length) => 1_790_000_000_000 + dice.below(length * 3),
            // Both before its cut and after it.
            Length::December => CUT - dice.below(60_000),
        };
        World {
            pods,
            service: RefCell::default(),
            service_skew: skew(&mut dice),
            budgets,
            unit,
            limit,
            per_cent,
            window,
            open,
            trouble,
            ahead: dice.below(4) == 0,
            clock: Cell::new(clock),
            live: RefCell::default(),
            waiting: RefCell::default(),
            calls: RefCell::default(),
            used: RefCell::default(),
            largest: Cell::new(0),
            was_down: Cell::new(false),
            forgot: Cell::new(false),
            disturbed: Cell::new(false),
            dice: RefCell::new(Dice(dice.next())),
            tally: RefCell::default(),
        }
    }

    pub fn now(&self, pod: usize) -> u64 {
        self.clock.get().saturating_add_signed(self.pods[pod].skew.get())
    }

    fn cell(&self, now: u64) -> u64 {
        match self.window {
            Length::Fixed(length) => now / length,
            Length::December => u64::from(now >= DECEMBER),
        }
    }

    fn scale(&self) -> u64 {
        if self.unit == Unit::Usd { RATES.input } else { 1 }
    }

    pub fn interrupt(&self, pod: usize, depth: usize) {
        if depth >= DEEPEST || self.dice.borrow_mut().below(12) > 0 {
            return;
        }
        self.tally.borrow_mut().interrupted += 1;
        let mut dice = Dice(self.dice.borrow_mut().next());
        match dice.below(5) {
            0 => self.fresh(pod, depth + 1, &mut dice),
            1 => self.again(depth + 1, &mut dice),
            2 => self.settle(depth + 1, &mut dice),
            3 => self.serve(&mut dice),
            _ => self.deliver(depth + 1, &mut dice),
        }
    }

    pub fn step(&self, step: &Step) {
        *self.dice.borrow_mut() = Dice(step.dice);
        self.tally.borrow_mut().steps += 1;
        let mut dice = Dice(step.dice ^ 0xd1ce);
        let pod = dice.below(self.pods.len() as u64) as usize;
        let outages = matches!(self.trouble, Trouble::Outages | Trouble::All);
        if self.service.borrow().down && dice.below(20) == 0 {
            self.service.borrow_mut().down = false;
        }
        match step.kind {
            Kind::Reserve => self.fresh(pod, 0, &mut dice),
            Kind::Again => self.again(0, &mut dice),
            Kind::Settle => self.settle(0, &mut dice),
            Kind::Serve => self.serve(&mut dice),
            Kind::Deliver => self.deliver(0, &mut dice),
            Kind::Lose if matches!(self.trouble, Trouble::Losses | Trouble::All) => self.lose(&mut dice),
            Kind::Tick => self.tick(pod, dice.below(WORKERS as u64) as usize, 0),
            Kind::Clock => self.pass(&mut dice),
            Kind::Outage if outages => {
                self.service.borrow_mut().down = true;
                self.was_down.set(true);
            }
            Kind::Forget if self.trouble == Trouble::All => {
                self.service.borrow_mut().forget();
                self.forgot.set(true);
            }
            Kind::Lose | Kind::Outage | Kind::Forget => {}
            Kind::Crash if self.trouble == Trouble::Nothing => {}
            Kind::Crash => {
                let worker = dice.below(WORKERS as u64) as usize;
                self.pods[pod].leases[worker].take();
                self.waiting.borrow_mut().retain(|one| (one.pod, one.worker) != (pod, worker));
                self.disturbed.set(true);
            }
        }
        self.time_out();
    }

    fn pass(&self, dice: &mut Dice) {
        let by = match dice.below(10) {
            0..5 => dice.below(20),
            5..8 => dice.below(400),
            8 => dice.below(5000),
            _ if dice.below(4) == 0 => 15_000,
            _ => 0,
        };
        self.clock.set(self.clock.get() + by);
    }

    // ---- requests ----

    fn fresh(&self, pod: usize, depth: usize, dice: &mut Dice) {
        let most = if dice.below(8) == 0 { 60 } else { 8 };
        let waiting = Waiting {
            pod,
            worker: dice.below(WORKERS as u64) as usize,
            key: dice.below(KEYS),
            tokens: 2 + dice.below(most),
            patience: (!self.ahead || dice.below(3) > 0).then(|| self.now(pod) + PATIENCE),
            looks: 0,
        };
        self.reserve(waiting, depth);
    }

    fn again(&self, depth: usize, dice: &mut Dice) {
        let count = self.waiting.borrow().len() as u64;
        if count > 0 {
            let waiting = self.waiting.borrow_mut().swap_remove(dice.below(count) as usize);
            self.reserve(waiting, depth);
        }
    }

    fn amount(&self, tokens: u64) -> u64 {
        if self.unit == Unit::Requests { 1 } else { tokens * self.scale() }
    }

    fn claims(&self, key: u64) -> Vec<Claim> {
        self.budgets.claims(&Who(format!("{key}")))
    }

    fn reserve(&self, mut waiting: Waiting, depth: usize) {
        let Waiting { pod, worker, key, tokens, patience, .. } = waiting;
        let now = self.now(pod);
        let input = tokens / 2;
        let want = Want {
            input: Bounds { low: input, likely: input, high: input },
            counted: true,
            output_limit: Some(tokens - input),
            most_output: 1000,
            candidates: 1,
            rates: Some(RATES),
            unpriced: false,
            expires: now + 10_000_000,
            since: now,
            downgraded: false,
            patience,
        };
        let amount = self.amount(tokens);
        self.largest.set(self.largest.get().max(amount));
        let view = View { world: self, pod, depth };
        let decision = reserve(&Around { now, store: &view }, &self.claims(key), &want);
        waiting.looks += 1;
        let looks = self.tally.borrow().looks.max(waiting.looks);
        self.tally.borrow_mut().looks = looks;
        assert!(waiting.looks < MOST_LOOKS, "a request is never decided");
        match decision {
            Decision::Admitted(admitted) => {
                self.pods[pod].leases[worker].borrow_mut().watch(&admitted.reservation);
                self.send(pod, admitted.asks);
                let live = Live {
                    pod,
                    key,
                    cell: self.cell(now),
                    amount,
                    tokens,
                    reservation: admitted.reservation,
                };
                self.admitted(live);
            }
            Decision::Lease { asks, .. } => {
                self.tally.borrow_mut().waited += 1;
                self.send(pod, asks);
                self.waiting.borrow_mut().push(waiting);
            }
            Decision::Refused(refused) if refused.why == Why::Unavailable => {
                assert!(self.was_down.get() || self.disturbed.get(), "it is there");
                self.tally.borrow_mut().unavailable += 1;
            }
            Decision::Refused(refused) => {
                self.tally.borrow_mut().refused += 1;
                // Who has waited for too long has what is there already.
                if refused.why == Why::Spent && patience.is_some_and(|patience| now < patience) {
                    self.refused(key, self.cell(now), amount);
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn admitted(&self, live: Live) {
        *self.used.borrow_mut().entry((live.key, live.cell, live.pod)).or_default() += live.amount;
        let (pod, all) = self.sums(live.key, live.cell, live.pod);
        assert!(pod <= self.limit, "one pod has spent {pod} of {}", self.limit);
        let over = all.saturating_sub(self.limit) * 1000 / self.limit;
        let mut tally = self.tally.borrow_mut();
        tally.admitted += 1;
        tally.open += u64::from(self.service.borrow().down);
        if self.open && (self.was_down.get() || self.disturbed.get()) {
            tally.overshoot_open = tally.overshoot_open.max(over);
        } else if self.forgot.get() {
            tally.overshoot_forgot = tally.overshoot_forgot.max(over);
        } else {
            let slice = (self.limit * self.per_cent / 100).max(self.scale());
            let slices = if self.ahead { slice * self.pods.len() as u64 } else { 0 };
            let most = if self.ahead { &mut tally.overshoot_ahead } else { &mut tally.overshoot };
            *most = (*most).max(over);
            assert!(all <= self.limit + slices, "the fleet has spent {all} of {}", self.limit);
        }
        drop(tally);
        self.live.borrow_mut().push(live);
    }

    /// What one pod has spent and held, and what all have.
    fn sums(&self, key: u64, cell: u64, pod: usize) -> (u64, u64) {
        let used = self.used.borrow();
        let of = |pod: usize| used.get(&(key, cell, pod)).copied().unwrap_or(0);
        (of(pod), (0..self.pods.len()).map(of).sum())
    }

    /// Where nothing went wrong, what is left lies in the slices of others, or on its way.
    fn refused(&self, key: u64, cell: u64, amount: u64) {
        let left = self.limit.saturating_sub(self.sums(key, cell, 0).1);
        if self.ahead || self.was_down.get() || self.forgot.get() || self.disturbed.get() || left < amount {
            return;
        }
        let mut tally = self.tally.borrow_mut();
        tally.left_over = tally.left_over.max(left * 1000 / self.limit);
        if matches!(self.window, Length::December) {
            return;
        }
        let slice = (self.limit * self.per_cent / 100).max(self.scale()).max(self.largest.get());
        // Each pod has one slice that it uses and one that it took before it was needed, and some on the way back.
        let most = 4 * slice * self.pods.len() as u64;
        assert!(left <= most, "{left} of {} are left, which is more than {most}", self.limit);
    }

    fn settle(&self, depth: usize, dice: &mut Dice) {
        let count = self.live.borrow().len() as u64;
        if count == 0 {
            return;
        }
        let live = self.live.borrow_mut().swap_remove(dice.below(count) as usize);
        let input = live.tokens / 2;
        let output = dice.below(live.tokens - input + 1);
        let used = Used { input, output, rates: Some(RATES), ..Used::default() };
        let charge = if self.unit == Unit::Requests { 1 } else { self.amount(input + output) };
        // Before, as others may use it at once.
        *self.used.borrow_mut().get_mut(&(live.key, live.cell, live.pod)).unwrap() -= live.amount - charge;
        let view = View { world: self, pod: live.pod, depth };
        live.reservation.settle(&Around { now: self.now(live.pod), store: &view }, &used, &[]);
    }

    /// The service is well again: every request is decided, and what the code says is spent was spent.
    pub fn finish(self) -> Tally {
        self.service.borrow_mut().down = false;
        let mut dice = Dice(1);
        while !(self.waiting.borrow().is_empty() && self.calls.borrow().is_empty()) {
            self.clock.set(self.clock.get() + 1);
            self.serve(&mut dice);
            self.deliver(DEEPEST, &mut dice);
            for (pod, worker) in (0..self.pods.len()).flat_map(|pod| [(pod, 0), (pod, 1)]) {
                self.tick(pod, worker, DEEPEST);
            }
            self.again(DEEPEST, &mut dice);
            self.time_out();
        }
        for (pod, key) in (0..self.pods.len()).flat_map(|pod| [(pod, 0), (pod, 1)]) {
            let now = self.now(pod);
            let around = Around { now, store: &Plain(&self.pods[pod]) };
            let standing = standings(&around, &self.claims(key)).remove(0);
            let used = self.sums(key, self.cell(now), pod).0;
            assert_eq!(standing.spent + standing.held, used, "pod {pod}, key {key}");
        }
        self.tally.into_inner()
    }
}
