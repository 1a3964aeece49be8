//! Which keys a query sees: none after it, none before its window, none of another document.

use std::ops::Range;

use crate::attention::shape::AttentionShape;
use crate::attention::tile::{LANES, Tile};

/// What the queries of one tile see.
pub(crate) struct Visible<'a> {
    time: usize,
    window: usize,
    segments: Option<&'a [u32]>,
    /// First query of the tile.
    first: usize,
    /// Position and document of each lane.
    positions: [u32; LANES],
    documents: [u32; LANES],
    /// Least and greatest document of the lanes.
    span: (u32, u32),
}

/// How much of a tile of scores counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    Part,
    Everything,
}

impl<'a> Visible<'a> {
    /// For the queries of tile `query_tile`; `segments` `[time]`.
    #[inline(always)]
    pub(crate) fn new(shape: &AttentionShape, segments: Option<&'a [u32]>, query_tile: usize) -> Self {
        let first = query_tile * LANES;
        let window = if shape.window == 0 { usize::MAX } else { shape.window };
        let mut visible = Self { time: shape.time, window, segments, first, positions: [0; LANES], documents: [0; LANES], span: (0, 0) };
        for (lane, position) in visible.positions.iter_mut().enumerate() {
            *position = (first + lane) as u32;
        }
        if let Some(segments) = segments {
            (visible.documents, visible.span) = documents(segments, first);
        }
        visible
    }

    /// The key tiles that may be seen: all others are hidden from every query of the tile.
    #[inline(always)]
    pub(crate) fn key_tiles(&self) -> Range<usize> {
        let end = self.first / LANES + 1;
        let mut start = (self.first + 1).saturating_sub(self.window) / LANES;
        while start + 1 < end && self.seen(start) == Seen::Nothing {
            start += 1;
        }
        start..end
    }

    /// How much of the scores of a key tile counts.
    #[inline(always)]
    pub(crate) fn seen(&self, key_tile: usize) -> Seen {
        let first_key = key_tile * LANES;
        let last_key = first_key + LANES - 1;
        let last_query = self.first + LANES - 1;
        if first_key > last_query || self.first.saturating_sub(last_key) >= self.window {
            return Seen::Nothing;
        }
        let mut whole = last_key <= self.first && last_query - first_key < self.window && last_key < self.time;
        if let Some(segments) = self.segments {
            let (_, (least, greatest)) = documents(segments, first_key);
            if greatest < self.span.0 || least > self.span.1 {
                return Seen::Nothing;
            }
            whole &= least == greatest && self.span == (least, greatest);
        }
        if whole { Seen::Everything } else { Seen::Part }
    }

    /// Sets the scores that do not count to minus infinity: `scores[key][query]`.
    #[inline(always)]
    pub(crate) fn hide(&self, key_tile: usize, scores: &mut Tile) {
        let first_key = key_tile * LANES;
        let documents = self.segments.map_or([0; LANES], |segments| documents(segments, first_key).0);
        let window = u32::try_from(self.window).unwrap_or(u32::MAX);
        for (lane, row) in scores.0.iter_mut().enumerate() {
            let key = (first_key + lane) as u32;
            let document = documents[lane];
            for (score, (&position, &of_query)) in row.iter_mut().zip(self.positions.iter().zip(&self.documents)) {
                // A later key wraps around to a distance that no window holds, but one without end would. All three are computed, without a branch.
                let distance = position.wrapping_sub(key);
                let counts = [key <= position, distance < window, of_query == document];
                *score = if counts == [true; 3] { *score } else { f32::NEG_INFINITY };
            }
        }
    }
}

/// Documents of the positions from `first`, and the least and greatest of them; past the end the last one is repeated.
#[inline(always)]
fn documents(segments: &[u32], first: usize) -> ([u32; LANES], (u32, u32)) {
    let mut found = [0; LANES];
    if let Some(whole) = segments.get(first..).and_then(|rest| rest.first_chunk::<LANES>()) {
        found = *whole;
    } else {
        let last = segments.last().copied().unwrap_or(0);
        for (lane, document) in found.iter_mut().enumerate() {
            *document = segments.get(first + lane).copied().unwrap_or(last);
        }
    }
    let (mut least, mut greatest) = (u32::MAX, 0);
    for document in found {
        least = least.min(document);
        greatest = greatest.max(document);
    }
    (found, (least, greatest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares every decision about a tile with the rule itself.
    fn check(time: usize, window: usize, segments: Option<&[u32]>) {
        let shape = AttentionShape { batch: 1, time, n_heads: 1, n_kv_heads: 1, head_dim: 1, window };
        let rule = |query: usize, key: usize| {
            let near = window == 0 || query < key + window;
            key <= query && near && segments.is_none_or(|all| all[query] == all[key])
        };
        for query_tile in 0..time.div_ceil(LANES) {
            let visible = Visible::new(&shape, segments, query_tile);
            let range = visible.key_tiles();
            for key_tile in 0..time.div_ceil(LANES) {
                let seen = visible.seen(key_tile);
                let mut scores = Tile([[1.0; LANES]; LANES]);
                visible.hide(key_tile, &mut scores);
                for i in 0..LANES {
                    for j in 0..LANES {
                        let (query, key) = (query_tile * LANES + j, key_tile * LANES + i);
                        if query >= time {
                            continue;
                        }
                        let expected = key < time && rule(query, key);
                        assert_eq!(scores.0[i][j] > 0.0, expected, "hide {query} {key}");
                        assert!(!expected || (range.contains(&key_tile) && seen != Seen::Nothing), "missed {query} {key}");
                        assert!(expected || seen != Seen::Everything, "not hidden {query} {key}");
                    }
                }
            }
        }
    }

    #[test]
    fn follows_the_rule() {
        for time in [1, 15, 16, 17, 48, 70] {
            for window in [0, 1, 2, 15, 16, 17, 33, 1000] {
                check(time, window, None);
                let documents: Vec<u32> = (0..time).map(|i| [3, 3, 9, 1][i / 20]).collect();
                check(time, window, Some(&documents));
                let mixed: Vec<u32> = (0..time).map(|i| (i * 7 % 3) as u32).collect();
                check(time, window, Some(&mixed));
            }
        }
    }

    #[test]
    fn far_tiles_are_not_visited() {
        let documents: Vec<u32> = (0..256).map(|i| u32::from(i >= 128)).collect();
        let shape = AttentionShape { batch: 1, time: 256, n_heads: 1, n_kv_heads: 1, head_dim: 1, window: 0 };
        assert_eq!(Visible::new(&shape, None, 15).key_tiles(), 0..16);
        assert_eq!(Visible::new(&shape, Some(&documents), 15).key_tiles(), 8..16);
        assert_eq!(Visible::new(&AttentionShape { window: 32, ..shape }, None, 15).key_tiles(), 13..16);
    }
}
