//! The reference of keys, as Markdown, from a schema of [`crate::schema_of`].

use std::collections::BTreeMap;

use serde_json::Value;

/// One section per table, one row per key: its type in words, its default, what it means. The same schema always gives the same text.
pub fn reference_markdown(schema: &Value) -> String {
    let title = schema["title"].as_str().unwrap_or("Configuration");
    let mut out = format!("# {title}\n");
    section(schema, "", &mut out);
    out
}

fn section(schema: &Value, path: &str, out: &mut String) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let properties: BTreeMap<&String, &Value> = properties.iter().collect();
    if !path.is_empty() {
        out.push_str(&format!("\n## `{path}`\n"));
    }
    if let Some(text) = description(schema) {
        out.push_str(&format!("\n{text}\n"));
    }
    let mut below = Vec::new();
    let mut rows = String::new();
    for (name, inner) in properties {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let table = table_of(inner);
        // A table that is always there needs no row of its own.
        if inner.get("properties").is_none() || inner["type"] != "object" {
            let default = inner.get("default").map_or_else(|| "required".to_owned(), default_text);
            // The list of groups is no key of the type's.
            let is_list = path.is_empty() && name == "defaults";
            let (kind, default) = if is_list { ("list of groups".to_owned(), "`[]`".to_owned()) } else { (words(inner), default) };
            let text = description(inner).unwrap_or_default();
            rows.push_str(&format!("| `{key}` | {} | {default} | {} |\n", cell(&kind), cell(&text)));
        }
        below.extend(table.map(|(table, suffix)| (table, format!("{key}{suffix}"))));
    }
    if !rows.is_empty() {
        out.push_str(&format!("\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n{rows}"));
    }
    for (table, key) in below {
        section(table, &key, out);
    }
}

/// The table that a key holds, also as an option, an item of a list or an entry of a map, and what that adds to the key.
fn table_of(schema: &Value) -> Option<(&Value, &'static str)> {
    if schema.get("properties").is_some() {
        return Some((schema, ""));
    }
    if let Some(forms) = schema["anyOf"].as_array() {
        return forms.iter().find(|form| form.get("properties").is_some()).map(|form| (form, ""));
    }
    let item = schema.get("items").filter(|items| items.get("properties").is_some()).map(|items| (items, "[]"));
    item.or_else(|| schema.get("additionalProperties").filter(|entry| entry.get("properties").is_some()).map(|entry| (entry, ".*")))
}

/// The first paragraph of the doc comment, on one line.
fn description(schema: &Value) -> Option<String> {
    let text = schema["description"].as_str()?;
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then_some(line)
}

/// Text within a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn default_text(value: &Value) -> String {
    if value.is_null() {
        return "unset".to_owned();
    }
    let text = toml::Value::try_from(value).map_or_else(|_| value.to_string(), |value| value.to_string());
    format!("`{}`", cell(&text))
}

/// The type in words.
fn words(schema: &Value) -> String {
    if let Some(names) = names(schema) {
        return format!("one of {}", names.join(", "));
    }
    if let Some(forms) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        let is_null = |form: &&Value| form["type"] == "null";
        let mut found: Vec<String> = forms.iter().filter(|form| !is_null(form)).map(words).collect();
        found.dedup();
        let unset = if forms.iter().any(|form| is_null(&form)) { ", or unset" } else { "" };
        return format!("{}{unset}", found.join(" or "));
    }
    match &schema["type"] {
        Value::Array(types) => {
            let inner = types.iter().filter_map(Value::as_str).filter(|name| *name != "null").map(|name| of_type(name, schema));
            let unset = if types.iter().any(|name| name == "null") { ", or unset" } else { "" };
            format!("{}{unset}", inner.collect::<Vec<_>>().join(" or "))
        }
        Value::String(name) => of_type(name, schema),
        _ => "any value".to_owned(),
    }
}

fn of_type(name: &str, schema: &Value) -> String {
    match name {
        "boolean" => "`true` or `false`".to_owned(),
        "integer" => format!("integer{}", bounds(schema)),
        "number" => format!("number{}", bounds(schema)),
        "array" => {
            let count = schema["minItems"].as_u64().filter(|count| schema["maxItems"].as_u64() == Some(*count));
            let item = schema.get("items").map_or_else(|| "value".to_owned(), words);
            count.map_or_else(|| format!("list of: {item}"), |count| format!("list of {count}: {item}"))
        }
        "object" => match schema.get("additionalProperties") {
            Some(entry) if entry.is_object() && schema.get("properties").is_none() => format!("table of any keys: {}", words(entry)),
            _ => "table".to_owned(),
        },
        other => other.to_owned(),
    }
}

fn bounds(schema: &Value) -> String {
    let (low, high) = (&schema["minimum"], &schema["maximum"]);
    match (low.is_null(), high.is_null()) {
        (true, true) => String::new(),
        (false, true) => format!(", at least {low}"),
        (true, false) => format!(", at most {high}"),
        (false, false) => format!(", {low} to {high}"),
    }
}

/// The names that an enum takes.
fn names(schema: &Value) -> Option<Vec<String>> {
    if let Some(names) = schema["enum"].as_array() {
        return Some(names.iter().filter(|name| !name.is_null()).map(|name| format!("`{}`", name.as_str().unwrap_or_default())).collect());
    }
    if let Some(name) = schema["const"].as_str() {
        return Some(vec![format!("`{name}`")]);
    }
    let forms = schema["oneOf"].as_array()?;
    let found: Vec<Vec<String>> = forms.iter().filter_map(names).collect();
    (found.len() == forms.len()).then(|| found.concat())
}
