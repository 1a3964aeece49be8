//! `${model.d_model}` and `${env:HOME}` within the strings of any layer, taken before values are typed.
//!
//! A string that is nothing but one of these becomes the value itself, of its own type; else its text is put in. `\${` is `${` as text. What
//! `${` begins must be one of these forms, so that a slip is told and not kept. Texts that variables hold are taken as they are.

use std::collections::BTreeMap;

use codex_core::suggest;
use figment::value::{Dict, Tag, Value};

use crate::argument::value_of_text;
use crate::error::{LocatedProblem, Mark};
use crate::key::{KeyPath, child, dotted, is_bare};
use crate::layer::{Layer, MAX_DEPTH, leaves, put, remove, untagged};
use crate::source::Source;
use crate::typing::Merged;

/// Bytes and values that all interpolations of one configuration come to.
const MAX_SIZE: usize = 1 << 20;

/// A part of a string.
#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Key(KeyPath),
    Variable { name: String, default: Option<String> },
}

/// What cannot be resolved: the message, the hint, and the part of the text that it is about.
type Wrong = (String, String, String);

/// Puts in what the strings of these layers refer to. What cannot be resolved is told and taken out.
pub(crate) fn resolve(layers: &mut [Layer], defaults: &Dict, variables: &BTreeMap<String, String>, problems: &mut Vec<LocatedProblem>) {
    let mut live = Vec::new();
    for n in 0..layers.len() {
        for (path, value) in layers[n].leaves() {
            if !holds_any(&value) {
                continue;
            }
            // A value that a higher layer replaces refers to nothing any more.
            if layers[n + 1..].iter().any(|higher| replaces(&higher.values, &path)) {
                remove(&mut layers[n].values, &path);
            } else {
                live.push((n, path));
            }
        }
    }
    if live.is_empty() {
        return;
    }
    let merged = Merged::of(defaults, layers);
    let mut resolver = Resolver { merged: &merged, layers, variables, done: BTreeMap::new(), above: Vec::new(), size: 0, problems };
    let found: Vec<_> = live.into_iter().map(|(n, path)| (n, resolver.at(&path), path)).collect();
    for (n, resolved, path) in found {
        match resolved {
            Ok(Found { value, text }) => {
                put(&mut layers[n].values, &path, untagged(value));
                layers[n].texts.extend(text.map(|text| (path, text)));
            }
            Err(Told) => remove(&mut layers[n].values, &path),
        }
    }
}

fn holds_any(value: &Value) -> bool {
    match value {
        Value::String(_, text) => text.contains("${"),
        Value::Array(_, items) => items.iter().any(holds_any),
        Value::Dict(_, table) => table.values().any(holds_any),
        _ => false,
    }
}

/// Whether these values stand in the place of a value at the path.
fn replaces(values: &Dict, path: &[String]) -> bool {
    let Some((name, below)) = path.split_first() else { return true };
    match values.get(name) {
        None => false,
        Some(Value::Dict(_, inner)) => replaces(inner, below),
        Some(_) => true,
    }
}

/// The text for a value that would otherwise be read as an interpolation.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let before = &rest[..start];
        let slashes = before.len() - before.trim_end_matches('\\').len();
        out.push_str(before);
        out.push_str(&"\\".repeat(slashes + 1));
        out.push_str("${");
        rest = &rest[start + 2..];
    }
    out + rest
}

/// The parts of a text; an error for what `${` begins and is none of the forms.
fn pieces(text: &str) -> Result<Vec<Piece>, Wrong> {
    let mut found = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let before = &rest[..start];
        let plain = before.trim_end_matches('\\');
        let slashes = before.len() - plain.len();
        literal.push_str(plain);
        literal.push_str(&"\\".repeat(slashes / 2));
        if slashes % 2 == 1 {
            literal.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        let wrong = |part: &str| {
            let hint = "write `${model.d_model}` or `${env:NAME,default}`; to have `${` as text write `\\${` (`'\\${'` in TOML)";
            (format!("`{}` is no reference to a key or a variable", crate::source::shortened(part)), hint.to_owned(), part.to_owned())
        };
        let inner = &rest[start + 2..];
        let Some(length) = inner.find('}') else { return Err(wrong(&rest[start..])) };
        let piece = reference(inner[..length].trim()).ok_or_else(|| wrong(&rest[start..start + length + 3]))?;
        if !literal.is_empty() {
            found.push(Piece::Text(std::mem::take(&mut literal)));
        }
        found.push(piece);
        rest = &inner[length + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() || found.is_empty() {
        found.push(Piece::Text(literal));
    }
    Ok(found)
}

fn reference(text: &str) -> Option<Piece> {
    if let Some(variable) = text.strip_prefix("env:").or_else(|| text.strip_prefix("oc.env:")) {
        let (name, default) = variable.split_once(',').map_or((variable, None), |(name, default)| (name, Some(default.trim().to_owned())));
        let name = name.trim();
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return (is_name && !name.starts_with(|c: char| c.is_ascii_digit())).then(|| Piece::Variable { name: name.to_owned(), default });
    }
    let path: KeyPath = text.split('.').map(str::to_owned).collect();
    path.iter().all(|name| is_bare(name)).then_some(Piece::Key(path))
}

/// A resolved value, and the text it was typed as where a string may be wanted.
#[derive(Clone)]
struct Found {
    value: Value,
    text: Option<String>,
}

impl From<Value> for Found {
    fn from(value: Value) -> Self {
        Self { value, text: None }
    }
}

/// The problem has been told.
#[derive(Clone)]
struct Told;

struct Resolver<'a> {
    merged: &'a Merged,
    layers: &'a [Layer],
    variables: &'a BTreeMap<String, String>,
    done: BTreeMap<KeyPath, Result<Found, Told>>,
    /// The keys whose values are being resolved.
    above: Vec<KeyPath>,
    size: usize,
    problems: &'a mut Vec<LocatedProblem>,
}

impl Resolver<'_> {
    /// The resolved value of a key that there is.
    fn at(&mut self, path: &[String]) -> Result<Found, Told> {
        if let Some(done) = self.done.get(path) {
            return done.clone();
        }
        let Some(value) = self.value(path).cloned() else { return Err(Told) };
        self.above.push(path.to_vec());
        let found = match value {
            Value::Dict(_, table) => {
                let inner = |(name, _)| Ok((String::clone(name), self.at(&child(path, name))?.value));
                table.iter().map(inner).collect::<Result<Dict, Told>>().map(|table| Found::from(Value::from(table)))
            }
            // The program's own defaults are no text of a user's.
            value if self.merged.source(&self.holder(path), self.layers) == Source::Default => Ok(value.into()),
            value => self.within(&value, path),
        };
        self.above.pop();
        self.done.insert(path.to_vec(), found.clone());
        found
    }

    /// The value at a path of names and of positions in lists.
    fn value(&self, path: &[String]) -> Option<&Value> {
        let (first, below) = path.split_first()?;
        below.iter().try_fold(self.merged.values.get(first)?, |value, step| match value {
            Value::Dict(_, table) => table.get(step),
            Value::Array(_, items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// The path without positions in a list.
    fn holder(&self, path: &[String]) -> KeyPath {
        let length = (1..path.len()).find(|n| self.value(&path[..*n]).is_some_and(|value| value.as_array().is_some()));
        path[..length.unwrap_or(path.len())].to_vec()
    }

    fn tell(&mut self, path: &[String], (message, hint, about): Wrong) -> Told {
        let holder = self.holder(path);
        let place = self.merged.source(&holder, self.layers);
        let hint = Some(hint).filter(|hint| !hint.is_empty());
        self.problems.push(LocatedProblem::new(place, dotted(&holder), message, hint).at(Mark::Text(about)));
        Told
    }

    fn grow(&mut self, path: &[String], by: usize) -> Result<(), Told> {
        self.size += by;
        if self.size <= MAX_SIZE {
            return Ok(());
        }
        let message = format!("what is put in for `${{…}}` comes to more than {MAX_SIZE} bytes");
        Err(self.tell(path, (message, String::new(), "${".to_owned())))
    }

    fn within(&mut self, value: &Value, path: &[String]) -> Result<Found, Told> {
        self.grow(path, 1)?;
        match value {
            Value::String(_, text) => self.text(text, path),
            Value::Array(_, items) => {
                let items: Result<Vec<Value>, Told> = items.iter().map(|item| Ok(self.within(item, path)?.value)).collect();
                Ok(Value::Array(Tag::Default, items?).into())
            }
            Value::Dict(_, table) => {
                let table = table.iter().map(|(name, value)| Ok((name.clone(), self.within(value, path)?.value)));
                Ok(Value::from(table.collect::<Result<Dict, Told>>()?).into())
            }
            Value::Num(..) | Value::Bool(..) => {
                let layer = self.layers.iter().rev().find(|layer| crate::layer::at(&layer.values, path).is_some());
                Ok(Found { value: value.clone(), text: layer.and_then(|layer| layer.texts.get(path).cloned()) })
            }
            other => Ok(other.clone().into()),
        }
    }

    fn text(&mut self, text: &str, path: &[String]) -> Result<Found, Told> {
        self.grow(path, text.len())?;
        if !text.contains("${") {
            return Ok(Value::from(text).into());
        }
        let mut pieces = pieces(text).map_err(|wrong| self.tell(path, wrong))?;
        if let ([Piece::Key(_) | Piece::Variable { .. }], Some(piece)) = (pieces.as_slice(), pieces.first()) {
            return self.piece(piece, path);
        }
        let mut out = String::new();
        for piece in pieces.drain(..) {
            let about = match &piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Key(key) => dotted(key),
                Piece::Variable { name, .. } => name.clone(),
            };
            let found = self.piece(&piece, path)?;
            let written = match (found.text, &found.value) {
                (Some(text), _) => text,
                (None, Value::String(_, text)) => text.clone(),
                (None, Value::Bool(_, yes)) => yes.to_string(),
                (None, Value::Num(..)) => {
                    crate::resolved::to_toml(&found.value).ok().flatten().map(|value| value.to_string()).unwrap_or_default()
                }
                (None, other) => {
                    let message = format!("`{about}` is {}, which cannot stand within a text", crate::wording::found(other));
                    return Err(self.tell(path, (message, "refer to one value, or to the whole without text around it".to_owned(), about)));
                }
            };
            self.grow(path, written.len())?;
            out.push_str(&written);
        }
        Ok(Value::from(out).into())
    }

    fn piece(&mut self, piece: &Piece, path: &[String]) -> Result<Found, Told> {
        match piece {
            Piece::Text(text) => Ok(Value::from(text.as_str()).into()),
            Piece::Variable { name, .. } if crate::excerpt::is_secret(name) => {
                let hint = "a run asks for no secret; if this is none, hand it in under another name".to_owned();
                Err(self.tell(path, (format!("`{name}` names a secret, and a run folder keeps its configuration"), hint, name.clone())))
            }
            Piece::Variable { name, default } => {
                let Some(text) = self.variables.get(name).or(default.as_ref()).cloned() else {
                    let hint = format!("set it, or give a default: `${{env:{name},default}}`");
                    return Err(self.tell(path, (format!("the environment has no `{name}`"), hint, name.clone())));
                };
                self.grow(path, text.len())?;
                if text == "null" && !self.variables.contains_key(name) {
                    return Ok(Value::Empty(Tag::Default, figment::value::Empty::None).into());
                }
                let value = value_of_text(&text, path.len());
                let is_read = matches!(value, Value::Num(..) | Value::Bool(..));
                Ok(Found { value, text: is_read.then_some(text) })
            }
            Piece::Key(key) => {
                if self.value(key).is_none() {
                    return Err(self.unknown(key, path));
                }
                if self.above.contains(key) {
                    let ring = self.above.iter().skip_while(|above| *above != key).chain([key]).map(|key| dotted(key)).collect::<Vec<_>>();
                    let message = format!("a value refers to itself: `{}`", ring.join("` -> `"));
                    return Err(self.tell(path, (message, "give one of them a value".to_owned(), within_braces(&dotted(key)))));
                }
                if self.above.len() >= MAX_DEPTH {
                    let message = format!("more than {MAX_DEPTH} values refer to one another in a row");
                    return Err(self.tell(path, (message, String::new(), within_braces(&dotted(key)))));
                }
                let found = self.at(key)?;
                self.grow(path, weight(&found.value))?;
                Ok(found)
            }
        }
    }

    fn unknown(&mut self, key: &[String], path: &[String]) -> Told {
        let mut all = Vec::new();
        leaves(&[], &self.merged.values, &mut all);
        let names: Vec<String> = all.into_iter().map(|(path, _)| dotted(&path)).collect();
        let name = dotted(key);
        let same = names.iter().find(|known| known.rsplit('.').next() == key.last().map(String::as_str));
        let near = suggest::nearest(&name, names.iter().map(String::as_str)).or(same.map(String::as_str));
        let hint = near.map_or_else(|| "`codex-cli config show` lists the keys".to_owned(), |near| format!("did you mean `${{{near}}}`?"));
        self.tell(path, (format!("there is no key `{name}`"), hint, within_braces(&name)))
    }
}

/// How a reference begins, to find it in its line.
fn within_braces(name: &str) -> String {
    format!("${{{name}")
}

/// The bytes and values that a value is made of.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(_, text) => text.len(),
        Value::Array(_, items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Dict(_, table) => 1 + table.iter().map(|(name, value)| name.len() + weight(value)).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Piece {
        Piece::Key(text.split('.').map(str::to_owned).collect())
    }

    #[test]
    fn the_parts_of_a_text() {
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(pieces("a-${b.c}-${ d }"), Ok(vec![text("a-"), key("b.c"), text("-"), key("d")]));
        assert_eq!(pieces("plain \\d"), Ok(vec![text("plain \\d")]));
        assert_eq!(pieces(r"\${a} $x {y}"), Ok(vec![text("${a} $x {y}")]));
        assert_eq!(pieces(r"\\${a}"), Ok(vec![text("\\"), key("a")]));
        assert_eq!(pieces(r"\\\${a}"), Ok(vec![text("\\${a}")]));
        let variable = |name: &str, default: Option<&str>| Piece::Variable { name: name.to_owned(), default: default.map(str::to_owned) };
        assert_eq!(pieces("${env:HOME}"), Ok(vec![variable("HOME", None)]));
        assert_eq!(pieces("${oc.env:HOME, a, b}"), Ok(vec![variable("HOME", Some("a, b"))]));
        for wrong in ["${", "${}", "${a", "${.a}", "${a b}", "${env:}", "${env:1X}", "${now:%Y}", "${a..b}"] {
            assert!(pieces(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_escaped_text_is_itself_again() {
        for text in ["", "${a}", "\\${a}", "\\\\${", "x${y}z${", "no $ {"] {
            let Ok(found) = pieces(&escaped(text)) else { panic!("{text}") };
            assert_eq!(found, vec![Piece::Text(text.to_owned())], "{text}");
        }
    }
}
