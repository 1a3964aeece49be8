//! A folder's draft with a lock beside it, so that a draft whose process is gone can be told from one that is being written.

use std::path::{Path, PathBuf};

use codex_core::lock::LockError;
use codex_core::{FileError, FolderDraft, Lock, files};

/// A draft that no other process sweeps away. Dropped, it and its lock are removed.
#[derive(Debug)]
pub(crate) struct LockedDraft {
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

/// A sweeper may meet a draft between its making and its locking; it is then made anew.
const ATTEMPTS: usize = 100;

impl LockedDraft {
    pub(crate) fn create(target: &Path) -> Result<Self, FileError> {
        let mut attempt = 0;
        loop {
            let draft = FolderDraft::create(target)?;
            let path = lock_path(draft.path());
            attempt += 1;
            match Lock::acquire(&path) {
                Ok(lock) => {
                    let lock = HeldLock { path, _lock: lock };
                    if draft.path().is_dir() || attempt >= ATTEMPTS {
                        return Ok(Self { draft, lock });
                    }
                }
                Err(LockError::File(error)) => return Err(error),
                Err(_) if attempt < ATTEMPTS => {}
                Err(busy) => {
                    return Err(FileError::new("lock", &path, std::io::Error::new(std::io::ErrorKind::ResourceBusy, busy)));
                }
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.draft.path()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.draft.write(name, bytes)
    }

    pub(crate) fn publish(self) -> Result<(), FileError> {
        let Self { draft, lock } = self;
        let published = draft.publish();
        drop(lock);
        published.map(drop)
    }
}

fn lock_path(draft: &Path) -> PathBuf {
    let mut name = draft.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Removes the drafts in `root` whose process is gone. What cannot be removed stays: it is in nobody's way.
pub(crate) fn sweep_dead(root: &Path) {
    for path in files::list_dir(root).unwrap_or_default() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.contains(".tmp-") {
            continue;
        }
        let (draft, lock) = match name.strip_suffix(".lock") {
            Some(draft) => (path.with_file_name(draft), path),
            None => (path.clone(), lock_path(&path)),
        };
        if let Ok(held) = Lock::acquire(&lock) {
            drop(files::remove_dir_all(&draft));
            drop(HeldLock { path: lock, _lock: held });
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
        files::write_atomic(&dir.path().join("other.tmp-2-2.lock"), b"").unwrap();
        files::create_dir_all(&dir.path().join("published")).unwrap();
        sweep_dead(dir.path());
        assert!(!dead.exists() && living.path().is_dir());
        assert_eq!(files::list_dir(dir.path()).unwrap().len(), 3, "the draft, its lock and what was published");
        living.write("a", b"1").unwrap();
        living.publish().unwrap();
        let left = files::list_dir(dir.path()).unwrap();
        assert_eq!(left, [dir.path().join("key"), dir.path().join("published")]);
        drop(LockedDraft::create(&dir.path().join("key")).unwrap());
        assert_eq!(files::list_dir(dir.path()).unwrap(), left);
    }
}
