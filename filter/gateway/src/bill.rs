//! What a request is charged by: appraised when it is admitted, and carried in the ticket, so that an attempt needs no
//! configuration to count and to settle.

use attache_protocol::request::Request;
use serde::{Deserialize, Serialize};

use crate::budget::{Moving, Rates, Reservation, Want};
use crate::catalogue::{Catalogue, Figures};
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
    answers: u64,
    /// Tokens that each of them might have had without budgets.
    unlimited: u64,
    /// Unix time in milliseconds at which its reservation lapses.
    pub expires: u64,
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

/// What a model's tokens cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tariff {
    usual: Rates,
    /// Beyond so many tokens of the prompt.
    long: Option<(u64, Rates)>,
}

impl Tariff {
    /// `None`: the price of prompts or of answers is not known.
    pub fn of(figures: &Figures) -> Option<Tariff> {
        let usual = Rates::of(&figures.prices_at(0))?;
        let long = figures.long_prompt.as_ref().map(|long| long.above.get());
        let long = long.and_then(|above| Some((above, Rates::of(&figures.prices_at(above + 1))?)));
        Some(Tariff { usual, long })
    }
    /// For a prompt of so many tokens.
    pub fn rates(&self, prompt: u64) -> Rates {
        match self.long {
            Some((above, rates)) if prompt > above => rates,
            _ => self.usual,
        }
    }
    /// The most that a prompt of up to so many tokens may cost.
    fn worst(&self, prompt: u64) -> Rates {
        match self.long {
            Some((above, rates)) if prompt > above => self.usual.worst(rates),
            _ => self.usual,
        }
    }
}

/// What a request may use, before any budget was asked.
pub struct Appraisal<'r> {
    request: &'r Request<'r>,
    /// A target's family, and what stands in the terms of it.
    offers: Vec<(Family, Offer)>,
    /// What its models were seen to make of a prompt.
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
        let mut offers: Vec<(Family, Offer)> = Vec::new();
        let mut input: Option<Bounds> = None;
        for step in steps {
            let Some((target, row)) = route.targets.get(usize::from(step.target)).zip(step.row()) else {
                continue;
            };
            if offers.iter().any(|(_, offer)| offer.target == step.target) {
                continue;
            }
            let family = Family::of(row.name, &step.model);
            let seen = offers.iter().find(|(other, _)| *other == family).map(|(_, offer)| offer.measure);
            let measure = seen.unwrap_or_else(|| tokens::measure(family, request));
            let ratio = measure.learns().then(|| learned::read(store, learned::model(step))).flatten();
            let bounds = measure.bounds(ratio.as_ref());
            input = Some(input.map_or(bounds, |known| known.worst(bounds)));
            let figures = catalogue.model(&step.provider, row.name, &step.model).map(|model| model.figures);
            offers.push((family, offer(request, (step, target, row), measure, figures, limits)));
        }
        Appraisal { request, offers, input: input.unwrap_or_default() }
    }

    /// Counts exactly where that can be done.
    pub fn count(&mut self) {
        let mut counted: Vec<(Family, Bounds)> = Vec::new();
        for (family, offer) in &self.offers {
            if !counted.iter().any(|(known, _)| known == family) {
                let exact = tokens::exact(*family, self.request).map(Bounds::exactly);
                counted.push((*family, exact.unwrap_or_else(|| offer.measure.bounds(None))));
            }
        }
        let exact = counted.into_iter().map(|(_, bounds)| bounds).reduce(Bounds::worst).unwrap_or_default();
        // What was learned of a model bounds it closer than its family does.
        self.input = Bounds {
            low: exact.low.max(self.input.low.min(exact.high)),
            likely: exact.likely.min(self.input.high),
            high: exact.high.min(self.input.high),
        };
    }

    /// Whether the price of this step's model is known.
    pub fn is_priced(&self, step: &Step) -> bool {
        self.offers.iter().any(|(_, offer)| offer.target == step.target && offer.tariff.is_some())
    }

    /// What is asked of the budgets.
    pub fn want(&self, counted: bool, (since, expires): (u64, u64), downgraded: bool) -> Want {
        let tariffs = self.offers.iter().filter_map(|(_, offer)| offer.tariff.as_ref());
        let most = self.offers.iter().map(|(_, offer)| offer.most_output).max();
        Want {
            input: self.input,
            counted,
            output_limit: self.request.sampling.max_output_tokens,
            most_output: most.unwrap_or_default(),
            candidates: self.request.sampling.candidates.unwrap_or(1),
            rates: tariffs.map(|tariff| tariff.worst(self.input.high)).reduce(Rates::worst),
            unpriced: self.offers.iter().any(|(_, offer)| offer.tariff.is_none()),
            expires,
            since,
            downgraded,
        }
    }

    /// What goes with the request. `moving`: the accounts that hang on a target.
    pub fn terms(self, expires: u64, moving: &dyn Fn(u8) -> Vec<Moving>) -> Terms {
        let own = self.request.sampling.max_output_tokens.unwrap_or(u64::MAX);
        let most = self.offers.iter().map(|(_, offer)| offer.most_output).max().unwrap_or_default();
        let mut offers: Vec<Offer> = self.offers.into_iter().map(|(_, offer)| offer).collect();
        offers.iter_mut().for_each(|offer| offer.moving = moving(offer.target));
        let answers = self.request.sampling.candidates.unwrap_or(1).max(1);
        Terms { input: self.input, answers, unlimited: own.min(most), expires, offers }
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
        let clamped = (reservation.stops() && each < self.unlimited).then_some(each);
        let unknown = self.offer(step).and_then(|offer| offer.limit);
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
            rates: offer.tariff.map(|tariff| tariff.worst(self.input.high)),
            unpriced: offer.tariff.is_none(),
            expires: self.expires,
            since: now,
            downgraded: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_long_prompt_has_its_own_tariff() {
        let figures: Figures = serde_json::from_value(json!({
            "prices": { "input": 1, "output": 5 },
            "longPrompt": { "above": 200, "prices": { "input": 2, "output": 4 } },
        }))
        .unwrap();
        let tariff = Tariff::of(&figures).unwrap();
        assert_eq!((tariff.rates(200).input, tariff.rates(201).input), (1_000_000, 2_000_000));
        assert_eq!(tariff.rates(201).output, 4_000_000);
        assert_eq!((tariff.worst(201).input, tariff.worst(201).output), (2_000_000, 5_000_000));
        let unknown: Figures = serde_json::from_value(json!({ "prices": { "input": 1 } })).unwrap();
        assert_eq!(Tariff::of(&unknown), None);
    }
}
