//! Which writing systems a text is written in.
//!
//! Reference: Unicode Standard Annex #24, "Unicode Script Property". A script is no language: French and English are both Latin.

use std::collections::BTreeMap;

use unicode_script::{Script, UnicodeScript};

/// The name of the writing system of a character, such as `Latin`, `Cyrillic` or `Han`; `None` for what several share (digits, punctuation, spaces,
/// emoji, combining marks) and for characters that have none.
pub fn script_of(c: char) -> Option<&'static str> {
    if c.is_ascii() {
        return c.is_ascii_alphabetic().then_some("Latin");
    }
    match c.script() {
        Script::Common | Script::Inherited | Script::Unknown => None,
        script => Some(script.full_name()),
    }
}

/// How many characters of each writing system a text has, by name and in name order. What [`script_of`] has no name for is not counted.
pub fn script_shares(text: &str) -> BTreeMap<&'static str, u64> {
    let mut shares = BTreeMap::new();
    let (mut current, mut run) = (None, 0_u64);
    for script in text.chars().filter_map(script_of) {
        if current != Some(script) {
            if let Some(name) = current {
                *shares.entry(name).or_default() += run;
            }
            (current, run) = (Some(script), 0);
        }
        run += 1;
    }
    if let Some(name) = current {
        *shares.entry(name).or_default() += run;
    }
    shares
}

/// The writing system that most of a text's characters have, the first by name among equals; `None` for a text without letters.
pub fn main_script(text: &str) -> Option<&'static str> {
    script_shares(text).into_iter().min_by_key(|&(name, n)| (std::cmp::Reverse(n), name)).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(text: &str) -> Vec<(&'static str, u64)> {
        script_shares(text).into_iter().collect()
    }

    #[test]
    fn each_letter_counts_for_its_writing_system() {
        assert_eq!(shares("Emma, 1815: Эмма"), [("Cyrillic", 4), ("Latin", 4)]);
        assert_eq!(shares("漢字とカナ"), [("Han", 2), ("Hiragana", 1), ("Katakana", 2)]);
        assert_eq!(
            shares("αβγ עברית عربي हिन्दी 한국 ไทย"),
            [("Arabic", 4), ("Devanagari", 6), ("Greek", 3), ("Hangul", 2), ("Hebrew", 5), ("Thai", 3)]
        );
        assert_eq!(shares("aЭaЭ"), [("Cyrillic", 2), ("Latin", 2)]);
    }

    #[test]
    fn what_several_share_is_not_counted() {
        assert_eq!(shares(""), []);
        assert_eq!(shares("0123 +-*/ ,.!? \n\t 🦀 \u{301} \u{3000} \u{10FFFF} \u{E000}"), []);
        assert_eq!(script_of('ª'), Some("Latin"));
        assert_eq!(script_of('µ'), None);
    }

    #[test]
    fn ascii_is_as_the_table_says() {
        for c in '\0'..='\u{7F}' {
            let table = Some(c.script()).filter(|script| *script == Script::Latin).map(Script::full_name);
            assert_eq!(script_of(c), table, "{c:?}");
        }
    }

    #[test]
    fn the_main_script_is_the_commonest() {
        assert_eq!(main_script("Эмма a"), Some("Cyrillic"));
        assert_eq!(main_script("Эa"), Some("Cyrillic"));
        assert_eq!(main_script("12 3"), None);
    }
}
