//! A network as a Hugging Face model folder. What was written is read again and compared before the folder gets its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codex_core::{Digest, FolderDraft, TensorMap, files};
use codex_model::ModelConfig;
use serde_json::json;

use crate::config::{HfConfig, one_or_all};
use crate::element::ElementType;
use crate::error::HubError;
use crate::family::Family;
use crate::import::{CONFIG_FILE, Imported, import_folder};
use crate::parts::parts;
use crate::tensor_writer::{self, Pending};

/// What is to be written.
#[derive(Clone, Debug)]
pub struct ExportRequest<'a> {
    /// What the model is called in its card.
    pub name: &'a str,
    /// The network's shape.
    pub config: &'a ModelConfig,
    /// Its weights by path.
    pub weights: &'a TensorMap,
    /// Rows of its embedding.
    pub vocab_size: usize,
    /// What its numbers are written as.
    pub element: ElementType,
    /// The most bytes of numbers in one file.
    pub max_file_bytes: u64,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The tokens that end one.
    pub eos: &'a [u32],
    /// The token that fills a batch.
    pub pad: Option<u32>,
    /// Files that are written as they are, such as `tokenizer.json`.
    pub extra: &'a [(String, Vec<u8>)],
    /// What the card says of where the model comes from, in this order.
    pub provenance: &'a [(String, String)],
}

/// What was written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Exported {
    /// The folder.
    pub path: PathBuf,
    /// The family it belongs to, as its `model_type`.
    pub family: &'static str,
    /// Its files with their sizes and digests.
    pub files: Vec<ExportedFile>,
}

/// One file of it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ExportedFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// Writes a model folder at `target`, which must not exist. `prove` is given the model as it was read again, and refuses it if it is not the same;
/// what was not proven is not published.
pub fn export_folder<E: From<HubError>>(
    request: &ExportRequest<'_>,
    target: &Path,
    prove: impl FnOnce(&Imported) -> Result<(), E>,
) -> Result<Exported, E> {
    let (draft, family) = write(request, target)?;
    let back = import_folder(draft.path())?;
    same(request, &back.weights, target)?;
    prove(&back)?;
    let mut files = Vec::new();
    for path in files::list_dir(draft.path()).map_err(HubError::from)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (bytes, digest) = (files::size(&path).map_err(HubError::from)?, Digest::of_file(&path).map_err(HubError::from)?);
        files.push(ExportedFile { name, bytes, digest });
    }
    let path = draft.publish().map_err(HubError::from)?;
    Ok(Exported { path, family: family.model_type(), files })
}

fn write(request: &ExportRequest<'_>, target: &Path) -> Result<(FolderDraft, Family), HubError> {
    let family = Family::of(request.config).map_err(|reason| HubError::NotRepresentable { format: "Hugging Face", reason })?;
    let config = HfConfig {
        family,
        model: request.config.clone(),
        vocab_size: request.vocab_size,
        bos: request.bos,
        eos: request.eos.to_vec(),
        pad: request.pad,
    };
    let all = parts(family, request.config, request.vocab_size);
    let mut tensors = BTreeMap::new();
    for part in &all {
        let layout = part.hf_layout(family);
        let values = Box::new(move || request.weights.get(&part.path).and_then(|parameter| part.take(parameter, layout)));
        tensors.insert(part.hf_name(family), Pending { shape: part.dims(layout), values });
    }
    let draft = FolderDraft::create(target)?;
    tensor_writer::write(&draft, &tensors, request.element, request.max_file_bytes)?;
    draft.write(CONFIG_FILE, format!("{:#}\n", config.to_json(request.element)).as_bytes())?;
    let ids: serde_json::Map<_, _> =
        [("bos_token_id", json!(request.bos)), ("eos_token_id", one_or_all(request.eos)), ("pad_token_id", json!(request.pad))]
            .into_iter()
            .filter(|(_, id)| !id.is_null())
            .map(|(key, id)| (key.to_owned(), id))
            .collect();
    draft.write("generation_config.json", format!("{:#}\n", serde_json::Value::Object(ids)).as_bytes())?;
    for (name, bytes) in request.extra {
        draft.write(name, bytes)?;
    }
    draft.write("README.md", card(request, family).as_bytes())?;
    Ok((draft, family))
}

/// Whether the weights that were read again are those of the request, as its type of numbers holds them.
fn same(request: &ExportRequest<'_>, back: &TensorMap, target: &Path) -> Result<(), HubError> {
    let differs = |what: &str, reason: String| HubError::Differs { path: target.to_owned(), what: what.to_owned(), reason };
    for (path, tensor) in request.weights {
        let found = back.get(path).ok_or_else(|| differs(path, "it is missing".to_owned()))?;
        if found.shape != tensor.shape {
            return Err(differs(path, format!("shape {:?} became {:?}", tensor.shape, found.shape)));
        }
        let pairs = tensor.values.iter().zip(found.values.iter());
        if let Some((i, (old, new))) = pairs.enumerate().find(|(_, (old, new))| request.element.round(**old).to_bits() != new.to_bits()) {
            return Err(differs(path, format!("number {i} is {new}, expected {old}")));
        }
    }
    Ok(())
}

/// What a person reads first in the folder.
fn card(request: &ExportRequest<'_>, family: Family) -> String {
    let config = request.config;
    let mut text = format!(
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- {}\n- codex\n---\n\n# {}\n\n",
        family.model_type(),
        request.name
    );
    text += &format!(
        "A decoder-only language model of {} parameters, written by codex as a `{}` model.\n\n",
        config.n_parameters(request.vocab_size),
        family.architecture()
    );
    text += "| | |\n|---|---|\n";
    let mut row = |name: &str, value: String| text += &format!("| {name} | {value} |\n");
    row("layers", format!("{} of width {}", config.n_layers, config.d_model));
    row("heads", format!("{} query, {} key/value, {} wide", config.n_heads, config.n_kv_heads, config.head_dim()));
    row("context", format!("{} tokens", config.context_length));
    row("vocabulary", format!("{} rows", request.vocab_size));
    row("numbers", request.element.name().to_owned());
    text += "\n## Where it comes from\n\nDigests are BLAKE3.\n\n| | |\n|---|---|\n";
    for (name, value) in request.provenance {
        text += &format!("| {name} | `{}` |\n", value.replace(['|', '`', '\n'], " "));
    }
    text += "\n## Use\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n";
    text += "tokenizer = AutoTokenizer.from_pretrained(\".\")\nmodel = AutoModelForCausalLM.from_pretrained(\".\")\n```\n\nor `codex-cli generate .`\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::HostTensor;

    /// What a writer or a disk could do wrong is named by its tensor, in the last bit too.
    #[test]
    fn weights_that_came_back_otherwise_are_named() {
        let config = ModelConfig::default();
        let tensor = |shape: Vec<usize>, values: Vec<f32>| HostTensor::new(shape, values).unwrap();
        let weights = TensorMap::from([("embedding".to_owned(), tensor(vec![2, 1], vec![1.0, 0.1]))]);
        let request = ExportRequest {
            name: "a model",
            config: &config,
            weights: &weights,
            vocab_size: 2,
            element: ElementType::Bf16,
            max_file_bytes: u64::MAX,
            bos: None,
            eos: &[],
            pad: None,
            extra: &[],
            provenance: &[],
        };
        let back = |values: Vec<f32>| TensorMap::from([("embedding".to_owned(), tensor(vec![2, 1], values))]);
        let differs = |back: &TensorMap| same(&request, back, Path::new("target")).unwrap_err().to_string();
        let rounded = ElementType::Bf16.round(0.1);
        assert!(same(&request, &back(vec![1.0, rounded]), Path::new("target")).is_ok());
        let next = f32::from_bits(rounded.to_bits() + 1);
        assert!(differs(&back(vec![1.0, next])).contains("`embedding` differs: number 1 is"));
        assert!(differs(&back(vec![1.0, 0.1])).contains("number 1 is"), "not rounded");
        assert!(differs(&TensorMap::new()).contains("`embedding` differs: it is missing"));
        let turned = TensorMap::from([("embedding".to_owned(), tensor(vec![1, 2], vec![1.0, rounded]))]);
        assert!(differs(&turned).contains("shape [2, 1] became [1, 2]"));
    }
}
