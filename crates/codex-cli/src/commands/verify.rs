//! `verify`: recomputes every digest of a run from its data to its checkpoints, and shows what is proven, what differs and what cannot be told.

use std::path::Path;

use codex_checkpoint::{CheckpointStore, FolderStore};
use codex_core::Digest;
use codex_data::open_sources;
use codex_track::{DatasetChecksums, RunDir, RunManifest, RunRecord, SourceChecksum, run_manifest, series, verify_metrics};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Verify;
use crate::failure::CliError;
use crate::stored_model::{self, newest_run};
use crate::terminal::{Terminal, bytes};
use crate::{corpus, provenance, run_config};

/// What is known of a part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// Recomputed, and the same.
    Proven,
    /// Recomputed, and another.
    Differs,
    /// Not there.
    Missing,
    /// Told, and not demanded.
    Noted,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Differs => "DIFFERS",
            Self::Missing => "MISSING",
            Self::Noted => "noted",
        }
    }

    fn is_wrong(self) -> bool {
        matches!(self, Self::Differs | Self::Missing)
    }
}

/// One part of a run.
#[derive(Debug, Serialize)]
struct Part {
    name: String,
    verdict: Verdict,
    what: String,
    /// What was found wrong, one place each.
    findings: Vec<String>,
}

impl Part {
    fn new(name: &str, what: String, findings: Vec<String>) -> Self {
        let verdict = if findings.is_empty() { Verdict::Proven } else { Verdict::Differs };
        Self { name: name.to_owned(), verdict, what, findings }
    }

    fn with(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }
}

pub(super) fn run(arguments: &Verify, terminal: &Terminal) -> Result<(), CliError> {
    let path = arguments.run.clone().map_or_else(|| newest_run(Path::new("runs")), Ok)?;
    if !path.join(RunRecord::FILE).exists() {
        return Err(CliError::NotAModel { path });
    }
    let run = RunDir::open(&path)?;
    let record = RunRecord::read(&run)?;
    let mut parts = vec![data(&run, &path, arguments.data)?, configuration(&path, &record), base(&path)?, program(&record), metrics(&run)?];
    parts.push(files(&run)?);
    let n_checkpoints = checkpoints(&run, &record, &mut parts)?;
    let wrong: Vec<&Part> = parts.iter().filter(|part| part.verdict.is_wrong()).collect();
    let n_findings = wrong.iter().map(|part| part.findings.len().max(1)).sum::<usize>();
    let errors: Vec<&String> = wrong.iter().flat_map(|part| &part.findings).collect();
    let n_files = RunManifest::read(&run)?.map_or(0, |manifest| manifest.files.len());
    let value = json!({ "path": path, "valid": wrong.is_empty(), "files": n_files, "parts": parts, "checkpoints": n_checkpoints, "errors": errors });
    terminal.result(&value, || tree(&path, &parts))?;
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

/// The parts below each other, each with what was found.
fn tree(path: &Path, parts: &[Part]) -> String {
    let mut text = format!("{}\n", path.display());
    for (i, part) in parts.iter().enumerate() {
        let is_last = i + 1 == parts.len();
        let (branch, stem) = if is_last { ("└─", "   ") } else { ("├─", "│  ") };
        text.push_str(&format!("{branch} {:<16} {:<8} {}\n", part.name, part.verdict.word(), part.what));
        for (k, finding) in part.findings.iter().enumerate() {
            let branch = if k + 1 == part.findings.len() { "└─" } else { "├─" };
            text.push_str(&format!("{stem}{branch} {finding}\n"));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// The files that it was trained on: as they are now, if they are to be read.
fn data(run: &RunDir, path: &Path, is_read: bool) -> Result<Part, CliError> {
    let was = DatasetChecksums::read(run)?;
    let what = format!("{} files, {}", was.sources.len(), bytes(was.sources.iter().map(|source| source.bytes).sum()));
    if !is_read {
        return Ok(Part::new("data", format!("{what}; `--data` reads them again"), Vec::new()).with(Verdict::Noted));
    }
    let now = run_config::of_run(path).and_then(|config| {
        let checksums = open_sources(&config.data, &corpus::builtins()?)?.checksums()?;
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

fn configuration(path: &Path, record: &RunRecord) -> Part {
    match run_config::digest_of_run(path) {
        Ok(found) => {
            let finding = format!("`config.resolved.toml`: expected digest {}, found {found}", record.config_digest);
            Part::new(
                "configuration",
                format!("digest {}", found.short()),
                (found != record.config_digest).then_some(finding).into_iter().collect(),
            )
        }
        Err(error) => Part::new("configuration", String::new(), vec![codex_core::failure::chain(&error)]).with(Verdict::Differs),
    }
}

/// The weights that it began with, where those are another model's.
fn base(path: &Path) -> Result<Part, CliError> {
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

fn program(record: &RunRecord) -> Part {
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
    let line = |number: &u64| format!("`metrics.ndjson`:{number}: the line before it is not the one that it was written after");
    findings.extend(found.broken.iter().map(line));
    findings.extend(found.unreadable.iter().map(|number| format!("`metrics.ndjson`:{number}: it carries no digest of the line before it")));
    let head = found.head.map_or_else(String::new, |head| format!(", head {}", head.short()));
    Ok(Part::new("metrics", format!("{} values in a chain{head}", found.lines), findings))
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

fn shown(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "absent".to_owned(), |digest| digest.to_string())
}
