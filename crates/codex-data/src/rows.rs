//! A file of rows: objects in lines, in an array or in a table, each with a text, a prompt or messages; compressed or not.
//!
//! A byte order mark at the start is passed over; `\r\n` ends a line as `\n` does.

use std::io::BufRead;
use std::path::Path;

use codex_safety::Scanner;

use crate::config::{DataConfig, RowKind};
use crate::conversation::{self, FieldNames, Reading};
use crate::description::SourceDescription;
use crate::document::{Document, Origin};
use crate::error::DataError;
use crate::file_kind::{FileFormat, FileKind};
use crate::input::Input;
use crate::row::RowFault;
use crate::row_stream::{Next, RowFormat, RowStream};
use crate::source::{DataSource, Documents, SourceChecksum};

/// A file of rows: JSONL, a JSON array of objects, CSV, TSV or Parquet.
#[derive(Clone, Debug)]
pub struct RowSource {
    input: Input,
    name: String,
    names: FieldNames,
    kind: FileKind,
    format: RowFormat,
    reading: Reading,
    max_row_bytes: usize,
}

impl RowSource {
    /// The file at `path`, whose rows hold their text in `text_field` and are at most `max_row_bytes` long. What its rows are written as is what
    /// its name says; a name that says nothing is one of JSONL.
    pub fn new(path: &Path, text_field: &str, max_row_bytes: usize) -> Self {
        let kind = FileKind::named(path, FileFormat::Rows(RowFormat::Lines));
        let format = match kind.format {
            FileFormat::Rows(format) => format,
            FileFormat::Text => RowFormat::Lines,
        };
        Self::of_kind(Input::File(path.to_owned()), kind, format, FieldNames::with_text(text_field), max_row_bytes)
    }

    pub(crate) fn of_kind(input: Input, kind: FileKind, format: RowFormat, names: FieldNames, max_row_bytes: usize) -> Self {
        let name = input.name();
        Self { input, name, names, kind, format, reading: Reading::Text, max_row_bytes }
    }

    /// The same with the names of fields and the kind of rows that a configuration has. For [`RowKind::Auto`] the first rows are read.
    #[must_use]
    pub fn configured(mut self, config: &DataConfig) -> Self {
        self.names = FieldNames::of(config);
        self.with_rows(config.rows)
    }

    /// The same with rows of this kind. For [`RowKind::Auto`] the first rows are read.
    #[must_use]
    pub fn with_rows(mut self, kind: RowKind) -> Self {
        self.reading = conversation::reading_of(kind, || self.rows().ok(), &self.names);
        self
    }

    fn rows(&self) -> Result<RowStream<Box<dyn BufRead + Send>>, DataError> {
        self.kind.rows(&self.input, self.format, self.max_row_bytes)
    }
}

impl DataSource for RowSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn checksum(&self) -> Result<SourceChecksum, DataError> {
        self.input.checksum()
    }

    fn readings(&self) -> Vec<String> {
        vec![format!("{}{}{}", self.kind.compression.prefix(), self.format.prefix(), self.reading.name())]
    }

    fn has_conversations(&self) -> bool {
        self.reading != Reading::Text
    }

    fn documents(&self) -> Result<Documents<'_>, DataError> {
        Ok(Box::new(Rows::of(self.rows()?, self)))
    }

    fn notes(&self) -> Vec<String> {
        self.kind.note.iter().cloned().collect()
    }

    fn describe(&self, max_rows: u64, scanner: &Scanner) -> Result<Vec<SourceDescription>, DataError> {
        let mut description = self.kind.described(&self.name, FileFormat::Rows(self.format));
        let (mut rows, mut row) = (self.rows()?, Vec::new());
        while description.rows + description.bad_rows < max_rows {
            match rows.next_row(&mut row).map_err(|error| self.kind.failed(&self.input, error))? {
                Next::Row => description.add(&row, scanner),
                Next::Bad(..) => description.bad_rows += 1,
                Next::End => break,
            }
        }
        Ok(vec![description])
    }
}

/// The rows of a reader.
#[derive(Debug)]
pub(crate) struct Rows<'a, R> {
    rows: RowStream<R>,
    source: &'a RowSource,
    row: Vec<u8>,
    ended: bool,
}

impl<'a, R: BufRead> Rows<'a, R> {
    fn of(rows: RowStream<R>, source: &'a RowSource) -> Self {
        Self { rows, source, row: Vec::new(), ended: false }
    }

    fn bad_row(&self, (reason, column): (RowFault, Option<u64>)) -> DataError {
        DataError::BadRow { path: self.source.name.clone(), line: Some(self.rows.line()), column, reason: Box::new(reason) }
    }
}

impl<R: BufRead> Iterator for Rows<'_, R> {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.rows.next_row(&mut self.row) {
            Err(error) => {
                self.ended = true;
                Some(Err(self.source.kind.failed(&self.source.input, error)))
            }
            Ok(Next::End) => {
                self.ended = true;
                None
            }
            Ok(Next::Bad(reason, column)) => Some(Err(self.bad_row((reason, column)))),
            Ok(Next::Row) => {
                let read = conversation::content_of_row(&self.row, self.source.reading, &self.source.names);
                // A column in a row of JSON is one of its line only where rows are lines.
                let is_line = self.source.format == RowFormat::Lines;
                let read = read.map_err(|(reason, column)| self.bad_row((reason, column.filter(|_| is_line))));
                let origin = || Origin { source: self.source.name.clone(), line: Some(self.rows.line()) };
                Some(read.map(|content| Document { content, origin: origin() }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::decoded;
    use proptest::prelude::*;

    fn rows(bytes: &[u8]) -> Result<Vec<Result<String, String>>, String> {
        read(bytes, Reading::Text)
    }

    fn read(bytes: &[u8], reading: Reading) -> Result<Vec<Result<String, String>>, String> {
        let source = RowSource { reading, ..RowSource::new(Path::new("d.jsonl"), "text", 200) };
        let rows = start(bytes, &source)?;
        Ok(rows.map(|row| row.map(|document| document.content.text().into_owned()).map_err(|error| error.to_string())).collect())
    }

    fn start<'a>(bytes: &[u8], source: &'a RowSource) -> Result<Rows<'a, Box<dyn BufRead + Send>>, String> {
        let reader = decoded(Box::new(std::io::Cursor::new(bytes.to_vec()))).unwrap()?;
        Ok(Rows::of(RowStream::new(reader, source.format, source.max_row_bytes), source))
    }

    fn check(bytes: &[u8], expected: &[Result<&str, &str>]) {
        let expected: Vec<Result<String, String>> =
            expected.iter().map(|row| row.map(str::to_owned).map_err(|error| format!("`d.jsonl:{error}"))).collect();
        assert_eq!(rows(bytes).unwrap(), expected, "{}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn rows_that_can_be_used() {
        check(b"", &[]);
        check(b"\n \r\n\t\n", &[]);
        check(br#"{"text": "no newline at the end"}"#, &[Ok("no newline at the end")]);
        check(b"\xEF\xBB\xBF{\"text\": \"bom\"}\n", &[Ok("bom")]);
        check(b"{\"text\":\"a\"}\r\n{\"text\":\"b\"}\r\n", &[Ok("a"), Ok("b")]);
        check(br#"{"id": 7, "more": {"text": [1, null, true]}, "text": "", "z": "z"}"#, &[Ok("")]);
        check(r#"{"text": "é \u00e9 \ud83d\ude00 \u0000 \"q\" \n"}"#.as_bytes(), &[Ok("é é 😀 \0 \"q\" \n")]);
        check("{\"text\": \"\u{feff}inside\"}".as_bytes(), &[Ok("\u{feff}inside")]);
        check(br#"{"a": [{"x": 1}, {"x": 2}], "text": "same key, two objects"}"#, &[Ok("same key, two objects")]);
    }

    #[test]
    fn each_trap_has_its_place_and_reason() {
        let table: &[(&[u8], &str)] = &[
            (b"\xEF\xBB\xBF\xEF\xBB\xBF{\"text\": \"two\"}", "1:1`: not JSON: expected value"),
            (b"{\"text\": \"a\xFFb\"}", "1:12`: byte 0xff at offset 11 is not UTF-8"),
            (b"{\"text\": \"cut \xC3\"}", "1:15`: byte 0xc3 at offset 14 is not UTF-8"),
            (b"{\"text\": \"\xED\xA0\x80\"}", "1:11`: half of a surrogate pair at offset 10"),
            (b"{\"text\": \"\xED\"}", "1:11`: byte 0xed at offset 10 is not UTF-8"),
            (b"\x80", "1:1`: byte 0x80 at offset 0 is not UTF-8"),
            (br#"["text"]"#, "1`: expected an object, found an array"),
            (br#"[{"text": "a"}, {"text": "b"}]"#, "1`: expected an object, found an array"),
            (br#""text""#, "1`: expected an object, found text"),
            (b"null", "1`: expected an object, found null"),
            (b"12.5", "1`: expected an object, found a number"),
            (b"true", "1`: expected an object, found true"),
            (b"{}", "1`: no field `text`; the object is empty"),
            (br#"{"id": 1, "txt": "a"}"#, "1`: no field `text`; the row has `id`, `txt`"),
            (br#"{"TEXT": "a"}"#, "1`: no field `text`; the row has `TEXT`"),
            (br#"{"more": {"text": "too deep"}}"#, "1`: no field `text`; the row has `more`"),
            (br#"{"text": null}"#, "1`: field `text`: expected text, found null"),
            (br#"{"text": 7}"#, "1`: field `text`: expected text, found a number"),
            (br#"{"text": -7}"#, "1`: field `text`: expected text, found a number"),
            (br#"{"text": 7.5}"#, "1`: field `text`: expected text, found a number"),
            (br#"{"text": false}"#, "1`: field `text`: expected text, found false"),
            (br#"{"text": ["a", "b"]}"#, "1`: field `text`: expected text, found an array"),
            (br#"{"text": {"text": "a"}}"#, "1`: field `text`: expected text, found an object"),
            (br#"{"text": "a", "text": "b"}"#, "1`: key `text` occurs twice in one object"),
            (br#"{"text": "a", "t\u0065xt": "b"}"#, "1`: key `text` occurs twice in one object"),
            (br#"{"id": 1, "id": 1, "text": "a"}"#, "1`: key `id` occurs twice in one object"),
            (br#"{"text": "a", "more": [{"k": 1, "k": 2}]}"#, "1`: key `k` occurs twice in one object"),
            (br#"{"text": NaN}"#, "1:10`: not JSON: expected value"),
            (br#"{"text": Infinity}"#, "1:10`: not JSON: expected value"),
            (br#"{"text": "a", "score": 1e999}"#, "1:28`: not JSON: number out of range"),
            (br#"{"text": 'a'}"#, "1:10`: not JSON: expected value"),
            (br#"{"text": "a",}"#, "1:14`: not JSON: trailing comma"),
            (br#"{"text": "a"} {"text": "b"}"#, "1:15`: not JSON: trailing characters"),
            (br#"{"text": "a"} // note"#, "1:15`: not JSON: trailing characters"),
            (br#"{"text": "a"#, "1:11`: not JSON: EOF while parsing a string"),
            (br#"{"text": "a""#, "1:12`: not JSON: EOF while parsing an object"),
            (b"{\"text\": \"tab\there\"}", "1:14`: not JSON: control character (\\u0000-\\u001F) found while parsing a string"),
            (br#"{"text": "\ud800"}"#, "1:17`: not JSON: unexpected end of hex escape"),
            (br#"{"text": "\x41"}"#, "1:12`: not JSON: invalid escape"),
            (b"{\"text\": \"a\"}\0", "1:14`: not JSON: trailing characters"),
            (b"plain prose, no JSON at all", "1:1`: not JSON: expected value"),
        ];
        for (row, expected) in table {
            check(row, &[Err(*expected)]);
        }
    }

    #[test]
    fn a_bad_chat_has_its_line() {
        let bytes = "{\"prompt\": \"a\", \"completion\": \"b\"}\n\n{\"prompt\": \"a\", \"completion\": 7}\n{\"messages\": [{\"content\": \"c\"}]}\n{\"messages\": [}";
        let found = read(bytes.as_bytes(), Reading::Any).unwrap();
        let expected = [
            Ok("ab".to_owned()),
            Err("`d.jsonl:3`: `completion`: expected text, found a number".to_owned()),
            Err("`d.jsonl:4`: `messages[0].role`: expected text, found nothing".to_owned()),
            Err("`d.jsonl:5:15`: not JSON: expected value".to_owned()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_bad_row_does_not_end_the_file() {
        let long = format!("{{\"text\": \"{}\"}}", "x".repeat(300));
        let bytes = format!("{{\"text\":\"a\"}}\n\noops\n{long}\n{{\"text\":\"b\"}}");
        let expected: &[Result<&str, &str>] = &[Ok("a"), Err("3:1`: not JSON: expected value"), Err("4`: longer than 200 bytes"), Ok("b")];
        check(bytes.as_bytes(), expected);
    }

    #[test]
    fn a_depth_bomb_is_an_error() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let row = format!("{{\"text\": \"a\", \"b\": {}1{}}}", open.repeat(5000), close.repeat(5000));
            let source = RowSource::new(Path::new("d"), "text", 1 << 20);
            let found: Vec<_> = start(row.as_bytes(), &source).unwrap().collect();
            let said = found[0].as_ref().unwrap_err().to_string();
            assert!(said.ends_with("not JSON: recursion limit exceeded"), "{said}");
        }
    }

    #[test]
    fn utf_16_with_its_mark_has_the_places_of_its_text() {
        let text = "\u{feff}{\"text\": \"é😀\"}\r\n{\"text\": \"é\", 7}\n{\"text\": \"\u{e000}\"}";
        for is_big in [false, true] {
            let bytes = |text: &str| -> Vec<u8> {
                text.encode_utf16()
                    // A lone surrogate in place of a character of private use.
                    .map(|unit| if unit == 0xE000 { 0xD801 } else { unit })
                    .flat_map(|unit| if is_big { unit.to_be_bytes() } else { unit.to_le_bytes() })
                    .collect()
            };
            check(
                &bytes(text),
                &[Ok("é😀"), Err("2:16`: not JSON: key must be a string"), Err("3:11`: half of a surrogate pair at offset 10")],
            );
            assert!(rows(&bytes("{\"text\"")).unwrap_err().starts_with("UTF-16 ("), "without a mark it is a guess");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop((rows(&bytes), read(&bytes, Reading::Any)));
        }

        #[test]
        fn no_text_near_json_makes_the_reader_panic(text in r#"([{}\[\]",:0-9a-z\\ue. -]|"text"|\n|é){0,60}"#) {
            drop((rows(text.as_bytes()), read(text.as_bytes(), Reading::Any)));
        }

        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let row = serde_json::json!({"id": 1, "text": text}).to_string();
            let source = RowSource::new(Path::new("d"), "text", 1 << 20);
            let found: Vec<_> = start(row.as_bytes(), &source).unwrap().collect();
            prop_assert_eq!(&found[0].as_ref().unwrap().content.text(), &text);
        }
    }
}
