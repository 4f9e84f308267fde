//! What the head of a request says: the protocol, the client's credential, what goes no further.

use std::borrow::Cow;

use attache_protocol::codec::{Line, Protocol};

use crate::headers::{CREDENTIAL_HEADERS, OTHER_PRIVATE, is_ours};
use crate::ticket::ClientCredential;

/// The head of a request, as the shell reads it.
#[derive(Debug, Default)]
pub struct Head<'h> {
    headers: Vec<(Cow<'h, str>, Cow<'h, str>)>,
}

impl<'h> Head<'h> {
    /// Names in lower case, pseudo-headers among them.
    pub fn new(headers: impl Iterator<Item = (Cow<'h, str>, Cow<'h, str>)>) -> Self {
        Head { headers: headers.collect() }
    }
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
    /// Headers of the client that go no further: what only Envoy and this filter may set, credentials (the ticket keeps
    /// the client's own where a target passes it through), and `accept-encoding` (answers are read, so they come plain).
    pub fn private(&self) -> impl Iterator<Item = &str> {
        let names = self.headers.iter().map(|(name, _)| &**name);
        names
            .filter(|name| is_ours(name) || CREDENTIAL_HEADERS.contains(name) || OTHER_PRIVATE.contains(name))
    }
}

/// Tells the protocol from the path, and what else the path says.
pub fn recognise(path: &str) -> Option<(Protocol, Line)> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = path.trim_end_matches('/');
    if path.ends_with("/chat/completions") {
        return Some((Protocol::OpenAiChat, Line::default()));
    }
    if path.ends_with("/v1/messages") {
        return Some((Protocol::Anthropic, Line::default()));
    }
    let (before, method) = path.rsplit_once(':')?;
    let stream = match method {
        "generateContent" => false,
        "streamGenerateContent" => true,
        _ => return None,
    };
    let (_, model) = before.split_once("/models/").or_else(|| before.split_once("/tunedModels/"))?;
    let sse =
        query.split('&').any(|member| member == "alt=sse" || member == "$alt=sse" || member == "%24alt=sse");
    Some((Protocol::Gemini, Line { model: Some(percent_decode(model)?), stream, sse }))
}

/// The protocol that a client probably speaks when the path does not tell: only the shape of an error hangs on it.
pub(super) fn guess(path: &str, head: &Head<'_>) -> Protocol {
    if head.get("anthropic-version").is_some() || path.starts_with("/v1/messages") {
        Protocol::Anthropic
    } else if head.get("x-goog-api-key").is_some()
        || path.starts_with("/v1beta")
        || path.contains(":generateContent")
    {
        Protocol::Gemini
    } else {
        Protocol::OpenAiChat
    }
}

/// The query without credentials (Google's "Standard query parameters": `key`, `access_token`, `oauth_token`), and the key.
pub(super) fn query_without_key(query: &str) -> (String, Option<String>) {
    let mut key = None;
    let kept: Vec<&str> = query
        .split('&')
        .filter(|member| {
            let (name, value) = member.split_once('=').unwrap_or((member, ""));
            match percent_decode(name).as_deref() {
                Some("key") => key = percent_decode(value),
                Some("access_token" | "oauth_token") => {}
                _ => return !member.is_empty(),
            }
            false
        })
        .collect();
    (kept.join("&"), key)
}

pub(super) fn client_credential(head: &Head<'_>, query_key: Option<String>) -> Option<ClientCredential> {
    let from_header = CREDENTIAL_HEADERS.iter().find_map(|name| Some((*name, head.get(name)?)));
    match (from_header, query_key) {
        (Some((header, value)), _) => {
            let token = value
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                .map_or(value, |(_, token)| token);
            Some(ClientCredential {
                header: header.to_owned(),
                value: value.to_owned(),
                token: token.trim().to_owned(),
            })
        }
        (None, Some(key)) => {
            Some(ClientCredential { header: "x-goog-api-key".to_owned(), value: key.clone(), token: key })
        }
        (None, None) => None,
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = |digit: u8| (digit as char).to_digit(16);
            out.push((hex(bytes.next()?)? * 16 + hex(bytes.next()?)?) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_protocols() {
        let gemini = |path: &str| {
            recognise(path)
                .map(|(protocol, line)| (protocol, line.model.unwrap_or_default(), line.stream, line.sse))
        };
        assert_eq!(
            gemini("/v1beta/models/gemini-2.5-pro:generateContent?key=x"),
            Some((Protocol::Gemini, "gemini-2.5-pro".into(), false, false))
        );
        assert_eq!(
            gemini("/v1beta/models/a%2Fb:streamGenerateContent?alt=sse&x=1"),
            Some((Protocol::Gemini, "a/b".into(), true, true))
        );
        assert_eq!(recognise("/v1/chat/completions?x").map(|found| found.0), Some(Protocol::OpenAiChat));
        assert_eq!(
            recognise("/openai/v1/chat/completions/").map(|found| found.0),
            Some(Protocol::OpenAiChat)
        );
        assert_eq!(recognise("/v1/messages?beta=true").map(|found| found.0), Some(Protocol::Anthropic));
        for path in [
            "",
            "/",
            "/v1/messages/count_tokens",
            "/v1beta/models/x:countTokens",
            "/v1beta/models/%zz:generateContent",
        ] {
            assert_eq!(recognise(path), None, "{path}");
        }
    }

    #[test]
    fn credentials_leave_the_query() {
        assert_eq!(query_without_key("key=a%2Bb&alt=sse"), ("alt=sse".to_owned(), Some("a+b".to_owned())));
        assert_eq!(query_without_key("k%65y=a&access_token=t&x"), ("x".to_owned(), Some("a".to_owned())));
        let headers = [("authorization", "Bearer  tok"), ("x-envoy-retry-on", "5xx")];
        let head = Head::new(headers.into_iter().map(|(name, value)| (name.into(), value.into())));
        assert_eq!(client_credential(&head, None).unwrap().token, "tok");
        assert_eq!(head.private().collect::<Vec<_>>(), ["authorization", "x-envoy-retry-on"]);
    }
}
