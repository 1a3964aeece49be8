//! Normalisation of the residual stream.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::config::NormKind;

/// Scales each row to unit size, and for [`NormKind::Layer`] centres it first.
#[derive(Module, Debug)]
pub struct Norm {
    /// `[d_model]`
    pub weight: Param<Tensor<1>>,
    /// `[d_model]`, for layer normalisation.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    epsilon: f64,
}

impl Norm {
    /// A normalisation whose parameters are zero; [`crate::parameters::initialize`] gives them values.
    pub fn zeros(kind: NormKind, width: usize, epsilon: f64, device: &Device) -> Self {
        let zeros = || Param::from_tensor(Tensor::zeros([width], device));
        Self { weight: zeros(), bias: (kind == NormKind::Layer).then(zeros), epsilon }
    }

    /// RMS: `x / sqrt(mean(x^2) + epsilon) * weight`. Layer: the same of `x - mean(x)`, plus bias.
    ///
    /// # Shapes
    /// `[rows, d_model]` -> `[rows, d_model]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let centred = if self.bias.is_some() { x.clone() - x.mean_dim(1) } else { x };
        let mean_square = centred.clone().square().mean_dim(1);
        let scaled = centred * mean_square.add_scalar(self.epsilon).sqrt().recip() * self.weight.val().unsqueeze::<2>();
        match &self.bias {
            Some(bias) => scaled + bias.val().unsqueeze::<2>(),
            None => scaled,
        }
    }
}
