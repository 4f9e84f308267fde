//! Failover, told by a table: an attempt failed; what is tried next, when, or why nothing.

use attache_protocol::error::{ApiError, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::ticket::{Progress, Step, Ticket, Tried};

/// What follows a class of error. What cannot be done (no such key or target is left) becomes the next in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Action {
    /// The same target once more, after a pause; then as `nextTarget`.
    Again,
    /// The same target when the time that the provider told has passed, if the route's `waitLimit` allows; else as `nextKey`.
    Wait,
    /// The next key of the same provider; then as `nextTarget`.
    NextKey,
    /// The next target.
    NextTarget,
    /// The next target of which nobody knows that its context window is no larger.
    LargerContext,
    /// The client is told.
    GiveUp,
}

/// What an operator would wish: the class, what follows it, and whether a target may be asked once more when none is left. A key that is the client's own is never exchanged for another (see [`action`]).
pub const TABLE: [(ErrorKind, Action, bool); ErrorKind::ALL.len()] = [
    // The client's own faults: every provider would say the same.
    (ErrorKind::BadRequest, Action::GiveUp, false),
    (ErrorKind::NotFound, Action::GiveUp, false),
    (ErrorKind::TooLarge, Action::GiveUp, false),
    // The provider's reason is the answer; routing around it is for the operator to decide.
    (ErrorKind::ContentFilter, Action::GiveUp, false),
    // Never resent unchanged to where it does not fit.
    (ErrorKind::ContextTooLong, Action::LargerContext, false),
    (ErrorKind::Unsupported, Action::NextTarget, false),
    // The key's faults.
    (ErrorKind::Authentication, Action::NextKey, false),
    (ErrorKind::Permission, Action::NextKey, false),
    (ErrorKind::QuotaSpent, Action::NextKey, false),
    (ErrorKind::RateLimit, Action::Wait, true),
    // The provider's faults, which pass.
    (ErrorKind::Overloaded, Action::NextTarget, true),
    (ErrorKind::Server, Action::NextTarget, true),
    (ErrorKind::Connection, Action::NextTarget, true),
    (ErrorKind::Truncated, Action::NextTarget, true),
    (ErrorKind::Malformed, Action::NextTarget, true),
    // A silent provider is not tried twice.
    (ErrorKind::Timeout, Action::NextTarget, false),
];

/// Milliseconds before a target is asked again that did not say when: whole seconds, as Envoy's router counts them.
const PAUSE: u64 = 1000;
/// The most often that a told time is waited out for one request.
const MOST_WAITS: u8 = 2;
/// Attempts beyond one for each step of the plan: the waits, one more at the same target, and one more when none is left.
pub const EXTRA_ATTEMPTS: usize = MOST_WAITS as usize + 2;

fn row(kind: ErrorKind) -> (Action, bool) {
    let found = TABLE.iter().find(|(row, _, _)| *row == kind);
    found.map_or((Action::GiveUp, false), |(_, action, again)| (*action, *again))
}

/// What follows this class on this route. `overrides`: the route's own.
fn action(error: &ApiError, step: &Step, overrides: &[(u8, Action)]) -> Action {
    let own = overrides.iter().find(|(kind, _)| usize::from(*kind) == index_of(error.kind));
    let (default, _) = row(error.kind);
    match (own, error.kind) {
        (Some((_, action)), _) => *action,
        // The client's own key: only the client can mend it.
        (None, ErrorKind::Authentication | ErrorKind::Permission | ErrorKind::QuotaSpent)
            if step.passthrough =>
        {
            Action::GiveUp
        }
        // A body that names a client's fault under a status that says otherwise.
        (None, _) if default == Action::GiveUp && (error.status == 429 || error.status >= 500) => {
            match error.kind {
                ErrorKind::ContentFilter => default,
                _ => Action::NextTarget,
            }
        }
        (None, _) => default,
    }
}

/// A class's place in [`ErrorKind::ALL`]: how tickets name it.
pub fn index_of(kind: ErrorKind) -> usize {
    ErrorKind::ALL.iter().position(|known| *known == kind).unwrap_or_default()
}

/// The next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Index in the plan.
    pub step: usize,
    /// Milliseconds until then; 0: at once.
    pub wait: u64,
    kind: Turn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Waited,
    Again,
    On,
}

impl Next {
    /// The progress of the exchange, this decision taken.
    pub fn progress(self, mut progress: Progress) -> Progress {
        match self.kind {
            Turn::Waited => progress.waits += 1,
            Turn::Again => progress.again = true,
            Turn::On => {}
        }
        progress.step = u8::try_from(self.step).unwrap_or(u8::MAX);
        progress.number = progress.number.saturating_add(1);
        progress
    }
}

/// What is tried after this failure; `None`: the client is told. `progress` has the failed attempt in its log already.
/// `told`: milliseconds that the provider asked to wait; `left`: milliseconds until the exchange's end.
pub fn next(
    ticket: &Ticket,
    progress: &Progress,
    error: &ApiError,
    told: Option<u64>,
    left: u64,
) -> Option<Next> {
    let here = usize::from(progress.step);
    let step = ticket.plan.get(here)?;
    let policy = &ticket.policy;
    if ticket.single {
        return None;
    }
    let on = |step| Next { step, wait: 0, kind: Turn::On };
    let untried = |accept: &dyn Fn(&Step) -> bool| {
        let mut steps = ticket.plan.iter().enumerate();
        steps
            .find(|(index, step)| is_fresh(ticket, progress, *index) && accept(step))
            .map(|(index, _)| on(index))
    };
    let next_target = || untried(&|other| other.target != step.target);
    let next_key = || untried(&|other| other.target == step.target).or_else(next_target);
    let again = |wait| Next { step: here, wait, kind: Turn::Again };
    let found = match action(error, step, &policy.on_error) {
        Action::GiveUp => return None,
        Action::LargerContext => return untried(&|other| is_larger(other, step)),
        Action::Again if !progress.again && told.is_none_or(|told| told <= policy.wait_limit) => {
            Some(again(told.unwrap_or(PAUSE)))
        }
        Action::Again | Action::NextTarget => next_target(),
        Action::NextKey => next_key(),
        Action::Wait => match told {
            Some(wait) if wait <= policy.wait_limit && progress.waits < MOST_WAITS => {
                Some(Next { step: here, wait, kind: Turn::Waited })
            }
            _ => next_key(),
        },
    };
    let found = found.or_else(|| once_more(ticket, progress, error, told));
    found.filter(|next| next.wait < left)
}

/// No target is left: a key that was passed over is tried after all; and the one target of a route that has no other is
/// asked once more, since what failed may have passed by then.
fn once_more(ticket: &Ticket, progress: &Progress, error: &ApiError, told: Option<u64>) -> Option<Next> {
    let (_, passes) = row(error.kind);
    if progress.again || !passes || told.is_some_and(|told| told > ticket.policy.wait_limit) {
        return None;
    }
    let unasked = (0..ticket.plan.len()).find(|index| is_fresh(ticket, progress, *index));
    let mut targets = ticket.plan.iter().map(|step| step.target);
    let first = targets.next();
    let alone = targets.all(|target| Some(target) == first);
    let step = unasked.or(alone.then_some(usize::from(progress.step)))?;
    Some(Next { step, wait: told.unwrap_or(PAUSE), kind: Turn::Again })
}

/// Not tried yet, and nothing that was tried speaks against it, as long as the route does not rule otherwise: a silent
/// provider is not asked with another key, and what did not fit one target goes to no smaller one later.
fn is_fresh(ticket: &Ticket, progress: &Progress, index: usize) -> bool {
    let Some(step) = ticket.plan.get(index) else { return false };
    let speaks_against = |tried: &Tried| {
        let Some(asked) = ticket.plan.get(usize::from(tried.step)) else { return false };
        let kind = ErrorKind::ALL.get(usize::from(tried.class));
        match kind.filter(|_| ticket.policy.on_error.iter().all(|(class, _)| *class != tried.class)) {
            Some(ErrorKind::Timeout) => asked.target == step.target,
            Some(ErrorKind::ContextTooLong) => !is_larger(step, asked),
            _ => false,
        }
    };
    !progress.tried(index) && !progress.log.iter().any(speaks_against)
}

/// Whether a request that did not fit one target may fit another: it is another model, and not known to hold as little.
fn is_larger(other: &Step, step: &Step) -> bool {
    match (other.context_window, step.context_window) {
        (Some(other), Some(here)) => other > here,
        _ => other.model != step.model,
    }
}
