//! How much of what is validated on is trained on too: runs of tokens that stand in both, as T. Brown et al., "Language models are few-shot learners" (2020),
//! look for contamination.

use serde::Serialize;

use crate::document::Origin;
use crate::error::DataError;
use crate::tokens::TokenSplit;
use crate::training_data::TrainingData;

/// Tokens of a run.
pub const LEAKAGE_RUN: usize = 13;
/// Documents that are named.
const NAMED: usize = 10;
/// What a hash of a run is multiplied by for each token.
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Leakage {
    /// Runs of the validation, each place counted.
    pub runs: u64,
    /// Those of them that stand in the training text too.
    pub found: u64,
    /// The documents with the largest share of such runs, at most ten: where they are, and the share.
    pub documents: Vec<(Origin, f64)>,
}

impl Leakage {
    /// The share of the runs that was found; 0 where there are none.
    pub fn share(&self) -> f64 {
        if self.runs == 0 { 0.0 } else { self.found as f64 / self.runs as f64 }
    }
}

impl TrainingData {
    /// The runs of [`LEAKAGE_RUN`] tokens of all validation sets that stand in the training text of any source too. Runs do not go across documents; shorter
    /// documents have none. It holds eight bytes for each token of the validation.
    pub fn leakage(&self) -> Result<Leakage, DataError> {
        let validation: Vec<&TokenSplit> = self.validation().iter().map(|set| set.cache.split(set.split)).collect();
        let mut wanted = Vec::new();
        for split in &validation {
            each_document(split, |_, tokens| wanted.extend(runs(tokens)))?;
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut is_found = vec![false; wanted.len()];
        for split in self.train_splits() {
            each_document(split, |_, tokens| {
                for hash in runs(tokens) {
                    if let Ok(at) = wanted.binary_search(&hash) {
                        is_found[at] = true;
                    }
                }
            })?;
        }
        let mut leakage = Leakage::default();
        for split in &validation {
            let mut leaking = Vec::new();
            each_document(split, |document, tokens| {
                let (mut all, mut found) = (0_u64, 0_u64);
                for hash in runs(tokens) {
                    all += 1;
                    found += u64::from(wanted.binary_search(&hash).is_ok_and(|at| is_found[at]));
                }
                leakage.runs += all;
                leakage.found += found;
                if found > 0 {
                    leaking.push((document, found as f64 / all as f64));
                }
            })?;
            for (document, share) in leaking {
                let origin = split.document(document)?.map(|record| record.origin);
                leakage.documents.extend(origin.map(|origin| (origin, share)));
            }
            leakage.documents.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            leakage.documents.truncate(NAMED);
        }
        Ok(leakage)
    }
}

/// Each document with its tokens, without the end of text.
fn each_document(split: &TokenSplit, mut visit: impl FnMut(u64, &[u32])) -> Result<(), DataError> {
    let mut start = 0;
    for document in 0..split.n_documents() {
        let end = split.end_of(document)?;
        let tokens = split.tokens(start, end.saturating_sub(start).saturating_sub(1) as usize)?;
        visit(document, &tokens);
        start = end;
    }
    Ok(())
}

/// A hash of each run, rolled from one to the next.
fn runs(tokens: &[u32]) -> impl Iterator<Item = u64> + '_ {
    let leading = (1..LEAKAGE_RUN).fold(1_u64, |power, _| power.wrapping_mul(BASE));
    let mut hash = 0_u64;
    tokens.iter().enumerate().filter_map(move |(i, &token)| {
        if i >= LEAKAGE_RUN {
            hash = hash.wrapping_sub((u64::from(tokens[i - LEAKAGE_RUN]) + 1).wrapping_mul(leading));
        }
        hash = hash.wrapping_mul(BASE).wrapping_add(u64::from(token) + 1);
        (i + 1 >= LEAKAGE_RUN).then(|| mixed(hash))
    })
}

/// The rolled hash with its bits mixed, since what is added last reaches few of them.
fn mixed(hash: u64) -> u64 {
    let x = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x ^ (x >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rolled_hash_is_that_of_its_run_alone() {
        let tokens: Vec<u32> = (0..60).map(|i| i * i % 17).collect();
        let rolled: Vec<u64> = runs(&tokens).collect();
        assert_eq!(rolled.len(), 60 - LEAKAGE_RUN + 1);
        for (i, hash) in rolled.iter().enumerate() {
            assert_eq!(runs(&tokens[i..i + LEAKAGE_RUN]).collect::<Vec<_>>(), [*hash]);
        }
        assert_eq!(runs(&tokens[..LEAKAGE_RUN - 1]).count(), 0);
        let different: std::collections::BTreeSet<u64> = rolled.iter().copied().collect();
        let windows: std::collections::BTreeSet<&[u32]> = tokens.windows(LEAKAGE_RUN).collect();
        assert_eq!(different.len(), windows.len());
    }
}
