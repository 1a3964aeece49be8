//! The feed-forward layer's non-linearities.

use codex_kernels::activation::{Activation, backward, forward, forward_in_place};
use proptest::prelude::*;

use crate::check::{assert_close, bits, isas, numbers, same_at_any_threads, wide};

const ALL: [Activation; 3] = [Activation::Swiglu, Activation::Gelu, Activation::GeluTanh];

fn gelu(x: f64) -> f64 {
    x * libm::erfc(-x / 2.0_f64.sqrt()) / 2.0
}

fn gelu_slope(x: f64) -> f64 {
    libm::erfc(-x / 2.0_f64.sqrt()) / 2.0 + x * libm::exp(-x * x / 2.0) / std::f64::consts::TAU.sqrt()
}

fn tanh_argument(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))
}

fn gelu_tanh(x: f64) -> f64 {
    x / (1.0 + libm::exp(-2.0 * tanh_argument(x)))
}

fn gelu_tanh_slope(x: f64) -> f64 {
    let share = 1.0 / (1.0 + libm::exp(-2.0 * tanh_argument(x)));
    share + x * share * (1.0 - share) * 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044_715 * x * x)
}

fn silu(x: f64) -> f64 {
    x / (1.0 + libm::exp(-x))
}

fn silu_slope(x: f64) -> f64 {
    let share = 1.0 / (1.0 + libm::exp(-x));
    share + x * share * (1.0 - share)
}

/// The output and the pre-activation's gradient.
fn exact(activation: Activation, inner: usize, pre: &[f64], gradient: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let pairs = || pre.iter().zip(gradient);
    match activation {
        Activation::Gelu => (pre.iter().map(|&x| gelu(x)).collect(), pairs().map(|(&x, g)| g * gelu_slope(x)).collect()),
        Activation::GeluTanh => (pre.iter().map(|&x| gelu_tanh(x)).collect(), pairs().map(|(&x, g)| g * gelu_tanh_slope(x)).collect()),
        Activation::Swiglu => {
            let (mut output, mut of_pre) = (Vec::new(), Vec::new());
            for (pre, gradient) in pre.chunks(2 * inner).zip(gradient.chunks(inner)) {
                let (gate, value) = pre.split_at(inner);
                output.extend(gate.iter().zip(value).map(|(&gate, value)| silu(gate) * value));
                of_pre.extend(gate.iter().zip(value).zip(gradient).map(|((&gate, value), g)| g * value * silu_slope(gate)));
                of_pre.extend(gate.iter().zip(gradient).map(|(&gate, g)| g * silu(gate)));
            }
            (output, of_pre)
        }
    }
}

fn check(activation: Activation, rows: usize, inner: usize, seed: u64) {
    let (pre, gradient) = (numbers(seed, rows * activation.widened(inner), 6.0), numbers(seed + 1, rows * inner, 1.0));
    let (output, of_pre) = exact(activation, inner, &wide(&pre), &wide(&gradient));
    for isa in isas() {
        let what = format!("{} {rows} x {inner} on {}", activation.name(), isa.name());
        let mut found = vec![f32::NAN; rows * inner];
        forward(isa, activation, inner, &pre, &mut found).unwrap();
        assert_close(&what, &found, &output, 1e-6);
        if activation != Activation::Swiglu {
            let mut in_place = pre.clone();
            forward_in_place(isa, activation, &mut in_place).unwrap();
            assert_eq!(bits(&in_place), bits(&found), "{what} in place");
        }
        let (mut found_pre, mut found_output) = (pre.clone(), gradient.clone());
        backward(isa, activation, inner, &mut found_pre, &mut found_output).unwrap();
        assert_close(&format!("{what}: gradient"), &found_pre, &of_pre, 1e-5);
        assert_close(&format!("{what}: output beside the gradient"), &found_output, &output, 1e-6);
    }
}

/// A function of one number.
type Formula = fn(f64) -> f64;

#[test]
fn the_exact_slopes_are_slopes() {
    for step in -60..=60 {
        let x = f64::from(step) / 10.0;
        let pairs: [(Formula, Formula); 3] = [(gelu, gelu_slope), (gelu_tanh, gelu_tanh_slope), (silu, silu_slope)];
        for (f, slope) in pairs {
            assert!(((f(x + 1e-5) - f(x - 1e-5)) / 2e-5 - slope(x)).abs() < 1e-8, "at {x}");
        }
    }
}

#[test]
fn relative_error_of_the_small_side() {
    // Where the textbook's `1 + erf` and `1 + tanh` lose every digit.
    let pre: Vec<f32> = (0..1000).map(|step| step as f32 * -5e-3).collect();
    for isa in isas() {
        for activation in [Activation::Gelu, Activation::GeluTanh] {
            let (mut found, expected) = (vec![0.0; pre.len()], exact(activation, 1, &wide(&pre), &wide(&pre)).0);
            forward(isa, activation, 1, &pre, &mut found).unwrap();
            for ((&found, expected), x) in found.iter().zip(expected).zip(&pre) {
                assert!((f64::from(found) - expected).abs() <= 3e-6 * expected.abs(), "{}({x}): {found} {expected}", activation.name());
            }
        }
    }
}

#[test]
fn the_ends_are_exact_and_never_nan() {
    let ends = [f32::NEG_INFINITY, f32::MIN, -1e4, -200.0, 200.0, 1e4, f32::MAX, f32::INFINITY];
    for isa in isas() {
        for activation in [Activation::Gelu, Activation::GeluTanh] {
            let (mut pre, mut gradient) = (ends, [1.0; 8]);
            backward(isa, activation, 8, &mut pre, &mut gradient).unwrap();
            assert_eq!(pre, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], "{}", activation.name());
            assert_eq!(gradient, [0.0, 0.0, 0.0, 0.0, ends[4], ends[5], ends[6], ends[7]], "{}", activation.name());
        }
        let mut pre = [ends, [1.0; 8]].concat();
        let mut gradient = [1.0; 8];
        backward(isa, Activation::Swiglu, 8, &mut pre, &mut gradient).unwrap();
        assert_eq!(pre[..8], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(gradient, [0.0, 0.0, 0.0, 0.0, ends[4], ends[5], ends[6], ends[7]]);
        let mut nan = [f32::NAN];
        forward_in_place(isa, Activation::Gelu, &mut nan).unwrap();
        assert!(nan[0].is_nan());
    }
}

#[test]
fn odd_shapes() {
    for activation in ALL {
        for (rows, inner) in [(0, 3), (1, 1), (1, 31), (3, 32), (5, 33), (2, 9000), (700, 50)] {
            check(activation, rows, inner, 5);
        }
    }
}

#[test]
fn the_same_bits_at_any_threads() {
    for activation in ALL {
        let (rows, inner) = (300, 177);
        let (pre, gradient) = (numbers(1, rows * activation.widened(inner), 3.0), numbers(2, rows * inner, 1.0));
        for isa in isas() {
            same_at_any_threads(|| {
                let (mut pre, mut gradient) = (pre.clone(), gradient.clone());
                backward(isa, activation, inner, &mut pre, &mut gradient).unwrap();
                [bits(&pre), bits(&gradient)]
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_shape(rows in 0_usize..40, inner in 1_usize..200, which in 0_usize..3, seed in 0_u64..1000) {
        check(ALL[which], rows, inner, seed);
    }
}
