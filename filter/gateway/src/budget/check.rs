//! What typed budgets mean, and everything that is wrong with them.

use std::rc::Rc;

use super::amount::{Rates, Unit};
use super::config::{BudgetConfig, Downgrade, FailedAttempts, OnExceed, OnFull, Scope, Span};
use super::fact::Fact;
use super::fleet::{Fleet, Leased};
use super::hash::siphash;
use super::window::Window;
use super::{Budget, Rule};
use crate::config::{Fault, UNREADABLE, suggest};
use crate::gateway::Glob;

/// What the rest of the configuration says.
pub struct Known<'k> {
    /// Names of `providers`.
    pub providers: &'k [&'k str],
    /// The first of each route's models.
    pub routes: &'k [&'k str],
    /// Whether some route serves a model that clients ask for.
    pub served: &'k dyn Fn(&str) -> bool,
    /// Whether some target may be asked for a model of this pattern.
    pub asked: &'k dyn Fn(&str) -> bool,
    /// Every provider gets the client's own key.
    pub passthrough: bool,
    /// Some provider is asked for any model that a client names.
    pub open: bool,
    /// The fleet's service, if there is one.
    pub fleet: Option<&'k Fleet>,
}

/// Budgets by themselves: no names, and any model.
impl Default for Known<'_> {
    fn default() -> Self {
        Known {
            providers: &[],
            routes: &[],
            served: &|_| true,
            asked: &|_| true,
            passthrough: false,
            open: false,
            fleet: None,
        }
    }
}

const THRESHOLDS: [u64; 3] = [50, 80, 100];
const MOST_THRESHOLDS: usize = 8;
const MOST_KEYS: std::ops::RangeInclusive<u64> = 1..=100_000;
const KEYS: u64 = 1000;
const SLICES: std::ops::RangeInclusive<u64> = 1..=100;
const SLICE: u64 = 5;
/// Limits leave room for sums.
const LARGEST_LIMIT: u64 = u64::MAX / 4;

/// One budget's faults.
struct Told<'f> {
    path: String,
    faults: &'f mut Vec<Fault>,
}

impl Told<'_> {
    fn fault(&mut self, member: &str, message: impl Into<String>) {
        self.faults.push(Fault::new(format!("{}.{member}", self.path), message));
    }
}

pub(super) fn budgets(typed: &[BudgetConfig], known: &Known<'_>, faults: &mut Vec<Fault>) -> Vec<Budget> {
    let mut budgets = Vec::new();
    for (index, entry) in typed.iter().enumerate() {
        let path = format!("budgets[{index}]");
        // One of which something could not be read has its faults, and would only get others in their wake.
        let told = faults.iter().any(|fault| {
            fault.path.strip_prefix(&path).is_some_and(|rest| !rest.starts_with(char::is_numeric))
        });
        if told || entry.name == UNREADABLE {
            continue;
        }
        let mut told = Told { path, faults };
        if typed.iter().take(index).any(|earlier| earlier.name == entry.name) {
            told.fault("name", format!("`{}` is there already; names are unique", entry.name));
        }
        budgets.extend(budget(entry, known, &mut told));
    }
    budgets
}

fn budget(entry: &BudgetConfig, known: &Known<'_>, told: &mut Told<'_>) -> Option<Budget> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if entry.name.is_empty() || entry.name.len() > 63 || !entry.name.chars().all(plain) {
        let message = format!("expected up to 63 letters, digits, `-`, `_` and `.`, found `{}`", entry.name);
        told.fault("name", message);
    }
    let limit = limit(entry, told);
    let window = window(entry, limit.map(|(unit, _)| unit), told);
    let per = facts(entry, told);
    let (globs, values) = matches(entry, known, told);
    forgeable(entry, &per, &values, known, told);
    on_exceed(entry, limit.map(|(unit, _)| unit), known, told);
    let fleet = fleet(entry, known, told);
    let thresholds = thresholds(entry, told);
    let most = entry.max_keys.unwrap_or(KEYS);
    if !MOST_KEYS.contains(&most) {
        let message =
            format!("expected a number from {} to {}, found `{most}`", MOST_KEYS.start(), MOST_KEYS.end());
        told.fault("maxKeys", message);
    } else if entry.max_keys.is_some() && entry.per.is_empty() {
        told.fault("maxKeys", "there is one account where `per` names nothing; leave it out");
    }
    if entry.on_full == OnFull::Share && entry.per.is_empty() {
        told.fault("onFull", "there is one account where `per` names nothing; leave it out");
    }
    if entry.default_prices.is_some() && limit.is_some_and(|(unit, _)| unit != Unit::Usd) {
        told.fault("defaultPrices", "the limit is not in dollars; leave them out");
    }
    let default_rates = entry.default_prices.as_ref().and_then(Rates::of);
    if entry.default_prices.is_some() && default_rates.is_none() {
        told.fault("defaultPrices", "expected at least `input` and `output`");
    }
    let ((unit, limit), window) = (limit?, window?);
    let rule = Rc::new(Rule {
        name: entry.name.clone(),
        unit,
        limit,
        window,
        thresholds,
        shadow: entry.on_exceed == OnExceed::Shadow,
        charge_failed: entry.failed_attempts == FailedAttempts::Charge,
        default_rates,
        fleet,
        moves: follows_target(&per, &globs, &values),
    });
    Some(Budget {
        number: siphash(&[entry.name.as_bytes(), unit.name().as_bytes()]),
        rule,
        on_exceed: entry.on_exceed.clone(),
        per,
        globs,
        values,
        most,
        on_full: entry.on_full,
    })
}

fn follows_target(per: &[Fact], globs: &[(Fact, Vec<Glob>)], values: &[(Fact, Vec<String>)]) -> bool {
    let named = globs.iter().map(|(fact, _)| fact).chain(values.iter().map(|(fact, _)| fact));
    per.iter().chain(named).any(|fact| matches!(fact, Fact::Model | Fact::Provider))
}

fn limit(entry: &BudgetConfig, told: &mut Told<'_>) -> Option<(Unit, u64)> {
    let typed = &entry.limit;
    let all = [
        (Unit::Tokens, "tokens", typed.tokens),
        (Unit::InputTokens, "inputTokens", typed.input_tokens),
        (Unit::OutputTokens, "outputTokens", typed.output_tokens),
        (Unit::Usd, "usd", typed.usd.map(|usd| usd.0)),
        (Unit::Requests, "requests", typed.requests),
        (Unit::Concurrent, "concurrent", typed.concurrent),
    ];
    let mut given = all.into_iter().filter_map(|(unit, member, limit)| Some((unit, member, limit?)));
    let (Some((unit, member, limit)), None) = (given.next(), given.next()) else {
        let names = "`tokens`, `inputTokens`, `outputTokens`, `usd`, `requests`, `concurrent`";
        told.fault("limit", format!("expected exactly one of {names}"));
        return None;
    };
    if limit == 0 {
        told.fault(&format!("limit.{member}"), "expected more than 0");
    } else if limit > LARGEST_LIMIT {
        told.fault(&format!("limit.{member}"), "is larger than can be counted");
    }
    Some((unit, limit))
}

fn window(entry: &BudgetConfig, unit: Option<Unit>, told: &mut Told<'_>) -> Option<Window> {
    let millis = |span: Span| span.millis;
    let given: Vec<Window> = entry
        .window
        .iter()
        .flat_map(|typed| {
            let fixed = typed.fixed.map(millis).map(Window::Fixed);
            let sliding = typed.sliding.map(millis).map(Window::Sliding);
            [fixed, sliding, typed.calendar.map(Window::Calendar)]
        })
        .flatten()
        .collect();
    match (unit?, given.as_slice()) {
        (Unit::Concurrent, []) => Some(Window::Open),
        (Unit::Concurrent, _) => {
            told.fault("window", "`concurrent` counts what is under way; leave the window out");
            None
        }
        (_, [window]) => Some(*window),
        _ => {
            told.fault("window", "expected exactly one of `fixed`, `sliding`, `calendar`");
            None
        }
    }
}

fn facts(entry: &BudgetConfig, told: &mut Told<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    for (at, text) in entry.per.iter().enumerate().filter(|(_, text)| *text != UNREADABLE) {
        match Fact::parse(text) {
            Some(fact) if facts.contains(&fact) => {
                told.fault(&format!("per[{at}]"), format!("`{text}` is there already"));
            }
            Some(fact) => facts.push(fact),
            None => told.fault(&format!("per[{at}]"), unknown(text)),
        }
    }
    facts
}

fn unknown(text: &str) -> String {
    let names = Fact::names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("unknown key `{text}`{}", suggest(text, &names))
}

type Matches = (Vec<(Fact, Vec<Glob>)>, Vec<(Fact, Vec<String>)>);

fn matches(entry: &BudgetConfig, known: &Known<'_>, told: &mut Told<'_>) -> Matches {
    let typed = &entry.matches;
    let complete = !known.providers.contains(&UNREADABLE);
    let lists = [
        (Fact::Model, "models", &typed.models, None),
        (Fact::Route, "routes", &typed.routes, Some(known.routes)),
        (Fact::Provider, "providers", &typed.providers, Some(known.providers).filter(|_| complete)),
    ];
    let mut globs = Vec::new();
    for (fact, member, patterns, names) in lists {
        for (at, pattern) in patterns.iter().enumerate().filter(|(_, pattern)| *pattern != UNREADABLE) {
            let glob = Glob(pattern.clone());
            if let Some(names) = names.filter(|names| !names.iter().any(|name| glob.matches(name))) {
                let hint = suggest(pattern, names);
                told.fault(&format!("match.{member}[{at}]"), format!("`{pattern}` matches none{hint}"));
            }
        }
        let never = fact == Fact::Model && !patterns.iter().any(|pattern| (known.asked)(pattern));
        if !patterns.is_empty() && never {
            let message = "no target's model is among these, so the budget would never hold; models are named as their providers name them, and what clients ask for by `match.routes`";
            told.fault("match.models", message);
        }
        if !patterns.is_empty() {
            let plain = |pattern: &String| Glob(fact.plain(pattern.as_str().into()).into_owned());
            globs.push((fact.clone(), patterns.iter().map(plain).collect()));
        }
    }
    let mut values = Vec::new();
    for (name, ones) in &typed.facts {
        match Fact::parse(name) {
            _ if ones.is_empty() => {
                told.fault(&format!("match.facts.{name}"), "expected at least one value");
            }
            Some(fact) => {
                let names: &[&str] = match fact {
                    Fact::Route => known.routes,
                    Fact::Provider => known.providers,
                    _ => &[],
                };
                for one in ones {
                    let nobody = fact == Fact::Model && !(known.asked)(one);
                    if nobody || complete && !names.is_empty() && !names.contains(&one.as_str()) {
                        let hint = suggest(one, names);
                        told.fault(&format!("match.facts.{name}"), format!("`{one}` matches none{hint}"));
                    }
                }
                let plain = ones.iter().map(|one| fact.plain(one.as_str().into()).into_owned()).collect();
                values.push((fact, plain));
            }
            None => told.fault(&format!("match.facts.{name}"), unknown(name)),
        }
    }
    (globs, values)
}

fn forgeable(
    entry: &BudgetConfig,
    per: &[Fact],
    values: &[(Fact, Vec<String>)],
    known: &Known<'_>,
    told: &mut Told<'_>,
) {
    if entry.forgeable {
        return;
    }
    let named = per.iter().zip(std::iter::repeat("per"));
    let matched = values.iter().map(|(fact, _)| fact).zip(std::iter::repeat("match.facts"));
    for (fact, member) in named.chain(matched) {
        if let Some(why) = fact.forged(known.passthrough, known.open) {
            let message = format!(
                "{why}, so any client can spend from another's account or from a new one each time; type `forgeable: true` if that is meant"
            );
            told.fault(member, message);
        }
    }
}

fn on_exceed(entry: &BudgetConfig, unit: Option<Unit>, known: &Known<'_>, told: &mut Told<'_>) {
    match &entry.on_exceed {
        OnExceed::Clamp if unit.is_some_and(|unit| !unit.clamps()) => {
            told.fault("onExceed", "a shorter answer takes no less of this limit; `clamp` is for `tokens`, `outputTokens` and `usd`");
        }
        OnExceed::Downgrade(Downgrade { route: Some(route), model: None }) => {
            if !known.routes.contains(&route.as_str()) {
                let hint = suggest(route, known.routes);
                told.fault("onExceed.downgrade.route", format!("unknown route `{route}`{hint}"));
            } else if !(known.served)(route) {
                told.fault(
                    "onExceed.downgrade.route",
                    format!("`{route}` is no model's name; name one with `model`"),
                );
            }
        }
        OnExceed::Downgrade(Downgrade { route: None, model: Some(model) }) if (known.served)(model) => {}
        OnExceed::Downgrade(Downgrade { route: None, model: Some(model) }) => {
            told.fault("onExceed.downgrade.model", format!("no route serves `{model}`"));
        }
        OnExceed::Downgrade(_) => {
            told.fault("onExceed.downgrade", "expected exactly one of `route`, `model`");
        }
        _ => {}
    }
}

fn fleet(entry: &BudgetConfig, known: &Known<'_>, told: &mut Told<'_>) -> Option<Leased> {
    let slice = entry.slice.unwrap_or(SLICE);
    if entry.scope == Scope::Pod {
        if entry.slice.is_some() {
            told.fault("slice", "a pod has all of its limit; leave it out, or type `scope: fleet`");
        }
        return None;
    }
    if !SLICES.contains(&slice) {
        told.fault("slice", format!("expected a number from 1 to 100, found `{slice}`"));
    }
    if entry.limit.concurrent.is_some() {
        told.fault(
            "scope",
            "the fleet's service counts what was spent, not what is under way; `concurrent` is for a `pod`",
        );
    }
    if entry.window.as_ref().is_some_and(|window| window.sliding.is_some()) {
        told.fault("window", "the fleet's windows begin together; type `fixed` or `calendar`");
    }
    let fleet = known.fleet.map(|fleet| fleet.leased(u8::try_from(slice).unwrap_or(u8::MAX)));
    if fleet.is_none() {
        told.fault("scope", "`fleet` needs the rate-limit service, in `gateway.fleet`");
    }
    fleet
}

fn thresholds(entry: &BudgetConfig, told: &mut Told<'_>) -> Vec<u16> {
    let typed = entry.thresholds.as_deref().unwrap_or(&THRESHOLDS);
    let ascending = typed.is_sorted_by(|one, other| one < other);
    if typed.len() > MOST_THRESHOLDS || !ascending || typed.iter().any(|one| !(1..=1000).contains(one)) {
        let message = format!("expected up to {MOST_THRESHOLDS} numbers from 1 to 1000, ascending");
        told.fault("thresholds", message);
    }
    typed.iter().map(|one| u16::try_from(*one).unwrap_or(u16::MAX)).collect()
}
