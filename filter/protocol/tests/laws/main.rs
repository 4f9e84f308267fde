//! Laws that hold for any traffic, tried on recordings of real providers and on inputs broken on purpose.
//!
//! Native:  cargo test -p attache-protocol --test laws
//! Wasm:    cargo install wasm-bindgen-cli --version <that of Cargo.lock> --no-default-features \
//!              --bin wasm-bindgen-test-runner --root <folder>
//!          CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=<folder>/bin/wasm-bindgen-test-runner \
//!              cargo test -p attache-protocol --target wasm32-unknown-unknown --test laws --test goldens
//!
//! `ATTACHE_RECORDINGS` names the recordings (absent: skipped, and said so); `ATTACHE_HOSTILE` how many broken
//! inputs are made of each recording, `ATTACHE_ONLY` a part of the identity of those that are wanted (natively).

// A test asserts by panicking; clippy.toml allows it only inside #[test] functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod answer;
mod carried;
mod error;
mod hostile;
mod limit;
mod recording;
mod relay;
mod request;
mod stop;
mod stream;

/// Each law is a plain function; this makes it a test natively and under Node.
macro_rules! laws {
    ($( $name:ident = $law:path; )+) => { $(
        #[cfg_attr(not(target_arch = "wasm32"), test)]
        #[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
        fn $name() {
            $law();
        }
    )+ };
}

laws! {
    requests_are_read = request::are_read;
    requests_are_stable_in_their_own_protocol = request::are_stable;
    requests_cross_to_other_protocols = request::cross;
    requests_with_the_same_protocol_keep_their_bytes = relay::requests_keep_their_bytes;
    output_limits_are_brought_down = limit::same_protocol;
    output_limits_are_kept_in_other_protocols = limit::other_protocols;
    usage_is_hidden_and_nothing_else = relay::usage_is_hidden;
    answers_are_stable_in_their_own_protocol = answer::are_stable;
    answers_cross_to_other_protocols = answer::cross;
    streams_obey_the_grammar = stream::grammar_holds;
    streams_in_any_pieces_are_the_same = stream::splits;
    streams_cut_anywhere_end_well = stream::cuts;
    streams_cross_to_other_protocols = stream::cross;
    streams_stop_anywhere_in_their_own_protocol = stop::relayed;
    streams_stop_anywhere_in_every_protocol = stop::translated;
    errors_have_their_kind = error::have_their_kind;
    errors_cross_to_other_protocols = error::cross;
    every_kind_of_error_is_told_apart = error::kinds_survive;
    broken_requests_do_no_harm = hostile::requests;
    broken_answers_do_no_harm = hostile::answers;
    broken_streams_do_no_harm = hostile::streams;
}
