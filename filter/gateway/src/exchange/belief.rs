//! Which of a provider's counts are believed.
//!
//! The rule, for all of them: a count is believed unless it is [`ABSURD`] times more than there can be, or as many times less
//! than there surely is. One that is not believed was never told: what was counted or estimated here stands in its place, and
//! `attache_doubted` says so.

use attache_protocol::response::Usage;

use crate::tokens::Bounds;

/// Providers count otherwise than is expected here, and some answer more than they were allowed; none so much.
pub const ABSURD: u64 = 8;
/// Tokens of a prompt or an answer that there can always be: what providers add to prompts unseen, what models think unseen.
const UNSEEN: u64 = 1 << 16;
/// What no prompt or answer has, whatever is known of it.
const BEYOND: u64 = 1 << 32;

/// What is known here of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Tokens of the prompt; `None`: nobody looked.
    pub prompt: Option<Bounds>,
    /// The most that was held for all answers.
    pub held: u64,
    pub seen: Seen,
}

/// Tokens of all answers, as they were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub tokens: u64,
    /// Of which there are surely so many.
    pub surely: u64,
}

impl Seen {
    pub fn about(tokens: u64) -> Seen {
        Seen { tokens, surely: 0 }
    }
}

/// Kinds of counts that were not believed, as metrics name them.
pub type Doubted = Vec<&'static str>;

/// What a provider told, without what is not believed.
pub fn believe(told: &Usage, known: &Known, doubted: Option<&mut Doubted>) -> Usage {
    let Known { prompt, held, seen } = *known;
    let most = |most: u64| most.max(UNSEEN).saturating_mul(ABSURD).min(BEYOND);
    let input = |tokens: &u64| match prompt {
        Some(prompt) => *tokens <= most(prompt.high) && tokens.saturating_mul(ABSURD) >= prompt.low,
        None => *tokens <= BEYOND,
    };
    let output = |tokens: &u64| {
        let most = if prompt.is_some() { most(held.max(seen.tokens)) } else { BEYOND };
        let least = tokens.saturating_mul(ABSURD) >= seen.surely && (*tokens > 0 || seen.tokens == 0);
        *tokens <= most && least
    };
    let mut believed = Usage { input: told.input.filter(input), output: told.output.filter(output), ..*told };
    // Parts of them are no more than the whole, as far as it is known.
    let whole = |told: Option<u64>, other: Option<u64>| told.or(other).unwrap_or(BEYOND);
    let of_prompt = whole(believed.input, prompt.map(|prompt| prompt.high));
    let of_answer = whole(believed.output, prompt.map(|_| seen.tokens.max(held)));
    let sum =
        |parts: [Option<u64>; 2]| parts.iter().flatten().fold(0u64, |sum, part| sum.saturating_add(*part));
    let cached = sum([believed.cache_read, believed.cache_write]) <= of_prompt;
    if !cached {
        (believed.cache_read, believed.cache_write, believed.cache_write_hour) = (None, None, None);
    }
    believed.cache_write_hour = believed.cache_write_hour.filter(|hour| *hour <= of_prompt);
    believed.audio_input = believed.audio_input.filter(|part| *part <= of_prompt);
    believed.audio_output = believed.audio_output.filter(|part| *part <= of_answer);
    believed.reasoning = believed.reasoning.filter(|part| *part <= of_answer);
    if let Some(doubted) = doubted {
        let kinds = [
            ("input", told.input != believed.input || told.audio_input != believed.audio_input),
            ("cached", !cached || told.cache_write_hour != believed.cache_write_hour),
            ("output", told.output != believed.output || told.audio_output != believed.audio_output),
            ("reasoning", told.reasoning != believed.reasoning),
        ];
        doubted.extend(kinds.into_iter().filter(|(_, doubted)| *doubted).map(|(kind, _)| kind));
    }
    believed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(tokens: u64, surely: u64) -> Known {
        let prompt = Bounds { low: 800, likely: 1000, high: 1200 };
        Known { prompt: Some(prompt), held: 500, seen: Seen { tokens, surely } }
    }

    #[test]
    fn what_can_be_is_believed() {
        for (input, output, seen) in [
            (1000, 300, (300, 280)),
            // A provider's own instructions, thoughts that nobody sees, an answer beyond its limit.
            (60_000, 60_000, (10, 2)),
            (1000, 100, (300, 280)),
            (100, 0, (0, 0)),
            // Shorter than it was counted by some other vocabulary.
            (150, 1, (4, 0)),
        ] {
            let told = Usage {
                input: Some(input),
                output: Some(output),
                cache_read: Some(input),
                ..Usage::default()
            };
            let mut doubted = Doubted::new();
            assert_eq!(believe(&told, &known(seen.0, seen.1), Some(&mut doubted)), told);
            assert!(doubted.is_empty(), "{input} {output} {doubted:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_as_if_it_had_not_been_told() {
        let check = |told: Usage, seen: (u64, u64), expected: &[&str], left: Usage| {
            let mut doubted = Doubted::new();
            let believed = believe(&told, &known(seen.0, seen.1), Some(&mut doubted));
            assert_eq!((believed, &*doubted), (left, expected), "{told:?}");
        };
        let none = Usage::default();
        for tokens in [u64::MAX, 1 << 40, 600_000] {
            check(Usage { input: Some(tokens), ..none }, (0, 0), &["input"], none);
            check(Usage { output: Some(tokens), ..none }, (300, 280), &["output"], none);
            check(Usage { cache_read: Some(tokens), ..none }, (0, 0), &["cached"], none);
            check(Usage { reasoning: Some(tokens), ..none }, (0, 0), &["reasoning"], none);
        }
        // No such prompt, no such answer.
        check(Usage { input: Some(0), ..none }, (0, 0), &["input"], none);
        check(Usage { input: Some(99), ..none }, (0, 0), &["input"], none);
        check(Usage { output: Some(0), ..none }, (3, 0), &["output"], none);
        check(Usage { output: Some(30), ..none }, (300, 280), &["output"], none);
        // More than the whole; what is right beside it stays.
        let input = Usage { input: Some(1000), ..none };
        let parts =
            Usage { cache_read: Some(600), cache_write: Some(600), cache_write_hour: Some(1), ..input };
        check(parts, (0, 0), &["cached"], input);
        check(Usage { audio_input: Some(1001), ..input }, (0, 0), &["input"], input);
    }

    #[test]
    fn where_nobody_looked_only_the_impossible_is_doubted() {
        let nothing = Known { prompt: None, held: 0, seen: Seen::default() };
        let told = Usage { input: Some(0), output: Some(5_000_000), ..Usage::default() };
        assert_eq!(believe(&told, &nothing, None), told);
        let wild = Usage { output: Some(u64::MAX), ..told };
        assert_eq!(believe(&wild, &nothing, None), Usage { output: None, ..told });
    }
}
