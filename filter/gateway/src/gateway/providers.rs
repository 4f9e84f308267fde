//! The providers of a configuration, resolved, and their keys.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;

use super::within;
use crate::config::{Credentials, Fault, ProviderConfig, UNREADABLE, suggest};
use crate::provider::{self, Origin, PROVIDERS, Row};

#[derive(Debug)]
pub struct Provider {
    /// Also the name of its Envoy cluster.
    pub name: String,
    pub row: &'static Row,
    pub origin: Origin,
    pub credentials: Credentials,
    /// Empty: it has one key, which needs no name.
    pub keys: Vec<Key>,
}

#[derive(Debug)]
pub struct Key {
    pub name: String,
    pub weight: u32,
}

/// The providers that targets may name.
pub(super) struct Known {
    pub by_name: HashMap<String, Rc<Provider>>,
    /// Names of entries that have other faults too: who names one of them is not at fault.
    pub typed: Vec<String>,
    /// `false`: some entry's name could not be read, and any name may have been meant.
    pub complete: bool,
}

/// Provider names as typed, also of entries that have other faults.
pub(super) fn names_typed(value: &Value) -> Vec<String> {
    let entries = value.get("providers").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(|entry| entry.get("name")?.as_str().map(str::to_owned)).collect()
}

pub(super) fn providers(typed: &[ProviderConfig], faults: &mut Vec<Fault>) -> HashMap<String, Rc<Provider>> {
    let mut providers = HashMap::new();
    for (index, entry) in typed.iter().enumerate().filter(|(_, entry)| entry.name != UNREADABLE) {
        let at = |member: &str| format!("providers[{index}].{member}");
        if !is_name(&entry.name) {
            faults.push(Fault::new(
                at("name"),
                format!("expected lower-case letters, digits and hyphens, found `{}`", entry.name),
            ));
        }
        if RESERVED.contains(&entry.name.as_str()) {
            let message =
                format!("`{}` is the name of a cluster that the chart makes; choose another", entry.name);
            faults.push(Fault::new(at("name"), message));
        }
        let (member, row_name) = match &entry.provider {
            Some(row) => ("provider", row),
            None => ("name", &entry.name),
        };
        let Some(row) = provider::row(row_name) else {
            let known: Vec<&str> = PROVIDERS.iter().map(|row| row.name).collect();
            let hint = if member == "name" { " (name the kind of provider with `provider:`)" } else { "" };
            faults.push(Fault::new(
                at(member),
                format!("unknown provider `{row_name}`{}{hint}", suggest(row_name, &known)),
            ));
            continue;
        };
        let origin = match Origin::parse(entry.origin.as_deref().unwrap_or(row.origin)) {
            Ok(origin) => origin,
            Err(reason) => {
                faults.push(Fault::new(at("origin"), reason));
                continue;
            }
        };
        let provider = Rc::new(Provider {
            name: entry.name.clone(),
            row,
            origin,
            credentials: entry.credentials,
            keys: keys(index, entry, faults),
        });
        if providers.insert(entry.name.clone(), provider).is_some() {
            faults
                .push(Fault::new(at("name"), format!("`{}` is there already; names are unique", entry.name)));
        }
    }
    providers
}

/// Names that the chart gives to clusters of its own (`helm/templates/_cluster.tpl`).
const RESERVED: [&str; 7] = ["bare", "fleet", "hop", "none", "nowhere", "origin", "sidecar"];

fn keys(index: usize, entry: &ProviderConfig, faults: &mut Vec<Fault>) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for (at, key) in entry.keys.iter().enumerate().filter(|(_, key)| key.name != UNREADABLE) {
        let path = format!("providers[{index}].keys[{at}]");
        if !is_name(&key.name) {
            let message = format!("expected lower-case letters, digits and hyphens, found `{}`", key.name);
            faults.push(Fault::new(format!("{path}.name"), message));
        } else if keys.iter().any(|known| known.name == key.name) {
            let message = format!("`{}` is there already; a provider's keys have different names", key.name);
            faults.push(Fault::new(format!("{path}.name"), message));
        }
        let weight = within(key.weight, 1, 1..=1000, &format!("{path}.weight"), faults);
        keys.push(Key { name: key.name.clone(), weight: u32::try_from(weight).unwrap_or(1) });
    }
    if !keys.is_empty() && entry.credentials == Credentials::Passthrough {
        let message =
            "the client's own key is passed through, so there is none to choose; leave one of the two out";
        faults.push(Fault::new(format!("providers[{index}].keys"), message));
    }
    keys
}

fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
