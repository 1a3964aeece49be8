//! Products of a few rows, as generation makes them: `b` is read once, in the order in which it lies.

use crate::avx512::{Avx512, LANES, Pair, Proof, Vector, WideKernel};
use crate::gemm::elements::Precision;
use crate::gemm::pack::{Lines, Range, Stored};
use crate::gemm::plan::{k_block, parts};
use crate::gemm::product::Product;
use crate::gemm::thin::{FEW_ROWS, FEW_ROWS_COLS, THIN_COLS};
use crate::gemm::tile::{Area, Merge};
use crate::gemm::wide::pack::{LINE_BYTES, Narrowed, PackAny, Paired, Rounded, Same, Source, Widened};
use crate::gemm::wide::{COLS, Place, ROWS, Terms, TileRows, VECTORS, merge_each, merge_rows, tile};

/// Most rows of a thin product.
pub(super) const THIN_ROWS: usize = 8;
/// Steps whose rows of `b` are added at once, so that sums are loaded and stored once for them.
const STEPS: usize = 8;

/// Room for a panel of `a` and one of `b` over one block.
pub(super) fn packed_len<P: Terms>(k: usize) -> usize {
    P::steps(k_block(k)) * (ROWS + COLS)
}

/// One task: all terms of an area of at most [`THIN_ROWS`] rows and as many columns as `thin_cols` says.
pub(super) struct ThinKernel<'t, 'o, P> {
    pub(super) product: &'t Product<'t>,
    pub(super) packed: &'t mut [P],
    pub(super) area: &'t mut Area<'o>,
}

impl<P: PackAny + Sweep> WideKernel<P::Proof> for ThinKernel<'_, '_, P> {
    #[inline(always)]
    fn run(self, proof: P::Proof) {
        let Self { product, packed, area } = self;
        for (k_start, depth) in parts(0, product.k, k_block(product.k)) {
            let (packed_a, packed_b) = packed.split_at_mut(P::steps(depth) * ROWS);
            let range = Range { first: area.first_row, count: area.rows.len(), k_start, depth };
            P::pack::<ROWS>(proof, &product.a, product.precision, range, packed_a);
            let block = Block { product, packed_a, k_start, depth };
            match area.rows.len() {
                0 | 1 => add_block::<P, 1, FEW_ROWS_COLS>(proof, &block, packed_b, area),
                FEW_ROWS => add_block::<P, FEW_ROWS, FEW_ROWS_COLS>(proof, &block, packed_b, area),
                3 | 4 => add_block::<P, 4, THIN_COLS>(proof, &block, packed_b, area),
                _ => add_block::<P, THIN_ROWS, THIN_COLS>(proof, &block, packed_b, area),
            }
        }
    }
}

/// One block of terms.
pub(super) struct Block<'t, P> {
    product: &'t Product<'t>,
    packed_a: &'t [P],
    k_start: usize,
    depth: usize,
}

/// Adds one block of terms to an area of at most `R` rows and `C` columns.
#[inline(always)]
fn add_block<P: PackAny + Sweep, const R: usize, const C: usize>(
    proof: P::Proof,
    block: &Block<'_, P>,
    packed_b: &mut [P],
    area: &mut Area<'_>,
) {
    let &Block { product, packed_a, k_start, depth } = block;
    let merge = product.merge(k_start, depth);
    let is_last = k_start + depth == product.k;
    if product.b.terms_contiguous() {
        let packed_b = &mut packed_b[..P::steps(depth) * COLS];
        for col in (0..area.cols).step_by(COLS) {
            let cols = COLS.min(area.cols - col);
            let range = Range { first: area.first_col + col, count: cols, k_start, depth };
            let narrow = if is_last { &mut area.narrow[..] } else { &mut [] };
            let to = TileRows { rows: &mut area.rows, narrow, col, cols };
            let place = Place { row: area.first_row, col: area.first_col + col };
            if let Some(sums) = P::whole_tile::<R>(proof, block, range) {
                merge_each(proof.base(), &merge, sums, place, to);
            } else {
                P::pack::<COLS>(proof, &product.b, product.precision, range, packed_b);
                tile::<P, R>(proof, (packed_a, packed_b), &merge, place, to);
            }
        }
    } else {
        let mut sums = [[0.0; C]; R];
        P::sweep(proof, block, area, &mut sums);
        merge_sums(proof.base(), &merge, &sums, area, is_last);
    }
}

/// Merges the sums of a block into the output.
#[inline(always)]
fn merge_sums<const R: usize, const C: usize>(simd: Avx512, merge: &Merge<'_>, sums: &[[f32; C]; R], area: &mut Area<'_>, is_last: bool) {
    for (line, sums) in sums.iter().enumerate().take(area.rows.len()) {
        for col in (0..area.cols).step_by(LANES) {
            let cols = LANES.min(area.cols - col);
            let place = Place { row: area.first_row + line, col: area.first_col + col };
            let narrow = if is_last && !area.narrow.is_empty() { &mut area.narrow[line..=line] } else { &mut [] };
            let to = TileRows { rows: &mut area.rows[line..=line], narrow, col, cols };
            merge_rows::<1, 1>(simd, merge, [[simd.load(&sums[col..][..LANES])]], place, to);
        }
    }
}

/// Sums over rows of `b` of either type.
pub(super) trait Sweep: Terms {
    /// The sums of a whole tile whose columns lie as the terms do, without a packed copy of them; none where that cannot be.
    #[inline(always)]
    fn whole_tile<const R: usize>(_: Self::Proof, _: &Block<'_, Self>, _: Range) -> Option<[[Vector; VECTORS]; R]> {
        None
    }

    /// Adds one block of terms to the sums of an area.
    fn sweep<const R: usize, const C: usize>(proof: Self::Proof, block: &Block<'_, Self>, area: &Area<'_>, sums: &mut [[f32; C]; R]);
}

impl Sweep for f32 {
    #[inline(always)]
    fn whole_tile<const R: usize>(proof: Self::Proof, block: &Block<'_, Self>, range: Range) -> Option<[[Vector; VECTORS]; R]> {
        match (block.product.b.stored(), block.product.precision) {
            (Stored::F32(lines), Precision::F32) if range.count == COLS && range.depth.is_multiple_of(LANES) => {
                Some(dots(proof.base(), lines, block.packed_a, range))
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn sweep<const R: usize, const C: usize>(proof: Self::Proof, block: &Block<'_, Self>, area: &Area<'_>, sums: &mut [[f32; C]; R]) {
        match (block.product.b.stored(), block.product.precision) {
            (Stored::F32(lines), Precision::F32 | Precision::F16) => sweep::<_, Same, R, C>(proof, lines, block, area, sums),
            (Stored::F32(lines), Precision::Bf16) => sweep::<_, Rounded, R, C>(proof, lines, block, area, sums),
            (Stored::Bf16(lines), _) => sweep::<_, Widened, R, C>(proof, lines, block, area, sums),
        }
    }
}

impl Sweep for Pair {
    #[inline(always)]
    fn sweep<const R: usize, const C: usize>(proof: Self::Proof, block: &Block<'_, Self>, area: &Area<'_>, sums: &mut [[f32; C]; R]) {
        match block.product.b.stored() {
            Stored::F32(lines) => sweep::<_, Narrowed, R, C>(proof, lines, block, area, sums),
            Stored::Bf16(lines) => sweep::<_, Paired, R, C>(proof, lines, block, area, sums),
        }
    }
}

/// Adds one block of terms to the sums, a few whole rows of `b` at a time.
#[inline(always)]
fn sweep<P: Terms, S: Source<P>, const R: usize, const C: usize>(
    proof: P::Proof,
    lines: Lines<'_, S::Element>,
    block: &Block<'_, P>,
    area: &Area<'_>,
    sums: &mut [[f32; C]; R],
) {
    let (a, _) = block.packed_a.as_chunks::<ROWS>();
    let whole = block.depth / (STEPS * P::TERMS) * STEPS;
    for step in (0..whole).step_by(STEPS) {
        add_rows::<P, S, R, C, STEPS>(proof, lines, block, step, &a[step..], area, sums);
    }
    for (step, a) in a.iter().enumerate().skip(whole) {
        add_rows::<P, S, R, C, 1>(proof, lines, block, step, std::slice::from_ref(a), area, sums);
    }
}

/// Adds `N` steps from `step` on.
#[inline(always)]
fn add_rows<P: Terms, S: Source<P>, const R: usize, const C: usize, const N: usize>(
    proof: P::Proof,
    lines: Lines<'_, S::Element>,
    block: &Block<'_, P>,
    step: usize,
    a: &[[P; ROWS]],
    area: &Area<'_>,
    sums: &mut [[f32; C]; R],
) {
    let term = |idx: usize| {
        let term = (step + idx / P::TERMS) * P::TERMS + idx % P::TERMS;
        if term < block.depth { lines.part(block.k_start + term, area.first_col, area.cols) } else { &[] }
    };
    let one: [&[S::Element]; N] = std::array::from_fn(|idx| term(idx * P::TERMS));
    let two: [&[S::Element]; N] = std::array::from_fn(|idx| if P::TERMS > 1 { term(idx * P::TERMS + 1) } else { &[] });
    let Some(a) = a.first_chunk::<N>() else { return };
    let simd = proof.base();
    for col in (0..area.cols).step_by(LANES) {
        let part = |terms: &[S::Element]| col.min(terms.len())..(col + LANES).min(terms.len());
        let mut b = [simd.zero(); N];
        if col % (LINE_BYTES / size_of::<S::Element>()) == 0 {
            // What the next steps read; rows are too far apart for the processor to see a pattern.
            for idx in 0..N * P::TERMS {
                let row = block.k_start + (step + N) * P::TERMS + idx;
                simd.prefetch(lines.place(row, area.first_col + col));
            }
        }
        for idx in 0..N {
            b[idx] = S::across(proof, &one[idx][part(one[idx])], &two[idx][part(two[idx])]);
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let sums = &mut sums[col..][..LANES];
            let mut total = simd.load(sums);
            for idx in 0..N {
                total = P::add_products(proof, simd.splat(a[idx][row]), b[idx], total);
            }
            simd.store(total, sums);
        }
    }
}

/// The sums of `R` rows and [`COLS`] columns, each in the order of the terms, from lines that lie as the terms do.
#[inline(always)]
fn dots<const R: usize>(simd: Avx512, lines: Lines<'_, f32>, packed_a: &[f32], range: Range) -> [[Vector; VECTORS]; R] {
    let Range { first, k_start, depth, .. } = range;
    let sources: [&[[f32; LANES]]; COLS] = std::array::from_fn(|line| lines.part(first + line, k_start, depth).as_chunks().0);
    let mut sums = [[simd.zero(); VECTORS]; R];
    let (a, _) = packed_a.as_chunks::<ROWS>();
    let (a, _) = a.as_chunks::<LANES>();
    for (square, a) in a.iter().enumerate().take(depth / LANES) {
        for vector in 0..VECTORS {
            for line in vector * LANES..(vector + 1) * LANES {
                simd.prefetch(lines.place(first + COLS + line, k_start + square * LANES));
            }
            let terms = simd.load_transposed(std::array::from_fn(|line| &sources[vector * LANES + line][square]));
            for (a, b) in a.iter().zip(terms) {
                for row in 0..R {
                    sums[row][vector] = simd.fma(simd.splat(a[row]), b, sums[row][vector]);
                }
            }
        }
    }
    sums
}
