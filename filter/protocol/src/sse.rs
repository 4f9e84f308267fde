//! Server-sent events: bytes in any pieces → frames (WHATWG HTML, section 9.2 "Server-sent events").

/// A longer frame is not a piece of an answer; it would only fill the memory. An inline image has a few megabytes.
pub const LARGEST_FRAME: usize = 16 << 20;

/// One dispatched event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The `event:` field; empty where there was none.
    pub event: &'a str,
    /// The `data:` lines, joined by line feeds.
    pub data: &'a str,
}

/// Incremental parser. Lines end in LF, CR or CRLF, also mixed and split between pieces; comments and
/// unknown fields are skipped; bytes become text only once a frame is whole.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    event: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    started: bool,
}

impl Parser {
    /// Takes the next bytes and hands over every frame that they complete.
    pub fn push(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Frame<'_>)) {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (line, rest) = bytes.split_at(end);
            let cr = rest.first() == Some(&b'\r');
            let rest = rest.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.take_line(line, each);
            } else {
                self.line.extend_from_slice(line);
                let line = std::mem::take(&mut self.line);
                self.take_line(&line, each);
            }
            bytes = match (cr, rest) {
                (true, []) => {
                    self.after_cr = true;
                    rest
                }
                (true, rest) => rest.strip_prefix(b"\n").unwrap_or(rest),
                (false, rest) => rest,
            };
        }
        self.line.extend_from_slice(bytes);
    }

    /// The bytes have ended: hands over a last frame that lacks its blank line (one recorded provider stream
    /// ends so). Whether its data is whole is for the decoder to see.
    pub fn finish(&mut self, each: &mut dyn FnMut(Frame<'_>)) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line, each);
        }
        self.take_line(b"", each);
    }

    /// Bytes held for a frame that is not whole yet.
    pub fn held(&self) -> usize {
        self.line.len() + self.data.len()
    }

    fn take_line(&mut self, line: &[u8], each: &mut dyn FnMut(Frame<'_>)) {
        let line = if self.started { line } else { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) };
        self.started = true;
        if line.is_empty() {
            if self.has_data {
                let (event, data) =
                    (String::from_utf8_lossy(&self.event), String::from_utf8_lossy(&self.data));
                each(Frame { event: &event, data: &data });
            }
            self.event.clear();
            self.data.clear();
            self.has_data = false;
            return;
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => {
                let (field, value) = line.split_at(colon);
                let value = value.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            b"event" => {
                self.event.clear();
                self.event.extend_from_slice(value);
            }
            _ => {}
        }
    }
}

/// The place after the next blank line: the end of an event; `from`: before it there is none. Lines end in LF or CRLF; no
/// provider was seen to use CR alone.
pub fn event_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(b'\n', bytes.get(at..)?)? + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}

/// How many bytes belong to events that are whole; `from`: before it there is no end of one.
pub fn whole_events(bytes: &[u8], from: usize) -> usize {
    let tail = bytes.get(from..).unwrap_or_default();
    let ends = [&b"\n\n"[..], b"\n\r\n", b"\r\r"]
        .map(|blank| memchr::memmem::rfind(tail, blank).map_or(0, |at| from + at + blank.len()));
    ends.into_iter().max().unwrap_or_default()
}

/// Whether the last event of all, which lacks its blank line, is one all the same: what it says is JSON, or `[DONE]`. Half
/// an event is nothing that a client could read (the OpenAI SDK's `_streaming.py` reads it, and fails).
pub fn is_whole(last: &[u8]) -> bool {
    let (mut parser, mut whole) = (Parser::default(), true);
    let mut each = |frame: Frame<'_>| {
        let data = frame.data.trim();
        whole = data == "[DONE]" || serde_json::from_str::<serde::de::IgnoredAny>(data).is_ok();
    };
    parser.push(last, &mut each);
    parser.finish(&mut each);
    whole
}

/// Writes a frame: `event:` only where it has a name.
pub fn write(event: &str, data: &str, out: &mut Vec<u8>) {
    if !event.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        let mut found = Vec::new();
        let mut each = |frame: Frame<'_>| found.push((frame.event.to_owned(), frame.data.to_owned()));
        for piece in pieces {
            parser.push(piece, &mut each);
        }
        parser.finish(&mut each);
        found
    }

    #[test]
    fn every_split_gives_the_same_frames() {
        let text = "\u{feff}: hello\n\nevent: a\r\ndata: 1\r\ndata:  2\r\n\r\ndata\rdata: é\r\rid: 7\n\n\ndata: tail".as_bytes();
        let whole = frames(&[text]);
        let expected = [("a", "1\n 2"), ("", "\né"), ("", "tail")];
        assert_eq!(whole, expected.map(|(e, d)| (e.to_owned(), d.to_owned())));
        for a in 0..text.len() {
            for b in a..text.len() {
                assert_eq!(frames(&[&text[..a], &text[a..b], &text[b..]]), whole, "split at {a}, {b}");
            }
        }
    }
}
