//! A rule: what it looks for, and how a match is told from what only looks like one.

use std::ops::Range;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::SafetyError;

/// What kind of thing a rule finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// A key, token or password.
    Secret,
    /// An address or number of a person.
    PersonalData,
    /// An attempt to talk a model out of its instructions.
    Jailbreak,
}

/// Finds one kind of thing in a text.
pub trait SafetyRule: Send + Sync {
    /// A short name, unique among the rules.
    fn id(&self) -> &str;

    /// What kind of thing it finds.
    fn category(&self) -> Category;

    /// One line for a person.
    fn description(&self) -> &str;

    /// Lower-case words of which a text must have one for the rule to be tried; none means always.
    fn keywords(&self) -> &[&'static str] {
        &[]
    }

    /// Appends the byte ranges of what it finds, on character boundaries.
    fn find(&self, text: &str, found: &mut Vec<Range<usize>>);

    /// For a text that ends with white space and may go on: a place such that whatever follows, all that is found to begin before it, and nothing
    /// else, is what is found in the text as it is; `None` where that is so of the whole text. A rule that does not know says 0: nothing is
    /// certain before the text has ended.
    fn open_from(&self, _text: &str) -> Option<usize> {
        Some(0)
    }
}

/// A match in its surroundings, for a rule's check.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'t> {
    /// What would be reported.
    pub value: &'t str,
    /// All that the pattern matched.
    pub whole: &'t str,
    /// The text before the whole match, at most 32 bytes.
    pub before: &'t str,
    /// The text after the whole match, at most 16 bytes.
    pub after: &'t str,
}

impl<'t> Candidate<'t> {
    /// The value in the match in the text.
    pub(crate) fn new(text: &'t str, whole: Range<usize>, value: Range<usize>) -> Self {
        Self {
            value: &text[value],
            before: &text[floor(text, whole.start.saturating_sub(32))..whole.start],
            after: &text[whole.end..floor(text, (whole.end + 16).min(text.len()))],
            whole: &text[whole],
        }
    }
}

/// A rule by a pattern, whose first group that took part is the finding, and a check of it.
#[derive(Debug)]
pub struct PatternRule {
    pub(crate) id: &'static str,
    pub(crate) category: Category,
    pub(crate) description: &'static str,
    pub(crate) keywords: &'static [&'static str],
    pattern: Regex,
    accept: fn(&Candidate<'_>) -> bool,
    /// Which characters behind an accepted value belong to it: a pattern bounds its repetitions, and what is longer must leave no tail.
    tail: fn(char) -> bool,
    /// The beginning of a match that white space does not end, at the end of a text.
    open: Option<Regex>,
    /// Whether a value that is not accepted is tried without its last words and a parenthesis that closes around it: the pattern of a number
    /// may run into the next one.
    shortens: bool,
}

impl PatternRule {
    pub(crate) fn new(
        id: &'static str,
        category: Category,
        description: &'static str,
        keywords: &'static [&'static str],
        pattern: &str,
        accept: fn(&Candidate<'_>) -> bool,
    ) -> Result<Self, SafetyError> {
        let pattern = compiled(id, pattern)?;
        Ok(Self { id, category, description, keywords, pattern, accept, tail: |_| false, open: None, shortens: false })
    }

    /// The rule with accepted values extended over such characters.
    pub(crate) fn with_tail(self, tail: fn(char) -> bool) -> Self {
        Self { tail, ..self }
    }

    /// The rule with matches that may have white space in them: the pattern finds what may be the beginning of one where a text ends.
    pub(crate) fn with_open(self, pattern: Option<&str>) -> Result<Self, SafetyError> {
        let open = pattern.map(|pattern| compiled(self.id, pattern)).transpose()?;
        Ok(Self { open, ..self })
    }

    /// The rule with values that are tried without their last words too.
    pub(crate) fn shortening(self) -> Self {
        Self { shortens: true, ..self }
    }

    /// The part of a matched value that is accepted: all of it, or up to a digit before a space or parenthesis.
    fn accepted(&self, text: &str, whole: &Range<usize>, value: &Range<usize>) -> Option<Range<usize>> {
        let accepts = |end: usize| {
            let all = whole.start..if end == value.end { whole.end } else { end };
            (self.accept)(&Candidate::new(text, all, value.start..end)).then_some(value.start..end)
        };
        let shorter = || {
            let ends = text[value.clone()].rmatch_indices([' ', ')']).map(|(offset, _)| value.start + offset);
            ends.filter(|&end| text[..end].ends_with(|c: char| c.is_ascii_digit())).find_map(accepts)
        };
        accepts(value.end).or_else(|| if self.shortens { shorter() } else { None })
    }
}

/// A rule's pattern, ready to search.
pub(crate) fn compiled(rule: &str, pattern: &str) -> Result<Regex, SafetyError> {
    Regex::new(pattern).map_err(|source| SafetyError::Pattern { rule: rule.to_owned(), source: Box::new(source) })
}

impl SafetyRule for PatternRule {
    fn id(&self) -> &str {
        self.id
    }

    fn category(&self) -> Category {
        self.category
    }

    fn description(&self) -> &str {
        self.description
    }

    fn keywords(&self) -> &[&'static str] {
        self.keywords
    }

    fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        let mut at = 0;
        while let Some(captures) = self.pattern.captures_at(text, at) {
            let Some(whole) = captures.get(0) else { break };
            let value = captures.iter().skip(1).flatten().next().unwrap_or(whole).range();
            let whole = whole.range();
            // The next search starts inside a match, so that what one match refuses or covers is still there for the next.
            at = match self.accepted(text, &whole, &value) {
                Some(range) => {
                    let end = range.end + run(&text[range.end..], self.tail);
                    found.push(range.start..end);
                    end
                }
                None if value.start > whole.start => value.start,
                None => whole.start + run(&text[whole.clone()], char::is_alphanumeric).max(char_at(text, whole.start)),
            };
        }
    }

    fn open_from(&self, text: &str) -> Option<usize> {
        Some(self.open.as_ref()?.find(text)?.start())
    }
}

/// The bytes of such characters that a text begins with.
pub(crate) fn run(text: &str, belongs: fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The bytes of the character at a place, 1 at the end.
fn char_at(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(1, char::len_utf8)
}

/// The character boundary at or before a byte position.
pub(crate) fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
