//! The optimizer.

use codex_kernels::Isa;
use codex_kernels::adamw::{AdamWStep, ParameterState, ParameterUpdate, sum_of_squares, update_all};
use proptest::prelude::*;

use crate::check::{assert_close, bits, isas, numbers, same_at_any_threads, wide};

fn step(count: i32) -> AdamWStep {
    AdamWStep {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        correction1: 1.0 - 0.9_f64.powi(count),
        correction2: 1.0 - 0.95_f64.powi(count),
        gradient_scale: 0.3,
    }
}

fn run(isa: Isa, n: usize, n_steps: i32) -> [Vec<f32>; 3] {
    let (mut parameter, mut first_moment, mut second_moment) = (numbers(1, n, 1.0), vec![0.0; n], vec![0.0; n]);
    for count in 1..=n_steps {
        let state = ParameterState { parameter: &mut parameter, first_moment: &mut first_moment, second_moment: &mut second_moment };
        step(count).update(isa, state, &numbers(count as u64 + 1, n, 2.0)).unwrap();
    }
    [parameter, first_moment, second_moment]
}

fn exact(n: usize, n_steps: i32) -> [Vec<f64>; 3] {
    let (mut parameter, mut first, mut second) = (wide(&numbers(1, n, 1.0)), vec![0.0; n], vec![0.0; n]);
    for count in 1..=n_steps {
        let s = step(count);
        for (index, gradient) in numbers(count as u64 + 1, n, 2.0).into_iter().enumerate() {
            let gradient = f64::from(gradient) * s.gradient_scale;
            first[index] = s.beta1 * first[index] + (1.0 - s.beta1) * gradient;
            second[index] = s.beta2 * second[index] + (1.0 - s.beta2) * gradient * gradient;
            let direction = first[index] / s.correction1 / ((second[index] / s.correction2).sqrt() + s.epsilon);
            parameter[index] = parameter[index] * (1.0 - s.learning_rate * s.weight_decay) - s.learning_rate * direction;
        }
    }
    [parameter, first, second]
}

#[test]
fn literal_values() {
    // The first step moves by the learning rate against the gradient's sign, after the decay.
    let (mut parameter, mut first_moment, mut second_moment) = ([1.0, -1.0], [0.0; 2], [0.0; 2]);
    let state = ParameterState { parameter: &mut parameter, first_moment: &mut first_moment, second_moment: &mut second_moment };
    AdamWStep { gradient_scale: 1.0, ..step(1) }.update(Isa::Portable, state, &[2.0, -4.0]).unwrap();
    assert_close("parameter", &parameter, &[0.999 - 0.01, -0.999 + 0.01], 1e-6);
    assert_close("first", &first_moment, &[0.2, -0.4], 1e-6);
    assert_close("second", &second_moment, &[0.2, 0.8], 1e-6);
}

#[test]
fn all_at_once_is_one_by_one_to_the_bit() {
    let lengths = [0, 5, 40_000, 1, 16_384];
    let start = || -> Vec<[Vec<f32>; 4]> {
        let of =
            |(seed, &n): (usize, &usize)| [numbers(seed as u64, n, 1.0), vec![0.5; n], vec![0.25; n], numbers(seed as u64 + 9, n, 2.0)];
        lengths.iter().enumerate().map(of).collect()
    };
    // One of them does not decay.
    let step_of = |index: usize| AdamWStep { weight_decay: if index == 1 { 0.0 } else { 0.1 }, ..step(3) };
    for isa in isas() {
        let mut apart = start();
        for (index, [parameter, first_moment, second_moment, gradient]) in apart.iter_mut().enumerate() {
            step_of(index).update(isa, ParameterState { parameter, first_moment, second_moment }, gradient).unwrap();
        }
        let together = same_at_any_threads(|| {
            let mut all = start();
            let mut updates = Vec::new();
            for (index, [parameter, first_moment, second_moment, gradient]) in all.iter_mut().enumerate() {
                let state = ParameterState { parameter, first_moment, second_moment };
                updates.push(ParameterUpdate { step: step_of(index), state, gradient });
            }
            update_all(isa, updates).unwrap();
            all.concat().concat()
        });
        assert_eq!(bits(&together), bits(&apart.concat().concat()));
    }
}

#[test]
fn a_length_that_does_not_fit_leaves_all_as_they_were() {
    let (mut first, mut second) = (vec![1.0; 3], vec![1.0; 3]);
    let (mut moments, mut short) = (vec![0.0; 12], vec![0.0; 2]);
    let (a, rest) = moments.split_at_mut(3);
    let (b, rest) = rest.split_at_mut(3);
    let update = |parameter, first_moment, second_moment| ParameterUpdate {
        step: step(1),
        state: ParameterState { parameter, first_moment, second_moment },
        gradient: &[1.0; 3],
    };
    let refused = update_all(Isa::Portable, vec![update(&mut first, a, b), update(&mut second, &mut rest[..3], &mut short)]);
    assert!(refused.unwrap_err().to_string().contains("second_moment"));
    assert_eq!(first, [1.0; 3]);
}

#[test]
fn five_steps_match_the_formula_with_the_same_bits_on_every_path() {
    for n in [0, 1, 7, 33, 20_000] {
        let expected = exact(n, 5);
        let portable = run(Isa::Portable, n, 5);
        for (found, expected) in portable.iter().zip(&expected) {
            assert_close("state", found, expected, 1e-6);
        }
        for isa in isas() {
            let found = same_at_any_threads(|| run(isa, n, 5).map(|values| bits(&values)));
            assert_eq!(found, portable.clone().map(|values| bits(&values)), "{}", isa.name());
        }
    }
}

#[test]
fn squares() {
    for isa in isas() {
        assert_eq!(sum_of_squares(isa, &[]), 0.0);
        assert_eq!(sum_of_squares(isa, &[3.0, -4.0]), 25.0);
        assert_eq!(sum_of_squares(isa, &[1e30; 3]), f64::from(1e30_f32).powi(2) * 3.0);
        assert!(sum_of_squares(isa, &[1.0, f32::NAN]).is_nan());
        let values = numbers(1, 100_003, 1.0);
        let found = same_at_any_threads(|| sum_of_squares(isa, &values).to_bits());
        assert_eq!(found, sum_of_squares(Isa::Portable, &values).to_bits(), "{}", isa.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_length(n in 0_usize..70_000, seed in 0_u64..1000) {
        let values = numbers(seed, n, 3.0);
        let expected: f64 = wide(&values).iter().map(|x| x * x).sum();
        for isa in isas() {
            prop_assert!((sum_of_squares(isa, &values) - expected).abs() <= 1e-12 * expected);
        }
    }
}
