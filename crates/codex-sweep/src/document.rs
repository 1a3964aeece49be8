//! The sweep file's text as entries with lines, and a reader of its tables that tells every problem, each at its line and key.

use std::cell::RefCell;

use codex_core::suggest;
use toml::de::{DeTable, DeValue};

use crate::error::Problem;
use crate::value::Value;

/// Problems that are told of one file.
const MAX_PROBLEMS: usize = 100;

/// What is on the right of a `=`, or below a header.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Value(Value),
    List(Vec<Self>),
    Table {
        entries: Vec<Entry>,
        /// Whether it is written in braces.
        is_inline: bool,
    },
    /// What TOML can say and a configuration cannot.
    Refused(&'static str),
}

/// A key and what it is set to.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// Where the key stands in the text, for the order of the keys.
    pub(crate) offset: usize,
    pub(crate) item: Item,
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(crate) fn tell(&self, line: usize, key: &str, message: impl Into<String>, hint: Option<String>) {
        let mut list = self.0.borrow_mut();
        if list.len() < MAX_PROBLEMS {
            list.push(Problem { line, key: key.to_owned(), message: message.into(), hint });
        }
    }

    /// All of them, in the order of the lines.
    pub(crate) fn into_sorted(self) -> Vec<Problem> {
        let mut list = self.0.into_inner();
        list.sort_by_key(|problem| problem.line);
        list
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// The entries of the top table, in the order of the text. What is no TOML is told, one problem a line.
pub(crate) fn entries(text: &str, problems: &Problems) -> Vec<Entry> {
    let starts: Vec<usize> =
        std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(n, _)| n + 1)).collect();
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut last_line = 0;
    for error in &errors {
        let line = starts.partition_point(|start| *start <= error.span().unwrap_or(0..0).start);
        // What the parser says of the rest of a line follows from its first complaint.
        if line != last_line {
            problems.tell(line, "", format!("this is not TOML: {}", error.message().replace('\n', "; ")), None);
        }
        last_line = line;
    }
    if errors.is_empty() { convert_table(table.into_inner(), text, &starts) } else { Vec::new() }
}

fn convert_table(table: DeTable<'_>, text: &str, starts: &[usize]) -> Vec<Entry> {
    let convert_entry = |(key, value): (toml::Spanned<_>, toml::Spanned<DeValue<'_>>)| {
        let (offset, name): (usize, std::borrow::Cow<'_, str>) = (key.span().start, key.into_inner());
        let line = starts.partition_point(|start| *start <= offset);
        Entry { name: name.into_owned(), line, offset, item: convert(value, text, starts) }
    };
    let mut entries: Vec<Entry> = table.into_iter().map(convert_entry).collect();
    entries.sort_by_key(|entry| entry.offset);
    entries
}

fn convert(value: toml::Spanned<DeValue<'_>>, text: &str, starts: &[usize]) -> Item {
    let start = value.span().start;
    match value.into_inner() {
        DeValue::String(text) => Item::Value(Value::Text(text.into_owned())),
        DeValue::Boolean(yes) => Item::Value(Value::Boolean(yes)),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Item::Value(Value::Integer(number)),
            Err(_) => Item::Refused("a whole number beyond 64 bits"),
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Item::Value(Value::Float(number)),
            _ => Item::Refused("a number without end"),
        },
        DeValue::Datetime(_) => Item::Refused("a date or time"),
        DeValue::Array(items) => {
            let items: Vec<Item> = items.into_iter().map(|item| convert(item, text, starts)).collect();
            Item::List(items)
        }
        DeValue::Table(table) => {
            Item::Table { is_inline: text.as_bytes().get(start) == Some(&b'{'), entries: convert_table(table, text, starts) }
        }
    }
}

impl Item {
    /// What it is, in a problem's words.
    pub(crate) fn found(&self) -> String {
        match self {
            Self::Value(Value::Text(text)) => format!("the text `{}`", shortened(text)),
            Self::Value(value) => format!("`{}`", shortened(&value.to_string())),
            Self::List(_) => "a list".to_owned(),
            Self::Table { .. } => "a table".to_owned(),
            Self::Refused(what) => (*what).to_owned(),
        }
    }

    /// The value that a key of a trial can be set to, or what of it no configuration can hold.
    pub(crate) fn into_value(self) -> Result<Value, &'static str> {
        match self {
            Self::Value(value) => Ok(value),
            Self::List(items) => Ok(Value::List(items.into_iter().map(Self::into_value).collect::<Result<_, _>>()?)),
            Self::Table { entries, .. } => {
                let pair = |entry: Entry| entry.item.into_value().map(|value| (entry.name, value));
                Ok(Value::Table(entries.into_iter().map(pair).collect::<Result<_, _>>()?))
            }
            Self::Refused(what) => Err(what),
        }
    }
}

fn shortened(text: &str) -> String {
    let flat: String = text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().count() > 60 { format!("{flat}…") } else { flat }
}

/// A table that is read key by key; whatever is not asked for is an unknown key at the end.
pub(crate) struct Section<'p> {
    prefix: String,
    pub(crate) line: usize,
    entries: Vec<Entry>,
    known: Vec<&'static str>,
    taken: Vec<&'static str>,
    pub(crate) problems: &'p Problems,
}

impl<'p> Section<'p> {
    pub(crate) fn new(prefix: &str, line: usize, entries: Vec<Entry>, problems: &'p Problems) -> Self {
        Self { prefix: prefix.to_owned(), line, entries, known: Vec::new(), taken: Vec::new(), problems }
    }

    /// The dotted key of a name in this table.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Tells a problem of a key of this table.
    pub(crate) fn tell(&self, line: usize, name: &str, message: impl Into<String>, hint: Option<&str>) {
        self.problems.tell(line, &self.key(name), message, hint.map(str::to_owned));
    }

    /// The entry of a name, taken out.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Entry> {
        self.known.push(name);
        let at = self.entries.iter().position(|entry| entry.name == name)?;
        self.taken.push(name);
        Some(self.entries.remove(at))
    }

    fn take_as<T>(&mut self, name: &'static str, expected: &str, accept: impl FnOnce(&Item) -> Option<T>) -> Option<(usize, T)> {
        let entry = self.take(name)?;
        let accepted = accept(&entry.item);
        if accepted.is_none() {
            self.tell(entry.line, name, format!("expected {expected}, found {}", entry.item.found()), None);
        }
        accepted.map(|accepted| (entry.line, accepted))
    }

    /// A text and its line.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<(usize, String)> {
        self.take_as(name, "a text in quotes", |item| match item {
            Item::Value(Value::Text(text)) => Some(text.clone()),
            _ => None,
        })
    }

    /// A text of at most this many characters, each of which the test accepts; `rule` says which those are.
    pub(crate) fn word(&mut self, name: &'static str, max: usize, rule: &str, accept: impl Fn(char) -> bool) -> Option<String> {
        let (line, text) = self.text(name)?;
        if text.is_empty() || text.chars().count() > max || !text.chars().all(accept) {
            let found = Item::Value(Value::Text(text)).found();
            self.tell(line, name, format!("expected 1 to {max} characters of {rule}, found {found}"), None);
            return None;
        }
        Some(text)
    }

    /// A whole number in a range.
    pub(crate) fn integer(&mut self, name: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let found = self.take_as(name, &expected, |item| match item {
            Item::Value(Value::Integer(number)) => u64::try_from(*number).ok().filter(|number| range.contains(number)),
            _ => None,
        });
        found.map(|(_, number)| number)
    }

    /// A finite number and its line.
    pub(crate) fn number(&mut self, name: &'static str) -> Option<(usize, Value)> {
        self.take_as(name, "a number", |item| match item {
            Item::Value(value) if value.as_number().is_some() => Some(value.clone()),
            _ => None,
        })
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let found = self.take_as(name, "`true` or `false`", |item| match item {
            Item::Value(Value::Boolean(yes)) => Some(*yes),
            _ => None,
        });
        found.map(|(_, yes)| yes)
    }

    /// A list of texts and its line.
    pub(crate) fn texts(&mut self, name: &'static str) -> Option<(usize, Vec<String>)> {
        self.take_as(name, "a list of texts", |item| {
            let Item::List(items) = item else { return None };
            let text = |item: &Item| if let Item::Value(Value::Text(text)) = item { Some(text.clone()) } else { None };
            items.iter().map(text).collect()
        })
    }

    /// One of these names.
    pub(crate) fn choice<T: Copy>(&mut self, name: &'static str, known: &[(&str, T)]) -> Option<T> {
        let (line, text) = self.text(name)?;
        let found = known.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let near = suggest::nearest(&text, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let message = format!("unknown value `{}`; expected one of {}", shortened(&text), list(&names));
            self.problems.tell(line, &self.key(name), message, near);
        }
        found.map(|(_, value)| *value)
    }

    /// A table of this table.
    pub(crate) fn section(&mut self, name: &'static str) -> Option<Self> {
        let entry = self.take(name)?;
        let Item::Table { entries, .. } = entry.item else {
            self.tell(entry.line, name, format!("expected a table, found {}", entry.item.found()), None);
            return None;
        };
        Some(Section::new(&self.key(name), entry.line, entries, self.problems))
    }

    /// Whether a name was asked for in vain.
    pub(crate) fn is_absent(&self, name: &str) -> bool {
        !self.taken.contains(&name)
    }

    /// Tells each key that nobody asked for.
    pub(crate) fn finish(self) {
        for entry in &self.entries {
            let near = suggest::nearest(&entry.name, self.known.iter().copied());
            let hint = near.map_or_else(|| format!("known keys here: {}", list(&self.known)), |near| format!("did you mean `{near}`?"));
            self.problems.tell(entry.line, &self.key(&shortened(&entry.name)), "unknown key", Some(hint));
        }
    }
}

/// `` `a`, `b` and `c` ``
pub(crate) fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
