//! `train --sweep-file FILE --index I`: one trial of a sweep, as any machine may run it. Run again it goes on, or says that there is nothing to do.

use std::path::Path;
use std::process::ExitCode;

use codex_core::{Clock, Failure as _, SystemClock, failure};
use codex_eval::validation::split_of;
use codex_sweep::optuna::{self, Optuna};
use codex_sweep::{Claim, Decision, Outcome, Series, Strategy, Sweep, SweepFolder, Trial, TrialClaim, TrialRecord, TrialStatus};
use codex_train::{Ending, EvaluationReport};
use serde_json::json;

use crate::arguments::{Configuration, Train};
use crate::commands::train::{self, Trained};
use crate::failure::CliError;
use crate::run_config;
use crate::terminal::Terminal;

/// Runs the trial that the arguments name.
pub(super) fn run(arguments: &Train, file: &Path, index: usize, terminal: &Terminal) -> Result<ExitCode, CliError> {
    let sweep = Sweep::load(file)?;
    let folder = SweepFolder::create(&sweep, &arguments.runs)?.folder;
    let clock = SystemClock::new();
    let mut trial = optuna::trial(&sweep, &folder, index)?;
    // What is wrong with the configuration is told by the training, and kept with the trial.
    if let Ok(resolved) = run_config::resolve(sweep.base_config().map(Path::to_owned).as_ref(), &trial.overrides) {
        trial.files.clone_from(resolved.files());
    }
    let claim = match folder.claim(&trial, clock.now())? {
        Claim::Ready(claim) => claim,
        Claim::AlreadyDone(record) => return already_done(&record, terminal),
        Claim::Busy => return Err(CliError::BusyTrial { name: trial.name }),
    };
    let record = one(arguments, &sweep, &folder, &trial, claim, terminal)?;
    Ok(ExitCode::from(record.outcome.exit_code.and_then(|code| u8::try_from(code).ok()).unwrap_or(0)))
}

fn already_done(record: &TrialRecord, terminal: &Terminal) -> Result<ExitCode, CliError> {
    terminal.result(&json!({ "trial": record, "status": "already_done" }), || {
        format!("{} is {} already: {}", record.name, record.status.word(), told(record.outcome.value))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn told(value: Option<f64>) -> String {
    value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.5}"))
}

/// Trains one trial and writes down what came of it.
fn one(
    arguments: &Train,
    sweep: &Sweep,
    folder: &SweepFolder,
    trial: &Trial,
    mut claim: Box<TrialClaim>,
    terminal: &Terminal,
) -> Result<TrialRecord, CliError> {
    let clock = SystemClock::new();
    let began = clock.elapsed_seconds();
    let before = claim.record().outcome.seconds.unwrap_or(0.0);
    let config = sweep.config();
    let shown: Vec<String> = trial.parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
    terminal.say(&format!("{} of {}: {}", trial.name, sweep.n_trials(), shown.join(" ")));
    let mut overrides = trial.overrides.clone();
    overrides.push(format!("run.folder={}", toml_text(claim.folder())));
    overrides.push(format!("run.name={}", trial.name));
    // Trials of the same data share its tokens.
    if !overrides.iter().any(|text| text.starts_with("data.cache_dir=")) {
        overrides.push(format!("data.cache_dir={}", toml_text(&arguments.runs.join(".cache"))));
    }
    let train =
        Train { configuration: Configuration { config: sweep.base_config().map(Path::to_owned), overrides }, ..arguments.for_trial() };
    let result = {
        let watch = |report: &EvaluationReport| {
            let Some(value) = value_of(report, &config.metric) else { return false };
            if let Err(error) = claim.report(report.step, value) {
                terminal.warn(&format!("the value of step {} is not told to the other trials: {}", report.step, failure::chain(&error)));
                return false;
            }
            let decision = config.stopping.map(|rule| folder.should_stop(trial.index, rule));
            match decision {
                Some(Ok(Decision::Stop { best, median })) => {
                    terminal.say(&format!(
                        "  given up: its best {} so far is {best:.5}, and the median of the others' means is {median:.5}",
                        config.metric
                    ));
                    true
                }
                Some(Err(error)) => {
                    terminal.warn(&format!("the other trials' values cannot be read: {}", failure::chain(&error)));
                    false
                }
                _ => false,
            }
        };
        train::run_watched(&train, Some(Box::new(watch)), terminal)
    };
    let seconds = Some(before + clock.elapsed_seconds() - began);
    let series = folder.series(trial.index)?;
    match result {
        Ok(trained) => {
            let (status, outcome) = outcome_of(&trained, &series, sweep, claim.folder(), seconds);
            let record = claim.finish(status, outcome, clock.now())?;
            if config.strategy == Strategy::Optuna && record.status.is_done() {
                Optuna::new(sweep, folder).tell(&record)?;
            }
            Ok(record)
        }
        Err(error) => {
            let outcome = Outcome {
                seconds,
                exit_code: Some(i32::from(error.exit_class().code())),
                error: Some(failure::chain(&error)),
                ..Outcome::default()
            };
            claim.finish(TrialStatus::Failed, outcome, clock.now())?;
            Err(error)
        }
    }
}

/// What is written down of a run that has not failed.
fn outcome_of(trained: &Trained, series: &Series, sweep: &Sweep, folder: &Path, seconds: Option<f64>) -> (TrialStatus, Outcome) {
    let goal = sweep.config().goal;
    let run = trained.run.as_ref();
    let at_end = run.and_then(|(_, record)| record.summary.get(&sweep.config().metric).copied());
    // A metric that no evaluation has, such as `train/loss` or the speed, is what the run ended with.
    let best = series.best(goal).or_else(|| at_end.zip(run).map(|(value, (_, record))| (record.step, value)));
    let outcome = Outcome {
        value: best.map(|(_, value)| value),
        best_step: best.map(|(step, _)| step),
        last_step: run.map(|(_, record)| record.step),
        seconds,
        exit_code: Some(i32::from(trained.code)),
        error: None,
        run: run.and_then(|(run, _)| run.path().strip_prefix(folder).ok().map(|path| path.display().to_string())),
    };
    let status = match trained.ending {
        Some(Ending::Asked) => TrialStatus::Stopped,
        // It goes on when it is claimed again.
        Some(Ending::Signal(_) | Ending::Time) => TrialStatus::Running,
        None if run.is_none() => TrialStatus::Running,
        _ => TrialStatus::Completed,
    };
    (status, outcome)
}

/// The value of a metric in an evaluation: `validation/loss`, `validation/NAME/loss`, or those of the others.
fn value_of(report: &EvaluationReport, metric: &str) -> Option<f64> {
    let (split, name) = metric.rsplit_once('/')?;
    let main = (split == split_of("")).then_some(&report.metrics);
    let metrics = main.or_else(|| report.sets.iter().find(|(set, _)| split_of(set) == split).map(|(_, metrics)| metrics))?;
    metrics.named().into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// A path as a value of TOML.
pub(super) fn toml_text(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}
