//! `environment.ndjson`: a line for each process that worked on a run, so that a resumed run lists every one. `environment.json` has the last in full.

use codex_core::Digest;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::TrackError;
use crate::line_log::{Line, LineLog, for_each_line_if_any};
use crate::run_dir::RunDir;

/// The file's name.
pub const FILE: &str = "environment.ndjson";

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// The version of this format: 1.
    pub schema: u32,
    /// When it began, RFC 3339 in UTC.
    pub ts: String,
    /// The command line, masked.
    pub command: Vec<String>,
    /// The step of the checkpoint that it went on from; `None` for a start.
    pub resumed_step: Option<u64>,
    /// The digest of the program's file.
    pub binary_digest: Option<Digest>,
    /// The commit checked out.
    pub git_commit: Option<String>,
    /// Whether files differed from the commit.
    pub git_dirty: Option<bool>,
    /// The device it computed on.
    pub device: Option<String>,
    /// The seed.
    pub seed: u64,
    /// A digest of the operating system, processor, memory and GPUs: the same on the same machine, and no name of it.
    pub machine: Option<Digest>,
}

impl ProcessRecord {
    /// The line of a process that has this environment.
    pub fn new(environment: &Environment, binary_digest: Option<Digest>, resumed_step: Option<u64>) -> Self {
        let Environment { os, cpu, memory_total_bytes, gpu, .. } = environment;
        Self {
            schema: 1,
            ts: environment.captured.clone(),
            command: environment.command.clone(),
            resumed_step,
            binary_digest,
            git_commit: environment.git_revision.clone(),
            git_dirty: environment.git.is_dirty,
            device: environment.device.clone(),
            seed: environment.seed,
            machine: Digest::of_json(&(os, cpu, memory_total_bytes, gpu)).ok(),
        }
    }

    /// Adds the line to a run.
    pub fn append(&self, run: &RunDir) -> Result<(), TrackError> {
        let path = run.path().join(FILE);
        let mut line = serde_json::to_vec(self).map_err(|source| TrackError::Encode { path: path.clone(), source })?;
        line.push(b'\n');
        let mut log = LineLog::open(&path)?;
        log.append(&line)?;
        Ok(log.sync()?)
    }

    /// The processes of a run in their order, and how many lines are none. An unfinished last line is not counted.
    pub fn read_all(run: &RunDir) -> Result<(Vec<Self>, u64), TrackError> {
        let mut all = Vec::new();
        let mut bad_lines = 0;
        for_each_line_if_any(&run.path().join(FILE), |line| match line {
            Line::Torn => {}
            Line::TooLong => bad_lines += 1,
            Line::Whole(whole) => match serde_json::from_slice(whole) {
                Ok(record) => all.push(record),
                Err(_) => bad_lines += 1,
            },
        })?;
        Ok((all, bad_lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::EnvironmentInputs;
    use codex_core::{Timestamp, files};

    #[test]
    fn each_process_of_a_run_has_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        assert_eq!(ProcessRecord::read_all(&run).unwrap(), (Vec::new(), 0));
        let argv = ["codex-cli", "train", "--token", "hunter2"].map(str::to_owned);
        let inputs = EnvironmentInputs {
            argv: &argv,
            variables: &std::collections::BTreeMap::new(),
            current_dir: dir.path(),
            seed: 7,
            rustc: None,
            features: &[],
            lock_digest: None,
            device: Some("cpu"),
        };
        let environment = Environment::capture(&inputs, Timestamp(0));
        let first = ProcessRecord::new(&environment, Some(Digest::of_bytes(b"program")), None);
        let second = ProcessRecord::new(&environment, None, Some(40));
        first.append(&run).unwrap();
        second.append(&run).unwrap();
        let path = dir.path().join(FILE);
        let text = files::read_to_string(&path).unwrap();
        assert!(text.lines().count() == 2 && !text.contains("hunter2") && text.contains("[masked]"), "{text}");
        // A third process was killed while it wrote.
        files::write_atomic(&path, format!("{text}x\n{{\"schema\"").as_bytes()).unwrap();
        assert_eq!(ProcessRecord::read_all(&run).unwrap(), (vec![first.clone(), second], 1));
        assert!(first.machine.is_some() && first.git_commit.is_none() && first.git_dirty.is_none());
    }
}
