//! The upstream filter: one attempt at one provider.

use std::cell::RefCell;
use std::rc::Rc;

use attache_gateway::attempt::{Attempt, Outgoing};
use attache_gateway::exchange::{Ending, Exchange, Expiry, Flow, Listen, MOST_WHOLE, ResponseHead};
use attache_gateway::headers::{HOP_HEADER, ends_here};
use attache_gateway::outcome::Around;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::Counters;
use crate::hop::Place;
use crate::host::{self, Body, Headers, Shared};
use crate::listener::NEXT;
use crate::watch::Watch;

pub struct Upstream {
    id: u32,
    counters: Rc<Counters>,
    watch: Rc<Watch>,
    rewrites: bool,
    /// `None`: there is no plan for this request.
    answer: Option<Rc<RefCell<Answer>>>,
}

/// The attempt and its answer: the half that time may end too.
pub struct Answer {
    id: u32,
    exchange: Exchange,
    counters: Rc<Counters>,
    listen: Listen,
    /// Bytes of the held body that the exchange has seen. While a body is held Envoy shows all of it again.
    seen: usize,
    held: bool,
    /// The provider says that its whole answer is larger than can be held.
    oversized: bool,
    /// Where its connection can be ended.
    hop: Option<Place>,
    /// It was to be ended, and could not be: it is broken off, once its last bytes have left.
    severed: bool,
}

impl Upstream {
    pub fn new(id: u32, counters: Rc<Counters>, watch: Rc<Watch>) -> Self {
        Upstream { id, counters, watch, rewrites: false, answer: None }
    }

    /// Without a ticket nobody planned this: a client must not reach a provider so.
    fn refuse(&mut self, why: &str) -> Action {
        log::error!("upstream filter: {why}");
        host::reply(500, "attache_attempt_refused", &[("content-type", "text/plain")], why.as_bytes());
        Action::Pause
    }

    /// Sends the collected body to the provider, rewritten for it.
    fn send(&mut self, size: usize) -> Action {
        let Some(answer) = &self.answer else { return Action::Pause };
        let Ok(rewritten) = answer
            .try_borrow_mut()
            .map(|mut answer| answer.exchange.attempt().rewrite(&host::body(Body::Request, 0, size)))
        else {
            return Action::Pause;
        };
        match rewritten {
            Ok(rewritten) => {
                let length = rewritten.as_ref().map_or(size, Vec::len);
                host::remove_header(Headers::Request, "transfer-encoding");
                host::set_header(Headers::Request, "content-length", &length.to_string());
                if let Some(body) = rewritten {
                    host::set_body(Body::Request, size, &body);
                }
                Action::Continue
            }
            Err(error) => self.refuse(&error.message),
        }
    }

    /// Hands the answer what is new of its body. `coarse`: the time need not be exact.
    fn hand(&mut self, size: usize, end: bool) -> Action {
        let Some(answer) = self.answer.as_ref().and_then(|answer| answer.try_borrow_mut().ok()) else {
            return Action::Continue;
        };
        let mut answer = answer;
        if self.watch.is_crowded() {
            answer.exchange.hurry();
        }
        // The end of an attempt is told in milliseconds; the pieces on the way there need no clock.
        let now = if end || answer.held { self.watch.now() } else { self.watch.about_now() };
        let before = answer.kept();
        let action = answer.take(size, end, now);
        self.watch.keeps(before, answer.kept());
        #[cfg(feature = "crash")]
        if end {
            crate::crash::at(crate::crash::Place::Settled);
        }
        action
    }
}

impl Answer {
    /// What is new of the body goes to the exchange, and what it says is done.
    fn take(&mut self, size: usize, end: bool, now: u64) -> Action {
        let around = Around { now, store: &Shared };
        let flow = if self.listen == Listen::Pieces || end || !self.held {
            let bytes = host::body(Body::Response, self.seen, size.saturating_sub(self.seen));
            self.exchange.body(&bytes, end, &around)
        } else if self.oversized || size > MOST_WHOLE {
            self.exchange.too_large(&around)
        } else {
            return Action::Pause;
        };
        let effects = self.exchange.effects();
        let last = effects.end;
        self.counters.apply(effects);
        let action = self.pass(flow, size);
        if last && !end {
            self.severed = !self.end();
        }
        action
    }

    fn pass(&mut self, flow: Flow, size: usize) -> Action {
        match flow {
            Flow::Hold => {
                self.seen = size;
                Action::Pause
            }
            Flow::Release { head, body } => {
                self.release(head, body.is_some());
                if let Some(body) = body {
                    host::set_body(Body::Response, size, &body);
                }
                Action::Continue
            }
            Flow::Pass(body) => {
                if let Some(body) = body {
                    host::set_body(Body::Response, size, &body);
                }
                Action::Continue
            }
        }
    }

    /// Ends the answer in the hop, by which the provider is hung up on.
    fn end(&self) -> bool {
        self.hop.is_some_and(|hop| hop.end(self.id))
    }

    fn release(&mut self, head: ResponseHead, rewritten: bool) {
        (self.held, self.seen) = (false, 0);
        // A stream's later pieces may be longer or shorter than the provider said.
        if rewritten || self.listen == Listen::Pieces {
            host::remove_header(Headers::Response, "content-length");
        }
        if rewritten {
            host::remove_header(Headers::Response, "content-encoding");
        }
        if let Some(status) = head.status {
            host::set_header(Headers::Response, ":status", &status.to_string());
        }
        for (name, value) in &head.set {
            host::set_header(Headers::Response, name, value);
        }
    }

    /// Bytes of the answer that the exchange holds.
    pub fn kept(&self) -> usize {
        self.exchange.kept()
    }

    /// Time has passed; called outside the exchange's own callbacks.
    pub fn tick(&mut self, now: u64) {
        if self.severed {
            host::act_for(self.id);
            return host::cut();
        }
        let Some(expiry) = self.exchange.tick(&Around { now, store: &Shared }) else { return };
        host::act_for(self.id);
        self.counters.apply(self.exchange.effects());
        match expiry {
            Expiry::Retry(head) => {
                self.release(head, true);
                host::release_answer();
            }
            Expiry::Reply { head, body } => {
                let headers: Vec<(&str, &str)> =
                    head.set.iter().map(|(name, value)| (*name, value.as_str())).collect();
                host::reply(head.status.unwrap_or(504), "attache_deadline", &headers, &body);
            }
            Expiry::End if self.end() => {}
            Expiry::End | Expiry::Cut => host::cut(),
        }
    }
}

impl Context for Upstream {
    fn on_done(&mut self) -> bool {
        self.watch.forget(self.id);
        if let Some(answer) = self.answer.take().and_then(Rc::into_inner) {
            let exchange = answer.into_inner().exchange;
            if exchange.is_told() {
                return true;
            }
            let details = host::property("response\0code_details").unwrap_or_default();
            let around = Around { now: self.watch.now(), store: &Shared };
            self.counters.apply(exchange.close(ending(&details, was_reached), &around));
        }
        true
    }
}

impl HttpContext for Upstream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let state = host::property(NEXT).unwrap_or_default();
        let Some(attempt) = Attempt::new(&state) else {
            return self.refuse("no plan that this filter can read; if the filter was replaced while Envoy ran, restart Envoy");
        };
        let Outgoing { path, authority, set, remove, needs_body } = attempt.outgoing();
        if let Some(path) = path {
            host::set_header(Headers::Request, ":path", &path);
        }
        host::set_header(Headers::Request, ":authority", &authority);
        for name in remove {
            host::remove_header(Headers::Request, &name);
        }
        for (name, value) in &set {
            host::set_header(Headers::Request, name, value);
        }
        if (attempt.number() > 1 || attempt.takes_hop()) && !needs_body {
            // An earlier attempt may have written another length; the hop's HTTP/1.0 knows no chunks.
            host::remove_header(Headers::Request, "transfer-encoding");
            host::set_header(Headers::Request, "content-length", &attempt.ticket().body_length.to_string());
        }
        let answer = Rc::new(RefCell::new(Answer {
            id: self.id,
            exchange: Exchange::new(attempt, self.watch.now()),
            counters: self.counters.clone(),
            listen: Listen::Pieces,
            seen: 0,
            held: true,
            oversized: false,
            hop: None,
            severed: false,
        }));
        self.watch.over(self.id, &answer);
        self.answer = Some(answer);
        #[cfg(feature = "crash")]
        crate::crash::at(crate::crash::Place::Sent);
        self.rewrites = needs_body;
        if needs_body { Action::Pause } else { Action::Continue }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !self.rewrites {
            return if self.answer.is_some() { Action::Continue } else { Action::Pause };
        }
        if end_of_stream { self.send(size) } else { Action::Pause }
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if !self.rewrites {
            return Action::Continue;
        }
        let size = host::body(Body::Request, 0, usize::MAX).len();
        self.send(size)
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let Some(Ok(mut answer)) = self.answer.as_ref().map(|answer| answer.try_borrow_mut()) else {
            return Action::Continue;
        };
        #[cfg(feature = "crash")]
        crate::crash::at(crate::crash::Place::Answer);
        let (mut status, mut length, mut hop) = (0, 0, None);
        let pairs = host::headers(Headers::Response);
        let headers: Vec<_> = pairs.iter().collect();
        for (name, value) in &headers {
            if name == ":status" {
                status = value.parse().unwrap_or(0);
            } else if name == "content-length" {
                length = value.parse().unwrap_or(0);
            } else if ends_here(name) {
                if name == HOP_HEADER {
                    hop = Place::read(value);
                }
                host::remove_header(Headers::Response, name);
            }
        }
        // Of a provider's own making otherwise.
        answer.hop = hop.filter(|_| answer.exchange.attempt().takes_hop());
        let named = headers.iter().map(|(name, value)| (&**name, &**value));
        answer.listen = answer.exchange.head(status, named, self.watch.about_now());
        answer.oversized = answer.listen == Listen::Whole && length > MOST_WHOLE;
        drop(answer);
        if end_of_stream { self.hand(0, true) } else { Action::Pause }
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.hand(size, end_of_stream)
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        let held =
            self.answer.as_ref().is_some_and(|answer| answer.try_borrow().is_ok_and(|answer| answer.held));
        let size = if held { host::body(Body::Response, 0, usize::MAX).len() } else { 0 };
        self.hand(size, true)
    }
}

/// Whether Envoy's response code details say that the client ended it: by closing the connection, or by resetting its
/// HTTP/2 stream.
fn ending(details: &[u8], was_reached: impl Fn() -> bool) -> Ending {
    let left = details.starts_with(b"downstream_") || details == b"http2.remote_reset";
    match left {
        true if was_reached() => Ending::ClientLeft,
        true => Ending::LeftUnreached,
        false => Ending::Broken,
    }
}

/// Whether this attempt had a connection: Envoy sends a request, which it holds whole by then, as soon as there is one. Of the
/// hop it is the one within Envoy; what lies behind that is not seen from here.
fn was_reached() -> bool {
    host::property("upstream\0local_address").is_some_and(|address| !address.is_empty())
}
