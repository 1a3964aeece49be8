//! The numbers that tensors between operations are made of.

use half::bf16;

use crate::convert::{narrowed, widened};

/// f32, or bf16 where half the memory is worth more than the last digits. Every kernel computes in f32 and rounds once, when it writes.
///
/// There are no other implementations: others rely on any bits being a number.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + std::fmt::Debug + 'static {
    /// The number as f32, which is exact.
    fn widen(self) -> f32;

    /// The nearest number, ties to even.
    fn narrow(value: f32) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        widened(self)
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        narrowed(value)
    }
}
