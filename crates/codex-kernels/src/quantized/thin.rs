//! A few rows by the 8-bit values, which are widened in registers as they are read.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::avx2::Avx2;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::avx512::{Avx512, Proof, WideKernel};
use crate::gemm::{k_block, parts};
use crate::quantized::lanes::{Lanes, Portable};
use crate::quantized::matrix::{BLOCK, Panel, QuantizedMatrix, WIDTH};

/// Some rows of the input, packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group<'t> {
    pub(crate) first_row: usize,
    pub(crate) n_rows: usize,
    /// The number of rows rounded up to a power of two.
    pub(crate) width: usize,
    /// `[inputs, width]`, zero beyond the last row.
    pub(crate) x: &'t [f32],
}

/// The part of the output that one task computes: all rows of some whole panels.
#[derive(Debug)]
pub(crate) struct Area<'o> {
    /// A multiple of [`WIDTH`].
    pub(crate) first_output: usize,
    pub(crate) cols: usize,
    /// The rows, cut to these columns.
    pub(crate) rows: Vec<&'o mut [f32]>,
}

/// One task.
pub(crate) struct ThinTask<'t, 'o> {
    pub(crate) weights: &'t QuantizedMatrix,
    pub(crate) groups: &'t [Group<'t>],
    pub(crate) bias: Option<&'t [f32]>,
    pub(crate) area: &'t mut Area<'o>,
}

/// A path that does tasks.
pub(crate) trait ThinPath {
    /// Rows whose sums are kept in registers together, a power of two.
    const ROWS: usize;
    /// Most rows for which this is quicker than to dequantize the weights and pack them for all rows.
    const MOST_ROWS: usize;
    /// Does one.
    fn run(task: ThinTask<'_, '_>);
}

impl ThinPath for Portable {
    const ROWS: usize = 4;
    const MOST_ROWS: usize = 16;

    fn run(task: ThinTask<'_, '_>) {
        task.multiply_in_eight(Self);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
impl ThinPath for Avx2 {
    const ROWS: usize = 4;
    const MOST_ROWS: usize = 32;

    fn run(task: ThinTask<'_, '_>) {
        Self::run(task);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
impl WideKernel<Avx2> for ThinTask<'_, '_> {
    #[inline(always)]
    fn run(self, proof: Avx2) {
        self.multiply_in_eight(proof);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
impl ThinPath for Avx512 {
    const ROWS: usize = 8;
    const MOST_ROWS: usize = 32;

    fn run(task: ThinTask<'_, '_>) {
        <Self as Proof>::run(task);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
impl WideKernel<Avx512> for ThinTask<'_, '_> {
    /// With up to sixteen of 32 registers for sums.
    #[inline(always)]
    fn run(mut self, proof: Avx512) {
        for (panel, col) in self.panels() {
            for group in self.groups {
                match group.width {
                    1 => self.multiply::<_, 1, 4>(proof, panel, col, group),
                    2 => self.multiply::<_, 2, 4>(proof, panel, col, group),
                    4 => self.multiply::<_, 4, 4>(proof, panel, col, group),
                    _ => self.multiply::<_, 8, 2>(proof, panel, col, group),
                }
            }
        }
    }
}

impl<'t> ThinTask<'t, '_> {
    /// The panels, and the column of the area at which each begins.
    #[inline(always)]
    fn panels(&self) -> impl Iterator<Item = (Panel<'t>, usize)> + use<'t> {
        let (weights, first) = (self.weights, self.area.first_output / WIDTH);
        (0..self.area.cols.div_ceil(WIDTH)).map(move |idx| (weights.panel(first + idx), idx * WIDTH))
    }

    /// The whole task, with eight of 16 registers for sums.
    #[inline(always)]
    fn multiply_in_eight<L: Lanes>(mut self, lanes: L) {
        for (panel, col) in self.panels() {
            for group in self.groups {
                match group.width {
                    1 => self.multiply::<L, 1, 8>(lanes, panel, col, group),
                    2 => self.multiply::<L, 2, 4>(lanes, panel, col, group),
                    _ => self.multiply::<L, 4, 2>(lanes, panel, col, group),
                }
            }
        }
    }

    /// Writes the outputs of one panel, which begins at a column of the area, for one group of `R` rows, `V` vectors of outputs at a time.
    #[inline(always)]
    fn multiply<L: Lanes, const R: usize, const V: usize>(&mut self, lanes: L, panel: Panel<'_>, col: usize, group: &Group<'_>) {
        let cols = WIDTH.min(self.area.cols - col);
        let (x, _) = group.x.as_chunks::<R>();
        let mut lines = [[0.0; WIDTH]; R];
        for first in (0..cols.div_ceil(L::COUNT)).step_by(V) {
            for (start, depth) in parts(0, x.len(), k_block(x.len())) {
                let sums = block_sums::<L, R, V>(lanes, panel, x, first, start, depth);
                for row in 0..R {
                    for (vector, &sum) in (first..).zip(&sums[row]) {
                        let total = if start == 0 { sum } else { lanes.add(lanes.load(&lines[row], vector), sum) };
                        lanes.store(total, &mut lines[row], vector);
                    }
                }
            }
        }
        for (line, out) in lines.iter().zip(&mut self.area.rows[group.first_row..][..group.n_rows]) {
            let out = &mut out[col..][..cols];
            out.copy_from_slice(&line[..cols]);
            if let Some(bias) = self.bias {
                let bias = &bias[self.area.first_output + col..][..cols];
                out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            }
        }
    }
}

/// The sums of `V` vectors of a panel's outputs, from vector `first` on, over `depth` inputs, each in their order.
#[inline(always)]
fn block_sums<L: Lanes, const R: usize, const V: usize>(
    lanes: L,
    panel: Panel<'_>,
    x: &[[f32; R]],
    first: usize,
    start: usize,
    depth: usize,
) -> [[L::Vector; V]; R] {
    let mut sums = [[lanes.zero(); V]; R];
    for (start, end) in scaled_runs(start, depth) {
        let scales = &panel.scales[start / BLOCK];
        for (values, x) in panel.values[start..end].iter().zip(&x[start..end]) {
            let mut weights = [lanes.zero(); V];
            for (vector, weights) in (first..).zip(&mut weights) {
                *weights = lanes.mul(lanes.load_values(values, vector), lanes.load(scales, vector));
            }
            for row in 0..R {
                let x = lanes.splat(x[row]);
                for vector in 0..V {
                    sums[row][vector] = lanes.fma(x, weights[vector], sums[row][vector]);
                }
            }
        }
    }
    sums
}

/// The runs of inputs within `start..start + depth` that have one scale each.
#[inline(always)]
fn scaled_runs(start: usize, depth: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = start + depth;
    (start / BLOCK..end.div_ceil(BLOCK)).map(move |block| (start.max(block * BLOCK), end.min((block + 1) * BLOCK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_the_scale_changes() {
        assert_eq!(scaled_runs(0, 70).collect::<Vec<_>>(), [(0, 32), (32, 64), (64, 70)]);
        assert_eq!(scaled_runs(24, 24).collect::<Vec<_>>(), [(24, 32), (32, 48)]);
        assert_eq!(scaled_runs(40, 8).collect::<Vec<_>>(), [(40, 48)]);
        assert_eq!(scaled_runs(32, 0).count(), 0);
    }
}
