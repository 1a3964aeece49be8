//! Cross-entropy.

use codex_kernels::Isa;
use codex_kernels::cross_entropy::{LossSettings, Targets, loss, loss_and_gradient, token_scores};
use proptest::prelude::*;

use crate::check::{assert_close, assert_is_gradient, bits, ids, isas, numbers, same_at_any_threads, wide};

const PLAIN: LossSettings = LossSettings { label_smoothing: 0.0, z_loss: 0.0 };
const FULL: LossSettings = LossSettings { label_smoothing: 0.1, z_loss: 1e-2 };

fn log_sum_exp(row: &[f64]) -> f64 {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + row.iter().map(|x| libm::exp(x - most)).sum::<f64>().ln()
}

fn exact_loss(logits: &[f64], vocab_size: usize, ids: &[u32], weights: &[f32], settings: LossSettings) -> f64 {
    let LossSettings { label_smoothing: s, z_loss } = settings;
    let rows = logits.chunks(vocab_size).zip(ids).zip(weights);
    rows.map(|((row, &id), &weight)| {
        let lse = log_sum_exp(row);
        // Without smoothing an infinite distance must not become 0 times infinity.
        let mean = if s > 0.0 { row.iter().map(|x| lse - x).sum::<f64>() / vocab_size as f64 } else { 0.0 };
        f64::from(weight) * ((1.0 - s) * (lse - row[id as usize]) + s * mean + z_loss * lse * lse)
    })
    .sum()
}

fn exact_gradient(logits: &[f64], vocab_size: usize, ids: &[u32], weights: &[f32], settings: LossSettings) -> Vec<f64> {
    let LossSettings { label_smoothing: s, z_loss } = settings;
    let mut gradient = Vec::new();
    for ((row, &id), &weight) in logits.chunks(vocab_size).zip(ids).zip(weights) {
        let lse = log_sum_exp(row);
        for (index, x) in row.iter().enumerate() {
            let at_target = if index == id as usize { 1.0 - s } else { 0.0 };
            let share = (1.0 + 2.0 * z_loss * lse) * libm::exp(x - lse);
            gradient.push(f64::from(weight) * (share - s / vocab_size as f64 - at_target));
        }
    }
    gradient
}

fn check(rows: usize, vocab_size: usize, settings: LossSettings, seed: u64) {
    let logits = numbers(seed, rows * vocab_size, 8.0);
    let ids = ids(seed + 1, rows, vocab_size);
    // A third of the rows is masked.
    let weights: Vec<f32> = (0..rows).map(|row| if row % 3 == 1 { 0.0 } else { 0.5 + row as f32 % 4.0 }).collect();
    let targets = Targets { ids: &ids, weights: &weights };
    let expected = exact_loss(&wide(&logits), vocab_size, &ids, &weights, settings);
    let gradient = exact_gradient(&wide(&logits), vocab_size, &ids, &weights, settings);
    for isa in isas() {
        let what = format!("{rows} x {vocab_size} on {}", isa.name());
        let alone = loss(isa, &logits, vocab_size, targets, settings).unwrap();
        let mut found = logits.clone();
        let with_gradient = loss_and_gradient(isa, &mut found, vocab_size, targets, settings).unwrap();
        assert_eq!(alone.to_bits(), with_gradient.to_bits(), "{what}");
        assert!((alone - expected).abs() <= 1e-6 * expected.abs() + 1e-6 * rows as f64, "{what}: {alone} against {expected}");
        // A vocabulary of one token has a gradient of 0, which is a difference of ones.
        if vocab_size > 1 {
            assert_close(&what, &found, &gradient, 1e-5);
        }
        for (row, _) in found.chunks(vocab_size).zip(&weights).filter(|(_, weight)| **weight == 0.0) {
            assert!(row.iter().all(|value| value.to_bits() == 0), "{what}");
        }
    }
}

#[test]
fn literal_values() {
    let isa = Isa::detect();
    let targets = Targets { ids: &[1, 0], weights: &[1.0, 2.0] };
    let mut logits = [0.0, 0.0, 0.0, 0.0];
    let sum = loss_and_gradient(isa, &mut logits, 2, targets, PLAIN).unwrap();
    assert!((sum - 3.0 * std::f64::consts::LN_2).abs() < 1e-12);
    assert_eq!(logits, [0.5, -0.5, -1.0, 1.0]);
}

#[test]
fn the_exact_gradient_is_one() {
    let (logits, ids, weights) = (wide(&numbers(1, 3 * 7, 2.0)), [6, 0, 3], [1.0, 0.0, 2.5]);
    for settings in [PLAIN, FULL] {
        let gradient = exact_gradient(&logits, 7, &ids, &weights, settings);
        assert_is_gradient("logits", &gradient, &logits, |logits| exact_loss(logits, 7, &ids, &weights, settings));
    }
}

#[test]
fn odd_shapes() {
    for settings in [PLAIN, FULL] {
        for (rows, vocab_size) in [(0, 5), (1, 1), (4, 1), (3, 2), (2, 31), (3, 32), (3, 33), (7, 513), (2, 20_001), (40, 1000)] {
            check(rows, vocab_size, settings, 3);
        }
    }
}

#[test]
fn large_and_infinite_logits() {
    let infinity = f32::INFINITY;
    for isa in isas() {
        let start = [3e38, -3e38, 1e30, 1e4, 1e4 - 1.0, -infinity, -1e4, -1e4, -1e4 - 2.0];
        let targets = Targets { ids: &[0, 1, 2], weights: &[1.0; 3] };
        let mut logits = start;
        let sum = loss_and_gradient(isa, &mut logits, 3, targets, PLAIN).unwrap();
        let expected = exact_loss(&wide(&start), 3, targets.ids, targets.weights, PLAIN);
        assert!((sum - expected).abs() < 1e-6, "{sum} against {expected}");
        assert!(logits.iter().all(|value| value.is_finite()), "{logits:?}");
        assert_eq!(logits[5], 0.0);
        // A masked row is not even looked at.
        let mut nan = [f32::NAN; 2];
        assert_eq!(loss_and_gradient(isa, &mut nan, 2, Targets { ids: &[0], weights: &[0.0] }, FULL), Ok(0.0));
        assert_eq!(nan, [0.0; 2]);
        let mut nan = [f32::NAN, 1.0];
        assert!(loss_and_gradient(isa, &mut nan, 2, Targets { ids: &[1], weights: &[1.0] }, PLAIN).unwrap().is_nan());
    }
}

#[test]
fn scores() {
    for isa in isas() {
        let logits = [1.0, 2.0, 2.0, 1.0, 2.0, 2.0, f32::NAN, 5.0, 0.0];
        let found = token_scores(isa, &logits, 3, &[1, 2, 1]).unwrap();
        assert_eq!(found.iter().map(|score| score.1).collect::<Vec<_>>(), [true, false, false]);
        let expected = log_sum_exp(&[1.0, 2.0, 2.0]) - 2.0;
        assert_close("nll", &[found[0].0, found[1].0], &[expected, expected], 1e-6);
        assert!(found[2].0.is_nan());
        assert_eq!(token_scores(isa, &[], 3, &[]), Ok(Vec::new()));

        let (logits, ids) = (numbers(1, 300 * 130, 5.0), ids(2, 300, 130));
        let scores = same_at_any_threads(|| token_scores(isa, &logits, 130, &ids).unwrap());
        for ((row, &id), (nll, is_argmax)) in logits.chunks(130).zip(&ids).zip(scores) {
            let row = wide(row);
            assert!((f64::from(nll) - (log_sum_exp(&row) - row[id as usize])).abs() < 2e-6);
            assert_eq!(is_argmax, row.iter().all(|x| *x <= row[id as usize]));
        }
    }
}

#[test]
fn the_same_bits_at_any_threads() {
    let (rows, vocab_size) = (200, 1001);
    let (logits, ids, weights) = (numbers(1, rows * vocab_size, 5.0), ids(2, rows, vocab_size), numbers(3, rows, 1.0));
    for isa in isas() {
        same_at_any_threads(|| {
            let mut logits = logits.clone();
            let sum = loss_and_gradient(isa, &mut logits, vocab_size, Targets { ids: &ids, weights: &weights }, FULL).unwrap();
            (sum.to_bits(), bits(&logits))
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_shape(rows in 0_usize..30, vocab_size in 1_usize..700, s in 0.0..1.0_f64, z_loss in 0.0..0.1_f64, seed in 0_u64..1000) {
        check(rows, vocab_size, LossSettings { label_smoothing: s, z_loss }, seed);
    }
}
