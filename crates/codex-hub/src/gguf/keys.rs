//! The shape of a network as keys of a GGUF file, and back.

use codex_model::{Activation, Bias, ModelConfig, NormKind, PositionKind};

use super::names::architecture;
use super::rope;
use super::value::{GgufValue, Keys, widened};
use crate::error::HubError;
use crate::family::Family;

/// The key of the architecture, by which all readers begin.
pub(crate) const ARCHITECTURE: &str = "general.architecture";
/// The name of the format in messages.
pub(crate) const FORMAT: &str = "GGUF";

/// A network's family, and its shape as a GGUF file holds it: widths that follow from others written out, numbers with the digits they have in 32 bits,
/// and what its family does not use as by default.
///
/// # Errors
/// The network is of no family, or llama.cpp has no way to compute what it computes.
pub fn held(config: &ModelConfig) -> Result<(Family, ModelConfig), HubError> {
    let refused = |reason: String| HubError::NotRepresentable { format: FORMAT, reason };
    let family = Family::of(config).map_err(refused)?;
    if family == Family::Gpt2 && config.activation == Activation::Gelu {
        let reason = "llama.cpp computes GELU by its tanh approximation in the architecture `gpt2`, and this network by the error function";
        return Err(refused(reason.to_owned()));
    }
    let is_rotary = config.positions == PositionKind::Rotary;
    if let Some(reason) = rope::refusal(config, family).filter(|_| is_rotary) {
        return Err(refused(reason.to_owned()));
    }
    let default = ModelConfig::default();
    let f = |value: f64| widened(value as f32);
    let held = ModelConfig {
        head_dim: config.head_dim(),
        d_feed_forward: config.feed_forward_width(),
        norm_epsilon: f(config.norm_epsilon),
        rotary_theta: if is_rotary { f(config.rotary_theta) } else { default.rotary_theta },
        rotary_scaling: if is_rotary { rope::held(config) } else { default.rotary_scaling },
        init_std: default.init_std,
        ..config.clone()
    };
    held.validate().map_err(|error| refused(format!("in 32 bits it is no network: {error}")))?;
    Ok((family, held))
}

/// The keys of a network, which is as [`held`] gives it.
pub(crate) fn write(family: Family, config: &ModelConfig, vocab_size: usize) -> Vec<(String, GgufValue)> {
    let arch = architecture(family);
    let mut all = Vec::new();
    let mut put = |key: &str, value: GgufValue| all.push((format!("{arch}.{key}"), value));
    let count = |value: usize| GgufValue::U32(value as u32);
    put("context_length", count(config.context_length));
    put("embedding_length", count(config.d_model));
    put("block_count", count(config.n_layers));
    put("feed_forward_length", count(config.feed_forward_width()));
    put("attention.head_count", count(config.n_heads));
    put("vocab_size", count(vocab_size));
    if family == Family::Gpt2 {
        put("attention.layer_norm_epsilon", GgufValue::F32(config.norm_epsilon as f32));
        return all;
    }
    put("attention.head_count_kv", count(config.n_kv_heads));
    put("attention.key_length", count(config.head_dim()));
    put("attention.value_length", count(config.head_dim()));
    put("attention.layer_norm_rms_epsilon", GgufValue::F32(config.norm_epsilon as f32));
    if config.window > 0 {
        put("attention.sliding_window", count(config.window));
    }
    put("rope.dimension_count", count(config.head_dim()));
    put("rope.freq_base", GgufValue::F32(config.rotary_theta as f32));
    all.extend(rope::write(&config.rotary_scaling, arch));
    all
}

/// What the tensors of a file say of its network.
pub(crate) struct FromTensors {
    /// Whether there is an output layer beside the embedding.
    pub(crate) has_head: bool,
    /// Whether there are factors of rotary speeds.
    pub(crate) has_factors: bool,
}

/// Reads them.
pub(crate) fn read(keys: Keys<'_>, tensors: &FromTensors) -> Result<(Family, ModelConfig), HubError> {
    let arch = keys.text(ARCHITECTURE)?.ok_or_else(|| HubError::malformed(keys.path, ARCHITECTURE, "a text", "nothing"))?;
    let count = |key: &str| keys.count(&format!("{arch}.{key}"));
    let needed = |key: &str| keys.needed_count(&format!("{arch}.{key}"));
    let number = |key: &str| keys.needed_number(&format!("{arch}.{key}"));
    let family = match arch {
        "gpt2" => Family::Gpt2,
        "llama" if count("attention.sliding_window")?.unwrap_or(0) > 0 => Family::Mistral,
        "llama" => Family::Llama,
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        other => {
            let reason = format!("models of the architecture `{}` are not read", other.chars().take(40).collect::<String>());
            return Err(HubError::unsupported(keys.path, ARCHITECTURE, reason));
        }
    };
    let n_heads = needed("attention.head_count")?;
    let common = ModelConfig {
        d_model: needed("embedding_length")?,
        n_layers: needed("block_count")?,
        n_heads,
        n_kv_heads: count("attention.head_count_kv")?.unwrap_or(n_heads),
        d_feed_forward: needed("feed_forward_length")?,
        context_length: needed("context_length")?,
        tie_embeddings: !tensors.has_head,
        ..ModelConfig::default()
    };
    let head_dim = count("attention.key_length")?.unwrap_or(common.d_model / n_heads.max(1));
    let config = if family == Family::Gpt2 {
        ModelConfig {
            head_dim,
            norm: NormKind::Layer,
            norm_epsilon: number("attention.layer_norm_epsilon")?,
            positions: PositionKind::Learned,
            activation: Activation::GeluTanh,
            bias: Bias::All,
            ..common
        }
    } else {
        for key in ["attention.value_length", "rope.dimension_count"] {
            if let Some(other) = count(key)?.filter(|&other| other != head_dim) {
                let reason = format!("{other} is not the width of the heads, {head_dim}");
                return Err(HubError::unsupported(keys.path, &format!("{arch}.{key}"), reason));
            }
        }
        ModelConfig {
            head_dim,
            window: count("attention.sliding_window")?.unwrap_or(0),
            norm_epsilon: number("attention.layer_norm_rms_epsilon")?,
            rotary_theta: keys.number(&format!("{arch}.rope.freq_base"))?.unwrap_or(common.rotary_theta),
            rotary_scaling: rope::read(keys, arch, tensors.has_factors)?,
            qk_norm: family == Family::Qwen3,
            bias: if family == Family::Qwen2 { Bias::Qkv } else { Bias::None },
            ..common
        }
    };
    config.validate().map_err(|source| HubError::Model { path: keys.path.to_owned(), source })?;
    Ok((family, config))
}
