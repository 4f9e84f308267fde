//! Reads a client's request: what it asks for beside the messages.

use super::message_decode;
use super::wire::{ChatRequest, WireFormat, WireFunction, WireReasoning, WireTool, WireToolChoice};
use crate::codec::Protocol;
use crate::request::{
    Effort, Function, Output, Reasoning, ReasoningAmount, Request, Sampling, Tool, ToolChoice, text_alone,
};
use crate::text::{Extras, Raw, Text};
use crate::wire::{Fault, StringOr, read};

/// A fault at a member.
pub fn fault(path: impl Into<String>, reason: impl Into<String>) -> Fault {
    Fault { path: path.into(), reason: reason.into() }
}

pub fn decode(body: &str) -> Result<Request<'_>, Fault> {
    let mut wire: ChatRequest<'_> = read(body)?;
    unlike(&wire.extras, &MEMBERS, "")?;
    let model = wire
        .model
        .take()
        .filter(|model| !model.is_empty())
        .ok_or_else(|| fault("model", "required: the name of the model, a string"))?;
    let messages = match wire.messages.take() {
        Some(messages) if !messages.is_empty() => message_decode::decode(messages)?,
        _ => return Err(fault("messages", "required: a list of at least one message")),
    };
    let mut extras = std::mem::take(&mut wire.extras);
    extras.0.retain(|(name, kinds)| *name != "modalities" || !text_alone(kinds));
    let user = user(&mut wire, &mut extras);
    let options = wire.stream_options.take().unwrap_or_default();
    nest(&mut extras, "stream_options", options.extras);
    let mut request = Request {
        protocol: Protocol::OpenAiChat,
        model,
        messages,
        tools: tools(wire.tools.take(), wire.functions.take())?,
        tool_choice: tool_choice(&mut wire)?,
        parallel_tool_calls: wire.parallel_tool_calls,
        output: output(wire.response_format.take(), &mut extras)?,
        reasoning: reasoning(wire.reasoning_effort.take(), wire.reasoning.take(), &mut extras)?,
        user,
        stream: wire.stream.unwrap_or(false),
        include_usage: options.include_usage.unwrap_or(false),
        sampling: sampling(wire),
        extras,
    };
    request.name_tool_results();
    Ok(request)
}

/// What of a request says how much it may use.
const MEMBERS: [&str; 9] = [
    "messages",
    "tools",
    "functions",
    "max_completion_tokens",
    "max_tokens",
    "n",
    "stream",
    "reasoning_effort",
    "response_format",
];

/// Servers written in Go take a member's name in any case, the last one wins (its `encoding/json`, `Unmarshal`: "ignoring
/// case"; Ollama's `openai` endpoint reads so). Whoever holds a budget by `max_tokens` must not pass on a `Max_Tokens`.
pub fn unlike(extras: &Extras<'_>, members: &[&str], place: &str) -> Result<(), Fault> {
    // Go takes these two for the letters that they look like.
    let plain = |name: &str| name.to_lowercase().replace('ſ', "s");
    let odd = |name: &&str| name.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii());
    for name in extras.names().filter(odd) {
        if let Some(member) = members.iter().find(|member| **member == plain(name)) {
            return Err(fault(format!("{place}{name}"), format!("unknown member; expected `{member}`")));
        }
    }
    Ok(())
}

/// Keeps members of an inner object that is not a node of its own, by their path.
fn nest<'a>(extras: &mut Extras<'a>, object: &str, inner: Extras<'a>) {
    let members = inner.0.into_iter().map(|(name, member)| (Text::from(format!("{object}.{name}")), member));
    extras.0.extend(members);
}

/// `user` is what every provider knows; `safety_identifier`, its successor, stands in where it is alone.
fn user<'a>(wire: &mut ChatRequest<'a>, extras: &mut Extras<'a>) -> Option<Text<'a>> {
    match (wire.user.take(), wire.safety_identifier.take()) {
        (Some(user), Some(identifier)) => {
            extras.0.push((Text::from("safety_identifier"), Raw::of(&identifier)));
            Some(user)
        }
        (user, identifier) => user.or(identifier),
    }
}

fn sampling(wire: ChatRequest<'_>) -> Sampling<'_> {
    let logprobs = match (wire.logprobs, wire.top_logprobs) {
        (Some(true), top) => Some(top.unwrap_or(0)),
        (_, Some(top)) if top > 0 => Some(top),
        _ => None,
    };
    Sampling {
        max_output_tokens: output_limit(wire.max_completion_tokens, wire.max_tokens),
        temperature: wire.temperature,
        top_p: wire.top_p,
        top_k: wire.top_k,
        seed: wire.seed,
        frequency_penalty: wire.frequency_penalty,
        presence_penalty: wire.presence_penalty,
        stop: match wire.stop {
            Some(StringOr::Text(stop)) => vec![stop],
            Some(StringOr::Other(stops)) => stops,
            None => Vec::new(),
        },
        logit_bias: wire.logit_bias,
        logprobs,
        candidates: wire.n,
    }
}

/// The most tokens of an answer. Both spellings together are refused by OpenAI itself, and others go by either (vLLM by the
/// newer, its `protocol.py`: `max_completion_tokens or max_tokens`; servers from before it by the older): nobody goes beyond
/// the larger. 0 is refused by OpenAI too, and to others, as `or` has it, the same as no limit.
fn output_limit(newer: Option<u64>, older: Option<u64>) -> Option<u64> {
    newer.into_iter().chain(older).filter(|limit| *limit > 0).max()
}

fn tools<'a>(
    tools: Option<Vec<WireTool<'a>>>,
    old: Option<Vec<WireFunction<'a>>>,
) -> Result<Vec<Tool<'a>>, Fault> {
    let tools = tools.unwrap_or_default();
    let old = old.unwrap_or_default();
    let mut found = Vec::with_capacity(tools.len() + old.len());
    for (at, tool) in (0u32..).zip(tools) {
        // Some clients leave the type out where there is a function.
        let function = tool.kind.as_deref().is_none_or(|kind| kind == "function");
        match tool.function {
            Some(wire) if function => {
                found.push(Tool::Function(self::function(wire, at, tool.extras, "tools", ".function")?))
            }
            _ if function => {
                return Err(fault(
                    format!("tools[{at}].function"),
                    "required: an object with `name` and `parameters`",
                ));
            }
            other => {
                let name =
                    named(tool.custom.as_ref()).unwrap_or_else(|| tool.kind.clone().unwrap_or_default());
                let verbatim = Raw::of(&WireTool { function: other, ..tool });
                found.push(Tool::Foreign { name, verbatim, at });
            }
        }
    }
    for (at, wire) in (0u32..).zip(old) {
        found.push(Tool::Function(function(wire, at, Extras::default(), "functions", "")?));
    }
    Ok(found)
}

fn function<'a>(
    wire: WireFunction<'a>,
    at: u32,
    outer: Extras<'a>,
    list: &str,
    inner: &str,
) -> Result<Function<'a>, Fault> {
    let name = wire.name.filter(|name| !name.is_empty());
    let name =
        name.ok_or_else(|| fault(format!("{list}[{at}]{inner}.name"), "required: the function's name"))?;
    if wire.parameters.as_ref().is_some_and(|parameters| !parameters.is_object()) {
        return Err(fault(format!("{list}[{at}]{inner}.parameters"), "expected a JSON schema, an object"));
    }
    let mut extras = wire.extras;
    extras.0.extend(outer.0);
    Ok(Function {
        name,
        description: wire.description,
        parameters: wire.parameters,
        strict: wire.strict,
        at,
        extras,
    })
}

fn named(custom: Option<&Raw<'_>>) -> Option<Text<'static>> {
    let name = custom?.read::<super::wire::Named<'_>>().ok()?.name?;
    Some(name.into_owned())
}

fn tool_choice<'a>(wire: &mut ChatRequest<'a>) -> Result<Option<ToolChoice<'a>>, Fault> {
    match (wire.tool_choice.take(), wire.function_call.take()) {
        (Some(StringOr::Text(mode)), _) => mode_of(&mode, "tool_choice").map(Some),
        (Some(StringOr::Other(choice)), _) => named_choice(choice).map(Some),
        (None, Some(StringOr::Text(mode))) => mode_of(&mode, "function_call").map(Some),
        (None, Some(StringOr::Other(named))) => {
            let name =
                named.name.ok_or_else(|| fault("function_call.name", "required: the function's name"))?;
            Ok(Some(ToolChoice::Function(name)))
        }
        (None, None) => Ok(None),
    }
}

fn mode_of(mode: &str, path: &str) -> Result<ToolChoice<'static>, Fault> {
    match mode {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        // Mistral's word is `any`.
        "required" | "any" => Ok(ToolChoice::Required),
        other => Err(fault(
            path,
            format!("unknown mode `{other}`: expected `auto`, `none`, `required` or an object"),
        )),
    }
}

fn named_choice<'a>(choice: WireToolChoice<'a>) -> Result<ToolChoice<'a>, Fault> {
    if let Some(allowed) = choice.allowed_tools {
        let required = match allowed.mode.as_deref() {
            Some("required") => true,
            Some("auto") | None => false,
            Some(other) => {
                let reason = format!("unknown mode `{other}`: expected `auto` or `required`");
                return Err(fault("tool_choice.allowed_tools.mode", reason));
            }
        };
        let tools = allowed.tools.unwrap_or_default();
        let mut names = Vec::with_capacity(tools.len());
        for (at, tool) in tools.into_iter().enumerate() {
            let name = tool.function.or(tool.custom).and_then(|named| named.name);
            let path = || format!("tool_choice.allowed_tools.tools[{at}].function.name");
            names.push(name.ok_or_else(|| fault(path(), "required: the function's name"))?);
        }
        return Ok(ToolChoice::Among { names, required });
    }
    let name = choice.function.or(choice.custom).and_then(|named| named.name);
    name.map(ToolChoice::Function)
        .ok_or_else(|| fault("tool_choice.function.name", "required: the function's name"))
}

fn output<'a>(format: Option<WireFormat<'a>>, extras: &mut Extras<'a>) -> Result<Output<'a>, Fault> {
    let Some(format) = format else { return Ok(Output::Text) };
    nest(extras, "response_format", format.extras);
    match format.kind.as_deref() {
        Some("text") => Ok(Output::Text),
        Some("json_object") => Ok(Output::Json),
        Some("json_schema") => {
            let reason = "required: an object with `name` and `schema`";
            let wire = format.json_schema.ok_or_else(|| fault("response_format.json_schema", reason))?;
            let schema = wire.schema.unwrap_or_else(|| Raw::of(&serde_json::Map::new()));
            if !schema.is_object() {
                return Err(fault("response_format.json_schema.schema", "expected a JSON schema, an object"));
            }
            Ok(Output::JsonSchema {
                name: wire.name,
                description: wire.description,
                schema,
                strict: wire.strict,
            })
        }
        Some(other) => {
            let reason = format!("unknown type `{other}`: expected `text`, `json_object` or `json_schema`");
            Err(fault("response_format.type", reason))
        }
        None => Err(fault("response_format.type", "required: `text`, `json_object` or `json_schema`")),
    }
}

fn reasoning<'a>(
    effort: Option<Text<'a>>,
    object: Option<WireReasoning<'a>>,
    extras: &mut Extras<'a>,
) -> Result<Reasoning, Fault> {
    let object = object.unwrap_or_default();
    nest(extras, "reasoning", object.extras);
    let amount = match (effort, object.effort, object.max_tokens, object.enabled) {
        (Some(effort), ..) => amount_of(&effort, "reasoning_effort")?,
        (None, Some(effort), ..) => amount_of(&effort, "reasoning.effort")?,
        (None, None, Some(tokens), _) => ReasoningAmount::Budget(tokens),
        (None, None, None, Some(false)) => ReasoningAmount::Off,
        (None, None, None, Some(true)) => ReasoningAmount::Adaptive,
        (None, None, None, None) => ReasoningAmount::Unset,
    };
    Ok(Reasoning { amount, show: object.exclude.map(|hidden| !hidden) })
}

fn amount_of(word: &str, path: &str) -> Result<ReasoningAmount, Fault> {
    Ok(match word {
        "none" => ReasoningAmount::Off,
        "minimal" => ReasoningAmount::Effort(Effort::Minimal),
        "low" => ReasoningAmount::Effort(Effort::Low),
        "medium" => ReasoningAmount::Effort(Effort::Medium),
        "high" => ReasoningAmount::Effort(Effort::High),
        "xhigh" | "max" => ReasoningAmount::Effort(Effort::Max),
        // Groq's word for what its models do by themselves.
        "default" => ReasoningAmount::Unset,
        other => {
            let reason = "expected `none`, `minimal`, `low`, `medium`, `high` or `xhigh`";
            return Err(fault(path, format!("unknown effort `{other}`: {reason}")));
        }
    })
}
