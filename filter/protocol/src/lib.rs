//! LLM protocols: bytes ↔ values. No policy, provider name, clock or host in here.
//!
//! Start at [`codec`]: what a protocol can do. [`request`], [`response`] and [`event`] are the values in between.

pub mod anthropic;
pub mod base64;
mod choices;
pub mod codec;
pub mod dialect;
pub mod error;
pub mod event;
pub mod gemini;
pub mod openai_chat;
pub mod raw;
pub mod request;
pub mod response;
pub mod sse;
pub mod text;
pub mod wire;
