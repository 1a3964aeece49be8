//! `lr find`: the range test of L. Smith, "Cyclical learning rates for training neural networks" (2017): steps with a learning rate that rises by a factor
//! each, until the loss runs away.

use codex_train::TrainConfig;
use codex_train::config::Schedule;
use codex_train::optimizer::Optimizer;
use codex_train::step::{Learner, NoHooks, StepSource};
use serde::Serialize;
use serde_json::json;

use crate::arguments::FindLearningRate;
use crate::commands::memory_forecast::{forecast, require_memory};
use crate::commands::train::{scratch_failed, start};
use crate::failure::CliError;
use crate::terminal::{Terminal, table};
use crate::training_setup::TrainingSetup;
use crate::{device, memory, prepared};

/// What the running mean of the loss keeps of itself.
const KEEP: f64 = 0.9;
/// So many times the lowest mean is running away.
const AWAY: f64 = 1.5;
/// The learning rate that is proposed, as a share of that of the lowest mean: there the loss still falls fast.
const SHARE: f64 = 0.3;
/// Width of the longest bar.
const BAR: f64 = 40.0;
/// Rows of the table.
const SHOWN: usize = 20;

#[derive(Clone, Copy, Debug, Serialize)]
struct Point {
    learning_rate: f64,
    loss: f64,
    /// Running mean, without the bias of its start.
    mean: f64,
}

pub(super) fn run(arguments: &FindLearningRate, terminal: &Terminal) -> Result<(), CliError> {
    let FindLearningRate { configuration, from, to, steps } = arguments;
    if !(*from > 0.0 && from < to && to.is_finite()) {
        let what = format!("`--from {from} --to {to}`: the first must be above 0 and below the second");
        return Err(CliError::usage(what, "leave both out: 1e-6 and 1"));
    }
    let TrainingSetup { resolved, base, device: burn_device, device_name } = TrainingSetup::new(configuration, Vec::new(), terminal)?;
    let config = &resolved.value;
    let scratch = tempfile::tempdir().map_err(scratch_failed)?;
    let prepared = prepared::prepare(config, base, scratch.path(), terminal)?;
    require_memory(&forecast(config, &prepared, device_name)?)?;
    let loader = prepared.data.train_loader(&config.windows())?;
    let training = burn_device.clone().autodiff();
    let model = start(config, &prepared).network(&training)?;
    let optimizer = Optimizer::new(&model, &config.train, &burn_device)?;
    memory::set_pool(config.run.pool_mib);

    let has_bar = terminal.start_bar(*steps, 0, "range test {bar:24} {pos}/{len} {msg}  ETA {eta}");
    let rate = |i: u64| from * (to / from).powf(i as f64 / (steps - 1).max(1) as f64);
    let points = device::in_pool(|| {
        let (mut learner, mut points, mut mean) = (Learner { model, optimizer }, Vec::<Point>::new(), 0.0);
        for i in 0..*steps {
            let flat = TrainConfig { schedule: Schedule::Constant, warmup_steps: 0, learning_rate: rate(i), ..config.train.clone() };
            let source = StepSource { seed: config.run.seed, config: &flat, loader: &loader };
            let step = learner.step(&source, i * flat.windows_per_step(), i + 1, &mut NoHooks);
            // A loss that is no number ends the test; it is what the test looks for.
            let Ok((moved, outcome)) = step else { break };
            learner = moved;
            mean = KEEP * mean + (1.0 - KEEP) * outcome.loss;
            let point = Point { learning_rate: rate(i), loss: outcome.loss, mean: mean / (1.0 - KEEP.powi(i as i32 + 1)) };
            points.push(point);
            if has_bar {
                terminal.move_bar(i + 1, format!("loss {:.4} at {:.2e}", point.mean, point.learning_rate));
            }
            if point.mean > AWAY * lowest(&points).mean {
                break;
            }
        }
        points
    });
    terminal.end_bar();
    if points.is_empty() {
        let what = format!("the first step has no finite loss at a learning rate of {from:.1e}");
        return Err(CliError::usage(what, "begin lower: `--from 1e-9`"));
    }
    let best = lowest(&points);
    let proposed = SHARE * best.learning_rate;
    let has_diverged = (points.len() as u64) < *steps;
    let value = json!({ "points": points, "lowest": best, "proposed": proposed, "diverged": has_diverged, "device": device_name });
    terminal.result(&value, || {
        let every = points.len().div_ceil(SHOWN).max(1);
        let (low, high) = points.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), point| (low.min(point.mean), high.max(point.mean)));
        let bar = |mean: f64| "█".repeat((1.0 + BAR * (mean - low) / (high - low).max(f64::MIN_POSITIVE)) as usize);
        let rows = points
            .iter()
            .step_by(every)
            .map(|point| vec![format!("{:.2e}", point.learning_rate), format!("{:.4}", point.mean), bar(point.mean)]);
        let text = table(&["learning rate", "mean loss", ""], rows);
        let end = if has_diverged { "the loss ran away" } else { "the loss did not run away: look further with `--to`" };
        format!(
            "{text}\nlowest at {:.2e}, then {end}; try `train.learning_rate={proposed:.1e}`\n{} steps; nothing was written",
            best.learning_rate,
            points.len()
        )
    })
}

/// The point of the lowest mean.
fn lowest(points: &[Point]) -> Point {
    let first = Point { learning_rate: 0.0, loss: f64::INFINITY, mean: f64::INFINITY };
    points.iter().fold(first, |best, point| if point.mean < best.mean { *point } else { best })
}
