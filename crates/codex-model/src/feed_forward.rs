//! The position-wise layer of a block.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use codex_ops::{Precision, Residual};

use crate::config::{Activation, Bias, ModelConfig};
use crate::dropout::Masks;
use crate::error::ModelError;
use crate::linear::Linear;

/// Widens, bends and narrows each position by itself.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `[d_model, inner]`, or `[d_model, 2 x inner]` with the gate first for SwiGLU.
    pub up: Linear,
    /// `[inner, d_model]`
    pub down: Linear,
    #[module(skip)]
    activation: Activation,
}

impl FeedForward {
    /// A layer of zeros.
    pub fn zeros(config: &ModelConfig, device: &Device) -> Self {
        let inner = config.feed_forward_width();
        let widened = if config.activation == Activation::Swiglu { 2 * inner } else { inner };
        Self {
            up: Linear::zeros(config.d_model, widened, config.bias == Bias::All, device),
            down: Linear::zeros(inner, config.d_model, config.bias == Bias::All, device),
            activation: config.activation,
        }
    }

    /// The layer's output, added to the residual stream.
    ///
    /// # Shapes
    /// `x` and the residual stream `[rows, d_model]` -> `[rows, d_model]`
    pub(crate) fn forward(&self, precision: Precision, x: Tensor<2>, residual: Residual, masks: &Masks) -> Result<Tensor<2>, ModelError> {
        if self.up.is_plain() && self.down.is_plain() {
            let (up, down) = (self.up.affine(), self.down.affine());
            return Ok(codex_ops::feed_forward(precision, self.activation.into(), x, up, down, residual));
        }
        let active = codex_ops::activate(self.activation.into(), self.up.forward(precision, x, None, masks)?);
        self.down.forward(precision, active, Some(residual), masks)
    }
}
