//! Normalisation of rows: layer normalisation (J. L. Ba et al., 2016) and root-mean-square normalisation (B. Zhang and R. Sennrich, 2019).

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::columns::add_rows;
use crate::element::Element;
use crate::error::{RowsError, check_length};
use crate::grid::{rows_per_partial, rows_per_task};
use crate::isa::{Isa, Kernel, fma, run};
use crate::lanes::{LANES, fold_sum, sum_by};

/// Whether rows are centred first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + epsilon)`.
    Rms,
    /// The same of `x - mean(x)`.
    Layer,
}

/// What the backward pass needs of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStatistic {
    /// Mean of the row; 0 for [`NormKind::Rms`].
    pub mean: f32,
    /// `1 / sqrt(mean square of the centred row + epsilon)`.
    pub inverse_deviation: f32,
}

/// A normalisation with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Whether rows are centred.
    pub kind: NormKind,
    /// `[width]`
    pub weight: &'a [f32],
    /// `[width]`
    pub bias: Option<&'a [f32]>,
    /// Added to the mean square.
    pub epsilon: f64,
}

/// Where the gradients of a normalisation's parameters go; what was there is overwritten.
#[derive(Debug)]
pub struct NormGradient<'a> {
    /// `[width]`
    pub weight: &'a mut [f32],
    /// `[width]`, for a normalisation with bias.
    pub bias: Option<&'a mut [f32]>,
}

impl Norm<'_> {
    /// `output = (x - mean) * inverse_deviation * weight + bias` for each row, and the row's statistic.
    ///
    /// # Shapes
    /// `x` and `output` `[rows, width]`, `statistics` `[rows]`
    pub fn forward<T: Element>(&self, isa: Isa, x: &[f32], output: &mut [T], statistics: &mut [RowStatistic]) -> Result<(), RowsError> {
        let operation = "normalisation";
        let width = self.check(operation, x.len(), statistics.len())?;
        check_length(operation, "output", x.len(), output.len())?;
        let n = rows_per_task(width);
        x.par_chunks(n * width).zip(output.par_chunks_mut(n * width)).zip(statistics.par_chunks_mut(n)).for_each(
            |((x, output), statistics)| {
                run(isa, Forward { norm: self, x, output, statistics });
            },
        );
        Ok(())
    }

    /// Writes the gradient of `x` and those of the parameters from that of the output.
    ///
    /// With `z = (x - mean) * s` and `g = gradient * weight`: `dx = s * (g - z * mean(g * z) - mean(g))`, the last term for [`NormKind::Layer`]
    /// alone; `dweight = sum over rows of gradient * z`, `dbias = sum over rows of gradient`. The sums over rows go through partial sums of
    /// fixed runs of rows, which are added in order.
    ///
    /// # Shapes
    /// `x`, `gradient` and `x_gradient` `[rows, width]`, `statistics` `[rows]` as [`forward`](Self::forward) left them
    pub fn backward<T: Element>(
        &self,
        isa: Isa,
        x: &[f32],
        statistics: &[RowStatistic],
        gradient: &[T],
        x_gradient: &mut [f32],
        parameters: NormGradient<'_>,
    ) -> Result<(), RowsError> {
        let operation = "normalisation's gradient";
        let width = self.check(operation, x.len(), statistics.len())?;
        check_length(operation, "gradient", x.len(), gradient.len())?;
        check_length(operation, "x's gradient", x.len(), x_gradient.len())?;
        check_length(operation, "weight's gradient", width, parameters.weight.len())?;
        let expected = if self.bias.is_some() { width } else { 0 };
        check_length(operation, "bias's gradient", expected, parameters.bias.as_ref().map_or(0, |bias| bias.len()))?;

        let n = rows_per_partial(statistics.len());
        let mut partials = vec![0.0; statistics.len().div_ceil(n) * 2 * width];
        let rows = x.par_chunks(n * width).zip(gradient.par_chunks(n * width)).zip(x_gradient.par_chunks_mut(n * width));
        let tasks = rows.zip(statistics.par_chunks(n));
        tasks.zip(partials.par_chunks_mut(2 * width)).for_each(|((((x, gradient), x_gradient), statistics), partial)| {
            let (weight, bias) = partial.split_at_mut(width);
            let bias = self.bias.map(|_| bias);
            run(isa, Backward { norm: self, x, statistics, gradient, x_gradient, parameters: NormGradient { weight, bias } });
        });

        add_rows(isa, &partials, 2 * width, 0, parameters.weight);
        if let Some(bias) = parameters.bias {
            add_rows(isa, &partials, 2 * width, width, bias);
        }
        Ok(())
    }

    /// The width of a row, if all lengths agree.
    fn check(&self, operation: &'static str, n_elements: usize, n_rows: usize) -> Result<usize, RowsError> {
        let width = self.weight.len();
        if width == 0 {
            return Err(RowsError::ZeroWidth { operation });
        }
        check_length(operation, "bias", width, self.bias.map_or(width, <[f32]>::len))?;
        check_length(operation, "x", n_rows.saturating_mul(width), n_elements)?;
        Ok(width)
    }
}

struct Forward<'a, T> {
    norm: &'a Norm<'a>,
    x: &'a [f32],
    output: &'a mut [T],
    statistics: &'a mut [RowStatistic],
}

impl<T: Element> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let width = self.norm.weight.len();
        let size = width as f32;
        let rows = self.x.chunks_exact(width).zip(self.output.chunks_exact_mut(width));
        for ((x, output), statistic) in rows.zip(self.statistics) {
            let mean = match self.norm.kind {
                NormKind::Rms => 0.0,
                NormKind::Layer => sum_by(x, |sum, value| sum + value) / size,
            };
            let squares = sum_by(x, |sum, value| fma::<FMA>(value - mean, value - mean, sum));
            let inverse_deviation = 1.0 / (squares / size + self.norm.epsilon as f32).sqrt();
            *statistic = RowStatistic { mean, inverse_deviation };
            let both = output.iter_mut().zip(x).zip(self.norm.weight);
            match self.norm.bias {
                None => both.for_each(|((output, &x), &weight)| *output = T::narrow((x - mean) * inverse_deviation * weight)),
                Some(bias) => both.zip(bias).for_each(|(((output, &x), &weight), &bias)| {
                    *output = T::narrow(fma::<FMA>((x - mean) * inverse_deviation, weight, bias));
                }),
            }
        }
    }
}

struct Backward<'a, T> {
    norm: &'a Norm<'a>,
    x: &'a [f32],
    statistics: &'a [RowStatistic],
    gradient: &'a [T],
    x_gradient: &'a mut [f32],
    parameters: NormGradient<'a>,
}

impl<T: Element> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let weight = self.norm.weight;
        let size = weight.len() as f32;
        let NormGradient { weight: weight_sum, bias: mut bias_sum } = self.parameters;
        let rows = self.x.chunks_exact(weight.len()).zip(self.gradient.chunks_exact(weight.len()));
        let rows = rows.zip(self.x_gradient.chunks_exact_mut(weight.len()));
        for (((x, gradient), x_gradient), &RowStatistic { mean, inverse_deviation }) in rows.zip(self.statistics) {
            let (with_z, alone) = gradient_sums::<FMA, T>(x, gradient, weight, mean, inverse_deviation);
            let along_z = with_z / size;
            let constant = if self.norm.kind == NormKind::Layer { alone / size } else { 0.0 };
            let all = x_gradient.iter_mut().zip(gradient).zip(x).zip(weight).zip(weight_sum.iter_mut());
            match &mut bias_sum {
                None => all.for_each(|((((x_gradient, gradient), &x), &weight), sum)| {
                    let (z, gradient) = ((x - mean) * inverse_deviation, gradient.widen());
                    *sum = fma::<FMA>(gradient, z, *sum);
                    *x_gradient = inverse_deviation * (fma::<FMA>(gradient, weight, -constant) - z * along_z);
                }),
                Some(bias_sum) => all.zip(bias_sum.iter_mut()).for_each(|(((((x_gradient, gradient), &x), &weight), sum), bias_sum)| {
                    let (z, gradient) = ((x - mean) * inverse_deviation, gradient.widen());
                    *sum = fma::<FMA>(gradient, z, *sum);
                    *bias_sum += gradient;
                    *x_gradient = inverse_deviation * (fma::<FMA>(gradient, weight, -constant) - z * along_z);
                }),
            }
        }
    }
}

/// Sums of `gradient * weight * z` and of `gradient * weight` over a row.
#[inline(always)]
fn gradient_sums<const FMA: bool, T: Element>(x: &[f32], gradient: &[T], weight: &[f32], mean: f32, inverse_deviation: f32) -> (f32, f32) {
    let mut with_z = [0.0; LANES];
    let mut alone = [0.0; LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (gradient_chunks, gradient_rest) = gradient.as_chunks::<LANES>();
    let (weight_chunks, weight_rest) = weight.as_chunks::<LANES>();
    for ((x, gradient), weight) in x_chunks.iter().zip(gradient_chunks).zip(weight_chunks) {
        for lane in 0..LANES {
            let scaled = gradient[lane].widen() * weight[lane];
            with_z[lane] = fma::<FMA>(scaled, (x[lane] - mean) * inverse_deviation, with_z[lane]);
            alone[lane] += scaled;
        }
    }
    for (lane, ((&x, &gradient), &weight)) in x_rest.iter().zip(gradient_rest).zip(weight_rest).enumerate() {
        let scaled = gradient.widen() * weight;
        with_z[lane] = fma::<FMA>(scaled, (x - mean) * inverse_deviation, with_z[lane]);
        alone[lane] += scaled;
    }
    (fold_sum(with_z), fold_sum(alone))
}
