//! `config.json` of a Hugging Face model folder, read into a network's shape and written from one.
//!
//! Both spellings are read: that of transformers 4 (`torch_dtype`, `rope_theta`, `rope_scaling`) and that of 5 (`dtype`, `rope_parameters`). An option
//! that the network has not is refused by name, whatever it would change.

use std::path::Path;

use codex_model::{Activation, Bias, ModelConfig, NormKind, PositionKind};
use serde_json::{Map, Value, json};

use crate::element::ElementType;
use crate::error::HubError;
use crate::family::Family;
use crate::fields::{Fields, read_object};
use crate::rope;

/// A model's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct HfConfig {
    /// The family it belongs to.
    pub family: Family,
    /// The network's shape.
    pub model: ModelConfig,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The tokens that end one.
    pub eos: Vec<u32>,
    /// The token that fills a batch.
    pub pad: Option<u32>,
}

impl HfConfig {
    /// Reads a `config.json`.
    pub fn read(path: &Path) -> Result<Self, HubError> {
        Self::parse(&read_object(path, "model configuration")?, path)
    }

    /// What the object of a `config.json` says; `path` is for the messages.
    pub fn parse(map: &Map<String, Value>, path: &Path) -> Result<Self, HubError> {
        let fields = Fields::new(path, map);
        let model_type = fields.text("model_type")?.ok_or_else(|| HubError::malformed(path, "model_type", "a text", "nothing"))?;
        let family = Family::of_model_type(model_type).ok_or_else(|| {
            let reason = match model_type {
                "bert" => "this is an encoder, which continues no text: `codex-cli model embed` makes vectors with it".to_owned(),
                other => format!("models of the family `{}` are not known", short(other)),
            };
            fields.unsupported("model_type", reason)
        })?;
        if fields.get("quantization_config").is_some() {
            return Err(fields.unsupported("quantization_config", "quantised weights of other programs are not read"));
        }
        let model = if family == Family::Gpt2 { gpt2(fields)? } else { llama(fields, family)? };
        model.validate().map_err(|source| HubError::Model { path: path.to_owned(), source })?;
        Ok(Self {
            family,
            model,
            vocab_size: fields.needed_count("vocab_size")?,
            bos: fields.token_id("bos_token_id")?,
            eos: fields.token_ids("eos_token_id")?,
            pad: fields.token_id("pad_token_id")?,
        })
    }

    /// The object of the `config.json` for weights of this type.
    pub fn to_json(&self, element: ElementType) -> Value {
        let model = &self.model;
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| drop(map.insert(key.to_owned(), value));
        put("architectures", json!([self.family.architecture()]));
        put("model_type", json!(self.family.model_type()));
        put("vocab_size", json!(self.vocab_size));
        put("dtype", json!(element.torch_name()));
        put("torch_dtype", json!(element.torch_name()));
        put("initializer_range", json!(model.init_std));
        put("tie_word_embeddings", json!(model.tie_embeddings));
        put("use_cache", json!(true));
        for (key, id) in [("bos_token_id", json!(self.bos)), ("eos_token_id", one_or_all(&self.eos)), ("pad_token_id", json!(self.pad))] {
            put(key, id);
        }
        if self.family == Family::Gpt2 {
            put("n_embd", json!(model.d_model));
            put("n_layer", json!(model.n_layers));
            put("n_head", json!(model.n_heads));
            put("n_inner", json!(model.feed_forward_width()));
            put("n_positions", json!(model.context_length));
            put("n_ctx", json!(model.context_length));
            put("layer_norm_epsilon", json!(model.norm_epsilon));
            put("activation_function", json!(if model.activation == Activation::Gelu { "gelu" } else { "gelu_new" }));
            for key in ["attn_pdrop", "embd_pdrop", "resid_pdrop"] {
                put(key, json!(0.0));
            }
            return Value::Object(map);
        }
        put("hidden_size", json!(model.d_model));
        put("num_hidden_layers", json!(model.n_layers));
        put("num_attention_heads", json!(model.n_heads));
        put("num_key_value_heads", json!(model.n_kv_heads));
        // Left out where it follows, but for the family whose default does not follow.
        if model.head_dim > 0 || self.family == Family::Qwen3 {
            put("head_dim", json!(model.head_dim()));
        }
        put("intermediate_size", json!(model.feed_forward_width()));
        put("max_position_embeddings", json!(rope::max_positions(model)));
        put("rms_norm_eps", json!(model.norm_epsilon));
        put("hidden_act", json!("silu"));
        put("attention_dropout", json!(0.0));
        match self.family {
            Family::Mistral => put("sliding_window", json!(model.window)),
            Family::Qwen2 | Family::Qwen3 => {
                put("use_sliding_window", json!(false));
                put("sliding_window", Value::Null);
                put("layer_types", json!(vec!["full_attention"; model.n_layers]));
            }
            Family::Gpt2 | Family::Llama => put("mlp_bias", json!(false)),
        }
        if matches!(self.family, Family::Llama | Family::Qwen3) {
            put("attention_bias", json!(false));
        }
        rope::write(model, &mut map);
        Value::Object(map)
    }
}

/// Token ids as these files write them: a number, or a list of several.
pub(crate) fn one_or_all(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [id] => json!(id),
        several => json!(several),
    }
}

/// A text as a message shows it.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

fn gpt2(fields: Fields<'_>) -> Result<ModelConfig, HubError> {
    fields.only("scale_attn_weights", &[json!(true)], "scores are always divided by the root of the head's width")?;
    fields.only("scale_attn_by_inverse_layer_idx", &[json!(false)], "scores are not divided by the layer's number")?;
    fields.only("add_cross_attention", &[json!(false)], "there is no encoder to attend to")?;
    let key = "activation_function";
    let activation = match fields.text(key)?.unwrap_or("gelu_new") {
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        "gelu" => Activation::Gelu,
        other => return Err(fields.unsupported(key, format!("`{}` is neither `gelu_new` nor `gelu`", short(other)))),
    };
    let d_model = fields.needed_count("n_embd")?;
    let n_heads = fields.needed_count("n_head")?;
    Ok(ModelConfig {
        d_model,
        n_layers: fields.needed_count("n_layer")?,
        n_heads,
        n_kv_heads: n_heads,
        d_feed_forward: fields.count("n_inner")?.unwrap_or(4 * d_model),
        context_length: fields.count("n_positions")?.map_or_else(|| fields.needed_count("n_ctx"), Ok)?,
        norm: NormKind::Layer,
        norm_epsilon: fields.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        positions: PositionKind::Learned,
        activation,
        bias: Bias::All,
        tie_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        init_std: positive(fields.number("initializer_range")?),
        ..ModelConfig::default()
    })
}

fn llama(fields: Fields<'_>, family: Family) -> Result<ModelConfig, HubError> {
    fields.only("attention_bias", &[json!(false)], "no biases on all four of its attention's products")?;
    fields.only("mlp_bias", &[json!(false)], "the feed-forward layer has no biases")?;
    fields.only("hidden_act", &[json!("silu"), json!("swish")], "the gate is SiLU")?;
    fields.only("pretraining_tp", &[json!(1)], "products are not cut into parts")?;
    fields.only("no_rope_layers", &[json!([])], "all layers turn queries and keys")?;
    let n_heads = fields.needed_count("num_attention_heads")?;
    let n_layers = fields.needed_count("num_hidden_layers")?;
    let max_positions = fields.needed_count("max_position_embeddings")?;
    let rope = rope::read(fields, max_positions)?;
    Ok(ModelConfig {
        d_model: fields.needed_count("hidden_size")?,
        n_layers,
        n_heads,
        n_kv_heads: fields.count("num_key_value_heads")?.unwrap_or(n_heads),
        // Qwen3's own default, where its files leave the key out.
        head_dim: fields.count("head_dim")?.unwrap_or(if family == Family::Qwen3 { 128 } else { 0 }),
        d_feed_forward: fields.needed_count("intermediate_size")?,
        context_length: rope.context_length,
        window: window(fields, family, n_layers)?,
        norm: NormKind::Rms,
        norm_epsilon: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        positions: PositionKind::Rotary,
        rotary_theta: rope.theta,
        rotary_scaling: rope.scaling,
        qk_norm: family == Family::Qwen3,
        activation: Activation::Swiglu,
        bias: if family == Family::Qwen2 { Bias::Qkv } else { Bias::None },
        tie_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        init_std: positive(fields.number("initializer_range")?),
    })
}

/// What weights are drawn with means nothing for weights that are there, so a zero is no reason to refuse them.
fn positive(std: Option<f64>) -> f64 {
    std.filter(|std| std.is_finite() && *std > 0.0).unwrap_or(ModelConfig::default().init_std)
}

/// The sliding window, which all layers have or none.
fn window(fields: Fields<'_>, family: Family, n_layers: usize) -> Result<usize, HubError> {
    let width = fields.count("sliding_window")?.unwrap_or(0);
    let is_on = match family {
        Family::Mistral => true,
        Family::Qwen2 | Family::Qwen3 => fields.flag("use_sliding_window")?.unwrap_or(false),
        Family::Gpt2 | Family::Llama => false,
    };
    if !is_on || width == 0 {
        return Ok(0);
    }
    let mixed = || fields.unsupported("layer_types", "some layers have a sliding window and some have not; here all have it or none");
    if let Some(types) = fields.texts("layer_types")? {
        let sliding = types.iter().filter(|name| **name == "sliding_attention").count();
        return match sliding {
            0 => Ok(0),
            n if n == types.len() => Ok(width),
            _ => Err(mixed()),
        };
    }
    // Without the list, Qwen's layers from this one on have the window.
    if family != Family::Mistral {
        return match fields.count("max_window_layers")?.unwrap_or(28) {
            0 => Ok(width),
            first if first >= n_layers => Ok(0),
            _ => Err(mixed()),
        };
    }
    Ok(width)
}
