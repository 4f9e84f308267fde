//! The conversation → a Messages request for one model.

use std::collections::HashSet;

use super::JSON_TOOL;
use super::messages::{Losses, parameters, unsigned_loop, write};
use super::models::{Model, Samples};
use super::reasoning::{self, Circumstances, Plan};
use super::schema;
use super::wire::{Body, Choice, Format, Metadata, OutputConfig, ToolDef};
use crate::codec::{Field, Loss};
use crate::request::*;
use crate::text::{Extras, Raw, Text};

/// What the tool that stands for JSON mode is for.
const JSON_TOOL_PURPOSE: &str = "Gives the answer. Its input is the JSON object that was asked for.";

pub fn request(request: &Request<'_>, model: &str, losses: &mut Vec<Loss>) -> Vec<u8> {
    let Request { protocol, model: _, messages, tools, tool_choice, parallel_tool_calls, .. } = request;
    let Request { sampling, output, reasoning, user, stream, include_usage: _, extras, .. } = request;
    let traits = Model::of(model);
    let mut losses = Losses::new(*protocol, losses);

    let shape = shape(output, tools, reasoning, &traits, &mut losses);
    let (mut tool_defs, mut choice) =
        self::tools(tools, tool_choice.as_ref(), *parallel_tool_calls, &traits, &mut losses);
    if tool_defs.is_empty() && !losses.own {
        tool_defs = called_before(messages);
        choice = Some(Choice { kind: Some(Text::borrowed("none")), ..Choice::default() });
    }
    if let Shape::Tool(schema) = &shape {
        tool_defs.push(json_tool(schema));
        choice = Some(Choice {
            kind: Some(Text::borrowed("tool")),
            name: Some(Text::borrowed(JSON_TOOL)),
            disable_parallel_tool_use: Some(true),
            ..Choice::default()
        });
    }
    let forced = choice.as_ref().is_some_and(|choice| matches!(choice.kind.as_deref(), Some("any" | "tool")));

    let written = write(messages, &mut losses);
    let max_tokens = sampling.max_output_tokens;
    let around = Circumstances { max_tokens, forced, unsigned_loop: unsigned_loop(&written.messages) };
    let plan = if losses.own {
        reasoning::verbatim(reasoning, max_tokens)
    } else {
        reasoning::plan(reasoning, &traits, around)
    };
    tell(&plan, &mut losses);

    let mut extras = losses.extras(extras, Field::Extra);
    // What decoding left of these members under their own names (see `decode.rs`).
    let [rest_of_config, rest_of_metadata, newer_thinking] =
        ["output_config", "metadata", "thinking"].map(|name| take(&mut extras, name));
    let body = Body {
        model: Some(Text::borrowed(model)),
        max_tokens: Some(plan.max_tokens),
        system: written.system,
        messages: Some(written.messages),
        tool_choice: choice.filter(|_| !tool_defs.is_empty()),
        tools: Some(tool_defs).filter(|tools| !tools.is_empty()),
        stop_sequences: stops(&sampling.stop, &mut losses),
        thinking: newer_thinking.as_ref().and_then(|raw| raw.read().ok()).or(plan.thinking),
        output_config: output_config(rest_of_config.as_ref(), plan.effort, &shape),
        metadata: metadata(rest_of_metadata.as_ref(), user.as_ref()),
        stream: stream.then_some(true),
        extras,
        ..self::sampling(sampling, &traits, plan.on, &mut losses)
    };
    serde_json::to_vec(&body).unwrap_or_default()
}

fn tell(plan: &Plan, losses: &mut Losses<'_>) {
    if let Some(reason) = plan.lost {
        losses.add(Field::Reasoning, reason);
    }
}

fn take<'r>(extras: &mut Extras<'r>, name: &str) -> Option<Raw<'r>> {
    let index = extras.0.iter().position(|(key, _)| key == name)?;
    Some(extras.0.remove(index).1)
}

/// How structured output is asked for.
enum Shape<'r> {
    Text,
    /// `output_config.format`, generally available since the 4.5 models, without a beta header.
    Format(Raw<'r>),
    /// A tool with this input, which the model is forced to call; `answer.rs` and `stream_decode.rs` turn its
    /// call back into the answer's text.
    Tool(Raw<'r>),
}

fn shape<'r>(
    output: &'r Output<'_>,
    tools: &[Tool<'_>],
    reasoning: &Reasoning,
    traits: &Model,
    losses: &mut Losses<'_>,
) -> Shape<'r> {
    let thinks = !matches!(reasoning.amount, ReasoningAmount::Unset | ReasoningAmount::Off);
    let can_force = traits.forced_tools && tools.is_empty() && !thinks;
    match output {
        Output::Text => Shape::Text,
        Output::Json if can_force => Shape::Tool(Raw::of(&serde_json::json!({"type": "object"}))),
        Output::Json => {
            losses.add(Field::Output, "no JSON mode here");
            Shape::Text
        }
        Output::JsonSchema { schema, .. } if losses.own => Shape::Format(schema.reborrow()),
        Output::JsonSchema { schema, .. } if !traits.schemas && can_force => {
            Shape::Tool(schema::input(Some(schema)))
        }
        Output::JsonSchema { name: _, description, schema, strict: _ } => {
            let mut dropped = Vec::new();
            let schema = schema::strict(schema, &mut dropped);
            if description.is_some() {
                losses.add(Field::Schema("description"), "Anthropic's formats have no description");
            }
            tell_dropped(Field::Schema("schema"), &dropped, losses);
            Shape::Format(schema)
        }
    }
}

fn tell_dropped(field: Field<'_>, dropped: &[String], losses: &mut Losses<'_>) {
    if !dropped.is_empty() {
        let reason = format!("not kept by Anthropic's schemas: {}", dropped.join(", "));
        losses.add(field, &reason);
    }
}

fn json_tool<'r>(schema: &Raw<'r>) -> ToolDef<'r> {
    ToolDef {
        name: Some(Text::borrowed(JSON_TOOL)),
        description: Some(Text::borrowed(JSON_TOOL_PURPOSE)),
        input_schema: Some(schema.clone()),
        ..ToolDef::default()
    }
}

fn tools<'r>(
    tools: &'r [Tool<'_>],
    choice: Option<&'r ToolChoice<'_>>,
    parallel: Option<bool>,
    traits: &Model,
    losses: &mut Losses<'_>,
) -> (Vec<ToolDef<'r>>, Option<Choice<'r>>) {
    let among = match choice {
        Some(ToolChoice::Among { names, .. }) => Some(names.iter().collect::<HashSet<_>>()),
        _ => None,
    };
    let mut defs = Vec::with_capacity(tools.len());
    for tool in tools {
        match tool {
            // Only the tools that may be called are shown: Anthropic's choice names one tool or all.
            Tool::Function(function)
                if among.as_ref().is_some_and(|names| !names.contains(&function.name)) => {}
            Tool::Function(function) => defs.push(self::function(function, traits, losses)),
            Tool::Foreign { verbatim, .. } if losses.own => defs.extend(verbatim.read::<ToolDef<'r>>().ok()),
            Tool::Foreign { at, .. } => losses.add(Field::Tool(*at, ""), "not known to Anthropic"),
        }
    }
    let (kind, name) = match choice {
        None if parallel == Some(false) || (losses.own && parallel.is_some()) => ("auto", None),
        None => return (defs, None),
        Some(ToolChoice::Auto | ToolChoice::Among { required: false, .. }) => ("auto", None),
        Some(ToolChoice::Required | ToolChoice::Among { required: true, .. }) => ("any", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Function(name)) => ("tool", Some(name.reborrow())),
    };
    let disable = match (kind, parallel) {
        // It has no such member (SDK `tool_choice_none_param.py`).
        ("none", _) => None,
        (_, Some(true)) if !losses.own => None,
        (_, parallel) => parallel.map(|parallel| !parallel),
    };
    let kind = Some(Text::borrowed(kind));
    (defs, Some(Choice { kind, name, disable_parallel_tool_use: disable, ..Choice::default() }))
}

/// Tools as the conversation shows them: Anthropic answers "Requests which include `tool_use` or `tool_result` blocks
/// must define tools" where other protocols need them no more (BerriAI/litellm issue 5747).
fn called_before<'r>(messages: &'r [Message<'_>]) -> Vec<ToolDef<'r>> {
    let (mut defs, mut names) = (Vec::new(), HashSet::new());
    for part in messages.iter().flat_map(|message| &message.parts) {
        if let PartKind::ToolCall { name, .. } = &part.kind
            && names.insert(&**name)
        {
            let name = Some(name.reborrow());
            defs.push(ToolDef { name, input_schema: Some(schema::input(None)), ..ToolDef::default() });
        }
    }
    defs
}

fn function<'r>(function: &'r Function<'_>, traits: &Model, losses: &mut Losses<'_>) -> ToolDef<'r> {
    let Function { name, description, parameters: _, strict, at, extras } = function;
    let mut schema = parameters(function, losses.own);
    let mut strict = *strict;
    if !losses.own {
        if strict == Some(true) && traits.schemas {
            let mut dropped = Vec::new();
            schema = schema::strict(&schema, &mut dropped);
            tell_dropped(Field::Tool(*at, "parameters"), &dropped, losses);
        } else {
            if strict == Some(true) {
                losses.add(Field::Tool(*at, "strict"), "this model's tools cannot be strict");
            }
            strict = None;
        }
    }
    ToolDef {
        kind: None,
        name: Some(name.reborrow()),
        description: description.as_ref().map(Text::reborrow),
        input_schema: Some(schema),
        strict,
        extras: losses.extras(extras, |name| Field::Tool(*at, name)),
    }
}

fn stops<'r>(stop: &'r [Text<'_>], losses: &mut Losses<'_>) -> Option<Vec<Text<'r>>> {
    // "each stop sequence must contain non-whitespace" (the API's 400).
    let kept: Vec<_> =
        stop.iter().filter(|stop| losses.own || !stop.trim().is_empty()).map(Text::reborrow).collect();
    if kept.len() < stop.len() {
        losses.add(Field::Stop, "Anthropic takes no stop sequence of white space only");
    }
    Some(kept).filter(|kept| !kept.is_empty())
}

fn output_config<'r>(
    rest: Option<&'r Raw<'_>>,
    effort: Option<&'static str>,
    shape: &Shape<'r>,
) -> Option<OutputConfig<'r>> {
    let mut config: OutputConfig<'r> = rest.and_then(|raw| raw.read().ok()).unwrap_or_default();
    if let Some(effort) = effort {
        config.effort = Some(Text::borrowed(effort));
    }
    if let Shape::Format(schema) = shape {
        let kind = Some(Text::borrowed("json_schema"));
        config.format = Some(Format { kind, schema: Some(schema.clone()), ..Format::default() });
    }
    Some(config).filter(|config| *config != OutputConfig::default())
}

fn metadata<'r>(rest: Option<&'r Raw<'_>>, user: Option<&'r Text<'_>>) -> Option<Metadata<'r>> {
    let mut metadata: Metadata<'r> = rest.and_then(|raw| raw.read().ok()).unwrap_or_default();
    metadata.user_id = user.map(Text::reborrow);
    Some(metadata).filter(|metadata| *metadata != Metadata::default())
}

/// The sampling members of the body. With thinking on, `temperature` must be 1, `top_k` unset and `top_p` at least
/// 0.95 (platform.claude.com "Extended thinking", "Feature compatibility").
fn sampling<'r>(
    sampling: &Sampling<'_>,
    traits: &Model,
    thinking: bool,
    losses: &mut Losses<'_>,
) -> Body<'r> {
    let Sampling { max_output_tokens: _, temperature, top_p, top_k, seed, frequency_penalty, .. } = sampling;
    let Sampling { presence_penalty, stop: _, logit_bias, logprobs: _, candidates: _, .. } = sampling;
    let absent = [
        (seed.is_some(), Field::Seed),
        (frequency_penalty.is_some_and(|penalty| penalty != 0.0), Field::FrequencyPenalty),
        (presence_penalty.is_some_and(|penalty| penalty != 0.0), Field::PresencePenalty),
        (logit_bias.is_some(), Field::LogitBias),
    ];
    for (_, field) in absent.into_iter().filter(|(given, _)| *given) {
        losses.add(field, "Anthropic has no such setting");
    }
    let mut body = Body { temperature: *temperature, top_p: *top_p, top_k: *top_k, ..Body::default() };
    if losses.own {
        return body;
    }
    let fixed = traits.samples == Samples::Default;
    let mut drop = |field, asked: bool, why: &str| {
        if asked {
            losses.add(field, why);
        }
    };
    let why = if fixed {
        "this model's sampling cannot be set"
    } else {
        "sampling cannot be set while the model thinks"
    };
    if fixed || thinking {
        drop(Field::Temperature, body.temperature.take().is_some_and(|t| t != 1.0), why);
        drop(Field::TopK, body.top_k.take().is_some(), why);
    }
    if let Some(p) = body.top_p.take_if(|p| fixed || (thinking && *p < 0.95)) {
        drop(Field::TopP, p != 1.0, why);
    }
    if let Some(t) = body.temperature.as_mut().filter(|t| **t > 1.0) {
        *t = 1.0;
        drop(Field::Temperature, true, "Anthropic's temperature ends at 1, which was sent");
    }
    if traits.samples == Samples::One
        && body.temperature.is_some()
        && let Some(p) = body.top_p.take()
    {
        drop(Field::TopP, p != 1.0, "this model takes `temperature` or `top_p`, not both");
    }
    body
}
