//! One upstream attempt: the request rewritten for its provider.
//!
//! The head and the body of the request are derived from the ticket and the client's own body, never from what an
//! earlier attempt left: all attempts share one header map. The answer's half is in [`crate::exchange`].

use attache_protocol::anthropic::DEFAULT_MAX_TOKENS;
use attache_protocol::codec::{Codec, Loss, Protocol, SameProtocol};
use attache_protocol::error::{ApiError, ErrorKind};

use crate::budget::Reservation;
use crate::headers::{
    CLUSTER_HEADER, CREDENTIAL_HEADERS, HEAD_TIMEOUT_HEADER, KEY_OWNER_HEADERS, protocol_headers,
};
use crate::provider::Row;
use crate::stream::GRACE;
use crate::ticket::{Entry, Progress, Step, Ticket};

/// The clusters behind the hop: the same providers, for requests that have been through the filter.
const BEHIND_HOP: &str = "bare.";
/// Sent to Anthropic when the client speaks another protocol (anthropic SDK `_client.py`, default headers).
const ANTHROPIC_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// One attempt, from the filter state that sent it.
#[derive(Debug)]
pub struct Attempt {
    entry: Entry,
    step: Step,
    row: &'static Row,
    pub losses: Vec<Loss>,
}

/// What the request's head must become.
#[derive(Debug, PartialEq)]
pub struct Outgoing {
    /// `None`: the client's own path is right already.
    pub path: Option<String>,
    pub authority: String,
    pub set: Vec<(String, String)>,
    pub remove: Vec<String>,
    /// The body is read and perhaps rewritten ([`Attempt::rewrite`]).
    pub needs_body: bool,
}

impl Attempt {
    /// From the filter state ([`Entry::state`]). `None`: there is no such ticket or step.
    pub fn new(state: &[u8]) -> Option<Attempt> {
        let entry = Entry::read(state)?;
        let step = entry.ticket.plan.get(usize::from(entry.progress.step))?.clone();
        let row = step.row()?;
        Some(Attempt { entry, step, row, losses: Vec::new() })
    }

    pub fn ticket(&self) -> &Ticket {
        &self.entry.ticket
    }
    pub fn progress(&self) -> &Progress {
        &self.entry.progress
    }
    pub fn reservation(&self) -> &Reservation {
        &self.entry.progress.reservation
    }
    pub fn reservation_mut(&mut self) -> &mut Reservation {
        &mut self.entry.progress.reservation
    }
    pub fn entry(&self) -> &Entry {
        &self.entry
    }
    pub fn step(&self) -> &Step {
        &self.step
    }
    /// Which attempt this is, from 1.
    pub fn number(&self) -> u16 {
        self.entry.progress.number
    }
    /// The whole stream is held.
    pub fn delivers_whole(&self) -> bool {
        self.ticket().policy.whole && self.ticket().stream
    }
    /// A router behind this attempt sends it on, over a connection that the filter can end.
    pub fn takes_hop(&self) -> bool {
        self.ticket().policy.hop
    }
    /// Client and provider speak the same protocol.
    pub fn same_protocol(&self) -> bool {
        self.row.protocol == self.ticket().protocol
    }
    /// The provider's codec.
    pub fn provider(&self) -> &'static dyn Codec {
        self.row.protocol.codec()
    }
    /// The client's codec.
    pub fn client(&self) -> &'static dyn Codec {
        self.ticket().protocol.codec()
    }

    /// The most tokens that each answer may have, where budgets say so.
    pub fn output_limit(&self) -> Option<u64> {
        let terms = self.ticket().terms.as_ref()?;
        terms.output_limit(&self.step, &self.progress().reservation)
    }

    /// The head of this attempt's request.
    pub fn outgoing(&self) -> Outgoing {
        let mut set: Vec<(String, String)> = self.credential().into_iter().collect();
        if self.same_protocol() {
            let own = |name: &str| self.step.passthrough || !KEY_OWNER_HEADERS.contains(&name);
            set.extend(self.ticket().headers.iter().filter(|(name, _)| own(name)).cloned());
        }
        if self.row.protocol == Protocol::Anthropic
            && !set.iter().any(|(name, _)| name == ANTHROPIC_VERSION.0)
        {
            set.push((ANTHROPIC_VERSION.0.to_owned(), ANTHROPIC_VERSION.1.to_owned()));
        }
        if self.takes_hop() {
            // The limit of a live stream is that of the first router, which is to come first.
            let more = if self.delivers_whole() { 0 } else { GRACE };
            let limit = self.ticket().policy.first_token.saturating_add(more);
            set.push((CLUSTER_HEADER.to_owned(), format!("{BEHIND_HOP}{}", self.step.cluster())));
            set.push((HEAD_TIMEOUT_HEADER.to_owned(), limit.to_string()));
        }
        let remove =
            self.left_over().into_iter().filter(|name| !set.iter().any(|(key, _)| key == name)).collect();
        Outgoing {
            path: Some(self.path()).filter(|path| self.number() > 1 || *path != self.ticket().path),
            authority: self.step.authority.clone(),
            set,
            remove,
            needs_body: !self.same_protocol() || self.edits().is_some(),
        }
    }

    /// Headers that may be there and are not this provider's: keys injected for another provider above all. The
    /// listener filter has taken the client's own away, so only what later attempts add must be looked for.
    fn left_over(&self) -> Vec<String> {
        if self.number() <= 1 {
            return self.ticket().headers.iter().map(|(name, _)| name.clone()).collect();
        }
        let of_protocols = Protocol::ALL.into_iter().flat_map(protocol_headers);
        CREDENTIAL_HEADERS.iter().chain(of_protocols).map(|name| (*name).to_owned()).collect()
    }

    /// The credential header, for providers that get the client's own.
    fn credential(&self) -> Option<(String, String)> {
        let client = self.ticket().credential.as_ref().filter(|_| self.step.passthrough)?;
        if self.same_protocol() {
            // As it came: a protocol may know several ways to authenticate.
            return Some((client.header.clone(), client.value.clone()));
        }
        let credential = self.row.credential;
        Some((credential.header.to_owned(), format!("{}{}", credential.prefix, client.token)))
    }

    /// The provider's path; a client of the same protocol keeps its query.
    fn path(&self) -> String {
        if !self.same_protocol() || self.ticket().query.is_empty() {
            let sse_added = self.same_protocol() && self.step.path.contains('?');
            // The client's own way of streaming: without `alt=sse` Gemini sends a JSON array.
            return if sse_added { before_query(&self.step.path).to_owned() } else { self.step.path.clone() };
        }
        format!("{}?{}", before_query(&self.step.path), self.ticket().query)
    }

    fn edits(&self) -> Option<SameProtocol<'_>> {
        let model = Some(self.step.model.as_str()).filter(|model| *model != self.ticket().view.model);
        let add_usage =
            self.ticket().stream && !self.ticket().view.include_usage && !self.row.dialect.no_stream_options;
        let respelled = self.row.dialect.respells();
        let others = self.ticket().mixed;
        let edits = SameProtocol { model, add_usage, others, output_limit: self.output_limit() };
        (respelled || !edits.is_nothing()).then_some(edits)
    }

    /// Whether usage was asked for behind the client's back, and must not reach it.
    pub fn hides_usage(&self) -> bool {
        self.same_protocol() && self.edits().is_some_and(|edits| edits.add_usage)
    }

    /// The client's body → this provider's. `None`: as it is.
    pub fn rewrite(&mut self, body: &[u8]) -> Result<Option<Vec<u8>>, ApiError> {
        let unreadable =
            || ApiError::new(ErrorKind::BadRequest, "the body could not be read again for this attempt");
        let text = std::str::from_utf8(body).map_err(|_| unreadable())?;
        if self.same_protocol() {
            let edits = self.edits();
            return Ok(edits.and_then(|edits| self.provider().edit_request(text, &self.row.dialect, &edits)));
        }
        let line = attache_protocol::codec::Line {
            model: Some(self.ticket().view.model.clone()),
            stream: self.ticket().stream,
            sse: self.ticket().view.sse,
        };
        let mut request = self.client().decode_request(&line, text).map_err(|_| unreadable())?;
        // Where the provider's protocol requires a limit and the client gave none. What the codec takes by itself is no wish
        // of anybody, and leaves thinking its room.
        let limit = Some(self.step.max_output_tokens).filter(|limit| *limit != DEFAULT_MAX_TOKENS);
        if self.row.protocol == Protocol::Anthropic && request.sampling.max_output_tokens.is_none() {
            request.sampling.max_output_tokens = limit;
        }
        if let Some(limit) = self.output_limit() {
            request.limit_output(limit);
        }
        Ok(Some(self.provider().encode_request(
            &request,
            &self.row.dialect,
            &self.step.model,
            &mut self.losses,
        )))
    }
}

fn before_query(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}
