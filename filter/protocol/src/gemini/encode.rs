//! [`Request`] → Gemini's body, and what of a request Gemini cannot keep.

use crate::codec::{Codec, Field, Loss, Protocol};
use crate::gemini::json::Json;
use crate::gemini::models::{Family, Thinking, family, goes_on, level};
use crate::gemini::request::{GENERATION, TOOL_CONFIG};
use crate::gemini::turns;
use crate::request::{
    Effort, NO_ANSWER, Output, Part, PartKind, Reasoning, ReasoningAmount, Request, Sampling, Source, Tool,
    ToolChoice, begun_answer, budget_below,
};
use crate::text::Extras;

/// Google's limit (ai.google.dev/api/generate-content, `GenerationConfig.stopSequences`: "up to 5").
const MOST_STOP_SEQUENCES: usize = 5;

/// Losses of one request, named in the client's words.
pub struct Losses<'l> {
    codec: &'static dyn Codec,
    pub from: Protocol,
    pub own: bool,
    list: &'l mut Vec<Loss>,
}

impl<'l> Losses<'l> {
    pub fn new(protocol: Protocol, list: &'l mut Vec<Loss>) -> Self {
        Losses { codec: protocol.codec(), from: protocol, own: protocol == Protocol::Gemini, list }
    }
    pub fn tell(&mut self, field: Field<'_>, reason: &str) {
        self.list.push(Loss { path: self.codec.path_of(field), reason: reason.to_owned() });
    }
    /// Extras of another protocol have no place; our own are written by the caller.
    pub fn extras<'e>(&mut self, extras: &'e Extras<'_>, field: impl Fn(&'e str) -> Field<'e>) {
        if !self.own {
            for name in extras.names() {
                self.tell(field(name), "Gemini has no such member");
            }
        }
    }
}

pub fn contract(request: &Request<'_>, model: &str) -> Vec<Loss> {
    let mut list = Vec::new();
    let mut losses = Losses::new(request.protocol, &mut list);
    for (name, reason) in request.owners_alone() {
        losses.tell(Field::Extra(name), reason);
    }
    if request.sampling.max_output_tokens == Some(0) {
        losses.tell(Field::MaxOutputTokens, NO_ANSWER);
    }
    if request.sampling.candidates.is_some_and(|candidates| candidates > 1) {
        losses.tell(Field::Candidates, "only one answer can be carried over from Gemini; ask for 1");
    }
    if request.sampling.logprobs.is_some() {
        losses.tell(Field::Logprobs, "log probabilities cannot be carried over from Gemini");
    }
    if request.sampling.stop.len() > MOST_STOP_SEQUENCES {
        losses.tell(Field::Stop, "Gemini takes at most 5 stop sequences");
    }
    let functions = request.tools.iter().any(|tool| matches!(tool, Tool::Function(_)));
    if functions && request.output != Output::Text && family(model).text_with_tools_only() {
        losses.tell(Field::Output, "this model answers in JSON only where there are no tools");
    }
    for tool in &request.tools {
        if let Tool::Foreign { at, name, .. } = tool {
            losses.tell(Field::Tool(*at, ""), &format!("Gemini has no built-in tool `{name}`"));
        }
    }
    // A client of OpenAI's protocol expects a new answer, and gets one (see `turns.rs`).
    let begun = begun_answer(&request.messages).filter(|_| request.protocol == Protocol::Anthropic);
    if let Some(at) = begun.filter(|_| !goes_on(model)) {
        losses.tell(Field::Message(at, ""), "this model does not go on from a begun answer");
    }
    for message in &request.messages {
        for part in &message.parts {
            part_contract(part, &mut losses);
        }
    }
    list
}

fn part_contract(part: &Part<'_>, losses: &mut Losses<'_>) {
    match &part.kind {
        PartKind::Foreign(_) => {
            losses.tell(Field::Part(part.at, ""), "only the provider that made this part understands it")
        }
        PartKind::Media(media) => match &media.source {
            Source::File { .. } => losses
                .tell(Field::Part(part.at, ""), "the file was uploaded to another provider; send its data"),
            Source::Inline { .. } | Source::Url { .. } | Source::Text(_) => {}
        },
        PartKind::ToolResult { content, .. } => content.iter().for_each(|inner| part_contract(inner, losses)),
        PartKind::Text(_) | PartKind::Reasoning { .. } | PartKind::Refusal(_) | PartKind::ToolCall { .. } => {
        }
    }
}

pub fn encode(request: &Request<'_>, model: &str, list: &mut Vec<Loss>) -> Vec<u8> {
    let Request {
        protocol,
        // The model and the method stand in the path.
        model: _,
        stream: _,
        // Gemini always tells usage.
        include_usage: _,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls,
        sampling,
        output,
        reasoning,
        user,
        extras,
    } = request;
    let family = family(model);
    let mut losses = Losses::new(*protocol, list);
    let mut out = Vec::with_capacity(1024);
    let mut json = Json::new(&mut out);
    json.open(b'{');
    turns::encode(messages, family, &mut json, &mut losses);
    let functions = encode_tools(tools, &mut json, &mut losses);
    if *parallel_tool_calls == Some(false) && functions {
        // Tuning: models mostly call one tool at a time, and a client that cannot take more than one can answer one.
        losses.tell(Field::ParallelToolCalls, "Gemini cannot be held to one tool call at a time");
    }
    encode_choice(tool_choice.as_ref(), functions, extras, &mut json, &mut losses);
    json.key("generationConfig").open(b'{');
    encode_sampling(sampling, family, &mut json, &mut losses);
    encode_output(output, &mut json, &mut losses);
    encode_reasoning(reasoning, sampling.max_output_tokens, family, &mut json, &mut losses);
    nested(GENERATION, extras, &mut json, &mut losses);
    json.close(b'}');
    if json.out.ends_with(b"\"generationConfig\":{}") {
        let end = json.out.len().saturating_sub("\"generationConfig\":{}".len());
        json.out.truncate(end);
        if json.out.last() == Some(&b',') {
            json.out.pop();
        }
    }
    if user.is_some() {
        losses.tell(Field::User, "Gemini has no place for the user's identifier");
    }
    losses.extras(extras, Field::Extra);
    if losses.own {
        json.extras(
            extras.0.iter().filter(|(name, _)| !name.contains('.')).map(|(name, value)| (&**name, value)),
        );
    }
    json.close(b'}');
    out
}

/// Our own extras that belong into an object: those named under its path, one level deep.
fn nested(prefix: &str, extras: &Extras<'_>, json: &mut Json<'_>, losses: &mut Losses<'_>) {
    if losses.own {
        let inner = extras.0.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value)));
        json.extras(inner.filter(|(name, _)| !name.contains('.')));
    }
}

/// Functions in one group, so that their order stays; other tools each in their own. Whether there are functions.
fn encode_tools(tools: &[Tool<'_>], json: &mut Json<'_>, losses: &mut Losses<'_>) -> bool {
    if tools.is_empty() {
        return false;
    }
    json.key("tools").open(b'[');
    let mut in_group = false;
    let mut functions = false;
    for tool in tools {
        match tool {
            Tool::Function(function) => {
                if !in_group {
                    json.open(b'{').key("functionDeclarations").open(b'[');
                    (in_group, functions) = (true, true);
                }
                json.open(b'{').key("name").str(&function.name);
                if let Some(description) = &function.description {
                    json.key("description").str(description);
                }
                if let Some(parameters) = &function.parameters {
                    // Plain JSON schema (google-genai `types.FunctionDeclaration.parameters_json_schema`); a recorded
                    // request with `additionalProperties` in it is a 200 of v1beta.
                    json.key("parametersJsonSchema").raw(parameters.get());
                }
                if function.strict == Some(true) {
                    losses.tell(
                        Field::Tool(function.at, "strict"),
                        "Gemini does not promise arguments that fit the schema",
                    );
                }
                losses.extras(&function.extras, |name| Field::Tool(function.at, name));
                if losses.own {
                    json.extras(function.extras.0.iter().map(|(name, value)| (&**name, value)));
                }
                json.close(b'}');
            }
            Tool::Foreign { verbatim, .. } => {
                if std::mem::take(&mut in_group) {
                    json.close(b']').close(b'}');
                }
                json.raw(verbatim.get());
            }
        }
    }
    if in_group {
        json.close(b']').close(b'}');
    }
    json.close(b']');
    functions
}

fn encode_choice(
    choice: Option<&ToolChoice<'_>>,
    functions: bool,
    extras: &Extras<'_>,
    json: &mut Json<'_>,
    losses: &mut Losses<'_>,
) {
    // "Function calling config is set without function_declarations" is a 400 of the API.
    let choice = choice.filter(|choice| {
        if !functions && !matches!(choice, ToolChoice::Auto | ToolChoice::None) {
            losses.tell(Field::ToolChoice, "there is no function to call");
        }
        functions
    });
    let own = losses.own && extras.0.iter().any(|(name, _)| name.starts_with(TOOL_CONFIG));
    if choice.is_none() && !own {
        return;
    }
    json.key("toolConfig").open(b'{');
    if let Some(choice) = choice {
        let (mode, names): (&str, &[_]) = match choice {
            ToolChoice::Auto => ("AUTO", &[]),
            ToolChoice::None => ("NONE", &[]),
            ToolChoice::Required => ("ANY", &[]),
            ToolChoice::Function(name) => ("ANY", std::slice::from_ref(name)),
            ToolChoice::Among { names, required: true } => ("ANY", names),
            // VALIDATED: "either function calls or natural language response", of the allowed names only
            // (google-genai `types.FunctionCallingConfigMode`).
            ToolChoice::Among { names, required: false } => ("VALIDATED", names),
        };
        json.key("functionCallingConfig").open(b'{').key("mode").str(mode);
        if !names.is_empty() {
            json.key("allowedFunctionNames").open(b'[');
            names.iter().for_each(|name| {
                json.str(name);
            });
            json.close(b']');
        }
        nested("toolConfig.functionCallingConfig.", extras, json, losses);
        json.close(b'}');
    }
    nested(TOOL_CONFIG, extras, json, losses);
    json.close(b'}');
}

fn encode_sampling(sampling: &Sampling<'_>, family: &Family, json: &mut Json<'_>, losses: &mut Losses<'_>) {
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
    for (name, count) in
        [("maxOutputTokens", max_output_tokens), ("topK", top_k), ("candidateCount", candidates)]
    {
        if let Some(count) = count {
            json.key(name).show(count);
        }
    }
    for (name, number) in [("temperature", temperature), ("topP", top_p)] {
        if let Some(number) = number {
            json.key(name).number(*number);
        }
    }
    let penalties = [
        ("frequencyPenalty", frequency_penalty, Field::FrequencyPenalty),
        ("presencePenalty", presence_penalty, Field::PresencePenalty),
    ];
    for (name, number, field) in penalties {
        match number {
            Some(_) if family.no_penalties => losses.tell(field, "this model refuses penalties"),
            Some(number) => {
                json.key(name).number(*number);
            }
            None => {}
        }
    }
    match seed {
        Some(seed) if i32::try_from(*seed).is_ok() => {
            json.key("seed").show(seed);
        }
        Some(_) => losses.tell(Field::Seed, "Gemini's seed has 32 bits"),
        None => {}
    }
    if !stop.is_empty() {
        json.key("stopSequences").open(b'[');
        stop.iter().for_each(|text| {
            json.str(text);
        });
        json.close(b']');
    }
    if logit_bias.is_some() {
        losses.tell(Field::LogitBias, "Gemini cannot bias tokens");
    }
    if let Some(logprobs) = logprobs {
        json.key("responseLogprobs").show(true);
        if *logprobs > 0 {
            json.key("logprobs").show(logprobs);
        }
    }
}

fn encode_output(output: &Output<'_>, json: &mut Json<'_>, losses: &mut Losses<'_>) {
    match output {
        Output::Text => {}
        Output::Json => {
            json.key("responseMimeType").str("application/json");
        }
        // The schema's name is a label, and Gemini keeps to every schema (`strict`): nothing is lost with them.
        Output::JsonSchema { name: _, strict: _, description, schema } => {
            json.key("responseMimeType").str("application/json").key("responseJsonSchema").raw(schema.get());
            if description.is_some() {
                losses.tell(Field::Schema("description"), "Gemini has no place for the schema's description");
            }
        }
    }
}

/// `limit`: the output limit, on which Gemini counts thoughts too.
fn encode_reasoning(
    reasoning: &Reasoning,
    limit: Option<u64>,
    family: &Family,
    json: &mut Json<'_>,
    losses: &mut Losses<'_>,
) {
    let Reasoning { amount, show } = reasoning;
    if *amount == ReasoningAmount::Unset && show.is_none() {
        return;
    }
    if family.thinking == Thinking::No {
        if !matches!(amount, ReasoningAmount::Off | ReasoningAmount::Unset) {
            losses.tell(Field::Reasoning, "this model does not think");
        }
        return;
    }
    json.key("thinkingConfig").open(b'{');
    // A client of Gemini's own says what it wants; Google refuses no budget for the limit beside it.
    let limit = limit.filter(|_| !losses.own);
    let exact = match family.thinking {
        Thinking::No => true,
        Thinking::Budget { least, most, off } => encode_budget(amount, limit, least, most, off, json),
        Thinking::Level { minimal, medium } => encode_level(amount, minimal, medium, json),
    };
    if !exact {
        losses.tell(Field::Reasoning, "this model takes the nearest amount of thinking that it has room for");
    }
    // Whoever asks for thinking may see it; thoughts cost nothing beyond the thinking itself.
    let asked = !matches!(amount, ReasoningAmount::Unset | ReasoningAmount::Off);
    match show {
        Some(show) => {
            json.key("includeThoughts").show(show);
        }
        None if asked && !losses.own => {
            json.key("includeThoughts").show(true);
        }
        None => {}
    }
    json.close(b'}');
}

/// Whether the model can do just what was asked.
fn encode_budget(
    amount: &ReasoningAmount,
    limit: Option<u64>,
    least: u64,
    most: u64,
    off: bool,
    json: &mut Json<'_>,
) -> bool {
    let none = if off { 0 } else { least };
    let (asked, wanted) = match amount {
        ReasoningAmount::Unset => return true,
        ReasoningAmount::Adaptive => {
            json.key("thinkingBudget").show(-1);
            return true;
        }
        ReasoningAmount::Off => (0, none),
        ReasoningAmount::Effort(effort) => {
            let wanted = effort.budget().clamp(least, most);
            (wanted, wanted)
        }
        ReasoningAmount::Budget(tokens) => (*tokens, (*tokens).clamp(least, most)),
    };
    let tokens = match limit {
        Some(limit) if wanted > none => budget_below(limit, wanted, least).unwrap_or(none),
        _ => wanted,
    };
    json.key("thinkingBudget").show(tokens);
    tokens == asked
}

/// Whether the model can do just what was asked. These models decide by themselves when nothing is said.
fn encode_level(amount: &ReasoningAmount, minimal: bool, medium: bool, json: &mut Json<'_>) -> bool {
    let (name, exact) = match amount {
        ReasoningAmount::Unset | ReasoningAmount::Adaptive => return true,
        // These models cannot stop thinking.
        ReasoningAmount::Off => (level(Effort::Minimal, minimal, medium).0, false),
        ReasoningAmount::Effort(effort) => level(*effort, minimal, medium),
        ReasoningAmount::Budget(tokens) => level(Effort::of_budget(*tokens), minimal, medium),
    };
    json.key("thinkingLevel").str(name);
    exact
}
