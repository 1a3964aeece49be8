//! Standard input as a source: the path `-`.
//!
//! A source is read more than once, for its digest, for its first rows and for its documents, and a pipe only once. So its bytes are copied
//! to a temporary file that has no name: it is gone with the process, however that ends.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal as _, Read, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use codex_core::{Digest, Hasher};

use crate::error::DataError;
use crate::shared_file::SharedFile;
use crate::source::SourceChecksum;

/// What a configuration or a command calls it. A file of this name is `./-`.
pub(crate) const STANDARD_INPUT: &str = "-";

/// What is copied at once.
const PIECE_BYTES: usize = 1 << 17;

/// The copy of what came through a pipe.
#[derive(Debug)]
pub(crate) struct Spool {
    file: Arc<SharedFile>,
    bytes: u64,
    blake3: Digest,
}

/// Of this process; a pipe cannot be read again, so everything that names it shares one copy.
static COPY: Mutex<Option<Arc<Spool>>> = Mutex::new(None);

/// The copy of the standard input of this process, made by the first who asks.
///
/// # Errors
/// [`DataError::TerminalInput`] where nothing is piped in, [`DataError::Spool`] where the disk of temporary files is full.
pub(crate) fn copied() -> Result<Arc<Spool>, DataError> {
    let mut copy = COPY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spool) = copy.as_ref() {
        return Ok(Arc::clone(spool));
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(DataError::TerminalInput);
    }
    let spool = Arc::new(Spool::of(stdin.lock())?);
    *copy = Some(Arc::clone(&spool));
    Ok(spool)
}

impl Spool {
    /// Copies everything from a reader to a temporary file.
    pub(crate) fn of(reader: impl Read) -> Result<Self, DataError> {
        let failed = |bytes, source| DataError::Spool { folder: std::env::temp_dir(), bytes, source };
        Self::copy(reader, tempfile::tempfile().map_err(|source| failed(0, source))?).map_err(|(bytes, source)| failed(bytes, source))
    }

    fn copy(mut reader: impl Read, mut file: File) -> Result<Self, (u64, io::Error)> {
        let (mut hasher, mut bytes, mut piece) = (Hasher::new(), 0, vec![0; PIECE_BYTES]);
        loop {
            let n = match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err((bytes, error)),
            };
            hasher.update(&piece[..n]);
            file.write_all(&piece[..n]).map_err(|error| (bytes, error))?;
            bytes += n as u64;
        }
        Ok(Self { file: Arc::new(SharedFile::new(file)), bytes, blake3: hasher.finish() })
    }

    pub(crate) fn checksum(&self) -> SourceChecksum {
        SourceChecksum { path: STANDARD_INPUT.to_owned(), bytes: self.bytes, blake3: self.blake3 }
    }

    /// The copy itself.
    pub(crate) fn file(&self) -> Arc<SharedFile> {
        Arc::clone(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_read_from_the_start_by_each_reader() {
        let text = "0123456789".repeat(40_000);
        let spool = Spool::of(text.as_bytes()).unwrap();
        let expected = SourceChecksum { path: "-".to_owned(), bytes: 400_000, blake3: Digest::of_bytes(text.as_bytes()) };
        assert_eq!(spool.checksum(), expected);
        let (mut first, mut second, mut start) = (spool.file().reader(0), spool.file().reader(399_990), [0; 3]);
        first.read_exact(&mut start).unwrap();
        let mut end = String::new();
        second.read_to_string(&mut end).unwrap();
        let mut rest = String::new();
        first.read_to_string(&mut rest).unwrap();
        assert_eq!((&start, end.as_str(), rest.as_str()), (b"012", "0123456789", &text[3..]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_says_how_far_it_came() {
        #[expect(clippy::disallowed_methods, reason = "a device that is always full, which no atomic write reaches")]
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (bytes, error) = Spool::copy(&b"some text"[..], full).unwrap_err();
        assert_eq!((bytes, error.kind()), (0, ErrorKind::StorageFull));
    }
}
