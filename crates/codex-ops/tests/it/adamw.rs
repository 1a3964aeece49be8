//! The optimizer's update and the sum of squares on both backends.

use burn::tensor::{Device, Tensor};
use codex_ops::adamw::{AdamWStep, Moments, Update, adamw, sum_of_squares};

use crate::harness::{assert_agree, at_any_threads, leaf, reference, values};

fn step(correction: f64) -> AdamWStep {
    AdamWStep {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        correction1: 1.0 - 0.9 * correction,
        correction2: 1.0 - 0.95 * correction,
        gradient_scale: 0.25,
    }
}

fn update(step: &AdamWStep, parameter: Tensor<1>, moments: Moments, gradient: Tensor<1>) -> (Tensor<1>, Moments) {
    adamw(vec![Update { step: *step, parameter, moments, gradient }]).remove(0)
}

#[test]
fn several_parameters_are_updated_as_each_by_itself() {
    for device in [Device::flex(), reference()] {
        let one = |seed: u64, n: usize| {
            let moments = Moments { first: leaf(seed + 1, [n], &device), second: Tensor::ones([n], &device) };
            Update { step: step(0.9), parameter: leaf(seed, [n], &device), moments, gradient: leaf(seed + 2, [n], &device) }
        };
        let sizes = [(1, 7), (5, 20_000), (9, 1)];
        let together = adamw(sizes.iter().map(|&(seed, n)| one(seed, n)).collect());
        for ((seed, n), (parameter, moments)) in sizes.into_iter().zip(together) {
            let (alone, alone_moments) = adamw(vec![one(seed, n)]).remove(0);
            assert_eq!(values(parameter), values(alone));
            assert_eq!(values(moments.second), values(alone_moments.second));
        }
    }
}

#[test]
fn updates_agree() {
    for n in [1, 5, 1000, 40_000] {
        let run = |device: &Device| {
            let mut parameter: Tensor<1> = leaf(1, [n], device);
            let mut moments = Moments { first: Tensor::zeros([n], device), second: Tensor::zeros([n], device) };
            for turn in 0..3 {
                (parameter, moments) = update(&step(0.9_f64.powi(turn)), parameter, moments, leaf(2 + turn as u64, [n], device));
            }
            vec![("parameter", values(parameter)), ("first", values(moments.first)), ("second", values(moments.second))]
        };
        let found = at_any_threads("adamw", || run(&Device::flex()));
        assert_agree("adamw", &found, &run(&reference()), 1e-6);
    }
}

#[test]
fn memory_that_somebody_else_holds_is_left_alone() {
    let device = Device::flex();
    let parameter: Tensor<1> = leaf(1, [100], &device);
    let (kept, before) = (parameter.clone(), values(parameter.clone()));
    let moments = Moments { first: Tensor::zeros([100], &device), second: Tensor::zeros([100], &device) };
    let (updated, _) = update(&step(1.0), parameter, moments, leaf(2, [100], &device));
    assert_eq!(values(kept), before);
    assert_ne!(values(updated), before);
}

#[test]
fn a_part_of_a_tensor_is_updated_and_the_rest_is_not() {
    let device = Device::flex();
    let run = |parameter: Tensor<1>, gradient: Tensor<1>| {
        let moments = Moments { first: Tensor::zeros([10], &device), second: Tensor::zeros([10], &device) };
        values(update(&step(1.0), parameter, moments, gradient).0)
    };
    let (whole, gradient): (Tensor<1>, Tensor<1>) = (leaf(1, [30], &device), leaf(2, [10], &device));
    let before = values(whole.clone());
    for start in [0, 7, 20] {
        let copy = Tensor::from_floats(&before[start..start + 10], &device);
        assert_eq!(run(whole.clone().slice(start..start + 10), gradient.clone()), run(copy, gradient.clone()));
    }
    assert_eq!(values(whole), before);
}

#[test]
fn sums_of_squares_agree() {
    for n in [0, 1, 1023, 1024, 5000, 100_000] {
        let sum = |device: &Device| sum_of_squares(leaf::<1>(1, [n], device)).unwrap();
        let found = at_any_threads("sum of squares", || vec![("sum", vec![sum(&Device::flex()) as f32])]);
        let expected = sum(&reference());
        assert!((f64::from(found[0].1[0]) - expected).abs() <= 1e-6 * expected, "{n}");
    }
}
