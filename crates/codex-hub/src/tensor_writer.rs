//! Safetensors files, written tensor by tensor, so that a model is never in memory twice.

use std::collections::BTreeMap;
use std::io::Write;

use codex_core::{FileError, FolderDraft};
use serde_json::json;

use crate::element::ElementType;
use crate::error::HubError;
use crate::tensor_folder::{INDEX_FILE, ONE_FILE};

/// A tensor that is about to be written: its shape, and its numbers when it is their turn.
pub(crate) struct Pending<'a> {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Box<dyn Fn() -> Option<Vec<f32>> + 'a>,
}

impl Pending<'_> {
    fn bytes(&self, element: ElementType) -> u64 {
        self.shape.iter().product::<usize>() as u64 * element.size() as u64
    }
}

/// Writes tensors into one file, or into several of at most `max_file_bytes` of numbers each with an index.
pub(crate) fn write(
    draft: &FolderDraft,
    tensors: &BTreeMap<String, Pending<'_>>,
    element: ElementType,
    max_file_bytes: u64,
) -> Result<(), HubError> {
    let mut groups: Vec<Vec<&str>> = vec![Vec::new()];
    let (mut filled, mut total, mut numbers) = (0, 0, 0);
    for (name, tensor) in tensors {
        let bytes = tensor.bytes(element);
        if filled > 0 && filled + bytes > max_file_bytes {
            groups.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        total += bytes;
        numbers += tensor.shape.iter().product::<usize>();
        if let Some(group) = groups.last_mut() {
            group.push(name);
        }
    }
    if groups.len() == 1 {
        return write_file(draft, ONE_FILE, &groups[0], tensors, element);
    }
    let mut places = BTreeMap::new();
    let n = groups.len();
    for (i, group) in groups.iter().enumerate() {
        let name = format!("model-{:05}-of-{n:05}.safetensors", i + 1);
        write_file(draft, &name, group, tensors, element)?;
        places.extend(group.iter().map(|tensor| ((*tensor).to_owned(), name.clone())));
    }
    let index = json!({ "metadata": { "total_size": total, "total_parameters": numbers }, "weight_map": places });
    Ok(draft.write(INDEX_FILE, format!("{index:#}\n").as_bytes())?)
}

/// Writes one file of the tensors with these names.
pub(crate) fn write_file(
    draft: &FolderDraft,
    file: &str,
    names: &[&str],
    tensors: &BTreeMap<String, Pending<'_>>,
    element: ElementType,
) -> Result<(), HubError> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut end = 0;
    for name in names {
        let start = end;
        end += tensors[*name].bytes(element);
        let entry = json!({ "dtype": element.name(), "shape": tensors[*name].shape, "data_offsets": [start, end] });
        header.insert((*name).to_owned(), entry);
    }
    let mut text = serde_json::Value::Object(header).to_string();
    // The numbers start at a multiple of eight bytes.
    text += &" ".repeat(text.len().next_multiple_of(8) - text.len());
    let mut to = draft.create_file(file)?;
    let path = draft.path().join(file);
    let put = |to: &mut dyn Write, bytes: &[u8]| to.write_all(bytes).map_err(|source| FileError::new("write", &path, source));
    put(&mut to, &(text.len() as u64).to_le_bytes())?;
    put(&mut to, text.as_bytes())?;
    for name in names {
        let missing = || HubError::Tensors { folder: path.clone(), problems: vec![format!("tensor `{name}` is not among the weights")] };
        let values = (tensors[*name].values)().ok_or_else(missing)?;
        if let Some(value) = values.iter().find(|value| !element.round(**value).is_finite()) {
            let reason = format!("`{name}` holds {value}, which {} cannot; write F32 or BF16", element.name());
            return Err(HubError::NotRepresentable { format: element.name(), reason });
        }
        put(&mut to, &element.encode(&values))?;
    }
    Ok(to.sync()?)
}
