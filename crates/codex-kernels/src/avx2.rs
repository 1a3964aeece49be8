//! AVX2 where LLVM does not find the instructions by itself: safe functions on a proof that only a processor that has them gives.
//!
//! A kernel is inlined into the function that is compiled for these instructions, and so are the methods of its proof.

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_loadl_epi64, _mm_prefetch, _mm256_add_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use crate::avx512::WideKernel;
use crate::isa::Isa;

/// Numbers in a vector.
pub(crate) const LANES: usize = 8;

/// Eight f32.
pub(crate) type Vector = __m256;

/// That this thread runs code compiled for AVX2 and FMA, on a processor that has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

// In each block below: SAFETY of the instructions is what the proof says. A load or store touches the elements of the array beside it, all of them
// and nothing else, and needs no alignment.
impl Avx2 {
    /// Runs a kernel.
    ///
    /// # Panics
    /// If the processor lacks the instructions: work is sent here only after it has been asked.
    pub(crate) fn run<K: WideKernel<Self>>(kernel: K) {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<K: WideKernel<Avx2>>(kernel: K) {
            kernel.run(Avx2(()));
        }
        assert!(Isa::Avx2.is_available(), "work took a path that this processor lacks");
        // SAFETY: the processor has the features that the function is compiled with.
        unsafe { compiled(kernel) }
    }

    /// Zeros.
    #[inline(always)]
    pub(crate) fn zero(self) -> Vector {
        // SAFETY: see above.
        unsafe { _mm256_setzero_ps() }
    }

    /// The same in each lane.
    #[inline(always)]
    pub(crate) fn splat(self, value: f32) -> Vector {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(value) }
    }

    /// `a * b + c`.
    #[inline(always)]
    pub(crate) fn fma(self, a: Vector, b: Vector, c: Vector) -> Vector {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    /// `a * b`.
    #[inline(always)]
    pub(crate) fn mul(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: see above.
        unsafe { _mm256_mul_ps(a, b) }
    }

    /// `a + b`.
    #[inline(always)]
    pub(crate) fn add(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }

    /// Eight numbers.
    #[inline(always)]
    pub(crate) fn load(self, from: &[f32; LANES]) -> Vector {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    /// Eight 8-bit integers as f32.
    #[inline(always)]
    pub(crate) fn load_signed(self, from: &[i8; LANES]) -> Vector {
        // SAFETY: see above; the instruction reads eight bytes.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))) }
    }

    /// Writes the lanes.
    #[inline(always)]
    pub(crate) fn store(self, vector: Vector, to: &mut [f32; LANES]) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), vector) }
    }

    /// Asks for the cache line of an element, which may lie beyond the end.
    #[inline(always)]
    pub(crate) fn prefetch<T>(self, from: &[T], idx: usize) {
        // SAFETY: a prefetch reads nothing that a program can see, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(idx).cast()) }
    }
}
