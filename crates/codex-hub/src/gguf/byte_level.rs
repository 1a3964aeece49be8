//! Byte-level BPE: llama.cpp's tokenizer `gpt2`, which takes the pattern that cuts a text by a name it knows.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tokenizer::{Parts, Token, TokenKind, Tokens, refused, short, type_of};
use crate::error::HubError;

/// The pattern of GPT-2, which `ByteLevel` has built in.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// That of Llama 3.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// That of Qwen2.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tokens of such a file.
pub(super) fn tokens(parts: &Parts<'_>) -> Result<Tokens, HubError> {
    parts.only_plain()?;
    let mut notes = Vec::new();
    for normalizer in &parts.normalizers {
        match type_of(normalizer) {
            "NFC" => notes.push("texts are composed (NFC) by the tokenizer and taken as they are by llama.cpp".to_owned()),
            other => return Err(refused(format!("its normalizer is `{}`, and llama.cpp takes texts as they are", short(other)))),
        }
    }
    let pre = pattern(parts)?;
    if pre == "default" {
        notes.push(
            "llama.cpp has no name for the pattern that cuts texts, so it takes its default: some texts get other ids there".to_owned(),
        );
    }
    let ignores_merges = parts.model.get("ignore_merges").and_then(Value::as_bool).unwrap_or(false);
    if ignores_merges != (pre == "llama-bpe") {
        let (here, there) = if ignores_merges { ("is", "not") } else { ("is not", "at once") };
        notes.push(format!("a word that is a token {here} taken whole by the tokenizer, and {there} by llama.cpp: the same unless its merges lead elsewhere"));
    }
    let vocab = parts.vocab_map()?;
    let added: BTreeSet<u32> = parts.added.iter().map(|(id, ..)| *id).collect();
    let mut tokens = Vec::new();
    for &(id, text) in vocab.iter().filter(|(id, _)| !added.contains(id)) {
        if text.is_empty() || !text.chars().all(is_byte) {
            return Err(refused(format!("its token {:?} of id {id} is not made of the characters that stand for bytes", short(text))));
        }
        tokens.push(Token { id, text: text.to_owned(), kind: TokenKind::Normal, score: 0.0 });
    }
    let known: BTreeSet<&str> = vocab.iter().map(|(_, text)| *text).collect();
    let mut merges = Vec::new();
    for (left, right) in parts.merges()? {
        let joined = format!("{left}{right}");
        if let Some(text) = [left, right, &joined].into_iter().find(|text| !known.contains(*text)) {
            return Err(refused(format!("its merges name {:?}, which is not in its vocabulary", short(text))));
        }
        if left.contains(' ') || right.contains(' ') {
            return Err(refused(format!("its merges name {:?}, which has a space", short(&joined))));
        }
        merges.push(format!("{left} {right}"));
    }
    for &(id, text, is_special) in &parts.added {
        let kind = if is_special { TokenKind::Control } else { TokenKind::UserDefined };
        tokens.push(Token { id, text: text.to_owned(), kind, score: 0.0 });
    }
    let unknown = parts.model.get("unk_token").and_then(Value::as_str);
    let unknown = unknown.and_then(|unknown| tokens.iter().find(|token| token.text == unknown)).map(|token| token.id);
    Ok(Tokens { model: "gpt2", pre, tokens, merges: Some(merges), has_space_prefix: None, unknown, notes })
}

/// llama.cpp's name of what cuts a text.
fn pattern(parts: &Parts<'_>) -> Result<&'static str, HubError> {
    let mut cuts = Vec::new();
    for part in &parts.pre_tokenizers {
        let flag = |key: &str, absent: bool| part.get(key).and_then(Value::as_bool).unwrap_or(absent);
        match type_of(part) {
            "ByteLevel" => {
                if flag("add_prefix_space", true) {
                    return Err(refused("it puts a space before a text (`add_prefix_space`), and llama.cpp does not".to_owned()));
                }
                if flag("use_regex", true) {
                    cuts.push(GPT2);
                }
            }
            "Split" => {
                let pattern = part.get("pattern").and_then(|pattern| pattern.get("Regex")).and_then(Value::as_str).unwrap_or("");
                let behavior = part.get("behavior").and_then(Value::as_str).unwrap_or("");
                // A pattern that matches every character gives the same pieces in either way.
                let is_plain = matches!((behavior, flag("invert", false)), ("Isolated", false) | ("Removed", true));
                cuts.push(if is_plain { pattern } else { "" });
            }
            "Digits" if flag("individual_digits", false) => cuts.push("digits"),
            _ => cuts.push(""),
        }
    }
    Ok(match cuts[..] {
        [GPT2] => "gpt-2",
        [LLAMA3] => "llama-bpe",
        [QWEN2] => "qwen2",
        ["digits", GPT2] => "smollm",
        _ => "default",
    })
}

/// Whether a character stands for a byte: the visible ones of Latin-1 for themselves, those from 256 on for the others.
fn is_byte(character: char) -> bool {
    matches!(u32::from(character), 33..=126 | 161..=172 | 174..=323)
}
