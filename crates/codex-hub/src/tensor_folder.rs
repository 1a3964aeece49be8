//! The tensors of a Hugging Face folder: one safetensors file, or several with an index. Headers are read first; numbers only when asked for.
//!
//! Format: <https://github.com/huggingface/safetensors>; the index is `model.safetensors.index.json` with a `weight_map` from tensor to file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use codex_core::{Digest, FileError, files};
use safetensors::tensor::Metadata;

use crate::element::ElementType;
use crate::error::HubError;
use crate::fields::{Fields, read_object};

/// The one file of a model that is not cut.
pub(crate) const ONE_FILE: &str = "model.safetensors";
/// What names the files of one that is.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";
/// The largest header that is read, in bytes.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The most files of one model.
const MAX_FILES: usize = 1000;
/// Weights in formats that can run programs.
const PICKLES: [&str; 3] = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];

/// Where the tensors of a folder are.
#[derive(Debug)]
pub struct TensorFolder {
    files: Vec<PathBuf>,
    tensors: BTreeMap<String, Entry>,
}

/// Where one tensor is.
#[derive(Clone, Debug)]
struct Entry {
    file: usize,
    element: ElementType,
    shape: Vec<usize>,
    /// Its first byte in the file.
    start: u64,
    bytes: usize,
}

impl TensorFolder {
    /// Reads the headers of a model's files.
    pub fn open(folder: &Path) -> Result<Self, HubError> {
        let (one, index) = (folder.join(ONE_FILE), folder.join(INDEX_FILE));
        if one.exists() {
            return Self::of_files(vec![one]);
        }
        if !index.exists() {
            let pickle = PICKLES.iter().map(|name| folder.join(name)).find(|path| path.exists());
            return Err(match pickle {
                Some(path) => HubError::Pickle { path },
                None => HubError::NoWeights { folder: folder.to_owned() },
            });
        }
        let map = read_object(&index, "index of tensors")?;
        let fields = Fields::new(&index, &map);
        let places = fields.get("weight_map").and_then(|value| value.as_object());
        let places = places.ok_or_else(|| HubError::malformed(&index, "weight_map", "an object of file names by tensor", "none"))?;
        let mut names = BTreeSet::new();
        for (tensor, file) in places {
            let key = format!("weight_map.{tensor}");
            let name = file.as_str().filter(|name| is_plain_name(name));
            names.insert(name.ok_or_else(|| HubError::malformed(&index, &key, "the name of a file beside the index", file.to_string()))?);
        }
        if names.len() > MAX_FILES {
            return Err(HubError::malformed(&index, "weight_map", format!("at most {MAX_FILES} files"), names.len().to_string()));
        }
        let all = Self::of_files(names.iter().map(|name| folder.join(name)).collect())?;
        for (tensor, file) in places {
            let found = all.tensors.get(tensor).map(|entry| &all.files[entry.file]);
            if found.and_then(|path| path.file_name()).and_then(|name| name.to_str()) != file.as_str() {
                let place = found.map_or("in none of the files".to_owned(), |path| format!("in `{}`", path.display()));
                return Err(HubError::malformed(&index, &format!("weight_map.{tensor}"), format!("the tensor in {file}"), place));
            }
        }
        Ok(all)
    }

    /// Reads the headers of these files.
    pub fn of_files(files: Vec<PathBuf>) -> Result<Self, HubError> {
        let mut tensors = BTreeMap::new();
        for (file, path) in files.iter().enumerate() {
            for (name, entry) in read_header(path, file)? {
                if tensors.insert(name.clone(), entry).is_some() {
                    return Err(HubError::tensor_file(path, format!("tensor `{name}` is in two files")));
                }
            }
        }
        Ok(Self { files, tensors })
    }

    /// The names of its tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The type of a tensor's numbers.
    pub fn element(&self, name: &str) -> Option<ElementType> {
        self.tensors.get(name).map(|entry| entry.element)
    }

    /// The numbers of a tensor as f32.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, HubError> {
        let Some(entry) = self.tensors.get(name) else {
            let folder = self.files.first().map_or_else(PathBuf::new, |file| files::parent(file).to_owned());
            return Err(HubError::Tensors { folder, problems: vec![format!("tensor `{name}` is missing")] });
        };
        let path = &self.files[entry.file];
        let failed = |source| HubError::File(FileError::new("read", path, source));
        let mut file = files::open(path)?;
        file.seek(SeekFrom::Start(entry.start)).map_err(failed)?;
        let mut bytes = vec![0; entry.bytes];
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok(entry.element.decode(&bytes))
    }

    /// Its files, each with its digest.
    pub fn digests(&self) -> Result<Vec<(PathBuf, Digest)>, HubError> {
        self.files.iter().map(|path| Ok((path.clone(), Digest::of_file(path)?))).collect()
    }
}

/// Whether a name leads nowhere else: no folder, no parent.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0', ':']) && name.len() <= 255
}

fn read_header(path: &Path, file: usize) -> Result<Vec<(String, Entry)>, HubError> {
    let length = files::size(path)?;
    let mut handle = files::open(path)?;
    let failed = |source| HubError::File(FileError::new("read", path, source));
    if length < 8 {
        return Err(HubError::tensor_file(path, format!("it has {length} bytes, and a safetensors file has at least 8")));
    }
    let mut size = [0; 8];
    handle.read_exact(&mut size).map_err(failed)?;
    let header_bytes = u64::from_le_bytes(size);
    if header_bytes > MAX_HEADER_BYTES || header_bytes > length - 8 {
        let reason = format!("its first 8 bytes promise a header of {header_bytes} bytes, and {} follow", length - 8);
        return Err(HubError::tensor_file(path, reason));
    }
    let header: Metadata = {
        let mut bytes = vec![0; header_bytes as usize];
        handle.read_exact(&mut bytes).map_err(failed)?;
        serde_json::from_slice(&bytes).map_err(|error| HubError::tensor_file(path, format!("its header cannot be read: {error}")))?
    };
    let data = header.data_len() as u64;
    if header_bytes.checked_add(8).and_then(|start| start.checked_add(data)) != Some(length) {
        let reason = format!("its header promises {data} bytes of numbers, and {} follow", length - 8 - header_bytes);
        return Err(HubError::tensor_file(path, reason));
    }
    let mut entries = Vec::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let element = ElementType::of(info.dtype).ok_or_else(|| {
            HubError::tensor_file(path, format!("tensor `{name}` holds numbers of type {}; F32, F16 and BF16 are read", info.dtype))
        });
        // Masks of old GPT-2 files are flags, and nobody asks for them.
        let element = if is_buffer(&name) { ElementType::F32 } else { element? };
        let (start, end) = info.data_offsets;
        let entry = Entry { file, element, shape: info.shape.clone(), start: 8 + header_bytes + start as u64, bytes: end - start };
        entries.push((name, entry));
    }
    Ok(entries)
}

/// Whether a tensor is no weight but something that follows from the configuration, which some files hold.
pub(crate) fn is_buffer(name: &str) -> bool {
    let ends = [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", "embeddings.position_ids", "embeddings.token_type_ids"];
    ends.iter().any(|end| name.ends_with(end))
}
