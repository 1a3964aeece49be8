//! Products of matrices in the precision that was asked for.

use codex_kernels::buffer::unset;
use codex_kernels::columns::sum_columns;
use codex_kernels::gemm::{Elements, ElementsMut, Epilogue, Precision, View, ViewMut, gemm};
use codex_kernels::{Isa, bf16};

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps as _;

use crate::flex::{Number as _, Plain, Storage, elements, matrix_dims, must, stored_as, tensor_of};
use crate::profile::{counted, timed};

/// A dense tensor as a matrix.
pub(crate) fn view(tensor: &Plain) -> View<'_> {
    let (rows, cols) = matrix_dims(tensor);
    view_of(elements_of(tensor), rows, cols)
}

/// A row-major slice as a matrix.
pub(crate) fn view_of<'a>(data: impl Into<Elements<'a>>, rows: usize, cols: usize) -> View<'a> {
    must("matrix", View::new(data, rows, cols))
}

/// The elements of a dense tensor, whatever they are.
pub(crate) fn elements_of(tensor: &Plain) -> Elements<'_> {
    match Storage::of_tensor(tensor) {
        Storage::F32 => f32::read(tensor).into(),
        Storage::Bf16 => bf16::read(tensor).into(),
    }
}

/// Writes `a b`, and what `epilogue` says, to `out`, row-major.
pub(crate) fn multiply<'o>(
    name: &'static str,
    precision: Precision,
    a: View<'_>,
    b: View<'_>,
    out: impl Into<ElementsMut<'o>>,
    epilogue: Epilogue<'_>,
) {
    let operations = 2 * a.rows() as u64 * a.cols() as u64 * b.cols() as u64;
    let out = must("matrix", ViewMut::new(out, a.rows(), b.cols()));
    must("product", counted(name, operations, || gemm(Isa::detect(), precision, a, b, out, epilogue)));
}

/// Elements that become a tensor once they are written.
pub(crate) enum Buffer {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Buffer {
    pub(crate) fn new(storage: Storage, len: usize) -> Self {
        match storage {
            Storage::F32 => Self::F32(unset(len)),
            Storage::Bf16 => Self::Bf16(unset(len)),
        }
    }

    /// `len` elements from `start` on.
    pub(crate) fn range(&mut self, start: usize, len: usize) -> ElementsMut<'_> {
        match self {
            Self::F32(values) => (&mut values[start..start + len]).into(),
            Self::Bf16(values) => (&mut values[start..start + len]).into(),
        }
    }

    pub(crate) fn into_tensor<const D: usize>(self, shape: [usize; D]) -> Plain {
        match self {
            Self::F32(values) => tensor_of(values, shape),
            Self::Bf16(values) => tensor_of(values, shape),
        }
    }
}

/// `a b`, and what `epilogue` says.
pub(crate) fn product(
    name: &'static str,
    precision: Precision,
    storage: Storage,
    a: View<'_>,
    b: View<'_>,
    epilogue: Epilogue<'_>,
) -> Plain {
    let (rows, cols) = (a.rows(), b.cols());
    let mut out = Buffer::new(storage, rows * cols);
    multiply(name, precision, a, b, out.range(0, rows * cols), epilogue);
    out.into_tensor([rows, cols])
}

/// The epilogue of a forward pass.
pub(crate) fn added<'a>(bias: Option<&'a Plain>, residual: Option<&'a Plain>) -> Epilogue<'a> {
    let mut epilogue = Epilogue::store();
    if let Some(bias) = bias {
        epilogue = epilogue.with_bias(elements(bias));
    }
    if let Some(residual) = residual {
        epilogue = epilogue.with_residual(elements_of(residual));
    }
    epilogue
}

/// `y`, f32, and what is added to it, in the memory of `y`.
pub(crate) fn sum(y: Plain, residual: Option<&Plain>) -> Plain {
    match residual {
        Some(residual) => Flex::float_add(y, stored_as(residual.clone(), Storage::F32)),
        None => y,
    }
}

/// The gradient of a bias from that of the rows it was added to, `[rows, width]` -> `[width]`.
pub(crate) fn bias_gradient(gradient: &Plain) -> Plain {
    let width = matrix_dims(gradient).1;
    let mut sums = unset(width);
    let result = timed("gradient of a bias", || match Storage::of_tensor(gradient) {
        Storage::F32 => sum_columns(Isa::detect(), f32::read(gradient), &mut sums),
        Storage::Bf16 => sum_columns(Isa::detect(), bf16::read(gradient), &mut sums),
    });
    must("gradient of a bias", result);
    tensor_of(sums, [width])
}
