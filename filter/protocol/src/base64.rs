//! Base64 (RFC 4648), as providers write it: either alphabet, padded or not, in lines or in one.

use crate::text::Text;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// In the standard alphabet, padded.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = bits >> (18 - 6 * digit) & 63;
            let letter = ALPHABET.get(index as usize).copied().unwrap_or(b'A');
            out.push(if digit <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// `None`: it is none.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in text.trim_end_matches(['=', '\r', '\n']).bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'\r' | b'\n' => continue,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}

/// The standard alphabet with its padding (Google's SDKs send the URL-safe one).
pub fn standard(data: Text<'_>) -> Text<'_> {
    let padding = (4 - data.len() % 4) % 4;
    if padding == 0 && memchr::memchr2(b'-', b'_', data.as_bytes()).is_none() {
        return data;
    }
    let mut standard = data.replace('-', "+").replace('_', "/");
    standard.extend(std::iter::repeat_n('=', padding));
    Text::from(standard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_in_either_alphabet() {
        for length in 0..9 {
            let bytes: Vec<u8> = [0xFB, 0xFF, 0, 7, 0xBF, 1, 2, 3].into_iter().take(length).collect();
            let text = encode(&bytes);
            assert!(text.len().is_multiple_of(4));
            let url_safe = text.replace('+', "-").replace('/', "_");
            let lines = text.replace('/', "/\r\n") + "\n";
            for text in [&text, &url_safe, text.trim_end_matches('='), &lines] {
                assert_eq!(decode(text).as_deref(), Some(&*bytes), "{text}");
            }
        }
        assert_eq!(encode(b"foob"), "Zm9vYg==");
        assert_eq!(decode("Zm9v Yg"), None);
    }

    #[test]
    fn inline_data_becomes_standard() {
        assert_eq!(&*standard("QMAAAD-wSzI_8".into()), "QMAAAD+wSzI/8===");
        assert_eq!(&*standard("QUJD".into()), "QUJD");
    }
}
