//! One optimizer step: its micro-batches, their gradients, the update.

use std::collections::BTreeSet;

use codex_data::{HostBatch, WindowLoader};
use codex_model::{Decoder, DropoutDraws, Targets, WindowBatch, parameters::to_host};
use codex_ops::profile::timed;

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::optimizer::{AdamW, GradientSum};
use crate::schedule::learning_rate;

/// The model with its optimizer, moving together.
#[derive(Debug)]
pub struct Learner {
    /// The model, on a device with autodiff.
    pub model: Decoder,
    /// Its optimizer.
    pub optimizer: AdamW,
}

/// What every step of a run is taken with.
#[derive(Clone, Copy, Debug)]
pub struct StepSource<'a> {
    /// Of the masks of dropout.
    pub seed: u64,
    /// How it is trained.
    pub config: &'a TrainConfig,
    /// The windows.
    pub loader: &'a WindowLoader,
}

/// What one step was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean loss per target token, in nats.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// The learning rate used.
    pub learning_rate: f64,
    /// Target tokens of the step.
    pub tokens: u64,
}

impl Learner {
    /// Takes optimizer step `step` (from 1) on the windows from `position` on.
    ///
    /// Gradients are sums over target tokens, divided by their total at the end, so that micro-batches with more targets weigh more. A loss
    /// or norm that is not finite is an error before any weight has changed. `before_update` is called when weights and moments are about to be
    /// written: whoever still reads their memory must have let go of it by then, or they are copied.
    pub fn step(
        self,
        source: &StepSource<'_>,
        position: u64,
        step: u64,
        before_update: &mut dyn FnMut(),
    ) -> Result<(Self, StepOutcome), TrainError> {
        let &StepSource { seed, config, loader } = source;
        let mut gradients = GradientSum::default();
        let (mut loss, mut count) = (0.0, 0.0);
        let mut batches = Vec::with_capacity(config.accumulation);
        for micro in 0..config.accumulation as u64 {
            let batch = timed("data", || loader.batch(position + micro * config.batch_size as u64, config.batch_size))?;
            let segments = loader.isolates().then_some(batch.segments.as_slice());
            let first_window = micro * config.batch_size as u64;
            let dropout = DropoutDraws { seed, step, first_window, probability: config.dropout };
            let windows = WindowBatch { n_rows: batch.n_rows, inputs: &batch.inputs, segments, dropout: Some(dropout) };
            let targets = Targets { ids: &batch.targets, weights: &batch.weights, settings: config.loss_settings() };
            let part = timed("forward: everything else", || self.model.loss(&windows, targets))?;
            count += part.count;
            let value = to_host("loss", part.sum.clone().detach())?.values.first().map_or(0.0, |&sum| f64::from(sum));
            loss += value;
            let mut found = timed("backward: everything else", || part.sum.backward());
            timed("gradients: everything else", || gradients.add(&self.model, &mut found));
            batches.push(batch);
        }
        let per_token = if count > 0.0 { 1.0 / count } else { 0.0 };
        let loss = loss * per_token;
        require_finite(step, "loss", loss, loader, &batches)?;
        let grad_norm = gradients.scale_and_clip(per_token, config.grad_clip_norm)?;
        require_finite(step, "gradient norm", grad_norm, loader, &batches)?;
        let learning_rate = learning_rate(config, step);
        before_update();
        let Self { model, mut optimizer } = self;
        let model = timed("optimizer: everything else", || optimizer.step(model, gradients, config, learning_rate, step));
        Ok((Self { model, optimizer }, StepOutcome { loss, grad_norm, learning_rate, tokens: count as u64 }))
    }
}

fn require_finite(step: u64, what: &'static str, value: f64, loader: &WindowLoader, batches: &[HostBatch]) -> Result<(), TrainError> {
    if value.is_finite() {
        return Ok(());
    }
    let ranges = batches.iter().flat_map(|batch| batch.documents.iter().copied());
    let origins: BTreeSet<String> = ranges.flat_map(|range| loader.origins(range)).map(|origin| origin.to_string()).collect();
    let mut documents: Vec<String> = origins.into_iter().collect();
    let more = documents.len().saturating_sub(8);
    documents.truncate(8);
    let mut documents = documents.join(", ");
    if more > 0 {
        documents += &format!(" and {more} more");
    }
    Err(TrainError::NotFinite { step, what, value, documents })
}
