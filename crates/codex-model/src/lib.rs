//! The decoder-only network: configuration, initialisation, forward pass, loss and generation. Beside it a small bidirectional one for embeddings.
//!
//! It does not train (codex-train), measure (codex-eval), or read and write files (codex-checkpoint): parameters leave and enter as host
//! tensors by path. Every function takes the device it works on; none chooses one.

pub mod adapter;
pub mod attention;
pub mod cache;
pub mod config;
pub mod dropout;
pub mod encoder;
pub mod error;
pub mod feed_forward;
pub mod generate;
pub mod linear;
pub mod loss;
pub mod network;
pub mod norm;
pub mod parameters;
pub mod rotary;
pub mod sampling;
pub mod session;

pub use adapter::{AdapterConfig, AdapterKind, AdapterPlan, Site};
pub use cache::KvCache;
pub use config::{Activation, Bias, ModelConfig, NormKind, PositionKind, Precision};
pub use dropout::DropoutDraws;
pub use encoder::{Encoder, EncoderConfig, Pooling, TextBatch};
pub use error::ModelError;
pub use generate::{BatchPrompt, Generated, StopReason, generate, generate_batch};
pub use loss::{LossSettings, LossSum, Targets};
pub use network::{Decoder, GradientsOf, WindowBatch};
pub use rotary::{RotaryScaling, RotaryScalingKind};
pub use sampling::SamplingConfig;
pub use session::{CachedSession, FullSession, Session};
