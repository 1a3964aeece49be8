//! Host tensors as safetensors bytes: f32, little-endian, names sorted, the same bytes for the same tensors.
//!
//! Format: <https://github.com/huggingface/safetensors>, 8 bytes of header length, a JSON header, the data.

use codex_core::{HostTensor, TensorMap};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// The bytes of a safetensors file with these tensors.
pub fn encode(tensors: &TensorMap) -> Result<Vec<u8>, String> {
    let mut data = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let n = tensor.shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
        if n != Some(tensor.values.len()) {
            return Err(format!("tensor `{name}` has {} values for shape {:?}", tensor.values.len(), tensor.shape));
        }
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        data.push((name, &tensor.shape, bytes));
    }
    let mut views = Vec::with_capacity(data.len());
    for (name, shape, bytes) in &data {
        let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes).map_err(|error| format!("tensor `{name}`: {error}"))?;
        views.push((name.as_str(), view));
    }
    // One entry only, as the map's order is not fixed.
    #[expect(clippy::disallowed_types, reason = "the library takes its metadata as this type")]
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|error| error.to_string())
}

/// The tensors in the bytes of a safetensors file. The library checks the header's size and every offset before anything is read.
pub fn decode(bytes: &[u8]) -> Result<TensorMap, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = TensorMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor `{name}` is {:?}; F32 is expected", view.dtype()));
        }
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let tensor = HostTensor::new(view.shape().to_vec(), values).ok_or_else(|| format!("tensor `{name}` does not fill its shape"))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tensors_come_back_bit_for_bit(bits in proptest::collection::vec(any::<u32>(), 0..40)) {
            let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            let tensor = HostTensor { shape: vec![values.len()], values };
            let map = TensorMap::from([("b.x".to_owned(), tensor.clone()), ("a".to_owned(), tensor)]);
            let bytes = encode(&map).unwrap();
            prop_assert_eq!(&bytes, &encode(&map).unwrap());
            let back = decode(&bytes).unwrap();
            for name in ["a", "b.x"] {
                let found: Vec<u32> = back[name].values.iter().map(|v| v.to_bits()).collect();
                prop_assert_eq!(&found, &bits);
            }
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(&bytes));
        }
    }

    #[test]
    fn a_lying_shape_is_refused() {
        let map = TensorMap::from([("x".to_owned(), HostTensor { shape: vec![3], values: vec![1.0] })]);
        assert!(encode(&map).unwrap_err().contains("1 values for shape [3]"));
    }
}
