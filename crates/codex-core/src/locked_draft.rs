//! A folder's draft with a lock beside it, so that a draft whose process is gone can be told from one that is being written.
//!
//! The lock is taken before the folder is made and removed after the folder is gone or has its final name. A lock file that can be taken
//! therefore belongs to nobody, and so does the draft beside it; a folder without one is never touched.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};
use crate::folder::FolderDraft;
use crate::lock::{Lock, LockError};

/// A draft that no other process sweeps away. Dropped unpublished, it and its lock are removed.
#[derive(Debug)]
pub struct LockedDraft {
    // Dropped in this order.
    draft: FolderDraft,
    lock: HeldLock,
}

#[derive(Debug)]
struct HeldLock {
    path: PathBuf,
    _lock: Lock,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        drop(files::remove_file(&self.path));
    }
}

/// A sweeper may take a lock file between its making and its locking; another name is then tried.
const ATTEMPTS: usize = 100;

const LOCK: &str = ".lock";

impl LockedDraft {
    /// Starts a draft of `target`, whose parent is created when absent.
    pub fn create(target: &Path) -> Result<Self, FileError> {
        files::create_dir_all(files::parent(target))?;
        let mut attempt = 1;
        loop {
            let draft = files::temporary_beside(target);
            let path = lock_path(&draft);
            match Lock::acquire(&path) {
                Ok(lock) if path.exists() => {
                    let lock = HeldLock { path, _lock: lock };
                    return Ok(Self { draft: FolderDraft::create_as(draft, target)?, lock });
                }
                Ok(_) | Err(LockError::Busy { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(LockError::File(error)) => return Err(error),
                _ => return Err(FileError::new("lock", &path, io::Error::from(io::ErrorKind::ResourceBusy))),
            }
        }
    }

    /// Where the draft's files are until it is published.
    pub fn path(&self) -> &Path {
        self.draft.path()
    }

    /// Writes one file of the draft, flushed to the disk.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.draft.write(name, bytes)
    }

    /// Gives the folder its final name; one that exists already is an error and stays as it is.
    pub fn publish(self) -> Result<PathBuf, FileError> {
        let Self { draft, lock } = self;
        let published = draft.publish();
        drop(lock);
        published
    }
}

fn lock_path(draft: &Path) -> PathBuf {
    let mut name = draft.as_os_str().to_owned();
    name.push(LOCK);
    PathBuf::from(name)
}

/// Removes the locked drafts in `parent` whose process is gone, whatever they are drafts of. What cannot be removed stays: it is in nobody's way.
pub fn sweep_dead(parent: &Path) {
    for path in files::list_dir(parent).unwrap_or_default() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(draft) = name.strip_suffix(LOCK).map(|name| path.with_file_name(name)) else { continue };
        if !files::is_temporary(&draft) || !files::is_plain_file(&path) {
            continue;
        }
        if let Ok(held) = Lock::acquire(&path) {
            drop(files::remove_dir_all(&draft));
            drop(HeldLock { path, _lock: held });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_draft_is_swept_and_a_living_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let living = LockedDraft::create(&dir.path().join("key")).unwrap();
        let dead = dir.path().join("key.tmp-1-1");
        files::create_dir_all(&dead).unwrap();
        files::write_atomic(&dead.join("train.tokens"), b"half").unwrap();
        files::write_atomic(&lock_path(&dead), b"").unwrap();
        files::write_atomic(&dir.path().join("other.tmp-2-2.lock"), b"").unwrap();
        let others = [dir.path().join("Cargo.lock"), dir.path().join("notes.tmp-old.lock")];
        for other in &others {
            files::write_atomic(other, b"").unwrap();
        }
        // Another kind of draft, which has no lock beside it.
        files::create_dir_all(&dir.path().join("step-1.tmp-1-1")).unwrap();
        sweep_dead(dir.path());
        assert!(!dead.exists() && living.path().is_dir() && others.iter().all(|other| other.exists()));
        assert_eq!(files::list_dir(dir.path()).unwrap().len(), 5, "the draft, its lock and what is others'");
        living.write("a", b"1").unwrap();
        assert_eq!(living.publish().unwrap(), dir.path().join("key"));
        let left = files::list_dir(dir.path()).unwrap();
        assert_eq!(left.len(), 4, "{left:?}");
        drop(LockedDraft::create(&dir.path().join("key")).unwrap());
        assert_eq!(files::list_dir(dir.path()).unwrap(), left);
    }
}
