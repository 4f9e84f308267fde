//! Which targets are tried for a request, with which keys, in which order, and why others are not.

use std::cmp::Reverse;

use attache_protocol::error::ApiError;
use attache_protocol::request::Request;

use crate::catalogue::Catalogue;
use crate::gateway::{Key, Route, Target};
use crate::guard::Guard;
use crate::health::{Health, Id, Verdict};
use crate::sticky::{LEAST_CACHED, Moves, key_score};
use crate::store::{HEALTH, MOVES, Store, update};
use crate::ticket::Step;

/// Steps of a plan: a ticket counts them in a byte. Nobody waits for more attempts.
const MOST_STEPS: usize = 250;

/// What beside the request decides the order.
pub struct Circumstances<'c> {
    /// Unix time in milliseconds.
    pub now: u64,
    pub store: &'c dyn Store,
    pub conversation: u64,
    pub body_length: u64,
}

/// Who is tried.
#[derive(Clone)]
pub struct Plan {
    /// Best first.
    pub steps: Vec<Step>,
    /// The place in the route of the target that comes first when all are well.
    pub home: u8,
    /// One of the models thinks before it answers, unless it is told not to.
    pub reasons: bool,
}

/// The route's targets that can keep the request's contract, each with its keys, best first. With none, the error that tells
/// each one's reasons.
pub fn plan(
    route: &Route,
    catalogue: &Catalogue,
    request: &Request<'_>,
    around: &Circumstances<'_>,
) -> Result<Plan, ApiError> {
    let mut steps = Vec::with_capacity(route.targets.len());
    let mut guard = Guard::new(catalogue, request);
    let mut reasons = false;
    for (index, target) in route.targets.iter().enumerate() {
        let Some(known) = guard.admits(target) else { continue };
        reasons |= known.reasons;
        let step = |key| {
            let mut step = Step::new(target, key, index, &request.model, request.stream, &route.name);
            step.context_window = known.longest_prompt;
            step
        };
        match &*target.provider.keys {
            [] => steps.push(step(None)),
            keys => steps.extend(keys_in_order(keys, around.conversation).map(|key| step(Some(key)))),
        }
    }
    let home = steps.first().map(|step| step.target);
    match home {
        Some(home) => {
            let mut steps = in_order(steps, around);
            steps.truncate(MOST_STEPS);
            Ok(Plan { steps, home, reasons })
        }
        None => Err(guard.refusal()),
    }
}

/// Whether conversations are told apart at all: only where there is more than one place for them.
pub fn knows_conversations(targets: &[Target]) -> bool {
    targets.len() > 1 || targets.iter().any(|target| target.provider.keys.len() > 1)
}

fn keys_in_order(keys: &[Key], conversation: u64) -> impl Iterator<Item = &Key> {
    let mut scored: Vec<(f64, &Key)> =
        keys.iter().map(|key| (key_score(conversation, &key.name, key.weight), key)).collect();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored.into_iter().map(|(_, key)| key)
}

/// The same steps by health: what rests comes last, and a key that was refused or spent not at all, unless nothing else is
/// left.
fn in_order(steps: Vec<Step>, around: &Circumstances<'_>) -> Vec<Step> {
    let bytes = around.store.read(HEALTH).map(|(bytes, _)| bytes).unwrap_or_default();
    if bytes.is_empty() {
        return steps;
    }
    let health = Health::read(&bytes);
    let mut judged: Vec<(Standing, Step)> = steps
        .into_iter()
        .map(|mut step| {
            let (key, target) = step.ids();
            let verdicts = [health.verdict(key, around.now), health.verdict(target, around.now)];
            step.ailing = verdicts.iter().any(|verdict| *verdict != Verdict::Well);
            (standing(verdicts), step)
        })
        .collect();
    go_home(&mut judged, &health, around);
    // Stable: the order of the configuration, of a key's score and of homes is kept within each standing.
    judged.sort_by_key(|(standing, _)| standing.order());
    while let Some((Standing::Due, step)) = judged.first() {
        let (key, target) = step.ids();
        if probe(around, [key, target]) {
            break;
        }
        // Another request is trying it just now.
        let (_, step) = judged.remove(0);
        let at = judged.iter().position(|(standing, _)| matches!(standing, Standing::Resting { .. }));
        judged
            .insert(at.unwrap_or(judged.len()), (Standing::Resting { until: around.now, shut: false }, step));
    }
    let shut = |(standing, _): &(Standing, Step)| matches!(standing, Standing::Resting { shut: true, .. });
    if !judged.iter().all(shut) {
        judged.retain(|judged| !shut(judged));
    }
    judged.into_iter().map(|(_, step)| step).collect()
}

/// How a step stands, by its key and its target.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Standing {
    Open,
    /// Its rest is over; one request at a time may try it.
    Due,
    /// Its key has little left of its limit.
    Spare,
    Resting {
        until: u64,
        shut: bool,
    },
}

impl Standing {
    fn order(self) -> (bool, bool, u64) {
        match self {
            Standing::Open | Standing::Due => (false, false, 0),
            Standing::Spare => (false, true, 0),
            Standing::Resting { until, shut } => (true, shut, until),
        }
    }
}

fn standing(verdicts: [Verdict; 2]) -> Standing {
    verdicts.into_iter().fold(Standing::Open, |worst, verdict| match (worst, verdict) {
        (Standing::Resting { until: a, shut: b }, Verdict::Resting { until, shut }) => {
            Standing::Resting { until: a.max(until), shut: b || shut }
        }
        (_, Verdict::Resting { until, shut }) => Standing::Resting { until, shut },
        (Standing::Resting { .. }, _) => worst,
        (_, Verdict::Due) => Standing::Due,
        (Standing::Due, _) => worst,
        (_, Verdict::Spare) => Standing::Spare,
        (_, Verdict::Well | Verdict::Ailing) => worst,
    })
}

/// Takes the probes of what is due; `false`: another request has one of them.
fn probe(around: &Circumstances<'_>, ids: [Id; 2]) -> bool {
    update(around.store, HEALTH, |bytes| {
        let mut health = Health::read(bytes);
        let due = ids.into_iter().filter(|id| health.verdict(*id, around.now) == Verdict::Due);
        let due: Vec<Id> = due.collect();
        // Between the reading and now somebody may have found it well, or taken it.
        let free = !due.is_empty() && due.iter().all(|id| health.probe(*id, around.now));
        (free.then(|| health.write()), free)
    })
}

/// Puts the target first that has this conversation's prompt cached when the first one has forgotten it.
fn go_home(judged: &mut [(Standing, Step)], health: &Health, around: &Circumstances<'_>) {
    if around.conversation == 0 || around.now >= health.moved_until || around.body_length < LEAST_CACHED {
        return;
    }
    let Some((bytes, _)) = around.store.read(MOVES) else { return };
    let Some(home) = Moves::read(&bytes).home(around.conversation, around.now) else { return };
    judged.sort_by_key(|(_, step)| Reverse(step.ids().1 == home));
}
