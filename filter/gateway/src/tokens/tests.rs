//! The counts against tiktoken-rs and the patterns against their regular expressions; the rules against recordings.

#[cfg(not(target_arch = "wasm32"))]
mod corpus;
mod recorded;
#[cfg(not(target_arch = "wasm32"))]
mod reference;
mod rules;
