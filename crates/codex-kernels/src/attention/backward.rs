//! The backward pass: the weights are computed again from the scores and the log-sum-exp, tile by tile.

use rayon::prelude::*;

use crate::attention::error::{AttentionError, check_length};
use crate::attention::exp::exp;
use crate::attention::rotary::{RotaryTable, turn_back};
use crate::attention::scratch;
use crate::attention::shape::AttentionShape;
use crate::attention::source::{Source, pack, unpack};
use crate::attention::tile::{LANES, Lanes, Tile, add_dot, add_outer, set_dot, tiles};
use crate::attention::visible::{Seen, Visible};
use crate::element::Element;
use crate::isa::{self, Isa, Kernel};
use crate::lanes::fold_sum;

/// Key tiles whose weights are held at once.
const BLOCK: usize = 8;

/// The gradient of [`forward`](crate::attention::forward()) for its input, from the gradient `d_out` of its output.
///
/// # Shapes
/// `qkv`, `d_qkv` `[batch x time, (n_heads + 2 n_kv_heads) x head_dim]`, `segments` `[batch x time]`,
/// `out`, `d_out` `[batch x time, n_heads x head_dim]`, `log_sum_exp` `[batch, n_heads, time]`; `d_qkv` is overwritten
///
/// # Errors
/// A shape without heads or dimensions, a buffer of another length, a rotary table that does not fit; nothing is written then.
#[expect(clippy::too_many_arguments, reason = "the buffers of one operation and of its gradient")]
pub fn backward<T: Element>(
    isa: Isa,
    shape: &AttentionShape,
    qkv: &[T],
    rope: Option<&RotaryTable>,
    segments: Option<&[u32]>,
    out: &[T],
    log_sum_exp: &[f32],
    d_out: &[T],
    d_qkv: &mut [T],
) -> Result<(), AttentionError> {
    let lengths = shape.check_inputs(qkv, rope, segments)?;
    check_length("out", lengths.out, out.len())?;
    check_length("log_sum_exp", lengths.log_sum_exp, log_sum_exp.len())?;
    check_length("d_out", lengths.out, d_out.len())?;
    check_length("d_qkv", lengths.qkv, d_qkv.len())?;
    if lengths.positions == 0 {
        return Ok(());
    }
    let saved = Saved { source: Source { shape, qkv, rope, segments }, out, log_sum_exp, d_out };
    divide(isa, saved, d_qkv).into_par_iter().with_max_len(1).for_each(|task| isa::run(isa, task));
    Ok(())
}

/// What the gradient is computed from.
#[derive(Clone, Copy)]
struct Saved<'a, T> {
    source: Source<'a, T>,
    out: &'a [T],
    log_sum_exp: &'a [f32],
    d_out: &'a [T],
}

/// The query heads that share one key head: they add up to its gradient, so they are one task.
struct Task<'a, 'b, T> {
    isa: Isa,
    saved: Saved<'a, T>,
    sequence: usize,
    kv_head: usize,
    /// Gradients at each position: of the group's queries, of the key, of the value.
    gradients: Vec<[&'b mut [T]; 3]>,
}

/// Hands every piece of the gradient to the task that computes it.
fn divide<'a, 'b, T: Element>(isa: Isa, saved: Saved<'a, T>, d_qkv: &'b mut [T]) -> Vec<Task<'a, 'b, T>> {
    let shape = saved.source.shape;
    let mut tasks: Vec<Task<'a, 'b, T>> = (0..shape.batch * shape.n_kv_heads)
        .map(|index| Task {
            isa,
            saved,
            sequence: index / shape.n_kv_heads,
            kv_head: index % shape.n_kv_heads,
            gradients: Vec::with_capacity(shape.time),
        })
        .collect();
    for (row, line) in d_qkv.chunks_mut(shape.qkv_width()).enumerate() {
        let (queries, rest) = line.split_at_mut(shape.q_width());
        let (keys, values) = rest.split_at_mut(shape.kv_width());
        let first = row / shape.time * shape.n_kv_heads;
        let of_queries = queries.chunks_mut(shape.group() * shape.head_dim);
        let of_keys = keys.chunks_mut(shape.head_dim).zip(values.chunks_mut(shape.head_dim));
        for ((task, queries), (key, value)) in tasks[first..].iter_mut().zip(of_queries).zip(of_keys) {
            task.gradients.push([queries, key, value]);
        }
    }
    tasks
}

impl<T: Element> Kernel for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { isa, saved, sequence, kv_head, mut gradients } = self;
        let Saved { source, out, log_sum_exp, d_out } = saved;
        let shape = source.shape;
        let (head_dim, width, n_tiles) = (shape.head_dim, tiles(shape.head_dim), tiles(shape.time));
        let first_row = sequence * shape.time;
        let segments = source.segments_of(sequence);
        let (k_column, v_column) = (shape.n_heads + kv_head, shape.n_heads + shape.n_kv_heads + kv_head);

        let mut memory = scratch::take((4 * n_tiles + 5) * width + 2 * BLOCK, width);
        let (keys, rest) = memory.tiles.split_at_mut(n_tiles * width);
        let (values, rest) = rest.split_at_mut(n_tiles * width);
        let (d_keys, rest) = rest.split_at_mut(n_tiles * width);
        let (d_values, rest) = rest.split_at_mut(n_tiles * width);
        let (queries, rest) = rest.split_at_mut(width);
        let (queries_across, rest) = rest.split_at_mut(width);
        let (d_outs, rest) = rest.split_at_mut(width);
        let (d_outs_across, rest) = rest.split_at_mut(width);
        let (d_queries, rest) = rest.split_at_mut(width);
        let (weights, rest) = rest.split_at_mut(BLOCK);
        let d_scores = &mut rest[..BLOCK];
        let line = memory.line.as_mut_slice();

        pack(shape.time, width, keys, line, |row| (source.head(first_row + row, k_column), source.angles(row), 1.0));
        pack(shape.time, width, values, line, |row| (source.head(first_row + row, v_column), None, 1.0));
        d_keys.fill(Tile::ZERO);
        d_values.fill(Tile::ZERO);

        let scale = shape.score_scale();
        for head in 0..shape.group() {
            let q_column = kv_head * shape.group() + head;
            let sums = &log_sum_exp[(sequence * shape.n_heads + q_column) * shape.time..][..shape.time];
            for query_tile in 0..n_tiles {
                let first = query_tile * LANES;
                let rows = (shape.time - first).min(LANES);
                let out_head = |row: usize| (first_row + first + row) * shape.q_width() + q_column * head_dim;
                pack(rows, width, queries, line, |row| (source.head(first_row + first + row, q_column), source.angles(first + row), scale));
                pack(rows, width, d_outs, line, |row| (&d_out[out_head(row)..][..head_dim], None, 1.0));
                for (across, tile) in queries_across.iter_mut().zip(&*queries) {
                    across.transpose_from(tile);
                }
                for (across, tile) in d_outs_across.iter_mut().zip(&*d_outs) {
                    across.transpose_from(tile);
                }
                // Lanes behind the last query keep zeros: whatever weight they get meets a gradient of zero.
                let mut base = [0.0; LANES];
                let mut mean = [0.0; LANES];
                for lane in 0..rows {
                    base[lane] = sums[first + lane];
                    mean[lane] = inner::<FMA, T, T>(&d_out[out_head(lane)..][..head_dim], &out[out_head(lane)..][..head_dim]);
                }
                d_queries.fill(Tile::ZERO);
                let visible = Visible::new(shape, segments, query_tile);
                let range = visible.key_tiles();
                for start in range.clone().step_by(BLOCK) {
                    let n = (range.end - start).min(BLOCK);
                    let (weights, d_scores) = (&mut weights[..n], &mut d_scores[..n]);
                    for (i, (weight, d_score)) in weights.iter_mut().zip(&mut *d_scores).enumerate() {
                        let key_tile = start + i;
                        let place = key_tile * width..(key_tile + 1) * width;
                        let seen = visible.seen(key_tile);
                        if seen == Seen::Nothing {
                            d_score.fill(0.0);
                            continue;
                        }
                        set_dot(isa, weight, &keys[place.clone()], queries_across, head_dim);
                        if seen == Seen::Part {
                            visible.hide(key_tile, weight);
                        }
                        set_dot(isa, d_score, &values[place.clone()], d_outs_across, head_dim);
                        differentiate::<FMA>(weight, d_score, &base, &mean);
                        add_dot(isa, &mut d_values[place.clone()], weight, d_outs, rows);
                        add_dot(isa, &mut d_keys[place], d_score, queries, rows);
                    }
                    add_outer(isa, d_queries, d_scores, &keys[start * width..]);
                }
                for (lane, [d_query, _, _]) in gradients[first..first + rows].iter_mut().enumerate() {
                    unpack(d_queries, lane, line);
                    let target = &mut d_query[head * head_dim..(head + 1) * head_dim];
                    turn_back(line, source.angles(first + lane), scale, target);
                }
            }
        }
        for (row, [_, d_key, d_value]) in gradients.iter_mut().enumerate() {
            let place = row / LANES * width..(row / LANES + 1) * width;
            unpack(&d_keys[place.clone()], row % LANES, line);
            // The queries carry the scale already.
            turn_back(line, source.angles(row), 1.0, d_key);
            unpack(&d_values[place], row % LANES, line);
            turn_back(line, None, 1.0, d_value);
        }
        scratch::keep(memory);
    }
}

/// From scores to weights, and from the gradient of the weights to that of the scores.
///
/// # Shapes
/// tiles of `[key, query]`; `base` (log-sum-exp) and `mean` (of the gradient, by weight) by query
#[inline(always)]
fn differentiate<const FMA: bool>(weight: &mut Tile, d_score: &mut Tile, base: &Lanes, mean: &Lanes) {
    for (weights, gradients) in weight.0.iter_mut().zip(&mut d_score.0) {
        for j in 0..LANES {
            weights[j] = exp::<FMA>(weights[j] - base[j]);
            gradients[j] = weights[j] * (gradients[j] - mean[j]);
        }
    }
}

/// The inner product of two rows, in a fixed order of lanes.
#[inline(always)]
pub(crate) fn inner<const FMA: bool, A: Element, B: Element>(a: &[A], b: &[B]) -> f32 {
    use crate::isa::fma;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for j in 0..LANES {
            sums[j] = fma::<FMA>(a[j].widen(), b[j].widen(), sums[j]);
        }
    }
    for (j, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[j] = fma::<FMA>(a.widen(), b.widen(), sums[j]);
    }
    fold_sum(sums)
}
