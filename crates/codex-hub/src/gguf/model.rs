//! A GGUF file as a network's configuration and weights.
//!
//! Names and shapes of all tensors are compared with the configuration before a number is read, so what is asked of memory is what the file holds.

use std::collections::BTreeSet;
use std::path::Path;

use codex_core::{HostTensor, TensorMap};
use codex_model::{ModelConfig, parameters};

use super::keys::{self, FromTensors};
use super::names::{Planned, plan};
use super::reader::GgufFile;
use super::rope;
use super::value::{Keys, Metadata};
use crate::error::HubError;
use crate::family::Family;

/// A model that was read from a GGUF file.
#[derive(Debug)]
pub struct GgufModel {
    /// The family it belongs to.
    pub family: Family,
    /// The network's shape.
    pub config: ModelConfig,
    /// Rows of its embedding.
    pub vocab_size: usize,
    /// Its weights by our paths.
    pub weights: TensorMap,
    /// All that the file says besides.
    pub metadata: Metadata,
}

/// Reads a GGUF file of one of the families, as [`export_gguf`](super::export_gguf) writes it.
///
/// # Errors
/// A damaged file; an architecture, an option or a type of numbers that is not read; tensors that are not those of the configuration.
pub fn read_gguf(path: &Path) -> Result<GgufModel, HubError> {
    let file = GgufFile::open(path)?;
    let keys = Keys { path, all: &file.metadata };
    let tensors = FromTensors { has_head: file.dims("output.weight").is_some(), has_factors: file.dims(rope::FACTORS).is_some() };
    let (family, config) = keys::read(keys, &tensors)?;
    let vocab_size = match file.dims("token_embd.weight") {
        Some([rows, width]) if *width == config.d_model => *rows,
        found => {
            let found = found.map_or("missing".to_owned(), |dims| format!("of shape {dims:?}"));
            let problem = format!("tensor `token_embd.weight` is {found}, expected rows of {}", config.d_model);
            return Err(HubError::Tensors { folder: path.to_owned(), problems: vec![problem] });
        }
    };
    let planned = plan(family, &config, vocab_size);
    check(path, &file, &planned, rope::factors(&config).as_deref())?;
    let mut weights = TensorMap::new();
    for (path, shape) in parameters::shapes(&config, vocab_size) {
        let zeros = vec![0.0; shape.iter().product()];
        weights.extend(HostTensor::new(shape, zeros).map(|tensor| (path, tensor)));
    }
    for tensor in &planned {
        let values = file.read(&tensor.name)?;
        let finite = values.iter().fold(true, |all, value| all & value.is_finite());
        let parameter = weights.get_mut(&tensor.part.path).filter(|_| finite);
        if !parameter.is_some_and(|parameter| tensor.place(values, parameter)) {
            let reason = if finite { "has no place" } else { "holds a number that is not finite" };
            return Err(HubError::Tensors { folder: path.to_owned(), problems: vec![format!("tensor `{}` {reason}", tensor.name)] });
        }
    }
    Ok(GgufModel { family, config, vocab_size, weights, metadata: file.metadata })
}

/// Whether the tensors are those of the network; all that does not fit is told at once.
fn check(path: &Path, file: &GgufFile, planned: &[Planned], factors: Option<&[f32]>) -> Result<(), HubError> {
    let mut problems = Vec::new();
    let mut expected = BTreeSet::new();
    for tensor in planned {
        expected.insert(tensor.name.as_str());
        match file.dims(&tensor.name) {
            None => problems.push(format!("tensor `{}` of shape {:?} is missing", tensor.name, tensor.dims)),
            Some(found) if found != tensor.dims => {
                problems.push(format!("tensor `{}` has shape {found:?}, expected {:?}", tensor.name, tensor.dims));
            }
            Some(_) => {}
        }
    }
    if let Some(factors) = factors {
        expected.insert(rope::FACTORS);
        // Few numbers, if they are as many as expected.
        if file.dims(rope::FACTORS) != Some(&[factors.len()]) || file.read(rope::FACTORS)? != factors {
            problems.push(format!("tensor `{}` does not hold the factors that its settings give", rope::FACTORS));
        }
    }
    let left_over = file.names().filter(|name| !expected.contains(name));
    problems.extend(left_over.map(|name| format!("tensor `{name}` of shape {:?} belongs to nothing", file.dims(name).unwrap_or_default())));
    if problems.is_empty() { Ok(()) } else { Err(HubError::Tensors { folder: path.to_owned(), problems }) }
}
