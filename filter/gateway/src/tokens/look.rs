//! A cheap look at a text: how many tokens it has at least, at most and about, from its bytes' classes.

/// What is counted in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// In the order of [`WEIGHTS`].
    pub seen: [u64; KINDS],
    /// ASCII words that follow white space: each begins a token of its own.
    words: u64,
    digits: u64,
    bytes: u64,
}

pub const KINDS: usize = 11;
const WORDS: usize = 0;
const LONG: usize = 1;
const NUMBERS: usize = 2;
const MIXED: usize = 3;
const SIGNS: usize = 4;
const MORE_SIGNS: usize = 5;
const SPACES: usize = 6;
const TWO: usize = 7;
const CHINESE: usize = 8;
const THREE: usize = 9;
const FOUR: usize = 10;

/// Tokens of each kind, in 1/1024, fitted to `o200k_base` over prose, languages, code and data.
const WEIGHTS: [u64; KINDS] = [
    918,  // a word's beginning
    467,  // a letter from the eighth on
    1384, // the first of three digits
    957,  // a letter beside a digit
    855,  // a sign
    78,   // a sign after a sign
    144,  // a space after a space, a line
    420,  // a character of two bytes
    836,  // of three: Chinese, Japanese, Korean
    423,  // others of three
    3947, // of four
];

/// Classes of bytes.
const CLASSES: [u8; 256] = classes();
const LETTER: u8 = 0;
const DIGIT: u8 = 1;
const SIGN: u8 = 2;
const SPACE: u8 = 3;
const LINE: u8 = 4;
const FIRST_OF_TWO: u8 = 5;
const FIRST_CHINESE: u8 = 6;
const FIRST_OF_THREE: u8 = 7;
const FIRST_OF_FOUR: u8 = 8;
const LATER: u8 = 9;

const fn classes() -> [u8; 256] {
    let mut classes = [SIGN; 256];
    let (mut rest, mut byte) = (classes.as_mut_slice(), 0u8);
    while let Some((class, later)) = rest.split_first_mut() {
        *class = match byte {
            b'A'..=b'Z' | b'a'..=b'z' => LETTER,
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
        let (mut before, mut run, mut words, mut digits) = (LINE, 0u64, 0u64, 0u64);
        for byte in text.bytes() {
            let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(SIGN);
            match class {
                LETTER if before == LETTER => {
                    run += 1;
                    seen[LONG] += u64::from(run > 7);
                }
                LETTER => {
                    run = 1;
                    seen[WORDS] += 1;
                    seen[MIXED] += u64::from(before == DIGIT);
                    words += u64::from(before == SPACE || before == LINE);
                }
                DIGIT => {
                    run = if before == DIGIT { run + 1 } else { 1 };
                    digits += 1;
                    seen[NUMBERS] += u64::from(run % 3 == 1);
                    seen[MIXED] += u64::from(before == LETTER);
                }
                SIGN if before == SIGN => seen[MORE_SIGNS] += 1,
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
        self.digits += digits;
        self.bytes += text.len() as u64;
    }

    /// No vocabulary of OpenAI's has a token of two words, of more than three digits, or of more than 128 bytes.
    pub fn least(&self) -> u64 {
        (self.words + self.digits / 3).max(self.bytes.div_ceil(128))
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
