//! How the loop tells what it does and how it is asked to stop. It prints nothing itself.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use codex_eval::Metrics;

/// One optimizer step that was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step, from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Mean loss of the step's target tokens, in nats.
    pub loss: f64,
    /// The learning rate it was taken with.
    pub learning_rate: f64,
    /// The gradient's global norm before clipping.
    pub grad_norm: f64,
    /// Target tokens per second of this step.
    pub tokens_per_second: f64,
    /// Target tokens seen since the start of training.
    pub tokens: u64,
    /// Position in the training split, in epochs.
    pub epoch: f64,
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationReport {
    /// The step after which it was made; 0 is before training.
    pub step: u64,
    /// On the validation split.
    pub metrics: Metrics,
    /// On each validation set that has a name.
    pub sets: BTreeMap<String, Metrics>,
    /// The unigram model on the same tokens.
    pub baseline: Metrics,
    /// The prompt and its continuation, when a sample was asked for.
    pub sample: Option<(String, String)>,
    /// Whether no evaluation before had a lower loss.
    pub is_best: bool,
}

/// Is told what the loop does, by callbacks. One that panics ends the run with [`TrainError::Callback`](crate::TrainError::Callback), after the state is saved.
pub trait Observer: Send {
    /// Training starts at this step: 0 for a fresh run, more for one that is resumed.
    fn started(&mut self, _first_step: u64, _steps: u64) {}
    /// A step was taken.
    fn step(&mut self, _report: &StepReport) {}
    /// Part of an evaluation is done.
    fn evaluating(&mut self, _done: u64, _all: u64) {}
    /// An evaluation is done.
    fn evaluation(&mut self, _report: &EvaluationReport) {}
    /// A checkpoint is on the disk.
    fn saved(&mut self, _step: u64, _path: &std::path::Path) {}
    /// Something a person should know.
    fn warning(&mut self, _message: &str) {}
    /// Something a person may want to know.
    fn note(&mut self, _message: &str) {}
    /// Training has ended after this many steps, and its state is on the disk. It is not called when it ends with an error.
    fn ended(&mut self, _step: u64) {}
}

/// An observer whose panics are caught; after one it is told nothing more.
pub(crate) struct Guarded<'o> {
    inner: &'o mut dyn Observer,
    panicked: Option<Panicked>,
}

/// A panic of a callback.
#[derive(Clone, Debug)]
pub(crate) struct Panicked {
    pub(crate) callback: &'static str,
    pub(crate) message: String,
}

impl<'o> Guarded<'o> {
    pub(crate) fn new(inner: &'o mut dyn Observer) -> Self {
        Self { inner, panicked: None }
    }

    pub(crate) fn panicked(&self) -> Option<Panicked> {
        self.panicked.clone()
    }

    fn call(&mut self, callback: &'static str, call: impl FnOnce(&mut dyn Observer)) {
        if self.panicked.is_some() {
            return;
        }
        // Whatever state it is left in, it is not used again.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| call(self.inner))) {
            let text = payload.downcast_ref::<&str>().map(|&text| text.to_owned()).or_else(|| payload.downcast_ref::<String>().cloned());
            self.panicked = Some(Panicked { callback, message: text.unwrap_or_else(|| "a value that is no text".to_owned()) });
        }
    }
}

impl Observer for Guarded<'_> {
    fn started(&mut self, first_step: u64, steps: u64) {
        self.call("started", |observer| observer.started(first_step, steps));
    }

    fn step(&mut self, report: &StepReport) {
        self.call("step", |observer| observer.step(report));
    }

    fn evaluating(&mut self, done: u64, all: u64) {
        self.call("evaluating", |observer| observer.evaluating(done, all));
    }

    fn evaluation(&mut self, report: &EvaluationReport) {
        self.call("evaluation", |observer| observer.evaluation(report));
    }

    fn saved(&mut self, step: u64, path: &std::path::Path) {
        self.call("saved", |observer| observer.saved(step, path));
    }

    fn warning(&mut self, message: &str) {
        self.call("warning", |observer| observer.warning(message));
    }

    fn note(&mut self, message: &str) {
        self.call("note", |observer| observer.note(message));
    }

    fn ended(&mut self, step: u64) {
        self.call("ended", |observer| observer.ended(step));
    }
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// A request to stop after the step in progress, made by another thread or a signal handler.
#[derive(Clone, Debug, Default)]
pub struct StopSignal {
    stop: Arc<AtomicI32>,
    save: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
}

impl StopSignal {
    /// No request yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a stop because of this signal number.
    pub fn request(&self, signal: i32) {
        self.stop.store(signal, Ordering::SeqCst);
    }

    /// Asks for a save after the step in progress; training goes on.
    pub fn request_save(&self) {
        self.save.store(true, Ordering::SeqCst);
    }

    /// Whether a save was asked for since the last call.
    pub fn take_save(&self) -> bool {
        self.save.swap(false, Ordering::SeqCst)
    }

    /// Asks for the end of training after the step in progress, as one who watches the run does that has seen enough.
    pub fn request_end(&self) {
        self.end.store(true, Ordering::SeqCst);
    }

    /// Whether the end was asked for.
    pub fn is_end_requested(&self) -> bool {
        self.end.load(Ordering::SeqCst)
    }

    /// The signal that asked, if one did.
    pub fn requested(&self) -> Option<i32> {
        match self.stop.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }
}
