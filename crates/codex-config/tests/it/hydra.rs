//! Overrides as hydra-core's own parser reads them; the table is made by `xtask/interop/overrides.py`.

use codex_config::sweep::{Sweep, SweepKind};
use codex_config::{Action, Assignment, Element, Setting};
use serde_json::{Value, json};

const TABLE: &str = include_str!("../../../../fixtures/codex-config/overrides/hydra.json");

/// Where this parser and Hydra's are to differ, each with its reason.
const DIFFERENCES: &[(&str, &str)] = &[
    ("=1", "a value without a key is a slip"),
    ("1a=1", "entries of a free table may begin with a digit, as TOML's keys may"),
    ("01.a=1", "the same"),
    ("a=0x10", "a value that is TOML as a whole is read as TOML"),
    ("a=99999999999999999999", "what does not fit an integer stays text, so that no digit is lost"),
    ("a=~", "unquoted text may hold what has no meaning"),
    ("a=é", "the same"),
    ("a=a#b", "the same"),
    ("a=a;b", "the same"),
    ("a=a<b", "the same"),
    (r#"a="a\\b""#, "double quotes have the escapes of TOML and JSON"),
    (r#"a="a\nb""#, "the same"),
    (r#"a="\u00e9""#, "the same"),
    ("a='a' ", "spaces after a value mean nothing, quoted or not"),
    ("a=[1,]", "TOML's list may end with a comma"),
    ("a={k:v,}", "the same for a table"),
    ("a={k=1}", "TOML's table"),
    ("a={ k = 1 }", "TOML's table"),
    ("a={'k':1}", "keys in quotes"),
    (r#"a={"k": [1, null, "x"]}"#, "JSON's table"),
    ("a={k:1,k:2}", "a key that is set twice is a slip"),
    ("a=choice(1,2),3", "a sweep within a sweep is no use to Hydra either"),
    ("a=[choice(1,2)]", "the same in a list"),
    ("a=range(0.1,0.9,0.2)", "ranges count in the decimals that were typed"),
    ("a=range(0,1,0.1)", "the same"),
    ("a=range(1,3,0)", "Hydra finds out when it runs"),
    ("a=sort(['b','a'])", "quoted strings are strings"),
    ("a=shuffle([1,2,3])", "no value is set by chance"),
    ("a=int(tag(t,choice(1.5)))", "a cast keeps the tags"),
];

fn items(elements: &[Element]) -> Value {
    elements.iter().map(Element::to_json).collect()
}

fn sweep(sweep: &Sweep) -> Value {
    let with = |kind: &str, items: Value| json!({ "tags": sweep.tags, "shuffle": sweep.shuffle, "sweep": kind, "items": items });
    match &sweep.kind {
        SweepKind::Choice { items: elements, .. } => with("choice", items(elements)),
        SweepKind::Range { .. } => with("range", items(&sweep.values().unwrap())),
        SweepKind::Interval { start, end } => json!({ "tags": sweep.tags, "shuffle": false, "sweep": "interval", "items": [start, end] }),
        SweepKind::Glob { include, exclude } => json!({ "sweep": "glob", "include": include, "exclude": exclude }),
    }
}

/// What the table says of an override, from this parser.
fn ours(text: &str) -> Value {
    let Ok(assignment) = text.parse::<Assignment>() else { return json!("error") };
    let action = match assignment.action {
        Action::Set => "CHANGE",
        Action::Add => "ADD",
        Action::Force => "FORCE_ADD",
        Action::Delete => "DEL",
    };
    let mut row = json!({ "type": action, "key": assignment.key.name, "package": assignment.key.package });
    match &assignment.setting {
        None => row["value"] = Value::Null,
        Some(Setting::Value(element)) => row["value"] = element.to_json(),
        Some(Setting::Sweep(several)) => row["sweep"] = sweep(several),
    }
    row
}

fn theirs(row: &Value) -> Value {
    let mut row = row.clone();
    let object = row.as_object_mut().unwrap();
    if object.contains_key("error") {
        return json!("error");
    }
    object.remove("override");
    object.remove("kind");
    if let Some(sweep) = object.get_mut("sweep").and_then(Value::as_object_mut) {
        sweep.remove("kinds");
    }
    row
}

#[test]
fn overrides_are_read_as_hydra_reads_them() {
    let table: Value = serde_json::from_str(TABLE).unwrap();
    assert!(table["hydra"].as_str().unwrap().starts_with("1.3."), "{}", table["hydra"]);
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() >= 250, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let text = case["override"].as_str().unwrap();
        let (ours, theirs) = (ours(text), theirs(case));
        let listed = DIFFERENCES.iter().any(|(known, _)| *known == text);
        if (ours == theirs) == listed {
            wrong.push(format!(
                "{text}\n  here  {ours}\n  hydra {theirs}{}",
                if listed { "\n  listed as a difference, and is none" } else { "" }
            ));
        }
    }
    let known = |text: &str| cases.iter().any(|case| case["override"] == text);
    wrong.extend(
        DIFFERENCES.iter().filter(|(text, reason)| !known(text) || reason.is_empty()).map(|(text, _)| format!("{text}: no such case")),
    );
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
