//! `train --dry-run`: what would be done, the forecast of memory, and the time that a few real steps foretell. Nothing is written that stays.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Device;
use codex_config::Resolved;
use codex_core::{Clock, SystemClock};
use codex_data::{MixtureLoader, Split, WindowLoader};
use codex_eval::evaluate;
use codex_eval::evaluate::EvalWindows;
use codex_model::Decoder;
use codex_train::optimizer::Optimizer;
use codex_train::step::{Learner, NoHooks, StepSource};
use serde_json::json;

use crate::arguments::Train;
use crate::commands::earlier_run::{find_run, plan_key};
use crate::commands::memory_forecast::{forecast, forecast_rows, require_memory};
use crate::commands::train::{scratch_failed, start};
use crate::failure::CliError;
use crate::run_config::RunConfig;
use crate::stored_model::Base;
use crate::terminal::{Terminal, bytes, duration, table};
use crate::{prepared, stored_model};

/// Steps that are timed; the first is not counted.
const TIMED_STEPS: u64 = 4;

pub(super) fn run(
    resolved: &Resolved<RunConfig>,
    base: Option<Base>,
    arguments: &Train,
    burn_device: &Device,
    device_name: &str,
    terminal: &Terminal,
) -> Result<(), CliError> {
    let config = &resolved.value;
    let scratch = tempfile::tempdir().map_err(scratch_failed)?;
    let prepared = prepared::prepare(config, base, scratch.path(), terminal)?;
    let key = plan_key(config, &prepared)?;
    let found = if arguments.fresh { None } else { find_run(&config.run.folder, key, terminal)? };
    let action = match found {
        Some((run, record)) if record.status == codex_track::RunStatus::Finished => {
            format!("nothing: {} has finished this plan", run.path().display())
        }
        Some((run, _)) if stored_model::has_checkpoint(run.path()) => format!("go on with {}", run.path().display()),
        Some((run, _)) => format!("start again in {}", run.path().display()),
        None => format!("start a new run below {}", config.run.folder.display()),
    };
    let forecast = forecast(config, &prepared, device_name)?;
    require_memory(&forecast)?;
    let vocab_size = prepared.vocab_size();

    let windows = config.windows();
    let loader = prepared.data.train_loader(&windows)?;
    let validation: Vec<WindowLoader> = prepared.data.validation_loaders(&windows)?.into_iter().map(|(_, loader)| loader).collect();
    let n_tokens = |split| prepared.data.n_tokens(split);
    let training = burn_device.clone().autodiff();
    let model = start(config, &prepared).network(&training)?;
    let optimizer = Optimizer::new(&model, &config.train, burn_device)?;
    let mut learner = Learner { model, optimizer };
    let source = StepSource { seed: config.run.seed, config: &config.train, loader: &loader };
    let clock = SystemClock::new();
    let mut seconds = Vec::new();
    for step in 1..=TIMED_STEPS.min(config.train.steps) {
        let began = clock.elapsed_seconds();
        learner = learner.step(&source, (step - 1) * config.train.windows_per_step(), step, &mut NoHooks)?.0;
        seconds.push(clock.elapsed_seconds() - began);
    }
    if seconds.len() > 1 {
        seconds.remove(0);
    }
    seconds.sort_by(f64::total_cmp);
    let per_step = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
    let n_evaluations = 1 + config.train.steps.div_ceil(config.eval.every_steps);
    let mut per_evaluation = 0.0;
    for loader in &validation {
        per_evaluation += seconds_of_evaluation(config, &learner.model.valid(), loader, &clock)?;
    }
    let whole = per_step * config.train.steps as f64 + per_evaluation * n_evaluations as f64;
    let n_saves = config.train.steps.div_ceil(config.checkpoint.every_steps);
    let checkpoint_bytes = forecast.checkpoint_bytes();
    let kept = (config.checkpoint.keep_last + config.checkpoint.keep_best) as u64;
    let epochs = config.train.steps as f64 * config.train.windows_per_step() as f64 / loader.windows_per_epoch().max(1) as f64;

    let value = json!({
        "action": action, "device": device_name, "plan_digest": key, "config_digest": resolved.digest(), "memory": forecast,
        "memory_total_bytes": forecast.total_bytes(), "seconds_per_step": per_step, "seconds_of_training": whole, "epochs": epochs,
        "seconds_per_evaluation": per_evaluation, "evaluations": n_evaluations, "saves": n_saves, "checkpoint_bytes": checkpoint_bytes,
        "steps": config.train.steps, "vocab_size": vocab_size,
        "train_tokens": n_tokens(Split::Train), "validation_tokens": n_tokens(Split::Validation), "sources": prepared.checksums,
        "epochs_of_sources": of_sources(&loader, config),
    });
    terminal.result(&value, || {
        let mut rows = vec![
            vec!["would".to_owned(), action.clone()],
            vec!["device".to_owned(), device_name.to_owned()],
            vec!["tokenizer".to_owned(), format!("{vocab_size} ids, digest {}", prepared.tokenizer.digest().short())],
            vec!["training tokens".to_owned(), format!("{} ({epochs:.2} epochs)", n_tokens(Split::Train))],
            vec!["steps".to_owned(), format!("{} of {} windows", config.train.steps, config.train.windows_per_step())],
            vec!["evaluations".to_owned(), format!("{n_evaluations}, {} each", duration(per_evaluation))],
            vec![
                "saves".to_owned(),
                format!("{n_saves} of {}, {} on the disk at the end", bytes(checkpoint_bytes), bytes(checkpoint_bytes * kept.min(n_saves))),
            ],
        ];
        rows.extend(
            of_sources(&loader, config).into_iter().map(|(name, epochs)| vec![format!("source {name}"), format!("{epochs:.2} epochs")]),
        );
        rows.extend(forecast_rows(&forecast));
        rows.push(vec![
            "time".to_owned(),
            format!("{} ({:.0} ms a step, measured now; evaluations counted in)", duration(whole), 1000.0 * per_step),
        ]);
        format!("dry run: nothing was written\n{}", table(&["", "forecast"], rows))
    })
}

/// Epochs of each source of a mixture.
fn of_sources(loader: &MixtureLoader, config: &RunConfig) -> BTreeMap<String, f64> {
    let served = loader.served(config.train.steps * config.train.windows_per_step());
    let epochs =
        served.into_iter().zip(loader.windows_of_sources()).map(|((name, served), (_, all))| (name, served as f64 / all.max(1) as f64));
    epochs.filter(|(name, _)| !name.is_empty()).map(|(name, epochs)| (name.to_owned(), epochs)).collect()
}

/// What one evaluation will take, from one batch of it.
fn seconds_of_evaluation(config: &RunConfig, model: &Decoder, validation: &WindowLoader, clock: &SystemClock) -> Result<f64, CliError> {
    let windows = |max_windows| EvalWindows { name: "validation", loader: validation, max_windows, batch_size: config.eval.batch_size };
    let all = windows(config.eval.max_windows).n_windows();
    let sample = all.min(config.eval.batch_size as u64);
    if sample == 0 {
        return Ok(0.0);
    }
    let began = clock.elapsed_seconds();
    // How many bytes the tokens stand for does not change the time.
    evaluate(model, &windows(sample), &[], &mut |_, _| true)?;
    Ok((clock.elapsed_seconds() - began) * all as f64 / sample as f64)
}
