//! Sums of columns against f64, and the same bits at any number of threads.

use codex_kernels::bf16;
use codex_kernels::columns::sum_columns;

use crate::check::{assert_close, bits, isas, numbers, same_at_any_threads};

#[test]
fn sums_are_those_of_f64_at_any_thread_count() {
    for (rows, width) in [(0, 3), (1, 1), (7, 5), (100, 33), (3000, 17), (64, 20_000)] {
        let values = numbers(1, rows * width, 1.0);
        let halves: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
        let exact = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
            (0..width).map(|column| (0..rows).map(|row| value(row * width + column)).sum()).collect()
        };
        for isa in isas() {
            let found = same_at_any_threads(|| {
                let mut sums = vec![f32::NAN; width];
                sum_columns(isa, &values, &mut sums).unwrap();
                bits(&sums)
            });
            let found: Vec<f32> = found.into_iter().map(f32::from_bits).collect();
            assert_close("f32", &found, &exact(&|index| f64::from(values[index])), 1e-5);
            let mut sums = vec![f32::NAN; width];
            sum_columns(isa, &halves, &mut sums).unwrap();
            assert_close("bf16", &sums, &exact(&|index| f64::from(halves[index].to_f32())), 1e-5);
        }
    }
}

#[test]
fn rows_that_are_not_whole_are_refused() {
    assert!(sum_columns(isas().next().unwrap(), &[0.0; 5], &mut [0.0; 2]).is_err());
    assert!(sum_columns(isas().next().unwrap(), &[0.0; 5], &mut []).is_err());
}
