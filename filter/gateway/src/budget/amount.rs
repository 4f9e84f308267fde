//! What requests take from accounts: tokens, picodollars, themselves.

use serde::{Deserialize, Serialize};

use crate::catalogue::Prices;
use crate::tokens::Bounds;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    Tokens,
    InputTokens,
    OutputTokens,
    /// Picodollars.
    Usd,
    Requests,
    Concurrent,
}

impl Unit {
    /// Its name in headers and messages.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Tokens => "tokens",
            Unit::InputTokens => "input-tokens",
            Unit::OutputTokens => "output-tokens",
            Unit::Usd => "usd",
            Unit::Requests => "requests",
            Unit::Concurrent => "concurrent",
        }
    }
    /// A smaller answer takes less of it.
    pub fn clamps(self) -> bool {
        matches!(self, Unit::Tokens | Unit::OutputTokens | Unit::Usd)
    }
    /// What is taken is known from the first: nothing of it comes back.
    pub(super) fn certain(self) -> bool {
        matches!(self, Unit::Requests | Unit::Concurrent)
    }
}

/// Picodollars for a token of each kind; where the catalogue knows only the main prices, those stand for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    pub input: u64,
    pub cached_input: u64,
    pub cache_write: u64,
    pub cache_write_hour: u64,
    pub output: u64,
}

impl Rates {
    /// `None`: the price of prompts or of answers is not known.
    pub fn of(prices: &Prices) -> Option<Rates> {
        let input = prices.input?.picodollars_per_token();
        let or_input = |price: Option<crate::catalogue::Price>| {
            price.map_or(input, |price| price.picodollars_per_token())
        };
        Some(Rates {
            input,
            cached_input: or_input(prices.cached_input),
            cache_write: or_input(prices.cache_write),
            cache_write_hour: or_input(prices.cache_write_hour.or(prices.cache_write)),
            output: prices.output?.picodollars_per_token(),
        })
    }
    /// The higher price of each kind: of what may be served by either of two models.
    pub fn worst(self, other: Rates) -> Rates {
        Rates {
            input: self.input.max(other.input),
            cached_input: self.cached_input.max(other.cached_input),
            cache_write: self.cache_write.max(other.cache_write),
            cache_write_hour: self.cache_write_hour.max(other.cache_write_hour),
            output: self.output.max(other.output),
        }
    }
    /// The most that a token of the prompt can cost.
    fn dearest_input(&self) -> u64 {
        self.input.max(self.cached_input).max(self.cache_write).max(self.cache_write_hour)
    }
}

/// What a request asks of its budgets.
#[derive(Clone, Debug)]
pub struct Want {
    /// Tokens of its prompt.
    pub input: Bounds,
    /// `input` is as exact as it can be had: no use to count again.
    pub counted: bool,
    /// The client's own limit of one answer's tokens.
    pub output_limit: Option<u64>,
    /// The most tokens that the model can answer, or is let answer.
    pub most_output: u64,
    /// Answers asked for (OpenAI `n`); 0 is 1.
    pub candidates: u64,
    /// The dearest of those that may serve it ([`Rates::worst`]); `None`: not known.
    pub rates: Option<Rates>,
    /// Some that may serve it have no known price: then a budget's own prices for those count too.
    pub unpriced: bool,
    /// Unix time in milliseconds at which its reservation lapses unless settled or extended: after the exchange's deadline.
    pub expires: u64,
    /// When it came, for `queue`. Likewise.
    pub since: u64,
    /// It has been downgraded already.
    pub downgraded: bool,
}

impl Want {
    pub(super) fn answers(&self) -> u64 {
        self.candidates.max(1)
    }
    /// Tokens of all answers together.
    pub(super) fn output(&self) -> u64 {
        self.output_limit.unwrap_or(u64::MAX).min(self.most_output).saturating_mul(self.answers())
    }
}

/// What a request used, as its provider reported it or as it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// All tokens of the prompt; those read from and written to a cache among them.
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    /// Of `cache_write`, those kept for an hour.
    pub cache_write_hour: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// The prices of the model that answered, at its service tier; `None`: not known.
    pub rates: Option<Rates>,
}

/// What a unit takes of a prompt and an answer: `fixed + output · each`. `None`: it has no price.
pub(super) fn need(unit: Unit, input: u64, rates: Option<&Rates>) -> Option<(u64, u64)> {
    Some(match unit {
        Unit::Tokens => (input, 1),
        Unit::InputTokens => (input, 0),
        Unit::OutputTokens => (0, 1),
        Unit::Usd => (product(input, rates?.dearest_input()), rates?.output),
        Unit::Requests | Unit::Concurrent => (1, 0),
    })
}

/// What a unit is charged in the end. `None`: it has no price.
pub(super) fn charge(unit: Unit, used: &Used, rates: Option<&Rates>) -> Option<u64> {
    Some(match unit {
        Unit::Tokens => used.input.saturating_add(used.output),
        Unit::InputTokens => used.input,
        Unit::OutputTokens => used.output,
        Unit::Usd => cost(used, rates?),
        Unit::Requests => 1,
        Unit::Concurrent => 0,
    })
}

fn cost(used: &Used, rates: &Rates) -> u64 {
    let hour = used.cache_write_hour.min(used.cache_write);
    let plain = used.input.saturating_sub(used.cache_read).saturating_sub(used.cache_write);
    [
        (plain, rates.input),
        (used.cache_read, rates.cached_input),
        (used.cache_write - hour, rates.cache_write),
        (hour, rates.cache_write_hour),
        (used.output, rates.output),
    ]
    .into_iter()
    .fold(0, |sum: u64, (tokens, rate)| sum.saturating_add(product(tokens, rate)))
}

/// What cannot be held is more than any limit.
pub(super) fn product(tokens: u64, rate: u64) -> u64 {
    tokens.saturating_mul(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_token_has_its_price() {
        let rates =
            Rates { input: 100, cached_input: 10, cache_write: 125, cache_write_hour: 200, output: 500 };
        let used = Used {
            input: 1000,
            cache_read: 600,
            cache_write: 300,
            cache_write_hour: 100,
            output: 50,
            rates: None,
        };
        let cost = charge(Unit::Usd, &used, Some(&rates));
        assert_eq!(cost, Some(100 * 100 + 600 * 10 + 200 * 125 + 100 * 200 + 50 * 500));
        assert_eq!(charge(Unit::Usd, &used, None), None);
        assert_eq!(charge(Unit::Tokens, &used, None), Some(1050));
        assert_eq!(
            need(Unit::Usd, 10, Some(&rates)),
            Some((2000, 500)),
            "the dearest that a prompt's token can be"
        );
    }
}
