//! What a configuration says about the tokenizer, and what can be wrong with it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::special_names::SpecialNames;
use crate::word_level;

/// The largest vocabulary that is trained.
const MAX_VOCAB_SIZE: usize = 1 << 20;
/// The most special tokens there can be.
const MAX_SPECIAL_TOKENS: usize = 1024;
/// The longest special token, in bytes.
const MAX_SPECIAL_BYTES: usize = 128;

/// The `tokenizer` section of a configuration.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// Which tokenizer is made.
    pub kind: TokenizerKind,
    /// How many ids there are at most, special tokens and the 256 bytes included. The byte tokenizer has no use for it.
    pub vocab_size: usize,
    /// How often a pair of tokens must occur to become one token.
    pub min_frequency: u64,
    /// The special tokens, with ids from 0 on: the first ends a text, the second pads a batch. With only one, it does both.
    pub special_tokens: Vec<String>,
    /// A `tokenizer.json`, or a folder with one, to use as it is; nothing is trained then and the keys above are not read.
    pub file: Option<PathBuf>,
}

/// The kinds of tokenizer that can be made.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// Byte-level byte-pair encoding, trained on the corpus.
    #[default]
    Bpe,
    /// One token for each byte; nothing is trained.
    Byte,
    /// One token for each frequent word; what a text has else is lost.
    #[serde(rename = "word_level")]
    WordLevel,
    /// Not trained here, which [`problems`](TokenizerConfig::problems) says: only imported.
    Unigram,
    /// Not trained here, which [`problems`](TokenizerConfig::problems) says: only imported.
    #[serde(alias = "word_piece")]
    WordPiece,
}

impl TokenizerKind {
    /// The name in a configuration and in the [registry](crate::registry).
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpe => "bpe",
            Self::Byte => "byte",
            Self::WordLevel => "word_level",
            Self::Unigram => "unigram",
            Self::WordPiece => "wordpiece",
        }
    }
}

impl TokenizerKind {
    /// Why a tokenizer of this kind is not trained here, and what to do instead; `None` for those that are.
    fn why_not_trained(self) -> Option<&'static str> {
        let instead = match self {
            Self::Bpe | Self::Byte | Self::WordLevel => return None,
            Self::Unigram => {
                "is not trained here, as the same text gives other scores with another number of threads; use `bpe`, or bring one that is \
                 trained in with `codex-cli tokenizer import`"
            }
            Self::WordPiece => {
                "is not trained here, as the same text gives other ids from run to run; use `bpe`, or bring one that is trained in with \
                 `codex-cli tokenizer import`"
            }
        };
        Some(instead)
    }
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            kind: TokenizerKind::Bpe,
            vocab_size: 2048,
            min_frequency: 2,
            special_tokens: vec!["<|endoftext|>".to_owned(), "<|pad|>".to_owned()],
            file: None,
        }
    }
}

impl TokenizerConfig {
    /// Everything that is wrong, as (key within the section, message); empty when all is well.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if self.file.is_some() {
            return problems;
        }
        let mut tell = |key: &str, message: String| problems.push((key.to_owned(), message));
        let n_special = self.special_tokens.len();
        if let Some(reason) = self.kind.why_not_trained() {
            tell("kind", format!("`{}` {reason}", self.kind.name()));
        }
        if matches!(self.kind, TokenizerKind::Bpe | TokenizerKind::WordLevel) {
            let (least, parts) = if self.kind == TokenizerKind::Bpe {
                (256 + n_special, format!("256 bytes and {n_special} special tokens"))
            } else {
                let n = word_level::special_tokens(&self.special_tokens).0.len();
                (n + 1, format!("{n} special tokens, with one for unknown words, and a word"))
            };
            if self.vocab_size < least {
                tell("vocab_size", format!("expected at least {least} ({parts}), found {}", self.vocab_size));
            }
            if self.vocab_size > MAX_VOCAB_SIZE {
                tell("vocab_size", format!("expected at most {MAX_VOCAB_SIZE}, found {}", self.vocab_size));
            }
            if self.min_frequency == 0 {
                tell("min_frequency", "expected at least 1, found 0".to_owned());
            }
        }
        if n_special == 0 || n_special > MAX_SPECIAL_TOKENS {
            tell("special_tokens", format!("expected 1 to {MAX_SPECIAL_TOKENS} tokens, found {n_special}"));
        }
        if self.kind == TokenizerKind::WordLevel
            && let Some(message) = role_problem(&self.special_tokens)
        {
            tell("special_tokens", message);
        }
        let mut seen = BTreeSet::new();
        for token in &self.special_tokens {
            if let Some(message) = special_problem(token) {
                tell("special_tokens", message);
            }
            if !seen.insert(token) {
                tell("special_tokens", format!("`{token}` is listed twice"));
            }
        }
        problems
    }
}

/// What keeps the special tokens of a word-level tokenizer from being told apart: its file says which there are, not what each is for, so the first
/// and the second need spellings that say it.
fn role_problem(tokens: &[String]) -> Option<String> {
    let id_of = |name: &str| tokens.iter().position(|token| token == name).map(|id| id as u32);
    let names = SpecialNames::default();
    let (_, unknown) = word_level::special_tokens(tokens);
    let ends = names.end_of_text(&id_of, &|_| false).ok().flatten();
    if !tokens.is_empty() && ends != Some(0) {
        return Some(format!(
            "expected a first token that is known to end a text, such as `<|endoftext|>` or `</s>`, found `{}`",
            tokens[0]
        ));
    }
    let second = tokens.get(1).filter(|token| *token != unknown)?;
    let pads = names.pad(&id_of, &|_| false).ok().flatten();
    (pads != Some(1))
        .then(|| format!("expected a second token that is known to pad a batch, such as `<|pad|>` or `<pad>`, found `{second}`"))
}

/// What keeps a text from being a special token. The rule makes sure that no merge of plain text can spell one: a mark that opens it and a letter or
/// digit within never stand in one word of the pre-tokenizer.
fn special_problem(token: &str) -> Option<String> {
    if token.len() > MAX_SPECIAL_BYTES {
        return Some(format!(
            "expected at most {MAX_SPECIAL_BYTES} bytes, found {} in `{}…`",
            token.len(),
            token.chars().take(32).collect::<String>()
        ));
    }
    let mark = |c: char| c.is_ascii_punctuation() && c != '\'';
    let framed = token.starts_with(mark) && token.ends_with(mark);
    let plain = token.chars().all(|c| c.is_ascii_graphic());
    let worded = token.chars().any(|c| c.is_ascii_alphanumeric());
    (!(framed && plain && worded)).then(|| {
        format!("expected visible ASCII that starts and ends with a mark and holds a letter or digit, such as `<|pad|>`, found `{token}`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(edit: impl FnOnce(&mut TokenizerConfig)) -> Vec<String> {
        let mut config = TokenizerConfig::default();
        edit(&mut config);
        config.problems().into_iter().map(|(key, message)| format!("{key}: {message}")).collect()
    }

    #[test]
    fn defaults_are_sound() {
        assert!(problems(|_| ()).is_empty());
        let json = serde_json::to_string(&TokenizerConfig::default()).unwrap();
        assert_eq!(json, r#"{"kind":"bpe","vocab_size":2048,"min_frequency":2,"special_tokens":["<|endoftext|>","<|pad|>"],"file":null}"#);
        assert_eq!(serde_json::from_str::<TokenizerConfig>("{}").unwrap(), TokenizerConfig::default());
        assert_eq!(serde_json::from_str::<TokenizerConfig>(&json).unwrap(), TokenizerConfig::default());
        assert!(serde_json::from_str::<TokenizerConfig>(r#"{"vocab": 1}"#).is_err());
        assert_eq!((TokenizerKind::Bpe.name(), TokenizerKind::Byte.name()), ("bpe", "byte"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let found = problems(|c| {
            c.vocab_size = 100;
            c.min_frequency = 0;
            c.special_tokens = vec!["pad".to_owned(), "<e>".to_owned(), "<e>".to_owned()];
        });
        assert_eq!(found[0], "vocab_size: expected at least 259 (256 bytes and 3 special tokens), found 100");
        assert_eq!(found[1], "min_frequency: expected at least 1, found 0");
        assert!(found[2].ends_with("found `pad`"), "{}", found[2]);
        assert_eq!(found[3], "special_tokens: `<e>` is listed twice");
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn sizes_are_bounded_and_other_kinds_ignore_what_they_do_not_use() {
        assert_eq!(problems(|c| c.vocab_size = usize::MAX).len(), 1);
        assert_eq!(problems(|c| c.special_tokens.clear()), ["special_tokens: expected 1 to 1024 tokens, found 0"]);
        assert!(problems(|c| (c.kind, c.vocab_size, c.min_frequency) = (TokenizerKind::Byte, 0, 0)).is_empty());
        assert!(problems(|c| (c.file, c.vocab_size) = (Some("x".into()), 0)).is_empty());
        for bad in ["", " ", "<a b>", "'s", "--", "<é>", "a>", &format!("<{}>", "a".repeat(200))] {
            assert_eq!(problems(|c| c.special_tokens[1] = bad.to_owned()).len(), 1, "{bad}");
        }
        for good in ["[EOS]", "</s>", "<|im_start|>", "<0>"] {
            assert!(problems(|c| c.special_tokens[1] = good.to_owned()).is_empty(), "{good}");
        }
    }

    #[test]
    fn kinds_that_are_not_reproducible_are_refused_with_the_reason() {
        for (name, reason) in [("unigram", "other scores with another number of threads"), ("wordpiece", "other ids from run to run")] {
            let config: TokenizerConfig = serde_json::from_str(&format!(r#"{{"kind": "{name}"}}"#)).unwrap();
            let found = config.problems();
            assert_eq!((found.len(), found[0].0.as_str()), (1, "kind"));
            assert!(found[0].1.starts_with(&format!("`{name}` is not trained here")) && found[0].1.contains(reason), "{}", found[0].1);
            assert!(found[0].1.contains("use `bpe`") && found[0].1.contains("tokenizer import"));
            // One that exists is used whatever kind is named.
            assert!(TokenizerConfig { file: Some("x".into()), ..config }.problems().is_empty());
        }
        let config: TokenizerConfig = serde_json::from_str(r#"{"kind": "word_level"}"#).unwrap();
        assert_eq!((config.kind, config.kind.name()), (TokenizerKind::WordLevel, "word_level"));
        assert_eq!(serde_json::to_value(config.kind).unwrap(), "word_level");
    }

    #[test]
    fn word_level_needs_special_tokens_that_say_what_they_are() {
        let with = |tokens: &[&str], vocab_size| {
            problems(|c| {
                (c.kind, c.vocab_size) = (TokenizerKind::WordLevel, vocab_size);
                c.special_tokens = tokens.iter().map(|&token| token.to_owned()).collect();
            })
        };
        for good in [&["<|endoftext|>", "<|pad|>"] as &[&str], &["</s>"], &["</s>", "[UNK]", "<s>"], &["</s>", "<pad>", "<unk>"]] {
            assert!(with(good, 100).is_empty(), "{good:?}");
        }
        assert!(with(&["<stop>"], 100)[0].contains("known to end a text"));
        assert!(with(&["</s>", "<fill>"], 100)[0].contains("known to pad a batch"));
        assert!(with(&["</s>", "<|endoftext|>"], 100)[0].contains("known to end a text"));
        assert!(with(&["</s>"], 2)[0].starts_with("vocab_size: expected at least 3"));
    }
}
