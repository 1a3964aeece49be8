//! The fused kernels against attention in f64, on every path of this machine.

use crate::attention_reference::{Case, Numbers};
use codex_kernels::Isa;
use codex_kernels::attention::{AttentionError, AttentionShape, RotaryTable, backward, decode, forward, forward_from};
use codex_kernels::bf16;
use proptest::prelude::*;

/// What the kernels make of a case.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    out: Vec<f32>,
    log_sum_exp: Vec<f32>,
    d_qkv: Vec<f32>,
}

fn run(isa: Isa, case: &Case) -> Found {
    let shape = &case.shape;
    // Not numbers, so that an element which is not written shows.
    let mut found = Found {
        out: vec![f32::NAN; case.d_out.len()],
        log_sum_exp: vec![f32::NAN; shape.batch * shape.n_heads * shape.time],
        d_qkv: vec![f32::NAN; case.qkv.len()],
    };
    let (rope, segments) = (case.rope.as_ref(), case.segments.as_deref());
    forward(isa, shape, &case.qkv, rope, segments, &mut found.out, &mut found.log_sum_exp).unwrap();
    backward(isa, shape, &case.qkv, rope, segments, &found.out, &found.log_sum_exp, &case.d_out, &mut found.d_qkv).unwrap();
    found
}

fn bits(found: &Found) -> Vec<u32> {
    [&found.out, &found.log_sum_exp, &found.d_qkv].into_iter().flatten().map(|x| x.to_bits()).collect()
}

fn paths() -> impl Iterator<Item = Isa> {
    // A path that the machine lacks runs as the portable one.
    Isa::ALL.into_iter().filter(|isa| isa.is_available() || *isa == Isa::Avx512)
}

/// The greatest difference, relative to the greatest expected value (or to `floor`, if that is greater).
fn difference(found: &[f32], expected: &[f64], floor: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(floor, |size, x| size.max(x.abs()));
    let apart = |(found, expected): (&f32, &f64)| {
        let apart = (f64::from(*found) - expected).abs() / size;
        if apart.is_nan() { f64::INFINITY } else { apart }
    };
    found.iter().zip(expected).map(apart).fold(0.0, f64::max)
}

fn check(case: &Case, tolerance: f64) {
    let wide: Vec<f64> = case.qkv.iter().map(|x| f64::from(*x)).collect();
    let answer = case.answer(&wide);
    for isa in paths() {
        let found = run(isa, case);
        let worst = [
            difference(&found.out, &answer.out, 1e-3),
            difference(&found.log_sum_exp, &answer.log_sum_exp, 1.0),
            difference(&found.d_qkv, &answer.d_qkv, 1e-3),
        ];
        assert!(worst.iter().all(|worst| *worst < tolerance), "{isa:?} {:?} {worst:?}", case.shape);
    }
}

fn shape(batch: usize, time: usize, n_heads: usize, n_kv_heads: usize, head_dim: usize, window: usize) -> AttentionShape {
    AttentionShape { batch, time, n_heads, n_kv_heads, head_dim, window }
}

#[test]
fn equals_the_reference_on_every_time() {
    for time in 1..=70 {
        let window = [0, 1, 7, 20, 64][time % 5];
        let group = 1 + time % 3;
        let sizes = shape(1 + time % 2, time, 2 * group, 2, [16, 6, 10][time % 3], window);
        check(&Case::new(sizes, time % 2 == 0, time % 4 < 2, 2.0, time as u64), 1e-5);
    }
}

#[test]
fn equals_the_reference_on_every_width() {
    for head_dim in 1..=65 {
        let sizes = shape(1, 5 + head_dim % 31, 1 + head_dim % 3, 1, head_dim, [0, 9][head_dim % 2]);
        check(&Case::new(sizes, false, head_dim % 4 == 1, 1.5, head_dim as u64), 1e-5);
        if head_dim % 2 == 0 {
            check(&Case::new(sizes, true, head_dim % 4 == 2, 1.5, head_dim as u64), 1e-5);
        }
    }
    check(&Case::new(shape(1, 19, 1, 1, 300, 0), true, false, 1.0, 3), 1e-5);
}

#[test]
fn equals_the_reference_over_several_blocks() {
    check(&Case::new(shape(1, 300, 3, 1, 8, 0), true, false, 2.0, 1), 1e-5);
    check(&Case::new(shape(1, 300, 2, 2, 8, 150), false, true, 2.0, 2), 1e-5);
    check(&Case::new(shape(20, 40, 1, 1, 4, 0), true, true, 2.0, 4), 1e-5);
}

#[test]
fn gradient_equals_finite_differences() {
    for (seed, sizes) in [shape(2, 7, 2, 1, 6, 0), shape(1, 19, 3, 1, 4, 5), shape(1, 18, 2, 2, 2, 0)].into_iter().enumerate() {
        let case = Case::new(sizes, seed != 2, seed != 0, 1.0, seed as u64);
        let wide: Vec<f64> = case.qkv.iter().map(|x| f64::from(*x)).collect();
        let loss = |qkv: &[f64]| {
            let out = case.answer(qkv).out;
            out.iter().zip(&case.d_out).map(|(out, d_out)| out * f64::from(*d_out)).sum::<f64>()
        };
        let slope = |i: usize| {
            let (step, mut moved) = (1e-5, wide.clone());
            moved[i] = wide[i] + step;
            let above = loss(&moved);
            moved[i] = wide[i] - step;
            (above - loss(&moved)) / (2.0 * step)
        };
        let slopes: Vec<f64> = (0..wide.len()).map(slope).collect();
        for (slope, analytic) in slopes.iter().zip(case.answer(&wide).d_qkv) {
            assert!((slope - analytic).abs() < 1e-7, "{slope} {analytic}");
        }
        for isa in paths() {
            assert!(difference(&run(isa, &case).d_qkv, &slopes, 1e-3) < 1e-5, "{isa:?} {sizes:?}");
        }
    }
}

#[test]
fn same_bits_at_any_number_of_threads() {
    let cases = [
        Case::new(shape(3, 61, 6, 2, 10, 0), true, true, 2.0, 1),
        Case::new(shape(1, 150, 2, 1, 16, 0), true, false, 2.0, 2),
        Case::new(shape(9, 33, 2, 2, 5, 12), false, true, 2.0, 3),
    ];
    for case in &cases {
        for isa in paths() {
            let on = |n_threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
                pool.install(|| bits(&run(isa, case)))
            };
            let one = on(1);
            for n_threads in [2, 3, 4, 8] {
                assert!(on(n_threads) == one, "{isa:?} {n_threads} {:?}", case.shape);
            }
        }
    }
}

#[test]
fn each_document_is_as_if_alone() {
    // The second half's numbers must not touch the first half's rows, not even as a last bit, nor the other way round.
    let (time, n) = (64, 32);
    let mut both = Case::new(shape(1, time, 2, 1, 8, 0), false, false, 2.0, 7);
    both.segments = Some((0..time).map(|t| u32::from(t >= n)).collect());
    let width = both.qkv.len() / time;
    for isa in paths() {
        let found = run(isa, &both);
        for half in 0..2 {
            let mut alone = both.clone();
            alone.shape.time = n;
            alone.segments = None;
            alone.qkv = both.qkv[half * n * width..(half + 1) * n * width].to_vec();
            alone.d_out = both.d_out[half * n * 16..(half + 1) * n * 16].to_vec();
            let expected = run(isa, &alone);
            assert_eq!(found.out[half * n * 16..(half + 1) * n * 16], expected.out);
            assert_eq!(found.d_qkv[half * n * width..(half + 1) * n * width], expected.d_qkv);
        }
    }
    // Every position a document of its own: each output is the position's own value.
    both.segments = Some((0..time as u32).collect());
    for isa in paths() {
        let found = run(isa, &both);
        for (row, out) in found.out.chunks(8).enumerate() {
            let value = &both.qkv[row / 2 * width + 24..row / 2 * width + 32];
            assert_eq!(out, value);
        }
        for line in found.d_qkv.chunks(width) {
            assert!(line[..24].iter().all(|x| x.abs() < 1e-5), "{line:?}");
        }
    }
}

#[test]
fn extreme_scores_stay_finite() {
    for size in [0.0, 1e-30, 1e-10, 1e3, 1e8, 1e15] {
        let case = Case::new(shape(1, 40, 2, 1, 8, 0), false, true, size, 11);
        let wide: Vec<f64> = case.qkv.iter().map(|x| f64::from(*x)).collect();
        let answer = case.answer(&wide);
        for isa in paths() {
            let found = run(isa, &case);
            assert!(found.out.iter().chain(&found.log_sum_exp).chain(&found.d_qkv).all(|x| x.is_finite()), "{size} {isa:?}");
            assert!(difference(&found.out, &answer.out, 0.0_f64.max(f64::from(size) * 1e-9)) < 1e-3 || size == 0.0, "{size} {isa:?}");
            if size <= 1e-10 {
                assert!(difference(&found.d_qkv, &answer.d_qkv, 0.0) < 1e-5, "{size} {isa:?}");
            }
        }
    }
    // All scores far below zero, and one far above the rest.
    let mut case = Case::new(shape(1, 40, 1, 1, 4, 0), false, false, 1.0, 12);
    for (row, line) in case.qkv.chunks_mut(12).enumerate() {
        line[..4].fill(30.0);
        line[4..8].fill(if row == 3 { 60.0 } else { -60.0 });
    }
    for isa in paths() {
        let found = run(isa, &case);
        assert!((found.log_sum_exp[0] + 3600.0).abs() < 1e-2);
        assert!((found.log_sum_exp[39] - 3600.0).abs() < 1e-2);
        assert_eq!(found.out[39 * 4..40 * 4], case.qkv[3 * 12 + 8..4 * 12]);
    }
}

#[test]
fn a_score_that_is_not_a_number_shows_in_its_row_only() {
    let mut case = Case::new(shape(1, 40, 1, 1, 4, 0), false, false, 1.0, 13);
    case.qkv[20 * 12] = f32::NAN;
    for isa in paths() {
        let found = run(isa, &case);
        for (row, out) in found.out.chunks(4).enumerate() {
            assert_eq!(out.iter().all(|x| x.is_nan()), row == 20, "{row}");
        }
    }
}

#[test]
fn decoding_equals_the_last_row() {
    for (time, window, head_dim, group, batch) in [(1, 0, 8, 1, 1), (300, 0, 20, 2, 2), (600, 300, 64, 3, 1), (1200, 0, 64, 1, 2)] {
        let sizes = shape(batch, time, 2 * group, 2, head_dim, window);
        let case = Case::new(sizes, true, false, 2.0, time as u64);
        let table = case.rope.as_ref().unwrap();
        let (q_width, kv_width) = (2 * group * head_dim, 2 * head_dim);
        let (mut q, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (row, line) in case.qkv.chunks(q_width + 2 * kv_width).enumerate() {
            let mut turned = line[..q_width + kv_width].to_vec();
            table.rotate(row % time, &mut turned).unwrap();
            if row % time == time - 1 {
                q.extend_from_slice(&turned[..q_width]);
            }
            keys.extend_from_slice(&turned[q_width..]);
            values.extend_from_slice(&line[q_width + kv_width..]);
        }
        for isa in paths() {
            let found = run(isa, &case);
            let expected: Vec<f64> =
                found.out.chunks(time * q_width).flat_map(|all| &all[(time - 1) * q_width..]).map(|x| f64::from(*x)).collect();
            let mut out = vec![f32::NAN; q.len()];
            decode(isa, &sizes, &q, &keys, &values, &mut out).unwrap();
            assert!(difference(&out, &expected, 1e-3) < 1e-5, "{isa:?} {sizes:?}");
            for n_threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
                let mut again = vec![f32::NAN; q.len()];
                pool.install(|| decode(isa, &sizes, &q, &keys, &values, &mut again)).unwrap();
                assert_eq!(out, again);
            }
            // A cache in bf16 gives to the bit what one of the rounded numbers gives.
            let halves = |values: &[f32]| -> Vec<bf16> { values.iter().map(|&value| bf16::from_f32(value)).collect() };
            let rounded = |values: &[bf16]| -> Vec<f32> { values.iter().map(|value| value.to_f32()).collect() };
            let (half_keys, half_values) = (halves(&keys), halves(&values));
            let mut of_halves = vec![f32::NAN; q.len()];
            decode(isa, &sizes, &q, &half_keys, &half_values, &mut of_halves).unwrap();
            let mut of_rounded = vec![f32::NAN; q.len()];
            decode(isa, &sizes, &q, &rounded(&half_keys), &rounded(&half_values), &mut of_rounded).unwrap();
            assert_eq!(of_halves, of_rounded);
            assert!(difference(&of_halves, &expected, 1e-1) < 3e-2, "{isa:?} {sizes:?}");
        }
    }
}

#[test]
fn refusals_are_typed() {
    let good = shape(1, 3, 4, 2, 2, 0);
    let call = |shape: &AttentionShape, qkv: usize, rope: Option<&RotaryTable>, segments: Option<&[u32]>, out: usize, sums: usize| {
        forward(Isa::Portable, shape, &vec![0.0; qkv], rope, segments, &mut vec![0.0; out], &mut vec![0.0; sums])
    };
    assert_eq!(call(&good, 48, None, None, 24, 12), Ok(()));
    let length = |buffer, expected, found| Err(AttentionError::Length { buffer, expected, found });
    assert_eq!(call(&good, 47, None, None, 24, 12), length("qkv", 48, 47));
    assert_eq!(call(&good, 48, None, None, 25, 12), length("out", 24, 25));
    assert_eq!(call(&good, 48, None, None, 24, 0), length("log_sum_exp", 12, 0));
    assert_eq!(call(&good, 48, None, Some(&[0; 4]), 24, 12), length("segments", 3, 4));
    let heads = |n_heads, n_kv_heads| Err(AttentionError::Heads { n_heads, n_kv_heads });
    assert_eq!(call(&AttentionShape { n_kv_heads: 3, ..good }, 48, None, None, 24, 12), heads(4, 3));
    assert_eq!(call(&AttentionShape { n_kv_heads: 0, ..good }, 48, None, None, 24, 12), heads(4, 0));
    assert_eq!(call(&AttentionShape { n_heads: 0, ..good }, 48, None, None, 24, 12), heads(0, 2));
    assert_eq!(call(&AttentionShape { head_dim: 0, ..good }, 48, None, None, 24, 12), Err(AttentionError::NoHeadDim));
    for huge in [
        AttentionShape { batch: usize::MAX, ..good },
        AttentionShape { time: usize::MAX, ..good },
        AttentionShape { n_heads: usize::MAX - 1, n_kv_heads: 1, ..good },
        AttentionShape { n_heads: usize::MAX, n_kv_heads: usize::MAX, ..good },
        AttentionShape { head_dim: usize::MAX, ..good },
        AttentionShape { batch: 0, head_dim: usize::MAX, ..good },
        AttentionShape { time: 0, head_dim: usize::MAX / 8, ..good },
    ] {
        assert_eq!(call(&huge, 48, None, None, 24, 12), Err(AttentionError::TooLarge), "{huge:?}");
    }
    let short = RotaryTable::new(0, 2, 2, 1e4).unwrap();
    let narrow = RotaryTable::new(0, 3, 4, 1e4).unwrap();
    assert_eq!(call(&good, 48, Some(&short), None, 24, 12), Err(AttentionError::RotaryPositions { expected: 3, found: 2 }));
    assert_eq!(call(&good, 48, Some(&narrow), None, 24, 12), Err(AttentionError::RotaryHeadDim { expected: 2, found: 4 }));
    let odd = AttentionShape { head_dim: 1, ..good };
    assert_eq!(call(&odd, 24, Some(&short), None, 12, 12), Err(AttentionError::OddHeadDim { head_dim: 1 }));
    assert_eq!(call(&AttentionShape { batch: 0, ..good }, 0, None, None, 0, 0), Ok(()));
    assert_eq!(call(&AttentionShape { time: 0, ..good }, 0, None, Some(&[]), 0, 0), Ok(()));
    let back = |d_out: usize, d_qkv: usize| {
        backward(Isa::Portable, &good, &[0.0; 48], None, None, &[0.0; 24], &[0.0; 12], &vec![0.0; d_out], &mut vec![0.0; d_qkv])
    };
    assert_eq!(back(24, 48), Ok(()));
    assert_eq!(back(23, 48), length("d_out", 24, 23));
    assert_eq!(back(24, 49), length("d_qkv", 48, 49));
    let step = |shape: &AttentionShape, q: usize, keys: usize| {
        decode(Isa::Portable, shape, &vec![0.0; q], &vec![0.0; keys], &vec![0.0; keys], &mut vec![0.0; q])
    };
    assert_eq!(step(&good, 8, 12), Ok(()));
    assert_eq!(step(&good, 7, 12), length("q", 8, 7));
    assert_eq!(step(&good, 8, 13), length("keys", 12, 13));
    assert_eq!(step(&AttentionShape { time: 0, ..good }, 8, 0), Err(AttentionError::NoPositions));
    assert_eq!(step(&AttentionShape { batch: 0, ..good }, 0, 0), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_reference_on_any_shape(
        batch in 0_usize..4, time in 0_usize..60, n_kv_heads in 1_usize..4, group in 1_usize..4, half in 1_usize..20, odd: bool,
        window in 0_usize..70, segments: bool, rope: bool, seed: u64,
    ) {
        let head_dim = 2 * half - usize::from(odd);
        let sizes = shape(batch, time, n_kv_heads * group, n_kv_heads, head_dim, window);
        check(&Case::new(sizes, rope && !odd, segments, 1.5, Numbers(seed).next()), 1e-5);
    }

    #[test]
    fn no_sizes_make_it_panic(
        batch in any_size(), time in any_size(), n_heads in any_size(), n_kv_heads in any_size(), head_dim in any_size(), window in any_size(),
        lengths in proptest::array::uniform4(0_usize..40),
    ) {
        let sizes = AttentionShape { batch, time, n_heads, n_kv_heads, head_dim, window };
        let [qkv, out, sums, segments] = lengths.map(|n| vec![0.5_f32; n]);
        let segments = vec![1; segments.len()];
        let (mut new_out, mut new_sums, mut d_qkv) = (out.clone(), sums.clone(), qkv.clone());
        let _ = forward(Isa::Portable, &sizes, &qkv, None, Some(&segments), &mut new_out, &mut new_sums);
        let _ = backward(Isa::Portable, &sizes, &qkv, None, Some(&segments), &out, &sums, &out, &mut d_qkv);
        let _ = decode(Isa::Portable, &sizes, &out, &qkv, &qkv, &mut new_out);
    }
}

fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0_usize..4, 1 => Just(usize::MAX), 1 => Just(usize::MAX / 2), 1 => any::<usize>()]
}

#[test]
fn the_last_positions_read_alone_have_the_same_bits() {
    for (window, n_kv_heads) in [(0, 2), (5, 1), (40, 4)] {
        let shape = AttentionShape { batch: 1, time: 61, n_heads: 4, n_kv_heads, head_dim: 6, window };
        let (q_width, kv_width) = (24, 6 * n_kv_heads);
        let width = q_width + 2 * kv_width;
        let rope = RotaryTable::with_speeds(0, 61, &[1.0, 0.3, 0.01], 1.0).unwrap();
        let qkv: Vec<f32> = (0..61 * width).map(|i| ((i * 37 % 101) as f32 - 50.0) / 20.0).collect();
        let mut turned = qkv.clone();
        for (row, line) in turned.chunks_mut(width).enumerate() {
            rope.rotate(row, &mut line[..q_width + kv_width]).unwrap();
        }
        for isa in paths() {
            let (mut whole, mut sums) = (vec![f32::NAN; 61 * q_width], vec![f32::NAN; 61 * 4]);
            forward(isa, &shape, &qkv, Some(&rope), None, &mut whole, &mut sums).unwrap();
            for first in [0, 1, 15, 16, 17, 33, 60] {
                let mut tail = vec![f32::NAN; (61 - first) * q_width];
                forward_from(isa, &shape, first, &turned, &mut tail).unwrap();
                let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&tail), bits(&whole[first * q_width..]), "{isa:?}, window {window}, from {first}");
            }
        }
        assert_eq!(forward_from(Isa::Portable, &shape, 61, &turned, &mut []), Err(AttentionError::NoPositions));
        assert!(forward_from(Isa::Portable, &shape, 60, &turned, &mut [0.0; 23]).is_err());
        let two = AttentionShape { batch: 2, time: 1, ..shape };
        assert!(forward_from(Isa::Portable, &two, 0, &turned[..2 * width], &mut [0.0; 48]).is_err());
    }
}
