//! `tokenizer train|validate|encode|decode|stats|import`.

use std::io::Read;
use std::path::Path;

use codex_core::{FolderDraft, files};
use codex_data::{DataConfig, MemorySource, open_sources, train_texts};
use codex_safety::{SafetyConfig, Scanner};
use codex_tokenize::chat::ChatTemplate;
use codex_tokenize::{
    PadTo, Padding, Side, TOKENIZER_FILE, TokenizerConfig, Trained, encode_padded, export_hugging_face, import_sentencepiece,
    import_tiktoken, load, stored_padding, tiktoken_ranks, with_stored_padding,
};
use serde_json::json;

use crate::arguments::{Tokenizer, TokenizerFormat};
use crate::commands::tokenizer_look::{self, UNSEEN};
use crate::failure::CliError;
use crate::terminal::Terminal;
use crate::{corpus, prepared};

/// The file that names a tokenizer's special tokens.
const CONFIG_FILE: &str = "tokenizer_config.json";
/// The longest text that is read from standard input, in bytes.
const MAX_TEXT_BYTES: u64 = 64 << 20;

pub(super) fn run(arguments: Tokenizer, terminal: &Terminal) -> Result<(), CliError> {
    match arguments {
        Tokenizer::Train { paths, out, vocab_size, kind, min_frequency, special_tokens } => {
            let kind = serde_json::from_value(json!(kind)).map_err(|_| {
                CliError::usage(
                    format!("`--kind {kind}` is none of `bpe`, `word_level`, `byte`"),
                    "other trainers are not reproducible; `codex-cli tokenizer import` brings a tokenizer of another kind in",
                )
            })?;
            let mut config = TokenizerConfig { kind, vocab_size, min_frequency, ..TokenizerConfig::default() };
            if !special_tokens.is_empty() {
                config.special_tokens = special_tokens;
            }
            if let Some((key, message)) = config.problems().into_iter().next() {
                return Err(CliError::usage(format!("tokenizer.{key}: {message}"), "see `codex-cli tokenizer train --help`"));
            }
            let data = data_config(&paths, "builtin:austen/train");
            let sources = open_sources(&data, &corpus::builtins(&data)?)?;
            let scanner = Scanner::new(&SafetyConfig::default())?;
            let Trained { tokenizer, report } = prepared::train_tokenizer(&config, &data, &sources, &scanner, &out, terminal)?;
            let value = json!({
                "folder": out, "vocab_size": tokenizer.vocab_size(), "digest": tokenizer.digest(), "texts": report.texts, "bytes": report.bytes,
                "words": report.words, "left_out": report.left_out,
            });
            terminal.result(&value, || format!("{} ids in {}, digest {}", tokenizer.vocab_size(), out.display(), tokenizer.digest()))
        }
        Tokenizer::Validate { tokenizer, paths, model } => {
            tokenizer_look::check(&tokenizer, &texts(&paths, UNSEEN)?, model.as_deref(), terminal)
        }
        Tokenizer::Encode { tokenizer, text, allow_special, as_it_is } => {
            let text = text.map_or_else(standard_input, Ok)?;
            let allowed: Vec<&str> = allow_special.iter().map(String::as_str).collect();
            let tokenizer = load(&tokenizer)?;
            // Settings in its file are those of a caller who says nothing else.
            let stored = if as_it_is || !allowed.is_empty() { None } else { stored_padding(tokenizer.as_ref())? };
            let ids = match stored {
                Some(padding) => encode_padded(tokenizer.as_ref(), &[&text], &padding)?.ids,
                None => tokenizer.encode_with_special(&text, &allowed)?,
            };
            terminal.result(&ids, || ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        }
        Tokenizer::Decode { tokenizer, ids } => {
            let ids = parse_ids(&ids)?;
            let text = load(&tokenizer)?.decode(&ids)?;
            terminal.text(&json!({ "ids": ids, "text": text }), &text)
        }
        Tokenizer::Padding { tokenizer, out, longest, max_length, truncate, left } => {
            let side = if left { Side::Left } else { Side::Right };
            let to = if longest { PadTo::Longest } else { PadTo::MaxLength };
            let wanted = longest || max_length.is_some();
            let padding = Padding { to, max_length, truncate, side, ..Padding::default() };
            let tokenizer = load(&tokenizer)?;
            let json = with_stored_padding(tokenizer.as_ref(), wanted.then_some(&padding))?;
            let draft = FolderDraft::create(&out)?;
            draft.write(TOKENIZER_FILE, json.as_bytes())?;
            let stored = load(draft.path())?;
            let folder = draft.publish()?;
            let value = json!({ "folder": folder, "digest": stored.digest(), "padding": stored_padding(stored.as_ref())? });
            terminal.result(&value, || format!("{}, digest {}", folder.display(), stored.digest()))
        }
        Tokenizer::Import { file, out, encoding } => import(&file, &out, encoding.as_deref(), terminal),
        Tokenizer::Stats { tokenizer, paths } => tokenizer_look::count(&tokenizer, &texts(&paths, UNSEEN)?, terminal),
        Tokenizer::Compare { first, second, paths, text } => {
            tokenizer_look::side_by_side((&first, &second), &texts(&paths, UNSEEN)?, text.as_deref(), terminal)
        }
        Tokenizer::Export { tokenizer, out, format, template } => export(&tokenizer, &out, format, template.as_deref(), terminal),
    }
}

/// Writes a tokenizer as other programs read it.
fn export(tokenizer: &Path, out: &Path, format: TokenizerFormat, template: Option<&str>, terminal: &Terminal) -> Result<(), CliError> {
    let tokenizer = load(tokenizer)?;
    let written = match format {
        TokenizerFormat::Hf => {
            let template = template.map(ChatTemplate::text_of).transpose()?;
            export_hugging_face(tokenizer.as_ref(), template.as_deref(), out)?
        }
        TokenizerFormat::Tiktoken => {
            if template.is_some() {
                return Err(CliError::usage(
                    "a rank file has no place for a chat template",
                    "leave `--template` out, or take `--format hf`",
                ));
            }
            if out.exists() {
                return Err(CliError::usage(format!("`{}` is there already", out.display()), "give another `--out`"));
            }
            files::write_atomic(out, tiktoken_ranks(tokenizer.as_ref())?.as_bytes())?;
            vec![out.to_owned()]
        }
    };
    let value = json!({ "files": written, "digest": tokenizer.digest(), "vocab_size": tokenizer.vocab_size() });
    terminal.result(&value, || written.iter().map(|path| format!("{}\n", path.display())).collect::<Vec<_>>().concat())
}

/// Brings in a tokenizer of another format: its files are written, read again as any other, and named with its digest.
fn import(file: &Path, out: &Path, encoding: Option<&str>, terminal: &Terminal) -> Result<(), CliError> {
    let ends = |end: &str| file.extension().is_some_and(|found| found.eq_ignore_ascii_case(end));
    let read = || files::read_bounded(file, MAX_TEXT_BYTES);
    let written: Vec<(&str, String)> = if ends("json") || file.is_dir() {
        let tokenizer = load(file)?;
        let beside = if file.is_dir() { file.to_owned() } else { files::parent(file).to_owned() };
        let config = beside.join(CONFIG_FILE);
        let config = if config.exists() { Some((CONFIG_FILE, files::read_to_string(&config)?)) } else { None };
        [(TOKENIZER_FILE, tokenizer.to_json().to_owned())].into_iter().chain(config).collect()
    } else {
        let imported = match encoding {
            Some(encoding) => import_tiktoken(&read()?, encoding)?,
            None if ends("tiktoken") => {
                let what = format!("`{}` does not say how it cuts texts", file.display());
                return Err(CliError::usage(what, "name it: `--encoding gpt2`, `cl100k_base`, `o200k_base`, …"));
            }
            None => import_sentencepiece(&read()?)?,
        };
        vec![(TOKENIZER_FILE, imported.tokenizer_json), (CONFIG_FILE, imported.tokenizer_config)]
    };
    let draft = FolderDraft::create(out)?;
    for (name, text) in &written {
        draft.write(name, text.as_bytes())?;
    }
    let tokenizer = load(draft.path())?;
    let folder = draft.publish()?;
    let value = json!({
        "folder": folder, "vocab_size": tokenizer.vocab_size(), "digest": tokenizer.digest(), "lossless": tokenizer.is_lossless(),
        "special_tokens": tokenizer.special_tokens(),
    });
    terminal.result(&value, || format!("{} ids in {}, digest {}", tokenizer.vocab_size(), folder.display(), tokenizer.digest()))
}

/// What names these files and folders, or a compiled-in source.
fn data_config(paths: &[String], builtin: &str) -> DataConfig {
    DataConfig { train: if paths.is_empty() { vec![builtin.to_owned()] } else { paths.to_vec() }, ..DataConfig::default() }
}

/// The texts of these files and folders, or of a compiled-in source, as the safety rules leave them.
fn texts(paths: &[String], builtin: &str) -> Result<Vec<String>, CliError> {
    let config = data_config(paths, builtin);
    let builtins: Vec<MemorySource> = corpus::builtins(&config)?;
    let sources = open_sources(&config, &builtins)?;
    let scanner = Scanner::new(&SafetyConfig::default())?;
    Ok(train_texts(&sources, &config, &scanner).collect::<Result<_, _>>()?)
}

fn parse_ids(words: &[String]) -> Result<Vec<u32>, CliError> {
    let wrong =
        |word: &str| CliError::usage(format!("`{word}` is not a token id"), "give numbers, as in `codex-cli tokenizer decode DIR 17 4 8`");
    let parts = words.iter().flat_map(|word| word.split([',', ' '])).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|_| wrong(part))).collect()
}

fn standard_input() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_TEXT_BYTES + 1).read_to_string(&mut text);
    if text.len() as u64 > MAX_TEXT_BYTES {
        return Err(CliError::usage("the text is longer than 64 MiB", "give it in parts"));
    }
    read.map_err(|error| CliError::Unreadable { place: Path::new("standard input").display().to_string(), reason: error.to_string() })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_separated_by_spaces_or_commas() {
        assert_eq!(parse_ids(&["1,2".to_owned(), "3 4".to_owned(), String::new()]).unwrap(), [1, 2, 3, 4]);
        assert!(parse_ids(&["x".to_owned()]).unwrap_err().to_string().contains("`x` is not a token id"));
        assert!(parse_ids(&["-1".to_owned()]).is_err());
    }
}
