//! Parameters from Optuna (T. Akiba et al., KDD 2019) by its command line: `optuna ask` when a trial begins, `optuna tell` when it has ended.
//!
//! The study is in the sweep's folder, with one file for each trial that says which number of Optuna's it has: asked once, a trial keeps its
//! parameters however often it is killed. What Optuna answers depends on which trials have ended by then.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use codex_core::lock::LockError;
use codex_core::{FileError, Lock, Stream, files};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::{Goal, Strategy};
use crate::error::SweepError;
use crate::folder::SweepFolder;
use crate::space::Domain;
use crate::sweep::{Parameters, Sweep, Trial, name_of};
use crate::trial_record::{SCHEMA, TrialRecord, TrialStatus, read_json, write_json};
use crate::value::Value;

/// How often the lock of the study is tried, a tenth of a second each: Optuna takes seconds, and several processes may be before this one.
const LOCK_ATTEMPTS: u32 = 3000;

/// The trial of an index, whatever the strategy: Optuna is asked if it has not been.
pub fn trial(sweep: &Sweep, folder: &SweepFolder, index: usize) -> Result<Trial, SweepError> {
    if sweep.config().strategy == Strategy::Optuna { Optuna::new(sweep, folder).ask(index) } else { sweep.trial(index) }
}

/// The study of a sweep.
#[derive(Clone, Copy, Debug)]
pub struct Optuna<'s> {
    sweep: &'s Sweep,
    folder: &'s SweepFolder,
}

/// `optuna/trial-0007.json`: the number that Optuna gave a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    schema: u32,
    index: usize,
    number: u64,
    parameters: Parameters,
    /// What Optuna was told in the end: a value, or `pruned` or `fail`.
    told: Option<String>,
}

/// What `optuna ask -f json` answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    number: u64,
    params: BTreeMap<String, serde_json::Value>,
}

/// What `optuna trials -f json` answers, as far as it is needed.
#[derive(Deserialize)]
struct Listed {
    number: u64,
    state: String,
}

impl<'s> Optuna<'s> {
    /// The study in this sweep's folder.
    pub fn new(sweep: &'s Sweep, folder: &'s SweepFolder) -> Self {
        Self { sweep, folder }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("optuna")
    }

    fn asked_path(&self, index: usize) -> PathBuf {
        self.dir().join(format!("{}.json", name_of(index)))
    }

    fn asked(&self, index: usize) -> Result<Option<Asked>, SweepError> {
        let path = self.asked_path(index);
        match read_json::<Asked>(&path)? {
            Some(asked) if asked.schema != SCHEMA => Err(SweepError::Schema { path, expected: SCHEMA, found: asked.schema }),
            asked => Ok(asked),
        }
    }

    /// The trial of an index that was asked for before; `None` when it was not.
    pub fn known(&self, index: usize) -> Result<Option<Trial>, SweepError> {
        self.sweep.require(index)?;
        let asked = self.asked(index)?;
        asked.map(|asked| self.sweep.trial_of(index, asked.parameters)).transpose()
    }

    /// The trial of an index: the one that Optuna gave it before, or a new one. One process asks at a time.
    ///
    /// # Errors
    /// Optuna that is not installed, fails, or answers something else than it was asked for.
    pub fn ask(&self, index: usize) -> Result<Trial, SweepError> {
        if let Some(known) = self.known(index)? {
            return Ok(known);
        }
        files::create_dir_all(&self.dir())?;
        let _lock = self.lock()?;
        // Another process may have asked for it meanwhile.
        if let Some(known) = self.known(index)? {
            return Ok(known);
        }
        self.create_study()?;
        self.forget_the_lost()?;
        let asking = self.dir().join("asking");
        files::write_atomic(&asking, format!("{index}\n").as_bytes())?;
        // Each call is a process of its own: with one seed for all of them, every draw would be the first.
        let seed = Stream::new(self.sweep.config().seed, "sweep:optuna", index as u64).next_u32();
        let (space, kwargs) = (search_space(self.sweep).to_string(), json!({ "seed": seed }).to_string());
        let sampler = &self.sweep.config().optuna.sampler;
        let more = ["--sampler", sampler, "--sampler-kwargs", &kwargs, "--search-space", &space, "-f", "json"];
        let stdout = self.call("ask", &more)?;
        let (number, parameters) = self.answer(&stdout)?;
        let asked = Asked { schema: SCHEMA, index, number, parameters, told: None };
        write_json(&self.asked_path(index), &asked)?;
        files::remove_file(&asking)?;
        self.sweep.trial_of(index, asked.parameters)
    }

    /// Tells Optuna how a trial ended; nothing the second time.
    ///
    /// A trial that was stopped is told as pruned, one that completed without a value as failed. One that failed is not told, since it is tried
    /// again with the same parameters.
    ///
    /// # Errors
    /// A trial that was never asked for; Optuna that fails.
    pub fn tell(&self, record: &TrialRecord) -> Result<(), SweepError> {
        if !record.status.is_done() {
            return Ok(());
        }
        let index = record.index;
        let not_asked = || SweepError::NotAsked { name: self.sweep.config().name.clone(), index };
        let mut asked = self.asked(index)?.ok_or_else(not_asked)?;
        if asked.told.is_some() {
            return Ok(());
        }
        let number = asked.number.to_string();
        // Without an exponent: Optuna's command line takes `-1e-5` for an option.
        let value = record.outcome.value.filter(|value| value.is_finite()).map(|value| format!("{value}"));
        let (option, word) = match (record.status, value) {
            (TrialStatus::Stopped, _) => ("--state", "pruned".to_owned()),
            (_, Some(value)) => ("--values", value),
            (_, None) => ("--state", "fail".to_owned()),
        };
        self.call("tell", &["--trial-number", &number, option, &word, "--skip-if-finished"])?;
        asked.told = Some(word);
        write_json(&self.asked_path(index), &asked)
    }

    fn lock(&self) -> Result<Lock, SweepError> {
        let path = self.dir().join("lock");
        for _ in 1..LOCK_ATTEMPTS {
            match Lock::acquire(&path) {
                Err(LockError::Busy { .. }) => {}
                other => return Ok(other?),
            }
        }
        Ok(Lock::acquire(&path)?)
    }

    fn create_study(&self) -> Result<(), SweepError> {
        let made = self.dir().join("study");
        if files::is_plain_file(&made) {
            return Ok(());
        }
        let direction = match self.sweep.config().goal {
            Goal::Minimize => "minimize",
            Goal::Maximize => "maximize",
        };
        self.call("create-study", &["--direction", direction, "--skip-if-exists"])?;
        Ok(files::write_atomic(&made, format!("{}\n", self.sweep.folder_name()).as_bytes())?)
    }

    /// Tells Optuna that a trial failed whose number got lost: asked for by a process that was killed before it could write it down.
    fn forget_the_lost(&self) -> Result<(), SweepError> {
        let asking = self.dir().join("asking");
        if !files::is_plain_file(&asking) {
            return Ok(());
        }
        let mut known = std::collections::BTreeSet::new();
        for index in 0..self.sweep.n_trials() {
            known.extend(self.asked(index)?.map(|asked| asked.number));
        }
        let stdout = self.call("trials", &["-f", "json"])?;
        let listed: Vec<Listed> = serde_json::from_slice(&stdout).map_err(|error| self.wrong("trials", error.to_string()))?;
        for lost in listed.iter().filter(|trial| trial.state == "RUNNING" && !known.contains(&trial.number)) {
            self.call("tell", &["--trial-number", &lost.number.to_string(), "--state", "fail", "--skip-if-finished"])?;
        }
        Ok(files::remove_file(&asking)?)
    }

    /// Runs `optuna <action>` on the study, and returns what it writes to standard output.
    fn call(&self, action: &str, more: &[&str]) -> Result<Vec<u8>, SweepError> {
        let config = &self.sweep.config().optuna;
        // It runs in the folder of the study, whose path needs no escaping in a URL then; a program given by its path is looked for here.
        let program = if config.program.contains('/') {
            let absolute = std::path::absolute(&config.program);
            absolute.map_err(|source| FileError::new("find", config.program.as_ref(), source))?
        } else {
            PathBuf::from(&config.program)
        };
        let study = self.sweep.folder_name();
        let mut command = Command::new(program);
        command.current_dir(self.dir()).arg(action);
        if config.is_sqlite {
            command.args(["--storage", "sqlite:///study.db"]);
        } else {
            command.args(["--storage", "journal.log", "--storage-class", "JournalFileBackend"]);
        }
        command.args(["--study-name", &study]).args(more).stdin(std::process::Stdio::null());
        let output = command.output().map_err(|source| SweepError::Start { program: config.program.clone(), source })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // The last line of a traceback is what went wrong.
        let message = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").chars().take(500).collect();
        let ended = output.status.code().map_or_else(|| "was killed".to_owned(), |code| format!("ended with {code}"));
        Err(SweepError::Program { program: format!("{} {action}", config.program), ended, message })
    }

    fn wrong(&self, action: &str, message: String) -> SweepError {
        SweepError::Answer { program: format!("{} {action}", self.sweep.config().optuna.program), message }
    }

    fn answer(&self, stdout: &[u8]) -> Result<(u64, Parameters), SweepError> {
        let wrong = |message: String| self.wrong("ask", message);
        let mut answer: Answer = serde_json::from_slice(stdout).map_err(|error| wrong(error.to_string()))?;
        let mut parameters = Parameters::new();
        for parameter in &self.sweep.config().space {
            let key = &parameter.key;
            let given = answer.params.remove(key).ok_or_else(|| wrong(format!("`{key}` is missing")))?;
            let value = accept(&parameter.domain, &given).ok_or_else(|| wrong(format!("`{key}` is `{given}`, which the space lacks")))?;
            parameters.push((key.clone(), value));
        }
        match answer.params.keys().next() {
            Some(key) => Err(wrong(format!("`{key}` was not asked for"))),
            None => Ok((answer.number, parameters)),
        }
    }
}

/// The space as Optuna's `--search-space` takes it. The values of a list are categories by their TOML text, since Python takes `1`, `1.0` and `True`
/// for the same.
pub(crate) fn search_space(sweep: &Sweep) -> serde_json::Value {
    let mut space = serde_json::Map::new();
    for parameter in &sweep.config().space {
        let domain = &parameter.domain;
        // Optuna's ranges end at a step.
        let last = domain.n_values().map(|n| domain.nth(n - 1)).and_then(|value| value.as_number());
        let distribution = match domain {
            Domain::Values(values) => {
                let choices: Vec<String> = values.iter().map(Value::to_string).collect();
                json!({ "name": "CategoricalDistribution", "attributes": { "choices": choices } })
            }
            Domain::Integers { min, max, step, is_log } => {
                let high = last.map_or(*max, |last| last as i64);
                json!({ "name": "IntDistribution", "attributes": { "low": min, "high": high, "step": step.unwrap_or(1), "log": is_log } })
            }
            Domain::Floats { min, max, step, is_log } => {
                let high = last.unwrap_or(*max);
                json!({ "name": "FloatDistribution", "attributes": { "low": min, "high": high, "step": step, "log": is_log } })
            }
        };
        space.insert(parameter.key.clone(), distribution);
    }
    space.into()
}

/// The value of an answer, if the domain has it.
fn accept(domain: &Domain, given: &serde_json::Value) -> Option<Value> {
    match domain {
        Domain::Values(values) => {
            let text = given.as_str()?;
            values.iter().find(|value| value.to_string() == text).cloned()
        }
        Domain::Integers { min, max, step, .. } => {
            let number = given.as_i64().filter(|number| (min..=max).contains(&number))?;
            (min.abs_diff(number) % step.unwrap_or(1) == 0).then_some(Value::Integer(number))
        }
        Domain::Floats { min, max, .. } => given.as_f64().filter(|number| (min..=max).contains(&number)).map(Value::Float),
    }
}
