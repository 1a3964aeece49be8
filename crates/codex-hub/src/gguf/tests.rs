//! Files that are written and read again, files that are damaged, and tokenizers.

mod damaged;
mod round_trips;
mod tokenizers;

use std::path::Path;

use codex_core::{HostTensor, Stream, TensorMap};
use codex_model::{Activation, Bias, ModelConfig, NormKind, PositionKind, parameters};

use super::{ExportedGguf, GgufRequest, GgufType, export_gguf};
use crate::error::HubError;

/// A small network of each family: llama, mistral, qwen2, qwen3, gpt2.
fn families() -> [ModelConfig; 5] {
    let llama = ModelConfig {
        d_model: 32,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        n_layers: 2,
        d_feed_forward: 64,
        context_length: 24,
        norm_epsilon: 1e-6,
        rotary_theta: 500_000.0,
        ..ModelConfig::default()
    };
    let gpt2 = ModelConfig {
        norm: NormKind::Layer,
        positions: PositionKind::Learned,
        activation: Activation::GeluTanh,
        bias: Bias::All,
        n_kv_heads: 4,
        rotary_theta: 10_000.0,
        ..llama.clone()
    };
    [
        llama.clone(),
        ModelConfig { window: 8, ..llama.clone() },
        ModelConfig { bias: Bias::Qkv, tie_embeddings: false, ..llama.clone() },
        ModelConfig { qk_norm: true, head_dim: 12, ..llama },
        gpt2,
    ]
}

/// Weights drawn for a network, most of them below 1.
fn weights(config: &ModelConfig, vocab_size: usize, seed: u64) -> TensorMap {
    let draw = |path: &String, shape: Vec<usize>| {
        let mut stream = Stream::new(seed, path, 0);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| (stream.uniform() * 2.0 - 1.0) as f32).collect();
        HostTensor::new(shape, values).unwrap()
    };
    parameters::shapes(config, vocab_size).into_iter().map(|(path, shape)| (path.clone(), draw(&path, shape))).collect()
}

fn request<'a>(config: &'a ModelConfig, weights: &'a TensorMap, vocab_size: usize, kind: GgufType) -> GgufRequest<'a> {
    GgufRequest {
        name: "small",
        config,
        weights,
        vocab_size,
        kind,
        tokenizer_json: None,
        chat_template: None,
        bos: Some(1),
        eos: Some(2),
        pad: None,
        provenance: &[],
    }
}

fn export(request: &GgufRequest<'_>, target: &Path) -> Result<ExportedGguf, HubError> {
    export_gguf(request, target, |_, _| Ok(()))
}
