//! The model and the tokens of a `tokenizer.json` of any layout, checked before the library sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{AddedToken, ModelWrapper};

use crate::error::TokenizeError;
use crate::guard::guarded;
use crate::tokenizer_json::{RawAdded, RawMerge, RawModel, RawVocab, malformed, quoted};

/// The most ids there can be; the largest real vocabularies have 262,208.
const MAX_IDS: u32 = 1 << 21;
/// The most ids that may stand unused between others: some real files have a dozen.
const MAX_UNUSED_IDS: usize = 4096;
/// The longest token, in bytes. The library walks a Unigram token by recursion.
const MAX_TOKEN_BYTES: usize = 512;
/// The longest word that WordPiece looks up, in characters; it tries every part of it. Real files say 100.
const MAX_WORD_CHARS: usize = 256;

/// The tokens of a file and what turns text into them.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// Each id's token as it is written; `None` where an id is not used.
    pub(crate) by_id: Vec<Option<String>>,
    /// The ids by token.
    pub(crate) ids: BTreeMap<String, u32>,
    /// Tokens that are looked for in the text before the model sees it, with their ids.
    pub(crate) added: Vec<(u32, AddedToken)>,
    /// The model, without the special tokens: it cannot yield one, but the unknown token.
    pub(crate) model: ModelWrapper,
    /// The id of what the model does not know.
    pub(crate) unknown: Option<u32>,
}

impl Tokens {
    /// Checks the model and the added tokens of a file and builds them.
    pub(crate) fn build(mut model: RawModel, added: Vec<RawAdded>, path: &Path) -> Result<Self, TokenizeError> {
        let added = added_tokens(added, path)?;
        let special: BTreeSet<&str> = added.iter().filter(|(_, token)| token.special).map(|(_, token)| token.content.as_str()).collect();
        let vocab = model.vocab.take().ok_or_else(|| malformed(path, "model.vocab", "a map from token to id, or a list", "none"))?;
        let kind = match (model.kind.as_deref(), &vocab) {
            (Some(kind), _) => kind.to_owned(),
            // Files before tokenizers 0.10 do not say it.
            (None, RawVocab::List(_)) => "Unigram".to_owned(),
            (None, RawVocab::Map(_)) if model.merges.is_some() => "BPE".to_owned(),
            (None, RawVocab::Map(_)) if model.continuing_subword_prefix.is_some() => "WordPiece".to_owned(),
            (None, RawVocab::Map(_)) => "WordLevel".to_owned(),
        };
        let is_list = matches!(vocab, RawVocab::List(_));
        match kind.as_str() {
            "BPE" | "WordPiece" | "WordLevel" if is_list => return Err(malformed(path, "model.vocab", "a map from token to id", "a list")),
            "Unigram" if !is_list => return Err(malformed(path, "model.vocab", "a list of tokens and scores", "a map")),
            "BPE" | "WordPiece" | "WordLevel" | "Unigram" => {}
            other => return Err(malformed(path, "model.type", "`BPE`, `Unigram`, `WordPiece` or `WordLevel`", quoted(other))),
        }
        let pieces: Vec<(String, u32)> = match &vocab {
            RawVocab::Map(map) => map.clone(),
            RawVocab::List(list) => list.iter().map(|(piece, _)| piece.clone()).zip(0..).collect(),
        };
        let (by_id, ids) = by_id(&pieces, &added, path)?;
        let (built, unknown) = match (kind.as_str(), vocab) {
            ("WordPiece", RawVocab::Map(map)) => word_piece(model, map, &special, path)?,
            ("WordLevel", RawVocab::Map(map)) => word_level(&model, map, &special, path)?,
            (_, RawVocab::Map(map)) => bpe(model, map, &special, path)?,
            (_, RawVocab::List(list)) => unigram(&model, list, &special, path)?,
        };
        Ok(Self { by_id, ids, added, model: built, unknown })
    }
}

/// The added tokens as the library has them.
fn added_tokens(raw: Vec<RawAdded>, path: &Path) -> Result<Vec<(u32, AddedToken)>, TokenizeError> {
    let mut seen = BTreeSet::new();
    let mut added = Vec::with_capacity(raw.len());
    for (i, token) in raw.into_iter().enumerate() {
        let key = format!("added_tokens[{i}].content");
        if token.content.is_empty() || token.content.len() > MAX_TOKEN_BYTES {
            return Err(malformed(path, &key, &format!("1 to {MAX_TOKEN_BYTES} bytes"), token.content.len().to_string()));
        }
        if !seen.insert(token.content.clone()) {
            return Err(malformed(path, &key, "each token once", quoted(&token.content)));
        }
        let normalized = token.normalized.unwrap_or(!token.special);
        let library = AddedToken::from(token.content, token.special)
            .normalized(normalized)
            .single_word(token.single_word)
            .lstrip(token.lstrip)
            .rstrip(token.rstrip);
        added.push((token.id, library));
    }
    Ok(added)
}

type ById = (Vec<Option<String>>, BTreeMap<String, u32>);

/// All tokens by id and by text.
fn by_id(pieces: &[(String, u32)], added: &[(u32, AddedToken)], path: &Path) -> Result<ById, TokenizeError> {
    let key = "model.vocab";
    let mut ids: BTreeMap<String, u32> = BTreeMap::new();
    for (token, id) in pieces {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(malformed(
                path,
                key,
                &format!("tokens of at most {MAX_TOKEN_BYTES} bytes"),
                format!("{} in {}", token.len(), quoted(token)),
            ));
        }
        // Of two equal pieces the library finds the last, and some real Unigram files have such.
        ids.insert(token.clone(), *id);
    }
    for (id, token) in added {
        if let Some(&other) = ids.get(&token.content)
            && other != *id
        {
            let expected = format!("id {other} for {}, as in the vocabulary", quoted(&token.content));
            return Err(malformed(path, "added_tokens", &expected, id.to_string()));
        }
        ids.insert(token.content.clone(), *id);
    }
    let named = pieces.iter().map(|(token, id)| (*id, token)).chain(added.iter().map(|(id, token)| (*id, &token.content)));
    let mut used: BTreeMap<u32, &String> = BTreeMap::new();
    for (id, token) in named {
        if let Some(other) = used.insert(id, token)
            && other != token
        {
            return Err(malformed(path, key, "each id once", format!("{id} for {} and {}", quoted(other), quoted(token))));
        }
    }
    let Some((&last, _)) = used.last_key_value() else { return Err(malformed(path, key, "at least one token", "none")) };
    if last >= MAX_IDS {
        return Err(malformed(path, key, &format!("ids below {MAX_IDS}"), last.to_string()));
    }
    let unused = last as usize + 1 - used.len();
    if unused > MAX_UNUSED_IDS {
        return Err(malformed(path, key, &format!("at most {MAX_UNUSED_IDS} unused ids"), format!("{unused} below {last}")));
    }
    let mut by_id = vec![None; last as usize + 1];
    for (id, token) in used {
        by_id[id as usize] = Some(token.clone());
    }
    Ok((by_id, ids))
}

type Built = (ModelWrapper, Option<u32>);

/// The vocabulary without the special tokens, but the unknown one.
fn plain(map: Vec<(String, u32)>, special: &BTreeSet<&str>, unknown: Option<&str>) -> Vocab {
    map.into_iter().filter(|(token, _)| Some(token.as_str()) == unknown || !special.contains(token.as_str())).collect()
}

fn bpe(model: RawModel, map: Vec<(String, u32)>, special: &BTreeSet<&str>, path: &Path) -> Result<Built, TokenizeError> {
    if let Some(dropout) = model.dropout.filter(|&dropout| dropout.to_bits() != 0) {
        return Err(malformed(path, "model.dropout", "`null`, as encoding must not be random", format!("`{dropout}`")));
    }
    let ids: BTreeMap<String, u32> = map.iter().cloned().collect();
    let prefix = model.continuing_subword_prefix.filter(|prefix| !prefix.is_empty());
    let merges = merges(model.merges, &ids, prefix.as_deref(), special, path)?;
    let unknown = model.unk_token.as_ref().and_then(|token| ids.get(token).copied());
    // Without it in the vocabulary the library would fail on the first unknown character; without any it leaves that character out.
    let unk_token = model.unk_token.filter(|_| unknown.is_some());
    let vocab = plain(map, special, unk_token.as_deref());
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .fuse_unk(model.fuse_unk.unwrap_or(false))
        .byte_fallback(model.byte_fallback.unwrap_or(false))
        .ignore_merges(model.ignore_merges.unwrap_or(false));
    if let Some(token) = unk_token {
        builder = builder.unk_token(token);
    }
    if let Some(prefix) = prefix {
        builder = builder.continuing_subword_prefix(prefix);
    }
    if let Some(suffix) = model.end_of_word_suffix.filter(|suffix| !suffix.is_empty()) {
        builder = builder.end_of_word_suffix(suffix);
    }
    let built = guarded("make a tokenizer of the file", || builder.build())?;
    Ok((ModelWrapper::BPE(built.map_err(|error| TokenizeError::library("make a tokenizer of the file", error))?), unknown))
}

/// The merges of tokens that the model keeps.
fn merges(
    raw: Option<Vec<RawMerge>>,
    ids: &BTreeMap<String, u32>,
    prefix: Option<&str>,
    special: &BTreeSet<&str>,
    path: &Path,
) -> Result<Vec<(String, String)>, TokenizeError> {
    let raw = raw.ok_or_else(|| malformed(path, "model.merges", "a list of merges", "none"))?;
    let mut merges = Vec::with_capacity(raw.len());
    for (i, merge) in raw.into_iter().enumerate() {
        let key = || format!("model.merges[{i}]");
        let (left, right) = match merge {
            RawMerge::Pair(left, right) => (left, right),
            RawMerge::Line(line) if line.starts_with("#version") => continue,
            RawMerge::Line(line) => match line.split_once(' ') {
                Some((left, right)) if !right.contains(' ') => (left.to_owned(), right.to_owned()),
                _ => return Err(malformed(path, &key(), "two tokens", quoted(&line))),
            },
        };
        // The library cuts the prefix off the right token without looking.
        let tail = match prefix {
            Some(prefix) => right
                .strip_prefix(prefix)
                .ok_or_else(|| malformed(path, &key(), &format!("a second token that starts with {}", quoted(prefix)), quoted(&right)))?,
            None => right.as_str(),
        };
        let joined = format!("{left}{tail}");
        for token in [&left, &right, &joined] {
            if !ids.contains_key(token.as_str()) {
                return Err(malformed(path, &key(), "tokens of the vocabulary, joined and apart", quoted(token)));
            }
        }
        // A special token is no text: nothing is merged into one or out of one.
        if ![&left, &right, &joined].iter().any(|token| special.contains(token.as_str())) {
            merges.push((left, right));
        }
    }
    Ok(merges)
}

/// The id of the unknown token, which WordPiece and WordLevel need.
fn required_unknown(token: &str, map: &[(String, u32)], path: &Path) -> Result<u32, TokenizeError> {
    let id = map.iter().find(|(piece, _)| piece == token).map(|(_, id)| *id);
    id.ok_or_else(|| malformed(path, "model.unk_token", "a token of the vocabulary", quoted(token)))
}

fn word_piece(model: RawModel, map: Vec<(String, u32)>, special: &BTreeSet<&str>, path: &Path) -> Result<Built, TokenizeError> {
    let token = model.unk_token.unwrap_or_else(|| "[UNK]".to_owned());
    let unknown = required_unknown(&token, &map, path)?;
    let max_chars = model.max_input_chars_per_word.unwrap_or(100);
    if max_chars > MAX_WORD_CHARS {
        return Err(malformed(path, "model.max_input_chars_per_word", &format!("at most {MAX_WORD_CHARS}"), max_chars.to_string()));
    }
    let built = WordPiece::builder()
        .vocab(plain(map, special, Some(&token)))
        .unk_token(token)
        .continuing_subword_prefix(model.continuing_subword_prefix.unwrap_or_else(|| "##".to_owned()))
        .max_input_chars_per_word(max_chars)
        .build();
    Ok((ModelWrapper::WordPiece(built.map_err(|error| TokenizeError::library("make a tokenizer of the file", error))?), Some(unknown)))
}

fn word_level(model: &RawModel, map: Vec<(String, u32)>, special: &BTreeSet<&str>, path: &Path) -> Result<Built, TokenizeError> {
    let token = model.unk_token.clone().unwrap_or_else(|| "<unk>".to_owned());
    let unknown = required_unknown(&token, &map, path)?;
    let built = WordLevel::builder().vocab(plain(map, special, Some(&token))).unk_token(token).build();
    Ok((ModelWrapper::WordLevel(built.map_err(|error| TokenizeError::library("make a tokenizer of the file", error))?), Some(unknown)))
}

fn unigram(model: &RawModel, list: Vec<(String, f64)>, special: &BTreeSet<&str>, path: &Path) -> Result<Built, TokenizeError> {
    let unknown = model.unk_id;
    if let Some(id) = unknown.filter(|&id| id >= list.len()) {
        return Err(malformed(path, "model.unk_id", &format!("an id below {}", list.len()), id.to_string()));
    }
    // A piece without text is never found in any, and keeps the ids of the others in place.
    let plain =
        list.into_iter().map(|(piece, score)| if special.contains(piece.as_str()) { (String::new(), score) } else { (piece, score) });
    let built = Unigram::from(plain.collect(), unknown, model.byte_fallback.unwrap_or(false));
    let built = built.map_err(|error| TokenizeError::library("make a tokenizer of the file", error))?;
    Ok((ModelWrapper::Unigram(built), unknown.map(|id| id as u32)))
}
