//! The chain of `metrics.ndjson`: each line carries the BLAKE3 of the line before that the same run wrote, and the first one that of nothing. A value that
//! is changed, a line that is taken out or put in, is found at the next line.

use std::path::Path;

use codex_core::Digest;
use serde::Serialize;

use crate::error::TrackError;
use crate::line_log::{Line, for_each_line_if_any};
use crate::metric::ReadLine;
use crate::metric_files::{for_each_metric_line, metric_files};
use crate::run_dir::RunDir;

/// What a chain has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    head: Digest,
}

impl Link {
    /// Before the first line of a run.
    pub(crate) fn start() -> Self {
        Self { head: Digest::of_bytes(b"") }
    }

    /// What the next line carries.
    pub(crate) fn head(self) -> Digest {
        self.head
    }

    /// Takes note of a line, without its end.
    pub(crate) fn add(&mut self, line: &[u8]) {
        self.head = Digest::of_bytes(line);
    }

    /// The chain that the files of a folder hold so far; of one run where others write there too.
    pub(crate) fn of_folder(dir: &Path, run_id: Option<&str>) -> Result<Self, TrackError> {
        let mut link = Self::start();
        for_each_metric_line(dir, |line| {
            if let Line::Whole(line) = line
                && ReadLine::of(line).is_some_and(|read| run_id.is_none_or(|id| read.run_id == id))
            {
                link.add(line);
            }
        })?;
        Ok(link)
    }
}

/// What is found of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// Lines of the run.
    pub lines: u64,
    /// The digest of the last one; of nothing where there is none.
    pub head: Option<Digest>,
    /// The files and how many lines each has, in order: lines are counted over all of them.
    pub files: Vec<(String, u64)>,
    /// Lines, from 1, that do not carry the digest of the line before: it was changed, or lines between them are gone or new.
    pub broken: Vec<u64>,
    /// Lines, from 1, that carry none, or are none.
    pub unreadable: Vec<u64>,
}

impl ChainReport {
    /// The file of a line that [`broken`](Self::broken) or [`unreadable`](Self::unreadable) names, and its number in that file.
    pub fn place(&self, line: u64) -> Option<(&str, u64)> {
        let mut before = 0;
        for (name, lines) in &self.files {
            if line <= before + lines {
                return Some((name, line - before));
            }
            before += lines;
        }
        None
    }
}

/// Places of a report; more are the same finding.
const MOST: usize = 100;

/// Follows the chain of a run's metrics from its first line to its last.
///
/// # Errors
/// A file that cannot be read.
pub fn verify_metrics(run: &RunDir) -> Result<ChainReport, TrackError> {
    let (dir, is_shared) = run.metrics_location();
    let id = run.id();
    let (mut link, mut report, mut number) = (Link::start(), ChainReport::default(), 0);
    for path in metric_files(&dir)? {
        let before = number;
        for_each_line_if_any(&path, |line| {
            number += 1;
            let read = match line {
                Line::Whole(line) => ReadLine::of(line).map(|read| (line, read)),
                Line::TooLong | Line::Torn => None,
            };
            match read {
                Some((_, read)) if is_shared && read.run_id != id => {}
                None if is_shared => {}
                Some((line, read)) => {
                    report.lines += 1;
                    if read.tags.previous.is_none() {
                        report.unreadable.push(number);
                    } else if read.tags.previous != Some(link.head()) {
                        report.broken.push(number);
                    }
                    link.add(line);
                }
                None => report.unreadable.push(number),
            }
            report.broken.truncate(MOST);
            report.unreadable.truncate(MOST);
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        report.files.push((name, number - before));
    }
    report.head = Some(link.head());
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{MetricPoint, MetricWriter, WriterContext};
    use crate::ndjson_writer::NdjsonWriter;
    use codex_core::{Timestamp, files};

    fn write(dir: &Path, resume_step: Option<u64>, steps: std::ops::RangeInclusive<u64>) {
        let context = WriterContext::of_run(dir, "r1", resume_step);
        let mut writer = NdjsonWriter::open(&context).unwrap();
        for step in steps {
            let values = [("loss", 2.5 / step as f64), ("grad_norm", 1.0)];
            writer.write(&MetricPoint { step, split: "train", values: &values, tokens: 96, epoch: 0.25 }, Timestamp(0)).unwrap();
        }
        writer.flush().unwrap();
    }

    fn folder() -> (tempfile::TempDir, RunDir) {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        (dir, run)
    }

    #[test]
    fn a_resume_goes_on_with_the_chain() {
        let (dir, run) = folder();
        write(dir.path(), None, 1..=7);
        // Of the steps after the checkpoint nothing stays.
        write(dir.path(), Some(4), 5..=9);
        let report = verify_metrics(&run).unwrap();
        assert_eq!((report.lines, report.broken.len(), report.unreadable.len()), (18, 0, 0));
        let (straight, other) = folder();
        write(straight.path(), None, 1..=9);
        assert_eq!(verify_metrics(&other).unwrap(), report, "as if never interrupted");
    }

    #[test]
    fn whatever_is_changed_is_found() {
        let (dir, run) = folder();
        let path = dir.path().join(NdjsonWriter::FILE);
        write(dir.path(), None, 1..=4);
        let text = files::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let with = |lines: Vec<String>| {
            files::write_atomic(&path, (lines.join("\n") + "\n").as_bytes()).unwrap();
            let report = verify_metrics(&run).unwrap();
            (report.broken, report.unreadable)
        };
        let own = || lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert_eq!(with(own()), (vec![], vec![]));
        let mut changed = own();
        changed[2] = changed[2].replace("1.25", "1.24");
        assert_eq!(with(changed), (vec![4], vec![]));
        let mut without = own();
        without.remove(3);
        assert_eq!(with(without), (vec![4], vec![]));
        let mut swapped = own();
        swapped.swap(0, 1);
        assert_eq!(with(swapped).0, [1, 2, 3]);
        let mut garbled = own();
        garbled[5] = "{".to_owned();
        assert_eq!(with(garbled), (vec![7], vec![6]));
    }
}
