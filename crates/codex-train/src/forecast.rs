//! What a run will need, before it starts: parameters, memory and, from a few real steps, time.

use std::collections::BTreeSet;

use codex_model::{Activation, AdapterConfig, AdapterPlan, ModelConfig, ModelError, Precision, parameters};
use serde::Serialize;

use crate::config::{EvalConfig, TrainConfig};

/// A forecast of memory in bytes, computed from shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryForecast {
    /// Numbers that the network has.
    pub n_parameters: u64,
    /// Those that are learnt: all of them, or the adapters' and what is trained beside those.
    pub n_trained: u64,
    /// The program, its tokenizer and what it has touched of the texts' tokens.
    pub program_bytes: u64,
    /// The weights.
    pub weights_bytes: u64,
    /// What the optimizer keeps, and the running mean of the weights.
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
    /// What is held while the weights of a base are read: their file and their numbers. Nothing else is there then.
    pub loading_bytes: u64,
}

/// What a forecast is of.
#[derive(Clone, Copy, Debug)]
pub struct Forecast<'c> {
    /// The network.
    pub model: &'c ModelConfig,
    /// What is trained in place of its weights, if anything.
    pub adapter: &'c AdapterConfig,
    /// The optimization.
    pub train: &'c TrainConfig,
    /// The evaluations during it.
    pub eval: &'c EvalConfig,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Whether training begins with the weights of another model.
    pub has_base: bool,
    /// Whether the device has kernels of its own.
    pub is_fused: bool,
}

/// The program with the default run's texts: measured, not computed.
const PROGRAM_BYTES: u64 = 44 << 20;

/// What is held above what is in use, as a share: free blocks that are kept for the next step, and sizes that are rounded up. Measured.
const HELD_PERCENT: u64 = 10;

/// Rows whose scores exist at once in the head.
const HEAD_ROWS: u64 = 512;

impl MemoryForecast {
    /// The forecast of a run.
    ///
    /// # Errors
    /// As [`AdapterConfig::adapters`].
    pub fn new(of: &Forecast<'_>) -> Result<Self, ModelError> {
        let &Forecast { model, adapter, train, eval, vocab_size, has_base, is_fused } = of;
        let n_parameters = model.n_parameters(vocab_size);
        let numbers = |shape: &Vec<usize>| shape.iter().map(|&length| length as u64).product::<u64>();
        let trained = adapter.trained_shapes(model, vocab_size)?;
        let n_trained = trained.values().map(numbers).sum();
        let moments_bytes: u64 = trained.iter().map(|(path, shape)| train.optimizer_bytes(path, shape)).sum();
        let gradients = 4 * n_trained;
        let adapters = adapter.adapters(model)?;
        let added: u64 = adapters.iter().flat_map(AdapterPlan::shapes).map(|(_, shape)| numbers(&shape)).sum();
        let base = if adapter.is_on() && adapter.quantize_base { quantized_bytes(model, vocab_size) } else { 4 * n_parameters };
        let of_adapters = adapter_bytes(model, &adapters, train.precision);
        let tokens = (train.batch_size * model.context_length) as u64;
        let eval_tokens = (eval.batch_size * model.context_length) as u64;
        let vocab = vocab_size as u64;
        let (activations, step, evaluation) = if is_fused {
            let sizes = FusedSizes::new(model, train.precision);
            // Of one block all, of the others what goes in.
            let n_layers = model.n_layers.max(1) as u64;
            let of_adapters = if train.recompute_activations { of_adapters / n_layers } else { of_adapters };
            let kept = if train.recompute_activations { sizes.kept_by_block } else { sizes.kept };
            let scores = 4 * vocab * HEAD_ROWS.min(tokens);
            let trains_head = !adapter.is_on() || adapter.also_trains(if model.tie_embeddings { "embedding" } else { "head.weight" });
            let head = if trains_head { 4 * vocab * model.d_model as u64 } else { 0 };
            let begins = tokens * (kept + of_adapters + sizes.passing) + scores + head;
            let before = if train.accumulation > 1 { gradients } else { 0 };
            let ends = gradients + tokens * sizes.passing;
            let evaluation = eval_tokens * sizes.passing + 4 * vocab * HEAD_ROWS.min(eval_tokens);
            (tokens * (kept + of_adapters + sizes.passing) + scores, before + begins.max(ends), evaluation)
        } else {
            let activations = composite_bytes(model, train, vocab);
            (activations, gradients + activations, 4 * 3 * eval_tokens * vocab)
        };
        Ok(Self {
            n_parameters,
            n_trained,
            program_bytes: PROGRAM_BYTES,
            weights_bytes: base + 4 * added,
            moments_bytes,
            gradients_bytes: gradients,
            activations_bytes: activations,
            step_bytes: step,
            evaluation_bytes: evaluation,
            saving_bytes: if is_fused { 0 } else { 4 * n_trained + moments_bytes },
            loading_bytes: if has_base { 8 * n_parameters } else { 0 },
        })
    }

    /// What a checkpoint takes on the disk: weights and moments of what is trained.
    pub fn checkpoint_bytes(&self) -> u64 {
        4 * self.n_trained + self.moments_bytes
    }

    /// The most at one time: the state, and the largest of what a step, an evaluation and a save add to it; or what is held while a base is read.
    pub fn total_bytes(&self) -> u64 {
        let added = self.step_bytes.max(self.evaluation_bytes).max(self.saving_bytes);
        let used = self.weights_bytes + self.moments_bytes + added;
        self.program_bytes + (used + used / 100 * HELD_PERCENT).max(self.loading_bytes)
    }
}

/// Bytes for each token.
#[derive(Clone, Copy, Debug)]
struct FusedSizes {
    /// Kept by all blocks for the backward pass.
    kept: u64,
    /// Kept where each block is computed again: what goes into each, and all of one.
    kept_by_block: u64,
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
        let kept_by_block = (model.n_layers as u64 + 1) * stream * d + block + 2 * between * d;
        let passing = between * inner + (stream + 2 * between) * d;
        Self { kept, kept_by_block, passing }
    }
}

/// Bytes that adapters keep for each token: the product of the first matrix; the feed-forward layer's inner state, which is computed again where it
/// has none; and what is to be stretched, where lengths are trained.
fn adapter_bytes(model: &ModelConfig, adapters: &[AdapterPlan], precision: Precision) -> u64 {
    let between = if precision == Precision::Bf16 { 2 } else { 4 };
    let parts: BTreeSet<&str> = adapters.iter().map(|plan| plan.site.layer.as_str()).collect();
    let inner: BTreeSet<&str> = parts.iter().filter_map(|layer| layer.split_once(".feed_forward")).map(|(block, _)| block).collect();
    let own = |plan: &AdapterPlan| 4 * (plan.rank + if plan.has_magnitude { plan.site.columns.len() } else { 0 }) as u64;
    adapters.iter().map(own).sum::<u64>() + (inner.len() * model.feed_forward_width()) as u64 * between
}

/// The weights of a network whose linear layers and head are held in 8 bits, with a scale of 16 for each 32 of them. The table of a head in 8 bits
/// stays, if it is the embedding.
fn quantized_bytes(model: &ModelConfig, vocab_size: usize) -> u64 {
    let narrow = |numbers: u64| numbers + numbers / 32 * 2;
    let head = model.d_model as u64 * vocab_size as u64;
    let of = |(path, shape): (&String, &Vec<usize>)| {
        let numbers: u64 = shape.iter().map(|&length| length as u64).product();
        let is_linear = path.ends_with(".weight") && !path.contains("norm.");
        if is_linear { narrow(numbers) } else { 4 * numbers }
    };
    parameters::shapes(model, vocab_size).iter().map(of).sum::<u64>() + if model.tie_embeddings { narrow(head) } else { 0 }
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
    use codex_model::AdapterKind;

    fn forecast(train: &TrainConfig, is_fused: bool) -> MemoryForecast {
        of_adapters(&AdapterConfig::default(), train, is_fused)
    }

    fn of_adapters(adapter: &AdapterConfig, train: &TrainConfig, is_fused: bool) -> MemoryForecast {
        let (model, eval) = (&ModelConfig::default(), &EvalConfig::default());
        MemoryForecast::new(&Forecast { model, adapter, train, eval, vocab_size: 2048, has_base: adapter.is_on(), is_fused }).unwrap()
    }

    #[test]
    fn adapters_need_state_only_for_themselves() {
        let (train, model) = (TrainConfig::default(), ModelConfig::default());
        let whole = forecast(&train, true);
        let lora = AdapterConfig { kind: AdapterKind::Lora, ..AdapterConfig::default() };
        let adapted = of_adapters(&lora, &train, true);
        let n_added: u64 =
            lora.adapters(&model).unwrap().iter().map(|plan| (plan.rank * (plan.site.inputs + plan.site.columns.len())) as u64).sum();
        assert_eq!((adapted.n_parameters, adapted.n_trained), (whole.n_parameters, n_added));
        assert_eq!((adapted.moments_bytes, adapted.gradients_bytes, adapted.checkpoint_bytes()), (8 * n_added, 4 * n_added, 12 * n_added));
        assert_eq!(adapted.weights_bytes, whole.weights_bytes + 4 * n_added);
        let narrow = of_adapters(&AdapterConfig { quantize_base: true, ..lora }, &train, true);
        assert!(3 * narrow.weights_bytes < 2 * adapted.weights_bytes && narrow.step_bytes == adapted.step_bytes);
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
