//! Texts of single values: what a bare word means, what a quoted one holds, and how Python prints a float.

use crate::element::Element;

/// The number, boolean or null that a bare word is, by the tokens of Hydra's grammar; `None` for text.
pub(crate) fn literal(word: &str) -> Option<Element> {
    if word.eq_ignore_ascii_case("null") {
        return Some(Element::Null);
    }
    if let Some(yes) = [true, false].into_iter().find(|yes| word.eq_ignore_ascii_case(if *yes { "true" } else { "false" })) {
        return Some(Element::Bool(yes));
    }
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let digits = word.replace('_', "");
    if is_whole(unsigned) {
        // What does not fit stays text, so that no digit is lost where a string is wanted.
        return digits.parse().ok().map(Element::Int);
    }
    let endless = ["inf", "nan"].iter().any(|name| unsigned.eq_ignore_ascii_case(name));
    (endless || is_decimal(unsigned)).then(|| digits.to_lowercase().parse().ok().map(Element::Float))?
}

/// `0`, `10`, `1_000`; not `01`.
fn is_whole(text: &str) -> bool {
    text == "0" || (is_digits(text) && !text.starts_with('0'))
}

/// Digits with single underscores between them.
fn is_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |n: usize| bytes[n] == b'_' && n > 0 && n + 1 < bytes.len() && bytes[n + 1] != b'_';
    !bytes.is_empty() && (0..bytes.len()).all(|n| bytes[n].is_ascii_digit() || inner(n))
}

/// `1.`, `.5`, `1.5`, `1e-3`, `.5E+2`.
fn is_decimal(text: &str) -> bool {
    let is_point = |text: &str| {
        text.split_once('.').is_some_and(|(whole, part)| {
            if part.is_empty() { is_whole(whole) } else { (whole.is_empty() || is_whole(whole)) && is_digits(part) }
        })
    };
    match text.split_once(['e', 'E']) {
        None => is_point(text),
        Some((number, exponent)) => {
            (is_whole(number) || is_point(number)) && is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))
        }
    }
}

/// The string before the closing single quote, and the bytes up to after it; `Err(None)` when there is no closing quote.
///
/// Backslashes mean something before a quote only: half of them stay, and an odd one makes the quote part of the text.
pub(crate) fn single_quoted(text: &str) -> Result<(String, usize), Option<(usize, String)>> {
    let (mut out, mut backslashes) = (String::new(), 0);
    for (at, c) in text.char_indices() {
        if c == '\\' {
            backslashes += 1;
            continue;
        }
        let kept = if c == '\'' { backslashes / 2 } else { backslashes };
        out.push_str(&"\\".repeat(kept));
        if c == '\'' && backslashes % 2 == 0 {
            return Ok((out, at + 1));
        }
        out.push(c);
        backslashes = 0;
    }
    Err(None)
}

/// The same for double quotes, with the escapes of TOML and JSON; any other backslash is itself.
pub(crate) fn double_quoted(text: &str) -> Result<(String, usize), Option<(usize, String)>> {
    let mut out = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c == '"' {
            return Ok((out, at + 1));
        }
        let escape = if c == '\\' { text[at + 1..].chars().next() } else { None };
        let Some(escape) = escape else {
            out.push(c);
            at += c.len_utf8();
            continue;
        };
        let (decoded, length) = match escape {
            '"' | '\\' | '/' => (escape, 2),
            'n' => ('\n', 2),
            't' => ('\t', 2),
            'r' => ('\r', 2),
            'b' => ('\u{8}', 2),
            'f' => ('\u{c}', 2),
            'e' => ('\u{1b}', 2),
            'u' | 'U' => unicode(&text[at..]).ok_or_else(|| Some((at, format!("`\\{escape}` is followed by no character's number"))))?,
            _ => {
                out.push('\\');
                at += 1;
                continue;
            }
        };
        out.push(decoded);
        at += length;
    }
    Err(None)
}

/// The character of `\u00e9`, of JSON's pair `\ud83d\ude00` or of TOML's `\U0001f600`, and its bytes.
fn unicode(text: &str) -> Option<(char, usize)> {
    let hex = |from: usize, digits: usize| {
        let part = text.get(from..from + digits).filter(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u32::from_str_radix(part, 16).ok()
    };
    if text.starts_with("\\U") {
        return Some((char::from_u32(hex(2, 8)?)?, 10));
    }
    let first = hex(2, 4)?;
    if (0xd800..0xdc00).contains(&first) && text.get(6..8) == Some("\\u") {
        let second = hex(8, 4).filter(|second| (0xdc00..0xe000).contains(second))?;
        return Some((char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, 12));
    }
    Some((char::from_u32(first)?, 6))
}

/// The float as Python's `str` has it: `1.0`, `1e-05`, `1e+16`.
pub(crate) fn python_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return number.to_string().to_lowercase() };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
        }
        _ => {
            let plain = number.to_string();
            if plain.contains('.') { plain } else { format!("{plain}.0") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_word_is_what_hydra_takes_it_for() {
        for (word, number) in [("0", 0), ("-10", -10), ("+7", 7), ("1_000_000", 1_000_000)] {
            assert_eq!(literal(word), Some(Element::Int(number)), "{word}");
        }
        for (word, number) in [(".5", 0.5), ("1.", 1.0), ("1e-3", 1e-3), ("-.5E+2", -50.0), ("1_0.2_5", 10.25), ("-INF", f64::NEG_INFINITY)]
        {
            assert_eq!(literal(word), Some(Element::Float(number)), "{word}");
        }
        assert!(matches!(literal("NaN"), Some(Element::Float(number)) if number.is_nan()));
        assert_eq!((literal("TRUE"), literal("Null")), (Some(Element::Bool(true)), Some(Element::Null)));
        for word in ["01", "1__0", "_1", "1_", ".", "e3", "1e", "0x10", "1.2.3", "None", "yes", "infinity", "99999999999999999999", "+"] {
            assert_eq!(literal(word), None, "{word}");
        }
    }

    #[test]
    fn quotes() {
        assert_eq!(single_quoted(r"it\'s' x"), Ok(("it's".to_owned(), 6)));
        assert_eq!(single_quoted(r"a\\'"), Ok((r"a\".to_owned(), 4)));
        assert_eq!(single_quoted(r"\d\n'"), Ok((r"\d\n".to_owned(), 5)));
        assert_eq!(single_quoted(r"open\'"), Err(None));
        assert_eq!(double_quoted(r#"a\nb\"c\d""#), Ok(("a\nb\"c\\d".to_owned(), 10)));
        assert_eq!(double_quoted("\\u00e9\\ud83d\\ude00\\U0001f600\""), Ok(("é😀😀".to_owned(), 29)));
        assert!(matches!(double_quoted("\\ud83d\""), Err(Some((0, _)))));
        assert_eq!(double_quoted("open"), Err(None));
    }

    #[test]
    fn floats_are_printed_as_python_does() {
        for (number, text) in [(1.0, "1.0"), (0.1, "0.1"), (1e-5, "1e-05"), (1.5e-7, "1.5e-07"), (1e16, "1e+16"), (123_456.5, "123456.5")] {
            assert_eq!(python_float(number), text);
        }
        assert_eq!((python_float(f64::INFINITY), python_float(f64::NAN)), ("inf".to_owned(), "nan".to_owned()));
    }
}
