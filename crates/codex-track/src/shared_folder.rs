//! A folder of metrics that the user named, where other tools may write too: one run at a time, and nothing of others is touched.

use std::path::{Path, PathBuf};

use codex_core::lock::LockError;
use codex_core::{Lock, files};

use crate::error::TrackError;

/// Held by the one run that writes to the folder; other tools do not know of it.
const LOCK: &str = ".metrics.lock";

/// A shared folder that this run has to itself, other tools aside, until it is dropped.
#[derive(Debug)]
pub(crate) struct SharedFolder {
    path: PathBuf,
    _lock: Lock,
}

impl SharedFolder {
    /// Makes the folder when it is not there, and takes its lock at once or fails.
    pub(crate) fn take(path: &Path) -> Result<Self, TrackError> {
        files::create_dir_all(path)?;
        match Lock::acquire(&path.join(LOCK)) {
            Ok(lock) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(LockError::Busy { .. }) => Err(TrackError::MetricsInUse { folder: path.to_owned() }),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
