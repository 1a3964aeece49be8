//! `train --dry-run`: what would be done, the forecast of memory, and the time that a few real steps foretell. Nothing is written that stays.

use burn::tensor::Device;
use codex_config::Resolved;
use codex_core::{Clock, SystemClock};
use codex_data::{Split, WindowLoader};
use codex_model::Decoder;
use codex_train::forecast::MemoryForecast;
use codex_train::optimizer::AdamW;
use codex_train::step::Learner;
use serde_json::json;

use crate::commands::train::{eta, find_run, forecast_rows, plan_key, scratch_failed};
use crate::failure::CliError;
use crate::run_config::RunConfig;
use crate::terminal::{Terminal, table};
use crate::{prepared, stored_model};

/// Steps that are timed; the first is not counted.
const TIMED_STEPS: u64 = 4;

pub(super) fn run(resolved: &Resolved<RunConfig>, device: &Device, device_name: &str, terminal: &Terminal) -> Result<(), CliError> {
    let config = &resolved.value;
    let scratch = tempfile::tempdir().map_err(scratch_failed)?;
    let prepared = prepared::prepare(config, scratch.path(), terminal)?;
    let key = plan_key(config, &prepared)?;
    let action = match find_run(&config.run.folder, key)? {
        Some((run, record)) if record.status == codex_track::RunStatus::Finished => {
            format!("nothing: {} has finished this plan", run.path().display())
        }
        Some((run, _)) if stored_model::has_checkpoint(run.path()) => format!("go on with {}", run.path().display()),
        Some((run, _)) => format!("start again in {}", run.path().display()),
        None => format!("start a new run below {}", config.run.folder.display()),
    };
    let vocab_size = prepared.tokenizer.vocab_size();
    let forecast = MemoryForecast::new(&config.model, &config.train, vocab_size);

    let split = prepared.cache.split(Split::Train);
    let isolate = config.data.isolate_documents;
    let loader = WindowLoader::new(split, config.model.context_length, config.run.seed, config.data.shuffle, isolate);
    let training = device.clone().autodiff();
    let model = Decoder::init(&config.model, vocab_size, config.run.seed, &training)?;
    let optimizer = AdamW::new(&model, device);
    let mut learner = Learner { model, optimizer };
    let clock = SystemClock::new();
    let mut seconds = Vec::new();
    for step in 1..=TIMED_STEPS.min(config.train.steps) {
        let began = clock.elapsed_seconds();
        learner = learner.step(&config.train, &loader, (step - 1) * config.train.windows_per_step(), step, isolate)?.0;
        seconds.push(clock.elapsed_seconds() - began);
    }
    if seconds.len() > 1 {
        seconds.remove(0);
    }
    seconds.sort_by(f64::total_cmp);
    let per_step = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
    let whole = per_step * config.train.steps as f64;
    let epochs = config.train.steps as f64 * config.train.windows_per_step() as f64 / loader.windows_per_epoch().max(1) as f64;

    let value = json!({
        "action": action, "device": device_name, "plan_digest": key, "config_digest": resolved.digest(), "memory": forecast,
        "memory_total_bytes": forecast.total_bytes(), "seconds_per_step": per_step, "seconds_of_training": whole, "epochs": epochs,
        "train_tokens": split.n_tokens(), "validation_tokens": prepared.cache.split(Split::Validation).n_tokens(), "sources": prepared.checksums,
    });
    terminal.result(&value, || {
        let mut rows = vec![
            vec!["would".to_owned(), action.clone()],
            vec!["device".to_owned(), device_name.to_owned()],
            vec!["training tokens".to_owned(), format!("{} ({epochs:.2} epochs)", split.n_tokens())],
        ];
        rows.extend(forecast_rows(&forecast));
        rows.push(vec!["time of training".to_owned(), format!("{} ({:.0} ms a step, measured now)", eta(whole), 1000.0 * per_step)]);
        format!("dry run: nothing was written\n{}", table(&["", "forecast"], rows))
    })
}
