//! Operands as the tiles read them: panels as wide as a tile, in which the elements of one `k` are neighbours.
//!
//! A panel of width `W` over `depth` terms is `[depth][W]`; lines beyond the operand's edge are zero.

use std::cell::Cell;

use crate::gemm::matrix::View;
use crate::gemm::plan::{K_BLOCK_MAX, parts};

/// Terms that are copied at once where lines are contiguous: as many runs of memory are read side by side.
const COPIED_TERMS: usize = 8;
/// Lines, and terms, that are transposed together.
pub(crate) const SQUARE: usize = 4;
/// What is packed for a line beyond the edge.
static NO_LINE: [f32; K_BLOCK_MAX] = [0.0; K_BLOCK_MAX];
/// Bytes of a cache line, at which packed panels start.
const LINE_BYTES: usize = 64;

/// An operand seen from the dimension that is not summed over: rows of `a`, columns of `b`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand<'a> {
    view: View<'a>,
    /// Whether the terms of a sum are contiguous in memory.
    terms_contiguous: bool,
}

impl<'a> Operand<'a> {
    /// The left operand: its rows are packed.
    pub(crate) fn left(view: View<'a>) -> Self {
        Self { view, terms_contiguous: !view.is_transposed() }
    }

    /// The right operand: its columns are packed.
    pub(crate) fn right(view: View<'a>) -> Self {
        Self { view, terms_contiguous: view.is_transposed() }
    }

    /// Whether the terms of a sum are contiguous in memory.
    pub(crate) fn terms_contiguous(&self) -> bool {
        self.terms_contiguous
    }

    /// `len` contiguous elements from memory row `line` on.
    #[inline(always)]
    pub(crate) fn line(&self, line: usize, start: usize, len: usize) -> &'a [f32] {
        self.view.line(line, start, len)
    }

    /// Packs `count` rows or columns from `first` on, and the terms `k_start..k_start + depth`, into panels of width `W`.
    /// `panels` is as long as those panels together.
    #[inline(always)]
    pub(crate) fn pack<const W: usize>(&self, first: usize, count: usize, k_start: usize, depth: usize, panels: &mut [f32]) {
        if depth == 0 || count == 0 {
            return;
        }
        if self.terms_contiguous {
            for (idx, panel) in panels.chunks_exact_mut(depth * W).enumerate() {
                let lines = W.min(count - idx * W);
                self.transpose::<W>(first + idx * W, lines, k_start, depth, panel);
            }
        } else {
            for (term, terms) in parts(0, depth, COPIED_TERMS) {
                let panels = panels.chunks_exact_mut(depth * W).map(|panel| &mut panel[term * W..][..terms * W]);
                for (idx, panel) in panels.enumerate() {
                    let (first, lines) = (first + idx * W, W.min(count - idx * W));
                    for (term, to) in (k_start + term..).zip(panel.as_chunks_mut::<W>().0) {
                        let from = self.line(term, first, lines);
                        if let Some(from) = from.first_chunk::<W>() {
                            *to = *from;
                        } else {
                            to[..lines].copy_from_slice(from);
                            to[lines..].fill(0.0);
                        }
                    }
                }
            }
        }
    }

    /// Packs one panel of `lines <= W` lines that are each contiguous along the terms.
    #[inline(always)]
    fn transpose<const W: usize>(&self, first: usize, lines: usize, k_start: usize, depth: usize, panel: &mut [f32]) {
        const { assert!(W >= SQUARE, "the narrowest panel holds one square") };
        let sources: [&[f32]; W] =
            std::array::from_fn(|line| if line < lines { self.line(first + line, k_start, depth) } else { &NO_LINE[..depth] });
        let squares: [&[[f32; SQUARE]]; W] = std::array::from_fn(|line| &sources[line].as_chunks().0[..depth / SQUARE]);
        let (panels, rest) = panel.as_chunks_mut::<W>().0.as_chunks_mut::<SQUARE>();
        for (group, to) in panels.iter_mut().enumerate() {
            for square in 0..W.div_ceil(SQUARE) {
                // The last square overlaps the one before where the width is not a multiple.
                let line = (square * SQUARE).min(W - SQUARE);
                let terms = transpose_square(std::array::from_fn(|idx| squares[line + idx][group]));
                for (to, term) in to.iter_mut().zip(&terms) {
                    to[line..][..SQUARE].copy_from_slice(term);
                }
            }
        }
        for (term, to) in (depth / SQUARE * SQUARE..).zip(rest) {
            *to = std::array::from_fn(|line| sources[line][term]);
        }
    }
}

/// The transpose of a square. On x86-64 its shuffles are spelled out: LLVM moves the elements one by one, three times slower.
#[inline(always)]
pub(crate) fn transpose_square(rows: [[f32; SQUARE]; SQUARE]) -> [[f32; SQUARE]; SQUARE] {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{__m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};
        // SAFETY: these are SSE instructions, which every x86-64 processor has; the types on both sides of each transmutation are
        // sixteen f32 without padding, for which any bits are valid.
        unsafe {
            let [a, b, c, d] = std::mem::transmute::<[[f32; SQUARE]; SQUARE], [__m128; SQUARE]>(rows);
            let (low_ab, high_ab) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
            let (low_cd, high_cd) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
            std::mem::transmute::<[__m128; SQUARE], [[f32; SQUARE]; SQUARE]>([
                _mm_movelh_ps(low_ab, low_cd),
                _mm_movehl_ps(low_cd, low_ab),
                _mm_movelh_ps(high_ab, high_cd),
                _mm_movehl_ps(high_cd, high_ab),
            ])
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    std::array::from_fn(|term| std::array::from_fn(|line| rows[line][term]))
}

/// A buffer that a thread keeps between calls, since fresh pages cost as much as packing into them.
pub(crate) struct Scratch(Cell<Vec<f32>>);

impl Scratch {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self(Cell::new(Vec::new()))
    }

    /// Calls `work` with `len` elements that start at a cache line and hold anything. A call within a call gets another buffer, so a
    /// thread may take up a second product while it waits for tasks of the first.
    pub(crate) fn with<R>(&self, len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
        let mut buffer = self.0.take();
        let spare = LINE_BYTES / size_of::<f32>();
        if buffer.len() < len + spare {
            buffer.resize(len + spare, 0.0);
        }
        // An offset is not promised to be found; a panel that starts elsewhere is slower, not wrong.
        let skipped = buffer.as_ptr().align_offset(LINE_BYTES).min(spare);
        let result = work(&mut buffer[skipped..][..len]);
        self.0.set(buffer);
        result
    }
}
