//! `thoughtSignature` is a proto `bytes` member, so it must be base64 or Google's SDKs refuse the answer: another
//! protocol's signature travels through a Gemini client as the base64 of its carried form.

use crate::base64;
use crate::codec::Protocol;
use crate::request::{CARRIED_BASE64, Signature};
use crate::text::Text;

/// Before a carried signature that stands for redacted thinking (Anthropic's `redacted_thinking`).
const REDACTED: &str = "attache-redacted:";

/// As a Gemini client carries it.
pub fn carried<'s>(signature: &'s Signature<'_>, redacted: bool) -> Text<'s> {
    if signature.owner == Protocol::Gemini {
        return signature.data.reborrow();
    }
    let plain = signature.carried(Protocol::Gemini);
    Text::from(base64::encode([if redacted { REDACTED } else { "" }, &plain].concat().as_bytes()))
}

/// The inverse of [`carried`]; the flag: redacted thinking.
pub fn uncarried(data: Text<'_>) -> (Signature<'_>, bool) {
    let foreign = data.starts_with(CARRIED_BASE64).then(|| base64::decode(&data)).flatten();
    if let Some(plain) = foreign.and_then(|bytes| String::from_utf8(bytes).ok()) {
        let (redacted, rest) = match plain.strip_prefix(REDACTED) {
            Some(rest) => (true, rest),
            None => (false, plain.as_str()),
        };
        let signature = Signature::uncarried(Text::from(rest.to_owned()), Protocol::Gemini);
        if signature.owner != Protocol::Gemini {
            return (signature, redacted);
        }
    }
    (Signature { owner: Protocol::Gemini, data }, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_signatures_survive_googles_base64() {
        for length in 0..7 {
            let data = "s/+é=:".chars().take(length).collect::<String>();
            let signature = Signature { owner: Protocol::Anthropic, data: data.into() };
            for redacted in [false, true] {
                let carried = carried(&signature, redacted).into_owned();
                assert!(base64::decode(&carried).is_some(), "{carried}");
                assert!(carried.len().is_multiple_of(4));
                assert_eq!(uncarried(carried.clone()), (signature.clone(), redacted));
                let url_safe = Text::from(carried.replace('+', "-").replace('/', "_"));
                assert_eq!(uncarried(url_safe), (signature.clone(), redacted));
            }
        }
        let own = Signature { owner: Protocol::Gemini, data: "CoYEAXLI2n".into() };
        assert_eq!(uncarried(carried(&own, false)), (own.clone(), false));
    }
}
