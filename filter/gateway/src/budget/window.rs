//! The windows of budgets. Time is cut into cells, each of which is counted for as long as its window reaches back to it.

use serde::{Deserialize, Serialize};

use crate::date;

/// Steps in which a sliding window moves on.
const STEPS: u64 = 32;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Window {
    /// Milliseconds, counted from the Unix epoch.
    Fixed(u64),
    /// Milliseconds. Counted are the cells of the last `STEPS` steps and the one under way: the window and up to a step more.
    Sliding(u64),
    Calendar(Calendar),
    /// What is under way is counted, and nothing else.
    Open,
}

/// In UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Calendar {
    Hour,
    Day,
    /// From Monday (ISO 8601).
    Week,
    Month,
}

impl Window {
    /// The cell of this moment, by when it began (Unix time in milliseconds).
    pub fn cell(self, now: u64) -> u64 {
        match self {
            Window::Fixed(length) => now - now % length.max(1),
            Window::Sliding(length) => now - now % step(length),
            Window::Calendar(unit) => unit.bounds(now).0,
            Window::Open => 0,
        }
    }
    /// The oldest cell that counts at this moment.
    pub fn oldest(self, now: u64) -> u64 {
        match self {
            Window::Sliding(length) => self.cell(now).saturating_sub(STEPS * step(length)),
            _ => self.cell(now),
        }
    }
    /// From when on a cell counts no more; `u64::MAX`: it never ceases to.
    pub fn end(self, cell: u64) -> u64 {
        match self {
            Window::Fixed(length) => cell.saturating_add(length),
            Window::Sliding(length) => cell.saturating_add((STEPS + 1) * step(length)),
            Window::Calendar(unit) => unit.bounds(cell).1,
            Window::Open => u64::MAX,
        }
    }
    /// In which thresholds are told once, from its begin to its end.
    pub fn period(self, now: u64) -> (u64, u64) {
        match self {
            Window::Fixed(length) | Window::Sliding(length) => {
                let begin = now - now % length.max(1);
                (begin, begin.saturating_add(length))
            }
            Window::Calendar(unit) => unit.bounds(now),
            Window::Open => (now - now % MINUTE, now - now % MINUTE + MINUTE),
        }
    }
}

fn step(length: u64) -> u64 {
    length.div_ceil(STEPS).max(1)
}

impl Calendar {
    /// When the hour, day, week or month of a moment began, and when it ends.
    fn bounds(self, now: u64) -> (u64, u64) {
        let aligned = |length: u64, first: u64| {
            let begin = now - (now + length - first) % length;
            (begin, begin.saturating_add(length))
        };
        match self {
            Calendar::Hour => aligned(HOUR, 0),
            Calendar::Day => aligned(DAY, 0),
            // The epoch was a Thursday; the first Monday is its fifth day.
            Calendar::Week if now < 4 * DAY => (0, 4 * DAY),
            Calendar::Week => aligned(7 * DAY, 4 * DAY),
            Calendar::Month => date::month(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        u64::try_from(date::unix_millis(text, 0).unwrap()).unwrap()
    }

    #[test]
    fn windows_of_the_calendar() {
        for (unit, now, begin, end) in [
            (Calendar::Hour, "2026-02-28T23:59:59.999Z", "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z"),
            (Calendar::Day, "2026-02-28T23:59:59.999Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"),
            (Calendar::Week, "2026-03-01T12:00:00Z", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"),
            (Calendar::Week, "2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"),
            (Calendar::Month, "2026-02-28T23:59:59.999Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            (Calendar::Month, "2024-02-29T00:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            (Calendar::Month, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Calendar::Month, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ] {
            assert_eq!(unit.bounds(at(now)), (at(begin), at(end)), "{unit:?} {now}");
        }
    }

    #[test]
    fn a_window_begins_where_the_one_before_ends() {
        for unit in [Calendar::Hour, Calendar::Day, Calendar::Week, Calendar::Month] {
            let (mut begin, mut end) = unit.bounds(0);
            while begin < 3 * 366 * DAY {
                assert_eq!((unit.bounds(end - 1), unit.bounds(end).0), ((begin, end), end), "{unit:?}");
                (begin, end) = unit.bounds(end);
            }
        }
    }

    #[test]
    fn a_sliding_window_forgets_up_to_a_step_late_and_never_early() {
        for length in [1000, 1001, 60_000, DAY, 31 * DAY] {
            let window = Window::Sliding(length);
            for now in [at("2026-02-28T23:59:59.999Z"), at("2026-03-01T00:00:00.017Z")] {
                let cell = window.cell(now);
                let end = window.end(cell);
                assert!(end > now + length, "what was spent now counts for the whole window");
                assert!(end <= now + length + 2 * (length / 32 + 1) + 32, "{length}");
                assert!(window.oldest(end - 1) <= cell && window.oldest(end) > cell, "{length}");
            }
        }
    }
}
