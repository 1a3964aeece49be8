//! Which documents are worth reading: by length, by how much they repeat themselves, by how much of them is no text, and whether they were there before.
//!
//! Documents are judged in reading order, as their source has them, so the first of several that are alike stays, whatever the number of threads.
//! What is left out is counted by its reason and listed.

use std::collections::BTreeMap;

use codex_core::{Digest, Hasher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Origin;

/// The `[data.filter]` table of a configuration file; by default everything stays.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct FilterConfig {
    /// Characters that a document must have.
    pub min_chars: u64,
    /// Characters that it may have; 0 is any number.
    pub max_chars: u64,
    /// The largest share of its characters that may stand in lines which are there before in the same document (J. Rae et al., "Gopher", 2021).
    pub max_repeated_lines: f64,
    /// The largest share of its characters that may be neither letters, digits nor white space.
    pub max_symbols: f64,
    /// Whether documents that were there before are left out.
    pub duplicates: Duplicates,
    /// How much of their runs of five words two documents must share to be near duplicates, as the Jaccard index of the runs.
    pub similarity: f64,
}

/// Which documents count as having been there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// None.
    #[default]
    Keep,
    /// Those with the same text, byte for byte.
    Exact,
    /// Those too that share most of their runs of words, by MinHash (A. Broder, 1997).
    Near,
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self { min_chars: 0, max_chars: 0, max_repeated_lines: 1.0, max_symbols: 1.0, duplicates: Duplicates::Keep, similarity: 0.8 }
    }
}

impl FilterConfig {
    /// Whether everything stays.
    pub fn is_off(&self) -> bool {
        let Self { min_chars, max_chars, max_repeated_lines, max_symbols, duplicates, .. } = *self;
        min_chars == 0 && max_chars == 0 && max_repeated_lines >= 1.0 && max_symbols >= 1.0 && duplicates == Duplicates::Keep
    }

    /// What is wrong with it, as (key below `filter`, what is wrong).
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for (key, share) in
            [("max_repeated_lines", self.max_repeated_lines), ("max_symbols", self.max_symbols), ("similarity", self.similarity)]
        {
            if !(0.0..=1.0).contains(&share) {
                problems.push((key.to_owned(), format!("expected a number from 0 to 1, found `{share}`")));
            }
        }
        if self.max_chars != 0 && self.max_chars < self.min_chars {
            problems.push((
                "max_chars".to_owned(),
                format!("expected {} (`min_chars`) or more, or 0 for any number, found {}", self.min_chars, self.max_chars),
            ));
        }
        problems
    }
}

/// A document that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Where it is.
    pub origin: Origin,
    /// Why: `too_short`, `too_long`, `repeats_itself`, `symbols`, `duplicate` or `near_duplicate`.
    pub reason: String,
    /// The document that it is like, where that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<Origin>,
}

/// Hashes of a signature. Two documents with a Jaccard index j agree in each with probability j.
const HASHES: usize = 64;
/// Hashes of a band: documents that agree in all of one band are compared.
const BAND: usize = 4;
/// Words of a run.
const RUN: usize = 5;

/// What has been read so far. It grows with the documents that stay, by about 1.7 kB for each with near duplicates.
#[derive(Debug)]
pub(crate) struct Filter {
    config: FilterConfig,
    /// By the digest of their text.
    seen: BTreeMap<[u8; 16], u32>,
    bands: BTreeMap<(u8, u64), Vec<u32>>,
    signatures: Vec<[u32; HASHES]>,
    origins: Vec<Origin>,
}

impl Filter {
    pub(crate) fn new(config: &FilterConfig) -> Self {
        Self { config: config.clone(), seen: BTreeMap::new(), bands: BTreeMap::new(), signatures: Vec::new(), origins: Vec::new() }
    }

    /// Why a document is left out; `None` when it stays.
    pub(crate) fn judge(&mut self, text: &str, origin: &Origin) -> Option<LeftOut> {
        let config = &self.config;
        let left_out =
            |reason: &str, like: Option<&Origin>| Some(LeftOut { origin: origin.clone(), reason: reason.to_owned(), like: like.cloned() });
        let n_chars = text.chars().count() as u64;
        if n_chars < config.min_chars {
            return left_out("too_short", None);
        }
        if config.max_chars > 0 && n_chars > config.max_chars {
            return left_out("too_long", None);
        }
        if config.max_repeated_lines < 1.0 && repeated_lines(text) > config.max_repeated_lines {
            return left_out("repeats_itself", None);
        }
        if config.max_symbols < 1.0 && symbols(text) > config.max_symbols {
            return left_out("symbols", None);
        }
        if config.duplicates == Duplicates::Keep {
            return None;
        }
        let digest = short(text);
        if let Some(&first) = self.seen.get(&digest) {
            return left_out("duplicate", self.origins.get(first as usize));
        }
        let number = self.origins.len() as u32;
        if config.duplicates == Duplicates::Near
            && let Some(signature) = signature(text)
        {
            if let Some(first) = self.near(&signature) {
                return left_out("near_duplicate", self.origins.get(first as usize));
            }
            for (band, hash) in bands(&signature) {
                self.bands.entry((band, hash)).or_default().push(self.signatures.len() as u32);
            }
            self.signatures.push(signature);
        } else if config.duplicates == Duplicates::Near {
            // Too short for a run of words: it has no near duplicates, and its place is kept so that numbers agree.
            self.signatures.push([u32::MAX; HASHES]);
        }
        self.seen.insert(digest, number);
        self.origins.push(origin.clone());
        None
    }

    /// The first document whose signature agrees as far as two that are alike would.
    fn near(&self, signature: &[u32; HASHES]) -> Option<u32> {
        let mut candidates: Vec<u32> = bands(signature).filter_map(|key| self.bands.get(&key)).flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let agrees = |other: &[u32; HASHES]| {
            let same = signature.iter().zip(other).filter(|(a, b)| a == b).count();
            same as f64 >= self.config.similarity * HASHES as f64
        };
        candidates.into_iter().find(|&number| self.signatures.get(number as usize).is_some_and(agrees))
    }
}

fn short(text: &str) -> [u8; 16] {
    let digest = Digest::of_bytes(text.as_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&digest.as_bytes()[..16]);
    first
}

/// The share of the characters, line ends apart, that stand in lines which are there before.
fn repeated_lines(text: &str) -> f64 {
    let (mut seen, mut all, mut repeated) = (std::collections::BTreeSet::new(), 0_u64, 0_u64);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let n = line.chars().count() as u64;
        all += n;
        if !seen.insert(line) {
            repeated += n;
        }
    }
    if all == 0 { 0.0 } else { repeated as f64 / all as f64 }
}

/// The share of the characters that are neither letters, digits nor white space.
fn symbols(text: &str) -> f64 {
    let (mut all, mut symbols) = (0_u64, 0_u64);
    for c in text.chars() {
        all += 1;
        symbols += u64::from(!c.is_alphanumeric() && !c.is_whitespace());
    }
    if all == 0 { 0.0 } else { symbols as f64 / all as f64 }
}

/// For each hash the least over all runs of words, in lower case; `None` where there are fewer words than a run has.
fn signature(text: &str) -> Option<[u32; HASHES]> {
    let words: Vec<String> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    if words.len() < RUN {
        return None;
    }
    let mut least = [u32::MAX; HASHES];
    for run in words.windows(RUN) {
        let mut hasher = Hasher::new();
        for word in run {
            hasher.field(word.as_bytes());
        }
        let digest = hasher.finish();
        let mut base = u64::from_le_bytes(digest.as_bytes()[..8].try_into().unwrap_or_default());
        for slot in &mut least {
            // SplitMix64: one more hash of the run for each slot.
            base = base.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut x = base;
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            *slot = (*slot).min((x >> 32) as u32);
        }
    }
    Some(least)
}

fn bands(signature: &[u32; HASHES]) -> impl Iterator<Item = (u8, u64)> + '_ {
    signature.chunks(BAND).enumerate().map(|(band, part)| {
        let hash =
            part.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &value| (hash ^ u64::from(value)).wrapping_mul(0x0000_0100_0000_01B3));
        (band as u8, hash)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::Stream;

    fn judged(config: &FilterConfig, texts: &[&str]) -> Vec<String> {
        let mut filter = Filter::new(config);
        let origin = |i: usize| Origin { source: "s".to_owned(), line: Some(i as u64 + 1) };
        let told = |out: LeftOut| format!("{}{}", out.reason, out.like.map(|like| format!(" of {like}")).unwrap_or_default());
        texts.iter().enumerate().map(|(i, text)| filter.judge(text, &origin(i)).map_or_else(|| "stays".to_owned(), told)).collect()
    }

    #[test]
    fn each_reason_has_its_bound() {
        let all = FilterConfig::default();
        assert!(all.is_off() && all.problems().is_empty());
        assert_eq!(judged(&all, &["", "a", "a", "!!!"]), ["stays"; 4]);
        let lengths = FilterConfig { min_chars: 2, max_chars: 4, ..all.clone() };
        assert_eq!(judged(&lengths, &["é", "éé", "éééé", "ééééé"]), ["too_short", "stays", "stays", "too_long"]);
        let lines = FilterConfig { max_repeated_lines: 0.5, ..all.clone() };
        assert_eq!(judged(&lines, &["a\nb\na\nb", "a\na\na", "a\n\n\nb"]), ["stays", "repeats_itself", "stays"]);
        let symbols = FilterConfig { max_symbols: 0.25, ..all.clone() };
        assert_eq!(judged(&symbols, &["abc!", "ab!!", "é 1 ", ""]), ["stays", "symbols", "stays", "stays"]);
        let wrong = FilterConfig { min_chars: 5, max_chars: 4, max_symbols: f64::NAN, similarity: 2.0, ..all };
        let keys: Vec<String> = wrong.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["max_symbols", "similarity", "max_chars"]);
    }

    #[test]
    fn the_first_of_those_that_are_alike_stays() {
        let exact = FilterConfig { duplicates: Duplicates::Exact, ..FilterConfig::default() };
        assert_eq!(judged(&exact, &["a", "b", "a", "A", "b"]), ["stays", "stays", "duplicate of s:1", "stays", "duplicate of s:2"]);
        let near = FilterConfig { duplicates: Duplicates::Near, similarity: 0.6, ..exact };
        let text = "it is a truth universally acknowledged that a single man in possession of a good fortune must be in want of a wife";
        let other = text.replace("a wife", "A husband!").to_uppercase();
        let texts = ["short", text, "short", &other, "something else entirely that has as many words as it needs to have here"];
        assert_eq!(judged(&near, &texts), ["stays", "stays", "duplicate of s:1", "near_duplicate of s:2", "stays"]);
        let strict = FilterConfig { similarity: 1.0, ..near };
        assert_eq!(judged(&strict, &texts)[3], "stays");
    }

    /// The share of hashes that agree is the Jaccard index of the runs, within what chance allows.
    #[test]
    fn signatures_agree_as_far_as_the_runs_do() {
        let mut stream = Stream::new(3, "words", 0);
        let words: Vec<String> = (0..400).map(|_| format!("w{}", stream.below(1 << 40))).collect();
        for changed in [0, 4, 20, 60] {
            let mut other = words.clone();
            for i in 0..changed {
                other[i * 400 / changed.max(1)] = format!("x{i}");
            }
            let runs = |words: &[String]| words.windows(RUN).map(<[String]>::to_vec).collect::<std::collections::BTreeSet<_>>();
            let (a, b) = (runs(&words), runs(&other));
            let jaccard = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
            let (a, b) = (signature(&words.join(" ")).unwrap(), signature(&other.join(" ")).unwrap());
            let agrees = a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / HASHES as f64;
            assert!((agrees - jaccard).abs() < 0.17, "{changed}: {agrees} and {jaccard}");
        }
    }
}
