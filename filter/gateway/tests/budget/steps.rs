//! Steps, the dice that choose them, and what came of them.

/// One step; all that is left open hangs on its dice.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub kind: Kind,
    pub dice: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Reserve,
    Settle,
    Extend,
    Release,
    Crash,
    Reload,
    Clock,
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

pub fn step(dice: &mut Dice, top: bool) -> Step {
    use Kind::*;
    let kinds: &[Kind] = if top {
        &[Reserve, Reserve, Reserve, Reserve, Settle, Settle, Settle, Extend, Release, Clock, Clock, Clock]
    } else {
        &[Reserve, Reserve, Reserve, Settle, Settle, Settle, Extend, Release]
    };
    let kind = match dice.below(60) {
        0 if top => Crash,
        1 if top => Reload,
        _ => dice.one(kinds),
    };
    Step { kind, dice: dice.next() }
}

pub fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut dice = Dice(seed ^ 0x5eed);
    (0..count).map(|_| step(&mut dice, true)).collect()
}

#[derive(Debug, Default)]
pub struct Tally {
    pub steps: u64,
    pub admitted: u64,
    pub refused: u64,
    pub clamped: u64,
    pub waited: u64,
    pub settled: u64,
    pub unknown: u64,
    pub extended: u64,
    pub given_back: u64,
    pub crashed: u64,
    pub interrupted: u64,
    pub failed_writes: u64,
    pub told: u64,
    pub told_twice: u64,
    pub overshoot: u64,
    pub undershoot: u64,
    pub lost: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.clamped += other.clamped;
        self.waited += other.waited;
        self.settled += other.settled;
        self.unknown += other.unknown;
        self.extended += other.extended;
        self.given_back += other.given_back;
        self.crashed += other.crashed;
        self.interrupted += other.interrupted;
        self.failed_writes += other.failed_writes;
        self.told += other.told;
        self.told_twice += other.told_twice;
        self.overshoot += other.overshoot;
        self.undershoot += other.undershoot;
        self.lost += other.lost;
    }
}
