//! Only with the feature `crash`, for the proof that a VM's death loses nothing and doubles nothing (tests/proof): a
//! request's header says where its VM is to die. What is shipped has none of this.

#![allow(clippy::panic)]

use crate::host::{self, Headers};

const HEADER: &str = "x-attache-crash";
/// Filter state: the same for the attempts, which do not see the header.
const STATE: &str = "crash";

/// Where a VM dies.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Nothing is known of the request yet.
    Head,
    /// Its budgets hold something for it, and nobody else knows.
    Reserved,
    /// Its attempt is on its way.
    Sent,
    /// The provider's head is there.
    Answer,
    /// The answer is complete, and charged, and the client does not have its end.
    Settled,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Head => "head",
            Place::Reserved => "reserved",
            Place::Sent => "sent",
            Place::Answer => "answer",
            Place::Settled => "settled",
        }
    }
}

/// Reads the client's wish, before its header is taken away.
pub fn listen() {
    if let Some(place) = host::header(Headers::Request, HEADER) {
        host::set_state(STATE, place.as_bytes());
    }
}

/// Dies here, if the request under way wishes it.
pub fn at(place: Place) {
    if host::property(STATE).is_some_and(|wish| wish == place.name().as_bytes()) {
        panic!("as the request wished: {place:?}");
    }
}
