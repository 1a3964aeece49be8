//! `tensorboard/`: the metrics, samples and configuration as event files of TensorBoard. Values are f32 there, as TensorBoard keeps no more.
//!
//! Each process of a run writes a file of its own, which says at which step it starts. The format is in
//! `tensorboard_file`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use codex_core::{Timestamp, files};
use serde_json::Value;

use crate::error::TrackError;
use crate::line_log::LineLog;
use crate::metric::{MetricPoint, MetricWriter, WriterContext};
use crate::run_info::{RunEnd, RunInfo, plain};
use crate::run_record::RunStatus;
use crate::tensorboard_file::{self as format, Events, Held, Hyperparameter};

/// A longer text is cut: TensorBoard shows texts in one piece.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Appends to an event file of its own.
#[derive(Debug)]
pub struct TensorboardWriter {
    dir: PathBuf,
    /// The files of processes before, in order.
    earlier: Vec<PathBuf>,
    resume_step: Option<u64>,
    review: Option<Review>,
    held_texts: BTreeSet<(u64, String)>,
    /// One more than the last step that is there from before.
    next_step: u64,
    log: Option<LineLog>,
    info: Option<RunInfo>,
}

#[derive(Debug)]
struct Review {
    idx: usize,
    events: Events,
    ahead: Option<(u64, Held)>,
}

impl TensorboardWriter {
    /// The writer's name.
    pub const NAME: &'static str = "tensorboard";
    /// The folder in that of the run.
    pub const FOLDER: &'static str = "tensorboard";

    /// Opens the folder. From the first value on that the truth does not have, events are taken out of the files that are there; what is written
    /// goes to a new one, which is made with the first value.
    pub fn open(context: &WriterContext<'_>) -> Result<Self, TrackError> {
        let dir = context.run_dir.join(Self::FOLDER);
        files::create_dir_all(&dir)?;
        let is_ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("tfevents"));
        let mut earlier: Vec<PathBuf> = files::list_dir(&dir)?.into_iter().filter(is_ours).collect();
        if context.resume_step.is_none() {
            earlier.drain(..).try_for_each(|path| files::remove_file(&path))?;
        }
        let review = earlier.first().map(|path| Events::open(path)).transpose()?;
        let review = review.map(|events| Review { idx: 0, events, ahead: None });
        let resume_step = context.resume_step;
        Ok(Self { dir, earlier, resume_step, review, held_texts: BTreeSet::new(), next_step: 0, log: None, info: None })
    }

    /// Looks at the next scalar from before; texts on the way are noted. `None` where there is none, or nothing that may stay: what is behind is
    /// cut off then.
    fn next_scalar(&mut self) -> Result<Option<(u64, String, f32)>, TrackError> {
        loop {
            let Some(review) = &mut self.review else { return Ok(None) };
            if review.ahead.is_none() {
                review.ahead = review.events.next()?;
            }
            match &review.ahead {
                Some((_, Held::Scalar { step, tag, value })) => return Ok(Some((*step, tag.clone(), *value))),
                Some((_, Held::Text { step, tag })) if self.resume_step.is_some_and(|last| *step <= last) => {
                    self.next_step = self.next_step.max(step + 1);
                    self.held_texts.insert((*step, tag.clone()));
                    review.ahead = None;
                }
                Some((_, Held::Other)) => review.ahead = None,
                Some((_, Held::Text { .. } | Held::End)) => self.cut()?,
                None if review.events.is_damaged => self.cut()?,
                None => match self.earlier.get(review.idx + 1) {
                    Some(path) => *review = Review { idx: review.idx + 1, events: Events::open(path)?, ahead: None },
                    None => self.review = None,
                },
            }
        }
    }

    /// Takes off the event that is looked at and all behind it.
    fn cut(&mut self) -> Result<(), TrackError> {
        let Some(review) = self.review.take() else { return Ok(()) };
        for path in self.earlier.drain(review.idx + 1..).rev() {
            files::remove_file(&path)?;
        }
        let at = review.ahead.map_or(review.events.end, |(start, _)| start);
        if let Some(path) = self.earlier.last() {
            if at == 0 {
                files::remove_file(path)?;
                self.earlier.pop();
            } else {
                files::truncate(path, at)?;
            }
        }
        Ok(files::sync_dir(&self.dir)?)
    }

    fn keep(&mut self, step: u64) {
        self.next_step = self.next_step.max(step.saturating_add(1));
        if let Some(review) = &mut self.review {
            review.ahead = None;
        }
    }

    /// The file of this process, which is made and named so that it comes behind those that are there.
    fn log(&mut self, at: Timestamp) -> Result<&mut LineLog, TrackError> {
        let log = if let Some(log) = self.log.take() {
            log
        } else {
            let seconds = |path: &PathBuf| -> Option<u64> {
                path.file_name()?.to_str()?.strip_prefix("events.out.tfevents.")?.get(..10)?.parse().ok()
            };
            let least = self.earlier.iter().filter_map(seconds).max().map_or(0, |last| last + 1);
            let now = u64::try_from(at.0 / 1000).unwrap_or(0).max(least);
            let path = self.dir.join(format!("events.out.tfevents.{now:010}.codex.{}", self.earlier.len()));
            let mut log = LineLog::create(&path)?;
            log.append(&format::beginning(wall(at), self.next_step))?;
            log.append(&self.configuration(at))?;
            log
        };
        Ok(self.log.insert(log))
    }

    fn configuration(&self, at: Timestamp) -> Vec<u8> {
        let Some(info) = &self.info else { return Vec::new() };
        let value = |value: &Value| match value {
            Value::Bool(truth) => Hyperparameter::Truth(*truth),
            Value::Number(number) => Hyperparameter::Number(number.as_f64().unwrap_or(f64::NAN)),
            other => Hyperparameter::Text(plain(other)),
        };
        let values: Vec<_> = info.hyperparameters().into_iter().map(|(key, leaf)| (key, value(&leaf))).collect();
        if values.is_empty() { Vec::new() } else { format::hyperparameters(wall(at), &values, &info.judged_by) }
    }
}

/// Seconds since 1970.
fn wall(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}

/// The start of a text, whole characters of it.
pub(crate) fn shortened(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or(0)]
}

impl MetricWriter for TensorboardWriter {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn start(&mut self, info: &RunInfo, at: Timestamp) -> Result<(), TrackError> {
        self.info = Some(info.clone());
        let configuration = self.configuration(at);
        if let Some(log) = &mut self.log {
            log.append(&configuration)?;
        }
        Ok(())
    }

    fn has(&mut self, step: u64, split: &str, metric: &str, value: f64) -> Result<bool, TrackError> {
        let Some((at, tag, held)) = self.next_scalar()? else { return Ok(false) };
        let is_same = held.to_bits() == (value as f32).to_bits() || (held.is_nan() && value.is_nan());
        if at == step && is_same && tag.strip_prefix(split).and_then(|rest| rest.strip_prefix('/')) == Some(metric) {
            self.keep(step);
            return Ok(true);
        }
        self.cut()?;
        Ok(false)
    }

    fn settle(&mut self, keep_up_to: Option<u64>) -> Result<(), TrackError> {
        while let Some((step, ..)) = self.next_scalar()? {
            if keep_up_to.is_some_and(|last| step <= last) {
                self.keep(step);
            } else {
                self.cut()?;
            }
        }
        Ok(())
    }

    fn has_text(&mut self, step: u64, name: &str) -> bool {
        self.held_texts.contains(&(step, name.to_owned()))
    }

    fn write(&mut self, point: &MetricPoint<'_>, at: Timestamp) -> Result<(), TrackError> {
        let mut records = Vec::new();
        for &(metric, value) in point.values {
            records.extend(format::scalar(wall(at), point.step, &format!("{}/{metric}", point.split), value as f32));
        }
        Ok(self.log(at)?.append(&records)?)
    }

    fn text(&mut self, step: u64, name: &str, text: &str, at: Timestamp) -> Result<(), TrackError> {
        let record = format::text(wall(at), step, name, shortened(text, MAX_TEXT_BYTES));
        Ok(self.log(at)?.append(&record)?)
    }

    fn finish(&mut self, end: &RunEnd, at: Timestamp) -> Result<(), TrackError> {
        let record = format::session_end(wall(at), end.status == RunStatus::Finished);
        Ok(self.log(at)?.append(&record)?)
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        Ok(self.log.as_mut().map_or(Ok(()), LineLog::sync)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_a_file_of_its_own_behind_those_before() {
        let dir = tempfile::tempdir().unwrap();
        let names = || -> Vec<String> {
            let of = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            files::list_dir(&dir.path().join("tensorboard")).unwrap().iter().map(of).collect()
        };
        for process in 0..3_u64 {
            let mut writer = TensorboardWriter::open(&WriterContext::of_run(dir.path(), "r", Some(process))).unwrap();
            for step in 0..process {
                assert!(writer.has(step, "train", "loss", 0.1).unwrap());
            }
            writer.settle(None).unwrap();
            assert_eq!(writer.next_step, process);
            // The clock stands still, or goes back.
            let at = Timestamp(1_795_484_319_250 - 5000 * process as i64);
            writer.write(&MetricPoint { step: process, split: "train", values: &[("loss", 0.1)], tokens: 0, epoch: 0.0 }, at).unwrap();
            writer.finish(&RunEnd { status: RunStatus::Finished, summary: std::collections::BTreeMap::new() }, at).unwrap();
        }
        assert_eq!(names(), [319, 320, 321].map(|s| format!("events.out.tfevents.1795484{s}.codex.{}", s - 319)));
        // A value that the truth does not have goes, with all behind it.
        let mut writer = TensorboardWriter::open(&WriterContext::of_run(dir.path(), "r", Some(9))).unwrap();
        assert!(writer.has(0, "train", "loss", 0.1).unwrap() && !writer.has(1, "train", "loss", 0.2).unwrap());
        writer.settle(None).unwrap();
        assert_eq!((names().len(), writer.next_step), (2, 1));
        assert_eq!((shortened("aä", 2), shortened("ab", 9)), ("a", "ab"));
    }
}
