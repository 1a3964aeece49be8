//! Dropout.

use codex_kernels::dropout::Dropout;
use codex_kernels::{Isa, RowsError};
use proptest::prelude::*;

use crate::check::{bits, isas, numbers, same_at_any_threads};

fn mask(isa: Isa, dropout: &Dropout, first_element: u64, n: usize) -> Vec<bool> {
    let mut values = vec![1.0; n];
    dropout.apply(isa, first_element, &mut values);
    values.iter().map(|&value| value != 0.0).collect()
}

#[test]
fn the_mask_is_the_pure_function() {
    let dropout = Dropout::new([7, 9], u64::MAX - 3, 0.4).unwrap();
    let expected: Vec<bool> = (0..1000).map(|element| dropout.keeps(element)).collect();
    let far: Vec<bool> = (0..200).map(|element| dropout.keeps((1 << 40) + 5 + element)).collect();
    for isa in isas() {
        assert_eq!(mask(isa, &dropout, 0, 1000), expected);
        assert_eq!(mask(isa, &dropout, (1 << 40) + 5, 200), far);
        assert!(mask(isa, &dropout, u64::MAX - 70, 200).iter().any(|&kept| kept));
    }
}

#[test]
fn scale_share_and_independence() {
    let n = 1 << 20;
    for probability in [0.0, 0.1, 0.5, 0.9] {
        let dropout = Dropout::new([1, 2], 3, probability).unwrap();
        let mut values = vec![2.0; n];
        dropout.apply(Isa::detect(), 0, &mut values);
        let kept = (2.0 / (1.0 - probability)) as f32;
        assert!(values.iter().all(|&value| value == 0.0 || (value - kept).abs() <= 2e-6 * kept));
        let share = values.iter().filter(|&&value| value == 0.0).count() as f64 / n as f64;
        // Five standard deviations.
        assert!((share - probability).abs() <= 5.0 * (probability * (1.0 - probability) / n as f64).sqrt(), "{share} of {probability}");
    }
    let base = Dropout::new([1, 2], 3, 0.5).unwrap();
    let all = mask(Isa::detect(), &base, 0, n);
    for (key, position) in [([1, 3], 3), ([0, 2], 3), ([1, 2], 4), ([1, 2], 3 + (1 << 32))] {
        let other = Dropout::new(key, position, 0.5).unwrap();
        let same = mask(Isa::detect(), &other, 0, n).iter().zip(&all).filter(|(a, b)| a == b).count() as f64 / n as f64;
        assert!((same - 0.5).abs() < 5.0 * 0.5 / (n as f64).sqrt(), "{same}");
    }
}

#[test]
fn a_dropped_infinity_is_zero() {
    let dropout = Dropout::new([1, 2], 3, 0.5).unwrap();
    let mut values = [f32::NAN; 64];
    dropout.apply(Isa::detect(), 0, &mut values);
    let expected: Vec<bool> = (0..64).map(|element| dropout.keeps(element)).collect();
    assert_eq!(values.iter().map(|value| value.is_nan()).collect::<Vec<_>>(), expected);
}

#[test]
fn a_probability_outside_its_range_is_refused() {
    for probability in [-0.1, 1.0, 2.0, f64::NAN] {
        assert!(matches!(Dropout::new([0; 2], 0, probability), Err(RowsError::Setting { .. })));
    }
}

#[test]
fn the_same_bits_at_any_threads_and_on_every_path() {
    let values = numbers(1, 100_001, 1.0);
    let dropout = Dropout::new([5, 6], 7, 0.3).unwrap();
    let on = |isa: Isa| {
        same_at_any_threads(|| {
            let mut values = values.clone();
            dropout.apply(isa, 13, &mut values);
            bits(&values)
        })
    };
    let portable = on(Isa::Portable);
    assert!(isas().all(|isa| on(isa) == portable));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_pieces_give_the_same_mask(first in 0_u64..1000, cuts in prop::collection::vec(0_usize..200, 0..8), position: u64) {
        let dropout = Dropout::new([3, 4], position, 0.5).unwrap();
        let n = cuts.iter().sum();
        for isa in isas() {
            let whole = mask(isa, &dropout, first, n);
            let mut at = 0;
            for &cut in &cuts {
                prop_assert_eq!(&mask(isa, &dropout, first + at as u64, cut)[..], &whole[at..at + cut]);
                at += cut;
            }
        }
    }
}
