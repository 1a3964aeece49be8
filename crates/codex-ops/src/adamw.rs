//! AdamW in one pass over a parameter, and the sum of squares that clipping by the global norm takes. Nothing here is differentiated.

use burn::tensor::Tensor;
use codex_kernels::Isa;
use codex_kernels::adamw::ParameterState;

use crate::composite;
use crate::flex::{Number as _, Route, dense, elements, from_plain, must, plain, route};
use crate::profile::timed;

pub use codex_kernels::adamw::AdamWStep;

/// Running means of a parameter's gradient and of its square, flat.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Mean of the gradient.
    pub first: Tensor<1>,
    /// Mean of the squared gradient.
    pub second: Tensor<1>,
}

/// The parameter and its moments after a step; see [`AdamWStep`] for the formula. Memory that nobody else holds is written in place.
///
/// # Shapes
/// `parameter`, `gradient` and both moments `[n]`
///
/// # Panics
/// Where lengths differ.
pub fn adamw(step: &AdamWStep, parameter: Tensor<1>, moments: Moments, gradient: Tensor<1>) -> (Tensor<1>, Moments) {
    if route(&parameter) != Route::Plain {
        return composite::adamw(step, parameter, moments, gradient);
    }
    let (mut parameter, gradient) = (plain(parameter), plain(gradient));
    let (mut first, mut second) = (plain(moments.first), plain(moments.second));
    let state = ParameterState {
        parameter: f32::write(&mut parameter),
        first_moment: f32::write(&mut first),
        second_moment: f32::write(&mut second),
    };
    must("AdamW", timed("AdamW", || step.update(Isa::detect(), state, elements(&gradient))));
    (from_plain(parameter), Moments { first: from_plain(first), second: from_plain(second) })
}

/// The sum of squares, in an order that only the length decides.
///
/// # Errors
/// What a backend says when its memory cannot be read.
pub fn sum_of_squares(values: Tensor<1>) -> Result<f64, String> {
    if route(&values) != Route::Plain {
        return composite::sum_of_squares(values);
    }
    let values = dense(plain(values));
    Ok(timed("norm of the gradient", || codex_kernels::adamw::sum_of_squares(Isa::detect(), elements(&values))))
}
