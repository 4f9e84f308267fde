//! Every header that has a meaning here: ours, credentials, those of one protocol.

use attache_protocol::codec::Protocol;

/// Carries the real status beside [`crate::exchange::RETRY_STATUS`], should the router not retry after all.
pub const STATUS_HEADER: &str = "x-attache-status";
pub const PROVIDER_HEADER: &str = "x-attache-provider";
pub const MODEL_HEADER: &str = "x-attache-model";
pub const ATTEMPTS_HEADER: &str = "x-attache-attempts";
pub const LOST_HEADER: &str = "x-attache-lost";
/// Every attempt with its class and milliseconds, where there was more than one, or an error.
pub const ATTEMPT_LOG_HEADER: &str = "x-attache-attempt-log";
/// What budgets did to a request: `team;clamp=512`, `team;downgrade`, `team;shadow`, `team;reject` (RFC 9651).
pub const BUDGET_HEADER: &str = "x-attache-budget";
/// RFC 9110, section 10.2.3.
pub const RETRY_AFTER: &str = "retry-after";
/// `false`: the SDKs of OpenAI and Anthropic do not ask again by themselves (`_base_client.py`, `_should_retry`).
pub const SHOULD_RETRY: &str = "x-should-retry";
/// Beside [`crate::exchange::RETRY_STATUS`]: whole seconds that the router waits before the next attempt.
pub const WAIT_HEADER: &str = "x-attache-wait";
/// Beside them: nobody has read the body, and it may never end.
pub const UNREAD_HEADER: &str = "x-attache-unread";
/// A client's word on how its stream is to be delivered: `live` or `whole`.
pub const DELIVERY_HEADER: &str = "x-attache-delivery";
/// Where the hop's router sends the attempt, and for how many milliseconds it waits for the answer's head (the chart's
/// `_hop.tpl`).
pub const CLUSTER_HEADER: &str = "x-attache-cluster";
pub const HEAD_TIMEOUT_HEADER: &str = "x-attache-timeout";
/// That router's word for an answer that it made itself, and why.
pub const ENVOY_HEADER: &str = "x-attache-envoy";
/// The hop's word for where the connection is that can be ended (the plugin's `hop.rs`).
pub const HOP_HEADER: &str = "x-attache-hop";

/// Headers that a provider may not send to the client: they are Envoy's and ours.
pub fn is_ours(header: &str) -> bool {
    header.starts_with("x-attache-") || header.starts_with("x-envoy-")
}

/// Headers of a provider's answer that end here: those, and where a redirect leads, past the gateway.
pub fn ends_here(header: &str) -> bool {
    is_ours(header) || header == "location"
}

/// `cookie` and `proxy-authorization` are credentials for somebody else than a provider; `expect`, `te` and `trailer` are
/// about this connection (RFC 9110, sections 7.6.1 and 10.1); `forwarded` (RFC 7239) and its forerunners tell where the client is.
pub const OTHER_PRIVATE: [&str; 10] = [
    "accept-encoding",
    "cookie",
    "expect",
    "forwarded",
    "proxy-authorization",
    "te",
    "trailer",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
];

/// Headers that belong to a protocol and go only to providers that speak it.
pub fn protocol_headers(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        // anthropic SDK `_client.py` (default headers) and `types/beta`.
        Protocol::Anthropic => {
            &["anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access"]
        }
        // google-genai SDK `_api_client.py`.
        Protocol::Gemini => &["x-goog-api-client", "x-goog-user-project"],
        // openai SDK `_client.py`.
        Protocol::OpenAiChat => &["openai-organization", "openai-project", "openai-beta"],
    }
}

/// Headers that belong to the client's own key, and say nothing beside an injected one.
pub const KEY_OWNER_HEADERS: [&str; 3] = ["openai-organization", "openai-project", "x-goog-user-project"];

/// Every header that can carry a key.
pub const CREDENTIAL_HEADERS: [&str; 4] = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];
