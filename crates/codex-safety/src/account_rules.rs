//! Payment cards and bank accounts, whose numbers have no end of their own: they are looked for at the starts of the groups of a run of digits, and
//! taken as long as their issuer makes them.

use std::ops::Range;

use regex::Regex;

use crate::check::{card_prefix, iban, iban_length, luhn};
use crate::error::SafetyError;
use crate::rule::{Category, SafetyRule, compiled};

/// Payment card numbers.
#[derive(Debug)]
pub struct CardRule {
    /// Digits with at most one space or hyphen between two of them, as many as go on.
    run: Regex,
    /// Digits at the end of a text, with what may stand between two of them.
    open: Regex,
}

impl CardRule {
    /// The rule.
    pub fn new() -> Result<Self, SafetyError> {
        Ok(Self { run: compiled("card", r"[0-9](?:[ -]?[0-9]){12,}")?, open: compiled("card", r"[0-9](?:[ -]?[0-9])*[ -]?$")? })
    }
}

/// Digits of a card number, at least and at most.
const CARD_DIGITS: Range<usize> = 13..20;

impl SafetyRule for CardRule {
    fn id(&self) -> &'static str {
        "card"
    }

    fn category(&self) -> Category {
        Category::PersonalData
    }

    fn description(&self) -> &'static str {
        "payment card number"
    }

    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        for run in self.run.find_iter(text) {
            let groups = groups(run.as_str());
            for first in 0..groups.len() {
                let mut n_digits = 0;
                for last in first..groups.len() {
                    n_digits += groups[last].len();
                    if n_digits >= CARD_DIGITS.end {
                        break;
                    }
                    let all = first == 0 && last + 1 == groups.len();
                    if n_digits < CARD_DIGITS.start || !(all || printed_so(&groups[first..=last])) {
                        continue;
                    }
                    let range = run.start() + groups[first].start..run.start() + groups[last].end;
                    let number = &text[range.clone()];
                    if card_prefix(number) && luhn(number) && stands_alone(text, &run.range(), &range) {
                        found.push(range);
                    }
                }
            }
        }
    }

    fn open_from(&self, text: &str) -> Option<usize> {
        Some(self.open.find(text)?.start())
    }
}

/// The groups of digits between single signs.
fn groups(run: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut groups = Vec::new();
    for group in run.split([' ', '-']) {
        groups.push(start..start + group.len());
        start += group.len() + 1;
    }
    groups
}

/// Whether cards have their digits in such groups. Among other numbers, any other grouping would be chance.
fn printed_so(groups: &[Range<usize>]) -> bool {
    let lengths: Vec<usize> = groups.iter().map(ExactSizeIterator::len).collect();
    match lengths.as_slice() {
        [_] | [4, 6, 4 | 5] | [4, 3, 3, 3] => true,
        [start @ .., last] => start.iter().all(|n| n.is_multiple_of(4)) && (last.is_multiple_of(4) || *last == 3),
        [] => false,
    }
}

/// Whether a number in a run of digits is not part of an identifier or a decimal at either end of the run.
fn stands_alone(text: &str, run: &Range<usize>, range: &Range<usize>) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let joined_before = || text[..range.start].ends_with(|c| word(c) || matches!(c, '-' | '.' | '+'));
    let mut after = text[range.end..].chars();
    let (next, second) = (after.next(), after.next());
    let decimal = next == Some('.') && second.is_some_and(|c| c.is_ascii_digit());
    let joined_after = next.is_some_and(|c| word(c) || c == '-') || decimal;
    (range.start > run.start || !joined_before()) && (range.end < run.end || !joined_after)
}

/// International bank account numbers.
#[derive(Debug)]
pub struct IbanRule {
    start: Regex,
    /// A number that goes to the end of a text.
    open: Regex,
}

impl IbanRule {
    /// The rule.
    pub fn new() -> Result<Self, SafetyError> {
        Ok(Self {
            start: compiled("iban", r"\b[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]")?,
            open: compiled("iban", r"\b[A-Z]{2}[0-9]{2}[A-Z0-9 -]*$")?,
        })
    }
}

impl SafetyRule for IbanRule {
    fn id(&self) -> &'static str {
        "iban"
    }

    fn category(&self) -> Category {
        Category::PersonalData
    }

    fn description(&self) -> &'static str {
        "bank account number (IBAN)"
    }

    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        for start in self.start.find_iter(text).map(|start| start.start()) {
            let Some(length) = iban_length(&text[start..start + 2]) else { continue };
            let range = start..start + spaced(&text[start..], length);
            // The country's length and the check digits say where it ends, whatever is written behind it.
            if iban(&text[range.clone()]) {
                found.push(range);
            }
        }
    }

    fn open_from(&self, text: &str) -> Option<usize> {
        Some(self.open.find(text)?.start())
    }
}

/// The bytes of the first `n` capitals and digits of a text, with at most one space or hyphen before each; fewer where they end.
fn spaced(text: &str, n: usize) -> usize {
    let (mut end, mut n_found, mut separated) = (0, 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'A'..=b'Z' | b'0'..=b'9' => {
                (end, n_found, separated) = (at + 1, n_found + 1, false);
                if n_found == n {
                    break;
                }
            }
            b' ' | b'-' if !separated => separated = true,
            _ => break,
        }
    }
    end
}
