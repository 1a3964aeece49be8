//! A bidirectional network that turns a text into vectors: BERT (J. Devlin et al., 2018), whose small ones give sentence embeddings
//! (W. Wang et al., "MiniLM", 2020; N. Reimers and I. Gurevych, "Sentence-BERT", 2019).
//!
//! It is used and not trained here. What works on each position is codex-ops' as in the decoder; attention over all positions is made of burn's
//! operations. On the processor the bits are the same at any thread count.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};
use codex_core::TensorMap;
use codex_ops::head::head_scores;
use codex_ops::{HeadWeight, Precision, feed_forward};

use crate::config::NormKind;
use crate::dropout::Masks;
use crate::error::ModelError;
use crate::linear::Linear;
use crate::norm::Norm;
use crate::parameters;

mod config;
mod pooling;

pub use config::EncoderConfig;
pub use pooling::{Pooling, cosine};

/// The score of a position that is not seen: so low that its weight is zero.
const HIDDEN: f32 = -1.0e30;
/// The most attention scores of one block at once: 4 GiB of them.
const MAX_SCORES: usize = 1 << 30;

/// A bidirectional transformer with normalisation behind each layer.
#[derive(Module, Debug)]
pub struct Encoder {
    /// `[vocab_size, d_model]`
    pub embedding: Param<Tensor<2>>,
    /// `[max_positions, d_model]`
    pub positions: Param<Tensor<2>>,
    /// `[n_token_types, d_model]`
    pub token_types: Param<Tensor<2>>,
    /// Of the sum of the three.
    pub embedding_norm: Norm,
    /// The blocks in order.
    pub blocks: Vec<EncoderBlock>,
    /// What says which token stood at a position, if it is there.
    pub head: Option<MaskedLmHead>,
    #[module(skip)]
    config: EncoderConfig,
}

/// Attention and feed-forward, each added to its input and normalised.
#[derive(Module, Debug)]
pub struct EncoderBlock {
    /// Mixes positions.
    pub attention: EncoderAttention,
    /// Of what attention was added to.
    pub attention_norm: Norm,
    /// Works on each position.
    pub feed_forward: EncoderFeedForward,
    /// Of what the feed-forward layer was added to.
    pub feed_forward_norm: Norm,
}

/// Self-attention over all positions of a text.
#[derive(Module, Debug)]
pub struct EncoderAttention {
    /// `[d_model, 3 x d_model]`: queries, keys, values.
    pub qkv: Linear,
    /// `[d_model, d_model]`
    pub output: Linear,
}

/// Widens, bends and narrows each position by itself.
#[derive(Module, Debug)]
pub struct EncoderFeedForward {
    /// `[d_model, inner]`
    pub up: Linear,
    /// `[inner, d_model]`
    pub down: Linear,
}

/// A layer, a normalisation, and the transposed token table with a bias for each token.
#[derive(Module, Debug)]
pub struct MaskedLmHead {
    /// `[d_model, d_model]`
    pub dense: Linear,
    /// Behind the non-linearity.
    pub norm: Norm,
    /// `[vocab_size]`
    pub bias: Param<Tensor<1>>,
}

/// Texts of token ids on the host, all of one length; the shorter ones are filled up.
#[derive(Clone, Copy, Debug)]
pub struct TextBatch<'a> {
    /// How many texts.
    pub n_rows: usize,
    /// `[n_rows x time]` token ids.
    pub ids: &'a [u32],
    /// `[n_rows x time]` which text of a pair a token belongs to; all to the first when absent.
    pub token_types: Option<&'a [u32]>,
    /// `[n_rows x time]` whether a position is part of the text and not filling; all are when absent.
    pub mask: Option<&'a [bool]>,
}

/// The path and shape of every parameter of an encoder, without building it.
pub fn shapes(config: &EncoderConfig) -> BTreeMap<String, Vec<usize>> {
    let (d, inner) = (config.d_model, config.d_feed_forward);
    let mut all = BTreeMap::new();
    let mut linear = |path: String, inputs: usize, outputs: usize| {
        all.insert(format!("{path}.weight"), vec![inputs, outputs]);
        all.insert(format!("{path}.bias"), vec![outputs]);
    };
    for i in 0..config.n_layers {
        linear(format!("blocks.{i}.attention.qkv"), d, 3 * d);
        linear(format!("blocks.{i}.attention.output"), d, d);
        linear(format!("blocks.{i}.feed_forward.up"), d, inner);
        linear(format!("blocks.{i}.feed_forward.down"), inner, d);
    }
    if config.masked_lm_head {
        linear("head.dense".to_owned(), d, d);
    }
    let of_blocks = (0..config.n_layers).flat_map(|i| ["attention_norm", "feed_forward_norm"].map(|norm| format!("blocks.{i}.{norm}")));
    let of_head = config.masked_lm_head.then(|| "head.norm".to_owned());
    let norms: Vec<String> = of_blocks.chain(["embedding_norm".to_owned()]).chain(of_head).collect();
    for path in norms {
        all.insert(format!("{path}.weight"), vec![d]);
        all.insert(format!("{path}.bias"), vec![d]);
    }
    if config.masked_lm_head {
        all.insert("head.bias".to_owned(), vec![config.vocab_size]);
    }
    let tables = [("embedding", config.vocab_size), ("positions", config.max_positions), ("token_types", config.n_token_types)];
    all.extend(tables.map(|(path, rows)| (path.to_owned(), vec![rows, d])));
    all
}

impl Encoder {
    /// The network of these weights. Configuration, names and shapes are checked before anything is built.
    ///
    /// # Errors
    /// A configuration with a problem; a tensor that is missing, left over or of a wrong shape.
    pub fn load(config: &EncoderConfig, tensors: &TensorMap, device: &Device) -> Result<Self, ModelError> {
        config.validate()?;
        parameters::check(&shapes(config), tensors)?;
        let d = config.d_model;
        let linear = |inputs, outputs| Linear::zeros(inputs, outputs, true, device);
        let norm = || Norm::zeros(NormKind::Layer, d, config.norm_epsilon, device);
        let table = |rows| Param::from_tensor(Tensor::zeros([rows, d], device));
        let block = |_| EncoderBlock {
            attention: EncoderAttention { qkv: linear(d, 3 * d), output: linear(d, d) },
            attention_norm: norm(),
            feed_forward: EncoderFeedForward { up: linear(d, config.d_feed_forward), down: linear(config.d_feed_forward, d) },
            feed_forward_norm: norm(),
        };
        let head =
            || MaskedLmHead { dense: linear(d, d), norm: norm(), bias: Param::from_tensor(Tensor::zeros([config.vocab_size], device)) };
        let zeros = Self {
            embedding: table(config.vocab_size),
            positions: table(config.max_positions),
            token_types: table(config.n_token_types),
            embedding_norm: norm(),
            blocks: (0..config.n_layers).map(block).collect(),
            head: config.masked_lm_head.then(head),
            config: config.clone(),
        };
        Ok(parameters::filled(zeros, tensors))
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// The vector of each position behind the last block. Those of filling mean nothing.
    ///
    /// # Shapes
    /// -> `[n_rows x time, d_model]`
    ///
    /// # Errors
    /// A batch whose parts do not fit together or not the network.
    pub fn forward(&self, batch: &TextBatch<'_>) -> Result<Tensor<2>, ModelError> {
        let time = self.check(batch)?;
        let hidden = batch.mask.map(|mask| hidden(mask, batch.n_rows, time, &self.embedding.val().device()));
        let mut x = self.embed_tokens(batch, time);
        for block in &self.blocks {
            x = self.block(block, x, batch.n_rows, time, hidden.as_ref())?;
        }
        Ok(x)
    }

    /// The scores of every token for each position.
    ///
    /// # Shapes
    /// -> `[n_rows x time, vocab_size]`
    ///
    /// # Errors
    /// As [`Self::forward`]; a network without a head.
    pub fn masked_lm_scores(&self, batch: &TextBatch<'_>) -> Result<Tensor<2>, ModelError> {
        let none = || ModelError::BadInput { reason: "this encoder has no masked-LM head, so it gives no scores of tokens".to_owned() };
        let head = self.head.as_ref().ok_or_else(none)?;
        let dense = head.dense.forward(Precision::F32, self.forward(batch)?, None, &Masks::NONE)?;
        let x = head.norm.forward(Precision::F32, codex_ops::activate(self.config.activation.into(), dense));
        let scores = head_scores(Precision::F32, x, HeadWeight::Tied(self.embedding.val()));
        Ok(scores + head.bias.val().unsqueeze::<2>())
    }

    /// One vector for each text; of length one where it is normalised.
    ///
    /// # Shapes
    /// -> `[n_rows, d_model]`
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn embed(&self, batch: &TextBatch<'_>, pooling: Pooling, normalize: bool) -> Result<Tensor<2>, ModelError> {
        let x = self.forward(batch)?;
        let pooled = pooling.pool(x, batch.n_rows, batch.mask);
        Ok(if normalize { pooling::unit_length(pooled) } else { pooled })
    }

    /// The sum of three tables' rows, normalised.
    fn embed_tokens(&self, batch: &TextBatch<'_>, time: usize) -> Tensor<2> {
        let (n_rows, d) = (batch.n_rows, self.config.d_model);
        let rows_of = |table: &Param<Tensor<2>>, ids: &[u32]| {
            let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
            let n = ids.len();
            let indices: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [n]), &table.val().device());
            table.val().select(0, indices)
        };
        let of_first = vec![0; batch.ids.len()];
        let tokens = rows_of(&self.embedding, batch.ids) + rows_of(&self.token_types, batch.token_types.unwrap_or(&of_first));
        let positions = self.positions.val().slice([0..time, 0..d]).reshape([1, time, d]);
        let x = (tokens.reshape([n_rows, time, d]) + positions).reshape([n_rows * time, d]);
        self.embedding_norm.forward(Precision::F32, x)
    }

    /// # Shapes
    /// `x` `[n_rows x time, d_model]`, `hidden` `[n_rows, 1, 1, time]` -> `[n_rows x time, d_model]`
    fn block(
        &self,
        block: &EncoderBlock,
        x: Tensor<2>,
        n_rows: usize,
        time: usize,
        hidden: Option<&Tensor<4, Bool>>,
    ) -> Result<Tensor<2>, ModelError> {
        let EncoderAttention { qkv, output } = &block.attention;
        let mixed = self.attend(&qkv.forward(Precision::F32, x.clone(), None, &Masks::NONE)?, n_rows, time, hidden);
        let x = block.attention_norm.forward(Precision::F32, output.forward(Precision::F32, mixed, Some(x.into()), &Masks::NONE)?);
        let EncoderFeedForward { up, down } = &block.feed_forward;
        let activation = self.config.activation.into();
        let y = feed_forward(Precision::F32, activation, x.clone(), up.affine(), down.affine(), x.into());
        Ok(block.feed_forward_norm.forward(Precision::F32, y))
    }

    /// `softmax(q k^T / sqrt(head_dim)) v` of each head, over the positions that are not hidden.
    fn attend(&self, qkv: &Tensor<2>, n_rows: usize, time: usize, hidden: Option<&Tensor<4, Bool>>) -> Tensor<2> {
        let (d, n_heads, head_dim) = (self.config.d_model, self.config.n_heads, self.config.head_dim());
        let heads = |from: usize| {
            let part = qkv.clone().slice([0..n_rows * time, from..from + d]);
            part.reshape([n_rows, time, n_heads, head_dim]).swap_dims(1, 2)
        };
        let (queries, keys, values) = (heads(0), heads(d), heads(2 * d));
        let scores = queries.mul_scalar(1.0 / (head_dim as f32).sqrt()).matmul(keys.swap_dims(2, 3));
        let scores = match hidden {
            Some(hidden) => scores.mask_fill(hidden.clone().expand([n_rows, n_heads, time, time]), HIDDEN),
            None => scores,
        };
        let mixed = activation::softmax(scores, 3).matmul(values);
        mixed.swap_dims(1, 2).reshape([n_rows * time, d])
    }

    /// The length of the texts of a batch that fits the network.
    fn check(&self, batch: &TextBatch<'_>) -> Result<usize, ModelError> {
        let config = &self.config;
        let wrong = |reason: String| ModelError::BadInput { reason };
        let n = batch.ids.len();
        if n == 0 || batch.n_rows == 0 || !n.is_multiple_of(batch.n_rows) {
            return Err(wrong(format!("{n} token ids do not make {} texts of one length", batch.n_rows)));
        }
        let time = n / batch.n_rows;
        if time > config.max_positions {
            return Err(ModelError::TooLong { found: time, context_length: config.max_positions });
        }
        let scores = [config.n_heads, time, time].iter().try_fold(batch.n_rows, |product, &n| product.checked_mul(n));
        if scores.is_none_or(|scores| scores > MAX_SCORES) {
            let reason = format!("{} texts of {time} tokens are too much at once; give fewer or shorter ones", batch.n_rows);
            return Err(wrong(reason));
        }
        if let Some(position) = batch.ids.iter().position(|&id| id as usize >= config.vocab_size) {
            return Err(ModelError::TokenOutOfRange { id: batch.ids[position], position, vocab_size: config.vocab_size });
        }
        if let Some(types) = batch.token_types {
            if types.len() != n {
                return Err(wrong(format!("{} token types do not fit {n} token ids", types.len())));
            }
            if let Some(kind) = types.iter().find(|&&kind| kind as usize >= config.n_token_types) {
                return Err(wrong(format!("token type {kind} is outside the {} that the model has", config.n_token_types)));
            }
        }
        if let Some(mask) = batch.mask {
            if mask.len() != n {
                return Err(wrong(format!("a mask of {} does not fit {n} token ids", mask.len())));
            }
            if let Some(row) = mask.chunks_exact(time).position(|row| !row.contains(&true)) {
                return Err(wrong(format!("text {row} is nothing but filling")));
            }
        }
        Ok(time)
    }
}

/// Which positions no query may see: the filling.
///
/// # Shapes
/// `mask` `[n_rows x time]` -> `[n_rows, 1, 1, time]`
fn hidden(mask: &[bool], n_rows: usize, time: usize, device: &Device) -> Tensor<4, Bool> {
    let hidden: Vec<bool> = mask.iter().map(|is_text| !is_text).collect();
    Tensor::from_data(TensorData::new(hidden, [n_rows, 1, 1, time]), device)
}
