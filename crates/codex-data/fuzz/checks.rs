//! What must hold for any bytes: readers return, with what they found or with an error that has a next step, and never with wrong tokens.
//!
//! Compiled into the fuzz targets beside it and into the tests of codex-data, which feed it changed examples of each kind.
#![allow(dead_code, reason = "each fuzz target runs one of them")]
#![allow(clippy::allow_attributes, reason = "which is unused differs from target to target")]
#![allow(clippy::unwrap_used, reason = "a check that cannot go on fails")]

use std::path::Path;
use std::sync::OnceLock;

use codex_core::{Digest, Failure, files};
use codex_data::{DataConfig, DataError, RowKind, Split, TokenCache, open_sources, prepare};
use codex_safety::{SafetyConfig, Scanner};
use codex_tokenize::{ByteTokenizer, TokenizerConfig};

/// The names under which bytes are read, so that each reader sees them.
pub(crate) const NAMES: [&str; 10] = ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.md", "a", "a.jsonl.gz", "a.json.zst", "a.parquet"];

/// The most documents that are looked at: a few bytes can be unpacked to many.
const MOST_DOCUMENTS: usize = 20_000;

/// A folder of this process.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

fn scanner() -> &'static Scanner {
    static SCANNER: OnceLock<Scanner> = OnceLock::new();
    SCANNER.get_or_init(|| Scanner::with_rules(&SafetyConfig::default(), Vec::new()).unwrap())
}

/// The first byte picks the name, the second the kind of rows and the bound; the rest is the file.
pub(crate) fn rows(data: &[u8]) {
    let [name, settings, bytes @ ..] = data else { return };
    // A folder of its own, for tests that run beside each other.
    let place = tempfile::tempdir_in(folder()).unwrap();
    let path = place.path().join(NAMES[usize::from(*name) % NAMES.len()]);
    files::write_atomic(&path, bytes).unwrap();
    let config = DataConfig {
        train: vec![path.display().to_string()],
        rows: [RowKind::Auto, RowKind::Text, RowKind::Prompt, RowKind::Chat][usize::from(settings & 3)],
        max_row_bytes: if settings & 4 == 0 { 1 << 20 } else { 50 },
        ..DataConfig::default()
    };
    if let Err(error) = read(&config) {
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
        assert!((2..=7).contains(&error.exit_class().code()), "{error}");
    }
}

fn read(config: &DataConfig) -> Result<(), DataError> {
    let sources = open_sources(config, &[])?;
    assert_eq!(sources.train.len(), 1);
    let described = sources.describe(100, scanner());
    let mut n = 0;
    for document in sources.train[0].documents()?.take(MOST_DOCUMENTS) {
        match document {
            Ok(document) => {
                n += 1;
                // As JSON a text may be shorter than its quotes and escapes, never longer than its row allows.
                assert!(document.content.text().len() <= config.max_row_bytes, "{}", document.origin);
            }
            Err(error @ DataError::BadRow { .. }) => assert!(error.hint().is_some()),
            Err(error) => return Err(error),
        }
    }
    // What is described is what is read: where there are documents, the description does not fail.
    assert!(
        described.is_ok() || n == 0 || n >= 100 || matches!(described, Err(DataError::Unreadable { .. } | DataError::Compressed { .. }))
    );
    Ok(())
}

/// The first byte picks the reader; the rest is the file.
pub(crate) fn tokenizers(data: &[u8]) {
    let [reader, bytes @ ..] = data else { return };
    let json = match reader % 3 {
        0 => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => return,
        },
        1 => codex_tokenize::import_sentencepiece(bytes).map(|imported| imported.tokenizer_json),
        _ => codex_tokenize::import_tiktoken_with(bytes, r"\w+|\s+|[^\w\s]+", &[("<|end|>".to_owned(), 300)])
            .map(|imported| imported.tokenizer_json),
    };
    let tokenizer = json.and_then(|json| codex_tokenize::from_json(&json));
    let Ok(tokenizer) = tokenizer.inspect_err(|error| assert!(!error.to_string().is_empty())) else { return };
    let text = "Some text, 42 é😀\n\t<|end|> a";
    let Ok(ids) = tokenizer.encode(text) else { return };
    if let Ok(decoded) = tokenizer.decode(&ids) {
        assert!(!tokenizer.is_lossless() || decoded == text, "{decoded:?}");
    }
}

struct Cache {
    key: Digest,
    files: Vec<(String, Vec<u8>)>,
    tokens: Vec<Vec<u32>>,
}

/// A cache of a few documents with prompts, so that each of its files is there.
fn cache_of_reference() -> &'static Cache {
    static CACHE: OnceLock<Cache> = OnceLock::new();
    CACHE.get_or_init(|| {
        let place = tempfile::tempdir_in(folder()).unwrap();
        let path = place.path().join("a.jsonl");
        let row = |i: usize| format!("{{\"prompt\": \"question {i}\", \"completion\": \"answer {}\"}}\n", i * i);
        let rows = (0..20).map(row).collect::<Vec<_>>().concat();
        files::write_atomic(&path, rows.as_bytes()).unwrap();
        let config = DataConfig { train: vec![path.display().to_string()], validation_fraction: 0.3, ..DataConfig::default() };
        let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
        let sources = open_sources(&config, &[]).unwrap();
        let cache =
            prepare(&config, &sources, &tokenizer, scanner(), Digest::of_bytes(b""), &place.path().join("cache"), &mut |_| {}).unwrap();
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let files = files::list_dir(cache.folder()).unwrap().iter().map(|path| (name(path), files::read(path).unwrap())).collect();
        Cache { key: cache.key(), files, tokens: tokens_of(&cache) }
    })
}

fn tokens_of(cache: &TokenCache) -> Vec<Vec<u32>> {
    [Split::Train, Split::Validation].map(|split| cache.split(split).tokens(0, usize::MAX).unwrap()).to_vec()
}

/// The first byte picks a file, the next three the place and what happens there, and the rest is put there.
pub(crate) fn cache(data: &[u8]) {
    let [which, high, low, cut, bytes @ ..] = data else { return };
    let reference = cache_of_reference();
    let place = tempfile::tempdir_in(folder()).unwrap();
    let which = usize::from(*which) % reference.files.len();
    for (i, (name, content)) in reference.files.iter().enumerate() {
        let mut content = content.clone();
        if i == which {
            let at = usize::from(u16::from_be_bytes([*high, *low])) % (content.len() + 1);
            let end = (at + usize::from(*cut)).min(content.len());
            content.splice(at..end, bytes.iter().copied());
        }
        files::write_atomic(&place.path().join(name), &content).unwrap();
    }
    match TokenCache::open(place.path()) {
        Ok(cache) => {
            assert_eq!(cache.key(), reference.key);
            assert_eq!(tokens_of(&cache), reference.tokens, "wrong tokens");
        }
        Err(error) => assert!(error.hint().is_some() && error.exit_class().code() == 4, "{error}"),
    }
    // Opened without being read, what is damaged is found when it is used.
    let Ok(cache) = TokenCache::open_without_reading(place.path()) else { return };
    for (split, expected) in [Split::Train, Split::Validation].into_iter().zip(&reference.tokens) {
        match cache.split(split).tokens(0, usize::MAX) {
            Ok(tokens) => assert_eq!(&tokens, expected, "wrong tokens"),
            Err(error) => assert!(error.hint().is_some() && error.exit_class().code() == 4, "{error}"),
        }
    }
}
