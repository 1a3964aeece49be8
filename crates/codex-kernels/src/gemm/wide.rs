//! Tiles of 12 x 32 in AVX-512 registers: 24 for the sums, two for a row of `b`, and one for an element of `a`.

mod pack;
mod thin;

use std::marker::PhantomData;
use std::thread::LocalKey;

use half::bf16;

use crate::avx512::{Avx512, Avx512Bf16, LANES, Lane, Pair, Proof, Vector, WideKernel};
use crate::gemm::elements::Elements;
use crate::gemm::pack::{Packed, Range, Scratch};
use crate::gemm::plan::parts;
use crate::gemm::product::{Piece, Product, Tiles};
use crate::gemm::tile::{Area, AreaKernel, Merge};

/// Rows of a tile.
const ROWS: usize = 12;
/// Vectors in a row of a tile.
const VECTORS: usize = 2;
/// Columns of a tile.
const COLS: usize = VECTORS * LANES;

/// Tiles whose panels are made of `P`: of f32, or of pairs of bf16.
#[derive(Debug)]
pub(crate) struct Wide<P>(PhantomData<P>);

/// What the lanes of a tile hold.
pub(crate) trait Terms: Packed + Lane {
    /// The instructions that multiply them.
    type Proof: Proof;
    /// Adds the products of the terms in each lane to its sum.
    fn add_products(proof: Self::Proof, a: Vector, b: Vector, sums: Vector) -> Vector;
}

impl Terms for f32 {
    type Proof = Avx512;

    #[inline(always)]
    fn add_products(proof: Avx512, a: Vector, b: Vector, sums: Vector) -> Vector {
        proof.fma(a, b, sums)
    }
}

impl Packed for Pair {
    const TERMS: usize = 2;

    fn scratch() -> &'static LocalKey<Scratch<Self>> {
        thread_local! {
            static PANELS: Scratch<Pair> = const { Scratch::new() };
        }
        &PANELS
    }

    fn task_scratch() -> &'static LocalKey<Scratch<Self>> {
        thread_local! {
            static PANELS: Scratch<Pair> = const { Scratch::new() };
        }
        &PANELS
    }
}

impl Terms for Pair {
    type Proof = Avx512Bf16;

    #[inline(always)]
    fn add_products(proof: Avx512Bf16, a: Vector, b: Vector, sums: Vector) -> Vector {
        proof.dot(a, b, sums)
    }
}

impl<P: pack::PackAny + thin::Sweep> Tiles for Wide<P> {
    type Packed = P;
    const ROWS: usize = ROWS;
    const COLS: usize = COLS;
    const THIN_ROWS: usize = thin::THIN_ROWS;

    fn pack(product: &Product<'_>, piece: &mut Piece<'_, P>) {
        P::Proof::run(pack::PackKernel { product, piece });
    }

    fn add(task: AreaKernel<'_, '_, P>) {
        let len = task.own_panels_len(ROWS);
        P::task_scratch().with(|scratch| scratch.with(len, |panels| P::Proof::run(WideAdd { task, panels })));
    }

    fn thin(product: &Product<'_>, area: &mut Area<'_>) {
        P::task_scratch().with(|scratch| {
            scratch.with(thin::packed_len::<P>(product.k), |packed| P::Proof::run(thin::ThinKernel::<P> { product, packed, area }));
        });
    }
}

/// Does something for each row of a tile of `R`. Indices that are literals keep the sums in registers, where a loop does not for certain.
macro_rules! for_each_row {
    ($row:ident, $body:block) => {
        for_each_row!($row, $body, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    };
    ($row:ident, $body:block, $($literal:literal),*) => {{
        $(
            let $row = $literal;
            if $row < R $body
        )*
    }};
}

/// The sums of `R` rows and `V` vectors of a tile over one block of terms, each in the order of the terms: `a` is a panel of [`ROWS`]
/// lines, `b` one of [`COLS`].
#[inline(always)]
fn sums<P: Terms, const R: usize, const V: usize>(proof: P::Proof, a: &[P], b: &[P]) -> [[Vector; V]; R] {
    let mut sums = [[proof.base().zero(); V]; R];
    let (a, _) = a.as_chunks::<ROWS>();
    let (b, _) = b.as_chunks::<COLS>();
    for (a, b) in a.iter().zip(b) {
        let mut vectors = [proof.base().zero(); V];
        for vector in 0..V {
            vectors[vector] = proof.base().load(&b[vector * LANES..][..LANES]);
        }
        for_each_row!(row, {
            let a = proof.base().splat(a[row]);
            for vector in 0..V {
                sums[row][vector] = P::add_products(proof, a, vectors[vector], sums[row][vector]);
            }
        });
    }
    sums
}

/// A place in the output.
#[derive(Clone, Copy, Debug)]
struct Place {
    row: usize,
    col: usize,
}

/// Adds to the sums of rows that begin at a place what the output, the bias and the residual say, and writes them: as f32 to `rows`, or
/// where there are some, as bf16 to `narrow`. All rows have `cols` columns from `col` on.
#[inline(always)]
fn merge_rows<const R: usize, const V: usize>(
    simd: Avx512,
    merge: &Merge<'_>,
    mut sums: [[Vector; V]; R],
    place: Place,
    to: TileRows<'_, '_>,
) {
    let TileRows { rows, narrow, col, cols } = to;
    let Some(rows) = rows.first_chunk_mut::<R>() else { return };
    let part = |from: usize, vector: usize| from + (vector * LANES).min(cols)..from + ((vector + 1) * LANES).min(cols);
    if merge.adds_to_output {
        for_each_row!(row, {
            for vector in 0..V {
                sums[row][vector] = simd.add(simd.load(&rows[row][part(col, vector)]), sums[row][vector]);
            }
        });
    }
    if let Some(bias) = merge.bias {
        let mut of_columns = [simd.zero(); V];
        for vector in 0..V {
            of_columns[vector] = simd.load(&bias[part(place.col, vector)]);
        }
        for_each_row!(row, {
            for vector in 0..V {
                sums[row][vector] = simd.add(sums[row][vector], of_columns[vector]);
            }
        });
    }
    let start = place.row * merge.row_stride + place.col;
    match merge.residual {
        None => {}
        Some(Elements::F32(residual)) => for_each_row!(row, {
            for vector in 0..V {
                let residual = simd.load(&residual[part(start + row * merge.row_stride, vector)]);
                sums[row][vector] = simd.add(sums[row][vector], residual);
            }
        }),
        Some(Elements::Bf16(residual)) => for_each_row!(row, {
            for vector in 0..V {
                let residual = simd.load_widened(&residual[part(start + row * merge.row_stride, vector)]);
                sums[row][vector] = simd.add(sums[row][vector], residual);
            }
        }),
    }
    if let Some(narrow) = narrow.first_chunk_mut::<R>() {
        for_each_row!(row, {
            for vector in 0..V {
                simd.store_narrowed(sums[row][vector], &mut narrow[row][part(col, vector)]);
            }
        });
    } else {
        for_each_row!(row, {
            for vector in 0..V {
                simd.store(sums[row][vector], &mut rows[row][part(col, vector)]);
            }
        });
    }
}

/// The rows of a tile in the output, from its first column on.
struct TileRows<'t, 'o> {
    rows: &'t mut [&'o mut [f32]],
    /// The rows of an output of bf16, once their sums are complete.
    narrow: &'t mut [&'o mut [bf16]],
    /// The first column, within those rows.
    col: usize,
    cols: usize,
}

/// Computes `R` rows of a tile at most, and all its columns.
#[inline(always)]
fn tile<P: Terms, const R: usize>(proof: P::Proof, panels: (&[P], &[P]), merge: &Merge<'_>, place: Place, to: TileRows<'_, '_>) {
    if to.cols == COLS {
        tile_part::<P, R, VECTORS, true>(proof, panels, merge, place, to);
    } else if to.cols > LANES {
        tile_part::<P, R, VECTORS, false>(proof, panels, merge, place, to);
    } else {
        tile_part::<P, R, 1, false>(proof, panels, merge, place, to);
    }
}

/// Computes `R` rows and `V` vectors of columns of a tile at most.
#[inline(always)]
fn tile_part<P: Terms, const R: usize, const V: usize, const WHOLE: bool>(
    proof: P::Proof,
    (a, b): (&[P], &[P]),
    merge: &Merge<'_>,
    place: Place,
    to: TileRows<'_, '_>,
) {
    let simd = proof.base();
    // The places that are written after these sums: half a line may hang over into another.
    if merge.adds_to_output || to.narrow.is_empty() {
        for row in &*to.rows {
            for vector in 0..V {
                simd.prefetch((row, to.col + vector * LANES));
            }
        }
    }
    for row in &*to.narrow {
        simd.prefetch((row, to.col));
    }
    let sums = sums::<P, R, V>(proof, a, b);
    if WHOLE && to.rows.len() == R {
        merge_rows::<R, V>(simd, merge, sums, place, TileRows { cols: V * LANES, ..to });
    } else {
        merge_each(simd, merge, sums, place, to);
    }
}

/// Merges rows one by one: how many there are is known only at run time.
#[inline(always)]
fn merge_each<const R: usize, const V: usize>(simd: Avx512, merge: &Merge<'_>, sums: [[Vector; V]; R], place: Place, to: TileRows<'_, '_>) {
    let TileRows { rows, narrow, col, cols } = to;
    for (row, sums) in sums.into_iter().enumerate().take(rows.len()) {
        let place = Place { row: place.row + row, ..place };
        let narrow = if narrow.is_empty() { &mut [] } else { &mut narrow[row..=row] };
        let to = TileRows { rows: &mut rows[row..=row], narrow, col, cols };
        merge_rows::<1, V>(simd, merge, [sums], place, to);
    }
}

/// One task of sums.
struct WideAdd<'t, 'o, P> {
    task: AreaKernel<'t, 'o, P>,
    /// Room for the task's own panels of `a` over one block, if it packs them.
    panels: &'t mut [P],
}

impl<P: pack::PackAny> WideKernel<P::Proof> for WideAdd<'_, '_, P> {
    #[inline(always)]
    fn run(self, proof: P::Proof) {
        let Self { task: AreaKernel { product, batch, packed_a, packed_b, area }, panels } = self;
        let (batch_rows, batch_cols) = (batch.rows.next_multiple_of(ROWS), batch.cols.next_multiple_of(COLS));
        for (k_start, depth) in parts(batch.k_start, batch.k_end, batch.k_block) {
            let merge = product.merge(k_start, depth);
            let is_last = k_start + depth == product.k;
            let (done, steps) = (P::steps(k_start - batch.k_start), P::steps(depth));
            let packed_a = if let Some(packed_a) = packed_a {
                &packed_a[done * batch_rows + (area.first_row - batch.first_row) * steps..]
            } else {
                let range = Range { first: area.first_row, count: area.rows.len(), k_start, depth };
                let panels = &mut panels[..area.rows.len().next_multiple_of(ROWS) * steps];
                P::pack::<ROWS>(proof, &product.a, product.precision, range, panels);
                &*panels
            };
            let packed_b = &packed_b[done * batch_cols + (area.first_col - batch.first_col) * steps..];
            for col in (0..area.cols).step_by(COLS) {
                let panel_b = &packed_b[col * steps..][..COLS * steps];
                let mut narrow = if is_last { &mut area.narrow[..] } else { &mut [] };
                for (idx, rows) in area.rows.chunks_mut(ROWS).enumerate() {
                    let panels = (&packed_a[idx * ROWS * steps..][..ROWS * steps], panel_b);
                    let place = Place { row: area.first_row + idx * ROWS, col: area.first_col + col };
                    let n_rows = rows.len();
                    let (these, later) = narrow.split_at_mut(n_rows.min(narrow.len()));
                    narrow = later;
                    let to = TileRows { rows, narrow: these, col, cols: COLS.min(area.cols - col) };
                    match n_rows {
                        0..=4 => tile::<P, 4>(proof, panels, &merge, place, to),
                        5..=8 => tile::<P, 8>(proof, panels, &merge, place, to),
                        _ => tile::<P, ROWS>(proof, panels, &merge, place, to),
                    }
                }
            }
        }
    }
}
