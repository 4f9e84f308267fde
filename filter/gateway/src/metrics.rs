//! Names of the metrics. The ABI has no labels, so they are written into the name as `;label=value`; the bootstrap's
//! `stats_tags` take them apart again. Every label's values are bounded by code or configuration, never by clients.

use std::borrow::Cow;

use attache_protocol::codec::Protocol;
use attache_protocol::response::Usage;

use crate::budget::siphash;
use crate::ticket::Step;

/// A counter to be raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    pub name: String,
    pub by: u64,
}

/// One attempt at a provider and how it ended: `ok`, a kind of error ([`ErrorKind::name`]), or `cancelled` (the client left).
///
/// [`ErrorKind::name`]: attache_protocol::error::ErrorKind::name
pub fn attempt(step: &Step, class: &str) -> Count {
    Count { name: format!("attache_attempts;{};class={class}", whose(step)), by: 1 }
}

/// A target or key that is left alone from now on (`opened`), or answers again (`closed`).
pub fn circuit(step: &Step, class: &str) -> Count {
    Count { name: format!("attache_circuit;{};class={class}", whose(step)), by: 1 }
}

/// What a budget did: `reject`, `clamp`, `downgrade`, `queue`, `shadow`, `stop`, `reached_80` …; where there was no room for a key,
/// `full` beside `reject`, or `share`.
pub fn budget(name: &str, class: &str) -> Count {
    Count { name: format!("attache_budget;budget={};class={class}", label(name)), by: 1 }
}

/// Counts of tokens that a provider told and that cannot be: `input`, `cached`, `output`, `reasoning`.
pub fn doubted(step: &Step, kind: &str) -> Count {
    Count { name: format!("attache_doubted;{};type={kind}", whose(step)), by: 1 }
}

/// A target that was passed over since a budget of its own does not admit the exchange.
pub fn budget_target(step: &Step) -> Count {
    Count { name: format!("attache_attempts;{};class=budget_exceeded", whose(step)), by: 1 }
}

/// Requests whose body is too large to be sent a second time.
pub fn unrepeatable(client: Protocol) -> Count {
    Count { name: format!("attache_unrepeatable;client={}", client.name()), by: 1 }
}

/// Which configuration is in force, as a number that is the same in every pod that has it, and since when, in Unix seconds.
/// Bad ones change neither.
pub fn in_force(configuration: &[u8], now: u64) -> [(&'static str, u64); 2] {
    /// What a JSON reader keeps of a number: Prometheus has only floating-point ones.
    const EXACT: u64 = (1 << 53) - 1;
    let sum = siphash(&[configuration]) & EXACT;
    [("attache_configuration_hash", sum), ("attache_configuration_time_seconds", now / 1000)]
}

fn whose(step: &Step) -> String {
    let key = step.key.as_ref().map(|key| format!(";key={}", label(key))).unwrap_or_default();
    format!("provider={}{key};model={}", label(&step.provider), label(&step.model_label))
}

/// Requests that the gateway itself refused.
pub fn refused(client: Protocol, code: &str) -> Count {
    Count { name: format!("attache_refused;client={};class={}", client.name(), label(code)), by: 1 }
}

/// Asks of the fleet's rate-limit service: `granted`, `dry` (there was too little left), `late`, `failed`.
pub fn fleet(class: &str) -> Count {
    Count { name: format!("attache_fleet_asks;class={class}"), by: 1 }
}

/// Members of requests that a translation had to drop.
pub fn lost(client: Protocol, provider: &str, losses: usize) -> Count {
    Count {
        name: format!("attache_lost;client={};provider={}", client.name(), label(provider)),
        by: losses as u64,
    }
}

/// Tokens as the provider reported them, as far as that is believed.
pub fn tokens(step: &Step, usage: &Usage) -> Vec<Count> {
    [
        ("input", usage.input),
        ("cache_read", usage.cache_read),
        ("cache_write", usage.cache_write),
        ("output", usage.output),
        ("reasoning", usage.reasoning),
    ]
    .into_iter()
    .filter_map(|(kind, tokens)| tokens.filter(|tokens| *tokens > 0).map(|tokens| (kind, tokens)))
    .map(|(kind, tokens)| Count { name: format!("attache_tokens;{};type={kind}", whose(step)), by: tokens })
    .collect()
}

/// Characters that would break the name apart become `_`.
fn label(value: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ';' | '=' | '"');
    if value.chars().all(plain) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(value.chars().map(|c| if plain(c) { c } else { '_' }).collect())
}
