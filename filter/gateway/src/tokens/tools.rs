//! Functions as OpenAI shows them to its models: TypeScript (hmarr/openai-chat-tokens, found out by trials).

use std::fmt::Write;

use attache_protocol::request::Function;
use serde_json::{Map, Value};

/// One function's declaration. Writing to a string does not fail.
pub fn typescript(function: &Function<'_>) -> String {
    let mut out = String::new();
    if let Some(description) = function.description.as_ref().filter(|description| !description.is_empty()) {
        let _ = writeln!(out, "// {description}");
    }
    let schema = function.parameters.as_ref().and_then(|raw| raw.read::<Value>().ok()).unwrap_or_default();
    let name = &function.name;
    match schema.get("properties").and_then(Value::as_object).filter(|members| !members.is_empty()) {
        Some(members) => {
            let _ = writeln!(out, "type {name} = (_: {{");
            properties(members, &schema, 0, &mut out);
            out.push_str("}) => any;\n\n");
        }
        None => {
            let _ = writeln!(out, "type {name} = () => any;\n");
        }
    }
    out
}

fn properties(members: &Map<String, Value>, schema: &Value, indent: usize, out: &mut String) {
    let required = schema.get("required").and_then(Value::as_array);
    for (name, member) in members {
        if let Some(description) = member.get("description").and_then(Value::as_str) {
            let _ = writeln!(out, "{:indent$}// {description}", "");
        }
        let optional = !required.is_some_and(|required| required.iter().any(|one| one == name));
        let _ = write!(out, "{:indent$}{name}{}: ", "", if optional { "?" } else { "" });
        kind(member, indent, out);
        out.push_str(",\n");
    }
}

fn kind(schema: &Value, indent: usize, out: &mut String) {
    let each = |values: &[Value], write: &mut dyn FnMut(&Value, &mut String), out: &mut String| {
        for (nth, value) in values.iter().enumerate() {
            out.push_str(if nth > 0 { " | " } else { "" });
            write(value, out);
        }
    };
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return each(values, &mut |value, out| _ = write!(out, "{value}"), out);
    }
    if let Some(choices) = schema.get("anyOf").or(schema.get("oneOf")).and_then(Value::as_array) {
        return each(choices, &mut |choice, out| kind(choice, indent, out), out);
    }
    match schema.get("type") {
        Some(Value::Array(types)) => {
            each(types, &mut |one, out| out.push_str(one.as_str().unwrap_or("any")), out)
        }
        Some(Value::String(one)) => match one.as_str() {
            "object" => {
                out.push_str("{\n");
                if let Some(members) = schema.get("properties").and_then(Value::as_object) {
                    properties(members, schema, indent + 2, out);
                }
                let _ = write!(out, "{:indent$}}}", "");
            }
            "array" => {
                match schema.get("items") {
                    Some(items) => kind(items, indent, out),
                    None => out.push_str("any"),
                }
                out.push_str("[]");
            }
            "integer" => out.push_str("number"),
            other => out.push_str(other),
        },
        _ => out.push_str("any"),
    }
}

#[cfg(test)]
mod tests {
    use attache_protocol::text::{Extras, Raw};

    use super::*;

    #[test]
    fn a_schema_becomes_types() {
        let schema = r#"{"type":"object","required":["place"],"properties":{
            "place":{"type":"string","description":"Where"},
            "unit":{"type":"string","enum":["C","F"]},
            "when":{"type":"object","properties":{"days":{"type":"array","items":{"type":"integer"}}}}}}"#;
        let function = Function {
            name: "weather".into(),
            description: Some("Tells the weather".into()),
            parameters: Raw::parse(schema),
            strict: None,
            at: 0,
            extras: Extras::default(),
        };
        let expected = "// Tells the weather\ntype weather = (_: {\n// Where\nplace: string,\nunit?: \"C\" | \"F\",\n\
                        when?: {\n  days?: number[],\n},\n}) => any;\n\n";
        assert_eq!(typescript(&function), expected);
        let bare = Function { parameters: None, description: None, ..function };
        assert_eq!(typescript(&bare), "type weather = () => any;\n\n");
    }
}
