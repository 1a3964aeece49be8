//! The program's allocator: large blocks are kept for the next training step.

use std::collections::BTreeMap;

use codex_kernels::pool::Pool;
use serde_json::{Value, json};

use crate::terminal::bytes;

#[global_allocator]
static POOL: Pool = Pool::new();

/// Keeps nothing yet: reading files and weights asks for sizes that nothing asks for again.
pub(crate) fn keep_nothing() {
    POOL.set_cap(0);
}

/// Sets how much may be kept from here on, in MiB; 0 keeps nothing.
pub(crate) fn set_pool(mib: usize) {
    POOL.set_cap(mib << 20);
}

/// Asks for a block twice, so that the statistics show whether the pool works here.
pub(crate) fn warm_up() {
    for _ in 0..2 {
        drop(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

/// What the pool has done, for records.
pub(crate) fn pool_report() -> Value {
    let found = POOL.statistics();
    json!({
        "most_used_bytes": found.most_used_bytes, "cap_bytes": found.cap_bytes, "kept_bytes": found.kept_bytes, "most_kept_bytes": found.most_kept_bytes,
        "reused": found.reused, "fresh": found.fresh,
    })
}

/// The same for the record of a run, by name.
pub(crate) fn pool_record() -> BTreeMap<String, u64> {
    let found = POOL.statistics();
    if found.cap_bytes == 0 {
        return BTreeMap::new();
    }
    let named = [
        ("allowed", found.cap_bytes as u64),
        ("most_used", found.most_used_bytes as u64),
        ("most_kept", found.most_kept_bytes as u64),
        ("reused_blocks", found.reused),
        ("fresh_blocks", found.fresh),
    ];
    named.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The same for people.
pub(crate) fn pool_summary() -> String {
    let found = POOL.statistics();
    if found.cap_bytes == 0 {
        return "off".to_owned();
    }
    let (used, kept, cap) = (found.most_used_bytes as u64, found.most_kept_bytes as u64, found.cap_bytes as u64);
    format!(
        "at most {} in use and {} kept of {} allowed (run.pool_mib); {} blocks used again, {} asked of the system",
        bytes(used),
        bytes(kept),
        bytes(cap),
        found.reused,
        found.fresh
    )
}
