//! Rotary positions in the split-half form: dimension `i` of a head turns together with dimension `i + head_dim / 2`.
//!
//! Reference: J. Su et al., "RoFormer: enhanced transformer with rotary position embedding" (2021).

use crate::attention::error::{AttentionError, check_length};
use crate::element::Element;

/// Cosines and sines of the angles, `[positions, head_dim / 2]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    positions: usize,
    head_dim: usize,
}

impl RotaryTable {
    /// The table of `positions` angles starting at position `first`: `position x theta^(-2 i / head_dim)`, computed in f64 without the system's
    /// mathematics, so that it is the same everywhere.
    ///
    /// # Errors
    /// An odd or zero `head_dim`, or more angles than can be indexed.
    pub fn new(first: usize, positions: usize, head_dim: usize, theta: f64) -> Result<Self, AttentionError> {
        if !head_dim.is_multiple_of(2) {
            return Err(AttentionError::OddHeadDim { head_dim });
        }
        let speeds: Vec<f64> = (0..head_dim / 2).map(|i| libm::pow(theta, -2.0 * i as f64 / head_dim as f64)).collect();
        Self::with_speeds(first, positions, &speeds, 1.0)
    }

    /// The table of other angles, `position x speeds[i]`, whose cosines and sines are multiplied by `factor`: for contexts that are stretched.
    ///
    /// # Errors
    /// No speeds, or more angles than can be indexed.
    pub fn with_speeds(first: usize, positions: usize, speeds: &[f64], factor: f64) -> Result<Self, AttentionError> {
        let half = speeds.len();
        if half == 0 {
            return Err(AttentionError::NoHeadDim);
        }
        let length = positions.checked_mul(half).filter(|length| *length <= isize::MAX as usize / size_of::<f64>());
        let length = length.ok_or(AttentionError::TooLarge)?;
        first.checked_add(positions).ok_or(AttentionError::TooLarge)?;
        let angle = |i: usize| (first + i / half) as f64 * speeds[i % half];
        let table = |f: fn(f64) -> f64| (0..length).map(|i| (f(angle(i)) * factor) as f32).collect();
        Ok(Self { cos: table(libm::cos), sin: table(libm::sin), positions, head_dim: 2 * half })
    }

    /// How many positions it has.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The width of head that it turns.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The cosines, `[positions, head_dim / 2]`.
    pub fn cosines(&self) -> &[f32] {
        &self.cos
    }

    /// The sines, `[positions, head_dim / 2]`.
    pub fn sines(&self) -> &[f32] {
        &self.sin
    }

    /// Turns the heads of one position in place: what a decoding step does to its query and key.
    ///
    /// # Shapes
    /// `heads` `[any number x head_dim]`; `row` counts from the table's first position
    ///
    /// # Errors
    /// A row that the table lacks, or a length that is not whole heads.
    pub fn rotate(&self, row: usize, heads: &mut [f32]) -> Result<(), AttentionError> {
        if row >= self.positions {
            return Err(AttentionError::RotaryPositions { expected: row.saturating_add(1), found: self.positions });
        }
        check_length("heads", heads.len() / self.head_dim * self.head_dim, heads.len())?;
        let (cos, sin) = self.row(row);
        for head in heads.chunks_exact_mut(self.head_dim) {
            let (first, second) = head.split_at_mut(self.head_dim / 2);
            for (((first, second), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*first, *second) = (*first * cos - *second * sin, *second * cos + *first * sin);
            }
        }
        Ok(())
    }

    /// Checks that it serves `time` positions of heads of `head_dim`.
    pub(crate) fn check(&self, time: usize, head_dim: usize) -> Result<(), AttentionError> {
        if !head_dim.is_multiple_of(2) {
            return Err(AttentionError::OddHeadDim { head_dim });
        }
        if self.head_dim != head_dim {
            return Err(AttentionError::RotaryHeadDim { expected: head_dim, found: self.head_dim });
        }
        if self.positions < time {
            return Err(AttentionError::RotaryPositions { expected: time, found: self.positions });
        }
        Ok(())
    }

    /// Cosines and sines of one row, `[head_dim / 2]` each.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> (&[f32], &[f32]) {
        let half = self.head_dim / 2;
        (&self.cos[row * half..(row + 1) * half], &self.sin[row * half..(row + 1) * half])
    }
}

/// Writes `source`, turned if there is a table row, times `scale`, to the start of `line`.
///
/// The turn is rounded as in the composite, product by product, on every path.
#[inline(always)]
pub(crate) fn turn<T: Element>(source: &[T], row: Option<(&[f32], &[f32])>, scale: f32, line: &mut [f32]) {
    match row {
        None => {
            for (to, from) in line.iter_mut().zip(source) {
                *to = from.widen() * scale;
            }
        }
        Some((cos, sin)) => {
            let half = source.len() / 2;
            let (first, second) = source.split_at(half);
            let (to_first, to_second) = line.split_at_mut(half);
            for ((((to, first), second), cos), sin) in to_first.iter_mut().zip(first).zip(second).zip(cos).zip(sin) {
                *to = (first.widen() * cos - second.widen() * sin) * scale;
            }
            for ((((to, first), second), cos), sin) in to_second.iter_mut().zip(first).zip(second).zip(cos).zip(sin) {
                *to = (second.widen() * cos + first.widen() * sin) * scale;
            }
        }
    }
}

/// The transposed turn, of a gradient: writes the start of `line`, turned back and times `scale`, to `target`.
#[inline(always)]
pub(crate) fn turn_back<T: Element>(line: &[f32], row: Option<(&[f32], &[f32])>, scale: f32, target: &mut [T]) {
    match row {
        None => {
            for (to, from) in target.iter_mut().zip(line) {
                *to = T::narrow(from * scale);
            }
        }
        Some((cos, sin)) => {
            let half = target.len() / 2;
            let (first, second) = line.split_at(half);
            let (to_first, to_second) = target.split_at_mut(half);
            for ((((to, first), second), cos), sin) in to_first.iter_mut().zip(first).zip(second).zip(cos).zip(sin) {
                *to = T::narrow((first * cos + second * sin) * scale);
            }
            for ((((to, first), second), cos), sin) in to_second.iter_mut().zip(first).zip(second).zip(cos).zip(sin) {
                *to = T::narrow((second * cos - first * sin) * scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_angles() {
        let table = RotaryTable::new(1, 2, 4, 100.0).unwrap();
        let expected = [1.0_f64, 0.1, 2.0, 0.2];
        for (i, angle) in expected.iter().enumerate() {
            assert!((f64::from(table.cos[i]) - angle.cos()).abs() < 1e-7);
            assert!((f64::from(table.sin[i]) - angle.sin()).abs() < 1e-7);
        }
        assert_eq!((table.positions(), table.head_dim()), (2, 4));
    }

    #[test]
    fn turning_back_undoes() {
        let table = RotaryTable::new(0, 8, 6, 10_000.0).unwrap();
        let source = [1.0_f32, -2.0, 3.0, 0.5, 0.25, -4.0];
        let (mut line, mut back, mut in_place) = ([9.0_f32; 16], [0.0_f32; 6], source);
        turn(&source, Some(table.row(7)), 2.0, &mut line);
        turn_back(&line, Some(table.row(7)), 0.5, &mut back);
        table.rotate(7, &mut in_place).unwrap();
        for i in 0..6 {
            assert!((back[i] - source[i]).abs() < 1e-5);
            assert!((line[i] - 2.0 * in_place[i]).abs() < 1e-6);
        }
        assert_eq!(line[6].to_bits(), 9.0_f32.to_bits());
    }

    #[test]
    fn refusals() {
        assert_eq!(RotaryTable::new(0, 1, 5, 1e4), Err(AttentionError::OddHeadDim { head_dim: 5 }));
        assert_eq!(RotaryTable::new(0, 1, 0, 1e4), Err(AttentionError::NoHeadDim));
        assert_eq!(RotaryTable::new(0, usize::MAX, 8, 1e4), Err(AttentionError::TooLarge));
        assert_eq!(RotaryTable::new(usize::MAX, 1, 8, 1e4), Err(AttentionError::TooLarge));
        let table = RotaryTable::new(0, 3, 4, 1e4).unwrap();
        assert_eq!(table.check(4, 4), Err(AttentionError::RotaryPositions { expected: 4, found: 3 }));
        assert_eq!(table.check(3, 6), Err(AttentionError::RotaryHeadDim { expected: 6, found: 4 }));
        assert!(table.rotate(3, &mut [0.0; 4]).is_err());
        assert!(table.rotate(0, &mut [0.0; 5]).is_err());
    }
}
