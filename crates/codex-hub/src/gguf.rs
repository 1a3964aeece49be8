//! GGUF files, as llama.cpp and what is built on it read them: one file with configuration, tokenizer and weights. What was written is read again and
//! compared before the file gets its name.
//!
//! Names of keys and tensors, the order of rows and the forms of numbers are those of llama.cpp's own converter; the format is version 3 of
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::io;
use std::path::{Path, PathBuf};

use codex_core::{Digest, FileError, FolderDraft, TensorMap, files};
use codex_model::{ModelConfig, parameters};

use crate::error::HubError;
use crate::family::Family;

mod byte_level;
mod keys;
mod model;
mod names;
mod pieces;
mod quant;
mod reader;
mod rope;
mod tokenizer;
mod value;
mod writer;

#[cfg(test)]
mod tests;

pub use keys::held;
pub use model::{GgufModel, read_gguf};
pub use quant::GgufType;
pub use value::{GgufValue, Metadata, NumberKind};

use names::{Planned, architecture, plan};
use tokenizer::{SpecialIds, Vocabulary};
use writer::Pending;

/// The name of the file in its draft.
const DRAFT_FILE: &str = "model.gguf";
/// ggml's version of its quantised forms.
const QUANTIZATION_VERSION: u32 = 2;

/// What is to be written.
#[derive(Clone, Debug)]
pub struct GgufRequest<'a> {
    /// What the model is called.
    pub name: &'a str,
    /// The network's shape.
    pub config: &'a ModelConfig,
    /// Its weights by path.
    pub weights: &'a TensorMap,
    /// Rows of its embedding.
    pub vocab_size: usize,
    /// What its matrices are written as.
    pub kind: GgufType,
    /// The text of its `tokenizer.json`.
    pub tokenizer_json: Option<&'a str>,
    /// The Jinja text of its chat template.
    pub chat_template: Option<&'a str>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The token that ends one.
    pub eos: Option<u32>,
    /// The token that fills a batch.
    pub pad: Option<u32>,
    /// Where the model comes from, in this order; each becomes a key below `codex.provenance`.
    pub provenance: &'a [(String, String)],
}

/// What was written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ExportedGguf {
    /// The file.
    pub path: PathBuf,
    /// llama.cpp's name of the architecture.
    pub architecture: &'static str,
    /// What its matrices are.
    pub kind: GgufType,
    /// Its size.
    pub bytes: u64,
    /// The digest of its bytes.
    pub digest: Digest,
    /// llama.cpp's name of the pattern that cuts texts; `default` stands for one that has no name there.
    pub pre_tokenizer: Option<&'static str>,
    /// Where llama.cpp does something else than this network and its tokenizer do.
    pub notes: Vec<String>,
}

/// Writes a GGUF file at `target`, where nothing may be yet. `prove` is given configuration and weights as they were read again, and refuses them if
/// they are not those of the model; what was not proven is not published.
///
/// # Errors
/// The network or the tokenizer is one that llama.cpp cannot hold; the weights are not those of the network; something is at `target`; the file did
/// not come back as it was written.
pub fn export_gguf<E: From<HubError>>(
    request: &GgufRequest<'_>,
    target: &Path,
    prove: impl FnOnce(&ModelConfig, &TensorMap) -> Result<(), E>,
) -> Result<ExportedGguf, E> {
    let (family, config) = held(request.config)?;
    let ids = SpecialIds { bos: request.bos, eos: request.eos, pad: request.pad };
    let vocabulary = tokenizer::vocabulary(request.tokenizer_json, request.vocab_size, ids, request.chat_template)?;
    let draft = write(request, target, family, &config, &vocabulary)?;
    let drafted = draft.path().join(DRAFT_FILE);
    let back = read_gguf(&drafted)?;
    same(request, &back, target, (family, &config), &metadata(request, family, &config, &vocabulary))?;
    prove(&back.config, &back.weights)?;
    drop(back);
    let (bytes, digest) = (files::size(&drafted).map_err(HubError::from)?, Digest::of_file(&drafted).map_err(HubError::from)?);
    files::rename_new(&drafted, target).map_err(HubError::from)?;
    files::sync_dir(files::parent(target)).map_err(HubError::from)?;
    let mut notes = vocabulary.notes;
    notes.extend(windowed(&config));
    let (architecture, kind) = (architecture(family), request.kind);
    Ok(ExportedGguf { path: target.to_owned(), architecture, kind, bytes, digest, pre_tokenizer: vocabulary.pre, notes })
}

/// What llama.cpp makes of a sliding window that is shorter than the context.
fn windowed(config: &ModelConfig) -> Option<String> {
    let is_short = config.window > 0 && config.window < config.context_length;
    is_short.then(|| {
        let window = config.window;
        format!("the sliding window of {window} tokens is in the file, but llama.cpp has none in the architecture `llama`: longer texts get other scores there")
    })
}

fn write(
    request: &GgufRequest<'_>,
    target: &Path,
    family: Family,
    config: &ModelConfig,
    vocabulary: &Vocabulary,
) -> Result<FolderDraft, HubError> {
    if target.is_symlink() || target.exists() {
        return Err(FileError::new("create", target, io::Error::from(io::ErrorKind::AlreadyExists)).into());
    }
    check(request, config, target)?;
    let all = plan(family, config, request.vocab_size);
    let mut tensors: Vec<Pending<'_>> = all.iter().map(|tensor| pending(tensor, request)).collect();
    if let Some(factors) = rope::factors(config) {
        let dims = vec![factors.len()];
        let values = Box::new(move || Some(factors.clone()));
        tensors.push(Pending { name: rope::FACTORS.to_owned(), dims, kind: GgufType::F32, values });
    }
    let draft = FolderDraft::create(target)?;
    writer::write(&draft, DRAFT_FILE, target, &metadata(request, family, config, vocabulary), &tensors)?;
    Ok(draft)
}

fn pending<'a>(tensor: &'a Planned, request: &'a GgufRequest<'_>) -> Pending<'a> {
    let values = Box::new(move || request.weights.get(&tensor.part.path).and_then(|parameter| tensor.take(parameter)));
    Pending { name: tensor.name.clone(), dims: tensor.dims.clone(), kind: tensor.kind(request.kind), values }
}

/// Whether the weights are those of the network; all that does not fit is told at once.
fn check(request: &GgufRequest<'_>, config: &ModelConfig, target: &Path) -> Result<(), HubError> {
    let shapes = parameters::shapes(config, request.vocab_size);
    let mut problems = Vec::new();
    for (path, shape) in &shapes {
        match request.weights.get(path) {
            None => problems.push(format!("weight `{path}` of shape {shape:?} is missing")),
            Some(found) if found.shape != *shape => {
                problems.push(format!("weight `{path}` has shape {:?}, expected {shape:?}", found.shape));
            }
            Some(_) => {}
        }
    }
    let left_over = request.weights.keys().filter(|path| !shapes.contains_key(*path));
    problems.extend(left_over.map(|path| format!("weight `{path}` belongs to nothing")));
    if problems.is_empty() { Ok(()) } else { Err(HubError::Tensors { folder: target.to_owned(), problems }) }
}

/// All keys of the file: what a reader asks first, the network, where it comes from, and the long lists of the tokenizer.
fn metadata(request: &GgufRequest<'_>, family: Family, config: &ModelConfig, vocabulary: &Vocabulary) -> Vec<(String, GgufValue)> {
    let mut all = vec![
        (keys::ARCHITECTURE.to_owned(), GgufValue::text(architecture(family))),
        ("general.type".to_owned(), GgufValue::text("model")),
        ("general.name".to_owned(), GgufValue::text(request.name)),
        ("general.file_type".to_owned(), GgufValue::U32(request.kind.file_code())),
        ("general.quantization_version".to_owned(), GgufValue::U32(QUANTIZATION_VERSION)),
        (writer::ALIGNMENT_KEY.to_owned(), GgufValue::U32(writer::ALIGNMENT as u32)),
    ];
    all.extend(keys::write(family, config, request.vocab_size));
    for (name, value) in request.provenance {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
        let mut key = format!("codex.provenance.{name}");
        while all.iter().any(|(other, _)| *other == key) {
            key.push('_');
        }
        all.push((key, GgufValue::text(value.as_str())));
    }
    all.extend(vocabulary.keys.iter().cloned());
    all
}

/// Whether what was read again is what was to be written: keys, configuration, and each number as its type holds it.
fn same(
    request: &GgufRequest<'_>,
    back: &GgufModel,
    target: &Path,
    (family, config): (Family, &ModelConfig),
    written: &[(String, GgufValue)],
) -> Result<(), HubError> {
    let differs = |what: &str, reason: String| HubError::Differs { path: target.to_owned(), what: what.to_owned(), reason };
    if let Some((key, _)) = written.iter().find(|(key, value)| back.metadata.get(key) != Some(value)) {
        return Err(differs(key, "it is not as it was written".to_owned()));
    }
    if back.metadata.len() != written.len() {
        return Err(differs("metadata", format!("{} keys became {}", written.len(), back.metadata.len())));
    }
    if (back.family, &back.config, back.vocab_size) != (family, config, request.vocab_size) {
        return Err(differs("configuration", format!("{config:?} became {:?}", back.config)));
    }
    for tensor in plan(family, config, request.vocab_size) {
        let of = |weights: &TensorMap| weights.get(&tensor.part.path).and_then(|parameter| tensor.take(parameter));
        let (Some(given), Some(found)) = (of(request.weights), of(&back.weights)) else {
            return Err(differs(&tensor.name, "it is missing".to_owned()));
        };
        let expected = tensor.kind(request.kind).round(&given);
        let mut pairs = expected.iter().zip(&found).enumerate();
        if let Some((i, (expected, found))) = pairs.find(|(_, (expected, found))| expected.to_bits() != found.to_bits()) {
            return Err(differs(&tensor.name, format!("number {i} is {found}, expected {expected}")));
        }
    }
    Ok(())
}
