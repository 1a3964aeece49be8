//! Any Hugging Face `tokenizer.json`: whatever models, normalisers, pre-tokenizers and decoders the tokenizers library knows.
//!
//! The library's parts are put together here rather than by its own `Tokenizer`, so that a special token is never found in plain text and every
//! id is the one the file says. What the file stores about cutting, filling and wrapping texts (`truncation`, `padding`, `post_processor`) is left
//! out on purpose: a text for training is encoded whole and as it is. Whoever makes batches decides the rest, or asks `stored_padding`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use codex_core::Digest;
use codex_core::files;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::parallelism::MaybeParallelRefIterator;
use tokenizers::tokenizer::{
    AddedVocabulary, Decoder, Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};
use tokenizers::{AddedToken, ModelWrapper, PreTokenizerWrapper};

use crate::alphabet::token_to_bytes;
use crate::error::TokenizeError;
use crate::guard::guarded;
use crate::hf_model::Tokens;
use crate::hf_parts::{self, NormalizerPart};
use crate::manifest;
use crate::special_names::SpecialNames;
use crate::tokenizer::{Tokenizer, known_special, unknown_special};
use crate::tokenizer_json::{RawFile, malformed, quoted};

/// The longest text that is encoded at once, in bytes.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// The longest that a text may become while it is normalised, in bytes.
const MAX_NORMALIZED_BYTES: usize = 128 << 20;
/// How many choices of special tokens are kept ready.
const MAX_READY: usize = 16;

/// A tokenizer of any layout of `tokenizer.json`.
///
/// It makes no promise that a text comes back as it was ([`is_lossless`](Tokenizer::is_lossless) is `false`): many layouts lower-case, compose
/// characters or join spaces. Plain encoding yields no special token but the unknown one, where the model has one. Ids may have gaps when the
/// file has them; an id in a gap has no token and cannot be decoded.
pub struct HfTokenizer {
    normalizers: Vec<NormalizerPart>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    model: ModelWrapper,
    decoder: Option<DecoderWrapper>,
    /// Finds the added tokens that are no special ones.
    plain: AddedVocabulary,
    /// The same with some special tokens, by their names.
    ready: Mutex<BTreeMap<Vec<String>, Arc<AddedVocabulary>>>,
    tokens: Vec<Option<Token>>,
    ids: BTreeMap<String, u32>,
    added: Vec<(u32, AddedToken)>,
    end_of_text: u32,
    pad: u32,
    bos: Option<u32>,
    unknown: Option<u32>,
    /// Whether each token is bytes, as in GPT-2's alphabet, whatever stands beside it.
    byte_level: bool,
    lengths: OnceLock<Vec<usize>>,
    json: String,
    digest: Digest,
}

/// One id.
struct Token {
    /// As it is written in the vocabulary.
    text: String,
    /// What the decoder is given: the normalised form where that was what was looked for.
    decoded: Option<String>,
    special: bool,
}

impl HfTokenizer {
    /// The tokenizer in the text of a `tokenizer.json`. A text ends with the token that has a known spelling for that, such as `</s>`.
    pub fn from_json(text: &str) -> Result<Self, TokenizeError> {
        Self::build(text.to_owned(), Path::new(manifest::TOKENIZER_FILE), &SpecialNames::default())
    }

    /// Reads a `tokenizer.json` file, or the one in a folder, with the files beside it that name its special tokens.
    pub fn load(path: &Path) -> Result<Self, TokenizeError> {
        let (path, text) = manifest::read_verified(path)?;
        let names = SpecialNames::beside(files::parent(&path))?;
        Self::build(text, &path, &names)
    }

    /// The tokenizer of a file's text; `path` is for the messages.
    pub(crate) fn build(json: String, path: &Path, names: &SpecialNames) -> Result<Self, TokenizeError> {
        let raw = RawFile::parse(&json, path)?;
        if let Some(version) = raw.version.as_deref().filter(|version| *version != "1.0") {
            return Err(malformed(path, "version", "`1.0`", quoted(version)));
        }
        let normalizers = hf_parts::normalizers(raw.normalizer.as_ref(), path)?;
        let pre_tokenizer = hf_parts::pre_tokenizer(raw.pre_tokenizer.as_ref(), path)?;
        let decoder = hf_parts::decoder(raw.decoder.as_ref(), path)?;
        let found = Tokens::build(raw.model, raw.added_tokens.unwrap_or_default(), path)?;

        let id_of = |token: &str| found.ids.get(token).copied();
        let has_id = |id: u32| found.by_id.get(id as usize).is_some_and(Option::is_some);
        let end_of_text = names.end_of_text(&id_of, &has_id)?.ok_or_else(|| {
            malformed(path, "added_tokens", "a token that ends a text (name it as `eos_token` in `tokenizer_config.json`)", "none")
        })?;
        let pad = names.pad(&id_of, &has_id)?.unwrap_or(end_of_text);
        let bos = names.resolve("bos", &id_of, &has_id)?;

        let mut tokens: Vec<Option<Token>> =
            found.by_id.into_iter().map(|text| Some(Token { text: text?, decoded: None, special: false })).collect();
        for (id, added) in &found.added {
            if let Some(Some(token)) = tokens.get_mut(*id as usize) {
                token.special = added.special;
                token.decoded = normalized_form(added, &normalizers)?;
            }
        }
        let plain = added_vocabulary(found.added.iter().filter(|(_, token)| !token.special), &normalizers)?;
        Ok(Self {
            plain,
            normalizers,
            pre_tokenizer,
            byte_level: matches!(decoder, Some(DecoderWrapper::ByteLevel(_))),
            decoder,
            model: found.model,
            ready: Mutex::default(),
            tokens,
            ids: found.ids,
            added: found.added,
            end_of_text,
            pad,
            bos,
            unknown: found.unknown,
            lengths: OnceLock::new(),
            digest: Digest::of_bytes(json.as_bytes()),
            json,
        })
    }

    /// The id that begins a text, when a file beside the tokenizer names it.
    pub fn begin_of_text(&self) -> Option<u32> {
        self.bos
    }

    /// The id of what the model has no token for, when there is one.
    pub fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    /// What finds the added tokens that are not special, and these that are.
    fn recognising(&self, allowed: &[&str]) -> Result<Arc<AddedVocabulary>, TokenizeError> {
        let mut names: Vec<String> = allowed.iter().map(|&token| token.to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = ready.get(&names) {
            return Ok(Arc::clone(found));
        }
        let wanted = self.added.iter().filter(|(_, token)| !token.special || names.binary_search(&token.content).is_ok());
        let made = Arc::new(added_vocabulary(wanted, &self.normalizers)?);
        if ready.len() >= MAX_READY {
            ready.clear();
        }
        ready.insert(names, Arc::clone(&made));
        Ok(made)
    }

    fn encode_finding(&self, added: &AddedVocabulary, text: &str) -> Result<Vec<u32>, TokenizeError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(TokenizeError::TextTooLong { bytes: text.len(), max_bytes: MAX_TEXT_BYTES });
        }
        let failed = |error| TokenizeError::library("encode the text", error);
        guarded("encode the text", || {
            let normalizer = Bounded::new(&self.normalizers);
            let mut split: PreTokenizedString = added.extract_and_normalize(Some(&normalizer), text);
            normalizer.check(text.len())?;
            if let Some(pre_tokenizer) = &self.pre_tokenizer {
                pre_tokenizer.pre_tokenize(&mut split).map_err(failed)?;
            }
            split.tokenize(|part| self.model.tokenize(part.get())).map_err(failed)?;
            let parts = split.get_splits(OffsetReferential::Normalized, OffsetType::None);
            Ok(parts.into_iter().filter_map(|(_, _, tokens)| tokens.as_ref()).flatten().map(|token| token.id).collect())
        })?
    }

    /// The token of an id.
    fn token(&self, id: u32) -> Result<&Token, TokenizeError> {
        let token = self.tokens.get(id as usize).and_then(Option::as_ref);
        token.ok_or(TokenizeError::UnknownId { id, vocab_size: self.tokens.len() })
    }

    /// How many bytes each id adds to a text that has begun.
    fn lengths(&self) -> &[usize] {
        self.lengths.get_or_init(|| {
            // Decoders treat the first token differently, so each is decoded behind another: one of letters, as a byte would join the next.
            let letters =
                |id: &u32| self.decode(&[*id]).is_ok_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic()));
            let plain =
                self.tokens.iter().zip(0..).filter(|(token, _)| token.as_ref().is_some_and(|token| !token.special)).map(|(_, id)| id);
            let first = plain.clone().find(letters).or_else(|| plain.clone().next());
            let alone = first.and_then(|first| self.decode(&[first]).ok()).map_or(0, |text| text.len());
            let length = |id: u32, token: &Token| {
                if token.special {
                    return 0;
                }
                if self.byte_level {
                    return token_to_bytes(&token.text).map_or(token.text.len(), |bytes| bytes.len());
                }
                // A byte that a text is spelled with where there is no piece for a character.
                let is_byte = token.text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).is_some_and(|hex| hex.len() == 2);
                if is_byte && self.ids.contains_key("<0x00>") {
                    return 1;
                }
                let ids: Vec<u32> = first.into_iter().chain([id]).collect();
                self.decode(&ids).map_or(0, |text| text.len().saturating_sub(alone))
            };
            self.tokens.iter().zip(0..).map(|(token, id)| token.as_ref().map_or(0, |token| length(id, token))).collect()
        })
    }
}

impl Tokenizer for HfTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        self.encode_finding(&self.plain, text)
    }

    /// As the trait says, and with the flags of the file: a token marked `lstrip` takes the spaces before it, and so on. What stands behind a
    /// special token is encoded as the library does within one text.
    fn encode_with_special(&self, text: &str, allowed: &[&str]) -> Result<Vec<u32>, TokenizeError> {
        if let Some(unknown) = allowed.iter().find(|token| known_special(self, token).is_none()) {
            return Err(unknown_special(self, unknown));
        }
        self.encode_finding(&*self.recognising(allowed)?, text)
    }

    fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TokenizeError> {
        texts.maybe_par_iter().map(|text| self.encode(text)).collect()
    }

    fn is_lossless(&self) -> bool {
        false
    }

    fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizeError> {
        let mut texts = Vec::with_capacity(ids.len());
        for &id in ids {
            let token = self.token(id)?;
            texts.push(token.decoded.as_ref().unwrap_or(&token.text));
        }
        if self.byte_level {
            let mut bytes = Vec::with_capacity(4 * ids.len());
            for text in texts {
                match token_to_bytes(text) {
                    Some(token) => bytes.extend(token),
                    None => bytes.extend(text.as_bytes()),
                }
            }
            return Ok(bytes);
        }
        // The library's decoders take the last of no tokens.
        let Some(decoder) = self.decoder.as_ref().filter(|_| !texts.is_empty()) else {
            return Ok(texts.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ").into_bytes());
        };
        let texts = texts.into_iter().cloned().collect();
        let decoded = guarded("decode the ids", || decoder.decode(texts))?;
        Ok(decoded.map_err(|error| TokenizeError::library("decode the ids", error))?.into_bytes())
    }

    fn token_bytes(&self, id: u32) -> Option<usize> {
        self.token(id).ok()?;
        self.lengths().get(id as usize).copied()
    }

    fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        Some(self.token(id).ok()?.text.clone())
    }

    fn is_special(&self, id: u32) -> bool {
        self.token(id).is_ok_and(|token| token.special)
    }

    fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    fn pad(&self) -> u32 {
        self.pad
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn to_json(&self) -> &str {
        &self.json
    }
}

impl fmt::Debug for HfTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HfTokenizer").field("len", &self.tokens.len()).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The normalisers in order, stopping before one that could make a text too long.
struct Bounded<'a> {
    parts: &'a [NormalizerPart],
    /// The most bytes that a step could have made, when that was too many.
    too_long: AtomicUsize,
}

impl<'a> Bounded<'a> {
    fn new(parts: &'a [NormalizerPart]) -> Self {
        Self { parts, too_long: AtomicUsize::new(0) }
    }

    /// The library drops what a normaliser says went wrong; it is said here.
    fn check(&self, bytes: usize) -> Result<(), TokenizeError> {
        let made = self.too_long.load(Ordering::Relaxed);
        if made == 0 {
            return Ok(());
        }
        Err(TokenizeError::TextTooLong { bytes, max_bytes: bytes.saturating_mul(MAX_NORMALIZED_BYTES) / made })
    }
}

impl Normalizer for Bounded<'_> {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        for part in self.parts {
            let most = text.get().len().saturating_mul(part.growth).saturating_add(part.added);
            if most > MAX_NORMALIZED_BYTES {
                self.too_long.store(most, Ordering::Relaxed);
                text.clear();
                return Ok(());
            }
            part.part.normalize(text)?;
        }
        Ok(())
    }
}

/// What a token that is looked for in normalised text looks like there, when that differs.
fn normalized_form(token: &AddedToken, normalizers: &[NormalizerPart]) -> Result<Option<String>, TokenizeError> {
    if !token.normalized || normalizers.is_empty() {
        return Ok(None);
    }
    let mut form = NormalizedString::from(token.content.as_str());
    let done = guarded("normalise a token", || Bounded::new(normalizers).normalize(&mut form))?;
    done.map_err(|error| TokenizeError::library("normalise a token", error))?;
    Ok(Some(form.get().to_owned()).filter(|form| *form != token.content))
}

/// What finds these tokens in a text, each with its own id.
fn added_vocabulary<'t>(
    tokens: impl Iterator<Item = &'t (u32, AddedToken)> + Clone,
    normalizers: &[NormalizerPart],
) -> Result<AddedVocabulary, TokenizeError> {
    let failed = |error| TokenizeError::library("look for the added tokens", error);
    // The library takes a token's id from the model, and counts on where the model has none: so it is given one that has exactly these.
    let vocab = tokens.clone().map(|(id, token)| (token.content.clone(), *id)).collect();
    let ids = WordLevel::builder().vocab(vocab).unk_token(String::new()).build().map_err(failed)?;
    let normalizer = Bounded::new(normalizers);
    let mut added = AddedVocabulary::new();
    let made = guarded("look for the added tokens", || added.add_tokens(tokens.map(|(_, token)| token.clone()), &ids, Some(&normalizer)))?;
    made.map_err(failed)?;
    Ok(added)
}
