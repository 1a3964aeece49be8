//! From text files to batches: sources, splits, the token cache, the order of windows, and the cursor.
//!
//! It makes lists of numbers on the host, never tensors, and it decides nothing about the model. Everything it returns is a pure function of
//! the sources' bytes, the configuration, the tokenizer and a position.

mod config;
mod document;
mod mixture_config;
mod source;

mod shared_file;
mod standard_input;
mod input;
mod compressed;
mod encoding;
mod utf16;
mod file_kind;
mod evidence;

mod conversation;
mod delimited;
mod json_array;
mod lines;
#[cfg(feature = "parquet")]
mod parquet_footer;
#[cfg(feature = "parquet")]
mod parquet_rows;
mod row;
mod row_stream;

mod folder;
mod split_folder;
mod rows;
mod memory;
mod text;
mod description;

mod filter;
mod pipeline;
mod policy;
mod usable;
mod skipped;
mod split;

mod layout;
mod row_template;
mod survey;
mod view;

mod left_out;
mod manifest;
mod prepare;
mod writer;

mod cache;
mod known;
mod shards;
mod tokens;

mod order;
mod packing;
mod window;

mod mixture;
mod training_data;
mod leakage;

mod error;

pub use cache::TokenCache;
pub use config::{DataConfig, OnBadRow, RowKind, TrainOn};
pub use description::{FieldDescription, SourceDescription};
pub use document::{Content, Document, Origin};
pub use error::DataError;
pub use filter::{Duplicates, FilterConfig, LeftOut};
pub use folder::FolderSource;
pub use known::{KNOWN_FROM_BYTES, KnownChecksums};
pub use leakage::{LEAKAGE_RUN, Leakage};
pub use manifest::{
    CacheManifest, ConversationParams, ListManifest, MaskManifest, PIPELINE_VERSION, Recipe, RecipeParams, RecipeSource, SCHEMA,
    ShardManifest, SplitManifest, Splits, documents_digest,
};
pub use memory::MemorySource;
pub use mixture::{BLOCK, MixtureLoader, MixtureStage};
pub use mixture_config::{SourceConfig, StageConfig};
pub use order::Permutation;
pub use packing::{Packing, PackingReport};
pub use pipeline::Account;
pub use prepare::{PrepareProgress, prepare};
pub use row::RowFault;
pub use rows::RowSource;
pub use skipped::SkippedRows;
pub use source::{DataSource, Documents, SourceChecksum, Sources, open_sources};
pub use split::Split;
pub use survey::{DuplicateFound, Outstanding, Spread, Survey, SurveyReport};
pub use text::TextSource;
pub use tokens::{DocumentRecord, TokenSplit};
pub use training_data::{TrainSource, TrainingData, ValidationSet, Windows};
pub use usable::{TrainTexts, UsableDocuments, train_texts, usable_documents};
pub use view::{RowView, RowViews, TokenView, view_rows};
pub use window::{Cursor, Cutting, DocumentRange, HostBatch, WindowLoader};
