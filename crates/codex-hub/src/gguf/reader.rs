//! Reading a GGUF file of which nothing is believed: every count, length, shape and place is held against the size of the file before memory is asked
//! for, and numbers are read only when a tensor is asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use codex_core::{FileError, files};

use super::quant::GgufType;
use super::value::{GgufValue, LIST, Metadata, NumberKind, TEXT};
use super::writer::{ALIGNMENT, ALIGNMENT_KEY, MAGIC, VERSION};
use crate::error::HubError;

/// The longest header that is read, in bytes.
const MAX_HEADER_BYTES: u64 = 512 << 20;
/// The longest text.
const MAX_TEXT_BYTES: u64 = 16 << 20;
/// The longest key or tensor name that is read; llama.cpp takes names of 63 bytes.
const MAX_NAME_BYTES: u64 = 1024;
/// The most keys, and the most tensors.
const MAX_ENTRIES: u64 = 1 << 16;
/// The most dimensions of a tensor.
const MAX_DIMS: u32 = 4;
/// The largest alignment.
const MAX_ALIGNMENT: u32 = 1 << 16;

/// A file of which the header was read.
#[derive(Debug)]
pub(crate) struct GgufFile {
    path: PathBuf,
    pub(crate) metadata: Metadata,
    tensors: BTreeMap<String, Entry>,
}

/// Where one tensor is.
#[derive(Clone, Debug)]
struct Entry {
    /// Rows first.
    dims: Vec<usize>,
    kind: GgufType,
    /// Its first byte in the file.
    start: u64,
    bytes: u64,
}

impl GgufFile {
    /// Reads the header.
    pub(crate) fn open(path: &Path) -> Result<Self, HubError> {
        let length = files::size(path)?;
        let mut from = Cursor { from: BufReader::new(files::open(path)?), path, position: 0, length };
        if from.array("the magic number")? != MAGIC {
            return Err(HubError::tensor_file(path, "it does not begin with `GGUF`"));
        }
        let version = u32::from_le_bytes(from.array("the version")?);
        if version != VERSION {
            let reason = match version.swap_bytes() {
                1..=VERSION => "it is big endian, and little endian is read".to_owned(),
                _ => format!("it is of version {version}, and {VERSION} is read"),
            };
            return Err(HubError::tensor_file(path, reason));
        }
        let n_tensors = from.entries("tensors", 8 + 4 + 4 + 8)?;
        let n_keys = from.entries("keys", 8 + 4 + 1)?;
        let mut metadata = Metadata::new();
        for _ in 0..n_keys {
            let key = from.text("a key", MAX_NAME_BYTES)?;
            let value = from.value(&key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(HubError::tensor_file(path, format!("the key `{key}` is there twice")));
            }
        }
        let alignment = match metadata.get(ALIGNMENT_KEY) {
            None => ALIGNMENT,
            Some(GgufValue::U32(value)) if value.is_power_of_two() && *value <= MAX_ALIGNMENT => u64::from(*value),
            Some(other) => {
                let expected = format!("a power of two up to {MAX_ALIGNMENT}");
                return Err(HubError::malformed(path, ALIGNMENT_KEY, expected, format!("{other:?}").chars().take(60).collect::<String>()));
            }
        };
        let mut listed = Vec::new();
        for _ in 0..n_tensors {
            listed.push(from.tensor()?);
        }
        let tensors = placed(listed, from.position.next_multiple_of(alignment), alignment, length, path)?;
        Ok(Self { path: path.to_owned(), metadata, tensors })
    }

    /// The names of its tensors, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, rows first.
    pub(crate) fn dims(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.dims.as_slice())
    }

    /// The numbers of a tensor.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<f32>, HubError> {
        let missing = || HubError::Tensors { folder: self.path.clone(), problems: vec![format!("tensor `{name}` is missing")] };
        let entry = self.tensors.get(name).ok_or_else(missing)?;
        let failed = |source| HubError::File(FileError::new("read", &self.path, source));
        let mut file = files::open(&self.path)?;
        file.seek(SeekFrom::Start(entry.start)).map_err(failed)?;
        let mut bytes = vec![0; entry.bytes as usize];
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok(entry.kind.decode(&bytes))
    }
}

/// A tensor as the list has it.
struct Listed {
    name: String,
    dims: Vec<u64>,
    kind: GgufType,
    offset: u64,
}

/// The places of the tensors: one behind the other from `start`, each at a multiple of the alignment, all of the file.
fn placed(listed: Vec<Listed>, start: u64, alignment: u64, length: u64, path: &Path) -> Result<BTreeMap<String, Entry>, HubError> {
    let mut tensors = BTreeMap::new();
    let wrong = |name: &str, reason: String| HubError::tensor_file(path, format!("tensor `{name}` {reason}"));
    let (mut expected, mut end) = (0_u64, start.min(length));
    for Listed { name, dims, kind, offset } in listed {
        let too_large = || wrong(&name, format!("has a shape of more numbers than the file can hold: {dims:?}"));
        let n = dims.iter().try_fold(1_u64, |n, &length| n.checked_mul(length)).ok_or_else(too_large)?;
        let row = dims.first().copied().unwrap_or(1);
        let bytes = kind
            .bytes(n, row)
            .ok_or_else(|| wrong(&name, format!("is of type {} with rows of {row} numbers, which are no whole blocks", kind.name())))?;
        if offset != expected {
            return Err(wrong(&name, format!("begins at byte {offset} of the numbers, expected {expected}")));
        }
        let last = start.checked_add(offset).and_then(|first| first.checked_add(bytes)).ok_or_else(too_large)?;
        if last > length {
            return Err(wrong(&name, format!("ends at byte {last}, and the file has {length}")));
        }
        end = last;
        expected = offset.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(alignment)).ok_or_else(too_large)?;
        let dims = dims.iter().rev().map(|&length| length as usize).collect();
        if tensors.insert(name.clone(), Entry { dims, kind, start: start + offset, bytes }).is_some() {
            return Err(wrong(&name, "is there twice".to_owned()));
        }
    }
    let most = end.checked_next_multiple_of(alignment).unwrap_or(end);
    if length > most {
        return Err(HubError::tensor_file(path, format!("{} bytes follow the last tensor", length - end)));
    }
    Ok(tensors)
}

/// A place in a file that is read from front to back.
struct Cursor<'a> {
    from: BufReader<File>,
    path: &'a Path,
    position: u64,
    length: u64,
}

impl Cursor<'_> {
    fn wrong(&self, reason: impl AsRef<str>) -> HubError {
        HubError::tensor_file(self.path, format!("byte {}: {}", self.position, reason.as_ref()))
    }

    /// Bytes of the header that may still follow.
    fn rest(&self) -> u64 {
        self.length.min(MAX_HEADER_BYTES).saturating_sub(self.position)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), HubError> {
        let n = bytes.len() as u64;
        if n > self.rest() {
            return Err(self.wrong(format!("the file ends in {what}")));
        }
        self.from.read_exact(bytes).map_err(|source| FileError::new("read", self.path, source))?;
        self.position += n;
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], HubError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    fn bytes(&mut self, n: u64, what: &str) -> Result<Vec<u8>, HubError> {
        if n > self.rest() {
            return Err(self.wrong(format!("{what} of {n} bytes, and {} follow", self.rest())));
        }
        let mut bytes = vec![0; n as usize];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    /// The number of keys or tensors, each of at least `least` bytes.
    fn entries(&mut self, what: &str, least: u64) -> Result<u64, HubError> {
        let n = u64::from_le_bytes(self.array(what)?);
        let most = MAX_ENTRIES.min(self.rest() / least);
        if n > most {
            return Err(self.wrong(format!("{n} {what}, and there is place for {most} at most")));
        }
        Ok(n)
    }

    fn text(&mut self, what: &str, most: u64) -> Result<String, HubError> {
        let n = u64::from_le_bytes(self.array(what)?);
        if n > most {
            return Err(self.wrong(format!("{what} of {n} bytes, and {most} are read at most")));
        }
        let bytes = self.bytes(n, what)?;
        String::from_utf8(bytes).map_err(|_| self.wrong(format!("{what} is not UTF-8")))
    }

    fn value(&mut self, key: &str) -> Result<GgufValue, HubError> {
        let what = format!("the value of `{key}`");
        let code = u32::from_le_bytes(self.array(&what)?);
        match code {
            TEXT => Ok(GgufValue::Text(self.text(&what, MAX_TEXT_BYTES)?)),
            LIST => self.list(&what),
            _ => {
                let kind = NumberKind::of_code(code).ok_or_else(|| self.wrong(format!("{what} is of type {code}, which there is not")))?;
                let bytes = self.bytes(kind.size() as u64, &what)?;
                kind.value(&bytes).ok_or_else(|| self.wrong(format!("{what} is neither `true` nor `false`")))
            }
        }
    }

    fn list(&mut self, what: &str) -> Result<GgufValue, HubError> {
        let code = u32::from_le_bytes(self.array(what)?);
        let n = u64::from_le_bytes(self.array(what)?);
        if code == TEXT {
            if n > self.rest() / 8 {
                return Err(self.wrong(format!("{what} lists {n} texts, and there is place for {} at most", self.rest() / 8)));
            }
            let mut texts = Vec::new();
            for _ in 0..n {
                texts.push(self.text(what, MAX_TEXT_BYTES)?);
            }
            return Ok(GgufValue::Texts(texts));
        }
        let kind = NumberKind::of_code(code).ok_or_else(|| self.wrong(format!("{what} is a list of type {code}, which is not read")))?;
        let size = n.saturating_mul(kind.size() as u64);
        Ok(GgufValue::Numbers { kind, bytes: self.bytes(size, what)? })
    }

    fn tensor(&mut self) -> Result<Listed, HubError> {
        let name = self.text("the name of a tensor", MAX_NAME_BYTES)?;
        let what = format!("the description of tensor `{name}`");
        let n_dims = u32::from_le_bytes(self.array(&what)?);
        if n_dims == 0 || n_dims > MAX_DIMS {
            return Err(self.wrong(format!("tensor `{name}` has {n_dims} dimensions, expected 1 to {MAX_DIMS}")));
        }
        let mut dims = Vec::new();
        for _ in 0..n_dims {
            let length = u64::from_le_bytes(self.array(&what)?);
            if length == 0 {
                return Err(self.wrong(format!("tensor `{name}` has a dimension of length 0")));
            }
            dims.push(length);
        }
        let code = u32::from_le_bytes(self.array(&what)?);
        let kind = GgufType::of_code(code)
            .ok_or_else(|| self.wrong(format!("tensor `{name}` is of type {code}; f32 (0), f16 (1) and q8_0 (8) are read")))?;
        let offset = u64::from_le_bytes(self.array(&what)?);
        Ok(Listed { name, dims, kind, offset })
    }
}
