//! Where a run's numbers come from: program, machine, configuration, data. Written into the run folder before training starts.

use std::collections::BTreeMap;
use std::path::Path;

use codex_checkpoint::{CheckpointStore, Entry, FolderStore};
use codex_config::Resolved;
use codex_core::{Clock, Digest, SystemClock, Timestamp};
use codex_track::telemetry::{GpuInventory, ProcessRecord, open_nvml};
use codex_track::{
    DatasetChecksums, Environment, EnvironmentInputs, GraphNode, NodeKind, RunDir, RunRecord, SourceChecksum, git, list_runs, system,
};

use crate::failure::CliError;
use crate::prepared::Prepared;
use crate::run_config::RunConfig;
use crate::terminal::Terminal;
use crate::{device, environment, stored_model};

/// The compiler that built this program.
pub(crate) const RUSTC: &str = env!("CODEX_RUSTC");
/// `debug` or `release`.
pub(crate) const PROFILE: &str = env!("CODEX_PROFILE");
/// The platform it was built for.
pub(crate) const TARGET: &str = env!("CODEX_TARGET");
/// BLAKE3 of the Cargo.lock it was built with.
pub(crate) const LOCK_DIGEST: &str = env!("CODEX_LOCK_DIGEST");

/// The digest of the running program's file.
pub(crate) fn binary_digest() -> Option<Digest> {
    Digest::of_file(&std::env::current_exe().ok()?).ok()
}

/// The commit checked out where the program was started.
pub(crate) fn git_revision() -> Option<String> {
    git::revision(Path::new("."))
}

/// The most memory this process has had, in bytes.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    system::peak_rss_bytes()
}

/// This machine and this program.
pub(crate) fn environment(argv: &[String], seed: u64, device_name: &str, asks_for_gpu: bool, now: Timestamp) -> Environment {
    let variables: BTreeMap<String, String> = environment::variables().into_iter().collect();
    let inputs = EnvironmentInputs {
        argv,
        variables: &variables,
        current_dir: Path::new("."),
        seed,
        rustc: Some(RUSTC),
        features: &device::compiled_in(),
        lock_digest: LOCK_DIGEST.parse().ok(),
        device: Some(device_name),
    };
    let environment = Environment::capture(&inputs, now);
    if asks_for_gpu { environment.with_gpu(GpuInventory::take(&open_nvml(None))) } else { environment }
}

/// The same, for `doctor`.
pub(crate) fn environment_now(device_name: &str) -> Environment {
    environment(&environment::arguments(), 0, device_name, true, SystemClock::new().now())
}

/// Writes the configuration, the environment and the data's digests into the run folder. A source that has changed since the last run of this
/// name is told; an environment that cannot be written is told and is no failure.
pub(crate) fn write(
    run: &RunDir,
    resolved: &Resolved<RunConfig>,
    prepared: &Prepared,
    device_name: &str,
    now: Timestamp,
    terminal: &Terminal,
) -> Result<(), CliError> {
    let config = &resolved.value;
    run.write_text("config.resolved.toml", &resolved.to_toml())?;
    run.write_json("config.sources.json", &resolved.sources_json())?;
    run.write_json("data.manifest.json", &prepared.data.record()?)?;
    run.write_text("tokenizer.json", prepared.tokenizer.to_json())?;
    let environment = environment(&environment::arguments(), config.run.seed, device_name, config.telemetry.gpu, now);
    if let Some(warning) = environment.write_or_warn(run.path()) {
        terminal.warn(&warning);
    }
    // Every process of the run is a line: a run that goes on may go on elsewhere.
    let resumed_from = stored_model::has_checkpoint(run.path()).then(|| newest_step(run)).flatten();
    if let Err(error) = ProcessRecord::new(&environment, binary_digest(), resumed_from).append(run) {
        terminal.warn(&format!("this process is not noted in environment.ndjson: {}", codex_core::failure::chain(&error)));
    }
    let sources = prepared.checksums.iter().map(|s| SourceChecksum { path: s.path.clone(), bytes: s.bytes, blake3: s.blake3 }).collect();
    let checksums = DatasetChecksums::new(sources);
    if let Some(previous) = previous_checksums(config, run) {
        for drift in DatasetChecksums::drift(&previous, &checksums) {
            let what = match (drift.was, drift.is) {
                (Some(was), Some(is)) => format!("has changed since the last run: {} then, {} now", was.short(), is.short()),
                (None, _) => "was not in the last run".to_owned(),
                (_, None) => "was in the last run and is not in this one".to_owned(),
            };
            terminal.warn(&format!("data source `{}` {what}", drift.path));
        }
    }
    if let Err(error) = checksums.write(run) {
        terminal.warn(&format!("the data's digests could not be written: {error}"));
    }
    Ok(())
}

/// The step of the newest checkpoint of a run.
fn newest_step(run: &RunDir) -> Option<u64> {
    let store = FolderStore::read_only(&run.checkpoints()).ok()?;
    store.list().ok()?.iter().map(|entry| entry.step).max()
}

/// What goes into a run, each part by its digest.
pub(crate) fn inputs(
    resolved: &Resolved<RunConfig>,
    prepared: &Prepared,
    run: &RunDir,
    record: &RunRecord,
) -> Result<Vec<GraphNode>, CliError> {
    let mut inputs: Vec<GraphNode> =
        prepared.checksums.iter().map(|source| GraphNode::new(NodeKind::Data, &source.path, source.blake3)).collect();
    inputs.push(GraphNode::new(NodeKind::Tokens, "data.manifest.json", prepared.data.key()?));
    inputs.push(GraphNode::new(NodeKind::Tokenizer, "tokenizer.json", Digest::of_file(&run.path().join("tokenizer.json"))?));
    if let Some(base) = &prepared.base {
        let name = resolved.value.run.base.as_ref().map_or_else(String::new, |path| path.display().to_string());
        inputs.push(GraphNode::new(NodeKind::Base, name, base.digest()));
    }
    inputs.push(GraphNode::new(
        NodeKind::Configuration,
        "config.resolved.toml",
        Digest::of_file(&run.path().join("config.resolved.toml"))?,
    ));
    if let Some(digest) = record.binary_digest {
        inputs.push(GraphNode::new(NodeKind::Program, format!("codex-cli {} ({PROFILE}, {TARGET})", env!("CARGO_PKG_VERSION")), digest));
    }
    if let Ok(digest) = LOCK_DIGEST.parse() {
        inputs.push(GraphNode::new(NodeKind::Dependencies, "Cargo.lock", digest));
    }
    inputs.push(GraphNode::named(NodeKind::Toolchain, RUSTC));
    inputs.push(GraphNode::named(NodeKind::Device, format!("{} {}", record.device, record.instruction_set).trim().to_owned()));
    Ok(inputs)
}

/// What has come out of a run: the checkpoints that it has.
pub(crate) fn outputs(run: &RunDir) -> Vec<GraphNode> {
    let listed = FolderStore::read_only(&run.checkpoints()).and_then(|store| store.list()).unwrap_or_default();
    let node = |entry: &Entry| {
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
        let digest = Digest::of_file(&entry.path.join("manifest.json")).ok()?;
        Some(GraphNode::new(NodeKind::Checkpoint, format!("checkpoints/{name}"), digest))
    };
    listed.iter().filter_map(node).collect()
}

/// What the last other run of the same name was trained on.
fn previous_checksums(config: &RunConfig, run: &RunDir) -> Option<DatasetChecksums> {
    let runs = list_runs(&config.run.folder).ok()?;
    let others = runs.into_iter().rev().filter(|entry| entry.path != run.path());
    let mut same_name = others.filter(|entry| entry.record.as_ref().is_ok_and(|record| record.name == config.run.name));
    // A run that was killed at its very start has none.
    same_name.find_map(|entry| DatasetChecksums::read(&RunDir::open(&entry.path).ok()?).ok())
}
