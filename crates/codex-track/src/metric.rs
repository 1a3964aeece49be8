//! What the loop measures at a step, and the seam to whatever writes it down. The writers are in modules of their own.

use std::path::Path;

use codex_core::{Digest, Registry, RegistryError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::csv_writer::CsvWriter;
use crate::error::TrackError;
use crate::mlflow_writer::MlflowWriter;
use crate::ndjson_writer::NdjsonWriter;
use crate::number::Number;
use crate::run_info::{RunEnd, RunInfo};
use crate::tensorboard_writer::TensorboardWriter;
use crate::wandb_writer::WandbWriter;

/// What was measured at one step of one split.
#[derive(Clone, Copy, Debug)]
pub struct MetricPoint<'a> {
    /// Optimizer steps taken.
    pub step: u64,
    /// `train` or `validation`.
    pub split: &'a str,
    /// Values by name, such as `("loss", 2.3)`.
    pub values: &'a [(&'a str, f64)],
    /// Target tokens trained on so far.
    pub tokens: u64,
    /// Passes over the data so far.
    pub epoch: f64,
}

/// Something that keeps metrics. All are views of one stream, of which `metrics.ndjson` is the truth.
///
/// A writer is opened, told what the run is with [`start`](Self::start), and brought to the truth: asked with [`has`](Self::has) for each value
/// that the truth holds, in its order, and given those that it lacks; then [`settle`](Self::settle) ends that. After an error the writer is dropped
/// by the [tracker](crate::Tracker) and not called again.
pub trait MetricWriter: Send {
    /// A short name for messages, such as `csv`.
    fn name(&self) -> &str;

    /// Learns what the run is called and how it is configured.
    fn start(&mut self, _info: &RunInfo, _at: Timestamp) -> Result<(), TrackError> {
        Ok(())
    }

    /// Whether the value that comes next in the truth is what comes next of what is there from before. Where it is not, what is there from
    /// that place on is taken out. A writer without a past has no need of one.
    fn has(&mut self, _step: u64, _split: &str, _metric: &str, _value: f64) -> Result<bool, TrackError> {
        Ok(true)
    }

    /// Ends the comparison with the truth: what was not asked for goes, except, where the truth could not be read, what is of the steps up to
    /// `keep_up_to`.
    fn settle(&mut self, _keep_up_to: Option<u64>) -> Result<(), TrackError> {
        Ok(())
    }

    /// Whether a text is there from before.
    fn has_text(&mut self, _step: u64, _name: &str) -> bool {
        true
    }

    /// Keeps one point.
    fn write(&mut self, point: &MetricPoint<'_>, at: Timestamp) -> Result<(), TrackError>;

    /// Keeps a text, such as what the model wrote at a step.
    fn text(&mut self, _step: u64, _name: &str, _text: &str, _at: Timestamp) -> Result<(), TrackError> {
        Ok(())
    }

    /// Notes how the run ended; it may be taken up again.
    fn finish(&mut self, _end: &RunEnd, _at: Timestamp) -> Result<(), TrackError> {
        Ok(())
    }

    /// Makes everything written so far survive a power loss.
    fn flush(&mut self) -> Result<(), TrackError>;
}

/// What a writer is told when it is opened.
#[derive(Clone, Copy, Debug)]
pub struct WriterContext<'a> {
    /// The folder that metrics go to, which others may share.
    pub dir: &'a Path,
    /// The run's own folder.
    pub run_dir: &'a Path,
    /// The run.
    pub run_id: &'a str,
    /// The step of the checkpoint that the run goes on from: what is there of later steps goes. `None` for a run from the start: all goes.
    pub resume_step: Option<u64>,
    /// Whether others may write to the same folder: runs before this one, and tools that know nothing of it. What they wrote stays, and a file is
    /// neither replaced nor shortened, so that what they append meanwhile is not lost.
    pub shared: bool,
    /// Bytes after which `metrics.ndjson` is put away and begun anew; 0 for never, and never in a shared folder.
    pub rotate_bytes: u64,
}

impl<'a> WriterContext<'a> {
    /// What a writer of a run in a folder of its own is told.
    pub fn of_run(dir: &'a Path, run_id: &'a str, resume_step: Option<u64>) -> Self {
        Self { dir, run_dir: dir, run_id, resume_step, shared: false, rotate_bytes: 0 }
    }

    /// Whether a record that is there stays.
    pub(crate) fn keeps(&self, run_id: &str, step: u64) -> bool {
        let is_ours = !self.shared || run_id == self.run_id;
        !is_ours || self.resume_step.is_some_and(|resumed| step <= resumed)
    }
}

/// Opens a writer.
pub type OpenWriter = fn(&WriterContext<'_>) -> Result<Box<dyn MetricWriter>, TrackError>;

/// The writers of this crate by name.
pub fn writers() -> Result<Registry<OpenWriter>, RegistryError> {
    let mut registry: Registry<OpenWriter> = Registry::new("metric writer");
    registry.register(NdjsonWriter::NAME, |context| Ok(Box::new(NdjsonWriter::open(context)?)))?;
    registry.register(CsvWriter::NAME, |context| Ok(Box::new(CsvWriter::open(context)?)))?;
    registry.register(TensorboardWriter::NAME, |context| Ok(Box::new(TensorboardWriter::open(context)?)))?;
    registry.register(MlflowWriter::NAME, |context| Ok(Box::new(MlflowWriter::open(context)?)))?;
    registry.register(WandbWriter::NAME, |context| Ok(Box::new(WandbWriter::open(context)?)))?;
    Ok(registry)
}

/// One line of `metrics.ndjson` as it is written.
#[derive(Serialize)]
pub(crate) struct MetricLine<'a> {
    pub(crate) schema_version: &'a str,
    pub(crate) timestamp: &'a str,
    pub(crate) run_id: &'a str,
    pub(crate) step: u64,
    pub(crate) split: &'a str,
    pub(crate) metric: &'a str,
    pub(crate) value: Number,
    pub(crate) dataset: Option<&'a str>,
    pub(crate) tags: Tags,
}

/// What the tags of a line say.
#[derive(Serialize)]
pub(crate) struct Tags {
    pub(crate) tokens: u64,
    pub(crate) epoch: Number,
    /// The digest of this run's line before; see [`chain`](crate::chain).
    pub(crate) previous: Digest,
}

/// One line of `metrics.ndjson` as it is read; what is not needed is not asked for.
#[derive(Deserialize)]
pub(crate) struct ReadLine {
    #[serde(default)]
    pub(crate) run_id: String,
    pub(crate) step: u64,
    pub(crate) split: String,
    pub(crate) metric: String,
    pub(crate) value: Number,
    #[serde(default)]
    pub(crate) dataset: Option<String>,
    #[serde(default, alias = "ts")]
    pub(crate) timestamp: Option<String>,
    #[serde(default)]
    pub(crate) tags: ReadTags,
}

impl ReadLine {
    /// The line's metric; `None` when it is none. All of a line is UTF-8, its values that nobody asks for as well, which the parser passes over unseen.
    pub(crate) fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_str(std::str::from_utf8(line).ok()?).ok()
    }
}

/// The tags that are understood.
#[derive(Default, Deserialize)]
pub(crate) struct ReadTags {
    pub(crate) tokens: Option<u64>,
    pub(crate) epoch: Option<Number>,
    #[serde(default)]
    pub(crate) previous: Option<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_found_by_name() {
        let registry = writers().unwrap();
        assert_eq!(registry.names().collect::<Vec<_>>(), ["csv", "mlflow", "ndjson", "tensorboard", "wandb"]);
        let dir = tempfile::tempdir().unwrap();
        let context = WriterContext::of_run(dir.path(), "r", None);
        for name in registry.names() {
            assert_eq!(registry.resolve(name).unwrap()(&context).unwrap().name(), name);
        }
        assert!(registry.resolve("cvs").unwrap_err().to_string().contains("known: csv, mlflow, ndjson, tensorboard, wandb"));
    }

    #[test]
    fn a_resume_keeps_its_steps_and_other_runs() {
        let context = WriterContext { shared: true, ..WriterContext::of_run(Path::new("."), "a", Some(5)) };
        assert!(context.keeps("a", 5) && !context.keeps("a", 6) && context.keeps("b", 6));
        let alone = WriterContext { shared: false, ..context };
        assert!(alone.keeps("b", 5) && !alone.keeps("b", 6));
        assert!(!WriterContext { resume_step: None, ..context }.keeps("a", 0));
    }
}
