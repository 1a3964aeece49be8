//! A sweep: the file that was read, how many trials it makes, and the trial of an index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codex_core::{Digest, Stream, files};
use serde::{Deserialize, Serialize};

use crate::config::{MAX_FILE_BYTES, MAX_TRIALS, Strategy, SweepConfig, beside};
use crate::error::{Problem, SweepError};
use crate::folder::SweepRecord;
use crate::space::Domain;
use crate::value::Value;

/// The keys of a trial and their values, in the order of the sweep file.
pub type Parameters = Vec<(String, Value)>;

/// A sweep as its file says it.
#[derive(Clone, Debug)]
pub struct Sweep {
    config: SweepConfig,
    path: PathBuf,
    base: Option<PathBuf>,
    text: Vec<u8>,
    digest: Digest,
    n_trials: usize,
}

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its number, from 0.
    pub index: usize,
    /// Its folder's name: `trial-0007`.
    pub name: String,
    /// What it tries, in the order of the sweep file.
    pub parameters: Parameters,
    /// What `codex-cli train` is given: the sweep's own overrides, then the parameters, each value as TOML.
    pub overrides: Vec<String>,
    /// Of the overrides and of the sweep, and so of the base configuration.
    pub digest: Digest,
    /// The configuration files that the trial is made from, groups among them, with the digests of their bytes. Whoever claims the trial hands them in;
    /// the sweep file does not say them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<PathBuf, Digest>,
}

/// What decides the parameters of the trials and how they are judged; nothing else is in the digest.
#[derive(Serialize)]
struct Identity<'a> {
    schema: &'a str,
    base: Option<Digest>,
    overrides: &'a [String],
    strategy: Strategy,
    seed: u64,
    metric: &'a str,
    goal: crate::config::Goal,
    space: Vec<(&'a str, String)>,
    stopping: Option<crate::median::MedianRule>,
    sampler: Option<&'a str>,
}

impl Sweep {
    /// Reads a sweep file, and the base configuration's bytes for the digest.
    ///
    /// The `sweep.toml` that was captured in a sweep's folder is the same sweep, whatever has become of the file it was taken from: tasks that begin
    /// days later are given that one. Its base is the file that the folder's record names.
    ///
    /// # Errors
    /// Every problem of the file at once; a file that cannot be read; a captured sweep whose base has changed since.
    pub fn load(path: &Path) -> Result<Self, SweepError> {
        let text = files::read_bounded(path, MAX_FILE_BYTES)?;
        let Some(record) = SweepRecord::beside(path) else { return Self::from_bytes(path, text) };
        let sweep = Self::build(path, text, record.base)?;
        if sweep.digest == record.digest {
            return Ok(sweep);
        }
        Err(SweepError::Changed { path: path.to_owned(), base: sweep.base })
    }

    /// The sweep of a text that is at this path, to which the base configuration is relative.
    pub fn from_bytes(path: &Path, text: Vec<u8>) -> Result<Self, SweepError> {
        Self::build(path, text, None)
    }

    fn build(path: &Path, text: Vec<u8>, base: Option<PathBuf>) -> Result<Self, SweepError> {
        let problems = |problems: Vec<Problem>| SweepError::Problems { path: path.to_owned(), problems };
        let config = SweepConfig::parse(&text).map_err(problems)?;
        let base_path = config.base.as_ref().map(|named| base.unwrap_or_else(|| beside(path, named)));
        let base = match &base_path {
            Some(base) => Some(Digest::of_bytes(&files::read_bounded(base, MAX_FILE_BYTES)?)),
            None => None,
        };
        let identity = Identity {
            schema: "codex sweep v1",
            base,
            overrides: &config.overrides,
            strategy: config.strategy,
            // A seed that draws nothing makes no other trials.
            seed: if matches!(config.strategy, Strategy::Random | Strategy::Optuna) { config.seed } else { 0 },
            metric: &config.metric,
            goal: config.goal,
            space: config.space.iter().map(|parameter| (parameter.key.as_str(), identity_of(&parameter.domain))).collect(),
            stopping: config.stopping,
            sampler: (config.strategy == Strategy::Optuna).then_some(config.optuna.sampler.as_str()),
        };
        let digest = Digest::of_json(&identity).map_err(|source| SweepError::Encode { path: path.to_owned(), source })?;
        let n_trials = n_trials(&config) as usize;
        Ok(Self { config, path: path.to_owned(), base: base_path, text, digest, n_trials })
    }

    /// What the file says.
    pub fn config(&self) -> &SweepConfig {
        &self.config
    }

    /// The sweep file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The sweep file's bytes.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Of all that decides the trials' parameters and how they are judged: the base's bytes, the overrides, the strategy, the seed, the space, the
    /// metric, its goal and the stopping rule. How many trials there are, how many run at a time and who runs them is not in it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// `<name>-<first 8 digits of the digest>`: the name of the sweep's folder.
    pub fn folder_name(&self) -> String {
        format!("{}-{}", self.config.name, &self.digest.to_string()[..8])
    }

    /// How many trials there are.
    pub fn n_trials(&self) -> usize {
        self.n_trials
    }

    /// The base configuration, seen from the current folder.
    pub fn base_config(&self) -> Option<&Path> {
        self.base.as_deref()
    }

    /// The trial of an index, from 0: a pure function of the file, whatever has run.
    ///
    /// # Errors
    /// An index that is too large; a sweep of [`Strategy::Optuna`], whose parameters are [asked for](crate::optuna::Optuna::ask).
    pub fn trial(&self, index: usize) -> Result<Trial, SweepError> {
        self.require(index)?;
        let space = &self.config.space;
        let parameters: Parameters = match self.config.strategy {
            Strategy::Grid => {
                let mut rest = index as u64;
                let mut reversed: Parameters = Vec::with_capacity(space.len());
                // The last key is the fastest.
                for parameter in space.iter().rev() {
                    let n = parameter.domain.n_values().unwrap_or(1);
                    reversed.push((parameter.key.clone(), parameter.domain.nth(rest % n)));
                    rest /= n;
                }
                reversed.into_iter().rev().collect()
            }
            Strategy::Paired => space.iter().map(|parameter| (parameter.key.clone(), parameter.domain.nth(index as u64))).collect(),
            Strategy::Random => {
                let draw = |key: &str, domain: &Domain| {
                    // A stream for each key: a key that is added changes no other.
                    domain.draw(&mut Stream::new(self.config.seed, &format!("sweep:{key}"), index as u64))
                };
                space.iter().map(|parameter| (parameter.key.clone(), draw(&parameter.key, &parameter.domain))).collect()
            }
            Strategy::Optuna => return Err(SweepError::NotAsked { name: self.config.name.clone(), index }),
        };
        self.trial_of(index, parameters)
    }

    /// The trial of an index with parameters that a sampler chose.
    pub(crate) fn trial_of(&self, index: usize, parameters: Parameters) -> Result<Trial, SweepError> {
        let mut overrides = self.config.overrides.clone();
        overrides.extend(parameters.iter().map(|(key, value)| format!("{key}={value}")));
        // The sweep's digest holds that of the base.
        let identity = (self.digest, &overrides);
        let digest = Digest::of_json(&identity).map_err(|source| SweepError::Encode { path: self.path.clone(), source })?;
        Ok(Trial { index, name: name_of(index), parameters, overrides, digest, files: BTreeMap::new() })
    }

    /// Fails unless there is a trial of this index.
    pub fn require(&self, index: usize) -> Result<(), SweepError> {
        if index < self.n_trials {
            return Ok(());
        }
        Err(SweepError::NoTrial { name: self.config.name.clone(), index, n_trials: self.n_trials })
    }
}

/// `trial-0007`
pub fn name_of(index: usize) -> String {
    format!("trial-{index:04}")
}

/// The index of a trial's folder.
pub(crate) fn index_of(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("trial-").filter(|digits| digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|index| (*index as u64) < MAX_TRIALS && name_of(*index) == name)
}

fn n_trials(config: &SweepConfig) -> u64 {
    let sizes = config.space.iter().filter_map(|parameter| parameter.domain.n_values());
    match config.strategy {
        Strategy::Grid => sizes.product(),
        Strategy::Paired => sizes.min().unwrap_or(0),
        Strategy::Random | Strategy::Optuna => config.n_trials.unwrap_or(0),
    }
}

/// What a domain is, as text: `1` and `1.0` differ, and so do a list and the range with the same values.
fn identity_of(domain: &Domain) -> String {
    match domain {
        Domain::Values(values) => Value::List(values.clone()).to_string(),
        Domain::Integers { min, max, step, is_log } => format!("integers {min} {max} {step:?} {is_log}"),
        Domain::Floats { min, max, step, is_log } => format!("floats {min:?} {max:?} {step:?} {is_log}"),
    }
}

/// The parameters as a map, for where the order does not matter.
pub fn as_map(parameters: &[(String, Value)]) -> BTreeMap<&str, &Value> {
    parameters.iter().map(|(key, value)| (key.as_str(), value)).collect()
}
