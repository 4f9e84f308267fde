//! Errors: the right kind for status and body, and the same kind in every protocol's own shape.

use attache_protocol::codec::Protocol;
use attache_protocol::error::{ApiError, ErrorKind};

use crate::recording;
use crate::support::findings::Findings;

/// Kinds that a status may mean; which of them, the body says.
fn possible(status: u16) -> &'static [ErrorKind] {
    match status {
        // Google answers a wrong key with 400 INVALID_ARGUMENT, Mistral an unknown model with 400.
        400 => &[
            ErrorKind::BadRequest,
            ErrorKind::Unsupported,
            ErrorKind::NotFound,
            ErrorKind::Authentication,
            ErrorKind::ContextTooLong,
            ErrorKind::ContentFilter,
            ErrorKind::QuotaSpent,
        ],
        401 => &[ErrorKind::Authentication],
        // Google answers a missing key with 403.
        403 => &[ErrorKind::Permission, ErrorKind::Authentication],
        404 => &[ErrorKind::NotFound],
        413 => &[ErrorKind::TooLarge, ErrorKind::ContextTooLong],
        429 => &[ErrorKind::RateLimit, ErrorKind::QuotaSpent],
        503 | 529 => &[ErrorKind::Overloaded],
        _ => &[ErrorKind::Server],
    }
}

pub fn have_their_kind() {
    let mut findings = Findings::of("errors have their kind");
    for recording in recording::errors() {
        findings.case(&recording.id, |findings| {
            let error =
                recording.protocol.codec().decode_error(recording.status, recording.answer.as_bytes());
            findings.check(possible(recording.status).contains(&error.kind), &recording.id, || {
                format!("{} read as {:?}: {}", recording.status, error.kind, recording.answer)
            });
            findings.equal(&recording.id, "status", &error.status, &recording.status);
            findings.check(
                !error.message.is_empty() && !error.message.trim_start().starts_with('{'),
                &recording.id,
                || format!("the message is not the provider's own: {:?}", error.message),
            );
        });
    }
    findings.done();
}

pub fn cross() {
    let mut findings = Findings::of("errors cross to other protocols");
    for recording in recording::errors() {
        findings.case(&recording.id, |findings| {
            let error =
                recording.protocol.codec().decode_error(recording.status, recording.answer.as_bytes());
            for client in Protocol::ALL {
                survives(&error, client, &recording.id, findings);
            }
        });
    }
    findings.done();
}

/// Each kind that there is, as the gateway itself would make it.
pub fn kinds_survive() {
    let mut findings = Findings::of("every kind of error is told apart");
    for client in Protocol::ALL {
        for kind in ErrorKind::ALL {
            findings.case(client.name(), |findings| {
                let error = ApiError::new(kind, "what happened").with_code(kind.name());
                survives(&error, client, client.name(), findings);
                let any = client.codec().decode_error(kind.status(), b"<html>no JSON at all</html>");
                findings.equal(
                    client.name(),
                    "kind of an unreadable body",
                    &any.kind,
                    &ErrorKind::of_status(kind.status()),
                );
            });
        }
    }
    findings.done();
}

fn survives(error: &ApiError, client: Protocol, who: &str, findings: &mut Findings) {
    let who = format!("{who} → {}", client.name());
    let body = client.codec().encode_error(error);
    let text = String::from_utf8(body.clone()).unwrap();
    findings
        .check(serde_json::from_str::<serde_json::Value>(&text).is_ok(), &who, || format!("no JSON: {text}"));
    let again = client.codec().decode_error(error.status, &body);
    findings.check(same(again.kind, error.kind), &who, || {
        format!("{:?} became {:?}: {text}", error.kind, again.kind)
    });
    findings.check(again.message.contains(&error.message), &who, || format!("message lost: {text}"));
}

/// Google answers a missing key with 403, which elsewhere is a key that may not: both are for the keys' owner.
fn same(one: ErrorKind, other: ErrorKind) -> bool {
    let keys = |kind| matches!(kind, ErrorKind::Authentication | ErrorKind::Permission);
    one == other || (keys(one) && keys(other))
}
