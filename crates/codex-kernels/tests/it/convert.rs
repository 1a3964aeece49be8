//! Conversions against those of the crate `half`, number by number.

use codex_kernels::{RowsError, convert};
use half::bf16;

use crate::check::{isas, same_at_any_threads};

#[test]
fn every_bf16_is_widened_and_comes_back() {
    let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    for isa in isas() {
        let mut wide = vec![0.0; all.len()];
        convert::widen(isa, &all, &mut wide).unwrap();
        let mut back = vec![bf16::ZERO; all.len()];
        convert::narrow(isa, &wide, &mut back).unwrap();
        for ((&number, &wide), &back) in all.iter().zip(&wide).zip(&back) {
            assert_eq!(wide.to_bits(), u32::from(number.to_bits()) << 16, "{isa:?} {number:?}");
            let quiet = if number.is_nan() { 0x40 } else { 0 };
            assert_eq!(back.to_bits(), number.to_bits() | quiet, "{isa:?} {number:?}");
        }
    }
}

#[test]
fn rounding_is_to_the_nearest_and_ties_to_even() {
    // Below, on and above the middle between two neighbours, for each sign and exponent, subnormal numbers and NaN among them.
    let lows = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF];
    let highs = (0..=u16::MAX).step_by(13).chain((0..=u16::MAX).skip(0x7F).step_by(0x80));
    let numbers: Vec<f32> = highs.flat_map(|high| lows.map(|low| f32::from_bits(u32::from(high) << 16 | low))).collect();
    for isa in isas() {
        let narrow = same_at_any_threads(|| {
            let mut narrow = vec![bf16::ZERO; numbers.len()];
            convert::narrow(isa, &numbers, &mut narrow).unwrap();
            narrow.iter().map(|number| number.to_bits()).collect::<Vec<_>>()
        });
        for (&number, &found) in numbers.iter().zip(&narrow) {
            assert_eq!(found, bf16::from_f32(number).to_bits(), "{isa:?} {number:e} {:x}", number.to_bits());
        }
    }
}

#[test]
fn lengths_must_agree() {
    let isa = isas().next().unwrap();
    let expected = RowsError::Length { operation: "narrow", argument: "to", expected: 2, found: 3 };
    assert_eq!(convert::narrow(isa, &[0.0; 2], &mut [bf16::ZERO; 3]), Err(expected));
    let expected = RowsError::Length { operation: "widen", argument: "to", expected: 2, found: 1 };
    assert_eq!(convert::widen(isa, &[bf16::ZERO; 2], &mut [0.0; 1]), Err(expected));
}
