//! Normalisation.

use codex_kernels::Isa;
use codex_kernels::norm::{Norm, NormGradient, NormKind, RowStatistic};
use proptest::prelude::*;

use crate::check::{assert_close, assert_is_gradient, bits, isas, numbers, same_at_any_threads, wide};

const EPSILON: f64 = 1e-5;

fn forward_exact(kind: NormKind, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let width = weight.len() as f64;
    let row = |x: &[f64]| -> Vec<f64> {
        let mean = if kind == NormKind::Layer { x.iter().sum::<f64>() / width } else { 0.0 };
        let scale = 1.0 / (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width + EPSILON).sqrt();
        x.iter().zip(weight).zip(bias).map(|((x, weight), bias)| (x - mean) * scale * weight + bias).collect()
    };
    x.chunks(weight.len()).flat_map(row).collect()
}

/// The gradients of `sum(gradient * output)`: of x, weight and bias.
fn backward_exact(kind: NormKind, x: &[f64], weight: &[f64], gradient: &[f64]) -> [Vec<f64>; 3] {
    let width = weight.len();
    let size = width as f64;
    let (mut of_x, mut of_weight, mut of_bias) = (Vec::new(), vec![0.0; width], vec![0.0; width]);
    for (x, gradient) in x.chunks(width).zip(gradient.chunks(width)) {
        let mean = if kind == NormKind::Layer { x.iter().sum::<f64>() / size } else { 0.0 };
        let scale = 1.0 / (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / size + EPSILON).sqrt();
        let z: Vec<f64> = x.iter().map(|x| (x - mean) * scale).collect();
        let g: Vec<f64> = gradient.iter().zip(weight).map(|(gradient, weight)| gradient * weight).collect();
        let along = g.iter().zip(&z).map(|(g, z)| g * z).sum::<f64>() / size;
        let constant = if kind == NormKind::Layer { g.iter().sum::<f64>() / size } else { 0.0 };
        for index in 0..width {
            of_x.push(scale * (g[index] - z[index] * along - constant));
            of_weight[index] += gradient[index] * z[index];
            of_bias[index] += gradient[index];
        }
    }
    [of_x, of_weight, of_bias]
}

struct Found {
    output: Vec<f32>,
    of_x: Vec<f32>,
    of_weight: Vec<f32>,
    of_bias: Vec<f32>,
}

fn both(isa: Isa, norm: &Norm<'_>, x: &[f32], gradient: &[f32]) -> Found {
    let width = norm.weight.len();
    let mut statistics = vec![RowStatistic::default(); x.len() / width];
    let (mut output, mut of_x) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
    let (mut of_weight, mut of_bias) = (vec![f32::NAN; width], vec![f32::NAN; width]);
    norm.forward(isa, x, &mut output, &mut statistics).unwrap();
    let parameters = NormGradient { weight: &mut of_weight, bias: norm.bias.map(|_| &mut of_bias[..]) };
    norm.backward(isa, x, &statistics, gradient, &mut of_x, parameters).unwrap();
    Found { output, of_x, of_weight, of_bias }
}

fn check(kind: NormKind, rows: usize, width: usize, with_bias: bool, seed: u64) {
    let x: Vec<f32> = numbers(seed, rows * width, 2.0).iter().map(|x| x + 0.5).collect();
    let gradient = numbers(seed + 1, rows * width, 1.0);
    let weight: Vec<f32> = numbers(seed + 2, width, 0.5).iter().map(|x| x + 1.0).collect();
    let bias = if with_bias { numbers(seed + 3, width, 1.0) } else { vec![0.0; width] };
    let norm = Norm { kind, weight: &weight, bias: with_bias.then_some(&bias[..]), epsilon: EPSILON };
    let output = forward_exact(kind, &wide(&x), &wide(&weight), &wide(&bias));
    let [of_x, of_weight, of_bias] = backward_exact(kind, &wide(&x), &wide(&weight), &wide(&gradient));
    for isa in isas() {
        let what = format!("{kind:?} {rows} x {width} on {}", isa.name());
        let found = both(isa, &norm, &x, &gradient);
        assert_close(&what, &found.output, &output, 1e-5);
        assert_close(&format!("{what}: weight's gradient"), &found.of_weight, &of_weight, 1e-5);
        // A row of one centred element is 0 and its gradient a difference of equal numbers.
        if width > 1 {
            assert_close(&format!("{what}: gradient"), &found.of_x, &of_x, 2e-5);
        }
        if with_bias {
            assert_close(&format!("{what}: bias's gradient"), &found.of_bias, &of_bias, 1e-5);
        }
    }
}

#[test]
fn literal_values() {
    let isa = Isa::detect();
    let (x, weight, bias) = ([1.0, 3.0], [2.0, 0.5], [10.0, 20.0]);
    let (mut output, mut statistics) = ([0.0; 2], [RowStatistic::default()]);
    let norm = Norm { kind: NormKind::Layer, weight: &weight, bias: Some(&bias), epsilon: 0.0 };
    norm.forward(isa, &x, &mut output, &mut statistics).unwrap();
    assert_eq!((output, statistics), ([8.0, 20.5], [RowStatistic { mean: 2.0, inverse_deviation: 1.0 }]));
    let norm = Norm { kind: NormKind::Rms, weight: &weight, bias: None, epsilon: 4.0 };
    norm.forward(isa, &[4.0, 4.0 * 2.0_f32.sqrt() / 2.0_f32.sqrt()], &mut output, &mut statistics).unwrap();
    assert_close("root mean square", &output, &[2.0 * 4.0 / 20.0_f64.sqrt(), 0.5 * 4.0 / 20.0_f64.sqrt()], 1e-6);
}

#[test]
fn the_exact_gradient_is_one() {
    for kind in [NormKind::Rms, NormKind::Layer] {
        let (rows, width) = (3, 5);
        let (x, gradient) = (wide(&numbers(1, rows * width, 2.0)), wide(&numbers(2, rows * width, 1.0)));
        let (weight, bias) = (wide(&numbers(3, width, 1.0)), wide(&numbers(4, width, 1.0)));
        let sum = |x: &[f64], weight: &[f64], bias: &[f64]| -> f64 {
            forward_exact(kind, x, weight, bias).iter().zip(&gradient).map(|(y, g)| y * g).sum()
        };
        let [of_x, of_weight, of_bias] = backward_exact(kind, &x, &weight, &gradient);
        assert_is_gradient("x", &of_x, &x, |x| sum(x, &weight, &bias));
        assert_is_gradient("weight", &of_weight, &weight, |weight| sum(&x, weight, &bias));
        assert_is_gradient("bias", &of_bias, &bias, |bias| sum(&x, &weight, bias));
    }
}

#[test]
fn odd_shapes() {
    for kind in [NormKind::Rms, NormKind::Layer] {
        for (rows, width) in [(0, 3), (1, 1), (2, 1), (1, 31), (3, 32), (5, 33), (17, 65), (70, 384), (1100, 7), (33, 1)] {
            check(kind, rows, width, true, 11);
            check(kind, rows, width, false, 12);
        }
    }
}

#[test]
fn the_same_bits_at_any_threads() {
    let (rows, width) = (1500, 77);
    let (x, gradient, weight, bias) =
        (numbers(1, rows * width, 1.0), numbers(2, rows * width, 1.0), numbers(3, width, 1.0), numbers(4, width, 1.0));
    for isa in isas() {
        let norm = Norm { kind: NormKind::Layer, weight: &weight, bias: Some(&bias), epsilon: EPSILON };
        same_at_any_threads(|| {
            let found = both(isa, &norm, &x, &gradient);
            [bits(&found.output), bits(&found.of_x), bits(&found.of_weight), bits(&found.of_bias)]
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_shape(rows in 0_usize..80, width in 1_usize..150, layer: bool, with_bias: bool, seed in 0_u64..1000) {
        // Two centred numbers become one and minus one whatever they were, so that their gradient is nothing but what rounding leaves.
        let width = if layer && width == 2 { 3 } else { width };
        check(if layer { NormKind::Layer } else { NormKind::Rms }, rows, width, with_bias, seed);
    }
}
