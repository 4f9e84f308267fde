//! OpenAI's vocabularies as tables that are read where they lie; `build.rs` writes them.

use super::hash;

/// The tokens of one length.
pub struct Group {
    buckets: u32,
    slots: u32,
    pilots_at: u32,
    slots_at: u32,
}

include!(concat!(env!("OUT_DIR"), "/groups.rs"));

/// The longest token of either vocabulary.
pub const LONGEST: usize = 128;
/// The rank of what is no token.
pub const NONE: u32 = 0xFF_FFFF;

/// A vocabulary: which bytes are a token, and how early they are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// `o200k_base`: GPT-4o and all that came after it.
    O200k,
    /// `cl100k_base`: GPT-3.5 and GPT-4.
    Cl100k,
}

const O200K: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/o200k.bin"));
const CL100K: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cl100k.bin"));

impl Vocabulary {
    /// A token's rank, or [`NONE`].
    #[inline]
    pub fn rank(self, bytes: &[u8]) -> u32 {
        match self {
            Vocabulary::O200k => find(O200K, &O200K_GROUPS, bytes),
            Vocabulary::Cl100k => find(CL100K, &CL100K_GROUPS, bytes),
        }
        .unwrap_or(NONE)
    }
}

#[inline]
fn find(table: &[u8], groups: &[Group], bytes: &[u8]) -> Option<u32> {
    let group = groups.get(bytes.len()).filter(|group| group.buckets > 0)?;
    let hash = hash::hash(bytes);
    let pilot_at = (group.pilots_at + 2 * hash::place(hash, group.buckets)) as usize;
    let pilot = u16::from_le_bytes(*table.get(pilot_at..)?.first_chunk()?);
    let slot = hash::slot(hash, pilot, group.slots) as usize;
    let held = table.get(group.slots_at as usize + slot * (bytes.len() + 3)..)?;
    let (token, rest) = held.split_at_checked(bytes.len())?;
    let [low, middle, high] = *rest.first_chunk()?;
    (token == bytes).then_some(u32::from_le_bytes([low, middle, high, 0]))
}
