//! What was typed: the `gateway:` part of the values, strict, and every fault of it at once.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::budget::config::{BudgetConfig, FleetConfig};
use crate::catalogue::CatalogueEntry;
use crate::duration::Duration;
use crate::failover::Action;

mod reading;

use reading::MOST_FAULTS;
pub use reading::{Reading, UNREADABLE, parse, read};

/// The gateway's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Config {
    /// The providers that targets may name. Each is one Envoy cluster and one key file of the same name.
    pub providers: Vec<ProviderConfig>,
    /// Which models are served, and by what. Exact names win over globs, then the first in the list.
    pub routes: Vec<RouteConfig>,
    /// When a target or a key is left alone for a while.
    #[serde(default)]
    pub health: HealthConfig,
    /// Models beside those of the built-in catalogue, and figures that override its own.
    #[serde(default)]
    pub catalogue: Vec<CatalogueEntry>,
    /// What may be spent, by whom and on what. A request must be admitted by every budget that it concerns.
    #[serde(default)]
    pub budgets: Vec<BudgetConfig>,
    /// The service by which pods share the budgets of `scope: fleet`.
    pub fleet: Option<FleetConfig>,
}

/// When the circuit of a target or a key opens, and for how long it is left alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthConfig {
    /// So many failures in a row open it. Default 5.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    pub consecutive_failures: Option<u64>,
    /// So does this share of failures among the window's answers, in per cent. Default 50.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    pub error_rate: Option<u64>,
    /// The least answers of a window for `errorRate` to count. Default 10.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10000)))]
    pub minimum_requests: Option<u64>,
    /// Default 30s.
    pub window: Option<Duration>,
    /// The first time that it is left alone; each further one is twice as long. Default 5s.
    pub cool_down: Option<Duration>,
    /// The longest. Default 20s.
    pub max_cool_down: Option<Duration>,
    /// How long a key is left alone that its provider refused (401, 403). Default 1m.
    pub refused_key: Option<Duration>,
    /// How long a key is left alone whose quota or credit is spent, where the provider does not say. Default 5m.
    pub spent_quota: Option<Duration>,
    /// A time told by a provider (`Retry-After` …) is believed up to this. Default 1h.
    pub longest_told: Option<Duration>,
}

/// One provider: a row of the provider table, perhaps at another origin.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProviderConfig {
    /// Lower-case letters, digits and hyphens.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")))]
    pub name: String,
    /// The row of the provider table; the same as `name` where it is left out.
    pub provider: Option<String>,
    /// Overrides the row's scheme, host, port and path prefix, such as `http://127.0.0.1:8080/prefix`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^https?://")))]
    pub origin: Option<String>,
    /// Whose key the provider gets.
    #[serde(default)]
    pub credentials: Credentials,
    /// Several keys: each is an Envoy cluster and a key file of its own, named `provider.key`. None: one key file, named as
    /// the provider.
    #[serde(default)]
    pub keys: Vec<KeyConfig>,
}

/// One of a provider's keys.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyConfig {
    /// Lower-case letters, digits and hyphens.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")))]
    pub name: String,
    /// Its share of the conversations, beside the other keys' weights. Default 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    pub weight: Option<u64>,
}

/// Whose key a provider gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Credentials {
    /// Envoy injects the key from the provider's key file; the client's own is dropped.
    #[default]
    Inject,
    /// The client's own key is passed on.
    Passthrough,
}

/// Models, and the targets that serve them in order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouteConfig {
    /// Names that clients ask for: exact, or with `*` for any run of characters. Any alias may stand here.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub models: Vec<String>,
    /// Tried in this order.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub targets: Vec<TargetConfig>,
    /// How long a streaming provider may take to its first token. Default 30s, and 2m where the request asks the model to think,
    /// or the model is known to do so by itself.
    pub first_token: Option<Duration>,
    /// How long one attempt at a whole (not streaming) answer may take. Default 5m.
    pub answer: Option<Duration>,
    /// How long everything may take, all attempts together. Default 10m.
    pub total: Option<Duration>,
    /// How long a stream that has begun may bring nothing; heartbeats are nothing. Default 60s.
    pub idle: Option<Duration>,
    /// Bytes of generated text per second below which a stream counts as stalled, averaged over the time of `idle`; 0: none
    /// is too slow. Default 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 10000)))]
    pub min_throughput: Option<u64>,
    /// Whether streams go out as they come, or once they are complete. A request's header `x-attache-delivery` overrides it.
    #[serde(default)]
    pub delivery: Delivery,
    /// How a live stream ends when nothing comes any more: it fell silent for the time of `idle`, or it is complete, but
    /// its provider does not end it.
    #[serde(default)]
    pub silence: Silence,
    /// The longest time told by a provider (`Retry-After` …) that is waited out; for a longer one the next target is asked
    /// at once. Default 3s.
    pub wait_limit: Option<Duration>,
    /// What follows a class of error, where it differs from the table in README: class → action.
    #[serde(default)]
    pub on_error: BTreeMap<String, Action>,
}

/// When a stream reaches the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Delivery {
    /// Each event as it comes. What has left cannot be taken back: a stream that breaks off ends in an error.
    #[default]
    Live,
    /// All of it once it is complete: a stream that is cut, stalled or malformed is asked of the next target.
    Whole,
}

/// How a live stream ends when nothing comes any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Silence {
    /// The connection breaks off.
    #[default]
    Cut,
    /// In an error event of the client's protocol, or, if it is complete, well. The route's streams then go through a hop
    /// inside Envoy, which costs processor time.
    Told,
}

impl Delivery {
    /// As the header `x-attache-delivery` says it.
    pub fn parse(text: &str) -> Option<Delivery> {
        match text.trim() {
            "live" => Some(Delivery::Live),
            "whole" => Some(Delivery::Whole),
            _ => None,
        }
    }
}

/// A model at a provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TargetConfig {
    /// The name of one of `providers`.
    pub provider: String,
    /// The provider's name of the model; as the client asked where it is left out.
    pub model: Option<String>,
    /// The output limit sent where the client gave none and the protocol requires one, or a budget counts the answer and how
    /// long the model's may be is not known. Default 8192.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub max_output_tokens: Option<u64>,
}

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Such as `routes[0].targets[1].provider`.
    pub path: String,
    pub message: String,
}

impl Fault {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Fault { path: path.into(), message: message.into() }
    }
}

/// Characters of one fault's message; what was typed stands in it, and may be anything.
const LONGEST_MESSAGE: usize = 400;

/// All faults as an operator reads them.
pub fn report(faults: &[Fault]) -> String {
    let count = if faults.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", faults.len()) };
    let mut text = format!("config: {count}");
    for Fault { path, message } in faults.iter().take(MOST_FAULTS) {
        let path = if path.is_empty() { "gateway" } else { path };
        text.push_str("\n  ");
        text.extend(format!("{path}: {message}").chars().take(LONGEST_MESSAGE));
    }
    if faults.len() > MOST_FAULTS {
        text.push_str(&format!("\n  and {} more", faults.len() - MOST_FAULTS));
    }
    text
}

/// `; did you mean …?` where one of the known names is close, else the names where they are few.
pub fn suggest(typed: &str, known: &[&str]) -> String {
    // Names whose lengths differ by more can never be close, and counting a long one is work for whoever sent it.
    let near = |name: &&&str| name.chars().count().abs_diff(typed.chars().count()) <= 3;
    let close = known.iter().filter(near).map(|name| (distance(typed, name), name)).min();
    match close {
        Some((steps, name)) if steps <= 2 || (steps <= 3 && typed.len() > 8) => {
            format!("; did you mean `{name}`?")
        }
        _ if known.is_empty() || known.len() > 12 => String::new(),
        _ => format!(
            "; known here: {}",
            known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let best = (diagonal + usize::from(x != *y)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        assert_eq!(suggest("anthropc", &["openai", "anthropic"]), "; did you mean `anthropic`?");
        assert_eq!(suggest("zzzzz", &["openai"]), "; known here: `openai`");
    }
}
