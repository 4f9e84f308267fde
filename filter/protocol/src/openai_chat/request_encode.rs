//! Writes the request for a provider: what is asked for beside the messages.

use std::collections::HashSet;

use super::json::Object;
use super::{message_encode, models, reasoning, schema};
use crate::codec::{Field, Loss, Protocol};
use crate::dialect::{Dialect, MaxTokens, ReasoningStyle};
use crate::request::{
    Effort, Function, Output, Reasoning, ReasoningAmount, Request, Sampling, Tool, ToolChoice, budget_below,
};
use crate::text::{Raw, Text};

/// What the whole request is written for.
pub struct Target<'t> {
    pub dialect: &'t Dialect,
    pub family: &'t models::Family,
    /// Whose words the request came in.
    pub from: Protocol,
    pub losses: &'t mut Vec<Loss>,
}

impl Target<'_> {
    /// The request came in this protocol: members that no codec models go back.
    pub fn own(&self) -> bool {
        self.from == Protocol::OpenAiChat
    }
    pub fn lose(&mut self, field: Field<'_>, reason: &str) {
        let path = self.from.codec().path_of(field);
        self.losses.push(Loss { path, reason: reason.to_owned() });
    }
}

const NOT_STRICT: &str =
    "OpenAI promises to keep only schemas of its subset, where every property is required";
pub const UNKNOWN_MEMBER: &str = "OpenAI Chat Completions has no such member";

pub fn encode(request: &Request<'_>, dialect: &Dialect, model: &str, losses: &mut Vec<Loss>) -> Vec<u8> {
    let Request {
        protocol,
        model: _,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls,
        sampling,
        output,
        reasoning,
        user,
        stream,
        include_usage,
        extras,
    } = request;
    let family = models::limits(*protocol, dialect, model);
    let mut target = Target { dialect, family, from: *protocol, losses };
    let mut out = Vec::with_capacity(1024);
    let mut object = Object::open(&mut out);
    object.set("model", model);
    let ask_json = !target.own() && *output == Output::Json && !message_encode::mention_json(messages);
    message_encode::encode(messages, ask_json, &mut object, &mut target);
    write_tools(tools, tool_choice.as_ref(), &mut object, &mut target);
    write_parallel(*parallel_tool_calls, !tools.is_empty(), &mut object, &mut target);
    let reasons = write_reasoning(
        reasoning,
        sampling.max_output_tokens,
        !tools.is_empty(),
        extras,
        &mut object,
        &mut target,
    );
    write_sampling(sampling, reasons, &mut object, &mut target);
    write_output(output, extras, &mut object, &mut target);
    match user {
        Some(_) if dialect.no_user && !target.own() => target.lose(Field::User, UNKNOWN_MEMBER),
        user => object.set_some("user", user.as_ref()),
    }
    if *stream {
        object.set("stream", &true);
    }
    // Usage in the stream is what budgets and other protocols' clients need; a client of this protocol says itself.
    let usage = if target.own() { *include_usage } else { *stream };
    if usage && !dialect.no_stream_options {
        let mut options = object.object("stream_options");
        options.set("include_usage", &true);
        options.extras(extras, "stream_options");
        options.close();
    }
    if target.own() {
        object.extras(extras, "");
    } else {
        extras.names().for_each(|name| target.lose(Field::Extra(name), UNKNOWN_MEMBER));
    }
    object.close();
    out
}

fn write_tools(
    tools: &[Tool<'_>],
    choice: Option<&ToolChoice<'_>>,
    object: &mut Object<'_>,
    target: &mut Target<'_>,
) {
    // Where only some tools are allowed and the provider cannot be told so, the others are not sent.
    let allowed = match choice {
        Some(ToolChoice::Among { names, .. }) if target.dialect.no_allowed_tools => {
            Some(names.iter().collect::<HashSet<_>>())
        }
        _ => None,
    };
    if !tools.is_empty() {
        let mut list = object.list("tools");
        for tool in tools {
            let name = match tool {
                Tool::Function(function) => &function.name,
                Tool::Foreign { name, .. } => name,
            };
            if allowed.as_ref().is_some_and(|names| !names.contains(name)) {
                continue;
            }
            match tool {
                Tool::Function(function) => write_function(function, list.object(), target),
                Tool::Foreign { verbatim, .. } => list.item().extend_from_slice(verbatim.get().as_bytes()),
            }
        }
        list.close();
    }
    match choice {
        None => {}
        // OpenAI: "'tool_choice' is only allowed when 'tools' are specified".
        Some(ToolChoice::Auto | ToolChoice::None) if tools.is_empty() && !target.own() => {}
        Some(ToolChoice::Auto) => object.set("tool_choice", "auto"),
        Some(ToolChoice::None) => object.set("tool_choice", "none"),
        Some(ToolChoice::Required) => object.set("tool_choice", "required"),
        Some(ToolChoice::Function(name)) => {
            write_named(name, &custom(tools), object.object("tool_choice"));
        }
        Some(ToolChoice::Among { required, .. }) if allowed.is_some() => {
            object.set("tool_choice", if *required { "required" } else { "auto" });
        }
        Some(ToolChoice::Among { names, required }) => {
            let mut choice = object.object("tool_choice");
            choice.set("type", "allowed_tools");
            let mut among = choice.object("allowed_tools");
            among.set("mode", if *required { "required" } else { "auto" });
            let mut list = among.list("tools");
            let custom = custom(tools);
            names.iter().for_each(|name| write_named(name, &custom, list.object()));
            list.close();
            among.close();
            choice.close();
        }
    }
}

/// `true` is the default and need not be said to those who might not know the member.
fn write_parallel(parallel: Option<bool>, tools: bool, object: &mut Object<'_>, target: &mut Target<'_>) {
    match parallel {
        parallel if target.own() => object.set_some("parallel_tool_calls", parallel),
        Some(false) if tools && target.family.parallel => object.set("parallel_tool_calls", &false),
        Some(false) if tools => target.lose(Field::ParallelToolCalls, "this model cannot be told so"),
        Some(_) | None => {}
    }
}

/// Names of the tools that are no functions.
fn custom<'t>(tools: &'t [Tool<'_>]) -> HashSet<&'t str> {
    let foreign = |tool: &'t Tool<'_>| match tool {
        Tool::Foreign { name, .. } => Some(&**name),
        Tool::Function(_) => None,
    };
    tools.iter().filter_map(foreign).collect()
}

fn write_named(name: &str, custom: &HashSet<&str>, mut object: Object<'_>) {
    let kind = if custom.contains(name) { "custom" } else { "function" };
    object.set("type", kind);
    let mut named = object.object(kind);
    named.set("name", name);
    named.close();
    object.close();
}

/// The schema of a function without arguments.
fn no_arguments() -> Raw<'static> {
    Raw::of(&serde_json::json!({"type": "object", "properties": {}}))
}

fn write_function(tool: &Function<'_>, mut object: Object<'_>, target: &mut Target<'_>) {
    let Function { name, description, parameters, strict, at, extras } = tool;
    object.set("type", "function");
    let mut function = object.object("function");
    function.set("name", name);
    function.set_some("description", description.as_ref());
    let closed = match strict {
        Some(true) if !target.own() => schema::strict(parameters.as_ref().unwrap_or(&no_arguments())),
        _ => None,
    };
    match (strict, closed) {
        (Some(true), Some(closed)) => {
            function.set("parameters", &closed);
            function.set("strict", &true);
        }
        (Some(true), None) if !target.own() => {
            function.set_some("parameters", parameters.as_ref());
            target.lose(Field::Tool(*at, "strict"), NOT_STRICT);
        }
        _ => {
            function.set_some("parameters", parameters.as_ref());
            function.set_some("strict", *strict);
        }
    }
    if target.own() {
        function.extras(extras, "");
    } else {
        extras.names().for_each(|name| target.lose(Field::Tool(*at, name), UNKNOWN_MEMBER));
    }
    function.close();
    object.close();
}

/// Returns whether the model will reason, as far as that decides about sampling.
fn write_reasoning(
    reasoning: &Reasoning,
    limit: Option<u64>,
    tools: bool,
    extras: &crate::text::Extras<'_>,
    object: &mut Object<'_>,
    target: &mut Target<'_>,
) -> bool {
    let Reasoning { amount, show } = reasoning;
    // A client of this protocol that wrote OpenRouter's object gets it back, whatever the dialect.
    let objective =
        matches!(amount, ReasoningAmount::Budget(_) | ReasoningAmount::Adaptive) || show.is_some();
    let style = if target.own() && objective { ReasoningStyle::Object } else { target.dialect.reasoning };
    let asked = *amount != ReasoningAmount::Unset;
    match style {
        ReasoningStyle::None => {
            if asked || show.is_some() {
                target.lose(Field::Reasoning, "this provider has no member for it");
            }
            asked
        }
        ReasoningStyle::Object => {
            let budget = match amount {
                ReasoningAmount::Budget(tokens) => budget(*tokens, limit, target),
                ReasoningAmount::Unset
                | ReasoningAmount::Off
                | ReasoningAmount::Adaptive
                | ReasoningAmount::Effort(_) => None,
            };
            let asked = asked && (budget.is_some() || !matches!(amount, ReasoningAmount::Budget(_)));
            if !asked && show.is_none() {
                return false;
            }
            let mut wire = object.object("reasoning");
            match amount {
                ReasoningAmount::Unset => {}
                ReasoningAmount::Budget(_) => wire.set_some("max_tokens", budget),
                ReasoningAmount::Off => wire.set("enabled", &false),
                ReasoningAmount::Adaptive => wire.set("enabled", &true),
                ReasoningAmount::Effort(effort) => wire.set("effort", models::word(*effort)),
            }
            wire.set_some("exclude", show.map(|show| !show));
            if target.own() {
                wire.extras(extras, "reasoning");
            }
            wire.close();
            asked
        }
        ReasoningStyle::Effort => write_effort(amount, *show, tools, object, target),
    }
}

/// The budget that the output limit has room for.
fn budget(tokens: u64, limit: Option<u64>, target: &mut Target<'_>) -> Option<u64> {
    let Some(limit) = limit.filter(|_| !target.own()) else { return Some(tokens) };
    let less = budget_below(limit, tokens, reasoning::LEAST_BUDGET);
    match less {
        None => target.lose(Field::Reasoning, "there is no room below the output limit"),
        Some(less) if less < tokens => {
            target.lose(Field::Reasoning, "lowered: it must lie below the output limit")
        }
        Some(_) => {}
    }
    less
}

/// Returns whether the model will reason.
fn write_effort(
    amount: &ReasoningAmount,
    show: Option<bool>,
    tools: bool,
    object: &mut Object<'_>,
    target: &mut Target<'_>,
) -> bool {
    let (word, reasons, loss) = effort_word(amount, tools, target);
    if let Some(loss) = loss {
        target.lose(Field::Reasoning, loss);
    } else if show == Some(true) {
        target.lose(Field::Reasoning, "the protocol cannot ask to show the reasoning");
    }
    object.set_some("reasoning_effort", word);
    reasons
}

type Word = (Option<&'static str>, bool, Option<&'static str>);

/// The word for `reasoning_effort`, whether the model will reason, and what is lost.
fn effort_word(amount: &ReasoningAmount, tools: bool, target: &Target<'_>) -> Word {
    let family = target.family;
    let wanted = match amount {
        ReasoningAmount::Unset | ReasoningAmount::Adaptive | ReasoningAmount::Off => None,
        ReasoningAmount::Effort(effort) => Some(*effort),
        ReasoningAmount::Budget(tokens) => Some(Effort::of_budget(*tokens)),
    };
    let off = *amount == ReasoningAmount::Off;
    if target.own() {
        let word = if off { Some("none") } else { wanted.map(models::word) };
        return (word, !off, None);
    }
    let lost = (wanted.is_some() || *amount == ReasoningAmount::Adaptive)
        .then_some("this model cannot reason beside tools in this protocol");
    match (family.efforts, family.tools) {
        (None, _) => (None, false, wanted.is_some().then_some("this model does not reason")),
        (Some(_), models::WithTools::Off) if tools => (Some("none"), false, lost),
        (Some(_), models::WithTools::Unsaid) if tools && !off => {
            (None, false, lost.filter(|_| wanted.is_some()))
        }
        (Some((lowest, highest)), _) => match wanted {
            Some(effort) => (Some(models::word(effort.clamp(lowest, highest))), true, None),
            // The model decides by itself unless told.
            None if !off => (None, !family.off, None),
            None if family.off => (Some("none"), false, None),
            None if family.known() => (
                Some(models::word(lowest)),
                true,
                Some("this model always reasons; it was told to do so least"),
            ),
            None => (None, true, Some("it is not known whether this model can do without reasoning")),
        },
    }
}

fn write_sampling(sampling: &Sampling<'_>, reasons: bool, object: &mut Object<'_>, target: &mut Target<'_>) {
    let Sampling {
        max_output_tokens,
        temperature,
        top_p,
        top_k,
        seed,
        frequency_penalty,
        presence_penalty,
        stop,
        logit_bias,
        logprobs,
        candidates,
    } = sampling;
    let limit = match target.dialect.max_tokens {
        MaxTokens::MaxCompletionTokens => "max_completion_tokens",
        MaxTokens::MaxTokens => "max_tokens",
    };
    object.set_some(limit, *max_output_tokens);
    let refused = match target.family.sampling {
        models::Sampled::Always => false,
        models::Sampled::WithoutReasoning => reasons,
        models::Sampled::Never => true,
    };
    for (name, value, field) in [
        ("temperature", temperature, Field::Temperature),
        ("top_p", top_p, Field::TopP),
        ("frequency_penalty", frequency_penalty, Field::FrequencyPenalty),
        ("presence_penalty", presence_penalty, Field::PresencePenalty),
    ] {
        match value {
            // The default may be named; anything else is answered with a 400.
            Some(_) if refused => {
                target.lose(field, "this model takes no sampling parameters while it reasons")
            }
            value => object.set_some(name, *value),
        }
    }
    match top_k {
        Some(_) if !target.dialect.top_k && !target.own() => target.lose(Field::TopK, UNKNOWN_MEMBER),
        top_k => object.set_some("top_k", *top_k),
    }
    object.set_some(if target.dialect.random_seed { "random_seed" } else { "seed" }, *seed);
    if !stop.is_empty() {
        object.set("stop", stop);
    }
    if target.own() {
        object.set_some("logit_bias", logit_bias.as_ref());
        if let Some(top) = logprobs {
            object.set("logprobs", &true);
            object.set_some("top_logprobs", Some(top).filter(|top| **top > 0));
        }
        object.set_some("n", *candidates);
        return;
    }
    if logit_bias.is_some() {
        target.lose(Field::LogitBias, "token numbers mean something else to this model");
    }
    if logprobs.is_some() {
        target.lose(Field::Logprobs, "log probabilities are not translated between protocols");
    }
}

fn write_output(
    output: &Output<'_>,
    extras: &crate::text::Extras<'_>,
    object: &mut Object<'_>,
    target: &mut Target<'_>,
) {
    let mut format = match output {
        Output::Text => return,
        Output::Json | Output::JsonSchema { .. } => object.object("response_format"),
    };
    match output {
        Output::Text => {}
        Output::Json => format.set("type", "json_object"),
        Output::JsonSchema { name, description, schema, strict } => {
            // Elsewhere a schema is always kept to.
            let closed = if target.own() { None } else { schema::strict(schema) };
            format.set("type", "json_schema");
            let mut wire = format.object("json_schema");
            match name {
                Some(name) if target.own() => wire.set("name", name),
                name => wire.set("name", &schema_name(name.as_deref())),
            }
            wire.set_some("description", description.as_ref());
            wire.set("schema", closed.as_ref().unwrap_or(schema));
            wire.set_some("strict", closed.as_ref().map(|_| true).or(*strict));
            wire.close();
            if closed.is_none() && !target.own() {
                target.lose(Field::Output, NOT_STRICT);
            }
        }
    }
    if target.own() {
        format.extras(extras, "response_format");
    }
    format.close();
}

/// OpenAI demands a name of a schema: "a-z, A-Z, 0-9, or contain underscores and dashes, with a maximum length of 64"
/// (openai SDK, `types/shared_params/response_format_json_schema.py`).
fn schema_name(name: Option<&str>) -> Text<'_> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match name {
        None | Some("") => Text::from("response"),
        Some(name) if name.len() <= 64 && name.chars().all(fits) => Text::from(name),
        Some(name) => {
            Text::from(name.chars().take(64).map(|c| if fits(c) { c } else { '_' }).collect::<String>())
        }
    }
}
