//! What is measured while a run goes on, where it is shown, and what of it cannot be had. The loop feeds it; it computes no metric.

pub mod config;
pub mod error;
pub mod instruments;
pub mod process_log;
pub mod gpu;
#[cfg(feature = "nvml")]
mod nvml;
pub mod exposition;
mod http;
pub mod limits;
pub mod prometheus;
pub mod server;
pub mod status;
pub mod time_table;
pub mod trace;
#[cfg(feature = "tracing")]
pub mod trace_layer;

pub use config::TelemetryConfig;
pub use error::TelemetryError;
pub use exposition::{Exposition, Format, Sample};
pub use gpu::{GpuInventory, GpuMetric, GpuSampler, GpuSource, open_nvml};
pub use instruments::{Telemetry, survey};
pub use limits::LimitsRecord;
pub use process_log::ProcessRecord;
pub use prometheus::Prometheus;
pub use server::{Server, ServerLimits};
pub use status::{Component, State, TelemetryStatus};
pub use time_table::{TimeRow, TimeTable};
pub use trace::{Span, SpanRecord, Trace, TraceReport};
#[cfg(feature = "tracing")]
pub use trace_layer::TraceLayer;
