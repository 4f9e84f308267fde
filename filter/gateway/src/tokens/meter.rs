//! Counts the tokens of an answer as it comes.

use attache_protocol::event::{Delta, PartHead, StreamEvent};

use super::look::Look;
use super::{Counter, Family};

/// What of an answer was seen so far. Thoughts that a provider does not show cannot be counted; it reports them at the end.
pub struct Meter {
    family: Family,
    counter: Option<Counter>,
    tokens: u64,
    look: Look,
}

/// Tokens of a tool call beside its name and arguments.
const CALL: u64 = 8;

impl Meter {
    pub fn new(family: Family) -> Meter {
        let counter = family.vocabulary.map(Counter::new);
        Meter { family, counter, tokens: 0, look: Look::default() }
    }

    pub fn event(&mut self, event: &StreamEvent<'_>) {
        match event {
            StreamEvent::PartStart { part: PartHead::ToolCall { name, .. }, .. } => {
                self.tokens += CALL;
                self.text(name);
            }
            StreamEvent::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => self.text(text),
            _ => {}
        }
    }

    pub fn text(&mut self, text: &str) {
        match &mut self.counter {
            Some(counter) => self.tokens += counter.count(text),
            None => self.look.add(text),
        }
    }

    /// Tokens so far: to the token where the vocabulary is published and pieces do not split tokens, else about.
    pub fn tokens(&self) -> u64 {
        self.tokens + self.look.likely() * self.family.scale / 256
    }

    /// By how much that may be too many.
    pub fn doubt(&self) -> u64 {
        let tokens = self.tokens();
        if self.counter.is_some() { 8 + tokens / 64 } else { 32 + tokens / 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_comes() {
        let said = "The quick brown fox jumps over the lazy dog, again and again. ".repeat(20);
        for (model, off) in [("gpt-4o", 0), ("claude-sonnet-4-5", 25)] {
            let family = Family::of("openai", model);
            let mut whole = Meter::new(family);
            whole.text(&said);
            let mut pieces = Meter::new(family);
            for word in said.split_inclusive(' ') {
                let delta = Delta::Text(word.trim_end().into());
                pieces.event(&StreamEvent::Delta { index: 0, delta });
            }
            let (one, other) = (whole.tokens(), pieces.tokens());
            assert!(one.abs_diff(other) * 100 <= one * (off + 10), "{model}: {one} {other}");
            assert!(one > 200 && whole.doubt() < one);
        }
    }
}
