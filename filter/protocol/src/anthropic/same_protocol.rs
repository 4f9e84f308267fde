//! The named edits of a request whose client and provider both speak this protocol; every other byte stays.
//!
//! Beside the model these are thinking of another protocol's provider, which answered an earlier turn: Anthropic refuses it
//! ("Invalid `signature` in `thinking` block"), and the conversation with it; and the output limit, with the thinking
//! that must lie below it.

use super::messages::unsigned_loop;
use super::reasoning::LEAST_BUDGET;
use super::wire::Turn;
use crate::codec::SameProtocol;
use crate::raw::{Edit, Item, RawObject, each};
use crate::request::{Signature, budget_below};
use crate::text::Raw;

pub fn edit(body: &str, edits: &SameProtocol<'_>) -> Option<Vec<u8>> {
    // `add_usage` has nothing to do: usage always comes.
    let SameProtocol { model, add_usage: _, others, output_limit } = *edits;
    if model.is_none() && !others && output_limit.is_none() {
        return None;
    }
    let object = RawObject::parse(body)?;
    let model = model.map(Raw::of);
    let messages = object.get("messages").filter(|_| others).and_then(|list| each(list, message));
    let asked = object.get("max_tokens").and_then(|json| json.parse::<u64>().ok());
    let most = output_limit.map(|limit| asked.map_or(limit, |asked| asked.min(limit)));
    let max_tokens = most.filter(|most| asked != Some(*most)).map(|most| most.to_string());
    let mut thinking = match (object.get("thinking"), output_limit.zip(most)) {
        (Some(thinking), Some((limit, most))) => within(thinking, limit, most),
        _ => Thinking::Stays,
    };
    if messages.as_deref().is_some_and(cannot_go_on) && object.get("thinking").is_some_and(is_budgeted) {
        thinking = Thinking::Ends;
    }
    let context = match thinking {
        Thinking::Ends => object.get("context_management").and_then(without_clearing),
        Thinking::Stays | Thinking::Is(_) => None,
    };
    let mut changes = Vec::with_capacity(5);
    changes.extend(model.as_ref().map(|model| Edit::Set("model", model.get())));
    changes.extend(max_tokens.as_deref().map(|most| Edit::Set("max_tokens", most)));
    changes.extend(messages.as_deref().map(|messages| Edit::Set("messages", messages)));
    match &thinking {
        Thinking::Stays => {}
        Thinking::Is(json) => changes.push(Edit::Set("thinking", json)),
        Thinking::Ends => changes.push(Edit::Remove("thinking")),
    }
    changes.extend(context.as_deref().map(|context| match context {
        "{}" => Edit::Remove("context_management"),
        context => Edit::Set("context_management", context),
    }));
    (!changes.is_empty()).then(|| object.edit(&changes).into_bytes())
}

/// What becomes of the member `thinking`.
enum Thinking {
    Stays,
    Is(String),
    Ends,
}

/// A budget lies below the output limit. With the beta of interleaved thinking it may be larger than `max_tokens`, as "the
/// total budget across all thinking blocks within one assistant turn" (platform.claude.com "Extended thinking"), but an
/// answer of `limit` tokens has room for less than that in any case.
fn within(thinking: &str, limit: u64, max_tokens: u64) -> Thinking {
    let Some(object) = RawObject::parse(thinking).filter(|_| is_budgeted(thinking)) else {
        return Thinking::Stays;
    };
    let budget = object.get("budget_tokens").and_then(|json| json.parse::<u64>().ok());
    match budget.filter(|budget| *budget >= limit) {
        None => Thinking::Stays,
        Some(budget) => match budget_below(max_tokens, budget, LEAST_BUDGET) {
            Some(less) => Thinking::Is(object.edit(&[Edit::Set("budget_tokens", &less.to_string())])),
            None => Thinking::Ends,
        },
    }
}

/// A model with a budget does not go on thinking in a tool loop that began without its own thinking.
fn cannot_go_on(messages: &str) -> bool {
    serde_json::from_str::<Vec<Turn<'_>>>(messages).is_ok_and(|turns| unsigned_loop(&turns))
}

fn is_budgeted(thinking: &str) -> bool {
    RawObject::parse(thinking).is_some_and(|thinking| thinking.get("type") == Some("\"enabled\""))
}

/// `context_management` for a model that does not think: "`clear_thinking_20251015` strategy requires `thinking` to be
/// enabled or adaptive" (the API's 400, anthropics/claude-code issue 11971). `None`: it may stay.
fn without_clearing(context: &str) -> Option<String> {
    let clears = |edit: &str| {
        let kind = RawObject::parse(edit).and_then(|edit| edit.get("type").map(str::to_owned));
        if kind.is_some_and(|kind| kind.starts_with("\"clear_thinking_")) { Item::Drop } else { Item::Keep }
    };
    let object = RawObject::parse(context)?;
    Some(match each(object.get("edits")?, clears)?.as_str() {
        "[]" => object.edit(&[Edit::Remove("edits")]),
        edits => object.edit(&[Edit::Set("edits", edits)]),
    })
}

/// A message without other providers' thinking; none at all if there was nothing else.
fn message(message: &str) -> Item {
    let Some(object) = RawObject::parse(message) else { return Item::Keep };
    let blocks = object.get("content").filter(|_| object.get("role") == Some("\"assistant\""));
    match blocks.and_then(|blocks| each(blocks, block)) {
        None => Item::Keep,
        Some(blocks) if blocks == "[]" => Item::Drop,
        Some(blocks) => Item::Put(object.edit(&[Edit::Set("content", &blocks)])),
    }
}

fn block(block: &str) -> Item {
    let sealed = RawObject::parse(block).and_then(|block| match block.get("type")? {
        "\"thinking\"" => block.get("signature"),
        "\"redacted_thinking\"" => block.get("data"),
        _ => None,
    });
    let sealed = sealed.and_then(|json| serde_json::from_str::<String>(json).ok());
    if sealed.is_some_and(|data| Signature::is_carried(&data)) { Item::Drop } else { Item::Keep }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Option<String> {
        let edits = SameProtocol { others: true, ..SameProtocol::default() };
        edit(body, &edits).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn limited(body: &str, limit: u64) -> Option<String> {
        let edits = SameProtocol { output_limit: Some(limit), ..SameProtocol::default() };
        edit(body, &edits).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn thinking_of_other_providers_is_taken_out() {
        let others = concat!(
            r#"{"model": "m", "messages": [{"role":"user","content":"x"}, {"role": "assistant", "content": ["#,
            r#"{"type":"thinking","thinking":"a","signature":"attache-unsigned:"}, {"type":"text","text":"b"},"#,
            r#"{"type":"thinking","thinking":"","signature":"attache-gemini:zz"},{"type":"thinking","thinking":"own","signature":"s"}]},"#,
            r#"{"role":"assistant","content":[{"type":"thinking","thinking":"c","signature":"attache-openai-chat:1"}]}]}"#,
        );
        let own = concat!(
            r#"{"model": "m", "messages": [{"role":"user","content":"x"},{"role": "assistant", "content": "#,
            r#"[{"type":"text","text":"b"},{"type":"thinking","thinking":"own","signature":"s"}]}]}"#,
        );
        assert_eq!(check(others).as_deref(), Some(own));
        assert_eq!(check(own), None);
        assert_eq!(check(r#"{"messages":[{"role":"user","content":"attache-gemini:"}]}"#), None);
    }

    #[test]
    fn a_tool_loop_without_own_thinking_goes_on_without_a_budget() {
        let body = concat!(
            r#"{"thinking":{"type":"enabled","budget_tokens":2000},"messages":[{"role":"assistant","content":["#,
            r#"{"type":"thinking","thinking":"a","signature":"attache-unsigned:"},{"type":"tool_use","id":"t","name":"f","input":{}}]},"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t"}]}]}"#,
        );
        let edited = check(body).unwrap();
        assert!(!edited.contains("\"thinking\"") && edited.contains("tool_use"), "{edited}");
        assert!(check(&body.replace("enabled", "adaptive")).unwrap().contains("adaptive"));
    }

    #[test]
    fn the_output_limit_is_brought_down() {
        let body = r#"{ "max_tokens" : 900, "system": "max_tokens" }"#;
        assert_eq!(limited(body, 900), None);
        assert_eq!(limited(body, 20).unwrap(), body.replace("900", "20"));
        assert_eq!(limited("{}", 20).unwrap(), r#"{"max_tokens":20}"#);
        // What a client may hide from a search for the name is found all the same.
        assert_eq!(limited(r#"{"max\u005ftokens":900}"#, 20).unwrap(), r#"{"max\u005ftokens":20}"#);
    }

    #[test]
    fn thinking_lies_below_the_output_limit() {
        let body = |max: u64, thinking: &str| format!(r#"{{"max_tokens":{max}, "thinking": {thinking}}}"#);
        let budget = |tokens: u64| format!(r#"{{"type":"enabled", "budget_tokens": {tokens},"x":1}}"#);
        let check = |max, tokens, limit| limited(&body(max, &budget(tokens)), limit);
        assert_eq!(check(9000, 4000, 5000).unwrap(), body(5000, &budget(4000)));
        assert_eq!(check(9000, 4000, 4000).unwrap(), body(4000, &budget(2976)));
        assert_eq!(check(9000, 4000, 1025).unwrap(), body(1025, &budget(1024)));
        assert_eq!(check(9000, 4000, 1024).unwrap(), r#"{"max_tokens":1024}"#);
        // Interleaved thinking, larger than its `max_tokens`.
        assert_eq!(check(3000, 9000, 9001), None);
        assert_eq!(check(3000, 9000, 8000).unwrap(), body(3000, &budget(1976)));
        for other in [r#"{"type":"adaptive"}"#, r#"{"type":"disabled"}"#, "null"] {
            assert_eq!(limited(&body(9000, other), 20).unwrap(), body(20, other));
        }
    }

    #[test]
    fn where_thinking_ends_none_is_cleared() {
        let with = |rest: &str| {
            format!(
                r#"{{"max_tokens":2000,"thinking":{{"type":"enabled","budget_tokens":1500}},"context_management":{{"edits":[{rest}]}}}}"#
            )
        };
        let clear = r#"{"type":"clear_thinking_20251015","keep":"all"}"#;
        let other = r#"{"type":"clear_tool_uses_20250919"}"#;
        assert_eq!(limited(&with(clear), 10).unwrap(), r#"{"max_tokens":10}"#);
        assert_eq!(
            limited(&with(&format!("{clear},{other}")), 10).unwrap(),
            format!(r#"{{"max_tokens":10,"context_management":{{"edits":[{other}]}}}}"#)
        );
        assert!(limited(&with(clear), 1800).unwrap().contains("clear_thinking"));
    }
}
