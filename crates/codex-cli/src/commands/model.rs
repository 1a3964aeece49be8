//! The `model` commands: what a model is, what it says to the last digit, and its way in and out.

use std::path::Path;

use codex_checkpoint::tensor_file;
use codex_model::{Decoder, WindowBatch, parameters};
use codex_tokenize::Tokenizer;
use serde_json::json;

use crate::arguments::Model as Place;
use crate::arguments::{ExportFormat, ModelCommand};
use crate::commands::embed;
use crate::commands::model_names;
use crate::commands::model_out::{self, Export};
use crate::encoder_model;
use crate::failure::CliError;
use crate::stored_model::{self, Found};
use crate::terminal::{Terminal, bytes, table};

/// Tokens shown for each position without `--json`.
const SHOWN: usize = 5;

pub(super) fn run(arguments: &ModelCommand, terminal: &Terminal) -> Result<(), CliError> {
    match arguments {
        ModelCommand::Inspect { model, checkpoint } => inspect(model, checkpoint, terminal),
        ModelCommand::Logits { model, ids } => logits(model, ids, terminal),
        ModelCommand::Embed(arguments) => embed::run(arguments, terminal),
        ModelCommand::Import { folder, name, dtype } => model_out::import(folder, name.as_deref(), *dtype, terminal),
        ModelCommand::Export { model, out, checkpoint, format, base, dtype, max_file_mb, template } => {
            let found = stored_model::find_on(model, checkpoint, base.as_deref())?;
            let is_gguf = out.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
            let format = format.unwrap_or(if is_gguf { ExportFormat::Gguf } else { ExportFormat::Hf });
            if format != ExportFormat::Peft && found.is_adapter() {
                let what = format!("`{}` holds adapters, and a whole model is to be written", found.path.display());
                return Err(CliError::usage(what, "merge them first (`codex-cli model merge`), or write them alone: `--format peft`"));
            }
            if format == ExportFormat::Peft {
                return model_out::export_adapter(&found, out, terminal);
            }
            if format == ExportFormat::Gguf {
                return model_out::export_to_gguf(&found, out, *dtype, template.as_deref(), terminal);
            }
            let export = Export {
                found: &found,
                weights: &found.weights,
                element: model_out::element(*dtype)?,
                max_file_bytes: max_file_mb.saturating_mul(1_000_000).max(1),
                template: template.as_deref(),
            };
            model_out::export(&export, out, terminal)
        }
        ModelCommand::Merge { model, out, checkpoint, base, dtype } => {
            let found = stored_model::find_on(model, checkpoint, base.as_deref())?;
            if !found.is_adapter() {
                let what = format!("`{}` holds no adapters", found.path.display());
                return Err(CliError::usage(what, "`codex-cli model export` writes a whole model"));
            }
            let (weights, element) = (model_out::merged(&found)?, model_out::element(*dtype)?);
            let export = Export { found: &found, weights: &weights, element, max_file_bytes: u64::MAX, template: None };
            model_out::export(&export, out, terminal)
        }
        ModelCommand::List => model_names::list(terminal),
        ModelCommand::Resolve { name } => model_names::resolve(name, terminal),
    }
}

fn inspect(path: &Path, checkpoint: &str, terminal: &Terminal) -> Result<(), CliError> {
    if let Some(encoder) = encoder_model::find_if_encoder(path)? {
        return embed::inspect(&encoder, terminal);
    }
    let found = stored_model::find(path, checkpoint)?;
    let n_values: u64 = found.weights.values().map(|tensor| tensor.values.len() as u64).sum();
    let digest = tensor_file::digest(&found.weights).map_err(|reason| CliError::Integrity {
        path: found.path.clone(),
        reason,
        hint: "`codex-cli checkpoint verify` names what is damaged",
    })?;
    let vocab_size = found.vocab_size();
    let tokenizer = found.known_tokenizer();
    let what = if found.is_adapter() { "adapters" } else { "weights" };
    let value = json!({
        "path": found.path, "step": found.step, "run": found.run, "holds": what, "numbers": n_values, "digest": digest,
        "model": found.config, "parameters": found.config.n_parameters(vocab_size), "vocab_size": vocab_size,
        "tokenizer": tokenizer.map(|it| json!({ "ids": it.vocab_size(), "digest": it.digest(), "lossless": it.is_lossless() })),
        "tensors": found.weights.iter().map(|(path, tensor)| (path.clone(), json!(tensor.shape))).collect::<serde_json::Map<_, _>>(),
    });
    terminal.result(&value, || describe(&found, what, n_values, vocab_size, &digest.to_string()))
}

fn describe(found: &Found, what: &str, n_values: u64, vocab_size: usize, digest: &str) -> String {
    let config = &found.config;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let heads = format!("{} query, {} key/value, {} wide", config.n_heads, config.n_kv_heads, config.head_dim());
    let rows = vec![
        row("folder", found.path.display().to_string()),
        row("holds", format!("{what}, {n_values} numbers ({})", bytes(4 * n_values))),
        row("digest", digest.to_owned()),
        row("parameters", config.n_parameters(vocab_size).to_string()),
        row("shape", format!("{} layers x {}, inner width {}", config.n_layers, config.d_model, config.feed_forward_width())),
        row("heads", heads),
        row("context", format!("{} positions", config.context_length)),
        row("tokenizer", found.known_tokenizer().map_or("none".to_owned(), |it| format!("{} ids of {vocab_size} rows", it.vocab_size()))),
    ];
    table(&["", ""], rows)
}

fn logits(place: &Place, sequences: &[String], terminal: &Terminal) -> Result<(), CliError> {
    if let Some(path) = &place.model
        && let Some(encoder) = encoder_model::find_if_encoder(path)?
    {
        return embed::logits(&encoder, place, sequences, terminal);
    }
    let parsed = sequences.iter().map(|text| ids_of(text)).collect::<Result<Vec<_>, _>>()?;
    let stored = stored_model::load_bare(place, terminal)?;
    let all = parsed.iter().map(|ids| scores_of(&stored.model, ids)).collect::<Result<Vec<_>, _>>()?;
    let rows = |scores: &'_ Vec<f32>| -> Vec<Vec<f32>> { scores.chunks_exact(stored.model.vocab_size()).map(<[f32]>::to_vec).collect() };
    let answers: Vec<_> = parsed.iter().zip(&all).map(|(ids, scores)| json!({ "ids": ids, "logits": rows(scores) })).collect();
    let value = json!({ "model": stored.found.path, "step": stored.found.step, "device": stored.device_name, "sequences": answers });
    terminal.result(&value, || {
        let tokenizer = stored.found.known_tokenizer();
        let header = "most likely next, with scores";
        let tables = parsed.iter().zip(&all).map(|(ids, scores)| most_likely(ids, &rows(scores), tokenizer.as_deref(), header));
        tables.collect::<Vec<_>>().join("\n")
    })
}

/// The ids of an argument.
pub(super) fn ids_of(text: &str) -> Result<Vec<u32>, CliError> {
    let wrong =
        |part: &str| CliError::usage(format!("`--ids {text}`: `{part}` is not a token id"), "give numbers with commas: `--ids 1,2,3`");
    text.split(',').map(|part| part.trim().parse().map_err(|_| wrong(part))).collect()
}

/// Scores of every next token after each position, row by row.
pub(super) fn scores_of(model: &Decoder, ids: &[u32]) -> Result<Vec<f32>, CliError> {
    let scores = model.forward(&WindowBatch { n_rows: 1, inputs: ids, segments: None, dropout: None })?;
    Ok(parameters::to_host("logits", scores)?.values.into_vec())
}

/// For each position the tokens that its row of scores likes most.
pub(super) fn most_likely(ids: &[u32], rows: &[Vec<f32>], tokenizer: Option<&dyn Tokenizer>, header: &str) -> String {
    let text = |id: u32| tokenizer.and_then(|tokenizer| tokenizer.decode(&[id]).ok());
    let name = |id: u32| text(id).map_or_else(|| id.to_string(), |text| format!("{text:?}"));
    let line = |(position, (&id, scores)): (usize, (&u32, &Vec<f32>))| {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        let next: Vec<String> = order.iter().take(SHOWN).map(|&id| format!("{} {:.3}", name(id), scores[id as usize])).collect();
        vec![position.to_string(), format!("{id} {}", name(id)), next.join("  ")]
    };
    table(&["position", "token", header], ids.iter().zip(rows).enumerate().map(line))
}
