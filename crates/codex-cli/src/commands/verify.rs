//! `verify`: recomputes every digest of a run from its data to its checkpoints, and shows what is proven, what differs and what cannot be told.

use std::path::Path;

use codex_checkpoint::{CheckpointStore, FolderStore};
use codex_core::{Clock, Digest, SystemClock};
use codex_data::open_sources;
use codex_track::{
    DatasetChecksums, ExportFile, ExportRecord, NodeKind, RunDir, RunGraph, RunManifest, RunRecord, SourceChecksum, VerifyRecord,
    run_manifest, series, verify_metrics,
};
use serde_json::json;

use crate::arguments::Verify;
use crate::commands::proof_tree::{Part, Verdict, tree};
use crate::failure::CliError;
use crate::stored_model::{self, newest_run};
use crate::terminal::{Terminal, bytes};
use crate::{corpus, provenance, run_config};

pub(super) fn run(arguments: &Verify, terminal: &Terminal) -> Result<(), CliError> {
    let path = arguments.run.clone().map_or_else(|| newest_run(Path::new("runs")), Ok)?;
    if !path.join(RunRecord::FILE).exists() {
        return Err(CliError::NotAModel { path });
    }
    let run = RunDir::open(&path)?;
    let record = RunRecord::read(&run)?;
    let mut parts = vec![data(&run, &path, arguments.data)?, configuration(&path, &record), base(&path)?, program(&record), metrics(&run)?];
    parts.push(files(&run)?);
    parts.push(graph(&run, &record)?);
    let n_checkpoints = checkpoints(&run, &record, &mut parts)?;
    parts.extend(exports(&run)?);
    let wrong: Vec<&Part> = parts.iter().flat_map(Part::wrong).filter(|part| part.below.is_empty() || !part.findings.is_empty()).collect();
    let n_findings = wrong.iter().map(|part| part.findings.len().max(1)).sum::<usize>();
    let errors: Vec<&String> = wrong.iter().flat_map(|part| &part.findings).collect();
    let n_files = RunManifest::read(&run)?.map_or(0, |manifest| manifest.files.len());
    let value = json!({ "path": path, "valid": wrong.is_empty(), "files": n_files, "parts": parts, "checkpoints": n_checkpoints, "errors": errors });
    let found = errors.iter().map(|&error| error.clone()).collect();
    if let Err(error) = VerifyRecord::new(n_files as u64, found, SystemClock::new().now()).keep(&run) {
        terminal.warn(&format!("the verdict is not kept for the report: {}", codex_core::failure::chain(&error)));
    }
    terminal.result(&value, || tree(&path.display().to_string(), &parts))?;
    if wrong.is_empty() {
        return Ok(());
    }
    let is_unfinished = wrong.iter().all(|part| part.name == FILES && part.verdict == Verdict::Missing);
    let first = wrong.iter().find_map(|part| part.findings.first()).cloned().unwrap_or_default();
    let (reason, hint) = if is_unfinished {
        (first, "let `codex-cli train` go on with it to its end")
    } else {
        let reason = format!("{n_findings} things are not what they were when the run ended; the first: {first}");
        (reason, "restore them from a copy, or train again: the same plan gives the same bytes")
    };
    Err(CliError::Integrity { path, reason, hint })
}

/// The files that it was trained on: as they are now, if they are to be read.
pub(super) fn data(run: &RunDir, path: &Path, is_read: bool) -> Result<Part, CliError> {
    let was = DatasetChecksums::read(run)?;
    let what = format!("{} files, {}", was.sources.len(), bytes(was.sources.iter().map(|source| source.bytes).sum()));
    if !is_read {
        return Ok(Part::new("data", format!("{what}; `--data` reads them again"), Vec::new()).with(Verdict::Noted));
    }
    let now = run_config::of_run(path).and_then(|config| {
        let checksums = open_sources(&config.data, &corpus::builtins(&config.data)?)?.checksums()?;
        let sources = checksums.into_iter().map(|it| SourceChecksum { path: it.path, bytes: it.bytes, blake3: it.blake3 });
        Ok(DatasetChecksums::new(sources.collect()))
    });
    Ok(match now {
        Ok(now) => {
            let drift = DatasetChecksums::drift(&was, &now);
            let finding = |it: codex_track::Drift| format!("`{}`: expected digest {}, found {}", it.path, shown(it.was), shown(it.is));
            Part::new("data", what, drift.into_iter().map(finding).collect())
        }
        Err(error) => Part::new("data", what, vec![codex_core::failure::chain(&error)]).with(Verdict::Missing),
    })
}

pub(super) fn configuration(path: &Path, record: &RunRecord) -> Part {
    let found = run_config::digest_of_run(path);
    if let Ok(found) = &found
        && *found == record.config_digest
    {
        return Part::new("configuration", format!("digest {}", found.short()), Vec::new());
    }
    // A program with other keys resolves the same file to another digest, or to none: then its bytes are what can be proven.
    let bytes = Digest::of_file(&path.join("config.resolved.toml")).ok();
    let is_as_written = record.graph.inputs_of(NodeKind::Configuration).any(|node| Some(node.digest) == bytes);
    if is_as_written && record.binary_digest != provenance::binary_digest() {
        let what = format!("digest {} by the program that wrote it; its bytes are as written", record.config_digest.short());
        return Part::new("configuration", what, Vec::new());
    }
    match found {
        Ok(found) => {
            let finding = format!("`config.resolved.toml`: expected digest {}, found {found}", record.config_digest);
            Part::new("configuration", format!("digest {}", found.short()), vec![finding])
        }
        Err(error) => Part::new("configuration", String::new(), vec![codex_core::failure::chain(&error)]).with(Verdict::Differs),
    }
}

/// The weights that it began with, where those are another model's.
pub(super) fn base(path: &Path) -> Result<Part, CliError> {
    let Some(base) = run_config::of_run(path).ok().and_then(|config| config.run.base) else {
        return Ok(Part::new("base", "none: weights drawn from the seed".to_owned(), Vec::new()).with(Verdict::Noted));
    };
    let expected = stored_model::checkpoints_of(path)?.load_latest_model()?.and_then(|loaded| {
        let record = loaded.extra.get(codex_train::AdapterRecord::FILE)?;
        serde_json::from_slice::<codex_train::AdapterRecord>(record).ok()?.base
    });
    Ok(match (stored_model::base(&base), expected) {
        (Ok(found), Some(expected)) => {
            let finding = format!("`{}`: expected digest {expected}, found {}", base.display(), found.model.digest());
            let what = format!("{}, digest {}", base.display(), found.model.digest().short());
            Part::new("base", what, (found.model.digest() != expected).then_some(finding).into_iter().collect())
        }
        (Ok(found), None) => {
            let what = format!("{}, digest {}; part of the plan's digest", base.display(), found.model.digest().short());
            Part::new("base", what, Vec::new()).with(Verdict::Noted)
        }
        (Err(error), _) => Part::new("base", base.display().to_string(), vec![codex_core::failure::chain(&error)]).with(Verdict::Missing),
    })
}

pub(super) fn program(record: &RunRecord) -> Part {
    let device = if record.instruction_set.is_empty() {
        record.device.clone()
    } else {
        format!("{} with {}", record.device, record.instruction_set)
    };
    let is_this = record.binary_digest.is_some() && record.binary_digest == provenance::binary_digest();
    let build = record.binary_digest.map_or_else(|| "a build that is not known".to_owned(), |digest| format!("build {}", digest.short()));
    let which = if is_this { "this program" } else { "another program than this" };
    let verdict = if is_this { Verdict::Proven } else { Verdict::Noted };
    Part::new("program", format!("{build}, {which}, on {device}"), Vec::new()).with(verdict)
}

/// The chain of the metrics.
fn metrics(run: &RunDir) -> Result<Part, CliError> {
    let found = verify_metrics(run)?;
    let mut findings: Vec<String> = Vec::new();
    let place = |number: &u64| found.place(*number).map_or_else(|| number.to_string(), |(file, line)| format!("`{file}`:{line}"));
    let line = |number: &u64| format!("{}: the line before it is not the one that it was written after", place(number));
    findings.extend(found.broken.iter().map(line));
    findings.extend(found.unreadable.iter().map(|number| format!("{}: it carries no digest of the line before it", place(number))));
    let head = found.head.map_or_else(String::new, |head| format!(", head {}", head.short()));
    Ok(Part::new("metrics", format!("{} values in a chain{head}", found.lines), findings))
}

/// The run graph against what the run folder has of its parts.
fn graph(run: &RunDir, record: &RunRecord) -> Result<Part, CliError> {
    let RunGraph { inputs, outputs } = &record.graph;
    if inputs.is_empty() {
        return Ok(
            Part::new("graph", "none: the run was made before there was one, or did not begin".to_owned(), Vec::new()).with(Verdict::Noted)
        );
    }
    let mut there: Vec<(NodeKind, String, Digest)> = Vec::new();
    there.extend(DatasetChecksums::read(run)?.sources.into_iter().map(|source| (NodeKind::Data, source.path, source.blake3)));
    let manifest: serde_json::Value = run.read_json("data.manifest.json")?;
    if let Some(key) = manifest["key"].as_str().and_then(|key| key.parse().ok()) {
        there.push((NodeKind::Tokens, "data.manifest.json".to_owned(), key));
    }
    let tokenizer = run.path().join("tokenizer.json");
    there.push((NodeKind::Tokenizer, "tokenizer.json".to_owned(), Digest::of_file(&tokenizer)?));
    let configuration = run.path().join("config.resolved.toml");
    there.push((NodeKind::Configuration, "config.resolved.toml".to_owned(), Digest::of_file(&configuration)?));
    let mut findings = Vec::new();
    for (kind, name, digest) in &there {
        if !inputs.iter().any(|node| node.kind == *kind && node.name == *name && node.digest == *digest) {
            findings.push(format!("`{name}`: {digest} is not among the inputs of the graph"));
        }
    }
    for node in outputs.iter().filter(|node| node.kind == NodeKind::Checkpoint) {
        let path = run.path().join(&node.name).join("manifest.json");
        // One that was pruned since is gone with right.
        if path.exists() {
            let found = Digest::of_file(&path)?;
            findings.extend((found != node.digest).then(|| format!("`{}`: expected digest {}, found {found}", node.name, node.digest)));
        }
    }
    Ok(Part::new("graph", format!("{} inputs, {} outputs, each by digest", inputs.len(), outputs.len()), findings))
}

/// Models that were written for other programs, where they still lie.
fn exports(run: &RunDir) -> Result<Option<Part>, CliError> {
    let records = ExportRecord::all_of(run)?;
    if records.is_empty() {
        return Ok(None);
    }
    let mut below = Vec::new();
    for (_, record) in &records {
        let (path, what) = (record.path.display().to_string(), format!("{}, step {}", record.format, record.step));
        if !record.path.exists() {
            below.push(Part::new(&path, format!("{what}; it is not there any more"), Vec::new()).with(Verdict::Noted));
            continue;
        }
        let found = ExportFile::all_of(&record.path)?;
        let digest = |name: &str| found.iter().find(|file| file.name == name).map(|file| file.blake3);
        let differs = |file: &&ExportFile| digest(&file.name) != Some(file.blake3);
        let finding = |file: &ExportFile| {
            format!("`{}`: expected digest {}, found {}", record.path.join(&file.name).display(), file.blake3, shown(digest(&file.name)))
        };
        below.push(Part::new(
            &path,
            format!("{what}, {} files", record.files.len()),
            record.files.iter().filter(differs).map(finding).collect(),
        ));
    }
    let verdict = if below.iter().any(|part| part.verdict.is_wrong()) { Verdict::Differs } else { Verdict::Proven };
    let what = format!("{} written for other programs", records.len());
    Ok(Some(Part::new("exports", what, Vec::new()).with(verdict).above(below)))
}

const FILES: &str = "files";

/// The files of the run folder against its manifest.
fn files(run: &RunDir) -> Result<Part, CliError> {
    let Some(manifest) = RunManifest::read(run)? else {
        let reason = format!("it has no `{}`: it is going on, or was killed", run_manifest::FILE);
        return Ok(Part::new(FILES, String::new(), vec![reason]).with(Verdict::Missing));
    };
    let deviation =
        |it: codex_track::Deviation| format!("`{}`: expected digest {}, found {}", it.path, shown(it.expected), shown(it.found));
    let findings = manifest.deviations(run)?.into_iter().map(deviation).collect();
    Ok(Part::new(FILES, format!("{} files against `{}`", manifest.files.len(), run_manifest::FILE), findings))
}

/// Each checkpoint: every file, that it is of this plan, that its tokenizer is the run's, and that its metrics are those of the file.
fn checkpoints(run: &RunDir, record: &RunRecord, parts: &mut Vec<Part>) -> Result<usize, CliError> {
    if !run.checkpoints().is_dir() {
        parts.push(Part::new("checkpoints", "none".to_owned(), Vec::new()).with(Verdict::Noted));
        return Ok(0);
    }
    let store = FolderStore::read_only(&run.checkpoints())?;
    let losses = series(run, "validation", "loss")?;
    let tokenizer = codex_core::files::read(&run.path().join("tokenizer.json")).ok();
    let steps = store.steps()?;
    for &step in &steps {
        let name = format!("step {step}");
        let loaded = match store.load(step) {
            Ok(loaded) => loaded,
            Err(error) => {
                parts.push(Part::new(&name, String::new(), vec![codex_core::failure::chain(&error)]));
                continue;
            }
        };
        let mut findings = Vec::new();
        if loaded.manifest.plan != record.plan_digest {
            findings.push(format!("it is of the plan {}, and the run of {}", loaded.manifest.plan, record.plan_digest));
        }
        if loaded.extra.get("tokenizer.json") != tokenizer.as_ref() {
            findings.push("its `tokenizer.json` is not the run's".to_owned());
        }
        if let Some(loss) = loaded.metrics.get("validation/loss")
            && losses.get(&step).is_none_or(|recorded| recorded.to_bits() != loss.to_bits())
        {
            findings.push(format!("it says a validation loss of {loss:?}, and `metrics.ndjson` says {:?}", losses.get(&step)));
        }
        let size: u64 = loaded.manifest.files.iter().map(|file| file.bytes).sum();
        parts.push(Part::new(&name, format!("{} files, {}, of this plan", loaded.manifest.files.len(), bytes(size)), findings));
    }
    Ok(steps.len())
}

pub(super) fn shown(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "absent".to_owned(), |digest| digest.to_string())
}
