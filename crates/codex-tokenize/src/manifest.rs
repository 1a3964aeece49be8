//! A tokenizer on disk: `tokenizer.json`, and beside it a manifest that says what made it and which bytes it must have.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use codex_core::locked_draft::sweep_dead;
use codex_core::{Digest, FileError, LockedDraft, files};
use serde::{Deserialize, Serialize};

use crate::config::TokenizerConfig;
use crate::error::TokenizeError;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json::malformed;

/// The tokenizer's file name in its folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The manifest's file name in the same folder.
pub const MANIFEST_FILE: &str = "tokenizer.manifest.json";
/// The form of the manifest that this version writes and reads.
pub const SCHEMA: &str = "codex.tokenizer.v1";
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What made a tokenizer, and the digest its file must have.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TokenizerManifest {
    /// The form of this file, [`SCHEMA`].
    pub schema: String,
    /// The configuration it was made with.
    pub config: TokenizerConfig,
    /// BLAKE3 of `tokenizer.json`.
    pub digest: Digest,
    /// How many ids there are.
    pub vocab_size: usize,
    /// The texts it was trained on.
    pub corpus: Vec<CorpusRecord>,
}

/// One source of training text.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CorpusRecord {
    /// What it is called, usually its path.
    pub name: String,
    /// How long it is.
    pub bytes: u64,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
}

/// Writes `tokenizer.json` and its manifest into a folder, and gives the manifest back.
///
/// A new folder appears whole. One that exists may hold anything but another tokenizer, which is an error and stays: its file is then ours or absent,
/// and the manifest is the only file that is ever replaced, so whatever moment a writer is killed at, what was there can be loaded, or what was saved.
pub fn save(
    tokenizer: &dyn Tokenizer,
    config: &TokenizerConfig,
    corpus: &[CorpusRecord],
    folder: &Path,
) -> Result<TokenizerManifest, TokenizeError> {
    let manifest = TokenizerManifest {
        schema: SCHEMA.to_owned(),
        config: config.clone(),
        digest: tokenizer.digest(),
        vocab_size: tokenizer.vocab_size(),
        corpus: corpus.to_vec(),
    };
    let mut json =
        serde_json::to_string_pretty(&manifest).map_err(|error| TokenizeError::library("write the tokenizer's manifest", error))?;
    json.push('\n');
    if !folder.is_dir() {
        // The folder above is not ours alone, but a draft whose lock is free is nobody's.
        sweep_dead(files::parent(folder));
        let draft = LockedDraft::create(folder)?;
        draft.write(TOKENIZER_FILE, tokenizer.to_json().as_bytes())?;
        draft.write(MANIFEST_FILE, json.as_bytes())?;
        match draft.publish() {
            Ok(_) => return Ok(manifest),
            // Another process was first, with this tokenizer or another.
            Err(error) if matches!(error.source.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => {}
            Err(error) => return Err(error.into()),
        }
    }
    save_into(folder, tokenizer, &json)?;
    Ok(manifest)
}

/// Saves into a folder that exists.
fn save_into(folder: &Path, tokenizer: &dyn Tokenizer, manifest: &str) -> Result<(), TokenizeError> {
    let path = folder.join(TOKENIZER_FILE);
    match Digest::of_file(&path) {
        Ok(found) if found == tokenizer.digest() => {}
        Ok(found) => return Err(TokenizeError::Exists { folder: folder.to_owned(), expected: tokenizer.digest(), found }),
        Err(error) if error.is_not_found() => files::write_atomic(&path, tokenizer.to_json().as_bytes())?,
        Err(error) => return Err(error.into()),
    }
    Ok(files::write_atomic(&folder.join(MANIFEST_FILE), manifest.as_bytes())?)
}

/// The content of a file that is no larger than any tokenizer or manifest is.
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, TokenizeError> {
    files::read_bounded(path, MAX_FILE_BYTES).map_err(|error| match error.source.kind() {
        ErrorKind::FileTooLarge => TokenizeError::TooLarge { path: path.to_owned(), max_bytes: MAX_FILE_BYTES },
        _ => error.into(),
    })
}

/// Reads the manifest of a folder; `tokenizer.json` beside it must have the digest it names.
pub fn read_manifest(folder: &Path) -> Result<TokenizerManifest, TokenizeError> {
    let manifest = parse_manifest(&folder.join(MANIFEST_FILE))?;
    let path = folder.join(TOKENIZER_FILE);
    verify(&path, &read_bounded(&path)?, &manifest)?;
    Ok(manifest)
}

/// The text of a tokenizer file, given itself or its folder, checked against the manifest when there is one; and the file's path.
pub(crate) fn read_verified(path: &Path) -> Result<(PathBuf, String), TokenizeError> {
    let path = if path.is_dir() { path.join(TOKENIZER_FILE) } else { path.to_owned() };
    let bytes = read_bounded(&path)?;
    if path.file_name().is_some_and(|name| name == TOKENIZER_FILE) {
        match parse_manifest(&files::parent(&path).join(MANIFEST_FILE)) {
            Ok(manifest) => verify(&path, &bytes, &manifest)?,
            Err(TokenizeError::File(error)) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8(bytes);
    let text =
        text.map_err(|error| malformed(&path, "the file", "UTF-8", format!("an invalid byte at {}", error.utf8_error().valid_up_to())))?;
    Ok((path, text))
}

fn parse_manifest(path: &Path) -> Result<TokenizerManifest, TokenizeError> {
    let bytes = read_bounded(path)?;
    let manifest: TokenizerManifest =
        serde_json::from_slice(&bytes).map_err(|source| TokenizeError::json(path, "tokenizer manifest", source))?;
    if manifest.schema != SCHEMA {
        return Err(malformed(path, "schema", &format!("`{SCHEMA}`"), format!("`{}`", manifest.schema)));
    }
    Ok(manifest)
}

fn verify(path: &Path, bytes: &[u8], manifest: &TokenizerManifest) -> Result<(), TokenizeError> {
    let found = Digest::of_bytes(bytes);
    if found == manifest.digest {
        Ok(())
    } else {
        Err(TokenizeError::DigestMismatch { path: path.to_owned(), expected: manifest.digest, found })
    }
}

impl CorpusRecord {
    /// The record of a file's bytes.
    pub fn of_file(path: &Path) -> Result<Self, FileError> {
        Ok(Self { name: path.display().to_string(), bytes: files::size(path)?, digest: Digest::of_file(path)? })
    }
}
