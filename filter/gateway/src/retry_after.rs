//! How long a provider asks to be left alone, and how much of its limits is left: from headers and bodies.

use attache_protocol::error::ApiError;

/// The longest wait that is believed. A day: the longest window that providers count in.
pub const LONGEST: u64 = 24 * 60 * 60 * 1000;

/// Milliseconds until the provider wants to be asked again; `None`: it did not say. Only for errors: Anthropic sends
/// `retry-after` on successes too. `now`: Unix time in milliseconds.
pub fn told<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    error: &ApiError,
    _now: u64,
) -> Option<u64> {
    let mut wait = None;
    for (name, value) in headers {
        let factor = match name {
            "retry-after-ms" => 1.0,
            "retry-after" => 1000.0,
            _ => continue,
        };
        wait = wait.or_else(|| milliseconds(value.trim().parse::<f64>().ok()? * factor));
    }
    wait.or_else(|| Some(u64::try_from(error.retry_after?.as_millis()).unwrap_or(LONGEST).min(LONGEST)))
}

/// How much is left of the scarcest limit, in thousandths; `None`: the provider did not say.
pub fn headroom<'h>(_headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Option<u16> {
    None
}

/// `None` for what is no wait.
fn milliseconds(wait: f64) -> Option<u64> {
    (wait.is_finite() && wait >= 0.0).then(|| (wait.ceil() as u64).min(LONGEST))
}
