//! Publishing a folder at once: it is drafted under a temporary name and appears whole, or not at all.
//!
//! Order on the disk: each file written and flushed, the draft folder flushed, renamed without replacing, the parent flushed.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};

/// A folder being written under a temporary name beside its final one. Dropped unpublished, it is removed.
#[derive(Debug)]
pub struct FolderDraft {
    draft: PathBuf,
    target: PathBuf,
    published: bool,
}

impl FolderDraft {
    /// Starts a draft of `target`, whose parent is created when absent.
    pub fn create(target: &Path) -> Result<Self, FileError> {
        files::create_dir_all(files::parent(target))?;
        Self::create_as(files::temporary_beside(target), target)
    }

    /// Starts the draft under this name, which nothing may have: what is there is another's, and no draft of ours begins with its files.
    pub(crate) fn create_as(draft: PathBuf, target: &Path) -> Result<Self, FileError> {
        files::create_draft_dir(&draft)?;
        Ok(Self { draft, target: target.to_owned(), published: false })
    }

    /// Where the draft's files are until it is published.
    pub fn path(&self) -> &Path {
        &self.draft
    }

    /// Writes one file of the draft, flushed to the disk.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        files::write_synced(&self.draft.join(name), bytes)
    }

    /// Starts a file of the draft, which must be [flushed](DraftFile::sync) before the draft is published.
    pub fn create_file(&self, name: &str) -> Result<DraftFile, FileError> {
        let path = self.draft.join(name);
        Ok(DraftFile { file: files::create_new(&path)?, path, held: Vec::new() })
    }

    /// Gives the folder its final name; one that exists already is an error and stays as it is.
    pub fn publish(mut self) -> Result<PathBuf, FileError> {
        files::sync_dir(&self.draft)?;
        files::rename_new(&self.draft, &self.target)?;
        self.published = true;
        files::sync_dir(files::parent(&self.target))?;
        Ok(self.target.clone())
    }
}

/// What is handed to the system at once. Such pieces, each at a multiple of its size, go several times as fast into the page cache of Linux as
/// pieces at any place, or of one MiB and more, for which it looks for memory in one piece.
const PIECE: usize = 256 << 10;

/// A file of a draft, written piece by piece.
#[derive(Debug)]
#[must_use = "it is not on the disk before `sync`"]
pub struct DraftFile {
    file: File,
    path: PathBuf,
    /// Less than a piece, which starts at a multiple of one.
    held: Vec<u8>,
}

impl DraftFile {
    /// The error of a write to it.
    pub fn failed(&self, source: io::Error) -> FileError {
        FileError::new("write", &self.path, source)
    }

    /// Flushes it to the disk. A failed flush is final: it is never tried again.
    pub fn sync(mut self) -> Result<(), FileError> {
        self.flush().map_err(|source| self.failed(source))?;
        files::flush(&self.file).map_err(|source| FileError::new("sync", &self.path, source))?;
        forget(&self.file);
        Ok(())
    }
}

impl io::Write for DraftFile {
    /// Takes as much as makes one piece.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.held.len());
        if taken == PIECE {
            self.file.write_all(&bytes[..PIECE])?;
            return Ok(PIECE);
        }
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.held)?;
        self.held.clear();
        Ok(())
    }
}

/// Tells the system that nobody is about to read a file that is on the disk: the memory of its pages is free for the next one then, and nothing
/// that somebody else reads is put out for it.
fn forget(file: &File) {
    #[cfg(target_os = "linux")]
    let _refused = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _unused = file;
}

impl Drop for FolderDraft {
    fn drop(&mut self) {
        if !self.published {
            drop(files::remove_dir_all(&self.draft));
        }
    }
}

/// Removes the drafts and temporary files that a killed process left in a folder; the caller holds the folder's lock.
///
/// Returns the paths that were removed.
pub fn sweep_drafts(parent: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut removed = Vec::new();
    for path in files::list_dir(parent)?.into_iter().filter(|path| files::is_temporary(path)) {
        if path.is_dir() {
            files::remove_dir_all(&path)?;
        } else {
            files::remove_file(&path)?;
        }
        removed.push(path);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("step-1");
        let draft = FolderDraft::create(&target).unwrap();
        draft.write("a", b"1").unwrap();
        assert!(!target.exists());
        assert_eq!(draft.publish().unwrap(), target);
        assert_eq!(files::read(&target.join("a")).unwrap(), b"1");
        assert_eq!(files::list_dir(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_file_written_in_any_pieces_is_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3 * PIECE + 77).map(|i| (i * 31 % 251) as u8).collect();
        for cuts in [vec![], vec![1], vec![PIECE], vec![5, PIECE - 1, PIECE + 9], vec![7, 7, 2 * PIECE + 8, 3 * PIECE]] {
            let draft = FolderDraft::create(&dir.path().join("step-1")).unwrap();
            let mut file = draft.create_file("a").unwrap();
            let mut from = 0;
            for to in cuts.into_iter().chain([bytes.len()]) {
                file.write_all(&bytes[from..to]).unwrap();
                from = to;
            }
            file.sync().unwrap();
            assert!(files::read(&draft.path().join("a")).unwrap() == bytes);
        }
    }

    #[test]
    fn an_unpublished_draft_goes_away_and_an_existing_folder_stays() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("step-1");
        drop(FolderDraft::create(&target).unwrap());
        assert!(files::list_dir(dir.path()).unwrap().is_empty());
        files::create_dir_all(&target).unwrap();
        assert!(FolderDraft::create(&target).unwrap().publish().is_err());
        assert_eq!(files::list_dir(dir.path()).unwrap(), vec![target]);
    }

    #[test]
    fn a_draft_starts_empty_whatever_a_process_of_the_same_id_left() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("step-1");
        let stale: Vec<PathBuf> = (0..60).map(|n| dir.path().join(format!("step-1.tmp-{}-{n}", std::process::id()))).collect();
        for folder in &stale {
            files::create_dir_all(folder).unwrap();
            files::write_synced(&folder.join("stale"), b"").unwrap();
        }
        let draft = FolderDraft::create(&target).unwrap();
        assert!(files::list_dir(draft.path()).unwrap().is_empty());
        drop(draft);
        assert!(stale.iter().all(|folder| folder.join("stale").exists()), "another's draft was removed");
    }

    #[test]
    fn a_draft_whose_name_is_taken_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("step-1.tmp-1-1");
        files::create_dir_all(&taken).unwrap();
        files::write_synced(&taken.join("another's"), b"").unwrap();
        let error = FolderDraft::create_as(taken.clone(), &dir.path().join("step-1")).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert!(taken.join("another's").exists());
    }

    #[test]
    fn sweeping_leaves_what_only_looks_like_a_draft() {
        let dir = tempfile::tempdir().unwrap();
        let mine = ["notes.tmp-old", "a.tmp-", ".tmp-1", "plan.tmp-b.txt"];
        for name in mine {
            files::write_atomic(&dir.path().join(name), b"").unwrap();
        }
        let left = ["a.tmp-7-0123456789abcdef-2", "step-00000003.tmp-removed-7", "b.tmp-1-1"];
        for name in left {
            files::write_atomic(&dir.path().join(name), b"").unwrap();
        }
        assert_eq!(sweep_drafts(dir.path()).unwrap().len(), left.len());
        assert_eq!(files::list_dir(dir.path()).unwrap().len(), mine.len());
    }

    #[test]
    fn sweeping_removes_what_a_kill_left() {
        let dir = tempfile::tempdir().unwrap();
        files::create_dir_all(&dir.path().join("step-2.tmp-1-0")).unwrap();
        files::write_atomic(&dir.path().join("latest.json.tmp-1-1"), b"").unwrap();
        files::write_atomic(&dir.path().join("keep"), b"").unwrap();
        assert_eq!(sweep_drafts(dir.path()).unwrap().len(), 2);
        assert_eq!(files::list_dir(dir.path()).unwrap(), vec![dir.path().join("keep")]);
    }
}
