//! `metrics.csv`: the same values as `metrics.ndjson`, one row each, for spreadsheets and data frames.

use std::ops::Range;

use codex_core::{Timestamp, files};

use crate::error::TrackError;
use crate::line_log::{self, LineLog};
use crate::metric::{MetricPoint, MetricWriter, WriterContext};
use crate::number;

const COLUMNS: [&str; 7] = ["step", "split", "metric", "value", "dataset", "run_id", "timestamp"];

/// Appends to `metrics.csv`, all rows of a point in one write.
#[derive(Debug)]
pub struct CsvWriter {
    log: LineLog,
    run_id: String,
}

impl CsvWriter {
    /// The writer's name.
    pub const NAME: &'static str = "csv";
    /// The file's name.
    pub const FILE: &'static str = "metrics.csv";

    /// Opens or creates the file; rows of steps after the resumed one, and rows that are none, are taken out first. In a shared folder only this
    /// run's own rows are, and empty lines stand in their place.
    pub fn open(context: &WriterContext<'_>) -> Result<Self, TrackError> {
        let path = context.dir.join(Self::FILE);
        if !context.shared {
            line_log::repair(&path)?;
        }
        let old = match files::read(&path) {
            Err(error) if error.is_not_found() => Vec::new(),
            read => read?,
        };
        let columns = |found| TrackError::Columns { path: path.clone(), expected: COLUMNS.join(","), found };
        let log = if context.shared {
            line_log::blank_at(&path, &superseded(&old, context).map_err(columns)?)?;
            let mut log = LineLog::open_shared(&path)?;
            if old.is_empty() {
                log.append(format!("{}\n", COLUMNS.join(",")).as_bytes())?;
            }
            log
        } else {
            let kept = retained(&old, context).map_err(columns)?;
            if kept != old {
                files::write_atomic(&path, &kept)?;
            }
            LineLog::open(&path)?
        };
        Ok(Self { log, run_id: context.run_id.to_owned() })
    }
}

fn reader(old: &[u8]) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(old)
}

/// Whether a row is one of ours, and if so whether it stays.
fn stays(row: &csv::ByteRecord, context: &WriterContext<'_>) -> Option<bool> {
    let field = |idx: usize| std::str::from_utf8(&row[idx]).ok();
    let is_row = row.len() == COLUMNS.len();
    is_row.then(|| field(0)?.parse().ok().map(|step| context.keeps(field(5).unwrap_or_default(), step))).flatten()
}

/// Where the rows are that go, in a table of our columns; other columns than ours are an error that holds them.
fn superseded(old: &[u8], context: &WriterContext<'_>) -> Result<Vec<Range<u64>>, String> {
    check_columns(old)?;
    let mut reader = reader(old);
    let mut row = csv::ByteRecord::new();
    let mut gone = Vec::new();
    while reader.read_byte_record(&mut row).unwrap_or(false) {
        if let (Some(false), Some(start)) = (stays(&row, context), row.position().map(csv::Position::byte)) {
            gone.push(start..reader.position().byte());
        }
    }
    Ok(gone)
}

/// Whether the table is ours; other columns are an error that holds them. An empty table is.
fn check_columns(old: &[u8]) -> Result<(), String> {
    match reader(old).byte_records().next() {
        None => Ok(()),
        Some(Ok(header)) if header.iter().eq(COLUMNS.iter().map(|column| column.as_bytes())) => Ok(()),
        Some(Ok(header)) => Err(String::from_utf8_lossy(&header.iter().collect::<Vec<_>>().join(&b","[..])).into_owned()),
        Some(Err(error)) => Err(error.to_string()),
    }
}

/// The header and the rows that stay.
fn retained(old: &[u8], context: &WriterContext<'_>) -> Result<Vec<u8>, String> {
    check_columns(old)?;
    let mut kept = table();
    push(&mut kept, COLUMNS);
    for row in reader(old).byte_records().flatten().filter(|row| stays(row, context) == Some(true)) {
        push(&mut kept, row.iter());
    }
    Ok(bytes(kept))
}

fn table() -> csv::Writer<Vec<u8>> {
    csv::WriterBuilder::new().flexible(true).from_writer(Vec::new())
}

/// Adds one row, quoted where needed.
fn push<T: AsRef<[u8]>>(table: &mut csv::Writer<Vec<u8>>, fields: impl IntoIterator<Item = T>) {
    // Writing rows of any length to memory cannot fail.
    drop(table.write_record(fields));
}

fn bytes(table: csv::Writer<Vec<u8>>) -> Vec<u8> {
    table.into_inner().unwrap_or_default()
}

impl MetricWriter for CsvWriter {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn write(&mut self, point: &MetricPoint<'_>, at: Timestamp) -> Result<(), TrackError> {
        let (step, timestamp) = (point.step.to_string(), at.to_rfc3339());
        let mut rows = table();
        for &(metric, value) in point.values {
            push(&mut rows, [&step, point.split, metric, &number::text(value), "", &self.run_id, &timestamp]);
        }
        Ok(self.log.append(&bytes(rows))?)
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        Ok(self.log.sync()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(dir: &std::path::Path, resume_step: Option<u64>) -> WriterContext<'_> {
        WriterContext { dir, run_id: "r1", resume_step, shared: false }
    }

    fn point(step: u64, writer: &mut CsvWriter) {
        let values = [("loss", 1.0 / step as f64), ("odd, name", f64::NEG_INFINITY)];
        writer.write(&MetricPoint { step, split: "train", values: &values, tokens: 0, epoch: 0.0 }, Timestamp(0)).unwrap();
    }

    #[test]
    fn the_header_is_written_once_and_a_resume_drops_later_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        let mut writer = CsvWriter::open(&context(dir.path(), None)).unwrap();
        point(1, &mut writer);
        point(2, &mut writer);
        drop(writer);
        let mut torn = files::read(&path).unwrap();
        torn.extend_from_slice(b"1,train,lo");
        files::write_atomic(&path, &torn).unwrap();
        let mut writer = CsvWriter::open(&context(dir.path(), Some(1))).unwrap();
        point(2, &mut writer);
        writer.flush().unwrap();
        let row = |step, metric, value| format!("{step},train,{metric},{value},,r1,1970-01-01T00:00:00.000Z\n");
        let expected = [
            "step,split,metric,value,dataset,run_id,timestamp\n".to_owned(),
            row(1, "loss", "1.0"),
            row(1, "\"odd, name\"", "-Infinity"),
            row(2, "loss", "0.5"),
            row(2, "\"odd, name\"", "-Infinity"),
        ];
        assert_eq!(files::read_to_string(&path).unwrap(), expected.concat());
    }

    #[test]
    fn a_table_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        files::write_atomic(&path, b"a,b\n1,2\n").unwrap();
        let error = CsvWriter::open(&context(dir.path(), None)).unwrap_err();
        assert!(error.to_string().contains("has the columns `a,b`, expected `step,split,"), "{error}");
        assert_eq!(files::read(&path).unwrap(), b"a,b\n1,2\n");
    }
}
