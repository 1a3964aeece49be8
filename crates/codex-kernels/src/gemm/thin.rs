//! Products of a few rows, as generation makes them: `b` is read once, so it is not worth packing.

use half::bf16;

use crate::gemm::elements::{Element, Precision, rounded};
use crate::gemm::pack::{Lines, Range, Stored};
use crate::gemm::plan::{k_block, parts};
use crate::gemm::product::Product;
use crate::gemm::tile::{Area, tile};
use crate::isa::{Kernel, fma};

/// Most rows of a thin product.
pub(crate) const THIN_ROWS: usize = 4;
/// Columns of a task: the sums of four rows take 8 KB of the L1 cache, and 2 KB of each row of `b` are read in one go.
pub(crate) const THIN_COLS: usize = 512;
/// Rows so few that their sums leave room for longer runs of `b`.
pub(crate) const FEW_ROWS: usize = 2;
/// Columns of a task of [`FEW_ROWS`]: 8 KB of each row of `b` are read in one go.
pub(crate) const FEW_ROWS_COLS: usize = 2048;

/// Columns of each task of a product of `m` rows and `n` columns: an even number of tasks, all of one width, so that no thread waits for
/// another's larger one.
pub(crate) fn thin_cols(m: usize, n: usize) -> usize {
    let most = if m <= FEW_ROWS { FEW_ROWS_COLS } else { THIN_COLS };
    let tasks = n.div_ceil(most).next_multiple_of(2).max(2);
    n.div_ceil(tasks).next_multiple_of(16).min(most)
}

/// Rows of `b` that are added at once, so that sums are loaded and stored once for them.
const TERMS: usize = 8;

/// One task: all terms of an area of at most [`THIN_ROWS`] rows and as many columns as [`thin_cols`] says.
pub(crate) struct ThinKernel<'t, 'o, const NR: usize> {
    pub(crate) product: &'t Product<'t>,
    /// Room for one panel of `b` and one of `a` over one block.
    pub(crate) packed: &'t mut [f32],
    pub(crate) area: &'t mut Area<'o>,
}

impl<const NR: usize> ThinKernel<'_, '_, NR> {
    /// Elements of `packed` for `k` terms.
    pub(crate) fn packed_len(k: usize) -> usize {
        k_block(k) * (NR + THIN_ROWS)
    }
}

impl<const NR: usize> Kernel for ThinKernel<'_, '_, NR> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { product, packed, area } = self;
        let &Product { a, b, k, precision, .. } = product;
        for (k_start, depth) in parts(0, k, k_block(k)) {
            let merge = product.merge(k_start, depth);
            let (packed_a, packed_b) = packed.split_at_mut(depth * THIN_ROWS);
            let range = Range { first: area.first_row, count: area.rows.len(), k_start, depth };
            a.pack::<THIN_ROWS>(precision, range, packed_a);
            if b.terms_contiguous() {
                let packed_b = &mut packed_b[..depth * NR];
                for col in (0..area.cols).step_by(NR) {
                    let cols = NR.min(area.cols - col);
                    b.pack::<NR>(precision, Range { first: area.first_col + col, count: cols, ..range }, packed_b);
                    let sums = tile::<FMA, THIN_ROWS, NR>(packed_a, packed_b);
                    for (line, (sums, out)) in sums.iter().zip(&mut area.rows).enumerate() {
                        merge.merge(&sums[..cols], area.first_row + line, area.first_col + col, &mut out[col..][..cols]);
                    }
                }
            } else {
                let mut sums = [0.0; FEW_ROWS * FEW_ROWS_COLS];
                match (b.stored(), precision) {
                    (Stored::F32(b), Precision::F32 | Precision::F16) => sweep::<FMA, _>(packed_a, b, f32::widen, area, k_start, &mut sums),
                    (Stored::F32(b), Precision::Bf16) => sweep::<FMA, _>(packed_a, b, rounded, area, k_start, &mut sums),
                    (Stored::Bf16(b), _) => sweep::<FMA, _>(packed_a, b, bf16::widen, area, k_start, &mut sums),
                }
                for (line, (sums, out)) in sums.chunks(area.cols.max(1)).zip(&mut area.rows).enumerate() {
                    merge.merge(sums, area.first_row + line, area.first_col, out);
                }
            }
        }
        area.narrow();
    }
}

/// Adds one block of terms to the sums, one row of the area's width after the other, a few whole rows of `b` at a time: memory is read in the order in which it lies.
#[inline(always)]
fn sweep<const FMA: bool, T: Copy>(
    packed_a: &[f32],
    b: Lines<'_, T>,
    to_f32: impl Fn(T) -> f32 + Copy,
    area: &Area<'_>,
    k_start: usize,
    sums: &mut [f32],
) {
    let (first, cols, n_rows) = (area.first_col, area.cols, area.rows.len());
    let (terms, _) = packed_a.as_chunks::<THIN_ROWS>();
    let (groups, rest) = terms.as_chunks::<TERMS>();
    for (group, a) in groups.iter().enumerate() {
        let b: [&[T]; TERMS] = std::array::from_fn(|term| b.part(k_start + group * TERMS + term, first, cols));
        for (row, sums) in sums.chunks_exact_mut(cols.max(1)).enumerate().take(n_rows) {
            for (col, sum) in sums.iter_mut().enumerate() {
                let mut total = *sum;
                for term in 0..TERMS {
                    total = fma::<FMA>(a[term][row], to_f32(b[term][col]), total);
                }
                *sum = total;
            }
        }
    }
    for (term, a) in rest.iter().enumerate() {
        let b = b.part(k_start + groups.len() * TERMS + term, first, cols);
        for (row, sums) in sums.chunks_exact_mut(cols.max(1)).enumerate().take(n_rows) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = fma::<FMA>(a[row], to_f32(*b), *sum);
            }
        }
    }
}
