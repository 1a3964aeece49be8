//! Products with a quantized matrix and with its transpose: checks, tasks, and what is dequantized for products of many rows.

use rayon::prelude::*;

#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::avx2::Avx2;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::avx512::Avx512;
use crate::error::{check_length, count_rows};
use crate::gemm::{Epilogue, Precision, Scratch, View, ViewMut, gemm, parts};
use crate::isa::Isa;
use crate::quantized::error::QuantizedError;
use crate::quantized::lanes::Portable;
use crate::quantized::matrix::{BLOCK, QuantizedMatrix, WIDTH};
use crate::quantized::thin::{Area, Group, ThinPath, ThinTask};

/// Multiply-adds below which a product stays on its thread: waking another costs more than it saves.
const PARALLEL_MIN: usize = 1 << 16;
/// Weights of a task, if one panel has not more already: a few microseconds of reading.
const TASK_WEIGHTS: usize = 1 << 16;
/// Weights that are dequantized at once (4 MB), if one panel or one block of inputs has not more already.
const DEQUANTIZED_MAX: usize = 1 << 20;

thread_local! {
    /// Inputs in the order in which they are used, or dequantized weights.
    static KEPT: Scratch<f32> = const { Scratch::new() };
}

/// `out = x W + bias` for each row.
///
/// Up to 32 rows (16 on [`Isa::Portable`]) are multiplied by the 8-bit values as they are read, once from memory for all of them; for more rows, some
/// columns at a time are dequantized into 4 MB that the thread keeps, or what 64 columns take. It runs on the current rayon pool; an `isa` that this
/// machine lacks is replaced by [`Isa::Portable`].
///
/// # Shapes
/// `x` `[rows, inputs]`, `bias` `[outputs]` -> `out` `[rows, outputs]`
///
/// # Errors
/// [`RowsError::NotRows`](crate::RowsError::NotRows) or [`RowsError::Length`](crate::RowsError::Length); nothing is written then.
///
/// # Examples
/// ```
/// # use codex_kernels::Isa;
/// # use codex_kernels::quantized::{QuantizedError, QuantizedMatrix, multiply};
/// // With one input, each weight is 127 times its scale, and these are exact.
/// let weights = QuantizedMatrix::quantize(Isa::detect(), &[127.0, -254.0], 1, 2)?;
/// let mut out = [0.0; 2];
/// multiply(Isa::detect(), &[0.5], &weights, Some(&[1.0, 1.0]), &mut out)?;
/// assert_eq!(out, [64.5, -126.0]);
/// # Ok::<(), QuantizedError>(())
/// ```
pub fn multiply(isa: Isa, x: &[f32], weights: &QuantizedMatrix, bias: Option<&[f32]>, out: &mut [f32]) -> Result<(), QuantizedError> {
    let (operation, outputs) = ("quantized product", weights.outputs());
    let rows = count_rows(operation, "x", weights.inputs(), x.len())?;
    check_length(operation, "out", rows.saturating_mul(outputs), out.len())?;
    check_length(operation, "bias", outputs, bias.map_or(outputs, <[f32]>::len))?;
    let isa = if isa.is_available() { isa } else { Isa::Portable };
    match isa {
        _ if rows == 0 => Ok(()),
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        Isa::Avx512 | Isa::Avx512Bf16 => multiply_on::<Avx512>(isa, x, weights, bias, out),
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        Isa::Avx2 => multiply_on::<Avx2>(isa, x, weights, bias, out),
        _ => multiply_on::<Portable>(isa, x, weights, bias, out),
    }
}

/// The product in the way that suits the number of rows; both have the same bits.
fn multiply_on<P: ThinPath>(
    isa: Isa,
    x: &[f32],
    weights: &QuantizedMatrix,
    bias: Option<&[f32]>,
    out: &mut [f32],
) -> Result<(), QuantizedError> {
    if x.len() / weights.inputs() > P::MOST_ROWS {
        return multiply_dequantized(isa, x, weights, bias, out);
    }
    multiply_directly::<P>(x, weights, bias, out);
    Ok(())
}

/// `out = gradient W^T` for each row: the gradient of `x` from that of `x W`.
///
/// Some rows of the matrix at a time are dequantized into 4 MB that the thread keeps, or what 32 rows take. It runs on the current rayon pool.
///
/// # Shapes
/// `gradient` `[rows, outputs]` -> `out` `[rows, inputs]`
///
/// # Errors
/// [`RowsError::NotRows`](crate::RowsError::NotRows) or [`RowsError::Length`](crate::RowsError::Length); nothing is written then.
pub fn multiply_transposed(isa: Isa, gradient: &[f32], weights: &QuantizedMatrix, out: &mut [f32]) -> Result<(), QuantizedError> {
    let (operation, inputs, outputs) = ("quantized product's gradient", weights.inputs(), weights.outputs());
    let rows = count_rows(operation, "gradient", outputs, gradient.len())?;
    check_length(operation, "out", rows.saturating_mul(inputs), out.len())?;
    if rows == 0 {
        return Ok(());
    }
    let at_once = (DEQUANTIZED_MAX / outputs / BLOCK * BLOCK).max(BLOCK);
    let gradient = View::new(gradient, rows, outputs)?;
    KEPT.with(|scratch| {
        scratch.with(at_once.min(inputs) * outputs, |kept| {
            for (first, n) in parts(0, inputs, at_once) {
                let kept = &mut kept[..n * outputs];
                weights.dequantize_part(isa, first, 0, outputs, kept);
                let to = ViewMut::with_row_stride(&mut out[first..], rows, n, inputs)?;
                gemm(isa, Precision::F32, gradient, View::new(&*kept, n, outputs)?.transposed(), to, Epilogue::store())?;
            }
            Ok(())
        })
    })
}

/// Any number of rows, some panels of the matrix at a time.
fn multiply_dequantized(
    isa: Isa,
    x: &[f32],
    weights: &QuantizedMatrix,
    bias: Option<&[f32]>,
    out: &mut [f32],
) -> Result<(), QuantizedError> {
    let (inputs, outputs) = (weights.inputs(), weights.outputs());
    let rows = x.len() / inputs;
    let at_once = (DEQUANTIZED_MAX / inputs / WIDTH * WIDTH).max(WIDTH);
    let x = View::new(x, rows, inputs)?;
    KEPT.with(|scratch| {
        scratch.with(at_once.min(outputs) * inputs, |kept| {
            for (first, n) in parts(0, outputs, at_once) {
                let kept = &mut kept[..n * inputs];
                weights.dequantize_part(isa, 0, first / WIDTH, n, kept);
                let to = ViewMut::with_row_stride(&mut out[first..], rows, n, outputs)?;
                let epilogue = bias.map_or_else(Epilogue::store, |bias| Epilogue::store().with_bias(&bias[first..][..n]));
                gemm(isa, Precision::F32, x, View::new(&*kept, inputs, n)?, to, epilogue)?;
            }
            Ok(())
        })
    })
}

/// A few rows, by the 8-bit values; a task has some panels and all rows.
fn multiply_directly<P: ThinPath>(x: &[f32], weights: &QuantizedMatrix, bias: Option<&[f32]>, out: &mut [f32]) {
    let (inputs, outputs) = (weights.inputs(), weights.outputs());
    let rows = x.len() / inputs;
    let task_panels = (TASK_WEIGHTS / (inputs * WIDTH)).max(1);
    let mut tasks: Vec<Area<'_>> = parts(0, outputs, task_panels * WIDTH)
        .map(|(first_output, cols)| Area { first_output, cols, rows: Vec::with_capacity(rows) })
        .collect();
    for row in out.chunks_exact_mut(outputs) {
        for (task, piece) in tasks.iter_mut().zip(row.chunks_mut(task_panels * WIDTH)) {
            task.rows.push(piece);
        }
    }
    let groups = || parts(0, rows, P::ROWS).map(|(first_row, n)| (first_row, n, n.next_power_of_two()));
    KEPT.with(|scratch| {
        scratch.with(groups().map(|(_, _, width)| width * inputs).sum(), |kept| {
            let mut rest = kept;
            let mut packed = Vec::new();
            for (first_row, n_rows, width) in groups() {
                let (x_of_group, later) = rest.split_at_mut(width * inputs);
                rest = later;
                pack_rows(&x[first_row * inputs..][..n_rows * inputs], inputs, width, x_of_group);
                packed.push(Group { first_row, n_rows, width, x: x_of_group });
            }
            let work = |area: &mut Area<'_>| P::run(ThinTask { weights, groups: &packed, bias, area });
            if rows * inputs * outputs >= PARALLEL_MIN && tasks.len() > 1 && rayon::current_num_threads() > 1 {
                tasks.par_iter_mut().with_max_len(1).for_each(work);
            } else {
                tasks.iter_mut().for_each(work);
            }
        });
    });
}

/// Puts the rows' numbers for one input beside each other, with zeros for rows up to `width`.
fn pack_rows(x: &[f32], inputs: usize, width: usize, to: &mut [f32]) {
    to.fill(0.0);
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        for (to, x) in to[row..].iter_mut().step_by(width).zip(x) {
            *to = *x;
        }
    }
}
