//! Rotary positions in the split-half form: dimension `i` of a head turns together with dimension `i + head_dim / 2`.
//!
//! Reference: J. Su et al., "RoFormer: enhanced transformer with rotary position embedding" (2021).

use burn::tensor::{Device, Tensor, TensorData};

/// Cosines and sines of the angles, `[positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct Rotary {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Rotary {
    /// The table of `positions` angles starting at `first`, for heads of `head_dim`.
    pub fn new(first: usize, positions: usize, head_dim: usize, theta: f64, device: &Device) -> Self {
        let half = head_dim / 2;
        let angle = |i: usize| (first + i / half) as f64 * libm::pow(theta, -2.0 * (i % half) as f64 / head_dim as f64);
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..positions * half).map(|i| f(angle(i)) as f32).collect();
            Tensor::from_data(TensorData::new(values, [positions, half]), device)
        };
        Self { cos: table(libm::cos), sin: table(libm::sin) }
    }

    /// Turns each head by its position's angles.
    ///
    /// # Shapes
    /// `[batch, heads, positions, head_dim]` -> the same
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, heads, time, head_dim] = x.dims();
        let half = head_dim / 2;
        let first = x.clone().slice([0..batch, 0..heads, 0..time, 0..half]);
        let second = x.slice([0..batch, 0..heads, 0..time, half..head_dim]);
        let cos = self.cos.clone().unsqueeze::<4>();
        let sin = self.sin.clone().unsqueeze::<4>();
        Tensor::cat(vec![first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin], 3)
    }
}
