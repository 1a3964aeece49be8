//! The exponential of a softmax, as a polynomial that vectorises.

use crate::isa::fma;

/// Logarithm of the least normal number: below it 0 is returned.
const LOWEST: f32 = -87.336_54;
/// Adding it rounds to an integer, which is then in the lowest bits: 1.5 x 2^23.
const ROUNDER: f32 = 12_582_912.0;
/// The logarithm of 2 in two parts, the first with so few bits that its products here are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// `e^x` near 0, from the highest power down (S. Moshier, Cephes, `expf`).
const COEFFICIENTS: [f32; 8] = [1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0];

/// `e^x` of a number that is not positive, to about 1e-7 of itself; exactly 0 far below, exactly 1 above; not a number only for that input.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Comparisons that are false for a NaN keep it, where `min` would hide it.
    let held = if x > 0.0 { 0.0 } else { x };
    let rounded = fma::<FMA>(held, std::f32::consts::LOG2_E, ROUNDER);
    let power_of_two = rounded - ROUNDER;
    let rest = fma::<FMA>(power_of_two, -LN_2_LOW, fma::<FMA>(power_of_two, -LN_2_HIGH, held));
    let mut power = COEFFICIENTS[0];
    for coefficient in &COEFFICIENTS[1..] {
        power = fma::<FMA>(power, rest, *coefficient);
    }
    // The shift drops what `ROUNDER` itself contributes: only the integer, biased as an exponent, is left.
    let scale = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    if x < LOWEST { 0.0 } else { power * scale }
}

#[cfg(test)]
mod tests {
    use super::exp;

    fn check<const FMA: bool>() {
        let mut worst = 0.0_f64;
        for i in 0..=873_300 {
            let x = i as f32 * -1.0e-4 - 1.3e-5;
            let expected = f64::from(x).exp();
            worst = worst.max((f64::from(exp::<FMA>(x)) - expected).abs() / expected);
        }
        assert!(worst < 1.3e-7, "{worst}");
    }

    #[test]
    fn is_accurate() {
        check::<false>();
        check::<true>();
    }

    #[test]
    fn ends_are_exact() {
        for x in [-87.34, -88.0, -1.0e3, -1.0e30, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(exp::<false>(x).to_bits(), 0, "{x}");
            assert_eq!(exp::<true>(x).to_bits(), 0, "{x}");
        }
        for x in [0.0, -0.0, 1.0e-30, 1.0, 1.0e30, f32::MAX, f32::INFINITY] {
            assert_eq!(exp::<false>(x).to_bits(), 1.0_f32.to_bits(), "{x}");
            assert_eq!(exp::<true>(x).to_bits(), 1.0_f32.to_bits(), "{x}");
        }
        assert!(exp::<false>(f32::NAN).is_nan());
    }
}
