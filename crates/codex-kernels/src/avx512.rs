//! AVX-512 where LLVM does not find the instructions by itself: safe functions on a proof that only a processor that has them gives.
//!
//! A kernel is inlined into one of the two functions that are compiled for these instructions, and so are the methods of its proof.

use half::bf16;
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _CMP_UNORD_Q, _MM_HINT_T0, _mm_loadu_ps, _mm_loadu_si128, _mm_prefetch, _mm256_mask_storeu_epi16,
    _mm256_maskz_loadu_epi16, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_castps_si512,
    _mm512_castps128_ps512, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi8_epi32, _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps,
    _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_mask_broadcast_f32x4, _mm512_mask_mov_epi32,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_epi16, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_permutexvar_epi16,
    _mm512_set1_epi32, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use crate::isa::Isa;

/// Numbers in a vector.
pub(crate) const LANES: usize = 16;

/// Sixteen f32, or as many pairs of bf16.
pub(crate) type Vector = __m512;

/// That this thread runs code compiled for AVX-512 F, BW, DQ and VL, on a processor that has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

/// That it is compiled for AVX512-BF16 besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Bf16(Avx512);

/// Work that needs a proof. `run` must be `#[inline(always)]`, and so must all it calls in its inner loops.
pub(crate) trait WideKernel<Proof> {
    /// Does it.
    fn run(self, proof: Proof);
}

/// A proof that work can be run with.
pub(crate) trait Proof: Copy {
    /// What it says beyond its own instructions.
    fn base(self) -> Avx512;
    /// Runs a kernel.
    ///
    /// # Panics
    /// If the processor lacks the instructions: products are sent here only after it has been asked.
    fn run<K: WideKernel<Self>>(kernel: K);
}

impl Proof for Avx512 {
    #[inline(always)]
    fn base(self) -> Self {
        self
    }

    fn run<K: WideKernel<Self>>(kernel: K) {
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
        fn compiled<K: WideKernel<Avx512>>(kernel: K) {
            kernel.run(Avx512(()));
        }
        assert!(Isa::Avx512.is_available(), "a product took a path that this processor lacks");
        // SAFETY: the processor has the features that the function is compiled with.
        unsafe { compiled(kernel) }
    }
}

impl Proof for Avx512Bf16 {
    #[inline(always)]
    fn base(self) -> Avx512 {
        self.0
    }

    fn run<K: WideKernel<Self>>(kernel: K) {
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
        fn compiled<K: WideKernel<Avx512Bf16>>(kernel: K) {
            kernel.run(Avx512Bf16(Avx512(())));
        }
        assert!(Isa::Avx512Bf16.is_available(), "a product took a path that this processor lacks");
        // SAFETY: the processor has the features that the function is compiled with.
        unsafe { compiled(kernel) }
    }
}

/// What fills one lane.
///
/// # Safety
/// Four bytes, without padding, for which any bits are valid.
pub(crate) unsafe trait Lane: Copy + Default {}

// SAFETY: an f32 is that.
unsafe impl Lane for f32 {}

/// Two bf16, the first in the lower half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Pair(u32);

// SAFETY: a `u32` is that.
unsafe impl Lane for Pair {}

/// The lowest `n` lanes.
#[inline(always)]
fn lanes(n: usize) -> u16 {
    if n >= LANES { u16::MAX } else { (1 << n) - 1 }
}

// In each block below: SAFETY of the instructions is what the proof says. A masked load or store touches only the lanes of its mask,
// which are elements of the slice beside it.
impl Avx512 {
    /// Zeros.
    #[inline(always)]
    pub(crate) fn zero(self) -> Vector {
        // SAFETY: see above.
        unsafe { _mm512_setzero_ps() }
    }

    /// The same in each lane.
    #[inline(always)]
    pub(crate) fn splat<T: Lane>(self, value: T) -> Vector {
        // SAFETY: see above; a lane is four bytes.
        unsafe { _mm512_castsi512_ps(_mm512_set1_epi32(std::mem::transmute_copy::<T, i32>(&value))) }
    }

    /// `a * b + c`.
    #[inline(always)]
    pub(crate) fn fma(self, a: Vector, b: Vector, c: Vector) -> Vector {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    /// `a * b`.
    #[inline(always)]
    pub(crate) fn mul(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }

    /// `a + b`.
    #[inline(always)]
    pub(crate) fn add(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }

    /// The first sixteen numbers, or zeros where there are fewer.
    #[inline(always)]
    pub(crate) fn load<T: Lane>(self, from: &[T]) -> Vector {
        // SAFETY: see above; lanes are four bytes.
        unsafe { _mm512_maskz_loadu_ps(lanes(from.len()), from.as_ptr().cast()) }
    }

    /// Writes the lanes to the first sixteen places, or to as many as there are.
    #[inline(always)]
    pub(crate) fn store<T: Lane>(self, vector: Vector, to: &mut [T]) {
        // SAFETY: see above; lanes are four bytes, any bits of which are valid.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr().cast(), lanes(to.len()), vector) }
    }

    /// The first sixteen numbers as f32, or zeros where there are fewer.
    #[inline(always)]
    pub(crate) fn load_widened(self, from: &[bf16]) -> Vector {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(self.load_upper(from))) }
    }

    /// Sixteen 8-bit integers as f32.
    #[inline(always)]
    pub(crate) fn load_signed(self, from: &[i8; LANES]) -> Vector {
        // SAFETY: see above; sixteen bytes are read, as many as the array has, and need no alignment.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    /// The first sixteen bf16 in the lower half of each lane.
    #[inline(always)]
    fn load_upper(self, from: &[bf16]) -> __m512i {
        // SAFETY: see above; a bf16 is a `u16` in memory.
        unsafe { _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes(from.len()), from.as_ptr().cast())) }
    }

    /// Pairs of neighbours: the first thirty-two, or zeros where there are fewer.
    #[inline(always)]
    pub(crate) fn load_pairs(self, from: &[bf16]) -> Vector {
        let mask = if from.len() >= 2 * LANES { u32::MAX } else { (1 << from.len()) - 1 };
        // SAFETY: see above; a bf16 is a `u16` in memory.
        unsafe { _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, from.as_ptr().cast())) }
    }

    /// Pairs of an element of each: the first sixteen, or zeros where there are fewer.
    #[inline(always)]
    pub(crate) fn zip(self, first: &[bf16], second: &[bf16]) -> Vector {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(_mm512_or_si512(self.load_upper(first), _mm512_slli_epi32::<16>(self.load_upper(second)))) }
    }

    /// The numbers rounded to bf16, still as f32, as [`narrowed`](crate::convert::narrowed) does it.
    #[inline(always)]
    pub(crate) fn rounded(self, vector: Vector) -> Vector {
        // SAFETY: see above.
        unsafe {
            let bits = _mm512_castps_si512(vector);
            let is_odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), is_odd);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let bits = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(vector, vector), quiet);
            _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed())))
        }
    }

    /// Writes the lanes as the nearest bf16 to the first sixteen places, or to as many as there are.
    #[inline(always)]
    pub(crate) fn store_narrowed(self, vector: Vector, to: &mut [bf16]) {
        // SAFETY: see above; a bf16 is a `u16` in memory, any bits of which are valid.
        unsafe {
            let upper = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_castps_si512(self.rounded(vector))));
            _mm256_mask_storeu_epi16(to.as_mut_ptr().cast(), lanes(to.len()), upper);
        }
    }

    /// Asks for the cache line of an element, which may lie beyond the end.
    #[inline(always)]
    pub(crate) fn prefetch<T>(self, (from, idx): (&[T], usize)) {
        // SAFETY: a prefetch reads nothing that a program can see, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(idx).cast()) }
    }

    /// The transpose of sixteen lines of sixteen: half the shuffles of a square's, as quarters of lines are put together while they are loaded.
    #[inline(always)]
    pub(crate) fn load_transposed(self, lines: [&[f32; LANES]; LANES]) -> [Vector; LANES] {
        // `quarters[i][q]`: the numbers `4 q..4 q + 4` of the lines `i`, `4 + i`, `8 + i` and `12 + i`.
        let mut quarters = [[self.zero(); 4]; 4];
        for (i, quarters) in quarters.iter_mut().enumerate() {
            for (q, quarter) in quarters.iter_mut().enumerate() {
                let part = |line: usize| &lines[line][4 * q];
                // SAFETY: see above; each load reads four of its line's sixteen numbers, and needs no alignment.
                unsafe {
                    let first = _mm512_castps128_ps512(_mm_loadu_ps(part(i)));
                    let second = _mm512_mask_broadcast_f32x4(first, 0x00F0, _mm_loadu_ps(part(4 + i)));
                    let third = _mm512_mask_broadcast_f32x4(second, 0x0F00, _mm_loadu_ps(part(8 + i)));
                    *quarter = _mm512_mask_broadcast_f32x4(third, 0xF000, _mm_loadu_ps(part(12 + i)));
                }
            }
        }
        let mut columns = [self.zero(); LANES];
        for q in 0..4 {
            let [one, two, three, four] = [quarters[0][q], quarters[1][q], quarters[2][q], quarters[3][q]];
            // SAFETY: see above.
            unsafe {
                let low = (_mm512_castps_pd(_mm512_unpacklo_ps(one, two)), _mm512_castps_pd(_mm512_unpacklo_ps(three, four)));
                let high = (_mm512_castps_pd(_mm512_unpackhi_ps(one, two)), _mm512_castps_pd(_mm512_unpackhi_ps(three, four)));
                columns[4 * q] = _mm512_castpd_ps(_mm512_unpacklo_pd(low.0, low.1));
                columns[4 * q + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low.0, low.1));
                columns[4 * q + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high.0, high.1));
                columns[4 * q + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high.0, high.1));
            }
        }
        columns
    }

    /// The transpose of a square.
    #[inline(always)]
    pub(crate) fn transpose(self, rows: &[Vector; LANES]) -> [Vector; LANES] {
        // Squares of two by two within the four quarters of a vector, of four by four there, and then the quarters.
        let mut pairs = *rows;
        for i in 0..LANES / 2 {
            // SAFETY: see above.
            unsafe {
                pairs[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
                pairs[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
            }
        }
        // `fours[4 g + c]`: in quarter `q`, column `4 q + c` of the rows `4 g..4 g + 4`.
        let mut fours = pairs;
        for g in 0..LANES / 4 {
            for half in 0..2 {
                // SAFETY: see above.
                unsafe {
                    let (upper, lower) = (_mm512_castps_pd(pairs[4 * g + half]), _mm512_castps_pd(pairs[4 * g + 2 + half]));
                    fours[4 * g + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(upper, lower));
                    fours[4 * g + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(upper, lower));
                }
            }
        }
        let mut columns = fours;
        for c in 0..4 {
            // SAFETY: see above.
            unsafe {
                let low = _mm512_shuffle_f32x4::<0x44>(fours[c], fours[4 + c]);
                let high = _mm512_shuffle_f32x4::<0xEE>(fours[c], fours[4 + c]);
                let low_after = _mm512_shuffle_f32x4::<0x44>(fours[8 + c], fours[12 + c]);
                let high_after = _mm512_shuffle_f32x4::<0xEE>(fours[8 + c], fours[12 + c]);
                columns[c] = _mm512_shuffle_f32x4::<0x88>(low, low_after);
                columns[4 + c] = _mm512_shuffle_f32x4::<0xDD>(low, low_after);
                columns[8 + c] = _mm512_shuffle_f32x4::<0x88>(high, high_after);
                columns[12 + c] = _mm512_shuffle_f32x4::<0xDD>(high, high_after);
            }
        }
        columns
    }
}

/// Where the elements of two halves go so that they alternate.
static ALTERNATING: [u16; 2 * LANES] = {
    let mut order = [0; 2 * LANES];
    let mut lane = 0;
    while lane < LANES {
        order[2 * lane] = lane as u16;
        order[2 * lane + 1] = (LANES + lane) as u16;
        lane += 1;
    }
    order
};

impl Avx512Bf16 {
    /// `a.0 * b.0 + a.1 * b.1 + c` in each lane, as the processor rounds it.
    #[inline(always)]
    pub(crate) fn dot(self, a: Vector, b: Vector, c: Vector) -> Vector {
        // SAFETY: the instruction is what the proof says; the types on both sides of a transmutation are 64 bytes, all bits valid.
        unsafe { _mm512_dpbf16_ps(c, std::mem::transmute::<Vector, __m512bh>(a), std::mem::transmute::<Vector, __m512bh>(b)) }
    }

    /// The numbers of both, the first's first, each as the nearest bf16; subnormal ones become zero.
    #[inline(always)]
    pub(crate) fn narrow(self, first: Vector, second: Vector) -> Vector {
        // SAFETY: as in `dot`.
        unsafe { std::mem::transmute::<__m512bh, Vector>(_mm512_cvtne2ps_pbh(second, first)) }
    }

    /// Pairs of a number of each, as the nearest bf16.
    #[inline(always)]
    pub(crate) fn narrow_and_zip(self, first: Vector, second: Vector) -> Vector {
        let halves = self.narrow(first, second);
        // SAFETY: as in `dot`; the order has as many bytes as a vector.
        unsafe {
            let order = std::mem::transmute::<[u16; 2 * LANES], __m512i>(ALTERNATING);
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, _mm512_castps_si512(halves)))
        }
    }
}
