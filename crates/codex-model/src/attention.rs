//! Causal self-attention with grouped-query heads.
//!
//! References: A. Vaswani et al., "Attention is all you need" (2017); J. Ainslie et al., "GQA" (2023).

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use codex_kernels::attention::AttentionShape;
use codex_ops::{AttentionPlan, CachedPlan, KeysValues, Precision, Residual, attention_cached};

use crate::config::{Bias, ModelConfig, NormKind};
use crate::dropout::Masks;
use crate::error::ModelError;
use crate::linear::Linear;
use crate::norm::Norm;

/// Self-attention of one block.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[d_model, (n_heads + 2 x n_kv_heads) x head_dim]`: queries, keys, values.
    pub qkv: Linear,
    /// `[n_heads x head_dim, d_model]`
    pub output: Linear,
    /// Of each query head, where heads are normalised.
    pub query_norm: Option<Norm>,
    /// Of each key head.
    pub key_norm: Option<Norm>,
}

impl Attention {
    /// A layer of zeros.
    pub fn zeros(config: &ModelConfig, device: &Device) -> Self {
        let head_dim = config.head_dim();
        let norm = || config.qk_norm.then(|| Norm::zeros(NormKind::Rms, head_dim, config.norm_epsilon, device));
        Self {
            qkv: Linear::zeros(config.d_model, (config.n_heads + 2 * config.n_kv_heads) * head_dim, config.bias != Bias::None, device),
            output: Linear::zeros(config.n_heads * head_dim, config.d_model, config.bias == Bias::All, device),
            query_norm: norm(),
            key_norm: norm(),
        }
    }

    /// What the positions of each window gather from those before them, added to the residual stream.
    ///
    /// # Shapes
    /// `x` and the residual stream `[batch x time, d_model]` -> `[batch x time, d_model]`
    pub(crate) fn forward(
        &self,
        precision: Precision,
        x: Tensor<2>,
        residual: Residual,
        plan: &AttentionPlan,
        masks: &Masks,
    ) -> Result<Tensor<2>, ModelError> {
        let mixed = codex_ops::attention(self.heads(precision, x, plan.shape(), masks)?, plan);
        self.output.forward(precision, mixed, Some(residual), masks)
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
    ) -> Result<(Tensor<2>, Vec<KeysValues>), ModelError> {
        let (mixed, grown) = attention_cached(self.heads(Precision::F32, x, plan.shape(), &Masks::NONE)?, plan, cached);
        Ok((self.output.forward(Precision::F32, mixed, Some(residual.into()), &Masks::NONE)?, grown))
    }

    /// Queries, keys and values of each row, normalised where heads are.
    ///
    /// # Shapes
    /// `[rows, d_model]` -> `[rows, (n_heads + 2 x n_kv_heads) x head_dim]`
    fn heads(&self, precision: Precision, x: Tensor<2>, shape: &AttentionShape, masks: &Masks) -> Result<Tensor<2>, ModelError> {
        let qkv = self.qkv.forward(precision, x, None, masks)?;
        let (Some(query_norm), Some(key_norm)) = (&self.query_norm, &self.key_norm) else { return Ok(qkv) };
        let [rows, width] = qkv.dims();
        let stored = qkv.dtype();
        let is_narrow = precision == Precision::Bf16;
        let qkv = if is_narrow { qkv.cast(FloatDType::F32) } else { qkv };
        let (q_width, kv_width) = (shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim);
        let normed = |from: usize, width: usize, norm: &Norm| {
            let heads = qkv.clone().slice([0..rows, from..from + width]).reshape([rows * width / shape.head_dim, shape.head_dim]);
            norm.forward(Precision::F32, heads).reshape([rows, width])
        };
        let queries = normed(0, q_width, query_norm);
        let keys = normed(q_width, kv_width, key_norm);
        let values = qkv.clone().slice([0..rows, q_width + kv_width..width]);
        let joined = Tensor::cat(vec![queries, keys, values], 1);
        Ok(if is_narrow { joined.cast(stored) } else { joined })
    }
}
