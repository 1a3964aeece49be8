//! Weights in 8 bits: the numbers of GGUF's Q8_0, and products that are those of the weights they stand for, bit for bit.

use codex_kernels::Isa;
use codex_kernels::gemm::{Epilogue, Precision, View, ViewMut, gemm};
use codex_kernels::quantized::{QuantizedError, QuantizedMatrix, multiply, multiply_transposed};
use half::f16;
use proptest::prelude::*;

use crate::check::{bits, isas, numbers, same_at_any_threads};

/// Rows that take each way through the product: none, each size of a group of rows, two groups, and as many as are worth dequantizing for.
const ROWS: [usize; 10] = [0, 1, 2, 3, 4, 7, 8, 17, 32, 33];

fn quantized(inputs: usize, outputs: usize) -> QuantizedMatrix {
    QuantizedMatrix::quantize(Isa::detect(), &numbers(1, inputs * outputs, 0.5), inputs, outputs).unwrap()
}

/// ggml's `quantize_row_q8_0_ref` on a column, as it is written there: the weights that it gives, and the scale of each.
fn reference(column: &[f32]) -> Vec<(f32, f32)> {
    let mut weights = Vec::new();
    for block in column.chunks(32) {
        let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = largest / ((1 << 7) - 1) as f32;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let stored = f16::from_f32(scale).to_f32();
        weights.extend(block.iter().map(|value| (f32::from((value * inverse).round() as i8) * stored, scale)));
    }
    weights
}

/// Checks the numbers of a matrix against the reference and against the bound on their errors.
fn check_numbers(values: &[f32], inputs: usize, outputs: usize) {
    let matrix = QuantizedMatrix::quantize(Isa::Portable, values, inputs, outputs).unwrap();
    for isa in isas() {
        assert!(same_at_any_threads(|| QuantizedMatrix::quantize(isa, values, inputs, outputs).unwrap()) == matrix, "{isa:?}");
    }
    assert_eq!((matrix.inputs(), matrix.outputs()), (inputs, outputs));
    let found = matrix.dequantize();
    assert_eq!(found.len(), inputs * outputs);
    for output in 0..outputs {
        let column: Vec<f32> = (0..inputs).map(|input| values[input * outputs + output]).collect();
        for (input, (expected, scale)) in reference(&column).into_iter().enumerate() {
            let (found, value) = (found[input * outputs + output], column[input]);
            assert_eq!(found.to_bits(), expected.to_bits(), "{inputs} x {outputs} [{input}, {output}]");
            // Half a step, and up to 127 times what f16 rounds off the scale: a part in 2048, or half its smallest number.
            let rounding = 127.0 * (f64::from(scale) / 2048.0).max(2.0_f64.powi(-25));
            let error = (f64::from(found) - f64::from(value)).abs();
            assert!(error <= f64::from(scale) * 0.500_01 + rounding, "{value} became {found} with a scale of {scale}");
        }
    }
}

/// A product of some rows, and that of its gradient, against gemm and a loop in f64 with the weights that the matrix stands for.
fn check_products(rows: usize, inputs: usize, outputs: usize, has_bias: bool) {
    let matrix = quantized(inputs, outputs);
    let weights = matrix.dequantize();
    let (x, gradient, bias) = (numbers(2, rows * inputs, 1.0), numbers(3, rows * outputs, 1.0), numbers(4, outputs, 1.0));
    let bias = has_bias.then_some(&bias[..]);
    for isa in isas() {
        let what = format!("{isa:?}, {rows} rows, {inputs} x {outputs}, bias {has_bias}");
        let view = |elements, rows, cols| View::new(elements, rows, cols).unwrap();
        let found = same_at_any_threads(|| {
            let mut out = vec![f32::NAN; rows * outputs];
            multiply(isa, &x, &matrix, bias, &mut out).unwrap();
            bits(&out)
        });
        let mut expected = vec![f32::NAN; rows * outputs];
        let to = ViewMut::new(&mut expected, rows, outputs).unwrap();
        let epilogue = bias.map_or_else(Epilogue::store, |bias| Epilogue::store().with_bias(bias));
        gemm(isa, Precision::F32, view(&x[..], rows, inputs), view(&weights[..], inputs, outputs), to, epilogue).unwrap();
        assert!(found == bits(&expected), "{what}: not the bits of gemm");
        for (index, found) in found.iter().map(|bits| f64::from(f32::from_bits(*bits))).enumerate() {
            let (row, output) = (index / outputs, index % outputs);
            let terms = (0..inputs).map(|input| f64::from(x[row * inputs + input]) * f64::from(weights[input * outputs + output]));
            assert_sum(&what, found, terms.chain(bias.map(|bias| f64::from(bias[output]))));
        }

        let found = same_at_any_threads(|| {
            let mut out = vec![f32::NAN; rows * inputs];
            multiply_transposed(isa, &gradient, &matrix, &mut out).unwrap();
            bits(&out)
        });
        let mut expected = vec![f32::NAN; rows * inputs];
        let to = ViewMut::new(&mut expected, rows, inputs).unwrap();
        let transposed = view(&weights[..], inputs, outputs).transposed();
        gemm(isa, Precision::F32, view(&gradient[..], rows, outputs), transposed, to, Epilogue::store()).unwrap();
        assert!(found == bits(&expected), "{what}: not the bits of gemm with the transpose");
        for (index, found) in found.iter().map(|bits| f64::from(f32::from_bits(*bits))).enumerate() {
            let (row, input) = (index / inputs, index % inputs);
            let terms =
                (0..outputs).map(|output| f64::from(gradient[row * outputs + output]) * f64::from(weights[input * outputs + output]));
            assert_sum(&what, found, terms);
        }
    }
}

/// Checks a sum to 1e-5 of the magnitudes of its terms.
fn assert_sum(what: &str, found: f64, terms: impl Iterator<Item = f64>) {
    let (sum, scale) = terms.fold((0.0, 0.0), |(sum, scale), term: f64| (sum + term, scale + term.abs()));
    assert!((found - sum).abs() <= 1e-5 * scale, "{what}: {found}, expected {sum}");
}

#[test]
fn numbers_are_those_of_q8_0() {
    for (inputs, outputs) in [(1, 1), (31, 15), (32, 64), (33, 17), (64, 65), (100, 200)] {
        for scale in [1e-12, 1e-4, 1.0, 1e6] {
            check_numbers(&numbers(inputs as u64, inputs * outputs, scale), inputs, outputs);
        }
    }
    // Zeros, halves of a step, subnormal numbers, the largest that is taken.
    check_numbers(&[0.0; 66], 33, 2);
    check_numbers(&[127.0, 0.5, 1.5, -0.5, -2.5, -0.0], 6, 1);
    check_numbers(&[1e-40, -1e-44, f32::MIN_POSITIVE, 0.0], 4, 1);
    check_numbers(&[8_321_039.5, -8_321_039.5], 1, 2);
}

#[test]
fn literal_numbers() {
    let matrix = QuantizedMatrix::quantize(Isa::detect(), &[127.0, -254.0, 64.4, 1.0], 2, 2).unwrap();
    assert_eq!(matrix.dequantize(), [127.0, -254.0, 64.0, 2.0]);
    // One panel: a line of 64 bytes for each input, and 64 scales.
    assert_eq!(matrix.bytes(), 2 * 64 + 64 * 4);
    assert_eq!(quantized(4096, 256).bytes(), 4096 * 256 * 9 / 8);
    let mut out = [0.0; 2];
    multiply(Isa::detect(), &[1.0, 0.5], &matrix, Some(&[1.0, 2.0]), &mut out).unwrap();
    assert_eq!(out, [160.0, -251.0]);
    multiply_transposed(Isa::detect(), &[1.0, 0.5], &matrix, &mut out).unwrap();
    assert_eq!(out, [0.0, 65.0]);
    assert_eq!(format!("{matrix:?}"), "QuantizedMatrix { inputs: 2, outputs: 2, .. }");
}

#[test]
fn products_of_awkward_shapes() {
    for rows in ROWS {
        for (inputs, outputs) in [(1, 1), (31, 15), (32, 16), (33, 17), (1, 65), (65, 1), (400, 70)] {
            check_products(rows, inputs, outputs, rows % 2 == 0);
        }
    }
}

#[test]
fn products_that_are_cut() {
    // Several tasks of panels; several parts of what is dequantized, of outputs and of inputs.
    check_products(2, 1100, 200, true);
    check_products(33, 9000, 150, true);
    check_products(33, 150, 9000, true);
}

#[test]
fn a_row_alone_is_the_row_in_a_batch() {
    let (inputs, outputs) = (777, 130);
    let (matrix, x) = (quantized(inputs, outputs), numbers(5, 40 * inputs, 1.0));
    for isa in isas() {
        let product = |x: &[f32]| {
            let mut out = vec![0.0; x.len() / inputs * outputs];
            multiply(isa, x, &matrix, None, &mut out).unwrap();
            bits(&out)
        };
        let alone: Vec<u32> = x.chunks(inputs).flat_map(product).collect();
        for rows in ROWS {
            assert!(product(&x[..rows * inputs]) == alone[..rows * outputs], "{isa:?}, {rows} rows");
        }
    }
}

#[test]
fn refusals() {
    let isa = Isa::detect();
    let message = |values: &[f32], inputs, outputs| QuantizedMatrix::quantize(isa, values, inputs, outputs).unwrap_err().to_string();
    assert_eq!(message(&[], 0, 3), "cannot quantize a 0 x 3 matrix: it has no elements");
    assert_eq!(message(&[], 3, 0), "cannot quantize a 3 x 0 matrix: it has no elements");
    assert_eq!(message(&[0.0; 5], 2, 3), "`values` of quantization has 5 elements, expected 6");
    assert_eq!(message(&[0.0; 5], usize::MAX, 2), format!("`values` of quantization has 5 elements, expected {}", usize::MAX));
    for (value, shown) in
        [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf"), (8_321_040.0, "8321040"), (f32::MAX, "340282350000000000000000000000000000000")]
    {
        let mut values = numbers(1, 60_000, 1.0);
        (values[20_005], values[50_000]) = (value, f32::NAN);
        let expected = format!("the weight of input 2000 for output 5 is {shown}, expected a number below 8321040 in magnitude");
        assert_eq!(message(&values, 6000, 10), expected);
    }

    let matrix = quantized(3, 2);
    let mut out = [7.0; 4];
    let mut refuse = |x: &[f32], bias: Option<&[f32]>, n| multiply(isa, x, &matrix, bias, &mut out[..n]).unwrap_err().to_string();
    assert_eq!(refuse(&[0.0; 4], None, 2), "`x` of quantized product has 4 elements, expected a multiple of 3");
    assert_eq!(refuse(&[0.0; 6], None, 3), "`out` of quantized product has 3 elements, expected 4");
    assert_eq!(refuse(&[0.0; 6], Some(&[0.0]), 4), "`bias` of quantized product has 1 elements, expected 2");
    let mut refuse = |gradient: &[f32]| multiply_transposed(isa, gradient, &matrix, &mut out).unwrap_err();
    assert_eq!(refuse(&[0.0; 3]).to_string(), "`gradient` of quantized product's gradient has 3 elements, expected a multiple of 2");
    assert!(matches!(refuse(&[0.0; 2]), QuantizedError::Rows(_)));
    assert_eq!(out, [7.0; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_shape(rows in 0_usize..40, inputs in 1_usize..140, outputs in 1_usize..140, has_bias: bool) {
        check_products(rows, inputs, outputs, has_bias);
    }

    #[test]
    fn any_numbers(values in prop::collection::vec(-8_321_039.0_f32..8_321_039.0, 1..200), columns in 1_usize..5, exponent in -40_i32..1) {
        let values: Vec<f32> = values[..values.len() / columns * columns].iter().map(|value| value * 2.0_f32.powi(exponent)).collect();
        if !values.is_empty() {
            check_numbers(&values, values.len() / columns, columns);
        }
    }
}
