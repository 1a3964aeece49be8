//! Writing a GGUF file, tensor by tensor: the header and one tensor are in memory at a time.
//!
//! Format: version 3 of <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, little endian.

use std::io::Write;
use std::path::Path;

use codex_core::FolderDraft;
use codex_core::folder::DraftFile;

use super::quant::{BLOCK, GgufType};
use super::value::{GgufValue, write_text};
use crate::error::HubError;

/// What every file begins with.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is written, and the only one that is read.
pub(crate) const VERSION: u32 = 3;
/// What the numbers of a tensor start at a multiple of, unless a file says otherwise.
pub(crate) const ALIGNMENT: u64 = 32;
/// The key of that.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
/// Numbers that are encoded at once: whole blocks.
const PIECE: usize = BLOCK << 11;

/// A tensor that is about to be written.
pub(crate) struct Pending<'a> {
    pub(crate) name: String,
    /// Its shape, rows first.
    pub(crate) dims: Vec<usize>,
    pub(crate) kind: GgufType,
    /// Its numbers, when it is their turn.
    pub(crate) values: Box<dyn Fn() -> Option<Vec<f32>> + 'a>,
}

impl Pending<'_> {
    fn bytes(&self) -> Option<u64> {
        let n = self.dims.iter().product::<usize>() as u64;
        self.kind.bytes(n, self.dims.last().copied().unwrap_or(1) as u64)
    }
}

/// Everything before the numbers of the first tensor.
pub(crate) fn header(metadata: &[(String, GgufValue)], tensors: &[Pending<'_>]) -> Result<Vec<u8>, HubError> {
    let mut to = Vec::new();
    to.extend(MAGIC);
    to.extend(VERSION.to_le_bytes());
    to.extend((tensors.len() as u64).to_le_bytes());
    to.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        write_text(key, &mut to);
        value.write(&mut to);
    }
    let mut offset = 0_u64;
    for tensor in tensors {
        write_text(&tensor.name, &mut to);
        to.extend((tensor.dims.len() as u32).to_le_bytes());
        for length in tensor.dims.iter().rev() {
            to.extend((*length as u64).to_le_bytes());
        }
        to.extend(tensor.kind.code().to_le_bytes());
        to.extend(offset.to_le_bytes());
        let end = tensor.bytes().and_then(|bytes| offset.checked_add(bytes)?.checked_next_multiple_of(ALIGNMENT));
        let too_large = || HubError::NotRepresentable { format: "GGUF", reason: format!("tensor `{}` is too large", tensor.name) };
        offset = end.ok_or_else(too_large)?;
    }
    pad(&mut to);
    Ok(to)
}

fn pad(to: &mut Vec<u8>) {
    to.resize(to.len().next_multiple_of(ALIGNMENT as usize), 0);
}

/// Writes the file of a draft; `target` is for the messages.
pub(crate) fn write(
    draft: &FolderDraft,
    file: &str,
    target: &Path,
    metadata: &[(String, GgufValue)],
    tensors: &[Pending<'_>],
) -> Result<(), HubError> {
    let mut to = draft.create_file(file)?;
    put(&mut to, &header(metadata, tensors)?)?;
    for tensor in tensors {
        let missing = || HubError::Tensors {
            folder: target.to_owned(),
            problems: vec![format!("tensor `{}` is not among the weights", tensor.name)],
        };
        let values = (tensor.values)().ok_or_else(missing)?;
        let mut written = 0_u64;
        for piece in values.chunks(PIECE) {
            let bytes = tensor.kind.encode(piece);
            if let Some(i) = first_not_finite(piece, tensor.kind, &bytes) {
                let reason = format!("`{}` holds {}, which {} cannot; write f32", tensor.name, piece[i], tensor.kind.name());
                return Err(HubError::NotRepresentable { format: "GGUF", reason });
            }
            written += bytes.len() as u64;
            put(&mut to, &bytes)?;
        }
        let zeros = [0; ALIGNMENT as usize];
        put(&mut to, &zeros[..(written.next_multiple_of(ALIGNMENT) - written) as usize])?;
    }
    Ok(to.sync()?)
}

/// The first number that is not finite, or is not once it is written.
fn first_not_finite(values: &[f32], kind: GgufType, bytes: &[u8]) -> Option<usize> {
    let is_whole = |values: &[f32]| values.iter().fold(true, |all, value| all & value.is_finite());
    let back = if kind == GgufType::F32 { None } else { Some(kind.decode(bytes)) };
    if is_whole(values) && back.as_deref().is_none_or(is_whole) {
        return None;
    }
    let stays = |i: usize| values[i].is_finite() && back.as_ref().is_none_or(|back| back[i].is_finite());
    (0..values.len()).find(|&i| !stays(i))
}

fn put(to: &mut DraftFile, bytes: &[u8]) -> Result<(), HubError> {
    to.write_all(bytes).map_err(|source| HubError::File(to.failed(source)))
}
