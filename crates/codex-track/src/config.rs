//! What a run records besides what it always does: the `[track]` table of a config.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most that `rotate_mib` may be: 1 TiB.
const MAX_ROTATE_MIB: u64 = 1 << 20;

/// The `[track]` table, exactly as a file says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
pub struct TrackConfig {
    /// Whether `metrics.csv` is written beside `metrics.ndjson`.
    pub csv: bool,
    /// Whether event files for TensorBoard are written to the folder `tensorboard` of the run.
    pub tensorboard: bool,
    /// Whether a file store for MLflow is written to the folder `mlflow` of the run.
    pub mlflow: bool,
    /// Whether an offline run for Weights & Biases is written to the folder `wandb` of the run; nothing is sent.
    pub wandb: bool,
    /// The size in MiB after which `metrics.ndjson` is put away as `metrics-00001.ndjson` and so on; 0 keeps one file. A shared folder of
    /// metrics always has one.
    pub rotate_mib: u64,
    /// Whether a run that could not record all that was asked for ends with an exit code of its own once it has trained and saved to the end.
    pub strict: bool,
}

impl Default for TrackConfig {
    fn default() -> Self {
        Self { csv: true, tensorboard: true, mlflow: false, wandb: false, rotate_mib: 0, strict: false }
    }
}

impl TrackConfig {
    /// The key and message of each value that cannot be used.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if self.rotate_mib > MAX_ROTATE_MIB {
            let message = format!("expected at most {MAX_ROTATE_MIB}, found `{}`", self.rotate_mib);
            problems.push(("rotate_mib".to_owned(), message));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused() {
        assert_eq!(toml::from_str::<TrackConfig>("csv = false").unwrap(), TrackConfig { csv: false, ..TrackConfig::default() });
        let defaults = TrackConfig::default();
        assert_eq!(
            [defaults.csv, defaults.tensorboard, defaults.mlflow, defaults.wandb, defaults.strict],
            [true, true, false, false, false]
        );
        assert_eq!(TrackConfig { rotate_mib: MAX_ROTATE_MIB, ..defaults.clone() }.problems(), []);
        assert_eq!(TrackConfig { rotate_mib: u64::MAX, ..defaults }.problems()[0].0, "rotate_mib");
        assert!(toml::from_str::<TrackConfig>("cvs = false").is_err());
    }
}
