//! Tokenizers: train, save, load, encode and decode, each identified by the digest of its file.
//!
//! Two kinds are the house's own: byte-level BPE in the GPT-2 layout ([`BpeTokenizer`]) and plain bytes ([`ByteTokenizer`]). Both give back
//! exactly the text they were given, and both are a Hugging Face `tokenizer.json`. Any other layout of that file, as models come with it, is an
//! [`HfTokenizer`], and so is a word-level tokenizer that is trained here. SentencePiece models and tiktoken rank files are made into one
//! ([`import_sentencepiece`], [`import_tiktoken`]). Conversations become text by the model's own template, in [`chat`].
//!
//! It is not a place for packing, masks or caches of tokens, and it draws nothing at random: equal texts in any thread count give equal files.
//!
//! ```
//! use codex_tokenize::{TokenizerConfig, train};
//!
//! let config = TokenizerConfig { vocab_size: 280, ..TokenizerConfig::default() };
//! let tokenizer = train(&config, ["to be, or not to be"; 8].into_iter(), &mut |_| {})?;
//! let ids = tokenizer.encode("not to be")?;
//! assert!(ids.len() < "not to be".len());
//! assert_eq!(tokenizer.decode(&ids)?, "not to be");
//! # Ok::<(), codex_tokenize::TokenizeError>(())
//! ```

mod tokenizer;

mod config;
mod error;

mod alphabet;
mod bpe;
mod byte;
mod merges;
mod pair_map;
mod piece;
mod special_names;
mod split;
mod tokenizer_json;
mod vocabulary;
mod word_cache;

mod charsmap;
mod guard;
mod hf;
mod hf_model;
mod hf_parts;
mod pattern_cost;

pub mod chat;

mod imported;
mod protobuf;
mod sentencepiece;
mod tiktoken;
mod tiktoken_schemes;

mod training;
mod word_counter;
mod word_counts;
mod word_runs;

mod bpe_merging;
mod word_level;

mod manifest;

mod scripts;

mod batch;
mod stored_padding;
mod comparison;
mod export;
mod stats;
mod stream_decoder;
mod validation;

pub use batch::{Batch, PadTo, Padding, Side, encode_padded};
pub use bpe::BpeTokenizer;
pub use byte::ByteTokenizer;
pub use comparison::{Comparison, CutDifference, TokenSpan, compare, token_spans};
pub use config::{TokenizerConfig, TokenizerKind};
pub use error::TokenizeError;
pub use export::{export_hugging_face, tiktoken_ranks};
pub use hf::HfTokenizer;
pub use imported::Imported;
pub use manifest::{CorpusRecord, MANIFEST_FILE, SCHEMA, TOKENIZER_FILE, TokenizerManifest, read_manifest, save};
pub use scripts::{main_script, script_of, script_shares};
pub use sentencepiece::import_sentencepiece;
pub use stats::{LongestToken, ScriptStats, TokenizerStats, stats};
pub use stored_padding::{encode_padded_or_stored, stored_padding, with_stored_padding};
pub use stream_decoder::StreamDecoder;
pub use tiktoken::{import_tiktoken, import_tiktoken_with};
pub use tokenizer::{Tokenizer, from_json, load};
pub use training::{TokenizerTrainer, TrainProgress, TrainReport, Trained, TrainerConstructor, registry, train, trainer};
pub use validation::{ModelFit, RoundTripFailure, SpecialCollision, ValidationReport, validate, validate_against};
pub use word_counter::{LeftOut, TrainOptions};
