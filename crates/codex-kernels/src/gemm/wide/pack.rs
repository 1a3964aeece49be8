//! Packing in AVX-512 registers.

use half::bf16;

use crate::avx512::{Avx512, Avx512Bf16, LANES, Pair, Proof, Vector, WideKernel};
use crate::gemm::elements::{Element, Precision};
use crate::gemm::pack::{Lines, Operand, Range, Stored};
use crate::gemm::plan::parts;
use crate::gemm::product::{Piece, Product, Side};
use crate::gemm::wide::{COLS, ROWS, Terms};

/// Steps that are copied at once where lines are contiguous: as many runs of memory are read side by side.
const COPIED_STEPS: usize = 8;

/// Bytes of a cache line.
pub(super) const LINE_BYTES: usize = 64;

/// How elements become what a panel holds.
pub(super) trait Source<P: Terms> {
    /// The elements.
    type Element: Element;
    /// The first sixteen steps of one line; zeros where it has fewer.
    fn along(proof: P::Proof, line: &[Self::Element]) -> Vector;
    /// One step of sixteen lines: their first terms, and where steps have two, their second ones; zeros where there are fewer.
    fn across(proof: P::Proof, first: &[Self::Element], second: &[Self::Element]) -> Vector;
}

/// f32 as they are.
pub(super) struct Same;
/// f32 rounded to bf16, and kept as f32.
pub(super) struct Rounded;
/// bf16 as f32.
pub(super) struct Widened;
/// f32 as pairs of bf16.
pub(super) struct Narrowed;
/// bf16 as pairs.
pub(super) struct Paired;

impl Source<f32> for Same {
    type Element = f32;

    #[inline(always)]
    fn along(proof: Avx512, line: &[f32]) -> Vector {
        proof.load(line)
    }

    #[inline(always)]
    fn across(proof: Avx512, first: &[f32], _: &[f32]) -> Vector {
        proof.load(first)
    }
}

impl Source<f32> for Rounded {
    type Element = f32;

    #[inline(always)]
    fn along(proof: Avx512, line: &[f32]) -> Vector {
        proof.rounded(proof.load(line))
    }

    #[inline(always)]
    fn across(proof: Avx512, first: &[f32], _: &[f32]) -> Vector {
        proof.rounded(proof.load(first))
    }
}

impl Source<f32> for Widened {
    type Element = bf16;

    #[inline(always)]
    fn along(proof: Avx512, line: &[bf16]) -> Vector {
        proof.load_widened(line)
    }

    #[inline(always)]
    fn across(proof: Avx512, first: &[bf16], _: &[bf16]) -> Vector {
        proof.load_widened(first)
    }
}

impl Source<Pair> for Narrowed {
    type Element = f32;

    #[inline(always)]
    fn along(proof: Avx512Bf16, line: &[f32]) -> Vector {
        let (first, second) = line.split_at(line.len().min(LANES));
        proof.narrow(proof.base().load(first), proof.base().load(second))
    }

    #[inline(always)]
    fn across(proof: Avx512Bf16, first: &[f32], second: &[f32]) -> Vector {
        proof.narrow_and_zip(proof.base().load(first), proof.base().load(second))
    }
}

impl Source<Pair> for Paired {
    type Element = bf16;

    #[inline(always)]
    fn along(proof: Avx512Bf16, line: &[bf16]) -> Vector {
        proof.base().load_pairs(line)
    }

    #[inline(always)]
    fn across(proof: Avx512Bf16, first: &[bf16], second: &[bf16]) -> Vector {
        proof.base().zip(first, second)
    }
}

/// What panels are made of, from operands of either type.
pub(crate) trait PackAny: Terms {
    /// Packs a range of lines into panels of width `W`.
    fn pack<const W: usize>(proof: Self::Proof, operand: &Operand<'_>, precision: Precision, range: Range, panels: &mut [Self]);
}

impl PackAny for f32 {
    #[inline(always)]
    fn pack<const W: usize>(proof: Avx512, operand: &Operand<'_>, precision: Precision, range: Range, panels: &mut [Self]) {
        match (operand.stored(), precision) {
            (Stored::F32(lines), Precision::F32 | Precision::F16) => {
                pack::<_, Same, W>(proof, lines, operand.terms_contiguous(), range, panels);
            }
            (Stored::F32(lines), Precision::Bf16) => pack::<_, Rounded, W>(proof, lines, operand.terms_contiguous(), range, panels),
            (Stored::Bf16(lines), _) => pack::<_, Widened, W>(proof, lines, operand.terms_contiguous(), range, panels),
        }
    }
}

impl PackAny for Pair {
    #[inline(always)]
    fn pack<const W: usize>(proof: Avx512Bf16, operand: &Operand<'_>, _: Precision, range: Range, panels: &mut [Self]) {
        match operand.stored() {
            Stored::F32(lines) => pack::<_, Narrowed, W>(proof, lines, operand.terms_contiguous(), range, panels),
            Stored::Bf16(lines) => pack::<_, Paired, W>(proof, lines, operand.terms_contiguous(), range, panels),
        }
    }
}

/// One task of packing.
pub(super) struct PackKernel<'t, 'o, P> {
    pub(super) product: &'t Product<'t>,
    pub(super) piece: &'t mut Piece<'o, P>,
}

impl<P: PackAny> WideKernel<P::Proof> for PackKernel<'_, '_, P> {
    #[inline(always)]
    fn run(self, proof: P::Proof) {
        let (product, Piece { side, range, panels }) = (self.product, self.piece);
        match side {
            Side::Left => P::pack::<ROWS>(proof, &product.a, product.precision, *range, panels),
            Side::Right => P::pack::<COLS>(proof, &product.b, product.precision, *range, panels),
        }
    }
}

/// Packs a range of lines into panels of width `W`.
#[inline(always)]
fn pack<P: Terms, S: Source<P>, const W: usize>(
    proof: P::Proof,
    lines: Lines<'_, S::Element>,
    terms_contiguous: bool,
    range: Range,
    panels: &mut [P],
) {
    if range.depth == 0 || range.count == 0 {
        return;
    }
    let panel_len = P::steps(range.depth) * W;
    if terms_contiguous {
        for (idx, panel) in panels.chunks_exact_mut(panel_len).enumerate() {
            let count = W.min(range.count - idx * W);
            transpose::<P, S, W>(proof, lines, Range { first: range.first + idx * W, count, ..range }, panel);
        }
    } else {
        copy::<P, S, W>(proof, lines, range, panels);
    }
}

/// Packs lines that are neighbours in memory, term by term.
#[inline(always)]
fn copy<P: Terms, S: Source<P>, const W: usize>(proof: P::Proof, lines: Lines<'_, S::Element>, range: Range, panels: &mut [P]) {
    let Range { first, count, k_start, depth } = range;
    for (step, steps) in parts(0, P::steps(depth), COPIED_STEPS) {
        for (idx, panel) in panels.chunks_exact_mut(P::steps(depth) * W).enumerate() {
            let (first, in_panel) = (first + idx * W, W.min(count - idx * W));
            for (step, to) in (step..).zip(panel[step * W..][..steps * W].as_chunks_mut::<W>().0) {
                let term = step * P::TERMS;
                let one = lines.part(k_start + term, first, in_panel);
                // What the next turn of the outer loop reads; rows are too far apart for the processor to see a pattern.
                for ahead in 0..P::TERMS {
                    let row = k_start + term + COPIED_STEPS * P::TERMS + ahead;
                    for line in (0..W).step_by(LINE_BYTES / size_of::<S::Element>()) {
                        proof.base().prefetch(lines.place(row, first + line));
                    }
                }
                let two = if term + 1 < depth { lines.part(k_start + term + P::TERMS - 1, first, in_panel) } else { &[] };
                if let (Some(one), Some(two)) = (one.first_chunk::<W>(), two.first_chunk::<W>()) {
                    copy_step::<P, S, W>(proof, one, two, to);
                } else {
                    copy_step::<P, S, W>(proof, one, two, to);
                }
            }
        }
    }
}

/// Packs one step of at most `W` lines.
#[inline(always)]
fn copy_step<P: Terms, S: Source<P>, const W: usize>(proof: P::Proof, one: &[S::Element], two: &[S::Element], to: &mut [P; W]) {
    for start in (0..W).step_by(LANES) {
        let (from_one, from_two) =
            (start.min(one.len())..(start + LANES).min(one.len()), start.min(two.len())..(start + LANES).min(two.len()));
        let vector = S::across(proof, &one[from_one], &two[from_two]);
        proof.base().store(vector, &mut to[start..(start + LANES).min(W)]);
    }
}

/// Packs one panel of at most `W` lines that are each contiguous along the terms.
#[inline(always)]
fn transpose<P: Terms, S: Source<P>, const W: usize>(proof: P::Proof, lines: Lines<'_, S::Element>, range: Range, panel: &mut [P]) {
    const { assert!(W == ROWS || W == COLS, "the two widths of panels") };
    if W == ROWS {
        transpose_lines::<P, S, W, ROWS>(proof, lines, range, 0, panel);
    } else {
        for start in (0..W).step_by(LANES) {
            transpose_lines::<P, S, W, LANES>(proof, lines, range, start, panel);
        }
    }
}

/// Packs `N` lines of a panel from its line `start` on.
#[inline(always)]
fn transpose_lines<P: Terms, S: Source<P>, const W: usize, const N: usize>(
    proof: P::Proof,
    lines: Lines<'_, S::Element>,
    range: Range,
    start: usize,
    panel: &mut [P],
) {
    let Range { first, count, k_start, depth } = range;
    let sources: [&[S::Element]; N] = std::array::from_fn(|line| {
        if start + line < count { lines.part(first + start + line, k_start, depth) } else { &S::Element::ZEROS[..depth] }
    });
    let in_square = LANES * P::TERMS;
    let whole = depth / in_square;
    let (squares, rest) = panel.as_chunks_mut::<W>().0.as_chunks_mut::<LANES>();
    for (group, to) in squares.iter_mut().enumerate().take(whole) {
        let mut rows = [proof.base().zero(); LANES];
        for line in 0..N {
            rows[line] = S::along(proof, &sources[line][group * in_square..][..in_square]);
            for part in (0..in_square).step_by(LINE_BYTES / size_of::<S::Element>()) {
                proof.base().prefetch(lines.place(first + start + N + line, k_start + group * in_square + part));
            }
        }
        let columns = proof.base().transpose(&rows);
        for (column, to) in columns.into_iter().zip(to) {
            proof.base().store(column, &mut to[start..][..N]);
        }
    }
    // A last square that is short, also where only the second half of its last pair is missing.
    let rest = if whole < squares.len() { &mut squares[whole][..] } else { rest };
    if depth > whole * in_square {
        let mut rows = [proof.base().zero(); LANES];
        for line in 0..N {
            rows[line] = S::along(proof, &sources[line][whole * in_square..]);
        }
        let columns = proof.base().transpose(&rows);
        for (column, to) in columns.into_iter().zip(rest) {
            proof.base().store(column, &mut to[start..][..N]);
        }
    }
}
