//! The named edits of a request whose client and provider both speak this protocol; every other byte stays.

use crate::codec::{Protocol, SameProtocol};
use crate::gemini::signature::uncarried;
use crate::gemini::wire::Number;
use crate::raw::{Edit, Item, RawObject, each};
use crate::request::budget_below;
use crate::text::Text;

/// The settings and the output limit in them, in the spellings that Google takes; the first of each is written where
/// the client wrote none.
const SETTINGS: [&str; 2] = ["generationConfig", "generation_config"];
const LIMIT: [&str; 2] = ["maxOutputTokens", "max_output_tokens"];
const THINKING: [&str; 2] = ["thinkingConfig", "thinking_config"];
const BUDGET: [&str; 2] = ["thinkingBudget", "thinking_budget"];
/// The least budget beside 0 that every model takes: the highest of `models.rs`.
const LEAST_BUDGET: u64 = 512;

/// The model stands in the path; only where the body repeats it, it is edited there too. Signatures of another
/// protocol's provider, which answered an earlier turn, would be corrupted ones to Gemini.
pub fn edit(body: &str, edits: &SameProtocol<'_>) -> Option<Vec<u8>> {
    let SameProtocol { model, add_usage: _, others, output_limit } = *edits;
    if model.is_none() && !others && output_limit.is_none() {
        return None;
    }
    let object = RawObject::parse(body)?;
    let model = model.zip(object.get("model")).and_then(|(model, old)| {
        let prefix = if old.starts_with("\"models/") && !model.contains('/') { "models/" } else { "" };
        let new = serde_json::to_string(&format!("{prefix}{model}")).ok()?;
        (old != new).then_some(new)
    });
    let contents = object.get("contents").filter(|_| others).and_then(|list| each(list, content));
    let settings = output_limit.and_then(|limit| limited(&object, limit));
    let mut changes = Vec::with_capacity(3);
    changes.extend(model.as_deref().map(|model| Edit::Set("model", model)));
    changes.extend(contents.as_deref().map(|contents| Edit::Set("contents", contents)));
    changes.extend(settings.as_ref().map(|(name, settings)| Edit::Set(name, settings)));
    (!changes.is_empty()).then(|| object.edit(&changes).into_bytes())
}

/// The settings with the output limit brought down; `None`: it is low enough.
fn limited(object: &RawObject<'_>, limit: u64) -> Option<(&'static str, String)> {
    let name = spelling(SETTINGS, object);
    let Some(settings) = object.get(name).and_then(RawObject::parse) else {
        let [member, _] = LIMIT;
        return Some((name, format!("{{\"{member}\":{limit}}}")));
    };
    let member = spelling(LIMIT, &settings);
    let asked = settings.get(member).and_then(|json| serde_json::from_str::<Option<Number>>(json).ok()?);
    if asked.and_then(Number::count).is_some_and(|asked| asked > 0 && asked <= limit) {
        return None;
    }
    let (limit, thinking) = (limit.to_string(), below(&settings, limit));
    let mut changes = vec![Edit::Set(member, &limit)];
    changes.extend(thinking.as_ref().map(|(name, config)| Edit::Set(name, config)));
    Some((name, settings.edit(&changes)))
}

/// A thinking budget below the output limit. Google refuses none above it, but counts thoughts on the limit, and an answer
/// of nothing else would be for nothing. Where there is no room for what every model takes it stays.
fn below(settings: &RawObject<'_>, limit: u64) -> Option<(&'static str, String)> {
    let name = spelling(THINKING, settings);
    let config = RawObject::parse(settings.get(name)?)?;
    let member = spelling(BUDGET, &config);
    let budget = serde_json::from_str::<Number>(config.get(member)?).ok().and_then(Number::count);
    let less = budget_below(limit, budget.filter(|budget| *budget >= limit)?, LEAST_BUDGET)?;
    Some((name, config.edit(&[Edit::Set(member, &less.to_string())])))
}

/// The spelling with a value, or else one that is there.
fn spelling(names: [&'static str; 2], object: &RawObject<'_>) -> &'static str {
    let [first, second] = names;
    let said = |name: &str| object.get(name).is_some_and(|json| json != "null");
    match (said(first), said(second), object.get(first), object.get(second)) {
        (false, true, ..) | (false, false, None, Some(_)) => second,
        _ => first,
    }
}

/// A content without other providers' signatures; none at all if there was nothing else.
fn content(content: &str) -> Item {
    let Some(object) = RawObject::parse(content) else { return Item::Keep };
    match object.get("parts").and_then(|parts| each(parts, part)) {
        None => Item::Keep,
        Some(parts) if parts == "[]" => Item::Drop,
        Some(parts) => Item::Put(object.edit(&[Edit::Set("parts", &parts)])),
    }
}

fn part(part: &str) -> Item {
    let Some(object) = RawObject::parse(part) else { return Item::Keep };
    let found = ["thoughtSignature", "thought_signature"].into_iter().find_map(|name| {
        let data = serde_json::from_str::<Text<'_>>(object.get(name)?).ok()?;
        (uncarried(data).0.owner != Protocol::Gemini).then_some(name)
    });
    match found {
        None => Item::Keep,
        // Hidden thinking has nothing but its signature.
        Some(_) if object.get("text") == Some("\"\"") => Item::Drop,
        Some(name) => Item::Put(object.edit(&[Edit::Remove(name)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemini::signature::carried;
    use crate::request::Signature;

    #[test]
    fn signatures_of_other_providers_are_taken_out() {
        let other = Signature { owner: Protocol::Anthropic, data: "s".into() };
        let other = carried(&other, false);
        let body = format!(
            r#"{{"contents": [{{"role":"model","parts":[{{"text":"a","thought":true,"thoughtSignature":"{other}"}}, {{"text":"b","thoughtSignature":"own="}},{{"text":"","thoughtSignature":"{other}"}}]}}]}}"#
        );
        let edits = SameProtocol { others: true, ..SameProtocol::default() };
        let edited = edit(&body, &edits).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap();
        assert_eq!(
            edited,
            r#"{"contents": [{"role":"model","parts":[{"text":"a","thought":true},{"text":"b","thoughtSignature":"own="}]}]}"#
        );
        assert_eq!(edit(&edited, &edits), None);
    }

    #[test]
    fn the_output_limit_keeps_the_clients_spelling() {
        let edits = SameProtocol { output_limit: Some(9), ..SameProtocol::default() };
        let limited = |body: &str| edit(body, &edits).map(|bytes| String::from_utf8(bytes).unwrap());
        for (body, expected) in [
            (r#"{"contents": []}"#, r#"{"generationConfig":{"maxOutputTokens":9},"contents": []}"#),
            (r#"{"generation_config": null}"#, r#"{"generation_config": {"maxOutputTokens":9}}"#),
            (r#"{"generation_config":{}}"#, r#"{"generation_config":{"maxOutputTokens":9}}"#),
            (r#"{"generationConfig":{ "x":1 }}"#, r#"{"generationConfig":{"maxOutputTokens":9, "x":1 }}"#),
            (
                r#"{"generationConfig":{"maxOutputTokens" : 10}}"#,
                r#"{"generationConfig":{"maxOutputTokens" : 9}}"#,
            ),
            (
                r#"{"generationConfig":{"maxOutputTokens":0}}"#,
                r#"{"generationConfig":{"maxOutputTokens":9}}"#,
            ),
            (
                r#"{"generationConfig":{"max_output_tokens":"10","maxOutputTokens":null}}"#,
                r#"{"generationConfig":{"max_output_tokens":9,"maxOutputTokens":null}}"#,
            ),
            (
                r#"{"generation_config":{"max_output_tokens":10.0,"thinkingConfig":{"thinkingBudget":500}}}"#,
                r#"{"generation_config":{"max_output_tokens":9,"thinkingConfig":{"thinkingBudget":500}}}"#,
            ),
        ] {
            assert_eq!(limited(body).as_deref(), Some(expected), "{body}");
        }
        for low in ["9", "\"9\"", "9.0"] {
            assert_eq!(limited(&format!(r#"{{"generation_config":{{"maxOutputTokens":{low}}}}}"#)), None);
        }
    }
    #[test]
    fn a_thinking_budget_lies_below_the_output_limit() {
        let limited = |limit, body: &str| {
            let edits = SameProtocol { output_limit: Some(limit), ..SameProtocol::default() };
            edit(body, &edits).map(|bytes| String::from_utf8(bytes).unwrap())
        };
        let asked = |limit: &str, budget: &str| {
            format!(
                r#"{{"generationConfig":{{{limit}"thinkingConfig":{{"includeThoughts":true,"thinkingBudget":{budget}}}}}}}"#
            )
        };
        for (limit, budget, expected) in [
            (4000, "8000", "2976"),
            (4000, "4000", "2976"),
            (4000, "\"8000\"", "2976"),
            (4000, "3999", "3999"),
            (800, "8000", "512"),
            (512, "8000", "8000"),
            (4000, "-1", "-1"),
            (4000, "0", "0"),
        ] {
            let expected = asked(&format!(r#""maxOutputTokens":{limit},"#), expected);
            assert_eq!(limited(limit, &asked("", budget)).as_ref(), Some(&expected), "{limit} {budget}");
        }
        assert_eq!(limited(9, &asked(r#""maxOutputTokens":9,"#, "8000")), None, "the client's own limit");
        assert_eq!(
            limited(4000, r#"{"generation_config":{"thinking_config":{"thinking_budget":5000}}}"#).as_deref(),
            Some(
                r#"{"generation_config":{"maxOutputTokens":4000,"thinking_config":{"thinking_budget":2976}}}"#
            )
        );
    }
}
