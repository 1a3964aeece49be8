//! What a configuration file says about the network, and what follows from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::rotary::RotaryScaling;

/// The shape of a decoder-only network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads per block.
    pub n_heads: usize,
    /// Key/value heads per block; fewer than `n_heads` is grouped-query attention (J. Ainslie et al., 2023).
    pub n_kv_heads: usize,
    /// Width of one head; 0 divides `d_model` among the query heads.
    pub head_dim: usize,
    /// Inner width of the feed-forward layer; 0 chooses 4 x `d_model`, or 8/3 x `d_model` rounded up to 32 for SwiGLU.
    pub d_feed_forward: usize,
    /// Most positions the model attends over, in tokens.
    pub context_length: usize,
    /// How many positions a position sees, itself among them; 0 sees all (R. Child et al., 2019; "Mistral 7B", 2023).
    pub window: usize,
    /// Normalisation before each layer.
    pub norm: NormKind,
    /// Added to the variance in the normalisation.
    pub norm_epsilon: f64,
    /// How a position is made known.
    pub positions: PositionKind,
    /// Base of the rotary frequencies (J. Su et al., "RoFormer", 2021).
    pub rotary_theta: f64,
    /// How they are stretched over a longer context.
    pub rotary_scaling: RotaryScaling,
    /// Whether each query and key head is normalised by its root mean square, with a weight, before it is turned (A. Henry et al., 2020; Qwen3).
    pub qk_norm: bool,
    /// The feed-forward layer's non-linearity.
    pub activation: Activation,
    /// Which linear layers have a bias.
    pub bias: Bias,
    /// Whether the output head is the transposed embedding.
    pub tie_embeddings: bool,
    /// Standard deviation of the initial weights; residual projections get it divided by the square root of 2 x `n_layers` (GPT-2).
    pub init_std: f64,
}

/// Normalisation of a block's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Root-mean-square normalisation (B. Zhang and R. Sennrich, 2019).
    Rms,
    /// Layer normalisation with weight and bias (J. L. Ba et al., 2016).
    Layer,
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// None of them.
    None,
    /// Queries, keys and values (Qwen2).
    Qkv,
    /// All but the head (GPT-2).
    All,
}

/// How the network knows positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PositionKind {
    /// Rotation of queries and keys, split-half form.
    Rotary,
    /// A learned vector per position, added to the embedding.
    Learned,
}

/// The feed-forward layer's non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Gated SiLU (N. Shazeer, "GLU variants improve transformer", 2020).
    Swiglu,
    /// GELU by the error function (D. Hendrycks and K. Gimpel, 2016).
    Gelu,
    /// GELU by its tanh approximation, as GPT-2 has it.
    GeluTanh,
}

/// What the products of a network are computed in. Parameters, the residual stream, gradients of parameters and all sums are f32 in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16, the upper half of an f32: faster where the processor has instructions for it, and half the memory of what a block keeps.
    Bf16,
    /// What the device does well: to be settled before anything is computed, else f32.
    Auto,
    /// IEEE 754 binary16: products as a GPU's half precision rounds them, with loss scaling in training. Here no faster than f32, and no smaller.
    F16,
}

impl From<Precision> for codex_ops::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 | Precision::Auto => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::F16 => Self::F16,
        }
    }
}

impl From<NormKind> for codex_ops::NormKind {
    fn from(kind: NormKind) -> Self {
        match kind {
            NormKind::Rms => Self::Rms,
            NormKind::Layer => Self::Layer,
        }
    }
}

impl From<Activation> for codex_ops::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Swiglu => Self::Swiglu,
            Activation::Gelu => Self::Gelu,
            Activation::GeluTanh => Self::GeluTanh,
        }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            d_model: 128,
            n_layers: 4,
            n_heads: 4,
            n_kv_heads: 4,
            head_dim: 0,
            d_feed_forward: 0,
            context_length: 128,
            window: 0,
            norm: NormKind::Rms,
            norm_epsilon: 1e-5,
            positions: PositionKind::Rotary,
            rotary_theta: 10_000.0,
            rotary_scaling: RotaryScaling::default(),
            qk_norm: false,
            activation: Activation::Swiglu,
            bias: Bias::None,
            tie_embeddings: true,
            init_std: 0.02,
        }
    }
}

/// A bound far above any model this program can train, so that a slip in a number is a message and not an allocation.
pub(crate) const MAX_WIDTH: usize = 1 << 17;

/// The same for rows of the embedding.
pub(crate) const MAX_VOCABULARY: usize = 1 << 24;

/// The same for a head.
const MAX_HEAD_DIM: usize = 1 << 12;

/// The same for positions.
const MAX_CONTEXT: usize = 1 << 20;

impl ModelConfig {
    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        match self.head_dim {
            0 => self.d_model / self.n_heads.max(1),
            width => width,
        }
    }

    /// Inner width of the feed-forward layer.
    pub fn feed_forward_width(&self) -> usize {
        match (self.d_feed_forward, self.activation) {
            (0, Activation::Swiglu) => (self.d_model * 8).div_ceil(3).next_multiple_of(32),
            (0, _) => self.d_model * 4,
            (width, _) => width,
        }
    }

    /// How many numbers the network learns with a vocabulary of `vocab_size`.
    pub fn n_parameters(&self, vocab_size: usize) -> u64 {
        crate::parameters::shapes(self, vocab_size).values().map(|shape| shape.iter().map(|&n| n as u64).product::<u64>()).sum()
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
            ("d_model", self.d_model, MAX_WIDTH),
            ("n_layers", self.n_layers, 1024),
            ("n_heads", self.n_heads, 1024),
            ("n_kv_heads", self.n_kv_heads, 1024),
            ("context_length", self.context_length, MAX_CONTEXT),
        ];
        report(self.head_dim > MAX_HEAD_DIM, "head_dim", format!("expected 0 to {MAX_HEAD_DIM}, found {}", self.head_dim));
        report(self.window > MAX_CONTEXT, "window", format!("expected 0 to {MAX_CONTEXT}, found {}", self.window));
        for (key, value, most) in sizes {
            report(value == 0 || value > most, key, format!("expected 1 to {most}, found {value}"));
        }
        report(
            self.d_feed_forward > 8 * MAX_WIDTH,
            "d_feed_forward",
            format!("expected at most {}, found {}", 8 * MAX_WIDTH, self.d_feed_forward),
        );
        if self.n_heads > 0 {
            report(
                self.head_dim == 0 && !self.d_model.is_multiple_of(self.n_heads),
                "n_heads",
                format!("`d_model` {} is not divisible by {}", self.d_model, self.n_heads),
            );
            report(
                self.positions == PositionKind::Rotary && !self.head_dim().is_multiple_of(2),
                if self.head_dim == 0 { "n_heads" } else { "head_dim" },
                format!("rotary positions need an even head width, found {}", self.head_dim()),
            );
        }
        if self.n_kv_heads > 0 {
            report(
                !self.n_heads.is_multiple_of(self.n_kv_heads),
                "n_kv_heads",
                format!("`n_heads` {} is not divisible by {}", self.n_heads, self.n_kv_heads),
            );
        }
        let positive = [("norm_epsilon", self.norm_epsilon), ("rotary_theta", self.rotary_theta), ("init_std", self.init_std)];
        for (key, value) in positive {
            report(!(value.is_finite() && value > 0.0), key, format!("expected a positive number, found {value}"));
        }
        found.extend(self.rotary_scaling.problems().into_iter().map(|(key, message)| (format!("rotary_scaling.{key}"), message)));
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

    #[test]
    fn the_default_is_valid_and_its_size_is_known() {
        let config = ModelConfig::default();
        assert!(config.problems().is_empty());
        assert_eq!(config.feed_forward_width(), 352);
        // Embedding 2048x128; per block 4x128^2 attention, 3x128x352 feed-forward, 2x128 norms; one final norm.
        assert_eq!(config.n_parameters(2048), 262_144 + 4 * (65_536 + 135_168 + 256) + 128);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let config = ModelConfig { d_model: 10, n_heads: 4, n_kv_heads: 3, n_layers: 0, init_std: f64::NAN, ..ModelConfig::default() };
        let keys: Vec<String> = config.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["n_layers", "n_heads", "n_kv_heads", "init_std"]);
        assert_eq!(config.validate().unwrap_err().to_string(), "`model.n_layers`: expected 1 to 1024, found 0");
        let odd = ModelConfig { d_model: 12, ..ModelConfig::default() };
        assert!(odd.problems()[0].1.contains("even head width, found 3"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<ModelConfig>(r#"{"d_modl": 3}"#).is_err());
    }
}
