//! What the configuration means: routes and providers, resolved, checked, immutable.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;

use attache_protocol::anthropic::DEFAULT_MAX_TOKENS;
use attache_protocol::error::ErrorKind;

use crate::budget::config::FleetConfig;
use crate::budget::fleet::Fleet;
use crate::budget::{self, Budgets};
use crate::catalogue::Catalogue;
use crate::config::{self, Config, Delivery, Fault, HealthConfig, RouteConfig, Silence, UNREADABLE, suggest};
use crate::duration::Duration;
use crate::failover::{Action, index_of};
use crate::health::HealthPolicy;

mod glob;
mod providers;

pub(crate) use glob::Glob;
pub use providers::{Key, Provider};
use providers::{Known, names_typed, providers};

/// One configuration in force. Exchanges in flight keep theirs when another replaces it.
#[derive(Debug)]
pub struct Gateway {
    pub health: HealthPolicy,
    pub limits: Limits,
    routes: Vec<Route>,
    exact: HashMap<String, usize>,
    globs: Vec<(Glob, usize)>,
    pub catalogue: Catalogue,
    pub budgets: Budgets,
    pub fleet: Option<Fleet>,
}

/// What Envoy keeps of a request, as the chart tells the filter beside `gateway:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The largest body that is read, in bytes: what Envoy buffers.
    pub body: u64,
    /// The largest that is kept to be sent again; a larger one is served by its first target or not at all.
    pub replay: u64,
    /// Milliseconds that a request may wait for a budget: later, Envoy ends it.
    pub queue: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { body: 32 << 20, replay: 32 << 20, queue: 60_000 }
    }
}

/// Models and what serves them.
#[derive(Debug)]
pub struct Route {
    /// The first of its patterns: the route's label in metrics.
    pub name: String,
    pub targets: Vec<Target>,
    /// `None`: the default, which is longer for a request that asks the model to think.
    pub first_token: Option<Duration>,
    pub answer: Duration,
    pub total: Duration,
    pub idle: Duration,
    pub min_throughput: u64,
    pub delivery: Delivery,
    pub silence: Silence,
    pub wait_limit: Duration,
    /// By the class's place in [`ErrorKind::ALL`].
    pub on_error: Vec<(u8, Action)>,
}

#[derive(Debug)]
pub struct Target {
    pub provider: Rc<Provider>,
    /// `None`: as the client asked.
    pub model: Option<String>,
    pub max_output_tokens: u64,
}

/// Long enough for a reasoning model's first token at a healthy provider, short enough that a person still waits.
pub const FIRST_TOKEN: Duration = Duration::seconds(30);
/// The same where the model thinks first: some providers show nothing of that.
pub const FIRST_TOKEN_THINKING: Duration = Duration::seconds(2 * 60);
/// A whole answer comes only when all of it is generated.
const ANSWER: Duration = Duration::seconds(5 * 60);
/// The official SDKs give up after 10 minutes.
const TOTAL: Duration = Duration::seconds(10 * 60);
/// Models pause between thoughts and tools, healthy ones not for a minute.
const IDLE: Duration = Duration::seconds(60);
/// A slow model writes some 20 bytes a second.
const MIN_THROUGHPUT: u64 = 1;
/// About as long as a person waits for an answer to begin.
const WAIT_LIMIT: Duration = Duration::seconds(3);

impl Gateway {
    /// Reads the JSON of `gateway:`. All faults at once, or the gateway.
    pub fn new(value: Value) -> Result<Gateway, Vec<Fault>> {
        let typed = names_typed(&value);
        let config::Reading { config, mut faults } = config::read(value);
        let Some(config) = config else { return Err(faults) };
        // Which names were meant is not known while an entry cannot be read.
        let complete = config.providers.iter().all(|entry| entry.name != UNREADABLE);
        let by_name = providers(&config.providers, &mut faults);
        let rows: Vec<&str> = by_name.values().map(|provider| provider.row.name).collect();
        let mut gateway = routes(&config, &Known { by_name, typed, complete }, &mut faults);
        gateway.health = health(&config.health, &mut faults);
        let names: Vec<&str> = config.providers.iter().map(|entry| entry.name.as_str()).collect();
        gateway.catalogue = Catalogue::new(&config.catalogue, &names, &rows, &mut faults);
        // One that could not be read has its fault, and its budgets would only get others in its wake.
        let unread = faults.iter().any(|fault| fault.path.starts_with("fleet")).then(FleetConfig::default);
        let fleet = config.fleet.as_ref().or(unread.as_ref());
        gateway.fleet = fleet.map(|typed| Fleet::new(typed, &mut faults));
        gateway.budgets = budgets(&config, &gateway, &names, &mut faults);
        if faults.is_empty() { Ok(gateway) } else { Err(faults) }
    }

    /// Takes what Envoy keeps; all that does not go with it.
    pub fn limit(&mut self, limits: Limits) -> Result<(), Vec<Fault>> {
        self.limits = limits;
        let faults = self.budgets.queue_within(limits.queue);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The route of a model: an exact name before any glob, then the configuration's order.
    pub fn route(&self, model: &str) -> Option<&Route> {
        let index =
            self.exact.get(model).copied().or_else(|| {
                self.globs.iter().find(|(glob, _)| glob.matches(model)).map(|(_, index)| *index)
            })?;
        self.routes.get(index)
    }

    /// Whether some target may be asked for a model that this pattern matches, in upper or lower case.
    fn asks_for(&self, pattern: &str) -> bool {
        let pattern = Glob(pattern.to_ascii_lowercase());
        self.routes.iter().enumerate().any(|(at, route)| {
            let exact = self.exact.iter().filter(|(_, index)| **index == at).map(|(name, _)| name.as_str());
            let globs = self.globs.iter().filter(|(_, index)| *index == at).map(|(glob, _)| glob.0.as_str());
            let named = route.targets.iter().filter_map(|target| target.model.as_deref());
            named.clone().any(|model| pattern.matches(&model.to_ascii_lowercase()))
                || names_freely(route)
                    && exact.chain(globs).any(|served| pattern.meets(&Glob(served.to_ascii_lowercase())))
        })
    }

    /// The patterns that are served, for messages; exact names first.
    pub fn models(&self) -> Vec<&str> {
        let mut exact: Vec<&str> = self.exact.keys().map(String::as_str).collect();
        exact.sort_unstable();
        exact.extend(self.globs.iter().map(|(glob, _)| glob.0.as_str()));
        exact
    }
}

/// A number as typed, or its default; a fault where it is out of range.
fn within(
    typed: Option<u64>,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    path: &str,
    faults: &mut Vec<Fault>,
) -> u64 {
    let value = typed.unwrap_or(default);
    if !range.contains(&value) {
        let message = format!("expected a number from {} to {}, found `{value}`", range.start(), range.end());
        faults.push(Fault::new(path, message));
    }
    value
}

fn health(typed: &HealthConfig, faults: &mut Vec<Fault>) -> HealthPolicy {
    let mut number = |typed: Option<u64>, default, most, member: &str| {
        within(typed, default, 1..=most, &format!("health.{member}"), faults)
    };
    let consecutive = number(typed.consecutive_failures, 5, 1000, "consecutiveFailures");
    let error_rate = number(typed.error_rate, 50, 100, "errorRate");
    let minimum = number(typed.minimum_requests, 10, 10_000, "minimumRequests");
    let millis = |typed: Option<Duration>, seconds| typed.unwrap_or(Duration::seconds(seconds)).millis;
    let cool_down = millis(typed.cool_down, 5);
    HealthPolicy {
        consecutive: u16::try_from(consecutive).unwrap_or(u16::MAX),
        error_rate: u8::try_from(error_rate).unwrap_or(100),
        minimum: u16::try_from(minimum).unwrap_or(u16::MAX),
        window: millis(typed.window, 30),
        cool_down,
        max_cool_down: millis(typed.max_cool_down, 20).max(cool_down),
        // A refused key is mended in minutes, not in seconds, and each try costs a request a failover.
        refused: millis(typed.refused_key, 60),
        // Credit that is used up is bought, or comes with the next day or month.
        spent: millis(typed.spent_quota, 5 * 60),
        longest_told: millis(typed.longest_told, 60 * 60),
    }
}

fn budgets(config: &Config, gateway: &Gateway, providers: &[&str], faults: &mut Vec<Fault>) -> Budgets {
    let routes: Vec<&str> = gateway.routes.iter().map(|route| route.name.as_str()).collect();
    let passes = |provider: &config::ProviderConfig| provider.credentials == config::Credentials::Passthrough;
    let whole =
        !faults.iter().any(|fault| ["providers", "routes"].iter().any(|at| fault.path.starts_with(at)));
    let known = budget::Known {
        providers,
        routes: &routes,
        served: &|model| gateway.route(model).is_some(),
        // Where some are not known, nobody knows what they are asked for.
        asked: &|pattern| !whole || gateway.asks_for(pattern),
        passthrough: config.providers.iter().all(passes),
        open: gateway.globs.iter().any(|(_, index)| gateway.routes.get(*index).is_some_and(names_freely)),
        fleet: gateway.fleet.as_ref(),
    };
    Budgets::new(&config.budgets, &known, faults)
}

/// Some target of a route is asked for the model as the client names it.
fn names_freely(route: &Route) -> bool {
    route.targets.iter().any(|target| target.model.is_none())
}

fn on_error(path: &str, entry: &RouteConfig, faults: &mut Vec<Fault>) -> Vec<(u8, Action)> {
    let mut rows = Vec::new();
    for (class, action) in &entry.on_error {
        match ErrorKind::from_name(class) {
            Some(kind) => rows.push((u8::try_from(index_of(kind)).unwrap_or(u8::MAX), *action)),
            None => {
                let known: Vec<&str> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
                let message = format!("unknown class of error{}", suggest(class, &known));
                faults.push(Fault::new(format!("{path}.onError.{class}"), message));
            }
        }
    }
    rows
}

fn routes(config: &Config, known: &Known, faults: &mut Vec<Fault>) -> Gateway {
    let mut gateway = Gateway {
        health: HealthPolicy::default(),
        limits: Limits::default(),
        routes: Vec::new(),
        exact: HashMap::new(),
        globs: Vec::new(),
        catalogue: Catalogue::default(),
        budgets: Budgets::default(),
        fleet: None,
    };
    for (index, entry) in config.routes.iter().enumerate() {
        let route = route(index, entry, known, faults);
        for (at, pattern) in entry.models.iter().enumerate().filter(|(_, pattern)| *pattern != UNREADABLE) {
            if pattern.is_empty() {
                faults.push(Fault::new(
                    format!("routes[{index}].models[{at}]"),
                    "expected a model's name, found nothing",
                ));
            } else if pattern.contains('*') {
                gateway.globs.push((Glob(pattern.clone()), index));
            } else if gateway.exact.contains_key(pattern) {
                let message = format!("`{pattern}` is served by an earlier route; a model has one route");
                faults.push(Fault::new(format!("routes[{index}].models[{at}]"), message));
            } else {
                gateway.exact.insert(pattern.clone(), index);
            }
        }
        gateway.routes.push(route);
    }
    gateway
}

fn route(index: usize, entry: &RouteConfig, known: &Known, faults: &mut Vec<Fault>) -> Route {
    if entry.models.is_empty() {
        faults.push(Fault::new(format!("routes[{index}].models"), "expected at least one model"));
    }
    if entry.targets.is_empty() {
        faults.push(Fault::new(format!("routes[{index}].targets"), "expected at least one target"));
    }
    let mut targets = Vec::new();
    for (at, target) in entry.targets.iter().enumerate().filter(|(_, target)| target.provider != UNREADABLE) {
        let path = format!("routes[{index}].targets[{at}]");
        if target.model.as_deref() == Some("") {
            faults.push(Fault::new(
                format!("{path}.model"),
                "expected a model's name, found nothing; leave it out for the client's",
            ));
        }
        if target.max_output_tokens == Some(0) {
            faults.push(Fault::new(format!("{path}.maxOutputTokens"), "expected at least 1"));
        }
        match known.by_name.get(&target.provider) {
            Some(provider) => targets.push(Target {
                provider: provider.clone(),
                model: target.model.clone(),
                max_output_tokens: target.max_output_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
            }),
            None if !known.complete || known.typed.contains(&target.provider) => {}
            None => {
                let names: Vec<&str> = known.typed.iter().map(String::as_str).collect();
                let message =
                    format!("unknown provider `{}`{}", target.provider, suggest(&target.provider, &names));
                faults.push(Fault::new(format!("{path}.provider"), message));
            }
        }
    }
    Route {
        name: entry.models.first().cloned().unwrap_or_default(),
        targets,
        first_token: entry.first_token,
        answer: entry.answer.unwrap_or(ANSWER),
        total: entry.total.unwrap_or(TOTAL),
        idle: entry.idle.unwrap_or(IDLE),
        min_throughput: within(
            entry.min_throughput,
            MIN_THROUGHPUT,
            0..=10_000,
            &format!("routes[{index}].minThroughput"),
            faults,
        ),
        delivery: entry.delivery,
        silence: entry.silence,
        wait_limit: entry.wait_limit.unwrap_or(WAIT_LIMIT),
        on_error: on_error(&format!("routes[{index}]"), entry, faults),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exact_before_glob_before_order() {
        let gateway = Gateway::new(json!({
            "providers": [{ "name": "openai" }, { "name": "claude", "provider": "anthropic" }],
            "routes": [
                { "models": ["gpt-*", "o*-mini"], "targets": [{ "provider": "openai" }] },
                { "models": ["gpt-4o", "smart"], "targets": [{ "provider": "claude", "model": "claude-sonnet-4-5" }], "firstToken": "2s" },
                { "models": ["*"], "targets": [{ "provider": "openai", "model": "fallback" }] },
            ],
        }))
        .unwrap();
        let target = |model: &str| {
            gateway.route(model).map(|route| route.targets[0].model.clone().unwrap_or_default()).unwrap()
        };
        assert_eq!(target("gpt-4o"), "claude-sonnet-4-5");
        assert_eq!(target("gpt-4"), "");
        assert_eq!(target("o3-mini"), "");
        assert_eq!(target("o3"), "fallback");
        assert_eq!(gateway.route("smart").unwrap().first_token, Some(Duration::seconds(2)));
    }

    #[test]
    fn tells_faults_of_form_and_meaning_together() {
        let faults = Gateway::new(json!({
            "providers": [{ "name": "openai" }, { "name": "openai" }, { "name": "Mine" }, { "name": "x", "provider": "anthropc" }, { "name": "y", "provider": "openai", "origin": "localhost" }],
            "routes": [
                { "models": [], "targets": [] },
                { "models": ["m"], "targets": [{ "provider": "opnai" }, { "provider": "x" }], "total": 5 },
                { "models": ["m"], "targets": [{ "provider": "openai", "model": "" }] },
            ],
        }))
        .unwrap_err();
        let found: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            found,
            [
                "routes[1].total",
                "providers[1].name",
                "providers[2].name",
                "providers[2].name",
                "providers[3].provider",
                "providers[4].origin",
                "routes[0].models",
                "routes[0].targets",
                "routes[1].targets[0].provider",
                "routes[2].targets[0].model",
                "routes[2].models[0]",
            ]
        );
        assert_eq!(faults[4].message, "unknown provider `anthropc`; did you mean `anthropic`?");
    }

    #[test]
    fn one_fault_hides_no_other() {
        let told = |value: serde_json::Value| -> Vec<String> {
            Gateway::new(value).unwrap_err().into_iter().map(|fault| fault.path).collect()
        };
        let provider = json!([{ "name": "openai" }]);
        let route = json!({ "models": "gpt-4o", "targets": [{ "provider": "opnai" }] });
        assert_eq!(
            told(json!({ "providers": provider, "routes": [route] })),
            ["routes[0].models", "routes[0].targets[0].provider"]
        );
        let route = json!({ "models": [""], "targets": [{ "provider": "openai", "model": "" }] });
        assert_eq!(
            told(json!({ "routes": [route] })),
            ["providers", "routes[0].targets[0].model", "routes[0].models[0]"]
        );
        let route = json!({ "models": ["m"], "targets": [{ "provider": "openai" }] });
        assert_eq!(
            told(json!({ "providers": [{ "nam": "openai" }], "routes": [route] })),
            ["providers[0].nam", "providers[0].name"]
        );
    }

    #[test]
    fn a_budget_of_models_that_nobody_is_asked_for_is_a_fault() {
        let told = |models: &[&str], route: serde_json::Value| -> Vec<String> {
            let gateway = Gateway::new(json!({
                "providers": [{ "name": "openai" }],
                "routes": [{ "models": ["smart", "gpt-5*"], "targets": [route] }],
                "budgets": [{ "name": "b", "limit": { "tokens": 5 }, "window": { "fixed": "1m" }, "match": { "models": models } }],
            }));
            gateway.err().into_iter().flatten().map(|fault| fault.path).collect()
        };
        let named = json!({ "provider": "openai", "model": "GPT-4o" });
        assert_eq!(told(&["smart"], named.clone()), ["budgets[0].match.models"]);
        assert_eq!(told(&["gpt-5*"], named.clone()), ["budgets[0].match.models"]);
        assert!(told(&["smart", "gpt-4O*"], named).is_empty());
        let as_asked = json!({ "provider": "openai" });
        assert!(
            told(&["smart"], as_asked.clone()).is_empty() && told(&["*-mini"], as_asked.clone()).is_empty()
        );
        assert_eq!(told(&["gpt-4*"], as_asked), ["budgets[0].match.models"]);
        // Whose providers are not known, nobody knows what they are asked for.
        assert_eq!(
            told(&["o3"], json!({ "provider": "opnai", "model": "o3" })),
            ["routes[0].targets[0].provider"]
        );
    }
}
