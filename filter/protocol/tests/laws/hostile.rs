//! Recordings broken on purpose, by a dice with a fixed seed: no panic anywhere, no endless work.

use attache_protocol::codec::{Line, Protocol, SameProtocol, StreamDecoder};
use attache_protocol::dialect::Dialect;

use crate::recording;
use crate::support::content::{MODEL, events_from, events_of, grammar, stream_of, view};
use crate::support::files;
use crate::support::findings::Findings;

/// Broken inputs made of each recording; `ATTACHE_HOSTILE` asks for more.
const BREAKS: usize = 12;
/// Longer recordings are broken in their first bytes: the work is for variety, not for volume.
const LONGEST: usize = 12_000;

/// A seeded source of numbers (xorshift64*), so that a failure can be had again.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: &str) -> Self {
        // FNV-1a, never zero.
        Dice(
            seed.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            }) | 1,
        )
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// A number below `limit`; 0 for 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or(0)
    }
}

/// What is put in: brackets, quotes, escapes, wrong types, huge numbers, line ends, bytes that are no UTF-8.
const INSERTED: [&[u8]; 22] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\"\"",
    b"{}",
    b"[]",
    b"\n",
    b"\n\n",
    b"\r",
    b"data: ",
    b"\xff\xfe",
    b"\\ud800",
];

/// One input broken in a few places.
fn broken(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut out = bytes[..bytes.len().min(LONGEST)].to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(out.len());
        match dice.below(7) {
            0 => out.truncate(at),
            1 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            2 => {
                let to = (at + dice.below(40)).min(out.len());
                out.drain(at..to);
            }
            // A piece again somewhere else: members given twice, events out of order.
            3 => {
                let to = (at + dice.below(200)).min(out.len());
                let piece = out[at..to].to_vec();
                let there = dice.below(out.len());
                out.splice(there..there, piece);
            }
            // Another value in the place of a value.
            4 => replace_value(&mut out, at, dice),
            5 => {
                let deep = [b"[".repeat(dice.below(20_000)), b"{\"a\":".repeat(dice.below(300))];
                let piece = deep[dice.below(2)].clone();
                out.splice(at..at, piece);
            }
            _ => {
                let piece = INSERTED[dice.below(INSERTED.len())];
                out.splice(at..at, piece.iter().copied());
            }
        }
    }
    out
}

/// After the next colon, up to the next comma or bracket.
fn replace_value(out: &mut Vec<u8>, at: usize, dice: &mut Dice) {
    let Some(colon) = out.iter().skip(at).position(|byte| *byte == b':').map(|found| at + found + 1) else {
        return;
    };
    let rest = out.iter().skip(colon).position(|byte| matches!(byte, b',' | b'}' | b']'));
    let end = rest.map_or(out.len(), |found| colon + found);
    let piece = INSERTED[8 + dice.below(8)];
    out.splice(colon..end, piece.iter().copied());
}

fn breaks() -> usize {
    files::setting("ATTACHE_HOSTILE").and_then(|count| count.parse().ok()).unwrap_or(BREAKS)
}

fn lines(own: &Line) -> [Line; 2] {
    [own.clone(), Line::default()]
}

pub fn requests() {
    let mut findings = Findings::of("broken requests do no harm");
    for recording in recording::requests() {
        let mut dice = Dice::new(&recording.id);
        let body = recording.request.as_deref().unwrap_or_default().as_bytes();
        for round in 0..breaks() {
            let broken = broken(body, &mut dice);
            let Ok(text) = std::str::from_utf8(&broken) else { continue };
            findings.case(&format!("{} round {round}", recording.id), |findings| {
                for protocol in Protocol::ALL {
                    for line in lines(&recording.line) {
                        read_and_write(protocol, &line, text, findings);
                    }
                }
            });
        }
    }
    findings.done();
}

/// Whatever is read can be asked for everything that a gateway asks.
fn read_and_write(protocol: Protocol, line: &Line, text: &str, findings: &mut Findings) {
    let codec = protocol.codec();
    let edits = SameProtocol { model: Some(MODEL), add_usage: true, others: true, output_limit: Some(50) };
    codec.edit_request(text, &Dialect::STANDARD, &edits);
    let request = match codec.decode_request(line, text) {
        Ok(request) => request,
        Err(fault) => {
            return findings
                .check(!fault.reason.is_empty(), protocol.name(), || "a fault without a reason".into());
        }
    };
    for provider in Protocol::ALL {
        let contract = provider.codec().contract(&request, &Dialect::STANDARD, MODEL);
        if contract.is_empty() || provider == protocol {
            let body = provider.codec().encode_request(&request, &Dialect::STANDARD, MODEL, &mut Vec::new());
            let json = serde_json::from_slice::<serde::de::IgnoredAny>(&body);
            findings.check(json.is_ok(), provider.name(), || format!("wrote no JSON from {text}"));
        }
    }
}

pub fn answers() {
    let mut findings = Findings::of("broken answers do no harm");
    for recording in recording::answers().chain(recording::errors()) {
        let mut dice = Dice::new(&recording.id);
        for round in 0..breaks() {
            let broken = broken(recording.answer.as_bytes(), &mut dice);
            findings.case(&format!("{} round {round}", recording.id), |findings| {
                for protocol in Protocol::ALL {
                    for status in [recording.status, 400, 599] {
                        let error = protocol.codec().decode_error(status, &broken);
                        for client in Protocol::ALL {
                            client.codec().encode_error(&error);
                        }
                    }
                    let Ok(text) = std::str::from_utf8(&broken) else { continue };
                    let Ok(response) = protocol.codec().decode_response(text) else { continue };
                    for client in Protocol::ALL {
                        let body = client.codec().encode_response(&response, &view(true, true));
                        let json = serde_json::from_slice::<serde::de::IgnoredAny>(&body);
                        findings.check(json.is_ok(), client.name(), || format!("wrote no JSON from {text}"));
                    }
                }
            });
        }
    }
    findings.done();
}

pub fn streams() {
    let mut findings = Findings::of("broken streams do no harm");
    for recording in recording::streams() {
        let mut dice = Dice::new(&recording.id);
        for round in 0..breaks() {
            let broken = broken(recording.answer.as_bytes(), &mut dice);
            let who = format!("{} round {round}", recording.id);
            findings.case(&who, |findings| {
                for protocol in Protocol::ALL {
                    let events = events_of(protocol, [broken.as_slice()]);
                    let verdict = grammar(&events);
                    findings.check(verdict.is_ok(), &who, || {
                        format!("{}: {}", protocol.name(), verdict.unwrap_err())
                    });
                    let cut = dice.below(broken.len());
                    let split = events_of(protocol, [&broken[..cut], &broken[cut..]]);
                    findings.check(split == events, &who, || {
                        format!("{}: split at {cut} differs", protocol.name())
                    });
                    for client in Protocol::ALL {
                        let stream = stream_of(client, &events, &view(true, round % 2 == 0));
                        let verdict = grammar(&events_of(client, [stream.as_slice()]));
                        findings.check(verdict.is_ok(), &who, || {
                            format!("{} → {}: {}", protocol.name(), client.name(), verdict.unwrap_err())
                        });
                    }
                    let mut decoder = protocol.codec().stream_decoder();
                    decoder.push(&broken[..cut], &mut |_| {});
                    decoder.encoder(&view(true, round % 2 == 0)).stop(&decoder.usage(), &mut Vec::new());
                    if let Some(mut filter) = protocol.codec().hide_usage() {
                        let mut out = Vec::new();
                        filter.push(&broken, &mut out);
                        filter.end(&mut out);
                    }
                }
            });
        }
    }
    speaks_after_the_end(&mut findings);
    findings.done();
}

/// Bytes after the end, and an end twice, say nothing more.
fn speaks_after_the_end(findings: &mut Findings) {
    for protocol in Protocol::ALL {
        let mut decoder: Box<dyn StreamDecoder> = protocol.codec().stream_decoder();
        let first = events_from(decoder.as_mut(), [&b""[..]]);
        let more = events_from(decoder.as_mut(), [&b"data: {}\n\n"[..]]);
        findings
            .check(grammar(&first).is_ok(), protocol.name(), || format!("an empty stream gives {first:?}"));
        findings.check(more.is_empty(), protocol.name(), || format!("after the end: {more:?}"));
    }
}
