//! What a run will need, before it starts: parameters, memory and, from a few real steps, time.

use codex_model::{Activation, ModelConfig, Precision};
use serde::Serialize;

use crate::config::{EvalConfig, TrainConfig};

/// A forecast of memory in bytes, computed from shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryForecast {
    /// Numbers that are learnt.
    pub n_parameters: u64,
    /// The program, its tokenizer and what it has touched of the texts' tokens.
    pub program_bytes: u64,
    /// The weights.
    pub weights_bytes: u64,
    /// AdamW's two moments.
    pub moments_bytes: u64,
    /// Gradients of one step.
    pub gradients_bytes: u64,
    /// What the forward pass keeps for the backward pass, and the largest of what exists for a moment.
    pub activations_bytes: u64,
    /// The most that a step adds to weights and moments: gradients come as activations go, so it is less than their sum.
    pub step_bytes: u64,
    /// The same for one batch of an evaluation.
    pub evaluation_bytes: u64,
    /// What a save copies of weights and moments: nothing where they are in the host's memory, which is read in place.
    pub saving_bytes: u64,
}

/// The program with the default run's texts: measured, not computed.
const PROGRAM_BYTES: u64 = 44 << 20;

/// What is held above what is in use, as a share: free blocks that are kept for the next step, and sizes that are rounded up. Measured.
const HELD_PERCENT: u64 = 10;

/// Rows whose scores exist at once in the head.
const HEAD_ROWS: u64 = 512;

impl MemoryForecast {
    /// The forecast for this network, vocabulary and batch; `is_fused` on a device with kernels of its own.
    pub fn new(model: &ModelConfig, train: &TrainConfig, eval: &EvalConfig, vocab_size: usize, is_fused: bool) -> Self {
        let n_parameters = model.n_parameters(vocab_size);
        let gradients = 4 * n_parameters;
        let tokens = (train.batch_size * model.context_length) as u64;
        let eval_tokens = (eval.batch_size * model.context_length) as u64;
        let vocab = vocab_size as u64;
        let (activations, step, evaluation) = if is_fused {
            let sizes = FusedSizes::new(model, train.precision);
            let scores = 4 * vocab * HEAD_ROWS.min(tokens);
            let head = 4 * vocab * model.d_model as u64;
            let begins = tokens * (sizes.kept + sizes.passing) + scores + head;
            let before = if train.accumulation > 1 { gradients } else { 0 };
            let ends = gradients + tokens * sizes.passing;
            let evaluation = eval_tokens * sizes.passing + 4 * vocab * HEAD_ROWS.min(eval_tokens);
            (tokens * (sizes.kept + sizes.passing) + scores, before + begins.max(ends), evaluation)
        } else {
            let activations = composite_bytes(model, train, vocab);
            (activations, gradients + activations, 4 * 3 * eval_tokens * vocab)
        };
        Self {
            n_parameters,
            program_bytes: PROGRAM_BYTES,
            weights_bytes: 4 * n_parameters,
            moments_bytes: 8 * n_parameters,
            gradients_bytes: gradients,
            activations_bytes: activations,
            step_bytes: step,
            evaluation_bytes: evaluation,
            saving_bytes: if is_fused { 0 } else { 12 * n_parameters },
        }
    }

    /// The most at one time: the state, and the largest of what a step, an evaluation and a save add to it.
    pub fn total_bytes(&self) -> u64 {
        let added = self.step_bytes.max(self.evaluation_bytes).max(self.saving_bytes);
        let used = self.weights_bytes + self.moments_bytes + added;
        self.program_bytes + used + used / 100 * HELD_PERCENT
    }
}

/// Bytes for each token.
#[derive(Clone, Copy, Debug)]
struct FusedSizes {
    /// Kept by all blocks for the backward pass.
    kept: u64,
    /// The largest of what exists for a moment: in the feed-forward layer, with its gradients.
    passing: u64,
}

impl FusedSizes {
    fn new(model: &ModelConfig, precision: Precision) -> Self {
        // What passes between the operations of a block, and what the residual stream has.
        let (between, stream) = (if precision == Precision::Bf16 { 2 } else { 4 }, 4);
        let (d, heads) = (model.d_model as u64, model.n_heads as u64);
        let head_dim = model.head_dim() as u64;
        let (queries, qkv) = (heads * head_dim, (heads + 2 * model.n_kv_heads as u64) * head_dim);
        let inner = model.feed_forward_width() as u64;
        let widened = if model.activation == Activation::Swiglu { 2 * inner } else { inner };
        // Two states of the stream, both normalised, their statistics; queries, keys and values, what attention made of them and each row's
        // log-sum-exp; the pre-activation.
        let block = 2 * (stream * d + between * d + 8) + between * (qkv + queries + widened) + 4 * heads;
        let kept = model.n_layers as u64 * block + stream * d + 2 * between * d;
        let passing = between * inner + (stream + 2 * between) * d;
        Self { kept, passing }
    }
}

/// What burn's own operations keep: a count of the tensors that they make.
fn composite_bytes(model: &ModelConfig, train: &TrainConfig, vocab_size: u64) -> u64 {
    let (d, f) = (model.d_model as u64, model.feed_forward_width() as u64);
    let tokens = (train.batch_size * model.context_length) as u64;
    // Per token and block, in numbers kept: norms and residuals, q/k/v before and after rotation and transposition, the projections.
    let dense = 22 * d + if model.activation == Activation::Swiglu { 7 * f } else { 3 * f };
    // Scores, masked scores and probabilities, one row per head.
    let scores = 3 * (model.n_heads * model.context_length) as u64;
    let kept = tokens * (model.n_layers as u64 * (dense + scores) + 4 * vocab_size);
    // The mask has a byte for each pair of positions.
    4 * kept + (model.context_length as u64).pow(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(train: &TrainConfig, is_fused: bool) -> MemoryForecast {
        MemoryForecast::new(&ModelConfig::default(), train, &EvalConfig::default(), 2048, is_fused)
    }

    #[test]
    fn the_parts_follow_the_shapes() {
        let train = TrainConfig::default();
        let whole = forecast(&train, true);
        assert_eq!(whole.weights_bytes, 4 * ModelConfig::default().n_parameters(2048));
        assert_eq!(whole.moments_bytes, 2 * whole.weights_bytes);
        let double = TrainConfig { batch_size: 2 * train.batch_size, ..train.clone() };
        let scores = 4 * 2048 * HEAD_ROWS;
        assert_eq!(forecast(&double, true).activations_bytes - scores, 2 * (whole.activations_bytes - scores));
        assert!(forecast(&double, true).total_bytes() > whole.total_bytes());
        let halves = TrainConfig { precision: Precision::Bf16, ..train.clone() };
        assert!(forecast(&halves, true).activations_bytes < whole.activations_bytes);
        let kept = TrainConfig { accumulation: 2, ..train.clone() };
        assert_eq!(forecast(&kept, true).step_bytes - whole.step_bytes, whole.gradients_bytes);
        assert!(forecast(&train, false).total_bytes() > whole.total_bytes(), "burn's own operations keep more");
    }

    #[test]
    fn what_is_read_in_place_is_not_copied_to_be_saved() {
        let saving = |is_fused| forecast(&TrainConfig::default(), is_fused).saving_bytes;
        assert_eq!(saving(true), 0);
        let elsewhere = forecast(&TrainConfig::default(), false);
        assert_eq!(saving(false), elsewhere.weights_bytes + elsewhere.moments_bytes);
    }
}
