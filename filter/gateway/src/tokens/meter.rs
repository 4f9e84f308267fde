//! Counts the tokens of an answer as it comes: all that is billed as output, of every choice.

use attache_protocol::codec::Protocol;
use attache_protocol::event::{Beside, Delta, PartHead, StreamEvent};
use attache_protocol::request::{PartKind, Signature};
use attache_protocol::response::Response;

use super::look::Look;
use super::media::Images;
use super::{Counter, Family};

/// What of an answer was seen so far. Thoughts of which a provider shows nothing cannot be counted; it reports them at the end.
pub struct Meter {
    family: Family,
    counter: Option<Counter>,
    said: Tally,
    thought: Tally,
    /// Tokens of the thoughts that signatures hold.
    sealed: u64,
    /// The part under way is a thought.
    thinking: bool,
}

#[derive(Default)]
struct Tally {
    tokens: u64,
    look: Look,
}

impl Tally {
    fn add(&mut self, counter: &mut Option<Counter>, text: &str) {
        match counter {
            Some(counter) => self.tokens += counter.count(text),
            None => self.look.add(text),
        }
    }
    fn tokens(&self, scale: u64) -> u64 {
        self.tokens.saturating_add(self.look.likely() * scale / 256)
    }
}

/// Tokens of a tool call beside its name and arguments.
const CALL: u64 = 8;

/// Signatures hold the thoughts themselves, also where only a summary is shown ("the full thinking content is encrypted and
/// returned in the `signature` field", "you're charged for the full thinking tokens … not the summary tokens",
/// platform.claude.com, "Extended thinking"). Letters of base64 for a token, and those that each signature has beside,
/// fitted to what recorded answers report: 35 of Claude, Gemini and OpenAI's (by OpenRouter), half of them within a fifth.
const SEALED: u64 = 6;
const fn sealing(owner: Protocol) -> u64 {
    match owner {
        Protocol::Anthropic => 200,
        Protocol::Gemini => 0,
        Protocol::OpenAiChat => 1000,
    }
}

fn sealed(signature: &Signature<'_>) -> u64 {
    (signature.data.len() as u64).saturating_sub(sealing(signature.owner)) / SEALED
}

impl Meter {
    pub fn new(family: Family) -> Meter {
        let counter = family.vocabulary.map(Counter::new);
        let (said, thought) = (Tally::default(), Tally::default());
        Meter { family, counter, said, thought, sealed: 0, thinking: false }
    }

    pub fn event(&mut self, event: &StreamEvent<'_>) {
        match event {
            StreamEvent::PartStart { part, .. } => {
                self.thinking = matches!(part, PartHead::Reasoning | PartHead::RedactedReasoning);
                if let PartHead::ToolCall { name, .. } = part {
                    self.call(name);
                }
            }
            StreamEvent::Delta { delta: Delta::Text(text), .. } if self.thinking => self.thought(text),
            StreamEvent::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => self.text(text),
            StreamEvent::Delta { delta: Delta::Signature(signature), .. } => self.signature(signature),
            StreamEvent::Beside(beside) => self.beside(beside),
            StreamEvent::Start { .. }
            | StreamEvent::PartEnd { .. }
            | StreamEvent::Usage(_)
            | StreamEvent::Finish(_)
            | StreamEvent::Failed(_) => {}
        }
    }

    /// A whole answer.
    pub fn response(&mut self, response: &Response<'_>) {
        for part in &response.parts {
            match &part.kind {
                PartKind::Text(text) | PartKind::Refusal(text) => self.text(text),
                PartKind::Reasoning { text, .. } => self.thought(text),
                PartKind::ToolCall { name, arguments, .. } => {
                    self.call(name);
                    self.text(arguments);
                }
                // What is billed of these is in `beside`.
                PartKind::Media(_) | PartKind::ToolResult { .. } | PartKind::Foreign(_) => {}
            }
            part.signature.iter().for_each(|signature| self.signature(signature));
        }
        response.beside.iter().for_each(|beside| self.beside(beside));
    }

    fn beside(&mut self, beside: &Beside<'_>) {
        match beside {
            Beside::Text(text) => self.text(text),
            Beside::Thought(text) => self.thought(text),
            Beside::Call(name) => self.call(name),
            Beside::Signature(signature) => self.signature(signature),
            Beside::Sound(letters) => self.more(sound(self.family.images, *letters)),
            Beside::Picture => self.more(PICTURE),
        }
    }

    fn text(&mut self, text: &str) {
        self.said.add(&mut self.counter, text);
    }

    fn thought(&mut self, text: &str) {
        self.thought.add(&mut self.counter, text);
    }

    fn call(&mut self, name: &str) {
        self.more(CALL);
        self.text(name);
    }

    fn signature(&mut self, signature: &Signature<'_>) {
        self.sealed = self.sealed.saturating_add(sealed(signature));
    }

    fn more(&mut self, tokens: u64) {
        self.said.tokens = self.said.tokens.saturating_add(tokens);
    }

    fn said(&self) -> u64 {
        self.said.tokens(self.family.scale)
    }

    fn thoughts(&self) -> u64 {
        self.thought.tokens(self.family.scale)
    }

    /// Tokens so far: to the token where the vocabulary is published and pieces do not split tokens, else about. Of thoughts
    /// that are shown and sealed, what is more.
    pub fn tokens(&self) -> u64 {
        self.with_unseen(0)
    }

    /// The same, where the model is taken to have thought so many tokens, shown or not.
    pub fn with_unseen(&self, thought: u64) -> u64 {
        self.said().saturating_add(self.thoughts().max(self.sealed).max(thought))
    }

    /// Tokens that were surely answered: of what was seen, less by how much that may be too many.
    pub fn surely(&self) -> u64 {
        let seen = self.said().saturating_add(self.thoughts());
        let doubt = if self.counter.is_some() { 8 + seen / 64 } else { 32 + seen / 4 };
        seen.saturating_sub(doubt)
    }
}

/// OpenAI: "1 token per 50 ms" of an assistant's sound (its guide "Managing costs" of the Realtime API); Google: as in
/// prompts, 32 a second. Taken for 16 bits at 24 kHz, the only form that either streams; compressed sound is longer.
fn sound(images: Images, letters: u64) -> u64 {
    let a_second = if matches!(images, Images::Gemini { .. }) { 32 } else { 20 };
    let bytes = letters / 4 * 3;
    (bytes * a_second).div_ceil(48_000)
}

/// Google: 1290 tokens a picture ("Image generation with Gemini", Gemini 2.5 Flash Image), about as many of Gemini 3; others
/// tell none, and are taken to have as many.
const PICTURE: u64 = 1290;

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(text: &str) -> StreamEvent<'_> {
        StreamEvent::Delta { index: 0, delta: Delta::Text(text.into()) }
    }

    #[test]
    fn counts_what_comes() {
        let said = "The quick brown fox jumps over the lazy dog, again and again. ".repeat(20);
        for (model, off) in [("gpt-4o", 0), ("claude-sonnet-4-5", 25)] {
            let family = Family::of("openai", model);
            let mut whole = Meter::new(family);
            whole.text(&said);
            let mut pieces = Meter::new(family);
            for word in said.split_inclusive(' ') {
                pieces.event(&delta(word.trim_end()));
            }
            let (one, other) = (whole.tokens(), pieces.tokens());
            assert!(one.abs_diff(other) * 100 <= one * (off + 10), "{model}: {one} {other}");
            assert!(one > 200 && whole.surely() > one / 2);
        }
    }

    #[test]
    fn counts_what_other_protocols_do_not_show() {
        let counted = |beside: Beside<'_>| {
            let mut meter = Meter::new(Family::of("openai", "gpt-4o"));
            meter.event(&StreamEvent::Beside(beside));
            meter.tokens()
        };
        assert_eq!(counted(Beside::Text(" a a a".into())), 3);
        assert_eq!(counted(Beside::Thought(" a a".into())), 2);
        assert_eq!(counted(Beside::Call("f".into())), CALL + 1);
        // A second of it is 48,000 bytes.
        assert_eq!(counted(Beside::Sound(64_000)), 20);
        assert_eq!(counted(Beside::Picture), 1290);
    }

    /// What recorded answers report: letters of the signatures, tokens of the thoughts.
    #[test]
    fn sealed_thoughts_count_about_what_is_reported() {
        for (owner, letters, tokens) in [
            (Protocol::Anthropic, 592, 67),
            (Protocol::Anthropic, 384, 26),
            (Protocol::Anthropic, 524, 53),
            (Protocol::Gemini, 1332, 309),
            (Protocol::Gemini, 2312, 381),
            (Protocol::Gemini, 824, 138),
            (Protocol::Gemini, 272, 41),
            (Protocol::OpenAiChat, 2252, 192),
            (Protocol::OpenAiChat, 1420, 64),
        ] {
            let data = "A".repeat(letters);
            let mut meter = Meter::new(Family::of("openai", "gpt-5"));
            let part = PartHead::Reasoning;
            meter.event(&StreamEvent::PartStart { index: 0, part });
            meter.event(&delta(" a a a"));
            let shown = meter.tokens();
            let signature = Signature { owner, data: data.as_str().into() };
            meter.event(&StreamEvent::Delta { index: 0, delta: Delta::Signature(signature) });
            let counted = meter.tokens();
            assert!(counted.abs_diff(tokens) * 100 <= tokens * 35, "{owner:?} {counted} {tokens}");
            // What is shown of them is not counted twice, and only what is seen is sure.
            assert_eq!(shown, 3);
            assert!(meter.surely() < 4);
            meter.event(&StreamEvent::PartStart { index: 1, part: PartHead::Text });
            meter.event(&delta(" a a a a"));
            assert_eq!(meter.tokens(), counted + 4);
        }
    }
}
