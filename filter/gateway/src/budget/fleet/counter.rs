//! Which of the service's counters a window is counted in.
//!
//! The service has windows of its own, by its own clock: minutes, hours, days, thirty days and 365 days since the epoch. So the
//! window's begin and end stand in the counter's name, and the service's window has only to be one in which all of it lies.
//! Then the counter is the window's own, whatever either clock says.

use serde::{Deserialize, Serialize};

use crate::budget::Rule;

/// One counter. Two windows, or two parts of one, have two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// From when to when it counts, by the pod's clock (Unix time in milliseconds).
    pub begin: u64,
    pub end: u64,
    /// Tokens, picodollars or requests of one hit.
    pub scale: u64,
    unit: u8,
}

/// A unit of the service: its name in our descriptors and in the service's configuration, its number, its seconds.
/// (`RateLimitResponse.RateLimit.Unit` in rls.proto; `UnitToDivider` in envoyproxy/ratelimit, src/utils/utilities.go)
const UNITS: [(&str, u64, u64); 5] = [
    ("minute", 2, 60),
    ("hour", 3, 3600),
    ("day", 4, 86_400),
    ("month", 5, 30 * 86_400),
    ("year", 6, 365 * 86_400),
];
/// How far the service's clock may be from a pod's, in milliseconds, at the ends of the service's windows.
const MARGIN: u64 = 5000;
/// The service counts to 2³²−1, and counts refused and returned hits as well.
const MOST_HITS: u64 = 1 << 30;

impl Counter {
    /// The counter of this moment.
    pub fn of(rule: &Rule, now: u64) -> Counter {
        let cell = rule.window.cell(now);
        let end = rule.window.end(cell);
        let mut scale = 1;
        while rule.limit / scale > MOST_HITS {
            scale *= 1000;
        }
        let unit = unit(cell.saturating_sub(MARGIN), end.saturating_add(MARGIN)).or_else(|| unit(cell, end));
        if let Some(unit) = unit {
            return Counter { begin: cell, end, scale, unit };
        }
        // A year of the service ends within it: it has a counter before and another one after, each for its share.
        let unit = UNITS.len() as u8 - 1;
        let year = UNITS.last().map_or(1, |(_, _, seconds)| seconds * 1000);
        let cut = end - end % year;
        let (begin, end) = if now < cut { (cell, cut) } else { (cut, end) };
        Counter { begin, end, scale, unit }
    }

    /// The most hits that may be granted.
    pub fn limit(&self, rule: &Rule) -> u64 {
        let hits = rule.limit / self.scale;
        let cell = rule.window.cell(self.begin);
        let whole = rule.window.end(cell).saturating_sub(cell).max(1);
        let part = self.end.saturating_sub(self.begin);
        if part >= whole {
            return hits;
        }
        let share = |time: u64| u64::try_from(u128::from(hits) * u128::from(time) / u128::from(whole));
        // Both shares together are the whole limit.
        let first = share(if self.begin == cell { part } else { whole - part }).unwrap_or(0);
        if self.begin == cell { first } else { hits - first }
    }

    /// The next part of the same window.
    pub fn follows(&self, other: &Counter, rule: &Rule) -> bool {
        self.begin == other.end
            && self.scale == other.scale
            && rule.window.cell(self.begin) == rule.window.cell(other.begin)
    }

    pub fn unit(&self) -> Unit {
        let (name, number, seconds) = UNITS.get(usize::from(self.unit)).copied().unwrap_or(("", 0, 1));
        Unit { name, number, seconds }
    }

    /// Whether the service, at `now` by the pod's clock, counted in the window that was meant: it says how many seconds are
    /// left of it.
    pub fn is_counted(&self, now: u64, reset: u64) -> bool {
        let length = self.unit().seconds * 1000;
        let ends = self.begin - self.begin % length + length;
        now.saturating_add(reset.saturating_mul(1000)).abs_diff(ends) < length / 2
    }
}

pub struct Unit {
    pub name: &'static str,
    pub number: u64,
    seconds: u64,
}

/// The shortest unit of which one window holds all of this time.
fn unit(begin: u64, end: u64) -> Option<u8> {
    let holds = |(_, _, seconds): &(&str, u64, u64)| end <= begin - begin % (seconds * 1000) + seconds * 1000;
    UNITS.iter().position(holds).and_then(|unit| u8::try_from(unit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::tests::fleet::rule;
    use crate::budget::window::{Calendar, Window};
    use crate::date;

    fn at(text: &str) -> u64 {
        u64::try_from(date::unix_millis(text, 0).unwrap()).unwrap()
    }

    #[test]
    fn a_window_lies_in_one_of_the_services_own() {
        for (window, now, name) in [
            (Window::Fixed(1000), "2026-05-05T12:00:30Z", "minute"),
            (Window::Fixed(1000), "2026-05-05T12:01:00Z", "hour"),
            (Window::Fixed(60_000), "2026-05-05T12:01:30Z", "hour"),
            (Window::Fixed(60_000), "2026-05-05T12:00:30Z", "day"),
            (Window::Calendar(Calendar::Hour), "2026-05-05T12:01:30Z", "day"),
            (Window::Calendar(Calendar::Hour), "2026-05-05T23:01:30Z", "month"),
            (Window::Calendar(Calendar::Day), "2026-05-05T23:01:30Z", "month"),
            (Window::Calendar(Calendar::Week), "2026-05-05T23:01:30Z", "year"),
            (Window::Calendar(Calendar::Week), "2026-05-12T23:01:30Z", "month"),
            (Window::Calendar(Calendar::Month), "2026-05-05T23:01:30Z", "year"),
        ] {
            let counter = Counter::of(&rule(1000, window), at(now));
            assert_eq!(counter.unit().name, name, "{window:?} {now}");
            assert_eq!((counter.begin, counter.limit(&rule(1000, window))), (window.cell(at(now)), 1000));
            let length = counter.unit().seconds * 1000;
            assert_eq!(counter.begin / length, (counter.end - 1) / length, "{window:?} {now}");
        }
    }

    #[test]
    fn a_month_in_which_the_services_year_ends_has_two_counters_with_their_shares() {
        let rule = rule(1000, Window::Calendar(Calendar::Month));
        let first = Counter::of(&rule, at("2026-12-02T00:00:00Z"));
        let second = Counter::of(&rule, at("2026-12-31T00:00:00Z"));
        assert_eq!((first.begin, second.end), (at("2026-12-01T00:00:00Z"), at("2027-01-01T00:00:00Z")));
        assert_eq!((first.end, second.begin), (at("2026-12-18T00:00:00Z"), at("2026-12-18T00:00:00Z")));
        assert_eq!((first.limit(&rule), second.limit(&rule)), (548, 452), "17 and 14 days of 31");
        assert!(second.follows(&first, &rule) && !first.follows(&second, &rule));
        let month = Counter::of(&rule, second.end);
        assert!(!month.follows(&second, &rule), "another month");
    }

    #[test]
    fn large_limits_are_counted_in_larger_pieces() {
        let hits = |limit| {
            let rule = rule(limit, Window::Fixed(60_000));
            let counter = Counter::of(&rule, 0);
            (counter.limit(&rule), counter.scale)
        };
        assert_eq!(hits(1), (1, 1));
        assert_eq!(hits(1 << 30), (1 << 30, 1));
        assert_eq!(hits((1 << 30) + 1), (1_073_741, 1000));
        assert_eq!(hits(25_000_000_000_000), (25_000_000, 1_000_000), "25 dollars");
        let (most, scale) = hits(u64::MAX / 4);
        assert!(most <= MOST_HITS && most * scale <= u64::MAX / 4);
    }

    #[test]
    fn a_service_whose_clock_is_elsewhere_is_found_out() {
        let counter = Counter::of(&rule(1, Window::Calendar(Calendar::Hour)), at("2026-05-05T12:00:00Z"));
        let day = |text| 86_400 - at(text) / 1000 % 86_400;
        assert!(counter.is_counted(at("2026-05-05T12:30:00Z"), day("2026-05-05T12:30:00Z")));
        assert!(counter.is_counted(at("2026-05-05T12:30:00Z"), day("2026-05-05T12:50:00Z")));
        assert!(!counter.is_counted(at("2026-05-05T12:30:00Z"), day("2026-05-06T00:10:00Z")));
    }
}
