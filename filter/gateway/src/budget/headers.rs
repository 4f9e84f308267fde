//! What is left, in the headers that OpenAI's clients know.

use super::Standing;
use super::amount::Unit;

/// `x-ratelimit-limit-*`, `-remaining-*` and `-reset-*`, for each unit of the budget of which the least is left. OpenAI has
/// `requests` and `tokens` (<https://platform.openai.com/docs/guides/rate-limits>, "Rate limits in headers"; recorded). Clients
/// slow down by them, so what only watches is not among them.
pub fn headers(standings: &[Standing]) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let units =
        [Unit::Requests, Unit::Tokens, Unit::InputTokens, Unit::OutputTokens, Unit::Usd, Unit::Concurrent];
    for unit in units {
        let of_unit = standings.iter().filter(|standing| standing.unit == unit && !standing.shadow);
        let Some(least) = of_unit.min_by_key(|standing| standing.remaining) else { continue };
        let name = unit.name();
        headers.push((format!("x-ratelimit-limit-{name}"), amount(unit, least.limit)));
        headers.push((format!("x-ratelimit-remaining-{name}"), amount(unit, least.remaining)));
        if let Some(reset) = least.reset {
            headers.push((format!("x-ratelimit-reset-{name}"), duration(reset)));
        }
    }
    headers
}

/// Dollars in their shortest decimal form; everything else as it is counted.
fn amount(unit: Unit, amount: u64) -> String {
    if unit == Unit::Usd { Dollars(amount).to_string() } else { amount.to_string() }
}

/// Picodollars, shown as dollars in their shortest decimal form.
pub struct Dollars(pub u64);

impl std::fmt::Display for Dollars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const DOLLAR: u64 = 1_000_000_000_000;
        let text = format!("{}.{:012}", self.0 / DOLLAR, self.0 % DOLLAR);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// `6m0s`, `8.64s`, `17ms`: as Go writes durations, and OpenAI its headers.
fn duration(millis: u64) -> String {
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let seconds = format!("{}.{:03}", millis / 1000 % 60, millis % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcest_of_each_unit() {
        let standing = |budget: &str, unit, limit, remaining, reset| Standing {
            budget: budget.to_owned(),
            unit,
            limit,
            spent: 0,
            held: limit - remaining,
            remaining,
            reset,
            shadow: budget == "watching",
        };
        let told = headers(&[
            standing("watching", Unit::Tokens, 100, 0, Some(8640)),
            standing("watching", Unit::Requests, 1, 0, None),
            standing("a", Unit::Tokens, 1000, 400, Some(360_000)),
            standing("b", Unit::Tokens, 500, 300, Some(8640)),
            standing("c", Unit::Usd, 2_500_000_000_000, 1, Some(17)),
            standing("d", Unit::Concurrent, 8, 7, None),
        ]);
        let told: Vec<String> = told.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            told,
            [
                "x-ratelimit-limit-tokens: 500",
                "x-ratelimit-remaining-tokens: 300",
                "x-ratelimit-reset-tokens: 8.64s",
                "x-ratelimit-limit-usd: 2.5",
                "x-ratelimit-remaining-usd: 0.000000000001",
                "x-ratelimit-reset-usd: 17ms",
                "x-ratelimit-limit-concurrent: 8",
                "x-ratelimit-remaining-concurrent: 7",
            ]
        );
        assert_eq!([duration(360_000), duration(3_723_500)], ["6m0s", "1h2m3.5s"]);
    }
}
