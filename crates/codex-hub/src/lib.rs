//! Models of other programs, in and out: Hugging Face model folders, PEFT adapters and GGUF files.
//!
//! A family of models is a way to write a configuration down and names for the same weights; the network is codex-model's in each case. Nothing
//! here computes: weights enter and leave as host tensors by path, and whoever has a device compares what a model says before and after.

pub mod config;
pub mod element;
pub mod encoder;
pub mod error;
pub mod export;
pub mod family;
pub mod gguf;
pub mod import;
pub mod parts;
pub mod peft;
pub mod tensor_folder;

mod fields;
mod rope;
mod tensor_writer;

pub use config::HfConfig;
pub use element::ElementType;
pub use encoder::{ImportedEncoder, import_encoder, is_encoder_folder};
pub use error::HubError;
pub use export::{ExportRequest, Exported, export_folder};
pub use family::Family;
pub use import::{Imported, import_folder, is_model_folder};
pub use parts::{Layout, Part, Role, parts};
pub use peft::{AdapterRequest, PeftAdapter, is_adapter_folder, read_adapter, write_adapter};
