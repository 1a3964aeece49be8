//! The answer in what a model wrote: what a pattern finds last, or first.

use regex::{Captures, Regex, RegexBuilder};

use crate::error::EvalError;

/// Most bytes of a pattern, and of the program that it becomes. The engine's time is linear in the text whatever the pattern is.
const MAX_PATTERN_BYTES: usize = 4096;
const MAX_PROGRAM_BYTES: usize = 1 << 20;

/// Which of several matches counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The first.
    First,
    /// The last, as where a model reasons before it answers.
    Last,
}

/// Finds answers.
#[derive(Clone, Debug)]
pub struct Extractor {
    pattern: Regex,
    which: Which,
}

impl Extractor {
    /// An extractor by a pattern of the crate `regex`; [`EvalError::Pattern`] where it is none, or too large.
    pub fn new(pattern: &str, which: Which) -> Result<Self, EvalError> {
        let wrong = |reason: String| EvalError::Pattern { pattern: pattern.chars().take(80).collect(), reason };
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(wrong(format!("longer than {MAX_PATTERN_BYTES} bytes")));
        }
        let built = RegexBuilder::new(pattern).size_limit(MAX_PROGRAM_BYTES).dfa_size_limit(MAX_PROGRAM_BYTES).build();
        // The engine draws the pattern above its reason, which is in the last line.
        let reason = |error: &regex::Error| error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Ok(Self { pattern: built.map_err(|error| wrong(reason(&error)))?, which })
    }

    /// What the match has in the first group that took part in it, or the whole match where the pattern has no group; `None` without a match.
    pub fn extract<'t>(&self, text: &'t str) -> Option<&'t str> {
        let mut matches = self.pattern.captures_iter(text);
        let found = match self.which {
            Which::First => matches.next(),
            Which::Last => matches.last(),
        };
        found.map(|found| Self::answer(&found))
    }

    fn answer<'t>(found: &Captures<'t>) -> &'t str {
        let group = found.iter().skip(1).flatten().next();
        group.or_else(|| found.get(0)).map_or("", |found| found.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::{ExitClass, Failure as _};
    use proptest::prelude::*;

    fn found<'t>(pattern: &str, which: Which, text: &'t str) -> Option<&'t str> {
        Extractor::new(pattern, which).unwrap().extract(text)
    }

    #[test]
    fn the_last_match_counts_unless_the_first_is_asked_for() {
        let text = "3 and 4 are 7. #### 7\nno, #### 12";
        assert_eq!(found(r"#### (-?\d+)", Which::Last, text), Some("12"));
        assert_eq!(found(r"#### (-?\d+)", Which::First, text), Some("7"));
        assert_eq!(found(r"\d+", Which::Last, text), Some("12"));
        assert_eq!(found(r"answer: (\d+)|(\d+) euros", Which::Last, "5 euros"), Some("5"), "the group that took part");
        assert_eq!(found("x", Which::Last, text), None);
    }

    #[test]
    fn a_pattern_that_is_none_or_too_large_is_refused() {
        for pattern in ["(", r"(\w{1000}){1000}", &"a".repeat(5000)] {
            let error = Extractor::new(pattern, Which::Last).unwrap_err();
            assert!(error.to_string().starts_with("the pattern `") && error.to_string().len() < 400, "{error}");
            assert_eq!(error.exit_class(), ExitClass::Usage);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(pattern in ".{0,12}", text in ".{0,60}") {
            if let Ok(extractor) = Extractor::new(&pattern, Which::Last) {
                prop_assert!(extractor.extract(&text).is_none_or(|answer| text.contains(answer)));
            }
        }
    }
}
