//! The feed-forward layer's non-linearity, from the pre-activation forward and backward.
//!
//! The backward pass needs the pre-activation alone: it computes the activation again, and gives it back beside the gradient, since the
//! gradient of the layer's second matrix needs it.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::element::Element;
use crate::error::{RowsError, check_length, count_rows};
use crate::exponential::{normal, sigmoid};
use crate::grid::{TASK_ELEMENTS, rows_per_task};
use crate::isa::{Isa, Kernel, fma, run};

/// The non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `gate * sigmoid(gate) * value`, where a row of the pre-activation holds the gate's elements first and then the value's (N. Shazeer,
    /// "GLU variants improve transformer", 2020).
    Swiglu,
    /// `x * Phi(x)`, with the distribution function of the standard normal distribution (D. Hendrycks and K. Gimpel, 2016).
    Gelu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`, as GPT-2 has it.
    GeluTanh,
}

impl Activation {
    /// Elements of a pre-activation for `inner` elements of output.
    pub fn widened(self, inner: usize) -> usize {
        if self == Self::Swiglu { inner.saturating_mul(2) } else { inner }
    }

    /// The name that messages carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swiglu => "SwiGLU",
            Self::Gelu => "GELU",
            Self::GeluTanh => "GELU by tanh",
        }
    }
}

/// `output = activation(pre)`.
///
/// # Shapes
/// `pre` `[rows, inner]`, or `[rows, 2 x inner]` for SwiGLU -> `output` `[rows, inner]`
pub fn forward<T: Element>(isa: Isa, activation: Activation, inner: usize, pre: &[T], output: &mut [T]) -> Result<(), RowsError> {
    let operation = "activation";
    let n_rows = count_rows(operation, "output", inner, output.len())?;
    check_length(operation, "pre", n_rows.saturating_mul(activation.widened(inner)), pre.len())?;
    let n = rows_per_task(inner);
    let tasks = output.par_chunks_mut(n * inner).zip(pre.par_chunks(n * activation.widened(inner)));
    tasks.for_each(|(output, pre)| run(isa, Forward { activation, inner, pre, output }));
    Ok(())
}

/// Replaces the pre-activation by the activation; for an activation that keeps the shape, so not for SwiGLU.
pub fn forward_in_place(isa: Isa, activation: Activation, values: &mut [f32]) -> Result<(), RowsError> {
    if activation == Activation::Swiglu {
        return Err(RowsError::Unsupported { operation: "activation in place", activation: activation.name() });
    }
    values.par_chunks_mut(TASK_ELEMENTS).for_each(|values| run(isa, ForwardInPlace { activation, values }));
    Ok(())
}

/// Replaces the pre-activation by its gradient, and the gradient of the output by the output.
///
/// # Shapes
/// `pre` `[rows, inner]`, or `[rows, 2 x inner]` for SwiGLU; `gradient` `[rows, inner]`
pub fn backward<T: Element>(isa: Isa, activation: Activation, inner: usize, pre: &mut [T], gradient: &mut [T]) -> Result<(), RowsError> {
    let operation = "activation's gradient";
    let n_rows = count_rows(operation, "gradient", inner, gradient.len())?;
    check_length(operation, "pre", n_rows.saturating_mul(activation.widened(inner)), pre.len())?;
    let n = rows_per_task(inner);
    let tasks = gradient.par_chunks_mut(n * inner).zip(pre.par_chunks_mut(n * activation.widened(inner)));
    tasks.for_each(|(gradient, pre)| run(isa, Backward { activation, inner, pre, gradient }));
    Ok(())
}

struct Forward<'a, T> {
    activation: Activation,
    inner: usize,
    pre: &'a [T],
    output: &'a mut [T],
}

impl<T: Element> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let both = self.output.iter_mut().zip(self.pre);
        match self.activation {
            Activation::Gelu => both.for_each(|(output, &x)| *output = T::narrow(gelu::<FMA>(x.widen()))),
            Activation::GeluTanh => both.for_each(|(output, &x)| *output = T::narrow(gelu_tanh::<FMA>(x.widen()))),
            Activation::Swiglu => {
                for (output, pre) in self.output.chunks_exact_mut(self.inner).zip(self.pre.chunks_exact(2 * self.inner)) {
                    let (gate, value) = pre.split_at(self.inner);
                    for ((output, &gate), &value) in output.iter_mut().zip(gate).zip(value) {
                        *output = T::narrow(silu::<FMA>(gate.widen()) * value.widen());
                    }
                }
            }
        }
    }
}

struct ForwardInPlace<'a> {
    activation: Activation,
    values: &'a mut [f32],
}

impl Kernel for ForwardInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        match self.activation {
            Activation::Gelu => self.values.iter_mut().for_each(|x| *x = gelu::<FMA>(*x)),
            Activation::GeluTanh => self.values.iter_mut().for_each(|x| *x = gelu_tanh::<FMA>(*x)),
            // Refused where the function is entered.
            Activation::Swiglu => {}
        }
    }
}

struct Backward<'a, T> {
    activation: Activation,
    inner: usize,
    pre: &'a mut [T],
    gradient: &'a mut [T],
}

impl<T: Element> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        match self.activation {
            Activation::Gelu => {
                for (pre, gradient) in self.pre.iter_mut().zip(self.gradient) {
                    let (output, slope) = gelu_with_slope::<FMA>(pre.widen());
                    *pre = T::narrow(gradient.widen() * slope);
                    *gradient = T::narrow(output);
                }
            }
            Activation::GeluTanh => {
                for (pre, gradient) in self.pre.iter_mut().zip(self.gradient) {
                    let (output, slope) = gelu_tanh_with_slope::<FMA>(pre.widen());
                    *pre = T::narrow(gradient.widen() * slope);
                    *gradient = T::narrow(output);
                }
            }
            Activation::Swiglu => {
                for (gradient, pre) in self.gradient.chunks_exact_mut(self.inner).zip(self.pre.chunks_exact_mut(2 * self.inner)) {
                    let (gate, value) = pre.split_at_mut(self.inner);
                    swiglu_backward::<FMA, T>(gradient, gate, value);
                }
            }
        }
    }
}

/// Elements of a row that are worked on in local arrays.
const LOCAL: usize = 32;

/// One row. LLVM cannot tell that the three slices do not overlap and would keep the loop scalar, so it works on local copies.
#[inline(always)]
fn swiglu_backward<const FMA: bool, T: Element>(gradient: &mut [T], gate: &mut [T], value: &mut [T]) {
    let (gradients, gradient_rest) = gradient.as_chunks_mut::<LOCAL>();
    let (gates, gate_rest) = gate.as_chunks_mut::<LOCAL>();
    let (values, value_rest) = value.as_chunks_mut::<LOCAL>();
    for ((gradient, gate), value) in gradients.iter_mut().zip(gates).zip(values) {
        let (mut local_gradient, mut local_gate, mut local_value) = (*gradient, *gate, *value);
        for ((gradient, gate), value) in local_gradient.iter_mut().zip(&mut local_gate).zip(&mut local_value) {
            swiglu_backward_element::<FMA, T>(gradient, gate, value);
        }
        (*gradient, *gate, *value) = (local_gradient, local_gate, local_value);
    }
    for ((gradient, gate), value) in gradient_rest.iter_mut().zip(gate_rest).zip(value_rest) {
        swiglu_backward_element::<FMA, T>(gradient, gate, value);
    }
}

#[inline(always)]
fn swiglu_backward_element<const FMA: bool, T: Element>(gradient: &mut T, gate: &mut T, value: &mut T) {
    let (silu, slope) = silu_with_slope::<FMA>(gate.widen());
    let (output_gradient, factor) = (gradient.widen(), value.widen());
    *gate = T::narrow(output_gradient * factor * slope);
    *value = T::narrow(output_gradient * silu);
    *gradient = T::narrow(silu * factor);
}

/// A number whose activation is 0 in f32 in place of all that lie below, so that minus infinity times 0 is not NaN.
#[inline(always)]
fn at_least(x: f32, bound: f32) -> f32 {
    if x < bound { bound } else { x }
}

#[inline(always)]
fn gelu<const FMA: bool>(x: f32) -> f32 {
    at_least(x, -20.0) * normal::<FMA>(x).0
}

#[inline(always)]
fn gelu_with_slope<const FMA: bool>(x: f32) -> (f32, f32) {
    let (below, density) = normal::<FMA>(x);
    // The density is 0 beyond 20 on either side.
    let near = at_least(-at_least(-x, -20.0), -20.0);
    (at_least(x, -20.0) * below, fma::<FMA>(near, density, below))
}

/// `2 * sqrt(2 / pi)`, and the same times 0.044715: `(1 + tanh(u)) / 2 = sigmoid(2 u)`.
const TANH_LINEAR: f32 = 1.595_769;
const TANH_CUBIC: f32 = 0.071_354_82;

#[inline(always)]
fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    at_least(x, -20.0) * sigmoid::<FMA>(x * fma::<FMA>(TANH_CUBIC, x * x, TANH_LINEAR))
}

#[inline(always)]
fn gelu_tanh_with_slope<const FMA: bool>(x: f32) -> (f32, f32) {
    // The slope is 0 or 1 beyond 20 on either side, and squares of larger numbers would overflow.
    let near = at_least(-at_least(-x, -20.0), -20.0);
    let square = near * near;
    let share = sigmoid::<FMA>(near * fma::<FMA>(TANH_CUBIC, square, TANH_LINEAR));
    let inner_slope = fma::<FMA>(3.0 * TANH_CUBIC, square, TANH_LINEAR);
    let slope = fma::<FMA>(near * (share * (1.0 - share)), inner_slope, share);
    (at_least(x, -20.0) * share, slope)
}

#[inline(always)]
fn silu<const FMA: bool>(x: f32) -> f32 {
    at_least(x, -120.0) * sigmoid::<FMA>(x)
}

#[inline(always)]
fn silu_with_slope<const FMA: bool>(x: f32) -> (f32, f32) {
    let share = sigmoid::<FMA>(x);
    let near = at_least(-at_least(-x, -120.0), -120.0);
    (at_least(x, -120.0) * share, fma::<FMA>(near * share, 1.0 - share, share))
}
