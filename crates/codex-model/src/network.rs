//! The network itself: embedding, blocks, final normalisation and output head.

use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::attention::{Attention, KeysValues, hidden_positions};
use crate::config::{ModelConfig, PositionKind};
use crate::error::ModelError;
use crate::feed_forward::FeedForward;
use crate::linear::Linear;
use crate::norm::Norm;
use crate::parameters;
use crate::rotary::Rotary;

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
}

impl Decoder {
    /// A network whose parameters are drawn from streams of `seed` by their paths: the same on every device, at any thread count.
    pub fn init(config: &ModelConfig, vocab_size: usize, seed: u64, device: &Device) -> Result<Self, ModelError> {
        Ok(parameters::initialize(Self::zeros(config, vocab_size, device)?, seed))
    }

    /// A network of zeros, to be filled by [`parameters::load`].
    pub fn zeros(config: &ModelConfig, vocab_size: usize, device: &Device) -> Result<Self, ModelError> {
        config.validate()?;
        if vocab_size == 0 || vocab_size > 1 << 24 {
            return Err(ModelError::Config {
                key: "vocab_size".to_owned(),
                message: format!("expected 1 to {}, found {vocab_size}", 1 << 24),
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
        };
        Ok(parameters::name_by_path(model))
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
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
        let time = self.check(windows.inputs, windows.n_rows, 0)?;
        if windows.segments.is_some_and(|segments| segments.len() != windows.inputs.len()) {
            return Err(ModelError::BadInput { reason: "as many segments as inputs are needed".to_owned() });
        }
        let device = self.embedding.val().device();
        let hidden = hidden_positions(time, 0, windows.segments, &device);
        let (logits, _) = self.run(windows.inputs, windows.n_rows, 0, windows.segments, &hidden, None);
        Ok(logits)
    }

    /// Scores after each of `ids`, which follow the positions in `cache`; the cache grows by them.
    ///
    /// # Shapes
    /// `[time]` ids -> `[time, vocab_size]`
    pub fn forward_cached(&self, ids: &[u32], cache: &mut KvCache) -> Result<Tensor<2>, ModelError> {
        let time = self.check(ids, 1, cache.len)?;
        let device = self.embedding.val().device();
        let hidden = hidden_positions(time, cache.len, None, &device);
        let (logits, layers) = self.run(ids, 1, cache.len, None, &hidden, Some(std::mem::take(&mut cache.layers)));
        cache.layers = layers;
        cache.len += time;
        Ok(logits)
    }

    fn run(
        &self,
        ids: &[u32],
        n_rows: usize,
        past: usize,
        segments: Option<&[u32]>,
        hidden: &Tensor<4, Bool>,
        cached: Option<Vec<KeysValues>>,
    ) -> (Tensor<2>, Vec<KeysValues>) {
        let device = self.embedding.val().device();
        let time = ids.len() / n_rows;
        let mut x = lookup(&self.embedding, ids, &device);
        if let Some(table) = &self.positions {
            x = x + lookup(table, &position_ids(time, n_rows, past, segments), &device);
        }
        let rotary = (self.config.positions == PositionKind::Rotary)
            .then(|| Rotary::new(past, time, self.config.head_dim(), self.config.rotary_theta, &device));
        let mut cached = cached.unwrap_or_default().into_iter();
        let mut layers = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let normed = block.attention_norm.forward(x.clone());
            let (mixed, layer) = block.attention.forward(normed, n_rows, rotary.as_ref(), hidden, cached.next());
            layers.push(layer);
            x = x + mixed;
            x = x.clone() + block.feed_forward.forward(block.feed_forward_norm.forward(x));
        }
        let x = self.final_norm.forward(x);
        let logits = match &self.head {
            Some(head) => head.forward(x),
            None => x.matmul(self.embedding.val().transpose()),
        };
        (logits, layers)
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
        match ids.iter().position(|&id| id as usize >= self.vocab_size) {
            Some(position) => Err(ModelError::TokenOutOfRange { id: ids[position], position, vocab_size: self.vocab_size }),
            None => Ok(time),
        }
    }
}

/// What attention has seen of one sequence.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    layers: Vec<KeysValues>,
    len: usize,
}

impl KvCache {
    /// How many positions it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn lookup(table: &Param<Tensor<2>>, ids: &[u32], device: &Device) -> Tensor<2> {
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let n = ids.len();
    let indices: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [n]), device);
    table.val().select(0, indices)
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
