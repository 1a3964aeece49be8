//! Attention of new positions of one sequence over those that were read before: what generation does.

use std::cell::OnceCell;
use std::sync::Arc;

use burn::tensor::{Bool, Device, Tensor};
use codex_kernels::Isa;
use codex_kernels::attention::{AttentionShape, RotaryTable, decode};

use crate::composite;
use crate::flex::{Plain, Route, elements, from_plain, must, plain, route, tensor_of};
use crate::profile::timed;
use crate::{AttentionPlan, attention};

/// What all blocks share while they read some positions.
#[derive(Debug)]
pub struct CachedPlan {
    /// Of the new positions; one sequence.
    shape: AttentionShape,
    /// Positions that were read before.
    past: usize,
    /// Angles of the new positions.
    rotary: Option<Arc<RotaryTable>>,
    hidden: OnceCell<Tensor<4, Bool>>,
}

impl CachedPlan {
    /// A plan for `shape.time` positions of one sequence after `past` others, turned by `rotary`, whose first row is the first new position.
    pub fn new(shape: AttentionShape, past: usize, rotary: Option<Arc<RotaryTable>>) -> Self {
        Self { shape: AttentionShape { batch: 1, ..shape }, past, rotary, hidden: OnceCell::new() }
    }

    fn hidden(&self, device: &Device) -> &Tensor<4, Bool> {
        self.hidden.get_or_init(|| composite::hidden(&self.shape, self.past, None, device))
    }
}

/// Keys, after rotation, and values of the positions read so far.
#[derive(Clone, Debug)]
pub struct KeysValues(Memory);

#[derive(Clone, Debug)]
enum Memory {
    /// `[positions, n_kv_heads, head_dim]` each; they grow at their end.
    Rows { keys: Vec<f32>, values: Vec<f32> },
    /// On a backend without kernels.
    Composite(Box<composite::KeysValues>),
}

/// Why a cache is refused: what it holds must not be forgotten in silence.
const OTHER_BACKEND: &str = "the cache is of another backend than the new positions";

/// Attention of the new positions over the cached ones and those at and before their own; the cache is returned grown.
///
/// # Shapes
/// `qkv` `[time, (n_heads + 2 n_kv_heads) x head_dim]` -> `[time, n_heads x head_dim]`
///
/// # Panics
/// Where shapes do not fit, or a cache is of another backend.
pub fn attention_cached(qkv: Tensor<2>, plan: &CachedPlan, cached: Option<KeysValues>) -> (Tensor<2>, KeysValues) {
    if route(&qkv) == Route::Plain {
        let (mut keys, mut values) = match cached {
            None => (Vec::new(), Vec::new()),
            Some(KeysValues(Memory::Rows { keys, values })) => (keys, values),
            Some(KeysValues(Memory::Composite(_))) => must("attention", Err(OTHER_BACKEND)),
        };
        let output = extend(&plain(qkv), plan, &mut keys, &mut values);
        return (from_plain(output), KeysValues(Memory::Rows { keys, values }));
    }
    let cached = match cached {
        None => None,
        Some(KeysValues(Memory::Composite(cached))) => Some(*cached),
        Some(KeysValues(Memory::Rows { .. })) => must("attention", Err(OTHER_BACKEND)),
    };
    let hidden = plan.hidden(&qkv.device()).clone();
    let (output, grown) = composite::attention_after(&qkv, &plan.shape, plan.rotary.as_deref(), &hidden, cached);
    (output, KeysValues(Memory::Composite(Box::new(grown))))
}

/// Adds the new positions to the cache and attends over it.
fn extend(qkv: &Plain, plan: &CachedPlan, keys: &mut Vec<f32>, values: &mut Vec<f32>) -> Plain {
    let shape = plan.shape;
    let (q_width, kv_width) = (shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim);
    let rows = elements(qkv).chunks_exact(q_width + 2 * kv_width);
    // A prompt is read as training reads a window; only what comes after it goes position by position.
    let is_prompt = plan.past == 0 && shape.time > 1;
    let mut output = Vec::with_capacity(shape.time * q_width);
    for (row, line) in rows.enumerate() {
        let (query, rest) = line.split_at(q_width);
        let (key, value) = rest.split_at(kv_width);
        let (mut query, start) = (query.to_vec(), keys.len());
        keys.extend_from_slice(key);
        values.extend_from_slice(value);
        if let Some(rotary) = &plan.rotary {
            must("attention", rotary.rotate(row, &mut query));
            must("attention", rotary.rotate(row, &mut keys[start..]));
        }
        if !is_prompt {
            let so_far = AttentionShape { time: plan.past + row + 1, ..shape };
            let start = output.len();
            output.resize(start + q_width, 0.0);
            let out = &mut output[start..];
            must("attention", timed("attention: one position", || decode(Isa::detect(), &so_far, &query, keys, values, out)));
        }
    }
    if is_prompt {
        let whole = AttentionPlan::new(shape, plan.rotary.clone(), None);
        return plain(attention(from_plain(qkv.clone()), &whole));
    }
    tensor_of(output, [shape.time, q_width])
}
