//! Text into the pieces that tokens do not cross: OpenAI's patterns (tiktoken, `openai_public.py`) by hand.
//!
//! `o200k_base`, one alternative a line:
//!
//! ```text
//! [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! \p{N}{1,3}
//!  ?[^\s\p{L}\p{N}]+[\r\n/]*
//! \s*[\r\n]+
//! \s+(?!\S)
//! \s+
//! ```
//!
//! `cl100k_base`:
//!
//! ```text
//! '(?i:[sdmt]|ll|ve|re)
//! [^\r\n\p{L}\p{N}]?+\p{L}++
//! \p{N}{1,3}+
//!  ?[^\s\p{L}\p{N}]++[\r\n]*+
//! \s++$
//! \s*[\r\n]
//! \s+(?!\S)
//! \s
//! ```

use super::vocabulary::Vocabulary;

/// `build.rs` writes a character's classes in these bits.
const UPPER: u8 = 1;
const LOWER: u8 = 2;
/// Letters that are neither: `\p{Lm}`, `\p{Lo}`.
const OTHER: u8 = 4;
const MARK: u8 = 8;
const NUMBER: u8 = 16;
const SPACE: u8 = 32;
/// CR and LF, which are spaces too.
const NEWLINE: u8 = 64;
const LETTER: u8 = UPPER | LOWER | OTHER;

const CLASSES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/classes.bin"));
/// Blocks of 128 characters.
const BLOCKS: usize = 0x11_0000 / 128;
/// The first block, in an array of its own: most text is ASCII.
const ASCII: [u8; 128] = ascii();

const fn ascii() -> [u8; 128] {
    let mut classes = [0; 128];
    let (mut rest, mut byte) = (classes.as_mut_slice(), 0u8);
    while let Some((class, later)) = rest.split_first_mut() {
        *class = match byte {
            b'A'..=b'Z' => UPPER,
            b'a'..=b'z' => LOWER,
            b'0'..=b'9' => NUMBER,
            b'\r' | b'\n' => SPACE | NEWLINE,
            b'\t' | 0x0B | 0x0C | b' ' => SPACE,
            _ => 0,
        };
        (rest, byte) = (later, byte + 1);
    }
    classes
}

/// Where the piece that begins at `from` ends. `from` lies before the end of the text, between two characters.
pub fn piece(vocabulary: Vocabulary, text: &[u8], from: usize) -> usize {
    let text = Chars(text);
    let (class, next) = text.at(from);
    match vocabulary {
        Vocabulary::O200k => o200k(text, from, class, next),
        Vocabulary::Cl100k => cl100k(text, from, class, next),
    }
}

/// Valid UTF-8.
#[derive(Clone, Copy)]
struct Chars<'t>(&'t [u8]);

/// The class past the end.
const END: u8 = 128;

impl Chars<'_> {
    fn byte(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or_default()
    }
    /// The class of the character at a place, and the place after it.
    #[inline(always)]
    fn at(self, at: usize) -> (u8, usize) {
        match self.0.get(at) {
            None => (END, at),
            Some(byte) => match ASCII.get(usize::from(*byte)) {
                Some(class) => (*class, at + 1),
                None => self.wide(at, *byte),
            },
        }
    }
    /// The same for more than one byte.
    fn wide(self, at: usize, first: u8) -> (u8, usize) {
        let bits = |nth: usize| u32::from(self.byte(at + nth) & 0x3F);
        let first = u32::from(first);
        let (char, length) = match first {
            0xF0.. => ((first & 7) << 18 | bits(1) << 12 | bits(2) << 6 | bits(3), 4),
            0xE0.. => ((first & 15) << 12 | bits(1) << 6 | bits(2), 3),
            _ => ((first & 31) << 6 | bits(1), 2),
        };
        let block = CLASSES.get(char as usize / 128).copied().unwrap_or_default();
        let class = CLASSES.get(BLOCKS + usize::from(block) * 128 + char as usize % 128);
        (class.copied().unwrap_or_default(), at + length)
    }
    /// The end of the run of these classes.
    #[inline(always)]
    fn run(self, mut at: usize, classes: u8) -> usize {
        loop {
            let (class, next) = self.at(at);
            if class & classes == 0 {
                return at;
            }
            at = next;
        }
    }
    /// The end of the run of what is no space, letter or number.
    fn signs(self, mut at: usize) -> usize {
        loop {
            let (class, next) = self.at(at);
            if class & (SPACE | LETTER | NUMBER | END) != 0 {
                return at;
            }
            at = next;
        }
    }
    /// The end of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d`, in any case (`ſ` is an `s` without case).
    fn contraction(self, at: usize) -> Option<usize> {
        if self.byte(at) != b'\'' {
            return None;
        }
        match (self.byte(at + 1) | 0x20, self.byte(at + 2) | 0x20) {
            (b's' | b't' | b'm' | b'd', _) if self.byte(at + 1).is_ascii() => Some(at + 2),
            (b'r', b'e') | (b'v', b'e') | (b'l', b'l') => Some(at + 3),
            _ if (self.byte(at + 1), self.byte(at + 2)) == (0xC5, 0xBF) => Some(at + 3),
            _ => None,
        }
    }
    /// Up to three numbers, the first of which is there.
    fn numbers(self, mut at: usize) -> usize {
        for _ in 0..2 {
            let (class, next) = self.at(at);
            if class & NUMBER == 0 {
                break;
            }
            at = next;
        }
        at
    }
    /// ` ?[^\s\p{L}\p{N}]+`: its end, if it is there.
    fn punctuation(self, from: usize) -> Option<usize> {
        let start = if self.byte(from) == b' ' { from + 1 } else { from };
        let end = self.signs(start);
        (end > start).then_some(end)
    }
    /// White space: `at_end` is whether it goes first to the end of the text, as `\s++$` of `cl100k_base` has it.
    fn space(self, from: usize, at_end: bool) -> usize {
        let (mut at, mut last, mut line) = (from, from, None);
        loop {
            let (class, next) = self.at(at);
            if class & SPACE == 0 {
                break;
            }
            (last, at) = (at, next);
            if class & NEWLINE != 0 {
                line = Some(at);
            }
        }
        let ends = at == self.0.len();
        match line {
            _ if ends && at_end => at,
            Some(line) => line,
            None if ends || last == from => at,
            None => last,
        }
    }
}

fn o200k(text: Chars<'_>, from: usize, class: u8, next: usize) -> usize {
    let prefix = class & (NEWLINE | LETTER | NUMBER) == 0;
    let word = if prefix {
        mixed(text, next).or_else(|| (class & MARK != 0).then(|| mixed(text, from)).flatten())
    } else {
        (class & LETTER != 0).then(|| mixed(text, from)).flatten()
    };
    let word = word.or_else(|| {
        let start = if prefix { next } else { from };
        let end = text.run(start, UPPER | OTHER | MARK);
        (end > start).then_some(end)
    });
    if let Some(end) = word {
        return text.contraction(end).unwrap_or(end);
    }
    if class & NUMBER != 0 {
        return text.numbers(next);
    }
    if let Some(mut end) = text.punctuation(from) {
        while matches!(text.byte(end), b'\r' | b'\n' | b'/') {
            end += 1;
        }
        return end;
    }
    text.space(from, false)
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`. Where no small letter follows, the first part gives back
/// as far as to the last character that is of both.
fn mixed(text: Chars<'_>, from: usize) -> Option<usize> {
    let (mut at, mut both) = (from, None);
    loop {
        let (class, next) = text.at(at);
        if class & (UPPER | OTHER | MARK) == 0 {
            return match class & LOWER {
                0 => both,
                _ => Some(text.run(next, LOWER | OTHER | MARK)),
            };
        }
        at = next;
        if class & (OTHER | MARK) != 0 {
            both = Some(at);
        }
    }
}

fn cl100k(text: Chars<'_>, from: usize, class: u8, next: usize) -> usize {
    if let Some(end) = text.contraction(from) {
        return end;
    }
    if class & LETTER != 0 {
        return text.run(next, LETTER);
    }
    if class & NUMBER != 0 {
        return text.numbers(next);
    }
    if class & NEWLINE == 0 {
        let end = text.run(next, LETTER);
        if end > next {
            return end;
        }
    }
    if let Some(mut end) = text.punctuation(from) {
        while matches!(text.byte(end), b'\r' | b'\n') {
            end += 1;
        }
        return end;
    }
    text.space(from, true)
}
