//! How long to wait, as providers write it: `1m30s`, `20ms`, `34.07s`, and the sentences that hold such.

use std::time::Duration;

/// Units as they are written after a number, longest first. Go's `time.Duration` in OpenAI's, Azure's and Groq's
/// headers and messages ("6m0s", "2m59.56s"), a protobuf `Duration` in Google's ("34.074824224s"), words in Azure's
/// messages ("try again in 35 seconds", openai/codex `try_parse_retry_after`).
const UNITS: [(&str, f64); 14] = [
    ("milliseconds", 0.001),
    ("seconds", 1.0),
    ("minutes", 60.0),
    ("second", 1.0),
    ("minute", 60.0),
    ("hours", 3600.0),
    ("hour", 3600.0),
    ("secs", 1.0),
    ("sec", 1.0),
    ("ms", 0.001),
    ("d", 86400.0),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
];

/// What comes before a wait in a message. OpenAI, Azure and Groq: "Please try again in 1.2s" (openai/codex
/// `rate_limit_regex`, console.groq.com); Google: "Please retry in 34.07s" (google-gemini/gemini-cli
/// `googleQuotaErrors.ts`); Azure: "Please retry after 10 seconds" (learn.microsoft.com, Azure OpenAI quotas).
const BEFORE: [&str; 3] = ["try again in ", "retry in ", "retry after "];

/// A duration and nothing else.
pub fn duration(text: &str) -> Option<Duration> {
    match leading(text.trim())? {
        (wait, "") => Some(wait),
        _ => None,
    }
}

/// The wait that a message names.
pub fn in_message(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    BEFORE.iter().find_map(|before| {
        let (_, after) = message.split_once(before)?;
        leading(after.trim_start()).map(|(wait, _)| wait)
    })
}

/// The duration that a text begins with, and the rest: numbers, each with its unit.
fn leading(text: &str) -> Option<(Duration, &str)> {
    let mut rest = text;
    let mut seconds = 0.0;
    while let Some((number, unit, after)) = step(rest) {
        seconds += number * unit;
        rest = after;
    }
    if rest.len() == text.len() {
        return None;
    }
    Duration::try_from_secs_f64(seconds).ok().map(|wait| (wait, rest))
}

fn step(text: &str) -> Option<(f64, f64, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, after) = text.split_at_checked(end)?;
    let number = number.parse::<f64>().ok()?;
    let after = after.strip_prefix(' ').unwrap_or(after);
    let (unit, rest) = UNITS.iter().find_map(|(name, unit)| {
        let rest = after.strip_prefix(name)?;
        // "5 standard requests" is no wait of five seconds.
        (!rest.starts_with(|c: char| c.is_ascii_alphabetic())).then_some((*unit, rest))
    })?;
    Some((number, unit, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_all_kinds() {
        for (text, millis) in [
            ("20ms", 20),
            ("0s", 0),
            ("6m0s", 360_000),
            ("8.64s", 8640),
            ("2m59.56s", 179_560),
            ("1h2m3.5s", 3_723_500),
            (" 34.074824224s ", 34_074),
            ("1d2h", 93_600_000),
            ("35 seconds", 35_000),
            ("1 minute", 60_000),
        ] {
            assert_eq!(duration(text).map(|wait| wait.as_millis()), Some(millis), "{text}");
        }
        let long = "9".repeat(400) + "h";
        for text in ["", "s", "5", "-5s", "1.2.3s", "5 standard", "s5", "5sx", "1m x", "NaNs", "infs", &long]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn messages_name_their_wait() {
        for (message, millis) in [
            ("Limit 3, Used 3, Requested 1. Please try again in 20s. Visit https://x", Some(20_000)),
            ("… (TPM): Limit 15000, Used 11972. Please try again in 5.289s. Visit", Some(5289)),
            ("Please try again in 6m0s.", Some(360_000)),
            ("Please retry in 34.074824224s.", Some(34_074)),
            ("Please retry after 10 seconds. Please go here", Some(10_000)),
            ("Rate limit exceeded. Try again in 35 seconds", Some(35_000)),
            ("Please try again later.", None),
            ("Please try again in a while.", None),
            ("Please retry in 5", None),
        ] {
            assert_eq!(in_message(message).map(|wait| wait.as_millis()), millis, "{message}");
        }
    }
}
