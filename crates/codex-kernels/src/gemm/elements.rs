//! The numbers that matrices are made of.

use half::bf16;

use crate::convert::{narrowed, widened};
use crate::gemm::plan::K_BLOCK_MAX;

/// How the terms of a product are multiplied; sums are f32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// As f32; bf16 operands are widened, which changes nothing.
    F32,
    /// As bf16, to which both operands are rounded first: to the nearest, ties to even, and NaN stays NaN.
    ///
    /// On [`Isa::Avx512Bf16`](crate::Isa::Avx512Bf16) the processor's own bf16 instructions do it: twice as fast as f32, and subnormal numbers,
    /// below 1.2e-38, count as zero. The other paths multiply the rounded numbers as f32, which is exact but for how sums are rounded.
    Bf16,
    /// As f16 (IEEE 754 binary16), to which both operands are rounded first: to the nearest, ties to even; above 65,504 to infinity, below 3e-8 to zero.
    /// The rounded numbers are multiplied as f32, which is exact but for how sums are rounded.
    F16,
}

/// The elements of a matrix that is read.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16: the upper half of a 32-bit float.
    Bf16(&'a [bf16]),
}

impl Elements<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(elements) => elements.len(),
            Self::Bf16(elements) => elements.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of them.
    ///
    /// # Panics
    /// Where the range ends behind the last.
    #[must_use]
    pub fn range(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(elements) => Self::F32(&elements[range]),
            Self::Bf16(elements) => Self::Bf16(&elements[range]),
        }
    }

    /// The first `len`.
    pub(crate) fn first(self, len: usize) -> Self {
        match self {
            Self::F32(elements) => Self::F32(&elements[..len]),
            Self::Bf16(elements) => Self::Bf16(&elements[..len]),
        }
    }
}

/// The elements of a matrix that is written.
#[derive(Debug)]
pub enum ElementsMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// bfloat16: the upper half of a 32-bit float.
    Bf16(&'a mut [bf16]),
}

impl ElementsMut<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(elements) => elements.len(),
            Self::Bf16(elements) => elements.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whatever dereferences to a slice of either type becomes elements.
macro_rules! from_slices {
    ($($element:ty => $variant:ident),*) => {$(
        impl<'a> From<&'a [$element]> for Elements<'a> {
            fn from(elements: &'a [$element]) -> Self {
                Self::$variant(elements)
            }
        }
        impl<'a> From<&'a Vec<$element>> for Elements<'a> {
            fn from(elements: &'a Vec<$element>) -> Self {
                Self::$variant(elements)
            }
        }
        impl<'a, const N: usize> From<&'a [$element; N]> for Elements<'a> {
            fn from(elements: &'a [$element; N]) -> Self {
                Self::$variant(elements)
            }
        }
        impl<'a> From<&'a mut [$element]> for ElementsMut<'a> {
            fn from(elements: &'a mut [$element]) -> Self {
                Self::$variant(elements)
            }
        }
        impl<'a> From<&'a mut Vec<$element>> for ElementsMut<'a> {
            fn from(elements: &'a mut Vec<$element>) -> Self {
                Self::$variant(elements)
            }
        }
        impl<'a, const N: usize> From<&'a mut [$element; N]> for ElementsMut<'a> {
            fn from(elements: &'a mut [$element; N]) -> Self {
                Self::$variant(elements)
            }
        }
    )*};
}
from_slices!(f32 => F32, bf16 => Bf16);

/// A number that an operand may be made of.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// A line of nothing.
    const ZEROS: &'static [Self; K_BLOCK_MAX];
    /// The same number as an f32.
    fn widen(self) -> f32;
}

impl Element for f32 {
    const ZEROS: &'static [Self; K_BLOCK_MAX] = &[0.0; K_BLOCK_MAX];

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    const ZEROS: &'static [Self; K_BLOCK_MAX] = &[Self::ZERO; K_BLOCK_MAX];

    #[inline(always)]
    fn widen(self) -> f32 {
        widened(self)
    }
}

/// The nearest bf16 as an f32.
#[inline(always)]
pub(crate) fn rounded(value: f32) -> f32 {
    widened(narrowed(value))
}
