//! What a checkpoint's files hold before they are written.

use std::io::{self, Write};

use codex_core::{Digest, Hasher};

use crate::tensor_file::TensorFile;

/// The content of one file.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// As it is.
    Bytes(Vec<u8>),
    /// Made as it is written.
    Tensors(TensorFile<'a>),
}

impl Content<'_> {
    /// Its size in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Tensors(file) => file.len(),
        }
    }

    /// Writes it.
    pub(crate) fn write_to(&self, to: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => to.write_all(bytes),
            Self::Tensors(file) => file.write_to(to),
        }
    }

    /// The digest of what is written.
    pub(crate) fn digest(&self) -> io::Result<Digest> {
        let mut hashing = Hashing(Hasher::new());
        self.write_to(&mut hashing)?;
        Ok(hashing.0.finish())
    }

    /// All of it.
    pub(crate) fn into_bytes(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Tensors(file) => {
                let mut bytes = Vec::new();
                file.write_to(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

/// A writer that only hashes.
struct Hashing(Hasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
