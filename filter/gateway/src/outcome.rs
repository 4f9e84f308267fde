//! An attempt is over: what is remembered of it, and what follows.

use attache_protocol::error::{ApiError, ErrorKind};

use crate::attempt::Attempt;
use crate::budget::Used;
use crate::failover::{self, Next, index_of};
use crate::health::{Change, Health, Id};
use crate::ledger;
use crate::metrics::{self, Count};
use crate::sticky::{LEAST_CACHED, Moves, WARM};
use crate::store::{HEALTH, MOVES, Store, update};
use crate::ticket::{Progress, Ticket, Tried};

/// What the core is told of the world.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Unix time in milliseconds.
    pub now: u64,
    pub store: &'a dyn Store,
}

/// What the shell is to do beside the answer itself.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    pub counts: Vec<Count>,
    /// Filter state: what the router tries next.
    pub state: Option<Vec<u8>>,
    /// For the operator's log.
    pub notes: Vec<Note>,
    /// What the flow beside this passes on or releases is the last that the client gets: the provider is hung up on, and the
    /// answer ends after it, well where the attempt takes the hop, in a connection that breaks off where it does not.
    pub end: bool,
}

#[derive(Debug, PartialEq)]
pub struct Note {
    /// Only a person can mend it.
    pub severe: bool,
    pub text: String,
}

/// A failed attempt, noted.
pub struct Over {
    /// With this attempt in its log.
    pub progress: Progress,
    /// Milliseconds that the provider asked to wait.
    told: Option<u64>,
    /// What it is known to have used, until there is room for it beside another attempt.
    used: Option<Used>,
}

/// Whose fault a class of failure is.
enum Concern {
    /// The key, or the way to the provider: every model is concerned.
    Key,
    /// This model with this key.
    Target,
    /// The request.
    Nobody,
}

fn concern(class: ErrorKind) -> Concern {
    match class {
        ErrorKind::Authentication | ErrorKind::QuotaSpent | ErrorKind::Connection => Concern::Key,
        ErrorKind::Permission
        | ErrorKind::RateLimit
        | ErrorKind::Overloaded
        | ErrorKind::Server
        | ErrorKind::Timeout
        | ErrorKind::Truncated
        | ErrorKind::Malformed => Concern::Target,
        ErrorKind::BadRequest
        | ErrorKind::NotFound
        | ErrorKind::TooLarge
        | ErrorKind::ContextTooLong
        | ErrorKind::ContentFilter
        | ErrorKind::Unsupported => Concern::Nobody,
    }
}

/// The attempt failed: its log entry, its provider's health, what it used.
/// `told`: milliseconds that the provider asked to wait; `started`: when the attempt began.
pub fn failed(
    attempt: &Attempt,
    error: &ApiError,
    told: Option<u64>,
    started: u64,
    used: Option<Used>,
    around: &Around<'_>,
    effects: &mut Effects,
) -> Over {
    let ticket = attempt.ticket();
    let told = told.filter(|_| !matches!(concern(error.kind), Concern::Nobody));
    let rests = told.is_some_and(|told| told > ticket.policy.wait_limit);
    let mut progress = logged(attempt, index_of(error.kind), rests, started, around.now);
    progress.failed.extend(used);
    suffer(attempt, error, told.filter(|_| rests), started, around, effects);
    Over { progress, told, used }
}

impl Over {
    /// What is tried next. Targets where a budget does not admit the exchange are passed over; all are where what this attempt
    /// used leaves no room for another.
    pub fn next(
        &mut self,
        ticket: &Ticket,
        error: &ApiError,
        around: &Around<'_>,
        effects: &mut Effects,
    ) -> Option<Next> {
        let left = ticket.policy.deadline.saturating_sub(around.now);
        loop {
            let next = failover::next(ticket, &self.progress, error, self.told, left)?;
            if let Some(used) = self.used.take()
                && !ledger::keeps(ticket, &mut self.progress, &used, around, effects)
            {
                return None;
            }
            if ledger::follows(ticket, &mut self.progress, next.step, around, effects) {
                return Some(next);
            }
            let step = u8::try_from(next.step).unwrap_or(u8::MAX);
            if step == self.progress.step {
                // Not this one again, or this had no end.
                (self.progress.again, self.progress.waits) = (true, u8::MAX);
            }
            self.progress.log.push(Tried { step, class: Tried::OVER_BUDGET, millis: 0, rests: false });
        }
    }
}

/// The exchange's progress with this attempt in its log.
pub fn logged(attempt: &Attempt, class: usize, rests: bool, started: u64, now: u64) -> Progress {
    let mut progress = attempt.progress().clone();
    progress.log.push(Tried {
        step: progress.step,
        class: u8::try_from(class).unwrap_or(u8::MAX),
        millis: u32::try_from(now.saturating_sub(started)).unwrap_or(u32::MAX),
        rests,
    });
    progress
}

fn suffer(
    attempt: &Attempt,
    error: &ApiError,
    rest: Option<u64>,
    started: u64,
    around: &Around<'_>,
    effects: &mut Effects,
) {
    let step = attempt.step();
    let (key, target) = step.ids();
    let own_key = step.passthrough
        && matches!(error.kind, ErrorKind::Authentication | ErrorKind::Permission | ErrorKind::QuotaSpent);
    let id = match concern(error.kind) {
        // It answered, if not what was wished for.
        Concern::Nobody => return answered(attempt, false, started, around, effects),
        // The client's own key says nothing about others'.
        _ if own_key => return abandoned(attempt, around),
        Concern::Key => key,
        Concern::Target => target,
    };
    let policy = &attempt.ticket().policy.health;
    let change = update(around.store, HEALTH, |bytes| {
        let mut health = Health::read(bytes);
        let dice = around.now.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let change = health.failure(id, policy, error.kind, rest, around.now, dice);
        if step.ailing {
            // If it was the other one that it was to probe, nothing was learned of that.
            health.release(if id == key { target } else { key });
        }
        (Some(health.write()), change)
    });
    let Some(Change::Opened { millis }) = change else { return };
    let whose = if id == key { step.cluster() } else { format!("{} {}", step.cluster(), step.model_label) };
    let (severe, cause) = match error.kind {
        ErrorKind::Authentication | ErrorKind::Permission => {
            (true, "its key was refused; check the key file, or the key's rights at the provider")
        }
        ErrorKind::QuotaSpent => (true, "its quota is spent; raise it, or add credit at the provider"),
        kind => (false, kind.name()),
    };
    let text = format!("{whose}: left alone for {:.1} s: {cause}", millis as f64 / 1000.0);
    effects.notes.push(Note { severe, text });
    effects.counts.push(metrics::circuit(step, "opened"));
}

/// Nobody will hear how the attempt ends; if it was the probe of something due, another may be sent.
pub fn abandoned(attempt: &Attempt, around: &Around<'_>) {
    if !attempt.step().ailing {
        return;
    }
    let (key, target) = attempt.step().ids();
    update(around.store, HEALTH, |bytes| {
        let mut health = Health::read(bytes);
        health.release(key);
        health.release(target);
        let written = health.write();
        ((written != bytes).then_some(written), ())
    });
}

/// The attempt answered well: what was ailing is better, and a conversation that had to move is at home here.
/// `spare`: little is left of the key's limit; `started`: when the attempt began.
pub fn answered(attempt: &Attempt, spare: bool, started: u64, around: &Around<'_>, effects: &mut Effects) {
    let (ticket, step) = (attempt.ticket(), attempt.step());
    let (key, target) = step.ids();
    let moved = step.target != ticket.home && ticket.conversation != 0 && ticket.body_length >= LEAST_CACHED;
    if !(step.ailing || spare || moved) {
        return;
    }
    let closed = update(around.store, HEALTH, |bytes| {
        let mut health = Health::read(bytes);
        let better = |health: &mut Health, id: Id| {
            health.success(id, &ticket.policy.health, started, around.now) == Some(Change::Closed)
        };
        let closed = step.ailing && (better(&mut health, key) | better(&mut health, target));
        if spare {
            health.spare(key, around.now);
        }
        // Not with every answer: it is read by all.
        if moved && around.now + WARM > health.moved_until + WARM / 10 {
            health.moved_until = around.now + WARM;
        }
        let written = health.write();
        ((written != bytes).then_some(written), closed)
    });
    if moved {
        update(around.store, MOVES, |bytes| {
            let mut moves = Moves::read(bytes);
            moves.moved(ticket.conversation, target, around.now);
            (Some(moves.write()), ())
        });
    }
    if closed {
        let text = format!("{} {}: answers again", step.cluster(), step.model_label);
        effects.notes.push(Note { severe: false, text });
        effects.counts.push(metrics::circuit(step, "closed"));
    }
}
