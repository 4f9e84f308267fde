//! Whose an account is, as a number that nobody can aim at: who chooses his own name must not be able to choose another's.

/// SipHash-2-4 of parts, each with its length before it (Aumasson and Bernstein, 2012, <https://www.aumasson.jp/siphash/>).
/// The key is no secret; without one a second text of the same hash still costs some 2⁶⁴ tries.
pub fn siphash(parts: &[&[u8]]) -> u64 {
    let mut hasher = Sip::new(0x6174_7461_6368_6521, 0x6275_6467_6574_7321);
    for part in parts {
        (part.len() as u64).to_le_bytes().into_iter().for_each(|byte| hasher.byte(byte));
        part.iter().for_each(|byte| hasher.byte(*byte));
    }
    hasher.finish()
}

struct Sip {
    v: (u64, u64, u64, u64),
    word: u64,
    length: u64,
}

impl Sip {
    fn new(k0: u64, k1: u64) -> Sip {
        let v = (
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        );
        Sip { v, word: 0, length: 0 }
    }
    fn byte(&mut self, byte: u8) {
        self.word |= u64::from(byte) << (8 * (self.length % 8));
        self.length += 1;
        if self.length.is_multiple_of(8) {
            let word = std::mem::take(&mut self.word);
            self.compress(word);
        }
    }
    fn compress(&mut self, word: u64) {
        self.v.3 ^= word;
        self.round();
        self.round();
        self.v.0 ^= word;
    }
    fn round(&mut self) {
        let (mut a, mut b, mut c, mut d) = self.v;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.v = (a, b, c, d);
    }
    fn finish(mut self) -> u64 {
        self.compress(self.word | (self.length << 56));
        self.v.2 ^= 0xff;
        (0..4).for_each(|_| self.round());
        self.v.0 ^ self.v.1 ^ self.v.2 ^ self.v.3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_vector() {
        // Appendix A: the key 00 01 … 0f, the text 00 01 … 0e.
        let mut sip = Sip::new(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        (0..15).for_each(|byte| sip.byte(byte));
        assert_eq!(sip.finish(), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(siphash(&[b"ab", b"c"]), siphash(&[b"a", b"bc"]));
        assert_ne!(siphash(&[b"a"]), siphash(&[b"a", b""]));
    }
}
