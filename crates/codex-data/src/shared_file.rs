//! A file that several readers read at once, each at a place of its own.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

/// A file whose place is nobody's.
#[derive(Debug)]
pub(crate) struct SharedFile(Mutex<File>);

impl SharedFile {
    pub(crate) fn new(file: File) -> Self {
        Self(Mutex::new(file))
    }

    /// A reader from this byte on.
    pub(crate) fn reader(self: &Arc<Self>, from: u64) -> SharedReader {
        SharedReader { file: Arc::clone(self), at: from }
    }
}

/// Reads a file from a place of its own.
#[derive(Debug)]
pub(crate) struct SharedReader {
    file: Arc<SharedFile>,
    at: u64,
}

impl Read for SharedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut file = self.file.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.at))?;
        let n = file.read(buffer)?;
        self.at += n as u64;
        Ok(n)
    }
}
