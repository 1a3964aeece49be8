//! codex-cli as it is measured: built or given, asked what it can do, and run.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::process::{self, Finished};
use crate::workspace::{Workspace, cargo};

/// Settings that keep evaluation, samples and saves out of the measured steps. The system is sampled between them, for the peak memory before the save. A run evaluates once before its first
/// step and once after its last, and saves after its last; none of that is in a step's time.
pub const QUIET: [&str; 8] = [
    "eval.every_steps=1000000",
    "eval.max_windows=1",
    "eval.batch_size=1",
    "eval.sample_tokens=0",
    "checkpoint.every_steps=1000000",
    "checkpoint.keep_last=1",
    "telemetry.every_seconds=0.1",
    "train.warmup_steps=0",
];

/// The program that is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// Where it is.
    #[serde(skip)]
    pub path: PathBuf,
    /// Its name and version, as it says them.
    pub version: String,
    /// Its digest.
    pub blake3: String,
    /// Whether it was built from the working tree by this command.
    pub is_built_here: bool,
    #[serde(skip)]
    folder: PathBuf,
}

/// A run that was made.
#[derive(Debug)]
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// The process that made it.
    pub finished: Finished,
}

/// A tokenizer that was trained.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    /// Its `tokenizer.json`.
    pub file: PathBuf,
    /// The ids it really has.
    pub vocab_size: u64,
}

impl Program {
    /// Builds codex-cli, or takes the one that is given. Runs and caches go below `folder`.
    pub fn find(workspace: &Workspace, given: Option<&Path>, folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Self> {
        let path = given.map_or_else(|| build(workspace, say), |path| Ok(path.to_owned()))?;
        let path = fs::canonicalize(&path)
            .with_context(|| format!("`{}` is not there; without `--bin` codex-cli is built first", path.display()))?;
        let blake3 = digest(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        let folder = fs::canonicalize(folder).with_context(|| format!("cannot find `{}`", folder.display()))?;
        let mut program = Self { path, version: String::new(), blake3, is_built_here: given.is_none(), folder };
        let log = program.folder.join("logs").join("version");
        let said = process::run(program.command().arg("--version"), &log)?.stdout;
        said.trim().clone_into(&mut program.version);
        Ok(program)
    }

    /// A command of it that no `CODEX_` variable of the caller changes.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CODEX_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Whether it knows a setting; otherwise what it says about it.
    pub fn accepts(&self, setting: &str) -> Result<Result<(), String>> {
        let log = self.folder.join("logs").join("accepts");
        let (finished, status) = process::run_any(self.command().args(["config", "show", setting]), &log)?;
        if status.success() {
            return Ok(Ok(()));
        }
        let said = finished.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        Ok(Err(format!("this codex-cli refuses `{setting}`: {said}")))
    }

    /// A tokenizer trained on the compiled-in novels; one that is there is taken.
    pub fn tokenizer(&self, vocab: u64, say: &mut dyn FnMut(&str)) -> Result<Tokenizer> {
        #[derive(Deserialize)]
        struct Manifest {
            vocab_size: u64,
        }
        let folder = self.folder.join("tokenizers").join(format!("v{vocab}"));
        let manifest = folder.join("tokenizer.manifest.json");
        if !manifest.is_file() {
            say(&format!("training a tokenizer of {vocab} ids (once, not measured)"));
            let mut train = self.command();
            train.args(["tokenizer", "train", "--json", "--vocab-size", &vocab.to_string(), "--out"]).arg(&folder);
            process::run(&mut train, &self.folder.join("logs").join("tokenizer"))?;
        }
        let text = fs::read_to_string(&manifest).with_context(|| format!("cannot read `{}`", manifest.display()))?;
        let manifest: Manifest = serde_json::from_str(&text).with_context(|| format!("cannot read `{}`", manifest.display()))?;
        Ok(Tokenizer { file: folder.join("tokenizer.json"), vocab_size: manifest.vocab_size })
    }

    /// Trains a fresh run with these settings.
    pub fn train(&self, settings: &[String], log: &Path) -> Result<Run> {
        #[derive(Deserialize)]
        struct Answer {
            run: PathBuf,
        }
        let mut command = self.command();
        command.args(["train", "--json", "--quiet", "--fresh"]).args(settings);
        command.arg("run.name=bench").arg(format!("run.folder={}", self.folder.join("runs").display()));
        if !settings.iter().any(|setting| setting.starts_with("data.cache_dir=")) {
            command.arg(format!("data.cache_dir={}", self.folder.join("cache").display()));
        }
        let finished = process::run(&mut command, log)?;
        let answer: Answer = serde_json::from_str(&finished.stdout)
            .with_context(|| format!("cannot read what `codex-cli train --json` wrote to `{}`", log.with_extension("out").display()))?;
        Ok(Run { folder: self.folder.join(answer.run), finished })
    }
}

/// Read in pieces: a child shows at least the peak memory of this process.
fn digest(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Builds codex-cli in release mode; where it is.
pub fn build(workspace: &Workspace, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    say("building codex-cli (release; about 9 minutes on two cores when nothing is built yet)");
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", "codex-cli"]).current_dir(&workspace.root);
    if !build.status().context("cannot run `cargo build`")?.success() {
        bail!("codex-cli does not build; `--bin PATH` measures one that is there");
    }
    Ok(workspace.target.join("release").join(format!("codex-cli{}", env::consts::EXE_SUFFIX)))
}

impl Run {
    /// Removes the run folder.
    pub fn remove(self) -> Result<Finished> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("cannot remove `{}`", self.folder.display()))?;
        Ok(self.finished)
    }
}
