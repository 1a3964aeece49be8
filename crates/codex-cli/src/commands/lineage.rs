//! `runs lineage`: from a model, wherever it lies, back to the run, its program and its texts.

use std::path::{Path, PathBuf};

use codex_checkpoint::{CheckpointStore, tensor_file};
use codex_core::{Digest, files};
use codex_hub::{is_adapter_folder, is_model_folder};
use codex_track::{DatasetChecksums, ExportFile, ExportRecord, NodeKind, RunDir, RunRecord, list_runs};
use serde_json::json;

use crate::arguments::Lineage;
use crate::commands::proof_tree::{Part, Verdict, tree};
use crate::commands::verify;
use crate::failure::CliError;
use crate::model_place::Places;
use crate::run_config;
use crate::stored_model::{self, checkpoints_of};
use crate::terminal::{Terminal, bytes};

/// How many models may stand behind each other, each the base of the next.
const MOST_BASES: usize = 16;

/// What is asked of every step back.
struct Walk<'a> {
    runs: &'a Path,
    reads_data: bool,
}

pub(super) fn run(arguments: &Lineage, terminal: &Terminal) -> Result<(), CliError> {
    let walk = Walk { runs: &arguments.runs, reads_data: arguments.data };
    let path = resolve(&arguments.model);
    let parts = vec![walk.model(&path, MOST_BASES)?];
    let wrong: Vec<&Part> = parts.iter().flat_map(Part::wrong).collect();
    let errors: Vec<&String> = wrong.iter().flat_map(|part| &part.findings).collect();
    terminal.result(&json!({ "path": path, "valid": wrong.is_empty(), "parts": parts, "errors": errors }), || {
        tree(&arguments.model.display().to_string(), &parts)
    })?;
    match wrong.first() {
        None => Ok(()),
        Some(first) => {
            let reason = first.findings.first().cloned().unwrap_or_else(|| format!("{}: {}", first.name, first.what));
            Err(CliError::Integrity { path, reason, hint: "`codex-cli verify RUN` names every file of a run that is not what it was" })
        }
    }
}

/// A place, or the model of a name.
fn resolve(path: &Path) -> PathBuf {
    if path.exists() { path.to_owned() } else { Places::here().resolve(path).map_or_else(|_| path.to_owned(), |place| place.path) }
}

impl Walk<'_> {
    /// A run, a checkpoint, or a model that was written for other programs.
    fn model(&self, path: &Path, depth: usize) -> Result<Part, CliError> {
        if path.join(RunRecord::FILE).exists() {
            let Some(step) = checkpoints_of(path)?.steps()?.last().copied() else {
                return Err(CliError::usage(format!("`{}` has no checkpoint", path.display()), "train it for at least one step"));
            };
            return self.checkpoint(path, step, None, depth);
        }
        let of_run = files::parent(files::parent(path));
        if path.join("manifest.json").exists() && of_run.join(RunRecord::FILE).exists() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let step = name.strip_prefix("step-").and_then(|digits| digits.parse().ok());
            return self.checkpoint(of_run, step.ok_or_else(|| CliError::NotAModel { path: path.to_owned() })?, None, depth);
        }
        let is_file = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")) && path.is_file();
        if !is_file && !is_model_folder(path) && !is_adapter_folder(path) {
            return Err(CliError::NotAModel { path: path.to_owned() });
        }
        self.export(path, depth)
    }

    /// A model that was written for other programs: by which run, and whether its files are as they were written.
    fn export(&self, path: &Path, depth: usize) -> Result<Part, CliError> {
        let found = ExportFile::all_of(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let runs = if self.runs.is_dir() { list_runs(self.runs)? } else { Vec::new() };
        for entry in runs.into_iter().filter(|entry| entry.record.is_ok()) {
            let run = RunDir::open(&entry.path)?;
            let Some((_, record)) = ExportRecord::all_of(&run)?.into_iter().find(|(_, record)| record.is_of(&found)) else { continue };
            let digest = |name: &str| found.iter().find(|file| file.name == name).map(|file| file.blake3);
            let is_folder = path.is_dir();
            let differs = |file: &&ExportFile| is_folder && digest(&file.name) != Some(file.blake3);
            let finding = |file: &ExportFile| {
                format!("`{}`: expected digest {}, found {}", file.name, file.blake3, verify::shown(digest(&file.name)))
            };
            let findings = record.files.iter().filter(differs).map(finding).collect();
            let what = format!("{} written by that run, {}", record.format, bytes(found.iter().map(|file| file.bytes).sum()));
            let from = self.checkpoint(&entry.path, record.step, Some(&record), depth)?;
            return Ok(Part::new(&name, what, findings).above(vec![from]));
        }
        let weights = found.iter().map(|file| file.blake3.short()).collect::<Vec<_>>().join(", ");
        let what = format!("no run in `{}` has written it (`--runs FOLDER` looks elsewhere); its files: {weights}", self.runs.display());
        // Where training begins with another program's model, this is where the way back ends.
        let verdict = if depth == MOST_BASES { Verdict::Missing } else { Verdict::Noted };
        Ok(Part::new(&name, what, Vec::new()).with(verdict))
    }

    /// A checkpoint, and the run that made it.
    fn checkpoint(&self, path: &Path, step: u64, export: Option<&ExportRecord>, depth: usize) -> Result<Part, CliError> {
        let run = RunDir::open(path)?;
        let record = RunRecord::read(&run)?;
        let name = format!("step {step}");
        let (mut findings, mut what) = (Vec::new(), String::new());
        match checkpoints_of(path)?.load_model(step) {
            Err(error) => {
                let part = Part::new(&name, String::new(), vec![codex_core::failure::chain(&error)]);
                let gone = Part { verdict: Verdict::Missing, ..part };
                return Ok(gone.above(vec![self.run_of(&run, &record, depth)?]));
            }
            Ok(loaded) => {
                let manifest = Digest::of_file(&loaded.path.join("manifest.json"))?;
                let weights = tensor_file::digest(&loaded.weights).unwrap_or_else(|_| Digest::of_bytes(b""));
                what += &format!("weights {}", weights.short());
                if let Some(export) = export.filter(|export| export.checkpoint != manifest) {
                    findings.push(format!("the export is of the checkpoint {}, and this one is {manifest}", export.checkpoint));
                }
                if loaded.manifest.plan != record.plan_digest {
                    findings.push(format!("it is of the plan {}, and the run of {}", loaded.manifest.plan, record.plan_digest));
                }
            }
        }
        Ok(Part::new(&name, what, findings).above(vec![self.run_of(&run, &record, depth)?]))
    }

    /// A run, and what went into it.
    fn run_of(&self, run: &RunDir, record: &RunRecord, depth: usize) -> Result<Part, CliError> {
        let path = run.path();
        let mut below = vec![self.data(run, path, record)?];
        let tokenizer = record.graph.inputs_of(NodeKind::Tokenizer).next();
        let found = Digest::of_file(&path.join("tokenizer.json"))?;
        let other = tokenizer.filter(|node| node.digest != found).map(|node| format!("expected digest {}, found {found}", node.digest));
        below.push(Part::new("tokenizer", format!("digest {}", found.short()), other.into_iter().collect()));
        below.push(verify::configuration(path, record));
        below.push(verify::program(record));
        for node in record.graph.inputs.iter().filter(|node| matches!(node.kind, NodeKind::Toolchain | NodeKind::Dependencies)) {
            let name = if node.kind == NodeKind::Toolchain { "toolchain" } else { "dependencies" };
            below.push(Part::new(name, node.name.clone(), Vec::new()).with(Verdict::Noted));
        }
        let base = verify::base(path)?;
        let of_base = run_config::of_run(path)?.run.base.map(|base| resolve(&base)).filter(|base| base.exists());
        below.push(match (of_base, depth.checked_sub(1)) {
            (Some(of_base), Some(depth)) => base.above(vec![self.model(&of_base, depth)?]),
            _ => base,
        });
        let what = format!("{}, plan {}, {} steps", record.status.as_str(), record.plan_digest.short(), record.step);
        Ok(Part::new(&format!("run {}", record.id), what, Vec::new()).above(below))
    }

    /// The texts, file by file.
    fn data(&self, run: &RunDir, path: &Path, record: &RunRecord) -> Result<Part, CliError> {
        let was = DatasetChecksums::read(run)?;
        let part = verify::data(run, path, self.reads_data)?;
        let verdict = |path: &str| match (self.reads_data, part.findings.iter().any(|finding| finding.contains(&format!("`{path}`")))) {
            (false, _) => Verdict::Noted,
            (true, false) if part.verdict == Verdict::Proven || part.verdict == Verdict::Differs => Verdict::Proven,
            (true, _) => part.verdict,
        };
        let mut below: Vec<Part> = Vec::new();
        for source in &was.sources {
            let what = format!("{}, digest {}", bytes(source.bytes), source.blake3.short());
            let known = record.graph.inputs_of(NodeKind::Data).any(|node| node.name == source.path && node.digest == source.blake3);
            let finding = (!known && !record.graph.inputs.is_empty()).then(|| "it is not among the inputs of the run's graph".to_owned());
            let verdict = if finding.is_some() { Verdict::Differs } else { verdict(&source.path) };
            below.push(Part::new(&source.path, what, finding.into_iter().collect()).with(verdict));
        }
        Ok(part.above(below))
    }
}

/// The record of an export in the run that it is of; one that cannot be kept is told and is no failure.
pub(super) fn keep_export(found: &stored_model::Found, format: &str, out: &Path, weights: Digest, terminal: &Terminal) {
    use codex_core::Clock as _;
    let (Some(run), Some(step)) = (&found.run, found.step) else { return };
    let keep = || -> Result<(), CliError> {
        let manifest = Digest::of_file(&found.path.join("manifest.json"))?;
        let now = codex_core::SystemClock::new().now();
        ExportRecord::of(format, out, (step, manifest), weights, now)?.keep(&RunDir::open(run)?)?;
        Ok(())
    };
    if let Err(error) = keep() {
        let why = codex_core::failure::chain(&error);
        terminal.warn(&format!("the export is not recorded in `{}`, so `runs lineage` will not find it: {why}", run.display()));
    }
}
