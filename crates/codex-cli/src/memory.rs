//! The program's allocator: large blocks are kept for the next training step.

use codex_kernels::pool::{Pool, PoolStatistics};

#[global_allocator]
static POOL: Pool = Pool::new();

/// Sets how much may be kept, in MiB; 0 keeps nothing.
pub(crate) fn set_pool(mib: usize) {
    POOL.set_cap(mib << 20);
}

/// What the pool has done.
pub(crate) fn pool_statistics() -> PoolStatistics {
    POOL.statistics()
}
