//! How fast each pair of a head's dimensions turns from one position to the next, and what stretches a context beyond its training.
//!
//! References: J. Su et al., "RoFormer" (2021); S. Chen et al., "Extending context window of large language models via positional interpolation"
//! (2023) for `linear`; B. Peng et al., "YaRN" (2023) for `yarn` and, in its account of NTK-aware scaling, `dynamic`; "The Llama 3 herd of models" (2024)
//! for `llama3`. The formulas are those that Hugging Face transformers uses, so that a model of theirs turns here as there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;

/// How rotary positions are stretched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotaryScaling {
    /// The way.
    pub kind: RotaryScalingKind,
    /// By how much the context is longer than that of the training.
    pub factor: f64,
    /// Positions of the training; 0 takes `context_length`.
    pub original_context_length: usize,
    /// Of `llama3`: turns of the original context below which a pair is slowed by the whole factor.
    pub low_freq_factor: f64,
    /// Of `llama3`: turns of the original context above which a pair is left alone.
    pub high_freq_factor: f64,
    /// Of `yarn`: turns of the original context above which a pair is left alone.
    pub beta_fast: f64,
    /// Of `yarn`: turns of the original context below which a pair is slowed by the whole factor.
    pub beta_slow: f64,
    /// Of `yarn`: what cosines and sines are multiplied by; 0 takes `0.1 ln(factor) + 1`.
    pub attention_factor: f64,
    /// Of `yarn`: whether the ramp begins and ends at whole pairs.
    #[serde(skip_serializing_if = "is_true")]
    pub truncate: bool,
}

/// What most have need not be written.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_true(flag: &bool) -> bool {
    *flag
}

/// A way to stretch rotary positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotaryScalingKind {
    /// Not at all.
    #[default]
    None,
    /// All pairs turn slower by the factor.
    Linear,
    /// The base grows with what is read, once that is more than the original context.
    Dynamic,
    /// Slow pairs are slowed, fast ones are not, with a ramp between.
    Yarn,
    /// The same by wave lengths.
    Llama3,
}

impl Default for RotaryScaling {
    fn default() -> Self {
        Self {
            kind: RotaryScalingKind::None,
            factor: 1.0,
            original_context_length: 0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: 0.0,
            truncate: true,
        }
    }
}

impl RotaryScaling {
    /// Everything that is wrong with the values, as (key, message).
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut demand = |fine: bool, key: &str, expected: &str, value: f64| {
            if !fine {
                found.push((key.to_owned(), format!("expected {expected}, found {value}")));
            }
        };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        demand(self.factor.is_finite() && self.factor >= 1.0, "factor", "1 or more", self.factor);
        demand(positive(self.low_freq_factor), "low_freq_factor", "a positive number", self.low_freq_factor);
        let is_above = self.high_freq_factor.is_finite() && self.high_freq_factor > self.low_freq_factor;
        demand(is_above, "high_freq_factor", "more than `low_freq_factor`", self.high_freq_factor);
        demand(positive(self.beta_slow), "beta_slow", "a positive number", self.beta_slow);
        demand(self.beta_fast.is_finite() && self.beta_fast >= self.beta_slow, "beta_fast", "at least `beta_slow`", self.beta_fast);
        demand(self.attention_factor.is_finite() && self.attention_factor >= 0.0, "attention_factor", "0 or more", self.attention_factor);
        found
    }
}

/// Radians by which each pair turns from one position to the next when `seen` positions are read at most, and the factor of cosines and sines.
pub(crate) fn speeds(config: &ModelConfig, seen: usize) -> (Vec<f64>, f64) {
    let (dim, theta, scaling) = (config.head_dim() as f64, config.rotary_theta, &config.rotary_scaling);
    let original = match scaling.original_context_length {
        0 => config.context_length as f64,
        length => length as f64,
    };
    let plain = |theta: f64| -> Vec<f64> { (0..config.head_dim() / 2).map(|i| libm::pow(theta, -2.0 * i as f64 / dim)).collect() };
    let factor = scaling.factor;
    match scaling.kind {
        RotaryScalingKind::None => (plain(theta), 1.0),
        RotaryScalingKind::Linear => (plain(theta).into_iter().map(|speed| speed / factor).collect(), 1.0),
        RotaryScalingKind::Dynamic => {
            let stretched = factor * original.max(seen as f64) / original - (factor - 1.0);
            // A head of two dimensions has one pair, which no base slows.
            let exponent = if dim > 2.0 { dim / (dim - 2.0) } else { 0.0 };
            (plain(theta * libm::pow(stretched, exponent)), 1.0)
        }
        RotaryScalingKind::Yarn => {
            let turns_at = |turns: f64| dim * libm::log(original / (turns * 2.0 * std::f64::consts::PI)) / (2.0 * libm::log(theta));
            let (low, high) = (turns_at(scaling.beta_fast), turns_at(scaling.beta_slow));
            let (low, high) = if scaling.truncate { (libm::floor(low), libm::ceil(high)) } else { (low, high) };
            let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
            if (high - low).abs() < 1e-9 {
                high += 0.001;
            }
            let ramped = |(i, speed): (usize, f64)| {
                let slowed = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                speed / factor * slowed + speed * (1.0 - slowed)
            };
            let attention = if scaling.attention_factor > 0.0 { scaling.attention_factor } else { 0.1 * libm::log(factor) + 1.0 };
            (plain(theta).into_iter().enumerate().map(ramped).collect(), attention)
        }
        RotaryScalingKind::Llama3 => {
            let by_length = |speed: f64| {
                let turns = original * speed / (2.0 * std::f64::consts::PI);
                let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                speed / factor * (1.0 - kept) + speed * kept
            };
            (plain(theta).into_iter().map(by_length).collect(), 1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: RotaryScalingKind, factor: f64) -> ModelConfig {
        let rotary_scaling = RotaryScaling { kind, factor, original_context_length: 64, ..RotaryScaling::default() };
        ModelConfig { d_model: 64, n_heads: 2, context_length: 256, rotary_scaling, ..ModelConfig::default() }
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-12 * b), "{found:?} {expected:?}");
    }

    #[test]
    fn each_way_slows_what_it_says() {
        let (plain, _) = speeds(&config(RotaryScalingKind::None, 4.0), 256);
        assert_eq!((plain.len(), plain[0].to_bits()), (16, 1.0_f64.to_bits()));
        let (linear, _) = speeds(&config(RotaryScalingKind::Linear, 4.0), 256);
        close(&linear, &plain.iter().map(|speed| speed / 4.0).collect::<Vec<_>>());
        let (short, _) = speeds(&config(RotaryScalingKind::Dynamic, 4.0), 10);
        close(&short, &plain);
        let (long, _) = speeds(&config(RotaryScalingKind::Dynamic, 4.0), 256);
        // The base grows to theta (4 x 256 / 64 - 3)^(32 / 30).
        close(&long[1..2], &[libm::pow(10_000.0 * libm::pow(13.0, 32.0 / 30.0), -1.0 / 16.0)]);
        for kind in [RotaryScalingKind::Yarn, RotaryScalingKind::Llama3] {
            let (mixed, factor) = speeds(&config(kind, 4.0), 256);
            close(&mixed[..1], &plain[..1]);
            close(&mixed[15..], &[plain[15] / 4.0]);
            assert!(mixed.iter().zip(&plain).all(|(a, b)| *a <= b * 1.000_001 && *a >= b / 4.000_001));
            let expected = if kind == RotaryScalingKind::Yarn { 0.1 * libm::log(4.0) + 1.0 } else { 1.0 };
            assert_eq!(factor.to_bits(), expected.to_bits());
        }
    }

    #[test]
    fn every_problem_is_told() {
        let bad =
            RotaryScaling { factor: 0.5, beta_fast: f64::NAN, high_freq_factor: 0.1, attention_factor: -1.0, ..RotaryScaling::default() };
        let keys: Vec<String> = bad.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["factor", "high_freq_factor", "beta_fast", "attention_factor"]);
        assert!(RotaryScaling::default().problems().is_empty());
    }
}
