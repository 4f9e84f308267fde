//! Budgets as a plain sequential book: every request of an account in a list, looked through each time.

use attache_gateway::budget::Unit;

/// As `budget/account.rs` says: older moments are the same moment; a lapsed reservation is known for so long.
const STALE: u64 = 5000;
const LINGER: u64 = 600_000;

pub const HOUR: u64 = 3_600_000;
pub const DAY: u64 = 24 * HOUR;
/// From November 2023, in which the runs begin, to March 2024.
pub const MONTHS: [u64; 5] =
    [1_698_796_800_000, 1_701_388_800_000, 1_704_067_200_000, 1_706_745_600_000, 1_709_251_200_000];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Window {
    Fixed(u64),
    Sliding(u64),
    Week,
    Month,
    Open,
}

impl Window {
    /// Whether what was admitted at `t` counts at `now`.
    pub fn counts(self, t: u64, now: u64) -> bool {
        match self {
            Window::Fixed(length) => t / length == now / length,
            Window::Sliding(length) => t / length.div_ceil(32) + 32 >= now / length.div_ceil(32),
            Window::Week => (t - 4 * DAY) / (7 * DAY) == (now - 4 * DAY) / (7 * DAY),
            Window::Month => {
                let month = |t: u64| MONTHS.iter().filter(|begin| **begin <= t).count();
                month(t) == month(now)
            }
            Window::Open => true,
        }
    }
    /// A moment at which something is about to change.
    pub fn edge(self, now: u64) -> u64 {
        match self {
            Window::Fixed(length) => (now / length + 1) * length,
            Window::Sliding(length) => (now / length.div_ceil(32) + 1) * length.div_ceil(32),
            Window::Week => now - (now - 4 * DAY) % (7 * DAY) + 7 * DAY,
            Window::Month => MONTHS.iter().find(|begin| **begin > now).copied().unwrap_or(now),
            Window::Open => now,
        }
    }
}

struct Entry {
    request: u64,
    admitted: u64,
    amount: u64,
    expires: u64,
    /// `None`: under way, or never heard of again.
    charged: Option<u64>,
}

pub struct Account {
    pub window: Window,
    pub unit: Unit,
    seen: u64,
    entries: Vec<Entry>,
}

impl Account {
    pub fn new(window: Window, unit: Unit) -> Account {
        Account { window, unit, seen: 0, entries: Vec::new() }
    }
    pub fn moment(&self, now: u64) -> u64 {
        if self.seen > now && self.seen - now <= STALE { self.seen } else { now }
    }
    pub fn spent(&self, now: u64) -> u64 {
        let now = self.moment(now);
        let lapsed = |entry: &Entry| match self.unit {
            Unit::Requests if entry.expires <= now => entry.amount,
            _ => 0,
        };
        let counted = self.entries.iter().filter(|entry| self.window.counts(entry.admitted, now));
        counted.map(|entry| entry.charged.unwrap_or_else(|| lapsed(entry))).sum()
    }
    pub fn held(&self, now: u64) -> u64 {
        let now = self.moment(now);
        let counted = self.entries.iter().filter(|entry| self.window.counts(entry.admitted, now));
        counted.filter(|entry| entry.charged.is_none() && entry.expires > now).map(|entry| entry.amount).sum()
    }
    /// Whether a request's end would change anything.
    pub fn knows(&self, request: u64, now: u64) -> bool {
        let now = self.moment(now);
        let linger = if matches!(self.unit, Unit::Requests | Unit::Concurrent) { 0 } else { LINGER };
        self.entries.iter().any(|entry| {
            entry.request == request
                && entry.charged.is_none()
                && self.window.counts(entry.admitted, now)
                && entry.expires + linger > now
        })
    }
    /// Whether what it holds counts.
    pub fn holds(&self, request: u64, now: u64) -> bool {
        let lives = |entry: &Entry| entry.request == request && entry.expires > self.moment(now);
        self.knows(request, now) && self.entries.iter().any(lives)
    }
    pub fn hold(&mut self, request: u64, amount: u64, expires: u64, now: u64) {
        self.look(now);
        // What it held before, and others let lapse or roll by, is nobody's.
        self.entries
            .iter_mut()
            .filter(|entry| entry.request == request)
            .for_each(|entry| entry.request = u64::MAX);
        self.entries.push(Entry { request, admitted: self.seen, amount, expires, charged: None });
    }
    pub fn settle(&mut self, request: u64, charge: u64, now: u64) {
        if self.knows(request, now) {
            self.look(now);
            let entry = self.entries.iter_mut().find(|e| e.request == request && e.charged.is_none());
            entry.unwrap().charged = Some(charge);
        }
    }
    /// The request holds another amount.
    pub fn alter(&mut self, request: u64, amount: u64, now: u64) {
        self.look(now);
        let entry = self.entries.iter_mut().find(|e| e.request == request && e.charged.is_none());
        entry.unwrap().amount = amount;
    }
    pub fn amount(&self, request: u64) -> u64 {
        let entry = self.entries.iter().find(|e| e.request == request && e.charged.is_none());
        entry.map_or(0, |entry| entry.amount)
    }
    fn look(&mut self, now: u64) {
        self.seen = self.moment(now);
        let (window, seen) = (self.window, self.seen);
        self.entries.retain(|entry| {
            let over = window == Window::Open && entry.charged.is_some();
            window.counts(entry.admitted, seen) && !over
        });
    }
}
