//! The JSON Schema (draft 2020-12) of what a config file may say, for editors and validators.

use figment::value::{Num, Value as Figment};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::schema::Schema;

/// The schema of a file for `T`, with this `$id` and title.
///
/// Descriptions are the doc comments, each value has the default that `T::default()` has, and unknown keys are refused where the type denies
/// them. No key of a table that the default has is required, since another layer may set it. Beside the type's keys there is `defaults`.
/// Keys are sorted, so that one type always has one text. That a string may hold `${…}` in place of a number is not in it.
pub fn schema_of<T: Schema + JsonSchema>(id: &str, title: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    let defaults = Figment::serialize(T::default()).ok();
    if let Some(defaults) = defaults.as_ref().map(to_json) {
        fill(&mut schema, &defaults);
    }
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".to_owned(), id.into());
        object.insert("title".to_owned(), title.into());
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
            properties.entry("defaults").or_insert_with(defaults_list);
        }
    }
    sorted(schema)
}

/// What the list of a text's groups may hold.
fn defaults_list() -> Value {
    let option = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }, { "type": "array", "items": { "type": "string" } }] });
    json!({
        "description": "The groups that this text takes, as `model/tiny` or `{ model = \"tiny\" }`; `_self_` is the place of its own values.",
        "type": "array",
        "items": {
            "anyOf": [{ "type": "string" }, { "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": option }],
        },
    })
}

/// Puts the default of each value beside its type.
fn fill(schema: &mut Value, defaults: &Value) {
    let Some(object) = schema.as_object_mut() else { return };
    let Some(table) = defaults.as_object().filter(|_| object.contains_key("properties")) else {
        object.insert("default".to_owned(), defaults.clone());
        return;
    };
    // A table's default is that of its values, and any of them may come from another layer.
    object.remove("default");
    object.remove("required");
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, inner) in properties {
            if let Some(default) = table.get(name) {
                fill(inner, default);
            }
        }
    }
}

/// The default as JSON, an `f32` with the digits it is written with.
fn to_json(value: &Figment) -> Value {
    match value {
        Figment::Num(_, Num::F32(number)) => number.to_string().parse::<f64>().map_or(Value::Null, Value::from),
        Figment::Array(_, items) => items.iter().map(to_json).collect(),
        Figment::Dict(_, table) => table.iter().map(|(name, value)| (name.clone(), to_json(value))).collect::<Map<_, _>>().into(),
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

/// The same with the keys of every object in order, whatever order the map of this build keeps.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(String, Value)> = object.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            entries.into_iter().map(|(key, value)| (key, sorted(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}
