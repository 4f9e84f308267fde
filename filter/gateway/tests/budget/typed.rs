//! Budgets as a run makes them.

use attache_gateway::budget::config::BudgetConfig;
use attache_gateway::budget::{Budgets, Known, Rates, Unit};
use serde_json::json;

use super::model::{DAY, HOUR, Window};
use super::steps::Dice;

/// Picodollars for a token of a prompt and of an answer.
pub const RATES: Rates = Rates {
    input: 3,
    cached_input: 1,
    cache_write: 4,
    cache_write_hour: 6,
    output: 15,
    audio_input: 3,
    audio_output: 15,
};
/// A budget as the run made it, whose limit each configuration may have otherwise.
pub struct Typed {
    pub name: String,
    pub unit: Unit,
    pub window: Window,
    pub policy: &'static str,
    pub keyed: bool,
    pub limit: u64,
}

impl Typed {
    pub fn random(index: u64, dice: &mut Dice) -> Typed {
        use Unit::*;
        let unit = dice.one(&[Tokens, Tokens, InputTokens, OutputTokens, Usd, Requests, Concurrent]);
        let windows = [
            Window::Fixed(1000),
            Window::Fixed(7000),
            Window::Fixed(HOUR),
            Window::Fixed(DAY),
            Window::Sliding(1000),
            Window::Sliding(10_007),
            Window::Sliding(HOUR),
            Window::Week,
            Window::Month,
        ];
        let window = if unit == Concurrent { Window::Open } else { dice.one(&windows) };
        let policies: &[&str] = if unit.clamps() {
            &["reject", "clamp", "clamp", "shadow", "queue"]
        } else {
            &["reject", "shadow", "queue"]
        };
        let policy = dice.one(policies);
        let each = match unit {
            Usd => 1000,
            Requests | Concurrent => 1,
            _ => 80,
        };
        let limit = each * (2 + dice.below(30));
        Typed { name: format!("b{index}"), unit, window, policy, keyed: dice.below(2) == 0, limit }
    }

    pub fn read(typed: &[Typed], limits: &[u64]) -> Budgets {
        let one = |(typed, limit): (&Typed, &u64)| {
            let limit = match typed.unit {
                Unit::Tokens => json!({ "tokens": limit }),
                Unit::InputTokens => json!({ "inputTokens": limit }),
                Unit::OutputTokens => json!({ "outputTokens": limit }),
                Unit::Usd => json!({ "usd": format!("0.{limit:012}") }),
                Unit::Requests => json!({ "requests": limit }),
                Unit::Concurrent => json!({ "concurrent": limit }),
            };
            let mut budget = json!({ "name": typed.name, "limit": limit });
            match typed.window {
                Window::Fixed(HOUR) => budget["window"] = json!({ "calendar": "hour" }),
                Window::Fixed(DAY) => budget["window"] = json!({ "calendar": "day" }),
                Window::Fixed(millis) => budget["window"] = json!({ "fixed": format!("{millis}ms") }),
                Window::Sliding(millis) => budget["window"] = json!({ "sliding": format!("{millis}ms") }),
                Window::Week => budget["window"] = json!({ "calendar": "week" }),
                Window::Month => budget["window"] = json!({ "calendar": "month" }),
                Window::Open => {}
            }
            budget["onExceed"] = match typed.policy {
                "queue" => json!({ "queue": "5s" }),
                policy => json!(policy),
            };
            if typed.keyed {
                budget["per"] = json!(["header.who"]);
                budget["forgeable"] = json!(true);
            }
            serde_json::from_value::<BudgetConfig>(budget).unwrap()
        };
        let typed: Vec<BudgetConfig> = typed.iter().zip(limits).map(one).collect();
        let mut faults = Vec::new();
        let budgets = Budgets::new(&typed, &Known::default(), &mut faults);
        assert_eq!(faults, []);
        budgets
    }
}

/// What a request holds.
pub fn need(unit: Unit, input: u64, output: u64) -> u64 {
    match unit {
        Unit::Tokens => input + output,
        Unit::InputTokens => input,
        Unit::OutputTokens => output,
        Unit::Usd => input * RATES.cache_write_hour + output * RATES.output,
        Unit::Requests | Unit::Concurrent => 1,
    }
}
