//! What budgets do to an exchange, told: to the client in headers and errors, to the operator in counters and log lines.

use attache_protocol::error::{ApiError, ErrorKind};

use crate::budget::{self, Admitted, Crossed, Dollars, Refused, Settled, Unit, Used, Why};
use crate::headers::{BUDGET_HEADER, RETRY_AFTER, SHOULD_RETRY};
use crate::metrics;
use crate::outcome::{Around, Effects, Note};
use crate::ticket::{Entry, Progress, Ticket};

/// A longer wait than this is nothing that a client's library should sit out.
const LONGEST_RETRY: u64 = 60_000;

/// The exchange goes on to this step of its plan, and its reservation with it. `false`: a budget there refuses.
pub(crate) fn follows(
    ticket: &Ticket,
    progress: &mut Progress,
    step: usize,
    around: &Around<'_>,
    effects: &mut Effects,
) -> bool {
    let Some((terms, step)) = ticket.terms.as_ref().zip(ticket.plan.get(step)) else { return true };
    let Some(offer) = terms.offer(step) else { return true };
    let want = terms.want(offer, &progress.reservation, around.now);
    match progress.reservation.follow(around, &offer.moving, &want, &progress.failed) {
        Some(settled) => {
            tell(&settled, effects);
            true
        }
        None => {
            effects.counts.push(metrics::budget_target(step));
            false
        }
    }
}

/// Another attempt is to follow one that used this. `false`: a budget that charges it has no room for both.
pub(crate) fn keeps(
    ticket: &Ticket,
    progress: &mut Progress,
    used: &Used,
    around: &Around<'_>,
    effects: &mut Effects,
) -> bool {
    let kept = progress.reservation.keep(around, used);
    if let Some(step) = ticket.plan.get(usize::from(progress.step)).filter(|_| !kept) {
        effects.counts.push(metrics::budget_target(step));
    }
    kept
}

/// The exchange is over: it is charged with what its last attempt used, and with what others did before it. `progress`: with
/// all that failed.
pub(crate) fn settle(progress: &Progress, used: &Used, around: &Around<'_>, effects: &mut Effects) {
    tell(&progress.reservation.settle(around, used, &progress.failed), effects);
}

/// The exchange of this filter state is over. Where no attempt settled it, none was made, or the next one was not: it is
/// charged with what those before it used. Where one did, this does nothing.
pub fn abandon(state: &[u8], around: &Around<'_>) -> Effects {
    let mut effects = Effects::default();
    if let Some(Entry { progress, .. }) = Entry::read(state) {
        abandoned(&progress, around, &mut effects);
    }
    effects
}

fn abandoned(progress: &Progress, around: &Around<'_>, effects: &mut Effects) {
    if progress.log.is_empty() {
        tell(&progress.reservation.release(around), effects);
    } else {
        settle(progress, &Used::default(), around, effects);
    }
}

/// What came of the end of a reservation.
fn tell(settled: &Settled, effects: &mut Effects) {
    crossed(&settled.crossed, effects);
    for (name, _) in &settled.beyond {
        effects.counts.push(metrics::budget(name, "beyond"));
    }
    for name in &settled.unpriced {
        effects.counts.push(metrics::budget(name, "unpriced"));
    }
    for name in &settled.lost {
        effects.counts.push(metrics::budget(name, "busy"));
    }
    effects.counts.extend(settled.shared.iter().map(|name| metrics::budget(name, "share")));
}

/// Thresholds: a counter and a line, once in a window.
fn crossed(crossed: &[Crossed], effects: &mut Effects) {
    for Crossed { budget, whose, per_cent } in crossed {
        effects.counts.push(metrics::budget(budget, &format!("reached_{per_cent}")));
        let of = whose.as_ref().map(|whose| format!(" of {whose}")).unwrap_or_default();
        let text = format!("budget {budget}{of}: {per_cent} % of its limit is reached");
        effects.notes.push(Note { severe: false, text });
    }
}

/// How a request was admitted, for its answer's headers and the operator. `downgraded`: the budget that made it another model's;
/// `passed`: the one whose account of the first target had no room.
pub(crate) fn admitted(
    held: &Admitted,
    (downgraded, passed): (Option<&str>, Option<&str>),
    effects: &mut Effects,
) -> Vec<(String, String)> {
    crossed(&held.crossed, effects);
    let clamped = held.clamped_by.as_deref().zip(held.clamp);
    effects.counts.extend(clamped.map(|(name, _)| metrics::budget(name, "clamp")));
    effects.counts.extend(held.shadowed.iter().map(|name| metrics::budget(name, "shadow")));
    effects.counts.extend(held.shared.iter().map(|name| metrics::budget(name, "share")));
    effects.counts.extend(downgraded.map(|name| metrics::budget(name, "downgrade")));
    effects.counts.extend(passed.map(|name| metrics::budget(name, "pass")));
    let mut headers = budget::headers(&held.standings);
    let shadows = held.shadowed.iter().map(|name| format!("{name};shadow"));
    let mut told: Vec<String> = Vec::new();
    told.extend(clamped.map(|(name, tokens)| format!("{name};clamp={tokens}")));
    told.extend(downgraded.map(|name| format!("{name};downgrade")));
    told.extend(passed.map(|name| format!("{name};pass")));
    told.extend(shadows);
    if !told.is_empty() {
        headers.push((BUDGET_HEADER.to_owned(), told.join(", ")));
    }
    headers
}

/// The error of a request that a budget refuses, and its headers. `model`: whose price is not known.
pub(crate) fn refusal(refused: &Refused, model: &str) -> (ApiError, Vec<(String, String)>) {
    let Refused { budget, unit, why, limit, remaining, retry_after } = refused;
    let (limit, remaining) = (amount(*unit, *limit), amount(*unit, *remaining));
    let what = match why {
        Why::Spent if matches!(unit, Unit::Requests | Unit::Concurrent) => {
            format!("{} left of {limit}", refused.remaining)
        }
        Why::Spent => format!("{remaining} left of {limit}, and the request may use more"),
        Why::TooLarge if unit.clamps() => format!(
            "the request may use more than the whole limit of {limit}, by its prompt and the longest answer that it allows"
        ),
        Why::TooLarge => format!("the request may use more than the whole limit of {limit}"),
        Why::Full => "it has no room for another key; the operator sets how many (`maxKeys`)".to_owned(),
        Why::Unpriced => {
            let shown: String = model.chars().take(100).collect();
            format!(
                "it is in dollars, and the price of `{shown}` is not known; the operator gives it under `catalogue`, or `defaultPrices`"
            )
        }
        Why::Busy => "too many requests at the same moment".to_owned(),
        Why::Unavailable => {
            format!("the service that shares it among pods does not answer, and {remaining} are left here")
        }
    };
    let when = match retry_after {
        Some(millis) => format!("; try again in {}", wait(*millis)),
        None => String::new(),
    };
    let code = match why {
        Why::Unpriced => "price_unknown",
        _ => "budget_exceeded",
    };
    let message = format!("budget `{budget}`: {what}{when}");
    let mut error = ApiError::new(ErrorKind::RateLimit, message).with_code(code);
    error.retry_after = retry_after.map(std::time::Duration::from_millis);
    let mut headers = vec![(BUDGET_HEADER.to_owned(), format!("{budget};reject"))];
    headers
        .extend(retry_after.map(|millis| (RETRY_AFTER.to_owned(), millis.div_ceil(1000).max(1).to_string())));
    if retry_after.is_none_or(|millis| millis > LONGEST_RETRY) {
        headers.push((SHOULD_RETRY.to_owned(), "false".to_owned()));
    }
    (error, headers)
}

fn amount(unit: Unit, amount: u64) -> String {
    let name = match unit {
        Unit::Usd => return format!("{} US dollars", Dollars(amount)),
        Unit::Tokens => "token",
        Unit::InputTokens => "input token",
        Unit::OutputTokens => "output token",
        Unit::Requests => "request",
        Unit::Concurrent => "concurrent request",
    };
    format!("{amount} {name}{}", if amount == 1 { "" } else { "s" })
}

fn wait(millis: u64) -> String {
    let seconds = millis.div_ceil(1000);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_who_why_and_when() {
        let refused = |why, unit, retry_after| Refused {
            budget: "team".to_owned(),
            unit,
            why,
            limit: 2_500_000_000_000,
            remaining: 40_000_000_000,
            retry_after,
        };
        let (error, headers) = refusal(&refused(Why::Spent, Unit::Usd, Some(1500)), "m");
        let expected = "budget `team`: 0.04 US dollars left of 2.5 US dollars, and the request may use more; try again in 2 s";
        assert_eq!((error.status, error.message.as_str()), (429, expected));
        let told = |name: &str, headers: &[(String, String)]| {
            headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        assert_eq!(told(RETRY_AFTER, &headers).as_deref(), Some("2"));
        assert_eq!(told(SHOULD_RETRY, &headers), None);
        for (why, after, retried) in [
            (Why::TooLarge, None, false),
            (Why::Spent, Some(86_400_000), false),
            (Why::Busy, Some(1000), true),
        ] {
            let (_, headers) = refusal(&refused(why, Unit::Tokens, after), "m");
            assert_eq!(told(SHOULD_RETRY, &headers).is_none(), retried, "{why:?}");
        }
        for (unit, remaining, limit, expected) in [
            (Unit::Requests, 0, 5, "budget `team`: 0 left of 5 requests; try again in 2 s"),
            (Unit::Concurrent, 0, 1, "budget `team`: 0 left of 1 concurrent request; try again in 2 s"),
            (
                Unit::Tokens,
                1,
                9,
                "budget `team`: 1 token left of 9 tokens, and the request may use more; try again in 2 s",
            ),
        ] {
            let refused = Refused { limit, remaining, ..refused(Why::Spent, unit, Some(1500)) };
            assert_eq!(refusal(&refused, "m").0.message, expected);
        }
        let (error, _) = refusal(&refused(Why::Unpriced, Unit::Usd, None), "new-model");
        assert!(error.message.contains("`new-model`") && error.code.as_deref() == Some("price_unknown"));
    }
}
