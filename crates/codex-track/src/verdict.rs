//! What `verify` found of a run, kept beside it, so that a report can say so. It is no part of the run: no manifest lists it.

use codex_core::{Timestamp, files};
use serde::{Deserialize, Serialize};

use crate::error::TrackError;
use crate::run_dir::{RunDir, read_json_at, write_json_at};
use crate::run_manifest::ARTIFACTS;

/// The file's name, below the folder of what is made after a run.
const FILE: &str = "verify.json";
/// The version of the format.
const SCHEMA: u32 = 1;
/// More findings than this are counted and not kept.
const MAX_FINDINGS: usize = 100;

/// `artifacts/verify.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRecord {
    /// The version of this format: 1.
    pub schema: u32,
    /// When it was looked at, RFC 3339 in UTC.
    pub at: String,
    /// Whether everything is what it was when the run ended.
    pub is_valid: bool,
    /// How many files were compared with the run's manifest.
    pub files: u64,
    /// What is not what it was: the first hundred.
    pub findings: Vec<String>,
    /// How many there were.
    pub n_findings: u64,
}

impl VerifyRecord {
    /// What was found at this moment: valid where nothing was.
    pub fn new(files: u64, mut findings: Vec<String>, now: Timestamp) -> Self {
        let n_findings = findings.len() as u64;
        findings.truncate(MAX_FINDINGS);
        Self { schema: SCHEMA, at: now.to_rfc3339(), is_valid: n_findings == 0, files, findings, n_findings }
    }

    /// Keeps it in the run's folder.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn keep(&self, run: &RunDir) -> Result<(), TrackError> {
        let folder = run.path().join(ARTIFACTS);
        files::create_dir_all(&folder)?;
        write_json_at(&folder.join(FILE), self)
    }

    /// What was found when the run was last verified; `None` when it never was.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn read(run: &RunDir) -> Result<Option<Self>, TrackError> {
        let path = run.path().join(ARTIFACTS).join(FILE);
        let read: Self = match read_json_at(&path) {
            Err(TrackError::File(error)) if error.is_not_found() => return Ok(None),
            read => read?,
        };
        if read.schema != SCHEMA {
            return Err(TrackError::Schema { path, expected: SCHEMA, found: read.schema });
        }
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_manifest::RunManifest;

    #[test]
    fn what_was_found_is_kept_beside_the_run() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        run.write_text("run.json", "{}").unwrap();
        let manifest = RunManifest::write(&run).unwrap();
        assert_eq!(VerifyRecord::read(&run).unwrap(), None);
        let record = VerifyRecord::new(3, vec!["x".to_owned(); 101], Timestamp(0));
        assert_eq!((record.is_valid, record.n_findings, record.findings.len()), (false, 101, 100));
        record.keep(&run).unwrap();
        assert_eq!(VerifyRecord::read(&run).unwrap(), Some(record));
        assert!(VerifyRecord::new(3, Vec::new(), Timestamp(0)).is_valid);
        assert_eq!(manifest.deviations(&run).unwrap(), []);
        files::write_atomic(
            &root.path().join("artifacts/verify.json"),
            br#"{"schema":2,"at":"","is_valid":true,"files":0,"findings":[],"n_findings":0}"#,
        )
        .unwrap();
        assert!(VerifyRecord::read(&run).is_err());
    }
}
