//! Counts for a run's record. A match is never kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the rules have found, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Texts looked at.
    pub texts: u64,
    /// Texts that stay, redacted or not.
    pub kept: u64,
    /// Texts in which something was replaced.
    pub redacted: u64,
    /// Texts left out.
    pub dropped: u64,
    /// Texts that stopped the program.
    pub stopped: u64,
    /// Findings by rule id.
    pub rules: BTreeMap<String, u64>,
}

impl Tally {
    /// Adds another tally's counts.
    pub fn merge(&mut self, other: &Self) {
        self.texts += other.texts;
        self.kept += other.kept;
        self.redacted += other.redacted;
        self.dropped += other.dropped;
        self.stopped += other.stopped;
        for (rule, n) in &other.rules {
            *self.rules.entry(rule.clone()).or_default() += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let rules = |n| BTreeMap::from([("email".to_owned(), n)]);
        let mut sum = Tally { texts: 1, kept: 1, redacted: 1, dropped: 0, stopped: 0, rules: rules(2) };
        sum.merge(&Tally { texts: 2, kept: 0, redacted: 0, dropped: 1, stopped: 1, rules: rules(3) });
        assert_eq!(sum, Tally { texts: 3, kept: 1, redacted: 1, dropped: 1, stopped: 1, rules: rules(5) });
    }
}
