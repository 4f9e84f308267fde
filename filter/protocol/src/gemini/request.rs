//! A Gemini client's request → [`Request`]: the settings around the conversation (which `contents.rs` reads).

use crate::codec::{Line, Protocol};
use crate::gemini::contents::Conversation;
use crate::gemini::schema::to_json_schema;
use crate::gemini::wire::{Body, Generation, List, Number, Thinking, ToolConfig, ToolGroup};
use crate::request::{
    Effort, Function, Output, Reasoning, ReasoningAmount, Request, Sampling, Tool, ToolChoice, text_alone,
};
use crate::text::{Extras, Raw, Text};
use crate::wire::{Fault, read};

/// Members of nested objects that no codec models stand among the extras under their path from the top, so that
/// a loss names them as they are and the encoder puts them back.
pub const GENERATION: &str = "generationConfig.";
pub const TOOL_CONFIG: &str = "toolConfig.";

/// A tool's place: the group's index, and the declaration's in its group or, for a tool that is no function, this.
pub const WHOLE_GROUP: u32 = 0xFFFF;

/// One number for [`Function::at`] and [`Tool::Foreign`].
pub fn tool_at(group: usize, declaration: u32) -> u32 {
    u32::try_from(group).unwrap_or(0) << 16 | declaration.min(WHOLE_GROUP)
}

/// Names and numbers of `FunctionCallingConfig.Mode` (google.ai.generativelanguage).
const MODES: &[(&str, i64, Mode)] = &[
    ("MODE_UNSPECIFIED", 0, Mode::Unset),
    ("AUTO", 1, Mode::Auto),
    ("ANY", 2, Mode::Any),
    ("NONE", 3, Mode::None),
    ("VALIDATED", 4, Mode::Validated),
];
#[derive(Clone, Copy)]
enum Mode {
    Unset,
    Auto,
    Any,
    None,
    Validated,
}

/// Names of `ThinkingLevel` (google-genai `types.ThinkingLevel`); their numbers are not documented.
const LEVELS: &[(&str, i64, Option<Effort>)] = &[
    ("THINKING_LEVEL_UNSPECIFIED", 0, None),
    ("MINIMAL", i64::MIN, Some(Effort::Minimal)),
    ("LOW", i64::MIN, Some(Effort::Low)),
    ("MEDIUM", i64::MIN, Some(Effort::Medium)),
    ("HIGH", i64::MIN, Some(Effort::High)),
    ("XHIGH", i64::MIN, Some(Effort::Max)),
];

pub fn decode<'a>(line: &Line, body: &'a str) -> Result<Request<'a>, Fault> {
    let Body { model, contents, system_instruction, tools, tool_config, generation_config, mut extras } =
        read(body)?;
    extras.0.retain(|(_, value)| !value.is_null());
    let model = match (&line.model, model) {
        (Some(model), _) => Text::from(bare(model).to_owned()),
        (None, Some(model)) => Text::from(bare(&model).to_owned()),
        (None, None) => Text::default(),
    };
    if model.is_empty() {
        return fault("model", "the path names no model; expected `…/models/{model}:generateContent`");
    }
    let mut conversation = Conversation::default();
    if let Some(system) = system_instruction {
        conversation.system(system)?;
    }
    let contents = contents.unwrap_or_default().0;
    if contents.is_empty() {
        return fault(
            "contents",
            "expected a list of at least one content such as {\"role\":\"user\",\"parts\":[{\"text\":\"…\"}]}",
        );
    }
    for (index, content) in contents.into_iter().enumerate() {
        conversation.content(index, content)?;
    }
    let settings = settings(generation_config.unwrap_or_default(), &mut extras)?;
    let mut request = Request {
        protocol: Protocol::Gemini,
        model,
        messages: conversation.messages,
        tools: decode_tools(tools.unwrap_or_default())?,
        tool_choice: choice(tool_config.unwrap_or_default(), &mut extras)?,
        parallel_tool_calls: None,
        sampling: settings.sampling,
        output: settings.output,
        reasoning: settings.reasoning,
        user: None,
        stream: line.stream,
        include_usage: true,
        extras,
    };
    request.name_tool_results();
    Ok(request)
}

/// `models/gemini-…` and `gemini-…` are the same model.
pub fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

pub fn fault<T>(path: impl Into<String>, reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { path: path.into(), reason: reason.into() })
}

fn decode_tools<'a>(groups: List<ToolGroup<'a>>) -> Result<Vec<Tool<'a>>, Fault> {
    let mut tools = Vec::new();
    for (g, group) in groups.0.into_iter().enumerate() {
        for (d, declaration) in group.functions.unwrap_or_default().0.into_iter().enumerate() {
            let path = || format!("tools[{g}].functionDeclarations[{d}]");
            let Some(name) = declaration.name.filter(|name| !name.is_empty()) else {
                return fault(format!("{}.name", path()), "missing: expected the function's name");
            };
            let parameters = match (declaration.json_schema, declaration.parameters) {
                (Some(schema), _) => Some(schema),
                (None, Some(schema)) => match to_json_schema(&schema) {
                    Ok(schema) => Some(schema),
                    Err(reason) => return fault(format!("{}.parameters", path()), reason),
                },
                (None, None) => None,
            };
            tools.push(Tool::Function(Function {
                name,
                description: declaration.description,
                parameters,
                strict: None,
                at: tool_at(g, u32::try_from(d).unwrap_or(WHOLE_GROUP)),
                extras: said(declaration.extras),
            }));
        }
        for (name, value) in said(group.extras).0 {
            let verbatim = Raw::of(&std::collections::BTreeMap::from([(&*name, &value)]));
            tools.push(Tool::Foreign { name, verbatim, at: tool_at(g, WHOLE_GROUP) });
        }
    }
    Ok(tools)
}

/// Extras without the members that are `null`.
pub fn said(mut extras: Extras<'_>) -> Extras<'_> {
    extras.0.retain(|(_, value)| !value.is_null());
    extras
}

fn choice<'a>(config: ToolConfig<'a>, extras: &mut Extras<'a>) -> Result<Option<ToolChoice<'a>>, Fault> {
    hoist(TOOL_CONFIG, config.extras, extras);
    let Some(calling) = config.calling else { return Ok(None) };
    hoist("toolConfig.functionCallingConfig.", calling.extras, extras);
    let mode = match &calling.mode {
        None => Mode::Unset,
        Some(word) => match word.find(MODES) {
            Some((_, _, mode)) => *mode,
            None => {
                return fault(
                    "toolConfig.functionCallingConfig.mode",
                    format!("unknown mode `{word}`; expected AUTO, ANY, NONE or VALIDATED"),
                );
            }
        },
    };
    let mut names = calling.names.unwrap_or_default();
    Ok(match mode {
        Mode::Unset => None,
        Mode::None => Some(ToolChoice::None),
        Mode::Any if names.is_empty() => Some(ToolChoice::Required),
        Mode::Any if names.len() == 1 => names.pop().map(ToolChoice::Function),
        Mode::Any => Some(ToolChoice::Among { names, required: true }),
        Mode::Validated if !names.is_empty() => Some(ToolChoice::Among { names, required: false }),
        Mode::Auto | Mode::Validated => Some(ToolChoice::Auto),
    })
}

fn hoist<'a>(prefix: &str, inner: Extras<'a>, extras: &mut Extras<'a>) {
    for (name, value) in said(inner).0 {
        extras.0.push((Text::from(format!("{prefix}{name}")), value));
    }
}

struct Settings<'a> {
    sampling: Sampling<'a>,
    output: Output<'a>,
    reasoning: Reasoning,
}

fn settings<'a>(config: Generation<'a>, extras: &mut Extras<'a>) -> Result<Settings<'a>, Fault> {
    let logprobs = match config.response_logprobs {
        Some(true) => Some(count("logprobs", config.logprobs)?.unwrap_or(0)),
        _ => None,
    };
    let sampling = Sampling {
        // To proto3 a number that is 0 may as well not be there (protobuf.dev, "Field presence").
        max_output_tokens: count("maxOutputTokens", config.max_output_tokens)?.filter(|limit| *limit > 0),
        temperature: config.temperature.map(|number| number.0),
        top_p: config.top_p.map(|number| number.0),
        top_k: count("topK", config.top_k)?,
        seed: whole("seed", config.seed)?,
        frequency_penalty: config.frequency_penalty.map(|number| number.0),
        presence_penalty: config.presence_penalty.map(|number| number.0),
        stop: config.stop_sequences.unwrap_or_default(),
        logit_bias: None,
        logprobs,
        candidates: count("candidateCount", config.candidate_count)?,
    };
    let mut rest = config.extras;
    rest.0.retain(|(name, kinds)| {
        !matches!(&**name, "responseModalities" | "response_modalities") || !text_alone(kinds)
    });
    hoist(GENERATION, rest, extras);
    let json = config.mime_type.as_deref() == Some("application/json");
    let schema = match (config.json_schema, config.schema) {
        (Some(schema), _) => Some(schema),
        (None, Some(schema)) if json => match to_json_schema(&schema) {
            Ok(schema) => Some(schema),
            Err(reason) => return fault("generationConfig.responseSchema", reason),
        },
        (None, schema) => schema,
    };
    let output = match (json, schema) {
        (true, Some(schema)) => Output::JsonSchema { name: None, description: None, schema, strict: None },
        (true, None) => Output::Json,
        (false, schema) => {
            // `text/x.enum` and the like: nobody else's, so it stays among the extras.
            let mime = config.mime_type.filter(|mime| mime != "text/plain").map(|mime| Raw::of(&*mime));
            let rest = [("responseMimeType", mime), ("responseSchema", schema)];
            let rest = rest
                .into_iter()
                .filter_map(|(name, value)| Some((Text::from(format!("{GENERATION}{name}")), value?)));
            extras.0.extend(rest);
            Output::Text
        }
    };
    Ok(Settings { sampling, output, reasoning: reasoning(config.thinking.unwrap_or_default(), extras)? })
}

fn reasoning<'a>(config: Thinking<'a>, extras: &mut Extras<'a>) -> Result<Reasoning, Fault> {
    hoist("generationConfig.thinkingConfig.", config.extras, extras);
    let budget = whole("thinkingConfig.thinkingBudget", config.budget)?;
    let level = match &config.level {
        None => None,
        Some(word) => match word.find(LEVELS) {
            Some((_, _, effort)) => *effort,
            None => {
                return fault(
                    "generationConfig.thinkingConfig.thinkingLevel",
                    format!("unknown level `{word}`; expected MINIMAL, LOW, MEDIUM or HIGH"),
                );
            }
        },
    };
    let amount = match (level, budget) {
        (Some(effort), _) => ReasoningAmount::Effort(effort),
        (None, None) => ReasoningAmount::Unset,
        (None, Some(0)) => ReasoningAmount::Off,
        (None, Some(budget)) => match u64::try_from(budget) {
            Ok(tokens) => ReasoningAmount::Budget(tokens),
            // -1: the model decides (docs/thinking, "dynamic thinking").
            Err(_) => ReasoningAmount::Adaptive,
        },
    };
    Ok(Reasoning { amount, show: config.include_thoughts })
}

fn whole(name: &str, number: Option<Number>) -> Result<Option<i64>, Fault> {
    match number.map(|number| (number, number.integer())) {
        None => Ok(None),
        Some((_, Some(integer))) => Ok(Some(integer)),
        Some((number, None)) => {
            fault(format!("{GENERATION}{name}"), format!("expected a whole number, found {}", number.0))
        }
    }
}

fn count(name: &str, number: Option<Number>) -> Result<Option<u64>, Fault> {
    match number.map(|number| (number, number.count())) {
        None => Ok(None),
        Some((_, Some(count))) => Ok(Some(count)),
        Some((number, None)) => fault(
            format!("{GENERATION}{name}"),
            format!("expected a whole number from 0, found {}", number.0),
        ),
    }
}
