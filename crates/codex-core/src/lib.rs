//! What every codex crate shares: digests, path-carrying and atomic file access, seeded streams, an injectable clock, a registry of named
//! constructors, and the way a failure explains itself.
//!
//! It is not a place for anything that only one crate needs, and it knows nothing of tensors, tokens or configuration.

pub mod clock;
pub mod digest;
pub mod failure;
pub mod files;
pub mod folder;
pub mod lock;
pub mod locked_draft;
pub mod registry;
pub mod stream;
pub mod suggest;
pub mod tensor;

pub use clock::{Clock, FixedClock, SystemClock, Timestamp};
pub use digest::{Digest, Hasher};
pub use failure::{ExitClass, Failure};
pub use files::FileError;
pub use folder::FolderDraft;
pub use lock::Lock;
pub use locked_draft::LockedDraft;
pub use registry::{Registry, RegistryError};
pub use stream::Stream;
pub use tensor::{HostTensor, TensorMap, Values};
