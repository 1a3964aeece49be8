//! One optimizer step: its micro-batches, their gradients, the update.

use std::collections::BTreeSet;

use codex_data::{HostBatch, MixtureLoader};
use codex_model::{Decoder, DropoutDraws, Precision, Targets, WindowBatch, parameters::to_host};

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::gradients::GradientSum;
use crate::optimizer::Optimizer;
use crate::phase::phase;
use crate::schedule::learning_rate;

/// The model with its optimizer, moving together.
#[derive(Debug)]
pub struct Learner {
    /// The model, on a device with autodiff.
    pub model: Decoder,
    /// Its optimizer.
    pub optimizer: Optimizer,
}

/// What every step of a run is taken with.
#[derive(Clone, Copy, Debug)]
pub struct StepSource<'a> {
    /// Of the masks of dropout.
    pub seed: u64,
    /// How it is trained.
    pub config: &'a TrainConfig,
    /// The windows.
    pub loader: &'a MixtureLoader,
}

/// What one step was.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean loss per target token, in nats.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// The learning rate used.
    pub learning_rate: f64,
    /// Target tokens of the step.
    pub tokens: u64,
    /// The documents of the batch, where the step was not taken.
    pub skipped: Option<String>,
}

/// What is asked and told between a step's gradients and its update.
pub trait StepHooks {
    /// Whether a step of this loss and gradient norm is to be taken; one that is not leaves weights and optimizer as they are.
    fn accept(&mut self, loss: f64, grad_norm: f64) -> Result<bool, Unfit> {
        let unfit = |what, value: f64| Err(Unfit { what, value });
        match (loss.is_finite(), grad_norm.is_finite()) {
            (false, _) => unfit("loss", loss),
            (_, false) => unfit("gradient norm", grad_norm),
            _ => Ok(true),
        }
    }

    /// What the loss is multiplied by before the backward pass, where products are in f16.
    fn loss_scale(&self) -> Option<f64> {
        None
    }

    /// Weights and moments are about to be written: whoever still reads their memory must have let go of it by then, or they are copied.
    fn before_update(&mut self) {}
}

/// A number that ends the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unfit {
    /// `loss` or `gradient norm`.
    pub what: &'static str,
    /// What it is.
    pub value: f64,
}

/// Every step is taken whose numbers are finite.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl StepHooks for NoHooks {}

impl Learner {
    /// The model that is evaluated and handed on: with the running mean of its weights, if one is kept.
    pub fn evaluated(&self) -> Decoder {
        self.optimizer.averaged(self.model.clone())
    }

    /// Takes optimizer step `step` (from 1) on the windows from `position` on.
    ///
    /// Gradients are sums over target tokens, divided by their total at the end, so that micro-batches with more targets weigh more. A loss
    /// or norm that the hooks refuse is an error before any weight has changed.
    pub fn step(
        self,
        source: &StepSource<'_>,
        position: u64,
        step: u64,
        hooks: &mut dyn StepHooks,
    ) -> Result<(Self, StepOutcome), TrainError> {
        let &StepSource { seed, config, loader } = source;
        let scale = if config.precision == Precision::F16 { hooks.loss_scale().unwrap_or(config.loss_scale) } else { 1.0 };
        let mut gradients = GradientSum::default();
        let (mut loss, mut count) = (0.0, 0.0);
        let mut batches = Vec::with_capacity(config.accumulation);
        for micro in 0..config.accumulation as u64 {
            let batch = phase!("data", || loader.batch(position + micro * config.batch_size as u64, config.batch_size))?;
            let segments = loader.isolates().then_some(batch.segments.as_slice());
            let first_window = micro * config.batch_size as u64;
            let dropout = DropoutDraws { seed, step, first_window, probability: config.dropout };
            let windows = WindowBatch { n_rows: batch.n_rows, inputs: &batch.inputs, segments, dropout: Some(dropout) };
            // The weights of the targets carry the factor, so that every product of the backward pass sees it.
            let scaled: Vec<f32>;
            let weights = if config.precision == Precision::F16 {
                scaled = batch.weights.iter().map(|weight| weight * scale as f32).collect();
                &scaled
            } else {
                &batch.weights
            };
            let targets = Targets { ids: &batch.targets, weights, settings: config.loss_settings() };
            let part = if config.recompute_activations {
                phase!("forward and backward", || gradients.add_by_block(&self.model, &windows, targets))?
            } else {
                phase!("forward", || self.model.loss(&windows, targets))?
            };
            count += part.count / scale;
            let value = to_host("loss", part.sum.clone().detach())?.values.first().map_or(0.0, |&sum| f64::from(sum));
            loss += value / scale;
            if !config.recompute_activations {
                phase!("backward", || {
                    let mut found = part.sum.backward();
                    gradients.add(&self.model, &mut found);
                });
            }
            batches.push(batch);
        }
        let per_token = if count > 0.0 { 1.0 / count } else { 0.0 };
        let loss = loss * per_token;
        let grad_norm = phase!("clipping", || gradients.scale_and_clip(per_token / scale, config.grad_clip_norm))?;
        let learning_rate = learning_rate(config, step);
        let mut outcome = StepOutcome { loss, grad_norm, learning_rate, tokens: count as u64, skipped: None };
        match hooks.accept(loss, grad_norm) {
            Ok(true) => {}
            Ok(false) => {
                outcome.skipped = Some(documents_of(loader, &batches));
                return Ok((self, outcome));
            }
            Err(Unfit { what, value }) => {
                return Err(TrainError::NotFinite { step, what, value, documents: documents_of(loader, &batches) });
            }
        }
        hooks.before_update();
        let Self { model, mut optimizer } = self;
        let model = phase!("optimizer", || optimizer.step(model, gradients, config, learning_rate, step))?;
        Ok((Self { model, optimizer }, outcome))
    }
}

/// The documents that the windows of a step are of, the first few by name.
fn documents_of(loader: &MixtureLoader, batches: &[HostBatch]) -> String {
    let ranges = batches.iter().flat_map(|batch| batch.documents.iter().copied());
    let origins: BTreeSet<String> = ranges.flat_map(|range| loader.origins(range)).flatten().map(|origin| origin.to_string()).collect();
    let mut documents: Vec<String> = origins.into_iter().collect();
    let more = documents.len().saturating_sub(8);
    documents.truncate(8);
    let mut documents = documents.join(", ");
    if more > 0 {
        documents += &format!(" and {more} more");
    }
    documents
}
