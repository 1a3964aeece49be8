//! What a run will need, before it starts: parameters, memory and, from a few real steps, time.

use codex_model::{Activation, ModelConfig};
use serde::Serialize;

use crate::config::{EvalConfig, TrainConfig};

/// A forecast of memory in bytes. The parts are computed from shapes; only `activations` rests on a count of what the backward pass keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryForecast {
    /// Numbers that are learnt.
    pub n_parameters: u64,
    /// The weights.
    pub weights_bytes: u64,
    /// Gradients of one step.
    pub gradients_bytes: u64,
    /// AdamW's two moments.
    pub moments_bytes: u64,
    /// What the forward pass keeps for the backward pass, and the logits with their gradient.
    pub activations_bytes: u64,
    /// The scores of one batch of an evaluation, while they are turned into losses. It comes when the activations are gone.
    pub evaluation_bytes: u64,
}

impl MemoryForecast {
    /// The forecast for this network, vocabulary and batch.
    pub fn new(model: &ModelConfig, train: &TrainConfig, eval: &EvalConfig, vocab_size: usize) -> Self {
        let n_parameters = model.n_parameters(vocab_size);
        let (d, f) = (model.d_model as u64, model.feed_forward_width() as u64);
        let tokens = (train.batch_size * model.context_length) as u64;
        // Per token and block, in numbers kept: norms and residuals, q/k/v before and after rotation and transposition, the projections.
        let dense = 22 * d + if model.activation == Activation::Swiglu { 7 * f } else { 3 * f };
        // Scores, masked scores and probabilities, one row per head.
        let scores = 3 * (model.n_heads * model.context_length) as u64;
        let head = 4 * vocab_size as u64;
        let kept = tokens * (model.n_layers as u64 * (dense + scores) + head);
        Self {
            n_parameters,
            weights_bytes: 4 * n_parameters,
            gradients_bytes: 4 * n_parameters,
            moments_bytes: 8 * n_parameters,
            // The mask has a byte for each pair of positions.
            activations_bytes: 4 * kept + (model.context_length as u64).pow(2),
            evaluation_bytes: 4 * 3 * (eval.batch_size * model.context_length) as u64 * vocab_size as u64,
        }
    }

    /// The most at one time: the state and the larger of a step's and an evaluation's.
    pub fn total_bytes(&self) -> u64 {
        self.weights_bytes + self.moments_bytes + (self.gradients_bytes + self.activations_bytes).max(self.evaluation_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_follow_the_shapes() {
        let model = ModelConfig::default();
        let train = TrainConfig::default();
        let forecast = MemoryForecast::new(&model, &train, &EvalConfig::default(), 2048);
        assert_eq!(forecast.weights_bytes, 4 * model.n_parameters(2048));
        assert_eq!(forecast.moments_bytes, 2 * forecast.weights_bytes);
        let double = TrainConfig { batch_size: 2 * train.batch_size, ..train };
        let double = MemoryForecast::new(&model, &double, &EvalConfig::default(), 2048);
        let mask = (model.context_length as u64).pow(2);
        assert_eq!(double.activations_bytes - mask, 2 * (forecast.activations_bytes - mask));
        assert!(double.total_bytes() > forecast.total_bytes());
    }
}
