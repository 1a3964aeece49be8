//! One layer: the values it sets, each with its place, built from what a parser or a list of assignments found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use figment::value::{Dict, Empty, Map, Tag, Value};
use figment::{Error, Metadata, Profile, Provider};

use crate::error::{LocatedProblem, Mark};
use crate::key::{KeyPath, child, dotted};
use crate::source::Source;

/// Tables and lists within each other that a layer may have.
pub(crate) const MAX_DEPTH: usize = 64;
/// Keys that a layer may set.
const MAX_KEYS: usize = 10_000;
/// Problems of syntax told of one text; one slip often makes the parser complain many times.
pub(crate) const MAX_SYNTAX_PROBLEMS: usize = 20;

/// The text a layer is read from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Library(String),
    File(PathBuf),
}

impl Origin {
    pub(crate) fn at(&self, line: usize) -> Source {
        match self {
            Self::Library(name) => Source::Library { name: name.clone(), line },
            Self::File(path) => Source::File { path: path.clone(), line },
        }
    }
}

/// A value as a parser found it.
#[derive(Debug)]
pub(crate) enum Node {
    Scalar(Value),
    List(Vec<Self>),
    Table(Vec<Entry>),
    /// A null, which only the list of defaults may hold.
    Null,
    /// Something that no configuration may hold.
    Refused {
        message: String,
        hint: Option<String>,
    },
}

/// A key with its value; one key may come twice.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn refused(message: &str, hint: &str) -> Self {
        Self::Refused { message: message.to_owned(), hint: Some(hint.to_owned()) }
    }

    pub(crate) fn float(number: f64) -> Self {
        if number.is_finite() {
            return Self::Scalar(number.into());
        }
        Self::refused("not a finite number", "write a finite number")
    }

    pub(crate) fn too_large() -> Self {
        Self::refused("the integer is too large", "integers go from -9223372036854775808 to 9223372036854775807")
    }
}

/// What one layer sets.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) values: Dict,
    /// The place of every key, also of tables.
    pub(crate) places: BTreeMap<KeyPath, Source>,
    /// The typed text of values that were read as numbers or booleans, for keys that want a string.
    pub(crate) texts: BTreeMap<KeyPath, String>,
    /// What misspelled keys would set if they were the keys that were probably meant.
    pub(crate) guesses: Vec<(KeyPath, Value)>,
    /// The prefix of environment variables, in the environment's layer.
    pub(crate) prefix: Option<String>,
    /// The place of what is not in `places`.
    pub(crate) fallback: Option<Source>,
    /// The groups whose choice led to this text, outermost first.
    pub(crate) via: Vec<String>,
}

impl Layer {
    /// The layer that a text's top table sets.
    pub(crate) fn of_table(entries: Vec<Entry>, origin: &Origin, problems: &mut Vec<LocatedProblem>) -> Self {
        let mut layer = Self { fallback: Some(origin.at(1)), ..Self::default() };
        let mut reader = Reader { origin, problems, places: &mut layer.places, first_lines: BTreeMap::new(), keys: 0 };
        layer.values = reader.table(&[], entries, 0);
        if reader.keys > MAX_KEYS {
            let message = format!("more than {MAX_KEYS} keys");
            problems.push(LocatedProblem::new(origin.at(1), "", message, None).at(Mark::Nowhere));
        }
        layer
    }

    /// Sets one value; `false` when the path, or a value above it, is already set.
    pub(crate) fn set(&mut self, path: &[String], value: Value, place: &Source) -> bool {
        let Some((name, above)) = path.split_last() else { return false };
        let mut table = &mut self.values;
        for step in above {
            let Value::Dict(_, inner) = table.entry(step.clone()).or_insert_with(|| Value::from(Dict::new())) else { return false };
            table = inner;
        }
        if table.contains_key(name) {
            return false;
        }
        table.insert(name.clone(), value);
        self.places.insert(path.to_vec(), place.clone());
        true
    }

    /// The place of this key, of the nearest table above it, or else of the first key below it.
    pub(crate) fn place(&self, path: &[String]) -> Source {
        let above = (0..=path.len()).rev().find_map(|n| self.places.get(&path[..n])).or(self.fallback.as_ref());
        let below = || self.places.iter().find(|(key, _)| key.starts_with(path)).map(|(_, place)| place);
        above.or_else(below).cloned().unwrap_or(Source::Default)
    }

    /// How the key is written in this layer.
    pub(crate) fn spell(&self, path: &[String]) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}{}", path.join("__").to_uppercase()),
            None => dotted(path),
        }
    }

    /// Every value that is no table, and every empty table, with its path.
    pub(crate) fn leaves(&self) -> Vec<(KeyPath, Value)> {
        let mut out = Vec::new();
        leaves(&[], &self.values, &mut out);
        out
    }
}

/// Every value that is no table, and every empty table, with its path, in the order of their names.
pub(crate) fn leaves(above: &[String], table: &Dict, out: &mut Vec<(KeyPath, Value)>) {
    for (name, value) in table {
        let path = child(above, name);
        match value.as_dict() {
            Some(inner) if !inner.is_empty() => leaves(&path, inner, out),
            _ => out.push((path, value.clone())),
        }
    }
}

/// The value at a path of tables.
pub(crate) fn at<'a>(table: &'a Dict, path: &[String]) -> Option<&'a Value> {
    let (first, below) = path.split_first()?;
    below.iter().try_fold(table.get(first)?, |value, name| value.as_dict()?.get(name))
}

/// The value without the tags of the layers it was merged from, so that it belongs to the layer it is put into.
pub(crate) fn untagged(value: Value) -> Value {
    match value {
        Value::String(_, text) => Value::String(Tag::Default, text),
        Value::Char(_, c) => Value::Char(Tag::Default, c),
        Value::Bool(_, yes) => Value::Bool(Tag::Default, yes),
        Value::Num(_, number) => Value::Num(Tag::Default, number),
        Value::Empty(_, empty) => Value::Empty(Tag::Default, empty),
        Value::Dict(_, table) => Value::Dict(Tag::Default, table.into_iter().map(|(name, value)| (name, untagged(value))).collect()),
        Value::Array(_, items) => Value::Array(Tag::Default, items.into_iter().map(untagged).collect()),
    }
}

/// Puts a value at a path, in the place of whatever is there or above it.
pub(crate) fn put(table: &mut Dict, path: &[String], value: Value) {
    let Some((name, above)) = path.split_last() else { return };
    let mut table = table;
    for step in above {
        let slot = table.entry(step.clone()).or_insert_with(|| Value::from(Dict::new()));
        if slot.as_dict().is_none() {
            *slot = Value::from(Dict::new());
        }
        let Value::Dict(_, inner) = slot else { return };
        table = inner;
    }
    table.insert(name.clone(), value);
}

/// Takes a value out of a table, and the tables above it that are then empty.
pub(crate) fn remove(table: &mut Dict, path: &[String]) {
    match path {
        [] => {}
        [name] => drop(table.remove(name)),
        [name, below @ ..] => {
            if let Some(Value::Dict(_, inner)) = table.get_mut(name) {
                remove(inner, below);
                if inner.is_empty() {
                    table.remove(name);
                }
            }
        }
    }
}

struct Reader<'a> {
    origin: &'a Origin,
    problems: &'a mut Vec<LocatedProblem>,
    places: &'a mut BTreeMap<KeyPath, Source>,
    first_lines: BTreeMap<KeyPath, usize>,
    keys: usize,
}

impl Reader<'_> {
    fn tell(&mut self, path: &[String], line: usize, message: String, hint: Option<String>) {
        self.problems.push(LocatedProblem::new(self.origin.at(line), dotted(path), message, hint));
    }

    fn table(&mut self, above: &[String], entries: Vec<Entry>, depth: usize) -> Dict {
        let mut table = Dict::new();
        for Entry { name, line, node } in entries {
            let path = child(above, &name);
            self.keys += 1;
            if self.keys > MAX_KEYS {
                break;
            }
            if table.contains_key(&name) {
                let first = self.first_lines.get(&path).copied().unwrap_or(line);
                let message = format!("set twice, first on line {first}");
                let hint = Some("keep one of the two".to_owned());
                self.problems.push(LocatedProblem::new(self.origin.at(line), dotted(&path), message, hint).at(Mark::LastKey));
                continue;
            }
            self.first_lines.insert(path.clone(), line);
            self.places.insert(path.clone(), self.origin.at(line));
            if let Some(value) = self.value(&path, line, node, depth + 1) {
                table.insert(name, value);
            }
        }
        table
    }

    fn value(&mut self, path: &[String], line: usize, node: Node, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            self.tell(path, line, format!("nested deeper than {MAX_DEPTH} levels"), None);
            return None;
        }
        match node {
            Node::Scalar(value) => Some(value),
            Node::Table(entries) => Some(Value::from(self.table(path, entries, depth))),
            Node::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    values.push(self.value(path, line, item, depth + 1)?);
                }
                Some(Value::Array(Tag::Default, values))
            }
            Node::Null if path.first().is_some_and(|name| name == "defaults") => Some(Value::Empty(Tag::Default, Empty::None)),
            Node::Null => {
                let hint = "leave the key out to keep what the layers below say; an empty string is `\"\"`";
                self.tell(path, line, "no value".to_owned(), Some(hint.to_owned()));
                None
            }
            Node::Refused { message, hint } => {
                self.tell(path, line, message, hint);
                None
            }
        }
    }
}

/// A layer as figment takes it. Its number travels in the metadata, so that a merged value's tag leads back to its layer.
pub(crate) struct Numbered<'a> {
    pub(crate) number: usize,
    pub(crate) values: &'a Dict,
}

impl Provider for Numbered<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named("layer").source(self.number.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}
