//! `sweep FILE`: every trial of a sweep, here or by a scheduler, and what came of them. `train --multirun` is a sweep whose file is written for you.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use codex_config::sweep::{Expansion, parse};
use codex_core::{Clock, Digest, SystemClock, files};
use codex_sweep::launcher::{self, Context, launcher, local};
use codex_sweep::{Goal, LauncherConfig, Opened, Sweep, SweepFolder, TrialResult, TrialState, results};
use codex_track::Direction;
use codex_track::report::sweep::{SweepAxes, SweepTrial, SweepValue, parallel_coordinates, sweep_page};
use serde_json::json;

use crate::arguments::{SweepCommand, Train};
use crate::failure::CliError;
use crate::signals;
use crate::terminal::{Terminal, duration};

/// The most combinations of `--multirun`.
const MAX_RUNS: usize = 1000;
/// Exit codes of trials that did not fail: done, in another process's hands, or saved and to be gone on with (75, SIGINT, SIGTERM).
const NO_FAILURE: [i32; 5] = [0, 7, 75, 130, 143];
/// The most trials that are listed by `--dry-run`.
const MAX_LISTED: usize = 50;

pub(super) fn run(arguments: &SweepCommand, terminal: &Terminal) -> Result<ExitCode, CliError> {
    let SweepCommand { file, runs, dry_run, submit, results: only_results, parallel, arguments: more } = arguments;
    if *only_results && file.is_dir() {
        show(&SweepFolder::open(file)?, terminal)?;
        return Ok(ExitCode::SUCCESS);
    }
    let sweep = Sweep::load(file)?;
    if *dry_run {
        plan(&sweep, runs, more, terminal)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Opened { folder, is_new, others } = SweepFolder::create(&sweep, runs)?;
    for other in &others {
        terminal.say(&format!("{} has trials of another version of this sweep; they are not used again", other.display()));
    }
    if *only_results {
        show(&folder, terminal)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mark = if is_new { "a new sweep in" } else { "going on with" };
    terminal.say(&format!("{mark} {}: {} trials, {}", folder.path().display(), sweep.n_trials(), sweep.config().metric));
    if matches!(sweep.config().launcher, LauncherConfig::Local(_)) {
        return here(&sweep, &folder, runs, parallel.map_or(sweep.config().parallel, usize::from), more, terminal);
    }
    hand_over(&sweep, &folder, runs, more, *submit, terminal)?;
    Ok(ExitCode::SUCCESS)
}

/// `file` is the sweep file as tasks are given it: the captured one, so that whatever becomes of the user's later changes nothing.
fn context(file: &Path, folder: &Path, runs: &Path, more: &[String]) -> Result<Context, CliError> {
    let absolute = |path: &Path| std::path::absolute(path).map(|path| path.display().to_string());
    let wrong = |source| CliError::Output { source };
    let program = std::env::current_exe().map_err(wrong)?;
    let mut arguments = vec!["--runs".to_owned(), absolute(runs).map_err(wrong)?];
    arguments.extend(more.iter().cloned());
    Ok(Context {
        program: program.display().to_string(),
        sweep_file: absolute(file).map_err(wrong)?,
        working_dir: absolute(Path::new(".")).map_err(wrong)?,
        launch_dir: absolute(&folder.join("launch")).map_err(wrong)?,
        arguments,
    })
}

/// Says what would be done: the trials, and what a scheduler would be given.
fn plan(sweep: &Sweep, runs: &Path, more: &[String], terminal: &Terminal) -> Result<(), CliError> {
    let folder = runs.join(sweep.folder_name());
    let launcher = launcher(&sweep.config().launcher);
    let context = context(&folder.join("sweep.toml"), &folder, runs, more)?;
    let (rendered, commands) = (launcher.render(sweep, &context)?, launcher.commands(sweep, &context)?);
    let mut trials = Vec::new();
    for index in 0..sweep.n_trials().min(MAX_LISTED) {
        if sweep.config().strategy == codex_sweep::Strategy::Optuna {
            break;
        }
        trials.push(sweep.trial(index)?);
    }
    let files: BTreeMap<&str, &str> = rendered.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect();
    let value = json!({
        "folder": folder, "n_trials": sweep.n_trials(), "trials": trials, "launcher": launcher.name(), "files": files, "commands": commands,
    });
    terminal.result(&value, || {
        let mut text = format!("{}: {} trials by {}\n", folder.display(), sweep.n_trials(), launcher.name());
        for trial in &trials {
            text.push_str(&format!("{}  {}\n", trial.name, trial.overrides.join(" ")));
        }
        if sweep.n_trials() > trials.len() {
            text.push_str(&format!("… {} more\n", sweep.n_trials() - trials.len()));
        }
        for (name, file) in &files {
            text.push_str(&format!("\n--- {name}\n{file}"));
        }
        for command in commands.iter().take(3) {
            text.push_str(&format!("\n$ {}", command.join(" ")));
        }
        if commands.len() > 3 {
            text.push_str(&format!("\n… {} more commands", commands.len() - 3));
        }
        text
    })
}

/// Writes what a scheduler needs, and hands it over when that is asked for.
fn hand_over(sweep: &Sweep, folder: &SweepFolder, runs: &Path, more: &[String], submit: bool, terminal: &Terminal) -> Result<(), CliError> {
    let launcher = launcher(&sweep.config().launcher);
    let context = context(&folder.sweep_file(), folder.path(), runs, more)?;
    let written = launcher::write(&launcher.render(sweep, &context)?, Path::new(&context.launch_dir))?;
    let commands = launcher.commands(sweep, &context)?;
    if submit {
        for command in &commands {
            let [program, arguments @ ..] = command.as_slice() else { continue };
            terminal.say(&format!("$ {}", command.join(" ")));
            let absent = |source: std::io::Error| {
                CliError::usage(
                    format!("`{program}` cannot be run: {source}"),
                    "run the sweep where the scheduler is, or without `--submit`",
                )
            };
            let status = std::process::Command::new(program).args(arguments).status().map_err(absent)?;
            if !status.success() {
                return Err(CliError::usage(
                    format!("`{program}` ended with {status}"),
                    "what it says above is the scheduler's; mend `[launcher]`",
                ));
            }
        }
    }
    let value = json!({ "folder": folder.path(), "files": written, "commands": commands, "submitted": submit });
    terminal.result(&value, || {
        let mut text = String::new();
        for path in &written {
            text.push_str(&format!("written {}\n", path.display()));
        }
        if !submit {
            text.push_str("\nsubmit with `--submit`, or by hand:\n");
            for command in &commands {
                text.push_str(&format!("  {}\n", command.join(" ")));
            }
        }
        text.push_str(&format!("\nresults: codex-cli sweep {} --results\n", folder.path().display()));
        text
    })
}

/// Runs the trials as processes of this machine.
fn here(
    sweep: &Sweep,
    folder: &SweepFolder,
    runs: &Path,
    parallel: usize,
    more: &[String],
    terminal: &Terminal,
) -> Result<ExitCode, CliError> {
    let stop = signals::listen()?;
    let clock = SystemClock::new();
    let context = context(&folder.sweep_file(), folder.path(), runs, more)?;
    let commands = launcher(&sweep.config().launcher).commands(sweep, &context)?;
    let is_done = |index: &usize| folder.trial_record(*index).ok().flatten().is_some_and(|record| record.status.is_done());
    let open: Vec<usize> = (0..sweep.n_trials()).filter(|index| !is_done(index)).collect();
    let n_before = sweep.n_trials() - open.len();
    if n_before > 0 {
        terminal.say(&format!("{n_before} trials have ended before"));
    }
    let jobs = open.iter().filter_map(|&index| {
        let argv = commands.get(index)?.clone();
        Some(local::Job { index, argv, working_dir: None, log: folder.output_log(index) })
    });
    let running: Arc<Mutex<BTreeMap<usize, u32>>> = Arc::default();
    let (mut n_ended, listed) = (0, Arc::clone(&running));
    let tell = |event: local::Event| {
        let mut running = running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            local::Event::Started { index, pid } => drop(running.insert(index, pid)),
            local::Event::Ended(ended) => {
                running.remove(&ended.index);
                n_ended += 1;
                let seconds = clock.elapsed_seconds();
                let eta = seconds / f64::from(n_ended) * (open.len() as f64 - f64::from(n_ended));
                terminal.say(&told(folder, sweep, ended, n_before + n_ended as usize, &duration(eta)));
            }
            _ => {}
        }
    };
    // A signal reaches the trials as well: those of a terminal go to the whole group, and others are passed on.
    let watcher =
        signals::pass_on(&stop, move || listed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).values().copied().collect());
    let ended = local::run(jobs, parallel, || stop.requested().is_none(), tell);
    drop(watcher);
    let ended = ended?;
    show(folder, terminal)?;
    if let Some(signal) = stop.requested() {
        terminal.say("stopped; the same command goes on from there");
        return Ok(ExitCode::from(128 + signal as u8));
    }
    // By the codes of the processes: a trial that was refused before it began has no record.
    let mut failed = ended.iter().filter(|trial| !NO_FAILURE.contains(&trial.code));
    if let Some(first) = failed.next() {
        let (log, code) = (folder.output_log(first.index), Some(first.code));
        return Err(CliError::FailedTrials { n: failed.count() + 1, of: sweep.n_trials(), log, code });
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of a trial that has ended.
fn told(folder: &SweepFolder, sweep: &Sweep, ended: local::Ended, n_done: usize, eta: &str) -> String {
    let name = codex_sweep::name_of(ended.index);
    let progress = format!("{n_done}/{}", sweep.n_trials());
    match folder.trial_record(ended.index).ok().flatten() {
        Some(record) if ended.code == 0 || record.status.is_done() => {
            let value = record.outcome.value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.5}"));
            format!("{progress} {name} {}: {} {value}  ETA {eta}", record.status.word(), sweep.config().metric)
        }
        _ => format!("{progress} {name} ended with exit code {}: see {}", ended.code, folder.output_log(ended.index).display()),
    }
}

/// Table and picture of a sweep, as far as it has come.
fn show(folder: &SweepFolder, terminal: &Terminal) -> Result<(), CliError> {
    let record = folder.record();
    let mut all = results::results(folder)?;
    let importance = codex_sweep::importance(record, &all);
    results::rank(&mut all, record.goal);
    let direction = if record.goal == Goal::Minimize { Direction::Min } else { Direction::Max };
    let axes =
        SweepAxes { parameters: record.keys.clone(), log_parameters: record.log_keys.clone(), metric: record.metric.clone(), direction };
    let trials: Vec<SweepTrial> = all.iter().map(|trial| drawn(trial, &record.keys)).collect();
    let (page, picture, table) = (folder.path().join("sweep.html"), folder.path().join("sweep.svg"), folder.path().join("results.csv"));
    files::write_atomic(&page, sweep_page(&record.name, &axes, &trials).as_bytes())?;
    files::write_atomic(&picture, parallel_coordinates(&axes, &trials).as_bytes())?;
    files::write_atomic(&table, results::csv(&all, &record.metric).as_bytes())?;
    let best = results::best(&all, record.goal);
    let value = json!({
        "folder": folder.path(), "metric": record.metric, "n_trials": record.n_trials, "trials": results::json(&all),
        "best": best.map(|best| &best.name), "importance": importance, "page": page, "picture": picture, "table": table,
    });
    terminal.result(&value, || {
        let mut text = results::table(&all, &record.metric);
        for it in &importance {
            text.push_str(&format!("\n{}: rank correlation {:+.2} with {}", it.key, it.correlation, record.metric));
        }
        if let Some(best) = best {
            let run = best.run.as_ref().map_or_else(PathBuf::new, |run| folder.trial_folder(best.index).join(run));
            text.push_str(&format!("\nbest    {}: {}", best.name, run.display()));
        }
        text.push_str(&format!("\npage    {}\npicture {}\n", page.display(), picture.display()));
        text
    })
}

fn drawn(trial: &TrialResult, keys: &[String]) -> SweepTrial {
    let value = |key: &String| {
        let found = trial.parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value);
        found.map_or(SweepValue::Absent, |value| value.as_number().map_or_else(|| SweepValue::Category(value.plain()), SweepValue::Number))
    };
    // Only a trial that came to its end has a rank: the value of one that was stopped is not that of a whole run.
    let metric = trial.value.filter(|_| trial.state == TrialState::Completed);
    SweepTrial { name: trial.name.clone(), state: trial.state.word().to_owned(), values: keys.iter().map(value).collect(), metric }
}

/// `train --multirun`: writes the sweep file of these arguments and runs it.
pub(super) fn multirun(arguments: &Train, terminal: &Terminal) -> Result<ExitCode, CliError> {
    let text = sweep_file(arguments)?;
    files::create_dir_all(&arguments.runs)?;
    let file = arguments.runs.join(format!("multirun-{}.toml", &Digest::of_bytes(text.as_bytes()).to_string()[..8]));
    files::write_atomic(&file, text.as_bytes())?;
    let mut more = Vec::new();
    more.extend(arguments.device.iter().flat_map(|device| ["--device".to_owned(), device.clone()]));
    more.extend(arguments.tag.iter().flat_map(|tag| ["--tag".to_owned(), tag.clone()]));
    more.extend(arguments.note.iter().flat_map(|note| ["--note".to_owned(), note.clone()]));
    more.extend(arguments.strict_tracking.then(|| "--strict-tracking".to_owned()));
    more.extend(arguments.profile.then(|| "--profile".to_owned()));
    let sweep =
        SweepCommand { file, runs: arguments.runs.clone(), dry_run: false, submit: false, results: false, parallel: None, arguments: more };
    run(&sweep, terminal)
}

/// The sweep of these arguments: every combination, written out side by side.
fn sweep_file(arguments: &Train) -> Result<String, CliError> {
    let overrides = &arguments.configuration.overrides;
    let plan = parse(overrides)?;
    if plan.axes.is_empty() {
        return Err(CliError::usage("`--multirun` has nothing to vary", "give a key several values: `train.learning_rate=1e-3,3e-4`"));
    }
    let runs = Expansion::new(MAX_RUNS).seed(0).options(crate::run_config::options).expand(overrides)?;
    let mut space = toml::Table::new();
    for axis in &plan.axes {
        let values = runs.iter().map(|run| {
            let text = run.get(axis.position).and_then(|text| text.split_once('=')).map_or("", |(_, value)| value);
            typed(text)
        });
        space.insert(axis.key.clone(), toml::Value::Array(values.collect()));
    }
    let mut table = toml::Table::new();
    table.insert("name".to_owned(), "multirun".into());
    if let Some(config) = &arguments.configuration.config {
        let base = std::path::absolute(config).map_err(|source| CliError::Output { source })?;
        table.insert("base".to_owned(), base.display().to_string().into());
    }
    let fixed: Vec<toml::Value> = plan.fixed.iter().map(|(_, text)| text.clone().into()).collect();
    table.insert("overrides".to_owned(), fixed.into());
    table.insert("strategy".to_owned(), "paired".into());
    table.insert("metric".to_owned(), "validation/loss".into());
    table.insert("goal".to_owned(), "minimize".into());
    table.insert("space".to_owned(), space.into());
    Ok(table.to_string())
}

/// A value as TOML has it; what is none is text.
fn typed(text: &str) -> toml::Value {
    let parsed = format!("x = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("x"));
    parsed.unwrap_or_else(|| text.into())
}
