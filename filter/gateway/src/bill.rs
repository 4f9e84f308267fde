//! What a request is charged by: appraised when it is admitted, and carried in the ticket, so that an attempt needs no
//! configuration to count and to settle.

use std::num::NonZeroU64;

use attache_protocol::codec::Protocol;
use attache_protocol::request::{ReasoningAmount, Request};
use attache_protocol::response::ServiceTier;
use serde::{Deserialize, Serialize};

use crate::budget::fleet::PATIENCE;
use crate::budget::{Moving, Rates, Reservation, Want};
use crate::catalogue::{Catalogue, Figures, Reasoning};
use crate::gateway::{Route, Target};
use crate::provider::Row;
use crate::store::Store;
use crate::ticket::Step;
use crate::tokens::{self, Bounds, Family, Measure, learned};

mod tariff;

pub use tariff::Tariff;
use tariff::{Fallback, allowed, fallbacks};

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
    /// Ways to be served that it allows ([`allowed`]).
    tiers: u8,
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
    /// Models that may answer in its place, by the client's own wish, and what each costs.
    fallbacks: Vec<(String, Option<Tariff>)>,
    /// The output limit that it must be told where some budget counts what is answered, since the client gave none, and without
    /// it nobody knows the most.
    limit: Option<u64>,
    /// Tokens that each answer may have at most.
    most_output: u64,
    /// Its model may think before it answers, so that there is more of the answer than is seen.
    thinks: bool,
    /// Accounts that hang on who answers.
    pub moving: Vec<Moving>,
}

/// The client's own limit of an answer. Anthropic's interleaved thinking may take more than `max_tokens`: "the total budget
/// across all thinking blocks within one assistant turn" (Extended thinking, "Interleaved thinking").
fn own_limit(request: &Request<'_>) -> Option<u64> {
    let thinking = match request.reasoning.amount {
        ReasoningAmount::Budget(tokens) => tokens,
        _ => 0,
    };
    let others = fallbacks(request).iter().filter_map(|other| other.max_tokens).max().unwrap_or(0);
    request.sampling.max_output_tokens.map(|limit| limit.max(thinking).max(others))
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
    pub fn new(
        request: &'r Request<'r>,
        (route, steps): (&Route, &[Step]),
        catalogue: &Catalogue,
        store: &dyn Store,
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
            let mut bounds = measure.bounds(ratio.as_ref());
            let known =
                |name: &str| catalogue.model(&step.provider, row.name, name).map(|model| model.figures);
            let mut offer = offer(request, (step, target, row), measure, known(&step.model));
            let mut window = known(&step.model).and_then(|figures| figures.longest_prompt());
            // Another protocol's members do not reach the provider.
            if row.protocol == request.protocol {
                for Fallback { model, .. } in fallbacks(request) {
                    let figures = known(&model);
                    window = window.max(figures.and_then(|figures| figures.longest_prompt()));
                    let most = figures.and_then(|figures| figures.output).map(NonZeroU64::get);
                    offer.most_output = offer.most_output.max(most.unwrap_or(0));
                    offer.fallbacks.push((model, figures.as_ref().and_then(Tariff::of)));
                }
            }
            if measure.open {
                bounds.high = bounds.high.max(window.unwrap_or(tokens::WINDOW));
            }
            offers.push((family, bounds, offer));
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
                    high: if offer.measure.open { bounds.high } else { exact.high.min(bounds.high) },
                };
            }
        }
        self.input =
            self.offers.iter().map(|(_, bounds, _)| *bounds).reduce(Bounds::worst).unwrap_or_default();
    }

    /// Whether the price of this step's model is known.
    pub fn is_priced(&self, step: &Step) -> bool {
        self.offers.iter().any(|(.., offer)| offer.target == step.target && offer.is_priced())
    }

    /// What is asked of the budgets.
    pub fn want(&self, counted: bool, (since, expires): (u64, u64), downgraded: bool) -> Want {
        let tariffs = self.offers.iter().flat_map(|(.., offer)| offer.tariffs());
        let most = self.offers.iter().map(|(.., offer)| offer.most_output).max();
        let tiers = allowed(self.request);
        Want {
            input: self.input,
            counted,
            output_limit: own_limit(self.request),
            most_output: most.unwrap_or_default(),
            candidates: self.request.candidates(),
            rates: tariffs.map(|tariff| tariff.worst(self.input.high, tiers)).reduce(Rates::worst),
            unpriced: self.offers.iter().any(|(.., offer)| !offer.is_priced()),
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
        let tiers = allowed(self.request);
        Terms { input: self.input, answers, unlimited: own.min(most), expires, tiers, offers }
    }
}

fn offer(
    request: &Request<'_>,
    (step, target, row): (&Step, &Target, &Row),
    measure: Measure,
    figures: Option<Figures>,
) -> Offer {
    let known = figures.and_then(|figures| figures.output).map(NonZeroU64::get);
    // A protocol that requires a limit is told this one where the client gave none.
    let required = row.protocol == Protocol::Anthropic
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
        fallbacks: Vec::new(),
        limit: (unknown || required).then_some(most_output),
        thinks: thinks(request, figures.as_ref(), row.protocol),
        // What the client asks for is what an unknown model may answer.
        most_output: match known {
            None => most_output.max(request.sampling.max_output_tokens.unwrap_or(0)),
            Some(_) => most_output,
        },
        moving: Vec::new(),
    }
}

/// Whether a model may think. Where nobody asks for it, Gemini's optional thinkers do ("thinking is on by default",
/// ai.google.dev/gemini-api/docs/thinking) and others do not; of an unknown model nobody knows.
fn thinks(request: &Request<'_>, figures: Option<&Figures>, protocol: Protocol) -> bool {
    let known = figures.and_then(|figures| figures.reasoning);
    match (&request.reasoning.amount, known) {
        (_, Some(Reasoning::None)) => false,
        (_, Some(Reasoning::Always)) => true,
        (ReasoningAmount::Off, _) => false,
        (ReasoningAmount::Unset, Some(Reasoning::Optional)) => protocol == Protocol::Gemini,
        (ReasoningAmount::Unset, None) => true,
        (ReasoningAmount::Adaptive | ReasoningAmount::Effort(_) | ReasoningAmount::Budget(_), _) => true,
    }
}

impl Offer {
    pub fn thinks(&self) -> bool {
        self.thinks
    }

    /// Of all models that may answer, as far as they are known.
    fn tariffs(&self) -> impl Iterator<Item = &Tariff> {
        self.tariff.iter().chain(self.fallbacks.iter().filter_map(|(_, tariff)| tariff.as_ref()))
    }

    /// Whether all their prices are known.
    fn is_priced(&self) -> bool {
        self.tariff.is_some() && self.fallbacks.iter().all(|(_, tariff)| tariff.is_some())
    }

    /// The tariffs of the model that answered; where that is not told, of all that may have. Providers add versions to
    /// names: the longest name that the answerer's begins with is it.
    fn of_answerer(&self, asked: &str, answerer: Option<&str>) -> Vec<&Tariff> {
        let named = self.fallbacks.iter().map(|(model, tariff)| (model.as_str(), tariff.as_ref()));
        let all: Vec<_> = named.chain([(asked, self.tariff.as_ref())]).collect();
        let is =
            |model: &str| answerer.is_some_and(|answerer| !model.is_empty() && answerer.starts_with(model));
        match all.iter().filter(|(model, _)| is(model)).max_by_key(|(model, _)| model.len()) {
            Some((_, tariff)) => tariff.iter().copied().collect(),
            None => all.iter().filter_map(|(_, tariff)| *tariff).collect(),
        }
    }
}

impl Terms {
    /// What a request costs that this attempt's provider has answered. `answerer`: the model that it says it was; `tier`: how
    /// it says it was served. What it does not say is the dearest that the request allows.
    pub fn rates(
        &self,
        step: &Step,
        prompt: u64,
        answerer: Option<&str>,
        tier: Option<ServiceTier>,
    ) -> Option<Rates> {
        let offer = self.offer(step)?;
        let tariffs = match &*offer.fallbacks {
            [] => offer.tariff.iter().collect(),
            _ => offer.of_answerer(&step.model, answerer),
        };
        let rates = tariffs.into_iter().map(|tariff| match tier {
            Some(_) => tariff.rates(prompt, tier),
            None => tariff.untold(prompt, self.tiers),
        });
        rates.reduce(Rates::worst)
    }

    /// A model that may answer and whose price is not known.
    pub fn unpriced(&self, step: &Step) -> Option<&str> {
        let offer = self.offer(step).filter(|offer| offer.tariff.is_some())?;
        let (model, _) = offer.fallbacks.iter().find(|(_, tariff)| tariff.is_none())?;
        Some(if model.is_empty() { "what the provider chooses" } else { model })
    }

    /// Some target has accounts of its own.
    pub fn moves(&self) -> bool {
        self.offers.iter().any(|offer| !offer.moving.is_empty())
    }

    /// Some target's own accounts may end a stream.
    pub fn may_stop(&self) -> bool {
        self.offers.iter().flat_map(|offer| &offer.moving).any(Moving::stops)
    }

    pub fn offer(&self, step: &Step) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.target == step.target)
    }

    /// The most tokens that each answer of an attempt may have, where it must be told.
    pub fn output_limit(&self, step: &Step, reservation: &Reservation) -> Option<u64> {
        let each = reservation.output / self.answers.max(1);
        let offer = self.offer(step);
        // Providers refuse a limit beyond what their model can say.
        let most = offer.map_or(u64::MAX, |offer| offer.most_output);
        let clamped = Some(each.min(most)).filter(|_| each < self.unlimited);
        let unknown = offer.and_then(|offer| offer.limit);
        clamped.into_iter().chain(unknown).min().filter(|_| reservation.stops())
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
            rates: offer
                .tariffs()
                .map(|tariff| tariff.worst(self.input.high, self.tiers))
                .reduce(Rates::worst),
            unpriced: !offer.is_priced(),
            expires: self.expires,
            since: now,
            downgraded: true,
            patience: None,
        }
    }
}
