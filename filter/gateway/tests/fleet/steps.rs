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
    /// A request that waits is looked at again.
    Again,
    Settle,
    /// The service takes a call.
    Serve,
    /// An answer reaches its pod.
    Deliver,
    /// A call or an answer is lost, or is too late.
    Lose,
    Tick,
    Clock,
    /// The service goes down, or comes back.
    Outage,
    /// It comes back with nothing.
    Forget,
    /// A worker's VM dies.
    Crash,
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

impl Step {
    pub fn random(dice: &mut Dice) -> Step {
        use Kind::*;
        let often = [
            Reserve, Reserve, Reserve, Reserve, Again, Again, Settle, Settle, Settle, Serve, Serve, Serve,
            Serve, Deliver, Deliver, Deliver, Deliver, Tick, Clock, Clock,
        ];
        let kind = match dice.below(80) {
            0 => Outage,
            1 => Forget,
            2 => Crash,
            3..6 => Lose,
            _ => dice.one(&often),
        };
        Step { kind, dice: dice.next() }
    }
}

#[derive(Debug, Default)]
pub struct Tally {
    pub steps: u64,
    pub admitted: u64,
    pub open: u64,
    pub refused: u64,
    pub unavailable: u64,
    pub waited: u64,
    pub calls: u64,
    pub dry: u64,
    pub given_back: u64,
    pub lost: u64,
    pub counted_again: u64,
    pub interrupted: u64,
    /// The most beyond a limit, per mille of it: with a good service, or `closed`; the same where requests went ahead of their
    /// grants, which is at most a slice for each pod; where the service was down with `open`; where it forgot what it had
    /// counted.
    pub overshoot: u64,
    pub overshoot_ahead: u64,
    pub overshoot_open: u64,
    pub overshoot_forgot: u64,
    /// The most of a limit, per mille, that nobody had used when a request was refused that would have fitted.
    pub left_over: u64,
    /// The most times that a request was looked at before it was decided.
    pub looks: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.admitted += other.admitted;
        self.open += other.open;
        self.refused += other.refused;
        self.unavailable += other.unavailable;
        self.waited += other.waited;
        self.calls += other.calls;
        self.dry += other.dry;
        self.given_back += other.given_back;
        self.lost += other.lost;
        self.counted_again += other.counted_again;
        self.interrupted += other.interrupted;
        self.overshoot = self.overshoot.max(other.overshoot);
        self.overshoot_ahead = self.overshoot_ahead.max(other.overshoot_ahead);
        self.overshoot_open = self.overshoot_open.max(other.overshoot_open);
        self.overshoot_forgot = self.overshoot_forgot.max(other.overshoot_forgot);
        self.left_over = self.left_over.max(other.left_over);
        self.looks = self.looks.max(other.looks);
    }
}
