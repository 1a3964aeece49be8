//! `config.json` of an encoder.

use std::path::Path;

use codex_model::{Activation, EncoderConfig};
use serde_json::{Map, Value, json};

use crate::config::short;
use crate::error::HubError;
use crate::fields::Fields;

/// The one family of encoders that is known.
pub(super) const MODEL_TYPE: &str = "bert";

/// What the object of a `config.json` says, but for the head, which is known from the weights.
pub(super) fn parse(map: &Map<String, Value>, path: &Path) -> Result<EncoderConfig, HubError> {
    let fields = Fields::new(path, map);
    let model_type = fields.text("model_type")?.ok_or_else(|| HubError::malformed(path, "model_type", "a text", "nothing"))?;
    if model_type != MODEL_TYPE {
        let reason = format!("`{}` is no encoder that is known; `{MODEL_TYPE}` is", short(model_type));
        return Err(fields.unsupported("model_type", reason));
    }
    if fields.get("quantization_config").is_some() {
        return Err(fields.unsupported("quantization_config", "quantised weights of other programs are not read"));
    }
    let absolute = [json!("absolute")];
    fields.only("position_embedding_type", &absolute, "a position is a vector added to the token's, and no distance between two")?;
    fields.only("is_decoder", &[json!(false)], "attention sees all positions, those after it too")?;
    fields.only("add_cross_attention", &[json!(false)], "there is no other network to attend to")?;
    fields.only("pruned_heads", &[json!({}), json!([])], "all blocks have all heads")?;
    let key = "hidden_act";
    let activation = match fields.text(key)?.unwrap_or("gelu") {
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        other => return Err(fields.unsupported(key, format!("`{}` is neither `gelu` nor `gelu_new`", short(other)))),
    };
    let config = EncoderConfig {
        vocab_size: fields.needed_count("vocab_size")?,
        d_model: fields.needed_count("hidden_size")?,
        n_layers: fields.needed_count("num_hidden_layers")?,
        n_heads: fields.needed_count("num_attention_heads")?,
        d_feed_forward: fields.needed_count("intermediate_size")?,
        max_positions: fields.needed_count("max_position_embeddings")?,
        n_token_types: fields.count("type_vocab_size")?.unwrap_or(2),
        norm_epsilon: fields.number("layer_norm_eps")?.unwrap_or(1e-12),
        activation,
        masked_lm_head: false,
    };
    config.validate().map_err(|source| HubError::Model { path: path.to_owned(), source })?;
    Ok(config)
}

/// Whether the head's table is the embedding, as the configuration has it.
pub(super) fn check_head(map: &Map<String, Value>, path: &Path) -> Result<(), HubError> {
    let why = "the masked-LM head multiplies by the table of tokens";
    Fields::new(path, map).only("tie_word_embeddings", &[json!(true)], why)
}
