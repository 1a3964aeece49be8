//! Showing a text while it grows, without showing what a rule will have found when it is whole.
//!
//! White space ends what most rules find. Of those that it does not end, [`SafetyRule::open_from`](crate::SafetyRule::open_from) says where the first
//! beginning of a finding stands from which white space goes on to the end of the text: a number in groups, `password =`, a first line of
//! a key block. The text before all of these, cut before a finding that reaches over the cut, is redacted as it will be in the end, and is shown;
//! the rest waits. Where a finding drops the text or stops the program, nothing is shown before the end.

use crate::scanner::Scanner;

/// A part of so many new bytes is looked at only when it is this share of the text, so that looking takes time in proportion to the text.
const SHARE: usize = 64;

/// A text that grows, and how much of it has been shown.
#[derive(Debug)]
pub struct EarlyText<'s> {
    scanner: &'s Scanner,
    text: String,
    /// Bytes that have been looked at.
    n_looked: usize,
    /// Bytes of the redacted text that have been given out.
    n_shown: usize,
}

impl<'s> EarlyText<'s> {
    /// A text without a word.
    pub fn new(scanner: &'s Scanner) -> Self {
        Self { scanner, text: String::new(), n_looked: 0, n_shown: 0 }
    }

    /// Takes the next piece of the text and returns what can be shown now. All that was returned is the beginning of what
    /// [`Scanner::apply`] keeps of the whole text.
    pub fn push(&mut self, piece: &str) -> String {
        self.text.push_str(piece);
        let last = self.text.char_indices().rfind(|(_, c)| c.is_whitespace());
        let end = last.map_or(0, |(at, c)| at + c.len_utf8());
        let is_worth_a_look = end > self.n_looked && end - self.n_looked >= self.text.len() / SHARE;
        let is_too_long = self.text.len() > self.scanner.config().max_text_bytes;
        if !is_worth_a_look || is_too_long || !self.scanner.shows_early() {
            return String::new();
        }
        self.n_looked = end;
        let decided = self.scanner.redact_decided(&self.text[..end]);
        let new = decided.get(self.n_shown..).unwrap_or_default().to_owned();
        self.n_shown += new.len();
        new
    }

    /// Bytes of the redacted text that have been shown.
    pub fn n_shown(&self) -> usize {
        self.n_shown
    }
}
