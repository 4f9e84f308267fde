//! Events → a Gemini client's stream: SSE frames with CRLF, or (without `alt=sse`) one JSON array.

use crate::codec::{StreamEncoder, View};
use crate::event::{Delta, PartHead, StreamEvent};
use crate::gemini::answer::{finish_word, write_call, write_usage};
use crate::gemini::errors;
use crate::gemini::json::Json;
use crate::gemini::signature::carried;
use crate::response::{Finish, FinishReason, Usage};
use crate::text::Raw;

pub struct Encoder {
    sse: bool,
    /// Nothing has been written yet.
    fresh: bool,
    over: bool,
    model: String,
    id: String,
    open: Open,
    usage: Option<Usage>,
    /// Candidates that have not finished; more than one only after a provider of this protocol.
    candidates: Vec<u64>,
}

/// The part being written. Gemini sends calls whole, so theirs wait for their end.
enum Open {
    Nothing,
    Text,
    Reasoning {
        redacted: bool,
    },
    Call {
        id: String,
        name: String,
        arguments: String,
        signature: Option<String>,
    },
    /// A block that only its owner understands.
    Hidden,
}

impl Encoder {
    pub fn new(view: &View) -> Self {
        Encoder {
            sse: view.sse,
            fresh: true,
            over: false,
            model: view.model.clone(),
            id: String::new(),
            open: Open::Nothing,
            usage: None,
            candidates: vec![0],
        }
    }

    /// Goes on after a provider's own chunks.
    pub fn after(sse: bool, id: &str, model: &str, usage: Usage, candidates: Vec<u64>) -> Self {
        Encoder {
            sse,
            fresh: false,
            over: false,
            model: model.to_owned(),
            id: id.to_owned(),
            open: Open::Nothing,
            usage: Some(usage).filter(|usage| !usage.is_empty()),
            candidates,
        }
    }
    /// The same, where nothing can follow.
    pub fn over(view: &View) -> Self {
        Encoder { over: true, ..Encoder::new(view) }
    }

    /// Before a chunk: SSE's field name, or the array's bracket or comma.
    fn begin(&mut self, out: &mut Vec<u8>) {
        let fresh = std::mem::replace(&mut self.fresh, false);
        out.extend_from_slice(match (self.sse, fresh) {
            (true, _) => b"data: ",
            (false, true) => b"[",
            (false, false) => b",\r\n",
        });
    }
    fn finish(&self, last: bool, out: &mut Vec<u8>) {
        match (self.sse, last) {
            (true, _) => out.extend_from_slice(b"\r\n\r\n"),
            (false, true) => out.extend_from_slice(b"]\r\n"),
            (false, false) => out.extend_from_slice(b"\n"),
        }
    }

    /// A chunk with one part.
    fn chunk(&mut self, out: &mut Vec<u8>, part: impl FnOnce(&mut Json<'_>)) {
        self.begin(out);
        let mut json = Json::new(out);
        json.open(b'{').key("candidates").open(b'[');
        candidate(0, None, &mut json, part);
        json.close(b']');
        self.names(&mut json);
        self.finish(false, out);
    }

    /// The last chunk.
    fn last(&mut self, finish: &Finish<'_>, out: &mut Vec<u8>) {
        self.begin(out);
        let mut json = Json::new(out);
        json.open(b'{').key("candidates").open(b'[');
        for index in &self.candidates {
            candidate(*index, Some(finish), &mut json, |json| {
                json.key("text").str("");
            });
        }
        json.close(b']');
        write_usage(self.usage.as_ref(), &mut json);
        self.names(&mut json);
        self.finish(true, out);
        self.over = true;
    }

    fn names(&self, json: &mut Json<'_>) {
        json.key("modelVersion").str(&self.model).key("responseId").str(&self.id).close(b'}');
    }

    fn call(&mut self, id: &str, name: &str, arguments: &str, signature: Option<&str>, out: &mut Vec<u8>) {
        self.chunk(out, |json| {
            write_call(id, name, arguments, json);
            if let Some(signature) = signature {
                json.key("thoughtSignature").str(signature);
            }
        });
    }

    fn text(&mut self, text: &str, signature: Option<&str>, out: &mut Vec<u8>) {
        let thought = matches!(self.open, Open::Reasoning { .. });
        self.chunk(out, |json| {
            json.key("text").str(text);
            if thought {
                json.key("thought").show(true);
            }
            if let Some(signature) = signature {
                json.key("thoughtSignature").str(signature);
            }
        });
    }

    fn delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        match (delta, &mut self.open) {
            (Delta::Text(text), Open::Text | Open::Reasoning { .. }) if !text.is_empty() => {
                self.text(text, None, out)
            }
            (Delta::Arguments(piece), Open::Call { arguments, .. }) => arguments.push_str(piece),
            (Delta::Signature(data), Open::Call { signature, .. }) => {
                *signature = Some(carried(data, false).into_string())
            }
            (Delta::Signature(data), Open::Text) => self.text("", Some(&carried(data, false)), out),
            (Delta::Signature(data), Open::Reasoning { redacted }) => {
                let carried = carried(data, *redacted);
                self.text("", Some(&carried), out);
            }
            (Delta::Text(_) | Delta::Arguments(_) | Delta::Signature(_), _) => {}
        }
    }
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: &StreamEvent<'_>, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        match event {
            StreamEvent::Start { id, model } => {
                self.id = id.to_string();
                if !model.is_empty() {
                    self.model = model.to_string();
                }
            }
            StreamEvent::PartStart { part, .. } => {
                self.open = match part {
                    PartHead::Text | PartHead::Refusal => Open::Text,
                    PartHead::Reasoning => Open::Reasoning { redacted: false },
                    PartHead::RedactedReasoning => Open::Reasoning { redacted: true },
                    PartHead::ToolCall { id, name } => Open::Call {
                        id: id.to_string(),
                        name: name.to_string(),
                        arguments: String::new(),
                        signature: None,
                    },
                    PartHead::Foreign => Open::Hidden,
                };
            }
            StreamEvent::Delta { delta, .. } => self.delta(delta, out),
            StreamEvent::Beside(_) => {}
            StreamEvent::PartEnd { .. } => {
                if let Open::Call { id, name, arguments, signature } =
                    std::mem::replace(&mut self.open, Open::Nothing)
                {
                    self.call(&id, &name, &arguments, signature.as_deref(), out);
                }
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Finish(finish) => self.last(finish, out),
            // As Google does it: an element with `error` is the array's last, and google-genai raises on such a frame.
            StreamEvent::Failed(error) => {
                self.begin(out);
                out.extend_from_slice(&errors::encode(error));
                self.finish(true, out);
                self.over = true;
            }
        }
    }

    /// Half a call is none: Gemini sends calls whole, and one without its arguments would be run with others.
    fn stop(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        if let Open::Call { id, name, arguments, signature } =
            std::mem::replace(&mut self.open, Open::Nothing)
            && Raw::parse(&arguments).is_some_and(|arguments| arguments.is_object())
        {
            self.call(&id, &name, &arguments, signature.as_deref(), out);
        }
        self.usage.get_or_insert_default().update(usage);
        if self.candidates.is_empty() {
            // The reason is told: of an event stream nothing is missing, of an array its bracket.
            out.extend_from_slice(if self.sse { b"" } else { b"]\r\n" });
            self.over = true;
        } else {
            self.last(&Finish::of(FinishReason::Length), out);
        }
    }
}

/// A candidate with one part.
fn candidate(index: u64, finish: Option<&Finish<'_>>, json: &mut Json<'_>, part: impl FnOnce(&mut Json<'_>)) {
    json.open(b'{').key("content").open(b'{').key("parts").open(b'[').open(b'{');
    part(json);
    json.close(b'}').close(b']').key("role").str("model").close(b'}');
    if let Some(finish) = finish {
        json.key("finishReason").str(finish_word(finish));
    }
    json.key("index").show(index).close(b'}');
}
