//! Values as Python prints them, since templates are written for it: `str`, `repr` and `json.dumps`.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::budget::{Budget, PaidText};

/// How deep a value is printed; those that nest deeper have been refused.
const MAX_DEPTH: usize = 200;

/// Python's `str(value)`; nothing for what is undefined.
pub(crate) fn write_str(out: &mut PaidText<'_>, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.push(text),
        None if value.is_undefined() => Ok(()),
        None => write_repr(out, value, 0),
    }
}

/// The text of a value, paid for.
pub(crate) fn to_str(budget: &Budget, value: &Value) -> Result<String, Error> {
    let mut out = PaidText::new(budget);
    write_str(&mut out, value)?;
    Ok(out.into_text())
}

/// Python's `repr(value)`.
fn write_repr(out: &mut PaidText<'_>, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value that nests too deeply to print"));
    }
    out.budget().charge(1)?;
    match value.kind() {
        ValueKind::Undefined => out.push("Undefined"),
        ValueKind::None => out.push("None"),
        ValueKind::Bool => out.push(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push(&number(value)),
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Map => {
            out.push("{")?;
            for (i, key) in value.try_iter()?.enumerate() {
                if i > 0 {
                    out.push(", ")?;
                }
                write_repr(out, &key, depth + 1)?;
                out.push(": ")?;
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push("}")
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push("[")?;
            for (i, item) in value.try_iter()?.enumerate() {
                if i > 0 {
                    out.push(", ")?;
                }
                write_repr(out, &item, depth + 1)?;
            }
            out.push("]")
        }
        _ => out.push(&value.to_string()),
    }
}

/// A text in the quotes that Python chooses.
fn write_quoted(out: &mut PaidText<'_>, text: &str) -> Result<(), Error> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            c if c == quote => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    out.push(&quoted)
}

/// A number as Python writes it.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// Python's `repr` of a float: the shortest digits that read back equal, with an exponent below 1e-4 and from 1e16 on.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) || number.to_bits() << 1 == 0 {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// How `json.dumps` is told to write.
#[derive(Debug, Default)]
pub(crate) struct JsonForm {
    ascii: bool,
    sorted: bool,
    /// What a level is indented by; all on one line when absent.
    indent: Option<String>,
    /// What stands between elements, and behind a key.
    separators: Option<(String, String)>,
}

impl JsonForm {
    /// The form that the arguments of `tojson` ask for: `ensure_ascii`, `indent`, `separators`, `sort_keys`, by place or by name.
    pub(crate) fn of(args: &[Value]) -> Result<Self, Error> {
        let (places, kwargs) = match args.split_last() {
            Some((last, places)) if last.is_kwargs() => (places, Some(Kwargs::try_from(last.clone())?)),
            _ => (args, None),
        };
        let given = |at: usize, name: &str| -> Result<Option<Value>, Error> {
            let named = kwargs.as_ref().map_or(Ok(None), |kwargs| kwargs.get::<Option<Value>>(name))?;
            Ok(places.get(at).cloned().or(named).filter(|value| !value.is_none() && !value.is_undefined()))
        };
        let mut form = Self {
            ascii: given(0, "ensure_ascii")?.is_some_and(|value| value.is_true()),
            sorted: given(3, "sort_keys")?.is_some_and(|value| value.is_true()),
            ..Self::default()
        };
        if let Some(indent) = given(1, "indent")? {
            let text = indent.as_str().map(str::to_owned);
            let width = indent.as_i64().and_then(|width| usize::try_from(width).ok());
            form.indent = text.or_else(|| width.filter(|&width| width <= 64).map(|width| " ".repeat(width)));
            if form.indent.as_ref().is_none_or(|indent| indent.len() > 64) {
                return Err(Error::new(ErrorKind::InvalidOperation, "tojson: expected an indent of at most 64"));
            }
        }
        if let Some(pair) = given(2, "separators")? {
            let pair: Vec<Value> = pair.try_iter()?.take(3).collect();
            let [item, key] = &pair[..] else {
                return Err(Error::new(ErrorKind::InvalidOperation, "tojson: expected two separators"));
            };
            form.separators = Some((item.as_str().unwrap_or(", ").to_owned(), key.as_str().unwrap_or(": ").to_owned()));
        }
        if let Some(kwargs) = kwargs {
            kwargs.assert_all_used()?;
        }
        Ok(form)
    }

    fn item_separator(&self) -> &str {
        let usual = if self.indent.is_some() { "," } else { ", " };
        self.separators.as_ref().map_or(usual, |(item, _)| item)
    }

    fn key_separator(&self) -> &str {
        self.separators.as_ref().map_or(": ", |(_, key)| key)
    }

    /// Python's `json.dumps(value)` in this form.
    pub(crate) fn write(&self, out: &mut PaidText<'_>, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: a value that nests too deeply"));
        }
        out.budget().charge(1)?;
        match value.kind() {
            ValueKind::None => out.push("null"),
            ValueKind::Bool => out.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push(&json_number(value)),
            ValueKind::String => self.write_text(out, value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                out.push("{")?;
                for (i, key) in keys.iter().enumerate() {
                    self.between(out, i, depth + 1)?;
                    match key.as_str() {
                        Some(text) => self.write_text(out, text)?,
                        None => self.write_text(out, &json_key(key))?,
                    }
                    out.push(self.key_separator())?;
                    self.write(out, &value.get_item(key)?, depth + 1)?;
                }
                self.end(out, keys.len(), depth, "}")
            }
            ValueKind::Seq | ValueKind::Iterable => {
                out.push("[")?;
                let mut count = 0;
                for item in value.try_iter()? {
                    self.between(out, count, depth + 1)?;
                    self.write(out, &item, depth + 1)?;
                    count += 1;
                }
                self.end(out, count, depth, "]")
            }
            other => Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: a value of kind {other} has no JSON"))),
        }
    }

    fn between(&self, out: &mut PaidText<'_>, index: usize, depth: usize) -> Result<(), Error> {
        if index > 0 {
            out.push(self.item_separator())?;
        }
        self.line(out, depth)
    }

    fn end(&self, out: &mut PaidText<'_>, count: usize, depth: usize, close: &str) -> Result<(), Error> {
        if count > 0 {
            self.line(out, depth)?;
        }
        out.push(close)
    }

    fn line(&self, out: &mut PaidText<'_>, depth: usize) -> Result<(), Error> {
        let Some(indent) = &self.indent else { return Ok(()) };
        out.push("\n")?;
        out.push_times(indent, depth)
    }

    fn write_text(&self, out: &mut PaidText<'_>, text: &str) -> Result<(), Error> {
        let mut quoted = String::with_capacity(text.len() + 2);
        quoted.push('"');
        for c in text.chars() {
            match c {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '\u{8}' => quoted.push_str("\\b"),
                '\u{c}' => quoted.push_str("\\f"),
                c if u32::from(c) < 0x20 => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
                c if self.ascii && !c.is_ascii() => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        quoted.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        out.push(&quoted)
    }
}

/// A number as `json.dumps` writes it.
fn json_number(value: &Value) -> String {
    match number(value).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        other => other.to_owned(),
    }
}

/// A key that is no text, as `json.dumps` makes one of it.
fn json_key(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
        _ => json_number(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &Value, args: &[Value]) -> String {
        let budget = Budget::new(0);
        let mut out = PaidText::new(&budget);
        JsonForm::of(args).unwrap().write(&mut out, value, 0).unwrap();
        out.into_text()
    }

    fn shown(value: &Value) -> String {
        to_str(&Budget::new(0), value).unwrap()
    }

    #[test]
    fn floats_are_as_python_writes_them() {
        for (number, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float(number), text);
        }
    }

    #[test]
    fn values_are_as_python_prints_them() {
        let map: Value = [("b", Value::from(true)), ("a", Value::from(vec![Value::from(()), Value::from("it's"), Value::from("\n'\"")]))]
            .into_iter()
            .collect();
        assert_eq!(shown(&map), r#"{'b': True, 'a': [None, "it's", '\n\'"']}"#);
        assert_eq!(shown(&Value::from("plain")), "plain");
        assert_eq!(shown(&Value::UNDEFINED), "");
        assert_eq!(shown(&Value::from(3)), "3");
    }

    #[test]
    fn json_is_as_python_dumps_it() {
        let map: Value = [("b", Value::from("é\u{1}\u{7f}<&'\"")), ("a", Value::from(vec![1, 2]))].into_iter().collect();
        assert_eq!(json(&map, &[]), "{\"b\": \"é\\u0001\u{7f}<&'\\\"\", \"a\": [1, 2]}");
        assert_eq!(json(&Value::from("é🦀"), &[Value::from(true)]), "\"\\u00e9\\ud83e\\udd80\"");
        let indented = json(&map, &[Value::from(false), Value::from(2)]);
        assert_eq!(indented, "{\n  \"b\": \"é\\u0001\u{7f}<&'\\\"\",\n  \"a\": [\n    1,\n    2\n  ]\n}");
        assert_eq!(json(&Value::from(Vec::<Value>::new()), &[Value::from(false), Value::from(4)]), "[]");
        assert!(JsonForm::of(&[Value::from(false), Value::from(1_000_000)]).is_err());
    }
}
