//! How work is cut into tasks: by shapes alone, never by the number of threads.

/// Elements that one task works on: a few tens of microseconds, far above what starting a task costs.
pub(crate) const TASK_ELEMENTS: usize = 1 << 14;

/// Most partial sums that a reduction over rows keeps.
const MAX_PARTIALS: usize = 64;

/// Fewest rows of a partial sum, so that a short batch does not spend its time on adding partial sums.
const MIN_PARTIAL_ROWS: usize = 16;

/// Rows of `width` elements that make one task, at least one.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (TASK_ELEMENTS / width.max(1)).max(1)
}

/// Rows whose sum is one partial sum of a reduction over `n_rows` rows.
pub(crate) fn rows_per_partial(n_rows: usize) -> usize {
    n_rows.div_ceil(MAX_PARTIALS).max(MIN_PARTIAL_ROWS)
}
