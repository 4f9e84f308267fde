//! The listener filter: the client's request once, and the answer on its way out.

use std::rc::Rc;

use attache_gateway::admission::{Admission, Head, Reject};
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
use crate::host::{self, Body, Headers, Shared};

/// Filter state: the cluster to try next, which the route's matcher reads, and what that attempt needs to know.
pub const NEXT: &str = "llm_next";

pub struct Listener {
    gateway: Rc<Gateway>,
    counters: Rc<Counters>,
    state: State,
}

enum State {
    Fresh,
    /// The head is understood, the body is being collected.
    Collecting(Admission),
    /// Attempts are under way; an answer comes from one of them or from Envoy.
    Admitted {
        protocol: Protocol,
    },
    /// Envoy answered; this body takes the place of its own.
    Rewriting(Option<Vec<u8>>),
    /// The answer is not ours to touch any more.
    Done,
}

impl Listener {
    pub fn new(gateway: Rc<Gateway>, counters: Rc<Counters>) -> Self {
        Listener { gateway, counters, state: State::Fresh }
    }

    fn reject(&mut self, reject: Reject) -> Action {
        let Reject { protocol, error } = reject;
        self.state = State::Done;
        let code = error.code.as_deref().unwrap_or(error.kind.name());
        self.counters.raise(vec![metrics::refused(protocol, code)]);
        let body = protocol.codec().encode_error(&error);
        host::reply(
            error.status,
            code,
            &[("content-type", "application/json"), (ATTEMPTS_HEADER, "0")],
            &body,
        );
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

    fn admit(&mut self, admission: Admission, body: &[u8]) -> Action {
        let around = Around { now: host::now(), store: &Shared };
        let admitted = match admission.admit(&self.gateway, body, &around) {
            Ok(admitted) => admitted,
            Err(reject) => return self.reject(reject),
        };
        let protocol = admitted.ticket.protocol;
        self.state = State::Admitted { protocol };
        if admitted.ticket.single {
            log::warn!("a body of {} bytes is too large to be sent twice: no failover for it", body.len());
            self.counters.raise(vec![metrics::unrepeatable(protocol)]);
        }
        let set = |name, value: u64| host::set_header(Headers::Request, name, &value.to_string());
        set("x-envoy-max-retries", admitted.retries as u64);
        set("x-envoy-upstream-rq-per-try-timeout-ms", admitted.attempt_timeout);
        set("x-envoy-upstream-rq-timeout-ms", admitted.total_timeout);
        host::set_state(NEXT, &admitted.state());
        Action::Continue
    }
}

impl Context for Listener {}

impl HttpContext for Listener {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let headers = host::headers(Headers::Request);
        let head = Head::new(headers.iter());
        for name in head.private() {
            host::remove_header(Headers::Request, name);
        }
        match Admission::begin(&head, &self.gateway.limits) {
            Ok(admission) if end_of_stream => self.admit(admission, b""),
            Ok(admission) => {
                self.state = State::Collecting(admission);
                Action::Pause
            }
            Err(reject) => self.reject(reject),
        }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !end_of_stream {
            return if matches!(self.state, State::Collecting(_)) { Action::Pause } else { Action::Continue };
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Collecting(admission) => self.admit(admission, &host::body(Body::Request, 0, size)),
            other => {
                self.state = other;
                Action::Continue
            }
        }
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Collecting(admission) => self.admit(admission, &host::body(Body::Request, 0, usize::MAX)),
            other => {
                self.state = other;
                Action::Continue
            }
        }
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let protocol = match std::mem::replace(&mut self.state, State::Done) {
            State::Admitted { protocol } => protocol,
            State::Collecting(admission) => admission.protocol,
            State::Fresh | State::Rewriting(_) | State::Done => return Action::Continue,
        };
        let status =
            |name| host::header(Headers::Response, name).and_then(|status| status.parse::<u16>().ok());
        let mut code = status(":status").unwrap_or(500);
        if code < 400 {
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
        self.tell(protocol, &error, &past, unread)
    }

    fn on_http_response_body(&mut self, size: usize, _: bool) -> Action {
        if let State::Rewriting(body) = &mut self.state {
            host::set_body(Body::Response, size, &body.take().unwrap_or_default());
        }
        Action::Continue
    }
}
