//! The request side of an exchange: recognise the protocol, decode, validate, route, plan, write the ticket.

use attache_protocol::codec::{Line, Protocol, View};
use attache_protocol::error::{ApiError, ErrorKind};
use attache_protocol::request::{ReasoningAmount, Request, Signature};
use attache_protocol::wire::Fault;

use crate::budget::{Ask, Fact, Facts};
use crate::config::{Credentials, Delivery, Silence, suggest};
use crate::failover::EXTRA_ATTEMPTS;
use crate::gateway::{FIRST_TOKEN, FIRST_TOKEN_THINKING, Gateway, Limits, Route};
use crate::headers::{DELIVERY_HEADER, protocol_headers};
use crate::metrics::Count;
use crate::outcome::{Around, Effects};
use crate::plan::{Circumstances, Plan, knows_conversations, plan};
use crate::sticky::{SESSION_HEADERS, conversation};
use crate::stream::GRACE;
use crate::ticket::{ClientCredential, Policy, Progress, Ticket};

mod budgets;
mod case;
mod head;

use budgets::Planned;
pub use budgets::{Verdict, Waiting};
pub use head::{Head, recognise};
use head::{client_credential, guess, query_without_key};

/// The longest name of a model, in bytes: no provider has one near it, and it stands in paths, headers and every attempt.
const LONGEST_MODEL: usize = 512;

/// A request whose head has been understood and whose body is awaited.
#[derive(Debug)]
pub struct Admission {
    pub protocol: Protocol,
    line: Line,
    path: String,
    query: String,
    credential: Option<ClientCredential>,
    headers: Vec<(String, String)>,
    delivery: Option<Delivery>,
    session: Option<String>,
    /// Headers that budgets name.
    named: Vec<(String, String)>,
}

/// The body was good too: what goes to the attempts.
#[derive(Debug)]
pub struct Admitted {
    pub ticket: Ticket,
    pub progress: Progress,
    /// The most attempts after the first.
    pub retries: usize,
    /// Milliseconds that one attempt may take until its head is let through.
    pub attempt_timeout: u64,
    /// Milliseconds for everything.
    pub total_timeout: u64,
    /// What the answer's headers tell of its budgets.
    pub headers: Vec<(String, String)>,
    pub effects: Effects,
    /// To be sent to the fleet's service; nobody waits for them.
    pub asks: Vec<Ask>,
}

impl Admitted {
    /// The filter state that sends the first attempt.
    pub fn state(self) -> Vec<u8> {
        let entry = self.ticket.entry(self.progress.clone());
        entry.state(&self.progress)
    }
}

/// A request that the gateway answers itself, in the client's protocol.
#[derive(Debug, PartialEq)]
pub struct Reject {
    pub protocol: Protocol,
    pub error: ApiError,
    pub headers: Vec<(String, String)>,
    pub counts: Vec<Count>,
}

impl Reject {
    fn of(protocol: Protocol, error: ApiError) -> Box<Reject> {
        Box::new(Reject { protocol, error, headers: Vec::new(), counts: Vec::new() })
    }
}

impl Admission {
    /// Reads the head of a request.
    pub fn begin(head: &Head<'_>, gateway: &Gateway) -> Result<Admission, Box<Reject>> {
        let limits = &gateway.limits;
        let path = head.get(":path").unwrap_or_default();
        let Some((protocol, line)) = recognise(path) else {
            let protocol = guess(path, head);
            let known = "POST /v1/chat/completions (OpenAI), /v1/messages (Anthropic), /v1beta/models/{model}:generateContent and :streamGenerateContent (Gemini)";
            let path = path.split('?').next().unwrap_or_default();
            let message = format!("unknown path `{}`; served here: {known}", shorten(path));
            let error = ApiError::new(ErrorKind::NotFound, message).with_code("unknown_path");
            return Err(Reject::of(protocol, error));
        };
        let reject = |kind, status, code: &str, message: String| {
            let mut error = ApiError::new(kind, message).with_code(code);
            error.status = status;
            Err(Reject::of(protocol, error))
        };
        if let Some(method) = head.get(":method").filter(|method| *method != "POST") {
            let message = format!("this path takes POST, not {}", shorten(method));
            return reject(ErrorKind::BadRequest, 405, "method_not_allowed", message);
        }
        if head
            .get("content-length")
            .and_then(|length| length.parse::<u64>().ok())
            .is_some_and(|length| length > limits.body)
        {
            return Err(Reject::of(protocol, too_large(limits)));
        }
        if let Some(encoding) = head.get("content-encoding").filter(|encoding| *encoding != "identity") {
            let message = format!("the body is encoded as `{}`; send it plain", shorten(encoding));
            return reject(ErrorKind::BadRequest, 415, "unsupported_content_encoding", message);
        }
        let delivery = match head.get(DELIVERY_HEADER).map(|text| (text, Delivery::parse(text))) {
            Some((text, None)) => {
                let message = format!(
                    "header {DELIVERY_HEADER}: expected `live` or `whole`, found `{}`",
                    shorten(text)
                );
                return reject(ErrorKind::BadRequest, 400, "invalid_header", message);
            }
            Some((_, delivery)) => delivery,
            None => None,
        };
        let session = SESSION_HEADERS.iter().find_map(|name| head.get(name)).map(str::to_owned);
        let (query, key) = query_without_key(path.split_once('?').map_or("", |(_, query)| query));
        let credential = client_credential(head, key);
        let headers = protocol_headers(protocol)
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), head.get(name)?.to_owned())))
            .collect();
        let path = path.to_owned();
        let named = gateway.budgets.needs().iter().filter_map(|fact| match fact {
            Fact::Header(name) => Some((name.clone(), head.get(name)?.to_owned())),
            _ => None,
        });
        let named = named.collect();
        Ok(Admission { protocol, line, path, query, credential, headers, delivery, session, named })
    }

    /// Reads the body, plans, and asks the budgets. `outside`: what the shell knows of who sent it.
    pub fn admit(
        self,
        gateway: &Gateway,
        body: &[u8],
        around: &Around<'_>,
        outside: &dyn Facts,
    ) -> Result<Verdict, Box<Reject>> {
        let protocol = self.protocol;
        let fail = |error| Reject::of(protocol, error);
        let text = text(body).map_err(fail)?;
        let request = self.protocol.codec().decode_request(&self.line, text);
        let request = request.map_err(|fault| fail(bad_request(fault)))?;
        budgets::admit(self, gateway, &request, body, around, outside)
    }

    /// Who serves a request, and in which order.
    fn choose<'g>(
        &self,
        gateway: &'g Gateway,
        request: &Request<'_>,
        body: &[u8],
        around: &Around<'_>,
    ) -> Result<Choice<'g>, ApiError> {
        let model = Some(&*request.model).filter(|model| model.len() <= LONGEST_MODEL);
        let route = model.and_then(|model| gateway.route(model));
        let route = route.ok_or_else(|| unknown_model(gateway, &request.model))?;
        let known = knows_conversations(&route.targets);
        let conversation = if known { conversation(self.session.as_deref(), request) } else { 0 };
        let body_length = body.len() as u64;
        let circumstances = Circumstances { now: around.now, store: around.store, conversation, body_length };
        let plan = plan(route, &gateway.catalogue, request, &circumstances)?;
        Ok(Choice { route, plan, conversation })
    }

    /// What goes to the attempts.
    fn ticket(
        self,
        gateway: &Gateway,
        request: &Request<'_>,
        choice: Choice<'_>,
        body: &[u8],
        now: u64,
    ) -> Planned {
        let Choice { route, plan: Plan { steps: plan, home, reasons }, conversation } = choice;
        let body_length = body.len() as u64;
        let single = body_length > gateway.limits.replay;
        let passes =
            route.targets.iter().any(|target| target.provider.credentials == Credentials::Passthrough);
        let policy = policy(gateway, route, request, reasons, self.delivery, now);
        let attempt_timeout = attempt_timeout(&policy, request.stream);
        let retries = if single { 0 } else { plan.len() - 1 + EXTRA_ATTEMPTS };
        let ticket = Ticket {
            protocol: self.protocol,
            path: self.path,
            query: self.query,
            stream: request.stream,
            answers: request.candidates(),
            view: View {
                model: request.model.to_string(),
                now: now / 1000,
                include_usage: request.include_usage,
                sse: self.line.sse,
            },
            credential: self.credential.filter(|_| passes),
            headers: self.headers,
            mixed: Signature::may_be_carried(body),
            body_length,
            single,
            plan,
            policy,
            conversation,
            home,
            terms: None,
        };
        // A stream's own end of time comes first: it can still be told.
        let total_timeout = route.total.millis + if request.stream { GRACE } else { 0 };
        let total = route.total.millis;
        Planned { ticket, retries, total, attempt_timeout, total_timeout, downgraded: None, passed: None }
    }
}

/// Who serves a request.
struct Choice<'g> {
    route: &'g Route,
    plan: Plan,
    conversation: u64,
}

/// The body as text.
fn text(body: &[u8]) -> Result<&str, ApiError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let message = format!("the body is not valid UTF-8 (at byte {})", error.valid_up_to());
        ApiError::new(ErrorKind::BadRequest, message).with_code("invalid_utf8")
    })?;
    if text.trim_ascii().is_empty() {
        let message = "the body is empty; expected a JSON object";
        return Err(ApiError::new(ErrorKind::BadRequest, message).with_code("empty_body"));
    }
    Ok(text)
}

/// The route's limits and rules for this request.
fn policy(
    gateway: &Gateway,
    route: &Route,
    request: &Request<'_>,
    reasons: bool,
    delivery: Option<Delivery>,
    now: u64,
) -> Policy {
    let thinks = match request.reasoning.amount {
        ReasoningAmount::Off => false,
        ReasoningAmount::Unset => reasons,
        _ => true,
    };
    let first_token = route.first_token.unwrap_or(if thinks { FIRST_TOKEN_THINKING } else { FIRST_TOKEN });
    let whole = request.stream && delivery.unwrap_or(route.delivery) == Delivery::Whole;
    Policy {
        whole,
        hop: whole || request.stream && route.silence == Silence::Told,
        first_token: first_token.millis,
        idle: route.idle.millis,
        min_throughput: route.min_throughput,
        answer: route.answer.millis,
        deadline: now + route.total.millis,
        wait_limit: route.wait_limit.millis,
        on_error: route.on_error.clone(),
        health: gateway.health,
    }
}

/// What the router is told of the time that an attempt may take. A stream that is held whole has its first-token limit
/// elsewhere (the chart's `_hop.tpl`, and [`crate::exchange::Exchange::tick`]).
fn attempt_timeout(policy: &Policy, stream: bool) -> u64 {
    if stream && !policy.whole { policy.first_token } else { policy.answer }
}

/// The answer to a body over the limit.
pub fn too_large(limits: &Limits) -> ApiError {
    let message = format!("the body is larger than {} MiB, the most that can be read", limits.body >> 20);
    ApiError::new(ErrorKind::TooLarge, message).with_code("body_too_large")
}

fn bad_request(fault: Fault) -> ApiError {
    let Fault { path, reason } = fault;
    let reason =
        reason.split(" at line ").next().map(str::to_owned).filter(|_| !path.is_empty()).unwrap_or(reason);
    let message = if path.is_empty() { format!("the body: {reason}") } else { format!("`{path}`: {reason}") };
    let mut error = ApiError::new(ErrorKind::BadRequest, message).with_code("invalid_request");
    error.param = Some(path).filter(|path| !path.is_empty());
    error
}

fn unknown_model(gateway: &Gateway, model: &str) -> ApiError {
    let known = gateway.models();
    let hint = suggest(model, &known);
    let message = format!("unknown model `{}`: no route serves it{hint}", shorten(model));
    let mut error = ApiError::new(ErrorKind::NotFound, message).with_code("model_not_found");
    error.param = Some("model".to_owned());
    error
}

/// What a client typed, short enough for a message.
fn shorten(text: &str) -> String {
    let short: String = text.chars().take(100).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if short.len() < text.len() { short + "…" } else { short }
}
