//! Requests by example: what clients write, what providers get.

use super::OpenAiChat;
use crate::codec::{Codec, Field, Line, Loss, Protocol, SameProtocol};
use crate::dialect::{Dialect, MaxTokens, ReasoningHistory, ReasoningStyle};
use crate::request::*;
use crate::text::Raw;
use crate::wire::Fault;

fn decode(body: &str) -> Request<'_> {
    OpenAiChat.decode_request(&Line::default(), body).unwrap()
}

fn fault(body: &str) -> Fault {
    OpenAiChat.decode_request(&Line::default(), body).unwrap_err()
}

/// A request as if it had come in another protocol, written for an OpenAI model.
fn foreign(
    body: &str,
    model: &str,
    change: impl FnOnce(&mut Request<'_>),
    dialect: Dialect,
) -> (String, Vec<Loss>) {
    let mut request = decode(body);
    request.protocol = Protocol::Anthropic;
    change(&mut request);
    let mut losses = Vec::new();
    let out = OpenAiChat.encode_request(&request, &dialect, model, &mut losses);
    (String::from_utf8(out).unwrap(), losses)
}

const HELLO: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

#[test]
fn faults_name_the_place_and_what_was_expected() {
    for (body, path, reason) in [
        ("", "", "EOF"),
        ("[]", "", "an object"),
        (r#"{"messages":[]}"#, "model", "required"),
        (r#"{"model":"m"}"#, "messages", "required"),
        (r#"{"model":"m","messages":[]}"#, "messages", "at least one"),
        (r#"{"model":5,"messages":[]}"#, "model", "a string"),
        (r#"{"model":"m","messages":{}}"#, "messages", "a sequence"),
        (r#"{"model":"m","messages":[{"role":"bot","content":"x"}]}"#, "messages[0].role", "`bot`"),
        (r#"{"model":"m","messages":[{"content":"x"}]}"#, "messages[0].role", "required"),
        (r#"{"model":"m","messages":[{"role":"user"}]}"#, "messages[0].content", "required"),
        (
            r#"{"model":"m","messages":[{"role":"user","content":5}]}"#,
            "messages[0].content",
            "a string, a list",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"pic"}]}]}"#,
            "messages[0].content[1].type",
            "`pic`",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":5}]}]}"#,
            "messages[0].content[0].text",
            "a string",
        ),
        (
            r#"{"model":"m","messages":[{"role":"tool","content":"x"}]}"#,
            "messages[0].tool_call_id",
            "required",
        ),
        (
            r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"function"}]}]}"#,
            "messages[0].tool_calls[0].function",
            "required",
        ),
        (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":-1}"#, "n", "u64"),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{}}]}"#,
            "tools[0].function.name",
            "required",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tool_choice":"maybe"}"#,
            "tool_choice",
            "`maybe`",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"reasoning_effort":"huge"}"#,
            "reasoning_effort",
            "`huge`",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"xml"}}"#,
            "response_format.type",
            "`xml`",
        ),
    ] {
        let found = fault(body);
        assert_eq!(found.path, path, "{body}: {found:?}");
        assert!(found.reason.contains(reason), "{body}: {found:?}");
    }
    let deep = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"z":{}1{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert!(fault(&deep).reason.contains("deep"), "{:?}", fault(&deep));
}

#[test]
fn tool_turns_fold_and_unfold() {
    let body = r#"{"model":"m","messages":[
        {"role":"user","content":"both"},
        {"role":"assistant","content":null,"tool_calls":[
            {"id":"a","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"sig"}}},
            {"id":"b","type":"function","function":{"name":"g","arguments":"{\"x\":1}"}}]},
        {"role":"tool","tool_call_id":"a","content":"1"},
        {"role":"tool","tool_call_id":"b","content":[{"type":"text","text":"2"}]},
        {"role":"user","content":"so?"}]}"#;
    let request = decode(body);
    assert_eq!(request.messages.len(), 4);
    let call = &request.messages[1].parts[0];
    assert_eq!(call.signature, Some(Signature { owner: Protocol::Gemini, data: "sig".into() }));
    let results = &request.messages[2];
    assert_eq!(results.role, Role::User);
    assert_eq!(results.parts.iter().map(|part| part.at.message).collect::<Vec<_>>(), [2, 3]);
    assert!(matches!(&results.parts[1].kind, PartKind::ToolResult { name: Some(name), .. } if *name == "g"));
    assert_eq!(
        OpenAiChat.path_of(Field::Part(request.messages[1].parts[1].at, "")),
        "messages[1].tool_calls[1]"
    );
    assert_eq!(OpenAiChat.path_of(Field::Part(results.parts[1].at, "")), "messages[3].content");
    let (out, losses) = foreign(body, "gpt-4o", |_| {}, Dialect::STANDARD);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let roles: Vec<_> =
        value["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "user"]);
    assert_eq!(value["messages"][3]["content"], "2");
    assert!(!out.contains("extra_content"));
    assert_eq!(losses, []);
}

#[test]
fn the_tools_of_2023_are_understood() {
    let request = decode(
        r#"{"model":"m","functions":[{"name":"f","parameters":{"type":"object"}}],"function_call":{"name":"f"},"messages":[
        {"role":"user","content":"x"},{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}},
        {"role":"function","name":"f","content":"1"}]}"#,
    );
    assert_eq!(request.tool_choice, Some(ToolChoice::Function("f".into())));
    let PartKind::ToolCall { id, .. } = &request.messages[1].parts[0].kind else { panic!() };
    assert!(
        matches!(&request.messages[2].parts[0].kind, PartKind::ToolResult { id: answered, .. } if answered == id)
    );
}

#[test]
fn media_of_all_kinds() {
    let request = decode(
        r#"{"model":"m","messages":[{"role":"user","content":[
        {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}},
        {"type":"image_url","image_url":{"url":"https://x/y.png"}},
        {"type":"input_audio","input_audio":{"data":"BBBB","format":"mp3"}},
        {"type":"file","file":{"file_data":"data:application/pdf;base64,CCCC","filename":"a.pdf"}},
        {"type":"file","file":{"file_id":"file-1"}}]}]}"#,
    );
    let sources: Vec<_> = request.messages[0]
        .parts
        .iter()
        .map(|part| match &part.kind {
            PartKind::Media(media) => (media.kind, media.source.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    let inline = |mime: &'static str, base64: &'static str| Source::Inline {
        mime: mime.into(),
        base64: base64.into(),
    };
    assert_eq!(sources[0], (MediaKind::Image, inline("image/png", "AAAA")));
    assert_eq!(sources[1], (MediaKind::Image, Source::Url { url: "https://x/y.png".into(), mime: None }));
    assert_eq!(sources[2], (MediaKind::Audio, inline("audio/mpeg", "BBBB")));
    assert_eq!(sources[3], (MediaKind::Document, inline("application/pdf", "CCCC")));
    assert_eq!(sources[4], (MediaKind::Document, Source::File { id: "file-1".into(), mime: None }));
}

#[test]
fn tuning_without_a_place_is_told() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{}}]}],
        "top_k":5,"temperature":0.5,"max_tokens":9,"stop":"x","stream":true,"z":1,"gone":null}"#;
    let (out, losses) =
        foreign(body, "gpt-5-mini", |request| request.protocol = Protocol::OpenAiChat, Dialect::STANDARD);
    assert!(losses.is_empty() && out.contains("\"z\":1") && out.contains("\"top_k\":5"), "{out}");
    // The paths are those of the client's protocol, whose codec is not under test here.
    let mut request = decode(body);
    request.protocol = Protocol::Anthropic;
    let paths = |dialect: Dialect, model: &str| {
        let mut losses = Vec::new();
        let out = OpenAiChat.encode_request(&request, &dialect, model, &mut losses);
        (String::from_utf8(out).unwrap(), losses.len())
    };
    let (out, lost) = paths(Dialect::STANDARD, "gpt-5-mini");
    assert_eq!(lost, 4, "top_k, temperature, z, cache_control");
    assert_eq!(
        out,
        concat!(
            r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"hi"}],"max_completion_tokens":9,"#,
            r#""stop":["x"],"stream":true,"stream_options":{"include_usage":true}}"#
        )
    );
    let dialect = Dialect {
        max_tokens: MaxTokens::MaxTokens,
        no_stream_options: true,
        top_k: true,
        ..Dialect::STANDARD
    };
    let (out, lost) = paths(dialect, "gpt-5-mini");
    assert_eq!(lost, 2, "z, cache_control");
    assert!(
        out.ends_with(r#""max_tokens":9,"temperature":0.5,"top_k":5,"stop":["x"],"stream":true}"#),
        "{out}"
    );
}

#[test]
fn reasoning_fits_the_model() {
    let asked = |amount: ReasoningAmount, model: &str, dialect: Dialect| {
        let (out, losses) = foreign(HELLO, model, |request| request.reasoning.amount = amount, dialect);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        let member = value.get("reasoning_effort").or(value.get("reasoning")).map(ToString::to_string);
        (member.unwrap_or_default(), losses.len())
    };
    let standard = Dialect::STANDARD;
    assert_eq!(asked(ReasoningAmount::Budget(9000), "o3", standard), ("\"medium\"".into(), 0));
    assert_eq!(asked(ReasoningAmount::Budget(9000), "gpt-4o", standard), (String::new(), 1));
    assert_eq!(asked(ReasoningAmount::Off, "gpt-4o", standard), (String::new(), 0));
    assert_eq!(asked(ReasoningAmount::Off, "gpt-5.2", standard), ("\"none\"".into(), 0));
    assert_eq!(asked(ReasoningAmount::Off, "gpt-5", standard), ("\"minimal\"".into(), 1));
    assert_eq!(asked(ReasoningAmount::Effort(Effort::Max), "gpt-5.2", standard), ("\"xhigh\"".into(), 0));
    assert_eq!(asked(ReasoningAmount::Effort(Effort::Max), "grok-3-mini", standard), ("\"high\"".into(), 0));
    assert_eq!(asked(ReasoningAmount::Adaptive, "o3", standard), (String::new(), 0));
    let tools = |model: &str, amount: ReasoningAmount| {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"parallel_tool_calls":false,
            "tools":[{"type":"function","function":{"name":"f"}}]}"#;
        let (out, losses) =
            foreign(body, model, |request| request.reasoning.amount = amount, Dialect::STANDARD);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        (value["reasoning_effort"].to_string(), value["parallel_tool_calls"].to_string(), losses.len())
    };
    let text = str::to_owned;
    assert_eq!(tools("gpt-5.6", ReasoningAmount::Unset), (text("\"none\""), text("false"), 0));
    assert_eq!(tools("gpt-5.6", ReasoningAmount::Budget(5000)), (text("\"none\""), text("false"), 1));
    assert_eq!(tools("gpt-5.4", ReasoningAmount::Budget(5000)), (text("null"), text("false"), 1));
    assert_eq!(tools("gpt-5.1", ReasoningAmount::Budget(5000)), (text("\"low\""), text("false"), 0));
    assert_eq!(tools("o3", ReasoningAmount::Budget(5000)), (text("\"low\""), text("null"), 1));
    let object = Dialect { reasoning: ReasoningStyle::Object, ..standard };
    assert_eq!(asked(ReasoningAmount::Budget(9000), "x", object), ("{\"max_tokens\":9000}".into(), 0));
    let none = Dialect { reasoning: ReasoningStyle::None, ..standard };
    assert_eq!(asked(ReasoningAmount::Effort(Effort::Low), "x", none), (String::new(), 1));
}

#[test]
fn earlier_reasoning_goes_where_it_has_a_place() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","reasoning_content":"hm","content":"y"}]}"#;
    let written =
        |history: ReasoningHistory| foreign(body, "m", |_| {}, Dialect { history, ..Dialect::STANDARD });
    let (out, losses) = written(ReasoningHistory::Dropped);
    assert!(!out.contains("hm") && losses.len() == 1);
    assert!(written(ReasoningHistory::Content).0.contains(r#""reasoning_content":"hm""#));
    assert!(
        written(ReasoningHistory::Details)
            .0
            .contains(r#""reasoning_details":[{"type":"reasoning.text","index":0,"text":"hm"}]"#)
    );
}

#[test]
fn media_of_a_tool_result_move_to_the_user() {
    let body = r#"{"model":"m","messages":[{"role":"tool","tool_call_id":"a","content":"seen"},{"role":"user","content":"and?"}]}"#;
    let image = Media {
        kind: MediaKind::Image,
        source: Source::Inline { mime: "image/png".into(), base64: "AAAA".into() },
        name: None,
        detail: None,
    };
    let add = |request: &mut Request<'_>| {
        let PartKind::ToolResult { content, .. } = &mut request.messages[0].parts[0].kind else { panic!() };
        content.push(Part::new(PartKind::Media(image)));
    };
    let (out, _) = foreign(body, "m", add, Dialect::STANDARD);
    let expected = concat!(
        r#"{"model":"m","messages":[{"role":"tool","tool_call_id":"a","content":"seen"},{"role":"user","content":["#,
        r#"{"type":"text","text":"Result of the tool call a (a):"},"#,
        r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},{"role":"user","content":"and?"}]}"#
    );
    assert_eq!(out, expected);
}

#[test]
fn tool_choice_and_schema_are_written() {
    let tools = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[
        {"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}],
        "tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"b"}}]}}}"#;
    let (out, _) = foreign(tools, "m", |_| {}, Dialect::STANDARD);
    assert!(out.contains(r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"b"}}]}}"#));
    let (out, _) = foreign(tools, "m", |_| {}, Dialect { no_allowed_tools: true, ..Dialect::STANDARD });
    assert!(
        out.contains(r#""tools":[{"type":"function","function":{"name":"b"}}],"tool_choice":"required""#),
        "{out}"
    );
    let schema = |request: &mut Request<'_>| {
        let schema = Raw::parse(r#"{"type":"object"}"#).unwrap();
        request.output =
            Output::JsonSchema { name: Some("my schema".into()), description: None, schema, strict: None };
    };
    let (out, _) = foreign(HELLO, "m", schema, Dialect::STANDARD);
    assert!(out.ends_with(r#""response_format":{"type":"json_schema","json_schema":{"name":"my_schema","schema":{"type":"object"}}}}"#));
}

#[test]
fn json_mode_needs_the_word() {
    let json = |request: &mut Request<'_>| request.output = Output::Json;
    let (out, _) = foreign(HELLO, "m", json, Dialect::STANDARD);
    assert!(
        out.contains(r#"[{"role":"system","content":"Answer with a JSON object."},{"role":"user""#),
        "{out}"
    );
    let (out, _) = foreign(&HELLO.replace("hi", "as Json"), "m", json, Dialect::STANDARD);
    assert!(!out.contains("system"), "{out}");
}

#[test]
fn contract_says_what_cannot_be_kept() {
    let mut request = decode(
        r#"{"model":"m","n":2,"tools":[{"type":"web_search"}],"messages":[{"role":"user","content":[
        {"type":"video_url","video_url":{"url":"https://x"}},{"type":"file","file":{"file_id":"f"}}]}]}"#,
    );
    assert!(matches!(&request.tools[0], Tool::Foreign { name, .. } if *name == "web_search"));
    request.messages[0].parts.push(Part::new(PartKind::Foreign(Raw::parse("{}").unwrap())));
    let losses = OpenAiChat.contract(&request, &Dialect::STANDARD, "m");
    let paths: Vec<_> = losses.iter().map(|loss| loss.path.as_str()).collect();
    assert_eq!(
        paths,
        ["n", "tools[0]", "messages[0].content[0]", "messages[0].content[1]", "messages[0].content[0]"]
    );
}

#[test]
fn edits_of_the_same_protocol() {
    let edit = |body: &str, model: Option<&str>, add_usage: bool| {
        let edited = OpenAiChat.edit_request(
            body,
            &Dialect::STANDARD,
            &SameProtocol { model, add_usage, ..SameProtocol::default() },
        );
        edited.map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(edit(HELLO, None, false), None);
    assert_eq!(edit(HELLO, Some("x\"y"), false).unwrap(), HELLO.replace("\"m\"", "\"x\\\"y\""));
    assert_eq!(
        edit("{\"a\": 1}", None, true).unwrap(),
        "{\"stream_options\":{\"include_usage\":true},\"a\": 1}"
    );
    let options = r#"{"stream_options": {"include_usage": false, "o": 1}}"#;
    assert_eq!(edit(options, None, true).unwrap(), options.replace("false", "true"));
    assert_eq!(edit(r#"{"stream_options":{"include_usage":true}}"#, None, true), None);
    assert_eq!(
        edit(r#"{"stream_options":null}"#, None, true).unwrap(),
        r#"{"stream_options":{"include_usage":true}}"#
    );
}

/// Whoever takes a name in any case would take these for the limit, and not the one that was read here.
#[test]
fn names_that_some_take_for_others_are_refused() {
    let with = |name: &str| {
        format!(r#"{{"model":"m","max_tokens":1,"{name}":9,"messages":[{{"role":"user","content":"x"}}]}}"#)
    };
    for (name, path) in [
        ("Max_Tokens", "Max_Tokens"),
        ("MAX_COMPLETION_TOKENS", "MAX_COMPLETION_TOKENS"),
        ("N", "N"),
        (r"max_to\u212aens", "max_to\u{212a}ens"),
        (r"max_token\u017f", "max_token\u{17f}"),
    ] {
        let fault = fault(&with(name));
        assert_eq!(fault.path, path);
        assert!(fault.reason.contains("expected `"), "{fault:?}");
    }
    let content = r#"{"model":"m","messages":[{"role":"user","content":"x","Content":"much more"}]}"#;
    assert_eq!(fault(content).path, "messages[0].Content");
    for name in ["maxTokens", "X", "größe", "max_tokens_"] {
        assert_eq!(decode(&with(name)).sampling.max_output_tokens, Some(1), "{name}");
    }
}

#[test]
fn of_two_output_limits_the_larger_counts_and_none_is_zero() {
    for (members, expected) in [
        ("", None),
        (r#","max_tokens":5"#, Some(5)),
        (r#","max_completion_tokens":5,"max_tokens":9000"#, Some(9000)),
        (r#","max_completion_tokens":9000,"max_tokens":5"#, Some(9000)),
        (r#","max_completion_tokens":0,"max_tokens":5"#, Some(5)),
        (r#","max_completion_tokens":0"#, None),
        (r#","max_tokens":0"#, None),
        (r#","max_tokens":null"#, None),
    ] {
        let body = HELLO.replace("}]}", &format!("}}]{members}}}"));
        assert_eq!(decode(&body).sampling.max_output_tokens, expected, "{members}");
    }
}
