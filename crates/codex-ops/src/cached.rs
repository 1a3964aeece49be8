//! Attention of new positions of some sequences over those that were read before: what generation does.

use std::sync::Arc;

use burn::tensor::Tensor;
use codex_kernels::attention::{AttentionShape, RotaryTable, decode, forward_from};
use codex_kernels::element::Element;
use codex_kernels::gemm::Precision;
use codex_kernels::{Isa, bf16};

use crate::composite;
use crate::flex::{Plain, Route, elements, from_plain, must, plain, route, tensor_of};
use crate::profile::timed;

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

impl KeysValues {
    /// Forgets all positions but the first `positions`.
    pub fn truncate(&mut self, positions: usize) {
        match &mut self.0 {
            Memory::F32(rows) => rows.truncate(positions),
            Memory::Bf16(rows) => rows.truncate(positions),
            Memory::Composite(cached) => cached.truncate(positions),
        }
    }
}

/// `[positions, n_kv_heads, head_dim]` each; they grow at their end.
#[derive(Clone, Debug, Default)]
struct Rows<T> {
    keys: Vec<T>,
    values: Vec<T>,
    /// Numbers of a position in each.
    width: usize,
}

/// Positions in a block of memory: a cache has room for a whole number of them.
const BLOCK: usize = 64;

impl<T: Copy> Rows<T> {
    /// Makes room for so many positions more, by a half at least, so that few of them move what is there.
    fn make_room(&mut self, positions: usize) {
        for buffer in [&mut self.keys, &mut self.values] {
            let needed = buffer.len() + positions * self.width;
            if needed > buffer.capacity() {
                let room = needed.max(buffer.len() + buffer.len() / 2).next_multiple_of(BLOCK * self.width.max(1));
                buffer.reserve_exact(room - buffer.len());
            }
        }
    }

    fn truncate(&mut self, positions: usize) {
        self.keys.truncate(positions * self.width);
        self.values.truncate(positions * self.width);
    }
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
                (None, Precision::F32 | Precision::F16) => Memory::F32(Rows::default()),
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
///
/// Several positions are read as training reads a window, with the bits that they have in any longer or shorter reading that begins alike; a single
/// one is read by the kernel for that, which adds in another order.
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
    let mut new = elements(qkv)[rows.start * width..rows.end * width].to_vec();
    cache.width = kv_width;
    cache.make_room(span.time);
    for (row, line) in new.chunks_exact_mut(width).enumerate() {
        let (turned, value) = line.split_at_mut(q_width + kv_width);
        if let Some(rotary) = &span.rotary {
            must("attention", rotary.rotate(row, turned));
        }
        cache.keys.extend(turned[q_width..].iter().map(|&key| T::narrow(key)));
        cache.values.extend(value.iter().map(|&value| T::narrow(value)));
    }
    let shape = AttentionShape { time: span.past + span.time, ..*shape };
    let start = output.len();
    output.resize(start + span.time * q_width, 0.0);
    let (isa, out) = (Isa::detect(), &mut output[start..]);
    if span.time == 1 {
        must("attention", timed("attention: one position", || decode(isa, &shape, &new[..q_width], &cache.keys, &cache.values, out)));
    } else {
        let all = whole(&cache, &new, span.past, q_width);
        must("attention", timed("attention: positions", || forward_from(isa, &shape, span.past, &all, out)));
    }
    cache
}

/// The fused buffer of everything that was read, as the cache has it: queries of the new positions alone.
fn whole<T: Element>(cache: &Rows<T>, new: &[f32], past: usize, q_width: usize) -> Vec<f32> {
    let (kv_width, width) = (cache.width, q_width + 2 * cache.width);
    let mut all = vec![0.0; cache.keys.len() / kv_width * width];
    let read = cache.keys.chunks_exact(kv_width).zip(cache.values.chunks_exact(kv_width));
    for (line, (key, value)) in all.chunks_exact_mut(width).zip(read) {
        let (keys, values) = line[q_width..].split_at_mut(kv_width);
        keys.iter_mut().zip(key).for_each(|(to, from)| *to = from.widen());
        values.iter_mut().zip(value).for_each(|(to, from)| *to = from.widen());
    }
    for (line, new) in all[past * width..].chunks_exact_mut(width).zip(new.chunks_exact(width)) {
        line[..q_width].copy_from_slice(&new[..q_width]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_grows_by_blocks_and_seldom() {
        let mut rows = Rows::<f32> { width: 3, ..Rows::default() };
        let mut rooms = Vec::new();
        for position in 0..1000 {
            rows.make_room(1);
            rows.keys.extend([position as f32; 3]);
            rows.values.extend([0.0; 3]);
            if rooms.last() != Some(&rows.keys.capacity()) {
                rooms.push(rows.keys.capacity());
            }
        }
        let blocks: Vec<usize> = rooms.iter().map(|room| room / (BLOCK * 3)).collect();
        assert_eq!(blocks, [1, 2, 3, 5, 8, 12, 18]);
        rows.truncate(10);
        assert_eq!((rows.keys.len(), rows.values.len(), rows.keys[27]), (30, 30, 9.0));
    }
}
