//! How a model's provider counts a prompt: one row of data for each family of models, with its evidence.

use super::Bounds;
use super::media::Images;
use super::vocabulary::Vocabulary;

/// What is known of how a model's tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    /// As the report of errors names it.
    pub name: &'static str,
    /// The vocabulary, where it is published.
    pub vocabulary: Option<Vocabulary>,
    /// Where it is not: tokens for 256 that `o200k_base` has for the same text.
    pub(super) scale: u64,
    pub(super) images: Images,
    pub(super) chat: Chat,
}

/// What a prompt has beside what the client wrote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chat {
    /// Once.
    pub prompt: u64,
    /// For each message; its role is among them.
    pub message: u64,
    /// For each call of a tool, beside its name and arguments, and each result.
    pub call: u64,
    /// Where there are tools: the words that tell the model about them; and where it must use one.
    pub tools: [u64; 2],
    /// For each tool, beside its name, description and schema.
    pub tool: u64,
    /// Tokens of a schema for 256 of its JSON text; and of the schema that an answer must keep to.
    pub schema: [u64; 2],
    /// Where an answer must keep to a schema: the words that tell the model so.
    pub answer: u64,
    /// For each signature of thoughts that comes back.
    pub signature: u64,
}

/// A row: the model's name begins so at its beginning or behind `/`, `.`, `-` …; after a `*` anything may follow, else only
/// what is no letter, digit or `.`. The first that fits counts.
struct Row(&'static [&'static str], Family);

/// OpenAI's cookbook, "How to count tokens with tiktoken": three tokens a message and its role, one for a name, three
/// before the answer. Tools are written as TypeScript: hmarr/openai-chat-tokens, found out by trials, nine for all.
const OPENAI: Family = Family {
    name: "o200k",
    vocabulary: Some(Vocabulary::O200k),
    scale: 256,
    images: Images::Tiles { base: 85, tile: 170 },
    chat: Chat {
        prompt: 3,
        message: 4,
        call: 10,
        tools: [9, 9],
        tool: 0,
        schema: [175, 256],
        answer: 0,
        signature: 0,
    },
};
const fn tiles(base: u64, tile: u64) -> Family {
    Family { images: Images::Tiles { base, tile }, ..OPENAI }
}
const fn patches(percent: u64, budget: u64) -> Family {
    Family { images: Images::Patches { percent, budget }, ..OPENAI }
}
const CL100K: Family = Family { name: "cl100k", vocabulary: Some(Vocabulary::Cl100k), ..OPENAI };

/// Anthropic's pages: "Tool use" has the tokens of the tools' system prompt, for `auto` and where a tool must be used;
/// "Vision" has the images; "Structured outputs", that a schema brings a system prompt of its own. Its vocabulary is not
/// published. Messages' own tokens, that prompt's and the scale are from recorded traffic.
const CLAUDE: Family = Family {
    name: "claude",
    vocabulary: None,
    scale: 287,
    images: Images::Claude { edge: 1568, most: 1568 },
    chat: Chat {
        prompt: 4,
        message: 4,
        call: 40,
        tools: [496, 588],
        tool: 30,
        schema: [256, 256],
        answer: 180,
        signature: 0,
    },
};
/// "Claude Sonnet 5 … about 30 % more tokens" (migration guide), and images of the higher resolution.
const fn claude_since_4_7(tools: [u64; 2]) -> Family {
    Family {
        name: "claude-5",
        scale: 373,
        images: Images::Claude { edge: 2576, most: 4784 },
        chat: Chat { tools, ..CLAUDE.chat },
        ..CLAUDE
    }
}
const fn claude(tools: [u64; 2]) -> Family {
    Family { chat: Chat { tools, ..CLAUDE.chat }, ..CLAUDE }
}

/// Google's page "Understand and count tokens": images in tiles of 258. The rest is from recorded traffic.
const GEMINI: Family = Family {
    name: "gemini",
    vocabulary: None,
    scale: 256,
    images: Images::Gemini { flat: None },
    chat: Chat {
        prompt: 0,
        message: 1,
        call: 8,
        tools: [0, 0],
        tool: 8,
        schema: [125, 0],
        answer: 0,
        signature: 0,
    },
};
/// Gemini 3 gives an image 1120 tokens unless told otherwise ("Media resolution").
const GEMINI_3: Family = Family {
    images: Images::Gemini { flat: Some(1120) },
    chat: Chat { signature: 130, ..GEMINI.chat },
    ..GEMINI
};

/// Everybody else: a vocabulary of about o200k's size, a template of a few tokens a message.
const OTHER: Family = Family {
    name: "other",
    vocabulary: None,
    scale: 270,
    images: Images::Unknown,
    chat: Chat {
        prompt: 4,
        message: 4,
        call: 10,
        tools: [60, 60],
        tool: 20,
        schema: [256, 256],
        answer: 0,
        signature: 0,
    },
};

const fn other(chat: Chat) -> Family {
    Family { chat, ..OTHER }
}

/// GPT-5 and gpt-oss tell their tools in more words ("harmony"); gpt-oss's template has a system message of its own.
/// Recorded traffic.
const fn harmony(family: Family, prompt: u64) -> Family {
    Family { chat: Chat { prompt, tools: [94 - prompt, 94 - prompt], call: 18, ..family.chat }, ..family }
}

/// Vocabularies as tiktoken's `model.py` has them; images as OpenAI's page "Images and vision" has them.
const ROWS: &[Row] = &[
    Row(&["gpt-5-mini", "gpt-5.2*", "gpt-5.3*"], harmony(patches(120, 6144), 2)),
    Row(&["gpt-5-nano"], harmony(patches(150, 6144), 2)),
    Row(&["gpt-5", "gpt-5.1*", "gpt-5-codex", "gpt-5-chat"], harmony(tiles(70, 140), 2)),
    Row(&["gpt-5.4*"], harmony(patches(120, 2500), 2)),
    // No budget of patches is told: that of the largest setting of GPT-5.4.
    Row(&["gpt-5*"], harmony(patches(120, 10_000), 2)),
    Row(&["gpt-4.1-mini"], patches(162, 6144)),
    Row(&["gpt-4.1-nano"], patches(246, 6144)),
    Row(&["o4-mini", "codex-mini"], patches(172, 6144)),
    Row(&["gpt-4o-mini"], tiles(2833, 5667)),
    Row(&["gpt-4o", "chatgpt-4o", "gpt-4.1", "gpt-4.5"], OPENAI),
    Row(&["gpt-oss"], harmony(OPENAI, 70)),
    Row(&["o1", "o3"], tiles(75, 150)),
    Row(&["gpt-4", "gpt-3.5*", "gpt-35-turbo"], CL100K),
    Row(&["claude-opus-4-7", "claude-opus-4.7"], claude_since_4_7([675, 804])),
    Row(&["claude-opus-4-8", "claude-opus-4.8"], claude_since_4_7([290, 410])),
    Row(&["claude-sonnet-5*", "claude-opus-5*", "claude-haiku-5*"], claude_since_4_7([354, 474])),
    Row(
        &["claude-opus-4-6", "claude-opus-4.6", "claude-sonnet-4-6", "claude-sonnet-4.6"],
        claude([497, 589]),
    ),
    Row(&["claude-opus-4-5", "claude-opus-4.5", "claude-sonnet-4-5", "claude-sonnet-4.5"], CLAUDE),
    Row(&["claude-haiku-4-5", "claude-haiku-4.5"], CLAUDE),
    Row(&["claude-opus-4*", "claude-sonnet-4*"], claude([313, 315])),
    Row(
        &["claude-3-7-sonnet", "claude-3.7-sonnet", "claude-3-5-sonnet", "claude-3.5-sonnet"],
        claude([346, 313]),
    ),
    Row(&["claude-3-5-haiku", "claude-3.5-haiku"], claude([264, 355])),
    Row(&["claude-3-opus"], claude([530, 281])),
    Row(&["claude-3-sonnet"], claude([159, 235])),
    Row(&["claude-3-haiku"], claude([264, 340])),
    Row(&["claude*"], claude_since_4_7([675, 804])),
    Row(&["gemini-1*", "gemini-2*"], GEMINI),
    Row(&["gemini*"], GEMINI_3),
    // Templates that tell more of themselves or of tools, by recorded traffic.
    Row(&["sonar*"], other(Chat { prompt: 0, message: 1, ..OTHER.chat })),
    Row(&["llama*"], other(Chat { prompt: 30, ..OTHER.chat })),
    Row(&["qwen2.5*"], other(Chat { prompt: 24, ..OTHER.chat })),
    Row(&["grok*", "deepseek*", "qwen3.5*"], other(Chat { tools: [200, 200], ..OTHER.chat })),
    Row(
        &["mistral*", "ministral*", "magistral*", "codestral*"],
        other(Chat { tools: [0, 0], tool: 5, ..OTHER.chat }),
    ),
    Row(&["kimi*"], other(Chat { tools: [20, 20], ..OTHER.chat })),
];

impl Family {
    /// Of a model as the provider calls it. `row`: the provider's row of the table.
    pub fn of(row: &str, model: &str) -> Family {
        let model = model.to_ascii_lowercase();
        let known = ROWS.iter().find(|Row(names, _)| names.iter().any(|name| is_named(&model, name)));
        match (known, row) {
            (Some(Row(_, family)), _) => *family,
            (None, "anthropic") => claude_since_4_7([675, 804]),
            (None, "gemini") => GEMINI_3,
            (None, _) => OTHER,
        }
    }

    /// What a template adds: known only where it is published.
    pub(super) fn template(&self, tokens: u64) -> Bounds {
        match self.vocabulary {
            Some(_) => Bounds::exactly(tokens),
            None => Bounds { low: tokens / 4, likely: tokens, high: 2 * tokens + 32 },
        }
    }
}

fn is_named(model: &str, name: &str) -> bool {
    let (name, open) = name.strip_suffix('*').map_or((name, false), |name| (name, true));
    model.match_indices(name).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|before| model.as_bytes().get(before));
        let after = model.as_bytes().get(at + name.len());
        !before.is_some_and(u8::is_ascii_alphanumeric)
            && (open || !after.is_some_and(|after| after.is_ascii_alphanumeric() || *after == b'.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_families() {
        let of = |model: &str| Family::of("openai", model);
        for model in [
            "gpt-4o",
            "gpt-4o-2024-08-06",
            "openai/gpt-4o",
            "ft:gpt-4o:org::id",
            "chatgpt-4o-latest",
            "GPT-4o",
        ] {
            assert_eq!(of(model), OPENAI, "{model}");
        }
        assert_eq!(of("gpt-oss-20b").vocabulary, Some(Vocabulary::O200k));
        assert_eq!(of("gpt-5").images, Images::Tiles { base: 70, tile: 140 });
        assert_eq!(of("gpt-5-2025-08-07").images, Images::Tiles { base: 70, tile: 140 });
        assert_eq!(of("gpt-5-mini-2025-08-07").images, Images::Patches { percent: 120, budget: 6144 });
        assert_eq!(of("gpt-5.4-mini").images, Images::Patches { percent: 120, budget: 2500 });
        assert_eq!(of("gpt-5.9").images, Images::Patches { percent: 120, budget: 10_000 });
        assert_eq!(of("gpt-4o-mini").images, Images::Tiles { base: 2833, tile: 5667 });
        for model in ["gpt-4", "gpt-4-turbo-2024-04-09", "gpt-3.5-turbo", "gpt-35-turbo-16k"] {
            assert_eq!(of(model).vocabulary, Some(Vocabulary::Cl100k), "{model}");
        }
        for model in ["gpt-4.7", "gpt-40", "gpt-6", "o9", "my-o1x", "qwen3", "", "my-model"] {
            assert_eq!(of(model), OTHER, "{model}");
        }
        assert_eq!(of("o3-mini").vocabulary, Some(Vocabulary::O200k));
        assert_eq!(of("us.anthropic.claude-sonnet-4-6-v1:0").chat.tools, [497, 589]);
        assert_eq!(of("claude-3-7-sonnet@20250219").chat.tools, [346, 313]);
        assert_eq!(of("claude-sonnet-4-20250514").chat.tools, [313, 315]);
        assert_eq!(Family::of("anthropic", "new").name, "claude-5");
        assert_eq!(of("google/gemini-3-pro-preview"), GEMINI_3);
        assert_eq!(of("models/gemini-2.5-flash"), GEMINI);
    }
}
