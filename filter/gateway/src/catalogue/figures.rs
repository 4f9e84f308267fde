//! The figures of a model: what it holds, takes, can do and costs. Each may be unknown, and what is unknown is tried.

use std::fmt;
use std::num::NonZeroU64;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

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
            // Who says what a model costs says it for long prompts too.
            long_prompt: self.long_prompt.or(others.long_prompt.filter(|_| self.prices == Prices::default())),
        }
    }
    /// Tokens of the longest prompt.
    pub fn longest_prompt(&self) -> Option<u64> {
        self.context.into_iter().chain(self.prompt).min().map(NonZeroU64::get)
    }
    /// What the tokens of a request cost whose prompt has this many.
    pub fn prices_at(&self, prompt: u64) -> Prices {
        match &self.long_prompt {
            Some(long) if prompt > long.above.get() => long.prices.or(self.prices),
            _ => self.prices,
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
        Prices {
            input: self.input.or(others.input),
            cached_input: self.cached_input.or(others.cached_input),
            cache_write: self.cache_write.or(others.cache_write),
            cache_write_hour: self.cache_write_hour.or(others.cache_write_hour),
            output: self.output.or(others.output),
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
        assert_eq!(figures.prices_at(200).input, Some(Price(1_000_000)));
        let long = figures.prices_at(201);
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
            read(json!({ "prices": { "input": 3 } })).or(known).prices_at(5).input,
            Some(Price(3_000_000))
        );
        assert_eq!(read(json!({ "tools": true })).or(known).prices_at(5).input, Some(Price(9_000_000)));
    }
}
