//! Rows of the fused buffer, brought into tiles.

use crate::attention::rotary::{RotaryTable, turn};
use crate::attention::shape::AttentionShape;
use crate::attention::tile::{LANES, Tile};
use crate::element::Element;

/// The inputs of a call.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, T> {
    pub(crate) shape: &'a AttentionShape,
    pub(crate) qkv: &'a [T],
    pub(crate) rope: Option<&'a RotaryTable>,
    pub(crate) segments: Option<&'a [u32]>,
}

impl<'a, T: Element> Source<'a, T> {
    /// Head number `column` of a row of the fused buffer: queries, then keys, then values.
    #[inline(always)]
    pub(crate) fn head(&self, row: usize, column: usize) -> &'a [T] {
        let from = row * self.shape.qkv_width() + column * self.shape.head_dim;
        &self.qkv[from..from + self.shape.head_dim]
    }

    /// Document numbers of one sequence.
    #[inline(always)]
    pub(crate) fn segments_of(&self, sequence: usize) -> Option<&'a [u32]> {
        self.segments.map(|all| &all[sequence * self.shape.time..(sequence + 1) * self.shape.time])
    }

    /// The cosines and sines of a position.
    #[inline(always)]
    pub(crate) fn angles(&self, position: usize) -> Option<(&'a [f32], &'a [f32])> {
        self.rope.map(|table| table.row(position))
    }
}

/// Brings rows of heads into tiles: row `r` of `read` to row `r` of `width` tiles, zeros behind the head and below the last row.
///
/// `read` returns the head, the angles that turn it and what scales it.
#[inline(always)]
pub(crate) fn pack<'a, T: Element>(
    rows: usize,
    width: usize,
    tiles: &mut [Tile],
    line: &mut [f32],
    read: impl Fn(usize) -> (&'a [T], Option<(&'a [f32], &'a [f32])>, f32),
) {
    let line = &mut line[..width * LANES];
    line.fill(0.0);
    for (block, tiles) in tiles.chunks_exact_mut(width).enumerate() {
        for lane in 0..LANES {
            let row = block * LANES + lane;
            if row < rows {
                let (head, angles, scale) = read(row);
                turn(head, angles, scale, line);
            } else {
                line.fill(0.0);
            }
            for (tile, part) in tiles.iter_mut().zip(line.as_chunks::<LANES>().0) {
                tile.0[lane] = *part;
            }
        }
    }
}

/// Gathers row `lane` of some tiles into one line.
#[inline(always)]
pub(crate) fn unpack(tiles: &[Tile], lane: usize, line: &mut [f32]) {
    for (tile, part) in tiles.iter().zip(line.as_chunks_mut::<LANES>().0) {
        *part = tile.0[lane];
    }
}
