//! Products against a triple loop in f64: every small shape, both transpositions, strides, epilogues, paths and numbers of threads.

use codex_kernels::Isa;
use codex_kernels::gemm::{Elements, Epilogue, GemmError, Precision, View, ViewMut, gemm};
use half::{bf16, f16};
use proptest::prelude::*;

use crate::check::{isas, same_at_any_threads};

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
    precision: Precision,
    /// Which of `a`, `b`, the residual and the output are bf16.
    narrow: [bool; 4],
}

/// A matrix of either type.
#[derive(Clone, Debug, PartialEq)]
enum Data {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Data {
    fn new(numbers: Vec<f32>, is_narrow: bool) -> Self {
        if is_narrow { Self::Bf16(numbers.into_iter().map(bf16::from_f32).collect()) } else { Self::F32(numbers) }
    }

    fn elements(&self) -> Elements<'_> {
        match self {
            Self::F32(numbers) => numbers.into(),
            Self::Bf16(numbers) => numbers.into(),
        }
    }

    fn at(&self, idx: usize) -> f32 {
        match self {
            Self::F32(numbers) => numbers[idx],
            Self::Bf16(numbers) => numbers[idx].to_f32(),
        }
    }

    fn bits(&self) -> Vec<u32> {
        match self {
            Self::F32(numbers) => numbers.iter().map(|number| number.to_bits()).collect(),
            Self::Bf16(numbers) => numbers.iter().map(|number| u32::from(number.to_bits())).collect(),
        }
    }
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
        let (transposed, gaps, narrow) = ((false, false), (0, 0, 0), [false; 4]);
        Self { m, k, n, transposed, gaps, accumulates: false, has_bias: false, has_residual: false, precision: Precision::F32, narrow }
    }

    /// The same in bf16 throughout, as far as an output that is added to can be.
    fn in_bf16(&self) -> Self {
        Self { precision: Precision::Bf16, narrow: [true, true, true, !self.accumulates], ..self.clone() }
    }

    /// The result on a path, with the gaps of the output.
    fn run(&self, isa: Isa) -> Data {
        self.run_and(isa, false).0
    }

    /// The result, and if wanted, what each element should be with the scale of its rounding.
    fn run_and(&self, isa: Isa, with_reference: bool) -> (Data, Vec<(f64, f64)>) {
        let &Self { m, k, n, narrow, precision, .. } = self;
        let side = |rows: usize, cols: usize, transposed: bool, gap: usize, seed, is_narrow| {
            let (rows, cols) = if transposed { (cols, rows) } else { (rows, cols) };
            (Data::new(numbers(rows * (cols + gap), seed), is_narrow), rows, cols, cols + gap)
        };
        let (a, a_rows, a_cols, a_stride) = side(m, k, self.transposed.0, self.gaps.0, 1, narrow[0]);
        let (b, b_rows, b_cols, b_stride) = side(k, n, self.transposed.1, self.gaps.1, 2, narrow[1]);
        let stride = n + self.gaps.2;
        let (bias, residual) = (numbers(n, 3), Data::new(numbers(m * stride, 4), narrow[2]));
        let mut out = Data::new(numbers(m * stride, 5), narrow[3]);
        let before = out.clone();

        let at = |data: &Data, stride: usize, transposed: bool, row: usize, col: usize| {
            let number = data.at(if transposed { col * stride + row } else { row * stride + col });
            f64::from(match precision {
                Precision::F32 => number,
                Precision::Bf16 => bf16::from_f32(number).to_f32(),
                Precision::F16 => f16::from_f32(number).to_f32(),
            })
        };
        let mut expected = Vec::new();
        for row in 0..if with_reference { m } else { 0 } {
            for (col, &bias) in bias.iter().enumerate() {
                let terms = (0..k).map(|i| at(&a, a_stride, self.transposed.0, row, i) * at(&b, b_stride, self.transposed.1, i, col));
                let (mut sum, mut scale) = terms.fold((0.0, 0.0), |(sum, scale), term| (sum + term, scale + f64::abs(term)));
                for (is_there, added) in [
                    (self.accumulates, before.at(row * stride + col)),
                    (self.has_bias, bias),
                    (self.has_residual, residual.at(row * stride + col)),
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
            epilogue = epilogue.with_residual(residual.elements());
        }
        let a = view(a.elements(), a_rows, a_cols, a_stride, self.transposed.0);
        let b = view(b.elements(), b_rows, b_cols, b_stride, self.transposed.1);
        let view = match &mut out {
            Data::F32(out) => ViewMut::with_row_stride(out, m, n, stride),
            Data::Bf16(out) => ViewMut::with_row_stride(out, m, n, stride),
        };
        gemm(isa, precision, a, b, view.unwrap(), epilogue).unwrap();
        let (found, before) = (out.bits(), before.bits());
        for row in 0..m {
            let gap = row * stride + n..(row + 1) * stride;
            assert_eq!(found[gap.clone()], before[gap], "{self:?}: a gap was written");
        }
        (out, expected)
    }

    /// What rounding may do, relative to the sum of the magnitudes of all terms.
    fn tolerance(&self, sum: f64, scale: f64) -> f64 {
        let summation = if self.precision == Precision::Bf16 { 1e-5 } else { 1e-6 };
        let output = if self.narrow[3] { sum.abs() / 256.0 } else { 0.0 };
        summation * scale.max(1e-3) + output
    }

    fn check(&self) {
        let mut reference = None;
        for isa in isas() {
            let (out, expected) = self.run_and(isa, reference.is_none());
            let expected = reference.get_or_insert(expected);
            for (i, &(sum, scale)) in expected.iter().enumerate() {
                let found = f64::from(out.at(i / self.n * (self.n + self.gaps.2) + i % self.n));
                assert!((found - sum).abs() <= self.tolerance(sum, scale), "{isa:?} {self:?} [{i}]: {found}, expected {sum}");
            }
        }
    }
}

/// Every path of this machine with either precision.
fn paths() -> impl Iterator<Item = (Isa, Precision)> {
    isas().flat_map(|isa| [(isa, Precision::F32), (isa, Precision::Bf16)])
}

#[test]
fn every_small_shape_is_right() {
    for m in [0, 1, 2, 3, 5, 6, 7, 12, 13, 20] {
        for n in [0, 1, 2, 7, 15, 16, 17, 33] {
            for k in [0, 1, 2, 3, 4, 5, 9, 20, 33] {
                for transposed in [(false, false), (true, false), (false, true), (true, true)] {
                    let case = Case { transposed, ..Case::plain(m, k, n) };
                    case.check();
                    case.in_bf16().check();
                    let apart = Case { gaps: (3, 1, 2), ..case.clone() };
                    apart.check();
                    apart.in_bf16().check();
                    Case { precision: Precision::F16, ..apart }.check();
                    Case { precision: Precision::F16, ..case.in_bf16() }.check();
                    Case { precision: Precision::Bf16, ..case }.check();
                }
            }
        }
    }
}

#[test]
fn shapes_that_are_cut_are_right() {
    // Strips of columns and several tasks of rows; several batches of terms with and without strips; more rows than a batch has.
    for (m, k, n) in [(30, 400, 300), (110, 700, 200), (20, 1501, 290), (13, 9001, 100), (4100, 3, 5)] {
        for transposed in [(false, false), (true, false), (false, true)] {
            let case = Case { transposed, has_bias: true, has_residual: true, ..Case::plain(m, k, n) };
            case.check();
            case.in_bf16().check();
            Case { accumulates: true, precision: Precision::Bf16, ..case }.check();
        }
    }
}

#[test]
fn nothing_to_add_up_leaves_what_follows() {
    for (accumulates, has_bias, has_residual) in [(false, false, false), (true, false, false), (false, true, true), (true, true, true)] {
        for m in [3, 14] {
            let case = Case { accumulates, has_bias, has_residual, gaps: (0, 0, 3), ..Case::plain(m, 0, 5) };
            case.check();
            case.in_bf16().check();
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let shapes = [(2, 300, 500), (4, 384, 640), (8, 385, 600), (100, 128, 384), (257, 301, 129), (640, 70, 65), (140, 900, 70)];
    for (isa, precision) in paths() {
        for (m, k, n) in shapes {
            for transposed in [(false, false), (true, false), (false, true)] {
                for narrow in [[false; 4], [true; 4]] {
                    let case = Case { transposed, has_bias: true, precision, narrow, ..Case::plain(m, k, n) };
                    same_at_any_threads(|| case.run(isa));
                }
            }
        }
    }
}

#[test]
fn a_row_alone_is_that_row_among_others() {
    for (isa, precision) in paths() {
        for (k, n, b_is_transposed) in [(600, 130, false), (601, 77, true), (33, 530, false)] {
            for narrow in [false, true] {
                let m = 40;
                let (a, b) = (Data::new(numbers(m * k, 1), narrow), Data::new(numbers(k * n, 2), narrow));
                let product = |rows: std::ops::Range<usize>| {
                    let mut out = vec![0.0; rows.len() * n];
                    let view = rows_of(&a, k, rows.clone());
                    let b = if b_is_transposed {
                        View::new(b.elements(), n, k).unwrap().transposed()
                    } else {
                        View::new(b.elements(), k, n).unwrap()
                    };
                    gemm(isa, precision, view, b, ViewMut::new(&mut out, rows.len(), n).unwrap(), Epilogue::store()).unwrap();
                    out
                };
                let all = product(0..m);
                for rows in [0..1, 7..8, 39..40, 2..5, 1..9, 3..15, 3..30] {
                    let expected = &all[rows.start * n..rows.end * n];
                    assert!(product(rows.clone()) == expected, "{isa:?} {precision:?} {narrow} k {k}: rows {rows:?}");
                }
            }
        }
    }
}

/// Some rows of a matrix of `k` columns.
fn rows_of(data: &Data, k: usize, rows: std::ops::Range<usize>) -> View<'_> {
    match data {
        Data::F32(data) => View::new(&data[rows.start * k..rows.end * k], rows.len(), k).unwrap(),
        Data::Bf16(data) => View::new(&data[rows.start * k..rows.end * k], rows.len(), k).unwrap(),
    }
}

#[test]
fn the_widest_path_multiplies_f32_as_the_one_before() {
    if Isa::Avx512Bf16.is_available() {
        for (m, k, n) in [(1, 500, 70), (30, 500, 70)] {
            let case = Case::plain(m, k, n);
            assert_eq!(case.run(Isa::Avx512Bf16), case.run(Isa::Avx512));
        }
    }
}

#[test]
fn bf16_is_rounded_to_the_nearest_and_keeps_what_is_no_number() {
    // The middle between 1 and the next bf16 goes to 1, that between the next two goes up.
    let step = 2.0_f32.powi(-7);
    let values =
        [1.0 + step / 2.0, 1.0 + step * 1.5, 1.0 + step * 0.51, f32::NAN, f32::INFINITY, -0.0, 3.0e38, f32::from_bits(0x7F80_0001)];
    for isa in isas() {
        for m in [1, 8, 20] {
            for as_b in [false, true] {
                for transposed in [false, true] {
                    let n = values.len();
                    for (idx, &value) in values.iter().enumerate() {
                        let (a, b) = if as_b { (vec![1.0; m], vec![value; n]) } else { (vec![value; m], vec![1.0; n]) };
                        let mut out = vec![0.0; m * n];
                        let a = View::new(&a, m, 1).unwrap();
                        let b = if transposed { View::new(&b, n, 1).unwrap().transposed() } else { View::new(&b, 1, n).unwrap() };
                        gemm(isa, Precision::Bf16, a, b, ViewMut::new(&mut out, m, n).unwrap(), Epilogue::store()).unwrap();
                        let expected = bf16::from_f32(value).to_f32();
                        assert!(
                            out.iter().all(|&out| out == expected || out.is_nan() && expected.is_nan()),
                            "{isa:?} {m} [{idx}]: {out:?}, expected {expected}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn f16_rounds_overflows_and_underflows_as_the_format_does() {
    let step = 2.0_f32.powi(-10);
    let values = [
        (1.0 + step / 2.0, 1.0),
        (1.0 + step * 1.5, 1.0 + 2.0 * step),
        (65_519.0, 65_504.0),
        (65_520.0, f32::INFINITY),
        (-1e30, f32::NEG_INFINITY),
        (2.0_f32.powi(-24), 2.0_f32.powi(-24)),
        (2.0_f32.powi(-26), 0.0),
    ];
    for isa in isas() {
        for (value, expected) in values {
            let mut out = [0.0];
            gemm(
                isa,
                Precision::F16,
                View::new(&[value], 1, 1).unwrap(),
                View::new(&[1.0], 1, 1).unwrap(),
                ViewMut::new(&mut out, 1, 1).unwrap(),
                Epilogue::store(),
            )
            .unwrap();
            assert_eq!(out[0].to_bits(), expected.to_bits(), "{isa:?} {value}: {}", out[0]);
        }
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
        gemm(Isa::detect(), Precision::F32, left, right, ViewMut::new(&mut out, rows, cols).unwrap(), epilogue)
    };
    assert!(matches!(product(right, left, 2, 4, Epilogue::store()), Err(GemmError::Shapes { .. })));
    assert!(matches!(product(left, right, 4, 2, Epilogue::store()), Err(GemmError::Shapes { .. })));
    assert!(matches!(product(left, right, 2, 4, Epilogue::store().with_bias(&a)), Err(GemmError::BiasLength { expected: 4, found: 6 })));
    assert!(matches!(
        product(left, right, 2, 4, Epilogue::store().with_residual(&a)),
        Err(GemmError::ResidualLength { expected: 8, found: 6 })
    ));
    assert_eq!(out, [7.0; 8]);
    let mut narrow = [bf16::ONE; 8];
    let into_bf16 = gemm(Isa::detect(), Precision::Bf16, left, right, ViewMut::new(&mut narrow, 2, 4).unwrap(), Epilogue::accumulate());
    assert_eq!(into_bf16, Err(GemmError::AccumulatesBf16));
    assert_eq!(narrow, [bf16::ONE; 8]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_is_right(
        (m, k, n) in (0..120_usize, 0..300_usize, 0..120_usize),
        transposed in any::<(bool, bool)>(),
        gaps in (0..9_usize, 0..9_usize, 0..9_usize),
        (accumulates, has_bias, has_residual) in any::<(bool, bool, bool)>(),
        narrow in any::<[bool; 4]>(),
        is_bf16 in any::<bool>(),
    ) {
        let precision = if is_bf16 { Precision::Bf16 } else { Precision::F32 };
        let narrow = [narrow[0], narrow[1], narrow[2], narrow[3] && !accumulates];
        Case { m, k, n, transposed, gaps, accumulates, has_bias, has_residual, precision, narrow }.check();
    }

    #[test]
    fn any_thin_or_long_shape_is_right(
        (m, k, n) in (1..14_usize, 300..900_usize, 1..70_usize),
        transposed in any::<(bool, bool)>(),
        gaps in (0..9_usize, 0..9_usize, 0..9_usize),
        narrow in any::<[bool; 4]>(),
        is_bf16 in any::<bool>(),
    ) {
        let precision = if is_bf16 { Precision::Bf16 } else { Precision::F32 };
        Case { transposed, gaps, has_residual: true, precision, narrow, ..Case::plain(m, k, n) }.check();
    }
}
