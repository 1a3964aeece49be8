//! The position-wise layer of a block.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};

use crate::config::{Activation, ModelConfig};
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
            up: Linear::zeros(config.d_model, widened, config.bias, device),
            down: Linear::zeros(inner, config.d_model, config.bias, device),
            activation: config.activation,
        }
    }

    /// # Shapes
    /// `[rows, d_model]` -> `[rows, d_model]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let widened = self.up.forward(x);
        let bent = match self.activation {
            Activation::Swiglu => {
                let [rows, both] = widened.dims();
                let gate = widened.clone().slice([0..rows, 0..both / 2]);
                let value = widened.slice([0..rows, both / 2..both]);
                activation::silu(gate) * value
            }
            Activation::Gelu => activation::gelu(widened),
            Activation::GeluTanh => activation::gelu_approximate(widened),
        };
        self.down.forward(bent)
    }
}
