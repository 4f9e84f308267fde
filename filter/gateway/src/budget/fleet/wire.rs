//! The few messages of `envoy.service.ratelimit.v3` that are needed, by hand: they are small, and a library is not.
//!
//! Field numbers: `rls.pb.go` (service/ratelimit/v3) and `ratelimit.pb.go` (extensions/common/ratelimit/v3) of
//! github.com/envoyproxy/go-control-plane/envoy v1.40.0; `wrappers.proto` and `duration.proto` of protobuf.

pub const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
pub const METHOD: &str = "ShouldRateLimit";
/// `GrpcService { envoy_grpc { cluster_name: "fleet" } }` (`grpc_service.pb.go`, config/core/v3): the Envoy cluster that leads
/// there. The bare name would do for most names, but Envoy 1.40 tries to read it as this message first, and dies of one that
/// can be (`empty`).
pub const TARGET: &str = "\x0a\x07\x0a\x05fleet";

/// One counter, and by how much it goes up; by 0 it is only read.
pub struct Descriptor<'a> {
    pub key: &'a str,
    pub value: String,
    pub hits: u64,
}

/// What the service says of one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Status {
    pub code: u64,
    /// Of the limit that it knows for the counter: requests for each unit, and the unit. 0: none.
    pub limit: u64,
    pub unit: u64,
    pub remaining: u64,
    /// Seconds until the end of the service's window.
    pub reset: u64,
}

pub const OK: u64 = 1;
pub const OVER_LIMIT: u64 = 2;

/// A `RateLimitRequest`.
pub fn request(domain: &str, descriptors: &[Descriptor<'_>]) -> Vec<u8> {
    let mut request = Vec::with_capacity(64 + descriptors.len() * 128);
    bytes(&mut request, 1, domain.as_bytes());
    for descriptor in descriptors {
        let (mut entry, mut hits, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        bytes(&mut entry, 1, descriptor.key.as_bytes());
        bytes(&mut entry, 2, descriptor.value.as_bytes());
        // `UInt64Value`: where it is present, 0 means 0.
        number(&mut hits, 1, descriptor.hits);
        bytes(&mut whole, 1, &entry);
        bytes(&mut whole, 3, &hits);
        bytes(&mut request, 2, &whole);
    }
    request
}

/// The statuses of a `RateLimitResponse`; `None`: it is none.
pub fn statuses(response: &[u8]) -> Option<Vec<Status>> {
    let mut statuses = Vec::new();
    for member in Members(response) {
        if let (2, Value::Bytes(bytes)) = member? {
            statuses.push(status(bytes)?);
        }
    }
    Some(statuses)
}

fn status(bytes: &[u8]) -> Option<Status> {
    let mut status = Status::default();
    for member in Members(bytes) {
        match member? {
            (1, Value::Number(code)) => status.code = code,
            (2, Value::Bytes(limit)) => {
                for member in Members(limit) {
                    match member? {
                        (1, Value::Number(limit)) => status.limit = limit,
                        (2, Value::Number(unit)) => status.unit = unit,
                        _ => {}
                    }
                }
            }
            (3, Value::Number(remaining)) => status.remaining = remaining,
            (4, Value::Bytes(duration)) => {
                for member in Members(duration) {
                    if let (1, Value::Number(seconds)) = member? {
                        status.reset = seconds;
                    }
                }
            }
            _ => {}
        }
    }
    Some(status)
}

fn varint(to: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn number(to: &mut Vec<u8>, field: u64, value: u64) {
    varint(to, field << 3);
    varint(to, value);
}

fn bytes(to: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(to, field << 3 | 2);
    varint(to, value.len() as u64);
    to.extend_from_slice(value);
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a form that no member has that is read here.
    Other,
}

/// A message's members, in order; `None` among them: the rest cannot be read.
struct Members<'a>(&'a [u8]);

impl<'a> Iterator for Members<'a> {
    type Item = Option<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let member = self.member();
        if member.is_none() {
            self.0 = &[];
        }
        Some(member)
    }
}

impl<'a> Members<'a> {
    fn member(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_as_protoc_encodes_it() {
        let request =
            request("attache", &[Descriptor { key: "hour", value: "{b/tokens/0}".to_owned(), hits: 300 }]);
        let expected = b"\x0a\x07attache\x12\x1b\x0a\x14\x0a\x04hour\x12\x0c{b/tokens/0}\x1a\x03\x08\xac\x02";
        assert_eq!(request, expected);
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        bytes(&mut inner, 1, b"fleet");
        bytes(&mut outer, 1, &inner);
        assert_eq!(TARGET.as_bytes(), outer);
    }

    #[test]
    fn an_answer_of_the_real_service() {
        // Recorded: a counter of 5 under a limit of 2³²−1 for an hour, 1157 s before its end.
        let answer = b"\x08\x01\x12\x17\x08\x01\x12\x08\x08\xff\xff\xff\xff\x0f\x10\x03\x18\xfa\xff\xff\xff\x0f\x22\x03\x08\x85\x09";
        let status =
            Status { code: OK, limit: u32::MAX.into(), unit: 3, remaining: 4_294_967_290, reset: 1157 };
        assert_eq!(statuses(answer), Some(vec![status]));
        assert_eq!(statuses(b""), Some(vec![]));
        for length in (0..answer.len()).filter(|length| ![0, 2].contains(length)) {
            assert_eq!(statuses(&answer[..length]), None, "cut after {length}");
        }
        let tenth = b"\x12\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(statuses(tenth), None, "a number without an end");
        assert_eq!(
            statuses(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            None,
            "a length beyond the end"
        );
    }
}
