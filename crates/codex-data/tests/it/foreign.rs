//! Tokenizers and sources of another program's own, which may break what they promised.

use std::sync::atomic::{AtomicUsize, Ordering};

use codex_core::{Digest, Failure};
use codex_data::{
    DataConfig, DataError, DataSource, Document, Documents, Origin, SourceChecksum, Sources, Split, TokenCache, open_sources, prepare,
};
use codex_tokenize::{ByteTokenizer, TokenizeError, Tokenizer};

use crate::cache::digest;
use crate::{Place, content};

/// A tokenizer whose answers are another's, changed.
#[derive(Debug)]
struct Changed {
    inner: ByteTokenizer,
    vocab_size: usize,
    shift: u32,
    lose_one: bool,
}

impl Tokenizer for Changed {
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        Ok(self.inner.encode(text)?.into_iter().map(|id| id + self.shift).collect())
    }
    fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TokenizeError> {
        if texts.contains(&"refused") {
            return Err(TokenizeError::UnknownId { id: 9, vocab_size: 9 });
        }
        texts.iter().skip(usize::from(self.lose_one)).map(|text| self.encode(text)).collect()
    }
    fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizeError> {
        self.inner.decode_bytes(ids)
    }
    fn token_bytes(&self, id: u32) -> Option<usize> {
        self.inner.token_bytes(id)
    }
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
    fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }
    fn end_of_text(&self) -> u32 {
        0
    }
    fn pad(&self) -> u32 {
        1
    }
    fn digest(&self) -> Digest {
        Digest::of_bytes(format!("{self:?}").as_bytes())
    }
    fn to_json(&self) -> &str {
        self.inner.to_json()
    }
}

fn prepare_with(place: &Place, vocab_size: usize, shift: u32, lose_one: bool) -> Result<TokenCache, DataError> {
    let inner = ByteTokenizer::new(&["<|endoftext|>".to_owned(), "<|pad|>".to_owned()]).unwrap();
    let tokenizer = Changed { inner, vocab_size, shift, lose_one };
    let config = place.config(&["a.txt"]);
    let sources = open_sources(&config, &[]).unwrap();
    prepare(&config, &sources, &tokenizer, &place.scanner, digest(), &place.cache_root(), &mut |_| {})
}

#[test]
fn ids_beyond_two_bytes_are_stored_in_four() {
    let place = Place::new();
    place.write("a.txt", "AB");
    let wide = prepare_with(&place, 100_000, 70_000, false).unwrap();
    assert_eq!(wide.manifest().bytes_per_token, 4);
    assert_eq!(wide.split(Split::Train).tokens(0, 9).unwrap(), [70_067, 70_068, 0]);
    let files = content(wide.folder());
    assert_eq!(files[3].1, [0xB3, 0x11, 1, 0, 0xB4, 0x11, 1, 0, 0, 0, 0, 0]);
    let edge = prepare_with(&place, 65_536, 65_535 - 68, false).unwrap();
    assert_eq!((edge.manifest().bytes_per_token, edge.split(Split::Train).tokens(1, 1).unwrap()), (2, vec![65_535]));
    assert_eq!(content(edge.folder())[3].1, [0xFE, 0xFF, 0xFF, 0xFF, 0, 0]);
}

#[test]
fn a_tokenizer_that_breaks_its_contract_or_refuses_is_named() {
    let place = Place::new();
    place.write("a.txt", "AB");
    let error = prepare_with(&place, 258, 1000, false).unwrap_err();
    assert_eq!(place.told(&error), "the tokenizer broke its contract at `D/a.txt`: expected ids below 258, found 1067");
    assert_eq!(error.exit_class().code(), 4);
    let error = prepare_with(&place, 258, 0, true).unwrap_err();
    assert_eq!(place.told(&error), "the tokenizer broke its contract at `D/a.txt`: expected 1 encodings, found 0");
    place.write("a.txt", "refused");
    let error = prepare_with(&place, 258, 0, false).unwrap_err();
    assert!(place.told(&error).starts_with("cannot tokenize the documents from `D/a.txt` to `D/a.txt`: "), "{error}");
    assert_eq!((error.exit_class().code(), error.hint().is_some()), (3, true));
}

/// A source of another program's own, whose bytes change after their first checksum.
struct Unsteady(AtomicUsize);

impl DataSource for Unsteady {
    fn name(&self) -> &'static str {
        "unsteady"
    }
    fn checksum(&self) -> Result<SourceChecksum, DataError> {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(SourceChecksum { path: "unsteady".to_owned(), bytes: 1, blake3: Digest::of_bytes(&[n as u8]) })
    }
    fn documents(&self) -> Result<Documents<'_>, DataError> {
        let origin = Origin { source: "unsteady".to_owned(), line: None };
        Ok(Box::new(std::iter::once(Ok(Document::of_text("x".to_owned(), origin)))))
    }
}

#[test]
fn a_source_that_changes_while_it_is_read_is_refused() {
    let place = Place::new();
    let sources = Sources { train: vec![Box::new(Unsteady(AtomicUsize::new(0)))], ..Sources::default() };
    let config = DataConfig::default();
    let error = prepare(&config, &sources, &place.tokenizer, &place.scanner, digest(), &place.cache_root(), &mut |_| {}).unwrap_err();
    let (before, after) = (Digest::of_bytes(&[0]), Digest::of_bytes(&[1]));
    assert_eq!(error.to_string(), format!("`unsteady` changed while it was read: expected blake3 {before}, found {after}"));
    assert_eq!(error.exit_class().code(), 4);
}
