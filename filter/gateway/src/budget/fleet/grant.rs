//! What the fleet's service has granted to this pod, in the account that it is for, so that all workers share it.

use serde::{Deserialize, Serialize};

use super::counter::Counter;
use crate::budget::Rule;

/// A slice used up faster than this is followed by one of twice its size, and one that lasted longer than [`SLOW`] by half.
const FAST: u64 = 2000;
const SLOW: u64 = 20_000;
/// The first slice, as a part of the largest.
const FIRST: u64 = 8;
/// The part of what is left for all that one slice may take: so the last slices are small, and little is left with those who
/// do not use it.
const SHARE: u64 = 8;
/// For so long a service that has nothing more is not asked again: what others give back may be had then.
const DRY: std::ops::RangeInclusive<u64> = 1000..=10_000;

/// The sum of what is granted to all pods is never more than the limit.
///
/// A counter has two numbers, which only grow: hits that were taken, and hits that were given back. A pod that takes some
/// learns how many were taken before, so it knows which of its own are within the limit and what was given back; those are
/// granted, and the others are given back at once. (Negative hits would do with one number, but not every service knows them,
/// and after a loss of data a counter below zero is an error to all.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub counter: Counter,
    /// What was spent or held when this counter began to count, and is counted in another of the same window.
    base: u64,
    granted: u64,
    /// The numbers as they were told last.
    taken: u64,
    returned: u64,
    /// Hits to take next, if no more are needed.
    slice: u64,
    /// When the last grant came.
    since: u64,
    /// Some worker has asked, and may be answered until then.
    pub asking: u64,
    /// Until then there is nothing more to be had.
    pub dry: u64,
}

/// What a worker's ask has brought.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    /// Hits beyond the limit: they are given back.
    pub refused: u64,
    /// Hits that the service has lost: they are counted again.
    pub lost: u64,
}

impl Grant {
    /// Goes on to this moment's counter; `used`: what is spent and held in the window.
    pub fn roll(&mut self, rule: &Rule, now: u64, used: u64) {
        let counter = Counter::of(rule, now);
        if counter == self.counter {
            return;
        }
        let base = if counter.follows(&self.counter, rule) { used.min(self.covers()) } else { 0 };
        *self = Grant { counter, base, slice: self.slice, since: self.since, ..Grant::default() };
    }

    /// What may be spent and held together.
    pub fn covers(&self) -> u64 {
        self.base.saturating_add(self.granted)
    }

    /// How many hits to ask for, that so much more may be held.
    pub fn size(&self, rule: &Rule, missing: u64) -> u64 {
        let limit = self.counter.limit(rule);
        let most = self.most(rule);
        let slice = if self.slice == 0 { most / FIRST } else { self.slice };
        let slice = if self.taken > 0 { slice.min(self.free(rule) / SHARE) } else { slice };
        missing.div_ceil(self.counter.scale).max(slice.clamp(1, most)).min(limit.max(1))
    }

    /// The largest slice, in hits.
    fn most(&self, rule: &Rule) -> u64 {
        let per_cent = rule.fleet.as_ref().map_or(0, |fleet| u64::from(fleet.slice));
        (self.counter.limit(rule) * per_cent / 100).max(1)
    }

    /// The largest slice.
    pub fn slice(&self, rule: &Rule) -> u64 {
        self.most(rule).saturating_mul(self.counter.scale)
    }

    /// Hits that were left for all pods, as far as this one was told.
    fn free(&self, rule: &Rule) -> u64 {
        self.counter.limit(rule).saturating_sub(self.taken.saturating_sub(self.returned))
    }

    /// What is left for all pods, as far as this one was told, beside what it has itself.
    pub fn known_free(&self, rule: &Rule) -> u64 {
        self.free(rule).saturating_mul(self.counter.scale)
    }

    /// So little is left of the last slice that the next one is taken before it is needed.
    pub fn is_low(&self, used: u64) -> bool {
        let slice = self.slice.saturating_mul(self.counter.scale);
        self.covers().saturating_sub(used) < slice / 2
    }

    /// The service has counted `hits`: what it counted then, and before us was given back.
    pub fn take(&mut self, rule: &Rule, hits: u64, (taken, returned): (u64, u64), now: u64) -> Taken {
        let before = taken.saturating_sub(hits);
        // Neither number ever falls, unless the service has lost them; what this pod knows of is counted again.
        let known = self.taken.saturating_sub(self.returned);
        let fell = before < self.taken || returned < self.returned;
        let lost = if fell { known.saturating_sub(before.saturating_sub(returned)) } else { 0 };
        let room = self.counter.limit(rule).saturating_add(returned);
        let granted = room.saturating_sub(before.saturating_add(lost)).min(hits);
        (self.taken, self.returned) = (taken.saturating_add(lost), returned);
        self.granted = self.granted.saturating_add(granted.saturating_mul(self.counter.scale));
        self.asking = 0;
        let refused = hits - granted;
        if refused > 0 {
            self.run_dry(now);
        } else {
            self.adapt(rule, now);
        }
        Taken { refused, lost }
    }

    /// There is nothing more for now.
    pub fn run_dry(&mut self, now: u64) {
        let pause = (self.counter.end - self.counter.begin) / 64;
        self.dry = now.saturating_add(pause.clamp(*DRY.start(), *DRY.end())).min(self.counter.end);
        (self.slice, self.asking) = ((self.slice / 2).max(1), 0);
    }

    fn adapt(&mut self, rule: &Rule, now: u64) {
        let most = self.most(rule);
        let slice = if self.slice == 0 { most / FIRST } else { self.slice };
        let lasted = now.saturating_sub(self.since);
        let slice = match lasted {
            _ if self.since == 0 => slice,
            ..FAST => slice.saturating_mul(2),
            FAST..=SLOW => slice,
            _ => slice / 2,
        };
        (self.slice, self.since, self.dry) = (slice.clamp(1, most), now, 0);
    }

    /// Gives back what is not used, in whole hits. Returns how many.
    pub fn give_back(&mut self, used: u64) -> u64 {
        let unused = self.covers().saturating_sub(used).min(self.granted);
        let hits = unused / self.counter.scale;
        self.granted -= hits * self.counter.scale;
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::tests::fleet::fleet_rule;
    use crate::budget::window::Window;

    const T0: u64 = 1_800_000_000_000;

    fn grant(rule: &Rule) -> Grant {
        let mut grant = Grant::default();
        grant.roll(rule, T0, 0);
        grant
    }

    #[test]
    fn only_what_lies_within_the_limit_is_granted() {
        let rule = fleet_rule(100, Window::Fixed(60_000));
        let mut one = grant(&rule);
        assert_eq!(one.take(&rule, 30, (30, 0), T0), Taken::default());
        assert_eq!(one.covers(), 30);
        // Others have taken 60 meanwhile.
        assert_eq!(one.take(&rule, 30, (120, 0), T0), Taken { refused: 20, lost: 0 });
        assert_eq!((one.covers(), one.dry), (40, T0 + 1000));
        assert_eq!(one.take(&rule, 5, (125, 0), T0), Taken { refused: 5, lost: 0 });
        // They were given back, and ten more.
        assert_eq!(one.take(&rule, 20, (145, 35), T0), Taken { refused: 10, lost: 0 });
        assert_eq!(one.covers(), 50);
    }

    #[test]
    fn what_the_service_has_lost_is_counted_again() {
        let rule = fleet_rule(100, Window::Fixed(60_000));
        let mut one = grant(&rule);
        one.take(&rule, 10, (80, 10), T0);
        assert_eq!(one.take(&rule, 40, (40, 0), T0), Taken { refused: 10, lost: 70 });
        assert_eq!(one.covers(), 40, "ten and the thirty that were left");
    }

    #[test]
    fn a_slice_grows_with_use_and_ends_small() {
        let rule = fleet_rule(10_000, Window::Fixed(3_600_000));
        let mut one = grant(&rule);
        assert_eq!(
            (one.size(&rule, 1), one.size(&rule, 700)),
            (62, 700),
            "an eighth of 5 %, or what is needed"
        );
        let mut taken = 0;
        let mut sizes = Vec::new();
        for _ in 0..6 {
            let size = one.size(&rule, 1);
            taken += size;
            one.take(&rule, size, (taken, 0), T0);
            sizes.push(one.size(&rule, 1));
        }
        assert_eq!(sizes, [62, 124, 248, 496, 500, 500]);
        one.take(&rule, 1, (9801, 0), T0);
        assert_eq!(one.size(&rule, 1), 24, "an eighth of the rest");
        one.take(&rule, 1, (9802, 0), T0 + 21_000);
        assert_eq!(one.slice, 250, "it lasted");
    }

    #[test]
    fn what_is_not_used_is_given_back_and_a_window_begins_with_nothing() {
        let rule = fleet_rule(10_000_000_000, Window::Fixed(60_000));
        let mut one = grant(&rule);
        one.take(&rule, 10, (10, 0), T0);
        assert_eq!(one.covers(), 10_000, "a hit is a thousand");
        assert_eq!((one.give_back(4001), one.covers()), (5, 5000));
        assert_eq!((one.give_back(4001), one.give_back(9000)), (0, 0));
        one.roll(&rule, T0 + 60_000, 0);
        assert_eq!((one.covers(), one.taken), (0, 0));
    }
}
