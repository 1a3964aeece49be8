//! The rows that were passed over or left out: all counted, the first ones listed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many rows are listed with their place and reason.
const LISTED: usize = 100;

/// Rows that were skipped or left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedRows {
    /// All of them.
    pub rows: u64,
    /// How many for each reason.
    pub by_reason: BTreeMap<String, u64>,
    /// The first 100 as `path:line:column: reason`.
    pub first: Vec<String>,
}

impl SkippedRows {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Counts a row; `told` is asked for its place and reason only while there is room.
    pub(crate) fn add(&mut self, code: &str, told: impl FnOnce() -> String) {
        self.rows += 1;
        *self.by_reason.entry(code.to_owned()).or_default() += 1;
        if self.first.len() < LISTED {
            self.first.push(told());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_hundred_listed() {
        let mut skipped = SkippedRows::default();
        for i in 0..150 {
            skipped.add(if i % 3 == 0 { "a" } else { "b" }, || format!("row {i}"));
        }
        assert_eq!(skipped.rows, 150);
        assert_eq!(skipped.by_reason, BTreeMap::from([("a".to_owned(), 50), ("b".to_owned(), 100)]));
        assert_eq!((skipped.first.len(), skipped.first[99].as_str()), (100, "row 99"));
    }
}
