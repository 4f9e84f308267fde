//! Equal to tiktoken-rs, token for token, and to its patterns, piece for piece.
//!
//! `ATTACHE_TOKENS` multiplies how much is compared; 1 is some megabytes.

use std::sync::LazyLock;

use fancy_regex::Regex;
use tiktoken_rs::CoreBPE;

use super::corpus::{CODE, Dice, LANGUAGES, document, noise, unbroken};
use crate::tokens::look::Look;
use crate::tokens::{Counter, Vocabulary, split};

/// tiktoken's `openai_public.py`.
const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";

struct Both {
    vocabulary: Vocabulary,
    theirs: CoreBPE,
    pattern: Regex,
}

static BOTH: LazyLock<[Both; 2]> = LazyLock::new(|| {
    let both = |vocabulary, theirs: CoreBPE, pattern| Both {
        vocabulary,
        theirs,
        pattern: Regex::new(pattern).unwrap(),
    };
    [
        both(Vocabulary::O200k, tiktoken_rs::o200k_base().unwrap(), tiktoken_rs::O200K_BASE_PAT_STR),
        both(Vocabulary::Cl100k, tiktoken_rs::cl100k_base().unwrap(), CL100K),
    ]
});

fn times(count: usize) -> usize {
    count * std::env::var("ATTACHE_TOKENS").map_or(1, |times| times.parse().unwrap())
}

/// The shortest part that is counted differently still.
fn same(both: &Both, text: &str) {
    let differs =
        |text: &str| Counter::new(both.vocabulary).count(text) != both.theirs.count_ordinary(text) as u64;
    if !differs(text) {
        return;
    }
    let mut chars: Vec<char> = text.chars().collect();
    let mut step = chars.len() / 2;
    while step > 0 {
        let mut at = 0;
        while at < chars.len() {
            let mut fewer = chars.clone();
            fewer.drain(at..(at + step).min(chars.len()));
            if differs(&fewer.iter().collect::<String>()) { chars = fewer } else { at += step }
        }
        step /= 2;
    }
    let text: String = chars.into_iter().collect();
    let (mine, theirs) = (Counter::new(both.vocabulary).count(&text), both.theirs.count_ordinary(&text));
    panic!("{:?}: {text:?} has {theirs} tokens, counted {mine}", both.vocabulary);
}

#[test]
fn languages_and_code() {
    for both in &*BOTH {
        LANGUAGES.iter().chain(CODE).for_each(|text| same(both, text));
        let mut dice = Dice(1);
        let mut bytes = 0;
        for _ in 0..times(150) {
            let text = document(&mut dice, 40);
            bytes += text.len();
            same(both, &text);
            let mut look = Look::default();
            look.add(&text);
            let tokens = Counter::new(both.vocabulary).count(&text);
            assert!(
                look.least() <= tokens && tokens <= look.most(),
                "{} {tokens} {}",
                look.least(),
                look.most()
            );
        }
        println!("{:?}: {bytes} bytes of documents", both.vocabulary);
    }
}

#[test]
fn noise_is_split_and_counted_alike() {
    for both in &*BOTH {
        let mut dice = Dice(2);
        for round in 0..times(15_000) {
            let text = noise(&mut dice, 1 + round % 12);
            let mut at = 0;
            for found in both.pattern.find_iter(&text) {
                let end = split::piece(both.vocabulary, text.as_bytes(), at);
                let piece = found.unwrap();
                assert_eq!((piece.start(), piece.end()), (at, end), "{:?}: {text:?}", both.vocabulary);
                at = end;
            }
            assert_eq!(at, text.len(), "{text:?}");
            same(both, &text);
        }
    }
}

#[test]
fn every_character_has_its_class() {
    for both in &*BOTH {
        // Before and behind a letter, a number, a space: what a character is decides where the pieces end.
        let chars = (0..=0x10_FFFF).filter_map(char::from_u32);
        let mut text = String::new();
        for (nth, char) in chars.enumerate() {
            text.extend(['a', char, 'B', char, '1', char, ' ', char]);
            if nth % 4096 < 4095 && char != char::MAX {
                continue;
            }
            let mut at = 0;
            for found in both.pattern.find_iter(&text) {
                let end = split::piece(both.vocabulary, text.as_bytes(), at);
                assert_eq!(found.unwrap().end(), end, "{:?}: {:?}", both.vocabulary, &text[at..end]);
                at = end;
            }
            text.clear();
        }
    }
}

#[test]
fn text_without_an_end_in_it() {
    for both in &*BOTH {
        let mut dice = Dice(3);
        for round in 0..times(40) {
            let bytes = [40, 200, 4000, 5000, 9000, 20_000, 60_000][round % 7];
            // tiktoken-rs gives up on longer spaces: the pattern tries too often.
            same(both, &unbroken(&mut dice, bytes).replace(&" ".repeat(2000), " x"));
        }
    }
}

/// A square of the time would be minutes.
#[test]
fn a_megabyte_without_a_space_takes_no_square_of_the_time() {
    let began = std::time::Instant::now();
    for vocabulary in [Vocabulary::O200k, Vocabulary::Cl100k] {
        for seed in 0..6 {
            let text = unbroken(&mut Dice(seed), 1 << 20);
            assert!(Counter::new(vocabulary).count(&text) > 4000);
        }
    }
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}
