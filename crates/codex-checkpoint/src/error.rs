//! Why a checkpoint was not saved or not loaded.

use std::path::PathBuf;

use codex_core::lock::LockError;
use codex_core::{Digest, ExitClass, Failure, FileError};

/// A checkpoint that could not be saved, found or trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused a read or a write.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process writes to the folder.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The store was opened for reading.
    #[error("`{}` is open for reading only", path.display())]
    ReadOnly {
        /// The checkpoints' folder.
        path: PathBuf,
    },
    /// A file's content is not what the manifest says.
    #[error("`{}` is damaged: expected BLAKE3 {expected}, found {found}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A file has another size than the manifest says.
    #[error("`{}` is damaged: expected {expected} bytes, found {found}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A manifest, a tensor file or a state cannot be understood or must not be followed.
    #[error("`{}`: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The checkpoint was written by another version of the format.
    #[error("`{}` has schema {found}; this program reads schema {supported}", path.display())]
    Schema {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version that is read.
        supported: u64,
    },
    /// The checkpoint belongs to another plan.
    #[error("`{}` belongs to another plan: expected {expected}, found {found}", path.display())]
    PlanMismatch {
        /// The checkpoint.
        path: PathBuf,
        /// The plan of the run.
        expected: Digest,
        /// The plan of the checkpoint.
        found: Digest,
    },
    /// There are checkpoints and none of them is whole.
    #[error("no checkpoint in `{}` is whole; the newest, step {step}: {reason}", path.display())]
    NoneWhole {
        /// The checkpoints' folder.
        path: PathBuf,
        /// The newest step.
        step: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no checkpoint of this step.
    #[error("there is no checkpoint of step {step} in `{}`; there are: {known:?}", path.display())]
    Absent {
        /// The checkpoints' folder.
        path: PathBuf,
        /// The step asked for.
        step: u64,
        /// The steps there are.
        known: Vec<u64>,
    },
    /// A checkpoint of this step is there with other content.
    #[error("`{}` exists with other content", path.display())]
    Exists {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A tensor has values that are not finite.
    #[error("tensor `{name}` of step {step} has values that are not finite; it is not saved")]
    NotFinite {
        /// The tensor.
        name: String,
        /// The step.
        step: u64,
    },
    /// The thread that saves cannot do so.
    #[error("the thread that saves checkpoints: {reason}")]
    Thread {
        /// What is wrong.
        reason: String,
    },
    /// A tensor or file cannot be saved as it is.
    #[error("`{name}` cannot be saved: {reason}")]
    Unsaveable {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl CheckpointError {
    /// Whether the files themselves were read and are bad; an unread file or a newer format is not known to be.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Digest { .. } | Self::Size { .. } | Self::Malformed { .. })
    }
}

impl Failure for CheckpointError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::File(error) => error.exit_class(),
            Self::Thread { .. } => ExitClass::Io,
            Self::Locked(error) => error.exit_class(),
            Self::ReadOnly { .. } | Self::Absent { .. } => ExitClass::Usage,
            Self::NotFinite { .. } | Self::Unsaveable { .. } => ExitClass::Data,
            Self::Digest { .. }
            | Self::Size { .. }
            | Self::Malformed { .. }
            | Self::Schema { .. }
            | Self::PlanMismatch { .. }
            | Self::NoneWhole { .. }
            | Self::Exists { .. } => ExitClass::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File(error) => return error.hint(),
            Self::Locked(error) => return error.hint(),
            Self::Digest { .. } | Self::Size { .. } | Self::Malformed { .. } => {
                "restore the folder from a copy, or remove it: an older checkpoint is used then".to_owned()
            }
            Self::Schema { .. } => "use the version of codex that wrote it".to_owned(),
            Self::PlanMismatch { .. } => "restore the configuration it was made with, or start over with `--fresh`".to_owned(),
            Self::NoneWhole { .. } => "restore the folder from a copy, or start over with `--fresh`".to_owned(),
            Self::Absent { .. } => "`codex-cli checkpoint list` shows what there is".to_owned(),
            Self::Exists { .. } => "the run is not the one that wrote it; start over with `--fresh`".to_owned(),
            Self::NotFinite { .. } => "lower `train.learning_rate`; the last checkpoint is intact".to_owned(),
            Self::Thread { .. } | Self::ReadOnly { .. } | Self::Unsaveable { .. } => return None,
        })
    }
}
