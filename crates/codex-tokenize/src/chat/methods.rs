//! The methods of Python's texts, lists and dictionaries. Those that can make much of little are done here, within the budget; the others are
//! `minijinja-contrib`'s.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, FormatStyle, State, Value, format_filter};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::budget::{Budget, PaidText};
use super::python;

/// The widest field that a text is formatted into, in digits.
const MAX_WIDTH_DIGITS: usize = 3;

/// `value.method(args)`.
pub(crate) fn call(budget: &Budget, state: &State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    budget.look(value)?;
    let Some(text) = value.as_str() else {
        return budget.settled(unknown_method_callback(state, value, method, args)?);
    };
    match method {
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            replace(budget, text, old, new, count)
        }
        "join" => {
            let (parts,): (&Value,) = from_args(args)?;
            join(budget, parts, text)
        }
        // The engine's looks for ever.
        "count" if args.first().and_then(Value::as_str) == Some("") => Ok(Value::from(text.chars().count() + 1)),
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" => {
            let (at,): (&str,) = from_args(args)?;
            let parts = text.split_once(at).map_or([text, "", ""], |(before, after)| [before, at, after]);
            Ok(Value::from(parts.map(Value::from).to_vec()))
        }
        "split" | "splitlines" => {
            budget.charge(text.len().saturating_mul(4))?;
            budget.settled(unknown_method_callback(state, value, method, args)?)
        }
        "format" => format(budget, FormatStyle::StrFormat, text, args),
        _ => budget.settled(unknown_method_callback(state, value, method, args)?),
    }
}

/// `text.replace(old, new, count)`.
pub(crate) fn replace(budget: &Budget, text: &str, old: &str, new: &str, count: Option<i64>) -> Result<Value, Error> {
    let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    budget.charge(text.len())?;
    let mut out = PaidText::new(budget);
    let mut from = 0;
    for (at, found) in text.match_indices(old).take(count) {
        out.push(&text[from..at])?;
        out.push(new)?;
        from = at + found.len();
    }
    out.push(&text[from..])?;
    Ok(Value::from(out.into_text()))
}

/// `separator.join(parts)`.
pub(crate) fn join(budget: &Budget, parts: &Value, separator: &str) -> Result<Value, Error> {
    let mut out = PaidText::new(budget);
    if parts.is_undefined() {
        return Ok(Value::from(""));
    }
    for (i, part) in parts.try_iter()?.enumerate() {
        budget.charge(1)?;
        if i > 0 {
            out.push(separator)?;
        }
        python::write_str(&mut out, &part)?;
    }
    Ok(Value::from(out.into_text()))
}

/// A text with values put in: Python's `%` style or `str.format`.
pub(crate) fn format(budget: &Budget, style: FormatStyle, text: &str, args: &[Value]) -> Result<Value, Error> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
    let nested = text.contains('*') || text.split(':').skip(1).any(|spec| spec.split('}').next().is_some_and(|spec| spec.contains('{')));
    if digits > MAX_WIDTH_DIGITS || nested {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "a format with a width of more than three digits, or one that is given as a value",
        ));
    }
    // Each place can print all of a value.
    let places = text.matches(['%', '{']).count();
    let mut sizes = 0_usize;
    for arg in args {
        sizes = sizes.saturating_add(match arg.kind() {
            ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => python::to_str(budget, arg)?.len(),
            _ => arg.as_str().map_or(64, str::len),
        });
    }
    budget.charge(places.saturating_mul(sizes.saturating_add(1000)).saturating_add(text.len()))?;
    format_filter(style, text, args).map(Value::from)
}
