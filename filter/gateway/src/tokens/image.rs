//! An image's size, from the first bytes of its file.

use attache_protocol::base64;

/// How much of the base64 is looked at, in turns: nearly every header is in the first, a photograph's often behind a
/// preview of itself.
const LOOKS: [usize; 3] = [64, 4 << 10, 256 << 10];

/// Width and height of a PNG, JPEG, GIF or WebP. `None`: none of these, or not near its beginning.
pub fn size(data: &str) -> Option<(u32, u32)> {
    LOOKS.iter().enumerate().find_map(|(turn, most)| {
        if turn > 0 && LOOKS.get(turn - 1).is_some_and(|before| data.len() <= *before) {
            return None;
        }
        let end = data.floor_char_boundary(*most);
        let bytes = base64::decode(data.get(..end)?)?;
        let (width, height) = of_bytes(&bytes)?;
        (width > 0 && height > 0).then_some((width, height))
    })
}

fn of_bytes(bytes: &[u8]) -> Option<(u32, u32)> {
    match bytes {
        // PNG (RFC 2083, 11.2.1): the signature, then IHDR.
        [0x89, b'P', b'N', b'G', ..] => Some((big_32(bytes, 16)?, big_32(bytes, 20)?)),
        // GIF89a, 18: the logical screen.
        [b'G', b'I', b'F', b'8', ..] => Some((little(bytes, 6, 2)?, little(bytes, 8, 2)?)),
        [0xFF, 0xD8, ..] => jpeg(bytes),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(bytes),
        _ => None,
    }
}

/// JPEG (ITU T.81, B.2.2): the frame's header is in the segment SOF0 … SOF15.
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        let [0xFF, marker] = *bytes.get(at..)?.first_chunk()? else { return None };
        match marker {
            // DHT, JPG and DAC are numbered among the frames.
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..=0xCF => return Some((big_16(bytes, at + 7)?, big_16(bytes, at + 5)?)),
            // A byte that fills up, and markers without a segment.
            0xFF => {
                at += 1;
                continue;
            }
            0x01 | 0xD0..=0xD7 => {
                at += 2;
                continue;
            }
            _ => {}
        }
        at += 2 + big_16(bytes, at + 2)? as usize;
    }
}

/// WebP (RFC 9649): lossy, lossless or extended.
fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    match bytes.get(12..16)? {
        b"VP8 " => Some((little(bytes, 26, 2)? & 0x3FFF, little(bytes, 28, 2)? & 0x3FFF)),
        b"VP8L" => {
            let bits = little(bytes, 21, 4)?;
            Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
        }
        b"VP8X" => Some((little(bytes, 24, 3)? + 1, little(bytes, 27, 3)? + 1)),
        _ => None,
    }
}

fn big_16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

fn big_32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn little(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    Some(bytes.get(at..at + length)?.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(bytes: &[u8]) -> Option<(u32, u32)> {
        size(&base64::encode(bytes))
    }

    #[test]
    fn each_format_tells_its_size() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x07\x80\0\0\x04\x38\x08\x06\0\0\0";
        assert_eq!(sized(png), Some((1920, 1080)));
        assert_eq!(sized(b"GIF89a\x40\x01\xf0\0\xf7\0\0"), Some((320, 240)));
        let lossy = b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0\x30\x01\0\x9d\x01\x2a\x40\x06\xb0\x04\0\0";
        assert_eq!(sized(lossy), Some((1600, 1200)));
        let bits: u32 = 799 | 599 << 14;
        let lossless = [b"RIFF\x24\0\0\0WEBPVP8L\x18\0\0\0\x2f".as_slice(), &bits.to_le_bytes()].concat();
        assert_eq!(sized(&lossless), Some((800, 600)));
        let extended = b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x7f\x07\0\x37\x04\0";
        assert_eq!(sized(extended), Some((1920, 1080)));
    }

    #[test]
    fn a_photograph_tells_it_behind_its_preview() {
        let frame = b"\xff\xc2\0\x11\x08\x04\x38\x07\x80\x03\x01\x22\0";
        for preview in [0usize, 100, 5000, 60_000] {
            let mut jpeg = b"\xff\xd8".to_vec();
            for _ in 0..=preview / 50_000 {
                jpeg.extend([0xFF, 0xE1]);
                jpeg.extend((preview as u16 + 2).to_be_bytes());
                jpeg.extend(vec![0xC0; preview]);
            }
            jpeg.extend(b"\xff\xc4\0\x04\0\0\xff");
            jpeg.extend(frame);
            assert_eq!(sized(&jpeg), Some((1920, 1080)), "{preview}");
        }
    }

    #[test]
    fn anything_else_has_none() {
        for bytes in [
            b"".as_slice(),
            b"BM",
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"RIFF\0\0\0\0WEBPVP8?",
            b"\xff\xd8\0",
        ] {
            assert_eq!(sized(bytes), None);
        }
        assert_eq!(size("ä".repeat(50).as_str()), None);
        assert_eq!(sized(b"GIF89a\0\0\0\0\xf7\0\0"), None);
    }
}
