//! Rows by id.

use codex_kernels::Isa;
use codex_kernels::embedding::{Lookup, gather, scatter_add};
use proptest::prelude::*;

use crate::check::{assert_is_gradient, bits, ids, isas, numbers, same_at_any_threads, wide};

/// One row after the other, which is the order that the kernel promises.
fn scatter_simply(width: usize, ids: &[u32], gradient: &[f32], table_gradient: &mut [f32]) {
    for (&id, row) in ids.iter().zip(gradient.chunks(width)) {
        for (sum, value) in table_gradient[id as usize * width..].iter_mut().zip(row) {
            *sum += value;
        }
    }
}

fn check(n: usize, n_rows: usize, width: usize, seed: u64) {
    let (table, positions) = (numbers(seed, n_rows * width, 1.0), numbers(seed + 1, 5 * width, 1.0));
    let (token_ids, position_ids) = (ids(seed + 2, n, n_rows), (0..n as u32).map(|position| position % 5).collect::<Vec<_>>());
    let (gradient, start) = (numbers(seed + 3, n * width, 1.0), numbers(seed + 4, n_rows * width, 1.0));
    let mut expected = start.clone();
    scatter_simply(width, &token_ids, &gradient, &mut expected);
    let tokens = Lookup { table: &table, ids: &token_ids };
    for isa in isas() {
        let mut output = vec![f32::NAN; n * width];
        gather(isa, width, tokens, None, &mut output).unwrap();
        let row = |&id: &u32| table[id as usize * width..][..width].to_vec();
        assert_eq!(output, token_ids.iter().flat_map(row).collect::<Vec<_>>());

        gather(isa, width, tokens, Some(Lookup { table: &positions, ids: &position_ids }), &mut output).unwrap();
        for (index, &found) in output.iter().enumerate() {
            let (position, column) = (index / width, index % width);
            let at = |table: &[f32], id: u32| table[id as usize * width + column];
            assert_eq!(found, at(&table, token_ids[position]) + at(&positions, position_ids[position]));
        }

        let mut found = start.clone();
        scatter_add(isa, width, &token_ids, &gradient, &mut found).unwrap();
        assert_eq!(bits(&found), bits(&expected), "{n} of {n_rows} x {width} on {}", isa.name());
    }
}

#[test]
fn literal_values() {
    let mut output = [0.0; 6];
    let tokens = Lookup { table: &[1.0, 2.0, 3.0, 4.0], ids: &[1, 0, 1] };
    gather(Isa::detect(), 2, tokens, Some(Lookup { table: &[10.0, 20.0], ids: &[0, 0, 0] }), &mut output).unwrap();
    assert_eq!(output, [13.0, 24.0, 11.0, 22.0, 13.0, 24.0]);
    let mut table_gradient = [100.0, 0.0, 0.0, 0.0];
    scatter_add(Isa::detect(), 2, &[1, 0, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut table_gradient).unwrap();
    assert_eq!(table_gradient, [103.0, 4.0, 6.0, 8.0]);
}

#[test]
fn the_simple_gradient_is_one() {
    let (table, gradient, token_ids) = (numbers(1, 4 * 3, 1.0), numbers(2, 6 * 3, 1.0), [3, 0, 3, 3, 1, 0]);
    let mut analytic = vec![0.0; 12];
    scatter_simply(3, &token_ids, &gradient, &mut analytic);
    assert_is_gradient("table", &wide(&analytic), &wide(&table), |table| {
        let rows = token_ids.iter().zip(gradient.chunks(3));
        rows.flat_map(|(&id, row)| row.iter().zip(&table[id as usize * 3..]).map(|(&g, x)| f64::from(g) * x)).sum()
    });
}

#[test]
fn odd_shapes() {
    for (n, n_rows, width) in [(0, 1, 1), (0, 9, 4), (1, 1, 1), (50, 1, 33), (3, 1000, 31), (700, 40, 65), (2000, 300, 100), (4, 2, 20_000)]
    {
        check(n, n_rows, width, 9);
    }
}

#[test]
fn the_same_bits_at_any_threads() {
    let (n, n_rows, width) = (3000, 500, 70);
    let (token_ids, gradient) = (ids(1, n, n_rows), numbers(2, n * width, 1.0));
    for isa in isas() {
        same_at_any_threads(|| {
            let mut table_gradient = vec![0.0; n_rows * width];
            scatter_add(isa, width, &token_ids, &gradient, &mut table_gradient).unwrap();
            bits(&table_gradient)
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_shape(n in 0_usize..300, n_rows in 1_usize..200, width in 1_usize..100, seed in 0_u64..1000) {
        check(n, n_rows, width, seed);
    }
}
