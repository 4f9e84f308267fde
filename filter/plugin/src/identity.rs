//! Who sends a request, as far as Envoy and the pod know it: nothing of it can be set by a client.

use std::borrow::Cow;

use attache_gateway::budget::{Fact, Facts};

use crate::host;

/// The pod that Envoy stands in, from the environment of its container (Kubernetes' downward API). The chart names the
/// variables in the VM's configuration; empty ones are none.
#[derive(Default)]
pub struct Workload {
    namespace: Option<String>,
    service_account: Option<String>,
    /// `name=value,name=value`: neither has a comma or an equals sign (Kubernetes, "Labels and Selectors").
    labels: Vec<(String, String)>,
}

impl Workload {
    pub fn read() -> Workload {
        let value = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let labels = value("ATTACHE_LABELS").unwrap_or_default();
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        let labels = labels.filter(|(_, value)| !value.is_empty());
        Workload {
            namespace: value("ATTACHE_NAMESPACE"),
            service_account: value("ATTACHE_SERVICE_ACCOUNT"),
            labels: labels.map(|(name, value)| (name.trim().to_owned(), value.to_owned())).collect(),
        }
    }
}

/// The same, and what Envoy has verified of the request under way.
pub struct Identity<'i> {
    pub workload: &'i Workload,
}

/// Where Envoy's filter `jwt_authn` puts a token's claims with `payload_in_metadata: jwt_payload`.
const CLAIMS: &str = "metadata\0filter_metadata\0envoy.filters.http.jwt_authn\0jwt_payload\0";
/// Whom a client's certificate names, best first: its URI (SPIFFE), its host name, its subject.
const PEER: [&str; 3] = [
    "connection\0uri_san_peer_certificate",
    "connection\0dns_san_peer_certificate",
    "connection\0subject_peer_certificate",
];

/// A property as text. Envoy gives numbers of metadata as the bytes of a double, truth values as one byte; what is no text is
/// told byte by byte, so that no two values are one.
fn text(value: Vec<u8>) -> String {
    match value.as_slice() {
        [0] => return "false".to_owned(),
        [1] => return "true".to_owned(),
        bytes => {
            let number = bytes.try_into().map(f64::from_le_bytes);
            if let Ok(number) = number
                && (bytes.contains(&0) || std::str::from_utf8(bytes).is_err())
            {
                return number.to_string();
            }
        }
    }
    String::from_utf8(value).unwrap_or_else(|error| format!("{:02x?}", error.as_bytes()))
}

impl Facts for Identity<'_> {
    fn fact(&self, fact: &Fact) -> Option<Cow<'_, str>> {
        let property = |path: &str| {
            let value = host::property(path).filter(|value| !value.is_empty())?;
            Some(Cow::Owned(text(value)))
        };
        match fact {
            Fact::Namespace => self.workload.namespace.as_deref().map(Cow::Borrowed),
            Fact::ServiceAccount => self.workload.service_account.as_deref().map(Cow::Borrowed),
            Fact::Label(name) => {
                let mut labels = self.workload.labels.iter();
                labels.find(|(known, _)| known == name).map(|(_, value)| Cow::Borrowed(value.as_str()))
            }
            Fact::Jwt(claim) => property(&format!("{CLAIMS}{claim}")),
            Fact::Peer => PEER.iter().find_map(|path| property(path)),
            Fact::ClientKey
            | Fact::Header(_)
            | Fact::Model
            | Fact::Provider
            | Fact::Route
            | Fact::Metadata(_)
            | Fact::User => None,
        }
    }
}
