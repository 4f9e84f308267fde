//! What a request may cost, and what it did: by the model that answers, how it is served, and how long its prompt is.

use attache_protocol::codec::Protocol;
use attache_protocol::raw::may_say;
use attache_protocol::request::Request;
use attache_protocol::response::ServiceTier;
use serde::{Deserialize, Serialize};

use crate::budget::Rates;
use crate::catalogue::{Figures, Tiers};

/// What a model's tokens cost: by how the request was served, and by the length of its prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tariff {
    rows: Vec<Fare>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Fare {
    /// A place in [`TIERS`].
    tier: u8,
    /// For prompts of more tokens than this.
    above: u64,
    rates: Rates,
}

/// Ways to be served that may have prices of their own; the first stands for all others.
const TIERS: [Option<ServiceTier>; 4] =
    [None, Some(ServiceTier::Flex), Some(ServiceTier::Priority), Some(ServiceTier::Fast)];

impl Tariff {
    /// `None`: the price of prompts or of answers is not known.
    pub fn of(figures: &Figures) -> Option<Tariff> {
        let Tiers { flex, priority, fast } = &figures.tiers;
        let longs = [figures.long_prompt, flex.long_prompt, priority.long_prompt, fast.long_prompt];
        let mut borders: Vec<u64> = longs.into_iter().flatten().map(|long| long.above.get()).collect();
        borders.push(0);
        borders.sort_unstable();
        borders.dedup();
        let mut rows: Vec<Fare> = Vec::new();
        for (place, tier) in (0u8..).zip(TIERS) {
            let fare = |above: &u64| {
                let rates = Rates::of(&figures.prices_for(above + 1, tier))?;
                Some(Fare { tier: place, above: *above, rates })
            };
            let own: Vec<Fare> = borders.iter().map(fare).collect::<Option<_>>()?;
            let usual = rows.iter().filter(|row| row.tier == 0).map(|row| row.rates);
            if place == 0 || !own.iter().map(|row| row.rates).eq(usual) {
                rows.extend(own);
            }
        }
        Some(Tariff { rows })
    }
    /// For a prompt of so many tokens, served so.
    pub fn rates(&self, prompt: u64, tier: Option<ServiceTier>) -> Rates {
        let place = TIERS.iter().position(|known| *known == tier).unwrap_or_default();
        let of = |place: usize| {
            let mut rows = self.rows.iter().rev();
            rows.find(|row| usize::from(row.tier) == place && (row.above < prompt || row.above == 0))
        };
        of(place).or_else(|| of(0)).map(|row| row.rates).unwrap_or_default()
    }
    /// The most that a prompt of up to so many tokens may cost, served in any of these ways ([`allowed`]).
    pub fn worst(&self, prompt: u64, tiers: u8) -> Rates {
        let rows = self.rows.iter().filter(|row| row.above < prompt || row.above == 0);
        let rows = rows.filter(|row| tiers & 1 << row.tier != 0).map(|row| row.rates);
        rows.reduce(Rates::worst).unwrap_or_default()
    }
    /// The most that a prompt of just so many tokens may have cost, where nobody told in which of these ways it was served.
    pub fn untold(&self, prompt: u64, tiers: u8) -> Rates {
        let allowed = TIERS.iter().enumerate().filter(|(place, _)| tiers & 1 << place != 0);
        allowed.map(|(_, tier)| self.rates(prompt, *tier)).reduce(Rates::worst).unwrap_or_default()
    }
}

/// What a request may cost more for, by the words of its service tier (openai SDK `completion_create_params.py`: "The response
/// will show `service_tier=priority` regardless of if you specify `service_tier=fast` or `priority`"; google-genai
/// `types.ServiceTier`; anthropic SDK `message_create_params.py`). `auto` is what a request without any word has: "the service
/// tier configured in the Project settings", which is the operator's. Who asks for `flex` may be served as most are.
const WORDS: [(&str, Option<ServiceTier>); 10] = [
    ("auto", None),
    ("default", None),
    ("standard", None),
    ("standard_only", None),
    ("on_demand", None),
    ("flex", None),
    ("batch", None),
    ("priority", Some(ServiceTier::Priority)),
    ("fast", Some(ServiceTier::Priority)),
    ("ultrafast", Some(ServiceTier::Fast)),
];
/// Those of Anthropic's `speed`.
const SPEEDS: [(&str, Option<ServiceTier>); 2] = [("standard", None), ("fast", Some(ServiceTier::Fast))];
/// As most are served: the first of [`TIERS`].
const USUAL: u8 = 1;

/// The ways to be served that a request allows: a bit for each of [`TIERS`]. What is no word here may be any.
pub fn allowed(request: &Request<'_>) -> u8 {
    // Of several of one name the provider may take any.
    request.extras.0.iter().filter(|(_, value)| !value.is_null()).fold(USUAL, |tiers, (name, value)| {
        let words: &[_] = match &**name {
            "service_tier" | "serviceTier" => &WORDS,
            "speed" => &SPEEDS,
            // A fallback of Anthropic's may have a speed of its own.
            "fallbacks" if may_say(value.get(), "\"speed\"") => return u8::MAX,
            _ => return tiers,
        };
        let word = value.read::<String>().unwrap_or_default().to_ascii_lowercase();
        match words.iter().find(|(known, _)| *known == word) {
            Some((_, None)) => tiers,
            Some((_, tier)) => {
                TIERS.iter().position(|known| known == tier).map_or(u8::MAX, |place| tiers | 1 << place)
            }
            None => u8::MAX,
        }
    })
}

/// A model that may answer in the place of the one asked for, "priced using the model that was ultimately used"
/// (openrouter.ai/docs, "Model Fallbacks": `models`, in the order in which they are tried), or after it has declined
/// (anthropic SDK `beta_fallback_param.py`: `fallbacks`). Its own limit of an answer stands in the place of the request's.
#[derive(Deserialize)]
pub struct Fallback {
    pub model: String,
    pub max_tokens: Option<u64>,
}

/// Those that a request names. Nobody knows what cannot be read, as Anthropic's `"default"`: it is a model without a name.
pub fn fallbacks(request: &Request<'_>) -> Vec<Fallback> {
    let member = match request.protocol {
        Protocol::OpenAiChat => "models",
        Protocol::Anthropic => "fallbacks",
        Protocol::Gemini => return Vec::new(),
    };
    let named = request.extras.0.iter().filter(|(name, value)| name == member && !value.is_null());
    let models = named.flat_map(|(_, value)| {
        let bare = |models: Vec<String>| {
            models.into_iter().map(|model| Fallback { model, max_tokens: None }).collect()
        };
        let read = value.read::<Vec<Fallback>>().or_else(|_| value.read().map(bare));
        read.unwrap_or_else(|_| vec![Fallback { model: String::new(), max_tokens: None }])
    });
    models.collect()
}

#[cfg(test)]
mod tests {
    use super::super::own_limit;
    use super::*;
    use serde_json::json;

    fn read(protocol: Protocol, members: &str, check: impl Fn(&Request<'_>)) {
        let limit = if protocol == Protocol::Anthropic { r#","max_tokens":100"# } else { "" };
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{limit}{members}}}"#);
        check(&protocol.codec().decode_request(&Default::default(), &body).unwrap());
    }

    #[test]
    fn how_a_request_may_be_served_is_known_by_any_spelling() {
        for (members, expected) in [
            ("", 0b0001),
            (r#","service_tier":null"#, 0b0001),
            (r#","service_tier":"auto""#, 0b0001),
            (r#","service_tier":"Flex","speed":"standard""#, 0b0001),
            (r#","service_tier":"priority""#, 0b0101),
            (r#","service_tier":"fast""#, 0b0101),
            (r#","service_tier":"default","service_tier":"priority""#, 0b0101),
            (r#","service_tier":"ultrafast""#, 0b1001),
            (r#","service_tier":"new""#, 0xFF),
            (r#","serviceTier":3"#, 0xFF),
            (r#","speed":"fast""#, 0b1001),
        ] {
            read(Protocol::OpenAiChat, members, |request| {
                assert_eq!(allowed(request), expected, "{members}");
            });
        }
        let fallbacks = r#","fallbacks":[{"model":"c","speed":"fast"}]"#;
        let hidden = r#","fallbacks":[{"model":"c","sp\u0065ed":"fast"}]"#;
        for members in [fallbacks, hidden] {
            read(Protocol::Anthropic, members, |request| assert_eq!(allowed(request), 0xFF, "{members}"));
        }
    }

    #[test]
    fn other_models_that_may_answer_are_named() {
        let named = |protocol, members: &str, expected: &[&str], limit| {
            read(protocol, members, |request| {
                let found: Vec<String> = fallbacks(request).into_iter().map(|other| other.model).collect();
                assert_eq!(
                    (found, own_limit(request)),
                    (expected.iter().map(ToString::to_string).collect(), limit),
                    "{members}"
                );
            });
        };
        named(Protocol::OpenAiChat, "", &[], None);
        named(Protocol::OpenAiChat, r#","models":null"#, &[], None);
        named(Protocol::OpenAiChat, r#","models":["a","b"],"fallbacks":[{"model":"c"}]"#, &["a", "b"], None);
        named(Protocol::OpenAiChat, r#","models":{"a":1}"#, &[""], None);
        named(Protocol::Anthropic, r#","models":["a"],"fallbacks":[{"model":"c"}]"#, &["c"], Some(100));
        named(Protocol::Anthropic, r#","fallbacks":[{"model":"c","max_tokens":500}]"#, &["c"], Some(500));
        named(Protocol::Anthropic, r#","fallbacks":"default""#, &[""], Some(100));
    }

    #[test]
    fn a_long_prompt_has_its_own_tariff() {
        let figures: Figures = serde_json::from_value(json!({
            "prices": { "input": 1, "output": 5 },
            "longPrompt": { "above": 200, "prices": { "input": 2, "output": 4 } },
            "tiers": { "priority": { "prices": { "input": 3 } } },
        }))
        .unwrap();
        let tariff = Tariff::of(&figures).unwrap();
        let input = |prompt, tier| tariff.rates(prompt, tier).input;
        assert_eq!((input(200, None), input(201, None), input(0, None)), (1_000_000, 2_000_000, 1_000_000));
        assert_eq!(tariff.rates(201, None).output, 4_000_000);
        let worst = tariff.worst(201, USUAL);
        assert_eq!((worst.input, worst.output), (2_000_000, 5_000_000));
        // A tier has its own prices, and what asks for none pays none.
        assert_eq!(input(200, Some(ServiceTier::Priority)), 3_000_000);
        assert_eq!(input(200, Some(ServiceTier::Fast)), 1_000_000);
        assert_eq!(input(200, Some(ServiceTier::Batch)), 1_000_000);
        assert_eq!((tariff.worst(1, USUAL).input, tariff.worst(1, u8::MAX).input), (1_000_000, 3_000_000));
        // What nobody told is the dearest that was allowed, of a prompt of this length alone.
        assert_eq!(
            (tariff.untold(200, USUAL).input, tariff.untold(200, 0b0101).input),
            (1_000_000, 3_000_000)
        );
        assert_eq!(tariff.untold(201, USUAL).output, 4_000_000);
        let unknown: Figures = serde_json::from_value(json!({ "prices": { "input": 1 } })).unwrap();
        assert_eq!(Tariff::of(&unknown), None);
    }
}
