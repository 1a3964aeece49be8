//! The way between burn's tensors and the slices that kernels work on.

use std::cell::Cell;
use std::fmt::Display;

use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::ops::{Backward, NodeGuard, OpsKind};
use burn::backend::ops::FloatTensorOps as _;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata as _};
use burn::tensor::{DType, Tensor, TensorData};
use codex_kernels::buffer::unset;
use codex_kernels::convert::{narrow, widen};
use codex_kernels::element::Element;
use codex_kernels::gemm::Precision;
use codex_kernels::{Isa, bf16};

/// A tensor in the processor's memory.
pub(crate) type Plain = FloatTensor<Flex>;
/// The same with its place in the graph of a backward pass.
pub(crate) type Tracked = FloatTensor<Autodiff<Flex>>;

/// Where an operation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// On the processor.
    Plain,
    /// On the processor, recorded for a backward pass.
    Tracked,
    /// On another backend.
    Composite,
}

thread_local! {
    static COMPOSITE_ONLY: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with every operation that this thread begins made of burn's own, on the processor too: the second opinion on the kernels.
pub fn composite_only<R>(work: impl FnOnce() -> R) -> R {
    struct Restored(bool);
    impl Drop for Restored {
        fn drop(&mut self) {
            COMPOSITE_ONLY.set(self.0);
        }
    }
    let _restored = Restored(COMPOSITE_ONLY.replace(true));
    work()
}

/// Where the operations on a tensor run.
pub(crate) fn route<const D: usize>(tensor: &Tensor<D>) -> Route {
    if COMPOSITE_ONLY.get() {
        Route::Composite
    } else if tensor.clone().try_into_primitive::<Autodiff<Flex>>().is_ok() {
        Route::Tracked
    } else if tensor.clone().try_into_primitive::<Flex>().is_ok() {
        Route::Plain
    } else {
        Route::Composite
    }
}

/// The tensor of an operand that lives where [`Route::Plain`] says.
pub(crate) fn plain<const D: usize>(tensor: Tensor<D>) -> Plain {
    dense(must("operand", tensor.try_into_primitive::<Flex>().map_err(|error| format!("{error:?}"))))
}

/// The tensor of an operand that lives where [`Route::Tracked`] says.
pub(crate) fn tracked<const D: usize>(tensor: Tensor<D>) -> Tracked {
    must("operand", tensor.try_into_primitive::<Autodiff<Flex>>().map_err(|error| format!("{error:?}")))
}

/// The tensor to the outside.
pub(crate) fn from_plain<const D: usize>(tensor: Plain) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(tensor)
}

/// The tensor to the outside.
pub(crate) fn from_tracked<const D: usize>(tensor: Tracked) -> Tensor<D> {
    Tensor::from_primitive::<Autodiff<Flex>>(tensor)
}

/// Splits a tracked operand into its memory and its node.
pub(crate) fn parts(tensor: Tracked) -> (Plain, NodeGuard) {
    let (plain, node) = tensor.into_parts();
    (dense(plain), node)
}

/// The parts of an operand that may be absent, whose node then takes no gradient.
pub(crate) fn optional_parts(tensor: Option<Tracked>) -> (Option<Plain>, NodeGuard) {
    match tensor {
        Some(tensor) => {
            let (plain, node) = parts(tensor);
            (Some(plain), node)
        }
        None => (None, Tracked::new(tensor_of(Vec::<f32>::new(), [0])).node()),
    }
}

/// The elements in row-major order without gaps: the tensor itself, or a copy of a view.
pub(crate) fn dense(tensor: Plain) -> Plain {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The numbers of a dense tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// 32 bits each.
    F32,
    /// The upper half of them.
    Bf16,
}

impl Storage {
    /// How what passes between the operations of a block is stored in a precision. The residual stream, parameters and their gradients are
    /// f32 always.
    pub(crate) fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 | Precision::F16 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }

    /// How a tensor is stored.
    pub(crate) fn of_tensor(tensor: &Plain) -> Self {
        if tensor.dtype() == DType::BF16 { Self::Bf16 } else { Self::F32 }
    }
}

/// A number that a tensor can be made of.
pub(crate) trait Number: Element {
    /// The elements of a dense tensor of this type; of another type, none.
    fn read(tensor: &Plain) -> &[Self];

    /// The elements to be written; they are copied first if somebody else holds them.
    fn write(tensor: &mut Plain) -> &mut [Self];

    /// A tensor that owns `values`.
    fn tensor<const D: usize>(values: Vec<Self>, shape: [usize; D]) -> Plain;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Number for $number {
            fn read(tensor: &Plain) -> &[Self] {
                tensor.as_slice::<Self>().unwrap_or_default()
            }

            fn write(tensor: &mut Plain) -> &mut [Self] {
                // The storage knows no layout: a view of a part is copied, so that only what it shows is written.
                if tensor.storage::<Self>().len() != tensor.shape().num_elements() {
                    *tensor = tensor.to_contiguous();
                }
                tensor.storage_mut::<Self>()
            }

            fn tensor<const D: usize>(values: Vec<Self>, shape: [usize; D]) -> Plain {
                Flex::float_from_data(TensorData::new(values, shape), &burn::backend::FlexDevice)
            }
        }
    )*};
}
numbers!(f32, bf16);

/// The f32 memory of a tensor on the processor, held together with it: as long as this lives, nothing writes there.
#[derive(Clone, Debug)]
pub struct SharedMemory(Plain);

impl AsRef<[f32]> for SharedMemory {
    fn as_ref(&self) -> &[f32] {
        elements(&self.0)
    }
}

/// The memory of an f32 tensor without a copy, in row-major order; `None` on another backend or of another type.
pub fn shared_memory<const D: usize>(tensor: Tensor<D>) -> Option<SharedMemory> {
    let plain = match route(&tensor) {
        Route::Plain => plain(tensor),
        Route::Tracked => parts(tracked(tensor)).0,
        Route::Composite => return None,
    };
    (Storage::of_tensor(&plain) == Storage::F32 && elements(&plain).len() == plain.shape().num_elements()).then_some(SharedMemory(plain))
}

/// The elements of a dense f32 tensor.
pub(crate) fn elements(tensor: &Plain) -> &[f32] {
    f32::read(tensor)
}

/// The same numbers stored otherwise.
pub(crate) fn stored_as(tensor: Plain, storage: Storage) -> Plain {
    if Storage::of_tensor(&tensor) == storage {
        return tensor;
    }
    let (rows, cols) = matrix_dims(&tensor);
    match storage {
        Storage::F32 => {
            let mut values = unset(rows * cols);
            must("conversion", widen(Isa::detect(), bf16::read(&tensor), &mut values));
            tensor_of(values, [rows, cols])
        }
        Storage::Bf16 => {
            let mut values = unset(rows * cols);
            must("conversion", narrow(Isa::detect(), f32::read(&tensor), &mut values));
            tensor_of(values, [rows, cols])
        }
    }
}

/// Rows and columns.
pub(crate) fn matrix_dims(tensor: &Plain) -> (usize, usize) {
    let shape = tensor.shape();
    (shape[0], shape[1])
}

/// A tensor that owns `values`.
pub(crate) fn tensor_of<T: Number, const D: usize>(values: Vec<T>, shape: [usize; D]) -> Plain {
    T::tensor(values, shape)
}

/// Runs an operation and records its backward pass if one of its parents takes a gradient. `forward` returns the output and what
/// the backward pass needs.
pub(crate) fn record<Op, const N: usize>(operation: Op, parents: [NodeGuard; N], forward: impl FnOnce() -> (Plain, Op::State)) -> Tracked
where
    Op: Backward<Flex, N>,
{
    match operation.prepare::<NoCheckpointing>(parents).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let (output, saved) = forward();
            prepared.finish(saved, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(forward().0),
    }
}

/// What a kernel returned. It refuses only shapes that do not fit, at which burn's own operations panic as well.
#[track_caller]
#[expect(clippy::panic, reason = "as burn's operations do: a backward pass cannot return an error, and the caller has checked the shapes")]
pub(crate) fn must<T, E: Display>(operation: &str, result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{operation}: {error}"),
    }
}
