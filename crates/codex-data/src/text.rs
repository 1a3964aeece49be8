//! A plain text or Markdown file: one document, its bytes as they are.

use std::io::Read;
use std::path::Path;

use codex_safety::Scanner;

use crate::description::SourceDescription;
use crate::document::{Document, Origin};
use crate::error::DataError;
use crate::file_kind::{FileFormat, FileKind};
use crate::input::Input;
use crate::row::{self, RowFault};
use crate::source::{DataSource, Documents, SourceChecksum};

/// A text file that is one document. A byte order mark at the start is passed over; line ends stay as they are.
#[derive(Clone, Debug)]
pub struct TextSource {
    input: Input,
    name: String,
    kind: FileKind,
    max_bytes: usize,
}

impl TextSource {
    /// The file at `path`, of at most `max_bytes`.
    pub fn new(path: &Path, max_bytes: usize) -> Self {
        Self::of_kind(Input::File(path.to_owned()), FileKind::named(path, FileFormat::Text), max_bytes)
    }

    pub(crate) fn of_kind(input: Input, kind: FileKind, max_bytes: usize) -> Self {
        let name = input.name();
        Self { input, name, kind, max_bytes }
    }

    fn read(&self) -> Result<Document, DataError> {
        let bad_row = |line, column, reason| DataError::BadRow { path: self.name.clone(), line, column, reason: Box::new(reason) };
        let mut bytes = Vec::new();
        let mut reader = self.kind.open(&self.input)?.take(self.max_bytes as u64 + 1);
        reader.read_to_end(&mut bytes).map_err(|error| self.kind.failed(&self.input, error))?;
        if bytes.len() > self.max_bytes {
            return Err(bad_row(None, None, RowFault::TooLong { max_row_bytes: self.max_bytes }));
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
        self.input.checksum()
    }

    fn readings(&self) -> Vec<String> {
        vec![format!("{}one text", self.kind.compression.prefix())]
    }

    fn documents(&self) -> Result<Documents<'_>, DataError> {
        Ok(Box::new(std::iter::once_with(|| self.read())))
    }

    fn notes(&self) -> Vec<String> {
        self.kind.note.iter().cloned().collect()
    }

    fn describe(&self, _: u64, _: &Scanner) -> Result<Vec<SourceDescription>, DataError> {
        Ok(vec![self.kind.described(&self.name, FileFormat::Text)])
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
        assert_eq!(read(b"\xFF\xFEa\0\r\0\n\0\xE9\0").unwrap(), "a\r\né");
        assert_eq!(read(b"\xFE\xFF\0a").unwrap(), "a");
        assert_eq!(read(b"").unwrap(), "");
    }

    #[test]
    fn what_cannot_be_read_has_its_place() {
        assert_eq!(read(b"one\ntw\xFFo").unwrap_err(), "`D/a.txt:2:3`: byte 0xff at offset 6 is not UTF-8");
        assert_eq!(read(&[b'x'; 31]).unwrap_err(), "`D/a.txt`: longer than 30 bytes");
        assert_eq!(read(b"a\0b\0").unwrap_err(), "`D/a.txt` is UTF-16 (little-endian, without a byte order mark); expected UTF-8 text");
        assert_eq!(read(b"\xFF\xFEa\0\n\0\xE9\0\0\xD8").unwrap_err(), "`D/a.txt:2:3`: half of a surrogate pair at offset 4");
        assert_eq!(read(b"\xFF\xFEa\0\n").unwrap_err(), "cannot read `D/a.txt` as UTF-16: it ends within a character");
        let absent = TextSource::new(Path::new("no/such.txt"), 30);
        assert!(absent.documents().unwrap().next().unwrap().unwrap_err().to_string().starts_with("cannot open `no/such.txt`"));
        assert!(absent.checksum().is_err());
    }
}
