//! The runs under a folder, readable or not.

use std::path::{Path, PathBuf};

use codex_core::files;

use crate::error::TrackError;
use crate::run_dir::RunDir;
use crate::run_record::RunRecord;

/// A run folder, and its record or why that cannot be read.
#[derive(Debug)]
pub struct RunEntry {
    /// The run folder.
    pub path: PathBuf,
    /// Its record.
    pub record: Result<RunRecord, TrackError>,
}

/// The runs directly under `root`, by folder name, so oldest first; none when `root` does not exist.
///
/// A folder is a run when it has a `run.json` or the name of one.
pub fn list_runs(root: &Path) -> Result<Vec<RunEntry>, TrackError> {
    let paths = match files::list_dir(root) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        listed => listed?,
    };
    let is_run = |path: &PathBuf| path.is_dir() && (path.join(RunRecord::FILE).exists() || has_run_name(path));
    let entry = |path: PathBuf| RunEntry { record: RunDir::open(&path).and_then(|run| RunRecord::read(&run)), path };
    Ok(paths.into_iter().filter(is_run).map(entry).collect())
}

/// Whether the name is `<8 digits>-<6 digits>-…` and not that of a draft.
fn has_run_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut parts = name.splitn(3, '-');
    let mut digits = |n| parts.next().is_some_and(|part| part.len() == n && part.bytes().all(|byte| byte.is_ascii_digit()));
    digits(8) && digits(6) && !name.contains(".tmp-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::{Digest, Timestamp};

    #[test]
    fn runs_are_sorted_and_unreadable_ones_are_shown() {
        let root = tempfile::tempdir().unwrap();
        assert!(list_runs(&root.path().join("none")).unwrap().is_empty());
        for name in ["20260102-000000-b", "20260101-000000-a", "20260103-000000-c", "renamed", "other", "20260104-000000-d.tmp-1-2"] {
            files::create_dir_all(&root.path().join(name)).unwrap();
        }
        files::write_atomic(&root.path().join("20260105-000000-file"), b"").unwrap();
        for name in ["20260101-000000-a", "renamed"] {
            let run = RunDir::open(&root.path().join(name)).unwrap();
            RunRecord::new(&run, name, &[], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(0)).write(&run).unwrap();
        }
        files::write_atomic(&root.path().join("20260102-000000-b/run.json"), b"{\"schema\":1}").unwrap();
        let runs = list_runs(root.path()).unwrap();
        let shown: Vec<(String, bool)> =
            runs.iter().map(|run| (run.path.file_name().unwrap().to_string_lossy().into_owned(), run.record.is_ok())).collect();
        let expected = [("20260101-000000-a", true), ("20260102-000000-b", false), ("20260103-000000-c", false), ("renamed", true)];
        assert_eq!(shown, expected.map(|(name, ok)| (name.to_owned(), ok)));
    }
}
