//! The network itself: embedding, blocks, final normalisation and output head.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use codex_kernels::attention::{AttentionShape, RotaryTable};
use codex_ops::embedding::Positions;
use codex_ops::head::{head_scores, token_scores};
use codex_ops::{AttentionPlan, CachedPlan, HeadWeight, Mask, Precision, QuantizedWeight, Residual, Span, dropout, embedding, head_loss};

use crate::attention::Attention;
use crate::cache::KvCache;
use crate::config::{MAX_VOCABULARY, ModelConfig, PositionKind};
use crate::dropout::{DropoutDraws, Masks};
use crate::error::ModelError;
use crate::feed_forward::FeedForward;
use crate::linear::Linear;
use crate::loss::{LossSum, Targets};
use crate::norm::Norm;
use crate::parameters;
use crate::rotary::speeds;

mod adapted;
mod recomputed;

use adapted::Adapted;
pub use recomputed::GradientsOf;

/// A decoder-only transformer with normalisation before each layer.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocab_size, d_model]`
    pub embedding: Param<Tensor<2>>,
    /// `[context_length, d_model]`, for learned positions.
    pub positions: Option<Param<Tensor<2>>>,
    /// The blocks in order.
    pub blocks: Vec<Block>,
    /// Before the head.
    pub final_norm: Norm,
    /// `[d_model, vocab_size]`, when the head is not the transposed embedding.
    pub head: Option<Linear>,
    #[module(skip)]
    config: ModelConfig,
    #[module(skip)]
    vocab_size: usize,
    #[module(skip)]
    precision: Precision,
    /// The head's weight in 8 bits, where weights are held so.
    #[module(skip)]
    quantized_head: Option<QuantizedWeight>,
    /// Its adapters, and what is trained with them; `None` where everything is.
    #[module(skip)]
    adapted: Option<Adapted>,
}

/// Attention and feed-forward, each added to the residual stream.
#[derive(Module, Debug)]
pub struct Block {
    /// Before the attention.
    pub attention_norm: Norm,
    /// Mixes positions.
    pub attention: Attention,
    /// Before the feed-forward layer.
    pub feed_forward_norm: Norm,
    /// Works on each position.
    pub feed_forward: FeedForward,
}

/// Windows of token ids on the host, all of one length.
#[derive(Clone, Copy, Debug)]
pub struct WindowBatch<'a> {
    /// How many windows.
    pub n_rows: usize,
    /// `[n_rows x time]` token ids.
    pub inputs: &'a [u32],
    /// `[n_rows x time]` document indices, when attention must stay inside a document.
    pub segments: Option<&'a [u32]>,
    /// What is dropped of the embedding and of what each layer adds to the residual stream (N. Srivastava et al., 2014); training only.
    pub dropout: Option<DropoutDraws>,
}

impl Decoder {
    /// A network whose parameters are drawn from streams of `seed` by their paths: the same on every device, at any thread count.
    pub fn init(config: &ModelConfig, vocab_size: usize, seed: u64, device: &Device) -> Result<Self, ModelError> {
        Ok(parameters::initialize(Self::zeros(config, vocab_size, device)?, seed))
    }

    /// A network of zeros, to be filled by [`parameters::load`].
    pub fn zeros(config: &ModelConfig, vocab_size: usize, device: &Device) -> Result<Self, ModelError> {
        config.validate()?;
        if vocab_size == 0 || vocab_size > MAX_VOCABULARY {
            return Err(ModelError::Config {
                key: "model.vocab_size".to_owned(),
                message: format!("expected 1 to {MAX_VOCABULARY}, found {vocab_size}"),
            });
        }
        let norm = || Norm::zeros(config.norm, config.d_model, config.norm_epsilon, device);
        let table = |rows| Param::from_tensor(Tensor::zeros([rows, config.d_model], device));
        let block = |_| Block {
            attention_norm: norm(),
            attention: Attention::zeros(config, device),
            feed_forward_norm: norm(),
            feed_forward: FeedForward::zeros(config, device),
        };
        let model = Self {
            embedding: table(vocab_size),
            positions: (config.positions == PositionKind::Learned).then(|| table(config.context_length)),
            blocks: (0..config.n_layers).map(block).collect(),
            final_norm: norm(),
            head: (!config.tie_embeddings).then(|| Linear::zeros(config.d_model, vocab_size, false, device)),
            config: config.clone(),
            vocab_size,
            precision: Precision::F32,
            quantized_head: None,
            adapted: None,
        };
        Ok(parameters::name_by_path(model))
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The same network, whose products are computed in `precision`; its parameters, the residual stream and sums stay f32.
    #[must_use]
    pub fn with_precision(self, precision: crate::config::Precision) -> Self {
        Self { precision: precision.into(), ..self }
    }

    /// How many tokens it knows.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Scores of every next token after each position.
    ///
    /// # Shapes
    /// `[n_rows x time]` ids -> `[n_rows x time, vocab_size]`
    pub fn forward(&self, windows: &WindowBatch<'_>) -> Result<Tensor<2>, ModelError> {
        Ok(head_scores(self.precision, self.hidden_states(windows)?, self.head_weight()))
    }

    /// The loss of the windows against `targets` at the positions whose weight is not zero.
    pub fn loss(&self, windows: &WindowBatch<'_>, targets: Targets<'_>) -> Result<LossSum, ModelError> {
        self.check_targets(windows, targets)?;
        Ok(self.head_loss(self.hidden_states(windows)?, targets))
    }

    /// The loss of what the head reads.
    fn head_loss(&self, x: Tensor<2>, targets: Targets<'_>) -> LossSum {
        let sum = head_loss(self.precision, x, self.head_weight(), targets.ids, targets.weights, targets.settings);
        LossSum { sum, count: targets.weights.iter().map(|&weight| f64::from(weight)).sum() }
    }

    fn check_targets(&self, windows: &WindowBatch<'_>, targets: Targets<'_>) -> Result<(), ModelError> {
        let n = windows.inputs.len();
        if targets.ids.len() != n || targets.weights.len() != n {
            let reason = format!("{n} positions, {} targets and {} weights", targets.ids.len(), targets.weights.len());
            return Err(ModelError::BadInput { reason });
        }
        self.check_ids(targets.ids)
    }

    /// For each position the negative log-likelihood of its target in nats, and whether the target is the most likely token.
    ///
    /// # Shapes
    /// `ids` `[n_rows x time]` -> `[n_rows x time]`
    pub fn token_scores(&self, windows: &WindowBatch<'_>, ids: &[u32]) -> Result<Vec<(f32, bool)>, ModelError> {
        if ids.len() != windows.inputs.len() {
            return Err(ModelError::BadInput { reason: format!("{} positions and {} targets", windows.inputs.len(), ids.len()) });
        }
        self.check_ids(ids)?;
        let x = self.hidden_states(windows)?;
        token_scores(self.precision, x, self.head_weight(), ids)
            .map_err(|reason| ModelError::Readback { what: "token scores".to_owned(), reason })
    }

    /// Scores of the next token after the last of `ids`, which follow the positions in `cache`; the cache grows by them.
    ///
    /// Several ids read at once have the bits that [`forward`](Self::forward) gives them, and so has what they leave in a cache of f32; an id read
    /// by itself is the same but for the rounding of its attention. With `dynamic` rotary scaling each id is turned as far as what has been
    /// read so far, itself and those beside it with it, says, and what is in the cache stays as it is: beyond the original context a reading in
    /// pieces is another one than a reading at once.
    ///
    /// # Shapes
    /// `[time]` ids -> `[1, vocab_size]`
    pub fn forward_cached(&self, ids: &[u32], cache: &mut KvCache) -> Result<Tensor<2>, ModelError> {
        self.forward_cached_batch(&[ids], &mut [cache])
    }

    /// The same for several sequences at once, each with ids and a cache of its own: the weights are read once for all of them. Nothing is
    /// changed where one of them is refused.
    ///
    /// # Shapes
    /// `[time]` ids of each -> `[sequences, vocab_size]`
    pub fn forward_cached_batch(&self, ids: &[&[u32]], caches: &mut [&mut KvCache]) -> Result<Tensor<2>, ModelError> {
        if ids.is_empty() || ids.len() != caches.len() {
            return Err(ModelError::BadInput { reason: format!("{} sequences and {} caches", ids.len(), caches.len()) });
        }
        let storage = caches[0].storage;
        if caches.iter().any(|cache| cache.storage != storage) {
            return Err(ModelError::BadInput { reason: "caches of one batch are stored alike".to_owned() });
        }
        let (mut spans, mut position_ids, mut last_rows) = (Vec::new(), Vec::new(), Vec::new());
        for (ids, cache) in ids.iter().zip(caches.iter()) {
            let time = self.check(ids, 1, cache.len)?;
            spans.push(Span { time, past: cache.len, rotary: self.rotary(cache.len, time)? });
            position_ids.extend(cache.len as u32..(cache.len + time) as u32);
            last_rows.push(position_ids.len() - 1);
        }
        let plan = CachedPlan::new(self.attention_shape(1, 1), spans, storage);
        let mut x = self.embed(&ids.concat(), &position_ids);
        let mut cached: Vec<_> = caches.iter_mut().map(|cache| std::mem::take(&mut cache.layers).into_iter()).collect();
        for block in &self.blocks {
            let normed = block.attention_norm.forward(Precision::F32, x.clone());
            let layers = cached.iter_mut().map(Iterator::next).collect();
            let (mixed, grown) = block.attention.forward_cached(normed, x, &plan, layers)?;
            for (cache, layer) in caches.iter_mut().zip(grown) {
                cache.layers.push(layer);
            }
            let normed = block.feed_forward_norm.forward(Precision::F32, mixed.clone());
            x = block.feed_forward.forward(Precision::F32, normed, mixed.into(), &Masks::NONE)?;
        }
        for (cache, ids) in caches.iter_mut().zip(ids) {
            cache.len += ids.len();
        }
        let width = self.config.d_model;
        // Only the last position of each is scored.
        let last = if last_rows.len() == position_ids.len() {
            x
        } else {
            Tensor::cat(last_rows.iter().map(|&row| x.clone().slice([row..row + 1, 0..width])).collect(), 0)
        };
        Ok(head_scores(Precision::F32, self.final_norm.forward(Precision::F32, last), self.head_weight()))
    }

    /// What the head reads: the residual stream after the last block, normalised.
    ///
    /// # Shapes
    /// `[n_rows x time]` ids -> `[n_rows x time, d_model]`
    fn hidden_states(&self, windows: &WindowBatch<'_>) -> Result<Tensor<2>, ModelError> {
        let pass = self.pass(windows)?;
        let mut x = pass.embedded(self)?;
        for index in 0..self.blocks.len() {
            x = pass.block(self, index, x)?;
        }
        Ok(self.final_norm.forward(self.precision, x))
    }

    /// What a pass over these windows is made with.
    fn pass<'w>(&self, windows: &WindowBatch<'w>) -> Result<Pass<'w>, ModelError> {
        let &WindowBatch { n_rows, inputs, segments, .. } = windows;
        let time = self.check(inputs, n_rows, 0)?;
        if segments.is_some_and(|segments| segments.len() != inputs.len()) {
            return Err(ModelError::BadInput { reason: "as many segments as inputs are needed".to_owned() });
        }
        let plan = AttentionPlan::new(self.attention_shape(n_rows, time), self.rotary(0, time)?, segments);
        Ok(Pass { windows: *windows, time, plan, masks: Masks { draws: windows.dropout, time } })
    }

    fn embed(&self, ids: &[u32], position_ids: &[u32]) -> Tensor<2> {
        let positions = self.positions.as_ref().map(|table| Positions { table: table.val(), ids: position_ids });
        embedding(self.embedding.val(), ids, positions)
    }

    fn head_weight(&self) -> HeadWeight {
        if let Some(head) = &self.quantized_head {
            return HeadWeight::Quantized(head.clone());
        }
        match &self.head {
            Some(head) => HeadWeight::Own(head.weight.val()),
            None => HeadWeight::Tied(self.embedding.val()),
        }
    }

    fn attention_shape(&self, batch: usize, time: usize) -> AttentionShape {
        let ModelConfig { n_heads, n_kv_heads, window, .. } = self.config;
        AttentionShape { batch, time, n_heads, n_kv_heads, head_dim: self.config.head_dim(), window }
    }

    /// Whether positions are turned alike when so many have been read, once and another time.
    pub(crate) fn turns_alike(&self, n_read: usize, n_other: usize) -> bool {
        let is_rotary = self.config.positions == PositionKind::Rotary;
        !is_rotary || n_read == n_other || speeds(&self.config, n_read) == speeds(&self.config, n_other)
    }

    /// The angles of `time` positions from `first` on, where positions are rotations.
    fn rotary(&self, first: usize, time: usize) -> Result<Option<Arc<RotaryTable>>, ModelError> {
        if self.config.positions != PositionKind::Rotary {
            return Ok(None);
        }
        let (speeds, factor) = speeds(&self.config, first + time);
        let table = RotaryTable::with_speeds(first, time, &speeds, factor);
        table.map(|table| Some(Arc::new(table))).map_err(|error| ModelError::BadInput { reason: error.to_string() })
    }

    /// The window length, after checking that burn will not be given anything it would panic on.
    fn check(&self, ids: &[u32], n_rows: usize, past: usize) -> Result<usize, ModelError> {
        if n_rows == 0 || ids.is_empty() || !ids.len().is_multiple_of(n_rows) {
            return Err(ModelError::BadInput { reason: format!("{} ids do not make {n_rows} windows of one length", ids.len()) });
        }
        let time = ids.len() / n_rows;
        if past + time > self.config.context_length {
            return Err(ModelError::TooLong { found: past + time, context_length: self.config.context_length });
        }
        self.check_ids(ids)?;
        Ok(time)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), ModelError> {
        match ids.iter().position(|&id| id as usize >= self.vocab_size) {
            Some(position) => Err(ModelError::TokenOutOfRange { id: ids[position], position, vocab_size: self.vocab_size }),
            None => Ok(()),
        }
    }
}

/// One pass over windows.
struct Pass<'w> {
    windows: WindowBatch<'w>,
    time: usize,
    plan: AttentionPlan,
    masks: Masks,
}

impl Pass<'_> {
    /// The residual stream before the first block.
    fn embedded(&self, model: &Decoder) -> Result<Tensor<2>, ModelError> {
        let WindowBatch { n_rows, inputs, segments, .. } = self.windows;
        let x = model.embed(inputs, &position_ids(self.time, n_rows, 0, segments));
        Ok(match self.mask(model, "embedding")? {
            Some(mask) => dropout(x, mask),
            None => x,
        })
    }

    /// The residual stream after a block.
    fn block(&self, model: &Decoder, index: usize, x: Tensor<2>) -> Result<Tensor<2>, ModelError> {
        let (precision, block) = (model.precision, &model.blocks[index]);
        let normed = block.attention_norm.forward(precision, x.clone());
        let residual = Residual { stream: x, mask: self.mask(model, &format!("blocks.{index}.attention"))? };
        let x = block.attention.forward(precision, normed, residual, &self.plan, &self.masks)?;
        let normed = block.feed_forward_norm.forward(precision, x.clone());
        let residual = Residual { stream: x, mask: self.mask(model, &format!("blocks.{index}.feed_forward"))? };
        block.feed_forward.forward(precision, normed, residual, &self.masks)
    }

    fn mask(&self, model: &Decoder, place: &str) -> Result<Option<Mask>, ModelError> {
        self.masks.mask(place, model.config.d_model)
    }
}

/// Positions count from the start of the window, or from the start of each document where documents are kept apart.
fn position_ids(time: usize, n_rows: usize, past: usize, segments: Option<&[u32]>) -> Vec<u32> {
    let mut ids = Vec::with_capacity(time * n_rows);
    for row in 0..n_rows {
        let mut start = 0;
        for i in 0..time {
            if let Some(all) = segments
                && i > 0
                && all[row * time + i] != all[row * time + i - 1]
            {
                start = i;
            }
            ids.push((past + i - start) as u32);
        }
    }
    ids
}
