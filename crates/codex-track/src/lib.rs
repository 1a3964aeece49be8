//! The run directory: record, metrics, events, system samples, environment, data checksums, and the report.
//!
//! It computes no metric and trains nothing; it writes down what it is given, reads it back, and goes on without what it cannot write. It prints
//! nothing, opens no connection, and reads no environment variable: what it should know of those is handed to it.

pub mod comparison;
pub mod config;
pub mod csv_writer;
pub mod dataset;
pub mod environment;
pub mod error;
pub mod event;
pub mod git;
pub mod chain;
mod line_log;
pub mod mask;
pub mod metric;
pub mod ndjson_writer;
mod number;
pub mod report;
pub mod run_dir;
pub mod run_graph;
pub mod run_list;
pub mod run_manifest;
pub mod run_record;
mod shared_folder;
pub mod summary;
pub mod system;
pub mod telemetry;
pub mod tracker;

pub use chain::{ChainReport, verify_metrics};
pub use comparison::{Comparison, compare};
pub use config::TrackConfig;
pub use csv_writer::CsvWriter;
pub use dataset::{DatasetChecksums, Drift, SourceChecksum};
pub use environment::{Environment, EnvironmentInputs};
pub use error::TrackError;
pub use event::{Event, Level};
pub use metric::{MetricPoint, MetricWriter, OpenWriter, WriterContext};
pub use ndjson_writer::NdjsonWriter;
pub use run_dir::RunDir;
pub use run_graph::{ExportFile, ExportRecord, GraphNode, NodeKind, RunGraph};
pub use run_list::{RunEntry, list_runs};
pub use run_manifest::{Deviation, RunFile, RunManifest};
pub use run_record::{MemoryRecord, ResumeRecord, RunRecord, RunStatus};
pub use summary::{MetricSummaries, MetricSummary, series, summarize};
pub use system::{DiskSampler, ProcSampler, Sampling, SystemSampler};
pub use tracker::{Degraded, Tracker};
