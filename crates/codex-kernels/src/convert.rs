//! Conversions between f32 and bf16, the upper half of an f32.

use half::bf16;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::error::{RowsError, check_length};
use crate::grid::TASK_ELEMENTS;
use crate::isa::{Isa, Kernel, run};

/// Writes the numbers of `from` to `to`, of the same length; it is exact.
///
/// # Errors
/// [`RowsError::Length`].
pub fn widen(isa: Isa, from: &[bf16], to: &mut [f32]) -> Result<(), RowsError> {
    check_length("widen", "to", from.len(), to.len())?;
    let tasks = to.par_chunks_mut(TASK_ELEMENTS).zip(from.par_chunks(TASK_ELEMENTS));
    tasks.for_each(|(to, from)| run(isa, Widen { from, to }));
    Ok(())
}

/// Writes the nearest bf16 of each number of `from` to `to`, of the same length: ties to even, and NaN stays NaN. The bits are those of
/// [`bf16::from_f32`] on every path.
///
/// # Errors
/// [`RowsError::Length`].
pub fn narrow(isa: Isa, from: &[f32], to: &mut [bf16]) -> Result<(), RowsError> {
    check_length("narrow", "to", from.len(), to.len())?;
    let tasks = to.par_chunks_mut(TASK_ELEMENTS).zip(from.par_chunks(TASK_ELEMENTS));
    tasks.for_each(|(to, from)| run(isa, Narrow { from, to }));
    Ok(())
}

/// The same number as an f32.
#[inline(always)]
pub(crate) fn widened(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

/// The nearest bf16. It has no branches, so that LLVM vectorises loops of it.
#[inline(always)]
pub(crate) fn narrowed(value: f32) -> bf16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1));
    // Rounding could carry a NaN to infinity or to zero: it is cut off instead, and made quiet.
    let bits = if value.is_nan() { bits | 0x0040_0000 } else { rounded };
    bf16::from_bits((bits >> 16) as u16)
}

struct Widen<'t> {
    from: &'t [bf16],
    to: &'t mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        self.to.iter_mut().zip(self.from).for_each(|(to, from)| *to = widened(*from));
    }
}

struct Narrow<'t> {
    from: &'t [f32],
    to: &'t mut [bf16],
}

impl Kernel for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        self.to.iter_mut().zip(self.from).for_each(|(to, from)| *to = narrowed(*from));
    }
}
