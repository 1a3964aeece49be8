//! A plain text or Markdown file: one document, its bytes as they are.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::compressed::Compression;
use crate::document::{Document, Origin};
use crate::error::DataError;
use crate::row::{self, RowFault};
use crate::source::{DataSource, Documents, SourceChecksum, UTF8_BOM, foreign_encoding};

/// A text file that is one document. A UTF-8 byte order mark at the start is passed over; line ends stay as they are.
#[derive(Clone, Debug)]
pub struct TextSource {
    path: PathBuf,
    name: String,
    max_bytes: usize,
}

impl TextSource {
    /// The file at `path`, of at most `max_bytes`.
    pub fn new(path: &Path, max_bytes: usize) -> Self {
        Self { path: path.to_owned(), name: path.display().to_string(), max_bytes }
    }

    fn read(&self) -> Result<Document, DataError> {
        let bad_row = |line, column, reason| DataError::BadRow { path: self.name.clone(), line, column, reason: Box::new(reason) };
        let (compression, _) = Compression::of(&self.path);
        let mut bytes = Vec::new();
        let mut reader = compression.open(&self.path)?.take(self.max_bytes as u64 + 1);
        reader.read_to_end(&mut bytes).map_err(|error| compression.failed(&self.path, error))?;
        if bytes.len() > self.max_bytes {
            return Err(bad_row(None, None, RowFault::TooLong { max_row_bytes: self.max_bytes }));
        }
        if let Some(found) = foreign_encoding(&bytes) {
            return Err(DataError::Encoding { path: self.name.clone(), found });
        }
        if bytes.starts_with(UTF8_BOM) {
            bytes.drain(..UTF8_BOM.len());
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Document::of_text(text, Origin { source: self.name.clone(), line: None })),
            Err(error) => {
                let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = before.split(|byte| *byte == b'\n').count() as u64;
                let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() as u64 + 1;
                let (reason, _) = row::not_utf8(error.as_bytes(), error.utf8_error());
                Err(bad_row(Some(line), Some(column), reason))
            }
        }
    }
}

impl DataSource for TextSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn checksum(&self) -> Result<SourceChecksum, DataError> {
        SourceChecksum::of_file(&self.path)
    }

    fn readings(&self) -> Vec<String> {
        vec![format!("{}one text", Compression::of(&self.path).0.prefix())]
    }

    fn documents(&self) -> Result<Documents<'_>, DataError> {
        Ok(Box::new(std::iter::once_with(|| self.read())))
    }
}

#[cfg(test)]
mod tests {
    use codex_core::files;

    use super::*;

    fn read(bytes: &[u8]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        files::write_atomic(&path, bytes).unwrap();
        let source = TextSource::new(&path, 30);
        assert_eq!(source.checksum().unwrap().bytes, bytes.len() as u64);
        let mut documents = source.documents().unwrap();
        let first = documents.next().unwrap();
        assert!(documents.next().is_none());
        first
            .map(|document| document.content.text().into_owned())
            .map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "D"))
    }

    #[test]
    fn a_file_is_one_document_with_its_bytes_as_they_are() {
        assert_eq!(read(b"one\r\ntwo\n").unwrap(), "one\r\ntwo\n");
        assert_eq!(read(b"\xEF\xBB\xBFbom").unwrap(), "bom");
        assert_eq!(read(b"").unwrap(), "");
    }

    #[test]
    fn what_cannot_be_read_has_its_place() {
        assert_eq!(read(b"one\ntw\xFFo").unwrap_err(), "`D/a.txt:2:3`: byte 0xff at offset 6 is not UTF-8");
        assert_eq!(read(&[b'x'; 31]).unwrap_err(), "`D/a.txt`: longer than 30 bytes");
        assert_eq!(read(b"\xFF\xFEa\0").unwrap_err(), "`D/a.txt` is UTF-16 (little-endian); expected UTF-8 text");
        let absent = TextSource::new(Path::new("no/such.txt"), 30);
        assert!(absent.documents().unwrap().next().unwrap().unwrap_err().to_string().starts_with("cannot open `no/such.txt`"));
        assert!(absent.checksum().is_err());
    }
}
