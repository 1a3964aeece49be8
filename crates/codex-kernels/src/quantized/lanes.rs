//! The vectors that a line of a panel is cut into, on each path.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::avx2::{self, Avx2};
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::avx512::{self, Avx512};
use crate::isa::fma;
use crate::quantized::matrix::WIDTH;

/// Vectors of some f32; `vector` counts those of a line.
pub(crate) trait Lanes: Copy {
    /// A vector.
    type Vector: Copy;
    /// Numbers in it.
    const COUNT: usize;
    /// Zeros.
    fn zero(self) -> Self::Vector;
    /// The same in each lane.
    fn splat(self, value: f32) -> Self::Vector;
    /// `a * b + c`, rounded as the path rounds it.
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a * b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Numbers of a line.
    fn load(self, line: &[f32; WIDTH], vector: usize) -> Self::Vector;
    /// Values of a line as f32.
    fn load_values(self, line: &[i8; WIDTH], vector: usize) -> Self::Vector;
    /// Writes numbers of a line.
    fn store(self, numbers: Self::Vector, line: &mut [f32; WIDTH], vector: usize);
}

/// Vectors of any processor, as arrays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

/// Lanes of a vector of any processor.
const PORTABLE: usize = 4;

impl Lanes for Portable {
    type Vector = [f32; PORTABLE];
    const COUNT: usize = PORTABLE;

    #[inline(always)]
    fn zero(self) -> Self::Vector {
        [0.0; PORTABLE]
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        [value; PORTABLE]
    }

    #[inline(always)]
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| fma::<false>(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    fn load(self, line: &[f32; WIDTH], vector: usize) -> Self::Vector {
        line.as_chunks().0[vector]
    }

    #[inline(always)]
    fn load_values(self, line: &[i8; WIDTH], vector: usize) -> Self::Vector {
        line.as_chunks::<PORTABLE>().0[vector].map(f32::from)
    }

    #[inline(always)]
    fn store(self, numbers: Self::Vector, line: &mut [f32; WIDTH], vector: usize) {
        line.as_chunks_mut().0[vector] = numbers;
    }
}

/// The vectors that a proof gives.
#[cfg(all(target_arch = "x86_64", not(miri)))]
macro_rules! lanes_of_proof {
    ($proof:ty, $module:ident) => {
        impl Lanes for $proof {
            type Vector = $module::Vector;
            const COUNT: usize = $module::LANES;

            #[inline(always)]
            fn zero(self) -> Self::Vector {
                self.zero()
            }

            #[inline(always)]
            fn splat(self, value: f32) -> Self::Vector {
                self.splat(value)
            }

            #[inline(always)]
            fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                self.fma(a, b, c)
            }

            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.mul(a, b)
            }

            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.add(a, b)
            }

            #[inline(always)]
            fn load(self, line: &[f32; WIDTH], vector: usize) -> Self::Vector {
                self.load(&line.as_chunks::<{ $module::LANES }>().0[vector])
            }

            #[inline(always)]
            fn load_values(self, line: &[i8; WIDTH], vector: usize) -> Self::Vector {
                self.load_signed(&line.as_chunks::<{ $module::LANES }>().0[vector])
            }

            #[inline(always)]
            fn store(self, numbers: Self::Vector, line: &mut [f32; WIDTH], vector: usize) {
                self.store(numbers, &mut line.as_chunks_mut::<{ $module::LANES }>().0[vector]);
            }
        }
    };
}
#[cfg(all(target_arch = "x86_64", not(miri)))]
lanes_of_proof!(Avx2, avx2);
#[cfg(all(target_arch = "x86_64", not(miri)))]
lanes_of_proof!(Avx512, avx512);
