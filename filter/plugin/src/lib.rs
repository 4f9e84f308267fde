//! `attache.wasm`: Envoy's callbacks in, effects out. No decisions.
//!
//! One binary stands in three places and is told which by its configuration's `role`: [`listener`] sees a client's request
//! once, [`upstream`] sees every attempt at a provider, [`hop`] the connections within Envoy over which some of them go.

#[cfg(feature = "crash")]
mod crash;
mod desk;
mod fleet;
mod hop;
mod host;
mod identity;
mod listener;
mod upstream;
mod watch;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use attache_gateway::config::{self, Fault, suggest};
use attache_gateway::gateway::{Gateway, Limits};
use attache_gateway::metrics::{self, Count};
use attache_gateway::outcome::Effects;
use attache_gateway::store;
use attache_protocol::raw::RawObject;
use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::{ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| -> Box<dyn RootContext> { Box::new(Root { id, ..Root::default() }) });
}}

/// One configuration of the plugin. A new configuration gets a new root; streams of the old one keep theirs.
#[derive(Default)]
struct Root {
    id: u32,
    role: Role,
    counters: Rc<Counters>,
    watch: Rc<watch::Watch>,
    desk: Rc<desk::Desk>,
}

#[derive(Default)]
enum Role {
    #[default]
    Unconfigured,
    Gateway(Rc<Gateway>),
    Provider,
    Hop,
}

impl Role {
    /// The plugin's `root_id` says which place of Envoy's configuration this is, the plugin configuration what it is told
    /// to be there. A gateway in a cluster, or a provider in the listener, would fail every request.
    fn stands_right(self) -> Result<Role, Vec<Fault>> {
        let name = match &self {
            Role::Unconfigured => return Ok(self),
            Role::Gateway(_) => "gateway",
            Role::Provider => "provider",
            Role::Hop => "hop",
        };
        match host::property("plugin_root_id") {
            Some(root) if !root.is_empty() && root != name.as_bytes() => {
                let root = String::from_utf8_lossy(&root).into_owned();
                Err(vec![Fault::new("role", format!("`{name}`, but the plugin's root_id is `{root}`"))])
            }
            _ => Ok(self),
        }
    }
}

impl Context for Root {
    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        self.desk.answered(token, status, size);
    }

    fn on_done(&mut self) -> bool {
        self.desk.close();
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let bytes = host::body(host::Body::PluginConfiguration, 0, usize::MAX);
        match read(&bytes).and_then(|role| role.stands_right()) {
            Ok(role) => {
                store::prepare(&host::Shared);
                // Envoy 1.40 keeps roots' timers in one table, and holds on to a place in it while a root ticks. A root whose
                // first timer came then would move the table, and the other one would tick no more.
                host::tick_every(0);
                let calls = match &role {
                    Role::Gateway(gateway) => fleet::Calls::new(gateway.clone(), self.counters.clone()),
                    Role::Provider | Role::Hop | Role::Unconfigured => fleet::Calls::default(),
                };
                let workload = identity::Workload::read();
                self.desk = Rc::new(desk::Desk::new(self.id, workload, self.counters.clone(), calls));
                if let Role::Gateway(_) = role {
                    metrics::in_force(&bytes, host::now())
                        .into_iter()
                        .for_each(|(name, value)| host::show(name, value));
                }
                self.role = role;
                true
            }
            Err(faults) => {
                log::error!("{}", config::report(&faults));
                false
            }
        }
    }

    fn on_tick(&mut self) {
        match &self.role {
            Role::Gateway(_) => self.desk.tick(),
            Role::Provider => self.watch.tick(),
            Role::Unconfigured | Role::Hop => {}
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(match self.role {
            Role::Hop => ContextType::StreamContext,
            Role::Unconfigured | Role::Gateway(_) | Role::Provider => ContextType::HttpContext,
        })
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let counters = self.counters.clone();
        match &self.role {
            Role::Gateway(gateway) => {
                Some(Box::new(listener::Listener::new(id, gateway.clone(), counters, self.desk.clone())))
            }
            Role::Provider => Some(Box::new(upstream::Upstream::new(id, counters, self.watch.clone()))),
            Role::Unconfigured | Role::Hop => None,
        }
    }

    fn create_stream_context(&self, id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(hop::Hop::new(id)))
    }
}

/// Reads the plugin configuration: `{"role": "provider"}`, `{"role": "hop"}`, or
/// `{"role": "gateway", "limits": {…}, "gateway": {…}}`.
fn read(bytes: &[u8]) -> Result<Role, Vec<Fault>> {
    let faulty = |path: &str, message: String| vec![Fault::new(path, message)];
    let text = std::str::from_utf8(bytes).map_err(|error| faulty("", format!("not UTF-8: {error}")))?;
    let object =
        RawObject::parse(text).ok_or_else(|| faulty("", "expected a JSON object with `role`".to_owned()))?;
    let role: String =
        object.get("role").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    match role.as_str() {
        "provider" => Ok(Role::Provider),
        "hop" => Ok(Role::Hop),
        "gateway" => {
            let json = object.get("gateway").ok_or_else(|| faulty("gateway", "is missing".to_owned()))?;
            let value = config::parse(json).map_err(|error| faulty("gateway", error))?;
            let limits = object.get("limits").map(serde_json::from_str::<Limits>);
            let mut gateway = Gateway::new(value)?;
            if let Some(limits) = limits {
                gateway.limit(limits.map_err(|error| faulty("limits", error.to_string()))?)?;
            }
            Ok(Role::Gateway(Rc::new(gateway)))
        }
        other => Err(faulty(
            "role",
            format!("unknown role `{other}`{}", suggest(other, &["gateway", "hop", "provider"])),
        )),
    }
}

/// Envoy's counters by name. Their number is bounded: see `attache_gateway::metrics`.
#[derive(Default)]
struct Counters(RefCell<HashMap<String, u32>>);

impl Counters {
    /// What an exchange wants done beside its answer.
    fn apply(&self, effects: Effects) {
        if !effects.counts.is_empty() {
            self.raise(effects.counts);
        }
        if let Some(state) = effects.state {
            host::set_state(listener::NEXT, &state);
        }
        for note in effects.notes {
            let level = if note.severe { log::Level::Error } else { log::Level::Warn };
            log::log!(level, "{}", note.text);
        }
    }

    fn raise(&self, counts: Vec<Count>) {
        let Ok(mut known) = self.0.try_borrow_mut() else { return };
        for Count { name, by } in counts {
            let id = known.get(&name).copied().or_else(|| {
                let id = host::counter(&name)?;
                known.insert(name, id);
                Some(id)
            });
            if let Some(id) = id {
                host::raise(id, by);
            }
        }
    }
}
