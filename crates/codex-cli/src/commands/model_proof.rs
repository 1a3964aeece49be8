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
        Ok(parameters::load(Decoder::zeros(config, vocab_size, device)?, weights)?)
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
    a.iter().zip(b).fold(0.0, |most, (a, b)| if (a - b).abs() <= most { most } else { (a - b).abs() })
}

/// What was compared, in a line.
pub(super) fn proven(proof: &Value) -> String {
    format!(
        "read again and compared: {} tensors equal, scores of {} tokens differ by {} (by {} through rounding)",
        proof["tensors"], proof["tokens"], proof["difference_after_reload"], proof["difference_by_rounding"]
    )
}
