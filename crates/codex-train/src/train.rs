//! The loop, from a plan to a trained model, in one function with named sections.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use codex_checkpoint::{BackgroundSaver, CheckpointStore, FolderStore, Loaded};
use codex_core::Clock;
use codex_eval::{EvalError, Metrics, Validation};
use codex_model::{Decoder, parameters};
use codex_ops::profile::{self, Profile};
use codex_track::telemetry::{Telemetry, TimeTable, status};
use codex_track::{Degraded, Level, MetricPoint, ResumeRecord, RunRecord, RunStatus, TrackError, Tracker};
use serde_json::json;

use crate::error::TrainError;
use crate::evaluating::{evaluation, track_evaluation};
use crate::judge::Judge;
use crate::observer::{Guarded, Observer, Panicked, StepReport, StopSignal};
use crate::optimizer::Optimizer;
use crate::phase::{self, phase};
use crate::plan::RunPlan;
use crate::saving::{Saving, keep_record};
use crate::state::TrainState;
use crate::step::{Learner, StepHooks, StepSource, Unfit};

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps were taken.
    Finished,
    /// The validation metric had stopped getting better.
    Patience,
    /// As many epochs or tokens as `train.max_epochs` or `train.max_tokens` say.
    Limit,
    /// The time that this process was given is over; the state is saved, and the run can go on.
    Time,
    /// A signal asked for it; the state is saved.
    Signal(i32),
    /// An observer asked for it with [`StopSignal::request_end`]; the state is saved, and the run can go on.
    Asked,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The state at the end, which is also the newest checkpoint's.
    pub state: TrainState,
    /// The unigram model on the validation tokens.
    pub baseline: Metrics,
    /// The step it was resumed from, if it was.
    pub resumed_from: Option<u64>,
    /// Median of this process's target tokens per second over its steps; `None` when it took none.
    pub tokens_per_second: Option<f64>,
    /// The trained model, without gradients.
    pub model: Decoder,
    /// What was asked for and was not recorded.
    pub degraded: Vec<Degraded>,
    /// What `track.strict` makes of that.
    pub strict: Option<TrackError>,
    /// Where the time went, when `telemetry.trace` is on.
    pub profile: Option<(Profile, TimeTable)>,
}

/// Trains to the end of the plan, or until asked to stop. `record` is the run's record, kept up to date in the run folder.
///
/// `device` is where the model lives, without autodiff; the loop turns autodiff on for training.
pub fn train(
    plan: &RunPlan,
    device: &Device,
    record: &mut RunRecord,
    clock: &Arc<dyn Clock>,
    observer: &mut dyn Observer,
    stop: &StopSignal,
) -> Result<Outcome, TrainError> {
    let mut tracker = None;
    let outcome = train_tracked(plan, device, record, clock, observer, stop, &mut tracker);
    // After an error nobody has asked for it yet.
    drop(profile::stop());
    // Whoever reads the run elsewhere shall not wait for it.
    if let (Err(_), Some(tracker)) = (&outcome, &mut tracker) {
        tracker.finish(RunStatus::Failed, &record.summary);
    }
    outcome
}

#[expect(clippy::too_many_lines, reason = "one linear function with named sections is what a reader is promised")]
fn train_tracked(
    plan: &RunPlan,
    device: &Device,
    record: &mut RunRecord,
    clock: &Arc<dyn Clock>,
    observer: &mut dyn Observer,
    stop: &StopSignal,
    tracker: &mut Option<Tracker>,
) -> Result<Outcome, TrainError> {
    // Plan.
    let observer = &mut Guarded::new(observer);
    let started = clock.elapsed_seconds();
    let key = plan.key()?.digest()?;
    let training = device.clone().autodiff();
    let loader = plan.train_loader()?;
    let validation = Validation::new(&plan.data, &plan.windows(), plan.eval.max_windows, plan.eval.batch_size, plan.token_bytes())?;
    let baseline = validation.baseline(&plan.data)?;

    // Model, fresh or resumed.
    let store = FolderStore::open(&plan.run.checkpoints(), &plan.checkpoint)?;
    let loaded = store.load_latest(Some(key))?;
    let resumed_from = loaded.as_ref().map(|loaded| loaded.step);
    let tracker = tracker.insert(Tracker::open(&plan.run, plan.art_dir.as_deref(), resumed_from, Arc::clone(clock), &plan.track)?);
    let Telemetry { mut sampling, prometheus, trace, statuses } = Telemetry::open(&plan.run, &plan.telemetry, None, clock);
    status::report(&statuses, tracker);
    plan.run.write_json("telemetry.json", &statuses)?;
    if let Some(prometheus) = prometheus {
        tracker.expose(prometheus.exposition());
        if let Some(address) = prometheus.address() {
            observer.note(&format!("metrics for Prometheus at http://{address}/metrics"));
        }
        for writer in prometheus.into_writers() {
            let name = writer.name().to_owned();
            tracker.add(&name, Ok(writer));
        }
    }
    if let Some(trace) = &trace {
        profile::start(Arc::clone(clock), Some(phase::sink(trace.clone())));
    }
    let (mut learner, mut state) = if let Some(loaded) = loaded {
        for skipped in &loaded.skipped {
            let message = format!("checkpoint step {} is not usable and was passed over: {}", skipped.step, skipped.reason);
            tracker.event("checkpoint_skipped", Level::Warn, &message, json!({ "step": skipped.step, "reason": skipped.reason }));
            observer.warning(&message);
        }
        restore(plan, &training, loaded)?
    } else {
        let model = plan.network(&training)?;
        let optimizer = Optimizer::new(&model, &plan.train, device)?;
        (Learner { model, optimizer }, TrainState::new())
    };
    record.status = RunStatus::Running;
    record.error = None;
    if let Some(step) = resumed_from {
        let (device, instruction_set) = (record.device.clone(), record.instruction_set.clone());
        let binary_digest = record.binary_digest;
        record.resumed_from.push(ResumeRecord { step, at: clock.now().to_rfc3339(), device, instruction_set, binary_digest });
    }
    keep_record(plan, record, &state, &baseline, clock)?;
    let saver = BackgroundSaver::new(store, Arc::clone(clock))?;
    let mut saving = Saving { plan, clock, baseline, key, saver, state: state.clone(), waited: 0.0, has_failed: false };
    let mut n_told = 0;
    tell_degraded(tracker, &mut n_told, observer);
    observer.started(state.step, plan.train.steps);

    // Loop.
    let source = StepSource { seed: plan.seed, config: &plan.train, loader: &loader };
    let mut speeds = Vec::new();
    let mut saved_at = resumed_from;
    let ending = loop {
        // Evaluate: before the first step, every so often, and at the end. Only the one before the first step gives way to a signal, because
        // a checkpoint without the evaluation that is due would not be the uninterrupted run's.
        let is_last = state.step == plan.train.steps || plan.reaches_limit(&state, &loader);
        let is_due = state.step == 0 || is_last || state.step.is_multiple_of(plan.eval.every_steps);
        let mut is_best = false;
        if is_due && state.evaluation_of_this_step().is_none() {
            let gives_way = state.step == 0;
            let go_on = || !(gives_way && stop.requested().is_some());
            let evaluated = phase!("validation", || {
                evaluation(plan, &learner.evaluated().valid(), &validation, baseline, &mut state, &go_on, observer)
            });
            match evaluated {
                Ok(report) => {
                    is_best = report.is_best && state.step > 0;
                    track_evaluation(tracker, &report, &state, &loader);
                }
                Err(TrainError::Eval(EvalError::Interrupted { .. })) => {}
                Err(error) => return Err(error),
            }
        }

        // Save, while training goes on.
        let report = saving.saver.poll();
        saving.tell(report, record, tracker, observer)?;
        let requested = stop.requested();
        let is_over =
            (plan.max_seconds > 0 && clock.elapsed_seconds() - started >= plan.max_seconds as f64 && !is_last).then_some(Ending::Time);
        let is_due = state.step > 0 && (is_last || is_best || state.step.is_multiple_of(plan.checkpoint.every_steps));
        let is_asked = requested.is_some() || is_over.is_some() || stop.take_save();
        if saved_at != Some(state.step) && (is_due || is_asked) {
            phase!("save", || saving.begin(&learner, &state, record, tracker, observer))?;
            saved_at = Some(state.step);
            tell_degraded(tracker, &mut n_told, observer);
        }

        // Stop.
        if let Some(panicked) = observer.panicked() {
            if state.step > 0 && saved_at != Some(state.step) {
                saving.begin(&learner, &state, record, tracker, observer)?;
            }
            saving.end(record, tracker, observer)?;
            return Err(callback(panicked, state.step));
        }
        if is_last {
            break if state.step == plan.train.steps { Ending::Finished } else { Ending::Limit };
        }
        if plan.train.patience > 0 && state.without_improvement >= plan.train.patience {
            break Ending::Patience;
        }
        if let Some(signal) = requested {
            break Ending::Signal(signal);
        }
        if let Some(ending) = is_over {
            break ending;
        }
        if stop.is_end_requested() {
            break Ending::Asked;
        }

        if let Some(stage) = plan.data.stages().iter().find(|stage| stage.from_step == state.step + 1) {
            let message = format!("step {} begins a stage with other weights of the sources", stage.from_step);
            tracker.event("stage", Level::Info, &message, json!({ "step": stage.from_step, "weights": stage.weights }));
        }

        // Step.
        let began = clock.elapsed_seconds();
        let (position, step) = (state.cursor.position, state.step + 1);
        let mut hooks = Hooks { saving: &mut saving, judge: Judge::new(plan, &mut state) };
        let (moved, outcome) = learner.step(&source, position, step, &mut hooks)?;
        let has_overflowed = hooks.judge.has_overflowed;
        learner = moved;
        state.step += 1;
        state.cursor.position += plan.train.windows_per_step();
        state.tokens += outcome.tokens;
        state.train_loss = Some(outcome.loss);
        let seconds = (clock.elapsed_seconds() - began).max(1e-9);
        let speed = outcome.tokens as f64 / seconds;
        speeds.push(speed);
        if has_overflowed {
            let factor = state.loss_scale.map_or(1.0, |scale| scale.factor);
            let message =
                format!("step {} was skipped: its gradients overflowed; the loss is multiplied by {factor} from here on", state.step);
            tracker.event("loss_scale", Level::Info, &message, json!({ "step": state.step, "factor": factor }));
        } else if let Some(documents) = outcome.skipped {
            let (in_a_row, message) = (
                state.spikes.in_a_row,
                format!(
                    "step {} was skipped: its loss {:.4} or gradient norm {:.3} stands out",
                    state.step, outcome.loss, outcome.grad_norm
                ),
            );
            let data = json!({
                "step": state.step, "loss": outcome.loss, "grad_norm": outcome.grad_norm, "in_a_row": in_a_row, "documents": documents,
            });
            tracker.event("spike", Level::Warn, &message, data);
            observer.warning(&format!("{message}; the batch holds {documents}"));
            if in_a_row >= plan.train.max_spikes {
                saving.begin(&learner, &state, record, tracker, observer)?;
                saving.end(record, tracker, observer)?;
                return Err(TrainError::Spikes { step: state.step, in_a_row, documents });
            }
        }
        let epoch = state.cursor.position as f64 / loader.windows_per_epoch().max(1) as f64;
        let values = [
            ("loss", outcome.loss),
            ("learning_rate", outcome.learning_rate),
            ("grad_norm", outcome.grad_norm),
            ("tokens_per_second", speed),
        ];
        tracker.metrics(&MetricPoint { step: state.step, split: "train", values: &values, tokens: state.tokens, epoch });
        observer.step(&StepReport {
            step: state.step,
            steps: plan.train.steps,
            loss: outcome.loss,
            learning_rate: outcome.learning_rate,
            grad_norm: outcome.grad_norm,
            tokens_per_second: speed,
            tokens: state.tokens,
            epoch,
        });
        tracker.sample_system(&mut sampling, state.step);
        tracing::debug!(step = state.step, loss = outcome.loss, seconds, "step");
    };

    // Whatever ended the loop, and whenever a signal came, its state is on the disk before anything is said.
    if saved_at != Some(state.step) {
        saving.begin(&learner, &state, record, tracker, observer)?;
    }
    saving.end(record, tracker, observer)?;

    // Report.
    if matches!(ending, Ending::Patience) {
        tracker.event("early_stop", Level::Info, "the validation loss has stopped falling", json!({ "step": state.step }));
    }
    if let Ending::Signal(signal) = ending {
        tracker.event(
            "interrupted",
            Level::Warn,
            "stopped by a signal; the state is saved",
            json!({ "step": state.step, "signal": signal }),
        );
    }
    if matches!(ending, Ending::Asked) {
        tracker.event("ended", Level::Info, "whoever watches the run asked for its end; the state is saved", json!({ "step": state.step }));
    }
    if matches!(ending, Ending::Time) {
        let message = "the time of this process is over; the state is saved";
        tracker.event("interrupted", Level::Warn, message, json!({ "step": state.step, "max_seconds": plan.max_seconds }));
    }
    if matches!(ending, Ending::Limit) {
        tracker.event(
            "limit",
            Level::Info,
            "as many epochs or tokens as were asked for",
            json!({ "step": state.step, "tokens": state.tokens }),
        );
    }
    if plan.data.sources().iter().any(|source| !source.name.is_empty()) {
        let of_epoch = loader.windows_of_sources();
        let epochs = |(name, windows): (&str, u64), (_, all): (&str, u64)| (name.to_owned(), windows as f64 / all.max(1) as f64);
        let served: BTreeMap<String, f64> =
            loader.served(state.cursor.position).into_iter().zip(of_epoch).map(|(served, all)| epochs(served, all)).collect();
        record.summary.extend(served.iter().map(|(name, epochs)| (format!("epochs/{name}"), *epochs)));
        tracker.event("mixture", Level::Info, "epochs of each source", json!({ "step": state.step, "epochs": served }));
    }
    record.status =
        if matches!(ending, Ending::Signal(_) | Ending::Time | Ending::Asked) { RunStatus::Interrupted } else { RunStatus::Finished };
    record.finished = Some(clock.now().to_rfc3339());
    let tokens_per_second = median(&mut speeds);
    if let Some(speed) = tokens_per_second {
        record.summary.insert("tokens_per_second".to_owned(), speed);
    }
    keep_record(plan, record, &state, &baseline, clock)?;
    tracker.finish(record.status, &record.summary);
    tell_degraded(tracker, &mut n_told, observer);
    let (degraded, strict) = (tracker.degraded().to_vec(), tracker.strict_failure());
    let profile = trace.map(|trace| (profile::stop(), trace.finish().table));
    observer.ended(state.step);
    if let Some(panicked) = observer.panicked() {
        return Err(callback(panicked, state.step));
    }
    Ok(Outcome { ending, state, baseline, resumed_from, tokens_per_second, model: learner.evaluated().valid(), degraded, strict, profile })
}

fn callback(panicked: Panicked, step: u64) -> TrainError {
    let Panicked { callback, message } = panicked;
    TrainError::Callback { callback, step, message }
}

/// What the loop has to say between a step's gradients and its update.
struct Hooks<'a, 'p> {
    saving: &'a mut Saving<'p>,
    judge: Judge<'a>,
}

impl StepHooks for Hooks<'_, '_> {
    fn accept(&mut self, loss: f64, grad_norm: f64) -> Result<bool, Unfit> {
        self.judge.accept(loss, grad_norm)
    }

    fn loss_scale(&self) -> Option<f64> {
        self.judge.loss_scale()
    }

    fn before_update(&mut self) {
        self.saving.wait_for_release();
    }
}

/// Hands each component that has gone out since the last time to the observer.
fn tell_degraded(tracker: &Tracker, n_told: &mut usize, observer: &mut dyn Observer) {
    let all = tracker.degraded();
    if let Some(banner) = all.get(*n_told..).and_then(Degraded::banner) {
        observer.warning(&banner);
    }
    *n_told = all.len();
}

/// The learner and the state that a checkpoint holds.
pub(crate) fn restore(plan: &RunPlan, training: &Device, loaded: Loaded) -> Result<(Learner, TrainState), TrainError> {
    let wrong = |reason: String| TrainError::State { step: loaded.step, reason };
    let state: TrainState = serde_json::from_value(loaded.state.clone()).map_err(|error| wrong(error.to_string()))?;
    if state.step != loaded.step {
        return Err(wrong(format!("it says step {}", state.step)));
    }
    let model = if plan.adapter.is_on() {
        parameters::load_trained(plan.network(training)?, &loaded.weights)?
    } else {
        // Taken, not copied, as with all that a checkpoint holds: training shall not keep it twice.
        let empty = Decoder::zeros(&plan.model, plan.vocab_size(), training)?;
        parameters::load(empty, loaded.weights)?.with_precision(plan.train.precision)
    };
    let (model, optimizer) = Optimizer::restore(model, &loaded.moments, &plan.train, &training.clone().inner())?;
    Ok((Learner { model, optimizer }, state))
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
