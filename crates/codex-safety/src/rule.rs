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

/// A rule by a pattern, whose first group that took part is the finding, and a check of it.
#[derive(Debug)]
pub struct PatternRule {
    pub(crate) id: &'static str,
    pub(crate) category: Category,
    pub(crate) description: &'static str,
    pub(crate) keywords: &'static [&'static str],
    pattern: Regex,
    accept: fn(&Candidate<'_>) -> bool,
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
        let pattern = Regex::new(pattern).map_err(|source| SafetyError::Pattern { rule: id.to_owned(), source: Box::new(source) })?;
        Ok(Self { id, category, description, keywords, pattern, accept })
    }
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
        for captures in self.pattern.captures_iter(text) {
            let Some(whole) = captures.get(0) else { continue };
            let value = captures.iter().skip(1).flatten().next().unwrap_or(whole);
            let candidate = Candidate {
                value: value.as_str(),
                whole: whole.as_str(),
                before: &text[floor(text, whole.start().saturating_sub(32))..whole.start()],
                after: &text[whole.end()..floor(text, (whole.end() + 16).min(text.len()))],
            };
            if (self.accept)(&candidate) {
                found.push(value.range());
            }
        }
    }
}

/// The character boundary at or before a byte position.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
