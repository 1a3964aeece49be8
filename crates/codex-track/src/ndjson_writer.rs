//! `metrics.ndjson`: one JSON object per value. It is the truth that every other form of the metrics is made from. Where it lies is in
//! [`metric_files`](mod@crate::metric_files).

use std::path::PathBuf;

use codex_core::{Timestamp, files};

use crate::chain::Link;
use crate::error::TrackError;
use crate::line_log::{self, LineLog};
use crate::metric::{MetricLine, MetricPoint, MetricWriter, ReadLine, Tags, WriterContext};
use crate::metric_files;
use crate::number::Number;

/// Appends to `metrics.ndjson`, all lines of a point in one write.
#[derive(Debug)]
pub struct NdjsonWriter {
    log: LineLog,
    dir: PathBuf,
    bytes: u64,
    rotate_bytes: u64,
    run_id: String,
    chain: Link,
}

impl NdjsonWriter {
    /// The writer's name.
    pub const NAME: &'static str = "ndjson";
    /// The file's name.
    pub const FILE: &'static str = "metrics.ndjson";

    /// Opens or creates the file; lines of steps after the resumed one, and lines that are none, are taken out first. In a shared folder only
    /// this run's own lines are, and empty ones stand in their place.
    pub fn open(context: &WriterContext<'_>) -> Result<Self, TrackError> {
        let path = context.dir.join(Self::FILE);
        let log = if context.shared {
            line_log::blank(&path, |line| ReadLine::of(line).is_some_and(|line| !context.keeps(&line.run_id, line.step)))?;
            LineLog::open_shared(&path)?
        } else {
            metric_files::retain(context.dir, |line| ReadLine::of(line).is_some_and(|line| context.keeps(&line.run_id, line.step)))?;
            LineLog::open(&path)?
        };
        Ok(Self {
            log,
            dir: context.dir.to_owned(),
            bytes: files::size(&path)?,
            rotate_bytes: if context.shared { 0 } else { context.rotate_bytes },
            run_id: context.run_id.to_owned(),
            chain: Link::of_folder(context.dir, context.shared.then_some(context.run_id))?,
        })
    }

    /// Puts the file away and begins a new one.
    fn rotate(&mut self) -> Result<(), TrackError> {
        self.log.sync()?;
        metric_files::put_away(&self.dir)?;
        self.log = LineLog::open(&self.dir.join(Self::FILE))?;
        self.bytes = 0;
        Ok(())
    }
}

impl MetricWriter for NdjsonWriter {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn write(&mut self, point: &MetricPoint<'_>, at: Timestamp) -> Result<(), TrackError> {
        let timestamp = at.to_rfc3339();
        let mut lines = Vec::new();
        for &(metric, value) in point.values {
            let line = MetricLine {
                schema_version: "v1",
                timestamp: &timestamp,
                run_id: &self.run_id,
                step: point.step,
                split: point.split,
                metric,
                value: Number(value),
                dataset: None,
                tags: Tags { tokens: point.tokens, epoch: Number(point.epoch), previous: self.chain.head() },
            };
            let line = serde_json::to_vec(&line).map_err(|source| TrackError::Encode { path: Self::FILE.into(), source })?;
            self.chain.add(&line);
            lines.extend_from_slice(&line);
            lines.push(b'\n');
        }
        if self.rotate_bytes > 0 && self.bytes > 0 && self.bytes + lines.len() as u64 > self.rotate_bytes {
            self.rotate()?;
        }
        self.log.append(&lines)?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        Ok(self.log.sync()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::{Digest, files};

    #[test]
    fn each_value_is_one_line_with_the_required_keys() {
        let dir = tempfile::tempdir().unwrap();
        let context = WriterContext::of_run(dir.path(), "r1", None);
        let mut writer = NdjsonWriter::open(&context).unwrap();
        let values = [("loss", 2.5), ("grad_norm", f64::NAN)];
        writer.write(&MetricPoint { step: 3, split: "train", values: &values, tokens: 96, epoch: 0.25 }, Timestamp(0)).unwrap();
        writer.flush().unwrap();
        let text = files::read_to_string(&dir.path().join("metrics.ndjson")).unwrap();
        let start = r#"{"schema_version":"v1","timestamp":"1970-01-01T00:00:00.000Z","run_id":"r1","step":3,"split":"train","metric":"#;
        let end = r#""dataset":null,"tags":{"tokens":96,"epoch":0.25,"previous":"#;
        let first = format!("{start}\"loss\",\"value\":2.5,{end}\"{}\"}}}}", Digest::of_bytes(b""));
        let second = format!("{start}\"grad_norm\",\"value\":\"NaN\",{end}\"{}\"}}}}", Digest::of_bytes(first.as_bytes()));
        assert_eq!(text, format!("{first}\n{second}\n"));
    }

    #[test]
    fn a_line_that_is_no_text_is_none_wherever_its_wrong_byte_is() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), None, 1, 3);
        let path = dir.path().join(NdjsonWriter::FILE);
        let whole = files::read(&path).unwrap();
        let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let length = whole[second..].iter().position(|byte| *byte == b'\n').unwrap();
        for at in second..second + length {
            let mut harmed = whole.clone();
            harmed[at] ^= 0x80;
            files::write_atomic(&path, &harmed).unwrap();
            write(dir.path(), Some(3), 4, 3);
            let left = files::read_to_string(&path).unwrap();
            assert_eq!(left.lines().map(|line| ReadLine::of(line.as_bytes()).unwrap().step).collect::<Vec<_>>(), [1, 3], "at {at}");
        }
    }

    /// Steps `from..=to` in parts of some lines each.
    fn write(dir: &std::path::Path, resume_step: Option<u64>, from: u64, to: u64) {
        let context = WriterContext { rotate_bytes: 1200, ..WriterContext::of_run(dir, "r1", resume_step) };
        let mut writer = NdjsonWriter::open(&context).unwrap();
        for step in from..=to {
            let point = MetricPoint { step, split: "train", values: &[("loss", 1.0 / step as f64)], tokens: 96, epoch: 0.25 };
            writer.write(&point, Timestamp(0)).unwrap();
        }
    }

    /// Each file's name and steps; the chain must hold over all.
    fn parts(dir: &std::path::Path) -> Vec<(String, Vec<u64>)> {
        let report = crate::chain::verify_metrics(&crate::RunDir::open(dir).unwrap()).unwrap();
        assert!(report.broken.is_empty() && report.unreadable.is_empty(), "{report:?}");
        let steps = |path: &PathBuf| {
            let text = files::read_to_string(path).unwrap();
            text.lines().map(|line| serde_json::from_str::<ReadLine>(line).unwrap().step).collect()
        };
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        metric_files(dir).unwrap().iter().map(|path| (name(path), steps(path))).collect()
    }

    fn part(name: &str, steps: std::ops::RangeInclusive<u64>) -> (String, Vec<u64>) {
        (name.to_owned(), steps.collect())
    }

    #[test]
    fn a_file_that_would_be_too_large_is_put_away_and_a_resume_reaches_into_parts() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), None, 1, 14);
        let names = ["metrics-00001.ndjson", "metrics-00002.ndjson", "metrics-00003.ndjson", "metrics.ndjson"];
        assert_eq!(parts(dir.path()), [part(names[0], 1..=4), part(names[1], 5..=8), part(names[2], 9..=12), part(names[3], 13..=14)]);
        let sizes = metric_files(dir.path()).unwrap().iter().map(|path| files::size(path).unwrap()).max();
        assert!(sizes <= Some(1200));
        write(dir.path(), Some(6), 7, 11);
        assert_eq!(parts(dir.path()), [part(names[0], 1..=4), part(names[1], 5..=6), part(names[2], 7..=10), part(names[3], 11..=11)]);
        write(dir.path(), None, 1, 2);
        assert_eq!(parts(dir.path()), [part(names[3], 1..=2)]);
    }

    #[test]
    fn a_kill_at_any_moment_of_putting_away_or_shortening_is_survived() {
        let straight = tempfile::tempdir().unwrap();
        write(straight.path(), None, 1, 9);
        let all = |dir: &std::path::Path| -> Vec<u64> { parts(dir).into_iter().flat_map(|part| part.1).collect() };
        // Between the rename and the new file; with the new file and nothing in it.
        for has_new in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), None, 1, 4);
            metric_files::put_away(dir.path()).unwrap();
            if has_new {
                files::write_atomic(&dir.path().join(NdjsonWriter::FILE), b"").unwrap();
            }
            assert_eq!(all(dir.path()), [1, 2, 3, 4]);
            write(dir.path(), Some(4), 5, 9);
            assert_eq!(parts(dir.path()), parts(straight.path()));
        }
        // While parts are shortened: the newest are done, and emptied but not removed.
        for n_done in 1..=3 {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), None, 1, 14);
            let paths = metric_files(dir.path()).unwrap();
            paths.iter().rev().take(n_done).for_each(|path| files::write_atomic(path, b"").unwrap());
            assert_eq!(all(dir.path()).len(), [14, 12, 8, 4][n_done]);
            write(dir.path(), Some(3), 4, 9);
            assert_eq!(all(dir.path()), (1..=9).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_shared_file_is_never_put_away() {
        let dir = tempfile::tempdir().unwrap();
        let context = WriterContext { rotate_bytes: 10, shared: true, ..WriterContext::of_run(dir.path(), "r1", None) };
        let mut writer = NdjsonWriter::open(&context).unwrap();
        for step in 1..=3 {
            let point = MetricPoint { step, split: "train", values: &[("loss", 1.0)], tokens: 0, epoch: 0.0 };
            writer.write(&point, Timestamp(0)).unwrap();
        }
        assert_eq!(metric_files(dir.path()).unwrap(), [dir.path().join(NdjsonWriter::FILE)]);
    }
}
