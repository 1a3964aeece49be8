//! The kernels on bf16: what they compute from rounded inputs is what they compute in f32, rounded once at the end.

use codex_kernels::activation::{self, Activation};
use codex_kernels::attention::{AttentionShape, RotaryTable, backward, forward};
use codex_kernels::norm::{Norm, NormGradient, NormKind, RowStatistic};
use codex_kernels::{Isa, bf16};

use crate::check::{isas, numbers, same_at_any_threads};

/// Numbers of bf16, in both storages.
fn both(seed: u64, n: usize) -> (Vec<bf16>, Vec<f32>) {
    let halves: Vec<bf16> = numbers(seed, n, 2.0).into_iter().map(bf16::from_f32).collect();
    let whole = halves.iter().map(|half| half.to_f32()).collect();
    (halves, whole)
}

/// Checks that each half is the nearest to the whole.
fn assert_rounded(what: &str, halves: &[bf16], whole: &[f32]) {
    assert_eq!(halves.len(), whole.len(), "{what}");
    for (index, (half, &whole)) in halves.iter().zip(whole).enumerate() {
        assert_eq!(half.to_bits(), bf16::from_f32(whole).to_bits(), "{what}[{index}]: {half} of {whole}");
    }
}

#[test]
fn activations_round_once() {
    for isa in isas() {
        for kind in [Activation::Swiglu, Activation::Gelu, Activation::GeluTanh] {
            let (rows, inner) = (9, 37);
            let (pre_halves, pre) = both(1, rows * kind.widened(inner));
            let (mut half_output, mut output) = (vec![bf16::ZERO; rows * inner], vec![0.0; rows * inner]);
            activation::forward(isa, kind, inner, &pre_halves, &mut half_output).unwrap();
            activation::forward(isa, kind, inner, &pre, &mut output).unwrap();
            assert_rounded("activation", &half_output, &output);

            let ((mut half_pre, mut pre), (mut half_gradient, mut gradient)) = ((pre_halves, pre), both(2, rows * inner));
            activation::backward(isa, kind, inner, &mut half_pre, &mut half_gradient).unwrap();
            activation::backward(isa, kind, inner, &mut pre, &mut gradient).unwrap();
            assert_rounded("gradient", &half_pre, &pre);
            assert_rounded("activation again", &half_gradient, &gradient);
        }
    }
}

#[test]
fn norms_round_once() {
    for isa in isas() {
        for kind in [NormKind::Rms, NormKind::Layer] {
            let (rows, width) = (21, 45);
            let (x, weight, bias) = (numbers(1, rows * width, 1.0), numbers(2, width, 1.0), numbers(3, width, 1.0));
            let norm = Norm { kind, weight: &weight, bias: Some(&bias), epsilon: 1e-5 };
            let mut statistics = vec![RowStatistic::default(); rows];
            let (mut half_output, mut output) = (vec![bf16::ZERO; rows * width], vec![0.0; rows * width]);
            norm.forward(isa, &x, &mut half_output, &mut statistics).unwrap();
            norm.forward(isa, &x, &mut output, &mut statistics).unwrap();
            assert_rounded("norm", &half_output, &output);

            let (half_gradient, gradient) = both(4, rows * width);
            let run = |of_halves: bool| {
                let (mut of_x, mut of_weight, mut of_bias) = (vec![0.0; rows * width], vec![0.0; width], vec![0.0; width]);
                let parameters = NormGradient { weight: &mut of_weight, bias: Some(&mut of_bias) };
                let result = if of_halves {
                    norm.backward(isa, &x, &statistics, &half_gradient, &mut of_x, parameters)
                } else {
                    norm.backward(isa, &x, &statistics, &gradient, &mut of_x, parameters)
                };
                result.unwrap();
                [of_x, of_weight, of_bias].concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(run(true), run(false), "the numbers are the same, so is the gradient");
        }
    }
}

#[test]
fn attention_rounds_once() {
    let shape = AttentionShape { batch: 2, time: 37, n_heads: 4, n_kv_heads: 2, head_dim: 10, window: 20 };
    let rotary = RotaryTable::new(0, 37, 10, 1e4).unwrap();
    let (rows, width) = (2 * 37, 4 * 10);
    let (half_qkv, qkv) = both(1, rows * 80);
    let (half_gradient, gradient) = both(2, rows * width);
    for isa in isas() {
        let halves = same_at_any_threads(|| {
            let (mut out, mut sums, mut of_qkv) = (vec![bf16::ZERO; rows * width], vec![0.0; rows * 4], vec![bf16::ZERO; rows * 80]);
            forward(isa, &shape, &half_qkv, Some(&rotary), None, &mut out, &mut sums).unwrap();
            backward(isa, &shape, &half_qkv, Some(&rotary), None, &out, &sums, &half_gradient, &mut of_qkv).unwrap();
            (out, of_qkv)
        });
        let whole = whole(isa, &shape, &rotary, &qkv, &halves.0, &gradient);
        assert_rounded("attention", &halves.0, &whole.0);
        assert_rounded("gradient", &halves.1, &whole.1);
    }
}

/// The same in f32. The backward pass reads the rounded output, as that on halves does.
#[expect(clippy::unwrap_used, reason = "a test's setup fails loudly")]
fn whole(isa: Isa, shape: &AttentionShape, rotary: &RotaryTable, qkv: &[f32], rounded: &[bf16], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut out, mut sums, mut of_qkv) = (vec![0.0; gradient.len()], vec![0.0; 2 * 37 * 4], vec![0.0; qkv.len()]);
    forward(isa, shape, qkv, Some(rotary), None, &mut out, &mut sums).unwrap();
    let rounded: Vec<f32> = rounded.iter().map(|half| half.to_f32()).collect();
    backward(isa, shape, qkv, Some(rotary), None, &rounded, &sums, gradient, &mut of_qkv).unwrap();
    (out, of_qkv)
}
