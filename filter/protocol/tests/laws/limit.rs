//! Output limits: brought down in the client's own words, kept in every other protocol's, with thinking below them.

use attache_protocol::codec::{Codec, Line, Protocol, SameProtocol};
use attache_protocol::dialect::{Dialect, MaxTokens, ReasoningStyle};
use attache_protocol::request::{ReasoningAmount, Request};
use serde_json::Value;

use crate::recording::{self, line_of};
use crate::support::findings::Findings;

/// Below Anthropic's least thinking, just above it, in the middle of what clients ask for, above all of it.
const LIMITS: [u64; 5] = [1, 1025, 3000, 20_000, 10_000_000];

/// Members that the limit may change; all others are as they were.
const CHANGED: [&str; 8] = [
    "max_tokens",
    "max_completion_tokens",
    "thinking",
    "context_management",
    "reasoning",
    "generationConfig",
    "maxOutputTokens",
    "max_output_tokens",
];

const OLDER: Dialect = Dialect { max_tokens: MaxTokens::MaxTokens, ..Dialect::STANDARD };

pub fn same_protocol() {
    let mut findings = Findings::of("output limits are brought down");
    for recording in recording::requests() {
        findings.case(&recording.id, |findings| {
            let body = recording.request.as_deref().unwrap_or_default();
            let codec = recording.protocol.codec();
            let Ok(before) = codec.decode_request(&recording.line, body) else { return };
            for (limit, dialect) in
                LIMITS.into_iter().flat_map(|limit| [(limit, Dialect::STANDARD), (limit, OLDER)])
            {
                let who = format!("{} below {limit}", recording.id);
                let edits = SameProtocol { output_limit: Some(limit), ..SameProtocol::default() };
                let edited = codec.edit_request(body, &dialect, &edits);
                let respelled = codec.edit_request(body, &dialect, &SameProtocol::default()).is_some();
                findings.equal(&who, "edited", &edited.is_some(), &(respelled || before.exceeds(limit)));
                let after = edited.map_or_else(|| body.to_owned(), |bytes| String::from_utf8(bytes).unwrap());
                findings.equal(&who, "the rest", &rest(&after), &rest(body));
                findings.check(codec.edit_request(&after, &dialect, &edits).is_none(), &who, || {
                    format!("edited twice: {after}")
                });
                let after = codec.decode_request(&recording.line, &after).unwrap();
                let asked = before.sampling.max_output_tokens;
                let expected = asked.map_or(limit, |asked| asked.min(limit));
                findings.equal(&who, "limit", &after.sampling.max_output_tokens, &Some(expected));
                thinking(&who, &before, &after, limit, findings);
            }
        });
    }
    findings.done();
}

/// The body without the members that a limit changes.
fn rest(body: &str) -> Value {
    let mut value: Value = serde_json::from_str(body).unwrap();
    let members = value.as_object_mut().unwrap();
    let mut settings = members.get("generationConfig").or(members.get("generation_config")).cloned();
    members.retain(|name, _| !CHANGED.contains(&name.as_str()) && name != "generation_config");
    if let Some(Value::Object(settings)) = &mut settings {
        settings.retain(|name, _| !CHANGED.contains(&name.as_str()));
        for name in ["thinkingConfig", "thinking_config"] {
            if let Some(Value::Object(thinking)) = settings.get_mut(name) {
                thinking.retain(|name, _| !["thinkingBudget", "thinking_budget"].contains(&name.as_str()));
            }
        }
        members.extend(settings.clone());
    }
    value
}

/// Thinking lies below the limit and above its least; what lay there before is as it was. Google refuses none above it, so where
/// there is no room, or the client's own limit was low enough, it stays.
fn thinking(who: &str, before: &Request<'_>, after: &Request<'_>, limit: u64, findings: &mut Findings) {
    let (was, is) = (&before.reasoning.amount, &after.reasoning.amount);
    let lower = matches!(was, ReasoningAmount::Budget(tokens) if *tokens >= limit);
    let gemini = before.protocol == Protocol::Gemini;
    let stays =
        gemini && (limit <= 512 || before.sampling.max_output_tokens.is_some_and(|asked| asked <= limit));
    if !lower || stays {
        return findings.equal(who, "thinking", is, was);
    }
    let most = after.sampling.max_output_tokens.unwrap_or_default();
    let fits = match is {
        ReasoningAmount::Budget(tokens) if gemini => (512..most).contains(tokens),
        ReasoningAmount::Budget(tokens) => (1024..most).contains(tokens),
        ReasoningAmount::Unset => most <= 1024,
        _ => false,
    };
    findings.check(fits, who, || format!("thinking {was:?} → {is:?} below {most}"));
}

pub fn other_protocols() {
    let mut findings = Findings::of("output limits are kept in other protocols");
    for recording in recording::requests() {
        findings.case(&recording.id, |findings| {
            let own = recording.protocol.codec();
            let body = recording.request.as_deref().unwrap_or_default();
            let Ok(mut request) = own.decode_request(&recording.line, body) else { return };
            let asked = request.reasoning.amount.clone();
            for provider in Protocol::ALL.into_iter().filter(|provider| *provider != recording.protocol) {
                for amount in [asked.clone(), ReasoningAmount::Budget(9000)] {
                    request.reasoning.amount = amount;
                    for (limit, model) in
                        LIMITS.into_iter().flat_map(|limit| models(provider).map(move |model| (limit, model)))
                    {
                        let who = format!("{} → {} {model} below {limit}", recording.id, provider.name());
                        crosses(&who, provider.codec(), provider, &request, limit, model, findings);
                    }
                }
            }
        });
    }
    findings.done();
}

/// Models with budgets; of OpenAI's protocol it is the dialect that asks for them.
fn models(provider: Protocol) -> impl Iterator<Item = &'static str> {
    let models: &[&str] = match provider {
        Protocol::Anthropic => &["claude-haiku-4-5", "claude-opus-4-1"],
        Protocol::Gemini => &["gemini-2.5-flash", "gemini-2.5-pro"],
        Protocol::OpenAiChat => &["any"],
    };
    models.iter().copied()
}

fn crosses(
    who: &str,
    codec: &dyn Codec,
    provider: Protocol,
    request: &Request<'_>,
    limit: u64,
    model: &str,
    findings: &mut Findings,
) {
    let dialect = Dialect { reasoning: ReasoningStyle::Object, ..Dialect::STANDARD };
    let mut limited = request.clone();
    limited.limit_output(limit);
    findings
        .check(!limited.exceeds(limit) || budgeted(request) >= limit, who, || "it still exceeds".to_owned());
    if !codec.contract(&limited, &dialect, model).is_empty() {
        return;
    }
    let bytes = codec.encode_request(&limited, &dialect, model, &mut Vec::new());
    let body = String::from_utf8(bytes).unwrap();
    let line = match provider {
        Protocol::Gemini => line_of(provider, &codec.endpoint(model, request.stream)),
        Protocol::Anthropic | Protocol::OpenAiChat => Line::default(),
    };
    let again = codec.decode_request(&line, &body).unwrap();
    findings.equal(who, "limit", &again.sampling.max_output_tokens, &limited.sampling.max_output_tokens);
    let most = limited.sampling.max_output_tokens.unwrap_or_default();
    // Gemini 2.5 Pro cannot think less than this.
    let least = if model == "gemini-2.5-pro" { 128 } else { 0 };
    findings.check(budgeted(&again) < most || budgeted(&again) <= least, who, || {
        format!("thinks with {} below {most}", budgeted(&again))
    });
}

fn budgeted(request: &Request<'_>) -> u64 {
    match request.reasoning.amount {
        ReasoningAmount::Budget(tokens) => tokens,
        _ => 0,
    }
}
