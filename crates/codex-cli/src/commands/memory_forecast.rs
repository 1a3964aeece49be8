//! What a run will need of memory: refused where the machine has less, shown before it, and recorded beside what was used after it.

use codex_track::{MemoryRecord, system};
use codex_train::forecast::{Forecast, MemoryForecast};

use crate::failure::CliError;
use crate::prepared::Prepared;
use crate::run_config::RunConfig;
use crate::terminal::bytes;
use crate::{device, memory, provenance};

/// What a run will need.
pub(super) fn forecast(config: &RunConfig, prepared: &Prepared, device_name: &str) -> Result<MemoryForecast, CliError> {
    let RunConfig { model, adapter, train, eval, .. } = config;
    let (vocab_size, has_base) = (prepared.vocab_size(), prepared.base.is_some());
    let trained = adapter.trained_shapes(model, vocab_size)?;
    train.check_patterns(&trained)?;
    Ok(MemoryForecast::new(&Forecast { model, adapter, train, eval, vocab_size, has_base, is_fused: device::is_fused(device_name) })?)
}

/// What was forecast beside what this process has used.
pub(super) fn memory_record(forecast: &MemoryForecast) -> MemoryRecord {
    let parts = [
        ("total", forecast.total_bytes()),
        ("program", forecast.program_bytes),
        ("weights", forecast.weights_bytes),
        ("moments", forecast.moments_bytes),
        ("a_step_adds", forecast.step_bytes),
        ("an_evaluation_adds", forecast.evaluation_bytes),
        ("a_save_adds", forecast.saving_bytes),
        ("reading_a_base_takes", forecast.loading_bytes),
    ];
    MemoryRecord {
        forecast: parts.map(|(name, bytes)| (name.to_owned(), bytes)).into(),
        peak_resident: provenance::peak_memory_bytes(),
        pool: memory::pool_record(),
    }
}

/// What the forecast says in the words of a table.
pub(super) fn forecast_rows(forecast: &MemoryForecast) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    vec![
        row("parameters", forecast.n_parameters.to_string()),
        row("trained", forecast.n_trained.to_string()),
        row("weights", bytes(forecast.weights_bytes)),
        row("gradients", bytes(forecast.gradients_bytes)),
        row("optimizer moments", bytes(forecast.moments_bytes)),
        row("activations", bytes(forecast.activations_bytes)),
        row("a step adds", bytes(forecast.step_bytes)),
        row("an evaluation adds", bytes(forecast.evaluation_bytes)),
        row("a save adds", bytes(forecast.saving_bytes)),
        row("reading a base takes", bytes(forecast.loading_bytes)),
        row("most at one time", format!("{}, with {} of the program itself", bytes(forecast.total_bytes()), bytes(forecast.program_bytes))),
    ]
}

/// Refuses what the machine cannot hold before anything is built.
pub(super) fn require_memory(forecast: &MemoryForecast) -> Result<(), CliError> {
    match system::memory_limit_bytes() {
        Some(there) if forecast.total_bytes() > there => Err(CliError::Memory { needed: forecast.total_bytes(), there }),
        _ => Ok(()),
    }
}
