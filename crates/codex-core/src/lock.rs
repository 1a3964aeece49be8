//! One writer at a time: an advisory lock on a file, released by the operating system when the process ends, however it ends.
#![expect(clippy::disallowed_methods, reason = "opening the lock file is what this module is for")]

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::failure::{ExitClass, Failure};
use crate::files::FileError;

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds it.
    #[error("`{}` is in use by another process", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file could not be made.
    #[error(transparent)]
    File(FileError),
}

impl Failure for LockError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Busy { .. } => ExitClass::Busy,
            Self::File(error) => error.exit_class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Busy { .. } => Some("wait for the other codex process to end, or stop it".to_owned()),
            Self::File(error) => error.hint(),
        }
    }
}

/// How often a lock is tried, and the time between.
const ATTEMPTS: u32 = 20;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

impl Lock {
    /// Takes the lock, or fails a tenth of a second later.
    ///
    /// A process that is being started holds a copy of every descriptor between fork and exec, a lock's too, so a lock that was let go can look
    /// held for a moment.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = opened.map_err(|source| LockError::File(FileError::new("open", path, source)))?;
        for _ in 0..ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(source)) => return Err(LockError::File(FileError::new("lock", path, source))),
            }
        }
        Err(LockError::Busy { path: path.to_owned() })
    }

    /// Whether a process holds the lock; nothing is made. A lock that cannot be looked at counts as held.
    ///
    /// Whoever acquires the lock at that very moment tries again, and gets it.
    pub fn is_held(path: &Path) -> bool {
        match File::open(path) {
            Ok(file) => file.try_lock_shared().is_err(),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::acquire(&path).unwrap();
        assert!(Lock::is_held(&path));
        let error = Lock::acquire(&path).unwrap_err();
        assert_eq!(error.exit_class(), ExitClass::Busy);
        assert!(error.hint().is_some());
        drop(first);
        assert!(!Lock::is_held(&path) && !Lock::is_held(&dir.path().join("absent")) && !dir.path().join("absent").exists());
        assert!(Lock::is_held(&path.join("below a file")), "what cannot be looked at");
        Lock::acquire(&path).unwrap();
        let nowhere = Lock::acquire(&dir.path().join("no/lock")).unwrap_err();
        assert_eq!(nowhere.exit_class(), ExitClass::Io);
        assert!(nowhere.hint().is_some());
    }
}
