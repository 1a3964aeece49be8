//! Whether a model that was written and read again is the one that was to be written.

use std::path::Path;

use burn::tensor::Device;
use codex_core::TensorMap;
use codex_hub::HubError;
use codex_model::{Decoder, ModelConfig, parameters};
use serde_json::{Value, json};

use crate::commands::model::scores_of;
use crate::failure::CliError;
use crate::stored_model::Found;

/// How far scores of the same weights in the same program may differ: not at all.
const SAME: f32 = 0.0;
/// Tokens whose scores are compared.
const PROBED: usize = 16;

/// Compares what was read again with what was to be written: the configuration, and the scores of a few tokens by the weights as their type of
/// numbers holds them.
pub(super) fn prove(
    found: &Found,
    weights: &TensorMap,
    config: &ModelConfig,
    back: &TensorMap,
    out: &Path,
    device: &Device,
) -> Result<Value, CliError> {
    let vocab_size = weights.get("embedding").and_then(|table| table.shape.first().copied()).unwrap_or(1);
    let n = PROBED.min(found.config.context_length);
    let ids: Vec<u32> = (0..n).map(|i| ((i * 7919 + 1) % vocab_size) as u32).collect();
    let network = |config: &ModelConfig, weights: &TensorMap| -> Result<Decoder, CliError> {
        Ok(parameters::load(Decoder::zeros(config, vocab_size, device)?, weights.clone())?)
    };
    let of_back = scores_of(&network(config, back)?, &ids)?;
    // The same numbers by the configuration that was to be written: any key that says something else shows here.
    let expected = scores_of(&network(&found.config, back)?, &ids)?;
    let difference = greatest_difference(&of_back, &expected);
    if difference > SAME {
        let reason = format!("by {difference} in the scores of {n} tokens");
        return Err(HubError::Differs { path: out.to_owned(), what: "config.json".to_owned(), reason }.into());
    }
    let rounding = greatest_difference(&of_back, &scores_of(&network(&found.config, weights)?, &ids)?);
    Ok(json!({ "tensors": back.len(), "tokens": n, "difference_after_reload": difference, "difference_by_rounding": rounding }))
}

fn greatest_difference(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    // What is no number proves nothing.
    let apart = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
    a.iter().zip(b).map(apart).fold(0.0, f32::max)
}

/// What was compared, in a line.
pub(super) fn proven(proof: &Value) -> String {
    format!(
        "read again and compared: {} tensors equal, scores of {} tokens differ by {} (by {} through rounding)",
        proof["tensors"], proof["tokens"], proof["difference_after_reload"], proof["difference_by_rounding"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;

    /// Weights that are the same do not make a model the same: a configuration that says something else is refused by what the model then says.
    #[test]
    fn a_configuration_that_came_back_otherwise_is_refused() {
        let (device, _) = device::open("auto").unwrap();
        let config =
            ModelConfig { d_model: 8, n_layers: 1, n_heads: 2, n_kv_heads: 2, context_length: 8, init_std: 0.5, ..ModelConfig::default() };
        let weights = parameters::collect(&Decoder::init(&config, 11, 1, &device).unwrap()).unwrap();
        let found = Found::of_folder(Path::new("model"), config.clone(), weights.clone(), None);
        let prove = |config: &ModelConfig, back: &TensorMap| prove(&found, &weights, config, back, Path::new("out"), &device);
        let proof = prove(&config, &weights).unwrap();
        assert_eq!(
            (&proof["difference_after_reload"], &proof["difference_by_rounding"], &proof["tokens"]),
            (&json!(0.0), &json!(0.0), &json!(8))
        );
        let turned = ModelConfig { rotary_theta: 500.0, ..config.clone() };
        assert!(prove(&turned, &weights).unwrap_err().to_string().contains("`config.json` differs: by"));
        let mut rounded = weights.clone();
        rounded.get_mut("embedding").unwrap().values[0] += 0.01;
        assert!(prove(&config, &rounded).unwrap()["difference_by_rounding"].as_f64().unwrap() > 0.0);
        for (a, b) in [(&[f32::NAN, 1.0][..], &[1.0, 1.0][..]), (&[1.0], &[])] {
            assert!(greatest_difference(a, b).is_infinite(), "{a:?}");
        }
    }
}
