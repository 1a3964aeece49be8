//! The value of an override, read by recursive descent: Hydra's grammar, with TOML's and JSON's spellings beside it.
//!
//! Beyond Hydra's: a table may be written `{ a = 1 }`, a key in quotes, a list with a comma at its end, and double quotes have the escapes of
//! TOML and JSON. A value that is TOML as a whole is read as TOML (so `0x10` is 16). Unquoted text may hold any character that means nothing.

use std::ops::Range;

use crate::element::Element;
use crate::functions::{self, Call};
use crate::layer::{Entry, MAX_DEPTH, Node};
use crate::number_text;
use crate::sweep::Sweep;
use crate::toml_text;

/// Values and names within one override.
pub(crate) const MAX_ITEMS: usize = 10_000;

/// What is wrong with a text, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slip {
    /// Bytes of the text.
    pub(crate) at: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// What stands right of `=`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given {
    Element(Element),
    Sweep(Sweep),
}

/// The value that starts at this byte of the text and ends with it.
pub(crate) fn parse(text: &str, start: usize) -> Result<Given, Slip> {
    let value = text[start..].trim();
    if value.is_empty() {
        return Ok(Given::Element(Element::Text(String::new())));
    }
    let grammar = || Parser { text, at: start, items: 0 }.whole();
    // In single quotes a backslash may escape a quote, which TOML cannot say; there the grammar comes first.
    if value.contains('\'') && value.contains('\\') {
        return grammar().or_else(|slip| toml(value).ok_or(slip));
    }
    toml(value).map_or_else(grammar, Ok)
}

/// The value if it is TOML as a whole, and one that a configuration may hold.
fn toml(text: &str) -> Option<Given> {
    fn element(node: Node, depth: usize) -> Option<Element> {
        use figment::value::Value;
        if depth > MAX_DEPTH {
            return None;
        }
        match node {
            Node::Scalar(Value::Bool(_, yes)) => Some(Element::Bool(yes)),
            Node::Scalar(Value::String(_, text)) => Some(Element::Text(text)),
            Node::Scalar(Value::Num(_, number)) => number
                .to_i128()
                .and_then(|whole| i64::try_from(whole).ok())
                .map(Element::Int)
                .or_else(|| number.to_f64().map(Element::Float)),
            Node::Scalar(_) | Node::Null | Node::Refused { .. } => None,
            Node::List(items) => Some(Element::List(items.into_iter().map(|item| element(item, depth + 1)).collect::<Option<_>>()?)),
            Node::Table(entries) => {
                let entry = |Entry { name, node, .. }| Some((name, element(node, depth + 1)?));
                Some(Element::Dict(entries.into_iter().map(entry).collect::<Option<_>>()?))
            }
        }
    }
    element(toml_text::value(text)?, 0).map(Given::Element)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    items: usize,
}

/// Where an unquoted text ends besides a comma and a closing bracket.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Value,
    /// A key in a table ends at `:` or `=`.
    Key,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn slip<T>(at: Range<usize>, message: impl Into<String>, hint: Option<&str>) -> Result<T, Slip> {
        Err(Slip { at, message: message.into(), hint: hint.map(str::to_owned) })
    }

    /// A slip at the character in hand.
    fn slip_here<T>(&self, message: impl Into<String>, hint: Option<&str>) -> Result<T, Slip> {
        Self::slip(self.at..self.at + self.peek().map_or(0, char::len_utf8), message, hint)
    }

    fn count(&mut self) -> Result<(), Slip> {
        self.items += 1;
        if self.items > MAX_ITEMS { self.slip_here(format!("more than {MAX_ITEMS} values in one override"), None) } else { Ok(()) }
    }

    fn whole(mut self) -> Result<Given, Slip> {
        let first_at = self.at;
        let first = self.given(0)?;
        self.skip_space();
        if self.peek() != Some(',') {
            return match self.peek() {
                None => Ok(first),
                Some(c) => self.slip_here(format!("unexpected `{c}`"), Some("put text with such characters in quotes")),
            };
        }
        let mut items = vec![self.plain(first, first_at)?];
        while self.take(',') {
            self.skip_space();
            if self.peek().is_none() {
                return self.slip_here("a value is missing after the last comma", Some("leave the comma out, or put the text in quotes"));
            }
            items.push(self.element(0)?);
            self.skip_space();
        }
        match self.peek() {
            None => Ok(Given::Sweep(Sweep::choice(items, true))),
            Some(c) => self.slip_here(format!("unexpected `{c}`"), Some("put text with such characters in quotes")),
        }
    }

    /// The element, and a slip for a sweep.
    fn plain(&self, given: Given, start: usize) -> Result<Element, Slip> {
        match given {
            Given::Element(element) => Ok(element),
            Given::Sweep(_) => Self::slip(start..self.at, "a sweep cannot stand inside another value", Some("sweep over the whole value")),
        }
    }

    fn element(&mut self, depth: usize) -> Result<Element, Slip> {
        self.skip_space();
        let start = self.at;
        let given = self.given(depth)?;
        self.plain(given, start)
    }

    fn given(&mut self, depth: usize) -> Result<Given, Slip> {
        self.skip_space();
        self.count()?;
        if depth > MAX_DEPTH {
            return self.slip_here(format!("nested deeper than {MAX_DEPTH} levels"), None);
        }
        match self.peek() {
            Some('[') => self.list(depth).map(Given::Element),
            Some('{') => self.dict(depth).map(Given::Element),
            Some(quote @ ('\'' | '"')) => self.quoted(quote).map(|text| Given::Element(Element::Text(text))),
            _ => self.unquoted(Place::Value, depth),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Element, Slip> {
        let start = self.at;
        self.take('[');
        let mut items = Vec::new();
        loop {
            self.skip_space();
            if self.take(']') {
                return Ok(Element::List(items));
            }
            items.push(self.element(depth + 1)?);
            self.skip_space();
            if !self.take(',') && self.peek() != Some(']') {
                return self.unclosed(start, ']');
            }
        }
    }

    fn unclosed<T>(&self, start: usize, close: char) -> Result<T, Slip> {
        match self.peek() {
            None => Self::slip(start..start + 1, format!("this has no closing `{close}`"), None),
            Some(c) => self.slip_here(format!("expected `,` or `{close}`, found `{c}`"), Some("put text with such characters in quotes")),
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Element, Slip> {
        let start = self.at;
        self.take('{');
        let mut entries: Vec<(String, Element)> = Vec::new();
        loop {
            self.skip_space();
            if self.take('}') {
                return Ok(Element::Dict(entries));
            }
            self.count()?;
            let key_at = self.at;
            let key = match self.peek() {
                Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
                _ => match self.unquoted(Place::Key, depth)? {
                    Given::Element(Element::Text(text)) => text,
                    // A number or a boolean as a key is its text.
                    _ => self.text[key_at..self.at].trim().to_owned(),
                },
            };
            let key_end = self.at;
            self.skip_space();
            if !self.take(':') && !self.take('=') {
                return match self.peek() {
                    Some(',' | '}') => Self::slip(key_at..key_end, "this key has no value", Some("a table is written `{key: value}`")),
                    _ => self.unclosed(start, '}'),
                };
            }
            let value = self.element(depth + 1)?;
            if entries.iter().any(|(known, _)| *known == key) {
                return Self::slip(key_at..key_end, format!("the key `{key}` is set twice"), Some("keep one of the two"));
            }
            entries.push((key, value));
            self.skip_space();
            if !self.take(',') && self.peek() != Some('}') {
                return self.unclosed(start, '}');
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, Slip> {
        let start = self.at;
        self.take(quote);
        let read = if quote == '"' { number_text::double_quoted(self.rest()) } else { number_text::single_quoted(self.rest()) };
        let (text, length) = match read {
            Ok(read) => read,
            Err(Some((offset, message))) => return Self::slip(self.at + offset..self.at + offset + 1, message, None),
            Err(None) => return Self::slip(start..start + 1, format!("this has no closing `{quote}`"), None),
        };
        self.at += length;
        let end = self.at;
        self.skip_space();
        match self.peek() {
            None | Some(',' | ')' | ']' | '}' | ':' | '=') => {}
            Some(_) => {
                return self.slip_here("text after the closing quote", Some("put the whole text in quotes; inside them a quote is `\\'`"));
            }
        }
        self.at = end;
        Ok(text)
    }

    /// A word, a number, text with spaces, or the call of a function.
    fn unquoted(&mut self, place: Place, depth: usize) -> Result<Given, Slip> {
        const ESCAPED: &str = "\\()[]{}:=, \t";
        let start = self.at;
        // Spaces at the end are not part of the text unless they are escaped.
        let (mut out, mut end, mut is_literal) = (String::new(), 0, true);
        while let Some(c) = self.peek() {
            let next = self.rest()[c.len_utf8()..].chars().next();
            match c {
                ',' | ')' | ']' | '}' => break,
                ':' | '=' if place == Place::Key => break,
                '\\' if next.is_some_and(|next| ESCAPED.contains(next)) => {
                    self.at += 1;
                    out.extend(next);
                    end = out.len();
                    is_literal = false;
                }
                '$' if next == Some('{') && place == Place::Value => {
                    let Some(length) = self.rest().find('}').filter(|length| *length > 2) else {
                        return Self::slip(self.at..self.at + 2, "this has no closing `}`", Some("to have `${` as text write `'\\${'`"));
                    };
                    out.push_str(&self.rest()[..=length]);
                    end = out.len();
                    self.at += length + 1;
                    continue;
                }
                '(' => return self.call(out.trim_end(), start, depth),
                '=' => return self.slip_here("a second `=`", Some("put a value with `=` in quotes: `key='a=b'`")),
                '[' | '{' | '\'' | '"' => {
                    return self.slip_here(format!("`{c}` inside unquoted text"), Some("put the whole text in quotes"));
                }
                _ => {
                    out.push(c);
                    if !c.is_whitespace() {
                        end = out.len();
                    }
                }
            }
            self.at += self.peek().map_or(0, char::len_utf8);
        }
        out.truncate(end);
        if out.is_empty() {
            return self.slip_here("a value is missing here", Some("an empty string is written `''`"));
        }
        let element = if is_literal { number_text::literal(&out) } else { None };
        Ok(Given::Element(element.unwrap_or(Element::Text(out))))
    }

    fn call(&mut self, name: &str, start: usize, depth: usize) -> Result<Given, Slip> {
        let open = self.at;
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
            && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !is_name {
            return self.slip_here("`(` inside unquoted text", Some("put the whole text in quotes"));
        }
        self.take('(');
        let mut call = Call { name, args: Vec::new(), named: Vec::new() };
        self.skip_space();
        while !self.take(')') {
            let at = self.at;
            if let Some(argument) = self.argument_name() {
                let given = self.given(depth + 1)?;
                if call.named.iter().any(|(known, _)| *known == argument) {
                    return Self::slip(at..self.at, format!("`{argument}` is given twice"), None);
                }
                call.named.push((argument, given));
            } else if call.named.is_empty() {
                let given = self.given(depth + 1)?;
                call.args.push(given);
            } else {
                return self.slip_here("a value without a name after one with a name", None);
            }
            self.skip_space();
            if self.take(',') {
                self.skip_space();
                if self.peek() == Some(')') {
                    return self.slip_here("a value is missing after the last comma", None);
                }
            } else if self.peek() != Some(')') {
                return self.unclosed(open, ')');
            }
        }
        functions::call(call).or_else(|(message, hint)| Self::slip(start..self.at, message, hint.as_deref()))
    }

    /// `name =` before an argument's value.
    fn argument_name(&mut self) -> Option<String> {
        let name: &str = self.rest().split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).next()?;
        let after = self.rest()[name.len()..].trim_start();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !after.starts_with('=') {
            return None;
        }
        self.at = self.text.len() - after.len() + 1;
        Some(name.to_owned())
    }
}
