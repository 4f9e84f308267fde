//! How fast a model answers, learned from answers that were reported: for what was generated and nobody saw.

use serde::{Deserialize, Serialize};

/// How often one answer had so many tokens a second, in steps of 19 % from 8 to 2048. Bounded, and what is old fades; one
/// report, however wild, is one among many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speed {
    steps: [u16; 32],
}

/// Tokens a second of a model of which too little is known. Measured medians of June 2026: Claude Sonnet 4.6 104, GPT-4o 131,
/// Gemini 3 Flash 200 once they have begun (artificialanalysis.ai, by induwara.lk), and half a second or more before that.
pub const USUAL: u64 = 100;
/// Of fewer reports nothing is concluded.
const ENOUGH: u32 = 8;
/// At this many reports, all count half.
const MANY: u32 = 512;
/// Of shorter answers, and of quicker ones, the time is not the model's.
const LEAST_TOKENS: u64 = 64;
const LEAST_MILLIS: u64 = 1000;
/// 2^(step/4) in 1/1024.
const POWERS: [u64; 4] = [1024, 1218, 1448, 1722];

impl Speed {
    /// An answer had so many tokens after so many milliseconds, from the request on. `false`: it teaches nothing.
    pub fn update(&mut self, tokens: u64, millis: u64) -> bool {
        if tokens < LEAST_TOKENS || millis < LEAST_MILLIS {
            return false;
        }
        // In 1/1024 of eight a second.
        let times = (tokens.saturating_mul(1000 << 7) / millis).clamp(1 << 10, (1 << 18) - 1);
        let octave = times.ilog2() as usize - 10;
        let rest = times >> octave;
        let step = 4 * octave + POWERS.iter().rposition(|power| *power <= rest).unwrap_or_default();
        if let Some(count) = self.steps.get_mut(step) {
            *count = count.saturating_add(1);
        }
        if self.reports() >= MANY {
            self.steps.iter_mut().for_each(|count| *count /= 2);
        }
        true
    }

    pub fn reports(&self) -> u32 {
        self.steps.iter().map(|count| u32::from(*count)).sum()
    }

    /// Tokens a second of the answer in the middle. `None`: too little is known.
    pub fn likely(&self) -> Option<u64> {
        let reports = self.reports();
        let mut before = 0;
        let step = self.steps.iter().position(|count| {
            before += u32::from(*count);
            before > reports / 2
        })?;
        let power = |step: usize| (POWERS.get(step % 4).copied().unwrap_or(1024) << (step / 4)) >> 7;
        (reports >= ENOUGH).then(|| power(step).midpoint(power(step + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_what_most_answers_have() {
        for rate in [9, 30, 100, 240, 700, 1900] {
            let mut speed = Speed::default();
            for nth in 0..20 {
                assert_eq!(speed.likely().is_some(), speed.reports() >= ENOUGH);
                assert!(speed.update(rate * 30, 30_000));
                // What is wild moves nothing.
                if nth % 5 == 0 {
                    speed.update(1_000_000, 1000);
                }
            }
            let likely = speed.likely().unwrap();
            assert!(likely.abs_diff(rate) * 100 <= rate * 12, "{likely} {rate}");
        }
    }

    #[test]
    fn short_answers_teach_nothing_and_old_ones_fade() {
        let mut speed = Speed::default();
        assert!(!speed.update(63, 10_000) && !speed.update(1000, 999));
        (0..5000).for_each(|_| _ = speed.update(1000, 10_000));
        assert!(speed.reports() < MANY);
        (0..600).for_each(|_| _ = speed.update(10_000, 10_000));
        assert!(speed.likely().unwrap() > 900);
        assert!(speed.update(u64::MAX, u64::MAX) && speed.update(u64::MAX, 1000));
    }
}
