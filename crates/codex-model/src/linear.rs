//! An affine map of the last dimension.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use codex_ops::{Affine, Precision, QuantizedWeight, Residual, linear_quantized};

use crate::error::ModelError;
use crate::parameters::to_host;

/// `y = x W + b` with `W` of shape `[inputs, outputs]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[inputs, outputs]`; empty where the weight is held in 8 bits.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`, if the layer has a bias.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    quantized: Option<QuantizedWeight>,
}

impl Linear {
    /// A layer of zeros; [`crate::parameters::initialize`] gives it values.
    pub fn zeros(inputs: usize, outputs: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([inputs, outputs], device)),
            bias: bias.then(|| Param::from_tensor(Tensor::zeros([outputs], device))),
            quantized: None,
        }
    }

    /// The layer with its weight in 8 bits, which takes no gradient and is no parameter any more.
    pub(crate) fn quantize(self) -> Result<Self, ModelError> {
        let weight = self.weight.val();
        let ([inputs, outputs], device) = (weight.dims(), weight.device());
        let values = to_host("weight", weight)?.values;
        let quantized = QuantizedWeight::new(&values, inputs, outputs).map_err(|reason| ModelError::BadInput { reason })?;
        Ok(Self { weight: Param::from_tensor(Tensor::zeros([0, 0], &device)), quantized: Some(quantized), ..self })
    }

    /// The weight in 8 bits, if it is held so.
    pub fn quantized(&self) -> Option<&QuantizedWeight> {
        self.quantized.as_ref()
    }

    /// The parameters as an operand.
    pub fn affine(&self) -> Affine {
        Affine { weight: self.weight.val(), bias: self.bias.as_ref().map(Param::val) }
    }

    /// # Shapes
    /// `x` `[rows, inputs]`, the residual stream `[rows, outputs]` -> `[rows, outputs]`
    pub fn forward(&self, precision: Precision, x: Tensor<2>, residual: Option<Residual>) -> Tensor<2> {
        match &self.quantized {
            Some(weight) => linear_quantized(precision, x, weight, self.bias.as_ref().map(Param::val), residual),
            None => codex_ops::linear(precision, x, self.affine(), residual),
        }
    }
}
