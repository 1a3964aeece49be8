//! The shape of an encoder, and what can be wrong with it.

use serde::{Deserialize, Serialize};

use crate::config::{Activation, MAX_VOCABULARY, MAX_WIDTH};
use crate::error::ModelError;

/// The shape of a bidirectional network with normalisation behind each layer (J. Devlin et al., "BERT", 2018).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Heads per block, among which `d_model` is divided.
    pub n_heads: usize,
    /// Inner width of the feed-forward layer.
    pub d_feed_forward: usize,
    /// Most positions of one text, in tokens.
    pub max_positions: usize,
    /// Rows of the table of token types: which of two texts a token belongs to.
    pub n_token_types: usize,
    /// Added to the variance in the normalisation.
    pub norm_epsilon: f64,
    /// The feed-forward layer's non-linearity, which has no gate.
    pub activation: Activation,
    /// Whether there is a head that says which token stood at a position.
    pub masked_lm_head: bool,
}

/// The most positions of one text: attention holds their square.
const MAX_POSITIONS: usize = 1 << 15;

/// Attention scores of one block at once that are no burden: 256 MiB of them.
const MODERATE_SCORES: usize = 1 << 26;

/// The most token types.
const MAX_TOKEN_TYPES: usize = 1 << 10;

impl EncoderConfig {
    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.d_model / self.n_heads.max(1)
    }

    /// How many texts of this many tokens go through the network together in moderate memory; at least one.
    pub fn most_texts(&self, time: usize) -> usize {
        let scores = self.n_heads.saturating_mul(time).saturating_mul(time).max(1);
        (MODERATE_SCORES / scores).max(1)
    }

    /// How many numbers the network holds.
    pub fn n_parameters(&self) -> u64 {
        super::shapes(self).values().map(|shape| shape.iter().map(|&n| n as u64).product::<u64>()).sum()
    }

    /// Everything that is wrong with the values, as (key below `model`, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut report = |wrong: bool, key: &str, message: String| {
            if wrong {
                found.push((key.to_owned(), message));
            }
        };
        let sizes = [
            ("vocab_size", self.vocab_size, MAX_VOCABULARY),
            ("d_model", self.d_model, MAX_WIDTH),
            ("n_layers", self.n_layers, 1024),
            ("n_heads", self.n_heads, 1024),
            ("d_feed_forward", self.d_feed_forward, 8 * MAX_WIDTH),
            ("max_positions", self.max_positions, MAX_POSITIONS),
            ("n_token_types", self.n_token_types, MAX_TOKEN_TYPES),
        ];
        for (key, value, most) in sizes {
            report(value == 0 || value > most, key, format!("expected 1 to {most}, found {value}"));
        }
        report(
            self.n_heads > 0 && !self.d_model.is_multiple_of(self.n_heads),
            "n_heads",
            format!("`d_model` {} is not divisible by {}", self.d_model, self.n_heads),
        );
        report(
            !(self.norm_epsilon.is_finite() && self.norm_epsilon > 0.0),
            "norm_epsilon",
            format!("expected a positive number, found {}", self.norm_epsilon),
        );
        report(
            self.activation == Activation::Swiglu,
            "activation",
            "an encoder's feed-forward layer has no gate: expected `gelu` or `gelu_tanh`, found `swiglu`".to_owned(),
        );
        found
    }

    /// The first problem as an error, or nothing.
    pub fn validate(&self) -> Result<(), ModelError> {
        match self.problems().into_iter().next() {
            Some((key, message)) => Err(ModelError::Config { key: format!("model.{key}"), message }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minilm() -> EncoderConfig {
        EncoderConfig {
            vocab_size: 30_522,
            d_model: 384,
            n_layers: 6,
            n_heads: 12,
            d_feed_forward: 1536,
            max_positions: 512,
            n_token_types: 2,
            norm_epsilon: 1e-12,
            activation: Activation::Gelu,
            masked_lm_head: false,
        }
    }

    #[test]
    fn the_size_of_minilm_is_known() {
        let config = minilm();
        assert!(config.problems().is_empty());
        assert_eq!(config.head_dim(), 32);
        assert_eq!((config.most_texts(512), config.most_texts(usize::MAX), config.most_texts(0)), (21, 1, 1 << 26));
        // Tables and their norm; per block 4 products of attention, 2 of the feed-forward layer, their biases and two norms.
        let tables = (30_522 + 512 + 2 + 2) * 384;
        let block = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384;
        assert_eq!(config.n_parameters(), tables + 6 * block);
        let head = 384 * 384 + 3 * 384 + 30_522;
        assert_eq!(EncoderConfig { masked_lm_head: true, ..config }.n_parameters(), tables + 6 * block + head);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let config = EncoderConfig {
            vocab_size: 0,
            n_heads: 7,
            max_positions: 1 << 30,
            n_token_types: 0,
            norm_epsilon: 0.0,
            activation: Activation::Swiglu,
            ..minilm()
        };
        let keys: Vec<String> = config.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["vocab_size", "max_positions", "n_token_types", "n_heads", "norm_epsilon", "activation"]);
        assert_eq!(config.validate().unwrap_err().to_string(), "`model.vocab_size`: expected 1 to 16777216, found 0");
        let many = EncoderConfig { d_model: usize::MAX, n_layers: usize::MAX, n_heads: 0, d_feed_forward: usize::MAX, ..minilm() };
        let keys: Vec<String> = many.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["d_model", "n_layers", "n_heads", "d_feed_forward"]);
    }
}
