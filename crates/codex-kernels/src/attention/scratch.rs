//! Memory that a thread keeps between tasks.

use std::cell::Cell;

use crate::attention::tile::{LANES, Tile};

/// Tiles and one row of a head, all of unspecified content.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) tiles: Vec<Tile>,
    pub(crate) line: Vec<f32>,
}

thread_local! {
    static KEPT: Cell<Scratch> = const { Cell::new(Scratch { tiles: Vec::new(), line: Vec::new() }) };
}

/// Takes what the thread keeps, with at least `n_tiles` tiles and a row of exactly `width` tiles' lanes; it comes back with [`keep`].
///
/// Taking it, and not borrowing it, means that a task which another one interrupts gets memory of its own.
pub(crate) fn take(n_tiles: usize, width: usize) -> Scratch {
    let mut kept = KEPT.take();
    if kept.tiles.len() < n_tiles {
        // Nothing in it is needed, so nothing is copied.
        kept.tiles = vec![Tile::ZERO; n_tiles];
    }
    kept.line.resize(width * LANES, 0.0);
    kept
}

/// Keeps the memory for the thread's next task.
pub(crate) fn keep(scratch: Scratch) {
    KEPT.set(scratch);
}
