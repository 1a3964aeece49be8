//! Rotary positions in a GGUF file: linear and yarn by keys, llama3 by a tensor with the factor of each pair.
//!
//! llama.cpp takes a factor of any file for a linear one unless its type says otherwise, so the settings of llama3, which only follow from the tensor
//! there, are under keys of our own.

use codex_model::{ModelConfig, RotaryScaling, RotaryScalingKind};

use super::value::{GgufValue, Keys, widened};
use crate::error::HubError;
use crate::family::Family;

/// The tensor of factors.
pub(crate) const FACTORS: &str = "rope_freqs.weight";
/// What begins the keys of llama3's settings.
const OWN: &str = "codex.rotary_scaling";

/// Why llama.cpp cannot turn queries and keys as this network does.
pub(crate) fn refusal(config: &ModelConfig, family: Family) -> Option<&'static str> {
    match config.rotary_scaling.kind {
        RotaryScalingKind::Dynamic => {
            Some("a dynamic rotary base grows with what is read, and llama.cpp keeps one base for the whole of a context")
        }
        RotaryScalingKind::Llama3 if !matches!(family, Family::Llama | Family::Mistral) => {
            Some("llama.cpp reads the factors of llama3's rotary scaling in the architecture `llama` alone, and this one is qwen2 or qwen3")
        }
        RotaryScalingKind::Yarn if has_other_ramp(&config.rotary_scaling) => {
            Some("llama.cpp leaves the keys of yarn's `beta_fast` and `beta_slow` unread in this architecture, and takes 32 and 1")
        }
        _ => None,
    }
}

/// Whether the ramp of yarn is not between the turns that llama.cpp takes.
fn has_other_ramp(scaling: &RotaryScaling) -> bool {
    let default = RotaryScaling::default();
    let pairs = [(scaling.beta_fast, default.beta_fast), (scaling.beta_slow, default.beta_slow)];
    pairs.iter().any(|(given, taken)| (*given as f32).to_bits() != (*taken as f32).to_bits())
}

/// The scaling as a file holds it: with the values it has in 32 bits, and without those that its kind does not use.
pub(crate) fn held(config: &ModelConfig) -> RotaryScaling {
    let given = &config.rotary_scaling;
    let default = RotaryScaling::default();
    let f = |value: f64| widened(value as f32);
    let original = if given.original_context_length == 0 { config.context_length } else { given.original_context_length };
    match given.kind {
        RotaryScalingKind::None => default,
        RotaryScalingKind::Linear | RotaryScalingKind::Dynamic => {
            RotaryScaling { kind: given.kind, factor: f(given.factor), original_context_length: original, ..default }
        }
        RotaryScalingKind::Yarn => RotaryScaling {
            kind: given.kind,
            factor: f(given.factor),
            original_context_length: original,
            beta_fast: f(given.beta_fast),
            beta_slow: f(given.beta_slow),
            attention_factor: f(given.attention_factor),
            ..default
        },
        RotaryScalingKind::Llama3 => RotaryScaling {
            kind: given.kind,
            factor: f(given.factor),
            original_context_length: original,
            low_freq_factor: f(given.low_freq_factor),
            high_freq_factor: f(given.high_freq_factor),
            ..default
        },
    }
}

/// The keys of a network's scaling, which is as [`held`] gives it.
pub(crate) fn write(scaling: &RotaryScaling, architecture: &str) -> Vec<(String, GgufValue)> {
    let mut all = Vec::new();
    let base = format!("{architecture}.rope.scaling");
    let mut put = |base: &str, key: &str, value: GgufValue| all.push((format!("{base}.{key}"), value));
    let float = |value: f64| GgufValue::F32(value as f32);
    let original = GgufValue::U32(scaling.original_context_length as u32);
    match scaling.kind {
        RotaryScalingKind::None | RotaryScalingKind::Dynamic => {}
        RotaryScalingKind::Linear => {
            put(&base, "type", GgufValue::text("linear"));
            put(&base, "factor", float(scaling.factor));
            put(&base, "original_context_length", original);
        }
        RotaryScalingKind::Yarn => {
            put(&base, "type", GgufValue::text("yarn"));
            put(&base, "factor", float(scaling.factor));
            put(&base, "original_context_length", original);
            put(&base, "yarn_beta_fast", float(scaling.beta_fast));
            put(&base, "yarn_beta_slow", float(scaling.beta_slow));
            if scaling.attention_factor > 0.0 {
                put(&base, "yarn_attn_factor", float(scaling.attention_factor));
                // llama.cpp leaves that key unread, and multiplies a factor of its own with this one.
                let own = 0.1 * scaling.factor.ln() + 1.0;
                put(&base, "attn_factor", float(scaling.attention_factor / own));
            }
        }
        RotaryScalingKind::Llama3 => {
            put(OWN, "factor", float(scaling.factor));
            put(OWN, "low_freq_factor", float(scaling.low_freq_factor));
            put(OWN, "high_freq_factor", float(scaling.high_freq_factor));
            put(OWN, "original_context_length", original);
        }
    }
    all
}

/// Reads them; `has_factors` says whether the tensor of factors is there.
pub(crate) fn read(keys: Keys<'_>, architecture: &str, has_factors: bool) -> Result<RotaryScaling, HubError> {
    let default = RotaryScaling::default();
    if has_factors {
        let key = |name: &str| format!("{OWN}.{name}");
        if !keys.all.contains_key(&key("factor")) {
            let reason = format!("it has a tensor `{FACTORS}` of another program, and the settings behind its factors are not in the file");
            return Err(HubError::unsupported(keys.path, FACTORS, reason));
        }
        return Ok(RotaryScaling {
            kind: RotaryScalingKind::Llama3,
            factor: keys.needed_number(&key("factor"))?,
            low_freq_factor: keys.needed_number(&key("low_freq_factor"))?,
            high_freq_factor: keys.needed_number(&key("high_freq_factor"))?,
            original_context_length: keys.needed_count(&key("original_context_length"))?,
            ..default
        });
    }
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    let factor = keys.number(&key("factor"))?;
    let kind = match (keys.text(&key("type"))?, factor) {
        (Some("none"), _) | (None | Some("linear"), None) => return Ok(default),
        (None | Some("linear"), Some(_)) => RotaryScalingKind::Linear,
        (Some("yarn"), _) => RotaryScalingKind::Yarn,
        (Some(other), _) => {
            let reason = format!("`{}` is none of none, linear and yarn", other.chars().take(40).collect::<String>());
            return Err(HubError::unsupported(keys.path, &key("type"), reason));
        }
    };
    Ok(RotaryScaling {
        kind,
        factor: keys.needed_number(&key("factor"))?,
        original_context_length: keys.count(&key("original_context_length"))?.unwrap_or(0),
        beta_fast: keys.number(&key("yarn_beta_fast"))?.unwrap_or(default.beta_fast),
        beta_slow: keys.number(&key("yarn_beta_slow"))?.unwrap_or(default.beta_slow),
        attention_factor: keys.number(&key("yarn_attn_factor"))?.unwrap_or(default.attention_factor),
        ..default
    })
}

/// What llama.cpp divides the speed of each pair by, for llama3; `config` is as the file holds it.
pub(crate) fn factors(config: &ModelConfig) -> Option<Vec<f32>> {
    let scaling = &config.rotary_scaling;
    if scaling.kind != RotaryScalingKind::Llama3 {
        return None;
    }
    let dim = config.head_dim();
    let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
    let factor = |i: usize| {
        let speed = config.rotary_theta.powf(-2.0 * i as f64 / dim as f64);
        let turns = scaling.original_context_length as f64 * speed / (2.0 * std::f64::consts::PI);
        let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - kept) / scaling.factor + kept)) as f32
    };
    Some((0..dim / 2).map(factor).collect())
}
