//! An affine map of the last dimension.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use codex_ops::{Affine, Precision, Residual};

/// `y = x W + b` with `W` of shape `[inputs, outputs]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[inputs, outputs]`
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`, if the layer has a bias.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A layer of zeros; [`crate::parameters::initialize`] gives it values.
    pub fn zeros(inputs: usize, outputs: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([inputs, outputs], device)),
            bias: bias.then(|| Param::from_tensor(Tensor::zeros([outputs], device))),
        }
    }

    /// The parameters as an operand.
    pub fn affine(&self) -> Affine {
        Affine { weight: self.weight.val(), bias: self.bias.as_ref().map(Param::val) }
    }

    /// # Shapes
    /// `x` `[rows, inputs]`, the residual stream `[rows, outputs]` -> `[rows, outputs]`
    pub fn forward(&self, precision: Precision, x: Tensor<2>, residual: Option<Residual>) -> Tensor<2> {
        codex_ops::linear(precision, x, self.affine(), residual)
    }
}
