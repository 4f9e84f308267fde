//! The figures of a model: what it holds, takes, can do and costs. Each may be unknown, and what is unknown is tried.

use std::fmt;
use std::num::NonZeroU64;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use attache_protocol::response::ServiceTier;

/// What is known of a model. A figure that is left out is not known, and nothing is refused for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Figures {
    /// Tokens of the prompt and the answer together.
    pub context: Option<NonZeroU64>,
    /// Tokens of the prompt alone, where the provider limits it by itself.
    pub prompt: Option<NonZeroU64>,
    /// Tokens of the answer, reasoning included: the most that may be asked for.
    pub output: Option<NonZeroU64>,
    /// What may stand in a request beside text.
    #[serde(default)]
    pub inputs: Modalities,
    /// What an answer may be.
    #[serde(default)]
    pub outputs: Modalities,
    /// Function tools are taken.
    pub tools: Option<bool>,
    /// One answer may hold several tool calls.
    pub parallel_tools: Option<bool>,
    /// An answer can be held to a JSON schema.
    pub json_schema: Option<bool>,
    pub reasoning: Option<Reasoning>,
    /// It goes on from an answer that the assistant has begun, when that is the last message; `false`: such a request is refused.
    pub prefill: Option<bool>,
    /// No token holds white space between two letters, as in every vocabulary that splits text into words first.
    /// Then a prompt has at least as many tokens as words, and one with more words than the model holds is not sent.
    pub whole_words: Option<bool>,
    #[serde(default)]
    pub prices: Prices,
    /// Prices of a request whose prompt is longer than this.
    pub long_prompt: Option<LongPrompt>,
    /// Prices of requests that were not served as most are.
    #[serde(default)]
    pub tiers: Tiers,
}

/// Kinds of input or output: taken, refused or (left out) not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Modalities {
    pub text: Option<bool>,
    pub image: Option<bool>,
    pub audio: Option<bool>,
    pub pdf: Option<bool>,
    pub video: Option<bool>,
}

/// Whether a model thinks before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Reasoning {
    None,
    /// It can be had, and kept off.
    Optional,
    Always,
}

/// US dollars for a million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Prices {
    /// Of the prompt, as far as it came from no cache.
    pub input: Option<Price>,
    /// Of the prompt, as far as it was read from a cache.
    pub cached_input: Option<Price>,
    /// Of what is written to a cache for minutes.
    pub cache_write: Option<Price>,
    /// Of what is written to a cache for an hour.
    pub cache_write_hour: Option<Price>,
    /// Of the answer, reasoning included.
    pub output: Option<Price>,
    /// Of what is sound in the prompt; as `input` where it is left out.
    pub audio_input: Option<Price>,
    /// Of what is sound in the answer; as `output` where it is left out.
    pub audio_output: Option<Price>,
}

/// Prices by how the provider says that it served a request. What a tier does not say is as without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tiers {
    /// `flex`: cheaper, when there is room.
    #[serde(default)]
    pub flex: Tier,
    /// `priority`; OpenAI's fast mode is this too.
    #[serde(default)]
    pub priority: Tier,
    /// Anthropic's fast mode (`speed`), OpenAI's `ultrafast`.
    #[serde(default)]
    pub fast: Tier,
}

/// The prices of one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tier {
    #[serde(default)]
    pub prices: Prices,
    /// Its prices of a request whose prompt is longer than this.
    pub long_prompt: Option<LongPrompt>,
}

/// The prices of long prompts. They hold for the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LongPrompt {
    /// Tokens of the prompt beyond which they hold.
    pub above: NonZeroU64,
    pub prices: Prices,
}

/// An exact price: picodollars for a token, which is the same number as microdollars for a million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(u64);

impl Price {
    /// Digits after the point that a price may have.
    const DECIMALS: usize = 6;

    pub fn picodollars_per_token(self) -> u64 {
        self.0
    }
    /// What so many tokens cost, in picodollars.
    pub fn of(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
    /// Reads dollars for a million tokens, as in `0.075`: no floating point comes between.
    fn parse(dollars: &str) -> Option<Price> {
        let (whole, decimals) = dollars.split_once('.').unwrap_or((dollars, ""));
        if decimals.len() > Self::DECIMALS || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let micro = format!("{decimals:0<width$}", width = Self::DECIMALS).parse::<u64>().ok()?;
        whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micro).map(Price)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PriceVisitor;
        impl Visitor<'_> for PriceVisitor {
            type Value = Price;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("dollars for a million tokens, with at most 6 decimals, such as `2.5`")
            }
            fn visit_u64<E: de::Error>(self, dollars: u64) -> Result<Price, E> {
                let price = dollars.checked_mul(1_000_000).map(Price);
                price.ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(dollars), &self))
            }
            // The shortest decimal that reads back as this number is the one that was typed.
            fn visit_f64<E: de::Error>(self, dollars: f64) -> Result<Price, E> {
                Price::parse(&dollars.to_string())
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Float(dollars), &self))
            }
        }
        deserializer.deserialize_any(PriceVisitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Price {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Price".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "minimum": 0, "description": "US dollars for a million tokens." })
    }
}

impl Figures {
    /// These, and the others where these say nothing.
    pub fn or(self, others: Figures) -> Figures {
        Figures {
            context: self.context.or(others.context),
            prompt: self.prompt.or(others.prompt),
            output: self.output.or(others.output),
            inputs: self.inputs.or(others.inputs),
            outputs: self.outputs.or(others.outputs),
            tools: self.tools.or(others.tools),
            parallel_tools: self.parallel_tools.or(others.parallel_tools),
            json_schema: self.json_schema.or(others.json_schema),
            reasoning: self.reasoning.or(others.reasoning),
            prefill: self.prefill.or(others.prefill),
            whole_words: self.whole_words.or(others.whole_words),
            prices: self.prices.or(others.prices),
            // Who says what a model costs says it for long prompts and for every tier too.
            long_prompt: self.long_prompt.or(others.long_prompt.filter(|_| self.prices == Prices::default())),
            tiers: if self.prices == Prices::default() { self.tiers.or(others.tiers) } else { self.tiers },
        }
    }
    /// Tokens of the longest prompt.
    pub fn longest_prompt(&self) -> Option<u64> {
        self.context.into_iter().chain(self.prompt).min().map(NonZeroU64::get)
    }
    /// What the tokens of a request cost whose prompt has this many, and that was served so (`None`: as most are).
    pub fn prices_for(&self, prompt: u64, tier: Option<ServiceTier>) -> Prices {
        let long = self.long_prompt.filter(|long| prompt > long.above.get());
        let usual = long.map_or(self.prices, |long| long.prices.or(self.prices));
        let tier = match tier {
            Some(ServiceTier::Flex) => &self.tiers.flex,
            Some(ServiceTier::Priority) => &self.tiers.priority,
            Some(ServiceTier::Fast) => &self.tiers.fast,
            // An answer to a request is never of a batch; what is paid for by time is counted as if it were not.
            None | Some(ServiceTier::Standard | ServiceTier::Batch | ServiceTier::Provisioned) => {
                return usual;
            }
        };
        match (long, tier.long_prompt) {
            (_, Some(own)) if prompt > own.above.get() => own.prices.or(tier.prices).or(usual),
            // What the tier costs beyond the usual limit is not known: at least as much as below it, and as others pay.
            (Some(long), None) => tier.prices.most(long.prices).or(usual),
            _ => tier.prices.or(usual),
        }
    }
}

impl Tiers {
    fn or(self, others: Tiers) -> Tiers {
        Tiers {
            flex: self.flex.or(others.flex),
            priority: self.priority.or(others.priority),
            fast: self.fast.or(others.fast),
        }
    }
}

impl Tier {
    fn or(self, others: Tier) -> Tier {
        let whole = self.prices != Prices::default();
        Tier {
            prices: self.prices.or(others.prices),
            long_prompt: self.long_prompt.or(others.long_prompt.filter(|_| !whole)),
        }
    }
}

impl Modalities {
    fn or(self, others: Modalities) -> Modalities {
        Modalities {
            text: self.text.or(others.text),
            image: self.image.or(others.image),
            audio: self.audio.or(others.audio),
            pdf: self.pdf.or(others.pdf),
            video: self.video.or(others.video),
        }
    }
}

impl Prices {
    fn or(self, others: Prices) -> Prices {
        self.each(others, Option::or)
    }
    /// The higher price of each kind.
    fn most(self, others: Prices) -> Prices {
        self.each(others, Option::max)
    }
    fn each(self, others: Prices, of: impl Fn(Option<Price>, Option<Price>) -> Option<Price>) -> Prices {
        Prices {
            input: of(self.input, others.input),
            cached_input: of(self.cached_input, others.cached_input),
            cache_write: of(self.cache_write, others.cache_write),
            cache_write_hour: of(self.cache_write_hour, others.cache_write_hour),
            output: of(self.output, others.output),
            audio_input: of(self.audio_input, others.audio_input),
            audio_output: of(self.audio_output, others.audio_output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn price(value: serde_json::Value) -> Option<u64> {
        serde_json::from_value::<Price>(value).ok().map(Price::picodollars_per_token)
    }

    #[test]
    fn prices_are_exact() {
        assert_eq!(price(json!(2.5)), Some(2_500_000));
        assert_eq!(price(json!(0.003625)), Some(3625));
        assert_eq!(price(json!(0.000001)), Some(1));
        assert_eq!(price(json!(0.1)), Some(100_000));
        assert_eq!(price(json!(0.29)), Some(290_000));
        assert_eq!(price(json!(600)), Some(600_000_000));
        assert_eq!(price(json!(0)), Some(0));
        for bad in [json!(0.0000001), json!(-1), json!(-0.5), json!("2.5"), json!(1e30)] {
            assert_eq!(price(bad.clone()), None, "{bad}");
        }
        // The largest sum that there can be is held.
        assert_eq!(Price(u64::MAX).of(u64::MAX), u128::from(u64::MAX) * u128::from(u64::MAX));
    }

    #[test]
    fn long_prompts_have_their_own_prices() {
        let figures: Figures = serde_json::from_value(json!({
            "context": 1000, "prompt": 900,
            "prices": { "input": 1, "cachedInput": 0.1, "output": 5 },
            "longPrompt": { "above": 200, "prices": { "input": 2, "output": 7.5 } },
        }))
        .unwrap();
        assert_eq!(figures.prices_for(200, None).input, Some(Price(1_000_000)));
        let long = figures.prices_for(201, Some(ServiceTier::Standard));
        assert_eq!((long.input, long.output), (Some(Price(2_000_000)), Some(Price(7_500_000))));
        assert_eq!(long.cached_input, Some(Price(100_000)));
        assert_eq!(figures.longest_prompt(), Some(900));
    }

    #[test]
    fn an_override_of_prices_leaves_no_other_price_of_long_prompts() {
        let read = |value| serde_json::from_value::<Figures>(value).unwrap();
        let known =
            read(json!({ "prices": { "input": 1 }, "longPrompt": { "above": 2, "prices": { "input": 9 } } }));
        assert_eq!(
            read(json!({ "prices": { "input": 3 } })).or(known).prices_for(5, None).input,
            Some(Price(3_000_000))
        );
        assert_eq!(
            read(json!({ "tools": true })).or(known).prices_for(5, None).input,
            Some(Price(9_000_000))
        );
    }

    #[test]
    fn tiers_have_their_own_prices() {
        let read = |value| serde_json::from_value::<Figures>(value).unwrap();
        let known = read(json!({
            "prices": { "input": 10, "cachedInput": 1, "output": 50 },
            "longPrompt": { "above": 200, "prices": { "input": 20, "output": 75 } },
            "tiers": {
                "flex": { "prices": { "input": 5, "output": 25 } },
                "priority": { "prices": { "input": 25 }, "longPrompt": { "above": 300, "prices": { "input": 40 } } },
            },
        }));
        let dollars = |figures: &Figures, prompt, tier| {
            let Prices { input, cached_input, output, .. } = figures.prices_for(prompt, tier);
            [input, cached_input, output].map(|price| price.unwrap_or_default().0 / 1_000_000)
        };
        use ServiceTier::*;
        for (prompt, tier, expected) in [
            (1, None, [10, 1, 50]),
            (1, Some(Batch), [10, 1, 50]),
            (1, Some(Flex), [5, 1, 25]),
            (1, Some(Priority), [25, 1, 50]),
            (1, Some(Fast), [10, 1, 50]),
            // Nothing says what flex costs for long prompts: as much as without it.
            (201, Some(Flex), [20, 1, 75]),
            (201, Some(Priority), [25, 1, 75]),
            (301, Some(Priority), [40, 1, 75]),
        ] {
            assert_eq!(dollars(&known, prompt, tier), expected, "{prompt} {tier:?}");
        }
        let typed = read(json!({ "tiers": { "flex": { "prices": { "input": 6 } } } })).or(known);
        assert_eq!(dollars(&typed, 1, Some(Flex)), [6, 1, 25]);
        assert_eq!(dollars(&typed, 1, Some(Priority)), [25, 1, 50]);
        let typed = read(json!({ "prices": { "input": 7 } })).or(known);
        assert_eq!(dollars(&typed, 1, Some(Priority)), [7, 1, 50], "no other price of a tier is left");
    }
}
