//! A request before its budgets: planned, appraised, and admitted, made wait, or refused.

use attache_protocol::codec::Protocol;
use attache_protocol::error::{ApiError, ErrorKind};
use attache_protocol::request::Request;

use super::case::{Asked, Case, Done};
use super::{Admission, Admitted, Choice, Reject};
use crate::bill::Terms;
use crate::budget::fleet::PATIENCE;
use crate::budget::{self, Ask, Claim, Decision, Facts, Want};
use crate::gateway::Gateway;
use crate::headers::{BUDGET_HEADER, RETRY_AFTER};
use crate::ledger;
use crate::metrics::{self, Count};
use crate::outcome::{Around, Effects};
use crate::ticket::{Progress, Step, Ticket};

/// Milliseconds that a reservation outlives its exchange's deadline: clocks and timers differ a little.
const AFTERMATH: u64 = 30_000;

/// What becomes of a request that could be understood and planned.
#[derive(Debug)]
pub enum Verdict {
    Go(Box<Admitted>),
    /// It is to be asked again after [`Waiting::again`] milliseconds.
    Wait(Box<Waiting>),
}

/// A request that waits until its budgets admit it.
#[derive(Debug)]
pub struct Waiting {
    planned: Planned,
    claims: Vec<Claim>,
    want: Want,
    /// For which it waits.
    budget: String,
    again: u64,
    /// For an answer of the fleet's service, which has been asked or is to be.
    leases: bool,
    asks: Vec<Ask>,
}

/// A request with its plan, whose times begin when it is admitted.
#[derive(Debug)]
pub(super) struct Planned {
    pub ticket: Ticket,
    pub retries: usize,
    /// Milliseconds.
    pub total: u64,
    pub attempt_timeout: u64,
    pub total_timeout: u64,
    /// The budget because of which it is served as another model.
    pub downgraded: Option<String>,
    /// The budget because of which its first target was passed over.
    pub passed: Option<String>,
}

impl Planned {
    /// It goes. `held`: what its budgets said.
    pub fn admitted(mut self, held: Option<budget::Admitted>, now: u64) -> Admitted {
        self.ticket.policy.deadline = now + self.total;
        let mut effects = Effects::default();
        let (mut headers, mut asks) = (Vec::new(), Vec::new());
        let instead = (self.downgraded.as_deref(), self.passed.as_deref());
        let mut progress = Progress { number: 1, ..Progress::default() };
        if let Some(held) = held {
            headers = ledger::admitted(&held, instead, &mut effects);
            progress.reservation = held.reservation;
            asks = held.asks;
            // A stream that may have to be stopped goes where it can be ended well.
            let later = self.ticket.terms.as_ref().is_some_and(Terms::may_stop);
            self.ticket.policy.hop |= self.ticket.stream && (later || progress.reservation.stops());
        }
        Admitted {
            ticket: self.ticket,
            progress,
            retries: self.retries,
            attempt_timeout: self.attempt_timeout,
            total_timeout: self.total_timeout,
            headers,
            effects,
            asks,
        }
    }
}

impl Waiting {
    /// Milliseconds until it is to be asked again.
    pub fn again(&self) -> u64 {
        self.again
    }

    /// The account for which it waits.
    pub fn account(&self) -> u64 {
        let claim = self.claims.iter().find(|claim| claim.budget() == self.budget);
        claim.map_or(0, Claim::account)
    }

    pub fn protocol(&self) -> Protocol {
        self.planned.ticket.protocol
    }

    /// Of its body, which Envoy keeps meanwhile.
    pub fn bytes(&self) -> u64 {
        self.planned.ticket.body_length
    }

    /// It waits for the fleet's service, and is to be asked again at once when there is an answer.
    pub fn leases(&self) -> bool {
        self.leases
    }

    /// What is to be sent to the fleet's service.
    pub fn take_asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    /// It begins to wait.
    pub fn counts(&self) -> Vec<Count> {
        vec![metrics::budget(&self.budget, if self.leases { "lease" } else { "queue" })]
    }

    /// Too many wait already.
    pub fn turned_away(&self) -> Box<Reject> {
        let mut reject = Reject::of(
            self.protocol(),
            ApiError::new(
                ErrorKind::RateLimit,
                format!("budget `{}`: too many requests wait for it", self.budget),
            )
            .with_code("budget_exceeded"),
        );
        reject.headers.push((RETRY_AFTER.to_owned(), "1".to_owned()));
        reject.headers.push((BUDGET_HEADER.to_owned(), format!("{};reject", self.budget)));
        reject.counts.push(metrics::budget(&self.budget, "reject"));
        reject
    }

    /// Time has passed, or something has come back.
    pub fn ask(mut self, around: &Around<'_>) -> Result<Verdict, Box<Reject>> {
        self.want.expires = expires(around.now, self.planned.total);
        if let Some(terms) = &mut self.planned.ticket.terms {
            terms.expires = self.want.expires;
        }
        match budget::reserve(around, &self.claims, &self.want) {
            Decision::Admitted(held) => {
                Ok(Verdict::Go(Box::new(self.planned.admitted(Some(*held), around.now))))
            }
            Decision::Wait { again, budget, .. } => {
                self.want.patience = Some(around.now + PATIENCE);
                Ok(Verdict::Wait(Box::new(Waiting { again, budget, leases: false, ..self })))
            }
            Decision::Lease { asks, again, budget } => {
                Ok(Verdict::Wait(Box::new(Waiting { again, budget, leases: true, asks, ..self })))
            }
            Decision::Refused(refused) => Err(self.planned.refused(&refused, &self.claims, around)),
            // It is planned, and counted as well as can be: where another model would serve it, it is refused.
            Decision::CountFirst | Decision::Downgrade { .. }
                if !(self.want.downgraded && self.want.counted) =>
            {
                (self.want.downgraded, self.want.counted) = (true, true);
                self.ask(around)
            }
            Decision::CountFirst | Decision::Downgrade { .. } => Err(self.turned_away()),
        }
    }
}

/// Milliseconds between two looks at a budget that may have something again.
const AGAIN: u64 = 100;

impl Planned {
    /// `claims`: whose accounts are told with it.
    fn refused(&self, refused: &budget::Refused, claims: &[Claim], around: &Around<'_>) -> Box<Reject> {
        let named = |step: &Step| self.ticket.terms.as_ref()?.unpriced(step).map(str::to_owned);
        let model = self.ticket.plan.first().map(|step| named(step).unwrap_or_else(|| step.model.clone()));
        let model = model.as_deref().unwrap_or_default();
        let (error, mut headers) = ledger::refusal(refused, model);
        let mut standings = budget::standings(around, claims);
        // It may have been another account than its own: that of those for whom there is no room.
        for standing in standings.iter_mut().filter(|standing| standing.budget == refused.budget) {
            standing.remaining = standing.remaining.min(refused.remaining);
        }
        headers.extend(budget::headers(&standings));
        let mut counts = vec![metrics::budget(&refused.budget, "reject")];
        counts.extend((refused.why == budget::Why::Full).then(|| metrics::budget(&refused.budget, "full")));
        Box::new(Reject { protocol: self.ticket.protocol, error, headers, counts })
    }
}

pub(super) fn expires(now: u64, total: u64) -> u64 {
    now + total + AFTERMATH
}

/// Plans a request and asks its budgets.
pub(super) fn admit(
    admission: Admission,
    gateway: &Gateway,
    request: &Request<'_>,
    body: &[u8],
    around: &Around<'_>,
    outside: &dyn Facts,
) -> Result<Verdict, Box<Reject>> {
    let protocol = admission.protocol;
    let fail = |error: ApiError| Reject::of(protocol, error);
    let (mut other, mut downgraded): (Option<Request<'_>>, Option<String>) = (None, None);
    // No other model can serve it.
    let mut alone = false;
    loop {
        let asked = other.as_ref().unwrap_or(request);
        let Choice { route, plan, conversation } = match admission.choose(gateway, asked, body, around) {
            Ok(choice) => choice,
            Err(error) if other.is_none() => return Err(fail(error)),
            // The client asked for nothing that its own model lacks: its budget is what it has to be told.
            Err(_) => {
                (other, downgraded, alone) = (None, None, true);
                continue;
            }
        };
        if gateway.budgets.is_empty() {
            let choice = Choice { route, plan, conversation };
            let planned = admission.ticket(gateway, request, choice, body, around.now);
            return Ok(Verdict::Go(Box::new(planned.admitted(None, around.now))));
        }
        let case = Case { admission: &admission, gateway, request: asked, route, around, outside };
        match case.ask(plan, alone || downgraded.is_some()) {
            Asked::Otherwise { budget, to } => {
                other = Some(Request { model: to.into(), ..request.clone() });
                downgraded = Some(budget);
            }
            Asked::Done(done) => {
                let Done { plan, terms, claims, want, decision, passed } = *done;
                let choice = Choice { route, plan, conversation };
                let mut planned = admission.ticket(gateway, request, choice, body, around.now);
                planned.ticket.terms = (!claims.is_empty() || terms.moves()).then_some(terms);
                (planned.downgraded, planned.passed) = (downgraded, passed);
                let (budget, again, asks) = match decision {
                    Decision::Refused(refused) => return Err(planned.refused(&refused, &claims, around)),
                    Decision::Admitted(held) => {
                        return Ok(Verdict::Go(Box::new(planned.admitted(Some(*held), around.now))));
                    }
                    Decision::Wait { again, budget, .. } => (budget, again, None),
                    Decision::Lease { budget, asks, again } => (budget, again, Some(asks)),
                    Decision::CountFirst | Decision::Downgrade { .. } => (String::new(), AGAIN, None),
                };
                let (leases, asks) = (asks.is_some(), asks.unwrap_or_default());
                return Ok(Verdict::Wait(Box::new(Waiting {
                    planned,
                    claims,
                    want,
                    budget,
                    again,
                    leases,
                    asks,
                })));
            }
        }
    }
}
