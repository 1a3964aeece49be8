//! Low-rank adaptation of a linear layer (E. Hu et al., "LoRA", 2021), whose delta `A B` is never made.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::ops::FloatTensorOps as _;
use burn::tensor::Tensor;
use codex_kernels::gemm::{Epilogue, GemmError, Precision, View, ViewMut, gemm};
use codex_kernels::{Isa, bf16};

use crate::composite;
use crate::dropout::{Mask, masked};
use crate::flex::{Number as _, Plain, Route, Storage, from_plain, from_tracked, matrix_dims, must, parts, plain, record, route, tracked};
use crate::flex::{dense, stored_as};
use crate::products::{elements_of, product, view};
use crate::profile::counted;

/// A low-rank addition to some columns of a linear layer's output.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// `[inputs, rank]`
    pub a: Tensor<2>,
    /// `[rank, columns]`
    pub b: Tensor<2>,
    /// Factor of the product: `alpha / rank`, or `alpha / sqrt(rank)` (D. Kalajdzievski, "rsLoRA", 2023).
    pub scale: f64,
    /// The columns of the output that it is of, such as the keys' among the fused queries, keys and values.
    pub columns: Range<usize>,
    /// What is dropped of the input before it.
    pub mask: Option<Mask>,
}

/// `y`, to whose `columns` `scale dropout(x) A B` is added, in the memory of `y` if nobody else holds it.
///
/// # Shapes
/// `y` `[rows, outputs]`, `x` `[rows, inputs]` -> `[rows, outputs]`
///
/// # Panics
/// Where shapes do not fit.
pub fn adapt(precision: Precision, y: Tensor<2>, x: Tensor<2>, adapter: Adapter) -> Tensor<2> {
    match route(&y) {
        Route::Composite => composite::adapt(y, x, adapter),
        Route::Plain => {
            let Adapter { a, b, scale, columns, mask } = adapter;
            let layer = Layer { precision, scale, columns, mask };
            from_plain(layer.forward(plain(y), &plain(x), &plain(a), &plain(b)).0)
        }
        Route::Tracked => {
            let Adapter { a, b, scale, columns, mask } = adapter;
            let layer = Layer { precision, scale, columns, mask };
            let ((y, y_node), (x, x_node)) = (parts(tracked(y)), parts(tracked(x)));
            let ((a, a_node), (b, b_node)) = (parts(tracked(a)), parts(tracked(b)));
            from_tracked(record(AdapterBackward, [y_node, x_node, a_node, b_node], || {
                let (output, narrow) = layer.forward(y, &x, &a, &b);
                (output, Saved { layer, x, a, b, narrow })
            }))
        }
    }
}

/// What an adapter is besides its matrices.
#[derive(Clone, Debug)]
struct Layer {
    precision: Precision,
    scale: f64,
    columns: Range<usize>,
    mask: Option<Mask>,
}

impl Layer {
    /// The output, and `scale dropout(x) A`.
    fn forward(&self, y: Plain, x: &Plain, a: &Plain, b: &Plain) -> (Plain, Plain) {
        let x = masked(self.mask, x.clone());
        let narrow = product("adapter: product with A", self.precision, Storage::F32, view(&x), view(a), Epilogue::store());
        let narrow = Flex::float_mul_scalar(narrow, self.scale.into());
        (self.add(y, view(&narrow), view(b)), narrow)
    }

    /// Adds a product to the columns.
    fn add(&self, mut y: Plain, narrow: View<'_>, b: View<'_>) -> Plain {
        let (rows, width) = matrix_dims(&y);
        let (from, cols) = (self.columns.start, self.columns.len());
        if rows == 0 || cols == 0 {
            return y;
        }
        let operations = 2 * narrow.rows() as u64 * narrow.cols() as u64 * cols as u64;
        let run = || -> Result<(), GemmError> {
            match Storage::of_tensor(&y) {
                Storage::F32 => {
                    let out = ViewMut::with_row_stride(&mut f32::write(&mut y)[from..], rows, cols, width)?;
                    gemm(Isa::detect(), self.precision, narrow, b, out, Epilogue::accumulate())
                }
                Storage::Bf16 => {
                    // The sum is rounded once: it is read from one copy and written to the other.
                    let before = y.clone();
                    let residual = elements_of(&before).range(from..rows * width);
                    let out = ViewMut::with_row_stride(&mut bf16::write(&mut y)[from..], rows, cols, width)?;
                    gemm(Isa::detect(), self.precision, narrow, b, out, Epilogue::store().with_residual(residual))
                }
            }
        };
        must("adapter", counted("adapter: product with B", operations, run));
        y
    }

    /// The columns of a gradient of the output.
    fn columns_of<'g>(&self, gradient: &'g Plain) -> View<'g> {
        let (rows, width) = matrix_dims(gradient);
        let from = self.columns.start.min(rows * width);
        must("adapter", View::with_row_stride(elements_of(gradient).range(from..rows * width), rows, self.columns.len(), width))
    }
}

#[derive(Clone, Debug)]
struct Saved {
    layer: Layer,
    x: Plain,
    a: Plain,
    b: Plain,
    /// `scale dropout(x) A`
    narrow: Plain,
}

#[derive(Debug)]
struct AdapterBackward;

impl Backward<Flex, 4> for AdapterBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        let Saved { layer, x, a, b, narrow } = ops.state;
        let [y_node, x_node, a_node, b_node] = ops.parents;
        let precision = layer.precision;
        if let Some(node) = b_node {
            let columns = layer.columns_of(&gradient);
            let of_b = product("adapter: gradient of B", precision, Storage::F32, view(&narrow).transposed(), columns, Epilogue::store());
            gradients.register::<Flex>(node.id, of_b);
        }
        if a_node.is_some() || x_node.is_some() {
            let columns = layer.columns_of(&gradient);
            let of_narrow =
                product("adapter: gradient before B", precision, Storage::F32, columns, view(&b).transposed(), Epilogue::store());
            let of_narrow = Flex::float_mul_scalar(of_narrow, layer.scale.into());
            if let Some(node) = a_node {
                let masked_x = masked(layer.mask, x.clone());
                let of_a = product(
                    "adapter: gradient of A",
                    precision,
                    Storage::F32,
                    view(&masked_x).transposed(),
                    view(&of_narrow),
                    Epilogue::store(),
                );
                gradients.register::<Flex>(node.id, of_a);
            }
            if let Some(node) = x_node {
                let of_x = product(
                    "adapter: gradient of the input",
                    precision,
                    Storage::F32,
                    view(&of_narrow),
                    view(&a).transposed(),
                    Epilogue::store(),
                );
                gradients.register::<Flex>(node.id, stored_as(masked(layer.mask, of_x), Storage::of_tensor(&x)));
            }
        }
        if let Some(node) = y_node {
            gradients.register::<Flex>(node.id, gradient);
        }
    }
}
