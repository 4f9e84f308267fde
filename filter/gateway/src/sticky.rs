//! Conversations stay where their prompt is cached: with the same key; and, once they had to move to another target for
//! so long that the first has forgotten them, there.
//!
//! Providers cache a prompt's beginning for about five minutes after its last use, from about a thousand tokens on
//! (OpenAI, "Prompt caching": 1024 tokens, 5 to 10 minutes of inactivity; Anthropic, "Prompt caching": 1024 tokens or
//! more, 5 minutes, refreshed by use). A conversation that is shorter, or has been silent for longer, loses
//! nothing by going back to the route's first target.

use attache_protocol::request::{PartKind, Request, Role};
use serde::{Deserialize, Serialize};

use crate::health::{Id, hash};

/// Milliseconds for which a cache is taken to be warm.
pub const WARM: u64 = 5 * 60_000;
/// Bytes of a body below which nothing is cached: a token has about four.
pub const LEAST_CACHED: u64 = 4096;
/// Conversations remembered; the one longest silent makes room.
const MOST_MOVES: usize = 512;
/// Bytes of a prompt's beginning that tell a conversation from others.
const PREFIX: usize = 1024;

/// Headers by which a client may name its conversation.
pub const SESSION_HEADERS: [&str; 2] = ["x-attache-session", "x-session-id"];

/// The conversation as a number, never 0: what the client names it by, else how it begins.
pub fn conversation(named: Option<&str>, request: &Request<'_>) -> u64 {
    let extra = ["prompt_cache_key", "session_id"].into_iter().find_map(|name| {
        let value = request.extras.get(name)?;
        (value.get() != "null").then(|| value.get().as_bytes())
    });
    let number = match (named, extra, &request.user) {
        (Some(named), _, _) => hash(&[b"header", named.as_bytes()]),
        (None, Some(extra), _) => hash(&[b"member", extra]),
        (None, None, Some(user)) => hash(&[b"user", user.as_bytes()]),
        (None, None, None) => beginning(request),
    };
    number.max(1)
}

/// The stable part of a prompt: tools, system text and the first words of the user.
fn beginning(request: &Request<'_>) -> u64 {
    let mut parts: Vec<&[u8]> = Vec::new();
    for tool in request.tools.iter().take(8) {
        if let attache_protocol::request::Tool::Function(function) = tool {
            parts.push(function.name.as_bytes());
        }
    }
    for message in &request.messages {
        for part in &message.parts {
            if let PartKind::Text(text) = &part.kind {
                parts.push(text.as_bytes().get(..PREFIX).unwrap_or(text.as_bytes()));
            }
        }
        if message.role == Role::User {
            break;
        }
    }
    hash(&parts)
}

/// The order of keys for a conversation: the same every time, and over many conversations each key is first as often as
/// its weight says (weighted rendezvous hashing: Thaler and Ravishankar, 1998; Schindelhauer and Schomaker, 2005).
pub fn key_score(conversation: u64, key: &str, weight: u32) -> f64 {
    let mixed = hash(&[&conversation.to_le_bytes(), key.as_bytes()]);
    // FNV's upper bits hang together for short inputs; a finalizer spreads them (MurmurHash3's fmix64).
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let unit = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    f64::from(weight) / -unit.ln()
}

/// Conversations that live elsewhere than their route's order says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moves(Vec<Move>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Move {
    conversation: u64,
    to: Id,
    /// When it left the target that comes first, and when it was answered elsewhere last.
    since: u64,
    at: u64,
}

impl Moves {
    pub fn read(bytes: &[u8]) -> Moves {
        postcard::from_bytes(bytes).unwrap_or_default()
    }
    pub fn write(&self) -> Vec<u8> {
        postcard::to_extend(self, Vec::new()).unwrap_or_default()
    }
    /// Where a conversation's prompt is still cached, if its first target has forgotten it.
    pub fn home(&self, conversation: u64, now: u64) -> Option<Id> {
        let found = self.0.iter().find(|moved| moved.conversation == conversation)?;
        let warm = |last: u64| now.saturating_sub(last) < WARM;
        (warm(found.at) && !warm(found.since)).then_some(found.to)
    }
    /// It was answered there just now.
    pub fn moved(&mut self, conversation: u64, to: Id, now: u64) {
        let before = self.0.iter().find(|moved| moved.conversation == conversation);
        let since =
            before.filter(|moved| now.saturating_sub(moved.at) < WARM).map_or(now, |moved| moved.since);
        self.0.retain(|moved| moved.conversation != conversation && now.saturating_sub(moved.at) < WARM);
        if self.0.len() >= MOST_MOVES {
            self.0.remove(0);
        }
        self.0.push(Move { conversation, to, since, at: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_first_as_often_as_they_weigh() {
        let first = (0..10_000u64)
            .filter(|conversation| key_score(*conversation, "a", 3) > key_score(*conversation, "b", 1))
            .count();
        assert!((7_200..7_800).contains(&first), "{first} of 10000 for three quarters of the weight");
        assert!((0..100).all(|n| key_score(n, "a", 3) == key_score(n, "a", 3)));
    }

    #[test]
    fn a_conversation_stays_while_its_cache_is_warm() {
        let (mut moves, to) = (Moves::default(), Id::target("b", "m"));
        moves.moved(7, to, 1000);
        assert_eq!(moves.home(7, 2000), None, "the first target still has it cached");
        moves.moved(7, to, WARM - 1000);
        assert_eq!(moves.home(7, WARM + 1000), Some(to), "only the other one has");
        assert_eq!(moves.home(7, 2 * WARM), None, "both have forgotten it");
        assert_eq!(moves.home(8, WARM + 1000), None);
        for conversation in 0..2 * MOST_MOVES as u64 {
            moves.moved(conversation, to, 2000);
        }
        assert_eq!(moves.0.len(), MOST_MOVES);
        assert_eq!(Moves::read(&moves.write()), moves);
    }
}
