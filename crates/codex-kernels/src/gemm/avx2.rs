//! Tiles of 6 x 16 in AVX2 registers: twelve of sixteen for the sums, two for a row of `b`, and one for an element of `a`.

use crate::avx2::{Avx2, LANES};
use crate::avx512::WideKernel;
use crate::gemm::pack::Packed;
use crate::gemm::product::{Piece, Product, Tiles};
use crate::gemm::thin::{THIN_ROWS, ThinKernel};
use crate::gemm::tile::{Area, AreaKernel, ArraysAdd, ArraysPack, Sums};
use crate::isa::run;

/// Rows of a tile.
const ROWS: usize = 6;
/// Vectors in a row of a tile.
const VECTORS: usize = 2;
/// Columns of a tile.
const COLS: usize = VECTORS * LANES;

/// Tiles whose sums are vectors. Sums in arrays LLVM takes apart into single numbers, and puts them together again in each turn of the loop.
#[derive(Debug)]
pub(crate) struct InAvx2;

impl Tiles for InAvx2 {
    type Packed = f32;
    const ROWS: usize = ROWS;
    const COLS: usize = COLS;
    const THIN_ROWS: usize = THIN_ROWS;

    fn pack(product: &Product<'_>, piece: &mut Piece<'_, f32>) {
        run(product.isa, ArraysPack::<ROWS, COLS> { product, piece });
    }

    fn add(task: AreaKernel<'_, '_, f32>) {
        let len = task.own_panels_len(ROWS);
        f32::task_scratch().with(|scratch| scratch.with(len, |panels| Avx2::run(ArraysAdd::<ROWS, COLS> { task, panels })));
    }

    fn thin(product: &Product<'_>, area: &mut Area<'_>) {
        f32::task_scratch().with(|scratch| {
            scratch.with(ThinKernel::<COLS>::packed_len(product.k), |packed| {
                run(product.isa, ThinKernel::<COLS> { product, packed, area });
            });
        });
    }
}

impl WideKernel<Avx2> for ArraysAdd<'_, '_, ROWS, COLS> {
    #[inline(always)]
    fn run(self, proof: Avx2) {
        self.add(proof);
    }
}

impl Sums<ROWS, COLS> for Avx2 {
    #[inline(always)]
    fn sums(self, a: &[f32], b: &[f32]) -> [[f32; COLS]; ROWS] {
        let mut sums = [[self.zero(); VECTORS]; ROWS];
        for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(b.as_chunks::<COLS>().0) {
            let (b, _) = b.as_chunks::<LANES>();
            let b = [self.load(&b[0]), self.load(&b[1])];
            for row in 0..ROWS {
                let a = self.splat(a[row]);
                for vector in 0..VECTORS {
                    sums[row][vector] = self.fma(a, b[vector], sums[row][vector]);
                }
            }
        }
        let mut lines = [[0.0; COLS]; ROWS];
        for (line, sums) in lines.iter_mut().zip(sums) {
            for (to, sum) in line.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
                self.store(sum, to);
            }
        }
        lines
    }

    #[inline(always)]
    fn ask_for(self, place: &[f32]) {
        // It may hang over into a second line.
        self.prefetch(place, 0);
        self.prefetch(place, place.len() - 1);
    }
}
