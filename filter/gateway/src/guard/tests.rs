//! Requests in clients' own words, figures, and what is then lacking.

use attache_protocol::codec::Line;
use serde_json::{Value, json};

use super::*;
use crate::gateway::Gateway;

/// A request of a protocol at a model with these figures at a provider of a protocol: paths and reasons.
fn told(client: Protocol, body: &Value, figures: Value, provider: Protocol) -> Vec<String> {
    let body = body.to_string();
    let line = Line { model: Some("m".to_owned()), ..Line::default() };
    let request = client.codec().decode_request(&line, &body).unwrap();
    let figures: Figures = serde_json::from_value(figures).unwrap();
    let lacks = Needs::of(&request).lacks(&figures, "m", provider);
    let place = |loss: Loss| format!("{}: {}", loss.path, loss.reason.trim_start_matches("the model `m` "));
    lacks.losses.into_iter().map(place).collect()
}

fn chat(members: Value) -> Value {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn says(parts: Value) -> Value {
    json!([{ "role": "user", "content": "a" }, { "role": "user", "content": parts }])
}

use Protocol::{Anthropic, Gemini, OpenAiChat};

#[test]
fn each_figure_refuses_what_asks_for_it_and_nothing_else() {
    let tool = json!([{ "type": "function", "function": { "name": "f" } }]);
    let schema =
        json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": { "type": "object" } } });
    let image = json!([{ "type": "text", "text": "b" }, { "type": "image_url", "image_url": { "url": "https://x/y.png" } }]);
    let sound = json!([{ "type": "input_audio", "input_audio": { "data": "QUJD", "format": "wav" } }]);
    let pdf = json!([{ "type": "file", "file": { "file_data": "data:application/pdf;base64,QUJD", "filename": "f.pdf" } }]);
    let table = json!([{ "type": "file", "file": { "file_data": "data:text/csv;base64,QUJD", "filename": "f.csv" } }]);
    for (members, figures, expected) in [
        (json!({ "tools": tool }), json!({ "tools": false }), "tools[0]: takes no tools"),
        (
            json!({ "tools": tool, "parallel_tool_calls": true }),
            json!({ "parallelTools": false }),
            "parallel_tool_calls: makes one tool call at a time",
        ),
        (json!({ "tools": tool, "parallel_tool_calls": false }), json!({ "parallelTools": false }), ""),
        (json!({ "tools": tool }), json!({ "parallelTools": false }), ""),
        (
            json!({ "response_format": schema }),
            json!({ "jsonSchema": false }),
            "response_format: keeps to no JSON schema",
        ),
        (json!({ "response_format": { "type": "json_object" } }), json!({ "jsonSchema": false }), ""),
        (
            json!({ "reasoning_effort": "low" }),
            json!({ "reasoning": "none" }),
            "reasoning_effort: does not reason",
        ),
        (json!({ "reasoning_effort": "none" }), json!({ "reasoning": "none" }), ""),
        (json!({ "reasoning_effort": "low" }), json!({ "reasoning": "always" }), ""),
        (
            json!({ "max_tokens": 101 }),
            json!({ "output": 100 }),
            "max_completion_tokens: answers with at most 100 tokens",
        ),
        (json!({ "max_tokens": 100 }), json!({ "output": 100 }), ""),
        (
            json!({ "messages": says(image) }),
            json!({ "inputs": { "image": false } }),
            "messages[1].content[1]: takes no images",
        ),
        (
            json!({ "messages": says(sound) }),
            json!({ "inputs": { "audio": false } }),
            "messages[1].content[0]: takes no audio",
        ),
        (
            json!({ "messages": says(pdf) }),
            json!({ "inputs": { "pdf": false } }),
            "messages[1].content[0]: takes no PDF documents",
        ),
        (json!({ "messages": says(table) }), json!({ "inputs": { "pdf": false } }), ""),
    ] {
        let body = chat(members);
        let found = told(OpenAiChat, &body, figures.clone(), OpenAiChat);
        assert_eq!(found.join("; "), expected, "{body} {figures}");
        assert_eq!(told(OpenAiChat, &body, json!({}), OpenAiChat), [""; 0], "what is not known is tried");
    }
}

#[test]
fn paths_are_the_clients_own() {
    let body = json!({ "model": "m", "max_tokens": 9, "messages": [
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t", "content": [
            { "type": "image", "source": { "type": "url", "url": "https://x/y.png" } },
        ] }] },
    ], "thinking": { "type": "enabled", "budget_tokens": 2000 }, "tools": [{ "name": "f", "input_schema": {} }] });
    let figures = json!({ "inputs": { "image": false }, "reasoning": "none", "tools": false, "output": 8 });
    assert_eq!(
        told(Anthropic, &body, figures.clone(), OpenAiChat),
        [
            "messages[0].content[0]: takes no images",
            "tools[0]: takes no tools",
            "thinking: does not reason",
            "max_tokens: answers with at most 8 tokens",
        ]
    );
    let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": "a" }, { "fileData": { "mimeType": "video/mp4", "fileUri": "https://x/y" } }] }],
        "generationConfig": { "maxOutputTokens": 9 } });
    assert_eq!(
        told(Gemini, &body, json!({ "inputs": { "video": false }, "output": 8 }), Gemini),
        [
            "contents[0].parts[1]: takes no video",
            "generationConfig.maxOutputTokens: answers with at most 8 tokens"
        ]
    );
}

#[test]
fn as_much_reasoning_as_it_sees_fit_may_be_none_elsewhere() {
    let body = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "a" }], "thinking": { "type": "adaptive" } });
    assert_eq!(told(Anthropic, &body, json!({ "reasoning": "none" }), OpenAiChat), [""; 0]);
    assert_eq!(
        told(Anthropic, &body, json!({ "reasoning": "none" }), Anthropic),
        ["thinking: does not reason"]
    );
}

#[test]
fn a_begun_answer_is_refused_where_it_would_be_sent_as_one() {
    let turns = json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": "b" }]);
    let refuses = json!({ "prefill": false });
    let anthropic = json!({ "model": "m", "max_tokens": 9, "messages": turns });
    let refused = ["messages[1]: does not go on from a begun answer"];
    assert_eq!(told(Anthropic, &anthropic, refuses.clone(), Anthropic), refused);
    assert_eq!(told(Anthropic, &anthropic, refuses.clone(), Gemini), refused);
    assert_eq!(told(Anthropic, &anthropic, json!({ "prefill": true }), Anthropic), [""; 0]);
    let openai = chat(json!({ "messages": turns }));
    assert_eq!(told(OpenAiChat, &openai, refuses.clone(), OpenAiChat), refused);
    assert_eq!(
        told(OpenAiChat, &openai, refuses.clone(), Anthropic),
        [""; 0],
        "the codec asks for a new answer"
    );
    let mut welcome = openai;
    welcome["messages"][1]["prefix"] = json!(true);
    assert_eq!(told(OpenAiChat, &welcome, refuses, OpenAiChat), [""; 0]);
}

#[test]
fn only_a_prompt_that_cannot_fit_is_too_long() {
    let figures = |holds: u64| json!({ "context": holds, "wholeWords": true });
    let long = |words: usize| {
        chat(json!({ "messages": [{ "role": "user", "content": "go ".repeat(words) + "go" }] }))
    };
    let refused = ["messages: holds 100 tokens, and the messages are at least 101"];
    assert_eq!(told(OpenAiChat, &long(101), figures(100), OpenAiChat), refused);
    assert_eq!(told(OpenAiChat, &long(100), figures(100), OpenAiChat), [""; 0]);
    assert_eq!(
        told(OpenAiChat, &long(101), json!({ "context": 100 }), OpenAiChat),
        [""; 0],
        "no vocabulary is known"
    );
    let smaller = json!({ "context": 400, "prompt": 100, "wholeWords": true });
    assert_eq!(told(OpenAiChat, &long(101), smaller, OpenAiChat), refused);
    // Text without words may be few tokens, however many bytes it has.
    for text in
        [" ".repeat(9000), "=".repeat(9000), "a".repeat(9000), "日本".repeat(3000), "\n\n  \n".repeat(2000)]
    {
        let body = chat(json!({ "messages": [{ "role": "user", "content": text }] }));
        assert_eq!(told(OpenAiChat, &body, figures(100), OpenAiChat), [""; 0]);
    }
    // A provider that is asked to shorten the prompt reads less than is sent.
    let mut shortened = long(101);
    shortened["transforms"] = json!(["middle-out"]);
    assert_eq!(told(OpenAiChat, &shortened, figures(100), OpenAiChat), [""; 0]);
}

#[test]
fn length_alone_is_told_apart_from_other_reasons() {
    let body = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "go ".repeat(200) + "go" }] }).to_string();
    let request = Anthropic.codec().decode_request(&Line::default(), &body).unwrap();
    let lacks =
        |figures: Value| Needs::of(&request).lacks(&serde_json::from_value(figures).unwrap(), "m", Gemini);
    let alone = lacks(json!({ "context": 100, "wholeWords": true }));
    assert!(alone.too_long && alone.losses.len() == 1 && alone.losses[0].path == "messages");
    let both = lacks(json!({ "context": 100, "wholeWords": true, "output": 8 }));
    assert!(!both.too_long && both.losses.len() == 2);
}

#[test]
fn words_are_counted_where_white_space_ends() {
    for (text, count) in
        [("", 0), ("a", 0), (" a", 1), ("a b  c\n\nd", 3), ("a -b", 0), ("é a\u{a0}b", 1), ("1 2", 0)]
    {
        assert_eq!(words(text), count, "{text:?}");
    }
    // Whatever the bytes and wherever the eights end: as one by one.
    let mut seed = 1_u32;
    for length in 0..2000 {
        let mut text = String::new();
        while text.len() < length % 41 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let picked = "azAZ09@[`{ \n\t é日\u{7f}\0".chars().nth(seed as usize >> 16 & 15);
            text.push(picked.unwrap());
        }
        let slowly =
            text.as_bytes().windows(2).filter(|two| b" \n".contains(&two[0]) && two[1].is_ascii_alphabetic());
        assert_eq!(words(&text), slowly.count() as u64, "{text:?}");
    }
}

#[test]
fn the_refusal_tells_each_target_and_length_has_the_clients_own_code() {
    let gateway = Gateway::new(json!({
        "providers": [{ "name": "openai" }, { "name": "anthropic" }],
        "routes": [
            { "models": ["long"], "targets": [{ "provider": "openai", "model": "gpt-4o" }, { "provider": "anthropic", "model": "c" }] },
            { "models": ["mixed"], "targets": [{ "provider": "openai", "model": "gpt-4o" }, { "provider": "openai", "model": "x" }] },
        ],
        "catalogue": [
            { "model": "gpt-4o", "figures": { "context": 100 } },
            { "model": "c", "figures": { "context": 150, "wholeWords": true }, "at": { "anthropic": { "names": ["c"] } } },
            { "model": "x", "figures": { "reasoning": "none" }, "at": { "openai": { "names": ["x"] } } },
        ],
    }))
    .unwrap();
    let message = json!({ "role": "user", "content": "go ".repeat(200) + "go" });
    let body = chat(json!({ "messages": [message], "reasoning_effort": "low" })).to_string();
    let ask = |route: &str, body: &str| {
        let request = OpenAiChat.codec().decode_request(&Line::default(), body).unwrap();
        let mut guard = Guard::new(&gateway.catalogue, &request);
        let targets = &gateway.route(route).unwrap().targets;
        let windows: Vec<_> = targets.iter().filter_map(|target| guard.admits(target)).collect();
        let error = guard.refusal();
        let shown: Value = serde_json::from_slice(&OpenAiChat.codec().encode_error(&error)).unwrap();
        (windows, error, shown["error"]["code"].clone())
    };
    let (windows, error, code) = ask("mixed", &body);
    assert_eq!(
        (windows.len(), error.kind, error.param.as_deref()),
        (0, ErrorKind::BadRequest, Some("reasoning_effort"))
    );
    assert_eq!(code, "unsupported_by_targets");
    for part in
        ["`reasoning_effort` at openai", "`gpt-4o` does not reason", "`x` does not reason", "100 tokens"]
    {
        assert!(error.message.contains(part), "{part}: {}", error.message);
    }
    let body = body.replace(",\"reasoning_effort\":\"low\"", "");
    let (windows, error, code) = ask("long", &body);
    assert_eq!((windows.len(), error.kind, error.status), (0, ErrorKind::ContextTooLong, 400));
    assert_eq!((code, error.param.as_deref()), (json!("context_length_exceeded"), Some("messages")));
    let (windows, ..) = ask("long", &chat(json!({})).to_string());
    let windows: Vec<_> = windows.into_iter().map(|known| known.longest_prompt).collect();
    assert_eq!(windows, [Some(100), Some(150)]);
}
