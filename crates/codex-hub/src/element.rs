//! Types of the numbers in a file of tensors, and their way to f32 and back.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;

/// What the numbers of a file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats of IEEE 754.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
}

impl ElementType {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Its name in a safetensors file.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// Its name in a `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// The type of a safetensors file, if numbers of it are read.
    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// The numbers of little-endian bytes; what does not fill a number is left out.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let pairs = || bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        match self {
            Self::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Self::F16 => pairs().map(|bits| f16::from_bits(bits).to_f32()).collect(),
            Self::Bf16 => pairs().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        }
    }

    /// Numbers as little-endian bytes, rounded to the nearest where they do not fit.
    pub(crate) fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => {
                let mut rounded = vec![f16::ZERO; values.len()];
                rounded.convert_from_f32_slice(values);
                rounded.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
            Self::Bf16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        }
    }

    /// A number as the type holds it.
    pub(crate) fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_the_type_holds_them() {
        let values = [0.0, -0.0, 1.0, -3.25, 65_504.0, 1e-8, f32::MAX, std::f32::consts::PI];
        for element in [ElementType::F32, ElementType::F16, ElementType::Bf16] {
            let bytes = element.encode(&values);
            assert_eq!(bytes.len(), values.len() * element.size());
            let expected: Vec<u32> = values.iter().map(|&value| element.round(value).to_bits()).collect();
            assert_eq!(element.decode(&bytes).iter().map(|value| value.to_bits()).collect::<Vec<_>>(), expected, "{element:?}");
        }
        assert_eq!(ElementType::of(Dtype::F8_E4M3), None);
        assert_eq!(ElementType::F16.round(1.0 + 1.0 / 4096.0).to_bits(), 1.0_f32.to_bits(), "to the nearest, ties to even");
    }
}
