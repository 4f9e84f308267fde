//! The named edits of a request whose client and provider both speak this protocol; every other byte stays.
//!
//! Beside model, usage and the output limit these are a dialect's own spellings of what the client wrote in OpenAI's, for
//! a provider would refuse or overlook it. Their members are looked for only where the body has the word at all.

use super::reasoning::LEAST_BUDGET;
use crate::codec::SameProtocol;
use crate::dialect::{Dialect, MaxTokens};
use crate::raw::{Edit, Item, RawObject, each, may_say};
use crate::request::budget_below;
use crate::text::Text;

/// The spellings of the output limit, the newer one first.
const LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

pub fn edit(body: &str, dialect: &Dialect, edits: &SameProtocol<'_>) -> Option<Vec<u8>> {
    let SameProtocol { model, add_usage, others, output_limit } = *edits;
    let has = |word: &str| may_say(body, word);
    let add_usage = add_usage && !dialect.no_stream_options;
    let renamed = dialect.max_tokens == MaxTokens::MaxTokens && has("\"max_completion_tokens\"");
    let seed = dialect.random_seed && has("\"seed\"");
    let messages = others
        || (dialect.no_developer_role && has("\"developer\""))
        || (dialect.nine_character_ids && has("\"tool_call_id\""));
    if model.is_none() && output_limit.is_none() && !(add_usage || renamed || seed || messages) {
        return None;
    }
    let object = RawObject::parse(body)?;
    let model = model.and_then(|model| serde_json::to_string(model).ok());
    let options = if add_usage { with_usage(object.get("stream_options")) } else { None };
    let messages = if messages {
        object.get("messages").and_then(|list| each(list, |one| message(one, dialect, others)))
    } else {
        None
    };
    let limits = match (output_limit, renamed) {
        (None, false) => Vec::new(),
        (limit, _) => limits(&object, dialect, limit),
    };
    let thinking = output_limit.and_then(|limit| below(&object, limit));
    let mut changes = Vec::with_capacity(4);
    changes.extend(model.as_deref().map(|model| Edit::Set("model", model)));
    changes.extend(options.as_deref().map(|options| Edit::Set("stream_options", options)));
    changes.extend(messages.as_deref().map(|messages| Edit::Set("messages", messages)));
    changes.extend(limits.iter().map(|(name, limit)| match limit {
        Some(limit) => Edit::Set(name, limit),
        None => Edit::Remove(name),
    }));
    changes.extend(thinking.as_deref().map(|thinking| match thinking {
        "{}" => Edit::Remove("reasoning"),
        thinking => Edit::Set("reasoning", thinking),
    }));
    if let Some(value) = object.get("seed").filter(|_| seed) {
        changes.push(Edit::Remove("seed"));
        changes.extend((value != "null").then_some(Edit::Set("random_seed", value)));
    }
    (!changes.is_empty()).then(|| object.edit(&changes).into_bytes())
}

/// The output limits as they are to be: in the spellings that the client used, in the dialect's where it used none or one
/// that is not known there. `None`: the member goes. What stays as it is, is not named.
fn limits(
    object: &RawObject<'_>,
    dialect: &Dialect,
    limit: Option<u64>,
) -> Vec<(&'static str, Option<String>)> {
    let said = |name: &str| object.get(name).filter(|json| *json != "null");
    let within = |json: &str| match (limit, json.parse::<u64>()) {
        (None, _) => json.to_owned(),
        // 0 is no limit to who takes it at all (`request_decode.rs`).
        (Some(limit), Ok(asked)) if asked > 0 && asked <= limit => json.to_owned(),
        (Some(limit), _) => limit.to_string(),
    };
    let [newer, older] = LIMITS;
    let mut found = Vec::with_capacity(2);
    if dialect.max_tokens == MaxTokens::MaxTokens {
        found.extend(object.get(newer).map(|_| (newer, None)));
        let asked = said(newer).or(said(older)).map(within);
        found.extend(asked.or(limit.map(|limit| limit.to_string())).map(|limit| (older, Some(limit))));
    } else {
        found.extend(LIMITS.iter().filter_map(|name| Some((*name, Some(within(said(name)?))))));
        if found.is_empty() {
            found.extend(limit.map(|limit| (newer, Some(limit.to_string()))));
        }
    }
    found.retain(|(name, limit)| limit.is_none() || object.get(name) != limit.as_deref());
    found
}

/// OpenRouter's `reasoning` with a budget below the output limit, or with none where nothing lies below.
fn below(object: &RawObject<'_>, limit: u64) -> Option<String> {
    let count = |object: &RawObject<'_>, name: &str| object.get(name)?.parse::<u64>().ok();
    let reasoning = RawObject::parse(object.get("reasoning")?)?;
    let budget = count(&reasoning, "max_tokens").filter(|budget| *budget >= limit)?;
    let most = LIMITS.iter().filter_map(|name| count(object, name)).fold(limit, u64::min);
    Some(match budget_below(most, budget, LEAST_BUDGET) {
        Some(less) => reasoning.edit(&[Edit::Set("max_tokens", &less.to_string())]),
        None => reasoning.edit(&[Edit::Remove("max_tokens")]),
    })
}

/// `stream_options` that asks for usage, with what else the client wrote there; `None`: it does already.
fn with_usage(options: Option<&str>) -> Option<String> {
    match options.and_then(RawObject::parse) {
        Some(options) if options.get("include_usage") == Some("true") => None,
        Some(options) => Some(options.edit(&[Edit::Set("include_usage", "true")])),
        None => Some("{\"include_usage\":true}".to_owned()),
    }
}

fn message(message: &str, dialect: &Dialect, others: bool) -> Item {
    let Some(object) = RawObject::parse(message) else { return Item::Keep };
    // What `reasoning.rs` wrote for another provider's thinking; OpenAI has no such members.
    let carried = |member: Option<&str>| others && member.is_some_and(|json| json.contains("\"attache-"));
    let thought = carried(object.get("reasoning_details"));
    let developer = dialect.no_developer_role && object.get("role") == Some("\"developer\"");
    let answered = object.get("tool_call_id").and_then(|id| other_id(id, dialect));
    let calls = object.get("tool_calls").and_then(|calls| {
        each(calls, |call| {
            let Some(call) = RawObject::parse(call) else { return Item::Keep };
            let id = call.get("id").and_then(|id| other_id(id, dialect));
            let mut changes = Vec::new();
            changes.extend(id.as_deref().map(|id| Edit::Set("id", id)));
            changes.extend(carried(call.get("extra_content")).then_some(Edit::Remove("extra_content")));
            if changes.is_empty() { Item::Keep } else { Item::Put(call.edit(&changes)) }
        })
    });
    let mut changes = Vec::new();
    changes.extend(developer.then_some(Edit::Set("role", "\"system\"")));
    changes.extend(answered.as_deref().map(|id| Edit::Set("tool_call_id", id)));
    changes.extend(calls.as_deref().map(|calls| Edit::Set("tool_calls", calls)));
    if thought {
        changes.extend([Edit::Remove("reasoning_details"), Edit::Remove("reasoning_content")]);
    }
    if changes.is_empty() { Item::Keep } else { Item::Put(object.edit(&changes)) }
}

/// The JSON string of an id where the provider needs another than this one.
fn other_id(json: &str, dialect: &Dialect) -> Option<String> {
    let id = serde_json::from_str::<String>(json).ok()?;
    let other = call_id(&id, dialect);
    (*other != *id).then(|| format!("\"{other}\""))
}

/// A tool call's id as the provider takes it: the same for the same id, in every turn.
pub fn call_id<'i>(id: &'i str, dialect: &Dialect) -> Text<'i> {
    let fits = id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !dialect.nine_character_ids || fits { Text::from(id) } else { Text::from(nine(id)) }
}

/// Nine letters and digits from any id (FNV-1a, 64 bits: the ids of one conversation are few).
fn nine(id: &str) -> String {
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut text = String::with_capacity(9);
    for _ in 0..9 {
        text.push(char::from_digit((hash % 36) as u32, 36).unwrap_or('0'));
        hash /= 36;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(body: &str, dialect: Dialect) -> Option<String> {
        edit(body, &dialect, &SameProtocol::default()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn limited(body: &str, dialect: Dialect, limit: u64) -> Option<String> {
        let edits = SameProtocol { output_limit: Some(limit), ..SameProtocol::default() };
        edit(body, &dialect, &edits).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_output_limit_keeps_the_clients_spelling() {
        let older = Dialect { max_tokens: MaxTokens::MaxTokens, ..Dialect::STANDARD };
        let cases = [
            (r#"{"a": 1}"#, r#"{"max_completion_tokens":9,"a": 1}"#, r#"{"max_tokens":9,"a": 1}"#),
            (r#"{ "max_tokens" : 10 }"#, r#"{ "max_tokens" : 9 }"#, r#"{ "max_tokens" : 9 }"#),
            (
                r#"{ "max_completion_tokens": 10 }"#,
                r#"{ "max_completion_tokens": 9 }"#,
                r#"{"max_tokens":9 }"#,
            ),
            (
                r#"{"max_tokens":8, "max_completion_tokens":99}"#,
                r#"{"max_tokens":8, "max_completion_tokens":9}"#,
                r#"{"max_tokens":9}"#,
            ),
            (
                r#"{"max_tokens":null,"max_completion_tokens":null}"#,
                r#"{"max_tokens":null,"max_completion_tokens":9}"#,
                r#"{"max_tokens":9}"#,
            ),
            // 0 is no limit to some.
            (r#"{"max_tokens":0}"#, r#"{"max_tokens":9}"#, r#"{"max_tokens":9}"#),
            (r#"{"max\u005ftokens":10}"#, r#"{"max\u005ftokens":9}"#, r#"{"max\u005ftokens":9}"#),
        ];
        for (body, standard, other) in cases {
            assert_eq!(limited(body, Dialect::STANDARD, 9).as_deref(), Some(standard), "{body}");
            assert_eq!(limited(body, older, 9).as_deref(), Some(other), "{body}");
        }
        assert_eq!(limited(r#"{"max_tokens":9}"#, older, 9), None);
        assert_eq!(limited(r#"{"max_tokens":9,"max_completion_tokens":1}"#, Dialect::STANDARD, 9), None);
    }

    #[test]
    fn a_budget_of_reasoning_lies_below_the_output_limit() {
        let body =
            |limit: u64, reasoning: &str| format!(r#"{{"max_tokens":{limit},"reasoning":{reasoning}}}"#);
        let check =
            |reasoning: &str, limit| limited(&body(8000, reasoning), Dialect::STANDARD, limit).unwrap();
        assert_eq!(check(r#"{"max_tokens": 4000}"#, 4001), body(4001, r#"{"max_tokens": 4000}"#));
        assert_eq!(check(r#"{"max_tokens": 4000}"#, 4000), body(4000, r#"{"max_tokens": 2976}"#));
        assert_eq!(check(r#"{"max_tokens": 4000}"#, 1000), r#"{"max_tokens":1000}"#);
        assert_eq!(check(r#"{"max_tokens": 4000,"exclude":true}"#, 1000), body(1000, r#"{"exclude":true}"#));
        assert_eq!(check(r#"{"effort":"high"}"#, 1000), body(1000, r#"{"effort":"high"}"#));
    }

    #[test]
    fn a_dialects_spelling() {
        let dialect = Dialect {
            max_tokens: MaxTokens::MaxTokens,
            no_developer_role: true,
            random_seed: true,
            nine_character_ids: true,
            ..Dialect::STANDARD
        };
        let body = r#"{"max_completion_tokens": 5, "messages": [{"role": "developer", "content": "\"developer\""}], "seed":1}"#;
        let expected = r#"{"random_seed":1,"max_tokens":5, "messages": [{"role": "system", "content": "\"developer\""}]}"#;
        let found: serde_json::Value = serde_json::from_str(&edited(body, dialect).unwrap()).unwrap();
        assert_eq!(found, serde_json::from_str::<serde_json::Value>(expected).unwrap());
        assert_eq!(edited(body, Dialect::STANDARD), None);
        assert_eq!(edited(r#"{"messages":[{"content":"\"tool_call_id\" and \"seed\""}]}"#, dialect), None);
    }

    #[test]
    fn thinking_of_other_providers_is_taken_out() {
        let body = r#"{"messages": [{"role":"assistant", "reasoning_content":"a","reasoning_details":[{"type":"reasoning.text","signature":"attache-anthropic:s"}],"tool_calls":[{"id":"c","extra_content":{"google":{"thought_signature":"attache-anthropic:s"}}}]}, {"role":"assistant","reasoning_content":"own"}]}"#;
        let expected = r#"{"messages": [{"role":"assistant","tool_calls":[{"id":"c"}]},{"role":"assistant","reasoning_content":"own"}]}"#;
        let edits = SameProtocol { others: true, ..SameProtocol::default() };
        let found = edit(body, &Dialect::STANDARD, &edits).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), expected);
        assert_eq!(edit(expected, &Dialect::STANDARD, &edits), None);
    }

    /// An escape must not hide a limit from the one who keeps it: the budget holds what was read.
    #[test]
    fn escaped_names_are_respelled_too() {
        let dialect =
            Dialect { max_tokens: MaxTokens::MaxTokens, no_developer_role: true, ..Dialect::STANDARD };
        let body =
            r#"{"max_compl\u0065tion_tokens":10,"messages":[{"role":"d\u0065veloper","content":"x"}]}"#;
        let expected = r#"{"max_tokens":10,"messages":[{"role":"d\u0065veloper","content":"x"}]}"#;
        assert_eq!(edited(body, dialect).unwrap(), expected);
    }

    #[test]
    fn calls_and_answers_keep_one_id() {
        let dialect = Dialect { nine_character_ids: true, ..Dialect::STANDARD };
        let body = r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"call_abc","x":1},{"id":"abcDEF123"}]},{"role":"tool","tool_call_id":"call_abc"}]}"#;
        let id = nine("call_abc");
        assert_eq!(id.len(), 9);
        assert_eq!(edited(body, dialect).unwrap(), body.replace("call_abc", &id));
        assert_ne!(nine("call_abd"), id);
    }
}
