//! The run directory: record, metrics, events, system samples, environment, data checksums, and the report.
//!
//! It computes no metric and trains nothing; it writes down what it is given, reads it back, and goes on without what it cannot write. It prints
//! nothing, opens no connection, and reads no environment variable: what it should know of those is handed to it.

pub mod annotation;
pub mod best;
pub mod comparison;
pub mod comparison_of_many;
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
pub mod removal;
pub mod run_filter;
pub mod run_graph;
pub mod run_list;
pub mod run_manifest;
pub mod run_record;
mod shared_folder;
mod spark;
pub mod summary;
pub mod summary_export;
pub mod tail;
pub mod tail_view;
pub mod verdict;
pub mod system;
pub mod tracker;

pub use annotation::{Annotation, Annotations, annotate, read_annotated};
pub use best::{BestRun, BestRuns, Direction, ValueFrom, best_runs};
pub use chain::{ChainReport, verify_metrics};
pub use comparison::{Comparison, compare};
pub use comparison_of_many::{ManyRuns, compare_many};
pub use config::TrackConfig;
pub use csv_writer::CsvWriter;
pub use dataset::{DatasetChecksums, Drift, SourceChecksum};
pub use environment::{Environment, EnvironmentInputs};
pub use error::TrackError;
pub use event::{Event, Level};
pub use metric::{MetricPoint, MetricWriter, OpenWriter, WriterContext};
pub use ndjson_writer::NdjsonWriter;
pub use removal::{Removal, RemovalPlan, remove_runs, sweep_removed};
pub use run_dir::RunDir;
pub use run_filter::{MetricBound, RunFilter, RunOrder};
pub use run_graph::{ExportFile, ExportRecord, GraphNode, NodeKind, RunGraph};
pub use run_list::{RunEntry, list_runs};
pub use run_manifest::{Deviation, RunFile, RunManifest};
pub use run_record::{MemoryRecord, ResumeRecord, RunRecord, RunStatus};
pub use summary::{MetricSummaries, MetricSummary, series, summarize, summarize_metrics};
pub use system::{DiskSampler, ProcSampler, Sampling, SystemSampler};
pub use tail::{Tail, TailItem, TailPoint};
pub use tail_view::{TailLayout, TailView, planned_steps};
pub use tracker::{Degraded, Tracker};
pub use verdict::VerifyRecord;
