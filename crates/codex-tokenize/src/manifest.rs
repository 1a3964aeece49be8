//! A tokenizer on disk: `tokenizer.json`, and beside it a manifest that says what made it and which bytes it must have.

use std::path::{Path, PathBuf};

use codex_core::{Digest, FileError, FolderDraft, files};
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
/// A new folder appears whole. In one that exists each file is replaced atomically, the manifest last: a writer killed between the two leaves a pair
/// that does not match, which [`read_manifest`] and [`load`](crate::load) refuse.
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
    if folder.is_dir() {
        files::write_atomic(&folder.join(TOKENIZER_FILE), tokenizer.to_json().as_bytes())?;
        files::write_atomic(&folder.join(MANIFEST_FILE), json.as_bytes())?;
    } else {
        let draft = FolderDraft::create(folder)?;
        draft.write(TOKENIZER_FILE, tokenizer.to_json().as_bytes())?;
        draft.write(MANIFEST_FILE, json.as_bytes())?;
        draft.publish()?;
    }
    Ok(manifest)
}

/// Reads the manifest of a folder; `tokenizer.json` beside it must have the digest it names.
pub fn read_manifest(folder: &Path) -> Result<TokenizerManifest, TokenizeError> {
    let manifest = parse_manifest(&folder.join(MANIFEST_FILE))?;
    let path = folder.join(TOKENIZER_FILE);
    verify(&path, &files::read_bounded(&path, MAX_FILE_BYTES)?, &manifest)?;
    Ok(manifest)
}

/// The text of a tokenizer file, given itself or its folder, checked against the manifest when there is one; and the file's path.
pub(crate) fn read_verified(path: &Path) -> Result<(PathBuf, String), TokenizeError> {
    let path = if path.is_dir() { path.join(TOKENIZER_FILE) } else { path.to_owned() };
    let bytes = files::read_bounded(&path, MAX_FILE_BYTES)?;
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
    let bytes = files::read_bounded(path, MAX_FILE_BYTES)?;
    let manifest: TokenizerManifest = serde_json::from_slice(&bytes).map_err(|source| TokenizeError::Json {
        path: path.to_owned(),
        what: "tokenizer manifest",
        line: source.line(),
        column: source.column(),
        source,
    })?;
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
