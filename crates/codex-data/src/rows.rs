//! A file of rows: objects in lines, in an array or in a table, each with a text, a prompt or messages; compressed or not.
//!
//! A UTF-8 byte order mark at the start is passed over; `\r\n` ends a line as `\n` does.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use crate::compressed::Compression;
use crate::config::{DataConfig, RowKind};
use crate::conversation::{self, FieldNames, Reading};
use crate::document::{Document, Origin};
use crate::error::DataError;
use crate::row::RowFault;
use crate::row_stream::{Next, RowFormat, RowStream};
use crate::source::{DataSource, Documents, SourceChecksum, UTF8_BOM, foreign_encoding};

/// A file of rows: JSONL, a JSON array of objects, CSV or TSV, as its name says.
#[derive(Clone, Debug)]
pub struct RowSource {
    path: PathBuf,
    name: String,
    names: FieldNames,
    compression: Compression,
    format: RowFormat,
    reading: Reading,
    max_row_bytes: usize,
}

impl RowSource {
    /// The file at `path`, whose rows hold their text in `text_field` and are at most `max_row_bytes` long. A name that says nothing is one of JSONL.
    pub fn new(path: &Path, text_field: &str, max_row_bytes: usize) -> Self {
        let (compression, name) = Compression::of(path);
        let format = Path::new(&name).extension().and_then(|end| RowFormat::of_extension(&end.to_string_lossy()));
        Self {
            path: path.to_owned(),
            name: path.display().to_string(),
            names: FieldNames::with_text(text_field),
            compression,
            format: format.unwrap_or(RowFormat::Lines),
            reading: Reading::Text,
            max_row_bytes,
        }
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
        let file = || Some((self.compression.open(&self.path).ok()?, self.format));
        self.reading = conversation::reading_of(kind, file, &self.names, self.max_row_bytes);
        self
    }
}

impl DataSource for RowSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn checksum(&self) -> Result<SourceChecksum, DataError> {
        SourceChecksum::of_file(&self.path)
    }

    fn readings(&self) -> Vec<String> {
        vec![format!("{}{}{}", self.compression.prefix(), self.format.prefix(), self.reading.name())]
    }

    fn has_conversations(&self) -> bool {
        self.reading != Reading::Text
    }

    fn documents(&self) -> Result<Documents<'_>, DataError> {
        let reader = self.compression.open(&self.path)?;
        Ok(Box::new(Rows::start(reader, self)?))
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
    pub(crate) fn start(mut reader: R, source: &'a RowSource) -> Result<Self, DataError> {
        let start = reader.fill_buf().map_err(|error| source.compression.failed(&source.path, error))?;
        if let Some(found) = foreign_encoding(start) {
            return Err(DataError::Encoding { path: source.name.clone(), found });
        }
        if start.starts_with(UTF8_BOM) {
            reader.consume(UTF8_BOM.len());
        }
        Ok(Self { rows: RowStream::new(reader, source.format, source.max_row_bytes), source, row: Vec::new(), ended: false })
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
                Some(Err(self.source.compression.failed(&self.source.path, error)))
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
    use proptest::prelude::*;

    fn rows(bytes: &[u8]) -> Result<Vec<Result<String, String>>, String> {
        read(bytes, Reading::Text)
    }

    fn read(bytes: &[u8], reading: Reading) -> Result<Vec<Result<String, String>>, String> {
        let source = RowSource { reading, ..RowSource::new(Path::new("d.jsonl"), "text", 200) };
        let rows = Rows::start(bytes, &source).map_err(|error| error.to_string())?;
        Ok(rows.map(|row| row.map(|document| document.content.text().into_owned()).map_err(|error| error.to_string())).collect())
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
            (b"{\"text\": \"\xED\xA0\x80\"}", "1:11`: byte 0xed at offset 10 is not UTF-8"),
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
            let found: Vec<_> = Rows::start(row.as_bytes(), &source).unwrap().collect();
            let said = found[0].as_ref().unwrap_err().to_string();
            assert!(said.ends_with("not JSON: recursion limit exceeded"), "{said}");
        }
    }

    #[test]
    fn other_encodings_are_named() {
        let utf16: Vec<u8> = "{\"text\"".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf16_be: Vec<u8> = "{\"text\"".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let table: [(&[u8], &str); 8] = [
            (b"\xFF\xFE{\0", "UTF-16 (little-endian)"),
            (b"\xFE\xFF\0{", "UTF-16 (big-endian)"),
            (b"\xFF\xFE\0\0", "UTF-32"),
            (b"\0\0\xFE\xFF", "UTF-32"),
            (&utf16, "UTF-16 (little-endian, without a byte order mark)"),
            (&utf16_be, "UTF-16 (big-endian, without a byte order mark)"),
            (b"\x1F\x8B\x08", "compressed with gzip"),
            (b"\x28\xB5\x2F\xFD", "compressed with zstd"),
        ];
        for (bytes, found) in table {
            assert_eq!(rows(bytes).unwrap_err(), format!("`d.jsonl` is {found}; expected UTF-8 text"));
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
            let found: Vec<_> = Rows::start(row.as_bytes(), &source).unwrap().collect();
            prop_assert_eq!(&found[0].as_ref().unwrap().content.text(), &text);
        }
    }
}
