//! The crate as its users see it: real tokenizers, trained on real text.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails; clippy knows `#[test]` functions only, not what they call")]

mod disk;
mod golden;
mod golden_chat;
mod golden_ids;
mod library_ids;
#[path = "../oracle/library_trainer.rs"]
mod library_trainer;
mod library_training;
mod long_text;
mod malformed;
mod malformed_layouts;
mod malformed_templates;
mod programme;
mod round_trip;
mod special;
mod stream;
mod validation;

use std::sync::{Arc, LazyLock};

use codex_tokenize::{ByteTokenizer, Tokenizer, TokenizerConfig, train};

/// A novel of the training corpus.
fn novel() -> String {
    let path = std::path::absolute("../../fixtures/corpus/train/emma.txt").unwrap();
    codex_core::files::read_to_string(&path).unwrap()
}

/// The first 200,000 bytes of it.
fn excerpt() -> String {
    let mut text = novel();
    text.truncate(text.floor_char_boundary(200_000));
    text
}

fn config(vocab_size: usize) -> TokenizerConfig {
    TokenizerConfig { vocab_size, ..TokenizerConfig::default() }
}

/// A tokenizer of 512 ids trained on the excerpt, once for all tests.
fn bpe() -> Arc<dyn Tokenizer> {
    static TRAINED: LazyLock<Arc<dyn Tokenizer>> =
        LazyLock::new(|| train(&config(512), std::iter::once(excerpt().as_str()), &mut |_| ()).unwrap());
    TRAINED.clone()
}

fn bytes() -> Arc<dyn Tokenizer> {
    Arc::new(ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap())
}
