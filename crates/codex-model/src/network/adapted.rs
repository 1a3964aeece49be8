//! Other forms of the same network: with adapters, with their products in its weights, with weights of 8 bits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn::tensor::Device;
use codex_ops::QuantizedWeight;

use super::Decoder;
use crate::adapter::{AdapterConfig, AdapterPlan, LowRank};
use crate::config::Activation;
use crate::error::ModelError;
use crate::linear::Linear;
use crate::parameters;

/// What is trained of a network with adapters.
#[derive(Clone, Debug)]
pub(super) struct Adapted {
    adapters: Vec<AdapterPlan>,
    /// Paths of the network's own parameters that are trained too.
    others: BTreeSet<String>,
}

impl Decoder {
    /// The same network with the weights of its linear layers and its head in 8 bits, a scale for each 32 of them: to be used, not trained. The
    /// embedding stays f32.
    pub fn quantize(self) -> Result<Self, ModelError> {
        let wrong = |reason: String| ModelError::BadInput { reason };
        let (width, vocab_size) = (self.config.d_model, self.vocab_size);
        let table = match &self.head {
            Some(head) => head.weight.val(),
            None => self.embedding.val().transpose(),
        };
        let head = QuantizedWeight::new(&parameters::to_host("head", table)?.values, width, vocab_size).map_err(wrong)?;
        let quantized = self.map_layers(Linear::quantize)?;
        Ok(Self { head: None, quantized_head: Some(head), ..quantized })
    }

    /// The same network with adapters, which are trained in place of its weights. Each first matrix is drawn from the stream of (seed, its path),
    /// uniformly between plus and minus one over the square root of its inputs; each second one is zero, so the network computes what it did.
    ///
    /// # Errors
    /// A layer that the configuration names and the network has not; adapters twice.
    pub fn with_adapters(mut self, config: &AdapterConfig, seed: u64, device: &Device) -> Result<Self, ModelError> {
        if !config.is_on() {
            return Ok(self);
        }
        if self.adapted.is_some() {
            return Err(ModelError::BadInput { reason: "the network has adapters already".to_owned() });
        }
        let adapters = config.adapters(&self.config)?;
        let others: BTreeSet<String> =
            parameters::shapes(&self.config, self.vocab_size).into_keys().filter(|path| config.also_trains(path)).collect();
        for plan in &adapters {
            let adapter = LowRank::zeros(plan, config.dropout, device);
            self.linear_mut(&plan.site.layer)
                .ok_or_else(|| ModelError::BadInput { reason: format!("no layer `{}`", plan.site.layer) })?
                .adapters
                .push(adapter);
        }
        for block in &mut self.blocks {
            for layer in [&mut block.attention.qkv, &mut block.attention.output, &mut block.feed_forward.up, &mut block.feed_forward.down] {
                layer.measure()?;
            }
        }
        self.adapted = Some(Adapted { adapters, others });
        Ok(parameters::initialize_adapters(self, seed))
    }

    /// The same network for use alone, which is not trained any more: what its adapters ask for at every step is computed once.
    pub fn settle(self) -> Result<Self, ModelError> {
        self.map_layers(Linear::settle)
    }

    /// The same network with other linear layers in its blocks.
    fn map_layers(mut self, change: impl Fn(Linear) -> Result<Linear, ModelError>) -> Result<Self, ModelError> {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for mut block in std::mem::take(&mut self.blocks) {
            block.attention.qkv = change(block.attention.qkv)?;
            block.attention.output = change(block.attention.output)?;
            block.feed_forward.up = change(block.feed_forward.up)?;
            block.feed_forward.down = change(block.feed_forward.down)?;
            blocks.push(block);
        }
        Ok(Self { blocks, ..self })
    }

    /// The columns of the matrices that a weight holds side by side: query, key and value of an attention, gate and up of SwiGLU.
    pub fn matrices_of(&self, path: &str, columns: usize) -> Vec<Range<usize>> {
        let config = &self.config;
        let head_dim = config.head_dim();
        let (queries, keys) = (config.n_heads * head_dim, config.n_kv_heads * head_dim);
        if path.ends_with("attention.qkv.weight") && columns == queries + 2 * keys {
            return vec![0..queries, queries..queries + keys, queries + keys..columns];
        }
        if path.ends_with("feed_forward.up.weight") && config.activation == Activation::Swiglu {
            return vec![0..columns / 2, columns / 2..columns];
        }
        vec![Range { start: 0, end: columns }]
    }

    /// The layer of a path such as `blocks.0.attention.qkv`.
    fn linear_mut(&mut self, path: &str) -> Option<&mut Linear> {
        let (index, layer) = path.strip_prefix("blocks.")?.split_once('.')?;
        let block = self.blocks.get_mut(index.parse::<usize>().ok()?)?;
        match layer {
            "attention.qkv" => Some(&mut block.attention.qkv),
            "attention.output" => Some(&mut block.attention.output),
            "feed_forward.up" => Some(&mut block.feed_forward.up),
            "feed_forward.down" => Some(&mut block.feed_forward.down),
            _ => None,
        }
    }

    /// The same network without adapters, with what they add in the weights themselves.
    pub fn merge(self) -> Result<Self, ModelError> {
        let merged = self.map_layers(Linear::merge)?;
        Ok(Self { adapted: None, ..merged })
    }

    /// Its adapters, in the order of their layers.
    pub fn adapters(&self) -> &[AdapterPlan] {
        self.adapted.as_ref().map_or(&[], |adapted| &adapted.adapters)
    }

    /// The paths and shapes of the parameters that are trained: all of them, or the adapters' and what is trained with those.
    pub fn trained_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = parameters::shapes(&self.config, self.vocab_size);
        if let Some(adapted) = &self.adapted {
            shapes.retain(|path, _| adapted.others.contains(path));
            shapes.extend(adapted.adapters.iter().flat_map(AdapterPlan::shapes));
        }
        shapes
    }
}
