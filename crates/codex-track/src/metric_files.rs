//! The files that a run's metrics are kept in: `metrics-00001.ndjson` and on, oldest first, and `metrics.ndjson`, which is written to.
//!
//! There are numbered parts only where `track.rotate_mib` asked for them. Whoever reads metrics goes through [`metric_files`].

use std::path::{Path, PathBuf};

use codex_core::files;

use crate::error::TrackError;
use crate::line_log::{self, Line, for_each_line_if_any};
use crate::ndjson_writer::NdjsonWriter;

const PREFIX: &str = "metrics-";
const SUFFIX: &str = ".ndjson";

/// The files of metrics in a folder, in the order in which they were written; none where there is no folder.
///
/// # Errors
/// A folder that cannot be listed.
pub fn metric_files(dir: &Path) -> Result<Vec<PathBuf>, TrackError> {
    let mut found: Vec<PathBuf> = parts(dir)?.into_iter().map(|(_, path)| path).collect();
    let current = dir.join(NdjsonWriter::FILE);
    if current.exists() {
        found.push(current);
    }
    Ok(found)
}

/// The parts that were put away before a file, oldest first; none of a file that is not `metrics.ndjson`.
pub(crate) fn put_away_before(current: &Path) -> Vec<PathBuf> {
    if current.file_name().is_none_or(|name| name != NdjsonWriter::FILE) {
        return Vec::new();
    }
    parts(files::parent(current)).unwrap_or_default().into_iter().map(|(_, path)| path).collect()
}

/// The parts that were put away, by number.
fn parts(dir: &Path) -> Result<Vec<(u64, PathBuf)>, TrackError> {
    let listed = match files::list_dir(dir) {
        Err(error) if error.is_not_found() => Vec::new(),
        listed => listed?,
    };
    let mut parts: Vec<(u64, PathBuf)> = listed.into_iter().filter_map(|path| Some((number(&path)?, path))).collect();
    parts.sort();
    Ok(parts)
}

/// The number of a part's name: at least five digits.
fn number(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    (digits.len() >= 5 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Visits each line of all files in order.
pub(crate) fn for_each_metric_line(dir: &Path, mut visit: impl FnMut(Line<'_>)) -> Result<(), TrackError> {
    for path in metric_files(dir)? {
        for_each_line_if_any(&path, &mut visit)?;
    }
    Ok(())
}

/// Puts `metrics.ndjson` away as the next part; its lines are on the disk before its new name is. Until a new file is made there is none, which
/// is a state that every reader knows.
pub(crate) fn put_away(dir: &Path) -> Result<(), TrackError> {
    let next = parts(dir)?.last().map_or(1, |(number, _)| number.saturating_add(1));
    files::rename_new(&dir.join(NdjsonWriter::FILE), &dir.join(format!("{PREFIX}{next:05}{SUFFIX}")))?;
    Ok(files::sync_dir(dir)?)
}

/// Rewrites the files with only the finished lines that `keep` accepts, the newest first, so that a kill leaves a chain without a gap; a part
/// without any is removed.
pub(crate) fn retain(dir: &Path, mut keep: impl FnMut(&[u8]) -> bool) -> Result<(), TrackError> {
    for path in metric_files(dir)?.iter().rev() {
        line_log::retain(path, &mut keep)?;
        if number(path).is_some() && files::size(path)? == 0 {
            files::remove_file(path)?;
            files::sync_dir(dir)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_the_order_of_their_numbers_and_the_open_file_last() {
        let dir = tempfile::tempdir().unwrap();
        assert!(metric_files(&dir.path().join("none")).unwrap().is_empty());
        for name in ["metrics.ndjson", "metrics-100000.ndjson", "metrics-00002.ndjson", "metrics-1.ndjson", "metrics-0000x.ndjson"] {
            files::write_atomic(&dir.path().join(name), name.as_bytes()).unwrap();
        }
        let names = |dir: &Path| -> Vec<String> {
            let of = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            metric_files(dir).unwrap().iter().map(of).collect()
        };
        assert_eq!(names(dir.path()), ["metrics-00002.ndjson", "metrics-100000.ndjson", "metrics.ndjson"]);
        put_away(dir.path()).unwrap();
        assert_eq!(names(dir.path()), ["metrics-00002.ndjson", "metrics-100000.ndjson", "metrics-100001.ndjson"]);
        // Their names are no finished lines.
        retain(dir.path(), |_| true).unwrap();
        assert!(names(dir.path()).is_empty());
    }
}
