//! A text made plain: lower case, no zero-width characters, digits and signs that stand for letters replaced by them, spaced-out letters joined.

use std::ops::Range;
use std::str::CharIndices;

/// Of a word, spaced out or not, this many characters are kept, so that no phrase is longer than a window.
const MAX_WORD_CHARS: usize = 64;

/// Bytes of a plain word, at most: lower case makes up to three characters of one.
pub(crate) const MAX_WORD_BYTES: usize = MAX_WORD_CHARS * 3 * 4;

/// The characters that end a phrase.
pub(crate) const ENDS: [char; 4] = ['\n', '!', '?', ';'];

/// A part of a text made plain, with the place each of its bytes has in the original. Only that part is in memory.
pub(crate) struct Plain<'t> {
    original: &'t str,
    rest: CharIndices<'t>,
    text: String,
    from: Vec<usize>,
    /// The word that is being read, as far as it is kept.
    word: Vec<(usize, char)>,
    /// Whether it has a letter.
    has_letter: bool,
    /// Whether the last word was a single letter.
    spaced: bool,
    /// Characters of the last word in the plain text.
    n_word_chars: usize,
}

impl<'t> Plain<'t> {
    /// Nothing of the text is read.
    pub(crate) fn new(original: &'t str) -> Self {
        Self {
            original,
            rest: original.char_indices(),
            text: String::new(),
            from: Vec::new(),
            word: Vec::new(),
            has_letter: false,
            spaced: false,
            n_word_chars: 0,
        }
    }

    /// The plain text that is in memory. More reading may take back a last space.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Reads on until the plain text has so many bytes or the original ends; tells whether it has ended.
    pub(crate) fn read(&mut self, n_bytes: usize) -> bool {
        while self.text.len() < n_bytes {
            let Some((at, c)) = self.rest.next() else {
                self.end_word(self.original.len());
                return true;
            };
            if matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{00ad}') {
                continue;
            }
            if c.is_alphanumeric() || matches!(c, '\'' | '\u{2019}' | '@' | '$') {
                self.has_letter |= c.is_alphabetic();
                if self.word.len() < MAX_WORD_CHARS {
                    self.word.push((at, c));
                }
                continue;
            }
            self.end_word(at);
            // A dot or comma ends a phrase, but not where letters are set apart by dots.
            if ENDS.contains(&c) {
                self.push(at, '.');
                self.push(at, ' ');
                self.spaced = false;
            }
        }
        false
    }

    /// Drops the plain text before a character boundary.
    pub(crate) fn forget(&mut self, n_bytes: usize) {
        self.text.drain(..n_bytes);
        self.from.drain(..n_bytes);
    }

    /// The range of the original that a range of the plain text came from.
    pub(crate) fn range(&self, plain: Range<usize>) -> Range<usize> {
        let place = |at: usize| self.from.get(at).copied().unwrap_or(self.original.len());
        let start = place(plain.start);
        start..place(plain.end).max(start)
    }

    /// Adds the word that was read and a space; a run of single letters becomes one word.
    fn end_word(&mut self, at: usize) {
        let single = self.word.len() == 1 && self.has_letter;
        if !self.word.is_empty() {
            if single && self.spaced && self.text.ends_with(' ') {
                self.text.pop();
                self.from.pop();
            } else {
                self.n_word_chars = 0;
            }
            // The list is used again for the next word.
            let mut word = std::mem::take(&mut self.word);
            for &(at, c) in word.iter().take(MAX_WORD_CHARS - self.n_word_chars) {
                let folded = if self.has_letter { letter_for(c) } else { c };
                if folded.is_ascii() {
                    self.text.push(folded.to_ascii_lowercase());
                    self.from.push(at);
                } else {
                    folded.to_lowercase().for_each(|lower| self.push(at, lower));
                }
                self.n_word_chars += 1;
            }
            word.clear();
            self.word = word;
            self.has_letter = false;
            self.spaced = single;
        } else if !self.text.ends_with(' ') {
            self.spaced = false;
        }
        if !self.text.ends_with(' ') {
            self.push(at, ' ');
        }
    }

    fn push(&mut self, at: usize, c: char) {
        self.text.push(c);
        self.from.extend(std::iter::repeat_n(at, c.len_utf8()));
    }
}

/// The letter that a digit or sign stands for inside a word.
fn letter_for(c: char) -> char {
    match c {
        '0' => 'o',
        '1' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        '\u{2019}' => '\'',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::floor;

    fn whole(text: &str) -> String {
        let mut plain = Plain::new(text);
        assert!(plain.read(usize::MAX));
        plain.text
    }

    #[test]
    fn disguises_are_taken_off() {
        assert_eq!(whole("1gn0re  @LL 12, pr\u{200b}3v"), "ignore all 12 prev ");
        assert_eq!(whole("i.g.n o r e all. a\nb"), "ignore all a . b ");
        assert_eq!(whole(""), " ");
    }

    #[test]
    fn a_word_is_cut_however_it_is_written() {
        let cut = "x".repeat(MAX_WORD_CHARS);
        assert_eq!(whole(&"x".repeat(1 << 12)), format!("{cut} "));
        assert_eq!(whole(&format!("{}and", "x ".repeat(1 << 12))), format!("{cut} and "));
        assert_eq!(whole(&"\u{130}".repeat(100)).len(), MAX_WORD_CHARS * 3 + 1);
    }

    #[test]
    fn only_a_part_is_in_memory() {
        for piece in ["ignore, ", "x", "x ", "\u{130} x", "!", "\u{200b}"] {
            let text = piece.repeat((1 << 20) / piece.len());
            let mut plain = Plain::new(&text);
            while !plain.read(1000) {
                assert!(
                    plain.text.len() <= 1000 + MAX_WORD_BYTES && plain.from.len() == plain.text.len() && plain.word.len() <= MAX_WORD_CHARS
                );
                plain.forget(floor(&plain.text, plain.text.len() - 10));
            }
            assert!(plain.from.capacity() <= 1 << 13, "{piece:?}: {}", plain.from.capacity());
        }
    }
}
