//! The ticket: all that an attempt needs to know, written once at admission, read by every attempt.
//!
//! It travels in Envoy's filter state, where no client and no provider can reach it. An attempt needs nothing else, so
//! exchanges in flight are untouched by a new configuration. One entry holds three things: the cluster to try next, which
//! the route's matcher reads as a prefix; the [`Progress`] so far; the ticket. Every host call costs as much as reading a
//! small body, so there is one entry, not three.

use attache_protocol::codec::{Protocol, View};
use attache_protocol::error::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::bill::Terms;
use crate::budget::{Reservation, Used};
use crate::config::Credentials;
use crate::failover::Action;
use crate::gateway::{Key, Target};
use crate::health::{HealthPolicy, Id};
use crate::provider::{self, Row};

/// Ends the cluster's name: no name of a provider has one (`gateway.rs`), and the chart's matcher counts on it.
const CLUSTER_END: u8 = b'/';
/// Raise it with every change of [`Ticket`], [`Step`] or [`Progress`]: their encoding does not describe itself.
const FORMAT: u8 = 8;
/// The cluster of the hop within Envoy: see the chart's `_hop.tpl`.
const HOP_CLUSTER: &str = "hop";
/// In place of a cluster: nothing more is to be tried. No entry of the matcher begins so, and the router answers by itself.
const NOWHERE: &str = "-";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// What the client speaks.
    pub protocol: Protocol,
    /// The client's path and query, as they came.
    pub path: String,
    /// The client's query, credential members taken out; same-protocol attempts keep it.
    pub query: String,
    pub stream: bool,
    /// Answers asked for.
    pub answers: u64,
    pub view: View,
    /// The client's own credential; only where a target passes it through.
    pub credential: Option<ClientCredential>,
    /// The client's headers that belong to its protocol (`anthropic-beta` …), for attempts after one at another protocol.
    pub headers: Vec<(String, String)>,
    /// Another protocol's provider may have answered an earlier turn.
    pub mixed: bool,
    /// Bytes of the client's body.
    pub body_length: u64,
    /// The body is too large to be sent twice: nothing is retried.
    pub single: bool,
    /// Never empty; the first attempt is at `plan[0]`.
    pub plan: Vec<Step>,
    pub policy: Policy,
    /// The conversation, for [`crate::sticky`]; 0: it need not be known again.
    pub conversation: u64,
    /// The target that comes first when all are well.
    pub home: u8,
    /// `None`: no budget concerns it.
    pub terms: Option<Terms>,
}

/// The route's limits and rules, for this request. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// A stream is held until it is complete.
    pub whole: bool,
    /// Attempts go through the hop within Envoy, so that the filter can end their answer at any time, and well
    /// ([`crate::outcome::Effects::end`]). Held streams always do. Only for streams.
    pub hop: bool,
    pub first_token: u64,
    pub idle: u64,
    /// Bytes of generated text per second; 0: as slow as it likes.
    pub min_throughput: u64,
    pub answer: u64,
    /// Unix time at which the exchange ends.
    pub deadline: u64,
    pub wait_limit: u64,
    /// What this route does otherwise than the table, by the class's place in [`ErrorKind::ALL`].
    pub on_error: Vec<(u8, Action)>,
    pub health: HealthPolicy,
}

/// A client's credential: the header it came in, and the bare token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientCredential {
    pub header: String,
    pub value: String,
    pub token: String,
}

/// One target of the plan, with one of its provider's keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The key's name, where the provider has several.
    pub key: Option<String>,
    /// The target's place in its route: keys of one target share it.
    pub target: u8,
    /// Its row in the provider table.
    row: String,
    /// Host and port for `:authority`.
    pub authority: String,
    /// Path of the endpoint, the origin's prefix included.
    pub path: String,
    /// The provider's name of the model.
    pub model: String,
    /// The model as metrics show it: bounded by the configuration, never by clients.
    pub model_label: String,
    pub passthrough: bool,
    pub max_output_tokens: u64,
    /// Tokens, where the catalogue knows.
    pub context_window: Option<u64>,
    /// Its health was in question when the plan was made: how it goes is to be told, good or bad.
    pub ailing: bool,
}

impl Step {
    pub fn new(
        target: &Target,
        key: Option<&Key>,
        index: usize,
        asked: &str,
        stream: bool,
        route: &str,
    ) -> Step {
        let row = target.provider.row;
        let model = target.model.as_deref().unwrap_or(asked);
        let endpoint =
            row.endpoint.map_or_else(|| row.protocol.codec().endpoint(model, stream), str::to_owned);
        Step {
            provider: target.provider.name.clone(),
            key: key.map(|key| key.name.clone()),
            target: u8::try_from(index).unwrap_or(u8::MAX),
            row: row.name.to_owned(),
            authority: target.provider.origin.authority.clone(),
            path: target.provider.origin.path(&endpoint),
            model: model.to_owned(),
            model_label: target.model.clone().unwrap_or_else(|| route.to_owned()),
            passthrough: target.provider.credentials == Credentials::Passthrough,
            max_output_tokens: target.max_output_tokens,
            context_window: None,
            ailing: false,
        }
    }

    /// The Envoy cluster: the provider, or the provider and one of its keys.
    pub fn cluster(&self) -> String {
        match &self.key {
            Some(key) => format!("{}.{key}", self.provider),
            None => self.provider.clone(),
        }
    }

    /// Whose health is kept: the key's, and that of the model asked with it.
    pub fn ids(&self) -> (Id, Id) {
        let cluster = self.cluster();
        (Id::key(&cluster), Id::target(&cluster, &self.model_label))
    }

    /// The provider's row. `None`: the ticket is of another version of the filter.
    pub fn row(&self) -> Option<&'static Row> {
        provider::row(&self.row)
    }
}

/// How far an exchange has come: the only part of the entry that changes from attempt to attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The attempt to be made, from 1.
    pub number: u16,
    /// Its place in the plan.
    pub step: u8,
    /// Told times waited out so far.
    pub waits: u8,
    /// A target has been asked once more.
    pub again: bool,
    /// Attempts that are over, in order.
    pub log: Vec<Tried>,
    /// What is held in the budgets' accounts.
    pub reservation: Reservation,
    /// What failed attempts are known to have used, in order.
    pub failed: Vec<Used>,
}

/// One attempt that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    pub step: u8,
    /// How it ended: the place in [`ErrorKind::ALL`], or beyond for a good answer.
    pub class: u8,
    /// Milliseconds until then.
    pub millis: u32,
    /// The provider told a time that is not waited for.
    pub rests: bool,
}

impl Tried {
    /// In place of a class: a budget did not let the exchange go there.
    pub const OVER_BUDGET: u8 = 254;

    pub fn class_name(&self) -> &'static str {
        if self.class == Tried::OVER_BUDGET {
            return "budget_exceeded";
        }
        ErrorKind::ALL.get(usize::from(self.class)).map_or("ok", |kind| kind.name())
    }
}

impl Progress {
    pub fn tried(&self, step: usize) -> bool {
        self.log.iter().any(|tried| usize::from(tried.step) == step)
    }
}

/// An entry as it was read: what has been decoded, and the ticket's own bytes, which no attempt changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub progress: Progress,
    pub ticket: Ticket,
    bytes: Vec<u8>,
}

impl Ticket {
    /// The ticket with its progress, ready to be written.
    pub fn entry(self, progress: Progress) -> Entry {
        let bytes = postcard::to_extend(&self, Vec::with_capacity(512)).unwrap_or_default();
        Entry { progress, ticket: self, bytes }
    }
}

impl Entry {
    /// The filter state from which the router sends the attempt of `progress`.
    pub fn state(&self, progress: &Progress) -> Vec<u8> {
        let Some(step) = self.ticket.plan.get(usize::from(progress.step)) else { return Vec::new() };
        let hop = self.ticket.policy.hop;
        self.written(if hop { HOP_CLUSTER.to_owned() } else { step.cluster() }, progress)
    }

    /// The filter state that keeps the router from another attempt.
    pub fn closed(&self, progress: &Progress) -> Vec<u8> {
        self.written(NOWHERE.to_owned(), progress)
    }

    fn written(&self, cluster: String, progress: &Progress) -> Vec<u8> {
        let mut state = cluster.into_bytes();
        state.reserve(self.bytes.len() + 64);
        state.push(CLUSTER_END);
        state.push(FORMAT);
        let mut state = postcard::to_extend(progress, state).unwrap_or_default();
        state.extend_from_slice(&self.bytes);
        state
    }

    /// Reads filter state. `None` too for a ticket of another format: Envoy reads the filter anew for the listener when its
    /// configuration changes, and for the clusters only when it starts.
    pub fn read(state: &[u8]) -> Option<Entry> {
        let end = state.iter().position(|byte| *byte == CLUSTER_END)?;
        let (_, rest) = state.get(end + 1..)?.split_first().filter(|(format, _)| **format == FORMAT)?;
        let (progress, bytes) = postcard::take_from_bytes::<Progress>(rest).ok()?;
        let ticket = postcard::from_bytes(bytes).ok()?;
        Some(Entry { progress, ticket, bytes: bytes.to_vec() })
    }

    /// The attempts so far, as a header tells them: `openai;class=rate_limit;ms=12, anthropic;class=ok;ms=840` (a list
    /// of tokens with parameters, RFC 9651).
    pub fn attempt_log(&self, progress: &Progress) -> String {
        let told = progress.log.iter().filter_map(|tried| {
            let step = self.ticket.plan.get(usize::from(tried.step))?;
            Some(format!("{};class={};ms={}", step.cluster(), tried.class_name(), tried.millis))
        });
        told.collect::<Vec<_>>().join(", ")
    }
}
