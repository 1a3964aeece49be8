//! `run.json`: what a run is, how far it has come, and how it ended. Its measurements are in the metrics; here are only the last of them.

use std::collections::BTreeMap;

use codex_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::TrackError;
use crate::number;
use crate::run_dir::{RunDir, parse_json, read_json_bytes};
use crate::run_graph::RunGraph;

/// The schema that this program writes and reads.
const SCHEMA: u32 = 1;

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The version of this format: 1.
    pub schema: u32,
    /// The name of the run folder when it was made.
    pub id: String,
    /// What the user called the run.
    pub name: String,
    /// The command line, with secrets masked.
    pub argv: Vec<String>,
    /// The seed of every random draw.
    pub seed: u64,
    /// What determines the weights.
    pub plan_digest: Digest,
    /// The resolved configuration.
    pub config_digest: Digest,
    /// The program's own file, when it could be read.
    pub binary_digest: Option<Digest>,
    /// The device it trains on.
    pub device: String,
    /// The instructions that the processor's kernels use there; empty where there are none.
    #[serde(default)]
    pub instruction_set: String,
    /// The commit checked out where the program was started.
    pub git_revision: Option<String>,
    /// When the run began, RFC 3339 in UTC.
    pub started: String,
    /// When this record was last written.
    pub updated: String,
    /// When the run ended.
    pub finished: Option<String>,
    /// Whether and how it ended.
    pub status: RunStatus,
    /// The exit code of the process that ended it.
    pub exit_code: Option<u8>,
    /// Each time it was taken up again.
    pub resumed_from: Vec<ResumeRecord>,
    /// Optimizer steps taken.
    pub step: u64,
    /// Why it failed, when it did.
    pub error: Option<String>,
    /// What is promised of the run's bits, such as `bit-exact on cpu`.
    pub promise: String,
    /// What memory was forecast and what was used, once the run has ended.
    #[serde(default)]
    pub memory: Option<MemoryRecord>,
    /// What went into it and what came out.
    #[serde(default)]
    pub graph: RunGraph,
    /// The newest values by name, such as `validation/loss` and `baseline/unigram/loss`.
    #[serde(with = "number::map")]
    pub summary: BTreeMap<String, f64>,
    /// Words that it is found by, as it began; what was said later is in [`annotations.json`](crate::annotation).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What a person said of it as it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Memory of the process that ended a run, in bytes unless the name says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRecord {
    /// Parts of the forecast made before the run, by name; `total` is all that is there at the worst moment.
    pub forecast: BTreeMap<String, u64>,
    /// Peak resident memory, where the system tells it.
    pub peak_resident: Option<u64>,
    /// What the allocation pool did, by name; empty without one.
    pub pool: BTreeMap<String, u64>,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// A process works on it. In a file, one that was killed doing so as well.
    Running,
    /// It took all its steps, or stopped early as planned.
    Finished,
    /// A signal stopped it; its state is saved.
    Interrupted,
    /// An error stopped it.
    Failed,
    /// Its record says `running`, and no process works on it. It is shown, and never written.
    Killed,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Running, Self::Finished, Self::Interrupted, Self::Failed, Self::Killed];

    /// The status as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Killed => "killed",
        }
    }
}

/// A resume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeRecord {
    /// The step of the checkpoint.
    pub step: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// The device from then on.
    pub device: String,
    /// The instructions that the kernels use from then on.
    #[serde(default)]
    pub instruction_set: String,
    /// The program's own file from then on, when it could be read.
    pub binary_digest: Option<Digest>,
}

impl RunRecord {
    /// The file's name.
    pub const FILE: &'static str = "run.json";

    /// The record of a run that begins; digests, revision and command line as they are known. Secrets in `argv` are masked.
    pub fn new(run: &RunDir, name: &str, argv: &[String], seed: u64, plan_digest: Digest, config_digest: Digest, now: Timestamp) -> Self {
        Self {
            schema: SCHEMA,
            id: run.id(),
            name: name.to_owned(),
            argv: crate::mask::command(argv),
            seed,
            plan_digest,
            config_digest,
            binary_digest: None,
            device: String::new(),
            instruction_set: String::new(),
            git_revision: None,
            started: now.to_rfc3339(),
            updated: now.to_rfc3339(),
            finished: None,
            status: RunStatus::Running,
            exit_code: None,
            resumed_from: Vec::new(),
            step: 0,
            error: None,
            memory: None,
            graph: RunGraph::default(),
            promise: String::new(),
            summary: BTreeMap::new(),
            tags: Vec::new(),
            note: None,
        }
    }

    /// The record as it is shown: a run that nobody works on is not running, whatever its record says.
    #[must_use]
    pub fn seen(mut self, run: &RunDir) -> Self {
        if self.status == RunStatus::Running && !run.is_locked() {
            self.status = RunStatus::Killed;
        }
        self
    }

    /// The record in a run folder, as the run wrote it; [`read_annotated`](crate::annotation::read_annotated) has what was said of it since.
    pub fn read(run: &RunDir) -> Result<Self, TrackError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let path = run.path().join(Self::FILE);
        let bytes = read_json_bytes(&path)?;
        let read: Result<Self, TrackError> = parse_json(&path, &bytes);
        // A later version may have other fields, so its number is looked for where the whole cannot be read, too.
        let found = read.as_ref().map_or_else(|_| parse_json::<Version>(&path, &bytes).ok().map(|it| it.schema), |it| Some(it.schema));
        match found {
            Some(found) if found != SCHEMA => Err(TrackError::Schema { path, expected: SCHEMA, found }),
            _ => read,
        }
    }

    /// Publishes the record in its run folder.
    pub fn write(&self, run: &RunDir) -> Result<(), TrackError> {
        run.write_json(Self::FILE, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_equal_and_another_schema_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        let digest = Digest::of_bytes(b"x");
        let argv = ["codex-cli", "train", "wandb.token=abc"].map(str::to_owned);
        let mut record = RunRecord::new(&run, "tiny", &argv, 7, digest, digest, Timestamp(0));
        record.summary.insert("train/loss".to_owned(), f64::INFINITY);
        record.resumed_from.push(ResumeRecord {
            step: 3,
            at: Timestamp(1).to_rfc3339(),
            device: "flex".to_owned(),
            instruction_set: "avx2".to_owned(),
            binary_digest: Some(digest),
        });
        record.status = RunStatus::Interrupted;
        record.write(&run).unwrap();
        assert_eq!(RunRecord::read(&run).unwrap(), record);
        assert_eq!(record.argv[2], "wandb.token=[masked]");
        let text = codex_core::files::read_to_string(&root.path().join("run.json")).unwrap();
        assert!(text.contains("\"status\": \"interrupted\"") && text.contains("\"train/loss\": \"Infinity\""), "{text}");
        run.write_text("run.json", &text.replace("\"schema\": 1", "\"schema\": 2")).unwrap();
        assert!(RunRecord::read(&run).unwrap_err().to_string().ends_with("has schema 2, expected 1"));
    }

    #[test]
    fn the_status_is_written_as_it_is_shown() {
        for status in RunStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
