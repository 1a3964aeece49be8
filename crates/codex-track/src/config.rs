//! What a run records besides what it always does: the `[track]` table of a config.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `[track]` table, exactly as a file says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrackConfig {
    /// Whether `metrics.csv` is written beside `metrics.ndjson`.
    pub csv: bool,
    /// Seconds between two samples of the machine in `system.ndjson`; 0 takes none.
    pub system_every_seconds: f64,
}

impl Default for TrackConfig {
    fn default() -> Self {
        Self { csv: true, system_every_seconds: 5.0 }
    }
}

impl TrackConfig {
    /// The key and message of each value that cannot be used.
    pub fn problems(&self) -> Vec<(String, String)> {
        let seconds = self.system_every_seconds;
        let usable = seconds.is_finite() && (seconds <= 0.0 || seconds >= 0.1) && seconds >= 0.0;
        let message = format!("expected 0, or at least 0.1, found `{seconds}`");
        if usable { Vec::new() } else { vec![("system_every_seconds".to_owned(), message)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sensible_cadence_is_accepted() {
        let with = |system_every_seconds| TrackConfig { system_every_seconds, ..TrackConfig::default() }.problems();
        assert!(TrackConfig::default().problems().is_empty() && with(0.0).is_empty() && with(0.1).is_empty());
        for wrong in [-1.0, 0.01, f64::NAN, f64::INFINITY] {
            assert_eq!(with(wrong).len(), 1, "{wrong}");
        }
        assert_eq!(with(-1.0)[0].1, "expected 0, or at least 0.1, found `-1`");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert_eq!(toml::from_str::<TrackConfig>("csv = false").unwrap(), TrackConfig { csv: false, system_every_seconds: 5.0 });
        assert!(toml::from_str::<TrackConfig>("cvs = false").is_err());
    }
}
