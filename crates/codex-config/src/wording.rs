//! What serde says of a wrong value, in words for the person who wrote the config.

use codex_core::suggest;
use figment::error::{Actual, Kind};
use figment::value::Value;

use crate::schema::list;
use crate::source::shortened;

/// ``string `x` ``, ``integer `-1` ``, `a list`: the value in an error's words.
pub(crate) fn found(value: &Value) -> String {
    found_actual(&value.to_actual())
}

fn found_actual(actual: &Actual) -> String {
    match actual {
        Actual::Bool(yes) => format!("boolean `{yes}`"),
        Actual::Unsigned(number) => format!("integer `{number}`"),
        Actual::Signed(number) => format!("integer `{number}`"),
        Actual::Float(number) => format!("number `{number:?}`"),
        Actual::Char(text) => format!("string `{text}`"),
        Actual::Str(text) if text.is_empty() => "an empty string".to_owned(),
        Actual::Str(text) => format!("string `{}`", shortened(text)),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        Actual::Unit | Actual::Option => "no value".to_owned(),
        other => other.to_string(),
    }
}

/// The message and the hint for a value that serde refuses; `variants` are the names that an enum at this place takes.
pub(crate) fn refusal(kind: &Kind, variants: Option<&[&str]>) -> (String, Option<String>) {
    match kind {
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            let wanted = match variants {
                Some(names) => format!("one of {}", list(names.iter().copied())),
                None => expected_text(expected),
            };
            (format!("expected {wanted}, found {}", found_actual(actual)), hint(actual, expected))
        }
        Kind::InvalidLength(length, expected) => (format!("expected {}, found {length} values", expected_text(expected)), None),
        Kind::UnknownVariant(name, names) => {
            let near = suggest::nearest(name, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            (format!("unknown value `{}`; expected one of {}", shortened(name), list(names.iter().copied())), near)
        }
        Kind::UnknownField(name, names) => {
            let near = suggest::nearest(name, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            ("unknown key".to_owned(), near.or_else(|| Some(format!("known keys here: {}", list(names.iter().copied())))))
        }
        Kind::MissingField(_) => ("this key has to be set when others of its table are".to_owned(), None),
        Kind::Message(text) => (text.clone(), None),
        other => (other.to_string(), None),
    }
}

fn expected_text(expected: &str) -> String {
    let sized = |expected: &str| expected.rsplit(' ').find_map(|word| word.parse::<usize>().ok());
    match expected {
        "u8" => "an integer from 0 to 255".to_owned(),
        "u16" => "an integer from 0 to 65535".to_owned(),
        "u32" => "an integer from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "an integer of at least 0".to_owned(),
        "i8" => "an integer from -128 to 127".to_owned(),
        "i16" => "an integer from -32768 to 32767".to_owned(),
        "i32" => "an integer from -2147483648 to 2147483647".to_owned(),
        "i64" | "isize" => "an integer".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        "path string" => "a path in quotes".to_owned(),
        _ if expected.starts_with("a nonzero u") => "an integer of at least 1".to_owned(),
        _ if expected.starts_with("struct ") => "a table".to_owned(),
        _ if expected.starts_with("enum ") => "one of the names it knows".to_owned(),
        _ if expected.starts_with("a tuple") || expected.starts_with("an array of") => {
            sized(expected).map_or_else(|| "a list".to_owned(), |n| format!("a list of {n} values"))
        }
        other => other.to_owned(),
    }
}

/// The slips that every format invites.
fn hint(actual: &Actual, expected: &str) -> Option<String> {
    let integer = matches!(expected, "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize")
        || expected.starts_with("a nonzero");
    let number = integer || matches!(expected, "f32" | "f64");
    match actual {
        Actual::Str(text) if expected == "a boolean" => match text.to_lowercase().as_str() {
            "yes" | "on" | "true" => Some("write `true`".to_owned()),
            "no" | "off" | "false" => Some("write `false`".to_owned()),
            _ => None,
        },
        Actual::Str(text) if number && text.trim_start_matches(['+', '-']).to_lowercase().parse::<f64>().is_ok_and(|n| !n.is_finite()) => {
            Some("write a finite number".to_owned())
        }
        Actual::Str(text) if number => {
            let digits = text.replace(['_', ' ', ','], "");
            let plain = digits.parse::<i64>().map(|whole| whole.to_string()).ok();
            let plain = plain.or_else(|| digits.parse::<f64>().ok().filter(|n| n.is_finite() && !integer).map(|_| digits.clone()));
            plain.map(|plain| format!("write `{plain}`, without quotes, separators or leading zeros"))
        }
        Actual::Float(value) if integer && value.fract().abs() < f64::EPSILON && value.abs() < 1e15 => {
            Some(format!("write `{value:.0}`, without a fraction or an exponent"))
        }
        Actual::Bool(_) | Actual::Signed(_) | Actual::Unsigned(_) | Actual::Float(_) if expected == "a string" => {
            Some("put it in quotes".to_owned())
        }
        Actual::Str(_) if expected == "a sequence" => Some("a list is written `[1, 2]`".to_owned()),
        Actual::Unit | Actual::Option if expected == "a string" => {
            Some("the text is written `'null'`; `~key` takes a value away".to_owned())
        }
        Actual::Unit | Actual::Option => Some("only an option can have no value; `~key` takes a value away".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_in_words() {
        let told = |actual: Actual, expected: &str| {
            let (message, hint) = refusal(&Kind::InvalidType(actual, expected.to_owned()), None);
            format!("{message} / {}", hint.unwrap_or_default())
        };
        assert_eq!(told(Actual::Signed(300), "u8"), "expected an integer from 0 to 255, found integer `300` / ");
        assert_eq!(told(Actual::Signed(0), "a nonzero usize"), "expected an integer of at least 1, found integer `0` / ");
        assert_eq!(told(Actual::Str("x".to_owned()), "struct Train"), "expected a table, found string `x` / ");
        assert_eq!(told(Actual::Seq, "an array of length 2"), "expected a list of 2 values, found a list / ");
        assert_eq!(
            told(Actual::Float(1000.0), "usize"),
            "expected an integer of at least 0, found number `1000.0` / write `1000`, without a fraction or an exponent"
        );
        assert_eq!(told(Actual::Bool(true), "a string"), "expected a string, found boolean `true` / put it in quotes");
        assert_eq!(refusal(&Kind::InvalidLength(3, "a tuple of size 2".to_owned()), None).0, "expected a list of 2 values, found 3 values");
    }
}
