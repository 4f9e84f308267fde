//! The health of keys and targets: one small table in Envoy's shared data, read by every plan, written only where
//! something fails or something that failed is better again.
//!
//! What has no entry is well. An entry is closed (it failed of late, and is watched), resting (its circuit is open, or
//! the provider told a time), or due: its rest is over, and one request at a time may try it.

use std::collections::BTreeMap;

use attache_protocol::error::ErrorKind;
use serde::{Deserialize, Serialize};

/// Whose health: a key at its provider (an Envoy cluster), or a model asked with it. FNV-1a of the names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id(u64);

impl Id {
    pub fn key(cluster: &str) -> Id {
        Id(hash(&[cluster.as_bytes()]))
    }
    pub fn target(cluster: &str, model_label: &str) -> Id {
        Id(hash(&[cluster.as_bytes(), model_label.as_bytes()]))
    }
}

/// FNV-1a over parts, each ended by a zero byte. <http://www.isthe.com/chongo/tech/comp/fnv/>
pub fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// When a circuit opens, and for how long. Times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthPolicy {
    /// This many failures in a row open it.
    pub consecutive: u16,
    /// So does this share of failures, in per cent of the window's answers …
    pub error_rate: u8,
    /// … once there are so many.
    pub minimum: u16,
    pub window: u64,
    /// The first rest; each further one is twice as long …
    pub cool_down: u64,
    /// … up to this.
    pub max_cool_down: u64,
    /// The rest of a key that was refused, and of one whose quota is spent.
    pub refused: u64,
    pub spent: u64,
    /// A told rest is believed up to this.
    pub longest_told: u64,
}

/// Entries kept. More keys and models than this are not ill at once; the one longest quiet makes room.
const MOST_ENTRIES: usize = 256;
/// A limit per minute has grown again by a sixth.
const SPARE: u64 = 10_000;
/// One probe at a time; one that was never heard of again is forgotten after this.
const PROBE: u64 = 30_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// When the window began, and when it last failed (Unix time in milliseconds).
    since: u64,
    failed: u64,
    failures: u16,
    successes: u16,
    consecutive: u16,
    /// Rests in a row.
    opened: u8,
    /// 0: closed.
    until: u64,
    probed: u64,
    /// The key was refused, or its quota is spent: it is not the last door that a request may still knock at.
    shut: bool,
    /// Until then little is left of its limit.
    spare_until: u64,
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    entries: BTreeMap<Id, Entry>,
    /// Until then some conversations live elsewhere than their route's order says: see [`crate::sticky`].
    pub moved_until: u64,
}

/// How a key or target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Well,
    /// It failed of late.
    Ailing,
    /// Little is left of its limit: others first.
    Spare,
    /// Its rest is over: one request may try it.
    Due,
    Resting {
        until: u64,
        /// Its key was refused or spent: it will surely fail.
        shut: bool,
    },
}

/// What an operator hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Opened { millis: u64 },
    Closed,
}

impl Health {
    pub fn read(bytes: &[u8]) -> Health {
        postcard::from_bytes(bytes).unwrap_or_default()
    }
    pub fn write(&self) -> Vec<u8> {
        postcard::to_extend(self, Vec::new()).unwrap_or_default()
    }

    pub fn verdict(&self, id: Id, now: u64) -> Verdict {
        match self.entries.get(&id) {
            None => Verdict::Well,
            Some(entry) if entry.until == 0 && now < entry.spare_until => Verdict::Spare,
            Some(entry) if entry.until == 0 => Verdict::Ailing,
            Some(entry) if now < entry.until => Verdict::Resting { until: entry.until, shut: entry.shut },
            Some(entry) if now < entry.probed + PROBE => {
                Verdict::Resting { until: entry.probed + PROBE, shut: entry.shut }
            }
            Some(_) => Verdict::Due,
        }
    }

    /// Takes the one probe of something due; `false`: another request has it.
    pub fn probe(&mut self, id: Id, now: u64) -> bool {
        if self.verdict(id, now) != Verdict::Due {
            return false;
        }
        self.entries.get_mut(&id).map(|entry| entry.probed = now).is_some()
    }

    /// Gives a probe back that will not be heard of.
    pub fn release(&mut self, id: Id) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.probed = 0;
        }
    }

    /// A failure of this class. `told`: the milliseconds that the provider asked for; `dice`: any number, for jitter.
    pub fn failure(
        &mut self,
        id: Id,
        policy: &HealthPolicy,
        class: ErrorKind,
        told: Option<u64>,
        now: u64,
        dice: u64,
    ) -> Option<Change> {
        let entry = self.entry(id, now);
        if now.saturating_sub(entry.since) > policy.window {
            (entry.since, entry.failures, entry.successes) = (now, 0, 0);
        }
        let resting = now < entry.until;
        entry.failed = now;
        entry.failures = entry.failures.saturating_add(1);
        entry.consecutive = entry.consecutive.saturating_add(1);
        let shut = matches!(class, ErrorKind::Authentication | ErrorKind::Permission | ErrorKind::QuotaSpent);
        let rest = match (class, told) {
            (_, Some(told)) => Some(told.min(policy.longest_told)),
            (ErrorKind::Authentication | ErrorKind::Permission, None) => Some(policy.refused),
            (ErrorKind::QuotaSpent, None) => Some(policy.spent),
            _ => None,
        };
        if let Some(rest) = rest {
            entry.until = entry.until.max(now + rest);
            (entry.shut, entry.probed) = (shut, 0);
            return (!resting).then_some(Change::Opened { millis: rest });
        }
        if resting {
            // A request that was under way when it opened tells nothing new.
            return None;
        }
        let answers = u32::from(entry.failures) + u32::from(entry.successes);
        let often = answers >= u32::from(policy.minimum)
            && u32::from(entry.failures) * 100 >= answers * u32::from(policy.error_rate);
        // What was due and failed rests again; what was closed needs a reason.
        if entry.until == 0 && entry.consecutive < policy.consecutive && !often {
            return None;
        }
        let doubled = policy.cool_down.saturating_mul(1 << entry.opened.min(16)).min(policy.max_cool_down);
        // Up to a fifth less: those who wait for the same provider do not all come back at once.
        let millis = doubled - dice % (doubled / 5).max(1);
        entry.opened = entry.opened.saturating_add(1);
        (entry.until, entry.shut, entry.probed) = (now + millis, false, 0);
        Some(Change::Opened { millis })
    }

    /// Little is left of a key's limit.
    pub fn spare(&mut self, id: Id, now: u64) {
        let entry = self.entry(id, now);
        entry.spare_until = now + SPARE;
    }

    /// A good answer of something that was ailing, to a request sent at `sent`.
    pub fn success(&mut self, id: Id, policy: &HealthPolicy, sent: u64, now: u64) -> Option<Change> {
        let entry = self.entries.get_mut(&id)?;
        if entry.until > 0 && sent <= entry.failed {
            // What was sent before it failed last tells nothing of how it is now.
            return None;
        }
        let reopened = entry.until > 0;
        entry.until = 0;
        (entry.consecutive, entry.probed) = (0, 0);
        entry.successes = entry.successes.saturating_add(1);
        if reopened {
            // Its past is forgotten, but for how often it opened: a provider that comes and goes rests longer each time.
            (entry.since, entry.failures, entry.successes) = (now, 0, 0);
            return Some(Change::Closed);
        }
        if now.saturating_sub(entry.failed) > policy.window.max(policy.max_cool_down) {
            self.entries.remove(&id);
        }
        None
    }

    fn entry(&mut self, id: Id, now: u64) -> &mut Entry {
        if self.entries.len() >= MOST_ENTRIES && !self.entries.contains_key(&id) {
            let quiet = |(_, entry): &(&Id, &Entry)| entry.failed.max(entry.until);
            let oldest = self.entries.iter().min_by_key(quiet).map(|(id, _)| *id);
            oldest.and_then(|oldest| self.entries.remove(&oldest));
        }
        self.entries.entry(id).or_insert_with(|| Entry { since: now, failed: now, ..Entry::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: HealthPolicy = HealthPolicy {
        consecutive: 3,
        error_rate: 50,
        minimum: 10,
        window: 30_000,
        cool_down: 1000,
        max_cool_down: 3000,
        refused: 60_000,
        spent: 300_000,
        longest_told: 3_600_000,
    };
    const T0: u64 = 1_800_000_000_000;

    fn fail(health: &mut Health, id: Id, now: u64) -> Option<Change> {
        health.failure(id, &POLICY, ErrorKind::Server, None, now, 0)
    }

    #[test]
    fn a_circuit_opens_rests_is_probed_once_and_closes() {
        let (mut health, id) = (Health::default(), Id::target("a", "m"));
        assert_eq!(health.verdict(id, T0), Verdict::Well);
        assert_eq!(fail(&mut health, id, T0), None);
        assert_eq!(health.verdict(id, T0), Verdict::Ailing);
        assert_eq!(fail(&mut health, id, T0), None);
        assert_eq!(fail(&mut health, id, T0), Some(Change::Opened { millis: 1000 }));
        assert_eq!(fail(&mut health, id, T0), None, "what was under way tells nothing new");
        assert_eq!(health.verdict(id, T0 + 999), Verdict::Resting { until: T0 + 1000, shut: false });
        assert_eq!(health.verdict(id, T0 + 1000), Verdict::Due);
        assert!(health.probe(id, T0 + 1000) && !health.probe(id, T0 + 1000), "one probe at a time");
        assert_eq!(fail(&mut health, id, T0 + 1100), Some(Change::Opened { millis: 2000 }), "twice as long");
        assert!(health.probe(id, T0 + 3100));
        assert_eq!(fail(&mut health, id, T0 + 3100), Some(Change::Opened { millis: 3000 }), "up to a bound");
        assert!(health.probe(id, T0 + 6100));
        assert_eq!(health.success(id, &POLICY, T0 + 6100, T0 + 6200), Some(Change::Closed));
        assert_eq!(health.verdict(id, T0 + 6200), Verdict::Ailing, "it is watched for a while");
        assert_eq!(health.success(id, &POLICY, T0 + 59_000, T0 + 60_000), None);
        assert_eq!(health.verdict(id, T0 + 60_000), Verdict::Well);
        assert_eq!(Health::read(&health.write()), health);
    }

    #[test]
    fn a_probe_that_is_never_heard_of_is_forgotten() {
        let (mut health, id) = (Health::default(), Id::key("a"));
        for _ in 0..3 {
            fail(&mut health, id, T0);
        }
        assert!(health.probe(id, T0 + 1000));
        assert!(matches!(health.verdict(id, T0 + 1000 + PROBE - 1), Verdict::Resting { .. }));
        assert!(health.probe(id, T0 + 1000 + PROBE));
    }

    #[test]
    fn half_of_many_answers_are_too_many_failures() {
        let (mut health, id) = (Health::default(), Id::target("a", "m"));
        let mut opened = 0;
        for n in 0..20 {
            opened += u64::from(fail(&mut health, id, T0 + n).is_some());
            health.success(id, &POLICY, T0, T0 + n);
        }
        assert_eq!(opened, 1);
    }

    #[test]
    fn a_told_rest_counts_at_once_and_a_refused_key_rests_for_a_minute() {
        let (mut health, id) = (Health::default(), Id::key("a"));
        let opened = health.failure(id, &POLICY, ErrorKind::RateLimit, Some(9000), T0, 0);
        assert_eq!(opened, Some(Change::Opened { millis: 9000 }));
        assert_eq!(health.verdict(id, T0), Verdict::Resting { until: T0 + 9000, shut: false });
        assert_eq!(health.success(id, &POLICY, T0 - 5, T0 + 100), None, "it was under way before");
        assert_eq!(
            health.success(id, &POLICY, T0 + 50, T0 + 100),
            Some(Change::Closed),
            "the last door was open"
        );
        let (mut health, id) = (Health::default(), Id::key("a"));
        health.failure(id, &POLICY, ErrorKind::Authentication, None, T0, 0);
        assert_eq!(health.verdict(id, T0), Verdict::Resting { until: T0 + POLICY.refused, shut: true });
    }

    #[test]
    fn the_table_is_bounded() {
        let mut health = Health::default();
        for n in 0..2000u64 {
            fail(&mut health, Id(n), T0 + n);
        }
        assert_eq!(health.entries.len(), MOST_ENTRIES);
        assert_ne!(health.verdict(Id(1999), T0 + 2000), Verdict::Well);
    }
}
