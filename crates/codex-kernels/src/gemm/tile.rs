//! The innermost loops: one tile of the output in registers, and the tiles of one task.

use half::bf16;

use crate::convert::narrowed;
use crate::gemm::elements::{Element, Elements};
use crate::gemm::matrix::Epilogue;
use crate::gemm::pack::{Packed, Range};
use crate::gemm::plan::parts;
use crate::gemm::product::{Piece, Product, Side, Tiles};
use crate::gemm::thin::{THIN_ROWS, ThinKernel};
use crate::isa::{Kernel, fma, run};

/// Terms per turn of the innermost loop.
const UNROLLED: usize = 4;

/// The sums of a tile over one block of terms, each in the order of the terms: `a` is `[depth][MR]`, `b` is `[depth][NR]`.
///
/// The arrays become registers: this loop is written so that LLVM keeps `acc` there, and the disassembly has been looked at.
#[inline(always)]
pub(crate) fn tile<const FMA: bool, const MR: usize, const NR: usize>(a: &[f32], b: &[f32]) -> [[f32; NR]; MR] {
    let (a, a_rest) = a.as_chunks::<MR>().0.as_chunks::<UNROLLED>();
    let (b, b_rest) = b.as_chunks::<NR>().0.as_chunks::<UNROLLED>();
    let mut acc = [[0.0; NR]; MR];
    for (a, b) in a.iter().zip(b) {
        for term in 0..UNROLLED {
            add_term::<FMA, MR, NR>(&a[term], &b[term], &mut acc);
        }
    }
    for (a, b) in a_rest.iter().zip(b_rest) {
        add_term::<FMA, MR, NR>(a, b, &mut acc);
    }
    acc
}

/// Adds the products of one term.
#[inline(always)]
fn add_term<const FMA: bool, const MR: usize, const NR: usize>(a: &[f32; MR], b: &[f32; NR], acc: &mut [[f32; NR]; MR]) {
    for row in 0..MR {
        for col in 0..NR {
            acc[row][col] = fma::<FMA>(a[row], b[col], acc[row][col]);
        }
    }
}

/// How one block of sums is merged into the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merge<'a> {
    /// Whether the output holds what the sums are added to.
    pub(crate) adds_to_output: bool,
    /// What is added per column, from the first column of the output on.
    pub(crate) bias: Option<&'a [f32]>,
    /// What is added, laid out as the output.
    pub(crate) residual: Option<Elements<'a>>,
    pub(crate) row_stride: usize,
}

impl<'a> Merge<'a> {
    /// For a block of terms that is the first, the last, both or neither.
    pub(crate) fn new(epilogue: &Epilogue<'a>, row_stride: usize, is_first: bool, is_last: bool) -> Self {
        Self {
            adds_to_output: !is_first || epilogue.accumulates,
            bias: epilogue.bias.filter(|_| is_last),
            residual: epilogue.residual.filter(|_| is_last),
            row_stride,
        }
    }

    /// Merges the sums of `N` neighbours in row `row`, the first in column `col`, into `out`.
    #[inline(always)]
    fn merge_whole<const N: usize>(&self, mut sums: [f32; N], row: usize, col: usize, out: &mut [f32; N]) {
        if self.adds_to_output {
            sums = std::array::from_fn(|idx| out[idx] + sums[idx]);
        }
        if let Some(bias) = self.bias.and_then(|bias| bias[col..].first_chunk::<N>()) {
            sums = std::array::from_fn(|idx| sums[idx] + bias[idx]);
        }
        let start = row * self.row_stride + col;
        match self.residual {
            None => {}
            Some(Elements::F32(residual)) => {
                if let Some(residual) = residual[start..].first_chunk::<N>() {
                    sums = std::array::from_fn(|idx| sums[idx] + residual[idx]);
                }
            }
            Some(Elements::Bf16(residual)) => {
                if let Some(residual) = residual[start..].first_chunk::<N>() {
                    sums = std::array::from_fn(|idx| sums[idx] + residual[idx].widen());
                }
            }
        }
        *out = sums;
    }

    /// Merges the sums of some neighbours in row `row`, the first in column `col`, into `out`.
    #[inline(always)]
    pub(crate) fn merge(&self, sums: &[f32], row: usize, col: usize, out: &mut [f32]) {
        if self.adds_to_output {
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
        } else {
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum);
        }
        if let Some(bias) = self.bias {
            let bias = &bias[col..][..out.len()];
            out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
        let start = row * self.row_stride + col;
        match self.residual {
            None => {}
            Some(Elements::F32(residual)) => {
                let residual = &residual[start..][..out.len()];
                out.iter_mut().zip(residual).for_each(|(out, residual)| *out += residual);
            }
            Some(Elements::Bf16(residual)) => {
                let residual = &residual[start..][..out.len()];
                out.iter_mut().zip(residual).for_each(|(out, residual)| *out += residual.widen());
            }
        }
    }
}

/// The part of the output that one task computes.
#[derive(Debug)]
pub(crate) struct Area<'o> {
    pub(crate) first_row: usize,
    pub(crate) first_col: usize,
    pub(crate) cols: usize,
    /// The sums of its rows, cut to its columns: in the output itself where that is f32.
    pub(crate) rows: Vec<&'o mut [f32]>,
    /// The output where that is bf16, likewise.
    pub(crate) narrow: Vec<&'o mut [bf16]>,
}

impl Area<'_> {
    /// Writes the sums to an output of bf16.
    #[inline(always)]
    pub(crate) fn narrow(&mut self) {
        for (out, sums) in self.narrow.iter_mut().zip(&self.rows) {
            out.iter_mut().zip(&**sums).for_each(|(out, sum)| *out = narrowed(*sum));
        }
    }
}

/// The part of the product for which both operands have been packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) first_col: usize,
    pub(crate) cols: usize,
    pub(crate) k_start: usize,
    pub(crate) k_end: usize,
    pub(crate) k_block: usize,
}

/// One task: adds a batch of terms to an area.
pub(crate) struct AreaKernel<'t, 'o, P> {
    pub(crate) product: &'t Product<'t>,
    pub(crate) batch: Batch,
    /// The batch of `a`: block after block, and within a block panel after panel. If there is none, the task packs its own rows.
    pub(crate) packed_a: Option<&'t [P]>,
    /// The batch of `b`, likewise.
    pub(crate) packed_b: &'t [P],
    pub(crate) area: &'t mut Area<'o>,
}

impl<P> AreaKernel<'_, '_, P>
where
    P: Packed,
{
    /// The length of the panels, `width` wide, that the task packs itself over one block.
    pub(crate) fn own_panels_len(&self, width: usize) -> usize {
        if self.packed_a.is_some() { 0 } else { self.area.rows.len().next_multiple_of(width) * P::steps(self.batch.k_block) }
    }
}

/// Tiles of `MR x NR` that LLVM makes of arrays, for any processor.
#[derive(Debug)]
pub(crate) struct Arrays<const MR: usize, const NR: usize>;

impl<const MR: usize, const NR: usize> Tiles for Arrays<MR, NR> {
    type Packed = f32;
    const ROWS: usize = MR;
    const COLS: usize = NR;
    const THIN_ROWS: usize = THIN_ROWS;

    fn pack(product: &Product<'_>, piece: &mut Piece<'_, f32>) {
        run(product.isa, ArraysPack::<MR, NR> { product, piece });
    }

    fn add(task: AreaKernel<'_, '_, f32>) {
        let len = task.own_panels_len(MR);
        f32::task_scratch().with(|scratch| scratch.with(len, |panels| run(task.product.isa, ArraysAdd::<MR, NR> { task, panels })));
    }

    fn thin(product: &Product<'_>, area: &mut Area<'_>) {
        f32::task_scratch().with(|scratch| {
            scratch.with(ThinKernel::<NR>::packed_len(product.k), |packed| {
                run(product.isa, ThinKernel::<NR> { product, packed, area });
            });
        });
    }
}

/// One task of packing.
pub(crate) struct ArraysPack<'t, 'o, const MR: usize, const NR: usize> {
    pub(crate) product: &'t Product<'t>,
    pub(crate) piece: &'t mut Piece<'o, f32>,
}

impl<const MR: usize, const NR: usize> Kernel for ArraysPack<'_, '_, MR, NR> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (product, Piece { side, range, panels }) = (self.product, self.piece);
        match side {
            Side::Left => product.a.pack::<MR>(product.precision, *range, panels),
            Side::Right => product.b.pack::<NR>(product.precision, *range, panels),
        }
    }
}

/// What makes the sums of a tile.
pub(crate) trait Sums<const MR: usize, const NR: usize>: Copy {
    /// Those of one block of terms, each in the order of the terms: `a` is `[depth][MR]`, `b` is `[depth][NR]`.
    fn sums(self, a: &[f32], b: &[f32]) -> [[f32; NR]; MR];
    /// Asks for a place in the output that sums will be merged into, if that is worth it.
    fn ask_for(self, place: &[f32]);
}

/// Loops that LLVM makes vectors of.
#[derive(Clone, Copy, Debug)]
struct Loops<const FMA: bool>;

impl<const FMA: bool, const MR: usize, const NR: usize> Sums<MR, NR> for Loops<FMA> {
    #[inline(always)]
    fn sums(self, a: &[f32], b: &[f32]) -> [[f32; NR]; MR] {
        tile::<FMA, MR, NR>(a, b)
    }

    #[inline(always)]
    fn ask_for(self, _: &[f32]) {}
}

/// One task of sums.
pub(crate) struct ArraysAdd<'t, 'o, const MR: usize, const NR: usize> {
    pub(crate) task: AreaKernel<'t, 'o, f32>,
    /// Room for the task's own panels of `a` over one block, if it packs them.
    pub(crate) panels: &'t mut [f32],
}

impl<const MR: usize, const NR: usize> Kernel for ArraysAdd<'_, '_, MR, NR> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        self.add(Loops::<FMA>);
    }
}

impl<const MR: usize, const NR: usize> ArraysAdd<'_, '_, MR, NR> {
    /// Does it.
    #[inline(always)]
    pub(crate) fn add(self, tile: impl Sums<MR, NR>) {
        let Self { task: AreaKernel { product, batch, packed_a, packed_b, area }, panels } = self;
        let (batch_rows, batch_cols) = (batch.rows.next_multiple_of(MR), batch.cols.next_multiple_of(NR));
        for (k_start, depth) in parts(batch.k_start, batch.k_end, batch.k_block) {
            let merge = product.merge(k_start, depth);
            let done = k_start - batch.k_start;
            let packed_a = if let Some(packed_a) = packed_a {
                &packed_a[done * batch_rows + (area.first_row - batch.first_row) * depth..]
            } else {
                let range = Range { first: area.first_row, count: area.rows.len(), k_start, depth };
                let panels = &mut panels[..area.rows.len().next_multiple_of(MR) * depth];
                product.a.pack::<MR>(product.precision, range, panels);
                &*panels
            };
            let packed_b = &packed_b[done * batch_cols + (area.first_col - batch.first_col) * depth..];
            for col in (0..area.cols).step_by(NR) {
                let panel_b = &packed_b[col * depth..][..NR * depth];
                let cols = NR.min(area.cols - col);
                for (idx, rows) in area.rows.chunks_mut(MR).enumerate() {
                    let panel_a = &packed_a[idx * MR * depth..][..MR * depth];
                    let (row, out_col) = (area.first_row + idx * MR, area.first_col + col);
                    for row in &*rows {
                        tile.ask_for(&row[col..][..cols]);
                    }
                    if cols == NR
                        && let Some(rows) = rows.first_chunk_mut::<MR>()
                    {
                        let sums = tile.sums(panel_a, panel_b);
                        for line in 0..MR {
                            if let Some(out) = rows[line][col..].first_chunk_mut::<NR>() {
                                merge.merge_whole(sums[line], row + line, out_col, out);
                            }
                        }
                    } else {
                        // Sums of its own: rows known only at run time would force those above out of their registers.
                        let sums = tile.sums(panel_a, panel_b);
                        for (line, (sums, out)) in sums.iter().zip(rows).enumerate() {
                            merge.merge(&sums[..cols], row + line, out_col, &mut out[col..][..cols]);
                        }
                    }
                }
            }
        }
        if batch.k_end == product.k {
            area.narrow();
        }
    }
}
