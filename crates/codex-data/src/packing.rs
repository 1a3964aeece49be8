//! Windows that are made of documents: whole ones in their order, the best fit of pieces, or one document by itself. What a document's trained part needs
//! to be seen stands before it in the same window, as far as the window is long enough.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::tokens::TokenSplit;

/// How documents become windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// [`Stream`](Self::Stream) where all tokens are trained, [`Whole`](Self::Whole) where some are not.
    #[default]
    Auto,
    /// All documents are one stream that is cut wherever a window is full: no padding, nothing to compute, documents cut anywhere.
    Stream,
    /// As many whole documents of the order as fit; a longer one is cut where windows are full.
    Whole,
    /// Whole documents from anywhere in the split, the longest first, each where it leaves the least room (best-fit decreasing); a longer one is cut
    /// into full windows and its rest is packed like a document. After H. Ding et al., "Fewer Truncations Improve Language Modeling" (2024).
    BestFit,
    /// A window for each document; a longer one has several.
    Rows,
}

impl Packing {
    /// Whether nothing was chosen.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// What windows are worth, counted in one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PackingReport {
    /// Windows.
    pub windows: u64,
    /// Inputs of all windows.
    pub inputs: u64,
    /// Those that are padding.
    pub padding: u64,
    /// Documents.
    pub documents: u64,
    /// Documents that are not in one window as a whole.
    pub cut_documents: u64,
    /// Inputs that do not see the beginning of their document, because that is in another window.
    pub cut_inputs: u64,
}

impl PackingReport {
    /// The share of inputs that are padding.
    pub fn padding_share(&self) -> f64 {
        self.padding as f64 / self.inputs.max(1) as f64
    }

    /// The share of inputs that do not see their document's beginning.
    pub fn cut_share(&self) -> f64 {
        self.cut_inputs as f64 / self.inputs.max(1) as f64
    }

    /// Adds what other windows are worth.
    pub fn merge(&mut self, other: &Self) {
        self.windows += other.windows;
        self.inputs += other.inputs;
        self.padding += other.padding;
        self.documents += other.documents;
        self.cut_documents += other.cut_documents;
        self.cut_inputs += other.cut_inputs;
    }
}

/// Tokens that follow each other: all but the last are inputs, all but the first are targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first.
    pub(crate) start: u64,
    /// The one after the last.
    pub(crate) end: u64,
}

impl Span {
    fn inputs(self) -> u64 {
        (self.end - self.start).saturating_sub(1)
    }
}

/// Windows as lists of spans.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    spans: Vec<Span>,
    /// Where each window's spans end in the list.
    ends: Vec<u64>,
}

impl Packed {
    /// The windows of a split; `None` where it is cut as a stream.
    ///
    /// # Errors
    /// A cache that is found damaged.
    pub(crate) fn new(split: &TokenSplit, context_length: usize, packing: Packing) -> Result<Option<Self>, DataError> {
        let packing = match packing {
            Packing::Auto if split.is_masked() => Packing::Whole,
            other => other,
        };
        let length = context_length as u64;
        let of = |spans: Vec<Span>| -> Result<Vec<Span>, DataError> {
            let mut trained = Vec::with_capacity(spans.len());
            for span in spans {
                if split.trained(span.start + 1, span.inputs() as usize)?.is_none_or(|trained| trained.contains(&1)) {
                    trained.push(span);
                }
            }
            Ok(trained)
        };
        Ok(match packing {
            Packing::Auto | Packing::Stream => None,
            _ if context_length == 0 => Some(Self::default()),
            Packing::Whole => Some(Self::alone(of(whole(split.ends()?.into_iter(), length))?)),
            Packing::Rows => Some(Self::alone(of(pieces(split.ends()?.into_iter(), length).collect())?)),
            Packing::BestFit => Some(best_fit(of(pieces(split.ends()?.into_iter(), length).collect())?, length)),
        })
    }

    fn alone(spans: Vec<Span>) -> Self {
        Self { ends: (1..=spans.len() as u64).collect(), spans }
    }

    /// How many windows there are.
    pub(crate) fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    /// The spans of a window.
    pub(crate) fn window(&self, window: u64) -> &[Span] {
        let window = window as usize;
        let start = window.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        let end = self.ends.get(window).map_or(start, |end| *end as usize);
        self.spans.get(start..end).unwrap_or_default()
    }
}

/// Windows of a split that is cut as a stream: its tokens but the first, divided by the context length, rounded up.
pub(crate) fn stream_windows(split: &TokenSplit, context_length: usize) -> u64 {
    if context_length == 0 { 0 } else { split.n_tokens().saturating_sub(1).div_ceil(context_length as u64) }
}

/// What the windows of a split are worth.
pub(crate) fn report(split: &TokenSplit, context_length: usize, packed: Option<&Packed>) -> Result<PackingReport, DataError> {
    let length = context_length as u64;
    let windows = packed.map_or_else(|| stream_windows(split, context_length), Packed::len);
    let mut report = PackingReport { windows, inputs: windows * length, documents: split.n_documents(), ..PackingReport::default() };
    if windows == 0 {
        return Ok(report);
    }
    let ends = split.ends()?;
    let begin = |document: usize| document.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    match packed {
        None => {
            report.padding = report.inputs - (split.n_tokens() - 1);
            for (document, end) in ends.iter().enumerate() {
                // Its inputs behind the window in which it begins; the last token of all is no input.
                let behind = (*end).min(split.n_tokens() - 1).saturating_sub((begin(document) / length + 1) * length);
                report.cut_inputs += behind;
                report.cut_documents += u64::from(behind > 0);
            }
        }
        Some(packed) => {
            report.padding = report.inputs - packed.spans.iter().map(|span| span.inputs()).sum::<u64>();
            let mut cut = BTreeSet::new();
            for span in &packed.spans {
                let document = ends.partition_point(|end| *end <= span.start);
                if span.start > begin(document) {
                    let here = ends.get(document).map_or(span.end, |end| *end.min(&span.end)) - span.start;
                    report.cut_inputs += here.min(span.inputs());
                    cut.insert(document);
                }
            }
            report.cut_documents = cut.len() as u64;
        }
    }
    Ok(report)
}

/// The pieces of documents that end at these positions: each as a whole, or, where it has more than `context_length` + 1 tokens, cut where a window is
/// full, each piece beginning with the token that the one before ended with. A document of one token has nothing to predict and no piece.
fn pieces(ends: impl Iterator<Item = u64>, context_length: u64) -> impl Iterator<Item = Span> {
    let mut start = 0;
    ends.flat_map(move |end| {
        let first = std::mem::replace(&mut start, end);
        let n = end.saturating_sub(first).saturating_sub(1).div_ceil(context_length);
        (0..n).map(move |i| {
            let start = first + i * context_length;
            Span { start, end: end.min(start + context_length + 1) }
        })
    })
}

/// Pieces in as few windows as best-fit decreasing finds, in the order of their first pieces. Deterministic: pieces of one length come in their order, and
/// of windows with the same room the newest is taken.
fn best_fit(mut pieces: Vec<Span>, context_length: u64) -> Packed {
    pieces.sort_by_key(|piece| (std::cmp::Reverse(piece.inputs()), piece.start));
    // The window of each piece, and the windows by their room.
    let mut window_of: Vec<u64> = Vec::with_capacity(pieces.len());
    let mut by_room: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut n_windows = 0;
    for piece in &pieces {
        let size = piece.inputs();
        let fit = by_room.range_mut(size..).next().map(|(room, windows)| (*room, windows.pop(), windows.is_empty()));
        let (room, window) = if let Some((room, Some(window), is_last)) = fit {
            if is_last {
                by_room.remove(&room);
            }
            (room, window)
        } else {
            n_windows += 1;
            (context_length, n_windows - 1)
        };
        window_of.push(window);
        if room > size {
            by_room.entry(room - size).or_default().push(window);
        }
    }
    drop(by_room);
    let mut first_of = vec![u64::MAX; n_windows as usize];
    for (piece, window) in pieces.iter().zip(&window_of) {
        if let Some(first) = first_of.get_mut(*window as usize) {
            *first = piece.start.min(*first);
        }
    }
    let mut placed: Vec<(u64, Span)> =
        pieces.into_iter().zip(window_of).map(|(piece, window)| (first_of.get(window as usize).copied().unwrap_or(0), piece)).collect();
    placed.sort_unstable_by_key(|(first, piece)| (*first, piece.start));
    let mut packed = Packed { spans: Vec::with_capacity(placed.len()), ends: Vec::with_capacity(n_windows as usize) };
    for of_window in placed.chunk_by(|a, b| a.0 == b.0) {
        packed.spans.extend(of_window.iter().map(|(_, piece)| *piece));
        packed.ends.push(packed.spans.len() as u64);
    }
    packed
}

/// As many whole documents as have `context_length` + 1 tokens. One that has more is cut where the window is full, and the next begins with the token
/// the last one ended with.
fn whole(ends: impl Iterator<Item = u64>, context_length: u64) -> Vec<Span> {
    let most = context_length + 1;
    let mut windows = Vec::new();
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
        let found: Vec<(u64, u64)> = whole(ends.iter().copied(), context_length).into_iter().map(|span| (span.start, span.end)).collect();
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
    }

    fn packed(lengths: &[u64], context_length: u64) -> Vec<Vec<(u64, u64)>> {
        let ends = lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        let packed = best_fit(pieces(ends, context_length).collect(), context_length);
        (0..packed.len()).map(|window| packed.window(window).iter().map(|span| (span.start, span.end)).collect()).collect()
    }

    #[test]
    fn the_best_fit_is_taken() {
        // Inputs 5, 3, 2, 4, 1 into windows of 6: 5 + 1, 4 + 2, 3.
        assert_eq!(packed(&[6, 4, 3, 5, 2], 6), [vec![(0, 6), (18, 20)], vec![(6, 10)], vec![(10, 13), (13, 18)]]);
        // A long one is cut, and its rest shares a window.
        assert_eq!(packed(&[10, 3], 4), [vec![(0, 5)], vec![(4, 9)], vec![(8, 10), (10, 13)]]);
        assert_eq!(packed(&[1, 1, 2], 4), [vec![(2, 4)]]);
        assert_eq!(packed(&[], 4), Vec::<Vec<(u64, u64)>>::new());
    }

    proptest! {
        #[test]
        fn the_best_fit_has_each_target_once_and_no_window_is_too_full(lengths in proptest::collection::vec(1_u64..20, 0..40), context_length in 1_u64..12) {
            let windows = packed(&lengths, context_length);
            let mut targets = Vec::new();
            for window in &windows {
                prop_assert!(window.iter().map(|(start, end)| end - start - 1).sum::<u64>() <= context_length);
                prop_assert!(window.is_sorted());
                targets.extend(window.iter().flat_map(|(start, end)| start + 1..*end));
            }
            prop_assert!(windows.is_sorted());
            targets.sort_unstable();
            let ends: Vec<u64> = lengths.iter().scan(0, |end, length| { *end += length; Some(*end) }).collect();
            let firsts: Vec<u64> = std::iter::once(0).chain(ends.iter().copied()).collect();
            let all: Vec<u64> = (0..ends.last().copied().unwrap_or(0)).filter(|position| !firsts.contains(position)).collect();
            prop_assert_eq!(targets, all);
            // No two windows could be one: that is what best fit is for.
            let sizes: Vec<u64> = windows.iter().map(|window| window.iter().map(|(start, end)| end - start - 1).sum()).collect();
            let mut two_least = sizes.clone();
            two_least.sort_unstable();
            if let [a, b, ..] = two_least[..] {
                prop_assert!(a + b > context_length, "{sizes:?}");
            }
        }

        #[test]
        fn each_token_within_a_document_is_a_target_once(lengths in proptest::collection::vec(1_u64..20, 0..12), context_length in 1_u64..12) {
            let ends: Vec<u64> = lengths.iter().scan(0, |end, length| { *end += length; Some(*end) }).collect();
            let mut targets = Vec::new();
            for span in whole(ends.iter().copied(), context_length) {
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
            let windows = whole(ends.iter().copied(), context_length);
            for (end, length) in ends.iter().zip(&lengths) {
                prop_assert!(windows.iter().any(|span| span.start <= end - length && *end <= span.end));
            }
        }
    }
}
