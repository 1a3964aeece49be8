//! What a sweep file says. Keys it does not know are refused, and every problem is told at once, each at its line.

use std::path::Path;

use crate::document::{Item, Problems, Section, entries};
use crate::error::Problem;
use crate::launcher_config::{self, LauncherConfig};
use crate::median::MedianRule;
use crate::space::{self, Domain, Parameter, is_key};
use crate::value::Value;

/// The most trials of a sweep.
pub const MAX_TRIALS: u64 = 100_000;

/// The largest sweep file that is read.
pub(crate) const MAX_FILE_BYTES: u64 = 4 << 20;

/// The keys that a sweep sets itself.
const OWN_KEYS: [&str; 1] = ["run.folder"];

/// How the trials' parameters are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Strategy {
    /// Every combination, the last key fastest.
    Grid,
    /// Each trial drawn by chance, whatever the others are.
    Random,
    /// The lists side by side: the first values together, then the second ones.
    Paired,
    /// By Optuna, from the results of the trials before.
    Optuna,
}

/// Which way the metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Small values are better.
    Minimize,
    /// Large values are better.
    Maximize,
}

impl Goal {
    /// Whether `a` is strictly better than `b`. Any number is better than one that is none (NaN).
    pub fn is_better(self, a: f64, b: f64) -> bool {
        match self {
            _ if a.is_nan() || b.is_nan() => !a.is_nan(),
            Self::Minimize => a < b,
            Self::Maximize => a > b,
        }
    }
}

/// Where Optuna is and where it keeps its study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptunaConfig {
    /// The program; `optuna` is looked for on the PATH.
    pub program: String,
    /// Whether the study is an SQLite file, not a journal. On a shared network folder only the journal is safe.
    pub is_sqlite: bool,
    /// The class of the sampler.
    pub sampler: String,
}

impl Default for OptunaConfig {
    fn default() -> Self {
        Self { program: "optuna".to_owned(), is_sqlite: false, sampler: "TPESampler".to_owned() }
    }
}

/// A sweep file.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepConfig {
    /// What the sweep is called: part of its folder's name.
    pub name: String,
    /// The configuration file below the trials, relative to the sweep file.
    pub base: Option<String>,
    /// `key=value` for every trial.
    pub overrides: Vec<String>,
    /// How parameters are chosen.
    pub strategy: Strategy,
    /// How many trials: set for [`Strategy::Random`] and [`Strategy::Optuna`], counted for the others.
    pub n_trials: Option<u64>,
    /// Decides every draw.
    pub seed: u64,
    /// The metric that trials are compared by, such as `validation/loss`.
    pub metric: String,
    /// Which way it is better.
    pub goal: Goal,
    /// Trials at a time.
    pub parallel: usize,
    /// What is tried, in the order of the file.
    pub space: Vec<Parameter>,
    /// When a trial is given up.
    pub stopping: Option<MedianRule>,
    /// Who runs the trials.
    pub launcher: LauncherConfig,
    /// For [`Strategy::Optuna`].
    pub optuna: OptunaConfig,
}

impl SweepConfig {
    /// Reads the text of a sweep file.
    ///
    /// # Errors
    /// Every problem, in the order of the lines.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<Problem>> {
        let problems = Problems::default();
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
                problems.tell(line, "", "this is not UTF-8", None);
                return Err(problems.into_sorted());
            }
        };
        let top = entries(text, &problems);
        let config = if problems.is_empty() { read(Section::new("", 1, top, &problems)) } else { None };
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems.into_sorted()),
        }
    }
}

fn read(mut top: Section<'_>) -> Option<SweepConfig> {
    let strategies = [("grid", Strategy::Grid), ("random", Strategy::Random), ("paired", Strategy::Paired), ("optuna", Strategy::Optuna)];
    let name = top.word("name", 64, "small letters, digits and `-`", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if let Some(name) = name.as_ref().filter(|name| name.starts_with('-') || name.ends_with('-')) {
        top.tell(1, "name", format!("`{name}` begins or ends with `-`"), None);
    }
    let base = top.word("base", 1000, "a path", |c| !c.is_control());
    let overrides = top.texts("overrides");
    let strategy = top.choice("strategy", &strategies);
    let n_trials = top.integer("n_trials", 1..=MAX_TRIALS);
    let seed = top.integer("seed", 0..=i64::MAX as u64).unwrap_or(0);
    let metric = top.word("metric", 200, "a metric's name", |c| !c.is_control());
    let goal = top.choice("goal", &[("minimize", Goal::Minimize), ("maximize", Goal::Maximize)]).unwrap_or(Goal::Minimize);
    let parallel = top.integer("parallel", 1..=10_000).unwrap_or(1) as usize;
    let space = top.take("space").map(|entry| match entry.item {
        Item::Table { entries, .. } => (entry.line, space::parse(entries, top.problems)),
        other => {
            top.tell(entry.line, "space", format!("expected a table, found {}", other.found()), None);
            (entry.line, Vec::new())
        }
    });
    let stopping = top.section("stopping").map(stopping);
    let launcher = top.section("launcher").map_or(Some(LauncherConfig::default()), launcher_config::read);
    let optuna = top.section("optuna").map_or_else(OptunaConfig::default, optuna);
    for name in ["name", "strategy", "metric", "space"] {
        if top.is_absent(name) {
            top.tell(1, name, "this key is missing", None);
        }
    }
    let (space_line, space) = space.unwrap_or((1, Vec::new()));
    let overrides = overrides.map_or_else(Vec::new, |(line, overrides)| {
        check_overrides(&top, line, &overrides, &space);
        overrides
    });
    if let Some(strategy) = strategy {
        check_space(&top, space_line, strategy, &space);
        let is_counted = matches!(strategy, Strategy::Grid | Strategy::Paired);
        if is_counted && !top.is_absent("n_trials") {
            top.tell(1, "n_trials", "the space itself says how many trials there are", Some("remove it, or use `random`"));
        } else if !is_counted && top.is_absent("n_trials") {
            top.tell(1, "n_trials", "this strategy needs to know how many trials to make", None);
        }
    }
    top.finish();
    Some(SweepConfig {
        name: name?,
        base,
        overrides,
        strategy: strategy?,
        n_trials,
        seed,
        metric: metric?,
        goal,
        parallel,
        space,
        stopping,
        launcher: launcher?,
        optuna,
    })
}

fn check_overrides(top: &Section<'_>, line: usize, overrides: &[String], space: &[Parameter]) {
    let mut seen: Vec<&str> = Vec::new();
    for text in overrides {
        let key = text.split_once('=').map(|(key, value)| (key.trim(), value));
        let Some((key, _)) = key.filter(|(key, value)| is_key(key) && !value.starts_with('=') && !text.chars().any(char::is_control))
        else {
            top.tell(line, "overrides", format!("{} is no `key=value`", Item::Value(Value::Text(text.clone())).found()), None);
            continue;
        };
        if OWN_KEYS.contains(&key) {
            top.tell(line, "overrides", format!("`{key}` is set by the sweep"), Some("each trial has a folder of its own"));
        }
        if seen.contains(&key) {
            top.tell(line, "overrides", format!("`{key}` is set twice"), Some("keep one of the two"));
        }
        if let Some(parameter) = space.iter().find(|parameter| parameter.key == key) {
            let message = format!("`{key}` is set for every trial, and tried on line {}", parameter.line);
            top.tell(line, "overrides", message, Some("keep one of the two"));
        }
        seen.push(key);
    }
}

fn check_space(top: &Section<'_>, line: usize, strategy: Strategy, space: &[Parameter]) {
    if space.is_empty() && !top.is_absent("space") && top.problems.is_empty() {
        top.tell(line, "space", "there is nothing to try", Some("give it a key with a list: `train.learning_rate = [1e-3, 3e-3]`"));
    }
    for (n, parameter) in space.iter().enumerate() {
        let key = format!("space.{}", parameter.key);
        if OWN_KEYS.contains(&parameter.key.as_str()) {
            top.tell(parameter.line, &key, "this key is set by the sweep", Some("each trial has a folder of its own"));
        }
        if let Some(first) = space[..n].iter().find(|first| first.key == parameter.key) {
            top.tell(parameter.line, &key, format!("set twice, first on line {}", first.line), Some("keep one of the two"));
        }
        match (strategy, &parameter.domain) {
            (Strategy::Grid, domain) if domain.n_values().is_none() => {
                top.tell(parameter.line, &key, "a grid over a range needs a `step`", Some("list the values, or use `random`"));
            }
            (Strategy::Paired, Domain::Integers { .. } | Domain::Floats { .. }) => {
                top.tell(parameter.line, &key, "values in pairs are lists", Some("list as many values as the other keys have"));
            }
            _ => {}
        }
    }
    match strategy {
        Strategy::Grid => {
            let product = space.iter().filter_map(|parameter| parameter.domain.n_values()).try_fold(1_u64, u64::checked_mul);
            if product.is_none_or(|product| product > MAX_TRIALS) {
                let found = product.map_or_else(|| "more than 2^64".to_owned(), |product| product.to_string());
                let hint = Some("try fewer values, or draw some of them with `random`");
                top.tell(line, "space", format!("the grid has {found} trials, at most {MAX_TRIALS} can be run"), hint);
            }
        }
        Strategy::Paired => {
            let Some(first) = space.first() else { return };
            let n = first.domain.n_values();
            for other in space.iter().filter(|other| other.domain.n_values() != n) {
                let told = |n: Option<u64>| n.map_or_else(|| "no number of".to_owned(), |n| n.to_string());
                let message = format!("{} values, where `{}` has {}", told(other.domain.n_values()), first.key, told(n));
                top.tell(other.line, &format!("space.{}", other.key), message, Some("lists in pairs have one length"));
            }
        }
        Strategy::Random | Strategy::Optuna => {}
    }
}

fn stopping(mut section: Section<'_>) -> MedianRule {
    let line = section.line;
    let _the_only_one = section.choice("strategy", &[("median", ())]);
    if section.is_absent("strategy") {
        section.tell(line, "strategy", "this key is missing", Some("write `strategy = \"median\"`"));
    }
    let warmup_steps = section.integer("warmup_steps", 0..=u64::from(u32::MAX)).unwrap_or(0);
    let min_trials = section.integer("min_trials", 1..=MAX_TRIALS).unwrap_or(3) as usize;
    let every_steps = section.integer("every_steps", 1..=u64::from(u32::MAX)).unwrap_or(1);
    section.finish();
    MedianRule { warmup_steps, min_trials, every_steps }
}

fn optuna(mut section: Section<'_>) -> OptunaConfig {
    let default = OptunaConfig::default();
    let program = section.word("program", 1000, "a path", |c| !c.is_control()).unwrap_or(default.program);
    let is_sqlite = section.choice("storage", &[("journal", false), ("sqlite", true)]).unwrap_or(default.is_sqlite);
    let sampler = section.word("sampler", 64, "letters and digits", |c| c.is_ascii_alphanumeric()).unwrap_or(default.sampler);
    section.finish();
    OptunaConfig { program, is_sqlite, sampler }
}

/// Where the base configuration is, seen from the current folder.
pub(crate) fn beside(sweep_file: &Path, base: &str) -> std::path::PathBuf {
    codex_core::files::parent(sweep_file).join(base)
}
