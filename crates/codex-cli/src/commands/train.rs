//! `train`: from the configuration to a trained model, a report and the next commands to try.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use codex_core::{Clock, Digest, FileError, SystemClock};
use codex_track::{Degraded, Level, RunDir, RunManifest, RunRecord, RunStatus, report};
use codex_train::{Ending, Outcome, RunPlan, Start, StopSignal, train};
use serde_json::json;

use crate::arguments::Train;
use crate::commands::earlier_run::{find_run, plan_key, tell_nearest};
use crate::commands::memory_forecast::{forecast, memory_record, require_memory};
use crate::commands::{dry_run, profile, sweep, sweep_trial, switched_off};
use crate::failure::CliError;
use crate::prepared::{self, Prepared};
use crate::run_config::RunConfig;
use crate::terminal::{Terminal, TrainView, Watch, bytes, table};
use crate::training_setup::TrainingSetup;
use crate::{device, environment, provenance, signals, stored_model};

/// What a command of training has come to.
#[derive(Debug)]
pub(super) struct Trained {
    pub(super) code: u8,
    /// The run and what is recorded of it; `None` when there is none, as with `--dry-run`.
    pub(super) run: Option<(RunDir, RunRecord)>,
    /// How it ended; `None` when nothing was trained.
    pub(super) ending: Option<Ending>,
}

impl Trained {
    fn without_run(code: u8) -> Self {
        Self { code, run: None, ending: None }
    }
}

pub(super) fn run(arguments: &Train, terminal: &Terminal) -> Result<ExitCode, CliError> {
    if let (Some(file), Some(index)) = (&arguments.sweep_file, arguments.index) {
        return sweep_trial::run(arguments, file, index, terminal);
    }
    if arguments.multirun {
        return sweep::multirun(arguments, terminal);
    }
    Ok(ExitCode::from(run_watched(arguments, None, terminal)?.code))
}

/// The same; `watch` is shown each evaluation and may end training.
pub(super) fn run_watched(arguments: &Train, watch: Option<Watch<'_>>, terminal: &Terminal) -> Result<Trained, CliError> {
    // Configuration.
    let mut more: Vec<String> = arguments.device.iter().map(|device| format!("run.device={device}")).collect();
    more.extend(arguments.profile.then(|| "telemetry.trace=true".to_owned()));
    more.extend(arguments.strict_tracking.then(|| "track.strict=true".to_owned()));
    let TrainingSetup { resolved, base, device, device_name } = TrainingSetup::new(&arguments.configuration, more, terminal)?;
    let config = &resolved.value;
    if arguments.dry_run {
        dry_run::run(&resolved, base, arguments, &device, device_name, terminal)?;
        return Ok(Trained::without_run(0));
    }
    let stop = signals::listen()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let off = switched_off::find(&resolved);
    switched_off::announce(&off, terminal);

    // Data and plan.
    let cache_root = prepared::cache_root(config);
    let known = prepared::known_checksums(&cache_root);
    let prepared = prepared::prepare(config, base, &cache_root, terminal)?;
    drop(known);
    let key = plan_key(config, &prepared)?;
    let forecast = forecast(config, &prepared, device_name)?;
    require_memory(&forecast)?;
    require_validation(&prepared)?;
    if let Some(signal) = stop.requested() {
        terminal.warn("stopped before training began; what was prepared is kept");
        return Ok(Trained::without_run(128 + signal as u8));
    }

    // The run to go on with, or a new one.
    let found = if arguments.fresh { None } else { find_run(&config.run.folder, key, terminal)? };
    let run = match found {
        Some((run, record)) if record.status == RunStatus::Finished => {
            already_finished(&run, &record, terminal)?;
            return Ok(Trained { code: 0, run: Some((run, record)), ending: None });
        }
        Some((run, _)) => {
            let mark = if stored_model::has_checkpoint(run.path()) { "going on with" } else { "starting again (no checkpoint yet) in" };
            terminal.say(&format!("{mark} {}; `--fresh` starts over", run.path().display()));
            run
        }
        None => {
            if !arguments.fresh {
                tell_nearest(config, terminal);
            }
            let run = RunDir::create(&config.run.folder, &config.run.name, clock.as_ref())?;
            terminal.say(&format!("a new run in {}", run.path().display()));
            run
        }
    };
    let _lock = run.lock()?;
    RunManifest::remove(&run)?;
    let mut record = match RunRecord::read(&run) {
        Ok(record) => record,
        Err(_) => RunRecord {
            tags: arguments.tag.clone(),
            note: arguments.note.clone(),
            ..RunRecord::new(&run, &config.run.name, &environment::arguments(), config.run.seed, key, resolved.digest(), clock.now())
        },
    };
    let is_resumed = stored_model::has_checkpoint(run.path());
    describe(&mut record, device_name, resolved.digest(), is_resumed, terminal);
    record.write(&run)?;
    let art_dir = arguments.art_dir.clone().or_else(|| is_resumed.then(|| run.redirected_metrics()).flatten());
    switched_off::keep(&off, &run, clock.now(), terminal)?;
    let written = provenance::write(&run, &resolved, &prepared, device_name, clock.now(), terminal)
        .and_then(|()| provenance::inputs(&resolved, &prepared, &run, &record))
        .map(|inputs| record.graph.inputs = inputs);
    let plan = plan(config, prepared, run, art_dir);
    if let Err(error) = written {
        return Err(failed(&plan, &mut record, error, &clock, terminal));
    }

    // Training.
    introduce(&plan, device_name, terminal);
    let mut view = TrainView::new(terminal, &stop, config.run.pool_mib).watched(watch);
    let outcome = device::in_pool(|| train(&plan, &device, &mut record, &clock, &mut view, &stop));
    if matches!(&outcome, Ok(Outcome { ending: Ending::Signal(_), .. })) && stop.requested() != Some(signals::REQUEUE) {
        view.tell_stop();
    }
    terminal.end_bar();
    record.memory = Some(memory_record(&forecast));
    if let Ok(Outcome { profile: Some((found, times)), .. }) = &outcome {
        profile::write(&plan.run, found, times, terminal)?;
    }
    match outcome {
        Ok(outcome) => {
            let code = finish(&plan, &mut record, &outcome, &clock, &stop, terminal)?;
            match outcome.strict {
                // A run that was interrupted is started again; then its writers are tried again.
                Some(error) if !matches!(outcome.ending, Ending::Signal(_) | Ending::Time) => return Err(error.into()),
                _ => {}
            }
            Ok(Trained { code, run: Some((plan.run, record)), ending: Some(outcome.ending) })
        }
        Err(error) => Err(failed(&plan, &mut record, error.into(), &clock, terminal)),
    }
}

/// Notes which program works on the run from here on, and tells when that is another one than before.
fn describe(record: &mut RunRecord, device_name: &str, config_digest: Digest, is_resumed: bool, terminal: &Terminal) {
    let binary_digest = provenance::binary_digest();
    let mut promise = device::promise(device_name).to_owned();
    let instruction_set = device::instruction_set_of(device_name);
    let named = |device: &str, set: &str| if set.is_empty() { device.to_owned() } else { format!("{device} with {set}") };
    let (was, is) = (named(&record.device, &record.instruction_set), named(device_name, instruction_set));
    if is_resumed && !record.device.is_empty() && was != is {
        promise = format!("by tolerance: it was trained on {was} and on {is}");
        terminal.warn(&format!("this run was trained on {was} so far and goes on on {is}: its bits are those of neither"));
    } else if is_resumed && record.promise.starts_with("by tolerance: it was trained on") {
        promise.clone_from(&record.promise);
    }
    if is_resumed && record.binary_digest.is_some() && record.binary_digest != binary_digest {
        terminal.warn("this run was trained by another build of this program so far; `run.json` names both");
    }
    device_name.clone_into(&mut record.device);
    instruction_set.clone_into(&mut record.instruction_set);
    record.promise = promise;
    record.config_digest = config_digest;
    record.binary_digest = binary_digest;
    record.git_revision = provenance::git_revision();
    record.finished = None;
    record.exit_code = None;
}

/// Refuses a plan without held-out text before it has a run folder.
fn require_validation(prepared: &Prepared) -> Result<(), CliError> {
    if prepared.data.splits(codex_data::Split::Validation).iter().any(|split| split.n_tokens() > 1) {
        return Ok(());
    }
    Err(codex_eval::EvalError::Empty { split: "validation".to_owned() }.into())
}

pub(super) fn plan(config: &RunConfig, prepared: Prepared, run: RunDir, art_dir: Option<PathBuf>) -> RunPlan {
    RunPlan {
        seed: config.run.seed,
        model: config.model.clone(),
        base: prepared.base,
        adapter: config.adapter.clone(),
        train: config.train.clone(),
        eval: config.eval.clone(),
        sampling: config.sampling.clone(),
        checkpoint: config.checkpoint.clone(),
        track: config.track.clone(),
        telemetry: config.telemetry.clone(),
        max_seconds: (60.0 * config.run.max_minutes).ceil() as u64,
        cutting: config.data.cutting(),
        tokenizer: prepared.tokenizer,
        data: prepared.data,
        safety: Arc::new(prepared.scanner),
        run,
        art_dir,
    }
}

fn introduce(plan: &RunPlan, device_name: &str, terminal: &Terminal) {
    let split = |split| {
        let splits = plan.data.splits(split);
        let n_trained: u64 = splits.iter().map(|split| split.n_trained()).sum();
        let trained = if splits.iter().any(|split| split.is_masked()) { format!(" ({n_trained} trained)") } else { String::new() };
        format!("{}{trained}", splits.iter().map(|split| split.n_tokens()).sum::<u64>())
    };
    terminal.say(&format!(
        "{} parameters on {device_name}; {} training and {} validation tokens; {} steps of {} tokens",
        plan.model.n_parameters(plan.tokenizer.vocab_size()),
        split(codex_data::Split::Train),
        split(codex_data::Split::Validation),
        plan.train.steps,
        plan.train.windows_per_step() * plan.model.context_length as u64
    ));
    let safety = &plan.data.safety();
    if !safety.rules.is_empty() {
        let counts: Vec<String> = safety.rules.iter().map(|(rule, n)| format!("{rule} {n}")).collect();
        terminal.say(&format!("safety: {} of {} texts redacted ({})", safety.redacted, safety.texts, counts.join(", ")));
    }
}

fn already_finished(run: &RunDir, record: &RunRecord, terminal: &Terminal) -> Result<(), CliError> {
    if RunManifest::read(run)?.is_none() {
        // Killed behind its last step, before these were written.
        write_last(run, terminal);
    }
    let value = json!({ "run": run.path(), "status": "already_finished", "step": record.step, "summary": record.summary });
    terminal.result(&value, || {
        let mut text =
            format!("{} has finished this plan already (step {}); `--fresh` trains it again\n", run.path().display(), record.step);
        text.push_str(&summary_table(record));
        text.push_str(&next_commands(run.path()));
        text
    })
}

fn finish(
    plan: &RunPlan,
    record: &mut RunRecord,
    outcome: &Outcome,
    clock: &Arc<dyn Clock>,
    stop: &StopSignal,
    terminal: &Terminal,
) -> Result<u8, CliError> {
    record.error = None;
    let code = match outcome.ending {
        Ending::Finished | Ending::Patience | Ending::Limit | Ending::Asked if outcome.strict.is_some() => codex_core::ExitClass::Io.code(),
        Ending::Signal(signals::REQUEUE) | Ending::Time => signals::REQUEUED,
        Ending::Signal(signal) => 128 + signal as u8,
        Ending::Finished | Ending::Patience | Ending::Limit | Ending::Asked => 0,
    };
    record.exit_code = Some(code);
    record.graph.outputs = provenance::outputs(&plan.run);
    let peak = record.memory.as_ref().and_then(|memory| memory.peak_resident);
    if let Some(peak) = peak {
        record.summary.insert("peak_memory_bytes".to_owned(), peak as f64);
    }
    record.updated = clock.now().to_rfc3339();
    record.write(&plan.run)?;
    write_last(&plan.run, terminal);
    tracing::debug!(requested = ?stop.requested(), "ended");
    let value = json!({
        "run": plan.run.path(), "status": record.status, "step": record.step, "resumed_from": outcome.resumed_from,
        "plan_digest": record.plan_digest, "tokens_per_second": outcome.tokens_per_second, "peak_memory_bytes": peak, "degraded": outcome.degraded,
        "summary": record.summary,
    });
    terminal.result(&value, || {
        let mut text = summary_table(record);
        if let Some(speed) = outcome.tokens_per_second {
            text.push_str(&format!("\nspeed        {speed:.0} tokens/s (median of this process's steps)"));
        }
        if let Some(peak) = peak {
            text.push_str(&format!("\npeak memory  {}", bytes(peak)));
        }
        for [component, reason] in Degraded::rows(&outcome.degraded) {
            text.push_str(&format!("\nnot recorded {component}: {reason}"));
        }
        text.push_str(&format!("\nrun folder   {}", plan.run.path().display()));
        text.push_str(&format!("\nreport       {}\n", plan.run.path().join("report.html").display()));
        match outcome.ending {
            Ending::Signal(_) | Ending::Time => {
                text.push_str(&format!("\nstopped at step {} of {}; the same command goes on from there\n", record.step, plan.train.steps));
            }
            Ending::Patience => text.push_str("\nended early: the validation metric had stopped getting better\n"),
            Ending::Limit => text.push_str(&format!("\nended at step {}: as many epochs or tokens as were asked for\n", record.step)),
            Ending::Asked => text.push_str(&format!("\nended at step {}: the other trials do better\n", record.step)),
            Ending::Finished => {}
        }
        text.push_str(&next_commands(plan.run.path()));
        text
    })?;
    Ok(code)
}

/// Writes down a failure where the run is looked at, and returns it.
fn failed(plan: &RunPlan, record: &mut RunRecord, error: CliError, clock: &Arc<dyn Clock>, terminal: &Terminal) -> CliError {
    let chain = codex_core::failure::chain(&error);
    record.error = Some(chain.clone());
    let fields = json!({ "step": record.step, "hint": codex_core::Failure::hint(&error) });
    if let Err(second) = codex_track::event::append(&plan.run, clock.now(), Level::Error, "failed", &chain, fields) {
        terminal.warn(&format!("the failure could not be noted in the events: {second}"));
    }
    record.updated = clock.now().to_rfc3339();
    record.status = RunStatus::Failed;
    record.exit_code = Some(codex_core::Failure::exit_class(&error).code());
    record.finished = Some(clock.now().to_rfc3339());
    record.graph.outputs = provenance::outputs(&plan.run);
    if let Err(second) = record.write(&plan.run) {
        terminal.warn(&format!("the run's record could not be written: {second}"));
    }
    write_last(&plan.run, terminal);
    error
}

/// The report, and the last thing that is written: what `runs verify` compares with.
fn write_last(run: &RunDir, terminal: &Terminal) {
    if let Err(error) = report::write(run) {
        terminal.warn(&format!("the report could not be written: {error}"));
    }
    if let Err(error) = RunManifest::write(run) {
        terminal.warn(&format!("the list of the run's files could not be written: {error}"));
    }
}

/// First evaluation, last evaluation and unigram baseline side by side.
pub(super) fn summary_table(record: &RunRecord) -> String {
    let value = |key: &str| record.summary.get(key).copied();
    let shown = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
    let mut rows = vec![vec!["train loss (last step)".to_owned(), "-".to_owned(), shown(value("train/loss"), 4), "-".to_owned()]];
    for (name, label, digits) in [
        ("loss", "validation loss", 4),
        ("perplexity", "perplexity", 1),
        ("bits_per_byte", "bits per byte", 3),
        ("token_accuracy", "token accuracy", 3),
    ] {
        let at = |prefix: &str| shown(value(&format!("{prefix}/{name}")), digits);
        rows.push(vec![label.to_owned(), at("first/validation"), at("validation"), at("baseline/unigram")]);
    }
    let of_set = |key: &String| key.strip_prefix("validation/")?.strip_suffix("/loss").map(str::to_owned);
    for set in record.summary.keys().filter_map(of_set) {
        let loss = shown(value(&format!("validation/{set}/loss")), 4);
        rows.push(vec![format!("loss on {set}"), "-".to_owned(), loss, "-".to_owned()]);
    }
    table(&["", "before training", "now", "unigram model"], rows)
}

fn next_commands(run: &Path) -> String {
    let run = environment::quoted(&run.display().to_string());
    let program = environment::quoted(&environment::program());
    format!(
        "\nnext:\n  {program} generate {run} --prompt 'It was'\n  {program} eval {run} --checkpoint best\n  {program} runs verify {run}\n"
    )
}

/// What the network of a run is before its first step.
pub(super) fn start<'c>(config: &'c RunConfig, prepared: &'c Prepared) -> Start<'c> {
    let RunConfig { run, model, adapter, train, .. } = config;
    let base = prepared.base.as_ref();
    Start { seed: run.seed, model, base, adapter, vocab_size: prepared.vocab_size(), precision: train.precision }
}

/// An I/O error on a path that is made up for a message.
pub(super) fn scratch_failed(source: std::io::Error) -> CliError {
    FileError::new("create folder", &std::env::temp_dir(), source).into()
}
