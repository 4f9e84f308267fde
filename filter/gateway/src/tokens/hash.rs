//! The hash by which a vocabulary's table is laid out: `build.rs` writes the table with it, `vocabulary.rs` reads it.

/// A number in `0..count`, from the upper half of `hash`.
pub fn place(hash: u64, count: u32) -> u32 {
    (((hash >> 32) * u64::from(count)) >> 32) as u32
}

/// Where a token lies among `slots` places, once its bucket's pilot is known.
pub fn slot(hash: u64, pilot: u16, slots: u32) -> u32 {
    let mixed =
        (hash ^ u64::from(pilot).wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    place(mixed, slots)
}

/// Of bytes that are compared with others of the same length only.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0;
    if let (Some((eights, _)), Some(last)) =
        (bytes.split_at_checked(bytes.len() & !7), bytes.last_chunk::<8>())
    {
        for eight in eights.as_chunks::<8>().0 {
            hash = mix(hash ^ u64::from_le_bytes(*eight));
        }
        return mix(hash ^ u64::from_le_bytes(*last));
    }
    mix(short(bytes))
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (value ^ (value >> 32)).wrapping_mul(0x94D0_49BB_1331_11EB)
}

/// Up to eight bytes as a number; different bytes of one length give different numbers.
fn short(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) | (u64::from(u32::from_le_bytes(*last)) << 32);
    }
    match bytes {
        [one] => u64::from(*one),
        [one, two] => u64::from(u16::from_le_bytes([*one, *two])),
        [one, two, three] => u64::from(u32::from_le_bytes([*one, *two, *three, 0])),
        _ => 0,
    }
}
