//! The rows of a file, one JSON object at a time, whatever they are written as: lines, the elements of an array, or records of a table.

use std::io::{self, BufRead};

use crate::delimited::Delimited;
use crate::json_array::ArrayRows;
use crate::lines::{Line, Lines};
#[cfg(feature = "parquet")]
use crate::parquet_rows::ParquetRows;
use crate::row::RowFault;

/// What rows are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowFormat {
    /// One JSON object per line.
    Lines,
    /// One JSON array of objects.
    Array,
    /// Records with commas (RFC 4180), whose first names the fields.
    Comma,
    /// The same with tabs.
    Tab,
    /// Rows of an Apache Parquet file.
    Parquet,
}

impl RowFormat {
    /// What the extension of a file says.
    pub(crate) fn of_extension(extension: &str) -> Option<Self> {
        Some(match extension {
            "jsonl" | "ndjson" => Self::Lines,
            "json" => Self::Array,
            "csv" => Self::Comma,
            "tsv" => Self::Tab,
            "parquet" => Self::Parquet,
            _ => return None,
        })
    }

    /// What the cache's key says of it.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Lines => "",
            Self::Array => "array: ",
            Self::Comma => "csv: ",
            Self::Tab => "tsv: ",
            Self::Parquet => "parquet: ",
        }
    }

    /// As descriptions and notes have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lines => "JSON lines",
            Self::Array => "a JSON array",
            Self::Comma => "a table with commas (CSV)",
            Self::Tab => "a table with tabs (TSV)",
            Self::Parquet => "Parquet",
        }
    }
}

/// How many lines end in these bytes.
pub(crate) fn newlines(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').count() as u64 - 1
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    End,
    /// A row, in the buffer.
    Row,
    /// A row that cannot be used, and the column of the place from 1 where one is known.
    Bad(RowFault, Option<u64>),
}

/// The rows of a reader.
#[derive(Debug)]
pub(crate) enum RowStream<R> {
    Lines {
        lines: Lines<R>,
        line: u64,
        max_row_bytes: usize,
    },
    Array(ArrayRows<R>),
    Delimited(Box<Delimited<R>>),
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetRows>),
}

impl<R: BufRead> RowStream<R> {
    pub(crate) fn new(reader: R, format: RowFormat, max_row_bytes: usize) -> Self {
        match format {
            // A Parquet file is no text: it is opened by `FileKind::rows`.
            RowFormat::Lines | RowFormat::Parquet => Self::Lines { lines: Lines::new(reader, max_row_bytes), line: 0, max_row_bytes },
            RowFormat::Array => Self::Array(ArrayRows::new(reader, max_row_bytes)),
            RowFormat::Comma => Self::Delimited(Box::new(Delimited::new(reader, b',', max_row_bytes))),
            RowFormat::Tab => Self::Delimited(Box::new(Delimited::new(reader, b'\t', max_row_bytes))),
        }
    }

    /// Reads the next row into `row`, which is emptied first. Rows of white space alone are passed over.
    pub(crate) fn next_row(&mut self, row: &mut Vec<u8>) -> io::Result<Next> {
        match self {
            Self::Lines { lines, line, max_row_bytes } => loop {
                let found = lines.next_line(row)?;
                *line += 1;
                match found {
                    Line::End => return Ok(Next::End),
                    Line::TooLong => return Ok(Next::Bad(RowFault::TooLong { max_row_bytes: *max_row_bytes }, None)),
                    Line::Whole if row.iter().all(u8::is_ascii_whitespace) => {}
                    Line::Whole => return Ok(Next::Row),
                }
            },
            Self::Array(rows) => rows.next_row(row),
            Self::Delimited(rows) => rows.next_row(row),
            #[cfg(feature = "parquet")]
            Self::Parquet(rows) => rows.next_row(row),
        }
    }

    /// The line, from 1, on which the last row began; in Parquet, which has no lines, the number of the row.
    pub(crate) fn line(&self) -> u64 {
        match self {
            Self::Lines { line, .. } => *line,
            Self::Array(rows) => rows.line(),
            Self::Delimited(rows) => rows.line(),
            #[cfg(feature = "parquet")]
            Self::Parquet(rows) => rows.row(),
        }
    }
}

/// What comes of a text, read in pieces of a size: each row with its line, or what is wrong with it.
#[cfg(test)]
pub(crate) fn rows_of(text: &[u8], format: RowFormat, (buffer, max_row_bytes): (usize, usize)) -> Vec<Result<(u64, String), String>> {
    let mut rows = RowStream::new(io::BufReader::with_capacity(buffer.max(1), text), format, max_row_bytes);
    let (mut all, mut row) = (Vec::new(), Vec::new());
    while let Ok(next) = rows.next_row(&mut row) {
        match next {
            Next::End => break,
            Next::Row => all.push(Ok((rows.line(), String::from_utf8_lossy(&row).into_owned()))),
            Next::Bad(fault, _) => all.push(Err(format!("{}: {fault}", rows.line()))),
        }
    }
    all
}

/// The same at several sizes of pieces, against what is expected.
#[cfg(test)]
pub(crate) fn check_rows(text: &str, format: RowFormat, max_row_bytes: usize, expected: &[Result<(u64, &str), &str>]) {
    for buffer in [1, 2, 7, 1000] {
        let expected: Vec<_> = expected.iter().map(|row| row.map(|(line, row)| (line, row.to_owned())).map_err(str::to_owned)).collect();
        assert_eq!(rows_of(text.as_bytes(), format, (buffer, max_row_bytes)), expected, "{text} {buffer}");
    }
}
