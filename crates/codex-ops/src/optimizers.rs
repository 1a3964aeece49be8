//! Updates of other optimizers than AdamW, and the running mean of weights. Nothing here is differentiated.

use burn::tensor::Tensor;
use codex_kernels::Isa;
use codex_kernels::adafactor::SecondMoment;
use codex_kernels::first_order::{FirstOrderUpdate, blend_all, update_all};
use codex_kernels::gemm::Precision;

use crate::adamw::sum_of_squares;
use crate::composite;
use crate::flex::{Number as _, Route, elements, from_plain, must, plain, route};
use crate::linear::{Affine, linear};
use crate::profile::timed;

pub use codex_kernels::adafactor::AdafactorStep;
pub use codex_kernels::first_order::{FirstOrderStep, Rule};

/// A parameter with what its update takes, each flat, `[n]`.
#[derive(Clone, Debug)]
pub struct FirstOrder {
    /// The numbers of the step.
    pub step: FirstOrderStep,
    /// The weights.
    pub parameter: Tensor<1>,
    /// Running mean of the gradient.
    pub mean: Tensor<1>,
    /// Its gradient.
    pub gradient: Tensor<1>,
}

/// All parameters and their running means after a step of gradient descent with momentum or of Lion, in the order given; see [`FirstOrderStep`].
///
/// # Panics
/// Where lengths differ.
pub fn first_order(updates: Vec<FirstOrder>) -> Vec<(Tensor<1>, Tensor<1>)> {
    if updates.iter().any(|update| route(&update.parameter) != Route::Plain) {
        return updates.into_iter().map(composite::first_order).collect();
    }
    let taken = |FirstOrder { step, parameter, mean, gradient }: FirstOrder| (step, plain(parameter), plain(mean), plain(gradient));
    let mut all: Vec<_> = updates.into_iter().map(taken).collect();
    let kernel_updates = all.iter_mut().map(|(step, parameter, mean, gradient)| FirstOrderUpdate {
        step: *step,
        parameter: f32::write(parameter),
        mean: f32::write(mean),
        gradient: elements(gradient),
    });
    let kernel_updates = kernel_updates.collect();
    must("first-order update", timed("first-order update", || update_all(Isa::detect(), kernel_updates)));
    all.into_iter().map(|(_, parameter, mean, _)| (from_plain(parameter), from_plain(mean))).collect()
}

/// Adafactor's second moment of a parameter.
#[expect(clippy::large_enum_variant, reason = "there is one for each parameter, and a tensor is a handle")]
#[derive(Clone, Debug)]
pub enum Squares {
    /// Of a matrix.
    Factored {
        /// Mean over each row, `[rows]`.
        rows: Tensor<1>,
        /// Mean over each column, `[columns]`.
        columns: Tensor<1>,
    },
    /// Of each number, `[n]`.
    Whole(Tensor<1>),
}

/// A parameter and its second moment after a step of Adafactor; see [`AdafactorStep`].
///
/// # Shapes
/// `parameter` and `gradient` `[n]`, where a factored moment has `rows * columns = n`
///
/// # Errors
/// What a backend says when its memory cannot be read.
///
/// # Panics
/// Where lengths differ.
pub fn adafactor(
    step: &AdafactorStep,
    parameter: Tensor<1>,
    squares: Squares,
    gradient: Tensor<1>,
) -> Result<(Tensor<1>, Squares), String> {
    if route(&parameter) != Route::Plain {
        return composite::adafactor(step, parameter, squares, gradient);
    }
    let (mut parameter, gradient) = (plain(parameter), plain(gradient));
    let update = |parameter: &mut _, moment: SecondMoment<'_>| {
        must("Adafactor", timed("Adafactor", || step.update(Isa::detect(), f32::write(parameter), moment, elements(&gradient))));
    };
    let squares = match squares {
        Squares::Factored { rows, columns } => {
            let (mut rows, mut columns) = (plain(rows), plain(columns));
            update(&mut parameter, SecondMoment::Factored { rows: f32::write(&mut rows), columns: f32::write(&mut columns) });
            Squares::Factored { rows: from_plain(rows), columns: from_plain(columns) }
        }
        Squares::Whole(whole) => {
            let mut whole = plain(whole);
            update(&mut parameter, SecondMoment::Whole(f32::write(&mut whole)));
            Squares::Whole(from_plain(whole))
        }
    };
    Ok((from_plain(parameter), squares))
}

/// Running means of weights, each moved to `keep` of itself and the rest of its weights. Memory that nobody else holds is written in place.
///
/// # Panics
/// Where lengths differ.
pub fn blend(keep: f64, pairs: Vec<(Tensor<1>, Tensor<1>)>) -> Vec<Tensor<1>> {
    if pairs.iter().any(|(average, _)| route(average) != Route::Plain) {
        return pairs.into_iter().map(|(average, values)| average.mul_scalar(keep) + values.mul_scalar(1.0 - keep)).collect();
    }
    let mut all: Vec<_> = pairs.into_iter().map(|(average, values)| (plain(average), plain(values))).collect();
    let kernel_pairs = all.iter_mut().map(|(average, values)| (f32::write(average), elements(values))).collect();
    must("running mean", timed("running mean of weights", || blend_all(Isa::detect(), keep, kernel_pairs)));
    all.into_iter().map(|(average, _)| from_plain(average)).collect()
}

/// Factors of the matrix, of its cube and of its fifth power in each round of [`orthogonal`] (K. Jordan et al., "Muon", 2024).
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Rounds.
const ROUNDS: usize = 5;
/// Smallest norm that is divided by.
const SMALLEST_NORM: f64 = 1e-7;

/// Nearly the orthogonal factor of a matrix, all of whose singular values are brought to about one by a Newton-Schulz iteration.
///
/// # Shapes
/// `[rows, columns]` -> the same
///
/// # Errors
/// What a backend says when its memory cannot be read.
pub fn orthogonal(matrix: Tensor<2>) -> Result<Tensor<2>, String> {
    let [rows, columns] = matrix.dims();
    if rows == 0 || columns == 0 {
        return Ok(matrix);
    }
    // The smaller product of the matrix with itself.
    let is_tall = rows > columns;
    let matrix = if is_tall { matrix.transpose() } else { matrix };
    let norm = libm::sqrt(sum_of_squares(matrix.clone().reshape([rows * columns]))?).max(SMALLEST_NORM);
    let mut x = matrix.div_scalar(norm);
    let product = |a: &Tensor<2>, b: Tensor<2>| linear(Precision::F32, a.clone(), Affine { weight: b, bias: None }, None);
    for _ in 0..ROUNDS {
        let square = product(&x, x.clone().transpose());
        let polynomial = square.clone().mul_scalar(QUINTIC[1]) + product(&square, square.clone()).mul_scalar(QUINTIC[2]);
        x = x.clone().mul_scalar(QUINTIC[0]) + product(&polynomial, x);
    }
    Ok(if is_tall { x.transpose() } else { x })
}
