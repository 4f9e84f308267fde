//! Budgets as they are typed.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::window::Calendar;
use crate::catalogue::Prices;
use crate::duration::Duration;

/// A limit, over a window, for each of what `per` names; every budget that matches a request must admit it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BudgetConfig {
    /// What errors, metrics and logs call it. What has been spent is kept under it across configurations.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 63)))]
    pub name: String,
    /// Exactly one member.
    pub limit: LimitConfig,
    /// Exactly one member; none for `concurrent`. A request counts in the window in which it was admitted.
    pub window: Option<WindowConfig>,
    /// One account for each combination of these; none: one account for all. `workload.namespace`,
    /// `workload.serviceAccount`, `workload.label.NAME`, `clientKey`, `header.NAME`, `jwt.CLAIM`, `peer`, `model`, `provider`,
    /// `route`, `body.metadata.NAME`, `user`. Requests without one of them share an account of their own.
    #[serde(default)]
    pub per: Vec<String>,
    /// Which requests it is for; left out: all.
    #[serde(default, rename = "match")]
    pub matches: MatchConfig,
    /// What happens to a request that does not fit. Default `reject`.
    #[serde(default)]
    pub on_exceed: OnExceed,
    /// Per cent of the limit at which a metric is raised and a line logged, once in a window. Default 50, 80, 100.
    pub thresholds: Option<Vec<u64>>,
    /// The most accounts at a time, where `per` makes several. Default 1000.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100000)))]
    pub max_keys: Option<u64>,
    /// What happens to requests that would need one more. Default `reject`.
    #[serde(default)]
    pub on_full: OnFull,
    /// Must be typed where `per` or `match` names what a client can choose freely: it can then spend from another's account,
    /// or from a new one each time.
    #[serde(default)]
    pub forgeable: bool,
    /// For a limit in `usd`: the prices of models of which the catalogue has none. Without it their requests are refused.
    pub default_prices: Option<Prices>,
    /// Who shares the limit. Default `pod`.
    #[serde(default)]
    pub scope: Scope,
    /// The most of the limit that one pod of the fleet takes at once, per cent. What a pod has and does not use is not there for
    /// others until it gives it back. Default 5.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    pub slice: Option<u64>,
    /// Whether attempts that failed are charged with what they are known to have used. Default `free`.
    #[serde(default)]
    pub failed_attempts: FailedAttempts,
}

/// Exactly one member.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LimitConfig {
    /// Tokens of prompts and answers together.
    pub tokens: Option<u64>,
    pub input_tokens: Option<u64>,
    /// Reasoning included.
    pub output_tokens: Option<u64>,
    /// US dollars, exact to 12 decimals: a number, or a string such as `"0.05"`.
    pub usd: Option<Usd>,
    pub requests: Option<u64>,
    /// Requests under way at a time.
    pub concurrent: Option<u64>,
}

/// Exactly one member.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WindowConfig {
    /// One after the other, counted from 1970-01-01T00:00Z.
    pub fixed: Option<Span>,
    /// The time before each request. It is counted in steps of a 32nd, rounded up: what was spent is forgotten up to one
    /// step late, and never early.
    pub sliding: Option<Span>,
    /// In UTC; weeks begin on Monday.
    pub calendar: Option<Calendar>,
}

/// All that is given must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MatchConfig {
    /// Names of models as their providers name them, with `*` for any run of characters; one must match, in upper or lower case.
    pub models: Vec<String>,
    /// Routes, by the first of their `models`; likewise.
    pub routes: Vec<String>,
    /// Names of `providers`; likewise.
    pub providers: Vec<String>,
    /// What `per` may name → its values, one of which it must have.
    pub facts: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnExceed {
    /// 429 in the client's protocol, with `retry-after`.
    #[default]
    Reject,
    /// The answer is limited to what is left; where nothing is, as `reject`.
    Clamp,
    /// It is admitted, and told that it would not have been.
    Shadow,
    /// It is served as if another model had been asked for; where that does not fit either, as `reject`.
    Downgrade(Downgrade),
    /// It waits up to this long (at most the chart's `queueLimitSeconds`) for what others give back, or for the next window; then as `reject`.
    Queue(Duration),
}

/// Exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Downgrade {
    /// A route, by the first of its `models`.
    pub route: Option<String>,
    /// A model that a route serves.
    pub model: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnFull {
    #[default]
    Reject,
    /// They share one account.
    Share,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FailedAttempts {
    #[default]
    Free,
    Charge,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Scope {
    /// Each pod has all of it.
    #[default]
    Pod,
    /// All pods together, by the rate-limit service of `fleet`.
    Fleet,
}

/// Envoy's rate-limit service, in which pods share limits. The chart's `fleet.address` says where it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FleetConfig {
    /// The domain in the service's configuration. Pods of the same domain share budgets of the same name. Default `attache`.
    pub domain: Option<String>,
    /// How long a request may wait for one answer. Default 250ms.
    pub timeout: Option<Duration>,
    /// What holds while the service does not answer. Default `open`.
    pub on_unavailable: OnUnavailable,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnUnavailable {
    /// Each pod has the whole limit.
    #[default]
    Open,
    /// Each pod has what it was granted before.
    Closed,
}

/// Picodollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usd(pub u64);

impl Usd {
    const DECIMALS: usize = 12;

    /// Reads dollars, as in `0.05`: no floating point comes between.
    pub fn parse(dollars: &str) -> Option<Usd> {
        let (whole, decimals) = dollars.split_once('.').unwrap_or((dollars, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if decimals.len() > Self::DECIMALS || !digits(decimals) || !digits(whole) {
            return None;
        }
        let pico = format!("{decimals:0<width$}", width = Self::DECIMALS).parse::<u64>().ok()?;
        whole.parse::<u64>().ok()?.checked_mul(1_000_000_000_000)?.checked_add(pico).map(Usd)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UsdVisitor;
        impl Visitor<'_> for UsdVisitor {
            type Value = Usd;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("US dollars with at most 12 decimals, such as `25` or `\"0.05\"`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
                Usd::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_u64<E: de::Error>(self, dollars: u64) -> Result<Usd, E> {
                let usd = Usd::parse(&dollars.to_string());
                usd.ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(dollars), &self))
            }
            // The shortest decimal that reads back as this number is the one that was typed.
            fn visit_f64<E: de::Error>(self, dollars: f64) -> Result<Usd, E> {
                let usd = Usd::parse(&dollars.to_string());
                usd.ok_or_else(|| E::invalid_value(de::Unexpected::Float(dollars), &self))
            }
        }
        deserializer.deserialize_any(UsdVisitor)
    }
}

/// The length of a window, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub millis: u64,
}

impl Span {
    const LONGEST_DAYS: u64 = 31;

    pub fn parse(text: &str) -> Option<Span> {
        let days = || text.strip_suffix('d')?.parse::<u64>().ok()?.checked_mul(86_400_000);
        let millis = Duration::parse(text).map(|duration| duration.millis).or_else(days)?;
        (1000..=Self::LONGEST_DAYS * 86_400_000).contains(&millis).then_some(Span { millis })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time from `1s` to `31d`, such as `1m`, `12h` or `7d`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(SpanVisitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Usd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Usd".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["number", "string"], "minimum": 0, "pattern": "^[0-9]+(\\.[0-9]{1,12})?$", "description": "US dollars." })
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "description": "Such as 1s, 1m, 12h or 7d; at most 31d." })
    }
}
