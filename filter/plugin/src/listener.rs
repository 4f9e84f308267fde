//! The listener filter: the client's request once, and the answer on its way out.

use std::cell::RefCell;
use std::rc::Rc;

use attache_gateway::admission::{Admission, Admitted, Head, Reject, Verdict, Waiting};
use attache_gateway::gateway::Gateway;
use attache_gateway::headers::{
    ATTEMPT_LOG_HEADER, ATTEMPTS_HEADER, MODEL_HEADER, PROVIDER_HEADER, STATUS_HEADER, UNREAD_HEADER,
    WAIT_HEADER,
};
use attache_gateway::metrics;
use attache_gateway::outcome::Around;
use attache_gateway::reject::{Past, empty_error, envoy_error};
use attache_protocol::codec::Protocol;
use attache_protocol::error::ApiError;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::Counters;
use crate::desk::Desk;
use crate::host::{self, Body, Headers, Shared};
use crate::identity::Identity;

/// Filter state: the cluster to try next, which the route's matcher reads, and what that attempt needs to know.
pub const NEXT: &str = "llm_next";

pub struct Listener {
    id: u32,
    gateway: Rc<Gateway>,
    desk: Rc<Desk>,
    case: Rc<RefCell<Case>>,
}

/// A client's request and what became of it: the half that time may move on too.
pub struct Case {
    counters: Rc<Counters>,
    state: State,
    /// What the answer's headers tell of budgets.
    headers: Vec<(String, String)>,
    books: Books,
    desk: Rc<Desk>,
}

/// When a request that waits is to be asked again.
#[derive(Clone, Copy)]
pub struct Again {
    pub millis: u64,
    /// Or at once, when the fleet's service has answered.
    pub leases: bool,
    /// The account for which it waits.
    pub account: u64,
}

impl Again {
    fn of(waiting: &Waiting) -> Again {
        Again { millis: waiting.again(), leases: waiting.leases(), account: waiting.account() }
    }
}

/// Whether a request holds something of its budgets, or may come to.
#[derive(Clone, Copy, PartialEq)]
enum Books {
    Empty,
    Held,
    /// The attempt that answers settles it.
    Answering,
    /// It has.
    Settled,
}

enum State {
    Fresh,
    /// The head is understood, the body is being collected.
    Collecting(Admission),
    /// Its budgets do not admit it yet.
    Waiting(Box<Waiting>),
    /// Attempts are under way; an answer comes from one of them or from Envoy.
    Admitted {
        protocol: Protocol,
    },
    /// Envoy answered; this body takes the place of its own.
    Rewriting(Option<Vec<u8>>),
    /// The answer is not ours to touch any more.
    Done,
}

impl Case {
    fn reject(&mut self, reject: Reject) -> Action {
        let Reject { protocol, error, headers, counts } = reject;
        self.state = State::Done;
        let code = error.code.as_deref().unwrap_or(error.kind.name());
        self.counters.raise(vec![metrics::refused(protocol, code)]);
        self.counters.raise(counts);
        let body = protocol.codec().encode_error(&error);
        let mut set = vec![("content-type", "application/json"), (ATTEMPTS_HEADER, "0")];
        set.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        host::reply(error.status, code, &set, &body);
        Action::Pause
    }

    /// Puts an error of ours in place of the answer on its way out.
    fn tell(&mut self, protocol: Protocol, error: &ApiError, past: &Past, without_body: bool) -> Action {
        self.counters.raise(vec![metrics::refused(protocol, error.kind.name())]);
        let body = protocol.codec().encode_error(error);
        let attempts = past.attempts().to_string();
        let log = past.log();
        let mut set = vec![("content-type", "application/json"), (ATTEMPTS_HEADER, attempts.as_str())];
        if !log.is_empty() {
            set.push((ATTEMPT_LOG_HEADER, log.as_str()));
        }
        if without_body {
            // Nothing can be added to an answer that ended with its head; a reply of our own takes its place.
            let provider = host::header(Headers::Response, PROVIDER_HEADER);
            let model = host::header(Headers::Response, MODEL_HEADER);
            set.extend(provider.as_deref().map(|provider| (PROVIDER_HEADER, provider)));
            set.extend(model.as_deref().map(|model| (MODEL_HEADER, model)));
            set.extend(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            host::reply(error.status, error.kind.name(), &set, &body);
            return Action::Pause;
        }
        host::set_header(Headers::Response, ":status", &error.status.to_string());
        for (name, value) in set {
            host::set_header(Headers::Response, name, value);
        }
        host::remove_header(Headers::Response, "content-length");
        self.state = State::Rewriting(Some(body));
        Action::Continue
    }

    fn admitted(&mut self, admitted: Admitted) {
        #[cfg(feature = "crash")]
        crate::crash::at(crate::crash::Place::Reserved);
        let mut admitted = admitted;
        let protocol = admitted.ticket.protocol;
        self.state = State::Admitted { protocol };
        self.headers = std::mem::take(&mut admitted.headers);
        if admitted.ticket.terms.is_some() {
            self.books = Books::Held;
        }
        self.counters.apply(std::mem::take(&mut admitted.effects));
        self.desk.holds(&admitted.progress.reservation, std::mem::take(&mut admitted.asks));
        if admitted.ticket.single {
            let bytes = admitted.ticket.body_length;
            log::warn!("a body of {bytes} bytes is too large to be sent twice: no failover for it");
            self.counters.raise(vec![metrics::unrepeatable(protocol)]);
        }
        let set = |name, value: u64| host::set_header(Headers::Request, name, &value.to_string());
        set("x-envoy-max-retries", admitted.retries as u64);
        set("x-envoy-upstream-rq-per-try-timeout-ms", admitted.attempt_timeout);
        set("x-envoy-upstream-rq-timeout-ms", admitted.total_timeout);
        host::set_state(NEXT, &admitted.state());
    }

    /// It has waited; called outside its own callbacks, and for it. Returns when it is to be asked again.
    pub fn ask(&mut self, now: u64) -> Option<Again> {
        let waiting = match std::mem::replace(&mut self.state, State::Done) {
            State::Waiting(waiting) => waiting,
            other => {
                self.state = other;
                return None;
            }
        };
        match waiting.ask(&Around { now, store: &Shared }) {
            Ok(Verdict::Go(admitted)) => {
                self.admitted(*admitted);
                host::release_request();
            }
            Ok(Verdict::Wait(mut waiting)) => {
                let again = Again::of(&waiting);
                self.desk.send(waiting.take_asks());
                self.state = State::Waiting(waiting);
                return Some(again);
            }
            Err(reject) => _ = self.reject(*reject),
        }
        None
    }
}

impl Listener {
    pub fn new(id: u32, gateway: Rc<Gateway>, counters: Rc<Counters>, desk: Rc<Desk>) -> Self {
        let (state, headers, books) = (State::Fresh, Vec::new(), Books::Empty);
        let case = Case { counters, state, headers, books, desk: desk.clone() };
        let case = Rc::new(RefCell::new(case));
        Listener { id, gateway, desk, case }
    }

    fn admit(&self, case: &mut Case, admission: Admission, body: &[u8]) -> Action {
        let around = Around { now: host::now(), store: &Shared };
        let outside = Identity { workload: &self.desk.workload };
        match admission.admit(&self.gateway, body, &around, &outside) {
            Ok(Verdict::Go(admitted)) => {
                case.admitted(*admitted);
                Action::Continue
            }
            Ok(Verdict::Wait(mut waiting)) => {
                let again = Again::of(&waiting);
                // Asked already in the fleet's name: the answer is for all.
                let asks = waiting.take_asks();
                let seated = self.desk.seat(self.id, &self.case, waiting.bytes(), around.now, again);
                self.desk.send(asks);
                match seated {
                    true => {
                        case.counters.raise(waiting.counts());
                        case.state = State::Waiting(waiting);
                        Action::Pause
                    }
                    false => case.reject(*waiting.turned_away()),
                }
            }
            Err(reject) => case.reject(*reject),
        }
    }
}

impl Context for Listener {
    fn on_done(&mut self) -> bool {
        self.desk.forget(self.id);
        let held =
            self.case.try_borrow().is_ok_and(|case| matches!(case.books, Books::Held | Books::Answering));
        if held {
            // Who answered settles it. If nobody did, it is done here a little later.
            self.desk.settle_later(host::property(NEXT).unwrap_or_default(), host::now());
        }
        true
    }
}

impl HttpContext for Listener {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let Ok(mut case) = self.case.try_borrow_mut() else { return Action::Pause };
        #[cfg(feature = "crash")]
        {
            crate::crash::listen();
            crate::crash::at(crate::crash::Place::Head);
        }
        let headers = host::headers(Headers::Request);
        let head = Head::new(headers.iter());
        for name in head.private() {
            host::remove_header(Headers::Request, name);
        }
        match Admission::begin(&head, &self.gateway) {
            Ok(admission) if end_of_stream => self.admit(&mut case, admission, b""),
            Ok(admission) => {
                case.state = State::Collecting(admission);
                Action::Pause
            }
            Err(reject) => case.reject(*reject),
        }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let Ok(mut case) = self.case.try_borrow_mut() else { return Action::Pause };
        if !end_of_stream {
            return if matches!(case.state, State::Collecting(_)) { Action::Pause } else { Action::Continue };
        }
        match std::mem::replace(&mut case.state, State::Done) {
            State::Collecting(admission) => {
                self.admit(&mut case, admission, &host::body(Body::Request, 0, size))
            }
            other => {
                case.state = other;
                Action::Continue
            }
        }
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        let Ok(mut case) = self.case.try_borrow_mut() else { return Action::Pause };
        match std::mem::replace(&mut case.state, State::Done) {
            State::Collecting(admission) => {
                self.admit(&mut case, admission, &host::body(Body::Request, 0, usize::MAX))
            }
            other => {
                case.state = other;
                Action::Continue
            }
        }
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let Ok(mut case) = self.case.try_borrow_mut() else { return Action::Continue };
        let protocol = match std::mem::replace(&mut case.state, State::Done) {
            State::Admitted { protocol } => protocol,
            State::Collecting(admission) => admission.protocol,
            State::Waiting(waiting) => waiting.protocol(),
            State::Fresh | State::Rewriting(_) | State::Done => return Action::Continue,
        };
        for (name, value) in &case.headers {
            host::set_header(Headers::Response, name, value);
        }
        let status =
            |name| host::header(Headers::Response, name).and_then(|status| status.parse::<u16>().ok());
        let mut code = status(":status").unwrap_or(500);
        if code < 400 {
            case.answered(end_of_stream);
            return Action::Continue;
        }
        let from_provider = host::header(Headers::Response, PROVIDER_HEADER).is_some();
        let mut unread = end_of_stream;
        if let Some(real) = status(STATUS_HEADER).filter(|_| from_provider) {
            // The router could not make the attempt that was asked for.
            code = real;
            host::set_header(Headers::Response, ":status", &real.to_string());
            unread |= host::header(Headers::Response, UNREAD_HEADER).is_some();
            for name in [STATUS_HEADER, WAIT_HEADER, UNREAD_HEADER] {
                host::remove_header(Headers::Response, name);
            }
        } else if from_provider {
            case.answered(end_of_stream);
        }
        if from_provider && !unread {
            return Action::Continue;
        }
        let past = Past::read(&host::property(NEXT).unwrap_or_default());
        let error = if from_provider {
            empty_error(code, &past)
        } else {
            let details = host::property("response\0code_details").unwrap_or_default();
            envoy_error(code, &String::from_utf8_lossy(&details), &past, &self.gateway.limits)
        };
        case.tell(protocol, &error, &past, unread)
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let Ok(mut case) = self.case.try_borrow_mut() else { return Action::Continue };
        if let State::Rewriting(body) = &mut case.state {
            host::set_body(Body::Response, size, &body.take().unwrap_or_default());
        }
        if end_of_stream && case.books == Books::Answering {
            case.books = Books::Settled;
        }
        Action::Continue
    }
}

impl Case {
    /// A provider's answer begins, and with its last byte it is settled.
    fn answered(&mut self, whole: bool) {
        if self.books == Books::Held {
            self.books = if whole { Books::Settled } else { Books::Answering };
        }
    }
}
