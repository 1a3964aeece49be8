//! The entries of a text's `defaults`: which groups it takes, and where its own values stand among them.
//!
//! `"model/tiny"` and `{ model = "tiny" }` say the same. Before the group may stand `optional` (a group that is not there is passed over) and
//! `override` (what any text before chose for the group is dropped). `_self_` is the place of the text's own values; without it they come last,
//! so that a text wins over its groups. An option `null` (in TOML `"null"`) takes nothing.

use figment::value::Value;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// `_self_`
    Own,
    Group(Wanted),
}

/// A group that an entry takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// `model`; empty for a config that belongs to no group.
    pub(crate) group: String,
    /// `tiny`; `None` for null.
    pub(crate) option: Option<String>,
    pub(crate) is_optional: bool,
    pub(crate) is_override: bool,
}

impl Wanted {
    /// `model/tiny`
    pub(crate) fn of(name: &str) -> Self {
        let (group, option) = name.rsplit_once('/').unwrap_or(("", name));
        Self { group: group.to_owned(), option: Some(option.to_owned()), is_optional: false, is_override: false }
    }

    /// The config's name, `model/tiny`.
    pub(crate) fn name(&self) -> Option<String> {
        let option = self.option.as_ref()?;
        Some(if self.group.is_empty() { option.clone() } else { format!("{}/{option}", self.group) })
    }
}

/// What is wrong with an entry: the message, the hint, and the text it is about.
pub(crate) type Wrong = (String, String, String);

/// The entries of the value of `defaults`.
pub(crate) fn items(value: Value) -> Result<Vec<Item>, Vec<Wrong>> {
    let hint = "write `defaults = [\"model/tiny\"]` or `defaults = [{ model = \"tiny\" }]`";
    let Some(entries) = value.into_array() else {
        return Err(vec![("expected a list of group names".to_owned(), hint.to_owned(), "defaults".to_owned())]);
    };
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for entry in entries {
        match item(entry) {
            Ok(items) => found.extend(items),
            Err(Some(one)) => wrong.push(one),
            Err(None) => wrong.push(("expected a list of group names".to_owned(), hint.to_owned(), "defaults".to_owned())),
        }
    }
    let own = || found.iter().filter(|item| **item == Item::Own).count();
    if own() > 1 {
        wrong.push(("`_self_` stands twice".to_owned(), "keep one of the two".to_owned(), "_self_".to_owned()));
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

fn item(entry: Value) -> Result<Vec<Item>, Option<Wrong>> {
    match entry {
        Value::String(_, text) if text.trim() == "_self_" => Ok(vec![Item::Own]),
        Value::String(_, text) => {
            let (name, is_optional, is_override) = words(&text)?;
            Ok(vec![Item::Group(Wanted { is_optional, is_override, ..Wanted::of(name) })])
        }
        Value::Dict(_, table) if table.len() == 1 => {
            let Some((key, value)) = table.into_iter().next() else { return Err(None) };
            let (group, is_optional, is_override) = words(&key)?;
            let wanted = |option: Option<String>| Item::Group(Wanted { group: group.to_owned(), option, is_optional, is_override });
            match value {
                Value::Empty(..) => Ok(vec![wanted(None)]),
                Value::String(_, text) if text == "null" => Ok(vec![wanted(None)]),
                Value::String(_, text) => Ok(vec![wanted(Some(text))]),
                Value::Array(_, options) => {
                    options.into_iter().map(|option| option.into_string().map(|text| wanted(Some(text))).ok_or(None)).collect()
                }
                _ => Err(None),
            }
        }
        _ => Err(None),
    }
}

/// The group's name without the words before it, and whether they are `optional` and `override`.
fn words(text: &str) -> Result<(&str, bool, bool), Option<Wrong>> {
    let (mut rest, mut is_optional, mut is_override) = (text.trim(), false, false);
    while let Some((word, after)) = rest.split_once(' ') {
        match word {
            "optional" if !is_optional => is_optional = true,
            "override" if !is_override => is_override = true,
            _ => break,
        }
        rest = after.trim_start();
    }
    if let Some((group, _)) = rest.split_once('@') {
        let hint = format!("a group's text names its keys in full: write `{group}`");
        return Err(Some((
            format!("`{}` has a package, and groups have none here", crate::source::shortened(rest)),
            hint,
            text.to_owned(),
        )));
    }
    // Hydra marks a group that is looked for from the top with a slash; here every group is.
    Ok((rest.strip_prefix('/').unwrap_or(rest), is_optional, is_override))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(group: &str, option: Option<&str>, is_optional: bool, is_override: bool) -> Item {
        Item::Group(Wanted { group: group.to_owned(), option: option.map(str::to_owned), is_optional, is_override })
    }

    fn read(toml: &str) -> Result<Vec<Item>, Vec<Wrong>> {
        let table: toml::Table = toml.parse().unwrap();
        items(Value::serialize(&table["defaults"]).unwrap())
    }

    #[test]
    fn every_form_of_an_entry() {
        let text = r#"defaults = [
            "base", "model/tiny", "_self_", { data = "books" }, { "optional local/user" = "me" }, { "override /model" = "small" },
            { train = ["a", "b"] }, { eval = "null" }, "optional x/y",
        ]"#;
        let expected = vec![
            wanted("", Some("base"), false, false),
            wanted("model", Some("tiny"), false, false),
            Item::Own,
            wanted("data", Some("books"), false, false),
            wanted("local/user", Some("me"), true, false),
            wanted("model", Some("small"), false, true),
            wanted("train", Some("a"), false, false),
            wanted("train", Some("b"), false, false),
            wanted("eval", None, false, false),
            wanted("x", Some("y"), true, false),
        ];
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn what_is_no_entry() {
        for text in ["defaults = 3", "defaults = [1]", "defaults = [{ a = \"x\", b = \"y\" }]", "defaults = [{ a = 1 }]"] {
            assert!(read(text).unwrap_err()[0].0.contains("expected a list of group names"), "{text}");
        }
        assert!(read("defaults = [\"_self_\", \"_self_\"]").unwrap_err()[0].0.contains("stands twice"));
        assert!(read("defaults = [{ \"db@src\" = \"x\" }]").unwrap_err()[0].0.contains("package"));
    }
}
