//! Error bodies → [`ApiError`]: one reading for every shape that providers and the proxies before them answer with,
//! since what stands before a provider speaks its own.
//!
//! OpenAI `{"error": {message, type, code, param}}`, Anthropic `{"type": "error", "error": {type, message, details}}`,
//! Google `{"error": {code, message, status, details}}` (google.aip.dev/193), Azure's `innererror`, OpenRouter's
//! `metadata`, Mistral's, vLLM's and FastAPI's without an envelope, xAI's and Ollama's `{"error": "…"}`, and texts.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::table::{self, Said};
use super::{ApiError, ErrorKind, wait};

/// Longest message that is passed on: a prompt that is quoted back is not a message.
const MAX_MESSAGE: usize = 2000;

/// How many objects deep an error is looked for: a proxy wraps a provider's body once.
const MAX_INNER: usize = 3;

/// Any body gives some error. `status`: the HTTP status, `None` where the error came inside a 200.
pub(crate) fn read(status: Option<u16>, body: &[u8]) -> ApiError {
    let text = String::from_utf8_lossy(body);
    let mut told = Told::default();
    told.read(bare(&text), MAX_INNER);
    told.into_error(status.filter(|status| *status >= 400))
}

/// An error in what came under a 200; `None`: nothing in it says what went wrong.
pub(crate) fn find(body: &str) -> Option<ApiError> {
    let body = bare(body);
    let mut told = Told::default();
    let says = object(body).is_some() && told.read(body, MAX_INNER) && !told.message.is_empty();
    says.then(|| told.into_error(None))
}

fn bare(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

/// What was to be an answer and is none: an error after all, the beginning of something, or anything else.
pub(crate) fn unreadable(body: &str, why: &serde_json::Error) -> ApiError {
    match find(body) {
        Some(error) => error,
        None if why.is_eof() && !body.trim().is_empty() => ApiError::truncated(),
        None => ApiError::malformed(why),
    }
}

/// Every member that any of the shapes has; all of them may be anything.
#[derive(Deserialize, Default)]
struct Shape<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(rename = "type", borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    param: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    raw_status_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    innererror: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    details: Option<&'a RawValue>,
}

/// OpenRouter puts the upstream's own words in `raw`, and which of its own limits was met in `limit_source`.
#[derive(Deserialize, Default)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    raw: Option<&'a RawValue>,
    #[serde(borrow, default)]
    limit_source: Option<&'a RawValue>,
}

/// Anthropic's `details` (SDK `_exceptions.extract_error_code`), and of Google's list what any kind of detail has:
/// `ErrorInfo`, `BadRequest`, `QuotaFailure`, `RetryInfo` (google/rpc/error_details.proto).
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    #[serde(rename = "error_code", borrow, default)]
    error_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reason: Option<&'a RawValue>,
    #[serde(borrow, default)]
    field_violations: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    violations: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    retry_delay: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Violation<'a> {
    #[serde(borrow, default)]
    field: Option<&'a RawValue>,
    #[serde(borrow, default)]
    quota_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    quota_value: Option<&'a RawValue>,
}

/// What a body says, before it is classified.
#[derive(Default)]
struct Told {
    message: String,
    /// A code that names the cause: `details.error_code`, `ErrorInfo.reason`.
    cause: Option<String>,
    code: Option<String>,
    kind: Option<String>,
    /// Google's `status`.
    name: Option<String>,
    param: Option<String>,
    status: Option<u16>,
    /// Words beside those, that only tell the kind.
    others: Vec<String>,
    /// Google's quotas: whether one of those that were met is of a day.
    spent: Option<bool>,
    retry_after: Option<std::time::Duration>,
}

/// The JSON of an object; of a list, which Google's streams without `alt=sse` are, the first one's.
fn object(text: &str) -> Option<&str> {
    if text.starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        return list.first().map(|first| first.get()).filter(|first| first.starts_with('{'));
    }
    text.starts_with('{').then_some(text)
}

impl Told {
    /// `false`: the text is no object.
    fn read(&mut self, text: &str, inner: usize) -> bool {
        match object(text).and_then(|object| serde_json::from_str::<Shape<'_>>(object).ok()) {
            Some(shape) => {
                self.take(&shape, inner);
                true
            }
            None => {
                self.message = serde_json::from_str(text).unwrap_or_else(|_| super::excerpt(text));
                false
            }
        }
    }

    /// Inner objects say more than outer ones; `inner` levels of them are read.
    fn take(&mut self, shape: &Shape<'_>, inner: usize) {
        self.code = word(shape.code).or(self.code.take());
        self.kind = word(shape.kind).or(self.kind.take());
        self.param = word(shape.param).or(self.param.take());
        self.status = [shape.status_code, shape.raw_status_code, shape.code, shape.status]
            .into_iter()
            .find_map(|raw| http_status(&word(raw)?))
            .or(self.status);
        self.name = word(shape.status).filter(|name| http_status(name).is_none()).or(self.name.take());
        if let Some(details) = shape.details {
            self.details(details);
        }
        if let Some(inner) =
            shape.innererror.and_then(|raw| serde_json::from_str::<Shape<'_>>(raw.get()).ok())
        {
            self.others.extend(word(inner.code));
        }
        let said = [shape.error, shape.message, shape.detail].into_iter().flatten().map(text);
        let (objects, texts): (Vec<String>, Vec<String>) = said.partition(|text| text.starts_with('{'));
        let mut told = false;
        for object in objects.iter().filter(|_| inner > 0) {
            // Also one that a proxy wrote as a string.
            told |= self.read(object, inner - 1);
        }
        if let Some(text) = texts.into_iter().next_back().filter(|_| !told) {
            self.message = text;
        }
        if let Some(metadata) = shape.metadata.and_then(|raw| serde_json::from_str(raw.get()).ok()) {
            self.metadata(&metadata);
        }
    }

    fn metadata(&mut self, metadata: &Metadata<'_>) {
        self.others.extend(word(metadata.limit_source));
        let Some(raw) = word(metadata.raw) else { return };
        let mut upstream = Told::default();
        upstream.read(&raw, MAX_INNER);
        self.others.extend([upstream.cause, upstream.code, upstream.kind].into_iter().flatten());
        let said = if upstream.message.is_empty() { raw } else { upstream.message };
        self.message = format!("{}: {said}", self.message);
    }

    fn details(&mut self, details: &RawValue) {
        let list = serde_json::from_str::<Vec<&RawValue>>(details.get()).unwrap_or_else(|_| vec![details]);
        for detail in list {
            let Ok(detail) = serde_json::from_str::<Detail<'_>>(detail.get()) else { continue };
            self.cause = self.cause.take().or(word(detail.error_code)).or(word(detail.reason));
            let wait = word(detail.retry_delay).and_then(|delay| wait::duration(&delay));
            self.retry_after = self.retry_after.or(wait);
            for raw in detail.field_violations.iter().chain(&detail.violations).flatten() {
                if let Ok(violation) = serde_json::from_str::<Violation<'_>>(raw.get()) {
                    self.violation(&violation);
                }
            }
        }
    }

    fn violation(&mut self, violation: &Violation<'_>) {
        self.param = self.param.take().or(word(violation.field));
        let Some(id) = word(violation.quota_id) else { return };
        // A quota of a day does not come back by waiting (google-gemini/gemini-cli `googleQuotaErrors.ts`), nor does one
        // of nothing at all: a model outside the free tier.
        let of_day = id.contains("PerDay") || id.contains("Daily");
        let nothing = word(violation.quota_value).is_some_and(|value| value == "0");
        self.spent = Some(of_day || nothing || self.spent == Some(true));
    }

    fn into_error(mut self, status: Option<u16>) -> ApiError {
        let status = status.or(self.status);
        let words = [&self.cause, &self.code, &self.kind, &self.name].into_iter().flatten();
        let words: Vec<&str> = self.others.iter().chain(words).map(String::as_str).collect();
        let mut kind = table::kind(&Said { status, words: &words, message: &self.message });
        let mut retry_after = self.retry_after.or_else(|| wait::in_message(&self.message));
        if matches!(kind, ErrorKind::RateLimit | ErrorKind::QuotaSpent) {
            match (self.spent, self.retry_after) {
                // The delay that comes with it is that of the quota of a minute.
                (Some(true), _) => (kind, retry_after) = (ErrorKind::QuotaSpent, None),
                (Some(false), _) | (None, Some(_)) => kind = ErrorKind::RateLimit,
                (None, None) => {}
            }
        }
        if self.message.is_empty() {
            self.message = match status {
                Some(status) => format!("the provider answered {status} without a message"),
                None => "the provider answered with an error without a message".to_owned(),
            };
        }
        shorten(&mut self.message);
        // A number that repeats the status is no code.
        let code = self.code.filter(|code| http_status(code).is_none());
        ApiError {
            kind,
            status: status.unwrap_or(kind.status()),
            code: self.cause.or(code).or(self.kind.filter(|kind| kind != "error")).or(self.name),
            message: self.message,
            param: self.param,
            retry_after,
        }
    }
}

/// A string's text, any other value's JSON.
fn text(raw: &RawValue) -> String {
    let string = |json: &str| serde_json::from_str::<String>(json).ok();
    let mended = || crate::text::mend(raw.get()).and_then(|json| string(&json));
    string(raw.get()).or_else(mended).unwrap_or_else(|| raw.get().to_owned())
}

fn word(raw: Option<&RawValue>) -> Option<String> {
    raw.map(text).filter(|text| !text.is_empty() && text != "null")
}

fn http_status(word: &str) -> Option<u16> {
    word.parse().ok().filter(|status| (400..600).contains(status))
}

fn shorten(message: &mut String) {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
}
