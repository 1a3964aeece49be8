//! Products of matrices in the precision that was asked for.

use codex_kernels::Isa;
use codex_kernels::columns::sum_columns;
use codex_kernels::gemm::{Epilogue, View, ViewMut, gemm};

use crate::flex::{Plain, elements, matrix_dims, must, tensor_of};

/// A dense tensor as a matrix.
pub(crate) fn view(tensor: &Plain) -> View<'_> {
    let (rows, cols) = matrix_dims(tensor);
    view_of(elements(tensor), rows, cols)
}

/// A row-major slice as a matrix.
pub(crate) fn view_of(data: &[f32], rows: usize, cols: usize) -> View<'_> {
    must("matrix", View::new(data, rows, cols))
}

/// Writes `a b`, and what `epilogue` says, to `out`, row-major.
pub(crate) fn multiply(a: View<'_>, b: View<'_>, out: &mut [f32], epilogue: Epilogue<'_>) {
    let out = must("matrix", ViewMut::new(out, a.rows(), b.cols()));
    must("product", gemm(Isa::detect(), a, b, out, epilogue));
}

/// `a b`, and what `epilogue` says.
pub(crate) fn product(a: View<'_>, b: View<'_>, epilogue: Epilogue<'_>) -> Plain {
    let (rows, cols) = (a.rows(), b.cols());
    let mut out = vec![0.0; rows * cols];
    multiply(a, b, &mut out, epilogue);
    tensor_of(out, [rows, cols])
}

/// The epilogue of a forward pass.
pub(crate) fn added<'a>(bias: Option<&'a Plain>, residual: Option<&'a Plain>) -> Epilogue<'a> {
    let mut epilogue = Epilogue::store();
    if let Some(bias) = bias {
        epilogue = epilogue.with_bias(elements(bias));
    }
    if let Some(residual) = residual {
        epilogue = epilogue.with_residual(elements(residual));
    }
    epilogue
}

/// The gradient of a bias from that of the rows it was added to, `[rows, width]` -> `[width]`.
pub(crate) fn bias_gradient(gradient: &[f32], width: usize) -> Plain {
    let mut sums = vec![0.0; width];
    must("gradient of a bias", sum_columns(Isa::detect(), gradient, &mut sums));
    tensor_of(sums, [width])
}
