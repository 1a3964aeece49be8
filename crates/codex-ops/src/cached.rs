//! Attention of new positions of some sequences over those that were read before: what generation does.

use std::sync::Arc;

use burn::tensor::Tensor;
use codex_kernels::attention::{AttentionShape, RotaryTable, decode};
use codex_kernels::element::Element;
use codex_kernels::gemm::Precision;
use codex_kernels::{Isa, bf16};

use crate::composite;
use crate::flex::{Plain, Route, elements, from_plain, must, plain, route, tensor_of};
use crate::profile::timed;
use crate::{AttentionPlan, attention};

/// What all blocks share while they read some positions.
#[derive(Clone, Debug)]
pub struct CachedPlan {
    shape: AttentionShape,
    spans: Vec<Span>,
    storage: Precision,
}

/// The new positions of one sequence.
#[derive(Clone, Debug)]
pub struct Span {
    /// How many there are.
    pub time: usize,
    /// How many were read before.
    pub past: usize,
    /// Their angles, where positions are rotations: the first row is the first new position.
    pub rotary: Option<Arc<RotaryTable>>,
}

impl CachedPlan {
    /// A plan for these spans, one of each sequence, whose rows follow each other; `shape` says how wide heads are and what they see. New caches
    /// are kept in `storage`; on a backend without kernels they are f32.
    pub fn new(shape: AttentionShape, spans: Vec<Span>, storage: Precision) -> Self {
        Self { shape, spans, storage }
    }

    /// The sizes of heads.
    pub fn shape(&self) -> &AttentionShape {
        &self.shape
    }

    fn shape_of(&self, span: &Span) -> AttentionShape {
        AttentionShape { batch: 1, time: span.time, ..self.shape }
    }
}

/// Keys, after rotation, and values of the positions read so far.
#[derive(Clone, Debug)]
pub struct KeysValues(Memory);

#[derive(Clone, Debug)]
enum Memory {
    F32(Rows<f32>),
    Bf16(Rows<bf16>),
    /// On a backend without kernels.
    Composite(Box<composite::KeysValues>),
}

/// `[positions, n_kv_heads, head_dim]` each; they grow at their end.
#[derive(Clone, Debug, Default)]
struct Rows<T> {
    keys: Vec<T>,
    values: Vec<T>,
}

/// Why a cache is refused: what it holds must not be forgotten in silence.
const OTHER_BACKEND: &str = "the cache is of another backend than the new positions";

/// Attention of the new positions of each sequence over its cached ones and those at and before their own; the caches are returned grown, in the
/// order of the spans.
///
/// # Shapes
/// `qkv` `[all new positions, (n_heads + 2 n_kv_heads) x head_dim]` -> `[all new positions, n_heads x head_dim]`
///
/// # Panics
/// Where shapes do not fit, there is not one cache for each span, or a cache is of another backend.
pub fn attention_cached(qkv: Tensor<2>, plan: &CachedPlan, caches: Vec<Option<KeysValues>>) -> (Tensor<2>, Vec<KeysValues>) {
    let (n_caches, n_spans) = (caches.len(), plan.spans.len());
    must("attention", if n_caches == n_spans { Ok(()) } else { Err(format!("{n_caches} caches of {n_spans} sequences")) });
    if route(&qkv) == Route::Plain {
        let qkv = plain(qkv);
        let mut output =
            Vec::with_capacity(plan.spans.iter().map(|span| span.time).sum::<usize>() * plan.shape.n_heads * plan.shape.head_dim);
        let mut from = 0;
        let grow = |(cached, span): (Option<KeysValues>, &Span)| {
            let memory = match (cached, plan.storage) {
                (None, Precision::F32) => Memory::F32(Rows::default()),
                (None, Precision::Bf16) => Memory::Bf16(Rows::default()),
                (Some(KeysValues(memory)), _) => memory,
            };
            let (rows, shape) = (from..from + span.time, plan.shape_of(span));
            from = rows.end;
            KeysValues(match memory {
                Memory::F32(cache) => Memory::F32(extend(&qkv, rows, &shape, span, cache, &mut output)),
                Memory::Bf16(cache) => Memory::Bf16(extend(&qkv, rows, &shape, span, cache, &mut output)),
                Memory::Composite(_) => must("attention", Err(OTHER_BACKEND)),
            })
        };
        let grown = caches.into_iter().zip(&plan.spans).map(grow).collect();
        return (from_plain(tensor_of(output, [from, plan.shape.n_heads * plan.shape.head_dim])), grown);
    }
    let (width, device) = (qkv.dims()[1], qkv.device());
    let (mut outputs, mut grown, mut from) = (Vec::new(), Vec::new(), 0);
    for (cached, span) in caches.into_iter().zip(&plan.spans) {
        let cached = match cached {
            None => None,
            Some(KeysValues(Memory::Composite(cached))) => Some(*cached),
            Some(KeysValues(_)) => must("attention", Err(OTHER_BACKEND)),
        };
        let rows = qkv.clone().slice([from..from + span.time, 0..width]);
        from += span.time;
        let shape = plan.shape_of(span);
        let hidden = composite::hidden(&shape, span.past, None, &device);
        let (output, cache) = composite::attention_after(&rows, &shape, span.rotary.as_deref(), &hidden, cached);
        outputs.push(output);
        grown.push(KeysValues(Memory::Composite(Box::new(cache))));
    }
    (Tensor::cat(outputs, 0), grown)
}

/// Adds the new positions of a sequence to its cache and attends over it.
fn extend<T: Element>(
    qkv: &Plain,
    rows: std::ops::Range<usize>,
    shape: &AttentionShape,
    span: &Span,
    mut cache: Rows<T>,
    output: &mut Vec<f32>,
) -> Rows<T> {
    let (q_width, kv_width) = (shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim);
    let width = q_width + 2 * kv_width;
    let qkv = &elements(qkv)[rows.start * width..rows.end * width];
    // A prompt is read as training reads a window; only what comes after it goes position by position.
    let is_prompt = span.past == 0 && span.time > 1;
    if is_prompt {
        let whole = AttentionPlan::new(*shape, span.rotary.clone(), None);
        let read = plain(attention(from_plain(tensor_of(qkv.to_vec(), [span.time, width])), &whole));
        output.extend_from_slice(elements(&read));
    }
    for (row, line) in qkv.chunks_exact(width).enumerate() {
        let (query, rest) = line.split_at(q_width);
        let (key, value) = rest.split_at(kv_width);
        let (mut query, mut key) = (query.to_vec(), key.to_vec());
        if let Some(rotary) = &span.rotary {
            must("attention", rotary.rotate(row, &mut query));
            must("attention", rotary.rotate(row, &mut key));
        }
        cache.keys.extend(key.iter().map(|&key| T::narrow(key)));
        cache.values.extend(value.iter().map(|&value| T::narrow(value)));
        if !is_prompt {
            let so_far = AttentionShape { time: span.past + row + 1, ..*shape };
            let start = output.len();
            output.resize(start + q_width, 0.0);
            let (isa, out) = (Isa::detect(), &mut output[start..]);
            must("attention", timed("attention: one position", || decode(isa, &so_far, &query, &cache.keys, &cache.values, out)));
        }
    }
    cache
}
