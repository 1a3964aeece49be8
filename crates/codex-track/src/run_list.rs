//! The runs under a folder, readable or not.

use std::path::{Path, PathBuf};

use codex_core::files;

use crate::annotation::Annotations;
use crate::error::TrackError;
use crate::run_dir::RunDir;
use crate::run_record::RunRecord;

/// A run folder, and its record or why that cannot be read.
#[derive(Debug)]
pub struct RunEntry {
    /// The run folder.
    pub path: PathBuf,
    /// Its record, with what was [said of it](crate::annotation) since.
    pub record: Result<RunRecord, TrackError>,
    /// Why what was said of it could not be read; the record is then as the run wrote it.
    pub warning: Option<TrackError>,
}

impl RunEntry {
    /// The folder's name.
    pub fn folder_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Fewer folders than this are not worth another thread.
const FOLDERS_PER_THREAD: usize = 256;
/// The most threads that read records: what they wait for is the file system.
const MOST_THREADS: usize = 8;

/// The runs directly under `root`, by folder name, so oldest first; none when `root` does not exist.
///
/// A folder is a run when it has a `run.json` or the name of one. Every record is read anew, so nothing that is shown can be out of date: a thousand take
/// some tens of milliseconds.
///
/// # Errors
/// A folder that cannot be listed. A run that cannot be read is listed with its reason.
pub fn list_runs(root: &Path) -> Result<Vec<RunEntry>, TrackError> {
    let paths = match files::list_dir(root) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        listed => listed?,
    };
    let n_threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_THREADS);
    let share = paths.len().div_ceil(n_threads).max(FOLDERS_PER_THREAD);
    let read = |paths: &[PathBuf]| paths.iter().filter_map(|path| entry(path)).collect::<Vec<_>>();
    let parts: Vec<Vec<RunEntry>> = std::thread::scope(|scope| {
        let started: Vec<_> = paths.chunks(share).skip(1).map(|paths| (paths, scope.spawn(move || read(paths)))).collect();
        let first = paths.chunks(share).next().map(read).unwrap_or_default();
        // What a thread could not do is done here.
        let rest = started.into_iter().map(|(paths, thread)| thread.join().unwrap_or_else(|_| read(paths)));
        std::iter::once(first).chain(rest).collect()
    });
    Ok(parts.into_iter().flatten().collect())
}

/// The run in a folder; `None` where it is none.
fn entry(path: &Path) -> Option<RunEntry> {
    // A run that is being removed or made is none.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') || name.contains(".tmp-") {
        return None;
    }
    let read = RunDir::open(path).and_then(|run| Ok((RunRecord::read(&run)?.seen(&run), run)));
    let (record, warning) = match read {
        Ok((mut record, run)) => {
            let said = Annotations::read(&run).map(|said| said.apply(&mut record));
            (Ok(record), said.err())
        }
        Err(error) => {
            let is_run = path.is_dir() && (path.join(RunRecord::FILE).exists() || has_run_name(path));
            if !is_run {
                return None;
            }
            (Err(error), None)
        }
    };
    Some(RunEntry { path: path.to_owned(), record, warning })
}

/// Whether the name is `<8 digits>-<6 digits>-…` and not that of a draft.
pub(crate) fn has_run_name(path: &Path) -> bool {
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

    fn names(root: &Path) -> Vec<String> {
        list_runs(root)
            .unwrap()
            .iter()
            .map(|run| format!("{} {}", run.folder_name(), run.record.as_ref().map_or("damaged", |it| &it.name)))
            .collect()
    }

    #[test]
    fn more_runs_than_one_thread_reads_are_all_there_and_as_they_are() {
        let root = tempfile::tempdir().unwrap();
        let n = 2 * FOLDERS_PER_THREAD + 17;
        let make = |idx: usize, name: &str| {
            let path = root.path().join(format!("20260101-{idx:06}-r"));
            files::create_dir_all(&path).unwrap();
            let run = RunDir::open(&path).unwrap();
            RunRecord::new(&run, name, &[], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(0)).write(&run).unwrap();
            path
        };
        let paths: Vec<PathBuf> = (0..n).map(|idx| make(idx, &format!("n{idx}"))).collect();
        let mut expected: Vec<String> = (0..n).map(|idx| format!("20260101-{idx:06}-r n{idx}")).collect();
        assert_eq!(names(root.path()), expected);
        // Changed at the same length, removed, damaged, added, annotated: the next look shows it.
        make(3, "m3");
        expected[3] = "20260101-000003-r m3".to_owned();
        files::write_atomic(&paths[400].join("run.json"), b"{").unwrap();
        expected[400] = "20260101-000400-r damaged".to_owned();
        make(n, "new");
        expected.push(format!("20260101-{n:06}-r new"));
        let said = crate::Annotation { name: Some("said".to_owned()), ..crate::Annotation::default() };
        crate::annotate(&RunDir::open(&paths[500]).unwrap(), &said).unwrap();
        expected[500] = "20260101-000500-r said".to_owned();
        files::remove_dir_all(&paths[7]).unwrap();
        expected.remove(7);
        assert_eq!(names(root.path()), expected);
    }

    #[test]
    fn what_was_said_and_cannot_be_read_is_told_beside_the_record() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("20260101-000000-a");
        files::create_dir_all(&path).unwrap();
        let run = RunDir::open(&path).unwrap();
        RunRecord::new(&run, "a", &[], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(0)).write(&run).unwrap();
        run.write_text("annotations.json", "{").unwrap();
        files::create_dir_all(&root.path().join(".removing-20260101-000001-b")).unwrap();
        files::write_atomic(&root.path().join(".removing-20260101-000001-b/run.json"), b"{}").unwrap();
        let runs = list_runs(root.path()).unwrap();
        assert_eq!((runs.len(), runs[0].record.as_ref().unwrap().name.as_str()), (1, "a"));
        assert!(runs[0].warning.as_ref().unwrap().to_string().contains("annotations.json`:1:1"), "{:?}", runs[0].warning);
    }
}
