//! The trait every tokenizer implements, and reading one from a file. The implementations are in `bpe`, `byte` and `hf`.

use std::cmp::Reverse;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use codex_core::{Digest, files, suggest};

use crate::bpe::BpeTokenizer;
use crate::byte::ByteTokenizer;
use crate::error::TokenizeError;
use crate::hf::HfTokenizer;
use crate::manifest;
use crate::special_names::SpecialNames;
use crate::tokenizer_json::TokenizerFile;

/// Text to token ids and back.
///
/// Ids run from 0 to [`vocab_size`](Self::vocab_size), in the [lossless](Self::is_lossless) ones without a gap. A special token is one with a
/// meaning instead of a text, such as the end of a text; plain encoding never yields one, but for the unknown token of a tokenizer that is not
/// lossless.
pub trait Tokenizer: Send + Sync + Debug {
    /// The ids of a text. Special tokens that are spelled in it stay text.
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError>;

    /// The ids of a text in which the named special tokens are recognised, leftmost first and the longest of those that start together. Any other
    /// stays text; one that the tokenizer does not have is an error.
    fn encode_with_special(&self, text: &str, allowed: &[&str]) -> Result<Vec<u32>, TokenizeError> {
        let mut ids = Vec::new();
        for part in special_parts(self, text, allowed)? {
            match part {
                Part::Text(text) => ids.extend(self.encode(text)?),
                Part::Special(id) => ids.push(id),
            }
        }
        Ok(ids)
    }

    /// The ids of each text, in the order given, on several threads where that helps.
    fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TokenizeError>;

    /// Whether [`decode_bytes`](Self::decode_bytes) gives back exactly the text that was encoded, whatever it is, token by token. A tokenizer that
    /// someone else made may lower-case, compose characters or join spaces.
    fn is_lossless(&self) -> bool {
        true
    }

    /// The text of these ids: special tokens as they are written, bytes that are not UTF-8 as U+FFFD. An id outside the vocabulary is an error.
    fn decode(&self, ids: &[u32]) -> Result<String, TokenizeError> {
        Ok(match String::from_utf8(self.decode_bytes(ids)?) {
            Ok(text) => text,
            Err(invalid) => String::from_utf8_lossy(invalid.as_bytes()).into_owned(),
        })
    }

    /// The exact bytes of these ids, in a tokenizer that is not lossless those of their text; special tokens as they are written. An id outside the
    /// vocabulary is an error.
    fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizeError>;

    /// How many bytes of text a token stands for, 0 for a special one; `None` outside the vocabulary.
    fn token_bytes(&self, id: u32) -> Option<usize>;

    /// How many ids there are.
    fn vocab_size(&self) -> usize;

    /// The id of a token as it is written in the vocabulary (`Ġthe` for ` the`).
    fn token_to_id(&self, token: &str) -> Option<u32>;

    /// The token as it is written in the vocabulary.
    fn id_to_token(&self, id: u32) -> Option<String>;

    /// Whether an id is that of a special token.
    fn is_special(&self, id: u32) -> bool {
        self.token_bytes(id) == Some(0)
    }

    /// The special tokens as they are written, in id order: what [`encode_with_special`](Self::encode_with_special) can be told to recognise.
    fn special_tokens(&self) -> Vec<String> {
        (0..self.vocab_size() as u32).filter(|&id| self.is_special(id)).filter_map(|id| self.id_to_token(id)).collect()
    }

    /// The id that ends a text.
    fn end_of_text(&self) -> u32;

    /// The id that fills a batch.
    fn pad(&self) -> u32;

    /// The BLAKE3 digest of [`to_json`](Self::to_json): the identity of this tokenizer.
    fn digest(&self) -> Digest;

    /// The bytes of its `tokenizer.json`.
    fn to_json(&self) -> &str;
}

/// Reads a `tokenizer.json` file, or the one in a folder, of at most 64 MiB.
///
/// A file of bytes or of byte-level BPE in the GPT-2 layout gives a [`ByteTokenizer`] or a [`BpeTokenizer`], any other an [`HfTokenizer`]. Which
/// token ends a text is what `tokenizer_config.json`, `special_tokens_map.json` or `generation_config.json` beside it say; without those it is the
/// first special token, or in another layout the first that is spelled like `</s>` or `<|endoftext|>`. When a manifest of [`save`](crate::save) is
/// beside it, the file must have the digest it names.
pub fn load(path: &Path) -> Result<Arc<dyn Tokenizer>, TokenizeError> {
    let (path, text) = manifest::read_verified(path)?;
    let names = SpecialNames::beside(files::parent(&path))?;
    let mut file = match TokenizerFile::parse(&text, &path) {
        Ok(file) => file,
        Err(TokenizeError::Malformed { .. }) => return Ok(Arc::new(HfTokenizer::build(text, &path, &names)?)),
        Err(error) => return Err(error),
    };
    file.name_special(&names)?;
    Ok(if file.is_bytes() { Arc::new(ByteTokenizer::from_file(file, text)) } else { Arc::new(BpeTokenizer::from_file(file, text)?) })
}

/// The same from the text of a `tokenizer.json` alone, with nothing beside it.
pub fn from_json(text: &str) -> Result<Arc<dyn Tokenizer>, TokenizeError> {
    let file = match TokenizerFile::parse(text, Path::new(manifest::TOKENIZER_FILE)) {
        Ok(file) => file,
        Err(TokenizeError::Malformed { .. }) => return Ok(Arc::new(HfTokenizer::from_json(text)?)),
        Err(error) => return Err(error),
    };
    let text = text.to_owned();
    Ok(if file.is_bytes() { Arc::new(ByteTokenizer::from_file(file, text)) } else { Arc::new(BpeTokenizer::from_file(file, text)?) })
}

/// A stretch of text, or a special token recognised in it.
enum Part<'a> {
    Text(&'a str),
    Special(u32),
}

/// Cuts a text at the allowed special tokens. Each token is searched for once over the text, whatever the others do.
fn special_parts<'a, T: Tokenizer + ?Sized>(tokenizer: &T, text: &'a str, allowed: &[&str]) -> Result<Vec<Part<'a>>, TokenizeError> {
    struct Search<'b> {
        token: &'b str,
        id: u32,
        next: Option<usize>,
    }
    let mut searches = Vec::with_capacity(allowed.len());
    for &token in allowed {
        let id = known_special(tokenizer, token).ok_or_else(|| unknown_special(tokenizer, token))?;
        searches.push(Search { token, id, next: text.find(token) });
    }
    let (mut parts, mut at) = (Vec::new(), 0);
    loop {
        for search in &mut searches {
            if search.next.is_some_and(|next| next < at) {
                search.next = text[at..].find(search.token).map(|offset| at + offset);
            }
        }
        let found = searches.iter().filter_map(|s| Some((s.next?, s))).min_by_key(|(next, s)| (*next, Reverse(s.token.len())));
        let Some((start, search)) = found else { break };
        if start > at {
            parts.push(Part::Text(&text[at..start]));
        }
        parts.push(Part::Special(search.id));
        at = start + search.token.len();
    }
    if at < text.len() {
        parts.push(Part::Text(&text[at..]));
    }
    Ok(parts)
}

/// The id of a special token by its name.
pub(crate) fn known_special<T: Tokenizer + ?Sized>(tokenizer: &T, token: &str) -> Option<u32> {
    tokenizer.token_to_id(token).filter(|&id| tokenizer.is_special(id))
}

/// The error for a name that no special token has.
pub(crate) fn unknown_special<T: Tokenizer + ?Sized>(tokenizer: &T, token: &str) -> TokenizeError {
    let known = tokenizer.special_tokens();
    let nearest = suggest::nearest(token, known.iter().map(String::as_str)).map(str::to_owned);
    TokenizeError::UnknownSpecial { token: token.to_owned(), known, nearest }
}
