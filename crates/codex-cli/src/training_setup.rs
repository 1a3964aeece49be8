//! What every command that trains begins with: the configuration with its base, the device, and the precision that suits it.

use burn::tensor::Device;
use codex_config::Resolved;
use codex_model::Precision;

use crate::arguments::Configuration;
use crate::device;
use crate::failure::CliError;
use crate::run_config::{self, RunConfig};
use crate::stored_model::{self, Base};
use crate::terminal::Terminal;

/// A configuration to train by, and where.
#[derive(Debug)]
pub(crate) struct TrainingSetup {
    pub(crate) resolved: Resolved<RunConfig>,
    pub(crate) base: Option<Base>,
    pub(crate) device: Device,
    pub(crate) device_name: &'static str,
}

impl TrainingSetup {
    /// From the arguments of a command, with overrides of its own behind them.
    pub(crate) fn new(configuration: &Configuration, more: Vec<String>, terminal: &Terminal) -> Result<Self, CliError> {
        let mut overrides = configuration.overrides.clone();
        overrides.extend(more);
        let file = configuration.config.as_ref();
        let first = run_config::resolve(file, &overrides)?;
        let base = first.value.run.base.as_deref().map(stored_model::base).transpose()?.map(Base::read_when_needed);
        let resolve = |overrides: &[String]| match &base {
            Some(base) => run_config::resolve_on(file, overrides, &first, &base.config),
            None => run_config::resolve(file, overrides),
        };
        let mut resolved = resolve(&overrides)?;
        device::set_threads(resolved.value.run.threads)?;
        device::choose_instruction_set(&resolved.value.run.instruction_set);
        let (device, device_name) = device::open(&resolved.value.run.device)?;
        if resolved.value.train.precision == Precision::Auto {
            // The run's own configuration says what was taken, so that it stays that on another machine.
            let (taken, why) = device::best_precision(device_name);
            terminal.say(&format!("train.precision=auto takes {taken}: {why}"));
            overrides.retain(|argument| !argument.starts_with("train.precision="));
            overrides.push(format!("train.precision={taken}"));
            resolved = resolve(&overrides)?;
        }
        if !device::is_fused(device_name) && resolved.value.train.precision != Precision::F32 {
            terminal.warn(&format!("`{device_name}` computes in f32 whatever `train.precision` says"));
        }
        Ok(Self { resolved, base, device, device_name })
    }
}
