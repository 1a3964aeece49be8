//! Where the bytes of a source are: in a file, or in the copy of standard input.
//!
//! Bytes only; what they mean is in [`crate::file_kind`].

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::{FileError, files};

use crate::error::DataError;
use crate::source::SourceChecksum;
use crate::standard_input::{STANDARD_INPUT, Spool};

/// Bytes that can be read from the start any number of times.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    File(PathBuf),
    Standard(Arc<Spool>),
}

impl Input {
    /// As messages and origins show it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Standard(_) => "standard input".to_owned(),
        }
    }

    /// The path whose ending says what the bytes are; that of standard input says nothing.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Standard(_) => Path::new(STANDARD_INPUT),
        }
    }

    pub(crate) fn is_standard(&self) -> bool {
        matches!(self, Self::Standard(_))
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send>, DataError> {
        Ok(match self {
            Self::File(path) => Box::new(files::open(path)?),
            Self::Standard(spool) => Box::new(spool.file().reader(0)),
        })
    }

    pub(crate) fn checksum(&self) -> Result<SourceChecksum, DataError> {
        match self {
            Self::File(path) => SourceChecksum::of_file(path),
            Self::Standard(spool) => Ok(spool.checksum()),
        }
    }

    /// The error of a read that the operating system refused.
    pub(crate) fn failed(&self, source: std::io::Error) -> DataError {
        FileError::new("read", Path::new(&self.name()), source).into()
    }
}
