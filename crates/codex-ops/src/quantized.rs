//! Linear layers whose weight is held in 8 bits: a quarter of what f32 reads from memory, rounded; see [`codex_kernels::quantized`].

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::{Device, Tensor, TensorData};
use codex_kernels::Isa;
use codex_kernels::buffer::unset;
use codex_kernels::gemm::Precision;
use codex_kernels::quantized::{QuantizedMatrix, multiply, multiply_transposed};

use crate::composite;
use crate::dropout::{Mask, Residual, masked};
use crate::flex::{
    Plain, Route, Storage, dense, elements, from_plain, from_tracked, matrix_dims, must, optional_parts, parts, plain, record, route,
    stored_as, tensor_of, tracked,
};
use crate::linear::Affine;
use crate::products::{bias_gradient, sum};
use crate::profile::counted;

/// A weight `[inputs, outputs]` in 8 bits with a scale for each 32 inputs of an output, shared by its clones. It takes no gradient.
#[derive(Clone, Debug)]
pub struct QuantizedWeight(Arc<QuantizedMatrix>);

impl QuantizedWeight {
    /// The nearest such weight to `values`, row by row.
    ///
    /// # Errors
    /// Which value cannot be held: one that is not finite, or too large for a scale.
    pub fn new(values: &[f32], inputs: usize, outputs: usize) -> Result<Self, String> {
        let matrix = QuantizedMatrix::quantize(Isa::detect(), values, inputs, outputs).map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(matrix)))
    }

    /// Rows and columns of the weight.
    pub fn dims(&self) -> [usize; 2] {
        [self.0.inputs(), self.0.outputs()]
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The weight in f32.
    pub fn dequantize(&self, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(self.0.dequantize(), self.dims()), device)
    }
}

/// [`linear`](fn@crate::linear) with such a weight: `y = x W + b + residual`, where a residual's mask drops elements of `x W + b`.
///
/// # Shapes
/// `x` `[rows, inputs]`, `bias` `[outputs]`, the residual stream `[rows, outputs]` -> `[rows, outputs]`
///
/// # Panics
/// Where shapes do not fit.
pub fn linear_quantized(
    precision: Precision,
    x: Tensor<2>,
    weight: &QuantizedWeight,
    bias: Option<Tensor<1>>,
    residual: Option<Residual>,
) -> Tensor<2> {
    let (residual, mask) = residual.map_or((None, None), |residual| (Some(residual.stream), residual.mask));
    match route(&x) {
        Route::Composite => {
            let affine = Affine { weight: weight.dequantize(&x.device()), bias };
            composite::linear(x, affine, residual, mask)
        }
        Route::Plain => {
            let (bias, residual) = (bias.map(plain), residual.map(plain));
            from_plain(forward(precision, plain(x), weight, bias.as_ref(), residual.as_ref(), mask))
        }
        Route::Tracked => {
            let (x, x_node) = parts(tracked(x));
            let (bias, bias_node) = optional_parts(bias.map(tracked));
            let (residual, residual_node) = optional_parts(residual.map(tracked));
            from_tracked(record(QuantizedBackward, [x_node, bias_node, residual_node], || {
                let saved = Saved { mask, weight: weight.clone(), x_storage: Storage::of_tensor(&x) };
                (forward(precision, x, weight, bias.as_ref(), residual.as_ref(), mask), saved)
            }))
        }
    }
}

fn forward(
    precision: Precision,
    x: Plain,
    weight: &QuantizedWeight,
    bias: Option<&Plain>,
    residual: Option<&Plain>,
    mask: Option<Mask>,
) -> Plain {
    let x = stored_as(x, Storage::F32);
    let (rows, outputs) = (matrix_dims(&x).0, weight.0.outputs());
    let mut out = unset(rows * outputs);
    let operations = 2 * (rows * weight.0.inputs() * outputs) as u64;
    let result = counted("linear: product with 8-bit weights", operations, || {
        multiply(Isa::detect(), elements(&x), &weight.0, bias.map(elements), &mut out)
    });
    must("linear", result);
    let y = masked(mask, tensor_of(out, [rows, outputs]));
    match residual {
        Some(_) => sum(y, residual),
        None => stored_as(y, Storage::of(precision)),
    }
}

#[derive(Clone, Debug)]
struct Saved {
    mask: Option<Mask>,
    weight: QuantizedWeight,
    x_storage: Storage,
}

#[derive(Debug)]
struct QuantizedBackward;

impl Backward<Flex, 3> for QuantizedBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        let Saved { mask, weight, x_storage } = ops.state;
        let [x_node, bias_node, residual_node] = ops.parents;
        let of_residual = residual_node.map(|node| (node, gradient.clone()));
        let gradient = stored_as(masked(mask, gradient), Storage::F32);
        if let Some(node) = x_node {
            let (rows, inputs) = (matrix_dims(&gradient).0, weight.0.inputs());
            let mut of_x = unset(rows * inputs);
            let operations = 2 * (rows * inputs * weight.0.outputs()) as u64;
            let result = counted("linear: gradient of the input, 8-bit weights", operations, || {
                multiply_transposed(Isa::detect(), elements(&gradient), &weight.0, &mut of_x)
            });
            must("linear", result);
            gradients.register::<Flex>(node.id, stored_as(tensor_of(of_x, [rows, inputs]), x_storage));
        }
        if let Some(node) = bias_node {
            gradients.register::<Flex>(node.id, bias_gradient(&gradient));
        }
        if let Some((node, of_residual)) = of_residual {
            gradients.register::<Flex>(node.id, of_residual);
        }
    }
}
