//! Passwords and keys in code and configuration: a name that says so, an assignment, and a value that someone has typed or generated.
//!
//! The value is read by hand, for it may be of any length: to the quote that closes it, or to the end of its run of characters.

use std::ops::Range;

use regex::Regex;

use crate::check::entropy;
use crate::error::SafetyError;
use crate::rule::{Category, SafetyRule, compiled, floor, run};
use crate::secret_rules::literal;

/// Finds such values.
#[derive(Debug)]
pub struct AssignmentRule {
    /// A name and the sign that assigns to it.
    assignment: Regex,
    /// The same at the end of a text, as far as it goes, and an opened quote.
    open: Regex,
}

const ID: &str = "password-in-code";

/// Names of secrets, as alternatives of a pattern.
const NAMES: &str = "password|passwd|passphrase|pwd|secret|api[_-]?key|access[_-]?key|auth[_-]?key|private[_-]?key|encryption[_-]?key|signing[_-]?key|credential|token";

/// Every name in each of its spellings; a text without one of them is not searched.
const KEYWORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "api_key",
    "api-key",
    "apikey",
    "access_key",
    "access-key",
    "accesskey",
    "auth_key",
    "auth-key",
    "authkey",
    "private_key",
    "private-key",
    "privatekey",
    "encryption_key",
    "encryption-key",
    "encryptionkey",
    "signing_key",
    "signing-key",
    "signingkey",
    "credential",
    "token",
];

/// The first bytes of an unquoted value, by which it is judged; a value may be as long as the text.
const JUDGED_BYTES: usize = 200;

/// The shortest values, quoted and not.
const LEAST_QUOTED: usize = 6;
const LEAST_BARE: usize = 8;

impl AssignmentRule {
    /// The rule.
    pub fn new() -> Result<Self, SafetyError> {
        // Quotes inside a quoted text have a backslash before them.
        let pattern = format!(r#"(?i)(?:{NAMES})[\w-]{{0,20}}[\\"'\]]{{0,4}}\s{{0,4}}(?::=|=>|==|=|:)\s{{0,4}}"#);
        let open = format!(
            r#"(?i)(?:{NAMES})[\w-]{{0,20}}[\\"'\]]{{0,4}}\s{{0,4}}(?:(?::=|=>|==|=|:)\s{{0,4}}(?:[a-z]{{0,2}}\\{{0,3}}["'`][^\r\n]*)?)?$"#
        );
        Ok(Self { assignment: compiled(ID, &pattern)?, open: compiled(ID, &open)? })
    }
}

impl SafetyRule for AssignmentRule {
    fn id(&self) -> &'static str {
        ID
    }

    fn category(&self) -> Category {
        Category::Secret
    }

    fn description(&self) -> &'static str {
        "password or key in code or configuration"
    }

    fn keywords(&self) -> &[&'static str] {
        KEYWORDS
    }

    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        let mut at = 0;
        let mut bare = 0..0;
        while let Some(assignment) = self.assignment.find_at(text, at) {
            at = assignment.end();
            let start = at + opening(&text[at..]);
            let quote = text[..start].chars().next_back().filter(|c| start > at && is_quote(*c));
            let range = if let Some(length) = quote.and_then(|quote| closing(&text[start..], quote)) {
                Some(start..start + length).filter(|range| quoted(&text[range.clone()]))
            } else {
                // Many names may stand in one run of characters, whose end is looked for once.
                if start >= bare.end {
                    bare = start..start + run(&text[start..], |c| !ends_bare(c));
                }
                Some(start..bare.end).filter(|range| is_bare(text, range))
            };
            if let Some(range) = range {
                at = range.end;
                found.push(range);
            }
        }
    }

    fn open_from(&self, text: &str) -> Option<usize> {
        Some(self.open.find(text)?.start())
    }
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

/// Whether a character ends a value without quotes.
fn ends_bare(c: char) -> bool {
    c.is_whitespace() || "\"'`,;(){}[]<>$|".contains(c)
}

/// The bytes up to and with a quote that a text begins with, the letters of a string's kind and backslashes before it; 0 without a quote.
fn opening(text: &str) -> usize {
    let kind = run(text, |c| c.is_ascii_alphabetic());
    let escapes = run(&text[kind..], |c| c == '\\');
    let quote = kind + escapes;
    if kind <= 2 && escapes <= 3 && text[quote..].starts_with(is_quote) { quote + 1 } else { 0 }
}

/// The bytes of a quoted value: up to its quote or the backslash of that, on the same line.
fn closing(text: &str, quote: char) -> Option<usize> {
    let end = text.find([quote, '\r', '\n'])?;
    text[end..].starts_with(quote).then(|| text[..end].trim_end_matches('\\').len())
}

/// A quoted value that is neither a name, a sentence nor an example.
fn quoted(value: &str) -> bool {
    let lower = || value.to_lowercase();
    let elsewhere = ["process.env", "os.environ", "getenv", "env.", "vault:", "secret:", "file:", "ref+", "arn:"];
    if value.chars().count() < LEAST_QUOTED || !typed(value) || elsewhere.iter().any(|word| lower().contains(word)) {
        return false;
    }
    let (digit, symbol) = (has(value, |c| c.is_ascii_digit()), has(value, is_symbol));
    if value.contains(char::is_whitespace) {
        // A sentence about passwords is not one; a passphrase with digits and symbols is.
        return digit && symbol && entropy(value) >= 3.0 && value.split_whitespace().count() <= 4;
    }
    (digit || symbol || (is_mixed(value) && value.len() >= 12))
        && (has(value, char::is_alphabetic) || value.len() >= 8)
        && entropy(value) >= 2.0
}

/// A value without quotes that is not an expression.
fn is_bare(text: &str, range: &Range<usize>) -> bool {
    let value = &text[range.start..floor(text, range.end.min(range.start + JUDGED_BYTES))];
    has(value, |c| c.is_ascii_digit())
        && has(value, char::is_alphabetic)
        && value.chars().count() >= LEAST_BARE
        && (has(value, is_symbol) || is_mixed(value) || value.len() >= 12)
        && typed(value)
        && !is_expression(value, &text[range.end..])
        && entropy(value) >= 2.8
}

fn typed(value: &str) -> bool {
    literal(value) && !value.contains("://") && !value.starts_with(['/', '.', '~'])
}

fn has(value: &str, test: fn(char) -> bool) -> bool {
    value.chars().any(test)
}

/// Whether a value has both cases.
fn is_mixed(value: &str) -> bool {
    has(value, char::is_lowercase) && has(value, char::is_uppercase)
}

/// A sign that names do not have.
fn is_symbol(c: char) -> bool {
    c.is_ascii_punctuation() && !matches!(c, '_' | '-' | '.')
}

/// A name, a call, a lookup or a path in a program, which stands for a value that is elsewhere.
fn is_expression(value: &str, after: &str) -> bool {
    let followed = after.starts_with(['(', '[', '.']) || after.starts_with("::");
    let identifier = |part: &str| part.chars().all(|c| c.is_alphanumeric() || c == '_') && !part.starts_with(|c: char| c.is_ascii_digit());
    let dotted = value.contains('.') && value.split('.').all(|part| !part.is_empty() && identifier(part));
    let pathlike = value.contains("::") || value.contains("->") || value.contains("&&") || value.contains('*') || value.contains('&');
    let snake = value.contains('_') && identifier(value) && value.chars().all(|c| c.is_lowercase() || c == '_' || c.is_ascii_digit());
    followed || dotted || pathlike || snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_every_name_has_a_keyword() {
        for name in NAMES.split('|') {
            for joint in ["_", "-", ""] {
                let spelled = name.replace("[_-]?", joint);
                assert!(spelled.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'-'), "{name} is not spelled out");
                assert!(KEYWORDS.iter().any(|keyword| spelled.contains(keyword)), "{spelled}");
            }
        }
    }
}
