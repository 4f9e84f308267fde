//! Streams of several answers, in the client's own protocol: each of them keeps the stream alive, is waited for and counted.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use attache_gateway::admission::{Admission, Head};
use attache_gateway::attempt::Attempt;
use attache_gateway::budget::standings;
use attache_gateway::exchange::{Ending, Exchange, Expiry, Flow};
use attache_gateway::gateway::Gateway;
use attache_gateway::outcome::Around;
use attache_gateway::ticket::Progress;
use serde_json::{Value, json};
use support::{Memory, NOW, Nobody};

/// How the two protocols that know several answers say the same.
struct Words {
    provider: &'static str,
    path: &'static str,
    asks: fn() -> Value,
    piece: fn(u32, &str) -> String,
    finish: fn(u32) -> String,
    end: &'static str,
}

const OPENAI: Words = Words {
    provider: "openai",
    path: "/v1/chat/completions",
    asks: || json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "stream": true, "n": 2, "stream_options": { "include_usage": true } }),
    piece: |index, text| {
        let choice = json!({ "index": index, "delta": { "content": text } });
        format!("data: {}\n\n", json!({ "id": "c", "model": "m", "choices": [choice] }))
    },
    finish: |index| {
        let choice = json!({ "index": index, "delta": {}, "finish_reason": "stop" });
        format!("data: {}\n\n", json!({ "id": "c", "model": "m", "choices": [choice] }))
    },
    end: "data: [DONE]\n\n",
};

const GEMINI: Words = Words {
    provider: "gemini",
    path: "/v1beta/models/m:streamGenerateContent?alt=sse",
    asks: || json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }], "generationConfig": { "candidateCount": 2 } }),
    piece: |index, text| {
        let candidate =
            json!({ "content": { "parts": [{ "text": text }], "role": "model" }, "index": index });
        format!("data: {}\r\n\r\n", json!({ "candidates": [candidate], "responseId": "r" }))
    },
    finish: |index| {
        let candidate = json!({ "finishReason": "STOP", "index": index });
        format!("data: {}\r\n\r\n", json!({ "candidates": [candidate], "responseId": "r" }))
    },
    end: "",
};

const BOTH: [&Words; 2] = [&OPENAI, &GEMINI];

/// A gateway with a budget of tokens, whose streams take the hop.
fn gateway(words: &Words) -> Gateway {
    Gateway::new(json!({
        "providers": [{ "name": words.provider }],
        "routes": [{ "models": ["m"], "targets": [{ "provider": words.provider, "model": "gpt-4o" }], "silence": "told" }],
        "budgets": [{ "name": "b", "limit": { "tokens": 100_000 }, "window": { "calendar": "month" } }],
    }))
    .unwrap()
}

/// An attempt whose stream has begun.
fn begun(words: &Words, store: &Memory) -> Exchange {
    let gateway = gateway(words);
    let around = Around { now: NOW, store };
    let headers = [(":path", words.path), (":method", "POST")];
    let head = Head::new(headers.into_iter().map(|(name, value)| (name.into(), value.into())));
    let admission = Admission::begin(&head, &gateway).unwrap();
    let admitted = support::admit(admission, &gateway, &(words.asks)().to_string(), &around).unwrap();
    let progress = Progress { number: 1, ..admitted.progress.clone() };
    let mut exchange =
        Exchange::new(Attempt::new(&admitted.ticket.entry(progress.clone()).state(&progress)).unwrap(), NOW);
    exchange.head(200, std::iter::empty(), NOW);
    exchange
}

fn spent(words: &Words, store: &Memory) -> u64 {
    standings(&Around { now: NOW, store }, &gateway(words).budgets.claims(&Nobody))[0].spent
}

#[test]
fn a_choice_that_goes_on_after_the_first_is_no_silence() {
    for words in BOTH {
        let store = Memory::default();
        let around = |seconds: u64| Around { now: NOW + seconds * 1000, store: &store };
        let mut exchange = begun(words, &store);
        let first = format!("{}{}", (words.piece)(0, "Hi"), (words.finish)(0));
        let Flow::Release { body: None, .. } = exchange.body(first.as_bytes(), false, &around(0)) else {
            panic!("held")
        };
        // The other one takes its time, and never as long as `idle` without a word.
        for at in 1..10 {
            let piece = (words.piece)(1, &"some words ".repeat(20));
            assert_eq!(exchange.tick(&around(50 * at)), None, "{at}");
            assert_eq!(exchange.body(piece.as_bytes(), false, &around(50 * at)), Flow::Pass(None));
        }
        assert_eq!(exchange.tick(&around(509)), None);
        let last = format!("{}{}", (words.finish)(1), words.end);
        assert_eq!(exchange.body(last.as_bytes(), true, &around(500)), Flow::Pass(None));
        let counts: Vec<String> = exchange.effects().counts.into_iter().map(|count| count.name).collect();
        assert!(counts.iter().any(|name| name.ends_with("class=ok")), "{counts:?}");
        // Two words for each of nine times twenty, and what stands around them.
        let spent = spent(words, &store);
        assert!((360..420).contains(&spent), "{} {spent}", words.provider);
    }
}

#[test]
fn a_stream_is_not_whole_before_each_choice_is() {
    for words in BOTH {
        let (piece, finish) = (words.piece, words.finish);
        let whole = format!("{}{}{}", piece(0, "Hi"), piece(1, "Ho"), finish(0));
        for (what, sent, good) in [
            ("both", format!("{whole}{}{}", finish(1), words.end), true),
            ("one, cut", whole.clone(), false),
            ("one, ended", format!("{whole}{}", words.end), false),
            // Many servers give one answer, whatever is asked for.
            ("alone", format!("{}{}{}", piece(0, "Hi"), finish(0), words.end), true),
        ] {
            let store = Memory::default();
            let around = Around { now: NOW, store: &store };
            let mut exchange = begun(words, &store);
            exchange.body(piece(0, "So").as_bytes(), false, &around);
            let flow = exchange.body(sent.as_bytes(), true, &around);
            assert_eq!(flow == Flow::Pass(None), good, "{} {what} {flow:?}", words.provider);
        }
    }
}

#[test]
fn who_falls_silent_before_all_choices_have_ended_is_told_of() {
    for words in BOTH {
        let (piece, finish) = (words.piece, words.finish);
        for sent in [
            format!("{}{}{}", piece(0, "Hi"), piece(1, "Ho"), finish(0)),
            // The second has not even begun.
            format!("{}{}", piece(0, "Hi"), finish(0)),
        ] {
            let store = Memory::default();
            let around = |seconds: u64| Around { now: NOW + seconds * 1000, store: &store };
            let mut exchange = begun(words, &store);
            exchange.body(sent.as_bytes(), false, &around(0));
            assert_eq!(exchange.tick(&around(59)), None);
            assert_eq!(exchange.tick(&around(60)), Some(Expiry::End));
            let Flow::Pass(Some(told)) = exchange.body(b"", true, &around(60)) else { panic!("{sent}") };
            let told = String::from_utf8(told).unwrap();
            assert!(told.contains("sent nothing for 60 s"), "{told}");
        }
    }
}

#[test]
fn every_choice_is_paid_for_when_the_client_hangs_up() {
    for words in BOTH {
        let store = Memory::default();
        let around = Around { now: NOW, store: &store };
        let mut exchange = begun(words, &store);
        for index in [0, 1, 1] {
            exchange.body((words.piece)(index, &" a".repeat(100)).as_bytes(), false, &around);
        }
        exchange.close(Ending::ClientLeft, &around);
        let spent = spent(words, &store);
        assert!((300..340).contains(&spent), "{} {spent}", words.provider);
    }
}
