//! What a configuration file says about training and evaluating.

use std::collections::BTreeMap;

use codex_model::{LossSettings, Precision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Windows per forward and backward pass.
    pub batch_size: usize,
    /// Passes whose gradients make one step, weighted by their target tokens.
    pub accumulation: usize,
    /// What products are computed in.
    pub precision: Precision,
    /// What the loss is multiplied by at first, with products in f16; it is halved when gradients overflow and doubled after 2,000 steps without.
    pub loss_scale: f64,
    /// Whether only the input of each block is kept for the backward pass, and the rest computed again: the same weights, in less memory and about a third
    /// more time.
    pub recompute_activations: bool,
    /// Probability with which an element of the embedding, and of what each layer adds to the residual stream, is dropped, 0 up to, but not, 1
    /// (N. Srivastava et al., 2014). Only in training.
    pub dropout: f64,
    /// Share of each target that is spread evenly over the vocabulary, 0 to 1 (C. Szegedy et al., 2016). Only in training.
    pub label_smoothing: f64,
    /// Factor of the squared log-sum-exp of each position's scores, which keeps them small ("PaLM", 2022). Only in training.
    pub z_loss: f64,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// How the learning rate falls after the warmup.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises linearly from 0.
    pub warmup_steps: u64,
    /// The learning rate at the end, as a share of the highest.
    pub final_learning_rate_ratio: f64,
    /// Steps at the end over which `wsd` falls, as a share of all steps.
    pub decay_share: f64,
    /// What turns gradients into updates.
    pub optimizer: OptimizerKind,
    /// What AdamW's first moment keeps of itself; for Lion, what its direction does.
    pub beta1: f64,
    /// What AdamW's second moment keeps of itself; for Lion, what its mean does.
    pub beta2: f64,
    /// Added to AdamW's denominator.
    pub epsilon: f64,
    /// What the mean of the gradient keeps of itself, for `sgd` and `muon`.
    pub momentum: f64,
    /// Whether `sgd` and `muon` look a step ahead (Nesterov).
    pub nesterov: bool,
    /// Decoupled weight decay of matrices; vectors have none.
    pub weight_decay: f64,
    /// Weight decays of parameters whose path has the key as one or more whole parts, such as `embedding` or `bias`; the longest key wins.
    pub weight_decay_pattern: BTreeMap<String, f64>,
    /// Factors of the learning rate of such parameters.
    pub learning_rate_pattern: BTreeMap<String, f64>,
    /// What a running mean of the weights keeps of itself at each step, below 1; 0 keeps none. The mean is what is evaluated, sampled and saved as the
    /// model.
    pub ema_decay: f64,
    /// Largest global gradient norm; 0 does not clip.
    pub grad_clip_norm: f64,
    /// A loss or gradient norm so many standard deviations above its running mean skips the step; 0 never.
    pub spike_deviations: f64,
    /// Skipped steps in a row after which training stops with an error.
    pub max_spikes: u64,
    /// Passes over the training split after which training ends; 0 never.
    pub max_epochs: f64,
    /// Target tokens after which training ends; 0 never.
    pub max_tokens: u64,
    /// Evaluations without a better value of `patience_metric` after which training ends; 0 never.
    pub patience: u64,
    /// What `patience` looks at.
    pub patience_metric: PatienceMetric,
    /// The validation set that it is of: a name of `data.validation_sets` or `data.sources`; the main validation when empty.
    pub patience_set: String,
}

/// An optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// I. Loshchilov and F. Hutter, "Decoupled weight decay regularization" (2019).
    Adamw,
    /// Gradient descent with momentum.
    Sgd,
    /// X. Chen et al., "Symbolic discovery of optimization algorithms" (2023).
    Lion,
    /// N. Shazeer and M. Stern, "Adafactor" (2018): no first moment, and a second one as large as the rows and columns of a matrix.
    Adafactor,
    /// K. Jordan et al., "Muon" (2024) for the matrices of the blocks, AdamW for the rest.
    Muon,
}

/// A metric of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PatienceMetric {
    /// Mean loss per token.
    Loss,
    /// Share of tokens that are the most likely one.
    TokenAccuracy,
}

/// The course of the learning rate after the warmup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine (I. Loshchilov and F. Hutter, 2017).
    Cosine,
    /// A straight line.
    Linear,
    /// No change.
    Constant,
    /// None until the last `decay_share` of the steps, then a straight line (S. Hu et al., "MiniCPM", 2024).
    Wsd,
}

/// When and on how much the model is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Steps between evaluations; there is always one before the first step and one at the end.
    pub every_steps: u64,
    /// Most validation windows per evaluation; 0 takes all.
    pub max_windows: u64,
    /// Windows per forward pass.
    pub batch_size: usize,
    /// The prompt that each evaluation continues as a sample; empty for none.
    pub sample_prompt: String,
    /// Tokens of a sample.
    pub sample_tokens: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch_size: 16,
            accumulation: 1,
            precision: Precision::F32,
            loss_scale: 1024.0,
            recompute_activations: false,
            dropout: 0.0,
            label_smoothing: 0.0,
            z_loss: 0.0,
            learning_rate: 3e-3,
            schedule: Schedule::Cosine,
            warmup_steps: 50,
            final_learning_rate_ratio: 0.1,
            decay_share: 0.2,
            optimizer: OptimizerKind::Adamw,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            momentum: 0.95,
            nesterov: true,
            weight_decay: 0.1,
            weight_decay_pattern: BTreeMap::new(),
            learning_rate_pattern: BTreeMap::new(),
            ema_decay: 0.0,
            grad_clip_norm: 1.0,
            spike_deviations: 0.0,
            max_spikes: 5,
            max_epochs: 0.0,
            max_tokens: 0,
            patience: 0,
            patience_metric: PatienceMetric::Loss,
            patience_set: String::new(),
        }
    }
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { every_steps: 100, max_windows: 128, batch_size: 16, sample_prompt: "It was".to_owned(), sample_tokens: 48 }
    }
}

impl TrainConfig {
    /// Windows per optimizer step.
    pub fn windows_per_step(&self) -> u64 {
        (self.batch_size * self.accumulation) as u64
    }

    /// What the training loss adds to plain cross-entropy.
    pub(crate) fn loss_settings(&self) -> LossSettings {
        LossSettings { label_smoothing: self.label_smoothing, z_loss: self.z_loss }
    }

    /// Everything that is wrong with the values, as (key below `train`, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut demand = |fine: bool, key: &str, expected: &str, value: String| {
            if !fine {
                found.push((key.to_owned(), format!("expected {expected}, found {value}")));
            }
        };
        let share = |value: f64| (0.0..1.0).contains(&value);
        let positive = |value: f64| value.is_finite() && value > 0.0;
        demand(self.steps > 0, "steps", "1 or more", self.steps.to_string());
        demand((1..=1 << 16).contains(&self.batch_size), "batch_size", "1 to 65536", self.batch_size.to_string());
        demand((1..=1 << 16).contains(&self.accumulation), "accumulation", "1 to 65536", self.accumulation.to_string());
        let scales = (1.0..=16_777_216.0).contains(&self.loss_scale);
        demand(scales, "loss_scale", "1 to 16777216", self.loss_scale.to_string());
        demand(share(self.dropout), "dropout", "0 or more and below 1", self.dropout.to_string());
        demand((0.0..=1.0).contains(&self.label_smoothing), "label_smoothing", "0 to 1", self.label_smoothing.to_string());
        demand(self.z_loss.is_finite() && self.z_loss >= 0.0, "z_loss", "0 or more", self.z_loss.to_string());
        demand(positive(self.learning_rate), "learning_rate", "a positive number", self.learning_rate.to_string());
        demand(
            self.warmup_steps <= self.steps,
            "warmup_steps",
            &format!("at most `train.steps` ({})", self.steps),
            format!("{}: set both", self.warmup_steps),
        );
        let ratio = self.final_learning_rate_ratio;
        demand((0.0..=1.0).contains(&ratio), "final_learning_rate_ratio", "0 to 1", ratio.to_string());
        let not_negative = |value: f64| value.is_finite() && value >= 0.0;
        demand((0.0..=1.0).contains(&self.decay_share), "decay_share", "0 to 1", self.decay_share.to_string());
        demand(share(self.momentum), "momentum", "0 or more and below 1", self.momentum.to_string());
        demand(share(self.ema_decay), "ema_decay", "0 or more and below 1", self.ema_decay.to_string());
        for (key, pattern) in [("learning_rate_pattern", &self.learning_rate_pattern), ("weight_decay_pattern", &self.weight_decay_pattern)]
        {
            for (name, &value) in pattern {
                demand(not_negative(value), &format!("{key}.{name}"), "0 or more", value.to_string());
            }
        }
        demand(not_negative(self.spike_deviations), "spike_deviations", "0 or more", self.spike_deviations.to_string());
        demand(self.max_spikes > 0, "max_spikes", "1 or more", self.max_spikes.to_string());
        demand(not_negative(self.max_epochs), "max_epochs", "0 or more", self.max_epochs.to_string());
        demand(share(self.beta1), "beta1", "0 or more and below 1", self.beta1.to_string());
        demand(share(self.beta2), "beta2", "0 or more and below 1", self.beta2.to_string());
        demand((1e-30..=1.0).contains(&self.epsilon), "epsilon", "1e-30 (less is 0 in 32 bits) to 1", self.epsilon.to_string());
        demand(self.weight_decay.is_finite() && self.weight_decay >= 0.0, "weight_decay", "0 or more", self.weight_decay.to_string());
        demand(
            self.grad_clip_norm.is_finite() && self.grad_clip_norm >= 0.0,
            "grad_clip_norm",
            "0 or more",
            self.grad_clip_norm.to_string(),
        );
        found
    }
}

impl EvalConfig {
    /// Everything that is wrong with the values, as (key below `eval`, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.every_steps == 0 {
            found.push(("every_steps".to_owned(), "expected 1 or more, found 0".to_owned()));
        }
        if !(1..=1 << 16).contains(&self.batch_size) {
            found.push(("batch_size".to_owned(), format!("expected 1 to 65536, found {}", self.batch_size)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(TrainConfig::default().problems().is_empty() && EvalConfig::default().problems().is_empty());
        assert_eq!(TrainConfig { batch_size: 3, accumulation: 4, ..TrainConfig::default() }.windows_per_step(), 12);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let bad = TrainConfig { steps: 0, beta2: 1.0, learning_rate: f64::NAN, weight_decay: -1.0, ..TrainConfig::default() };
        let keys: Vec<String> = bad.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["steps", "learning_rate", "warmup_steps", "beta2", "weight_decay"]);
        assert_eq!(EvalConfig { every_steps: 0, batch_size: 0, ..EvalConfig::default() }.problems().len(), 2);
    }
}
