//! Causal self-attention with grouped-query heads.
//!
//! References: A. Vaswani et al., "Attention is all you need" (2017); J. Ainslie et al., "GQA" (2023).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use codex_ops::{AttentionPlan, CachedPlan, KeysValues, Precision, Residual, attention_cached};

use crate::config::ModelConfig;
use crate::linear::Linear;

/// Self-attention of one block.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[d_model, (n_heads + 2 x n_kv_heads) x head_dim]`: queries, keys, values.
    pub qkv: Linear,
    /// `[n_heads x head_dim, d_model]`
    pub output: Linear,
}

impl Attention {
    /// A layer of zeros.
    pub fn zeros(config: &ModelConfig, device: &Device) -> Self {
        let head_dim = config.head_dim();
        Self {
            qkv: Linear::zeros(config.d_model, (config.n_heads + 2 * config.n_kv_heads) * head_dim, config.bias, device),
            output: Linear::zeros(config.n_heads * head_dim, config.d_model, config.bias, device),
        }
    }

    /// What the positions of each window gather from those before them, added to the residual stream.
    ///
    /// # Shapes
    /// `x` and the residual stream `[batch x time, d_model]` -> `[batch x time, d_model]`
    pub fn forward(&self, precision: Precision, x: Tensor<2>, residual: Residual, plan: &AttentionPlan) -> Tensor<2> {
        let mixed = codex_ops::attention(self.qkv.forward(precision, x, None), plan);
        self.output.forward(precision, mixed, Some(residual))
    }

    /// The same for new positions of some sequences after the cached ones; the caches are returned grown.
    ///
    /// # Shapes
    /// `x` and `residual` `[all new positions, d_model]` -> `[all new positions, d_model]`
    pub(crate) fn forward_cached(
        &self,
        x: Tensor<2>,
        residual: Tensor<2>,
        plan: &CachedPlan,
        cached: Vec<Option<KeysValues>>,
    ) -> (Tensor<2>, Vec<KeysValues>) {
        let (mixed, grown) = attention_cached(self.qkv.forward(Precision::F32, x, None), plan, cached);
        (self.output.forward(Precision::F32, mixed, Some(residual.into())), grown)
    }
}
