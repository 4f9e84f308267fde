//! How long a provider asks to be left alone, and how much of its limits is left: from headers and bodies.

use attache_protocol::error::wait;
use attache_protocol::error::{ApiError, ErrorKind};

use crate::date;

/// The longest wait that is believed. A day: the longest window that providers count in, but for spending.
pub const LONGEST: u64 = 24 * 60 * 60 * 1000;

/// Milliseconds until the provider wants to be asked again; `None`: it did not say. Only for errors: Anthropic and
/// Together send `retry-after` on successes too. Header names are lower case, as Envoy has them. `now`: Unix time in
/// milliseconds.
///
/// A wait of nothing is none, as in the SDKs (openai and anthropic `_calculate_retry_timeout`: `0 < retry_after`):
/// what says "at once" after a refusal says nothing.
pub fn told<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    error: &ApiError,
    now: u64,
) -> Option<u64> {
    let mut said = Said::default();
    headers.into_iter().for_each(|(name, value)| said.take(name, value, now));
    let in_body = error.retry_after.and_then(|wait| wait_of(wait.as_secs_f64() * 1000.0));
    // How a limit stands says something of the wait only where a limit was the cause.
    let limited = matches!(error.kind, ErrorKind::RateLimit | ErrorKind::QuotaSpent);
    let of_limits = || said.limits.wait().filter(|_| limited);
    said.direct.iter().find_map(|wait| *wait).or(in_body).or_else(of_limits)
}

/// How much is left of the scarcest limit, in thousandths; `None`: the provider did not say.
pub fn headroom<'h>(headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Option<u16> {
    let mut limits = Limits::default();
    headers.into_iter().for_each(|(name, value)| limits.take(name, value, 0));
    limits.0.iter().filter_map(Limit::headroom).min()
}

/// Headers that say it outright, first the one that is believed first: openai and anthropic
/// `_base_client._parse_retry_after_header` prefer milliseconds; Azure's SDKs know both names of them (azure_core
/// `get_retry_after`).
const DIRECT: [(&str, f64); 3] =
    [("retry-after-ms", 1.0), ("x-ms-retry-after-ms", 1.0), ("retry-after", 1000.0)];

#[derive(Default)]
struct Said<'h> {
    direct: [Option<u64>; DIRECT.len()],
    limits: Limits<'h>,
}

impl<'h> Said<'h> {
    fn take(&mut self, name: &'h str, value: &str, now: u64) {
        for ((known, factor), wait) in DIRECT.iter().zip(&mut self.direct) {
            if name == *known {
                // Seconds with a fraction, which RFC 9110 has not, are read by the SDKs too.
                let number = || value.trim().parse::<f64>().ok().and_then(|number| wait_of(number * factor));
                *wait = wait.or_else(number).or_else(|| until(value, now));
            }
        }
        self.limits.take(name, value, now);
    }
}

/// Begin of the name of a limit's header, which goes on with what it tells and then, often, which limit.
/// `x-ratelimit-reset-tokens`: OpenAI, Azure, Groq, xAI; `x-ratelimit-reset`: OpenRouter, Together;
/// `x-ratelimit-remaining-tokens-minute`, `ratelimitbysize-reset`: Mistral (all recorded); `ratelimit-reset`:
/// draft-ietf-httpapi-ratelimit-headers-07.
const FAMILIES: [&str; 4] = ["x-ratelimit-", "ratelimitbysize-", "x-ratelimitbysize-", "ratelimit-"];
/// Here the limit's name stands in the middle: `anthropic-ratelimit-tokens-reset` (recorded).
const ANTHROPIC: &str = "anthropic-ratelimit-";

#[derive(Clone, Copy)]
enum Part {
    Limit,
    Remaining,
    Reset,
}
const PARTS: [(&str, Part); 3] =
    [("limit", Part::Limit), ("remaining", Part::Remaining), ("reset", Part::Reset)];

/// One limit, as its headers describe it.
struct Limit<'h> {
    name: (&'static str, &'h str),
    limit: Option<f64>,
    remaining: Option<f64>,
    reset: Option<u64>,
}

#[derive(Default)]
struct Limits<'h>(Vec<Limit<'h>>);

impl<'h> Limits<'h> {
    fn take(&mut self, header: &'h str, value: &str, now: u64) {
        let Some((name, part)) = part(header) else { return };
        let known = self.0.iter().position(|limit| limit.name == name).unwrap_or_else(|| {
            self.0.push(Limit { name, limit: None, remaining: None, reset: None });
            self.0.len() - 1
        });
        let Some(limit) = self.0.get_mut(known) else { return };
        let number = || value.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        match part {
            Part::Limit => limit.limit = number(),
            Part::Remaining => limit.remaining = number(),
            Part::Reset => limit.reset = reset(value, now),
        }
    }

    /// A limit that has something left is not what refused the request. (Nothing may be left to ask of it all the
    /// same: then the message says so, not the headers.) Several are waited for until the last comes back.
    fn wait(&self) -> Option<u64> {
        let waits = |exhausted: fn(&Limit<'_>) -> bool| {
            self.0.iter().filter(move |limit| exhausted(limit)).filter_map(|limit| limit.reset).max()
        };
        waits(|limit| limit.remaining.is_some_and(|remaining| remaining <= 0.0))
            .or_else(|| waits(|limit| limit.remaining.is_none()))
    }
}

impl Limit<'_> {
    fn headroom(&self) -> Option<u16> {
        let limit = self.limit.filter(|limit| *limit > 0.0)?;
        Some((self.remaining? / limit * 1000.0).clamp(0.0, 1000.0) as u16)
    }
}

/// Which limit a header is about, and what it tells of it.
fn part(header: &str) -> Option<((&'static str, &str), Part)> {
    if let Some(name) = header.strip_prefix(ANTHROPIC) {
        return PARTS.iter().find_map(|(word, part)| {
            let name = name.strip_suffix(word)?.strip_suffix('-')?;
            // `unified-5h-reset` and the like tell of a subscription's windows, whichever of them is used up.
            (!name.starts_with("unified")).then_some(((ANTHROPIC, name), *part))
        });
    }
    FAMILIES.iter().find_map(|family| {
        let name = header.strip_prefix(family)?;
        PARTS.iter().find_map(|(word, part)| Some(((*family, name.strip_prefix(word)?), *part)))
    })
}

/// When a limit comes back: seconds (Together, Mistral, Cerebras, the IETF's draft), a moment of Unix time in seconds
/// or in milliseconds (OpenRouter, recorded: `1754667660000`), a duration (OpenAI, Groq) or a date (Anthropic).
fn reset(value: &str, now: u64) -> Option<u64> {
    match value.trim().parse::<f64>() {
        Ok(at) if at >= MILLISECONDS => wait_of(at - now as f64),
        Ok(at) if at >= SECONDS => wait_of(at * 1000.0 - now as f64),
        Ok(seconds) => wait_of(seconds * 1000.0),
        Err(_) => until(value, now),
    }
}
/// September 2001, in either unit: no wait is that long, and no clock that slow.
const SECONDS: f64 = 1e9;
const MILLISECONDS: f64 = 1e12;

/// A duration with its units, or a date.
fn until(value: &str, now: u64) -> Option<u64> {
    match wait::duration(value) {
        Some(wait) => wait_of(wait.as_secs_f64() * 1000.0),
        None => wait_of(date::unix_millis(value, now)? as f64 - now as f64),
    }
}

/// Whole milliseconds, rounded up; `None` for what is no wait.
fn wait_of(millis: f64) -> Option<u64> {
    (millis.is_finite() && millis > 0.0).then(|| (millis.ceil() as u64).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2026-01-09T01:11:49Z
    const NOW: u64 = 1_767_921_109_000;

    fn headers(text: &str) -> Vec<(&str, &str)> {
        text.split("; ").filter_map(|line| line.split_once(": ")).collect()
    }

    fn limited(lines: &str) -> Option<u64> {
        told(headers(lines), &ApiError::new(ErrorKind::RateLimit, ""), NOW)
    }

    #[test]
    fn every_format_is_read() {
        for (lines, wait) in [
            ("retry-after: 20", Some(20_000)),
            ("retry-after:  1.5 ", Some(1500)),
            ("retry-after-ms: 1234.5; retry-after: 2", Some(1235)),
            ("retry-after: 2; x-ms-retry-after-ms: 900", Some(900)),
            ("retry-after: 30s", Some(30_000)),
            ("retry-after: Fri, 09 Jan 2026 01:12:49 GMT", Some(60_000)),
            ("retry-after: Friday, 09-Jan-26 01:12:49 GMT", Some(60_000)),
            ("retry-after: Fri Jan  9 01:12:49 2026", Some(60_000)),
            ("retry-after: Fri, 09 Jan 2026 01:11:48 GMT", None),
            ("retry-after: 0; x-ratelimit-reset: 2", Some(2000)),
            ("retry-after: 99999999999999999999999", Some(LONGEST)),
            ("retry-after: Fri, 09 Jan 2099 01:12:49 GMT", Some(LONGEST)),
            ("retry-after: -5", None),
            ("retry-after: NaN", None),
            ("retry-after: inf", None),
            ("retry-after: soon", None),
            ("retry-after: ", None),
            // Recorded of OpenRouter, and of OpenAI and Groq but for what is left.
            (
                "x-ratelimit-limit: 1; x-ratelimit-remaining: 0; x-ratelimit-reset: 1767921129000",
                Some(20_000),
            ),
            ("x-ratelimit-remaining: 0; x-ratelimit-reset: 1767921129", Some(20_000)),
            ("x-ratelimit-remaining-requests: 0; x-ratelimit-reset-requests: 8.64s", Some(8640)),
            ("x-ratelimit-remaining-tokens: 0; x-ratelimit-reset-tokens: 2m59.56s", Some(179_560)),
            ("x-ratelimit-remaining-tokens: 0; x-ratelimit-reset-tokens: 60", Some(60_000)),
            ("ratelimitbysize-remaining: 0; ratelimitbysize-reset: 60", Some(60_000)),
            ("ratelimit-remaining: 0; ratelimit-reset: 7", Some(7000)),
            (
                "anthropic-ratelimit-tokens-remaining: 0; anthropic-ratelimit-tokens-reset: 2026-01-09T01:11:51Z",
                Some(2000),
            ),
            ("anthropic-ratelimit-unified-7d-reset: 1768000000", None),
        ] {
            assert_eq!(limited(lines), wait, "{lines}");
        }
    }

    #[test]
    fn the_exhausted_limit_is_waited_for() {
        let both = "x-ratelimit-remaining-requests: 0; x-ratelimit-reset-requests: 3s; \
                    x-ratelimit-remaining-tokens: 5; x-ratelimit-reset-tokens: 1h";
        assert_eq!(limited(both), Some(3000));
        let none_left = both.replace("tokens: 5", "tokens: 0");
        assert_eq!(limited(&none_left), Some(3_600_000));
        assert_eq!(limited(&both.replace("requests: 0", "requests: 1")), None);
        let unknown = "x-ratelimit-reset-requests: 3s; x-ratelimit-reset-tokens: 9s";
        assert_eq!(limited(unknown), Some(9000));
        // Limits that something is left of, recorded with an error of another kind.
        let error = ApiError::new(ErrorKind::Unsupported, "");
        assert_eq!(told(headers(&none_left), &error, NOW), None);
    }

    #[test]
    fn the_body_comes_after_the_headers_that_say_it_outright() {
        let mut error = ApiError::new(ErrorKind::RateLimit, "");
        error.retry_after = Some(Duration::from_micros(34_074_824));
        let reset = "x-ratelimit-remaining: 0; x-ratelimit-reset: 2";
        assert_eq!(told(headers(reset), &error, NOW), Some(34_075));
        assert_eq!(told([("retry-after", "1")], &error, NOW), Some(1000));
        error.retry_after = Some(Duration::MAX);
        assert_eq!(told([], &error, NOW), Some(LONGEST));
    }

    #[test]
    fn the_scarcest_limit_is_the_headroom() {
        let openai = "x-ratelimit-limit-requests: 10000; x-ratelimit-remaining-requests: 9999; \
                      x-ratelimit-limit-tokens: 200000; x-ratelimit-remaining-tokens: 50000";
        assert_eq!(headroom(headers(openai)), Some(250));
        let anthropic = "anthropic-ratelimit-tokens-limit: 4800000; anthropic-ratelimit-tokens-remaining: 0";
        assert_eq!(headroom(headers(anthropic)), Some(0));
        for nothing in
            ["x-ratelimit-remaining-tokens: 5", "x-ratelimit-limit: 0; x-ratelimit-remaining: 0", "a: b"]
        {
            assert_eq!(headroom(headers(nothing)), None, "{nothing}");
        }
        // Recorded of Together: more is left than there is.
        assert_eq!(headroom(headers("x-ratelimit-limit: 30; x-ratelimit-remaining: 59")), Some(1000));
    }
}
