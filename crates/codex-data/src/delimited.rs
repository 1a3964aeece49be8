//! The records of a table with commas or tabs (RFC 4180), each as a JSON object of texts: the first record names the fields.
//!
//! Empty lines are no records. A record is never held with more than a given number of bytes.

use std::io::{self, BufRead};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use crate::row::{self, RowFault};
use crate::row_stream::{Next, newlines};

/// A reader of a table.
pub(crate) struct Delimited<R> {
    reader: R,
    csv: Reader,
    max_row_bytes: usize,
    /// The names of the fields, as JSON texts; `None` before the first record.
    names: Option<Vec<String>>,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// Lines that have ended.
    lines: u64,
    /// On which the last record began.
    line: u64,
    is_broken: bool,
}

impl<R> std::fmt::Debug for Delimited<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delimited").field("names", &self.names).field("line", &self.line).finish_non_exhaustive()
    }
}

/// The most fields of a record.
const MAX_FIELDS: usize = 4096;

/// What was found of a record.
enum Record {
    End,
    Whole,
    TooLong,
}

impl<R: BufRead> Delimited<R> {
    pub(crate) fn new(reader: R, delimiter: u8, max_row_bytes: usize) -> Self {
        let csv = ReaderBuilder::new().delimiter(delimiter).build();
        let (fields, ends) = (vec![0; 1024], vec![0; 64]);
        Self { reader, csv, max_row_bytes, names: None, fields, ends, lines: 0, line: 0, is_broken: false }
    }

    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    pub(crate) fn next_row(&mut self, row: &mut Vec<u8>) -> io::Result<Next> {
        row.clear();
        loop {
            if self.is_broken {
                return Ok(Next::End);
            }
            let n_fields = match self.record()? {
                (Record::End, _) => return Ok(Next::End),
                (Record::TooLong, _) => {
                    // Without names nothing can be read.
                    self.is_broken = self.names.is_none();
                    return Ok(Next::Bad(RowFault::TooLong { max_row_bytes: self.max_row_bytes }, None));
                }
                (Record::Whole, n_fields) => n_fields,
            };
            let texts = match texts(&self.fields, &self.ends[..n_fields]) {
                Ok(texts) => texts,
                Err(fault) => {
                    self.is_broken = self.names.is_none();
                    return Ok(Next::Bad(fault, None));
                }
            };
            let Some(names) = &self.names else {
                let named = names_of(&texts);
                match named {
                    Ok(named) => self.names = Some(named),
                    Err(fault) => {
                        self.is_broken = true;
                        return Ok(Next::Bad(fault, None));
                    }
                }
                continue;
            };
            if texts.len() != names.len() {
                return Ok(Next::Bad(RowFault::Columns { expected: names.len(), found: texts.len() }, None));
            }
            row.push(b'{');
            for (i, (name, text)) in names.iter().zip(texts).enumerate() {
                if i > 0 {
                    row.push(b',');
                }
                row.extend_from_slice(name.as_bytes());
                row.push(b':');
                serde_json::to_writer(&mut *row, text)?;
            }
            row.push(b'}');
            return Ok(Next::Row);
        }
    }

    /// Reads the next record into `fields` and `ends`; how many fields it has.
    fn record(&mut self) -> io::Result<(Record, usize)> {
        let (mut n_bytes, mut n_ends, mut too_long) = (0, 0, false);
        let mut begun = false;
        loop {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let mut input = available;
            if !begun {
                // Empty lines before it, so that its own line is known.
                let n = input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
                if n > 0 {
                    self.lines += newlines(&input[..n]);
                    self.reader.consume(n);
                    continue;
                }
                self.line = self.lines + 1;
                begun = !input.is_empty();
            }
            if too_long {
                // What has been read of a record that is too long is not wanted.
                (n_bytes, n_ends) = (0, 0);
            }
            let (result, n_in, n_out, n_found) = self.csv.read_record(input, &mut self.fields[n_bytes..], &mut self.ends[n_ends..]);
            input = &input[..n_in];
            self.lines += newlines(input);
            self.reader.consume(n_in);
            n_bytes += n_out;
            n_ends += n_found;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.fields.len() <= self.max_row_bytes => {
                    self.fields.resize((2 * self.fields.len()).min(self.max_row_bytes + 1), 0);
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() < MAX_FIELDS => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => too_long = true,
                ReadRecordResult::Record if too_long || n_bytes > self.max_row_bytes => return Ok((Record::TooLong, 0)),
                ReadRecordResult::Record => return Ok((Record::Whole, n_ends)),
                ReadRecordResult::End => return Ok((Record::End, 0)),
            }
        }
    }
}

/// The fields of a record as texts.
fn texts<'f>(fields: &'f [u8], ends: &[usize]) -> Result<Vec<&'f str>, RowFault> {
    let mut start = 0;
    let mut all = Vec::with_capacity(ends.len());
    for &end in ends {
        let field = fields.get(start..end).unwrap_or_default();
        let text = std::str::from_utf8(field).map_err(|error| match row::not_utf8(field, error).0 {
            RowFault::NotUtf8 { byte, offset } => RowFault::NotUtf8 { byte, offset: start + offset },
            RowFault::LoneSurrogate { offset } => RowFault::LoneSurrogate { offset: start + offset },
            other => other,
        })?;
        all.push(text);
        start = end;
    }
    Ok(all)
}

/// The names of the fields as JSON texts.
fn names_of(texts: &[&str]) -> Result<Vec<String>, RowFault> {
    for (i, name) in texts.iter().enumerate() {
        if texts[..i].contains(name) {
            return Err(RowFault::DuplicateKey { key: (*name).to_owned() });
        }
    }
    Ok(texts.iter().map(|name| serde_json::Value::from(*name).to_string()).collect())
}

#[cfg(test)]
mod tests {
    use crate::row_stream::{RowFormat, check_rows, rows_of};
    use proptest::prelude::*;

    fn rows(text: &[u8], buffer: usize) -> Vec<Result<(u64, String), String>> {
        rows_of(text, RowFormat::Comma, (buffer, 2000))
    }

    fn check(text: &str, expected: &[Result<(u64, &str), &str>]) {
        check_rows(text, RowFormat::Comma, 2000, expected);
    }

    #[test]
    fn records_become_objects_of_texts() {
        check("", &[]);
        check("text\n", &[]);
        check("text,n\na,1\r\nb,2", &[Ok((2, "{\"text\":\"a\",\"n\":\"1\"}")), Ok((3, "{\"text\":\"b\",\"n\":\"2\"}"))]);
        check(
            "text\n\n\"two\nlines, \"\"quoted\"\"\"\n\nx\n",
            &[Ok((3, "{\"text\":\"two\\nlines, \\\"quoted\\\"\"}")), Ok((6, "{\"text\":\"x\"}"))],
        );
        let long = format!("text\n{}\nb\n", "x".repeat(3000));
        check(&long, &[Err("2: longer than 2000 bytes"), Ok((3, "{\"text\":\"b\"}"))]);
        let exact = format!("text\n{}\n", "x".repeat(2000));
        assert_eq!(rows(exact.as_bytes(), 64).len(), 1);
        assert!(rows(exact.as_bytes(), 64)[0].is_ok());
    }

    #[test]
    fn what_does_not_fit_the_names_is_told_with_its_line() {
        check(
            "a,b\n1\n1,2\n1,2,3\n",
            &[Err("2: expected 2 fields, found 1"), Ok((3, "{\"a\":\"1\",\"b\":\"2\"}")), Err("4: expected 2 fields, found 3")],
        );
        check("a,a\n1,2\n", &[Err("1: key `a` occurs twice in one object")]);
        assert_eq!(
            rows(b"a\nx\xFFy\nb\n", 9),
            [Err("2: byte 0xff at offset 1 is not UTF-8".to_owned()), Ok((3, "{\"a\":\"b\"}".to_owned()))]
        );
        let many = format!("{}\n", ",".repeat(5000));
        assert_eq!(rows(many.as_bytes(), 100), [Err("1: longer than 2000 bytes".to_owned())]);
    }

    proptest! {
        #[test]
        fn what_the_csv_crate_writes_comes_back(records in prop::collection::vec(prop::collection::vec("[^\r]{0,8}", 2), 0..6), buffer in 1_usize..30) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["a", "b"]).unwrap();
            for record in &records {
                writer.write_record(record).unwrap();
            }
            let found = rows(&writer.into_inner().unwrap(), buffer);
            let expected: Vec<String> =
                records.iter().map(|it| format!("{{\"a\":{},\"b\":{}}}", serde_json::json!(it[0]), serde_json::json!(it[1]))).collect();
            prop_assert_eq!(found.into_iter().map(|row| row.unwrap().1).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), buffer in 1_usize..20) {
            drop(rows(&bytes, buffer));
        }
    }
}
