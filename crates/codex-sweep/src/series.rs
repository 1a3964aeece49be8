//! The values of a trial on its way, in a file that trials on other machines read: `values.ndjson`, one `{"step":10,"value":1.5}` a line.
//!
//! A trial that goes on from a checkpoint repeats steps; the last line of a step counts. A line that was cut off is passed over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use codex_core::{FileError, files};

use crate::config::Goal;

/// More of a file is not read.
const MAX_BYTES: u64 = 64 << 20;

/// The values of a metric by step. A value that is no number (NaN) is one too: it says that the trial went astray.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series(BTreeMap<u64, f64>);

/// One line of the file; JSON has no word for a value that is no number but `null`.
#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    step: u64,
    value: Option<f64>,
}

impl Series {
    /// Sets the value at a step, in place of an earlier one.
    pub fn insert(&mut self, step: u64, value: f64) {
        self.0.insert(step, value);
    }

    /// The values by step, upwards.
    pub fn iter(&self) -> impl Iterator<Item = (u64, f64)> {
        self.0.iter().map(|(step, value)| (*step, *value))
    }

    /// The last step that has a value.
    pub fn last_step(&self) -> Option<u64> {
        self.0.last_key_value().map(|(step, _)| *step)
    }

    pub(crate) fn step_before(&self, step: u64) -> Option<u64> {
        self.0.range(..step).next_back().map(|(step, _)| *step)
    }

    /// The best value and the first step that has it.
    pub fn best(&self, goal: Goal) -> Option<(u64, f64)> {
        self.iter().reduce(|best, next| if goal.is_better(next.1, best.1) { next } else { best })
    }

    /// The mean of the values up to this step and at it; `None` without any.
    pub fn mean_until(&self, step: u64) -> Option<f64> {
        let (mut sum, mut n) = (0.0, 0_u64);
        for value in self.0.range(..=step).map(|(_, value)| *value) {
            sum += value;
            n += 1;
        }
        (n > 0).then(|| sum / n as f64)
    }

    /// The values in a file; an absent one has none.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let mut bytes = Vec::new();
        match files::open(path) {
            Ok(file) => file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|source| FileError::new("read", path, source))?,
            Err(error) if error.is_not_found() => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        Ok(Self::parse(&bytes))
    }

    /// The values of these lines. A part of a line is none: it lacks the brace at its end.
    pub fn parse(bytes: &[u8]) -> Self {
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        lines.map(|line| (line.step, line.value.unwrap_or(f64::NAN))).collect()
    }
}

impl FromIterator<(u64, f64)> for Series {
    fn from_iter<I: IntoIterator<Item = (u64, f64)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Appends to a trial's values. Only who holds the trial's lock writes to them.
#[derive(Debug)]
pub struct SeriesWriter {
    file: File,
    path: PathBuf,
}

impl SeriesWriter {
    /// Opens or creates the file; a line that was cut off is ended first, so that the next one is whole.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut writer = Self { file: files::open_append(path)?, path: path.to_owned() };
        if files::size(path)? > 0 {
            let mut last = [0];
            let mut file = files::open(path)?;
            let read = file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last));
            read.map_err(|source| FileError::new("read", path, source))?;
            if last != *b"\n" {
                writer.append(b"\n")?;
            }
        }
        Ok(writer)
    }

    /// Appends a value, seen by others as soon as this returns.
    pub fn push(&mut self, step: u64, value: f64) -> Result<(), FileError> {
        let shown = serde_json::json!({ "step": step, "value": value.is_finite().then_some(value) });
        self.append(format!("{shown}\n").as_bytes())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(|source| FileError::new("append to", &self.path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_that_were_cut_off_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("values.ndjson");
        assert_eq!(Series::read(&path).unwrap(), Series::default());
        let mut writer = SeriesWriter::open(&path).unwrap();
        writer.push(10, 1.5).unwrap();
        writer.push(20, f64::NAN).unwrap();
        drop(writer);
        let mut bytes = files::read(&path).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), "{\"step\":10,\"value\":1.5}\n{\"step\":20,\"value\":null}\n");
        bytes.extend_from_slice(b"{\"step\":30,\"value\":1");
        files::write_atomic(&path, &bytes).unwrap();
        assert_eq!(Series::read(&path).unwrap().last_step(), Some(20));
        // Behind the part of a line the next one begins on a line of its own.
        let mut writer = SeriesWriter::open(&path).unwrap();
        writer.push(30, 1.25).unwrap();
        writer.push(10, 1.0).unwrap();
        let series = Series::read(&path).unwrap();
        assert_eq!(series.iter().map(|(step, _)| step).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(series.best(Goal::Minimize), Some((10, 1.0)));
        assert_eq!(series.best(Goal::Maximize), Some((30, 1.25)));
        assert_eq!(series.mean_until(10), Some(1.0));
        assert_eq!(series.mean_until(9), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let series = Series::parse(&bytes);
            prop_assert!(series.iter().count() <= bytes.len());
        }
    }
}
