//! Writes the tables of `src/tokens`: OpenAI's vocabularies, taken from tiktoken-rs, in a form that is read where it lies,
//! and the classes of characters that their patterns name.
//!
//! A vocabulary's tokens lie in groups of one length. In each a perfect hash says where a token would be: its bucket's
//! pilot, then its slot, which holds the token's bytes and its rank. So a look-up is two reads and a comparison,
//! whether the token is there or not, nothing is built when the filter starts, and the tables are hardly larger than
//! the tokens.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

#[path = "src/tokens/hash.rs"]
mod hash;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/tokens/hash.rs");
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    let mut code = String::new();
    for (name, bpe) in [("o200k", tiktoken_rs::o200k_base()?), ("cl100k", tiktoken_rs::cl100k_base()?)] {
        let tokens: Vec<Vec<u8>> = (0..).map_while(|rank| bpe.decode_bytes(&[rank]).ok()).collect();
        let (table, groups) = vocabulary(&tokens)?;
        fs::write(folder.join(format!("{name}.bin")), table)?;
        let constant = name.to_uppercase();
        writeln!(code, "pub const {constant}_GROUPS: [Group; {}] = [{groups}];", LONGEST + 1)?;
    }
    fs::write(folder.join("groups.rs"), code)?;
    fs::write(folder.join("classes.bin"), classes()?)?;
    Ok(())
}

/// The longest token of either vocabulary: 128 spaces, or hyphens.
const LONGEST: usize = 128;
/// No token: the rank in slots that are empty.
const NONE: [u8; 3] = [0xFF; 3];

/// The table, and where each length's group lies in it.
fn vocabulary(tokens: &[Vec<u8>]) -> Result<(Vec<u8>, String), Failure> {
    let (mut table, mut groups) = (Vec::new(), String::new());
    for length in 0..=LONGEST {
        let these: Vec<(usize, &Vec<u8>)> =
            tokens.iter().enumerate().filter(|(_, token)| token.len() == length).collect();
        let buckets = these.len().div_ceil(4) as u32;
        let slots = (these.len() + these.len() / 32) as u32;
        let pilots_at = table.len();
        let (pilots, placed) = layout(&these, buckets, slots)?;
        for pilot in pilots {
            table.extend(pilot.to_le_bytes());
        }
        let slots_at = table.len();
        for slot in 0..slots {
            match placed.get(&slot) {
                Some((rank, token)) => {
                    table.extend_from_slice(token);
                    table.extend((*rank as u32).to_le_bytes().into_iter().take(3));
                }
                None => {
                    table.extend(std::iter::repeat_n(0, length));
                    table.extend(NONE);
                }
            }
        }
        write!(
            groups,
            "Group {{ buckets: {buckets}, slots: {slots}, pilots_at: {pilots_at}, slots_at: {slots_at} }}, "
        )?;
    }
    if tokens.iter().any(|token| token.len() > LONGEST) {
        return Err("a token is longer than the table has groups for".into());
    }
    Ok((table, groups))
}

type Placed<'t> = HashMap<u32, (usize, &'t Vec<u8>)>;

/// A pilot for each bucket, so that no two tokens share a slot; the fullest buckets choose first.
fn layout<'t>(
    tokens: &[(usize, &'t Vec<u8>)],
    buckets: u32,
    slots: u32,
) -> Result<(Vec<u16>, Placed<'t>), Failure> {
    let mut members = vec![Vec::new(); buckets as usize];
    for (rank, token) in tokens {
        let hash = hash::hash(token);
        let bucket = hash::place(hash, buckets) as usize;
        members.get_mut(bucket).ok_or("no such bucket")?.push((hash, *rank, *token));
    }
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|bucket| std::cmp::Reverse(members.get(*bucket).map_or(0, Vec::len)));
    let mut pilots = vec![0u16; buckets as usize];
    let mut taken = vec![false; slots as usize];
    let mut placed = HashMap::new();
    for bucket in order {
        let members = members.get(bucket).ok_or("no such bucket")?;
        let mut own = Vec::new();
        let pilot = (0..=u16::MAX).find(|pilot| {
            own.clear();
            members.iter().all(|(hash, _, _)| {
                let slot = hash::slot(*hash, *pilot, slots);
                let free = !taken.get(slot as usize).copied().unwrap_or(true) && !own.contains(&slot);
                own.push(slot);
                free
            })
        });
        *pilots.get_mut(bucket).ok_or("no such bucket")? = pilot.ok_or("no pilot fits")?;
        for (slot, (_, rank, token)) in own.iter().zip(members) {
            *taken.get_mut(*slot as usize).ok_or("no such slot")? = true;
            placed.insert(*slot, (*rank, *token));
        }
    }
    Ok((pilots, placed))
}

/// Every character's class as `src/tokens/split.rs` names them: first a block's number for each 128 characters, then the
/// blocks. The classes are those of regex-syntax, from which tiktoken-rs has them.
fn classes() -> Result<Vec<u8>, Failure> {
    let mut class = vec![0u8; 0x11_0000];
    let properties = [
        (r"[\p{Lu}\p{Lt}]", 1),
        (r"\p{Ll}", 2),
        (r"[\p{Lm}\p{Lo}]", 4),
        (r"\p{M}", 8),
        (r"\p{N}", 16),
        (r"\s", 32),
        (r"[\r\n]", 64),
    ];
    for (pattern, bit) in properties {
        let parsed = regex_syntax::parse(pattern)?;
        let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(ranges)) = parsed.kind()
        else {
            return Err("not a class".into());
        };
        for range in ranges.iter() {
            let range = range.start() as usize..=range.end() as usize;
            class.get_mut(range).ok_or("no such character")?.iter_mut().for_each(|class| *class |= bit);
        }
    }
    let (mut index, mut blocks): (Vec<u8>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for block in class.chunks(128) {
        let known = blocks.iter().position(|known| *known == block).unwrap_or(blocks.len());
        if known == blocks.len() {
            blocks.push(block);
        }
        index.push(u8::try_from(known)?);
    }
    Ok(index.into_iter().chain(blocks.concat()).collect())
}
