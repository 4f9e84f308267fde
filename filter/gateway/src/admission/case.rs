//! One way to serve a request: which accounts it concerns, what it may use, and whether its budgets admit it so.

use std::borrow::Cow;

use attache_protocol::request::Request;

use super::Admission;
use super::budgets::expires;
use crate::bill::{Appraisal, Terms};
use crate::budget::{self, Claim, Decision, Fact, Facts, Want};
use crate::gateway::{Gateway, Route};
use crate::outcome::Around;
use crate::plan::Plan;
use crate::ticket::Step;

/// What budgets may be kept by, of one request at one target.
struct Known<'k> {
    admission: &'k Admission,
    request: &'k Request<'k>,
    route: &'k str,
    step: &'k Step,
    outside: &'k dyn Facts,
}

impl Facts for Known<'_> {
    fn fact(&self, fact: &Fact) -> Option<Cow<'_, str>> {
        let text = match fact {
            Fact::Namespace | Fact::ServiceAccount | Fact::Label(_) | Fact::Jwt(_) | Fact::Peer => {
                return self.outside.fact(fact);
            }
            Fact::ClientKey => self.admission.credential.as_ref()?.token.as_str(),
            Fact::Header(name) => {
                let mut headers = self.admission.named.iter();
                headers.find(|(known, _)| known == name).map(|(_, value)| value.as_str())?
            }
            Fact::Model => &self.step.model,
            Fact::Provider => &self.step.provider,
            Fact::Route => self.route,
            Fact::Metadata(name) => {
                let named = self.request.metadata(name)?;
                return Some(Cow::Owned(named.to_string()));
            }
            Fact::User => self.request.user.as_deref()?,
        };
        Some(Cow::Borrowed(text))
    }
}

/// One way to serve a request, before its budgets.
pub(super) struct Case<'c> {
    pub admission: &'c Admission,
    pub gateway: &'c Gateway,
    pub request: &'c Request<'c>,
    pub route: &'c Route,
    pub around: &'c Around<'c>,
    pub outside: &'c dyn Facts,
}

pub(super) enum Asked {
    /// It is to be served as if this model had been asked for.
    Otherwise {
        budget: String,
        to: String,
    },
    Done(Box<Done>),
}

pub(super) struct Done {
    pub plan: Plan,
    pub terms: Terms,
    pub claims: Vec<Claim>,
    pub want: Want,
    pub decision: Decision,
    /// The budget for which its first target was passed over.
    pub passed: Option<String>,
}

impl<'c> Case<'c> {
    fn facts<'k>(&'k self, step: &'k Step) -> Known<'k> {
        Known {
            admission: self.admission,
            request: self.request,
            route: &self.route.name,
            step,
            outside: self.outside,
        }
    }

    fn claims(&self, plan: &Plan) -> Vec<Claim> {
        plan.steps.first().map(|step| self.gateway.budgets.claims(&self.facts(step))).unwrap_or_default()
    }

    fn appraisal(&self, plan: &Plan) -> Appraisal<'c> {
        let catalogue = &self.gateway.catalogue;
        Appraisal::new(self.request, (self.route, &plan.steps), catalogue, self.around.store)
    }

    /// Asks for the plan as it is; where an account refuses that is kept by who answers, for the next step that has another.
    pub fn ask(&self, plan: Plan, downgraded: bool) -> Asked {
        let mut found = self.reserve(plan, downgraded);
        if let Some(budget) = found.refused_by_target() {
            let mut asked = vec![found.accounts()];
            for at in 1..found.plan.steps.len() {
                let mut plan = found.plan.clone();
                let step = plan.steps.remove(at);
                plan.steps.insert(0, step);
                if asked.contains(&accounts(&self.claims(&plan))) {
                    continue;
                }
                let other = Found { passed: Some(budget.clone()), ..self.reserve(plan, downgraded) };
                if matches!(other.decision, Decision::Admitted(_) | Decision::Lease { .. }) {
                    found = other;
                    break;
                }
                asked.push(other.accounts());
            }
        }
        match found.decision {
            Decision::Downgrade { budget, to } => Asked::Otherwise { budget, to },
            _ => Asked::Done(Box::new(self.done(found))),
        }
    }

    /// With the accounts that it concerns. Nothing is free in silence: where a limit is in dollars a target of unknown price is
    /// none. Without any other the first is named.
    fn appraised(&self, mut plan: Plan) -> (Plan, Vec<Claim>, Appraisal<'c>) {
        let claims = self.claims(&plan);
        let appraisal = self.appraisal(&plan);
        if claims.iter().any(Claim::needs_prices) {
            let is_priced = |step: &&Step| appraisal.is_priced(step);
            let priced: Vec<Step> = plan.steps.iter().filter(is_priced).cloned().collect();
            if !priced.is_empty() && priced.len() < plan.steps.len() {
                plan.steps = priced;
                return self.appraised(plan);
            }
        }
        (plan, claims, appraisal)
    }

    fn reserve(&self, plan: Plan, downgraded: bool) -> Found<'c> {
        let (plan, claims, mut appraisal) = self.appraised(plan);
        let now = self.around.now;
        let times = (now, expires(now, self.route.total.millis));
        let mut want = appraisal.want(false, times, downgraded);
        let mut decision = budget::reserve(self.around, &claims, &want);
        // What waits cannot be counted later: its body is read here only. For what counts no tokens that is no loss.
        let counts = match decision {
            Decision::CountFirst => true,
            Decision::Wait { .. } => claims.iter().any(Claim::counts_tokens),
            Decision::Admitted(_)
            | Decision::Refused(_)
            | Decision::Downgrade { .. }
            | Decision::Lease { .. } => false,
        };
        if counts {
            appraisal.count();
            want = appraisal.want(true, times, downgraded);
            decision = budget::reserve(self.around, &claims, &want);
        }
        Found { plan, appraisal, claims, want, decision, passed: None }
    }

    fn done(&self, found: Found<'c>) -> Done {
        let Found { plan, appraisal, claims, want, decision, passed } = found;
        let moving = |target: u8| {
            let step = plan.steps.iter().find(|step| step.target == target);
            let moves = self.gateway.budgets.moves();
            step.filter(|_| moves).map(|step| self.gateway.budgets.moving(&self.facts(step)))
        };
        let terms = appraisal.terms(want.expires, &|target| moving(target).unwrap_or_default());
        Done { plan, terms, claims, want, decision, passed }
    }
}

/// What budgets say to one way to serve a request.
struct Found<'c> {
    plan: Plan,
    appraisal: Appraisal<'c>,
    claims: Vec<Claim>,
    want: Want,
    decision: Decision,
    passed: Option<String>,
}

impl Found<'_> {
    /// The budget that refuses it with the account of its first target, where others may have more.
    fn refused_by_target(&self) -> Option<String> {
        let Decision::Refused(refused) = &self.decision else { return None };
        let theirs = self.claims.iter().any(|claim| claim.is_per_target_as(&refused.budget));
        theirs.then(|| refused.budget.clone())
    }
    fn accounts(&self) -> Vec<u64> {
        accounts(&self.claims)
    }
}

fn accounts(claims: &[Claim]) -> Vec<u64> {
    claims.iter().map(Claim::account).collect()
}
