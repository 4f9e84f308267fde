//! How many tokens a text has in a vocabulary of OpenAI's: byte-pair encoding, without the encoding.
//!
//! A piece that is no token itself is merged, lowest rank first and leftmost first, as tiktoken does it
//! (`_byte_pair_merge`): a list for short pieces, a tree for long ones. Very long pieces go through windows, so that a
//! megabyte without a space needs neither the square of its time nor many times its memory: a list of tokens is what a
//! text encodes to if and only if each two neighbours are what they encode to by themselves. So of a window's tokens all but
//! the last are taken, the next window begins behind them, and one look at the seam proves both.

use super::split;
use super::vocabulary::{LONGEST, NONE, Vocabulary};

/// Longer pieces are merged with a tree.
const LIST: usize = 32;
/// Longer pieces are merged in windows of this many bytes,
const WINDOW: usize = 4096;
/// of whose tokens those that end in the last so many bytes are not taken.
const MARGIN: usize = 512;

/// Counts, with room that one piece leaves to the next.
pub struct Counter {
    vocabulary: Vocabulary,
    /// Where the parts begin, and the rank of each one with the next.
    parts: Vec<(u32, u32)>,
    links: Vec<Link>,
    tree: Tree,
}

/// A part in the tree's list: who is before and behind it.
#[derive(Clone, Copy)]
struct Link {
    before: u32,
    next: u32,
}

/// Ranks of places, and which is the least: each node holds the lesser of its two children, rank above place.
#[derive(Default)]
struct Tree {
    nodes: Vec<u64>,
    leaves: usize,
}

impl Tree {
    fn plant(&mut self, places: usize, ranks: impl Iterator<Item = u32>) {
        self.leaves = places.next_power_of_two();
        self.nodes.clear();
        self.nodes.resize(self.leaves, u64::MAX);
        self.nodes.extend(ranks.zip(0..).map(|(rank, at)| Tree::node(at, rank)));
        self.nodes.resize(2 * self.leaves, u64::MAX);
        for node in (1..self.leaves).rev() {
            let lesser = self.lesser_child(node);
            if let Some(node) = self.nodes.get_mut(node) {
                *node = lesser;
            }
        }
    }
    fn node(at: u32, rank: u32) -> u64 {
        if rank == NONE { u64::MAX } else { u64::from(rank) << 32 | u64::from(at) }
    }
    fn lesser_child(&self, node: usize) -> u64 {
        let children = self.nodes.get(2 * node..2 * node + 2).unwrap_or_default();
        children.iter().copied().min().unwrap_or(u64::MAX)
    }
    /// The place of the least rank; the first of equal ones.
    fn least(&self) -> Option<u32> {
        self.nodes.get(1).filter(|least| **least != u64::MAX).map(|least| *least as u32)
    }
    fn set(&mut self, at: u32, rank: u32) {
        let (mut node, mut value) = (self.leaves + at as usize, Tree::node(at, rank));
        while let Some(held) = self.nodes.get_mut(node).filter(|held| **held != value && node > 0) {
            *held = value;
            node /= 2;
            value = self.lesser_child(node);
        }
    }
}

impl Counter {
    pub fn new(vocabulary: Vocabulary) -> Counter {
        Counter { vocabulary, parts: Vec::new(), links: Vec::new(), tree: Tree::default() }
    }

    /// The tokens of a text in which nothing is special.
    pub fn count(&mut self, text: &str) -> u64 {
        let bytes = text.as_bytes();
        let (mut from, mut tokens) = (0, 0);
        while from < bytes.len() {
            let end = split::piece(self.vocabulary, bytes, from).max(from + 1);
            tokens += self.piece(bytes.get(from..end).unwrap_or_default());
            from = end;
        }
        tokens
    }

    fn piece(&mut self, piece: &[u8]) -> u64 {
        if piece.len() == 1 || (piece.len() <= LONGEST && self.vocabulary.rank(piece) != NONE) {
            return 1;
        }
        if piece.len() <= WINDOW { self.merge(piece) } else { self.windows(piece) }
    }

    /// Merges, and returns how many tokens are left; their beginnings are in `parts`.
    fn merge(&mut self, piece: &[u8]) -> u64 {
        if piece.len() <= LIST {
            self.merge_list(piece)
        } else {
            self.merge_tree(piece)
        }
        self.parts.len() as u64
    }

    fn merge_list(&mut self, piece: &[u8]) {
        let parts = &mut self.parts;
        parts.clear();
        parts.extend(piece.windows(2).enumerate().map(|(at, two)| (at as u32, self.vocabulary.rank(two))));
        parts.push((piece.len() as u32 - 1, NONE));
        loop {
            let least = parts.iter().enumerate().min_by_key(|(_, (_, rank))| *rank);
            let Some((at, _)) = least.filter(|(_, (_, rank))| *rank != NONE) else { return };
            parts.remove(at + 1);
            for at in [at.checked_sub(1), Some(at)].into_iter().flatten() {
                let end = parts.get(at + 2).map_or(piece.len(), |(start, _)| *start as usize);
                let more = at + 1 < parts.len();
                if let Some((start, rank)) = parts.get_mut(at) {
                    let both = piece.get(*start as usize..end).filter(|_| more);
                    *rank = both.map_or(NONE, |both| self.vocabulary.rank(both));
                }
            }
        }
    }

    fn merge_tree(&mut self, piece: &[u8]) {
        let (links, tree, vocabulary, length) =
            (&mut self.links, &mut self.tree, self.vocabulary, piece.len() as u32);
        links.clear();
        links.extend((0..length).map(|at| Link { before: at.wrapping_sub(1), next: at + 1 }));
        let pairs = piece.windows(2).map(|two| vocabulary.rank(two));
        tree.plant(piece.len(), pairs);
        while let Some(at) = tree.least() {
            let Some(left) = links.get(at as usize).copied() else { return };
            let Some(right) = links.get(left.next as usize).copied() else { return };
            tree.set(left.next, NONE);
            if let Some(behind) = links.get_mut(right.next as usize) {
                behind.before = at;
            }
            if let Some(merged) = links.get_mut(at as usize) {
                merged.next = right.next;
            }
            for at in [left.before, at] {
                let Some(link) = links.get(at as usize) else { continue };
                let end = links.get(link.next as usize).map(|next| next.next as usize);
                let both = end.and_then(|end| piece.get(at as usize..end));
                tree.set(at, both.map_or(NONE, |both| vocabulary.rank(both)));
            }
        }
        self.parts.clear();
        let mut at = 0;
        while let Some(link) = links.get(at as usize) {
            self.parts.push((at, NONE));
            at = link.next;
        }
    }

    /// A piece that is longer than a window. Where a seam does not hold, all begins again with larger windows, the largest
    /// of which is the piece itself; no text is known for which that happens.
    fn windows(&mut self, piece: &[u8]) -> u64 {
        let mut window = WINDOW;
        loop {
            if let Some(tokens) = self.seams_hold(piece, window) {
                return tokens;
            }
            window = window.saturating_mul(8);
        }
    }

    fn seams_hold(&mut self, piece: &[u8], window: usize) -> Option<u64> {
        let (mut from, mut tokens, mut last) = (0, 0, 0..0);
        loop {
            let rest = piece.get(from..).unwrap_or_default();
            let (these, whole) = rest.get(..window).map_or((rest, true), |these| (these, false));
            self.merge(these);
            let mut ends = self.parts.iter().skip(1).map(|(start, _)| *start as usize).collect::<Vec<_>>();
            ends.push(these.len());
            let first = from..from + ends.first().copied().unwrap_or_default();
            let taken = if whole { ends.len() } else { ends.partition_point(|end| *end + MARGIN <= window) };
            if taken == 0 || !(last.is_empty() || self.stays(piece, &last, &first)) {
                return None;
            }
            let end =
                |nth: usize| nth.checked_sub(1).and_then(|nth| ends.get(nth)).copied().unwrap_or_default();
            tokens += taken as u64;
            last = from + end(taken - 1)..from + end(taken);
            from = last.end;
            if whole {
                return Some(tokens);
            }
        }
    }

    /// Whether two neighbours stay two, and the same two.
    fn stays(&mut self, piece: &[u8], left: &std::ops::Range<usize>, right: &std::ops::Range<usize>) -> bool {
        let both = piece.get(left.start..right.end).unwrap_or_default();
        self.merge(both);
        self.parts.len() == 2 && self.parts.get(1).is_some_and(|(start, _)| *start as usize == left.len())
    }
}
