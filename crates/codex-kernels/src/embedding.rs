//! Rows of a table by their ids, and the gradient of the table.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::error::{RowsError, check_ids, check_length, count_rows};
use crate::grid::rows_per_task;
use crate::isa::{Isa, Kernel, run};

/// A table and which of its rows are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// `[n_rows, width]`
    pub table: &'a [f32],
    /// `[n]`, each below `n_rows`
    pub ids: &'a [u32],
}

/// `output[i] = tokens.table[tokens.ids[i]]`, plus `positions.table[positions.ids[i]]` where positions are learned.
///
/// # Shapes
/// `output` `[n, width]`
pub fn gather(isa: Isa, width: usize, tokens: Lookup<'_>, positions: Option<Lookup<'_>>, output: &mut [f32]) -> Result<(), RowsError> {
    let operation = "embedding";
    for (argument, lookup) in [("table", Some(tokens)), ("position table", positions)] {
        let Some(lookup) = lookup else { continue };
        check_ids(operation, lookup.ids, count_rows(operation, argument, width, lookup.table.len())?)?;
    }
    check_length(operation, "output", tokens.ids.len().saturating_mul(width), output.len())?;
    check_length(operation, "position ids", tokens.ids.len(), positions.map_or(tokens.ids.len(), |positions| positions.ids.len()))?;
    let n = rows_per_task(width);
    output.par_chunks_mut(n * width).zip(tokens.ids.par_chunks(n)).enumerate().for_each(|(task, (output, ids))| {
        let positions = positions.map(|all| Lookup { ids: &all.ids[task * n..][..ids.len()], ..all });
        run(isa, Gather { width, tokens: Lookup { ids, ..tokens }, positions, output });
    });
    Ok(())
}

/// Adds `gradient[i]` to `table_gradient[ids[i]]` for each `i`; rows of one id are added in ascending order of `i`.
///
/// # Shapes
/// `gradient` `[n, width]`, `table_gradient` `[n_rows, width]`
pub fn scatter_add(isa: Isa, width: usize, ids: &[u32], gradient: &[f32], table_gradient: &mut [f32]) -> Result<(), RowsError> {
    let operation = "embedding's gradient";
    let n_rows = count_rows(operation, "table's gradient", width, table_gradient.len())?;
    check_length(operation, "gradient", ids.len().saturating_mul(width), gradient.len())?;
    check_ids(operation, ids, n_rows)?;
    let (starts, order) = sort_by_id(ids, n_rows);
    let n = rows_per_task(width);
    // One task owns a run of ids, so no row of the table is written by two.
    table_gradient.par_chunks_mut(n * width).enumerate().for_each(|(task, table_gradient)| {
        let n_owned = table_gradient.len() / width;
        run(isa, ScatterAdd { width, starts: &starts[task * n..=task * n + n_owned], order: &order, gradient, table_gradient });
    });
    Ok(())
}

/// A counting sort: `order[starts[id]..starts[id + 1]]` are the positions of an id, ascending.
fn sort_by_id(ids: &[u32], n_rows: usize) -> (Vec<usize>, Vec<usize>) {
    let mut starts = vec![0; n_rows + 1];
    for &id in ids {
        starts[id as usize + 1] += 1;
    }
    for id in 0..n_rows {
        starts[id + 1] += starts[id];
    }
    let mut next = starts.clone();
    let mut order = vec![0; ids.len()];
    for (position, &id) in ids.iter().enumerate() {
        order[next[id as usize]] = position;
        next[id as usize] += 1;
    }
    (starts, order)
}

struct Gather<'a> {
    width: usize,
    tokens: Lookup<'a>,
    positions: Option<Lookup<'a>>,
    output: &'a mut [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let rows = self.output.chunks_exact_mut(self.width).zip(self.tokens.ids);
        match self.positions {
            None => rows.for_each(|(output, &id)| output.copy_from_slice(row(self.tokens.table, self.width, id as usize))),
            Some(positions) => {
                for ((output, &id), &position) in rows.zip(positions.ids) {
                    let token = row(self.tokens.table, self.width, id as usize);
                    let position = row(positions.table, self.width, position as usize);
                    for ((output, &token), &position) in output.iter_mut().zip(token).zip(position) {
                        *output = token + position;
                    }
                }
            }
        }
    }
}

struct ScatterAdd<'a> {
    width: usize,
    starts: &'a [usize],
    order: &'a [usize],
    gradient: &'a [f32],
    table_gradient: &'a mut [f32],
}

impl Kernel for ScatterAdd<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (sums, bounds) in self.table_gradient.chunks_exact_mut(self.width).zip(self.starts.windows(2)) {
            for &position in &self.order[bounds[0]..bounds[1]] {
                for (sum, &value) in sums.iter_mut().zip(row(self.gradient, self.width, position)) {
                    *sum += value;
                }
            }
        }
    }
}

#[inline(always)]
fn row(table: &[f32], width: usize, index: usize) -> &[f32] {
    &table[index * width..(index + 1) * width]
}
