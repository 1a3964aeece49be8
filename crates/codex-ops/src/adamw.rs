//! AdamW in one pass over all parameters, and the sum of squares that clipping by the global norm takes. Nothing here is differentiated.

use burn::tensor::Tensor;
use codex_kernels::Isa;
use codex_kernels::adamw::{ParameterState, ParameterUpdate, update_all};

use crate::composite;
use crate::flex::{Number as _, Plain, Route, dense, elements, from_plain, must, plain, route};
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

/// A parameter with what its update takes, each flat, `[n]`.
#[derive(Clone, Debug)]
pub struct Update {
    /// The numbers of the step.
    pub step: AdamWStep,
    /// The weights.
    pub parameter: Tensor<1>,
    /// Its moments.
    pub moments: Moments,
    /// Its gradient.
    pub gradient: Tensor<1>,
}

/// All parameters and their moments after a step, in the order given, in one pass over all of them; see [`AdamWStep`] for the formula. Memory
/// that nobody else holds is written in place.
///
/// # Panics
/// Where lengths differ.
pub fn adamw(updates: Vec<Update>) -> Vec<(Tensor<1>, Moments)> {
    if updates.iter().any(|update| route(&update.parameter) != Route::Plain) {
        return updates.into_iter().map(composite::adamw).collect();
    }
    let taken = |Update { step, parameter, moments, gradient }: Update| Taken {
        step,
        parameter: plain(parameter),
        first: plain(moments.first),
        second: plain(moments.second),
        gradient: plain(gradient),
    };
    let mut all: Vec<Taken> = updates.into_iter().map(taken).collect();
    let kernel_updates = all.iter_mut().map(|taken| ParameterUpdate {
        step: taken.step,
        state: ParameterState {
            parameter: f32::write(&mut taken.parameter),
            first_moment: f32::write(&mut taken.first),
            second_moment: f32::write(&mut taken.second),
        },
        gradient: elements(&taken.gradient),
    });
    let kernel_updates = kernel_updates.collect();
    must("AdamW", timed("AdamW", || update_all(Isa::detect(), kernel_updates)));
    let back = |taken: Taken| (from_plain(taken.parameter), Moments { first: from_plain(taken.first), second: from_plain(taken.second) });
    all.into_iter().map(back).collect()
}

struct Taken {
    step: AdamWStep,
    parameter: Plain,
    first: Plain,
    second: Plain,
    gradient: Plain,
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
