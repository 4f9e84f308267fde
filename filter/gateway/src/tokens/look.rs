//! A cheap look at a text: how many tokens it has at least, at most and about, from its bytes' classes.

/// What is counted in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// In the order of [`WEIGHTS`].
    pub seen: [u64; KINDS],
    /// ASCII words that follow white space: each begins a token of its own.
    words: u64,
    bytes: u64,
}

pub const KINDS: usize = 12;
const LETTERS: usize = 1;
const CAPITALS: usize = 3;
const DIGITS: usize = 4;
const SIGNS: usize = 6;
const SPACES: usize = 7;
const TWO: usize = 8;
const CHINESE: usize = 9;
const THREE: usize = 10;
const FOUR: usize = 11;

/// Tokens of each kind, in 1/1024, fitted to `o200k_base` over texts of many languages, code and data.
const WEIGHTS: [u64; KINDS] = [
    960,  // a word's beginning
    0,    // a letter in it,
    230,  // from the eighth on
    520,  // a capital letter inside
    0,    // a digit
    1000, // the first of three digits
    560,  // a sign
    420,  // a space after a space, a line
    400,  // a character of two bytes
    780,  // of three: Chinese, Japanese, Korean
    620,  // others of three
    1900, // of four
];

/// Classes of bytes.
const CLASSES: [u8; 256] = classes();
const LETTER: u8 = 0;
const CAPITAL: u8 = 1;
const DIGIT: u8 = 2;
const SIGN: u8 = 3;
const SPACE: u8 = 4;
const LINE: u8 = 5;
const FIRST_OF_TWO: u8 = 6;
const FIRST_CHINESE: u8 = 7;
const FIRST_OF_THREE: u8 = 8;
const FIRST_OF_FOUR: u8 = 9;
const LATER: u8 = 10;

const fn classes() -> [u8; 256] {
    let mut classes = [SIGN; 256];
    let (mut rest, mut byte) = (classes.as_mut_slice(), 0u8);
    while let Some((class, later)) = rest.split_first_mut() {
        *class = match byte {
            b'a'..=b'z' => LETTER,
            b'A'..=b'Z' => CAPITAL,
            b'0'..=b'9' => DIGIT,
            b' ' | b'\t' | 0x0B | 0x0C => SPACE,
            b'\n' | b'\r' => LINE,
            0..0x80 => SIGN,
            0x80..0xC0 => LATER,
            0xC0..0xE0 => FIRST_OF_TWO,
            0xE3..=0xED => FIRST_CHINESE,
            0xE0..0xF0 => FIRST_OF_THREE,
            _ => FIRST_OF_FOUR,
        };
        (rest, byte) = (later, byte.wrapping_add(1));
    }
    classes
}

impl Look {
    pub fn add(&mut self, text: &str) {
        let mut seen = [0u64; KINDS];
        let (mut before, mut run, mut words) = (LINE, 0u64, 0u64);
        for byte in text.bytes() {
            let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(SIGN);
            match class {
                LETTER | CAPITAL => {
                    if before <= CAPITAL {
                        run += 1;
                        seen[LETTERS + 1] += u64::from(run > 7);
                        seen[CAPITALS] += u64::from(class == CAPITAL);
                    } else {
                        run = 1;
                        seen[0] += 1;
                        words += u64::from(before == SPACE || before == LINE);
                    }
                }
                DIGIT => {
                    run = if before == DIGIT { run + 1 } else { 1 };
                    seen[DIGITS] += 1;
                    seen[DIGITS + 1] += u64::from(run % 3 == 1);
                }
                SIGN => seen[SIGNS] += 1,
                SPACE => seen[SPACES] += u64::from(before == SPACE || before == LINE),
                LINE => seen[SPACES] += u64::from(before != LINE),
                FIRST_OF_TWO => seen[TWO] += 1,
                FIRST_CHINESE => seen[CHINESE] += 1,
                FIRST_OF_THREE => seen[THREE] += 1,
                FIRST_OF_FOUR => seen[FOUR] += 1,
                _ => {}
            }
            before = class;
        }
        self.seen.iter_mut().zip(seen).for_each(|(all, these)| *all += these);
        self.words += words;
        self.bytes += text.len() as u64;
    }

    /// No vocabulary of OpenAI's has a token of two words, of more than three digits, or of more than 128 bytes.
    pub fn least(&self) -> u64 {
        (self.words + self.seen[DIGITS] / 3).max(self.bytes.div_ceil(128))
    }
    /// No token is less than a byte.
    pub fn most(&self) -> u64 {
        self.bytes
    }
    /// About what `o200k_base` has.
    pub fn likely(&self) -> u64 {
        let weighted: u64 = self.seen.iter().zip(WEIGHTS).map(|(count, weight)| count * weight).sum();
        (weighted >> 10).clamp(self.least(), self.most().max(self.least()))
    }
}
