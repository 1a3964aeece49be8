//! The folder of a sweep, shared by all that work on it: `<runs>/<name>-<digest>/` with one folder for each trial, each with its lock.
//!
//! A trial is claimed by its lock, which the operating system gives back when the process ends, however it ends. On a network file system the lock
//! holds between machines if the file system carries `flock` (NFS 4 does).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codex_core::lock::LockError;
use codex_core::{Digest, FileError, Lock, Timestamp, files};
use serde::{Deserialize, Serialize};

use crate::config::{Goal, Strategy};
use crate::error::SweepError;
use crate::median::{Decision, MedianRule, should_stop};
use crate::series::{Series, SeriesWriter};
use crate::sweep::{Sweep, Trial, index_of, name_of};
use crate::trial_record::{Outcome, SCHEMA, TrialRecord, TrialStatus, read_json, write_json};

const SWEEP_TOML: &str = "sweep.toml";
const SWEEP_JSON: &str = "sweep.json";
const TRIALS: &str = "trials";
const TRIAL_JSON: &str = "trial.json";
const VALUES: &str = "values.ndjson";
const OUTPUT: &str = "output.log";
const LOCK: &str = "lock";

/// `sweep.json`: what the folder's trials have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepRecord {
    schema: u32,
    /// The sweep's name.
    pub name: String,
    /// The sweep's digest.
    pub digest: Digest,
    /// The base configuration, absolute.
    pub base: Option<PathBuf>,
    /// How parameters are chosen.
    pub strategy: Strategy,
    /// The metric that trials are compared by.
    pub metric: String,
    /// Which way it is better.
    pub goal: Goal,
    /// How many trials the file asked for when it was captured last.
    pub n_trials: usize,
    /// The keys that are tried, in the order of the file.
    pub keys: Vec<String>,
    /// Those of them that are ranges on the scale `log`.
    pub log_keys: Vec<String>,
}

impl SweepRecord {
    /// The record in whose folder this file is the captured sweep; `None` when it is none.
    pub(crate) fn beside(sweep_file: &Path) -> Option<Self> {
        let is_captured = sweep_file.file_name().is_some_and(|name| name == SWEEP_TOML);
        // A file of that name in some other folder may have anything beside it.
        is_captured.then(|| read_json(&files::parent(sweep_file).join(SWEEP_JSON)).ok().flatten()).flatten()
    }
}

/// The folder of a sweep.
#[derive(Clone, Debug)]
pub struct SweepFolder {
    path: PathBuf,
    record: SweepRecord,
}

/// The folder of a sweep that is about to run.
#[derive(Debug)]
pub struct Opened {
    /// The folder.
    pub folder: SweepFolder,
    /// Whether it was made for this.
    pub is_new: bool,
    /// Folders beside it of sweeps that have the same name and other trials: to be told, since their trials are not used again.
    pub others: Vec<PathBuf>,
}

/// What there is to do for a trial.
#[derive(Debug)]
pub enum Claim {
    /// Nothing: it has ended before.
    AlreadyDone(Box<TrialRecord>),
    /// Nothing: another process works on it.
    Busy,
    /// The trial, to begin or to go on with. It is this process's until the claim is dropped.
    Ready(Box<TrialClaim>),
}

/// A trial that this process works on.
#[derive(Debug)]
pub struct TrialClaim {
    folder: PathBuf,
    record: TrialRecord,
    series: SeriesWriter,
    _lock: Lock,
}

impl SweepFolder {
    /// Makes the folder of a sweep below `runs`, or opens it, and captures the sweep file.
    pub fn create(sweep: &Sweep, runs: &Path) -> Result<Opened, SweepError> {
        let path = runs.join(sweep.folder_name());
        let is_new = !path.join(SWEEP_JSON).exists();
        files::create_dir_all(&path.join(TRIALS))?;
        let config = sweep.config();
        let is_log = |domain: &crate::space::Domain| {
            matches!(domain, crate::space::Domain::Floats { is_log: true, .. } | crate::space::Domain::Integers { is_log: true, .. })
        };
        let record = SweepRecord {
            schema: SCHEMA,
            name: config.name.clone(),
            digest: sweep.digest(),
            base: sweep.base_config().map(absolute).transpose()?,
            strategy: config.strategy,
            metric: config.metric.clone(),
            goal: config.goal,
            n_trials: sweep.n_trials(),
            keys: config.space.iter().map(|parameter| parameter.key.clone()).collect(),
            log_keys: config.space.iter().filter(|parameter| is_log(&parameter.domain)).map(|parameter| parameter.key.clone()).collect(),
        };
        let existing: Option<SweepRecord> = read_json(&path.join(SWEEP_JSON))?;
        if let Some(existing) = existing.as_ref().filter(|existing| existing.digest != sweep.digest()) {
            let told = |digest: Digest| format!("{} of {}", digest.short(), config.name);
            return Err(SweepError::OtherTrial { path, expected: told(sweep.digest()), found: told(existing.digest) });
        }
        // Written again only when it says something else, since many tasks may open the folder at once.
        if !files::is_plain_file(&path.join(SWEEP_TOML)) || files::read(&path.join(SWEEP_TOML))? != sweep.text() {
            files::write_atomic(&path.join(SWEEP_TOML), sweep.text())?;
        }
        if existing.as_ref() != Some(&record) {
            write_json(&path.join(SWEEP_JSON), &record)?;
        }
        let prefix = format!("{}-", config.name);
        let is_other = |other: &PathBuf| {
            let name = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let digits = name.strip_prefix(&prefix).unwrap_or_default();
            *other != path && digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && other.join(SWEEP_JSON).exists()
        };
        let others = files::list_dir(runs)?.into_iter().filter(is_other).collect();
        Ok(Opened { folder: Self { path, record }, is_new, others })
    }

    /// Opens the folder of a sweep to look at it.
    ///
    /// # Errors
    /// A folder without a `sweep.json`, or with one of another version.
    pub fn open(path: &Path) -> Result<Self, SweepError> {
        let record: Option<SweepRecord> = read_json(&path.join(SWEEP_JSON))?;
        let Some(record) = record else { return Err(SweepError::NotASweep { path: path.to_owned() }) };
        if record.schema != SCHEMA {
            return Err(SweepError::Schema { path: path.join(SWEEP_JSON), expected: SCHEMA, found: record.schema });
        }
        Ok(Self { path: path.to_owned(), record })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the trials have in common.
    pub fn record(&self) -> &SweepRecord {
        &self.record
    }

    /// The captured sweep file.
    pub fn sweep_file(&self) -> PathBuf {
        self.path.join(SWEEP_TOML)
    }

    /// The folder of a trial, which `codex-cli train` is given as `run.folder`.
    pub fn trial_folder(&self, index: usize) -> PathBuf {
        self.path.join(TRIALS).join(name_of(index))
    }

    /// Where a trial's process writes what it says.
    pub fn output_log(&self, index: usize) -> PathBuf {
        self.trial_folder(index).join(OUTPUT)
    }

    /// Takes a trial, unless it has ended or another process works on it. Claiming is what begins it: the record says so before this returns.
    ///
    /// A trial whose process was killed can be claimed again and keeps its run folders, from which it goes on; so can one that failed.
    ///
    /// # Errors
    /// A folder that cannot be written; a record of another trial; a configuration file that is not what it was when a trial before was made from it.
    pub fn claim(&self, trial: &Trial, now: Timestamp) -> Result<Claim, SweepError> {
        let folder = self.trial_folder(trial.index);
        // One that has ended is known without its lock, so that a finished sweep can be looked through without waiting.
        if let Some(record) = read_own(&folder, trial)?.filter(|record| record.status.is_done()) {
            return Ok(Claim::AlreadyDone(Box::new(record)));
        }
        files::create_dir_all(&folder)?;
        let lock = match Lock::acquire(&folder.join(LOCK)) {
            Ok(lock) => lock,
            Err(LockError::Busy { .. }) => return Ok(Claim::Busy),
            Err(error) => return Err(error.into()),
        };
        // It may have ended between the two.
        let existing = read_own(&folder, trial)?;
        if let Some(record) = existing.as_ref().filter(|record| record.status.is_done()) {
            return Ok(Claim::AlreadyDone(Box::new(record.clone())));
        }
        let mut record = existing.unwrap_or_else(|| TrialRecord::new(trial, now.to_rfc3339()));
        // The captured sweep names its base by an absolute path, and the user's by one from where he stands: they are the same files.
        let files = trial.files.iter().map(|(path, digest)| Ok((absolute(path)?, *digest))).collect::<Result<_, FileError>>()?;
        self.same_files(&files)?;
        record.files = files;
        record.status = TrialStatus::Running;
        record.attempts = record.attempts.saturating_add(1);
        record.updated = now.to_rfc3339();
        record.outcome.error = None;
        record.outcome.exit_code = None;
        write_json(&folder.join(TRIAL_JSON), &record)?;
        let series = SeriesWriter::open(&folder.join(VALUES))?;
        Ok(Claim::Ready(Box::new(TrialClaim { folder, record, series, _lock: lock })))
    }

    /// Fails when a file that the trial is made from has changed since another was, or since the trial was begun. Those that failed do not count.
    fn same_files(&self, files: &BTreeMap<PathBuf, Digest>) -> Result<(), SweepError> {
        for index in self.begun()? {
            let Some(record) = self.trial_record(index)?.filter(|record| record.status != TrialStatus::Failed) else { continue };
            let has_changed = |(path, digest): &(&PathBuf, &Digest)| record.files.get(*path).is_some_and(|before| before != *digest);
            if let Some((path, _)) = files.iter().find(has_changed) {
                return Err(SweepError::ChangedFile { path: path.clone(), trial: record.name });
            }
        }
        Ok(())
    }

    /// The record of a trial; `None` when it was never begun.
    pub fn trial_record(&self, index: usize) -> Result<Option<TrialRecord>, SweepError> {
        TrialRecord::read(&self.trial_folder(index).join(TRIAL_JSON))
    }

    /// Whether a process works on a trial.
    pub fn is_running(&self, index: usize) -> bool {
        Lock::is_held(&self.trial_folder(index).join(LOCK))
    }

    /// The indices of the trials that were begun, upwards.
    pub fn begun(&self) -> Result<Vec<usize>, SweepError> {
        let folders = files::list_dir(&self.path.join(TRIALS))?;
        let name = |path: &PathBuf| path.file_name()?.to_str().map(str::to_owned);
        let mut indices: Vec<usize> = folders.iter().filter_map(|path| index_of(&name(path)?)).collect();
        indices.sort_unstable();
        Ok(indices)
    }

    /// The values of a trial so far.
    pub fn series(&self, index: usize) -> Result<Series, SweepError> {
        Ok(Series::read(&self.trial_folder(index).join(VALUES))?)
    }

    /// What the [median rule](crate::median) says of a trial at its last value, from the values that the others have written by now.
    ///
    /// Trials that failed do not count; those that run, were interrupted, were stopped or ended do, if they reached the step.
    pub fn should_stop(&self, index: usize, rule: MedianRule) -> Result<Decision, SweepError> {
        let own = self.series(index)?;
        // The others are only read when the rule is asked.
        if should_stop(&own, [], self.record.goal, rule) == Decision::NotDue {
            return Ok(Decision::NotDue);
        }
        let mut others = Vec::new();
        for other in self.begun()?.into_iter().filter(|other| *other != index) {
            if self.trial_record(other)?.is_some_and(|record| record.status != TrialStatus::Failed) {
                others.push(self.series(other)?);
            }
        }
        Ok(should_stop(&own, &others, self.record.goal, rule))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, FileError> {
    std::path::absolute(path).map_err(|source| FileError::new("find", path, source))
}

fn read_own(folder: &Path, trial: &Trial) -> Result<Option<TrialRecord>, SweepError> {
    let path = folder.join(TRIAL_JSON);
    match TrialRecord::read(&path)? {
        Some(record) if record.digest != trial.digest || record.index != trial.index => {
            let told = |index: usize, digest: Digest| format!("{index} with the digest {}", digest.short());
            Err(SweepError::OtherTrial { path, expected: told(trial.index, trial.digest), found: told(record.index, record.digest) })
        }
        record => Ok(record),
    }
}

impl TrialClaim {
    /// The trial's folder, which holds its run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The record as it is on the disk.
    pub fn record(&self) -> &TrialRecord {
        &self.record
    }

    /// Tells a value on the way to the other trials.
    pub fn report(&mut self, step: u64, value: f64) -> Result<(), SweepError> {
        Ok(self.series.push(step, value)?)
    }

    /// Writes down how the trial ended and gives it back. A value that is no number is left out.
    pub fn finish(mut self, status: TrialStatus, outcome: Outcome, now: Timestamp) -> Result<TrialRecord, SweepError> {
        self.record.status = status;
        self.record.outcome = outcome;
        self.record.outcome.value = self.record.outcome.value.filter(|value| value.is_finite());
        self.record.outcome.seconds = self.record.outcome.seconds.filter(|seconds| seconds.is_finite());
        self.record.updated = now.to_rfc3339();
        write_json(&self.folder.join(TRIAL_JSON), &self.record)?;
        Ok(self.record)
    }
}
