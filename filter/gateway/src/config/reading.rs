//! A value → a configuration, with every fault of its form at once.

use serde_json::Value;

use super::{Config, Fault, suggest};

/// More faults than this are not looked for: each costs another reading.
pub(super) const MOST_FAULTS: usize = 50;

/// A configuration as far as it could be read, and every fault of its form.
pub struct Reading {
    /// `None`: not even the frame is right.
    pub config: Option<Config>,
    pub faults: Vec<Fault>,
}

/// Reads JSON text. One place does, since each crate that did would hold a reader of its own.
#[inline(never)]
pub fn parse(json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// Reads a value as a configuration. serde stops at the first fault, so each faulty member is noted and taken out,
/// and the rest read again: an operator sees everything that is wrong at once.
pub fn read(mut value: Value) -> Reading {
    let mut faults: Vec<Fault> = Vec::new();
    let mut removed: Vec<String> = Vec::new();
    for _ in 0..MOST_FAULTS {
        let error = match serde_path_to_error::deserialize::<_, Config>(&value) {
            Ok(config) => return Reading { config: Some(config), faults },
            Err(error) => error,
        };
        let mut path = segments(error.path());
        let message = error.inner().to_string();
        let named = message.split('`').nth(1).unwrap_or_default().to_owned();
        let mend = if message.starts_with("unknown field") {
            if path.last() != Some(&named) {
                path.push(named.clone());
            }
            let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
            faults.push(Fault::new(render(&path), format!("unknown member{}", suggest(&named, &known))));
            remove(&mut value, &path)
        } else if message.starts_with("missing field") {
            path.push(named.clone());
            if !removed.contains(&render(&path)) {
                faults.push(Fault::new(render(&path), "is missing"));
            }
            insert(&mut value, &path)
        } else {
            faults.push(Fault::new(render(&path), plain(&message)));
            remove(&mut value, &path)
        };
        removed.push(render(&path));
        if !mend {
            break;
        }
    }
    Reading { config: None, faults }
}

/// serde's wording, in an operator's words.
fn plain(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or(message);
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = rest.and_then(|rest| rest.split_once(", expected ")) {
        let expected = match expected {
            "u64" => "a whole number",
            "a nonzero u64" => "a whole number above 0",
            "a sequence" => "a list",
            // Only `onExceed` has such words.
            "newtype variant" => "an object with the word as its member, such as `{queue: 5s}`",
            "map with a single key" => "an object with one member",
            other => other.strip_prefix("struct ").map_or(other, |_| "an object"),
        };
        let found = match found {
            "sequence" => "a list",
            "map" => "an object",
            "unit variant" => "the word alone",
            other => other.strip_prefix("string ").unwrap_or(other),
        };
        return format!("expected {expected}, found {found}");
    }
    if let Some(variant) = message.strip_prefix("unknown variant ") {
        return format!("unknown value {variant}");
    }
    message.to_owned()
}

fn segments(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
            serde_path_to_error::Segment::Map { key } => Some(key.clone()),
            _ => None,
        })
        .collect()
}

fn render(path: &[String]) -> String {
    let mut text = String::new();
    for segment in path {
        if segment.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push_str(&format!("[{segment}]"));
        } else {
            text.push_str(if text.is_empty() { "" } else { "." });
            text.push_str(segment);
        }
    }
    text
}

/// Takes the member at `path` away; an element of a list is replaced by a stand-in, which keeps the numbers of those behind.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    match parent(value, parents) {
        Some(Value::Object(members)) => members.remove(last).is_some(),
        Some(Value::Array(elements)) => {
            let element = last.parse::<usize>().ok().and_then(|index| elements.get_mut(index));
            let good = parents.last().and_then(|list| stand_in(list));
            match (element, good) {
                (Some(element), Some(good)) if *element != good => {
                    *element = good;
                    true
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// Gives a required member that is missing a stand-in, so that its neighbours can be read.
fn insert(value: &mut Value, path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let Some(Value::Object(members)) = parent(value, parents) else { return false };
    let stand_in = match last.as_str() {
        "models" => Value::from(vec![UNREADABLE]),
        "targets" => serde_json::json!([{ "provider": UNREADABLE }]),
        "providers" => serde_json::json!([{ "name": UNREADABLE }]),
        "routes" => Value::Array(Vec::new()),
        "limit" => serde_json::json!({}),
        _ => Value::from(UNREADABLE),
    };
    members.insert(last.clone(), stand_in).is_none()
}

fn parent<'v>(value: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |node, segment| match node {
        Value::Object(members) => members.get_mut(segment),
        Value::Array(elements) => segment.parse::<usize>().ok().and_then(|index| elements.get_mut(index)),
        _ => None,
    })
}

/// A valid element for a list whose own element could not be read. Only its form matters: the configuration is
/// refused anyway, and [`crate::gateway::Gateway::new`] passes over elements of this name.
fn stand_in(list: &str) -> Option<Value> {
    match list {
        "providers" => Some(serde_json::json!({ "name": UNREADABLE })),
        "routes" => {
            Some(serde_json::json!({ "models": [UNREADABLE], "targets": [{ "provider": UNREADABLE }] }))
        }
        "targets" => Some(serde_json::json!({ "provider": UNREADABLE })),
        "keys" => Some(serde_json::json!({ "name": UNREADABLE })),
        "models" | "names" => Some(Value::String(UNREADABLE.to_owned())),
        "catalogue" => Some(serde_json::json!({ "model": UNREADABLE })),
        "budgets" => Some(serde_json::json!({ "name": UNREADABLE, "limit": {} })),
        "thresholds" => Some(Value::from(1)),
        "per" => Some(Value::String(UNREADABLE.to_owned())),
        _ => None,
    }
}

/// Marks what could not be read and has its fault already.
pub const UNREADABLE: &str = "\u{0}unreadable";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(value: Value) -> Vec<String> {
        read(value).faults.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    }

    #[test]
    fn tells_every_fault_of_form_at_once() {
        let found = faults(json!({
            "providers": [{ "nam": "openai" }, { "name": "anthropic", "credentials": "injekt" }, { "name": 5 }],
            "routes": [
                { "models": ["a", 7], "targets": [{ "provider": "openai", "maxOutputTokens": -1 }], "firstToken": 60 },
                { "models": ["b"], "targets": [{ "provider": "anthropic", "modle": "x" }], "total": "1 day" },
                { "models": "c" },
            ],
            "metrics": [],
        }));
        assert_eq!(
            found,
            [
                "metrics: unknown member; known here: `providers`, `routes`, `health`, `catalogue`, `budgets`, `fleet`",
                "providers[0].nam: unknown member; did you mean `name`?",
                "providers[0].name: is missing",
                "providers[1].credentials: unknown value `injekt`, expected `inject` or `passthrough`",
                "providers[2].name: expected a string, found integer `5`",
                "routes[0].firstToken: expected a duration from `1ms` to `24h`, such as `500ms`, `30s` or `5m`, found integer `60`",
                "routes[0].models[1]: expected a string, found integer `7`",
                "routes[0].targets[0].maxOutputTokens: expected a whole number, found integer `-1`",
                "routes[1].targets[0].modle: unknown member; did you mean `model`?",
                "routes[1].total: expected a duration from `1ms` to `24h`, such as `500ms`, `30s` or `5m`, found \"1 day\"",
                "routes[2].models: expected a list, found \"c\"",
                "routes[2].targets: is missing",
            ]
        );
    }

    #[test]
    fn words_that_take_something_say_so() {
        let found = |on_exceed: Value| {
            faults(json!({
                "providers": [],
                "routes": [],
                "budgets": [{ "name": "b", "limit": {}, "onExceed": on_exceed }],
            }))
        };
        assert_eq!(
            found(json!("queue")),
            [
                "budgets[0].onExceed: expected an object with the word as its member, such as `{queue: 5s}`, found the word alone"
            ]
        );
        assert_eq!(
            found(json!({ "queue": "5s", "downgrade": { "model": "m" } })),
            ["budgets[0].onExceed: expected an object with one member, found an object"]
        );
    }

    #[test]
    fn the_frame_may_be_wrong_too() {
        assert_eq!(faults(json!("x")), [": expected an object, found \"x\""]);
        assert_eq!(faults(json!({ "routes": [] })), ["providers: is missing"]);
    }
}
