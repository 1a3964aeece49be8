//! The pieces of SentencePiece.
//!
//! llama.cpp's tokenizer `llama` joins two neighbours into the piece of the best score again and again. BPE in the layout that Llama 2 came with does
//! the same with merges in order, provided that all pairs that make a piece are among them, one piece after the other; the scores are then the places
//! of the pieces in that order. Its tokenizer `t5` takes the likeliest pieces of a text, as Unigram does; `llama` would cut nearly every text otherwise.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::tokenizer::{Parts, Token, TokenKind, Tokens, malformed, refused, short, type_of};
use crate::error::HubError;

/// What stands for a space.
const SPACE: &str = "\u{2581}";

/// The tokens of such a file.
pub(super) fn tokens(parts: &Parts<'_>) -> Result<Tokens, HubError> {
    let has_space_prefix = spaces(parts)?;
    let is_unigram = parts.model.get("type").and_then(Value::as_str) == Some("Unigram");
    let mut notes = Vec::new();
    let (pieces, scores, unknown) = if is_unigram { unigram(parts)? } else { bpe(parts)? };
    let added: BTreeSet<u32> = parts.added.iter().map(|(id, ..)| *id).collect();
    let mut tokens = Vec::new();
    let mut bytes = BTreeSet::new();
    for ((id, text), score) in pieces.into_iter().zip(scores) {
        let byte = byte_of(text);
        bytes.extend(byte);
        if added.contains(&id) {
            continue;
        }
        let (kind, score) = match byte {
            Some(_) => (TokenKind::Byte, 0.0),
            None if Some(id) == unknown => (TokenKind::Unknown, 0.0),
            None => (TokenKind::Normal, score),
        };
        tokens.push(Token { id, text: text.to_owned(), kind, score });
    }
    let falls_back = parts.model.get("byte_fallback").and_then(Value::as_bool).unwrap_or(false);
    if is_unigram && falls_back {
        notes.push("characters that are in no piece are spelled in bytes by the tokenizer, and one unknown token in llama.cpp".to_owned());
    }
    if !is_unigram && (!falls_back || bytes.len() < 256) {
        let reason = format!(
            "llama.cpp spells unknown characters with a token for each byte; {} of 256 are there, `byte_fallback` is {falls_back}",
            bytes.len()
        );
        return Err(refused(reason));
    }
    for &(id, text, is_special) in &parts.added {
        let (kind, text, score) = if Some(id) == unknown {
            (TokenKind::Unknown, text.to_owned(), 0.0)
        } else if is_special {
            (TokenKind::Control, text.to_owned(), 0.0)
        } else {
            (TokenKind::UserDefined, text.replace(SPACE, " "), -1000.0)
        };
        tokens.push(Token { id, text, kind, score });
    }
    let model = if is_unigram { "t5" } else { "llama" };
    Ok(Tokens { model, pre: "default", tokens, merges: None, has_space_prefix: Some(has_space_prefix), unknown, notes })
}

/// Whether a text gets a space in front; what else is done to a text than to write spaces as pieces do is refused.
fn spaces(parts: &Parts<'_>) -> Result<bool, HubError> {
    let (mut is_replaced, mut is_prefixed) = (false, false);
    for normalizer in &parts.normalizers {
        let text = |key: &str| normalizer.get(key).and_then(Value::as_str);
        let from = normalizer.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
        match type_of(normalizer) {
            "Prepend" if text("prepend") == Some(SPACE) => is_prefixed = true,
            "Replace" if from == Some(" ") && text("content") == Some(SPACE) => is_replaced = true,
            other => {
                return Err(refused(format!("its normalizer `{}` does more than to write spaces as pieces do", short(other))));
            }
        }
    }
    for part in &parts.pre_tokenizers {
        let flag = |key: &str, absent: bool| part.get(key).and_then(Value::as_bool).unwrap_or(absent);
        if type_of(part) != "Metaspace" || part.get("replacement").and_then(Value::as_str) != Some(SPACE) {
            return Err(refused(format!(
                "its pre-tokenizer is `{}`, and llama.cpp cuts no text before it looks for pieces",
                short(type_of(part))
            )));
        }
        is_replaced = true;
        is_prefixed |= match part.get("prepend_scheme").and_then(Value::as_str) {
            Some(scheme) => scheme != "never",
            None => flag("add_prefix_space", true),
        };
        let across = || parts.model.get("vocab").is_some_and(any_across);
        if flag("split", true) && across() {
            return Err(refused("it cuts texts at spaces, and has pieces with a space inside, which llama.cpp would take".to_owned()));
        }
    }
    if is_replaced {
        Ok(is_prefixed)
    } else {
        Err(refused("it is neither byte-level nor does it write spaces as SentencePiece does".to_owned()))
    }
}

/// Whether a piece has a space behind its first character.
fn any_across(vocab: &Value) -> bool {
    let is_across = |text: &str| text.trim_start_matches(SPACE).contains(SPACE) || text.starts_with("\u{2581}\u{2581}");
    match vocab {
        Value::Object(map) => map.keys().any(|text| is_across(text)),
        Value::Array(list) => list.iter().filter_map(|entry| entry.get(0)?.as_str()).any(is_across),
        _ => false,
    }
}

/// Pieces with their ids, their scores, and the id of the unknown one.
type Scored<'a> = (Vec<(u32, &'a str)>, Vec<f32>, Option<u32>);

fn unigram<'a>(parts: &Parts<'a>) -> Result<Scored<'a>, HubError> {
    let list = parts.model.get("vocab").and_then(Value::as_array);
    let list = list.ok_or_else(|| malformed("model.vocab", "a list of pieces with scores", "none"))?;
    let (mut pieces, mut scores) = (Vec::new(), Vec::new());
    for (id, entry) in list.iter().enumerate() {
        let text = entry.get(0).and_then(Value::as_str);
        let score = entry.get(1).and_then(Value::as_f64).map(|score| score as f32).filter(|score| score.is_finite());
        let (Some(text), Some(score)) = (text, score) else {
            return Err(malformed(&format!("model.vocab.{id}"), "a piece and its score", "another value"));
        };
        pieces.push((id as u32, text));
        scores.push(score);
    }
    let unknown = parts.model.get("unk_id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let unknown = unknown.filter(|&id| (id as usize) < pieces.len());
    Ok((pieces, scores, Some(unknown.ok_or_else(|| malformed("model.unk_id", "the id of a piece", "none"))?)))
}

fn bpe<'a>(parts: &Parts<'a>) -> Result<Scored<'a>, HubError> {
    parts.only_plain()?;
    let pieces = parts.vocab_map()?;
    let merges = parts.merges()?;
    let places = places(&merges)?;
    let pairs: BTreeSet<(&str, &str)> = merges.into_iter().collect();
    let added: BTreeSet<u32> = parts.added.iter().map(|(id, ..)| *id).collect();
    let known: BTreeSet<&str> =
        pieces.iter().filter(|(id, text)| !added.contains(id) && byte_of(text).is_none()).map(|(_, text)| *text).collect();
    for text in &known {
        let is_piece = |part: &str| part.chars().nth(1).is_none() || known.contains(part);
        let cuts = text.char_indices().skip(1).map(|(i, _)| text.split_at(i));
        if let Some((left, right)) = cuts.into_iter().find(|pair| is_piece(pair.0) && is_piece(pair.1) && !pairs.contains(pair)) {
            let reason =
                format!("{:?} and {:?} make a piece, and are not among its merges: llama.cpp would join them", short(left), short(right));
            return Err(refused(reason));
        }
    }
    // What no merge makes comes last; nothing depends on the order of it.
    let score = |(id, text): &(u32, &str)| 0.0 - places.get(*text).copied().unwrap_or(places.len() + *id as usize) as f32;
    let scores = pieces.iter().map(score).collect();
    let unknown = parts.model.get("unk_token").and_then(Value::as_str);
    let unknown = unknown.and_then(|unknown| pieces.iter().find(|(_, text)| *text == unknown)).map(|(id, _)| *id);
    Ok((pieces, scores, unknown))
}

/// The place of each piece among those that merges make, the first made first.
fn places(merges: &[(&str, &str)]) -> Result<BTreeMap<String, usize>, HubError> {
    let mut places = BTreeMap::new();
    let mut last = String::new();
    for (left, right) in merges {
        let made = format!("{left}{right}");
        if made != last {
            if places.insert(made.clone(), places.len()).is_some() {
                let reason = format!("merges that make {:?} are not one behind the other: llama.cpp gives a piece one place", short(&made));
                return Err(refused(reason));
            }
            last = made;
        }
    }
    Ok(places)
}

/// The byte that a token such as `<0x0A>` stands for.
fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_two = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_two.then(|| u8::from_str_radix(digits, 16).ok())?
}
