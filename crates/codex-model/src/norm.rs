//! Normalisation of the residual stream.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use codex_ops::Precision;

use crate::config::NormKind;

/// Scales each row to unit size, and for [`NormKind::Layer`] centres it first.
#[derive(Module, Debug)]
pub struct Norm {
    /// `[d_model]`
    pub weight: Param<Tensor<1>>,
    /// `[d_model]`, for layer normalisation.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    kind: NormKind,
    #[module(skip)]
    epsilon: f64,
}

impl Norm {
    /// A normalisation whose parameters are zero; [`crate::parameters::initialize`] gives them values.
    pub fn zeros(kind: NormKind, width: usize, epsilon: f64, device: &Device) -> Self {
        let zeros = || Param::from_tensor(Tensor::zeros([width], device));
        Self { weight: zeros(), bias: (kind == NormKind::Layer).then(zeros), kind, epsilon }
    }

    /// RMS: `x / sqrt(mean(x^2) + epsilon) * weight`. Layer: the same of `x - mean(x)`, plus bias.
    ///
    /// # Shapes
    /// `[rows, d_model]` -> `[rows, d_model]`
    pub fn forward(&self, precision: Precision, x: Tensor<2>) -> Tensor<2> {
        codex_ops::norm(precision, self.kind.into(), x, self.weight.val(), self.bias.as_ref().map(Param::val), self.epsilon)
    }
}
