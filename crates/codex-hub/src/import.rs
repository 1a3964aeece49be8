//! A Hugging Face model folder as a network's configuration and weights.
//!
//! Every name and shape is compared with the configuration before a number is read, so what is asked of memory is what the files hold.

use std::collections::BTreeMap;
use std::path::Path;

use codex_core::{HostTensor, TensorMap};
use codex_model::parameters;

use crate::config::HfConfig;
use crate::element::ElementType;
use crate::error::HubError;
use crate::parts::{Part, base_prefix, parts};
use crate::tensor_folder::{TensorFolder, is_buffer};

/// The file that describes a model.
pub const CONFIG_FILE: &str = "config.json";

/// A model that was read.
#[derive(Debug)]
pub struct Imported {
    /// Its configuration.
    pub config: HfConfig,
    /// Its weights by our paths.
    pub weights: TensorMap,
    /// What the numbers of its files are; the widest of them where they differ.
    pub element: ElementType,
}

/// Whether a folder looks like a model of transformers.
pub fn is_model_folder(path: &Path) -> bool {
    path.join(CONFIG_FILE).is_file()
}

/// Reads a model folder.
///
/// # Errors
/// A configuration that asks for what the network has not; a tensor that is missing, left over or of a wrong shape, each named with both shapes;
/// a damaged file; a pickle.
pub fn import_folder(folder: &Path) -> Result<Imported, HubError> {
    let config = HfConfig::read(&folder.join(CONFIG_FILE))?;
    let files = TensorFolder::open(folder)?;
    let all = parts(config.family, &config.model, config.vocab_size);
    let names = matched(folder, &config, &files, &all)?;
    let mut weights: TensorMap = TensorMap::new();
    for (path, shape) in parameters::shapes(&config.model, config.vocab_size) {
        let zeros = vec![0.0; shape.iter().product()];
        weights.extend(HostTensor::new(shape, zeros).map(|tensor| (path, tensor)));
    }
    let mut element = ElementType::Bf16;
    for (part, name) in all.iter().zip(&names) {
        let values = files.read(name)?;
        if let Some(found) = files.element(name).filter(|found| found.size() >= element.size()) {
            element = found;
        }
        let parameter = weights.get_mut(&part.path);
        if !parameter.is_some_and(|parameter| part.place(&values, part.hf_layout(config.family), parameter)) {
            return Err(HubError::Tensors { folder: folder.to_owned(), problems: vec![format!("tensor `{name}` has no place")] });
        }
    }
    if let Some((path, _)) = weights.iter().find(|(_, tensor)| !tensor.is_finite()) {
        let problems = vec![format!("`{path}` holds a number that is not finite")];
        return Err(HubError::Tensors { folder: folder.to_owned(), problems });
    }
    Ok(Imported { config, weights, element })
}

/// The name in the files of each part; all that does not fit is told at once.
fn matched(folder: &Path, config: &HfConfig, files: &TensorFolder, all: &[Part]) -> Result<Vec<String>, HubError> {
    let prefix = base_prefix(config.family);
    // The bare network, without what predicts the next token, is saved without the prefix.
    let is_bare = !files.names().any(|name| name.starts_with(prefix));
    let spelled = |name: String| if is_bare { name.strip_prefix(prefix).map_or(name.clone(), str::to_owned) } else { name };
    let names: Vec<String> = all.iter().map(|part| spelled(part.hf_name(config.family))).collect();
    let expected: BTreeMap<&str, Vec<usize>> =
        names.iter().map(String::as_str).zip(all.iter().map(|part| part.dims(part.hf_layout(config.family)))).collect();
    let mut problems = Vec::new();
    for (name, shape) in &expected {
        match files.shape(name) {
            None => problems.push(format!("tensor `{name}` of shape {shape:?} is missing")),
            Some(found) if found != shape.as_slice() => problems.push(format!("tensor `{name}` has shape {found:?}, expected {shape:?}")),
            Some(_) => {}
        }
    }
    let table = spelled(all[0].hf_name(config.family));
    for name in files.names().filter(|name| !expected.contains_key(name) && !is_buffer(name)) {
        // A tied head is written out by some programs.
        if name == "lm_head.weight" && config.model.tie_embeddings && files.shape(name) == files.shape(&table) && problems.is_empty() {
            if files.read(name)? != files.read(&table)? {
                problems.push("tensor `lm_head.weight` is not the embedding, and `tie_word_embeddings` says that it is".to_owned());
            }
            continue;
        }
        problems.push(format!("tensor `{name}` of shape {:?} belongs to nothing", files.shape(name).unwrap_or_default()));
    }
    if problems.is_empty() { Ok(names) } else { Err(HubError::Tensors { folder: folder.to_owned(), problems }) }
}
