//! The data file keeps its promises, and the configuration's entries find their place.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use std::num::NonZeroU64;

use attache_protocol::response::ServiceTier;

use super::*;
use crate::gateway::Gateway;

fn file() -> Value {
    serde_json::from_str(BUILT_IN).unwrap()
}

fn rows() -> Vec<&'static str> {
    PROVIDERS.iter().map(|row| row.name).collect()
}

/// The whole file as the gateway reads it.
fn all() -> Vec<CatalogueEntry> {
    let (entries, names) = built_in(&rows(), &[]).unwrap();
    assert_eq!(
        entries.iter().map(|entry| &entry.model).collect::<Vec<_>>(),
        names.iter().collect::<Vec<_>>()
    );
    entries
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

/// Every group of figures of the file: whose, under which source, and the figures.
fn groups(file: &Value) -> Vec<(String, String, Value)> {
    let mut groups = Vec::new();
    for entry in file["models"].as_array().unwrap() {
        let name = entry["model"].as_str().unwrap();
        let mut add = |place: String, figures: Option<&Value>| {
            for (source, figures) in figures.map(object).into_iter().flatten() {
                groups.push((place.clone(), source.clone(), figures.clone()));
            }
        };
        add(name.to_owned(), entry.get("figures"));
        for (provider, offer) in object(&entry["at"]) {
            add(format!("{name} at {provider}"), offer.get("figures"));
        }
    }
    groups
}

#[test]
fn every_figure_has_a_source_and_a_date() {
    let file = file();
    let mut used = HashSet::new();
    for (place, source, figures) in groups(&file) {
        let known = file["sources"].get(&source).unwrap_or_else(|| panic!("{place}: no source `{source}`"));
        let date = known["date"].as_str().unwrap();
        let digits: Vec<u32> = date.split('-').map(|part| part.parse().unwrap()).collect();
        assert!(
            date.len() == 10 && digits[0] >= 2025 && digits[1] <= 12 && digits[2] <= 31,
            "{source}: {date}"
        );
        assert!(!known["title"].as_str().unwrap().is_empty(), "{source}");
        assert!(known["url"].as_str().unwrap().starts_with("https://"), "{source}");
        assert!(!object(&figures).is_empty(), "{place}: nothing from `{source}`");
        used.insert(source);
    }
    let sources: HashSet<String> = object(&file["sources"]).keys().cloned().collect();
    assert_eq!(sources, used, "every source is used");
}

#[test]
fn no_two_sources_say_the_same_figure() {
    let mut seen = HashSet::new();
    for (place, _, figures) in groups(&file()) {
        for (name, figure) in object(&figures) {
            // Kinds of input, prices and tiers are figures of their own.
            let parts: Vec<String> = match name.as_str() {
                "inputs" | "outputs" | "prices" | "tiers" => {
                    object(figure).keys().map(|kind| format!("{name}.{kind}")).collect()
                }
                _ => vec![name.clone()],
            };
            for part in parts {
                assert!(seen.insert((place.clone(), part.clone())), "{place}: `{part}` twice");
            }
        }
    }
}

#[test]
fn names_are_unique_and_no_glob_shadows_another_model() {
    let file = all();
    let mut models = HashSet::new();
    let mut names: Vec<(&str, &str, &str)> = Vec::new();
    for CatalogueEntry { model, at, .. } in &file {
        assert!(models.insert(model), "{model} twice");
        assert!(!at.is_empty(), "{model} is served by nobody");
        for (provider, offer) in at {
            assert!(PROVIDERS.iter().any(|row| row.name == provider), "{model}: no provider `{provider}`");
            assert!(!offer.names.is_empty(), "{model} has no name at {provider}");
            names.extend(offer.names.iter().map(|name| (provider.as_str(), name.as_str(), model.as_str())));
        }
    }
    for (index, (provider, name, model)) in names.iter().enumerate() {
        for (_, other, its) in names.iter().skip(index + 1).filter(|(at, ..)| at == provider) {
            assert_ne!(name, other, "{provider}: {model} and {its}");
            let covers = |glob: &str, name: &str| glob.contains('*') && Glob(glob.to_owned()).matches(name);
            assert!(
                model == its || !covers(name, other) && !covers(other, name),
                "{provider}: {name} and {other}"
            );
        }
    }
    assert!(models.len() >= 40, "{} models", models.len());
}

#[test]
fn figures_are_plausible() {
    let mut faults = Vec::new();
    let catalogue = Catalogue::new(&[], &[], &rows(), &mut faults);
    assert_eq!(faults, []);
    for (provider, offers) in &catalogue.built_in {
        for (name, model) in &offers.exact {
            let figures = &model.figures;
            let place = format!("{name} at {provider}");
            let holds = figures.longest_prompt().unwrap_or(u64::MAX);
            assert!((1024..=10_000_000).contains(&holds) || holds == u64::MAX, "{place}: holds {holds}");
            let most = figures.output.map_or(1024, NonZeroU64::get);
            assert!((1024..=holds.max(1_048_576)).contains(&most), "{place}: answers with {most}");
            let ordered = |prices: &Prices, place: &str| {
                let Prices { input, cached_input, cache_write, cache_write_hour, output, .. } = *prices;
                assert!(prices.audio_input.is_none_or(|audio| Some(audio) >= input), "{place}: {prices:?}");
                assert!(prices.audio_output.is_none_or(|audio| Some(audio) >= output), "{place}: {prices:?}");
                let rising = [cached_input, input, cache_write, cache_write_hour];
                assert!(rising.into_iter().flatten().is_sorted(), "{place}: {prices:?}");
                assert!(input <= output, "{place}: {prices:?}");
                let dollars = output.unwrap_or_default().picodollars_per_token() / 1_000_000;
                assert!(dollars <= 600, "{place}: ${dollars}");
            };
            ordered(&figures.prices, &place);
            if let Some(long) = figures.long_prompt {
                ordered(&long.prices, &place);
                assert!(long.prices.input > figures.prices.input, "{place}");
                assert!(long.above.get() < holds, "{place}");
            }
            let Tiers { flex, priority, fast } = figures.tiers;
            for (tier, cheaper) in [(flex, true), (priority, false), (fast, false)] {
                ordered(&tier.prices, &place);
                let other =
                    tier.prices.input.is_none_or(|input| (Some(input) < figures.prices.input) == cheaper);
                assert!(other, "{place}: {tier:?}");
                if let Some(long) = tier.long_prompt {
                    ordered(&long.prices, &place);
                    assert!(long.prices.input > tier.prices.input, "{place}");
                    assert_eq!(Some(long.above), figures.long_prompt.map(|usual| usual.above), "{place}");
                }
            }
        }
    }
}

#[test]
fn a_model_is_found_by_its_providers_name() {
    let catalogue = Catalogue::new(&[], &[], &rows(), &mut Vec::new());
    let name = |row: &str, model: &str| catalogue.model("any", row, model).map(|found| found.name.clone());
    assert_eq!(name("anthropic", "claude-haiku-4-5-20251001").as_deref(), Some("claude-haiku-4-5"));
    assert_eq!(name("openrouter", "anthropic/claude-haiku-4.5").as_deref(), Some("claude-haiku-4-5"));
    assert_eq!(name("groq", "openai/gpt-oss-120b").as_deref(), Some("gpt-oss-120b"));
    assert_eq!(name("openai", "claude-haiku-4-5"), None);
    assert_eq!(name("openai", "gpt-4o-2024-05-13"), None, "its limit and its prices are others");
    // One model, told apart where providers serve it differently.
    let tools = |row: &str, model: &str| catalogue.model("any", row, model).unwrap().figures.tools;
    assert_eq!(tools("openai", "gpt-6.1-sol"), Some(false));
    assert_eq!(tools("openrouter", "openai/gpt-6.1-sol"), None);
}

#[test]
fn tiers_and_sound_cost_what_their_sources_say() {
    use attache_protocol::response::ServiceTier::*;
    let catalogue = Catalogue::new(&[], &[], &rows(), &mut Vec::new());
    let find = |row: &str, model: &str| catalogue.model("any", row, model).unwrap().figures;
    let input = |figures: Figures, prompt, tier| {
        figures.prices_for(prompt, tier).input.unwrap_or_default().picodollars_per_token()
    };
    let gpt = find("openai", "gpt-5.6-sol");
    assert_eq!(input(gpt, 1000, None), 4_000_000);
    assert_eq!(input(gpt, 1000, Some(Flex)), 2_000_000);
    assert_eq!(input(gpt, 300_000, Some(Flex)), 4_000_000);
    assert_eq!(input(gpt, 300_000, Some(Priority)), 16_000_000);
    assert_eq!(input(find("anthropic", "claude-opus-5"), 1000, Some(Fast)), 10_000_000);
    let sound = find("gemini", "gemini-2.5-flash").prices_for(1000, Some(Priority));
    assert_eq!(sound.audio_input.unwrap_or_default().picodollars_per_token(), 1_800_000);
}

fn gateway(catalogue: Value) -> Result<Gateway, Vec<Fault>> {
    Gateway::new(json!({
        "providers": [{ "name": "openai" }, { "name": "mine", "provider": "openai", "origin": "http://127.0.0.1:1" }],
        "routes": [{ "models": ["m"], "targets": [{ "provider": "openai" }, { "provider": "mine" }] }],
        "catalogue": catalogue,
    }))
}

#[test]
fn what_was_typed_overrides_single_figures_and_adds_models() {
    let gateway = gateway(json!([
        { "model": "gpt-4o", "figures": { "context": 64000, "inputs": { "image": false }, "prices": { "input": 2.4 },
          "tiers": { "flex": { "prices": { "input": 1.1 } } } } },
        { "model": "gpt-4o-mini", "at": { "openai": { "figures": { "tools": false } }, "mine": { "names": ["small"] } } },
        { "model": "llama", "figures": { "context": 8192, "jsonSchema": false },
          "at": { "mine": { "names": ["llama-3", "llama-3-*", "gpt-4.1"], "figures": { "context": 4096 } } } },
    ]))
    .unwrap();
    let find = |provider: &str, model: &str| gateway.catalogue.model(provider, "openai", model);
    let figures = |provider: &str, model: &str| find(provider, model).unwrap().figures;
    let big = figures("openai", "gpt-4o");
    assert_eq!((big.context.unwrap().get(), big.output.unwrap().get()), (64000, 16384));
    assert_eq!((big.inputs.image, big.inputs.pdf), (Some(false), Some(true)));
    let prices = big.prices_for(1, None);
    assert_eq!(prices.input.unwrap().picodollars_per_token(), 2_400_000);
    assert_eq!(prices.output.unwrap().picodollars_per_token(), 10_000_000);
    let tier = |tier| big.prices_for(1, Some(tier)).input.unwrap().picodollars_per_token();
    assert_eq!((tier(ServiceTier::Flex), tier(ServiceTier::Priority)), (1_100_000, 2_400_000));
    assert_eq!(figures("openai", "gpt-4o-mini").tools, Some(false));
    assert_eq!(figures("mine", "small").tools, Some(true), "one provider's figure is no other's");
    assert_eq!(figures("mine", "small").context, figures("openai", "gpt-4o-mini").context);
    assert_eq!(figures("mine", "llama-3-70b").context.unwrap().get(), 4096);
    assert_eq!(figures("mine", "llama-3-70b").json_schema, Some(false));
    assert_eq!(find("mine", "gpt-4.1").unwrap().name, "llama", "what was typed comes first");
    assert_eq!(find("openai", "gpt-4.1").unwrap().name, "gpt-4.1");
    assert_eq!(find("mine", "gpt-4o").unwrap().name, "gpt-4o", "the row's names hold there too");
    assert!(find("openai", "llama-3").is_none());
}

#[test]
fn faults_are_told_with_their_places() {
    let faults: Vec<String> = gateway(json!([
        { "model": "gpt-4oo" },
        { "model": "a", "at": { "opnai": { "names": ["x", "x"] }, "mine": {} } },
        { "model": "gpt-4o" }, { "model": "gpt-4o" },
        { "model": "b", "at": { "mine": { "names": ["y", ""] } } },
        { "model": "c", "at": { "mine": { "names": ["y"] } } },
        { "modle": "d", "figures": { "context": 0, "prices": { "input": "2" }, "reasoning": "often", "tool": true } },
    ]))
    .unwrap_err()
    .into_iter()
    .map(|fault| format!("{}: {}", fault.path, fault.message))
    .collect();
    assert_eq!(
        faults,
        [
            "catalogue[6].figures.context: expected a whole number above 0, found integer `0`",
            "catalogue[6].figures.prices.input: expected dollars for a million tokens, with at most 6 decimals, such as `2.5`, found \"2\"",
            "catalogue[6].figures.reasoning: unknown value `often`, expected one of `none`, `optional`, `always`",
            "catalogue[6].figures.tool: unknown member; did you mean `tools`?",
            "catalogue[6].modle: unknown member; did you mean `model`?",
            "catalogue[6].model: is missing",
            "catalogue[0].model: `gpt-4oo` is not built in; say under `at` who serves it; did you mean `gpt-4o`?",
            "catalogue[1].at.mine.names: expected at least one name",
            "catalogue[1].at.opnai: unknown provider `opnai`; did you mean `openai`?",
            "catalogue[1].at.opnai.names[1]: `x` is another entry's already",
            "catalogue[3].model: `gpt-4o` is there already; a model has one entry",
            "catalogue[4].at.mine.names[1]: expected a name, found nothing",
            "catalogue[5].at.mine.names[0]: `y` is another entry's already",
        ]
    );
}

#[test]
fn a_provider_that_cannot_be_read_makes_no_other_unknown() {
    let faults = Gateway::new(json!({
        "providers": [{ "name": "openai" }, { "nam": "mine" }],
        "routes": [],
        "catalogue": [{ "model": "a", "at": { "mine": { "names": ["x"] } } }],
    }))
    .unwrap_err();
    assert!(faults.iter().all(|fault| fault.path.starts_with("providers[1]")), "{faults:?}");
}
