//! Whether a regular expression of a tokenizer file is cheap on any text.
//!
//! The engine (fancy-regex) runs a pattern without look-around or back-references in linear time, and any other by backtracking, which can take
//! time exponential in the text. Such a pattern shows itself on short runs of one or two characters, so it is tried on those here, with a small
//! budget, before it meets a user's text. Should a search on that take a million steps all the same, the library leaves the rest of the text
//! unsplit.

use std::fmt;

use fancy_regex::RegexBuilder;

/// The longest pattern, in bytes; the longest real one has about 500.
const MAX_BYTES: usize = 8 << 10;
/// The steps back that a search may take on a trial text; a quadratic pattern, of which there are real ones, takes fewer.
const MAX_STEPS: usize = 100_000;
/// The length of a trial text, in characters.
const TRIAL: usize = 200;
/// The largest compiled part of a pattern.
const MAX_COMPILED_BYTES: usize = 8 << 20;

/// Why a pattern is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks that a pattern can be compiled and is cheap.
pub(crate) fn check(pattern: &str) -> Result<(), Fault> {
    if pattern.len() > MAX_BYTES {
        return Err(Fault(format!("a pattern of {} bytes, more than {MAX_BYTES}", pattern.len())));
    }
    let compiled =
        RegexBuilder::new(pattern).backtrack_limit(MAX_STEPS).delegate_size_limit(MAX_COMPILED_BYTES).build().map_err(|error| {
            let told: String = error.to_string().chars().take(200).collect();
            Fault(format!("a pattern that cannot be compiled: {told}"))
        })?;
    for trial in trials() {
        if compiled.find_iter(&trial).any(|found| found.is_err()) {
            let start: String = trial.chars().take(4).collect();
            return Err(Fault(format!("a pattern that takes more than {MAX_STEPS} steps on {TRIAL} characters like {start:?}")));
        }
    }
    Ok(())
}

/// Runs of each kind of character, some with another at the end, and mixtures.
fn trials() -> impl Iterator<Item = String> {
    const RUNS: [&str; 20] =
        ["a", "A", "1", " ", "\n", "\t", "\r\n", "'", "!", "_", ".", "é", "字", "\u{301}", "🦀", "aA", "a1", "a ", " \n", "'s"];
    RUNS.iter().flat_map(|run| {
        let text = run.repeat(TRIAL / run.chars().count());
        [format!("{text}\u{0}"), format!("{text}x"), text]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_of_real_tokenizers_are_cheap() {
        for pattern in [r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", r"\d{1,3}(?=(?:\d{3})*\b)", " {2,}"]
        {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_explodes_or_cannot_be_compiled_is_refused() {
        for (pattern, told) in [
            (r"(?:a+)+(?!a|x|\x00)b", "takes more than 100000 steps"),
            (r"(\s*)*(?=!)\1y", "takes more than 100000 steps"),
            ("(", "cannot be compiled"),
            (r"(?:\w{500}){500}", "cannot be compiled"),
            (&"a".repeat(9000), "9000 bytes, more than 8192"),
        ] {
            let fault = check(pattern).unwrap_err().to_string();
            assert!(fault.contains(told), "{pattern}: {fault}");
        }
    }
}
