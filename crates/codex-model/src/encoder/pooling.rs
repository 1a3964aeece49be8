//! From the vectors of a text's positions to one vector of the text.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Which vectors of a text stand for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of all positions that are not filling.
    #[default]
    Mean,
    /// The first position.
    Cls,
}

/// No length is divided by less.
const LEAST_LENGTH: f32 = 1e-12;

impl Pooling {
    /// One vector for each text; every text has a position that is not filling.
    ///
    /// # Shapes
    /// `x` `[n_rows x time, d_model]`, `mask` `[n_rows x time]` -> `[n_rows, d_model]`
    pub(super) fn pool(self, x: Tensor<2>, n_rows: usize, mask: Option<&[bool]>) -> Tensor<2> {
        let [positions, d_model] = x.dims();
        let (time, device) = (positions / n_rows, x.device());
        let x = x.reshape([n_rows, time, d_model]);
        if self == Self::Cls {
            return x.slice([0..n_rows, 0..1, 0..d_model]).reshape([n_rows, d_model]);
        }
        let Some(mask) = mask else {
            return x.sum_dim(1).div_scalar(time as f32).reshape([n_rows, d_model]);
        };
        let kept: Vec<f32> = mask.iter().map(|&is_text| f32::from(u8::from(is_text))).collect();
        let kept: Tensor<3> = Tensor::from_data(TensorData::new(kept, [n_rows, time, 1]), &device);
        let sum = (x * kept.clone()).sum_dim(1);
        (sum / kept.sum_dim(1)).reshape([n_rows, d_model])
    }
}

/// Each row divided by its length.
///
/// # Shapes
/// `[rows, width]` -> `[rows, width]`
pub(super) fn unit_length(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt().clamp_min(LEAST_LENGTH);
    x / length
}

/// The cosine of the angle between two vectors, summed in f64; 0 where one has no length.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let lengths = libm::sqrt(dot(a, a)) * libm::sqrt(dot(b, b));
    if lengths > 0.0 { (dot(a, b) / lengths).clamp(-1.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::parameters::to_host;

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        to_host("pooled", tensor).unwrap().values.into_vec()
    }

    #[test]
    fn filling_is_not_in_the_mean_and_the_first_position_is_the_first() {
        // Two texts of three positions, of width two.
        let x = || Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0], [90.0, 90.0], [5.0, 0.0], [7.0, 0.0], [9.0, 3.0]], &Device::flex());
        let mask = [true, true, false, true, true, true];
        assert_eq!(values(Pooling::Mean.pool(x(), 2, Some(&mask))), [2.0, 3.0, 7.0, 1.0]);
        assert_eq!(values(Pooling::Mean.pool(x(), 2, None))[2..], [7.0, 1.0]);
        assert_eq!(values(Pooling::Cls.pool(x(), 2, Some(&mask))), [1.0, 2.0, 5.0, 0.0]);
    }

    #[test]
    fn rows_get_length_one_and_a_zero_stays_one() {
        let x = Tensor::<2>::from_data([[3.0, -4.0], [0.0, 0.0]], &Device::flex());
        assert_eq!(values(unit_length(x)), [0.6, -0.8, 0.0, 0.0]);
    }

    #[test]
    fn cosines_are_known() {
        assert!((cosine(&[1.0, 0.0], &[3.0, 3.0]) - 0.5_f64.sqrt()).abs() < 1e-12);
        assert!((cosine(&[1.0, 2.0], &[-2.0, -4.0]) + 1.0).abs() < 1e-12);
        assert!(cosine(&[0.0, 0.0], &[1.0, 0.0]).abs() < 1e-12);
    }
}
