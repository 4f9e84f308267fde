//! Requests in clients' own words, and what they count.

use attache_protocol::codec::{Line, Protocol};
use serde_json::{Value, json};

use crate::tokens::*;

fn counted(model: &str, body: &Value) -> (Bounds, Option<Bounds>) {
    let body = body.to_string();
    let request = Protocol::OpenAiChat.codec().decode_request(&Line::default(), &body).unwrap();
    let family = Family::of("openai", model);
    (estimate(family, &request, None), count(family, &request))
}

/// OpenAI's cookbook, "How to count tokens with tiktoken": its example has 124 tokens for GPT-4o, 129 for GPT-4.
#[test]
fn the_cookbooks_example() {
    let system =
        "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.";
    let said = |name: &str, content: &str| json!({ "role": "system", "name": name, "content": content });
    let body = json!({ "model": "m", "messages": [
        { "role": "system", "content": system },
        said("example_user", "New synergies will help drive top-line growth."),
        said("example_assistant", "Things working well together will increase revenue."),
        said("example_user", "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."),
        said("example_assistant", "Let's talk later when we're less busy about how to do better."),
        { "role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable." },
    ]});
    assert_eq!(counted("gpt-4o", &body).1, Some(Bounds::exactly(124)));
    assert_eq!(counted("gpt-4", &body).1, Some(Bounds::exactly(129)));
    assert_eq!(counted("claude-sonnet-4-5", &body).1, None);
}

/// A window full of ordinary text is counted; what no window holds keeps no worker busy.
#[test]
fn what_no_window_holds_is_not_counted() {
    let countable = |text: String| {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] }).to_string();
        let request = Protocol::OpenAiChat.codec().decode_request(&Line::default(), &body).unwrap();
        measure(Family::of("openai", "gpt-4o"), &request).is_countable()
    };
    assert!(countable("every word ".repeat(1_047_576 / 2)));
    assert!(!countable(" ".repeat(10 << 20)));
}

#[test]
fn bounds_hold_what_is_exact() {
    let tool = json!({ "type": "function", "function": { "name": "weather", "description": "Tells the weather",
        "parameters": { "type": "object", "properties": { "where": { "type": "string" }, "n": { "type": "integer" } } } } });
    let image = json!({ "type": "image_url", "image_url": { "url": "https://x/y.png" } });
    let call = json!({ "id": "c", "type": "function", "function": { "name": "weather", "arguments": "{\"where\":\"Berlin\"}" } });
    let messages = json!([
        { "role": "developer", "content": "Be brief." },
        { "role": "user", "content": [{ "type": "text", "text": "What is this? ".repeat(40) }, image] },
        { "role": "assistant", "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c", "content": "21 °C" },
    ]);
    let schema =
        json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": { "type": "object" } } });
    let body = json!({ "model": "m", "messages": messages, "tools": [tool], "response_format": schema });
    for model in ["gpt-4o", "gpt-4", "gpt-5", "gpt-5.4", "gpt-oss-20b", "o3"] {
        let (bounds, exact) = counted(model, &body);
        let counted = exact.unwrap();
        assert!(bounds.low <= counted.low && counted.low < counted.high && counted.high <= bounds.high);
        let exact = counted.likely;
        assert!(bounds.low <= exact && exact <= bounds.high, "{model} {bounds:?} {exact}");
        assert!(bounds.likely.abs_diff(exact) * 5 < exact, "{model} {bounds:?} {exact}");
    }
}

#[test]
fn what_was_learned_moves_only_what_is_not_known() {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Some words of a prompt. ".repeat(100) }] });
    let body = body.to_string();
    let request = Protocol::OpenAiChat.codec().decode_request(&Line::default(), &body).unwrap();
    for (model, hard) in [("gpt-4o", true), ("qwen3", false)] {
        let measure = measure(Family::of("openai", model), &request);
        let reported = measure.rest.likely + measure.text.likely * 14 / 10;
        let mut ratio = Ratio::default();
        (0..20).for_each(|_| measure.learn(&mut ratio, reported));
        let (before, after) = (measure.bounds(None), measure.bounds(Some(&ratio)));
        assert!(after.likely.abs_diff(reported) * 30 < reported, "{after:?} {reported}");
        assert_eq!((after.low, after.high) == (before.low, before.high), hard);
        assert!(after.low <= reported && reported <= after.high);
    }
}

#[test]
fn what_is_elsewhere_has_no_known_end() {
    let open = |protocol: Protocol, members: &str| {
        let body = match protocol {
            Protocol::Gemini => r#"{"contents":[{"parts":[{"text":"x"}]}]"#,
            Protocol::Anthropic => {
                r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]"#
            }
            Protocol::OpenAiChat => r#"{"model":"m","messages":[{"role":"user","content":"x"}]"#,
        };
        // A later member of the same name takes the place of the one before.
        let (head, members) = members.split_once("instead:").unwrap_or((body, members));
        let body = format!("{head}{members}}}");
        let line = Line { model: Some("m".to_owned()), ..Line::default() };
        let request = protocol.codec().decode_request(&line, &body).unwrap();
        measure(Family::of("", "m"), &request).open
    };
    let anthropic = |content: &str| {
        format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":[{content}]}}]instead:"#
        )
    };
    let tools = |tools: &str| format!(r#","tools":[{tools}]"#);
    for (protocol, members, expected) in [
        (Protocol::Gemini, String::new(), false),
        (Protocol::Gemini, r#","cachedContent":null"#.to_owned(), false),
        (Protocol::Gemini, r#","cachedContent":"cachedContents/c""#.to_owned(), true),
        (Protocol::Gemini, r#","cached_content":"cachedContents/c""#.to_owned(), true),
        (Protocol::Gemini, tools(r#"{"functionDeclarations":[{"name":"f"}]}"#), false),
        (Protocol::Gemini, tools(r#"{"googleSearch":{}}"#), false),
        (Protocol::Gemini, tools(r#"{"urlContext":{}}"#), true),
        (Protocol::Gemini, r#"{"contents":[{"parts":[{"fileData":{"mimeType":"video/mp4","fileUri":"u"}}]}]instead:"#.to_owned(), true),
        (Protocol::Anthropic, String::new(), false),
        (Protocol::Anthropic, r#","mcp_servers":[]"#.to_owned(), false),
        (Protocol::Anthropic, r#","mcp_servers":[{"type":"url","url":"u","name":"n"}]"#.to_owned(), true),
        (Protocol::Anthropic, r#","container":"c""#.to_owned(), true),
        (Protocol::Anthropic, tools(r#"{"type":"bash_20250124","name":"bash"}"#), false),
        (Protocol::Anthropic, tools(r#"{"type":"web_search_20250305","name":"web_search"}"#), true),
        (Protocol::Anthropic, tools(r#"{"type":"of_the_future","name":"x"}"#), true),
        (Protocol::Anthropic, anthropic(r#"{"type":"container_upload","file_id":"f"}"#), true),
        (Protocol::Anthropic, anthropic(r#"{"type":"document","source":{"type":"file","file_id":"f"}}"#), true),
        (Protocol::Anthropic, anthropic(r#"{"type":"document","source":{"type":"url","url":"u"}}"#), true),
        (Protocol::Anthropic, anthropic(r#"{"type":"image","source":{"type":"file","file_id":"f"}}"#), false),
        (Protocol::Anthropic, anthropic(r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"d"}}"#), false),
        (Protocol::OpenAiChat, String::new(), false),
        (Protocol::OpenAiChat, r#","previous_response_id":"r""#.to_owned(), true),
        (Protocol::OpenAiChat, r#","web_search_options":{"search_context_size":"low"}"#.to_owned(), true),
        (Protocol::OpenAiChat, r#","plugins":[{"id":"file-parser"},{"id":"web"}]"#.to_owned(), true),
        (Protocol::OpenAiChat, r#","plugins":[{"id":"file-parser","pdf":{}}]"#.to_owned(), false),
        (Protocol::OpenAiChat, r#","plugins":{}"#.to_owned(), true),
        (Protocol::OpenAiChat, r#"{"model":"m","messages":[{"role":"assistant","audio":{"id":"a"}}]instead:"#.to_owned(), true),
        (Protocol::OpenAiChat, r#"{"model":"m","messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]instead:"#.to_owned(), true),
        (Protocol::OpenAiChat, tools(r#"{"type":"custom","custom":{"name":"c"}}"#), false),
    ] {
        assert_eq!(open(protocol, &members), expected, "{protocol:?} {members}");
    }
}

/// What stands beside a document, and what tells of a schema, is read by the model as well: nobody may hide a prompt there.
#[test]
fn what_describes_is_in_the_bounds() {
    let long = "word ".repeat(10_000);
    let high = |protocol: Protocol, provider, model, body: &Value| {
        let body = body.to_string();
        let request = protocol.codec().decode_request(&Line::default(), &body).unwrap();
        estimate(Family::of(provider, model), &request, None).high
    };
    for member in ["title", "context"] {
        let source = json!({ "type": "text", "media_type": "text/plain", "data": "x" });
        let document = json!({ "type": "document", "source": source, member: long });
        let messages = json!([{ "role": "user", "content": [document] }]);
        let body = json!({ "model": "m", "max_tokens": 1, "messages": messages });
        assert!(high(Protocol::Anthropic, "anthropic", "claude-haiku-4-5", &body) > 10_000, "{member}");
    }
    let schema = json!({ "name": "n", "description": long, "schema": {} });
    let format = json!({ "type": "json_schema", "json_schema": schema });
    let body =
        json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }], "response_format": format });
    assert!(high(Protocol::OpenAiChat, "openai", "gpt-4o", &body) > 10_000);
}
