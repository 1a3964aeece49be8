//! Reads past the end of a vector on purpose: what AddressSanitizer must catch before its silence about the kernels means anything.
//!
//! `past_the_end` reads one number; `past_the_end masked` reads sixteen by the masked AVX-512 load that the kernels use. It belongs to no crate.

use std::hint::black_box;

fn main() {
    let values = black_box(vec![1.0_f32; 20]);
    if std::env::args().nth(1).is_some_and(|way| way == "masked") {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: there is none, which is the point; xtask has asked the processor for AVX-512.
        unsafe {
            masked(&values);
        }
    } else {
        // SAFETY: there is none, which is the point.
        black_box(unsafe { values.as_ptr().add(black_box(20)).read() });
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn masked(values: &[f32]) {
    let mask = black_box(u16::MAX);
    // SAFETY: there is none, which is the point: lanes 12 to 15 lie behind the end.
    black_box(unsafe { std::arch::x86_64::_mm512_maskz_loadu_ps(mask, values.as_ptr().add(black_box(8))) });
}
