//! The words of a text as GPT-2's pattern cuts it, found by one pass over its bytes.
//!
//! Reference: A. Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), `encoder.py`:
//! `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`. What is a letter, a number or a space is read from the tables of
//! `regex-syntax`, which is what the tokenizers library matches with, so both cut every text alike; the tests compare them.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as HirClass, HirKind};

/// What the pattern tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// `[^\s\p{L}\p{N}]`
    Other,
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
}

/// The class of every character, in blocks of 256 of which equal ones are kept once.
struct Classes {
    /// The block of each 256 characters.
    block_of: Vec<u8>,
    blocks: Vec<[Class; 256]>,
}

const N_BLOCKS: usize = 0x11_0000 / 256;

static CLASSES: LazyLock<Classes> = LazyLock::new(|| {
    let mut all = vec![[Class::Other; 256]; N_BLOCKS];
    for (pattern, class) in [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)] {
        for (first, last) in ranges(pattern) {
            for code in first..=last {
                all[code as usize / 256][code as usize % 256] = class;
            }
        }
    }
    let mut classes = Classes { block_of: Vec::with_capacity(N_BLOCKS), blocks: Vec::new() };
    for block in all {
        let at = classes.blocks.iter().position(|known| *known == block).unwrap_or_else(|| {
            classes.blocks.push(block);
            classes.blocks.len() - 1
        });
        classes.block_of.push(at as u8);
    }
    classes
});

/// The characters of a class, as first and last of each range. The patterns are constants that the tests parse.
fn ranges(pattern: &str) -> Vec<(u32, u32)> {
    let parsed = regex_syntax::Parser::new().parse(pattern).map(regex_syntax::hir::Hir::into_kind);
    let Ok(HirKind::Class(HirClass::Unicode(class))) = parsed else { return Vec::new() };
    class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
}

/// The same for ASCII, without a look at the table.
const ASCII: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b' ' | 9..=13 => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

/// The words of a text, in order and together the whole of it.
pub(crate) fn words(text: &str) -> Words<'_> {
    Words { text, at: 0, classes: &CLASSES }
}

/// The iterator of [`words`].
pub(crate) struct Words<'a> {
    text: &'a str,
    at: usize,
    classes: &'static Classes,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let start = self.at;
        let end = self.end_of_word(start)?;
        self.at = end;
        Some(&self.text[start..end])
    }
}

impl Words<'_> {
    /// The class of the character at a byte, and its length; `None` at the end.
    fn class_at(&self, at: usize) -> Option<(Class, usize)> {
        let first = *self.text.as_bytes().get(at)?;
        if first < 0x80 {
            return Some((ASCII[first as usize], 1));
        }
        let c = self.text[at..].chars().next()?;
        let code = u32::from(c) as usize;
        Some((self.classes.blocks[self.classes.block_of[code / 256] as usize][code % 256], c.len_utf8()))
    }

    /// Where the characters of a class end that begin at a byte.
    fn end_of_run(&self, mut at: usize, class: Class) -> usize {
        while let Some((found, length)) = self.class_at(at)
            && found == class
        {
            at += length;
        }
        at
    }

    /// Where the word that begins at a byte ends; `None` at the end of the text.
    fn end_of_word(&self, start: usize) -> Option<usize> {
        let (class, length) = self.class_at(start)?;
        let bytes = self.text.as_bytes();
        match class {
            Class::Letter | Class::Number => Some(self.end_of_run(start + length, class)),
            Class::Other => {
                let contraction = if bytes[start] == b'\'' { contraction(&bytes[start + 1..]) } else { 0 };
                Some(if contraction > 0 { start + 1 + contraction } else { self.end_of_run(start + length, class) })
            }
            Class::Space => {
                // One space belongs to the visible characters behind it.
                if bytes[start] == b' '
                    && let Some((next, next_length)) = self.class_at(start + 1)
                    && next != Class::Space
                {
                    return Some(self.end_of_run(start + 1 + next_length, next));
                }
                Some(self.end_of_spaces(start, start + length))
            }
        }
    }

    /// The spaces from `start`, of which the first ends at `first_end`: all of them at the end of the text, else all but the last, and one at least.
    fn end_of_spaces(&self, start: usize, first_end: usize) -> usize {
        let (mut before_last, mut end) = (start, first_end);
        loop {
            match self.class_at(end) {
                Some((Class::Space, length)) => (before_last, end) = (end, end + length),
                Some(_) if before_last > start => return before_last,
                Some(_) | None => return end,
            }
        }
    }
}

/// How many bytes behind an apostrophe belong to it.
fn contraction(rest: &[u8]) -> usize {
    match rest {
        [b's' | b't' | b'm' | b'd', ..] => 1,
        [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;
    use crate::tokenizer_json::byte_level;

    /// The words that the library's splitter makes.
    fn of_the_library(text: &str) -> Vec<&str> {
        let mut split = PreTokenizedString::from(text);
        byte_level().pre_tokenize(&mut split).unwrap();
        let places = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        places.into_iter().map(|(_, (start, end), _)| &text[start..end]).filter(|word| !word.is_empty()).collect()
    }

    /// The same pattern without the library's alphabet, which is faster.
    fn of_the_pattern(text: &str) -> Vec<&str> {
        static PATTERN: LazyLock<fancy_regex::Regex> = LazyLock::new(|| {
            fancy_regex::Regex::new(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+").unwrap()
        });
        PATTERN.find_iter(text).map(|found| found.unwrap().as_str()).collect()
    }

    fn cut(text: &str) -> Vec<&str> {
        words(text).collect()
    }

    #[test]
    fn published_examples_hold() {
        assert_eq!(cut("Hello world, it's 1815!!"), ["Hello", " world", ",", " it", "'s", " 1815", "!!"]);
        assert_eq!(cut("we'll they've 'tis isn't I'M"), ["we", "'ll", " they", "'ve", " '", "tis", " isn", "'t", " I", "'", "M"]);
        assert_eq!(cut("a  b\n\n c \t\n"), ["a", " ", " b", "\n\n", " c", " \t\n"]);
        assert_eq!(cut("x\u{3000}\u{a0}y"), ["x", "\u{3000}", "\u{a0}", "y"]);
        assert_eq!(cut(""), [""; 0]);
    }

    #[test]
    fn ascii_is_as_the_table_says() {
        let first = &CLASSES.blocks[CLASSES.block_of[0] as usize];
        assert_eq!(ASCII, first[..128]);
        assert!(CLASSES.blocks.len() < 200, "{}", CLASSES.blocks.len());
    }

    #[test]
    fn every_character_is_cut_as_the_library_does() {
        // Each context tells the class apart: behind a space, before and behind a letter, a number, a mark and spaces.
        let mut text = String::new();
        for c in ('\0'..=char::MAX).filter(|c| u32::from(*c) < 0x3_0000 || u32::from(*c) % 97 == 0 || u32::from(*c) / 0x1000 == 0xE0) {
            text.clear();
            for (before, after) in
                [("", ""), (" ", "a"), ("a", "1"), ("1", "!"), ("!", "\n"), ("'", "s"), ("  ", " "), (" ", "\n "), ("\n", "a")]
            {
                text.push_str(before);
                text.push(c);
                text.push_str(after);
            }
            assert_eq!(cut(&text), of_the_pattern(&text), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn every_scalar_in_one_text_is_cut_as_the_library_does() {
        let all: Vec<char> = ('\0'..=char::MAX).collect();
        for some in all.chunks(4096) {
            let text: String = some.iter().collect();
            assert_eq!(cut(&text), of_the_pattern(&text));
            let spaced: String = some.iter().flat_map(|c| [' ', *c, *c]).collect();
            assert_eq!(cut(&spaced), of_the_pattern(&spaced));
        }
    }

    #[test]
    fn the_pattern_of_the_tests_is_the_librarys() {
        let text = "Emma's  été 12½ 字字\u{3000} \r\n\t !?'re ' \u{85}x \u{301}";
        assert_eq!(of_the_pattern(text), of_the_library(text));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_text_is_cut_as_the_library_does(text in any::<String>()) {
            prop_assert_eq!(cut(&text), of_the_library(&text));
        }

        #[test]
        fn crowded_text_is_cut_as_the_library_does(text in prop::collection::vec(prop::sample::select(vec![
            "a", "the", "É", "字", "\u{301}", " ", " ", "  ", "\n", "\r\n", "\t", "'", "'", "s", "t", "re", "ll", "ve", "m", "d", "S", "1", "½",
            "٣", "\u{3000}", "\u{85}", "\u{200b}", "\u{a0}", "\u{2028}", "\u{180e}", "!", "_", "🦀", "\u{feff}", "\u{1}",
        ]), 0..40).prop_map(|parts| parts.concat())) {
            let library = of_the_library(&text);
            prop_assert_eq!(cut(&text), library);
        }
    }
}
