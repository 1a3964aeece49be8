//! How a product is cut up: a function of its shape alone, so that results do not depend on the number of threads.

/// Longest stretch of `k` whose terms are summed in registers. It decides how sums are rounded, so it is one number for all paths.
/// A panel of `b` of this depth (16 columns: 24 KB) stays in the L1 cache while panels of `a` pass by.
pub(crate) const K_BLOCK_MAX: usize = 384;
/// Rows of a task: its rows of `a` over a block of `k` (147 KB) stay in the L2 cache while panels of `b` pass by.
const ROWS_MAX: usize = 96;
/// Rows of `a`, and columns of `b`, that are packed together; it bounds the memory of both packed operands to 12 MB.
const BATCH_MAX: usize = 4096;
/// Elements of both operands that are packed together (2 MB as f32), if one block of `k` is not more already: a buffer that is written anew
/// for each batch stays in the caches and in the TLB, where one for all of a long `k` made weight gradients a tenth slower.
const PACKED_MAX: usize = 1 << 19;
/// Elements of `b` that are packed together (4 MB) where tasks pack their rows of `a` themselves: each task reads all of them.
const PACKED_RIGHT_MAX: usize = 1 << 20;
/// Tasks that a product is cut into where it is large enough for that.
const TASKS_WANTED: usize = 16;
/// Narrowest strip of columns that the wish for tasks makes: each strip reads its rows of `a` anew.
const STRIP_MIN: usize = 128;

/// The length of equal parts of `total`, none longer than `max`, rounded up to a multiple of `step`; never zero.
fn equal_parts(total: usize, max: usize, step: usize) -> usize {
    let parts = total.div_ceil(max).max(1);
    total.div_ceil(parts).next_multiple_of(step).max(step)
}

/// The cuts of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Terms that are summed in registers.
    pub(crate) k_block: usize,
    /// Terms for which the operands are packed at once: some blocks.
    pub(crate) k_batch: usize,
    /// Rows for which `a` is packed at once: some tasks.
    pub(crate) row_batch: usize,
    /// Columns for which `b` is packed at once: some tasks.
    pub(crate) col_batch: usize,
    /// Whether each task packs its rows of `a` itself, block by block, so that they stay in its L2 cache. Other tasks need them only where
    /// the output is cut into strips of columns.
    pub(crate) packs_in_tasks: bool,
    /// Rows of a task: some tiles.
    pub(crate) task_rows: usize,
    /// Columns of a task: some tiles.
    pub(crate) task_cols: usize,
}

impl Plan {
    /// The cuts of an `m x k` by `k x n` product whose tiles are `tile_rows x tile_cols`.
    pub(crate) fn new(m: usize, n: usize, k: usize, tile_rows: usize, tile_cols: usize) -> Self {
        let task_rows = equal_parts(m, ROWS_MAX, tile_rows);
        let row_batch = equal_parts(m, BATCH_MAX, task_rows);
        let col_batch = equal_parts(n, BATCH_MAX, tile_cols);
        let strips = TASKS_WANTED.div_ceil(m.div_ceil(task_rows).max(1));
        let task_cols = equal_parts(col_batch, col_batch.div_ceil(strips).max(STRIP_MIN), tile_cols);
        let col_batch = col_batch.next_multiple_of(task_cols);
        let k_block = k_block(k);
        let packs_in_tasks = task_cols >= col_batch;
        let blocks =
            if packs_in_tasks { PACKED_RIGHT_MAX / (k_block * col_batch) } else { PACKED_MAX / (k_block * (row_batch + col_batch)) };
        let k_batch = k_block * blocks.max(1);
        Self { k_block, k_batch, row_batch, col_batch, packs_in_tasks, task_rows, task_cols }
    }
}

/// Terms that are summed in registers before they are added to the sum of the blocks before.
pub(crate) fn k_block(k: usize) -> usize {
    equal_parts(k, K_BLOCK_MAX, 8)
}

/// The parts of `start..end`, each of `len` but for the last; one empty part if there is nothing, since a sum of no terms is written too.
pub(crate) fn parts(start: usize, end: usize, len: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let count = (end - start).div_ceil(len).max(1);
    (0..count).map(move |part| (start + part * len, len.min(end - start - part * len)))
}
