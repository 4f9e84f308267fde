//! The rate-limit service as a plain book of counters, written from what the real one was seen to do (`tests/test_ratelimit.py`).

use std::collections::HashMap;

const UNITS: [(&str, u64, u64); 5] = [
    ("minute", 2, 60),
    ("hour", 3, 3600),
    ("day", 4, 86_400),
    ("month", 5, 2_592_000),
    ("year", 6, 31_536_000),
];
const ROOM: u64 = 4_294_967_295;

#[derive(Default)]
pub struct Service {
    counters: HashMap<String, u64>,
    pub down: bool,
}

impl Service {
    pub fn forget(&mut self) {
        self.counters.clear();
    }

    /// `now`: by its own clock, in milliseconds. `None`: it is down.
    pub fn serve(&mut self, request: &[u8], now: u64) -> Option<Vec<u8>> {
        if self.down {
            return None;
        }
        let mut response = Vec::new();
        let mut domain = String::new();
        for (field, value) in members(request) {
            match field {
                1 => domain = text(value.bytes()),
                2 => {
                    let status = self.count(&domain, value.bytes(), now / 1000);
                    response.extend([vec![0x12, status.len() as u8], status].concat());
                }
                _ => panic!("field {field} of a request"),
            }
        }
        Some(response)
    }

    fn count(&mut self, domain: &str, descriptor: &[u8], now: u64) -> Vec<u8> {
        let (mut key, mut value, mut hits) = (String::new(), String::new(), None);
        for (field, member) in members(descriptor) {
            match field {
                1 => {
                    for (field, member) in members(member.bytes()) {
                        *(if field == 1 { &mut key } else { &mut value }) = text(member.bytes());
                    }
                }
                3 => hits = members(member.bytes()).next().map(|(_, hits)| hits.number()),
                _ => panic!("field {field} of a descriptor"),
            }
        }
        let (_, unit, seconds) = UNITS.into_iter().find(|(name, ..)| *name == key).unwrap();
        let name = format!("{domain}_{key}_{value}_{}", now / seconds * seconds);
        let counter = self.counters.entry(name).or_default();
        *counter += hits.unwrap();
        let over = *counter > ROOM;
        let mut status = vec![0x08, 1 + u8::from(over)];
        let limit = [vec![0x08], varint(ROOM), vec![0x10, unit as u8]].concat();
        status.extend([vec![0x12, limit.len() as u8], limit].concat());
        if !over {
            status.extend([vec![0x18], varint(ROOM - *counter)].concat());
        }
        let reset = [vec![0x08], varint(seconds - now % seconds)].concat();
        status.extend([vec![0x22, reset.len() as u8], reset].concat());
        status
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(&self) -> u64 {
        let Value::Number(number) = self else { panic!("bytes where a number belongs") };
        *number
    }
    fn bytes(&self) -> &'a [u8] {
        let Value::Bytes(bytes) = self else { panic!("a number where bytes belong") };
        bytes
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn members(mut message: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        if message.is_empty() {
            return None;
        }
        let key = take(&mut message);
        let number = take(&mut message);
        let value = if key & 7 == 0 {
            Value::Number(number)
        } else {
            let (bytes, rest) = message.split_at(number as usize);
            message = rest;
            Value::Bytes(bytes)
        };
        Some((key >> 3, value))
    })
}

fn take(from: &mut &[u8]) -> u64 {
    let length = from.iter().position(|byte| *byte < 128).unwrap() + 1;
    let (number, rest) = from.split_at(length);
    *from = rest;
    number.iter().rev().fold(0, |sum, byte| (sum << 7) | u64::from(byte & 127))
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push((number % 128) as u8 + 128);
        number /= 128;
    }
    bytes.push(number as u8);
    bytes
}
