//! How far a model's own tokens are from what was expected of a text: learned from the usage that its provider reports.

use serde::{Deserialize, Serialize};

use super::Bounds;

/// What was seen of one model: how often its tokens were so many times the expected ones, in steps of 4.4 % from a quarter
/// to four times. Bounded, and what is old fades. One report, however wild, is one count among many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratio {
    /// Serde knows arrays of up to 32.
    steps: [[u16; STEPS]; OCTAVES],
}

const OCTAVES: usize = 4;
const STEPS: usize = 16;
/// Of fewer reports nothing is concluded.
const ENOUGH: u32 = 8;
/// At this many reports, all count half.
const MANY: u32 = 1024;
/// Of shorter texts the share of what surrounds them is too large to learn from.
const SHORTEST: u64 = 32;

/// 2^(step/16) in 1/65536.
const POWERS: [u64; STEPS] = [
    65536, 68438, 71468, 74633, 77936, 81386, 84990, 88752, 92682, 96785, 101070, 105545, 110218, 115098,
    120194, 125515,
];

impl Ratio {
    /// A text of which `expected` tokens were expected had so many.
    pub fn update(&mut self, expected: u64, tokens: u64) {
        if expected < SHORTEST {
            return;
        }
        let times = (u128::from(tokens) << 16) / u128::from(expected);
        // In 1/65536 of a quarter, and not beyond the ends.
        let times = u64::try_from(times << 2).unwrap_or(u64::MAX).clamp(1 << 16, (1 << 20) - 1);
        let octave = times.ilog2() as usize - 16;
        let rest = times >> octave;
        let step = POWERS.iter().rposition(|power| *power <= rest).unwrap_or_default();
        if let Some(count) = self.steps.get_mut(octave).and_then(|octave| octave.get_mut(step)) {
            *count = count.saturating_add(1);
        }
        if self.reports() >= MANY {
            self.steps.as_flattened_mut().iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// What two workers saw.
    pub fn merge(&mut self, other: &Ratio) {
        let pairs = self.steps.as_flattened_mut().iter_mut().zip(other.steps.as_flattened());
        pairs.for_each(|(mine, others)| *mine = mine.saturating_add(*others));
        while self.reports() >= MANY {
            self.steps.as_flattened_mut().iter_mut().for_each(|count| *count /= 2);
        }
    }

    pub fn reports(&self) -> u32 {
        self.steps.as_flattened().iter().map(|count| u32::from(*count)).sum()
    }

    /// The tokens of a text of which so many are expected: nearly all reports lie between `low` and `high`, half of them
    /// below `likely`. `None`: too little is known.
    pub fn bounds(&self, expected: u64) -> Option<Bounds> {
        let reports = self.reports();
        if reports < ENOUGH {
            return None;
        }
        // The middle of a step is half a step above its beginning; the outer ends have a step more for what was not seen.
        let low = self.step_at(reports / 64).saturating_sub(1);
        let likely = self.step_at(reports / 2);
        let high = self.step_at(reports - 1 - reports / 64) + 2;
        let (from, to) = (power(likely, expected), power(likely + 1, expected));
        Some(Bounds {
            low: power(low, expected),
            likely: from.midpoint(to),
            high: power(high, expected).saturating_add(1),
        })
    }

    /// The step of the report that stands at this place in the order of size.
    fn step_at(&self, place: u32) -> usize {
        let mut before = 0;
        let counts = self.steps.as_flattened().iter();
        let passed = counts.take_while(|count| {
            before += u32::from(**count);
            before <= place
        });
        passed.count()
    }
}

/// `expected` times what a step stands for.
fn power(step: usize, expected: u64) -> u64 {
    let mantissa = POWERS.get(step % STEPS).copied().unwrap_or(1 << 16);
    let times = u128::from(mantissa) << (step / STEPS);
    u64::try_from((u128::from(expected) * times) >> 18).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_what_is_reported() {
        for (tokens, of) in [(130u64, 100u64), (75, 100), (100, 100), (390, 100), (26, 100)] {
            let mut ratio = Ratio::default();
            for nth in 0..20u32 {
                assert_eq!(ratio.bounds(1000).is_some(), nth >= ENOUGH);
                ratio.update(1000 * of, 1000 * tokens);
            }
            let bounds = ratio.bounds(10_000).unwrap();
            let right = 10_000 * tokens / of;
            assert!(bounds.low <= right && right <= bounds.high, "{bounds:?} {right}");
            assert!(bounds.likely.abs_diff(right) * 40 <= right, "{bounds:?} {right}");
        }
    }

    #[test]
    fn a_wild_report_moves_nothing() {
        let mut ratio = Ratio::default();
        (0..100u64).for_each(|nth| ratio.update(1000, 1200 + nth % 7 * 10));
        let before = ratio.bounds(1000).unwrap();
        ratio.update(1000, u64::MAX);
        ratio.update(u64::MAX, 0);
        ratio.update(0, 5);
        ratio.update(10, 100);
        assert_eq!(ratio.reports(), 102);
        let after = ratio.bounds(1000).unwrap();
        assert!(
            after.likely.abs_diff(before.likely) <= 50 && after.high <= before.high + 120,
            "{before:?} {after:?}"
        );
        assert!(ratio.bounds(u64::MAX).is_some());
    }

    #[test]
    fn is_bounded_follows_a_change_and_merges() {
        let mut ratio = Ratio::default();
        (0..100_000).for_each(|_| ratio.update(1000, 1000));
        assert!(ratio.reports() < MANY);
        (0..2000).for_each(|_| ratio.update(1000, 1300));
        assert!(ratio.bounds(1000).unwrap().likely.abs_diff(1300) < 40);
        let mut other = Ratio::default();
        (0..10).for_each(|_| other.update(1000, 1300));
        let mut merged = other;
        merged.merge(&other);
        assert_eq!(merged.reports(), 20);
        (0..100).for_each(|_| merged.merge(&ratio));
        assert!(merged.reports() < MANY);
        let written = postcard::to_allocvec(&merged).unwrap();
        assert!(written.len() <= 192 && postcard::from_bytes::<Ratio>(&written).unwrap() == merged);
    }
}
