//! `model embed`: texts as vectors; and what `model inspect` and `model logits` say of an encoder.

use std::io::Read;
use std::path::Path;

use codex_checkpoint::tensor_file;
use codex_core::files;
use codex_model::encoder::cosine;
use codex_model::{Encoder, EncoderConfig, ModelError, Pooling, TextBatch, parameters};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Embed, Model as Place, Weights};
use crate::commands::model::{ids_of, most_likely};
use crate::encoder_model::{self, FoundEncoder};
use crate::failure::CliError;
use crate::run_config::RunSection;
use crate::terminal::{Terminal, bytes, table};
use crate::{device, memory};

/// The largest file of texts, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// The most texts at once.
const MAX_TEXTS: usize = 100_000;
/// Texts that are shown without `--json`.
const SHOWN: usize = 20;
/// Numbers of a vector that are shown.
const NUMBERS: usize = 4;
/// Texts whose similarities are shown.
const COMPARED: usize = 12;

/// A text and where it is from.
#[derive(Debug, PartialEq, Eq)]
struct Text {
    /// The line of the file or of standard input, from 1.
    line: Option<usize>,
    text: String,
}

/// What is said of a text.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// Special ones among them.
    tokens: usize,
    /// Whether its end was left out.
    is_cut: bool,
    embedding: Vec<f32>,
}

/// What the command answers.
#[derive(Debug, Serialize)]
struct Report<'a> {
    model: &'a Path,
    device: &'static str,
    pooling: Pooling,
    normalized: bool,
    width: usize,
    max_tokens: usize,
    texts: Vec<Answer>,
}

pub(super) fn run(arguments: &Embed, terminal: &Terminal) -> Result<(), CliError> {
    let texts = texts(arguments)?;
    device::set_threads(arguments.threads)?;
    let (device, device_name) = device::open(&arguments.device)?;
    let found = encoder_model::find(&arguments.model)?;
    let imported = &found.imported;
    let pooling = arguments.pooling.map_or(imported.pooling, Pooling::from);
    let normalized = arguments.normalize.unwrap_or(imported.normalize);
    let (tokenizer, frame) = found.tokenizer()?;
    let plain: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
    let framed: Vec<(Vec<u32>, bool)> =
        tokenizer.encode_batch(&plain)?.into_iter().map(|ids| frame.around(ids, imported.max_tokens)).collect();
    let n_cut = framed.iter().filter(|(_, is_cut)| *is_cut).count();
    if n_cut > 0 {
        let (all, most) = (framed.len(), imported.max_tokens);
        terminal
            .warn(&format!("{n_cut} of {all} texts are longer than the {most} tokens that the model reads: the rest of them is left out"));
    }
    let network = Encoder::load(&imported.config, &imported.weights, &device)?;
    memory::set_pool(RunSection::default().pool_mib);
    let ids: Vec<&[u32]> = framed.iter().map(|(ids, _)| ids.as_slice()).collect();
    let vectors = device::in_pool(|| embed(&network, &ids, usize::from(arguments.batch), pooling, normalized))?;
    let mut answers = Vec::with_capacity(texts.len());
    for ((text, (ids, is_cut)), embedding) in texts.iter().zip(&framed).zip(vectors) {
        answers.push(Answer { line: text.line, tokens: ids.len(), is_cut: *is_cut, embedding });
    }
    let (width, max_tokens) = (imported.config.d_model, imported.max_tokens);
    let report = Report { model: &found.path, device: device_name, pooling, normalized, width, max_tokens, texts: answers };
    terminal.result(&report, || describe(&report))
}

/// The vectors of texts in their order. Only texts of one length go through the network together, so that no vector depends on the others.
fn embed(network: &Encoder, texts: &[&[u32]], batch: usize, pooling: Pooling, normalize: bool) -> Result<Vec<Vec<f32>>, ModelError> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&index| texts[index].len());
    let mut vectors = vec![Vec::new(); texts.len()];
    for same in order.chunk_by(|&a, &b| texts[a].len() == texts[b].len()) {
        let time = same.first().map_or(0, |&index| texts[index].len());
        for group in same.chunks(batch.min(network.config().most_texts(time))) {
            let ids: Vec<u32> = group.iter().flat_map(|&index| texts[index]).copied().collect();
            let rows = network.embed(&TextBatch { n_rows: group.len(), ids: &ids, token_types: None, mask: None }, pooling, normalize)?;
            let values = parameters::to_host("embeddings", rows)?.values;
            for (&index, row) in group.iter().zip(values.chunks_exact(network.config().d_model)) {
                vectors[index] = row.to_vec();
            }
        }
    }
    Ok(vectors)
}

/// All texts that the arguments name.
fn texts(arguments: &Embed) -> Result<Vec<Text>, CliError> {
    let mut all: Vec<Text> = arguments.text.iter().map(|text| Text { line: None, text: text.clone() }).collect();
    if let Some(path) = &arguments.file {
        all.extend(lines(&path.display().to_string(), files::read_bounded(path, MAX_FILE_BYTES)?)?);
    } else if all.is_empty() {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| CliError::Unreadable { place: "standard input".to_owned(), reason: error.to_string() })?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(CliError::usage("standard input is longer than 64 MiB", "give it in parts"));
        }
        all.extend(lines("standard input", bytes)?);
    }
    if all.is_empty() {
        return Err(CliError::usage("there is no text", "give one: `--text 'It was a fine day'`, or a file with one in each line"));
    }
    if all.len() > MAX_TEXTS {
        return Err(CliError::usage(format!("{} texts are more than {MAX_TEXTS}", all.len()), "give them in parts"));
    }
    Ok(all)
}

/// The lines that are not blank.
fn lines(place: &str, bytes: Vec<u8>) -> Result<Vec<Text>, CliError> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let reason = format!("not UTF-8 text (byte {})", error.utf8_error().valid_up_to());
        CliError::Unreadable { place: place.to_owned(), reason }
    })?;
    let numbered = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    Ok(numbered.map(|(line, number)| Text { line: Some(number), text: line.to_owned() }).collect())
}

fn describe(report: &Report<'_>) -> String {
    let texts = &report.texts;
    let name = |index: usize| texts[index].line.map_or_else(|| format!("text {}", index + 1), |line| format!("line {line}"));
    let row = |(index, answer): (usize, &Answer)| {
        let length = length_of(&answer.embedding);
        let first: Vec<String> = answer.embedding.iter().take(NUMBERS).map(|number| format!("{number:.4}")).collect();
        vec![name(index), answer.tokens.to_string(), format!("{length:.4}"), format!("{} …", first.join("  "))]
    };
    let mut said = table(&["text", "tokens", "length", "vector"], texts.iter().enumerate().take(SHOWN).map(row));
    if texts.len() > SHOWN {
        said += &format!("\nand {} more", texts.len() - SHOWN);
    }
    said += &format!("\n{} numbers each; `--json` prints them all", report.width);
    if texts.len() < 2 {
        return said;
    }
    let compared = texts.len().min(COMPARED);
    let header: Vec<String> = std::iter::once("cosine".to_owned()).chain((0..compared).map(name)).collect();
    let row = |a: usize| {
        let cosines = (0..compared).map(|b| format!("{:.3}", cosine(&texts[a].embedding, &texts[b].embedding)));
        std::iter::once(name(a)).chain(cosines).collect()
    };
    format!("{said}\n\n{}", table(&header.iter().map(String::as_str).collect::<Vec<_>>(), (0..compared).map(row)))
}

/// The Euclidean length of a vector.
fn length_of(vector: &[f32]) -> f64 {
    vector.iter().map(|&number| f64::from(number) * f64::from(number)).sum::<f64>().sqrt()
}

/// `model inspect` of an encoder.
pub(super) fn inspect(found: &FoundEncoder, terminal: &Terminal) -> Result<(), CliError> {
    let imported = &found.imported;
    let digest = tensor_file::digest(&imported.weights).map_err(|reason| CliError::Integrity {
        path: found.path.clone(),
        reason,
        hint: "copy the model's files again from where they came",
    })?;
    let n_values: u64 = imported.weights.values().map(|tensor| tensor.values.len() as u64).sum();
    let tokenizer = found.known_tokenizer();
    let value = json!({
        "path": found.path, "holds": "an encoder", "numbers": n_values, "digest": digest, "model": imported.config,
        "parameters": imported.config.n_parameters(), "vocab_size": imported.config.vocab_size, "pooling": imported.pooling,
        "normalize": imported.normalize, "max_tokens": imported.max_tokens, "left_out": imported.left_out,
        "tokenizer": tokenizer.as_ref().map(|it| json!({ "ids": it.vocab_size(), "digest": it.digest(), "lossless": it.is_lossless() })),
        "tensors": imported.weights.iter().map(|(path, tensor)| (path.clone(), json!(tensor.shape))).collect::<serde_json::Map<_, _>>(),
    });
    terminal.result(&value, || {
        let EncoderConfig { d_model, n_layers, n_heads, d_feed_forward, .. } = imported.config;
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let left_out = if imported.left_out.is_empty() { "nothing".to_owned() } else { imported.left_out.join(", ") };
        let pooled = if imported.pooling == Pooling::Mean { "the mean of all positions" } else { "the first position" };
        let length = if imported.normalize { ", divided by its length" } else { "" };
        let rows = vec![
            row("folder", found.path.display().to_string()),
            row("holds", format!("an encoder, {n_values} numbers ({})", bytes(4 * n_values))),
            row("digest", digest.to_string()),
            row("shape", format!("{n_layers} layers x {d_model}, inner width {d_feed_forward}")),
            row("heads", format!("{n_heads}, {} wide", imported.config.head_dim())),
            row("positions", format!("{}; a text has at most {} tokens", imported.config.max_positions, imported.max_tokens)),
            row("vector", format!("{pooled}{length}")),
            row("masked-LM head", if imported.config.masked_lm_head { "yes" } else { "no" }.to_owned()),
            row("not used", left_out),
            row("tokenizer", tokenizer.map_or("none".to_owned(), |it| format!("{} ids", it.vocab_size()))),
        ];
        table(&["", ""], rows)
    })
}

/// `model logits` of an encoder: the scores of every token at each position.
pub(super) fn logits(found: &FoundEncoder, place: &Place, sequences: &[String], terminal: &Terminal) -> Result<(), CliError> {
    let parsed = sequences.iter().map(|text| ids_of(text)).collect::<Result<Vec<_>, _>>()?;
    if place.weights == Weights::Int8 || place.base.is_some() {
        return Err(CliError::usage("an encoder has neither weights of 8 bits nor a base", "leave `--weights` and `--base` out"));
    }
    let config = &found.imported.config;
    if !config.masked_lm_head {
        let what = format!("`{}` is an encoder without masked-LM head, which scores no tokens", found.path.display());
        return Err(CliError::usage(what, "`codex-cli model embed` makes vectors with it"));
    }
    device::set_threads(place.threads)?;
    let (device, device_name) = device::open(&place.device)?;
    let network = Encoder::load(config, &found.imported.weights, &device)?;
    let scores_of = |ids: &Vec<u32>| -> Result<Vec<Vec<f32>>, CliError> {
        let scores = network.masked_lm_scores(&TextBatch { n_rows: 1, ids, token_types: None, mask: None })?;
        let values = parameters::to_host("logits", scores)?.values;
        Ok(values.chunks_exact(config.vocab_size).map(<[f32]>::to_vec).collect())
    };
    let all = parsed.iter().map(scores_of).collect::<Result<Vec<_>, _>>()?;
    let answers: Vec<_> = parsed.iter().zip(&all).map(|(ids, rows)| json!({ "ids": ids, "logits": rows })).collect();
    let value = json!({ "model": found.path, "step": null, "device": device_name, "sequences": answers });
    terminal.result(&value, || {
        let tokenizer = found.known_tokenizer();
        let header = "most likely here, with scores";
        parsed.iter().zip(&all).map(|(ids, rows)| most_likely(ids, rows, tokenizer.as_deref(), header)).collect::<Vec<_>>().join("\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_left_out_and_the_others_keep_their_number() {
        let found = lines("f", b"one\r\n\n  \ntwo".to_vec()).unwrap();
        let text = |line, text: &str| Text { line: Some(line), text: text.to_owned() };
        assert_eq!(found, [text(1, "one"), text(4, "two")]);
        assert_eq!(lines("f", vec![b'a', 0xff]).unwrap_err().to_string(), "f: not UTF-8 text (byte 1)");
    }
}
