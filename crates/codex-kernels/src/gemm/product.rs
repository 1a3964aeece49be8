//! The product as a whole: checks, choice of tile, packing of `b`, tasks.

use half::bf16;
use rayon::prelude::*;

#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::avx512::Pair;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::gemm::avx2::InAvx2;
use crate::gemm::elements::Precision;
use crate::gemm::matrix::{Epilogue, GemmError, RowsMut, View, ViewMut, rows_of};
use crate::gemm::pack::{Operand, Packed, Range, Scratch};
use crate::gemm::plan::{Plan, parts};
use crate::gemm::thin::thin_cols;
use crate::gemm::tile::{Area, AreaKernel, Arrays, Batch, Merge};
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::gemm::wide::Wide;
use crate::isa::Isa;

/// Multiply-adds below which a product stays on its thread: waking another costs more than it saves.
const PARALLEL_MIN: usize = 1 << 16;
/// Rows of `a` or columns of `b` that one task packs: whole panels of every width, wide enough to read runs of memory.
const PACKED_LINES: usize = 192;
/// Rows of a tile on the portable path, in vectors of four: 16 registers on x86-64, 32 on `AArch64`.
const PORTABLE_ROWS: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };

thread_local! {
    /// Sums of a product whose output is bf16.
    static SUMS: Scratch<f32> = const { Scratch::new() };
}

/// Writes `a` times `b`, `m x k` and `k x n`, to `out`, `m x n`, as `epilogue` says.
///
/// Each of the three, and the residual, may be of f32 or of bf16; `precision` says how the terms are multiplied. It runs on the
/// current rayon pool; the result has the same bits on any number of threads. An `isa` that this machine lacks is replaced by
/// [`Isa::Portable`].
///
/// # Errors
/// [`GemmError::Shapes`], [`GemmError::BiasLength`], [`GemmError::ResidualLength`] or [`GemmError::AccumulatesBf16`]; nothing is
/// written then.
///
/// # Examples
/// ```
/// # use codex_kernels::Isa;
/// # use codex_kernels::gemm::{gemm, Epilogue, GemmError, Precision, View, ViewMut};
/// let (x, w, bias) = ([1.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.5, 0.5, 0.5]);
/// let mut y = [0.0; 3];
/// let out = ViewMut::new(&mut y, 1, 3)?;
/// gemm(Isa::detect(), Precision::F32, View::new(&x, 1, 2)?, View::new(&w, 2, 3)?, out, Epilogue::store().with_bias(&bias))?;
/// assert_eq!(y, [9.5, 12.5, 15.5]);
/// # Ok::<(), GemmError>(())
/// ```
pub fn gemm(isa: Isa, precision: Precision, a: View<'_>, b: View<'_>, out: ViewMut<'_>, epilogue: Epilogue<'_>) -> Result<(), GemmError> {
    let (m, k, n) = (a.rows(), a.cols(), b.cols());
    if b.rows() != k || out.rows() != m || out.cols() != n {
        return Err(GemmError::Shapes { a: (m, k), b: (b.rows(), n), out: (out.rows(), out.cols()) });
    }
    epilogue.check(&out)?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    let isa = if isa.is_available() { isa } else { Isa::Portable };
    if precision == Precision::F16 {
        return gemm(isa, Precision::F32, a.in_half().view(), b.in_half().view(), out, epilogue);
    }
    let row_stride = out.row_stride();
    let product = Product { isa, precision, a: Operand::left(a), b: Operand::right(b), m, n, k, row_stride, epilogue };
    match out.into_rows() {
        RowsMut::F32(rows) => product.compute(rows, Vec::new()),
        RowsMut::Bf16(narrow) => SUMS.with(|scratch| scratch.with(m * n, |sums| product.compute(rows_of(sums, m, n, n), narrow))),
    }
    Ok(())
}

/// Tiles of one size, and how operands are packed for them.
pub(crate) trait Tiles {
    /// What panels are made of.
    type Packed: Packed;
    /// Rows of a tile, the width of the panels of `a`.
    const ROWS: usize;
    /// Columns of a tile, the width of the panels of `b`.
    const COLS: usize;
    /// Most rows of a product that is not worth packing `b` for.
    const THIN_ROWS: usize;
    /// Packs a piece of an operand.
    fn pack(product: &Product<'_>, piece: &mut Piece<'_, Self::Packed>);
    /// Adds a batch of terms to an area.
    fn add(task: AreaKernel<'_, '_, Self::Packed>);
    /// Computes an area of at most [`Self::THIN_ROWS`] rows and as many columns as [`thin_cols`] says.
    fn thin(product: &Product<'_>, area: &mut Area<'_>);
}

/// An operand of the product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Some whole panels of a packed operand.
pub(crate) struct Piece<'t, P> {
    pub(crate) side: Side,
    pub(crate) range: Range,
    pub(crate) panels: &'t mut [P],
}

/// A product whose shapes have been checked.
pub(crate) struct Product<'a> {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
    pub(crate) a: Operand<'a>,
    pub(crate) b: Operand<'a>,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) row_stride: usize,
    pub(crate) epilogue: Epilogue<'a>,
}

impl Product<'_> {
    /// How the sums of a block of terms are merged into the output.
    pub(crate) fn merge(&self, k_start: usize, depth: usize) -> Merge<'_> {
        Merge::new(&self.epilogue, self.row_stride, k_start == 0, k_start + depth == self.k)
    }

    /// Computes it; `narrow` are the rows of an output of bf16, and `rows` the sums.
    fn compute(&self, rows: Vec<&mut [f32]>, narrow: Vec<&mut [bf16]>) {
        match self.isa {
            Isa::Portable => self.compute_tiles::<Arrays<PORTABLE_ROWS, 8>>(rows, narrow),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Isa::Avx2 => self.compute_tiles::<InAvx2>(rows, narrow),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Isa::Avx512Bf16 if self.precision == Precision::Bf16 => self.compute_tiles::<Wide<Pair>>(rows, narrow),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Isa::Avx512 | Isa::Avx512Bf16 => self.compute_tiles::<Wide<f32>>(rows, narrow),
            // No machine has these here.
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => self.compute_tiles::<Arrays<PORTABLE_ROWS, 8>>(rows, narrow),
        }
    }

    /// Computes it in tiles of one size.
    fn compute_tiles<T: Tiles>(&self, rows: Vec<&mut [f32]>, narrow: Vec<&mut [bf16]>) {
        let is_parallel = self.m.saturating_mul(self.n).saturating_mul(self.k) >= PARALLEL_MIN && rayon::current_num_threads() > 1;
        if self.m <= T::THIN_ROWS {
            let mut areas = areas(self.m, self.n, rows, narrow, self.m, thin_cols(self.m, self.n));
            for_each(&mut areas, is_parallel, |area| T::thin(self, area));
        } else {
            let plan = Plan::new(self.m, self.n, self.k, T::ROWS, T::COLS);
            let areas = areas(self.m, self.n, rows, narrow, plan.task_rows, plan.task_cols);
            self.compute_packed::<T>(plan, areas, is_parallel);
        }
    }

    /// Computes any number of rows, one batch of packed operands after the other.
    fn compute_packed<T: Tiles>(&self, plan: Plan, mut areas: Vec<Area<'_>>, is_parallel: bool) {
        let batch_of = |area: &Area<'_>| (area.first_col / plan.col_batch, area.first_row / plan.row_batch);
        areas.sort_by_key(batch_of);
        let k_batch = plan.k_batch.min(self.k);
        let steps = T::Packed::steps(k_batch);
        let (len_a, len_b) = (if plan.packs_in_tasks { 0 } else { plan.row_batch * steps }, plan.col_batch * steps);
        T::Packed::scratch().with(|scratch| {
            scratch.with(len_a + len_b, |packed| {
                let (packed_b, packed_a) = packed.split_at_mut(len_b);
                for areas in areas.chunk_by_mut(|left, right| batch_of(left) == batch_of(right)) {
                    let (col_batch, row_batch) = areas.first().map(batch_of).unwrap_or_default();
                    let (first_row, first_col) = (row_batch * plan.row_batch, col_batch * plan.col_batch);
                    let (rows, cols) = (plan.row_batch.min(self.m - first_row), plan.col_batch.min(self.n - first_col));
                    for (k_start, terms) in parts(0, self.k, k_batch.max(1)) {
                        let k_end = k_start + terms;
                        let batch = Batch { first_row, rows, first_col, cols, k_start, k_end, k_block: plan.k_block };
                        let steps = T::Packed::steps(terms);
                        let len_a = if plan.packs_in_tasks { 0 } else { rows.next_multiple_of(T::ROWS) * steps };
                        let (packed_a, packed_b) = (&mut packed_a[..len_a], &mut packed_b[..cols.next_multiple_of(T::COLS) * steps]);
                        self.pack::<T>(batch, packed_a, packed_b, is_parallel);
                        let packed_a = if plan.packs_in_tasks { None } else { Some(&*packed_a) };
                        for_each(areas, is_parallel, |area| T::add(AreaKernel { product: self, batch, packed_a, packed_b, area }));
                    }
                }
            });
        });
    }

    /// Packs a batch of both operands, or of `b` alone where there is no room for `a`.
    fn pack<T: Tiles>(&self, batch: Batch, packed_a: &mut [T::Packed], packed_b: &mut [T::Packed], is_parallel: bool) {
        let mut pieces = Vec::new();
        let left = (Side::Left, batch.first_row, if packed_a.is_empty() { 0 } else { batch.rows }, T::ROWS, packed_a);
        let right = (Side::Right, batch.first_col, batch.cols, T::COLS, packed_b);
        for (side, first, count, width, mut rest) in [left, right] {
            for (k_start, depth) in parts(batch.k_start, batch.k_end, batch.k_block) {
                for (start, count) in parts(0, count, PACKED_LINES) {
                    let (panels, later) = rest.split_at_mut(count.next_multiple_of(width) * T::Packed::steps(depth));
                    rest = later;
                    pieces.push(Piece { side, range: Range { first: first + start, count, k_start, depth }, panels });
                }
            }
        }
        for_each(&mut pieces, is_parallel, |piece| T::pack(self, piece));
    }
}

/// Cuts the output into areas of at most `task_rows x task_cols`, strip of columns by strip of columns.
fn areas<'o>(
    m: usize,
    n: usize,
    rows: Vec<&'o mut [f32]>,
    narrow: Vec<&'o mut [bf16]>,
    task_rows: usize,
    task_cols: usize,
) -> Vec<Area<'o>> {
    let mut areas: Vec<Area<'o>> = parts(0, n, task_cols)
        .flat_map(|(first_col, cols)| parts(0, m, task_rows).map(move |(first_row, n_rows)| (first_row, n_rows, first_col, cols)))
        .map(|(first_row, n_rows, first_col, cols)| {
            let n_narrow = if narrow.is_empty() { 0 } else { n_rows };
            Area { first_row, first_col, cols, rows: Vec::with_capacity(n_rows), narrow: Vec::with_capacity(n_narrow) }
        })
        .collect();
    let per_strip = m.div_ceil(task_rows);
    for (row, line) in rows.into_iter().enumerate() {
        for (strip, piece) in line.chunks_mut(task_cols).enumerate() {
            areas[strip * per_strip + row / task_rows].rows.push(piece);
        }
    }
    for (row, line) in narrow.into_iter().enumerate() {
        for (strip, piece) in line.chunks_mut(task_cols).enumerate() {
            areas[strip * per_strip + row / task_rows].narrow.push(piece);
        }
    }
    areas
}

/// Does the work for each item, on all threads of the pool or on this one.
fn for_each<T: Send>(items: &mut [T], is_parallel: bool, work: impl Fn(&mut T) + Sync + Send) {
    if is_parallel && items.len() > 1 {
        items.par_iter_mut().with_max_len(1).for_each(work);
    } else {
        items.iter_mut().for_each(work);
    }
}
