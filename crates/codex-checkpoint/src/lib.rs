//! Checkpoints that are whole or absent: atomic publish, verified load, fallback, retention.
//!
//! It knows files, digests and host tensors; it knows no model and no device. A folder under a checkpoint's name whose manifest does not verify
//! does not exist for whoever resumes.

pub mod background;
pub mod config;
pub mod error;
pub mod folder_store;
pub mod manifest;
pub mod memory_store;
pub mod retention;
mod snapshot_files;
pub mod store;
pub mod tensor_file;

mod content;
#[cfg(codex_teeth = "no_order")]
mod out_of_order;

pub use background::{BackgroundSaver, SaveReport};
pub use codex_core::{HostTensor, TensorMap};
pub use config::{CheckpointConfig, Mode, OnFailure};
pub use error::CheckpointError;
pub use folder_store::FolderStore;
pub use manifest::{FileRecord, Manifest};
pub use memory_store::MemoryStore;
pub use store::{CheckpointStore, Entry, Lease, Loaded, SavedCheckpoint, Skipped, Snapshot};
