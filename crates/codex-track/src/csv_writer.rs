//! `metrics.csv`: the same values as `metrics.ndjson`, one row each, for spreadsheets and data frames.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use codex_core::{FileError, Timestamp, files};

use crate::catch_up::is_same;
use crate::error::TrackError;
use crate::line_log::{self, LineLog};
use crate::metric::{MetricPoint, MetricWriter, WriterContext};
use crate::number;

const COLUMNS: [&str; 7] = ["step", "split", "metric", "value", "dataset", "run_id", "timestamp"];

/// Appends to `metrics.csv`, all rows of a point in one write.
#[derive(Debug)]
pub struct CsvWriter {
    log: LineLog,
    path: PathBuf,
    run_id: String,
    shared: bool,
    /// The rows from before that are not compared yet.
    review: Option<Review>,
}

impl CsvWriter {
    /// The writer's name.
    pub const NAME: &'static str = "csv";
    /// The file's name.
    pub const FILE: &'static str = "metrics.csv";

    /// Opens or creates the file. From the first row on that the truth does not have, rows are taken out and written again; in a shared folder
    /// only this run's own are, and empty lines stand in their place.
    pub fn open(context: &WriterContext<'_>) -> Result<Self, TrackError> {
        let path = context.dir.join(Self::FILE);
        if !context.shared {
            line_log::repair(&path)?;
        }
        let review = Review::open(&path)?;
        let mut log = if context.shared { LineLog::open_shared(&path)? } else { LineLog::open(&path)? };
        if review.is_none() {
            log.append(format!("{}\n", COLUMNS.join(",")).as_bytes())?;
        }
        Ok(Self { log, path, run_id: context.run_id.to_owned(), shared: context.shared, review })
    }

    /// The next row from before; in a shared folder the next of this run.
    fn next_row(&mut self) -> Option<Row> {
        let review = self.review.as_mut()?;
        loop {
            let row = review.next()?;
            if !self.shared || row.run_id == self.run_id {
                return Some(row);
            }
        }
    }

    /// Takes out a row and all behind it.
    fn cut(&mut self, row: Row) -> Result<(), TrackError> {
        if self.shared {
            let mut gone = vec![row.place];
            while let Some(row) = self.next_row() {
                gone.push(row.place);
            }
            line_log::blank_at(&self.path, &gone)?;
        } else {
            files::truncate(&self.path, row.place.start)?;
        }
        self.review = None;
        Ok(())
    }
}

/// Rows as they are read.
struct Review {
    reader: csv::Reader<File>,
    row: csv::ByteRecord,
}

impl std::fmt::Debug for Review {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Review at byte {}", self.reader.position().byte())
    }
}

/// A row, as far as it is compared, and where it is.
#[derive(Debug)]
struct Row {
    place: Range<u64>,
    run_id: String,
    /// The step, split, metric and value; `None` where it is no row of ours.
    point: Option<(u64, String, String, f64)>,
}

impl Review {
    /// Starts behind the header; `None` where there is no file, or an empty one. Other columns than ours are an error.
    fn open(path: &Path) -> Result<Option<Self>, TrackError> {
        let file = match files::open(path) {
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        };
        let reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
        let mut review = Self { reader, row: csv::ByteRecord::new() };
        let columns = |found| TrackError::Columns { path: path.to_owned(), expected: COLUMNS.join(","), found };
        match review.reader.read_byte_record(&mut review.row) {
            Ok(false) => Ok(None),
            Ok(true) if review.row.iter().eq(COLUMNS.iter().map(|column| column.as_bytes())) => Ok(Some(review)),
            Ok(true) => Err(columns(String::from_utf8_lossy(&review.row.iter().collect::<Vec<_>>().join(&b","[..])).into_owned())),
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(source) => Err(FileError::new("read", path, source).into()),
                other => Err(columns(format!("{other:?}"))),
            },
        }
    }

    fn next(&mut self) -> Option<Row> {
        if !self.reader.read_byte_record(&mut self.row).unwrap_or(false) {
            return None;
        }
        let start = self.row.position().map_or(0, csv::Position::byte);
        let field = |idx: usize| self.row.get(idx).and_then(|field| std::str::from_utf8(field).ok());
        let point = || {
            // What is not compared must still be what a reader takes.
            field(6)?.parse::<jiff::Timestamp>().ok()?;
            let is_ours = field(4)?.is_empty() && field(5).is_some();
            is_ours.then_some((field(0)?.parse().ok()?, field(1)?.to_owned(), field(2)?.to_owned(), field(3)?.parse().ok()?))
        };
        Some(Row {
            place: start..self.reader.position().byte(),
            run_id: field(5).unwrap_or_default().to_owned(),
            point: if self.row.len() == COLUMNS.len() { point() } else { None },
        })
    }
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

    fn has(&mut self, step: u64, split: &str, metric: &str, value: f64) -> Result<bool, TrackError> {
        let Some(row) = self.next_row() else {
            self.review = None;
            return Ok(false);
        };
        let is_same = |(at, of, name, is): &(u64, String, String, f64)| *at == step && of == split && name == metric && is_same(*is, value);
        let is_next = row.run_id == self.run_id && row.point.as_ref().is_some_and(is_same);
        if !is_next {
            self.cut(row)?;
        }
        Ok(is_next)
    }

    fn settle(&mut self, keep_up_to: Option<u64>) -> Result<(), TrackError> {
        while let Some(row) = self.next_row() {
            let stays = row.point.as_ref().is_some_and(|point| keep_up_to.is_some_and(|last| point.0 <= last));
            if !stays {
                self.cut(row)?;
            }
        }
        self.review = None;
        Ok(())
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

    fn open(dir: &Path, keep_up_to: Option<u64>) -> CsvWriter {
        let mut writer = CsvWriter::open(&WriterContext::of_run(dir, "r1", keep_up_to)).unwrap();
        writer.settle(keep_up_to).unwrap();
        writer
    }

    fn point(step: u64, writer: &mut CsvWriter) {
        let values = [("loss", 1.0 / step as f64), ("odd, name", f64::NEG_INFINITY)];
        writer.write(&MetricPoint { step, split: "train", values: &values, tokens: 0, epoch: 0.0 }, Timestamp(0)).unwrap();
    }

    #[test]
    fn the_header_is_written_once_and_a_resume_drops_later_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        let mut writer = open(dir.path(), None);
        point(1, &mut writer);
        point(2, &mut writer);
        drop(writer);
        let mut torn = files::read(&path).unwrap();
        torn.extend_from_slice(b"1,train,lo");
        files::write_atomic(&path, &torn).unwrap();
        let mut writer = open(dir.path(), Some(1));
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
        let error = CsvWriter::open(&WriterContext::of_run(dir.path(), "r1", None)).unwrap_err();
        assert!(error.to_string().contains("has the columns `a,b`, expected `step,split,"), "{error}");
        assert_eq!(files::read(&path).unwrap(), b"a,b\n1,2\n");
    }
}
