//! Folders that transformers wrote, read here: the same scores. Folders that are wrong: a named error.
#![expect(clippy::unwrap_used, reason = "a test's setup fails loudly")]

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use codex_core::files;
use codex_hub::{ElementType, ExportRequest, Family, HubError, Imported, export_folder, import_folder, is_encoder_folder, is_model_folder};
use codex_model::{Decoder, ModelConfig, WindowBatch, parameters};
use serde_json::Value;

mod encoder;
mod malformed;
mod peft;

/// The bound that the scores of transformers and ours are within.
const BOUND: f32 = 1e-4;

fn fixtures() -> PathBuf {
    std::path::absolute("../../fixtures/parity").unwrap()
}

/// Every model folder of transformers that is committed and holds a decoder.
fn model_folders() -> Vec<PathBuf> {
    let is_decoder = |path: &PathBuf| is_model_folder(path) && !is_encoder_folder(path);
    files::list_dir(&fixtures()).unwrap().into_iter().filter(is_decoder).collect()
}

fn network(imported: &Imported) -> Decoder {
    network_of(&imported.config.model, imported.config.vocab_size, &imported.weights)
}

fn network_of(config: &ModelConfig, vocab_size: usize, weights: &codex_core::TensorMap) -> Decoder {
    parameters::load(Decoder::zeros(config, vocab_size, &Device::flex()).unwrap(), weights.clone()).unwrap()
}

fn scores(model: &Decoder, ids: &[u32]) -> Vec<f32> {
    let scores = model.forward(&WindowBatch { n_rows: 1, inputs: ids, segments: None, dropout: None }).unwrap();
    parameters::to_host("scores", scores).unwrap().values.into_vec()
}

/// The sequences of a folder's `logits.json`: ids, and the scores that transformers gave.
fn golden(folder: &Path) -> Vec<(Vec<u32>, Vec<f32>)> {
    let value: Value = serde_json::from_slice(&files::read(&folder.join("logits.json")).unwrap()).unwrap();
    let sequence = |value: &Value| {
        let ids = value["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let rows = value["logits"].as_array().unwrap().iter();
        (ids, rows.flat_map(|row| row.as_array().unwrap()).map(|number| number.as_f64().unwrap() as f32).collect())
    };
    value["sequences"].as_array().unwrap().iter().map(sequence).collect()
}

fn greatest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_family_and_rope_scaling_scores_as_in_transformers() {
    let folders = model_folders();
    assert!(folders.len() >= 20, "{} folders in {}", folders.len(), fixtures().display());
    let mut families = Vec::new();
    for folder in folders {
        let imported = import_folder(&folder).unwrap();
        families.push(imported.config.family);
        let model = network(&imported);
        for (ids, expected) in golden(&folder) {
            let difference = greatest_difference(&scores(&model, &ids), &expected);
            assert!(difference < BOUND, "{}: {} ids differ by {difference}", folder.display(), ids.len());
        }
    }
    families.sort();
    families.dedup();
    assert_eq!(families, Family::ALL);
}

/// Scores after a change that a mistake could make are far outside the bound, so the bound has teeth.
#[test]
fn the_golden_scores_would_show_a_mistake() {
    let folder = fixtures().join("llama-untied");
    let imported = import_folder(&folder).unwrap();
    let (ids, expected) = golden(&folder).pop().unwrap();
    let mut other = imported.config.model.clone();
    other.rotary_theta *= 1.5;
    let turned = network_of(&other, imported.config.vocab_size, &imported.weights);
    assert!(greatest_difference(&scores(&turned, &ids), &expected) > 10.0 * BOUND);
}

#[test]
fn what_is_exported_comes_back_the_same_and_as_the_same_family() {
    for folder in model_folders() {
        let imported = import_folder(&folder).unwrap();
        let (config, weights) = (&imported.config, &imported.weights);
        let target = tempfile::tempdir().unwrap();
        let before = network(&imported);
        for (element, max_file_bytes) in [(ElementType::F32, u64::MAX), (ElementType::F32, 8_000), (ElementType::Bf16, u64::MAX)] {
            let request = ExportRequest {
                name: "a model",
                config: &config.model,
                weights,
                vocab_size: config.vocab_size,
                element,
                max_file_bytes,
                bos: config.bos,
                eos: &config.eos,
                pad: None,
                extra: &[("tokenizer.json".to_owned(), b"{}".to_vec())],
                provenance: &[("weights".to_owned(), "a digest".to_owned())],
            };
            let path = target.path().join(format!("{element:?}-{max_file_bytes}"));
            let mut is_proven = false;
            let exported = export_folder(&request, &path, |back| {
                is_proven = true;
                assert_eq!((&back.config.model, back.element), (&config.model, element), "{}", folder.display());
                if element == ElementType::F32 {
                    assert_eq!(scores(&before, &[1, 5, 2]), scores(&network(back), &[1, 5, 2]));
                }
                Ok::<(), HubError>(())
            })
            .unwrap();
            assert!(is_proven && exported.path == path && exported.files.iter().any(|file| file.name == "tokenizer.json"));
            let n_files = exported.files.iter().filter(|file| file.name.ends_with(".safetensors")).count();
            assert!(if max_file_bytes == u64::MAX { n_files == 1 } else { n_files > 2 }, "{n_files}");
            let again = import_folder(&path).unwrap().config;
            assert_eq!((again.bos, &again.eos), (config.bos, &config.eos));
            let card = files::read_to_string(&path.join("README.md")).unwrap();
            assert!(card.contains("`a digest`") && card.contains(config.family.model_type()), "{card}");
            assert!(export_folder(&request, &path, |_| Ok::<(), HubError>(())).is_err(), "a folder is never overwritten");
        }
    }
}

#[test]
fn what_is_not_proven_is_not_published() {
    let imported = import_folder(&fixtures().join("llama-tied")).unwrap();
    let target = tempfile::tempdir().unwrap();
    let mut request = ExportRequest {
        name: "a model",
        config: &imported.config.model,
        weights: &imported.weights,
        vocab_size: imported.config.vocab_size,
        element: ElementType::F32,
        max_file_bytes: u64::MAX,
        bos: None,
        eos: &[],
        pad: None,
        extra: &[],
        provenance: &[],
    };
    let path = target.path().join("model");
    let refuse = |_: &Imported| Err(HubError::Differs { path: path.clone(), what: "scores".to_owned(), reason: "by 1".to_owned() });
    assert!(export_folder(&request, &path, refuse).unwrap_err().to_string().contains("`scores` differs"));
    assert_eq!(files::list_dir(target.path()).unwrap(), Vec::<PathBuf>::new());
    // A number that the type cannot hold.
    let mut large = imported.weights.clone();
    large.get_mut("embedding").unwrap().values[3] = 1e6;
    request = ExportRequest { weights: &large, element: ElementType::F16, ..request };
    let error = export_folder(&request, &path, |_| Ok::<(), HubError>(())).unwrap_err();
    assert!(error.to_string().contains("1000000, which F16 cannot"), "{error}");
    // A network that no family has.
    let house = ModelConfig { window: 4, qk_norm: true, ..ModelConfig::default() };
    request = ExportRequest { config: &house, ..request };
    let error = export_folder(&request, &path, |_| Ok::<(), HubError>(())).unwrap_err();
    assert!(error.to_string().contains("no Hugging Face model has such a network"), "{error}");
    assert_eq!(files::list_dir(target.path()).unwrap(), Vec::<PathBuf>::new());
}
