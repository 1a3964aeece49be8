//! The forward pass: tiles of scores, turned into weights under a running maximum, and never stored.

use rayon::prelude::*;

use crate::attention::error::{AttentionError, check_length};
use crate::attention::exp::exp;
use crate::attention::rotary::RotaryTable;
use crate::attention::scratch;
use crate::attention::shape::AttentionShape;
use crate::attention::source::{Source, pack, unpack};
use crate::attention::tile::{LANES, Lanes, Tile, add_outer, set_dot, tiles};
use crate::attention::visible::{Seen, Visible};
use crate::element::Element;
use crate::isa::{self, Isa, Kernel};

/// Key tiles whose scores are held at once.
const BLOCK: usize = 8;

/// With fewer pairs of sequence and key head than this, their query rows are divided among more tasks.
const ENOUGH_TASKS: usize = 16;

/// Causal attention of every query over the keys that it sees: `softmax(q k^T / sqrt(head_dim)) v`, with `q` and `k` turned by `rope` first.
///
/// A query sees the keys at and before its own position, of its own document if there are `segments`, and of its window if there is one.
///
/// # Shapes
/// `qkv` `[batch x time, (n_heads + 2 n_kv_heads) x head_dim]` (queries, keys, values), `segments` `[batch x time]` ->
/// `out` `[batch x time, n_heads x head_dim]`, `log_sum_exp` `[batch, n_heads, time]`: the natural logarithm of each row's sum of exponentials
///
/// # Errors
/// A shape without heads or dimensions, a buffer of another length, a rotary table that does not fit; nothing is written then.
pub fn forward<T: Element>(
    isa: Isa,
    shape: &AttentionShape,
    qkv: &[T],
    rope: Option<&RotaryTable>,
    segments: Option<&[u32]>,
    out: &mut [T],
    log_sum_exp: &mut [f32],
) -> Result<(), AttentionError> {
    let lengths = shape.check_inputs(qkv, rope, segments)?;
    check_length("out", lengths.out, out.len())?;
    check_length("log_sum_exp", lengths.log_sum_exp, log_sum_exp.len())?;
    if lengths.positions == 0 {
        return Ok(());
    }
    let source = Source { shape, qkv, rope, segments };
    divide(isa, source, 0, out, log_sum_exp).into_par_iter().with_max_len(1).for_each(|task| isa::run(isa, task));
    Ok(())
}

/// The same for the positions from `first` on of one sequence, whose queries and keys are turned already: how a text is read on. Each output has
/// the bits that [`forward`] gives it.
///
/// # Shapes
/// `qkv` `[time, (n_heads + 2 n_kv_heads) x head_dim]`, the queries before `first` finite and otherwise of no account ->
/// `out` `[time - first, n_heads x head_dim]`
///
/// # Errors
/// A shape of another number of sequences than one, without heads or dimensions, or with no position from `first` on; a buffer of another length.
/// Nothing is written then.
pub fn forward_from(isa: Isa, shape: &AttentionShape, first: usize, qkv: &[f32], out: &mut [f32]) -> Result<(), AttentionError> {
    shape.check_inputs(qkv, None, None)?;
    check_length("sequences", 1, shape.batch)?;
    if first >= shape.time {
        return Err(AttentionError::NoPositions);
    }
    check_length("out", (shape.time - first) * shape.q_width(), out.len())?;
    let source = Source { shape, qkv, rope: None, segments: None };
    divide(isa, source, first, out, &mut []).into_par_iter().with_max_len(1).for_each(|task| isa::run(isa, task));
    Ok(())
}

/// One share of the work: every `n_parts`-th query tile of the query heads that share one key head.
struct Task<'a, 'b, T> {
    isa: Isa,
    source: Source<'a, T>,
    sequence: usize,
    kv_head: usize,
    part: usize,
    n_parts: usize,
    /// The first position with an output.
    first: usize,
    /// Output of the group's heads at each of its positions, `[group x head_dim]` each.
    out: Vec<&'b mut [T]>,
    /// Of each head, of each of its query tiles.
    log_sum_exp: Vec<&'b mut [f32]>,
}

/// Hands every piece of the outputs to the task that computes it; those of a sequence begin with position `first`.
fn divide<'a, 'b, T: Element>(
    isa: Isa,
    source: Source<'a, T>,
    first: usize,
    out: &'b mut [T],
    log_sum_exp: &'b mut [f32],
) -> Vec<Task<'a, 'b, T>> {
    let shape = source.shape;
    let n_query_tiles = tiles(shape.time);
    let pairs = shape.batch * shape.n_kv_heads;
    let n_parts = ENOUGH_TASKS.div_ceil(pairs).min(n_query_tiles);
    let positions = (n_query_tiles.div_ceil(n_parts) * LANES).min(shape.time);
    let mut tasks: Vec<Task<'a, 'b, T>> = (0..pairs * n_parts)
        .map(|index| Task {
            isa,
            source,
            sequence: index / n_parts / shape.n_kv_heads,
            kv_head: index / n_parts % shape.n_kv_heads,
            part: index % n_parts,
            n_parts,
            first,
            out: Vec::with_capacity(positions),
            log_sum_exp: Vec::with_capacity(shape.group() * n_query_tiles.div_ceil(n_parts)),
        })
        .collect();
    for (row, line) in out.chunks_mut(shape.q_width()).enumerate() {
        let n_rows = shape.time - first;
        let (sequence, position) = (row / n_rows, first + row % n_rows);
        let part = position / LANES % n_parts;
        for (kv_head, piece) in line.chunks_mut(shape.group() * shape.head_dim).enumerate() {
            tasks[(sequence * shape.n_kv_heads + kv_head) * n_parts + part].out.push(piece);
        }
    }
    for (head, line) in log_sum_exp.chunks_mut(shape.time).enumerate() {
        for (query_tile, piece) in line.chunks_mut(LANES).enumerate() {
            tasks[head / shape.group() * n_parts + query_tile % n_parts].log_sum_exp.push(piece);
        }
    }
    tasks
}

impl<T: Element> Kernel for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { isa, source, sequence, kv_head, part, n_parts, first: first_position, mut out, log_sum_exp } = self;
        if out.is_empty() {
            return;
        }
        let shape = source.shape;
        let (head_dim, width, n_tiles) = (shape.head_dim, tiles(shape.head_dim), tiles(shape.time));
        let first_row = sequence * shape.time;
        let segments = source.segments_of(sequence);
        let (k_column, v_column) = (shape.n_heads + kv_head, shape.n_heads + shape.n_kv_heads + kv_head);

        let mut memory = scratch::take((2 * n_tiles + 3) * width + BLOCK, width);
        let (keys, rest) = memory.tiles.split_at_mut(n_tiles * width);
        let (values, rest) = rest.split_at_mut(n_tiles * width);
        let (queries, rest) = rest.split_at_mut(width);
        let (queries_across, rest) = rest.split_at_mut(width);
        let (mixed, rest) = rest.split_at_mut(width);
        let line = memory.line.as_mut_slice();
        let scores = &mut rest[..BLOCK];

        pack(shape.time, width, keys, line, |row| (source.head(first_row + row, k_column), source.angles(row), 1.0));
        pack(shape.time, width, values, line, |row| (source.head(first_row + row, v_column), None, 1.0));

        let scale = shape.score_scale();
        let mut sums = log_sum_exp.into_iter();
        for head in 0..shape.group() {
            let q_column = kv_head * shape.group() + head;
            let mut done = 0;
            for query_tile in (part..n_tiles).step_by(n_parts) {
                let first = query_tile * LANES;
                let rows = (shape.time - first).min(LANES);
                let skipped = first_position.saturating_sub(first);
                if skipped >= rows {
                    continue;
                }
                pack(rows, width, queries, line, |row| (source.head(first_row + first + row, q_column), source.angles(first + row), scale));
                for (across, tile) in queries_across.iter_mut().zip(&*queries) {
                    across.transpose_from(tile);
                }
                mixed.fill(Tile::ZERO);
                let mut greatest = [f32::NEG_INFINITY; LANES];
                let mut total = [0.0; LANES];
                let visible = Visible::new(shape, segments, query_tile);
                let range = visible.key_tiles();
                for start in range.clone().step_by(BLOCK) {
                    let scores = &mut scores[..(range.end - start).min(BLOCK)];
                    for (i, tile) in scores.iter_mut().enumerate() {
                        let key_tile = start + i;
                        let seen = visible.seen(key_tile);
                        if seen == Seen::Nothing {
                            tile.fill(f32::NEG_INFINITY);
                            continue;
                        }
                        set_dot(isa, tile, &keys[key_tile * width..(key_tile + 1) * width], queries_across, head_dim);
                        if seen == Seen::Part {
                            visible.hide(key_tile, tile);
                        }
                    }
                    let shrink = weigh::<FMA>(scores, &mut greatest, &mut total);
                    for tile in &mut *mixed {
                        for (row, factor) in tile.0.iter_mut().zip(shrink) {
                            for element in row {
                                *element *= factor;
                            }
                        }
                    }
                    add_outer(isa, mixed, scores, &values[start * width..]);
                }
                if let Some(sums) = sums.next() {
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        *sum = greatest[lane] + libm::logf(total[lane]);
                    }
                }
                for (lane, piece) in (skipped..rows).zip(&mut out[done..]) {
                    unpack(mixed, lane, line);
                    let inverse = 1.0 / total[lane];
                    for (to, from) in piece[head * head_dim..(head + 1) * head_dim].iter_mut().zip(&*line) {
                        *to = T::narrow(from * inverse);
                    }
                }
                done += rows - skipped;
            }
        }
        scratch::keep(memory);
    }
}

/// Turns scores into weights relative to the greatest score so far, and returns what earlier weights must be multiplied by.
///
/// # Shapes
/// `scores` tiles of `[key, query]`; `greatest`, `total` and the result by query
#[inline(always)]
fn weigh<const FMA: bool>(scores: &mut [Tile], greatest: &mut Lanes, total: &mut Lanes) -> Lanes {
    let before = *greatest;
    let mut top = before;
    for row in scores.iter().flat_map(|tile| &tile.0) {
        for j in 0..LANES {
            top[j] = if row[j] > top[j] { row[j] } else { top[j] };
        }
    }
    let mut shrink = [0.0; LANES];
    let mut base = [0.0; LANES];
    for j in 0..LANES {
        // Before the first key that counts the maximum is minus infinity, from which nothing can be subtracted.
        base[j] = if top[j] == f32::NEG_INFINITY { 0.0 } else { top[j] };
        shrink[j] = exp::<FMA>(before[j] - base[j]);
    }
    let mut added = [0.0; LANES];
    for row in scores.iter_mut().flat_map(|tile| &mut tile.0) {
        for j in 0..LANES {
            row[j] = exp::<FMA>(row[j] - base[j]);
            added[j] += row[j];
        }
    }
    for j in 0..LANES {
        total[j] = total[j] * shrink[j] + added[j];
    }
    *greatest = top;
    shrink
}
