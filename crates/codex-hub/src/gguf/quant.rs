//! Types of the numbers in a GGUF file.
//!
//! Q8_0 is that of ggml: 32 numbers of a row share a scale, the largest of them divided by 127, which is kept in half precision; each number is the
//! nearest multiple of the exact scale in 8 bits, halves away from zero.

use half::f16;

use crate::element::ElementType;

/// What the matrices of a file are written as; vectors are f32 in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GgufType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats of IEEE 754.
    #[default]
    F16,
    /// 8-bit whole numbers with one scale for each 32 of a row.
    #[serde(rename = "q8_0")]
    Q8,
}

/// Numbers of a row that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Bytes of such a block: its scale and its numbers.
const BLOCK_BYTES: usize = 2 + BLOCK;

impl GgufType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8];

    /// Its name, as other programs spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8_0",
        }
    }

    /// Its code in the list of tensors.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8 => 8,
        }
    }

    /// The type that has this code.
    pub(crate) fn of_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The code of a file whose matrices are mostly of this type.
    pub(crate) fn file_code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8 => 7,
        }
    }

    /// Bytes of `n` numbers in rows of `row`; `None` where rows hold no whole blocks or the count is too large.
    pub(crate) fn bytes(self, n: u64, row: u64) -> Option<u64> {
        match self {
            Self::F32 => n.checked_mul(4),
            Self::F16 => n.checked_mul(2),
            Self::Q8 if !row.is_multiple_of(BLOCK as u64) => None,
            Self::Q8 => (n / BLOCK as u64).checked_mul(BLOCK_BYTES as u64),
        }
    }

    /// Numbers as bytes; for Q8_0 they are whole blocks.
    pub(crate) fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => ElementType::F32.encode(values),
            Self::F16 => ElementType::F16.encode(values),
            Self::Q8 => {
                let mut bytes = Vec::with_capacity(values.len() / BLOCK * BLOCK_BYTES);
                for block in values.chunks_exact(BLOCK) {
                    let (scale, numbers) = quantise(block);
                    bytes.extend(scale.to_le_bytes());
                    bytes.extend(numbers.map(i8::cast_unsigned));
                }
                bytes
            }
        }
    }

    /// The numbers of bytes; what does not fill a number or a block is left out.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => ElementType::F32.decode(bytes),
            Self::F16 => ElementType::F16.decode(bytes),
            Self::Q8 => bytes
                .chunks_exact(BLOCK_BYTES)
                .flat_map(|block| {
                    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                    block[2..].iter().map(move |&byte| f32::from(byte.cast_signed()) * scale)
                })
                .collect(),
        }
    }

    /// Numbers as the type holds them; for Q8_0 they are whole blocks.
    pub(crate) fn round(self, values: &[f32]) -> Vec<f32> {
        self.decode(&self.encode(values))
    }
}

fn quantise(block: &[f32]) -> (f16, [i8; BLOCK]) {
    let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = 1.0 / scale;
    let mut numbers = [0; BLOCK];
    // A scale so small that it has no inverse is zero in half precision anyway.
    if inverse.is_finite() {
        for (number, value) in numbers.iter_mut().zip(block) {
            *number = (value * inverse).round() as i8;
        }
    }
    (f16::from_f32(scale), numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_those_of_the_reference() {
        // Halves away from zero: 0.5, 1.5 and 2.5 of a scale of exactly 1.
        let mut block = vec![0.0; 32];
        block[..8].copy_from_slice(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 0.499, -127.0]);
        let bytes = GgufType::Q8.encode(&block);
        assert_eq!(bytes.len(), 34);
        assert_eq!(bytes[..10], [0x00, 0x3c, 127, 1, 2, 3, 255, 254, 0, 129]);
        assert!(bytes[10..].iter().all(|&byte| byte == 0));
        // The numbers are multiples of the exact scale, 0.1 / 127, and not of the one that is kept.
        let mut small = vec![0.0; 32];
        small[..3].copy_from_slice(&[0.1, -0.05, 0.033]);
        assert_eq!(GgufType::Q8.encode(&small)[..5], [0x73, 0x12, 127, 192, 42]);
        assert_eq!(GgufType::Q8.encode(&[0.0; 32]), [0; 34]);
        assert_eq!(GgufType::Q8.encode(&[1e-40; 32]), [0; 34]);
    }

    #[test]
    fn bytes_are_counted_in_whole_blocks() {
        assert_eq!((GgufType::F32.bytes(6, 3), GgufType::F16.bytes(6, 3)), (Some(24), Some(12)));
        assert_eq!((GgufType::Q8.bytes(96, 32), GgufType::Q8.bytes(96, 48)), (Some(102), None));
        assert_eq!(GgufType::F32.bytes(u64::MAX / 2, 1), None);
        assert!([2, 3, 7, 9, 30, u32::MAX].iter().all(|&code| GgufType::of_code(code).is_none()));
    }

    proptest! {
        #[test]
        fn quantised_numbers_are_within_half_a_step(values in prop::collection::vec(-100.0_f32..100.0, 64)) {
            let back = GgufType::Q8.round(&values);
            for (block, found) in values.chunks(32).zip(back.chunks(32)) {
                let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                // Half a step, and what half precision of the scale changes in 127 of them.
                let bound = largest / 127.0 * 0.5 + largest / 2048.0 + 1e-4;
                prop_assert!(block.iter().zip(found).all(|(value, back)| (value - back).abs() <= bound));
            }
        }

        #[test]
        fn no_bits_make_it_panic(bits in prop::collection::vec(any::<u32>(), 64)) {
            let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            for kind in GgufType::ALL {
                prop_assert_eq!(kind.round(&values).len(), 64);
            }
        }
    }
}
