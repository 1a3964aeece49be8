//! The rows of an Apache Parquet file, each as the JSON object that a line of JSONL would be.
//!
//! Columns are read page by page, one row group after the other. Times, dates and decimals become texts; bytes that are no UTF-8 become an
//! object with their number. The format: <https://parquet.apache.org/docs/file-format/>.

use std::io::{self, BufReader, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use codex_core::files;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};

use crate::compressed::BUFFER_BYTES;
use crate::error::DataError;
use crate::input::Input;
use crate::parquet_footer;
use crate::row::RowFault;
use crate::row_stream::Next;
use crate::shared_file::{SharedFile, SharedReader};

/// Why a file is not, or not wholly, Parquet.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ParquetFault(pub(crate) String);

/// A reader of rows.
pub(crate) struct ParquetRows {
    /// Absent after the last row, or after what cannot be read on from.
    rows: Option<RowIter<'static>>,
    row: u64,
    max_row_bytes: usize,
}

impl std::fmt::Debug for ParquetRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetRows").field("row", &self.row).finish_non_exhaustive()
    }
}

impl ParquetRows {
    pub(crate) fn open(input: &Input, max_row_bytes: usize) -> Result<Self, DataError> {
        let chunks = Chunks::of(input)?;
        let rows = parquet_footer::check(&chunks.file, chunks.bytes)
            .and_then(|()| guarded(|| Ok(RowIter::from_file_into(Box::new(SerializedFileReader::new(chunks)?)))));
        match rows {
            Ok(rows) => Ok(Self { rows: Some(rows), row: 0, max_row_bytes }),
            Err(ParquetFault(problem)) => Err(DataError::Unreadable { path: input.name(), format: "Parquet", problem }),
        }
    }

    /// The number of the last row, from 1.
    pub(crate) fn row(&self) -> u64 {
        self.row
    }

    pub(crate) fn next_row(&mut self, json: &mut Vec<u8>) -> io::Result<Next> {
        json.clear();
        let Some(rows) = &mut self.rows else { return Ok(Next::End) };
        self.row += 1;
        let max = self.max_row_bytes;
        let next = guarded(|| {
            let Some(row) = rows.next().transpose()? else { return Ok(None) };
            Ok(Some(write_row(&row, json, max)))
        });
        match next {
            Ok(Some(Ok(()))) => Ok(Next::Row),
            Ok(Some(Err(TooLong))) => {
                json.clear();
                Ok(Next::Bad(RowFault::TooLong { max_row_bytes: max }, None))
            }
            Ok(None) => {
                self.rows = None;
                Ok(Next::End)
            }
            Err(ParquetFault(problem)) => {
                self.rows = None;
                Err(io::Error::new(io::ErrorKind::InvalidData, ParquetFault(format!("row {}: {problem}", self.row))))
            }
        }
    }
}

/// What a call into the library says. It panics at some of what a damaged file may hold.
fn guarded<T>(call: impl FnOnce() -> ParquetResult<T>) -> Result<T, ParquetFault> {
    let said = |error: ParquetError| match error {
        ParquetError::General(message) if message.ends_with("compile time: zstd") => {
            "it is compressed with Zstandard; build the program with `--features parquet-zstd`, or write it with Snappy".to_owned()
        }
        ParquetError::General(message) if message.contains("compile time: ") => {
            let codec = message.rsplit(' ').next().unwrap_or_default();
            format!("it is compressed with {codec}, which is not read; write it with Snappy or gzip")
        }
        ParquetError::General(message) | ParquetError::EOF(message) | ParquetError::NYI(message) => message,
        other => other.to_string(),
    };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| ParquetFault(said(error))),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(ParquetFault(format!("the reader gave up: {}", message.unwrap_or("it did not say why"))))
        }
    }
}

/// A row has more bytes than may be.
#[derive(Debug)]
struct TooLong;

fn write_row(row: &Row, json: &mut Vec<u8>, max: usize) -> Result<(), TooLong> {
    write_object(row.get_column_iter().map(|(name, field)| (name.clone(), field)), json, max)
}

fn write_object<'f>(fields: impl Iterator<Item = (String, &'f Field)>, json: &mut Vec<u8>, max: usize) -> Result<(), TooLong> {
    json.push(b'{');
    for (i, (name, field)) in fields.enumerate() {
        if i > 0 {
            json.push(b',');
        }
        write_text(&name, json, max)?;
        json.push(b':');
        write_field(field, json, max)?;
    }
    json.push(b'}');
    bounded(json, max)
}

/// Nesting is bounded by that of the schema.
fn write_field(field: &Field, json: &mut Vec<u8>, max: usize) -> Result<(), TooLong> {
    match field {
        Field::Null => json.extend_from_slice(b"null"),
        Field::Bool(value) => json.extend_from_slice(if *value { b"true" } else { b"false" }),
        Field::Byte(value) => write_number(value, json),
        Field::Short(value) => write_number(value, json),
        Field::Int(value) => write_number(value, json),
        Field::Long(value) => write_number(value, json),
        Field::UByte(value) => write_number(value, json),
        Field::UShort(value) => write_number(value, json),
        Field::UInt(value) => write_number(value, json),
        Field::ULong(value) => write_number(value, json),
        Field::Float16(value) => write_float(f64::from(f32::from(*value)), json),
        Field::Float(value) => write_float(f64::from(*value), json),
        Field::Double(value) => write_float(*value, json),
        Field::Str(text) => return write_text(text, json, max),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => return write_text(text, json, max),
            Err(_) => json.extend_from_slice(format!("{{\"bytes\":{}}}", bytes.len()).as_bytes()),
        },
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => return write_text(&field.to_string(), json, max),
        Field::Group(row) => return write_row(row, json, max),
        Field::ListInternal(list) => {
            json.push(b'[');
            for (i, element) in list.elements().iter().enumerate() {
                if i > 0 {
                    json.push(b',');
                }
                write_field(element, json, max)?;
            }
            json.push(b']');
        }
        Field::MapInternal(map) => {
            let key = |field: &Field| if let Field::Str(text) = field { text.clone() } else { field.to_string() };
            return write_object(map.entries().iter().map(|(name, field)| (key(name), field)), json, max);
        }
    }
    bounded(json, max)
}

fn write_number(number: &impl ToString, json: &mut Vec<u8>) {
    json.extend_from_slice(number.to_string().as_bytes());
}

/// JSON has no number for what is not finite.
fn write_float(number: f64, json: &mut Vec<u8>) {
    json.extend_from_slice(serde_json::Number::from_f64(number).map_or("null".to_owned(), |number| number.to_string()).as_bytes());
}

fn write_text(text: &str, json: &mut Vec<u8>, max: usize) -> Result<(), TooLong> {
    if text.len() > max {
        return Err(TooLong);
    }
    serde_json::to_writer(&mut *json, text).map_err(|_| TooLong)?;
    bounded(json, max)
}

fn bounded(json: &[u8], max: usize) -> Result<(), TooLong> {
    if json.len() > max { Err(TooLong) } else { Ok(()) }
}

/// The bytes of a file, in pieces.
struct Chunks {
    file: Arc<SharedFile>,
    bytes: u64,
}

impl Chunks {
    fn of(input: &Input) -> Result<Self, DataError> {
        Ok(match input {
            Input::File(path) => Self { bytes: files::size(path)?, file: Arc::new(SharedFile::new(files::open(path)?)) },
            Input::Standard(spool) => Self { bytes: spool.checksum().bytes, file: spool.file() },
        })
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<SharedReader>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::with_capacity(BUFFER_BYTES, self.file.reader(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        // What a damaged file asks for is not allocated before it is known to be there.
        if start.checked_add(length as u64).is_none_or(|end| end > self.bytes) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} are not in a file of {}", self.bytes)));
        }
        let mut bytes = vec![0; length];
        self.file.reader(start).read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_library_is_a_fault() {
        let fault = guarded::<()>(|| panic!("no {}", "way")).unwrap_err();
        assert_eq!(fault.to_string(), "the reader gave up: no way");
        let fault = guarded::<()>(|| Err(ParquetError::General("bad".to_owned()))).unwrap_err();
        assert_eq!(fault.to_string(), "bad");
    }

    #[test]
    fn values_are_what_json_has_for_them() {
        let of = |field: Field| {
            let mut json = Vec::new();
            write_field(&field, &mut json, 100).map(|()| String::from_utf8(json).unwrap()).map_err(|TooLong| ())
        };
        assert_eq!(of(Field::Str("a\"b".to_owned())).unwrap(), "\"a\\\"b\"");
        assert_eq!(of(Field::Bytes(b"text".to_vec().into())).unwrap(), "\"text\"");
        assert_eq!(of(Field::Bytes(b"\xFF\0".to_vec().into())).unwrap(), "{\"bytes\":2}");
        assert_eq!(of(Field::Double(f64::NAN)).unwrap(), "null");
        assert_eq!(of(Field::ULong(u64::MAX)).unwrap(), "18446744073709551615");
        assert_eq!(of(Field::Date(0)).unwrap(), "\"1970-01-01\"");
        assert!(of(Field::Str("x".repeat(101))).is_err());
        assert!(of(Field::Str("\"".repeat(60))).is_err(), "it has more bytes as JSON");
    }
}
