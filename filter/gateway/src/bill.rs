//! What a request is charged by: appraised when it is admitted, and carried in the ticket, so that an attempt needs no
//! configuration to count and to settle.

use attache_protocol::request::{ReasoningAmount, Request};
use attache_protocol::response::ServiceTier;
use serde::{Deserialize, Serialize};

use crate::budget::fleet::PATIENCE;
use crate::budget::{Moving, Rates, Reservation, Want};
use crate::catalogue::{Catalogue, Figures, Tiers};
use crate::gateway::{Route, Target};
use crate::provider::Row;
use crate::store::Store;
use crate::ticket::Step;
use crate::tokens::{self, Bounds, Family, Measure, learned};

/// By what a request is charged, whoever answers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Tokens of the prompt, over all its targets.
    pub input: Bounds,
    /// Answers asked for.
    pub answers: u64,
    /// Tokens that each of them might have had without budgets.
    unlimited: u64,
    /// Unix time in milliseconds at which its reservation lapses.
    pub expires: u64,
    /// It asks to be served better than most.
    hurried: bool,
    offers: Vec<Offer>,
}

/// What holds at one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Its place in the route.
    target: u8,
    /// Of the prompt, as its model counts.
    pub measure: Measure,
    /// `None`: what its model costs is not known.
    pub tariff: Option<Tariff>,
    /// The output limit that it must be told, since the client gave none, and without it nobody knows the most.
    limit: Option<u64>,
    /// Tokens that each answer may have at most.
    most_output: u64,
    /// Accounts that hang on who answers.
    pub moving: Vec<Moving>,
}

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
    /// The most that a prompt of up to so many tokens may cost. `hurried`: the request asks to be served better than most.
    fn worst(&self, prompt: u64, hurried: bool) -> Rates {
        let rows = self.rows.iter().filter(|row| row.above < prompt || row.above == 0);
        let rows = rows.filter(|row| row.tier == 0 || hurried).map(|row| row.rates);
        rows.reduce(Rates::worst).unwrap_or_default()
    }
}

/// The client's own limit of an answer. Anthropic's interleaved thinking may take more than `max_tokens`: "the total budget
/// across all thinking blocks within one assistant turn" (Extended thinking, "Interleaved thinking").
fn own_limit(request: &Request<'_>) -> Option<u64> {
    let thinking = match request.reasoning.amount {
        ReasoningAmount::Budget(tokens) => tokens,
        _ => 0,
    };
    request.sampling.max_output_tokens.map(|limit| limit.max(thinking))
}

/// Words by which no request asks to be served better than most (OpenAI and Gemini `service_tier`, Anthropic `service_tier`
/// and `speed`): their protocols' references.
const UNHURRIED: [&str; 6] = ["auto", "default", "standard", "standard_only", "flex", "batch"];

/// Whether a request asks to be served better than most, which may cost more.
fn is_hurried(request: &Request<'_>) -> bool {
    let named = |name: &str| matches!(name, "service_tier" | "serviceTier" | "speed");
    // Of several of one name the provider may take any, and what is no word here may be one there.
    request.extras.0.iter().filter(|(name, value)| named(name) && !value.is_null()).any(|(_, value)| {
        let word = value.read::<String>().unwrap_or_default().to_ascii_lowercase();
        !UNHURRIED.contains(&word.as_str())
    })
}

/// What a request may use, before any budget was asked.
pub struct Appraisal<'r> {
    request: &'r Request<'r>,
    /// A target's family, what its model was seen to make of the prompt, and what stands in the terms of it.
    offers: Vec<(Family, Bounds, Offer)>,
    /// Tokens of the prompt, over all of them.
    input: Bounds,
}

impl<'r> Appraisal<'r> {
    /// `limits`: some budget counts what is answered, so each target's answer must have an end.
    pub fn new(
        request: &'r Request<'r>,
        (route, steps): (&Route, &[Step]),
        catalogue: &Catalogue,
        store: &dyn Store,
        limits: bool,
    ) -> Appraisal<'r> {
        let mut offers: Vec<(Family, Bounds, Offer)> = Vec::new();
        for step in steps {
            let Some((target, row)) = route.targets.get(usize::from(step.target)).zip(step.row()) else {
                continue;
            };
            if offers.iter().any(|(.., offer)| offer.target == step.target) {
                continue;
            }
            let family = Family::of(row.name, &step.model);
            let seen = offers.iter().find(|(other, ..)| *other == family).map(|(.., offer)| offer.measure);
            let measure = seen.unwrap_or_else(|| tokens::measure(family, request));
            let ratio = measure.learns().then(|| learned::read(store, learned::model(step))).flatten();
            let bounds = measure.bounds(ratio.as_ref());
            let figures = catalogue.model(&step.provider, row.name, &step.model).map(|model| model.figures);
            offers.push((family, bounds, offer(request, (step, target, row), measure, figures, limits)));
        }
        let input = offers.iter().map(|(_, bounds, _)| *bounds).reduce(Bounds::worst).unwrap_or_default();
        Appraisal { request, offers, input }
    }

    /// Counts exactly where that can be done. Elsewhere nothing is better known than what was learned.
    pub fn count(&mut self) {
        let mut counted: Vec<(Family, Option<Bounds>)> = Vec::new();
        for (family, bounds, offer) in &mut self.offers {
            let known = counted.iter().find(|(known, _)| known == family).map(|(_, exact)| *exact);
            let countable = offer.measure.is_countable();
            let exact = || countable.then(|| tokens::count(*family, self.request)).flatten();
            let exact = known.unwrap_or_else(exact);
            if known.is_none() {
                counted.push((*family, exact));
            }
            if let Some(exact) = exact {
                *bounds = Bounds {
                    low: exact.low.max(bounds.low.min(exact.high)),
                    likely: exact.likely.min(bounds.high),
                    high: exact.high.min(bounds.high),
                };
            }
        }
        self.input =
            self.offers.iter().map(|(_, bounds, _)| *bounds).reduce(Bounds::worst).unwrap_or_default();
    }

    /// Whether the price of this step's model is known.
    pub fn is_priced(&self, step: &Step) -> bool {
        self.offers.iter().any(|(.., offer)| offer.target == step.target && offer.tariff.is_some())
    }

    /// What is asked of the budgets.
    pub fn want(&self, counted: bool, (since, expires): (u64, u64), downgraded: bool) -> Want {
        let tariffs = self.offers.iter().filter_map(|(.., offer)| offer.tariff.as_ref());
        let most = self.offers.iter().map(|(.., offer)| offer.most_output).max();
        let hurried = is_hurried(self.request);
        Want {
            input: self.input,
            counted,
            output_limit: own_limit(self.request),
            most_output: most.unwrap_or_default(),
            candidates: self.request.candidates(),
            rates: tariffs.map(|tariff| tariff.worst(self.input.high, hurried)).reduce(Rates::worst),
            unpriced: self.offers.iter().any(|(.., offer)| offer.tariff.is_none()),
            expires,
            since,
            downgraded,
            patience: Some(since + PATIENCE),
        }
    }

    /// What goes with the request. `moving`: the accounts that hang on a target.
    pub fn terms(self, expires: u64, moving: &dyn Fn(u8) -> Vec<Moving>) -> Terms {
        let own = own_limit(self.request).unwrap_or(u64::MAX);
        let most = self.offers.iter().map(|(.., offer)| offer.most_output).max().unwrap_or_default();
        let mut offers: Vec<Offer> = self.offers.into_iter().map(|(.., offer)| offer).collect();
        offers.iter_mut().for_each(|offer| offer.moving = moving(offer.target));
        let answers = self.request.candidates();
        let hurried = is_hurried(self.request);
        Terms { input: self.input, answers, unlimited: own.min(most), expires, hurried, offers }
    }
}

fn offer(
    request: &Request<'_>,
    (step, target, row): (&Step, &Target, &Row),
    measure: Measure,
    figures: Option<Figures>,
    limits: bool,
) -> Offer {
    let known = figures.and_then(|figures| figures.output).map(std::num::NonZeroU64::get);
    // A protocol that requires a limit is told this one where the client gave none.
    let required = row.protocol == attache_protocol::codec::Protocol::Anthropic
        && row.protocol != request.protocol
        && request.sampling.max_output_tokens.is_none();
    let most_output = match known {
        Some(known) if required => known.min(target.max_output_tokens),
        known => known.unwrap_or(target.max_output_tokens),
    };
    let unknown = known.is_none() && request.sampling.max_output_tokens.is_none();
    Offer {
        target: step.target,
        measure,
        tariff: figures.as_ref().and_then(Tariff::of),
        limit: (limits && (unknown || required)).then_some(most_output),
        // What the client asks for is what an unknown model may answer.
        most_output: match known {
            None => most_output.max(request.sampling.max_output_tokens.unwrap_or(0)),
            Some(_) => most_output,
        },
        moving: Vec::new(),
    }
}

impl Terms {
    pub fn offer(&self, step: &Step) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.target == step.target)
    }

    /// The most tokens that each answer of an attempt may have, where it must be told.
    pub fn output_limit(&self, step: &Step, reservation: &Reservation) -> Option<u64> {
        let each = reservation.output / self.answers.max(1);
        let offer = self.offer(step);
        // Providers refuse a limit beyond what their model can say.
        let most = offer.map_or(u64::MAX, |offer| offer.most_output);
        let clamped = (reservation.stops() && each < self.unlimited).then_some(each.min(most));
        let unknown = offer.and_then(|offer| offer.limit);
        clamped.into_iter().chain(unknown).min()
    }

    /// What a request asks of the accounts of a target to which it goes on.
    pub fn want(&self, offer: &Offer, reservation: &Reservation, now: u64) -> Want {
        let each = reservation.output / self.answers.max(1);
        Want {
            input: self.input,
            counted: true,
            output_limit: Some(each),
            most_output: each,
            candidates: self.answers,
            rates: offer.tariff.as_ref().map(|tariff| tariff.worst(self.input.high, self.hurried)),
            unpriced: offer.tariff.is_none(),
            expires: self.expires,
            since: now,
            downgraded: true,
            patience: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_asks_to_be_hurried_is_known_by_any_spelling() {
        for (members, expected) in [
            ("", false),
            (r#","service_tier":null"#, false),
            (r#","service_tier":"Flex","speed":"standard""#, false),
            (r#","service_tier":"priority""#, true),
            (r#","service_tier":"default","service_tier":"priority""#, true),
            (r#","serviceTier":3"#, true),
            (r#","speed":"fast""#, true),
        ] {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{members}}}"#);
            let codec = attache_protocol::codec::Protocol::OpenAiChat.codec();
            let request = codec.decode_request(&Default::default(), &body).unwrap();
            assert_eq!(is_hurried(&request), expected, "{members}");
        }
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
        let worst = tariff.worst(201, false);
        assert_eq!((worst.input, worst.output), (2_000_000, 5_000_000));
        // A tier has its own prices, and what asks for none pays none.
        assert_eq!(input(200, Some(ServiceTier::Priority)), 3_000_000);
        assert_eq!(input(200, Some(ServiceTier::Fast)), 1_000_000);
        assert_eq!(input(200, Some(ServiceTier::Batch)), 1_000_000);
        assert_eq!((tariff.worst(1, false).input, tariff.worst(1, true).input), (1_000_000, 3_000_000));
        let unknown: Figures = serde_json::from_value(json!({ "prices": { "input": 1 } })).unwrap();
        assert_eq!(Tariff::of(&unknown), None);
    }
}
