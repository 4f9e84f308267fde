//! What providers counted in recorded traffic, and what is expected here.

use std::collections::{BTreeMap, BTreeSet};

use attache_protocol::codec::{Line, Protocol};
use serde_json::Value;

use crate::tokens::*;

/// The published errors; `make bless` writes them anew.
const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tokens/errors.md");

/// How far off prompts were, in tenths of a percent of what was reported, and how many had more than the most that was said.
#[derive(Default)]
struct Errors {
    off: Vec<u64>,
    beyond: usize,
}

/// By a look, and counted where that can be done.
#[derive(Default)]
struct Model {
    look: Errors,
    count: Errors,
}

/// The published errors of each model are those of the recordings, and what is known for sure holds: a chat of text alone
/// has exactly the tokens that OpenAI counts.
#[test]
fn errors_over_the_recordings() {
    let folder = std::env::var("ATTACHE_RECORDINGS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/recordings").to_owned());
    let Ok(lines) = std::fs::read_to_string(format!("{folder}/recordings.jsonl")) else {
        eprintln!("skipped: no recordings in {folder} (set ATTACHE_RECORDINGS)");
        return;
    };
    let mut models: BTreeMap<(&str, String), Model> = BTreeMap::new();
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let (protocol, row) = match record["api"].as_str().unwrap() {
            "openai.chat" | "mistral.chat" => (Protocol::OpenAiChat, record["provider"].as_str().unwrap()),
            "anthropic.messages" | "anthropic.count_tokens" => (Protocol::Anthropic, "anthropic"),
            "gemini.generateContent" | "gemini.streamGenerateContent" => (Protocol::Gemini, "gemini"),
            _ => continue,
        };
        let Some(reported) = reported(&record) else { continue };
        let body = record["request"]["body"].to_string();
        let name = record["model"].as_str().unwrap_or_default().to_owned();
        let line = Line { model: Some(name.clone()), ..Line::default() };
        let Ok(request) = protocol.codec().decode_request(&line, &body) else { continue };
        // What a provider's own tools find, or a file elsewhere holds, nobody can count.
        if body.contains("search") || body.contains("https://") || request.owners_alone().next().is_some() {
            continue;
        }
        let family = Family::of(row, &name);
        let measure = measure(family, &request);
        if measure.open {
            continue;
        }
        let (bounds, exact) = (measure.bounds(None), count(family, &request));
        let model = models.entry((family.name, name)).or_default();
        model.look.add(bounds, reported);
        if let Some(exact) = exact {
            model.count.add(exact, reported);
        }
        assert!(bounds.low <= reported, "{}: {bounds:?}, {reported} reported", record["id"]);
        let plain = request.tools.is_empty() && request.output == Output::Text;
        let text = request.messages.iter().flat_map(|message| &message.parts);
        if let Some(exact) =
            exact.filter(|_| plain && text.clone().all(|part| matches!(part.kind, PartKind::Text(_))))
        {
            let id = &record["id"];
            assert!(exact.low == exact.high, "{id}: text alone leaves no doubt");
            assert!(exact.low.abs_diff(reported) <= 1, "{id}: {exact:?} counted, {reported} reported");
        }
        assert!(exact.is_none_or(|exact| bounds.low <= exact.likely && exact.likely <= bounds.high));
    }
    let table = published(&models);
    println!("{table}");
    if std::env::var("BLESS").is_ok_and(|bless| !bless.is_empty()) {
        std::fs::write(PUBLISHED, table).unwrap();
    } else {
        let told = std::fs::read_to_string(PUBLISHED).unwrap_or_default();
        assert!(
            told == table,
            "{PUBLISHED} tells other errors; `make bless` writes them anew: read the diff"
        );
    }
}

impl Errors {
    fn add(&mut self, said: Bounds, reported: u64) {
        self.off.push(said.likely.abs_diff(reported) * 1000 / reported);
        self.beyond += usize::from(reported > said.high);
    }

    /// Cells of the table: the middle error, the one that 95 of 100 stay within, and the share beyond the upper bound.
    fn cells(&self) -> String {
        let mut off = self.off.clone();
        off.sort_unstable();
        // The nearest rank; in the middle of an even number the mean of two.
        let most = off.get((off.len() * 95).div_ceil(100).saturating_sub(1));
        let middle = [(off.len().saturating_sub(1)) / 2, off.len() / 2].map(|at| off.get(at));
        let ([Some(one), Some(other)], Some(most)) = (middle, most) else { return " | | ".to_owned() };
        let percent = |tenths: u64| format!("{}.{} %", tenths / 10, tenths % 10);
        let beyond = percent((self.beyond * 1000 / off.len()) as u64);
        format!("{} | {} | {beyond}", percent((one + other) / 2), percent(*most))
    }

    fn join<'a>(all: impl Iterator<Item = &'a Errors>) -> Errors {
        all.fold(Errors::default(), |mut sum, one| {
            sum.off.extend(&one.off);
            sum.beyond += one.beyond;
            sum
        })
    }
}

fn published(models: &BTreeMap<(&str, String), Model>) -> String {
    let row = |(family, model): (&str, &str), look: &Errors, count: &Errors| {
        format!("| {family} | {model} | {} | {} | {} |\n", look.off.len(), look.cells(), count.cells())
    };
    let mut table = String::from(HEAD);
    for ((family, model), Model { look, count }) in models {
        table += &row((family, &format!("`{model}`")), look, count);
    }
    let families: BTreeSet<&str> = models.keys().map(|(family, _)| *family).collect();
    for family in families.into_iter().chain(["all"]) {
        let of = models.iter().filter(|((other, _), _)| family == "all" || *other == family);
        let of: Vec<&Model> = of.map(|(_, model)| model).collect();
        let look = Errors::join(of.iter().map(|model| &model.look));
        let count = Errors::join(of.iter().map(|model| &model.count));
        table += &row((&format!("**{family}**"), ""), &look, &count);
    }
    table
}

const HEAD: &str = "\
# How far off the tokens of prompts are

Of every model in the recordings: how far from what its provider reported a prompt was, by a look and (where the vocabulary is
published) counted, before anything was learned of the model. *Beyond* is the share of prompts that had more tokens than the
upper bound. What no one can count is left out: what a provider's own tools find, files elsewhere, and what else a prompt names and
does not hold (`filter/gateway/src/tokens/elsewhere.rs`).
Written by `make bless`; `filter/gateway/src/tokens/tests/recorded.rs` fails where it is not so.

The one count that was beyond is Azure's `gpt-35-turbo` of September 2023, of which one token more was reported: its first snapshot
(0301, retired) had four tokens a message where all later ones have three (OpenAI's cookbook, \"How to count tokens with tiktoken\").
The prompt of `openai/gpt-4o` is a page of PDF, of which OpenRouter takes the text, where OpenAI also takes a picture of it.

| family | model | prompts | look: median | p95 | beyond | count: median | p95 | beyond |
|---|---|---:|---:|---:|---:|---:|---:|---:|
";

/// Input tokens, cached ones among them.
fn reported(record: &Value) -> Option<u64> {
    let body = record["response"]["body"].as_str()?;
    let whole: Option<Value> = serde_json::from_str(body).ok();
    let events =
        body.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data:")?).ok());
    let mut best = None;
    for value in whole.into_iter().chain(events) {
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            for usage in [&value["usage"], &value["usageMetadata"], &value["message"]["usage"], &value] {
                let n = |name: &str| usage[name].as_u64();
                let found = n("prompt_tokens").or_else(|| n("promptTokenCount")).or_else(|| {
                    Some(
                        n("input_tokens")?
                            + n("cache_read_input_tokens").unwrap_or(0)
                            + n("cache_creation_input_tokens").unwrap_or(0),
                    )
                });
                best = best.max(found);
            }
        }
    }
    best.filter(|tokens| *tokens > 0)
}
