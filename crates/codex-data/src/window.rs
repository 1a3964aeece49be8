//! From tokens to host batches: fixed windows in a computed order, found by position alone.
//!
//! A batch is a pure function of the loader and a position, which is all that a checkpoint keeps: that is what makes a resumed run see the
//! batches that an uninterrupted one would have seen.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::document::Origin;
use crate::error::DataError;
use crate::order::Permutation;
use crate::packing::{Span, packed};
use crate::tokens::TokenSplit;

/// Cuts a split into windows of `context_length` inputs and serves them by position.
///
/// Window w has the tokens from w × `context_length` on as inputs, and the tokens one position later as targets, so that in one epoch each
/// token but the first is a target once. The last window is filled up with the pad id at weight 0.
///
/// Where some tokens are not trained, windows are made of whole documents instead, as many as fit and apart from each other; a document that is
/// longer than a window is cut. Each trained token but a document's first is then a target once, and a window without any is left out.
#[derive(Clone, Debug)]
pub struct WindowLoader {
    split: TokenSplit,
    context_length: usize,
    seed: u64,
    shuffle: bool,
    isolate: bool,
    /// The windows, where they are made of whole documents.
    packed: Option<Arc<[Span]>>,
}

/// Rows of tokens on the host; all lists but `documents` are `[n_rows, context_length]`, row by row.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HostBatch {
    /// Rows.
    pub n_rows: usize,
    /// Inputs of a row.
    pub context_length: usize,
    /// What the model sees.
    pub inputs: Vec<u32>,
    /// What it is to predict at each input.
    pub targets: Vec<u32>,
    /// 1 where the target counts; 0 at padding, where the target is not trained and, when documents are isolated, where it is the next document's
    /// first token.
    pub weights: Vec<f32>,
    /// When documents are isolated, the number of each input's document within its row, from 0; all 0 otherwise.
    pub segments: Vec<u32>,
    /// The documents that each row touches.
    pub documents: Vec<DocumentRange>,
}

/// Documents `first..end` of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentRange {
    /// The source of a mixture whose split it is; 0 where there is none.
    #[serde(default)]
    pub source: usize,
    /// The first document.
    pub first: u64,
    /// The document after the last.
    pub end: u64,
}

/// How far training has gone through the windows; this is all that resuming needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Windows served since training began.
    pub position: u64,
}

impl Cursor {
    /// Full epochs behind it.
    pub fn epoch(&self, windows_per_epoch: u64) -> u64 {
        self.position.checked_div(windows_per_epoch).unwrap_or(0)
    }

    /// Full steps behind it, at so many windows a step.
    pub fn step(&self, windows_per_step: u64) -> u64 {
        self.position.checked_div(windows_per_step).unwrap_or(0)
    }

    /// Moves on by so many windows.
    pub fn advance(&mut self, windows: u64) {
        self.position = self.position.saturating_add(windows);
    }
}

impl HostBatch {
    /// The targets that count.
    pub fn n_targets(&self) -> u64 {
        self.weights.iter().filter(|weight| **weight > 0.0).count() as u64
    }
}

impl WindowLoader {
    /// A loader over a split; `shuffle` gives each epoch its own order under `seed`, `isolate` fills in segments and boundary weights, which are
    /// there in any case where some tokens are not trained.
    pub fn new(split: &TokenSplit, context_length: usize, seed: u64, shuffle: bool, isolate: bool) -> Self {
        let packed: Option<Arc<[Span]>> = split.is_masked().then(|| packed(split, context_length).into());
        Self { split: split.clone(), context_length, seed, shuffle, isolate: isolate || packed.is_some(), packed }
    }

    /// Whether documents are kept apart, so that attention must stay inside a batch's segments.
    pub fn isolates(&self) -> bool {
        self.isolate
    }

    /// Windows of one epoch: the tokens but the first, divided by the context length, rounded up; or as many as the documents take.
    pub fn windows_per_epoch(&self) -> u64 {
        match (&self.packed, self.context_length) {
            (Some(packed), _) => packed.len() as u64,
            (None, 0) => 0,
            (None, length) => self.split.n_tokens().saturating_sub(1).div_ceil(length as u64),
        }
    }

    /// The `batch_size` windows from global position `position` on, counted since training began; they may cross into the next epoch.
    pub fn batch(&self, position: u64, batch_size: usize) -> Result<HostBatch, DataError> {
        let windows = self.windows_per_epoch();
        if windows == 0 {
            let (split, n_tokens) = (self.split.split(), self.split.n_tokens());
            return Err(DataError::NoWindows { split, n_tokens, context_length: self.context_length });
        }
        let mut batch = HostBatch { n_rows: batch_size, context_length: self.context_length, ..HostBatch::default() };
        let mut order: Option<(u64, Permutation)> = None;
        for row in 0..batch_size as u64 {
            let at = position.saturating_add(row);
            let (epoch, within) = (at / windows, at % windows);
            let window = if self.shuffle {
                if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                    order = Some((epoch, Permutation::new(windows, self.seed, epoch)));
                }
                order.as_ref().map_or(within, |(_, permutation)| permutation.at(within))
            } else {
                within
            };
            self.push_row(window, &mut batch);
        }
        Ok(batch)
    }

    /// Where the documents of a range came from.
    pub fn origins(&self, documents: DocumentRange) -> Vec<Origin> {
        (documents.first..documents.end).filter_map(|idx| self.split.document(idx)).map(|record| record.origin).collect()
    }

    fn push_row(&self, window: u64, batch: &mut HostBatch) {
        let length = self.context_length;
        let span = self.packed.as_ref().and_then(|packed| packed.get(window as usize));
        let (start, n_tokens) = span.map_or((window * length as u64, length + 1), |span| (span.start, (span.end - span.start) as usize));
        let row_end = batch.inputs.len() + length;
        let tokens = self.split.tokens(start, n_tokens);
        let n_targets = tokens.len().saturating_sub(1);
        batch.inputs.extend(&tokens[..n_targets]);
        batch.targets.extend(&tokens[tokens.len() - n_targets..]);
        batch.weights.resize(batch.weights.len() + n_targets, 1.0);
        let first = self.split.document_at(start);
        let mut document = first;
        if self.isolate {
            let row_start = row_end - length;
            let mut document_end = self.split.end_of(document);
            for i in 0..n_targets {
                let position = start + i as u64;
                if position == document_end {
                    document += 1;
                    document_end = self.split.end_of(document);
                }
                if position + 1 == document_end {
                    batch.weights[row_start + i] = 0.0;
                }
                batch.segments.push((document - first) as u32);
            }
        }
        if let Some(trained) = self.split.trained(start + 1, n_targets) {
            let row_start = row_end - length;
            for (weight, trained) in batch.weights[row_start..].iter_mut().zip(trained) {
                *weight *= f32::from(*trained);
            }
        }
        batch.segments.resize(row_end, (document - first) as u32);
        batch.inputs.resize(row_end, self.split.pad());
        batch.targets.resize(row_end, self.split.pad());
        batch.weights.resize(row_end, 0.0);
        let last = self.split.document_at(start + n_targets as u64);
        batch.documents.push(DocumentRange { source: 0, first, end: last + 1 });
    }
}
