//! Finding a trained model on the disk and bringing it to a device: for `eval`, `generate` and whoever needs one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use codex_checkpoint::{CheckpointStore, FolderStore, Loaded, tensor_file};
use codex_core::files;
use codex_model::{Decoder, ModelConfig, parameters};
use codex_tokenize::Tokenizer;
use codex_track::{RunDir, list_runs};
use codex_train::{AdapterRecord, BaseModel};

use crate::arguments::{Model, Weights};
use crate::device;
use crate::failure::CliError;
use crate::memory;
use crate::run_config::{self, RunSection};
use crate::terminal::Terminal;

/// A model on a device, with what it needs to be used.
#[derive(Debug)]
pub(crate) struct StoredModel {
    pub(crate) model: Decoder,
    pub(crate) tokenizer: Arc<dyn Tokenizer>,
    pub(crate) checkpoint: PathBuf,
    pub(crate) step: u64,
    /// The run it belongs to, when it was found in one.
    pub(crate) run: Option<PathBuf>,
    pub(crate) device_name: &'static str,
}

/// Loads the model that the arguments name.
pub(crate) fn load(arguments: &Model, terminal: &Terminal) -> Result<StoredModel, CliError> {
    device::set_threads(arguments.threads)?;
    memory::set_pool(RunSection::default().pool_mib);
    let (device, device_name) = device::open(&arguments.device)?;
    let path = match &arguments.model {
        Some(path) => path.clone(),
        None => newest_run(Path::new("runs"))?,
    };
    let (loaded, run) = find(&path, &arguments.checkpoint)?;
    for skipped in &loaded.skipped {
        terminal.warn(&format!("checkpoint step {} is not usable and was passed over: {}", skipped.step, skipped.reason));
    }
    let (mut model, tokenizer) = build(&loaded, run.as_deref(), &device)?;
    if arguments.weights == Weights::Int8 {
        model = model.quantize()?;
    }
    // Measured in the precision that it was trained in, so that `eval` finds what training found.
    if let Some(run) = &run {
        model = model.with_precision(run_config::of_run(run)?.train.precision);
    }
    Ok(StoredModel { model, tokenizer, checkpoint: loaded.path.clone(), step: loaded.step, run, device_name })
}

/// The newest run below a folder.
pub(crate) fn newest_run(folder: &Path) -> Result<PathBuf, CliError> {
    let none = || CliError::NoRun { folder: folder.to_owned() };
    if !folder.is_dir() {
        return Err(none());
    }
    list_runs(folder)?.into_iter().rev().find(|run| run.record.is_ok()).map(|run| run.path).ok_or_else(none)
}

/// A run's checkpoints, without taking their lock.
pub(crate) fn checkpoints_of(run: &Path) -> Result<FolderStore, CliError> {
    if !run.join("run.json").exists() {
        return Err(CliError::NotAModel { path: run.to_owned() });
    }
    let folder = RunDir::open(run)?.checkpoints();
    if !folder.is_dir() {
        return Err(no_checkpoint(run));
    }
    Ok(FolderStore::read_only(&folder)?)
}

fn no_checkpoint(run: &Path) -> CliError {
    CliError::usage(format!("`{}` has no checkpoint", run.display()), "train it for at least one step: `codex-cli train`")
}

fn find(path: &Path, which: &str) -> Result<(Loaded, Option<PathBuf>), CliError> {
    if path.join("manifest.json").exists() && path.join("model.safetensors").exists() {
        // A checkpoint folder: its siblings are its store.
        let store = FolderStore::read_only(files::parent(path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let step = name.strip_prefix("step-").and_then(|digits| digits.parse().ok());
        let step = step.ok_or_else(|| CliError::NotAModel { path: path.to_owned() })?;
        // `RUN/checkpoints/step-…`: the run says what it was trained on.
        let run = files::parent(files::parent(path));
        return Ok((store.load_model(step)?, run.join("run.json").exists().then(|| run.to_owned())));
    }
    let store = checkpoints_of(path)?;
    let none = || no_checkpoint(path);
    let loaded = match which {
        "latest" => store.load_latest_model()?.ok_or_else(none)?,
        "best" => store.load_model(store.best()?.ok_or_else(none)?)?,
        step => {
            let wrong = || {
                CliError::usage(format!("`--checkpoint {step}` is neither `latest`, `best` nor a step"), "see `codex-cli checkpoint list`")
            };
            store.load_model(step.parse().map_err(|_| wrong())?)?
        }
    };
    Ok((loaded, Some(path.to_owned())))
}

/// Weights to begin training with, and what comes with them.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) config: ModelConfig,
    pub(crate) tokenizer: Arc<dyn Tokenizer>,
    pub(crate) model: BaseModel,
}

/// The newest weights of a run or a checkpoint.
pub(crate) fn base(path: &Path) -> Result<Base, CliError> {
    let (loaded, _) = find(path, "latest")?;
    if loaded.extra.contains_key(AdapterRecord::FILE) {
        let what = format!("`{}` holds adapters, and a base holds all weights", loaded.path.display());
        return Err(CliError::usage(what, "take the base of those adapters"));
    }
    let (config, tokenizer) = parts(&loaded)?;
    let digest = tensor_file::digest(&loaded.weights).map_err(|reason| damaged(&loaded.path, reason))?;
    Ok(Base { config, tokenizer, model: BaseModel { weights: loaded.weights, digest } })
}

/// The network's shape and its tokenizer.
fn parts(loaded: &Loaded) -> Result<(ModelConfig, Arc<dyn Tokenizer>), CliError> {
    let text = |name: &str| {
        let bytes = loaded.extra.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
        String::from_utf8(bytes.clone()).map_err(|error| format!("`{name}`: {error}"))
    };
    let wrong = |reason: String| damaged(&loaded.path, reason);
    let config = serde_json::from_str(&text("model.json").map_err(wrong)?).map_err(|error| wrong(format!("`model.json`: {error}")))?;
    Ok((config, codex_tokenize::from_json(&text("tokenizer.json").map_err(wrong)?)?))
}

fn damaged(path: &Path, reason: String) -> CliError {
    CliError::Integrity { path: path.to_owned(), reason, hint: "`codex-cli checkpoint list` shows the other checkpoints of the run" }
}

fn build(loaded: &Loaded, run: Option<&Path>, device: &Device) -> Result<(Decoder, Arc<dyn Tokenizer>), CliError> {
    let (config, tokenizer) = parts(loaded)?;
    let Some(record) = loaded.extra.get(AdapterRecord::FILE) else {
        let model = Decoder::zeros(&config, tokenizer.vocab_size(), device)?;
        return Ok((parameters::load(model, &loaded.weights)?, tokenizer));
    };
    let wrong = |reason: String| damaged(&loaded.path, reason);
    let record: AdapterRecord = serde_json::from_slice(record).map_err(|error| wrong(format!("`{}`: {error}", AdapterRecord::FILE)))?;
    let run = run.ok_or_else(|| wrong("it holds adapters, and no run says of which base".to_owned()))?;
    let run = run_config::of_run(run)?.run;
    let mut model = match (record.base, &run.base) {
        (None, _) => Decoder::init(&config, tokenizer.vocab_size(), run.seed, device)?,
        (Some(_), None) => return Err(wrong("it holds adapters of a base that its run does not name".to_owned())),
        (Some(expected), Some(path)) => {
            let base = base(path)?.model;
            if base.digest != expected {
                let reason = format!("its adapters are of a base with digest {expected}, and `{}` has {}", path.display(), base.digest);
                return Err(wrong(reason));
            }
            parameters::load(Decoder::zeros(&config, tokenizer.vocab_size(), device)?, &base.weights)?
        }
    };
    if record.adapter.quantize_base {
        model = model.quantize()?;
    }
    Ok((parameters::load_trained(model.with_adapters(&record.adapter, run.seed, device)?, &loaded.weights)?, tokenizer))
}

/// The store of a run that is about to be written.
pub(crate) fn has_checkpoint(run: &Path) -> bool {
    FolderStore::read_only(&run.join("checkpoints")).and_then(|store| store.list()).is_ok_and(|all| !all.is_empty())
}
