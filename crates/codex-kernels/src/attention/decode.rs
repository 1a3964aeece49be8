//! One new position against a cache of keys and values.

use rayon::prelude::*;

use crate::attention::backward::inner;
use crate::attention::error::{AttentionError, check_length};
use crate::attention::exp::exp;
use crate::attention::shape::AttentionShape;
use crate::attention::tile::LANES;
use crate::element::Element;
use crate::isa::{self, Isa, Kernel, fma};

/// Positions whose scores are held at once; chunks are computed apart and joined in their order.
const CHUNK: usize = 256;

/// Below this many elements of the cache the tasks are not worth telling other threads of, which are awake while text is generated.
const WORTH_SHARING: usize = 1 << 14;

/// Attention of the last position of each sequence over a cache that holds it and those before it.
///
/// Queries and cached keys carry their rotation already: see [`RotaryTable::rotate`](crate::attention::RotaryTable::rotate). The window counts back from the
/// last position.
///
/// Cached numbers are f32 or, in half the memory, bf16; everything is computed in f32.
///
/// # Shapes
/// `q` `[batch, n_heads, head_dim]`, `keys` and `values` `[batch, time, n_kv_heads, head_dim]` -> `out` `[batch, n_heads, head_dim]`
///
/// # Errors
/// A shape without heads, dimensions or positions, or a buffer of another length; nothing is written then.
pub fn decode<T: Element>(
    isa: Isa,
    shape: &AttentionShape,
    q: &[f32],
    keys: &[T],
    values: &[T],
    out: &mut [f32],
) -> Result<(), AttentionError> {
    let lengths = shape.lengths()?;
    if shape.time == 0 {
        return Err(AttentionError::NoPositions);
    }
    check_length("q", shape.batch * shape.q_width(), q.len())?;
    check_length("keys", lengths.keys, keys.len())?;
    check_length("values", lengths.keys, values.len())?;
    check_length("out", shape.batch * shape.q_width(), out.len())?;
    let first = if shape.window == 0 { 0 } else { shape.time.saturating_sub(shape.window) };
    let n_chunks = (shape.time - first).div_ceil(CHUNK);
    let group_width = shape.group() * shape.head_dim;
    // Of each pair of sequence and key head, of each chunk: the group's outputs, then their greatest scores, then their totals.
    let partial_width = group_width + 2 * shape.group();
    let mut partials = vec![0.0; shape.batch * shape.n_kv_heads * n_chunks * partial_width];
    let attend = |(index, partial): (usize, &mut [f32])| {
        let (pair, chunk) = (index / n_chunks, index % n_chunks);
        let (sequence, kv_head) = (pair / shape.n_kv_heads, pair % shape.n_kv_heads);
        let from = first + chunk * CHUNK;
        let cache = sequence * shape.time * shape.kv_width()..(sequence + 1) * shape.time * shape.kv_width();
        let columns = kv_head * shape.head_dim;
        let rows = from * shape.kv_width() + columns..;
        let queries = &q[pair * group_width..(pair + 1) * group_width];
        let n = (shape.time - from).min(CHUNK);
        let (keys, values) = (&keys[cache.clone()][rows.clone()], &values[cache][rows]);
        isa::run(isa, Decode { shape, queries, keys, values, n, partial });
    };
    if (shape.time - first) * shape.batch * shape.kv_width() < WORTH_SHARING {
        partials.chunks_mut(partial_width).enumerate().for_each(attend);
    } else {
        partials.par_chunks_mut(partial_width).enumerate().for_each(attend);
    }
    for (partials, target) in partials.chunks(n_chunks * partial_width).zip(out.chunks_mut(group_width)) {
        for (head, target) in target.chunks_mut(shape.head_dim).enumerate() {
            join_chunks(partials, partial_width, group_width, head, target);
        }
    }
    Ok(())
}

/// Joins the chunks of one head, each relative to a maximum of its own.
fn join_chunks(partials: &[f32], partial_width: usize, group_width: usize, head: usize, target: &mut [f32]) {
    let group = (partial_width - group_width) / 2;
    let greatest_of = |partial: &[f32]| partial[group_width + head];
    let greatest = partials.chunks(partial_width).map(greatest_of).fold(f32::NEG_INFINITY, f32::max);
    let (head_dim, mut total) = (target.len(), 0.0);
    target.fill(0.0);
    for partial in partials.chunks(partial_width) {
        let factor = exp::<false>(greatest_of(partial) - greatest);
        total += factor * partial[group_width + group + head];
        for (to, from) in target.iter_mut().zip(&partial[head * head_dim..]) {
            *to += factor * from;
        }
    }
    for element in target {
        *element /= total;
    }
}

/// A group's queries over one chunk of positions.
struct Decode<'a, 'b, T> {
    shape: &'a AttentionShape,
    /// `[group, head_dim]`
    queries: &'a [f32],
    /// From the first position's head on, a row every `n_kv_heads x head_dim`.
    keys: &'a [T],
    values: &'a [T],
    /// Positions.
    n: usize,
    partial: &'b mut [f32],
}

impl<T: Element> Kernel for Decode<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (head_dim, group, stride) = (self.shape.head_dim, self.shape.group(), self.shape.kv_width());
        let scale = self.shape.score_scale();
        let (outs, rest) = self.partial.split_at_mut(group * head_dim);
        let (greatest, totals) = rest.split_at_mut(group);
        outs.fill(0.0);
        let mut scores = [0.0; CHUNK];
        let heads = self.queries.chunks_exact(head_dim).zip(outs.chunks_exact_mut(head_dim));
        for (((query, out), greatest), total) in heads.zip(greatest).zip(totals) {
            scores.fill(f32::NEG_INFINITY);
            for (score, key) in scores[..self.n].iter_mut().zip(self.keys.chunks(stride)) {
                *score = scale * inner::<FMA, f32, T>(query, &key[..head_dim]);
            }
            let mut tops = [f32::NEG_INFINITY; LANES];
            for part in scores.as_chunks::<LANES>().0 {
                for j in 0..LANES {
                    tops[j] = if part[j] > tops[j] { part[j] } else { tops[j] };
                }
            }
            *greatest = tops.into_iter().fold(f32::NEG_INFINITY, f32::max);
            let mut sums = [0.0; LANES];
            for part in scores.as_chunks_mut::<LANES>().0 {
                for j in 0..LANES {
                    part[j] = exp::<FMA>(part[j] - *greatest);
                    sums[j] += part[j];
                }
            }
            *total = sums.into_iter().sum();
            for (weight, value) in scores[..self.n].iter().zip(self.values.chunks(stride)) {
                for (to, from) in out.iter_mut().zip(&value[..head_dim]) {
                    *to = fma::<FMA>(*weight, from.widen(), *to);
                }
            }
        }
    }
}
