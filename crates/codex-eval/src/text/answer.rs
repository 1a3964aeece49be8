//! Exact match and F1 of words between a short answer and the accepted ones, as in SQuAD (Rajpurkar et al. 2016, <https://arxiv.org/abs/1606.05250>,
//! and version 2 of its evaluation for answers of nothing, Rajpurkar et al. 2018, <https://arxiv.org/abs/1806.03822>).

use crate::text::f1;
use crate::text::ngrams::{counts, is_punctuation, is_space, shared, words};

/// The text in the form in which answers are compared: in lower case, without ASCII punctuation, without the words `a`, `an` and `the`, its words
/// parted by one space each.
///
/// An article ends where a character is neither letter, digit nor underscore, so that a typographic quote does not hide one.
pub fn normalised(text: &str) -> String {
    let lower: Vec<char> = text.to_lowercase().chars().filter(|&character| !is_punctuation(character)).collect();
    let mut kept = String::with_capacity(lower.len());
    for run in lower.chunk_by(|a, b| a.is_alphanumeric() == b.is_alphanumeric()) {
        if matches!(run, ['a'] | ['a', 'n'] | ['t', 'h', 'e']) {
            kept.push(' ');
        } else {
            kept.extend(run);
        }
    }
    kept.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// 1 where the prediction, [`normalised`], is one of the references, else 0.
pub fn exact_match(prediction: &str, references: &[String]) -> f64 {
    let prediction = normalised(prediction);
    if references.iter().any(|reference| normalised(reference) == prediction) { 1.0 } else { 0.0 }
}

/// The F1 of the words that prediction and reference share, 0 to 1: that of the reference for which it is highest.
///
/// Where nothing is left of one of them, it is 1 if nothing is left of the other either, else 0.
pub fn word_f1(prediction: &str, references: &[String]) -> f64 {
    let prediction = normalised(prediction);
    references.iter().map(|reference| f1_of_normalised(&prediction, &normalised(reference))).fold(0.0, f64::max)
}

fn f1_of_normalised(prediction: &str, reference: &str) -> f64 {
    let (said, wanted): (Vec<&str>, Vec<&str>) = (words(prediction).collect(), words(reference).collect());
    if said.is_empty() || wanted.is_empty() {
        return if said.len() == wanted.len() { 1.0 } else { 0.0 };
    }
    let same = shared(&counts(&said, 1), &counts(&wanted, 1)) as f64;
    f1(same / said.len() as f64, same / wanted.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn answers_are_compared_without_case_articles_and_punctuation() {
        for (text, want) in [
            ("The  Cat, sat!", "cat sat"),
            ("an apple a day", "apple day"),
            ("theatre anthem", "theatre anthem"),
            ("“the cat”", "“ cat”"),
            ("a_b the-re", "ab there"),
            ("The", ""),
            ("", ""),
        ] {
            assert_eq!(normalised(text), want, "{text}");
        }
    }

    #[test]
    fn the_best_reference_counts() {
        assert!((exact_match("the Cat.", &all(&["dog", "cat"])) - 1.0).abs() < 1e-12);
        assert!(exact_match("cats", &all(&["dog", "cat"])).abs() < 1e-12);
        // Two of three words are said, two of two are right.
        assert!((word_f1("red cat", &all(&["dog", "big red cat"])) - 0.8).abs() < 1e-12);
        // A word said twice is right once.
        assert!((word_f1("cat cat", &all(&["cat"])) - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_right_where_nothing_was_to_be_said() {
        for (prediction, reference, want) in
            [("", "", 1.0), ("the", "", 1.0), ("", "cat", 0.0), ("cat", "", 0.0), ("x", "y", 0.0), ("x", "x", 1.0)]
        {
            assert!((word_f1(prediction, &all(&[reference])) - want).abs() < 1e-12, "{prediction} {reference}");
        }
    }
}
