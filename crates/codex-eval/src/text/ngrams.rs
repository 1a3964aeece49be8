//! Words and runs of neighbours, counted. It knows no language: a word is what stands between white space.

use std::collections::BTreeMap;

/// The characters of string.punctuation in Python: those of ASCII that print and are neither letter nor digit nor space.
pub(super) fn is_punctuation(character: char) -> bool {
    character.is_ascii_punctuation()
}

/// White space as `str.split` of Python has it: Unicode's, and the four separators U+001C to U+001F.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// The words of a text, as `str.split` of Python gives them.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// How often each run of `n` neighbours occurs; none in a sequence that is shorter. Memory is linear in the sequence.
pub(super) fn counts<T: Ord>(items: &[T], n: usize) -> BTreeMap<&[T], u64> {
    let mut counts = BTreeMap::new();
    // No run of nothing is asked for, and `windows` would panic.
    for run in items.windows(n.max(1)) {
        *counts.entry(run).or_default() += 1;
    }
    counts
}

/// How many occurrences two counts share: each run as often as the one that has fewer of it.
pub(super) fn shared<K: Ord>(some: &BTreeMap<K, u64>, others: &BTreeMap<K, u64>) -> u64 {
    some.iter().map(|(run, &count)| others.get(run).map_or(0, |&other| count.min(other))).sum()
}

/// How many runs of `n` neighbours a sequence of this length has.
pub(super) fn n_runs(len: usize, n: usize) -> u64 {
    (len + 1).saturating_sub(n) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_and_shared() {
        let some = ["a", "b", "a", "b"];
        assert_eq!(counts(&some, 2), BTreeMap::from([(&["a", "b"][..], 2), (&["b", "a"][..], 1)]));
        assert_eq!(shared(&counts(&some, 1), &counts(&["b", "b", "b", "a"], 1)), 3);
        assert_eq!((counts(&some, 5).len(), n_runs(4, 5), n_runs(4, 4), n_runs(0, 1), n_runs(4, 1)), (0, 0, 1, 0, 4));
    }

    #[test]
    fn white_space_is_that_of_python() {
        let text = "a\u{1c}b\u{1f}c\u{85}d\u{a0}e\u{3000}f\u{200b}g \n h";
        assert_eq!(words(text).collect::<Vec<_>>(), ["a", "b", "c", "d", "e", "f\u{200b}g", "h"]);
        assert_eq!(words(" \t ").count(), 0);
    }
}
