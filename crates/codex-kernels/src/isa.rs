//! Which instructions a kernel runs on: found once at run time, or forced by a caller that compares paths.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// Place of the chosen path in [`Isa::ALL`]; none at the start.
static CHOSEN: AtomicU8 = AtomicU8::new(u8::MAX);

/// A path through the kernels. Results are the same bits on one path at any number of threads; two paths round differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// No instructions beyond the target's own; the path that Miri runs.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with AVX512-BF16: another path for products of bf16, and the path before, bit for bit, for all else.
    Avx512Bf16,
}

impl Isa {
    /// Every path, the slowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// The path to take: the one that was [chosen](Self::choose), or else the best of this machine.
    pub fn detect() -> Self {
        Self::ALL.get(usize::from(CHOSEN.load(Ordering::Relaxed))).copied().unwrap_or_else(Self::best)
    }

    /// Makes this the path that [`detect`](Self::detect) answers from now on, in the whole process: for a program that compares paths or repeats
    /// what another machine did. One that this machine lacks is not chosen, and the answer is false.
    pub fn choose(self) -> bool {
        let index = Self::ALL.iter().position(|isa| *isa == self).filter(|_| self.is_available());
        let Some(index) = index.and_then(|index| u8::try_from(index).ok()) else { return false };
        CHOSEN.store(index, Ordering::Relaxed);
        true
    }

    /// The best path of this machine.
    pub fn best() -> Self {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| Self::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Self::Portable))
    }

    /// Whether this machine can run the path.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
            }
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx512Bf16 => Self::Avx512.is_available() && std::arch::is_x86_feature_detected!("avx512bf16"),
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            _ => false,
        }
    }

    /// The name that records carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512_bf16",
        }
    }
}

/// Work that is compiled once per path. `run` must be `#[inline(always)]`, and so must all it calls in its inner loops.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// Does it; `FMA` tells whether a fused multiply-add is one instruction.
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs a kernel on a path; one that this machine lacks is replaced by the portable one.
pub(crate) fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        Isa::Avx2 if isa.is_available() => {
            // SAFETY: the processor has the features that `avx2` is compiled with; `is_available` has asked it.
            unsafe { avx2(kernel) }
        }
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        Isa::Avx512 | Isa::Avx512Bf16 if isa.is_available() => {
            // SAFETY: the processor has the features that `avx512` is compiled with; `is_available` has asked it.
            unsafe { avx512(kernel) }
        }
        _ => kernel.run::<false>(),
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

/// `a * b + c`, in one rounding where that is one instruction.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}
