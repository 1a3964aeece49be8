//! A tensor on the host: the form in which weights and moments cross between a model, a checkpoint and another program's files.
//!
//! It computes nothing; it is a shape and the values in row-major order.

use std::collections::BTreeMap;

/// Values of one tensor by its path, such as `blocks.0.attention.qkv.weight`.
pub type TensorMap = BTreeMap<String, HostTensor>;

/// A shape and its f32 values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// The length of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub values: Vec<f32>,
}

impl HostTensor {
    /// A tensor, or `None` when the number of values is not the product of the shape.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Option<Self> {
        let n = shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length))?;
        (n == values.len()).then_some(Self { shape, values })
    }

    /// Whether every value is finite.
    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_must_hold_the_values() {
        assert!(HostTensor::new(vec![2, 3], vec![0.0; 6]).is_some_and(|tensor| tensor.is_finite()));
        assert!(HostTensor::new(vec![], vec![f32::NAN]).is_some_and(|tensor| !tensor.is_finite()));
        assert_eq!(HostTensor::new(vec![2, 3], vec![0.0; 5]), None);
        assert_eq!(HostTensor::new(vec![usize::MAX, 3], vec![]), None);
    }
}
