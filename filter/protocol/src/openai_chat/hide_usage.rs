//! Takes usage out of a same-protocol stream whose client did not ask for it; every other byte passes as it came.

use memchr::memmem;

use crate::codec::StreamFilter;
use crate::raw::{Edit, RawObject};
use crate::sse::{LARGEST_FRAME, event_end, is_whole};

/// What OpenAI writes in every chunk but the last when usage was asked for. Within a JSON string the quotes would be
/// escaped, so these bytes are a member wherever they stand.
const NO_USAGE: &[u8] = b",\"usage\":null";

#[derive(Default)]
pub struct HideUsage {
    /// Bytes of the event that is not whole yet.
    held: Vec<u8>,
    /// Up to here no end of an event was found.
    searched: usize,
}

impl StreamFilter for HideUsage {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let mut from = 0;
        while let Some(end) = event_end(&held, self.searched.max(from)) {
            event(held.get(from..end).unwrap_or_default(), out);
            from = end;
        }
        self.held = held;
        self.held.drain(..from);
        // Comments without end, say: an event of this size is refused by the decoder beside this filter.
        if self.held.len() > LARGEST_FRAME {
            out.append(&mut self.held);
        }
        // The last bytes may be the beginning of a blank line.
        self.searched = self.held.len().saturating_sub(3);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if is_whole(&self.held) {
            event(&self.held, out);
        }
        self.held.clear();
    }
}

fn event(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    let mut kept: Vec<u8>;
    if let Some(place) = memmem::find(bytes, NO_USAGE) {
        kept = Vec::with_capacity(bytes.len());
        kept.extend_from_slice(bytes.get(..place).unwrap_or_default());
        kept.extend_from_slice(bytes.get(place + NO_USAGE.len()..).unwrap_or_default());
        rest = &kept;
    }
    if memmem::find(rest, b"\"usage\"").is_none() {
        out.extend_from_slice(rest);
        return;
    }
    match without_usage(rest) {
        Some(Some(edited)) => out.extend_from_slice(&edited),
        Some(None) => {}
        None => out.extend_from_slice(rest),
    }
}

/// `None`: nothing to take. `Some(None)`: the event holds nothing but usage.
fn without_usage(event: &[u8]) -> Option<Option<Vec<u8>>> {
    let text = std::str::from_utf8(event).ok()?;
    let data = text.lines().find_map(|line| line.strip_prefix("data:"))?;
    let chunk = RawObject::parse(data)?;
    let usage = chunk.get("usage")?;
    let bare = chunk.get("choices").is_some_and(|choices| choices.bytes().all(|b| b"[] \t\r\n".contains(&b)));
    if bare && chunk.get("error").is_none() && usage != "null" {
        return Some(None);
    }
    let from = data.as_ptr() as usize - text.as_ptr() as usize;
    let mut edited = Vec::with_capacity(event.len());
    edited.extend_from_slice(event.get(..from)?);
    edited.extend_from_slice(chunk.edit(&[Edit::Remove("usage")]).as_bytes());
    edited.extend_from_slice(event.get(from + data.len()..)?);
    Some(Some(edited))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(pieces: &[&[u8]]) -> String {
        let mut filter = HideUsage::default();
        let mut out = Vec::new();
        for piece in pieces {
            filter.push(piece, &mut out);
        }
        filter.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_usage_goes_in_every_split() {
        let stream = concat!(
            ": hello\r\n\r\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\": é\"}}],\"usage\":null,\"p\":\"x\"}\n\n",
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}], \"usage\": {\"a\":1} }\r\n\r\n",
            "data: {\"usage\":null,\"choices\":[]}\n\n",
            "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"a\":1}}\n\n",
            "data: [DONE]\n\n",
        );
        let expected = concat!(
            ": hello\r\n\r\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\": é\"}}],\"p\":\"x\"}\n\n",
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}] }\r\n\r\n",
            "data: {\"choices\":[]}\n\n",
            "data: [DONE]\n\n",
        );
        let bytes = stream.as_bytes();
        assert_eq!(hidden(&[bytes]), expected);
        for a in 0..bytes.len() {
            for b in (a..bytes.len()).step_by(3) {
                assert_eq!(hidden(&[&bytes[..a], &bytes[a..b], &bytes[b..]]), expected, "{a} {b}");
            }
        }
    }

    #[test]
    fn half_an_event_at_the_end_is_none() {
        let whole = "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n";
        let last = "data: {\"choices\":[],\"x\":\"y\"}";
        assert_eq!(hidden(&[whole.as_bytes(), last.as_bytes()]), format!("{whole}{last}"));
        for cut in ["data: {\"choices\":[],\"x", "data: [DO"] {
            assert_eq!(hidden(&[whole.as_bytes(), cut.as_bytes()]), whole, "{cut}");
        }
    }

    #[test]
    fn events_are_handed_on_at_once() {
        let mut filter = HideUsage::default();
        let mut out = Vec::new();
        filter.push(b"data: {\"choices\":[]}\n\ndata", &mut out);
        assert_eq!(out, b"data: {\"choices\":[]}\n\n");
    }
}
