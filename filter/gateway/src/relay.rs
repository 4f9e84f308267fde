//! How a stream goes on to the client: as it came, filtered, or written anew.

use attache_protocol::codec::{StreamEncoder, StreamFilter};
use attache_protocol::error::ErrorKind;
use attache_protocol::sse::{is_whole, whole_events};

/// How a stream goes on to the client.
pub enum Relay {
    /// Same protocol: server-sent events as they came, of which none is begun before it is whole, since an error must not be
    /// told in the middle of another event's line. The bytes are those of the event under way.
    Events(Vec<u8>),
    /// The same for the elements of a JSON array (Gemini without `alt=sse`).
    Elements(Elements),
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
            (Relay::Elements(_) | Relay::Filter(_), Some(ErrorKind::Malformed)) => Some(Vec::new()),
            (Relay::Elements(elements), _) => Some(elements.pass(bytes, end && failed.is_none())),
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

/// A JSON array on its way: what follows its last whole element stays back.
#[derive(Default)]
pub struct Elements {
    begun: Vec<u8>,
    depth: u32,
    in_string: bool,
    escaped: bool,
    sent: bool,
    closed: bool,
}

impl Elements {
    fn pass(&mut self, bytes: &[u8], end: bool) -> Vec<u8> {
        let mut whole = 0;
        for (byte, after) in bytes.iter().zip(self.begun.len() + 1..) {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' if !self.in_string => self.depth += 1,
                b'}' if !self.in_string => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        (whole, self.sent) = (after, true);
                    }
                }
                b']' if !self.in_string && self.depth == 0 => (whole, self.closed) = (after, true),
                _ => {}
            }
        }
        self.begun.extend_from_slice(bytes);
        let whole = if end { self.begun.len() } else { whole };
        let rest = self.begun.split_off(whole);
        std::mem::replace(&mut self.begun, rest)
    }

    /// Ends the array with an error, given as an array of its own; `None`: the provider's own error is its last element.
    pub fn fail(&self, error: Option<&[u8]>, out: &mut Vec<u8>) {
        match error {
            _ if self.closed => {}
            Some(error) if self.sent => {
                out.extend_from_slice(b",\r\n");
                out.extend_from_slice(error.strip_prefix(b"[").unwrap_or(error));
            }
            Some(error) => out.extend_from_slice(error),
            None => out.push(b']'),
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
    fn only_whole_elements_go_on() {
        let text = "[{\"a\":\"}\\\"]{\"},\r\n{\"b\":{}}\n]\n";
        for at in 0..text.len() {
            let mut elements = Elements::default();
            let (first, rest) = text.as_bytes().split_at(at);
            let mut out = elements.pass(first, false);
            let mut cut = out.clone();
            elements.fail(Some(b"[{\"error\":{}}]"), &mut cut);
            let read = serde_json::from_slice::<Vec<serde_json::Value>>(&cut).unwrap();
            assert!(
                elements.closed || read.last().is_some_and(|last| last.get("error").is_some()),
                "at {at}"
            );
            out.extend(elements.pass(rest, true));
            assert_eq!(String::from_utf8(out).unwrap(), text, "at {at}");
        }
    }

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
