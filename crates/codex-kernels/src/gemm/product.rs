//! The product as a whole: checks, choice of tile, packing of `b`, tasks.

use rayon::prelude::*;

use crate::gemm::matrix::{Epilogue, GemmError, View, ViewMut};
use crate::gemm::pack::{Operand, Scratch};
use crate::gemm::plan::{Plan, parts};
use crate::gemm::thin::{THIN_COLS, THIN_ROWS, ThinKernel};
use crate::gemm::tile::{Area, AreaKernel, Batch};
use crate::isa::{Isa, Kernel, run};

/// Multiply-adds below which a product stays on its thread: waking another costs more than it saves.
const PARALLEL_MIN: usize = 1 << 16;
/// Rows of `a` or columns of `b` that one task packs: whole panels of every width, wide enough to read runs of memory.
const PACKED_LINES: usize = 192;
/// Rows of a tile on the portable path, in vectors of four: 16 registers on x86-64, 32 on `AArch64`.
const PORTABLE_ROWS: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };

thread_local! {
    static THIN_PANELS: Scratch = const { Scratch::new() };
    static PACKED_OPERANDS: Scratch = const { Scratch::new() };
}

/// Writes `a` times `b`, `m x k` and `k x n`, to `out`, `m x n`, as `epilogue` says.
///
/// It runs on the current rayon pool; the result has the same bits on any number of threads. An `isa` that this machine lacks is
/// replaced by [`Isa::Portable`].
///
/// # Errors
/// [`GemmError::Shapes`], [`GemmError::BiasLength`] or [`GemmError::ResidualLength`]; nothing is written then.
///
/// # Examples
/// ```
/// # use codex_kernels::Isa;
/// # use codex_kernels::gemm::{gemm, Epilogue, GemmError, View, ViewMut};
/// let (x, w, bias) = ([1.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.5, 0.5, 0.5]);
/// let mut y = [0.0; 3];
/// let out = ViewMut::new(&mut y, 1, 3)?;
/// gemm(Isa::detect(), View::new(&x, 1, 2)?, View::new(&w, 2, 3)?, out, Epilogue::store().with_bias(&bias))?;
/// assert_eq!(y, [9.5, 12.5, 15.5]);
/// # Ok::<(), GemmError>(())
/// ```
pub fn gemm(isa: Isa, a: View<'_>, b: View<'_>, out: ViewMut<'_>, epilogue: Epilogue<'_>) -> Result<(), GemmError> {
    let (m, k, n) = (a.rows(), a.cols(), b.cols());
    if b.rows() != k || out.rows() != m || out.cols() != n {
        return Err(GemmError::Shapes { a: (m, k), b: (b.rows(), n), out: (out.rows(), out.cols()) });
    }
    epilogue.check(m, n, out.row_stride())?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    let isa = if isa.is_available() { isa } else { Isa::Portable };
    let row_stride = out.row_stride();
    let product = Product { isa, a: Operand::left(a), b: Operand::right(b), m, n, k, row_stride, epilogue };
    match isa {
        Isa::Portable => product.compute::<PORTABLE_ROWS, 8>(out),
        Isa::Avx2 => product.compute::<6, 16>(out),
        Isa::Avx512 => product.compute::<12, 32>(out),
    }
    Ok(())
}

/// A product whose shapes have been checked.
struct Product<'a> {
    isa: Isa,
    a: Operand<'a>,
    b: Operand<'a>,
    m: usize,
    n: usize,
    k: usize,
    row_stride: usize,
    epilogue: Epilogue<'a>,
}

impl Product<'_> {
    /// Computes it in tiles of `MR x NR`.
    fn compute<const MR: usize, const NR: usize>(&self, out: ViewMut<'_>) {
        let is_parallel = self.m.saturating_mul(self.n).saturating_mul(self.k) >= PARALLEL_MIN && rayon::current_num_threads() > 1;
        if self.m <= THIN_ROWS {
            self.compute_thin::<NR>(out, is_parallel);
        } else {
            self.compute_packed::<MR, NR>(out, is_parallel);
        }
    }

    /// Computes at most [`THIN_ROWS`] rows.
    fn compute_thin<const NR: usize>(&self, out: ViewMut<'_>, is_parallel: bool) {
        let mut areas = areas(out, self.m, THIN_COLS);
        for_each(&mut areas, is_parallel, |area| {
            let &Self { isa, a, b, k, row_stride, epilogue, .. } = self;
            THIN_PANELS.with(|scratch| {
                scratch.with(ThinKernel::<NR>::packed_len(k), |packed| {
                    run(isa, ThinKernel::<NR> { a, b, k, packed, area, epilogue, row_stride });
                });
            });
        });
    }

    /// Computes any number of rows, one batch of packed operands after the other.
    fn compute_packed<const MR: usize, const NR: usize>(&self, out: ViewMut<'_>, is_parallel: bool) {
        let plan = Plan::new(self.m, self.n, self.k, MR, NR);
        let batch_of = |area: &Area<'_>| (area.first_col / plan.col_batch, area.first_row / plan.row_batch);
        let mut areas = areas(out, plan.task_rows, plan.task_cols);
        areas.sort_by_key(batch_of);
        let k_batch = plan.k_batch.min(self.k);
        let (len_a, len_b) = (plan.row_batch * k_batch, plan.col_batch * k_batch);
        PACKED_OPERANDS.with(|scratch| {
            scratch.with(len_a + len_b, |packed| {
                let (packed_b, packed_a) = packed.split_at_mut(len_b);
                for areas in areas.chunk_by_mut(|left, right| batch_of(left) == batch_of(right)) {
                    let (col_batch, row_batch) = areas.first().map(batch_of).unwrap_or_default();
                    let (first_row, first_col) = (row_batch * plan.row_batch, col_batch * plan.col_batch);
                    let (rows, cols) = (plan.row_batch.min(self.m - first_row), plan.col_batch.min(self.n - first_col));
                    for (k_start, terms) in parts(0, self.k, k_batch.max(1)) {
                        let k_end = k_start + terms;
                        let batch = Batch { first_row, rows, first_col, cols, k_start, k_end, k_block: plan.k_block };
                        let packed_a = &mut packed_a[..rows.next_multiple_of(MR) * terms];
                        let packed_b = &mut packed_b[..cols.next_multiple_of(NR) * terms];
                        self.pack::<MR, NR>(batch, packed_a, packed_b, is_parallel);
                        self.add_batch::<MR, NR>(batch, packed_a, packed_b, areas, is_parallel);
                    }
                }
            });
        });
    }

    /// Packs a batch of both operands.
    fn pack<const MR: usize, const NR: usize>(&self, batch: Batch, packed_a: &mut [f32], packed_b: &mut [f32], is_parallel: bool) {
        let mut pieces = Vec::new();
        let sides = [(Side::Left, batch.first_row, batch.rows, MR, packed_a), (Side::Right, batch.first_col, batch.cols, NR, packed_b)];
        for (side, first, count, width, mut rest) in sides {
            for (k_start, depth) in parts(batch.k_start, batch.k_end, batch.k_block) {
                for (start, count) in parts(0, count, PACKED_LINES) {
                    let (panels, later) = rest.split_at_mut(count.next_multiple_of(width) * depth);
                    rest = later;
                    pieces.push(Piece { side, first: first + start, count, k_start, depth, panels });
                }
            }
        }
        for_each(&mut pieces, is_parallel, |piece| {
            run(self.isa, PackKernel::<MR, NR> { a: self.a, b: self.b, piece });
        });
    }

    /// Adds a batch of terms to the areas, which are all in its rows and columns.
    fn add_batch<const MR: usize, const NR: usize>(
        &self,
        batch: Batch,
        packed_a: &[f32],
        packed_b: &[f32],
        areas: &mut [Area<'_>],
        is_parallel: bool,
    ) {
        for_each(areas, is_parallel, |area| {
            let &Self { isa, k, row_stride, epilogue, .. } = self;
            run(isa, AreaKernel::<MR, NR> { k, batch, packed_a, packed_b, area, epilogue, row_stride });
        });
    }
}

/// Cuts the output into areas of at most `task_rows x task_cols`, strip of columns by strip of columns.
fn areas(out: ViewMut<'_>, task_rows: usize, task_cols: usize) -> Vec<Area<'_>> {
    let (m, n) = (out.rows(), out.cols());
    let mut areas: Vec<Area<'_>> = parts(0, n, task_cols)
        .flat_map(|(first_col, cols)| parts(0, m, task_rows).map(move |(first_row, rows)| (first_row, rows, first_col, cols)))
        .map(|(first_row, rows, first_col, cols)| Area { first_row, first_col, cols, rows: Vec::with_capacity(rows) })
        .collect();
    let per_strip = m.div_ceil(task_rows);
    for (row, line) in out.into_rows().enumerate() {
        for (strip, piece) in line.chunks_mut(task_cols).enumerate() {
            areas[strip * per_strip + row / task_rows].rows.push(piece);
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

/// An operand of the product.
#[derive(Clone, Copy, Debug)]
enum Side {
    Left,
    Right,
}

/// Some whole panels of a packed operand.
struct Piece<'t> {
    side: Side,
    first: usize,
    count: usize,
    k_start: usize,
    depth: usize,
    panels: &'t mut [f32],
}

/// One task of packing.
struct PackKernel<'t, 'o, const MR: usize, const NR: usize> {
    a: Operand<'t>,
    b: Operand<'t>,
    piece: &'t mut Piece<'o>,
}

impl<const MR: usize, const NR: usize> Kernel for PackKernel<'_, '_, MR, NR> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Piece { side, first, count, k_start, depth, panels } = self.piece;
        match side {
            Side::Left => self.a.pack::<MR>(*first, *count, *k_start, *depth, panels),
            Side::Right => self.b.pack::<NR>(*first, *count, *k_start, *depth, panels),
        }
    }
}
