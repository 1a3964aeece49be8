//! Products against a triple loop in f64: every small shape, both transpositions, strides, epilogues, paths and numbers of threads.

use codex_kernels::Isa;
use codex_kernels::gemm::{Epilogue, GemmError, View, ViewMut, gemm};
use proptest::prelude::*;

/// A product with everything that can follow it.
#[derive(Clone, Debug)]
struct Case {
    m: usize,
    k: usize,
    n: usize,
    transposed: (bool, bool),
    /// Elements between rows beyond their length, of `a`, `b` and the output.
    gaps: (usize, usize, usize),
    accumulates: bool,
    has_bias: bool,
    has_residual: bool,
}

/// Numbers between -1 and 1 that look like no pattern.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let next = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next(&mut state)).collect()
}

impl Case {
    fn plain(m: usize, k: usize, n: usize) -> Self {
        Self { m, k, n, transposed: (false, false), gaps: (0, 0, 0), accumulates: false, has_bias: false, has_residual: false }
    }

    /// The result on a path, with the gaps of the output, and what it should be with the scale of its rounding.
    fn run(&self, isa: Isa) -> (Vec<f32>, Vec<(f64, f64)>) {
        let &Self { m, k, n, .. } = self;
        let side = |rows: usize, cols: usize, transposed: bool, gap: usize, seed| {
            let (rows, cols) = if transposed { (cols, rows) } else { (rows, cols) };
            (numbers(rows * (cols + gap), seed), rows, cols, cols + gap)
        };
        let (a, a_rows, a_cols, a_stride) = side(m, k, self.transposed.0, self.gaps.0, 1);
        let (b, b_rows, b_cols, b_stride) = side(k, n, self.transposed.1, self.gaps.1, 2);
        let stride = n + self.gaps.2;
        let (bias, residual, mut out) = (numbers(n, 3), numbers(m * stride, 4), numbers(m * stride, 5));
        let before = out.clone();

        let at = |data: &[f32], stride: usize, transposed: bool, row: usize, col: usize| {
            f64::from(if transposed { data[col * stride + row] } else { data[row * stride + col] })
        };
        let mut expected = Vec::new();
        for row in 0..m {
            for col in 0..n {
                let terms = (0..k).map(|i| at(&a, a_stride, self.transposed.0, row, i) * at(&b, b_stride, self.transposed.1, i, col));
                let (mut sum, mut scale) = terms.fold((0.0, 0.0), |(sum, scale), term| (sum + term, scale + f64::abs(term)));
                for (is_there, added) in [
                    (self.accumulates, before[row * stride + col]),
                    (self.has_bias, bias[col]),
                    (self.has_residual, residual[row * stride + col]),
                ] {
                    if is_there {
                        sum += f64::from(added);
                        scale += f64::from(added).abs();
                    }
                }
                expected.push((sum, scale));
            }
        }

        let view = |data, rows, cols, stride, transposed| {
            let view = View::with_row_stride(data, rows, cols, stride).unwrap();
            if transposed { view.transposed() } else { view }
        };
        let mut epilogue = if self.accumulates { Epilogue::accumulate() } else { Epilogue::store() };
        if self.has_bias {
            epilogue = epilogue.with_bias(&bias);
        }
        if self.has_residual {
            epilogue = epilogue.with_residual(&residual);
        }
        let (a, b) = (view(&a, a_rows, a_cols, a_stride, self.transposed.0), view(&b, b_rows, b_cols, b_stride, self.transposed.1));
        gemm(isa, a, b, ViewMut::with_row_stride(&mut out, m, n, stride).unwrap(), epilogue).unwrap();
        for row in 0..m {
            assert_eq!(
                out[row * stride + n..(row + 1) * stride],
                before[row * stride + n..(row + 1) * stride],
                "{self:?}: a gap was written"
            );
        }
        (out, expected)
    }

    fn check(&self) {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let (out, expected) = self.run(isa);
            for (i, (sum, scale)) in expected.iter().enumerate() {
                let found = f64::from(out[i / self.n * (self.n + self.gaps.2) + i % self.n]);
                assert!((found - sum).abs() <= 1e-6 * scale.max(1e-3), "{isa:?} {self:?} [{i}]: {found}, expected {sum}");
            }
        }
    }
}

#[test]
fn every_small_shape_is_right() {
    for m in [0, 1, 2, 3, 5, 6, 7, 13, 20] {
        for n in [0, 1, 2, 7, 15, 16, 17, 33] {
            for k in [0, 1, 2, 3, 4, 5, 9, 20] {
                for transposed in [(false, false), (true, false), (false, true), (true, true)] {
                    Case { transposed, ..Case::plain(m, k, n) }.check();
                }
            }
        }
    }
}

#[test]
fn nothing_to_add_up_leaves_what_follows() {
    for (accumulates, has_bias, has_residual) in [(false, false, false), (true, false, false), (false, true, true), (true, true, true)] {
        Case { accumulates, has_bias, has_residual, gaps: (0, 0, 3), ..Case::plain(4, 0, 5) }.check();
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let shapes = [(2, 300, 500), (4, 384, 640), (100, 128, 384), (257, 300, 129), (640, 70, 65)];
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for (m, k, n) in shapes {
            for transposed in [(false, false), (true, false), (false, true)] {
                let case = Case { transposed, has_bias: true, ..Case::plain(m, k, n) };
                let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| case.run(isa).0);
                let one = on(1);
                for threads in [2, 3, 4, 8] {
                    assert!(on(threads) == one, "{isa:?} {case:?}: {threads} threads");
                }
            }
        }
    }
}

#[test]
fn a_row_alone_is_that_row_among_others() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let (m, k, n) = (40, 600, 130);
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let product = |rows: std::ops::Range<usize>| {
            let mut out = vec![0.0; rows.len() * n];
            let view = View::new(&a[rows.start * k..rows.end * k], rows.len(), k).unwrap();
            gemm(isa, view, View::new(&b, k, n).unwrap(), ViewMut::new(&mut out, rows.len(), n).unwrap(), Epilogue::store()).unwrap();
            out
        };
        let all = product(0..m);
        for row in [0, 7, 39] {
            assert!(product(row..row + 1) == all[row * n..(row + 1) * n], "{isa:?}: row {row}");
        }
        assert!(product(3..30) == all[3 * n..30 * n], "{isa:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let (a, b, mut out) = ([1.0; 6], [1.0; 12], [7.0; 8]);
    assert!(matches!(View::new(&a, 2, 4), Err(GemmError::SliceTooShort { rows: 2, cols: 4, row_stride: 4, found: 6 })));
    assert!(matches!(View::with_row_stride(&a, 2, 3, 2), Err(GemmError::RowsOverlap { cols: 3, row_stride: 2 })));
    assert!(View::with_row_stride(&a, usize::MAX, 2, usize::MAX).is_err());
    let (left, right) = (View::new(&a, 2, 3).unwrap(), View::new(&b, 3, 4).unwrap());
    let mut product = |left, right, rows, cols, epilogue: Epilogue<'_>| {
        gemm(Isa::detect(), left, right, ViewMut::new(&mut out, rows, cols).unwrap(), epilogue)
    };
    assert!(matches!(product(right, left, 2, 4, Epilogue::store()), Err(GemmError::Shapes { .. })));
    assert!(matches!(product(left, right, 4, 2, Epilogue::store()), Err(GemmError::Shapes { .. })));
    assert!(matches!(product(left, right, 2, 4, Epilogue::store().with_bias(&a)), Err(GemmError::BiasLength { expected: 4, found: 6 })));
    assert!(matches!(
        product(left, right, 2, 4, Epilogue::store().with_residual(&a)),
        Err(GemmError::ResidualLength { expected: 8, found: 6 })
    ));
    assert_eq!(out, [7.0; 8]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_is_right(
        (m, k, n) in (0..120_usize, 0..300_usize, 0..120_usize),
        transposed in any::<(bool, bool)>(),
        gaps in (0..9_usize, 0..9_usize, 0..9_usize),
        (accumulates, has_bias, has_residual) in any::<(bool, bool, bool)>(),
    ) {
        Case { m, k, n, transposed, gaps, accumulates, has_bias, has_residual }.check();
    }
}
