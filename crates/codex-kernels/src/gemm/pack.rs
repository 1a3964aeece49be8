//! Operands as the tiles read them: panels as wide as a tile, in which the elements of one `k` are neighbours.
//!
//! A panel of width `W` over `depth` terms is `[depth][W]`, or `[depth / 2][W][2]` where terms are multiplied in pairs; lines beyond the
//! operand's edge are zero, and so is the second term of the last pair where `depth` is odd.

use std::cell::Cell;
use std::thread::LocalKey;

use crate::gemm::elements::{Element, Elements, Precision, rounded};
use crate::gemm::matrix::View;
use crate::gemm::plan::parts;

/// Terms that are copied at once where lines are contiguous: as many runs of memory are read side by side.
const COPIED_TERMS: usize = 8;
/// Lines, and terms, that are transposed together.
pub(crate) const SQUARE: usize = 4;
/// Bytes of a cache line, at which packed panels start.
const LINE_BYTES: usize = 64;

/// What a panel holds for one line.
pub(crate) trait Packed: Copy + Default + Send + Sync + 'static {
    /// Terms in one of them.
    const TERMS: usize;
    /// Where the thread that asked for a product keeps panels between calls.
    fn scratch() -> &'static LocalKey<Scratch<Self>>;
    /// Where each thread keeps the panels of a task.
    fn task_scratch() -> &'static LocalKey<Scratch<Self>>;
    /// How many hold `terms` terms of a line.
    #[inline(always)]
    fn steps(terms: usize) -> usize {
        terms.div_ceil(Self::TERMS)
    }
}

impl Packed for f32 {
    const TERMS: usize = 1;

    fn scratch() -> &'static LocalKey<Scratch<Self>> {
        thread_local! {
            static PANELS: Scratch<f32> = const { Scratch::new() };
        }
        &PANELS
    }

    fn task_scratch() -> &'static LocalKey<Scratch<Self>> {
        thread_local! {
            static PANELS: Scratch<f32> = const { Scratch::new() };
        }
        &PANELS
    }
}

/// The rows of a matrix in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'a, T> {
    elements: &'a [T],
    row_stride: usize,
}

impl<'a, T> Lines<'a, T> {
    /// All elements, and where an element of a row is among them; it may lie beyond the end.
    #[inline(always)]
    pub(crate) fn place(&self, line: usize, start: usize) -> (&'a [T], usize) {
        (self.elements, line * self.row_stride + start)
    }

    /// `len` elements of a row, from `start` on.
    #[inline(always)]
    pub(crate) fn part(&self, line: usize, start: usize, len: usize) -> &'a [T] {
        &self.elements[line * self.row_stride + start..][..len]
    }
}

/// The rows of a matrix of either type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'a> {
    F32(Lines<'a, f32>),
    Bf16(Lines<'a, half::bf16>),
}

/// An operand seen from the dimension that is not summed over: rows of `a`, columns of `b`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand<'a> {
    stored: Stored<'a>,
    /// Whether the terms of a sum are contiguous in memory.
    terms_contiguous: bool,
}

impl<'a> Operand<'a> {
    fn new(view: View<'a>, terms_contiguous: bool) -> Self {
        let (elements, row_stride) = view.stored();
        // Rows of nothing lie nowhere, however far apart they would be.
        let row_stride = if elements.is_empty() { 0 } else { row_stride };
        let stored = match elements {
            Elements::F32(elements) => Stored::F32(Lines { elements, row_stride }),
            Elements::Bf16(elements) => Stored::Bf16(Lines { elements, row_stride }),
        };
        Self { stored, terms_contiguous }
    }

    /// The left operand: its rows are packed.
    pub(crate) fn left(view: View<'a>) -> Self {
        Self::new(view, !view.is_transposed())
    }

    /// The right operand: its columns are packed.
    pub(crate) fn right(view: View<'a>) -> Self {
        Self::new(view, view.is_transposed())
    }

    /// Whether the terms of a sum are contiguous in memory.
    pub(crate) fn terms_contiguous(&self) -> bool {
        self.terms_contiguous
    }

    /// The rows in memory: lines, or where terms are not contiguous, the elements of all lines for one term.
    pub(crate) fn stored(&self) -> Stored<'a> {
        self.stored
    }

    /// Packs `range` into panels of width `W`; `panels` is as long as those panels together.
    #[inline(always)]
    pub(crate) fn pack<const W: usize>(&self, precision: Precision, range: Range, panels: &mut [f32]) {
        let is_bf16 = match self.stored {
            Stored::F32(lines) => {
                pack_lines::<_, W>(lines, self.terms_contiguous, range, panels);
                false
            }
            Stored::Bf16(lines) => {
                pack_lines::<_, W>(lines, self.terms_contiguous, range, panels);
                true
            }
        };
        if precision == Precision::Bf16 && !is_bf16 {
            for element in panels {
                *element = rounded(*element);
            }
        }
    }
}

/// Some rows or columns of an operand, and some terms of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) k_start: usize,
    pub(crate) depth: usize,
}

/// Packs a range of lines of any type as f32.
#[inline(always)]
fn pack_lines<T: Element, const W: usize>(lines: Lines<'_, T>, terms_contiguous: bool, range: Range, panels: &mut [f32]) {
    let Range { first, count, k_start, depth } = range;
    if depth == 0 || count == 0 {
        return;
    }
    if terms_contiguous {
        for (idx, panel) in panels.chunks_exact_mut(depth * W).enumerate() {
            let in_panel = W.min(count - idx * W);
            transpose::<T, W>(lines, Range { first: first + idx * W, count: in_panel, ..range }, panel);
        }
    } else {
        for (term, terms) in parts(0, depth, COPIED_TERMS) {
            let panels = panels.chunks_exact_mut(depth * W).map(|panel| &mut panel[term * W..][..terms * W]);
            for (idx, panel) in panels.enumerate() {
                let (first, in_panel) = (first + idx * W, W.min(count - idx * W));
                for (term, to) in (k_start + term..).zip(panel.as_chunks_mut::<W>().0) {
                    let from = lines.part(term, first, in_panel);
                    if let Some(from) = from.first_chunk::<W>() {
                        *to = std::array::from_fn(|line| from[line].widen());
                    } else {
                        to[..in_panel].iter_mut().zip(from).for_each(|(to, from)| *to = from.widen());
                        to[in_panel..].fill(0.0);
                    }
                }
            }
        }
    }
}

/// Packs one panel of at most `W` lines that are each contiguous along the terms.
#[inline(always)]
fn transpose<T: Element, const W: usize>(lines: Lines<'_, T>, range: Range, panel: &mut [f32]) {
    const { assert!(W >= SQUARE, "the narrowest panel holds one square") };
    let Range { first, count, k_start, depth } = range;
    let sources: [&[T]; W] =
        std::array::from_fn(|line| if line < count { lines.part(first + line, k_start, depth) } else { &T::ZEROS[..depth] });
    let squares: [&[[T; SQUARE]]; W] = std::array::from_fn(|line| &sources[line].as_chunks().0[..depth / SQUARE]);
    let (panels, rest) = panel.as_chunks_mut::<W>().0.as_chunks_mut::<SQUARE>();
    for (group, to) in panels.iter_mut().enumerate() {
        for square in 0..W.div_ceil(SQUARE) {
            // The last square overlaps the one before where the width is not a multiple.
            let line = (square * SQUARE).min(W - SQUARE);
            let terms = transpose_square(std::array::from_fn(|idx| squares[line + idx][group].map(T::widen)));
            for (to, term) in to.iter_mut().zip(&terms) {
                to[line..][..SQUARE].copy_from_slice(term);
            }
        }
    }
    for (term, to) in (depth / SQUARE * SQUARE..).zip(rest) {
        *to = std::array::from_fn(|line| sources[line][term].widen());
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
pub(crate) struct Scratch<T>(Cell<Vec<T>>);

impl<T: Copy + Default> Scratch<T> {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self(Cell::new(Vec::new()))
    }

    /// Calls `work` with `len` elements that start at a cache line and hold anything. A call within a call gets another buffer, so a
    /// thread may take up a second product while it waits for tasks of the first.
    pub(crate) fn with<R>(&self, len: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
        let mut buffer = self.0.take();
        let spare = LINE_BYTES / size_of::<T>();
        if buffer.len() < len + spare {
            buffer.resize(len + spare, T::default());
        }
        // An offset is not promised to be found; a panel that starts elsewhere is slower, not wrong.
        let skipped = buffer.as_ptr().align_offset(LINE_BYTES).min(spare);
        let result = work(&mut buffer[skipped..][..len]);
        self.0.set(buffer);
        result
    }
}
