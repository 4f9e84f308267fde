//! How fast prompts are looked at and counted (`make bench`): prints one line for each, natively or under a WASI host.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use attache_gateway::tokens::{Counter, Family, Vocabulary, count, measure};
use attache_protocol::codec::{Line, Protocol};
use serde_json::json;

const TEXT: &str = "The sidecar reads what the application asks, plans an answer, and hands on every word as it comes; \
    für jede Sprache — また日本語で — и по-русски. fn main() { let answer = plan(request)?; send(&answer, 42_000); }\n";

/// The least time of several runs, in seconds.
fn timed(mut run: impl FnMut() -> u64) -> (f64, u64) {
    let mut tokens = 0;
    let once = |_| {
        let begun = Instant::now();
        tokens = run();
        begun.elapsed().as_secs_f64()
    };
    let least = (0..30).map(once).fold(f64::INFINITY, f64::min);
    (least, tokens)
}

fn main() {
    let text = TEXT.repeat(10_240 / TEXT.len() + 1);
    let text = text.get(..text.floor_char_boundary(10_240)).unwrap();
    for (name, vocabulary) in [("o200k", Vocabulary::O200k), ("cl100k", Vocabulary::Cl100k)] {
        let (seconds, tokens) = timed(|| Counter::new(vocabulary).count(text));
        println!("count {name}: {:.1} MB/s ({tokens} tokens)", text.len() as f64 / seconds / 1e6);
    }
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] }).to_string();
    let request = Protocol::OpenAiChat.codec().decode_request(&Line::default(), &body).unwrap();
    let family = Family::of("openai", "gpt-4o");
    let (look, likely) = timed(|| measure(family, &request).bounds(None).likely);
    println!("bounds of a prompt of 10 kB: {:.1} µs (about {likely} tokens)", look * 1e6);
    let (exact, tokens) = timed(|| count(family, &request).unwrap().high);
    println!("count of a prompt of 10 kB: {:.1} µs ({tokens} tokens)", exact * 1e6);
    #[cfg(target_arch = "wasm32")]
    println!(
        "linear memory: {:.1} MB, tables and all",
        core::arch::wasm32::memory_size(0) as f64 * 65_536.0 / 1e6
    );
}
