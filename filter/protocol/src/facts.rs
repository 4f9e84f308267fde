//! What a policy asks of a request: who it is for, what it is for, how much it may answer.

use crate::codec::Protocol;
use crate::raw::RawObject;
use crate::request::{ReasoningAmount, Request};
use crate::text::Text;

impl Request<'_> {
    /// A member of what the client says of its own request: `metadata`, of Gemini `labels` (google-genai
    /// `types.GenerateContentConfig`: "Labels with user-defined metadata for the request"). A string as it is, a number or a
    /// truth value as it is written; lists and objects name nothing.
    pub fn metadata(&self, name: &str) -> Option<Text<'_>> {
        let object = match self.protocol {
            Protocol::Anthropic if name == "user_id" => return self.user.as_ref().map(Text::reborrow),
            Protocol::Anthropic | Protocol::OpenAiChat => "metadata",
            Protocol::Gemini => "labels",
        };
        let (_, raw) = self.extras.0.iter().rev().find(|(key, _)| key == object)?;
        let member = RawObject::parse(raw.get())?.get(name)?;
        match member.as_bytes().first() {
            Some(b'"') => serde_json::from_str(member).ok(),
            Some(b'{' | b'[' | b'n') | None => None,
            Some(_) => Some(Text::borrowed(member)),
        }
    }
    /// How many answers are asked for.
    pub fn candidates(&self) -> u64 {
        self.sampling.candidates.unwrap_or(1).max(1)
    }
    /// Whether an answer, its thinking included, may take more tokens than this: [`Request::limit_output`] changes it.
    pub fn exceeds(&self, limit: u64) -> bool {
        let thinks = matches!(self.reasoning.amount, ReasoningAmount::Budget(tokens) if tokens >= limit);
        thinks || self.sampling.max_output_tokens.is_none_or(|asked| asked > limit)
    }
    /// Asks for at most so many tokens of output, as [`SameProtocol::output_limit`] does for a client of the provider's own
    /// protocol. No encoder asks for more than what stands here, whatever the thinking.
    ///
    /// [`SameProtocol::output_limit`]: crate::codec::SameProtocol::output_limit
    pub fn limit_output(&mut self, limit: u64) {
        let asked = self.sampling.max_output_tokens;
        self.sampling.max_output_tokens = Some(asked.map_or(limit, |asked| asked.min(limit)));
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::{Line, Protocol};
    use crate::request::{Request, Sampling};

    const ASKED: &str =
        r#"{"feature":"search","esc\u0061ped":"a\nb","n":7,"on":true,"none":null,"list":["a"]}"#;

    fn check(protocol: Protocol, members: &str, asks: impl Fn(&Request<'_>)) {
        let body = match protocol {
            Protocol::Anthropic => {
                r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]"#
            }
            Protocol::Gemini => r#"{"contents":[{"parts":[{"text":"x"}]}]"#,
            Protocol::OpenAiChat => r#"{"model":"m","messages":[{"role":"user","content":"x"}]"#,
        };
        let body = format!("{body}{members}}}");
        let line = Line { model: Some("m".into()), ..Line::default() };
        let request = protocol.codec().decode_request(&line, &body).unwrap();
        asks(&request);
        // What a policy has read goes to the client's own provider all the same.
        let again =
            protocol.codec().encode_request(&request, &crate::dialect::Dialect::STANDARD, "m", &mut vec![]);
        let again = String::from_utf8(again).unwrap();
        asks(&protocol.codec().decode_request(&line, &again).unwrap());
    }

    #[test]
    fn metadata_is_read_in_every_protocol() {
        for (protocol, object) in [
            (Protocol::Anthropic, "metadata"),
            (Protocol::Gemini, "labels"),
            (Protocol::OpenAiChat, "metadata"),
        ] {
            check(protocol, &format!(r#","{object}":{ASKED}"#), |request| {
                let found = |name: &str| request.metadata(name).map(|text| text.to_string());
                for (name, expected) in [
                    ("feature", Some("search")),
                    ("escaped", Some("a\nb")),
                    ("n", Some("7")),
                    ("on", Some("true")),
                    ("none", None),
                    ("list", None),
                    ("other", None),
                ] {
                    assert_eq!(found(name).as_deref(), expected, "{protocol:?} {name}");
                }
            });
            for nothing in ["", ",\"metadata\":null", ",\"labels\":null"] {
                check(protocol, nothing, |request| assert_eq!(request.metadata("feature"), None));
            }
        }
    }

    #[test]
    fn the_end_user_is_known_where_the_protocol_has_one() {
        let user = |protocol, members: &str, expected: Option<&str>| {
            check(protocol, members, |request| assert_eq!(request.user.as_deref(), expected, "{members}"));
        };
        user(Protocol::OpenAiChat, r#","user":"u""#, Some("u"));
        user(Protocol::OpenAiChat, r#","safety_identifier":"s""#, Some("s"));
        user(Protocol::OpenAiChat, r#","user":"u","safety_identifier":"s""#, Some("u"));
        user(Protocol::OpenAiChat, r#","prompt_cache_key":"k","metadata":{"user_id":"m"}"#, None);
        user(Protocol::Anthropic, r#","metadata":{"user_id":"u","team":"t"}"#, Some("u"));
        user(Protocol::Anthropic, r#","metadata":{"team":"t"}"#, None);
        user(Protocol::Gemini, r#","labels":{"user":"u"}"#, None);
        check(Protocol::Anthropic, r#","metadata":{"user_id":"u","team":"t"}"#, |request| {
            let found = ["user_id", "team"].map(|name| request.metadata(name).map(|text| text.to_string()));
            assert_eq!(found, [Some("u".to_owned()), Some("t".to_owned())]);
        });
    }

    #[test]
    fn candidates_are_counted() {
        let count = |protocol, members: &str, expected| {
            check(protocol, members, |request| assert_eq!(request.candidates(), expected, "{members}"));
        };
        count(Protocol::OpenAiChat, r#","n":3"#, 3);
        count(Protocol::OpenAiChat, r#","n":0"#, 1);
        count(Protocol::OpenAiChat, "", 1);
        count(Protocol::Gemini, r#","generationConfig":{"candidateCount":2}"#, 2);
        count(Protocol::Anthropic, "", 1);
    }

    #[test]
    fn what_an_answer_may_take() {
        check(Protocol::Anthropic, r#","thinking":{"type":"enabled","budget_tokens":5000}"#, |request| {
            // The limit is 1, but interleaved thinking has its own.
            assert!(request.exceeds(5000) && !request.exceeds(5001));
        });
        check(Protocol::OpenAiChat, "", |request| {
            assert!(request.exceeds(u64::MAX));
            let mut limited = request.clone();
            limited.limit_output(9);
            assert!(limited.exceeds(8) && !limited.exceeds(9));
            limited.limit_output(10);
            assert_eq!(limited.sampling, Sampling { max_output_tokens: Some(9), ..Sampling::default() });
        });
    }

    #[test]
    fn a_request_without_an_answer_goes_to_its_owner_alone() {
        for (limit, lost) in [(0, 1), (1, 0)] {
            let body = format!(
                r#"{{"model":"m","max_tokens":{limit},"messages":[{{"role":"user","content":"x"}}]}}"#
            );
            let request = Protocol::Anthropic.codec().decode_request(&Line::default(), &body).unwrap();
            for provider in [Protocol::OpenAiChat, Protocol::Gemini] {
                let dialect = crate::dialect::Dialect::STANDARD;
                let losses = provider.codec().contract(&request, &dialect, "m");
                let paths: Vec<&str> = losses.iter().map(|loss| loss.path.as_str()).collect();
                assert_eq!(paths, &["max_tokens"][..lost], "{provider:?} {limit}");
            }
        }
    }
}
