//! What a checkpoint's files hold before they are written.

use std::io::{self, Write};

use codex_core::{Digest, Hasher};

use crate::tensor_file::TensorFile;

/// The content of one file.
#[derive(Debug)]
pub(crate) enum Content {
    /// As it is.
    Bytes(Vec<u8>),
    /// Made as it is written.
    Tensors(TensorFile),
}

impl Content {
    /// Its size in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Tensors(file) => file.len(),
        }
    }

    /// Writes it and tells what was written.
    pub(crate) fn write_to(&self, to: &mut dyn Write) -> io::Result<Examined> {
        match self {
            Self::Bytes(bytes) => to.write_all(bytes)?,
            // Both read the same memory; it is examined while the system copies it.
            Self::Tensors(file) => {
                return std::thread::scope(|scope| {
                    let examining = scope.spawn(|| self.examine());
                    file.write_to(to)?;
                    examining.join().map_err(|_| io::Error::other("the thread that makes the digest has failed"))?
                });
            }
        }
        self.examine()
    }

    /// What would be written.
    pub(crate) fn examine(&self) -> io::Result<Examined> {
        match self {
            Self::Bytes(bytes) => Ok(Examined { digest: Digest::of_bytes(bytes), not_finite: None }),
            Self::Tensors(file) => {
                let mut hashing = Hashing(Hasher::new());
                file.write_to(&mut hashing)?;
                Ok(Examined { digest: hashing.0.finish(), not_finite: file.not_finite().cloned() })
            }
        }
    }
}

/// What the bytes of a file are.
#[derive(Debug)]
pub(crate) struct Examined {
    /// Their digest.
    pub(crate) digest: Digest,
    /// The name of a tensor with a value that is not finite.
    pub(crate) not_finite: Option<String>,
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
