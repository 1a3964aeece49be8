//! Which documents are trained on and which are held out, by the hash of their text alone.
//!
//! A document's split depends on nothing but its own bytes and the fraction, so that adding or removing others moves none.

use std::fmt;

use codex_core::Digest;
use serde::{Deserialize, Serialize};

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What the model learns from.
    Train,
    /// What it is measured on and never learns from.
    Validation,
}

impl Split {
    /// Both, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::Train, Self::Validation];

    /// `train` or `validation`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
        }
    }

    /// The split of a text when `validation_fraction` of all texts is held out.
    ///
    /// The first 53 bits of the text's BLAKE3, read as a fraction in [0, 1), are compared with it.
    pub fn of_text(text: &str, validation_fraction: f64) -> Self {
        let digest = Digest::of_bytes(text.as_bytes());
        let first = digest.as_bytes().iter().take(8).fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        let fraction = (first >> 11) as f64 / (1_u64 << 53) as f64;
        if fraction < validation_fraction { Self::Validation } else { Self::Train }
    }
}

/// Which of so many parts a text is in.
///
/// The second 64 bits of the text's BLAKE3, modulo the number of parts: other bits than those that decide its split.
pub(crate) fn shard_of_text(text: &str, total: u64) -> u64 {
    let digest = Digest::of_bytes(text.as_bytes());
    let second = digest.as_bytes().iter().skip(8).take(8).fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
    second % total.max(1)
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_digest_of_nothing_decides_its_split() {
        // BLAKE3("") starts with af1349b9f5f9a1a6, which is 0.68388… of 2^64.
        assert_eq!(Split::of_text("", 0.6838), Split::Train);
        assert_eq!(Split::of_text("", 0.6839), Split::Validation);
        assert_eq!(Split::of_text("", 0.0), Split::Train);
    }

    #[test]
    fn the_share_held_out_is_near_the_fraction_and_only_grows_with_it() {
        let texts: Vec<String> = (0..2000).map(|i| format!("document {i}")).collect();
        let held_out = |fraction| {
            let is_held_out = |text: &&String| Split::of_text(text, fraction) == Split::Validation;
            texts.iter().filter(is_held_out).collect::<Vec<_>>()
        };
        let (tenth, fifth) = (held_out(0.1), held_out(0.2));
        assert!((150..250).contains(&tenth.len()), "{}", tenth.len());
        assert!(tenth.iter().all(|text| fifth.contains(text)));
    }
}
