//! From tokens to host batches: fixed windows in a computed order, found by position alone.
//!
//! A batch is a pure function of the loader and a position, which is all that a checkpoint keeps: that is what makes a resumed run see the
//! batches that an uninterrupted one would have seen.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::document::Origin;
use crate::error::DataError;
use crate::order::Permutation;
use crate::packing::{self, Packed, Packing, PackingReport, Span};
use crate::tokens::TokenSplit;

/// Cuts a split into windows of `context_length` inputs and serves them by position.
///
/// Window w has the tokens from w × `context_length` on as inputs, and the tokens one position later as targets, so that in one epoch each
/// token but the first is a target once. The last window is filled up with the pad id at weight 0.
///
/// Where some tokens are not trained, or another [`Packing`] is asked for, windows are made of documents instead, apart from each other; a document that
/// is longer than a window is cut. Each trained token but a document's first is then a target once, and a window without any is left out.
#[derive(Clone, Debug)]
pub struct WindowLoader {
    split: TokenSplit,
    context_length: usize,
    seed: u64,
    shuffle: bool,
    isolate: bool,
    /// The windows, where they are made of documents.
    packed: Option<Arc<Packed>>,
}

/// What decides the windows of a split beside their length: nothing of it changes a token cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cutting {
    /// Whether each epoch has an order of its own.
    pub shuffle: bool,
    /// Whether attention stays inside a document; it does in any case where windows are made of documents.
    pub isolate_documents: bool,
    /// How documents become windows.
    pub packing: Packing,
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
    /// The documents that the rows touch, row by row; a row that is packed of several pieces has an entry for each.
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
    /// there in any case where windows are made of documents.
    pub fn new(split: &TokenSplit, context_length: usize, seed: u64, shuffle: bool, isolate: bool) -> Result<Self, DataError> {
        Self::packed(split, context_length, seed, Cutting { shuffle, isolate_documents: isolate, packing: Packing::Auto })
    }

    /// The same with a choice of how documents become windows.
    pub fn packed(split: &TokenSplit, context_length: usize, seed: u64, cutting: Cutting) -> Result<Self, DataError> {
        let Cutting { shuffle, isolate_documents, packing } = cutting;
        let packed = Packed::new(split, context_length, packing)?.map(Arc::new);
        let isolate = isolate_documents || packed.is_some() || split.is_masked();
        Ok(Self { split: split.clone(), context_length, seed, shuffle, isolate, packed })
    }

    /// What its windows are worth: padding and cut documents. Reads the records of all documents.
    pub fn report(&self) -> Result<PackingReport, DataError> {
        packing::report(&self.split, self.context_length, self.packed.as_deref())
    }

    /// Whether documents are kept apart, so that attention must stay inside a batch's segments.
    pub fn isolates(&self) -> bool {
        self.isolate
    }

    /// Windows of one epoch: the tokens but the first, divided by the context length, rounded up; or as many as the documents take.
    pub fn windows_per_epoch(&self) -> u64 {
        self.packed.as_ref().map_or_else(|| packing::stream_windows(&self.split, self.context_length), |packed| packed.len())
    }

    /// The `batch_size` windows from global position `position` on, counted since training began; they may cross into the next epoch.
    pub fn batch(&self, position: u64, batch_size: usize) -> Result<HostBatch, DataError> {
        let mut batch = HostBatch::default();
        self.refill(&mut batch, position, batch_size)?;
        Ok(batch)
    }

    /// Puts what [`batch`](Self::batch) returns into a batch that is there, whose memory is used again.
    pub fn refill(&self, batch: &mut HostBatch, position: u64, batch_size: usize) -> Result<(), DataError> {
        let windows = self.windows_per_epoch();
        if windows == 0 {
            let (split, n_tokens) = (self.split.split(), self.split.n_tokens());
            return Err(DataError::NoWindows { split, n_tokens, context_length: self.context_length });
        }
        let n = batch_size.saturating_mul(self.context_length);
        (batch.n_rows, batch.context_length) = (batch_size, self.context_length);
        for list in [&mut batch.inputs, &mut batch.targets, &mut batch.segments] {
            list.clear();
            list.reserve(n);
        }
        batch.weights.clear();
        batch.weights.reserve(n);
        batch.documents.clear();
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
            self.push_row(window, batch)?;
        }
        Ok(())
    }

    /// Where the documents of a range came from.
    pub fn origins(&self, documents: DocumentRange) -> Result<Vec<Origin>, DataError> {
        let records = (documents.first..documents.end).filter_map(|idx| self.split.document(idx).transpose());
        records.map(|record| Ok(record?.origin)).collect()
    }

    fn push_row(&self, window: u64, batch: &mut HostBatch) -> Result<(), DataError> {
        let length = self.context_length;
        let row_end = batch.inputs.len() + length;
        let start = window * length as u64;
        let all = [Span { start, end: start + length as u64 + 1 }];
        let spans = self.packed.as_ref().map_or(all.as_slice(), |packed| packed.window(window));
        let mut segment = 0;
        for span in spans {
            segment = self.push_span(*span, segment, batch)? + 1;
        }
        batch.segments.resize(row_end, segment.saturating_sub(1));
        batch.inputs.resize(row_end, self.split.pad());
        batch.targets.resize(row_end, self.split.pad());
        batch.weights.resize(row_end, 0.0);
        Ok(())
    }

    /// Appends the inputs of a span, the first of whose documents is so many in its row, and returns what number the last has.
    fn push_span(&self, Span { start, end }: Span, segment: u32, batch: &mut HostBatch) -> Result<u32, DataError> {
        let n_targets = end.min(self.split.n_tokens()).saturating_sub(start).saturating_sub(1) as usize;
        let begins = batch.inputs.len();
        self.split.extend_with(&mut batch.inputs, start, n_targets)?;
        self.split.extend_with(&mut batch.targets, start + 1, n_targets)?;
        batch.weights.resize(begins + n_targets, 1.0);
        let first = self.split.document_at(start)?;
        let mut document = first;
        if self.isolate {
            let mut document_end = self.split.end_of(document)?;
            for i in 0..n_targets {
                let position = start + i as u64;
                if position == document_end {
                    document += 1;
                    document_end = self.split.end_of(document)?;
                }
                if position + 1 == document_end {
                    batch.weights[begins + i] = 0.0;
                }
                batch.segments.push(segment + (document - first) as u32);
            }
        }
        if let Some(trained) = self.split.trained(start + 1, n_targets)? {
            for (weight, trained) in batch.weights[begins..].iter_mut().zip(trained) {
                *weight *= f32::from(trained);
            }
        }
        let last = self.split.document_at(start + n_targets as u64)?;
        batch.documents.push(DocumentRange { source: 0, first, end: last + 1 });
        Ok(segment + (document - first) as u32)
    }
}
