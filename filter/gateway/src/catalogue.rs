//! The model catalogue: what each model holds, can do and costs, and what each provider calls it.
//!
//! The built-in part is one data file, `catalogue.json`, in which every figure stands below its source; the
//! configuration's `catalogue:` extends it and overrides single figures. What the catalogue does not know is tried.

mod figures;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::figures::{Figures, LongPrompt, Modalities, Price, Prices, Reasoning, Tier, Tiers};
use crate::config::{Fault, UNREADABLE, parse, suggest};
use crate::gateway::Glob;
use crate::provider::PROVIDERS;

const BUILT_IN: &str = include_str!("catalogue.json");

/// A model: one of the built-in catalogue, whose figures these replace one by one, or another.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CatalogueEntry {
    /// The model's name in the catalogue.
    pub model: String,
    /// Its figures, whoever serves it.
    #[serde(default)]
    pub figures: Figures,
    /// Who serves it: one of `providers`, or a row of the provider table.
    #[serde(default)]
    pub at: BTreeMap<String, OfferConfig>,
}

/// A model at one provider.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OfferConfig {
    /// What the provider calls it: exact names, or with `*` for any run of characters.
    #[serde(default)]
    pub names: Vec<String>,
    /// Where it differs from what holds of the model elsewhere.
    #[serde(default)]
    pub figures: Figures,
}

/// A model as one provider serves it.
#[derive(Debug, PartialEq)]
pub struct Model {
    /// Its name in the catalogue, the same at every provider.
    pub name: String,
    pub figures: Figures,
}

/// Every known model of every provider, by the provider's name of it.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// By what stands under `at` in the configuration: a provider's name there, or a row of the table.
    typed: HashMap<String, Offers>,
    /// By the row of the provider table.
    built_in: HashMap<String, Offers>,
}

#[derive(Debug, Default)]
struct Offers {
    exact: HashMap<String, Rc<Model>>,
    globs: Vec<(Glob, Rc<Model>)>,
}

/// The built-in models as if they had been typed, as far as one of these rows of the provider table serves them, or the
/// configuration speaks of them; and the names of all.
fn built_in(rows: &[&str], typed: &[CatalogueEntry]) -> Result<(Vec<CatalogueEntry>, Vec<String>), String> {
    let mut file: Value = parse(BUILT_IN)?;
    let mut names = Vec::new();
    let Some(Value::Array(models)) = file.get_mut("models").map(Value::take) else {
        return Err("it has no models".to_owned());
    };
    let mut wanted = Vec::new();
    for mut model in models {
        let Some(name) = model.get("model").and_then(Value::as_str).map(str::to_owned) else { continue };
        let named = typed.iter().any(|entry| entry.model == name);
        together(&mut model);
        if let Some(Value::Object(offers)) = model.get_mut("at") {
            offers.retain(|row, _| named || rows.contains(&row.as_str()));
            offers.values_mut().for_each(together);
            if !offers.is_empty() {
                wanted.push(model);
            }
        }
        names.push(name);
    }
    // The configuration's own reader: another instance of it would be the greater part of this file's code.
    let entries = serde_path_to_error::deserialize::<_, Vec<CatalogueEntry>>(&Value::Array(wanted));
    entries.map(|entries| (entries, names)).map_err(|error| error.to_string())
}

/// In the file figures stand below the names of their sources, and no two sources say the same figure.
fn together(holder: &mut Value) {
    let Some(Value::Object(sources)) = holder.get_mut("figures").map(Value::take) else { return };
    let mut all = Map::new();
    for (name, figure) in sources.into_iter().filter_map(|(_, figures)| members(figures)).flatten() {
        match all.get_mut(&name) {
            Some(Value::Object(kinds)) => kinds.extend(members(figure).unwrap_or_default()),
            _ => _ = all.insert(name, figure),
        }
    }
    if let Some(figures) = holder.get_mut("figures") {
        *figures = Value::Object(all);
    }
}

fn members(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

impl Catalogue {
    /// The built-in catalogue with the configuration's entries over it. `providers`: the names that the configuration
    /// gives; `rows`: the rows of the table that these are.
    pub fn new(
        typed: &[CatalogueEntry],
        providers: &[&str],
        rows: &[&str],
        faults: &mut Vec<Fault>,
    ) -> Catalogue {
        let (built_in, known) = match built_in(rows, typed) {
            Ok(read) => read,
            Err(reason) => {
                faults.push(Fault::new("catalogue", format!("the built-in one is broken: {reason}")));
                return Catalogue::default();
            }
        };
        check(typed, &built_in, &known, providers, faults);
        let nothing = CatalogueEntry::default();
        let named = |entries: &'_ [CatalogueEntry], model: &str| {
            entries.iter().position(|entry| entry.model == model)
        };
        let mut catalogue = Catalogue::default();
        for entry in &built_in {
            let over = named(typed, &entry.model).and_then(|index| typed.get(index)).unwrap_or(&nothing);
            for (row, offer) in &entry.at {
                let figures = over.at_one(row).or(over.figures).or(offer.figures).or(entry.figures);
                add(&mut catalogue.built_in, row, &offer.names, &entry.model, figures);
            }
        }
        for entry in typed {
            let known =
                named(&built_in, &entry.model).and_then(|index| built_in.get(index)).unwrap_or(&nothing);
            for (provider, offer) in &entry.at {
                let figures = offer.figures.or(entry.figures).or(known.at_one(provider)).or(known.figures);
                add(&mut catalogue.typed, provider, &offer.names, &entry.model, figures);
            }
        }
        catalogue
    }

    /// What is known of a model that a provider calls so: by the provider's name in the configuration, then by its row.
    pub fn model(&self, provider: &str, row: &str, model: &str) -> Option<&Rc<Model>> {
        let typed = |key: &str| self.typed.get(key).and_then(|offers| offers.model(model));
        let built_in = || self.built_in.get(row).and_then(|offers| offers.model(model));
        typed(provider).or_else(|| typed(row)).or_else(built_in)
    }
}

impl CatalogueEntry {
    /// What holds at one provider only.
    fn at_one(&self, provider: &str) -> Figures {
        self.at.get(provider).map(|offer| offer.figures).unwrap_or_default()
    }
}

impl Offers {
    /// An exact name before any glob, then the configuration's order.
    fn model(&self, name: &str) -> Option<&Rc<Model>> {
        let by_glob = || self.globs.iter().find(|(glob, _)| glob.matches(name)).map(|(_, model)| model);
        self.exact.get(name).or_else(by_glob)
    }
}

fn add(
    offers: &mut HashMap<String, Offers>,
    provider: &str,
    names: &[String],
    model: &str,
    figures: Figures,
) {
    let offers = offers.entry(provider.to_owned()).or_default();
    let model = Rc::new(Model { name: model.to_owned(), figures });
    for name in names {
        if name.contains('*') {
            offers.globs.push((Glob(name.clone()), model.clone()));
        } else {
            offers.exact.insert(name.clone(), model.clone());
        }
    }
}

/// Everything that is wrong with what was typed. `known`: every built-in model's name.
fn check(
    typed: &[CatalogueEntry],
    built_in: &[CatalogueEntry],
    known: &[String],
    providers: &[&str],
    faults: &mut Vec<Fault>,
) {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    // Which names were meant is not known while one cannot be read.
    let complete = !providers.contains(&UNREADABLE);
    let mut names: Vec<(&str, &str)> = Vec::new();
    for (index, entry) in typed.iter().enumerate().filter(|(_, entry)| entry.model != UNREADABLE) {
        let mut fault = |member: &str, message: String| {
            faults.push(Fault::new(format!("catalogue[{index}].{member}"), message));
        };
        if entry.model.is_empty() {
            fault("model", "expected a model's name, found nothing".to_owned());
        } else if typed.iter().take(index).any(|earlier| earlier.model == entry.model) {
            fault("model", format!("`{}` is there already; a model has one entry", entry.model));
        } else if entry.at.is_empty() && !known.contains(&entry.model.as_str()) {
            let hint = suggest(&entry.model, &known);
            fault("model", format!("`{}` is not built in; say under `at` who serves it{hint}", entry.model));
        }
        for (provider, offer) in &entry.at {
            if complete
                && !PROVIDERS.iter().any(|row| row.name == provider)
                && !providers.contains(&provider.as_str())
            {
                let hint = suggest(provider, providers);
                fault(&format!("at.{provider}"), format!("unknown provider `{provider}`{hint}"));
            }
            let served =
                |known: &CatalogueEntry| known.model == entry.model && known.at.contains_key(provider);
            if offer.names.is_empty() && !built_in.iter().any(served) {
                fault(&format!("at.{provider}.names"), "expected at least one name".to_owned());
            }
            for (at, name) in offer.names.iter().enumerate().filter(|(_, name)| *name != UNREADABLE) {
                if name.is_empty() {
                    fault(&format!("at.{provider}.names[{at}]"), "expected a name, found nothing".to_owned());
                } else if names.contains(&(provider, name)) {
                    let message = format!("`{name}` is another entry's already");
                    fault(&format!("at.{provider}.names[{at}]"), message);
                } else {
                    names.push((provider, name));
                }
            }
        }
    }
}
