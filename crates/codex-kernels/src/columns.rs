//! Sums over the rows of a matrix, one for each column: the gradient of a bias.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::element::Element;
use crate::error::{RowsError, count_rows};
use crate::grid::{TASK_ELEMENTS, rows_per_partial};
use crate::isa::{Isa, Kernel, run};

/// `sums[j] = sum over rows of values[.., j]`: runs of rows whose length the number of rows decides, each summed in order, and then the
/// runs in order.
///
/// # Shapes
/// `values` `[rows, width]` -> `sums` `[width]`
pub fn sum_columns<T: Element>(isa: Isa, values: &[T], sums: &mut [f32]) -> Result<(), RowsError> {
    let width = sums.len();
    let n_rows = count_rows("sum of columns", "values", width, values.len())?;
    let n = rows_per_partial(n_rows);
    let mut partials = vec![0.0; n_rows.div_ceil(n) * width];
    let tasks = values.par_chunks(n * width).zip(partials.par_chunks_mut(width));
    tasks.for_each(|(rows, sums)| run(isa, AddRows { rows, stride: width, offset: 0, sums }));
    add_rows(isa, &partials, width, 0, sums);
    Ok(())
}

/// Writes the sum of `rows[.., offset..]` over all rows of `stride` elements, in their order.
pub(crate) fn add_rows<T: Element>(isa: Isa, rows: &[T], stride: usize, offset: usize, sums: &mut [f32]) {
    // Columns are independent; a task sums some of them over all rows.
    sums.par_chunks_mut(TASK_ELEMENTS).enumerate().for_each(|(index, sums)| {
        let offset = offset + index * TASK_ELEMENTS;
        run(isa, AddRows { rows, stride, offset, sums });
    });
}

struct AddRows<'a, T> {
    rows: &'a [T],
    stride: usize,
    offset: usize,
    sums: &'a mut [f32],
}

impl<T: Element> Kernel for AddRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        self.sums.fill(0.0);
        for row in self.rows.chunks_exact(self.stride) {
            for (sum, &value) in self.sums.iter_mut().zip(&row[self.offset..]) {
                *sum += value.widen();
            }
        }
    }
}
