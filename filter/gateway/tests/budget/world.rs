//! Workers, what they do, and their clock.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use attache_gateway::budget::{
    Admitted, Budgets, Decision, Refused, Reservation, Unit, Used, Want, reserve, standings,
};
use attache_gateway::outcome::Around;
use attache_gateway::tokens::Bounds;

use super::model::{Account, Window};
use super::steps::{Dice, Kind, Step, Tally, step};
use super::typed::{RATES, Typed, need};
use super::view::{Act, Doing, Plain, View, Who, slot};

const WORKERS: usize = 3;
const KEYS: u64 = 3;
const DEEPEST: usize = 3;
/// 2023-11-14T22:13:20Z
pub const BEGIN: u64 = 1_700_000_000_000;

struct Live {
    request: u64,
    worker: usize,
    key: u64,
    input: u64,
    reservation: Reservation,
}

pub struct World {
    pub values: RefCell<HashMap<String, (Vec<u8>, u32)>>,
    pub book: RefCell<HashMap<String, Account>>,
    slots: RefCell<HashMap<String, String>>,
    live: RefCell<Vec<Live>>,
    typed: Vec<Typed>,
    /// Each worker's configuration: which limits it has.
    configurations: Vec<(Vec<u64>, Budgets)>,
    configured: RefCell<[usize; WORKERS]>,
    clock: Cell<u64>,
    requests: Cell<u64>,
    pub dice: RefCell<Dice>,
    told: RefCell<HashSet<(String, u16, u64)>>,
    pub tally: RefCell<Tally>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let typed: Vec<Typed> = (0..1 + dice.below(4)).map(|index| Typed::random(index, &mut dice)).collect();
        let configuration = |scale: u64| {
            let limits: Vec<u64> = typed.iter().map(|budget| (budget.limit * scale / 4).max(1)).collect();
            let budgets = Typed::read(&typed, &limits);
            (limits, budgets)
        };
        let configurations = [4, 2, 6].map(configuration).into_iter().collect();
        let world = World {
            values: RefCell::default(),
            book: RefCell::default(),
            slots: RefCell::default(),
            live: RefCell::default(),
            configurations,
            configured: RefCell::new([0; WORKERS]),
            clock: Cell::new(BEGIN + dice.below(3000)),
            requests: Cell::new(0),
            told: RefCell::default(),
            tally: RefCell::default(),
            dice: RefCell::new(Dice(dice.next())),
            typed,
        };
        attache_gateway::budget::prepare(&Plain(&world));
        world
    }

    pub fn typed_of(&self, account: &str) -> &Typed {
        let name = account.split('/').next().unwrap();
        self.typed.iter().find(|typed| typed.name == name).unwrap()
    }

    pub fn interrupt(&self, depth: usize) {
        let deeper = depth < DEEPEST && self.dice.borrow_mut().below(if depth == 0 { 6 } else { 20 }) == 0;
        if deeper {
            if self.dice.borrow_mut().below(4) == 0 {
                self.clock.set(self.clock.get() + self.dice.borrow_mut().below(400));
            }
            let next = step(&mut self.dice.borrow_mut(), false);
            self.tally.borrow_mut().interrupted += 1;
            self.step(&next, depth + 1);
        }
    }

    pub fn top(&self, step: &Step) {
        *self.dice.borrow_mut() = Dice(step.dice);
        self.step(step, 0);
    }

    fn step(&self, step: &Step, depth: usize) {
        self.tally.borrow_mut().steps += 1;
        let mut dice = Dice(step.dice ^ 0xd1ce);
        let worker = dice.below(WORKERS as u64) as usize;
        match step.kind {
            Kind::Reserve => self.reserve(worker, depth, &mut dice),
            Kind::Settle => self.end(worker, depth, &mut dice, false),
            Kind::Release => self.end(worker, depth, &mut dice, true),
            Kind::Extend => self.extend(depth, &mut dice),
            Kind::Crash => {
                let mut live = self.live.borrow_mut();
                let before = live.len();
                live.retain(|live| live.worker != worker);
                self.tally.borrow_mut().crashed += (before - live.len()) as u64;
            }
            Kind::Reload => {
                self.configured.borrow_mut()[worker] = dice.below(self.configurations.len() as u64) as usize;
            }
            Kind::Clock => self.pass(&mut dice),
        }
    }

    fn pass(&self, dice: &mut Dice) {
        let now = self.clock.get();
        let edge = self.typed[dice.below(self.typed.len() as u64) as usize].window.edge(now);
        let then = match dice.below(8) {
            0..4 => now + dice.below(100),
            4 | 5 => now + dice.below(5000),
            // Rarely far: most of a run shall happen within one window.
            6 if edge < now + 120_000 || dice.below(8) == 0 => (edge + dice.below(3)).saturating_sub(1),
            _ if dice.below(6) == 0 => now + dice.below(900_000),
            _ => now,
        };
        self.clock.set(then.max(now));
    }

    /// Workers read the clock before they act.
    fn now(&self, dice: &mut Dice) -> u64 {
        self.clock.get() - if dice.below(8) == 0 { dice.below(1500) } else { 0 }
    }

    fn act(&self, worker: usize, key: u64, request: u64, now: u64, doing: Doing) -> Act {
        let configured = self.configured.borrow()[worker];
        let (limits, budgets) = &self.configurations[configured];
        let claims = budgets.claims(&Who(format!("{key}")));
        let account = |typed: &Typed| {
            let key = if typed.keyed { format!("{key}") } else { String::new() };
            format!("{}/{key}", typed.name)
        };
        let accounts: Vec<String> = self.typed.iter().map(account).collect();
        for ((account, typed), claim) in accounts.iter().zip(&self.typed).zip(&claims) {
            let new = || Account::new(typed.window, typed.unit);
            self.book.borrow_mut().entry(account.clone()).or_insert_with(new);
            self.slots.borrow_mut().entry(account.clone()).or_insert_with(|| slot(claim));
        }
        let slots = accounts.iter().map(|account| self.slots.borrow()[account].clone()).collect();
        let count = accounts.len();
        Act {
            request,
            now,
            claims,
            accounts,
            slots,
            limits: limits.clone(),
            doing,
            holding: vec![false; count],
            left: vec![0; count],
            knew: vec![false; count],
        }
    }

    fn reserve(&self, worker: usize, depth: usize, dice: &mut Dice) {
        let now = self.now(dice);
        let (key, request) = (dice.below(KEYS), self.requests.get());
        self.requests.set(request + 1);
        let high = 1 + dice.below(60);
        let expires = self.clock.get() + dice.one(&[50, 2000, 30_000, 30_000, 600_000]);
        let want = Want {
            input: Bounds { low: high - dice.below(high), likely: high, high },
            counted: true,
            output_limit: (dice.below(3) > 0).then(|| 1 + dice.below(90)),
            most_output: 120,
            candidates: dice.below(3),
            rates: Some(RATES),
            unpriced: false,
            expires,
            since: now,
            downgraded: false,
        };
        let act = self.act(worker, key, request, now, Doing::Reserve { expires });
        let claims = act.claims.clone();
        let view = View { world: self, depth, act: RefCell::new(act) };
        let decision = reserve(&Around { now, store: &view }, &claims, &want);
        let act = view.act.into_inner();
        match decision {
            Decision::Admitted(admitted) => {
                let reservation = self.admitted(*admitted, &act, &want);
                self.live.borrow_mut().push(Live { request, worker, key, input: high, reservation });
            }
            Decision::Refused(refused) => {
                self.refused(&refused.budget, Some(&refused), &act, &want);
                self.tally.borrow_mut().refused += 1;
            }
            Decision::Wait { budget, .. } => {
                self.refused(&budget, None, &act, &want);
                self.tally.borrow_mut().waited += 1;
            }
            other => panic!("{other:?}"),
        }
        self.compare(&act);
    }

    fn admitted(&self, admitted: Admitted, act: &Act, want: &Want) -> Reservation {
        let output = admitted.reservation.output;
        for (index, typed) in self.typed.iter().enumerate() {
            assert!(act.holding[index], "{} admitted it and holds nothing", typed.name);
            let account = &self.book.borrow()[&act.accounts[index]];
            let amount = account.amount(act.request);
            // It may have lapsed already, while others came between.
            let still = account.holds(act.request, act.now);
            assert!(
                !still || amount == need(typed.unit, want.input.high, output),
                "{}: {amount}",
                typed.name
            );
        }
        assert_eq!(admitted.clamp.is_some(), output < wanted(want).1);
        let told = admitted.crossed.iter().map(|one| (one.budget.as_str(), one.per_cent));
        self.thresholds(told, act);
        self.tally.borrow_mut().admitted += 1;
        self.tally.borrow_mut().clamped += u64::from(admitted.clamp.is_some());
        admitted.reservation
    }

    /// Nothing is held, and by what the book said when the accounts were read it does not fit.
    fn refused(&self, budget: &str, refused: Option<&Refused>, act: &Act, want: &Want) {
        assert!(!self.holds(act), "it was refused and holds something");
        let (answers, mut output) = wanted(want);
        let high = want.input.high;
        for (typed, left) in self.typed.iter().zip(&act.left).filter(|(typed, _)| typed.policy == "clamp") {
            let room = left.checked_sub(need(typed.unit, high, 0));
            let most = room.map_or(0, |room| room / (need(typed.unit, 0, 1) - need(typed.unit, 0, 0)));
            if most < output && most >= answers {
                output = most - most % answers;
            }
        }
        let index = self.typed.iter().position(|typed| typed.name == budget).unwrap();
        let typed = &self.typed[index];
        let asked = need(typed.unit, high, if typed.policy == "clamp" { answers } else { output });
        let told = refused.map_or(act.left[index], |refused| refused.remaining);
        let never = refused.is_some_and(|refused| refused.retry_after.is_none());
        if told != act.left[index] || asked <= told || never != (asked > act.limits[index]) {
            self.tally.borrow_mut().undershoot += 1;
            panic!("{budget}: {asked} did not fit into {told}, and the book has {} left", act.left[index]);
        }
    }

    fn holds(&self, act: &Act) -> bool {
        let book = self.book.borrow();
        act.accounts.iter().any(|account| book[account].knows(act.request, act.now))
    }

    /// A live request's place in the list.
    fn pick(&self, dice: &mut Dice) -> Option<usize> {
        let live = self.live.borrow();
        (!live.is_empty()).then(|| dice.below(live.len() as u64) as usize)
    }

    fn end(&self, worker: usize, depth: usize, dice: &mut Dice, release: bool) {
        let Some(index) = self.pick(dice) else { return };
        let now = self.now(dice);
        // Now and then it is ended twice.
        let twice = dice.below(8) == 0;
        let (request, key, input, reservation) = {
            let live = &self.live.borrow()[index];
            (live.request, live.key, live.input, live.reservation.clone())
        };
        if !twice {
            self.live.borrow_mut().retain(|live| live.request != request);
        }
        // An estimate may have been wrong.
        let output = reservation.output + if dice.below(10) == 0 { 30 } else { 0 };
        let used = Used {
            input: dice.below(input + 1),
            output: dice.below(output + 1),
            rates: Some(RATES),
            ..Used::default()
        };
        let charge = |typed: &Typed| match typed.unit {
            _ if release => 0,
            Unit::Tokens => used.input + used.output,
            Unit::InputTokens => used.input,
            Unit::OutputTokens => used.output,
            Unit::Usd => used.input * 3 + used.output * 15,
            Unit::Requests => 1,
            Unit::Concurrent => 0,
        };
        let charges = self.typed.iter().map(charge).collect();
        let act = self.act(worker, key, request, now, Doing::Settle(charges));
        let view = View { world: self, depth, act: RefCell::new(act) };
        let around = Around { now, store: &view };
        let settled =
            if release { reservation.release(&around) } else { reservation.settle(&around, &used, &[]) };
        let act = view.act.into_inner();
        assert!(settled.lost.is_empty());
        for (index, typed) in self.typed.iter().enumerate() {
            let unknown = settled.unknown.contains(&typed.name);
            if unknown == act.knew[index] {
                self.tally.borrow_mut().lost += 1;
                panic!("{}: unknown {unknown}, but the book knew {}", typed.name, act.knew[index]);
            }
            self.tally.borrow_mut().unknown += u64::from(unknown);
        }
        let told = settled.crossed.iter().map(|one| (one.budget.as_str(), one.per_cent));
        self.thresholds(told, &act);
        self.tally.borrow_mut().settled += 1;
        self.compare(&act);
    }

    fn extend(&self, depth: usize, dice: &mut Dice) {
        let Some(index) = self.pick(dice) else { return };
        let now = self.now(dice);
        // It leaves the list meanwhile: nobody ends a stream that goes on.
        let mut live = self.live.borrow_mut().swap_remove(index);
        let act = self.act(live.worker, live.key, live.request, now, Doing::Extend);
        // The limits that it was admitted under are its own.
        let limits = vec![u64::MAX; act.limits.len()];
        let view = View { world: self, depth, act: RefCell::new(Act { limits, ..act }) };
        let used = Used { rates: Some(RATES), ..Used::default() };
        let before = live.reservation.output;
        let granted = live.reservation.extend(&Around { now, store: &view }, 1 + dice.below(50), &used);
        assert_eq!(live.reservation.output, before + granted);
        let act = view.act.into_inner();
        for (account, typed) in act.accounts.iter().zip(&self.typed) {
            let book = &self.book.borrow()[account];
            if granted > 0 && typed.policy != "shadow" && book.holds(live.request, act.now) {
                let amount = need(typed.unit, live.input, before + granted);
                assert_eq!(book.amount(live.request), amount, "{account}");
            }
        }
        self.tally.borrow_mut().extended += u64::from(granted > 0);
        self.live.borrow_mut().push(live);
        self.compare(&act);
    }

    /// Each threshold is told once in a window.
    fn thresholds<'t>(&self, told: impl Iterator<Item = (&'t str, u16)>, act: &Act) {
        for (budget, per_cent) in told {
            let index = self.typed.iter().position(|typed| typed.name == budget).unwrap();
            self.tally.borrow_mut().told += 1;
            let Window::Fixed(length) = self.typed[index].window else { continue };
            let moment = self.book.borrow()[&act.accounts[index]].moment(act.now);
            // Where another one has passed the window's end meanwhile nobody knows in which it was told.
            let same = self.clock.get() / length == act.now / length && moment / length == act.now / length;
            let told = (act.accounts[index].clone(), per_cent, moment / length);
            if same && !self.told.borrow_mut().insert(told) {
                self.tally.borrow_mut().told_twice += 1;
            }
        }
    }

    /// What the code says of these accounts is what the book says.
    fn compare(&self, act: &Act) {
        let found = standings(&Around { now: act.now, store: &Plain(self) }, &act.claims);
        for (standing, name) in found.iter().zip(&act.accounts) {
            let account = &self.book.borrow()[name];
            let book = (account.spent(act.now), account.held(act.now));
            if (standing.spent, standing.held) != book {
                self.tally.borrow_mut().lost += 1;
                let said = (standing.spent, standing.held);
                panic!("{name}: spent and held {said:?}, in the book {book:?}");
            }
        }
    }

    /// Everything ends, and all that was held is free.
    pub fn finish(self) -> Tally {
        let steps = self.tally.borrow().steps;
        while !self.live.borrow().is_empty() {
            self.end(0, DEEPEST, &mut Dice(1), false);
        }
        self.clock.set(self.clock.get() + 600_000);
        for key in 0..KEYS {
            let act = self.act(0, key, u64::MAX, self.clock.get(), Doing::Extend);
            self.compare(&act);
            let held = standings(&Around { now: act.now, store: &Plain(&self) }, &act.claims);
            assert!(held.iter().all(|standing| standing.held == 0), "{held:?}");
        }
        let mut tally = self.tally.into_inner();
        tally.steps = steps;
        tally
    }
}

/// How many answers, and the most tokens of all of them.
fn wanted(want: &Want) -> (u64, u64) {
    let answers = want.candidates.max(1);
    (answers, want.output_limit.unwrap_or(want.most_output) * answers)
}
