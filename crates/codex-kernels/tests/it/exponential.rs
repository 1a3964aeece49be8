//! The scalar functions over the whole range of f32.

use codex_kernels::Isa;
use codex_kernels::exponential::{Function, apply};

use crate::check::{bits, isas, same_at_any_threads};

/// About 870,000 numbers that cover every exponent with both signs, and the numbers about 0 and 1 more densely.
fn samples() -> Vec<f32> {
    let coarse = (0..=u32::MAX / 9_973).map(|step| f32::from_bits(step * 9_973));
    let dense = (0..200_000).map(|step| (step as f32 - 100_000.0) * 1.3e-3);
    let near_one = (0..200_000).map(|step| 1.0 + (step as f32 - 100_000.0) * 1e-6);
    coarse.chain(dense).chain(near_one).filter(|x| x.is_finite()).collect()
}

fn exact(function: Function, x: f64) -> f64 {
    match function {
        Function::Exp => libm::exp(x),
        Function::Tanh => libm::tanh(x),
        Function::Erf => libm::erf(x),
        Function::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
        Function::Log => libm::log(x),
    }
}

fn of(isa: Isa, function: Function, x: f32) -> f32 {
    let mut values = [x];
    apply(isa, function, &mut values);
    values[0]
}

#[test]
fn relative_error_is_within_the_promise() {
    let samples = samples();
    let bounds =
        [(Function::Exp, 1.2e-7), (Function::Tanh, 2e-7), (Function::Erf, 2e-7), (Function::Sigmoid, 2.5e-7), (Function::Log, 2e-7)];
    for isa in isas() {
        for (function, bound) in bounds {
            let mut found = samples.clone();
            apply(isa, function, &mut found);
            let mut worst = (0.0, 0.0);
            for (&x, &found) in samples.iter().zip(&found) {
                if function == Function::Log && x < 0.0 {
                    assert!(found.is_nan(), "log({x}) is {found}");
                    continue;
                }
                assert!(!found.is_nan(), "{function:?}({x}) is NaN");
                let expected = exact(function, f64::from(x));
                if expected.is_infinite() || expected > f64::from(f32::MAX) {
                    assert_eq!(found, expected as f32, "{function:?}({x})");
                    continue;
                }
                // Subnormal results have an absolute error of one step, and the logistic function has none.
                if expected.abs() < f64::from(f32::MIN_POSITIVE) * 1.000_001 {
                    let step = if function == Function::Sigmoid { f64::from(f32::MIN_POSITIVE) * 1.000_001 } else { 1.5e-45 };
                    assert!((f64::from(found) - expected).abs() <= step, "{function:?}({x}): {found:e} against {expected:e}");
                    continue;
                }
                let error = (f64::from(found) / expected - 1.0).abs();
                if error > worst.0 {
                    worst = (error, x);
                }
            }
            assert!(worst.0 <= bound, "{function:?} on {}: error {:e} at {}", isa.name(), worst.0, worst.1);
        }
    }
}

#[test]
fn limits_are_exact() {
    use Function::{Erf, Exp, Log, Sigmoid, Tanh};
    let infinity = f32::INFINITY;
    let cases = [
        (Exp, -infinity, 0.0),
        (Exp, f32::MIN, 0.0),
        (Exp, -104.0, 0.0),
        (Exp, -0.0, 1.0),
        (Exp, 0.0, 1.0),
        (Exp, 88.73, infinity),
        (Exp, f32::MAX, infinity),
        (Exp, infinity, infinity),
        (Tanh, -infinity, -1.0),
        (Tanh, 0.0, 0.0),
        (Tanh, 10.0, 1.0),
        (Tanh, infinity, 1.0),
        (Erf, -infinity, -1.0),
        (Erf, 0.0, 0.0),
        (Erf, 4.0, 1.0),
        (Erf, infinity, 1.0),
        (Sigmoid, -infinity, 0.0),
        (Sigmoid, 0.0, 0.5),
        (Sigmoid, 100.0, 1.0),
        (Sigmoid, infinity, 1.0),
        (Log, 0.0, -infinity),
        (Log, -0.0, -infinity),
        (Log, 1.0, 0.0),
        (Log, infinity, infinity),
    ];
    for isa in isas() {
        for (function, x, expected) in cases {
            assert_eq!(of(isa, function, x), expected, "{function:?}({x}) on {}", isa.name());
        }
        for function in [Exp, Tanh, Erf, Sigmoid, Log] {
            assert!(of(isa, function, f32::NAN).is_nan(), "{function:?}(NaN)");
        }
        assert!(of(isa, Log, -1.0).is_nan() && of(isa, Log, -infinity).is_nan());
    }
}

#[test]
fn an_element_does_not_depend_on_its_neighbours_or_threads() {
    for isa in isas() {
        let start: Vec<f32> = samples().into_iter().step_by(10).collect();
        let whole = same_at_any_threads(|| {
            let mut values = start.clone();
            apply(isa, Function::Erf, &mut values);
            bits(&values)
        });
        let alone: Vec<f32> = start[..999].iter().map(|&x| of(isa, Function::Erf, x)).collect();
        assert_eq!(bits(&alone), whole[..999]);
    }
}
