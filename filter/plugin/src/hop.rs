//! The hop: a connection within Envoy that the filter can end at any time, and well.
//!
//! The ABI ends no answer: closing a stream resets it, and the client sees a broken-off body. A connection it does close. So
//! an attempt that may have to be ended goes through a listener inside Envoy (the chart's `_hop.tpl`), before whose HTTP
//! stands this filter. It makes the request one of HTTP/1.0, so that the answer is without chunks and lasts until its
//! connection ends; and it tells the upstream filter, in a header of the answer, which connection that is. When the
//! upstream filter closes it, the router behind hangs up on the provider, and the router before takes it for the answer's
//! end. Internal connections stay on their worker, and all filters of a worker are in one VM.
//!
//! Source: RFC 9112, section 6.3, rule 8 (a body that lasts until the connection closes).

use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::Action;

use attache_gateway::headers::HOP_HEADER;

use crate::host::{self, Body};

/// Bytes of a first line that are fetched at first; nearly all are shorter.
const SHORT: usize = 256;
/// Where the status begins in `HTTP/1.0 200 OK`.
const STATUS: usize = 9;

/// One connection, for one request.
pub struct Hop {
    id: u32,
    asked: bool,
    told: bool,
}

impl Hop {
    pub fn new(id: u32) -> Self {
        Hop { id, asked: false, told: false }
    }
}

impl Context for Hop {}

impl StreamContext for Hop {
    fn on_downstream_data(&mut self, size: usize, _: bool) -> Action {
        if self.asked {
            return Action::Continue;
        }
        let Some(mut line) = first_line(Body::Downstream, size) else { return Action::Pause };
        self.asked = true;
        let length = line.len();
        if line.ends_with(b"HTTP/1.1\r\n") {
            line.truncate(length - b"1\r\n".len());
            line.extend_from_slice(b"0\r\n");
            host::set_body(Body::Downstream, length, &line);
        }
        Action::Continue
    }

    fn on_upstream_data(&mut self, size: usize, _: bool) -> Action {
        if self.told {
            return Action::Continue;
        }
        // A head is written in one piece; an interim one has another after it.
        let Some(mut line) = first_line(Body::Upstream, size) else { return Action::Continue };
        if line.get(STATUS) == Some(&b'1') {
            return Action::Continue;
        }
        self.told = true;
        if let Some(connection) = connection() {
            let length = line.len();
            line.extend_from_slice(format!("{HOP_HEADER}: {}.{connection}\r\n", self.id).as_bytes());
            host::set_body(Body::Upstream, length, &line);
        }
        Action::Continue
    }
}

/// Where a connection is that can be ended.
#[derive(Clone, Copy)]
pub struct Place {
    context: u32,
    connection: u64,
}

impl Place {
    /// As the hop tells it in [`HOP_HEADER`].
    pub fn read(told: &str) -> Option<Place> {
        let (context, connection) = told.split_once('.')?;
        Some(Place { context: context.parse().ok()?, connection: connection.parse().ok()? })
    }

    /// Ends the connection, which Envoy does after the callback. `own`: the context that asks. `false`: it is not there any
    /// more.
    pub fn end(self, own: u32) -> bool {
        // After a trap a new VM gives the same ids to other contexts; connections' ids are never given twice.
        let there = host::act_for(self.context) && connection() == Some(self.connection);
        if there {
            host::close_connection();
        }
        host::act_for(own);
        there
    }
}

/// The id of the connection of the context at hand.
fn connection() -> Option<u64> {
    Some(u64::from_le_bytes(*host::property("connection_id")?.first_chunk()?))
}

/// The first line of what a connection brings, its end included.
fn first_line(kind: Body, size: usize) -> Option<Vec<u8>> {
    let upto = |most: usize| {
        let mut line = host::body(kind, 0, most);
        let end = line.iter().position(|byte| *byte == b'\n')?;
        line.truncate(end + 1);
        Some(line)
    };
    upto(size.min(SHORT)).or_else(|| if size > SHORT { upto(size) } else { None })
}
