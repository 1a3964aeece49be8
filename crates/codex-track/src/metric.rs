//! What the loop measures at a step, and the seam to whatever writes it down. The writers are in modules of their own.

use std::path::Path;

use codex_core::{Digest, Registry, RegistryError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::csv_writer::CsvWriter;
use crate::error::TrackError;
use crate::ndjson_writer::NdjsonWriter;
use crate::number::Number;

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

/// Something that keeps metrics.
///
/// After an error the writer is dropped by the [tracker](crate::Tracker) and not called again.
pub trait MetricWriter: Send {
    /// A short name for messages, such as `csv`.
    fn name(&self) -> &str;

    /// Keeps one point.
    fn write(&mut self, point: &MetricPoint<'_>, at: Timestamp) -> Result<(), TrackError>;

    /// Makes everything written so far survive a power loss.
    fn flush(&mut self) -> Result<(), TrackError>;
}

/// What a writer is told when it is opened.
#[derive(Clone, Copy, Debug)]
pub struct WriterContext<'a> {
    /// The folder to write to.
    pub dir: &'a Path,
    /// The run.
    pub run_id: &'a str,
    /// The step of the checkpoint that the run goes on from: what is there of later steps goes. `None` for a run from the start: all goes.
    pub resume_step: Option<u64>,
    /// Whether others may write to the same folder: runs before this one, and tools that know nothing of it. What they wrote stays, and a file is
    /// neither replaced nor shortened, so that what they append meanwhile is not lost.
    pub shared: bool,
}

impl WriterContext<'_> {
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
        assert_eq!(registry.names().collect::<Vec<_>>(), ["csv", "ndjson"]);
        let dir = tempfile::tempdir().unwrap();
        let context = WriterContext { dir: dir.path(), run_id: "r", resume_step: None, shared: false };
        for name in ["csv", "ndjson"] {
            assert_eq!(registry.resolve(name).unwrap()(&context).unwrap().name(), name);
        }
        assert!(registry.resolve("cvs").unwrap_err().to_string().contains("known: csv, ndjson"));
    }

    #[test]
    fn a_resume_keeps_its_steps_and_other_runs() {
        let context = WriterContext { dir: Path::new("."), run_id: "a", resume_step: Some(5), shared: true };
        assert!(context.keeps("a", 5) && !context.keeps("a", 6) && context.keeps("b", 6));
        let alone = WriterContext { shared: false, ..context };
        assert!(alone.keeps("b", 5) && !alone.keeps("b", 6));
        assert!(!WriterContext { resume_step: None, ..context }.keeps("a", 0));
    }
}
