//! Adafactor (N. Shazeer and M. Stern, 2018): the second moment of a matrix is the product of the means of its rows and of its columns, so it takes
//! as much memory as one of each; vectors keep theirs whole. No first moment; the step follows the size of the parameter.

use rayon::iter::{IndexedParallelIterator as _, IntoParallelRefIterator as _, IntoParallelRefMutIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use crate::adamw::sum_of_squares;
use crate::error::{RowsError, check_length};
use crate::grid::{TASK_ELEMENTS, rows_per_partial};
use crate::isa::{Isa, Kernel, run};
use crate::lanes::sum_by;

/// The numbers of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdafactorStep {
    /// Highest step size relative to the parameter's; it falls with one over the root of the steps where that is less.
    pub learning_rate: f64,
    /// Decoupled weight decay; 0 for a parameter that does not decay.
    pub weight_decay: f64,
    /// Factor of the gradient.
    pub gradient_scale: f64,
    /// The step, from 1.
    pub step: u64,
}

/// The share of a new square falls with the steps to this power (the paper's section 7.2).
const DECAY_POWER: f64 = -0.8;
/// Smallest root mean square that a parameter is taken to have.
const SMALLEST_SCALE: f64 = 1e-3;
/// Smallest mean of a row's means.
const SMALLEST_MEAN: f64 = f32::EPSILON as f64;
/// Largest root mean square of an update before the step size.
const MOST_UPDATE: f64 = 1.0;

/// Running means of a parameter's squared gradient.
#[derive(Debug)]
pub enum SecondMoment<'a> {
    /// Of a matrix: over each row, and over each column.
    Factored {
        /// As many as the matrix has rows.
        rows: &'a mut [f32],
        /// As many as it has columns.
        columns: &'a mut [f32],
    },
    /// Of anything else: of each number.
    Whole(&'a mut [f32]),
}

impl AdafactorStep {
    /// Updates a parameter and its second moment. Lengths are checked before anything is written; sums are made in an order that shapes alone decide.
    pub fn update(&self, isa: Isa, parameter: &mut [f32], moment: SecondMoment<'_>, gradient: &[f32]) -> Result<(), RowsError> {
        let operation = "Adafactor";
        check_length(operation, "gradient", parameter.len(), gradient.len())?;
        if parameter.is_empty() {
            return Ok(());
        }
        let kept = match &moment {
            SecondMoment::Factored { rows, columns } => rows.len() * columns.len(),
            SecondMoment::Whole(whole) => whole.len(),
        };
        check_length(operation, "second moment", parameter.len(), kept)?;
        let n = parameter.len() as f64;
        let root_mean_square = |values: &[f32]| (sum_of_squares(isa, values) / n).sqrt();
        let take = libm::pow(self.step as f64, DECAY_POWER);
        let alpha = root_mean_square(parameter).max(SMALLEST_SCALE) * self.learning_rate.min(1.0 / (self.step as f64).sqrt());
        let scale = self.gradient_scale as f32;
        // The update before its size, in memory of its own.
        let mut update: Vec<f32> = gradient.iter().map(|gradient| gradient * scale).collect();
        match moment {
            SecondMoment::Factored { rows, columns } => factored(isa, take as f32, &mut update, rows, columns),
            SecondMoment::Whole(whole) => {
                let chunks = update.par_chunks_mut(TASK_ELEMENTS).zip(whole.par_chunks_mut(TASK_ELEMENTS));
                chunks.for_each(|(update, moment)| run(isa, Whole { take: take as f32, update, moment }));
            }
        }
        let size = (root_mean_square(&update) / MOST_UPDATE).max(1.0);
        let (rate, decay) = ((alpha / size) as f32, (1.0 - self.learning_rate * self.weight_decay) as f32);
        let chunks = parameter.par_chunks_mut(TASK_ELEMENTS).zip(update.par_chunks(TASK_ELEMENTS));
        chunks.for_each(|(parameter, update)| {
            for (parameter, update) in parameter.iter_mut().zip(update) {
                *parameter = *parameter * decay - update * rate;
            }
        });
        Ok(())
    }
}

/// Moves the means of rows and columns by `take`, and divides each number by the root of what they say of its square.
fn factored(isa: Isa, take: f32, update: &mut [f32], rows: &mut [f32], columns: &mut [f32]) {
    let (n_rows, width) = (rows.len(), columns.len());
    update.par_chunks(width).zip(rows.par_iter_mut()).for_each(|(row, mean)| {
        let found = sum_by(row, |sum, value| sum + value * value) / width as f32;
        *mean += take * (found - *mean);
    });
    // Runs of rows whose length the number of rows decides, and then the runs in order.
    let n = rows_per_partial(n_rows);
    let mut partials = vec![0.0; n_rows.div_ceil(n) * width];
    update.par_chunks(n * width).zip(partials.par_chunks_mut(width)).for_each(|(rows, sums)| run(isa, Squares { rows, sums }));
    let mut sums = vec![0.0_f32; width];
    for partial in partials.chunks(width) {
        sums.iter_mut().zip(partial).for_each(|(sum, partial)| *sum += partial);
    }
    columns.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += take * (sum / n_rows as f32 - *mean));
    let mean_of_rows = (sum_by(rows, |sum, value| sum + value) / n_rows as f32).max(SMALLEST_MEAN as f32);
    let columns = &*columns;
    update
        .par_chunks_mut(width)
        .zip(rows.par_iter())
        .for_each(|(update, row)| run(isa, Divide { row: *row / mean_of_rows, columns, update }));
}

/// Smallest square that is divided by.
const SMALLEST_SQUARE: f32 = f32::EPSILON * f32::EPSILON;

struct Whole<'a> {
    take: f32,
    update: &'a mut [f32],
    moment: &'a mut [f32],
}

impl Kernel for Whole<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (update, moment) in self.update.iter_mut().zip(self.moment) {
            *moment += self.take * (*update * *update - *moment);
            *update /= moment.max(SMALLEST_SQUARE).sqrt();
        }
    }
}

struct Squares<'a> {
    rows: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for Squares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for row in self.rows.chunks_exact(self.sums.len()) {
            for (sum, value) in self.sums.iter_mut().zip(row) {
                *sum += value * value;
            }
        }
    }
}

struct Divide<'a> {
    row: f32,
    columns: &'a [f32],
    update: &'a mut [f32],
}

impl Kernel for Divide<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (update, column) in self.update.iter_mut().zip(self.columns) {
            *update /= (self.row * *column).max(SMALLEST_SQUARE).sqrt();
        }
    }
}
