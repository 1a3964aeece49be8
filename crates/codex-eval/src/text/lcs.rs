//! Longest common subsequences by dynamic programming, in memory that is far from quadratic: two rows at most for the length, and about
//! 2 x sqrt(n) rows for the positions.

/// The length of the longest common subsequence. Time is n x m, memory m.
pub(super) fn length(some: &[u32], others: &[u32]) -> usize {
    let mut row = vec![0; others.len()];
    for &token in some {
        advance(&mut row, token, others);
    }
    row.last().map_or(0, |&length| length as usize)
}

/// Marks the positions of `reference` in one longest common subsequence with `candidate`; marks that stand stay.
///
/// Of several it is the one that ROUGE 1.5.5 and rouge-score read from the table of lengths: backwards from the ends, to the shorter candidate only where
/// that loses less than the shorter reference. The table is not kept: every sqrt(n)-th row is, and the rows between are computed again on the way back.
pub(super) fn mark(reference: &[u32], candidate: &[u32], marked: &mut [bool]) {
    let width = candidate.len();
    let stride = reference.len().isqrt().max(1);
    let mut row = vec![0; width];
    let mut kept = Vec::with_capacity(reference.len().div_ceil(stride));
    for block in reference.chunks(stride) {
        kept.push(row.clone());
        for &token in block {
            advance(&mut row, token, candidate);
        }
    }
    // How much of the candidate is not yet passed.
    let mut j = width;
    let blocks = reference.chunks(stride).zip(marked.chunks_mut(stride)).zip(kept);
    for ((block, marked), first) in blocks.rev() {
        let mut rows = vec![first];
        for &token in block {
            let mut row = rows.last().cloned().unwrap_or_default();
            advance(&mut row, token, candidate);
            rows.push(row);
        }
        let mut i = block.len();
        while i > 0 && j > 0 {
            if block[i - 1] == candidate[j - 1] {
                marked[i - 1] = true;
                i -= 1;
                j -= 1;
            } else if j > 1 && rows[i][j - 2] > rows[i - 1][j - 1] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
    }
}

/// Turns the row of lengths of a prefix into that of the prefix with one token more; `row[j]` is of `others[..=j]`.
fn advance(row: &mut [u32], token: u32, others: &[u32]) {
    // The lengths at the left, of the prefix before and of the longer one.
    let (mut left_before, mut left) = (0, 0);
    for (cell, &other) in row.iter_mut().zip(others) {
        let above = *cell;
        left = if token == other { left_before + 1 } else { above.max(left) };
        *cell = left;
        left_before = above;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With the whole table, as the papers write it.
    fn by_table(reference: &[u32], candidate: &[u32]) -> (usize, Vec<bool>) {
        let mut table = vec![vec![0; candidate.len() + 1]; reference.len() + 1];
        for (i, a) in reference.iter().enumerate() {
            for (j, b) in candidate.iter().enumerate() {
                table[i + 1][j + 1] = if a == b { table[i][j] + 1 } else { table[i][j + 1].max(table[i + 1][j]) };
            }
        }
        let (mut i, mut j) = (reference.len(), candidate.len());
        let mut marked = vec![false; i];
        while i > 0 && j > 0 {
            if reference[i - 1] == candidate[j - 1] {
                (i, j) = (i - 1, j - 1);
                marked[i] = true;
            } else if table[i][j - 1] > table[i - 1][j] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
        (table[reference.len()][candidate.len()], marked)
    }

    proptest! {
        #[test]
        fn the_rows_say_what_the_table_says(reference in prop::collection::vec(0_u32..5, 0..40), candidate in prop::collection::vec(0_u32..5, 0..40)) {
            let (want, want_marked) = by_table(&reference, &candidate);
            let mut marked = vec![false; reference.len()];
            mark(&reference, &candidate, &mut marked);
            prop_assert_eq!(length(&reference, &candidate), want);
            prop_assert_eq!(length(&candidate, &reference), want);
            prop_assert_eq!(marked, want_marked);
        }
    }

    #[test]
    fn nothing_is_common_with_nothing() {
        assert_eq!((length(&[], &[1]), length(&[1], &[]), length(&[1], &[1])), (0, 0, 1));
        let mut marked = [false, true];
        mark(&[1, 2], &[], &mut marked);
        assert_eq!(marked, [false, true]);
    }
}
