//! Causal self-attention with grouped-query heads.
//!
//! References: A. Vaswani et al., "Attention is all you need" (2017); J. Ainslie et al., "GQA" (2023).

use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor, TensorData, activation};

use crate::config::ModelConfig;
use crate::linear::Linear;
use crate::rotary::Rotary;

/// Stands for minus infinity where a position may not be seen: finite, so that no row becomes NaN.
const HIDDEN: f32 = -1.0e30;

/// Self-attention of one block.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[d_model, (n_heads + 2 x n_kv_heads) x head_dim]`: queries, keys, values.
    pub qkv: Linear,
    /// `[n_heads x head_dim, d_model]`
    pub output: Linear,
    #[module(skip)]
    n_heads: usize,
    #[module(skip)]
    n_kv_heads: usize,
    #[module(skip)]
    head_dim: usize,
}

/// Keys (after rotation) and values of the positions seen so far, `[batch, n_kv_heads, positions, head_dim]` each.
#[derive(Clone, Debug)]
pub struct KeysValues {
    keys: Tensor<4>,
    values: Tensor<4>,
}

impl Attention {
    /// A layer of zeros.
    pub fn zeros(config: &ModelConfig, device: &Device) -> Self {
        let head_dim = config.head_dim();
        Self {
            qkv: Linear::zeros(config.d_model, (config.n_heads + 2 * config.n_kv_heads) * head_dim, config.bias, device),
            output: Linear::zeros(config.n_heads * head_dim, config.d_model, config.bias, device),
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim,
        }
    }

    /// Attends over the cached positions and the new ones; `hidden` is true where a query may not see a key.
    ///
    /// # Shapes
    /// `x` `[batch x time, d_model]`, `hidden` `[batch or 1, 1, time, cached + time]` -> `[batch x time, d_model]` and the grown cache
    pub fn forward(
        &self,
        x: Tensor<2>,
        batch: usize,
        rotary: Option<&Rotary>,
        hidden: &Tensor<4, Bool>,
        cached: Option<KeysValues>,
    ) -> (Tensor<2>, KeysValues) {
        let time = x.dims()[0] / batch;
        let (q_width, kv_width) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let qkv = self.qkv.forward(x);
        let rows = batch * time;
        let split = |from: usize, heads: usize| {
            let part = qkv.clone().slice([0..rows, from..from + heads * self.head_dim]);
            part.reshape([batch, time, heads, self.head_dim]).swap_dims(1, 2)
        };
        let mut queries = split(0, self.n_heads);
        let mut keys = split(q_width, self.n_kv_heads);
        let mut values = split(q_width + kv_width, self.n_kv_heads);
        if let Some(rotary) = rotary {
            queries = rotary.apply(queries);
            keys = rotary.apply(keys);
        }
        if let Some(past) = cached {
            keys = Tensor::cat(vec![past.keys, keys], 2);
            values = Tensor::cat(vec![past.values, values], 2);
        }
        let seen = keys.dims()[2];
        let group = self.n_heads / self.n_kv_heads;
        // Each key head serves a group of query heads: the group becomes extra rows of one product.
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let queries = (queries * scale).reshape([batch, self.n_kv_heads, group * time, self.head_dim]);
        let scores = queries.matmul(keys.clone().swap_dims(2, 3)).reshape([batch, self.n_heads, time, seen]);
        let shape = scores.dims();
        let weights = activation::softmax(scores.mask_fill(hidden.clone().expand(shape), HIDDEN), 3);
        let mixed = weights.reshape([batch, self.n_kv_heads, group * time, seen]).matmul(values.clone());
        let joined = mixed.reshape([batch, self.n_heads, time, self.head_dim]).swap_dims(1, 2).reshape([rows, q_width]);
        (self.output.forward(joined), KeysValues { keys, values })
    }
}

/// Which keys each query may not see: those after it and, with `segments`, those of another document.
///
/// # Shapes
/// `segments` `[batch x time]` -> `[batch, 1, time, past + time]`; without segments `[1, 1, time, past + time]`
pub fn hidden_positions(time: usize, past: usize, segments: Option<&[u32]>, device: &Device) -> Tensor<4, Bool> {
    let batch = segments.map_or(1, |all| all.len() / time.max(1));
    let seen = past + time;
    let mut hidden = Vec::with_capacity(batch * time * seen);
    for row in 0..batch {
        for query in 0..time {
            for key in 0..seen {
                let later = key > past + query;
                let apart = segments.is_some_and(|all| key >= past && all[row * time + query] != all[row * time + key - past]);
                hidden.push(later || apart);
            }
        }
    }
    Tensor::from_data(TensorData::new(hidden, [batch, 1, time, seen]), device)
}
