//! What the tests of policy share: a clock that stands still, shared data, and a client of whom nothing is known.

#![allow(dead_code)]

use std::borrow::Cow;

use attache_gateway::admission::{Admission, Admitted, Reject, Verdict};
use attache_gateway::budget::{Fact, Facts};
use attache_gateway::gateway::Gateway;
use attache_gateway::outcome::Around;
pub use attache_gateway::store::Memory;

/// Unix time in milliseconds at which everything here happens.
pub const NOW: u64 = 1_700_000_000_000;

/// Nothing is known of who sends a request.
pub struct Nobody;

impl Facts for Nobody {
    fn fact(&self, _: &Fact) -> Option<Cow<'_, str>> {
        None
    }
}

/// Admits a request at once, as without budgets every one is that can be planned.
pub fn admit(
    admission: Admission,
    gateway: &Gateway,
    body: &str,
    around: &Around<'_>,
) -> Result<Admitted, Box<Reject>> {
    match admission.admit(gateway, body.as_bytes(), around, &Nobody)? {
        Verdict::Go(admitted) => Ok(*admitted),
        Verdict::Wait(waiting) => panic!("{waiting:?}"),
    }
}
