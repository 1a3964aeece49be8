//! Finding a trained model on the disk and bringing it to a device: for `eval`, `generate` and whoever needs one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use codex_checkpoint::{CheckpointStore, FolderStore, Loaded, Skipped, tensor_file};
use codex_core::{Digest, TensorMap, files};
use codex_hub::{is_adapter_folder, is_model_folder};
use codex_model::{AdapterConfig, Decoder, ModelConfig, parameters};
use codex_tokenize::Tokenizer;
use codex_track::{RunDir, list_runs};
use codex_train::{AdapterRecord, BaseModel};

use crate::arguments::{Model, Weights};
use crate::device;
use crate::failure::CliError;
use crate::hub_model;
use crate::memory;
use crate::model_place::{Places, REFERENCE_MODEL};
use crate::run_config::{self, RunSection};
use crate::terminal::Terminal;

/// A model on a device, with what it needs to be used.
#[derive(Debug)]
pub(crate) struct StoredModel {
    pub(crate) model: Decoder,
    pub(crate) tokenizer: Arc<dyn Tokenizer>,
    pub(crate) checkpoint: PathBuf,
    /// After which step of training it was saved, where that is known.
    pub(crate) step: Option<u64>,
    /// The run it belongs to, when it was found in one.
    pub(crate) run: Option<PathBuf>,
    pub(crate) device_name: &'static str,
}

/// A model on a device, which may have no tokenizer.
pub(crate) struct BareModel {
    pub(crate) model: Decoder,
    pub(crate) found: Found,
    pub(crate) device_name: &'static str,
}

/// Loads the model that the arguments name.
pub(crate) fn load(arguments: &Model, terminal: &Terminal) -> Result<StoredModel, CliError> {
    load_bare(arguments, terminal)?.with_tokenizer()
}

/// The same, with what its weights are known by.
pub(crate) fn load_identified(arguments: &Model, terminal: &Terminal) -> Result<(StoredModel, Identity), CliError> {
    let (device, device_name, mut found) = search(arguments, terminal)?;
    let weights = tensor_file::digest(&found.weights).map_err(|reason| damaged(&found.path, reason))?;
    let identity = Identity { weights, base: found.adapter.as_ref().and_then(|record| record.base) };
    let model = on_device(arguments, &device, &mut found)?;
    Ok((BareModel { model, found, device_name }.with_tokenizer()?, identity))
}

/// The same as [`load`], for what needs no tokenizer.
pub(crate) fn load_bare(arguments: &Model, terminal: &Terminal) -> Result<BareModel, CliError> {
    let (device, device_name, mut found) = search(arguments, terminal)?;
    let model = on_device(arguments, &device, &mut found)?;
    Ok(BareModel { model, found, device_name })
}

fn search(arguments: &Model, terminal: &Terminal) -> Result<(Device, &'static str, Found), CliError> {
    device::set_threads(arguments.threads)?;
    let (device, device_name) = device::open(&arguments.device)?;
    let path = match &arguments.model {
        Some(path) => path.clone(),
        None => newest_model(Path::new("runs"), terminal)?,
    };
    let found = find_on(&path, &arguments.checkpoint, arguments.base.as_deref())?;
    for skipped in &found.skipped {
        terminal.warn(&format!("checkpoint step {} is not usable and was passed over: {}", skipped.step, skipped.reason));
    }
    Ok((device, device_name, found))
}

fn on_device(arguments: &Model, device: &Device, found: &mut Found) -> Result<Decoder, CliError> {
    let mut model = found.take_network(device)?;
    if arguments.weights == Weights::Int8 {
        model = model.quantize()?;
    }
    // Measured in the precision that it was trained in, so that `eval` finds what training found.
    if let Some(run) = &found.run {
        model = model.with_precision(run_config::of_run(run)?.train.precision);
    }
    memory::set_pool(RunSection::default().pool_mib);
    Ok(model)
}

impl BareModel {
    fn with_tokenizer(self) -> Result<StoredModel, CliError> {
        let Self { model, found, device_name } = self;
        let tokenizer = found.tokenizer()?;
        let Found { path: checkpoint, step, run, .. } = found;
        Ok(StoredModel { model, tokenizer, checkpoint, step, run, device_name })
    }
}

/// What a model's weights are known by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Of the safetensors file that the weights, or the adapters, make.
    pub(crate) weights: Digest,
    /// Of the base that adapters are on, where they name one.
    pub(crate) base: Option<Digest>,
}

/// The newest run below a folder; the model that comes with the project where there is none.
pub(crate) fn newest_model(folder: &Path, terminal: &Terminal) -> Result<PathBuf, CliError> {
    match newest_run(folder) {
        Err(CliError::NoRun { folder }) => match Places::here().resolve(Path::new(REFERENCE_MODEL)) {
            Ok(place) => {
                terminal.say(&format!(
                    "no run in `{}` yet: this is `{}`, which comes with the project",
                    folder.display(),
                    place.path.display()
                ));
                Ok(place.path)
            }
            Err(_) => Err(CliError::NoRun { folder }),
        },
        other => other,
    }
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

/// A model as it lies on the disk.
pub(crate) struct Found {
    pub(crate) config: ModelConfig,
    tokenizer: Option<Arc<dyn Tokenizer>>,
    /// All weights by path, or those of the adapters.
    pub(crate) weights: TensorMap,
    /// What the weights are, where they are adapters.
    adapter: Option<AdapterRecord>,
    /// The base of adapters that no run knows.
    base: Option<BaseModel>,
    /// The checkpoint, or the folder of another program's model.
    pub(crate) path: PathBuf,
    pub(crate) step: Option<u64>,
    pub(crate) run: Option<PathBuf>,
    skipped: Vec<Skipped>,
}

/// The model of a run, a checkpoint or a Hugging Face folder, or the one of a name.
pub(crate) fn find(path: &Path, which: &str) -> Result<Found, CliError> {
    find_on(path, which, None)
}

/// The same, or the adapter of a folder of peft on this base.
pub(crate) fn find_on(path: &Path, which: &str, base_path: Option<&Path>) -> Result<Found, CliError> {
    let path = &Places::here().resolve(path)?.path;
    if is_adapter_folder(path) {
        return hub_model::find_adapter(path, base_path);
    }
    if let Some(base_path) = base_path {
        let what = format!("`--base {}` is for a folder with `adapter_config.json`, and `{}` is none", base_path.display(), path.display());
        return Err(CliError::usage(what, "leave `--base` out: a run knows its base"));
    }
    if is_model_folder(path) {
        return hub_model::find(path);
    }
    if path.join("manifest.json").exists() && path.join("model.safetensors").exists() {
        // A checkpoint folder: its siblings are its store.
        let store = FolderStore::read_only(files::parent(path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let step = name.strip_prefix("step-").and_then(|digits| digits.parse().ok());
        let step = step.ok_or_else(|| CliError::NotAModel { path: path.to_owned() })?;
        // `RUN/checkpoints/step-…`: the run says what it was trained on.
        let run = files::parent(files::parent(path));
        return Found::of(store.load_model(step)?, run.join("run.json").exists().then(|| run.to_owned()));
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
    Found::of(loaded, Some(path.to_owned()))
}

impl Found {
    /// What a checkpoint holds.
    fn of(loaded: Loaded, run: Option<PathBuf>) -> Result<Self, CliError> {
        let Loaded { step, weights, extra, path, skipped, .. } = loaded;
        let wrong = |reason: String| damaged(&path, reason);
        let text = |name: &str| {
            let bytes = extra.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
            String::from_utf8(bytes.clone()).map_err(|error| format!("`{name}`: {error}"))
        };
        let config = serde_json::from_str(&text("model.json").map_err(wrong)?).map_err(|error| wrong(format!("`model.json`: {error}")))?;
        let tokenizer = Some(codex_tokenize::from_json(&text("tokenizer.json").map_err(wrong)?)?);
        let step = Some(step);
        let adapter = extra.get(AdapterRecord::FILE).map(|record| serde_json::from_slice(record)).transpose();
        let adapter = adapter.map_err(|error| wrong(format!("`{}`: {error}", AdapterRecord::FILE)))?;
        Ok(Self { config, tokenizer, weights, adapter, base: None, path, step, run, skipped })
    }

    /// What the folder of another program holds.
    pub(crate) fn of_folder(path: &Path, config: ModelConfig, weights: TensorMap, tokenizer: Option<Arc<dyn Tokenizer>>) -> Self {
        Self { config, tokenizer, weights, adapter: None, base: None, path: path.to_owned(), step: None, run: None, skipped: Vec::new() }
    }

    /// Adapters of another program on a base.
    pub(crate) fn of_adapter(path: &Path, base: Base, weights: TensorMap, adapter: AdapterConfig) -> Self {
        let record = AdapterRecord { base: Some(base.model.digest()), adapter };
        let found = Self::of_folder(path, base.config, weights, base.tokenizer);
        Self { adapter: Some(record), base: Some(base.model), ..found }
    }

    /// What its adapters are.
    pub(crate) fn adapter(&self) -> Option<&AdapterRecord> {
        self.adapter.as_ref()
    }

    /// The base of its adapters, loaded; `None` where that was drawn from a seed.
    pub(crate) fn base_of_adapter(&self) -> Result<Option<BaseModel>, CliError> {
        if let Some(base) = &self.base {
            return Ok(Some(base.clone()));
        }
        let wrong = |reason: &str| damaged(&self.path, reason.to_owned());
        let run = self.run.as_deref().ok_or_else(|| wrong("it holds adapters, and no run says of which base"))?;
        let expected = self.adapter.as_ref().and_then(|record| record.base);
        let (expected, path) = match (expected, run_config::of_run(run)?.run.base) {
            (None, _) => return Ok(None),
            (Some(_), None) => return Err(wrong("it holds adapters of a base that its run does not name")),
            (Some(expected), Some(path)) => (expected, path),
        };
        let base = base(&path)?.model;
        if base.digest() != expected {
            let reason = format!("its adapters are of a base with digest {expected}, and `{}` has {}", path.display(), base.digest());
            return Err(damaged(&self.path, reason));
        }
        Ok(Some(base))
    }

    /// Its tokenizer, which a model without one cannot be used without.
    pub(crate) fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>, CliError> {
        self.known_tokenizer().ok_or_else(|| CliError::NoTokenizer { path: self.path.clone() })
    }

    /// Its tokenizer, if it has one.
    pub(crate) fn known_tokenizer(&self) -> Option<Arc<dyn Tokenizer>> {
        self.tokenizer.clone()
    }

    /// Rows of its embedding.
    pub(crate) fn vocab_size(&self) -> usize {
        let rows = self.weights.get("embedding").and_then(|table| table.shape.first().copied());
        rows.or(self.tokenizer.as_ref().map(|tokenizer| tokenizer.vocab_size())).unwrap_or(0)
    }

    /// Whether its weights are adapters of others.
    pub(crate) fn is_adapter(&self) -> bool {
        self.adapter.is_some()
    }

    /// The network on a device, which takes the weights, so that they are not held twice.
    fn take_network(&mut self, device: &Device) -> Result<Decoder, CliError> {
        if self.is_adapter() {
            return self.network(device);
        }
        let model = Decoder::zeros(&self.config, self.vocab_size(), device)?;
        Ok(parameters::load(model, std::mem::take(&mut self.weights))?)
    }

    /// The network on a device; adapters on their base.
    pub(crate) fn network(&self, device: &Device) -> Result<Decoder, CliError> {
        let Some(record) = &self.adapter else {
            let model = Decoder::zeros(&self.config, self.vocab_size(), device)?;
            return Ok(parameters::load(model, self.weights.clone())?);
        };
        let seed = self.run.as_deref().map(run_config::of_run).transpose()?.map_or(0, |config| config.run.seed);
        let mut model = match self.base_of_adapter()? {
            None => Decoder::init(&self.config, self.tokenizer()?.vocab_size(), seed, device)?,
            Some(base) => {
                let rows = base.vocab_size().map_or_else(|| self.tokenizer().map(|tokenizer| tokenizer.vocab_size()), Ok)?;
                parameters::load(Decoder::zeros(&self.config, rows, device)?, base.weights()?)?
            }
        };
        if record.adapter.quantize_base {
            model = model.quantize()?;
        }
        Ok(parameters::load_trained(model.with_adapters(&record.adapter, seed, device)?, &self.weights)?.settle()?)
    }
}

/// Weights to begin training with, and what comes with them.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) config: ModelConfig,
    tokenizer: Option<Arc<dyn Tokenizer>>,
    pub(crate) model: BaseModel,
    path: PathBuf,
}

impl Base {
    /// The same, with weights that are read again where they are needed instead of being kept beside the network that they become.
    pub(crate) fn read_when_needed(self) -> Self {
        let path = self.path.clone();
        let read = move || find(&path, "latest").map(|found| found.weights).map_err(|error| error.to_string());
        Self { model: self.model.read_by(read), ..self }
    }

    /// Its tokenizer, which training cannot do without.
    pub(crate) fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>, CliError> {
        self.tokenizer.clone().ok_or_else(|| CliError::NoTokenizer { path: self.path.clone() })
    }
}

/// The newest weights of a run, those of a checkpoint or of another program's model.
pub(crate) fn base(path: &Path) -> Result<Base, CliError> {
    let found = find(path, "latest")?;
    if found.is_adapter() {
        let what = format!("`{}` holds adapters, and a base holds all weights", found.path.display());
        return Err(CliError::usage(what, "take the base of those adapters"));
    }
    let Found { config, tokenizer, weights, path, .. } = found;
    let model = BaseModel::held(weights).map_err(|reason| damaged(&path, reason))?;
    Ok(Base { config, tokenizer, model, path })
}

fn damaged(path: &Path, reason: String) -> CliError {
    CliError::Integrity { path: path.to_owned(), reason, hint: "`codex-cli checkpoint list` shows the other checkpoints of the run" }
}

/// The store of a run that is about to be written.
pub(crate) fn has_checkpoint(run: &Path) -> bool {
    FolderStore::read_only(&run.join("checkpoints")).and_then(|store| store.list()).is_ok_and(|all| !all.is_empty())
}
