//! How a stream goes on to the client: as it came, filtered, or written anew.

use attache_protocol::codec::{StreamEncoder, StreamFilter};
use attache_protocol::error::ErrorKind;
use attache_protocol::sse::{is_whole, whole_events};

/// How a stream goes on to the client.
pub enum Relay {
    /// Same protocol: bytes as they came.
    Bytes,
    /// The same for server-sent events, of which none is begun before it is whole: an error must not be told in the
    /// middle of another event's line. The bytes are those of the event under way.
    Events(Vec<u8>),
    /// Same protocol, but for usage.
    Filter(Box<dyn StreamFilter>),
    /// Another protocol: events are written anew.
    Encode(Box<dyn StreamEncoder>),
}

impl Relay {
    /// What of a piece goes on; `None`: the bytes as they are. `encoded`: what an encoder made of its events; `failed`: the
    /// piece holds the stream's failure; `live`: the client has had bytes before.
    pub fn pass(
        &mut self,
        bytes: &[u8],
        encoded: Vec<u8>,
        failed: Option<ErrorKind>,
        end: bool,
        live: bool,
    ) -> Option<Vec<u8>> {
        match (self, failed) {
            (Relay::Encode(_), _) => Some(encoded),
            (Relay::Bytes | Relay::Filter(_), Some(ErrorKind::Malformed)) => Some(Vec::new()),
            (Relay::Bytes, Some(ErrorKind::Truncated)) => Some(bytes.to_vec()),
            (Relay::Bytes, _) => None,
            (Relay::Events(begun), _) => events(begun, bytes, failed, end, live),
            (Relay::Filter(filter), _) => {
                let mut out = Vec::new();
                filter.push(bytes, &mut out);
                // The last event of a truncated stream is half an event; the provider's own error may be its last words.
                if end && failed != Some(ErrorKind::Truncated) {
                    filter.end(&mut out);
                }
                Some(out)
            }
        }
    }
}

/// The events that are whole by now; the one under way stays in `begun`.
fn events(
    begun: &mut Vec<u8>,
    bytes: &[u8],
    failed: Option<ErrorKind>,
    end: bool,
    live: bool,
) -> Option<Vec<u8>> {
    if live && begun.is_empty() && failed.is_none() && whole_events(bytes, 0) == bytes.len() {
        return None;
    }
    let searched = begun.len().saturating_sub(3);
    begun.extend_from_slice(bytes);
    let whole = match failed {
        Some(ErrorKind::Malformed) => 0,
        Some(ErrorKind::Truncated) => whole_events(begun, searched),
        None if !end => whole_events(begun, searched),
        // The last event, for which the decoder needed no blank line.
        None => match whole_events(begun, searched) {
            whole if begun.get(whole..).is_some_and(is_whole) => begun.len(),
            whole => whole,
        },
        // The provider's own error.
        Some(_) => begun.len(),
    };
    let rest = begun.split_off(whole);
    Some(std::mem::replace(begun, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_events_go_on() {
        for (last, told) in [
            ("data: {\"half", "data: 3\n\n"),
            ("data: {}", "data: 3\n\ndata: {}"),
            ("data: [DONE]\n", "data: 3\n\ndata: [DONE]\n"),
        ] {
            let mut relay = Relay::Events(Vec::new());
            let mut pass = |bytes: &str, end| {
                let out = relay.pass(bytes.as_bytes(), Vec::new(), None, end, true);
                out.map_or_else(|| "as it is".to_owned(), |out| String::from_utf8_lossy(&out).into_owned())
            };
            assert_eq!(pass("data: 1\n\n", false), "as it is");
            assert_eq!(pass("data: 2\n\ndata:", false), "data: 2\n\n");
            assert_eq!(pass(&format!(" 3\n\n{last}"), true), told);
        }
    }
}
