//! What a budget may be kept by: who sent a request, and what it is for.

use std::borrow::Cow;

use super::hash::siphash;

/// Parts of names of headers whose values nobody is to read in a log.
const SECRET: [&str; 8] = ["auth", "key", "token", "secret", "cookie", "password", "session", "credential"];
/// Characters of a value that the operator is told.
const LONGEST: usize = 64;

/// Something that a budget's `per` and `match` may name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// Of the pod that the sidecar stands in, from the downward API.
    Namespace,
    ServiceAccount,
    Label(String),
    /// The client's own credential.
    ClientKey,
    /// In lower case.
    Header(String),
    /// A claim that Envoy verified.
    Jwt(String),
    /// Who the client's certificate says it is, which Envoy verified.
    Peer,
    /// The provider's name of the model that the request goes to first.
    Model,
    /// That provider's name in the configuration.
    Provider,
    /// The first of the route's models.
    Route,
    /// A member of the body's `metadata`.
    Metadata(String),
    /// The end user that the body names.
    User,
}

/// What is known of a request. It is asked only for what a budget names, once for each.
pub trait Facts {
    /// `None`: the request has none.
    fn fact(&self, fact: &Fact) -> Option<Cow<'_, str>>;
}

/// Names without a part of the operator's choice.
const PLAIN: [(&str, Fact); 8] = [
    ("workload.namespace", Fact::Namespace),
    ("workload.serviceAccount", Fact::ServiceAccount),
    ("clientKey", Fact::ClientKey),
    ("peer", Fact::Peer),
    ("model", Fact::Model),
    ("provider", Fact::Provider),
    ("route", Fact::Route),
    ("user", Fact::User),
];

type Named = fn(String) -> Fact;
/// Begins of the others.
const NAMED: [(&str, Named); 4] = [
    ("workload.label.", Fact::Label),
    ("header.", |name| Fact::Header(name.to_ascii_lowercase())),
    ("jwt.", Fact::Jwt),
    ("body.metadata.", Fact::Metadata),
];

impl Fact {
    pub fn parse(text: &str) -> Option<Fact> {
        let plain = PLAIN.iter().find(|(name, _)| *name == text).map(|(_, fact)| fact.clone());
        plain.or_else(|| {
            NAMED.iter().find_map(|(begin, fact)| {
                text.strip_prefix(begin).filter(|name| !name.is_empty()).map(|name| fact(name.to_owned()))
            })
        })
    }

    /// What may be typed, for suggestions.
    pub fn names() -> Vec<String> {
        let plain = PLAIN.iter().map(|(name, _)| (*name).to_owned());
        plain.chain(NAMED.iter().map(|(begin, _)| format!("{begin}NAME"))).collect()
    }

    /// A value as it is compared. Whether the case of a model's name matters is each provider's own affair, and where it does
    /// not, and a route serves `*`, another spelling must be neither outside a budget nor another account of it.
    pub(super) fn plain<'v>(&self, value: Cow<'v, str>) -> Cow<'v, str> {
        match self {
            Fact::Model if value.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Cow::Owned(value.to_ascii_lowercase())
            }
            _ => value,
        }
    }

    /// A value for the operator: short, in one line, and nothing of a key, though the same for the same one.
    pub(super) fn told<'v>(&self, value: Option<&'v str>) -> Cow<'v, str> {
        let Some(value) = value else { return Cow::Borrowed("(none)") };
        let secret = match self {
            Fact::ClientKey => true,
            Fact::Header(name) => SECRET.iter().any(|part| name.contains(part)),
            Fact::Namespace
            | Fact::ServiceAccount
            | Fact::Label(_)
            | Fact::Jwt(_)
            | Fact::Peer
            | Fact::Model
            | Fact::Provider
            | Fact::Route
            | Fact::Metadata(_)
            | Fact::User => false,
        };
        if secret {
            return Cow::Owned(format!("#{:08x}", siphash(&[b"told", value.as_bytes()]) >> 32));
        }
        if value.len() <= LONGEST && !value.contains(char::is_control) {
            return Cow::Borrowed(value);
        }
        let plain = value.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
        let more = value.chars().nth(LONGEST).map(|_| '…');
        Cow::Owned(plain.take(LONGEST).chain(more).collect())
    }

    /// Why a client can choose it freely; `None`: it cannot. `passthrough`: every provider gets, and so checks, the
    /// client's own key. `open`: some provider is asked for any model that a client names.
    pub fn forged(&self, passthrough: bool, open: bool) -> Option<&'static str> {
        match self {
            Fact::Header(_) => Some("a client writes its headers itself"),
            Fact::Metadata(_) | Fact::User => Some("a client writes its body itself"),
            Fact::ClientKey if !passthrough => {
                Some("nobody checks the client's key where providers get another")
            }
            Fact::Model if open => Some("behind a `*` in a route's `models` a client chooses any name"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for (text, fact) in [
            ("user", Some(Fact::User)),
            ("workload.label.app.kubernetes.io/name", Some(Fact::Label("app.kubernetes.io/name".to_owned()))),
            ("header.X-Team", Some(Fact::Header("x-team".to_owned()))),
            ("body.metadata.feature", Some(Fact::Metadata("feature".to_owned()))),
            ("jwt.sub", Some(Fact::Jwt("sub".to_owned()))),
            ("jwt.", None),
            ("workload", None),
            ("body.user", None),
        ] {
            assert_eq!(Fact::parse(text), fact, "{text}");
        }
    }

    #[test]
    fn values_are_told_without_keys_and_in_one_line() {
        let header = |name: &str| Fact::Header(name.to_owned());
        assert_eq!(header("x-team").told(Some("blue")), "blue");
        assert_eq!(header("x-team").told(None), "(none)");
        assert_eq!(Fact::User.told(Some("a\nbudget b")), "a budget b");
        assert_eq!(Fact::User.told(Some(&"ä".repeat(100))), "ä".repeat(64) + "…");
        for secret in [
            Fact::ClientKey,
            header("authorization"),
            header("x-api-key"),
            header("proxy-authorization"),
            header("x-team-key"),
            header("cookie"),
        ] {
            let (one, other) = (secret.told(Some("sk-secret")), secret.told(Some("sk-other")));
            assert!(one.len() == 9 && !one.contains("secret") && one != other, "{one} {other}");
            assert_eq!(one, secret.told(Some("sk-secret")));
        }
    }
}
