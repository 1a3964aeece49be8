//! Rotary positions as a `config.json` writes them: `rope_theta` with `rope_scaling` (transformers 4) or `rope_parameters` (5).

use codex_model::{ModelConfig, RotaryScaling, RotaryScalingKind};
use serde_json::{Map, Value, json};

use crate::error::HubError;
use crate::fields::Fields;

/// The base that transformers takes when a file names none.
const DEFAULT_THETA: f64 = 10_000.0;

/// What a file says of rotary positions.
pub(crate) struct Rope {
    pub(crate) theta: f64,
    pub(crate) scaling: RotaryScaling,
    /// Positions that can be read, where that is more than `max_position_embeddings`.
    pub(crate) context_length: usize,
}

/// Reads them; `max_positions` is `max_position_embeddings`.
pub(crate) fn read(fields: Fields<'_>, max_positions: usize) -> Result<Rope, HubError> {
    let new = fields.object("rope_parameters", "rope_parameters.")?;
    let old = fields.object("rope_scaling", "rope_scaling.")?;
    let theta = match &new {
        Some(new) => new.number("rope_theta")?,
        None => None,
    };
    let theta = theta.or(fields.number("rope_theta")?).unwrap_or(DEFAULT_THETA);
    for place in [Some(fields), new].into_iter().flatten() {
        place.only("partial_rotary_factor", &[json!(1), json!(1.0)], "only whole heads are turned")?;
    }
    let none = || Rope { theta, scaling: RotaryScaling::default(), context_length: max_positions };
    let Some(place) = new.or(old) else { return Ok(none()) };
    let (key, name) = match (place.text("rope_type")?, place.text("type")?) {
        (Some(name), _) => ("rope_type", name),
        (None, Some(name)) => ("type", name),
        (None, None) => ("rope_type", "default"),
    };
    let kind = match name {
        "default" => return Ok(none()),
        "linear" => RotaryScalingKind::Linear,
        "dynamic" => RotaryScalingKind::Dynamic,
        "yarn" => RotaryScalingKind::Yarn,
        "llama3" => RotaryScalingKind::Llama3,
        other => {
            return Err(place.unsupported(key, format!("`{other}` is none of default, linear, dynamic, yarn and llama3")));
        }
    };
    for key in ["mscale", "mscale_all_dim"] {
        place.only(key, &[json!(1), json!(1.0)], "the network knows `attention_factor` only")?;
    }
    let original = place.count("original_max_position_embeddings")?.or(fields.count("original_max_position_embeddings")?);
    let original = original.unwrap_or(max_positions);
    let factor = match place.number("factor")? {
        Some(factor) => factor,
        None if kind == RotaryScalingKind::Yarn && original > 0 => max_positions as f64 / original as f64,
        None => return Err(HubError::malformed(fields.path(), "rope_scaling.factor", "a number", "nothing")),
    };
    let default = RotaryScaling::default();
    let scaling = RotaryScaling {
        kind,
        factor,
        original_context_length: original,
        low_freq_factor: place.number("low_freq_factor")?.unwrap_or(default.low_freq_factor),
        high_freq_factor: place.number("high_freq_factor")?.unwrap_or(default.high_freq_factor),
        beta_fast: place.number("beta_fast")?.unwrap_or(default.beta_fast),
        beta_slow: place.number("beta_slow")?.unwrap_or(default.beta_slow),
        attention_factor: place.number("attention_factor")?.unwrap_or(default.attention_factor),
        truncate: place.flag("truncate")?.unwrap_or(default.truncate),
    };
    // With these two a file may count the positions of the training, not those that they are stretched to.
    let is_stretched = kind == RotaryScalingKind::Dynamic || kind == RotaryScalingKind::Yarn && original == max_positions;
    let stretched = if is_stretched { (original as f64 * factor).min(1e9) as usize } else { 0 };
    Ok(Rope { theta, scaling, context_length: max_positions.max(stretched) })
}

/// Writes them in both spellings.
pub(crate) fn write(config: &ModelConfig, into: &mut Map<String, Value>) {
    let scaling = &config.rotary_scaling;
    let mut all = Map::new();
    let original = if scaling.original_context_length == 0 { config.context_length } else { scaling.original_context_length };
    let mut put = |key: &str, value: Value| drop(all.insert(key.to_owned(), value));
    let name = match scaling.kind {
        RotaryScalingKind::None => "default",
        RotaryScalingKind::Linear => "linear",
        RotaryScalingKind::Dynamic => "dynamic",
        RotaryScalingKind::Yarn => "yarn",
        RotaryScalingKind::Llama3 => "llama3",
    };
    put("rope_type", json!(name));
    if scaling.kind != RotaryScalingKind::None {
        put("factor", json!(scaling.factor));
        put("original_max_position_embeddings", json!(original));
    }
    if scaling.kind == RotaryScalingKind::Llama3 {
        put("low_freq_factor", json!(scaling.low_freq_factor));
        put("high_freq_factor", json!(scaling.high_freq_factor));
    }
    if scaling.kind == RotaryScalingKind::Yarn {
        put("beta_fast", json!(scaling.beta_fast));
        put("beta_slow", json!(scaling.beta_slow));
        if scaling.attention_factor > 0.0 {
            put("attention_factor", json!(scaling.attention_factor));
        }
        if !scaling.truncate {
            put("truncate", json!(false));
        }
    }
    into.insert("rope_theta".to_owned(), json!(config.rotary_theta));
    if scaling.kind != RotaryScalingKind::None {
        into.insert("rope_scaling".to_owned(), Value::Object(all.clone()));
    }
    all.insert("rope_theta".to_owned(), json!(config.rotary_theta));
    into.insert("rope_parameters".to_owned(), Value::Object(all));
}

/// What `max_position_embeddings` is of a network: where the base begins to grow, or its context.
pub(crate) fn max_positions(config: &ModelConfig) -> usize {
    match config.rotary_scaling {
        RotaryScaling { kind: RotaryScalingKind::Dynamic, original_context_length: original @ 1.., .. } => original,
        _ => config.context_length,
    }
}
