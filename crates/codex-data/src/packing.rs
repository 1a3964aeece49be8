//! Windows of whole documents, for data of which only parts are trained: what a document's trained part needs to be seen stands before it in the
//! same window.

use crate::tokens::TokenSplit;

/// The tokens of a window: all but the last are inputs, all but the first are targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first.
    pub(crate) start: u64,
    /// The one after the last.
    pub(crate) end: u64,
}

/// The windows of a split, in its order: as many whole documents as have `context_length` + 1 tokens. One that has more is cut where the window is
/// full, and the next begins with the token the last one ended with. Windows without a trained target are left out.
pub(crate) fn packed(split: &TokenSplit, context_length: usize) -> Vec<Span> {
    let n_documents = split.n_documents();
    let lengths = (0..n_documents).map(|idx| split.end_of(idx));
    let mut windows = spans(lengths, context_length as u64);
    windows.retain(|span| {
        let n_targets = (span.end - span.start).saturating_sub(1) as usize;
        split.trained(span.start + 1, n_targets).is_none_or(|trained| trained.contains(&1))
    });
    windows
}

/// The windows of documents that end at these positions.
fn spans(ends: impl Iterator<Item = u64>, context_length: u64) -> Vec<Span> {
    let most = context_length + 1;
    let mut windows = Vec::new();
    if context_length == 0 {
        return windows;
    }
    // The window under way, and where the document before ended.
    let (mut start, mut before) = (0, 0);
    for end in ends {
        if end - start > most && before > start {
            windows.push(Span { start, end: before });
            start = before;
        }
        while end - start > most {
            windows.push(Span { start, end: start + most });
            start += context_length;
        }
        before = end;
    }
    if before > start {
        windows.push(Span { start, end: before });
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(ends: &[u64], context_length: u64, expected: &[(u64, u64)]) {
        let found: Vec<(u64, u64)> = spans(ends.iter().copied(), context_length).into_iter().map(|span| (span.start, span.end)).collect();
        assert_eq!(found, expected, "{ends:?}");
    }

    #[test]
    fn windows_hold_whole_documents() {
        check(&[], 4, &[]);
        check(&[3], 4, &[(0, 3)]);
        check(&[3, 5, 9, 14], 4, &[(0, 5), (5, 9), (9, 14)]);
        check(&[5], 4, &[(0, 5)]);
        check(&[6], 4, &[(0, 5), (4, 6)]);
        check(&[2, 13, 15], 4, &[(0, 2), (2, 7), (6, 11), (10, 15)]);
        check(&[2, 13, 16], 4, &[(0, 2), (2, 7), (6, 11), (10, 13), (13, 16)]);
        check(&[3], 0, &[]);
    }

    proptest! {
        #[test]
        fn each_token_within_a_document_is_a_target_once(lengths in proptest::collection::vec(1_u64..20, 0..12), context_length in 1_u64..12) {
            let ends: Vec<u64> = lengths.iter().scan(0, |end, length| { *end += length; Some(*end) }).collect();
            let mut targets = Vec::new();
            for span in spans(ends.iter().copied(), context_length) {
                prop_assert!(span.end - span.start <= context_length + 1);
                targets.extend(span.start + 1..span.end);
            }
            let firsts: Vec<u64> = std::iter::once(0).chain(ends.iter().copied()).collect();
            targets.retain(|target| !firsts.contains(target));
            let all: Vec<u64> = (0..ends.last().copied().unwrap_or(0)).filter(|position| !firsts.contains(position)).collect();
            prop_assert_eq!(targets, all);
        }

        #[test]
        fn a_document_that_fits_is_in_one_window(lengths in proptest::collection::vec(1_u64..10, 1..12), context_length in 9_u64..30) {
            let ends: Vec<u64> = lengths.iter().scan(0, |end, length| { *end += length; Some(*end) }).collect();
            let windows = spans(ends.iter().copied(), context_length);
            for (end, length) in ends.iter().zip(&lengths) {
                prop_assert!(windows.iter().any(|span| span.start <= end - length && *end <= span.end));
            }
        }
    }
}
