//! How much a model is to think: the conversation's wish → what this model takes.

use super::models::{EFFORTS, Model, Off, Thinks};
use super::wire::Thinking;
use crate::request::{Effort, Reasoning, ReasoningAmount, budget_below};
use crate::text::Text;

/// The least `budget_tokens` (SDK `thinking_config_enabled_param.py`).
pub const LEAST_BUDGET: u64 = 1024;
/// The output limit where nobody set one: large enough for a long answer, within every model's own limit. It is the
/// answer's alone: what is thought comes on top.
pub const DEFAULT_MAX_TOKENS: u64 = 8192;

/// What goes into the body.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub thinking: Option<Thinking<'static>>,
    pub effort: Option<&'static str>,
    pub max_tokens: u64,
    /// Thinking is asked for: sampling is restricted then.
    pub on: bool,
    /// Why the client's wish was not kept.
    pub lost: Option<&'static str>,
}

/// What of the rest of the request bears on thinking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances {
    pub max_tokens: Option<u64>,
    /// A tool is forced: "Thinking may not be enabled when tool_choice forces tool use" (the API's 400).
    pub forced: bool,
    /// The conversation stands in the middle of a tool loop that began without signed thinking. A budgeted model
    /// refuses to go on thinking there (platform.claude.com "Extended thinking", "Preserving thinking blocks").
    pub unsigned_loop: bool,
}

pub fn plan(wish: &Reasoning, model: &Model, around: Circumstances) -> Plan {
    let Reasoning { amount, show } = wish;
    let max_tokens = around.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    let plan = Plan { max_tokens, ..Plan::default() };
    let amount = match (amount, show) {
        // Thoughts are to be seen, so there are to be some.
        (ReasoningAmount::Unset, Some(true)) => &ReasoningAmount::Adaptive,
        (amount, _) => amount,
    };
    match amount {
        ReasoningAmount::Unset if !around.forced => return plan,
        ReasoningAmount::Unset => return Plan { thinking: off(model), ..plan },
        ReasoningAmount::Off => {
            let lost = (model.off == Off::Never).then_some("this model always thinks");
            return Plan { thinking: off(model), lost, ..plan };
        }
        _ if model.thinks == Thinks::No => return Plan { lost: Some("this model does not think"), ..plan },
        _ if around.forced && model.forced_tools => {
            let lost = Some("a forced tool or JSON mode excludes thinking there");
            return Plan { thinking: off(model), lost, ..plan };
        }
        ReasoningAmount::Adaptive | ReasoningAmount::Effort(_) | ReasoningAmount::Budget(_) => {}
    }
    let budget = match (model.thinks, amount) {
        (Thinks::Budget(_), ReasoningAmount::Budget(tokens))
        | (Thinks::Either, ReasoningAmount::Budget(tokens)) => *tokens,
        (Thinks::Budget(_), ReasoningAmount::Effort(effort)) => effort.budget(),
        (Thinks::Budget(_), _) => Effort::Medium.budget(),
        _ => return adaptive(amount, *show, model, plan),
    };
    if around.unsigned_loop {
        let lost = Some(
            "the tool calls before carry no thinking of this provider, which it wants to go on thinking",
        );
        return Plan { thinking: off(model), lost, ..plan };
    }
    budgeted(budget, *show, model, around, plan)
}

fn off(model: &Model) -> Option<Thinking<'static>> {
    match model.off {
        Off::Unasked | Off::Never => None,
        Off::Disabled => Some(word("disabled", None)),
        Off::BetweenTools => Some(word("between_tools", None)),
    }
}

fn adaptive(amount: &ReasoningAmount, show: Option<bool>, model: &Model, plan: Plan) -> Plan {
    let effort = match amount {
        ReasoningAmount::Effort(effort) => Some(*effort),
        ReasoningAmount::Budget(tokens) => Some(Effort::of_budget(*tokens)),
        ReasoningAmount::Unset | ReasoningAmount::Off | ReasoningAmount::Adaptive => None,
    };
    let effort = effort.zip(model.effort).map(|(effort, most)| effort.min(most)).and_then(effort_word);
    Plan { thinking: Some(word("adaptive", show)), effort, on: true, ..plan }
}

/// A budget below the output limit, which holds thinking and answer together. A limit that somebody set is kept.
fn budgeted(budget: u64, show: Option<bool>, model: &Model, around: Circumstances, plan: Plan) -> Plan {
    let most = match model.thinks {
        Thinks::Budget(limit) => limit,
        _ => u64::MAX,
    };
    let max_tokens = match around.max_tokens {
        None if budget >= plan.max_tokens => {
            budget.saturating_add(plan.max_tokens).min(most.max(plan.max_tokens))
        }
        _ => plan.max_tokens,
    };
    let Some(tokens) = budget_below(max_tokens, budget, LEAST_BUDGET) else {
        return Plan { thinking: off(model), lost: Some("there is no room below the output limit"), ..plan };
    };
    let lost = (tokens < budget).then_some("lowered: it must lie below the output limit");
    let thinking = Thinking { budget_tokens: Some(tokens), ..word("enabled", show) };
    Plan { thinking: Some(thinking), max_tokens, on: true, lost, ..plan }
}

/// An Anthropic client's own wish in Anthropic's words, whatever the model: it knows what it asks for.
pub fn verbatim(wish: &Reasoning, max_tokens: Option<u64>) -> Plan {
    let Reasoning { amount, show } = wish;
    let (thinking, effort) = match amount {
        ReasoningAmount::Unset => (None, None),
        ReasoningAmount::Off => (Some(word("disabled", *show)), None),
        ReasoningAmount::Adaptive => (Some(word("adaptive", *show)), None),
        ReasoningAmount::Effort(effort) => (Some(word("adaptive", *show)), effort_word(*effort)),
        ReasoningAmount::Budget(tokens) => {
            (Some(Thinking { budget_tokens: Some(*tokens), ..word("enabled", *show) }), None)
        }
    };
    Plan { thinking, effort, max_tokens: max_tokens.unwrap_or(DEFAULT_MAX_TOKENS), ..Plan::default() }
}

fn effort_word(effort: Effort) -> Option<&'static str> {
    EFFORTS.iter().find(|(_, known)| *known == effort).map(|(word, _)| *word)
}

fn word(kind: &'static str, show: Option<bool>) -> Thinking<'static> {
    let display = show.map(|show| Text::borrowed(if show { "summarized" } else { "omitted" }));
    Thinking { kind: Some(Text::borrowed(kind)), display, ..Thinking::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wish: ReasoningAmount, model: &str, around: Circumstances) -> String {
        let plan = plan(&Reasoning { amount: wish, show: None }, &Model::of(model), around);
        let thinking = serde_json::to_string(&plan.thinking).unwrap();
        format!("{thinking} {} {}", plan.effort.unwrap_or("-"), plan.max_tokens)
    }

    #[test]
    fn each_generation_gets_its_own_form() {
        use ReasoningAmount::*;
        let high = || Effort(crate::request::Effort::High);
        let max = |max_tokens| Circumstances { max_tokens, ..Circumstances::default() };
        let forced = Circumstances { forced: true, ..Circumstances::default() };
        let cases = [
            (high(), "claude-opus-4-8", max(None), r#"{"type":"adaptive"} high 8192"#),
            (Budget(2048), "claude-opus-5", max(None), r#"{"type":"adaptive"} low 8192"#),
            (
                Budget(2048),
                "claude-sonnet-4-6",
                max(None),
                r#"{"type":"enabled","budget_tokens":2048} - 8192"#,
            ),
            (high(), "claude-haiku-4-5", max(None), r#"{"type":"enabled","budget_tokens":16384} - 24576"#),
            (
                high(),
                "claude-opus-4-1",
                max(Some(30_000)),
                r#"{"type":"enabled","budget_tokens":16384} - 30000"#,
            ),
            (
                Budget(40_000),
                "claude-opus-4-1",
                max(None),
                r#"{"type":"enabled","budget_tokens":30976} - 32000"#,
            ),
            (Budget(10), "claude-haiku-4-5", max(Some(1024)), "null - 1024"),
            (
                Budget(10),
                "claude-haiku-4-5",
                max(Some(1025)),
                r#"{"type":"enabled","budget_tokens":1024} - 1025"#,
            ),
            (
                high(),
                "claude-haiku-4-5",
                max(Some(8192)),
                r#"{"type":"enabled","budget_tokens":7168} - 8192"#,
            ),
            (Budget(2048), "claude-sonnet-4-6", max(Some(900)), "null - 900"),
            (high(), "claude-opus-4-8", max(Some(900)), r#"{"type":"adaptive"} high 900"#),
            (high(), "claude-3-haiku-20240307", max(None), "null - 8192"),
            (high(), "claude-sonnet-5", forced, r#"{"type":"disabled"} - 8192"#),
            (Unset, "claude-sonnet-5", forced, r#"{"type":"disabled"} - 8192"#),
            (Unset, "claude-sonnet-5", max(None), "null - 8192"),
            (Off, "claude-sonnet-5-5", max(None), r#"{"type":"between_tools"} - 8192"#),
            (Off, "claude-fable-5", max(None), "null - 8192"),
        ];
        for (wish, model, around, expected) in cases {
            assert_eq!(check(wish.clone(), model, around), expected, "{wish:?} {model} {around:?}");
        }
    }
}
