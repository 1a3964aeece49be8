//! The marks that a run leaves around what the assistant says, taken out of its text again.

use std::ops::Range;

/// A pair of marks that none of the texts contain.
pub(crate) fn marks(is_in_use: impl Fn(&str) -> bool) -> (String, String) {
    // Two characters that no text should have, with a number should one have them all the same.
    let mut number = 0_u64;
    loop {
        let stem = format!("\u{FDD0}{number}");
        if !is_in_use(&stem) {
            return (format!("{stem}\u{FDD1}"), format!("{stem}\u{FDD2}"));
        }
        number += 1;
    }
}

/// The text without its marks, and what stood between each pair; `None` when they are not in pairs one behind the other.
pub(crate) fn unmarked(marked: &str, marks: (&str, &str)) -> Option<(String, Vec<Range<usize>>)> {
    let (mut text, mut spans, mut rest) = (String::with_capacity(marked.len()), Vec::new(), marked);
    while let Some(at) = rest.find(marks.0) {
        if rest[..at].contains(marks.1) {
            return None;
        }
        text.push_str(&rest[..at]);
        rest = &rest[at + marks.0.len()..];
        let end = rest.find(marks.1)?;
        if rest[..end].contains(marks.0) {
            return None;
        }
        let start = text.len();
        text.push_str(&rest[..end]);
        spans.push(start..text.len());
        rest = &rest[end + marks.1.len()..];
    }
    if rest.contains(marks.1) {
        return None;
    }
    text.push_str(rest);
    Some((text, spans))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_out_in_pairs() {
        let of = |text: &str| unmarked(text, ("<", ">"));
        assert_eq!(of("a<b>c<>d"), Some(("abcd".to_owned(), vec![1..2, 3..3])));
        assert_eq!(of("abc"), Some(("abc".to_owned(), vec![])));
        for broken in ["a<b", "a>b", "<a<b>>", "<a>b>", "><"] {
            assert_eq!(of(broken), None, "{broken}");
        }
        let (open, close) = marks(|stem| stem == "\u{FDD0}0");
        assert_eq!((open.as_str(), close.as_str()), ("\u{FDD0}1\u{FDD1}", "\u{FDD0}1\u{FDD2}"));
    }
}
