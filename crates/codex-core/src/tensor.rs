//! A tensor on the host: the form in which weights and moments cross between a model, a checkpoint and another program's files.
//!
//! It computes nothing; it is a shape and the values in row-major order.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Values of one tensor by its path, such as `blocks.0.attention.qkv.weight`.
pub type TensorMap = BTreeMap<String, HostTensor>;

/// A shape and its f32 values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// The length of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub values: Values,
}

impl HostTensor {
    /// A tensor, or `None` when the number of values is not the product of the shape.
    pub fn new(shape: Vec<usize>, values: impl Into<Values>) -> Option<Self> {
        let values = values.into();
        let n = shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length))?;
        (n == values.len()).then_some(Self { shape, values })
    }

    /// Whether every value is finite.
    pub fn is_finite(&self) -> bool {
        // Without an early end inside a run, so that a run is a few wide instructions.
        self.values.chunks(4096).all(|run| run.iter().fold(true, |all, value| all & value.is_finite()))
    }
}

/// Numbers in memory that may have other owners: a clone shares them, and whoever writes to shared ones gets a copy.
#[derive(Clone)]
pub struct Values(Owner);

#[derive(Clone)]
enum Owner {
    Vec(Arc<Vec<f32>>),
    Other(Arc<dyn AsRef<[f32]> + Send + Sync>),
}

impl Values {
    /// The values in memory that something else owns, such as a tensor, without a copy.
    pub fn shared(owner: Arc<dyn AsRef<[f32]> + Send + Sync>) -> Self {
        Self(Owner::Other(owner))
    }

    /// The values; a copy if anything else holds them.
    pub fn into_vec(self) -> Vec<f32> {
        match self.0 {
            Owner::Vec(values) => Arc::try_unwrap(values).unwrap_or_else(|shared| shared.as_ref().clone()),
            Owner::Other(other) => (*other).as_ref().to_vec(),
        }
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Owner::Vec(values) => values.as_slice(),
            Owner::Other(other) => (**other).as_ref(),
        }
    }
}

impl DerefMut for Values {
    fn deref_mut(&mut self) -> &mut [f32] {
        if let Owner::Other(other) = &self.0 {
            let copy = (**other).as_ref().to_vec();
            self.0 = Owner::Vec(Arc::new(copy));
        }
        match &mut self.0 {
            Owner::Vec(values) => Arc::make_mut(values).as_mut_slice(),
            // It was replaced above.
            Owner::Other(_) => &mut [],
        }
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self(Owner::Vec(Arc::new(values)))
    }
}

impl FromIterator<f32> for Values {
    fn from_iter<I: IntoIterator<Item = f32>>(values: I) -> Self {
        values.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a> IntoIterator for &'a Values {
    type Item = &'a f32;
    type IntoIter = std::slice::Iter<'a, f32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
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

    #[test]
    fn what_is_shared_is_copied_before_it_is_written() {
        let owner: Arc<dyn AsRef<[f32]> + Send + Sync> = Arc::new(vec![1.0_f32, 2.0]);
        let first = Values::shared(Arc::clone(&owner));
        let (mut second, third) = (first.clone(), Values::from(vec![1.0, 2.0]));
        let mut fourth = third.clone();
        second[0] = 7.0;
        fourth[0] = 7.0;
        assert_eq!((&first[..], &third[..]), ([1.0, 2.0].as_slice(), [1.0, 2.0].as_slice()));
        assert_eq!(second, fourth);
        assert_eq!(first, third, "equal by their numbers, whoever owns them");
        drop(first);
        assert_eq!(Arc::strong_count(&owner), 1, "a dropped share is given back");
        assert_eq!(third.into_vec(), [1.0, 2.0]);
        assert_eq!(Values::shared(owner).into_vec(), [1.0, 2.0]);
    }
}
