//! What providers counted in recorded traffic, and what is expected here.

use std::collections::BTreeMap;

use attache_protocol::codec::{Line, Protocol};
use serde_json::Value;

use crate::tokens::*;

/// A model's recordings: how far off, in tenths of a percent of what was reported.
#[derive(Default)]
struct Model {
    exact: Vec<i64>,
    likely: Vec<i64>,
    outside: usize,
}

/// Prints the error for each model (`--nocapture`), and holds what is known for sure: a chat of text alone has exactly the
/// tokens that OpenAI counts.
#[test]
fn errors_over_the_recordings() {
    let folder = std::env::var("ATTACHE_RECORDINGS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/recordings").to_owned());
    let Ok(lines) = std::fs::read_to_string(format!("{folder}/recordings.jsonl")) else {
        eprintln!("skipped: no recordings in {folder} (set ATTACHE_RECORDINGS)");
        return;
    };
    let mut beyond = 0;
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
        let (bounds, exact) = (estimate(family, &request, None), count(family, &request));
        let off = |tokens: u64| (tokens as i64 - reported as i64) * 1000 / reported as i64;
        let model = models.entry((family.name, name)).or_default();
        model.likely.push(off(bounds.likely));
        model.exact.extend(exact.map(|exact| off(exact.likely)));
        beyond += u64::from(exact.is_some_and(|exact| reported > exact.high));
        model.outside += usize::from(reported < bounds.low || reported > bounds.high);
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
    println!("{beyond} prompts had more tokens than the most that was counted");
    println!(
        "{:60} {:>9} {:>30} {:>30} outside",
        "family and model", "requests", "likely, median/worst, %", "exact, median/worst, %"
    );
    for ((family, model), Model { mut exact, mut likely, outside }) in models {
        let (of, likely, exact) = (likely.len(), told(&mut likely), told(&mut exact));
        println!("{:60} {of:9} {likely:>30} {exact:>30} {outside}", format!("{family} {model}"));
    }
}

fn told(errors: &mut [i64]) -> String {
    errors.sort_by_key(|error| error.abs());
    match (errors.get(errors.len() / 2), errors.last()) {
        (Some(median), Some(worst)) => {
            format!("{:+.1} / {:+.1}", *median as f64 / 10.0, *worst as f64 / 10.0)
        }
        _ => String::new(),
    }
}

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
