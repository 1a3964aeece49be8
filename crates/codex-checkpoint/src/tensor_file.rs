//! Host tensors as safetensors bytes: f32, little-endian, names sorted, the same bytes for the same tensors.
//!
//! Format: <https://github.com/huggingface/safetensors>, 8 bytes of header length, a JSON header, the data.

use std::io::{self, Write};

use codex_core::{Digest, HostTensor, TensorMap};
use safetensors::tensor::{Dtype, SafeTensors};

use crate::content::Content;

/// A safetensors file that is about to be written: the data are the tensors' own memory, so that the file never exists in memory.
#[derive(Debug)]
pub(crate) struct TensorFile {
    header: Vec<u8>,
    tensors: TensorMap,
}

impl TensorFile {
    /// The file of these tensors.
    pub(crate) fn new(tensors: TensorMap) -> Result<Self, String> {
        for (name, tensor) in &tensors {
            let n = tensor.shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
            if n != Some(tensor.values.len()) {
                return Err(format!("tensor `{name}` has {} values for shape {:?}", tensor.values.len(), tensor.shape));
            }
        }
        Ok(Self { header: header(&tensors)?, tensors })
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> u64 {
        let data = self.tensors.values().map(|tensor| size_of_val(&tensor.values[..]) as u64);
        self.header.len() as u64 + data.sum::<u64>()
    }

    /// The name of a tensor with a value that is not finite.
    pub(crate) fn not_finite(&self) -> Option<&String> {
        self.tensors.iter().find(|(_, tensor)| !tensor.is_finite()).map(|(name, _)| name)
    }

    /// Writes it.
    pub(crate) fn write_to(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&self.header)?;
        self.tensors.values().try_for_each(|tensor| write_values(&tensor.values, to))
    }
}

/// Little-endian values: on such a machine, and nearly all are, the bytes of their memory.
fn write_values(values: &[f32], to: &mut dyn Write) -> io::Result<()> {
    if cfg!(target_endian = "little") {
        return to.write_all(bytemuck::cast_slice(values));
    }
    for values in values.chunks(1 << 16) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        to.write_all(&bytes)?;
    }
    Ok(())
}

/// The header: its length, and as JSON each tensor's type, shape and place, in the order of the names. Written here, as the library reserves
/// memory for all the data beside it; a test compares the two.
fn header(tensors: &TensorMap) -> Result<Vec<u8>, String> {
    let mut text = r#"{"__metadata__":{"format":"pt"}"#.to_owned();
    let mut end = 0;
    for (name, tensor) in tensors {
        let (name, start) = (serde_json::to_string(name).map_err(|error| error.to_string())?, end);
        end += size_of_val(&tensor.values[..]);
        let shape = serde_json::to_string(&tensor.shape).map_err(|error| error.to_string())?;
        text += &format!(r#",{name}:{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#);
    }
    text.push('}');
    // The data start at a multiple of eight bytes.
    text += &" ".repeat(text.len().next_multiple_of(8) - text.len());
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text.into_bytes());
    Ok(header)
}

/// The digest of the safetensors file that tensors make, without writing it: what weights are known by, wherever they lie.
pub fn digest(tensors: &TensorMap) -> Result<Digest, String> {
    let content = Content::Tensors(TensorFile::new(tensors.clone())?);
    content.examine().map(|examined| examined.digest).map_err(|error| error.to_string())
}

/// The tensors in the bytes of a safetensors file. The library checks the header's size and every offset before anything is read.
pub fn decode(bytes: &[u8]) -> Result<TensorMap, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = TensorMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor `{name}` is {:?}; F32 is expected", view.dtype()));
        }
        let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let tensor = HostTensor::new(view.shape().to_vec(), values).ok_or_else(|| format!("tensor `{name}` does not fill its shape"))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(tensors: &TensorMap) -> Result<Vec<u8>, String> {
        let (file, mut bytes) = (TensorFile::new(tensors.clone())?, Vec::new());
        file.write_to(&mut bytes).unwrap();
        assert_eq!(file.len(), bytes.len() as u64);
        Ok(bytes)
    }

    #[test]
    fn the_bytes_are_those_that_the_library_writes() {
        // More values than one chunk, an empty tensor, and names whose order is not that of insertion.
        let tensor = |n: usize| HostTensor { shape: vec![n], values: (0..n).map(|i| i as f32 / 3.0).collect() };
        let map = TensorMap::from([("b".to_owned(), tensor(300_000)), ("a.z".to_owned(), tensor(3)), ("a".to_owned(), tensor(0))]);
        let bytes: Vec<(&String, Vec<u8>)> =
            map.iter().map(|(name, tensor)| (name, tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect())).collect();
        let view = |(name, bytes)| (name, safetensors::tensor::TensorView::new(Dtype::F32, map[name].shape.clone(), bytes).unwrap());
        #[expect(clippy::disallowed_types, reason = "the library takes its metadata as this type")]
        let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let expected = safetensors::serialize(bytes.iter().map(|(name, bytes)| view((*name, bytes.as_slice()))), Some(metadata)).unwrap();
        assert!(encode(&map).unwrap() == expected);
    }

    proptest! {
        #[test]
        fn tensors_come_back_bit_for_bit(bits in proptest::collection::vec(any::<u32>(), 0..40)) {
            let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            let tensor = HostTensor { shape: vec![values.len()], values: values.into() };
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
        let map = TensorMap::from([("x".to_owned(), HostTensor { shape: vec![3], values: vec![1.0].into() })]);
        assert!(encode(&map).unwrap_err().contains("1 values for shape [3]"));
    }
}
