//! The chart's routes lead conversations through the filter and everything else past it: `helm/files/paths.regex` must
//! know exactly the paths that the filter recognises.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attache_gateway::admission::recognise;

/// What a client may ask of a provider's host, conversations and others.
const PATHS: &[&str] = &[
    "/v1/chat/completions",
    "/chat/completions",
    "/openai/v1/chat/completions",
    "/v1/chat/completions/",
    "/v1/chat/completions//",
    "/v1/chat/completions/abc",
    "/v1/chat/completionsx",
    "/v1/completions",
    "/v1/responses",
    "/v1/responses/abc",
    "/v1/messages",
    "/prefix/v1/messages",
    "/v1/messages/",
    "/v1/messages/count_tokens",
    "/v1/messages/batches",
    "/messages",
    "/v1beta/models/gemini-2.5-flash:generateContent",
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
    "/v1beta/tunedModels/mine:generateContent",
    "/v1beta/models/gemini-2.5-flash:countTokens",
    "/v1beta/models/gemini-2.5-flash:embedContent",
    "/v1beta/models/gemini-2.5-flash",
    "/v1beta/models",
    "/v1/projects/p/locations/l/publishers/google/models/gemini:generateContent",
    "/v1/models",
    "/v1/embeddings",
    "/v1/files",
    "/model/anthropic.claude/converse",
    "/model/anthropic.claude/converse-stream",
    "/v2/chat",
    "/",
    "",
];

#[test]
fn chart_and_filter_know_the_same_paths() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../helm/files/paths.regex");
    let text = std::fs::read_to_string(file).expect("the chart has the file");
    let patterns: Vec<fancy_regex::Regex> =
        text.lines().map(|line| fancy_regex::Regex::new(line).expect("a pattern on each line")).collect();
    for path in PATHS {
        let routed = patterns.iter().any(|pattern| pattern.is_match(path).expect("a simple pattern"));
        assert_eq!(routed, recognise(path).is_some(), "`{path}`: chart and filter differ");
    }
}
