//! `metrics.ndjson`: one JSON object per value. It is the truth that every other form of the metrics is made from. Where it lies is in
//! [`metric_files`](crate::metric_files).

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
        let read = |line: &[u8]| serde_json::from_slice::<ReadLine>(line);
        let log = if context.shared {
            line_log::blank(&path, |line| read(line).is_ok_and(|line| !context.keeps(&line.run_id, line.step)))?;
            LineLog::open_shared(&path)?
        } else {
            metric_files::retain(context.dir, |line| read(line).is_ok_and(|line| context.keeps(&line.run_id, line.step)))?;
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
}
