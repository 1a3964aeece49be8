//! What is saved and what is kept: the `checkpoint` section of a configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When checkpoints are saved and which are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between saves; there is always one at the end and one when a signal stops the run.
    pub every_steps: u64,
    /// How many of the newest are kept, at least 1.
    pub keep_last: usize,
    /// How many of the best are kept besides.
    pub keep_best: usize,
    /// Steps between those that are kept for good, such as 1,000 for the ones of step 1,000, 2,000 and so on; 0 keeps none for that.
    pub keep_every: u64,
    /// The metric that says which is best.
    pub metric: String,
    /// Whether low or high values of it are good.
    pub mode: Mode,
    /// What a save does that the operating system refuses: a full disk, a quota, a folder that is gone or can only be read.
    pub on_failure: OnFailure,
}

/// What a save does that the operating system refuses. The checkpoints before it stay as they are in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Training goes on with a warning; it ends if the next save fails too.
    #[default]
    Retry,
    /// Training ends.
    Stop,
}

/// Which values of a metric are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Low ones.
    Min,
    /// High ones.
    Max,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every_steps: 100,
            keep_last: 2,
            keep_best: 1,
            keep_every: 0,
            metric: "validation/loss".to_owned(),
            mode: Mode::Min,
            on_failure: OnFailure::Retry,
        }
    }
}

impl CheckpointConfig {
    /// Everything that is wrong with the values, as (key below `checkpoint`, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut at_least_one = |key: &str, value: u64| {
            if value == 0 {
                found.push((key.to_owned(), "expected 1 or more, found 0".to_owned()));
            }
        };
        at_least_one("every_steps", self.every_steps);
        at_least_one("keep_last", self.keep_last as u64);
        if self.metric.is_empty() {
            found.push(("metric".to_owned(), "expected the name of a metric, such as `validation/loss`".to_owned()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_told_at_once() {
        assert!(CheckpointConfig::default().problems().is_empty());
        let bad = CheckpointConfig { every_steps: 0, keep_last: 0, metric: String::new(), ..CheckpointConfig::default() };
        assert_eq!(bad.problems().len(), 3);
    }
}
