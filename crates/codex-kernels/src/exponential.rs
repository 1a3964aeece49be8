//! Exponential, hyperbolic tangent, error function, logistic function and logarithm in f32, without a table or a branch, so that LLVM
//! vectorises a loop over them. Each takes any number; NaN gives NaN.
//!
//! Sources: S. L. Moshier's Cephes (`expf`, `tanhf`, `logf`) and N. Juffa's single-precision `erff` for the polynomials. The tail of the normal
//! distribution is a minimax fit of this crate in the manner of M. Abramowitz and I. Stegun, 7.1.26, with relative instead of absolute error.

use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSliceMut;

use crate::grid::TASK_ELEMENTS;
use crate::isa::{Isa, Kernel, fma, run};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `e^x`; relative error 1.2e-7, infinity from 88.73 on, 0 from -104 down, subnormal numbers between.
    Exp,
    /// Hyperbolic tangent; relative error 2e-7.
    Tanh,
    /// `2 / sqrt(pi) * integral of e^(-t^2) from 0 to x`; relative error 2e-7.
    Erf,
    /// `1 / (1 + e^-x)`; relative error 2.5e-7 down to 1.2e-38, and then 0.
    Sigmoid,
    /// Natural logarithm; relative error 2e-7, minus infinity of 0, NaN below.
    Log,
}

/// Replaces each number by the function of it.
pub fn apply(isa: Isa, function: Function, values: &mut [f32]) {
    values.par_chunks_mut(TASK_ELEMENTS).for_each(|values| run(isa, Apply { function, values }));
}

struct Apply<'a> {
    function: Function,
    values: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        match self.function {
            Function::Exp => self.values.iter_mut().for_each(|x| *x = exp::<FMA>(*x)),
            Function::Tanh => self.values.iter_mut().for_each(|x| *x = tanh::<FMA>(*x)),
            Function::Erf => self.values.iter_mut().for_each(|x| *x = erf::<FMA>(*x)),
            Function::Sigmoid => self.values.iter_mut().for_each(|x| *x = sigmoid::<FMA>(*x)),
            Function::Log => self.values.iter_mut().for_each(|x| *x = log::<FMA>(*x)),
        }
    }
}

/// 1.5 x 2^23: adding it rounds a small number to a whole one, which then stands in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// ln 2 in two parts; the first has nine bits, so that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// A polynomial by Horner's rule, the highest coefficient first.
#[inline(always)]
pub(crate) fn polynomial<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = 0.0;
    for (index, coefficient) in coefficients.into_iter().enumerate() {
        sum = if index == 0 { coefficient } else { fma::<FMA>(sum, x, coefficient) };
    }
    sum
}

/// `e^x`.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Beyond these bounds the result is infinity or 0 in any case; written so that NaN passes.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (p, exponent) = reduced_exp::<FMA>(x);
    // Two factors, since 2^128 and 2^-150 are no f32.
    let half = exponent >> 1;
    p * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
}

/// `e^x` for `x` of 0 and below, without subnormal numbers: 0 where the result would be one. A fifth cheaper than [`exp`].
#[inline(always)]
pub(crate) fn exp_of_negative<const FMA: bool>(x: f32) -> f32 {
    const LEAST: f32 = -87.336_54;
    let bounded = if x < LEAST { LEAST } else { x };
    let (p, exponent) = reduced_exp::<FMA>(bounded);
    let value = p * power_of_two(exponent);
    if x < LEAST { 0.0 } else { value }
}

/// The number between `sqrt(1/2)` and `sqrt(2)`, and the power of two, whose product is `e^x`.
#[inline(always)]
fn reduced_exp<const FMA: bool>(x: f32) -> (f32, i32) {
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUNDER);
    let exponent = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()) as i32;
    let n = shifted - ROUNDER;
    let r = fma::<FMA>(n, -LN2_LOW, fma::<FMA>(n, -LN2_HIGH, x));
    let p = polynomial::<FMA, 6>(r, [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]);
    (fma::<FMA>(p, r * r, r) + 1.0, exponent)
}

/// `2^n` for n of -126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<const FMA: bool>(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let p = polynomial::<FMA, 5>(square, [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1]);
    let near = fma::<FMA>(p * square, x, x);
    let far = (1.0 - 2.0 / (exp::<FMA>(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { near } else { far }
}

/// Error function.
#[inline(always)]
pub(crate) fn erf<const FMA: bool>(x: f32) -> f32 {
    let size = x.abs();
    // From 4 on it rounds to 1; infinity would make the polynomial NaN.
    let size = if size > 4.0 { 4.0 } else { size };
    let p =
        polynomial::<FMA, 6>(size * size, [-5.967_617e-4, 4.991_194e-3, -2.676_813_5e-2, 1.128_199_3e-1, -3.761_253_4e-1, 1.283_791_7e-1]);
    let near = fma::<FMA>(p, x, x);
    let p = polynomial::<FMA, 6>(size, [-1.728_534_7e-5, 3.831_972_6e-4, -3.883_964_4e-3, 2.425_462_2e-2, -1.067_778_8e-1, -6.348_467e-1]);
    let p = fma::<FMA>(p, size, -1.287_175_1e-1);
    let far = (1.0 - exp_of_negative::<FMA>(fma::<FMA>(p, size, -size))).copysign(x);
    if size > 0.927_734_4 { far } else { near }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    // The exponential of the negative size never overflows, so that the small side keeps its relative precision.
    let e = exp_of_negative::<FMA>(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// The distribution function and the density of the standard normal distribution, by one exponential and one division; relative error 4e-7
/// apart from what rounding `x^2 / 2` costs in the far tail.
#[inline(always)]
pub(crate) fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    let size = x.abs();
    let e = exp_of_negative::<FMA>(-0.5 * size * size);
    // Phi(-t) = e^(-t^2 / 2) v P(v) with v = 1 / (1 + 0.35 t).
    let v = 1.0 / fma::<FMA>(0.35, size, 1.0);
    let p = polynomial::<FMA, 9>(
        v,
        [
            -2.915_802_8e-2,
            1.440_315_8e-1,
            -2.558_403_6e-1,
            1.593_212_3e-1,
            -2.321_337_3e-2,
            1.055_529_2e-1,
            1.198_211_8e-1,
            1.398_635_6e-1,
            1.396_213e-1,
        ],
    );
    let tail = e * (v * p);
    (if x < 0.0 { tail } else { 1.0 - tail }, e * 0.398_942_3)
}

/// Natural logarithm.
#[inline(always)]
pub(crate) fn log<const FMA: bool>(x: f32) -> f32 {
    let is_subnormal = x < f32::MIN_POSITIVE;
    let scaled = if is_subnormal { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    // The mantissa between sqrt(1/2) and sqrt(2), and the exponent that goes with it.
    let shifted = bits.wrapping_sub(0x3f35_04f3);
    let exponent = (shifted as i32) >> 23;
    let f = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let n = exponent as f32 - if is_subnormal { 23.0 } else { 0.0 };
    let square = f * f;
    let p = polynomial::<FMA, 9>(
        f,
        [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    let low = fma::<FMA>(n, LN2_LOW, fma::<FMA>(p * f, square, -0.5 * square));
    let value = fma::<FMA>(n, LN2_HIGH, f + low);
    let value = if x > 0.0 { value } else { f32::NAN };
    let value = if x == 0.0 { f32::NEG_INFINITY } else { value };
    if x < f32::INFINITY || x.is_nan() { value } else { f32::INFINITY }
}
