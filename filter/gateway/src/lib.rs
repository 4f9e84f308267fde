//! Given an input, decides. No I/O: it is told the time and asked for effects.
//!
//! A request goes [`admission`] → [`plan`] → [`ticket`], then once per attempt through [`attempt`].

pub mod admission;
pub mod attempt;
pub mod bill;
pub mod budget;
pub mod catalogue;
pub mod config;
mod date;
pub mod duration;
pub mod exchange;
pub mod failover;
pub mod gateway;
pub mod guard;
pub mod headers;
pub mod health;
pub mod ledger;
pub mod metrics;
pub mod outcome;
pub mod plan;
pub mod provider;
pub mod reject;
mod relay;
pub mod retry_after;
pub mod sticky;
pub mod store;
mod stream;
pub mod ticket;
pub mod tokens;
