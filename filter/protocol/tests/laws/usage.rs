//! Usage is a bill: every token that a provider tells of is in it once, whatever the provider leaves out of which count.

use attache_protocol::codec::Protocol;
use attache_protocol::event::StreamEvent;
use attache_protocol::response::{ServiceTier, Usage};
use serde_json::Value;

use crate::recording::{self, Recording};
use crate::support::content::events_of;
use crate::support::findings::Findings;

pub fn is_a_bill() {
    let mut findings = Findings::of("usage is a bill");
    for recording in recording::answers().chain(recording::streams()) {
        findings.case(&recording.id, |findings| {
            let Some(usage) = usage(&recording) else { return };
            let told = frames(&recording.answer);
            let who = &recording.id;
            let part = |part: Option<u64>, of: Option<u64>| part.unwrap_or(0) <= of.unwrap_or(0);
            let cached = Some(usage.cache_read.unwrap_or(0) + usage.cache_write.unwrap_or(0));
            for (what, fits) in [
                ("cached tokens", part(cached, usage.input)),
                ("what is kept for an hour", part(usage.cache_write_hour, usage.cache_write)),
                ("sound in the input", part(usage.audio_input, usage.input)),
                ("reasoning", part(usage.reasoning, usage.output)),
                ("sound in the output", part(usage.audio_output, usage.output)),
            ] {
                findings.check(fits, who, || format!("{what} is more than what holds it: {usage:?}"));
            }
            match recording.protocol {
                Protocol::Anthropic => anthropic(who, &told, &usage, findings),
                Protocol::OpenAiChat => total(who, &told, "usage", "total_tokens", &usage, findings),
                Protocol::Gemini => total(who, &told, "usageMetadata", "totalTokenCount", &usage, findings),
            }
            findings.equal(who, "tier", &usage.tier, &tier(&told));
        });
    }
    findings.done();
}

fn usage(recording: &Recording) -> Option<Usage> {
    if !recording.streaming {
        return recording.protocol.codec().decode_response(&recording.answer).ok()?.usage;
    }
    let events = events_of(recording.protocol, [recording.answer.as_bytes()]);
    events.into_iter().find_map(|event| match event {
        StreamEvent::Usage(usage) => Some(usage),
        _ => None,
    })
}

/// The answer, or the data of its stream's events, or its array's elements.
fn frames(answer: &str) -> Vec<Value> {
    match serde_json::from_str(answer) {
        Ok(Value::Array(elements)) => elements,
        Ok(whole) => vec![whole],
        Err(_) => {
            let data = answer.lines().filter_map(|line| line.strip_prefix("data:"));
            data.filter_map(|data| serde_json::from_str(data).ok()).collect()
        }
    }
}

/// Input and output are all tokens. The provider's own sum, in the last event that has one, is the witness.
fn total(who: &str, told: &[Value], member: &str, sum: &str, usage: &Usage, findings: &mut Findings) {
    let Some(told) = told.iter().rev().map(|frame| &frame[member]).find(|told| told[sum].is_u64()) else {
        return;
    };
    let mut total = told[sum].as_u64().unwrap();
    // Vercel's gateway leaves reasoning out of both counts, and then there is more of it than of output.
    let reasoning = told["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap_or(0);
    if told["completion_tokens"].as_u64().is_some_and(|output| reasoning > output) {
        total =
            told["prompt_tokens"].as_u64().unwrap() + told["completion_tokens"].as_u64().unwrap() + reasoning;
    }
    let billed = usage.input.unwrap_or(0) + usage.output.unwrap_or(0);
    findings.equal(who, "total", &billed, &total);
}

/// Anthropic tells no sum: what is fresh, read and written make the input.
fn anthropic(who: &str, told: &[Value], usage: &Usage, findings: &mut Findings) {
    let usages = || told.iter().flat_map(|frame| [&frame["usage"], &frame["message"]["usage"]]);
    let last = |name: &str| usages().filter_map(|usage| usage[name].as_u64()).next_back();
    let names = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
    let input: u64 = names.iter().filter_map(|name| last(name)).sum();
    findings.equal(who, "input", &usage.input, &Some(input));
    findings.equal(who, "output", &usage.output, &last("output_tokens"));
    let hour = usages()
        .filter_map(|usage| usage["cache_creation"]["ephemeral_1h_input_tokens"].as_u64())
        .next_back();
    findings.equal(who, "for an hour", &usage.cache_write_hour, &hour);
}

/// What the provider says of the tier, wherever it stands.
fn tier(told: &[Value]) -> Option<ServiceTier> {
    let places = told.iter().flat_map(|frame| {
        let (usage, metadata) = (&frame["usage"], &frame["usageMetadata"]);
        [
            &frame["service_tier"],
            &usage["service_tier"],
            &frame["message"]["usage"]["service_tier"],
            &metadata["serviceTier"],
            &metadata["trafficType"],
        ]
    });
    let word = places.filter_map(Value::as_str).next_back()?;
    match word {
        "default" | "standard" | "on_demand" | "ON_DEMAND" => Some(ServiceTier::Standard),
        other => panic!("a tier that no recording had before: {other}"),
    }
}
