//! What the tests share.

use std::fmt::Debug;
use std::sync::OnceLock;

use codex_kernels::Isa;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The paths that this machine has.
pub(crate) fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

/// Checks that the work gives the same at 1, 2, 3, 4 and 8 threads, and returns it.
pub(crate) fn same_at_any_threads<T: PartialEq + Debug + Send>(work: impl Fn() -> T + Sync) -> T {
    static POOLS: OnceLock<Vec<ThreadPool>> = OnceLock::new();
    let build = |&threads: &usize| ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let pools = POOLS.get_or_init(|| [1, 2, 3, 4, 8].iter().map(build).collect());
    let first = pools[0].install(&work);
    for pool in &pools[1..] {
        // Not `assert_eq`, which would print megabytes.
        assert!(pool.install(&work) == first, "{} threads differ from one", pool.current_num_threads());
    }
    first
}

/// Bits, which compare as equal also where a number is NaN.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// `n` numbers between plus and minus `scale`.
pub(crate) fn numbers(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next() * scale).collect()
}

/// `n` ids below `n_rows`.
pub(crate) fn ids(seed: u64, n: usize, n_rows: usize) -> Vec<u32> {
    numbers(seed, n, 1.0).iter().map(|x| ((x + 1.0) / 2.0 * n_rows as f32) as u32 % n_rows as u32).collect()
}

/// In f64.
pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Checks that each number is within `tolerance` of the expected one, relative to it or, if that is larger, to the root mean square of all.
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let mean_square = expected.iter().map(|value| value * value).sum::<f64>() / expected.len().max(1) as f64;
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let bound = tolerance * expected.abs().max(mean_square.sqrt()) + 1e-30;
        assert!((f64::from(found) - expected).abs() <= bound, "{what}[{index}]: found {found}, expected {expected}");
    }
}

/// The gradient of `f` at `x` by central differences.
pub(crate) fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let slope = |index: usize| {
        let h = 1e-5 * x[index].abs().max(1.0);
        let at = |shift: f64| {
            let mut moved = x.to_vec();
            moved[index] += shift;
            f(&moved)
        };
        (at(h) - at(-h)) / (2.0 * h)
    };
    (0..x.len()).map(slope).collect()
}

/// Checks an analytic gradient against [`differences`].
pub(crate) fn assert_is_gradient(what: &str, analytic: &[f64], x: &[f64], f: impl Fn(&[f64]) -> f64) {
    for (index, (&analytic, numeric)) in analytic.iter().zip(differences(x, f)).enumerate() {
        assert!((analytic - numeric).abs() <= 1e-6 * (1.0 + numeric.abs()), "{what}[{index}]: {analytic} against {numeric}");
    }
}
