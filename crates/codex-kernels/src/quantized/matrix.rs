//! The matrix: panels of 64 outputs, whose values for one input are neighbours, so that memory is read in the order in which it lies.

use std::fmt;

use half::f16;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::buffer::unset;
use crate::error::check_length;
use crate::grid::TASK_ELEMENTS;
use crate::isa::{Isa, Kernel, run};
use crate::quantized::error::QuantizedError;

/// Outputs of a panel: their values for one input fill a cache line.
pub(crate) const WIDTH: usize = 64;
/// Inputs that share a scale.
pub(crate) const BLOCK: usize = 32;
/// The largest value.
const LEVELS: f32 = 127.0;
/// Weights below it have a finite scale: what it is divided by [`LEVELS`] is the first number that f16 rounds to infinity.
const LIMIT: f32 = LEVELS * 65520.0;
/// Rows that one task dequantizes, at least: runs of half a kilobyte of a panel.
const MIN_TASK_ROWS: usize = 8;

/// A weight matrix `[inputs, outputs]` of `y = x W`, as 8-bit values with a scale for each 32 consecutive inputs of an output.
///
/// It takes 9 bits per weight; outputs are padded with zeros to a multiple of 64, and the last block of inputs may be shorter.
#[derive(Clone, PartialEq)]
pub struct QuantizedMatrix {
    inputs: usize,
    outputs: usize,
    /// `[panel, input]`
    values: Vec<[i8; WIDTH]>,
    /// `[panel, block of inputs]`
    scales: Vec<[f32; WIDTH]>,
}

impl QuantizedMatrix {
    /// Quantizes `values`, `[inputs, outputs]` row by row; every path gives the same numbers.
    ///
    /// # Errors
    /// [`QuantizedError::NoElements`]; [`RowsError::Length`](crate::RowsError::Length); [`QuantizedError::Weight`] for the first number that is not
    /// finite or is 8.3 million or more in magnitude.
    pub fn quantize(isa: Isa, values: &[f32], inputs: usize, outputs: usize) -> Result<Self, QuantizedError> {
        if inputs == 0 || outputs == 0 {
            return Err(QuantizedError::NoElements { inputs, outputs });
        }
        check_length("quantization", "values", inputs.saturating_mul(outputs), values.len())?;
        if let Some(index) = first_beyond_limit(values) {
            let (input, output) = (index / outputs, index % outputs);
            return Err(QuantizedError::Weight { input, output, found: values[index], limit: LIMIT });
        }
        let (n_panels, n_blocks) = (outputs.div_ceil(WIDTH), inputs.div_ceil(BLOCK));
        let mut matrix =
            Self { inputs, outputs, values: vec![[0; WIDTH]; n_panels * inputs], scales: vec![[0.0; WIDTH]; n_panels * n_blocks] };
        let panels = matrix.values.par_chunks_mut(inputs).zip(matrix.scales.par_chunks_mut(n_blocks));
        panels.enumerate().for_each(|(panel, (to, scales))| {
            let first_output = panel * WIDTH;
            run(isa, Quantize { from: values, outputs, first_output, to, scales });
        });
        Ok(matrix)
    }

    /// Rows of the matrix: numbers that go into a product for each row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of the matrix: numbers that come out of a product for each row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Memory that values and scales take, in bytes, with the padding.
    pub fn bytes(&self) -> usize {
        size_of_val(self.values.as_slice()) + size_of_val(self.scales.as_slice())
    }

    /// The weights that the values stand for, each a value times its scale, which is exact: `[inputs, outputs]` row by row.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut to = unset(self.inputs * self.outputs);
        self.dequantize_part(Isa::detect(), 0, 0, self.outputs, &mut to);
        to
    }

    /// Writes the weights of some inputs from `first_input` on and of `n_outputs` from the first of a panel on: `to` is `[inputs, n_outputs]`.
    pub(crate) fn dequantize_part(&self, isa: Isa, first_input: usize, first_panel: usize, n_outputs: usize, to: &mut [f32]) {
        let n = (TASK_ELEMENTS / n_outputs).clamp(MIN_TASK_ROWS, BLOCK);
        to.par_chunks_mut(n * n_outputs).enumerate().for_each(|(task, to)| {
            run(isa, Dequantize { matrix: self, first_input: first_input + task * n, first_panel, n_outputs, to });
        });
    }

    /// The outputs from `64 index` on.
    #[inline(always)]
    pub(crate) fn panel(&self, index: usize) -> Panel<'_> {
        let n_blocks = self.inputs.div_ceil(BLOCK);
        Panel { values: &self.values[index * self.inputs..][..self.inputs], scales: &self.scales[index * n_blocks..][..n_blocks] }
    }
}

impl fmt::Debug for QuantizedMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuantizedMatrix").field("inputs", &self.inputs).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

/// Some neighbouring outputs.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    /// For each input.
    pub(crate) values: &'a [[i8; WIDTH]],
    /// For each block of inputs.
    pub(crate) scales: &'a [[f32; WIDTH]],
}

/// Where the first number stands that has no finite scale.
fn first_beyond_limit(values: &[f32]) -> Option<usize> {
    // NaN is not below the limit either.
    let is_beyond = |value: &f32| !matches!(value.abs().partial_cmp(&LIMIT), Some(std::cmp::Ordering::Less));
    let in_chunk = |(chunk, values): (usize, &[f32])| values.iter().position(is_beyond).map(|index| chunk * TASK_ELEMENTS + index);
    values.par_chunks(TASK_ELEMENTS).enumerate().find_map_first(in_chunk)
}

/// Quantizes one panel.
struct Quantize<'t> {
    /// `[inputs, outputs]`
    from: &'t [f32],
    outputs: usize,
    first_output: usize,
    to: &'t mut [[i8; WIDTH]],
    scales: &'t mut [[f32; WIDTH]],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let n = WIDTH.min(self.outputs - self.first_output);
        let blocks = self.from.chunks(BLOCK * self.outputs).zip(self.to.chunks_mut(BLOCK)).zip(self.scales);
        for ((from, to), scales) in blocks {
            let rows = || from.chunks_exact(self.outputs).map(|row| &row[self.first_output..][..n]);
            let mut largest = [0.0_f32; WIDTH];
            for row in rows() {
                for (largest, value) in largest.iter_mut().zip(row) {
                    *largest = largest.max(value.abs());
                }
            }
            let scale = largest.map(|largest| largest / LEVELS);
            let inverse = scale.map(|scale| if scale == 0.0 { 0.0 } else { 1.0 / scale });
            *scales = scale.map(|scale| f16::from_f32(scale).to_f32());
            for (row, to) in rows().zip(to) {
                for ((to, value), inverse) in to.iter_mut().zip(row).zip(&inverse) {
                    // Where the inverse is infinite, the scale is zero in f16 and any value means zero.
                    *to = (value * inverse).round() as i8;
                }
            }
        }
    }
}

/// Dequantizes some inputs of some panels.
struct Dequantize<'t> {
    matrix: &'t QuantizedMatrix,
    first_input: usize,
    first_panel: usize,
    n_outputs: usize,
    /// `[inputs, n_outputs]`
    to: &'t mut [f32],
}

impl Kernel for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (idx, first) in (0..self.n_outputs).step_by(WIDTH).enumerate() {
            let panel = self.matrix.panel(self.first_panel + idx);
            let n = WIDTH.min(self.n_outputs - first);
            for (row, input) in self.to.chunks_exact_mut(self.n_outputs).zip(self.first_input..) {
                let (values, scales) = (&panel.values[input], &panel.scales[input / BLOCK]);
                let to = &mut row[first..][..n];
                if let Some(to) = to.first_chunk_mut::<WIDTH>() {
                    *to = std::array::from_fn(|lane| f32::from(values[lane]) * scales[lane]);
                } else {
                    for ((to, &value), scale) in to.iter_mut().zip(values).zip(scales) {
                        *to = f32::from(value) * scale;
                    }
                }
            }
        }
    }
}
