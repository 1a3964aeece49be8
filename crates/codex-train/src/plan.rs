//! What a run is, once everything is validated: the inputs that determine it and the places it writes to.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use codex_checkpoint::{CheckpointConfig, tensor_file};
use codex_core::{Digest, TensorMap};
use codex_data::{Cutting, MixtureLoader, Packing, TrainingData, Windows};
use codex_model::{AdapterConfig, Decoder, ModelConfig, ModelError, Precision, SamplingConfig, parameters};
use codex_safety::Scanner;
use codex_tokenize::Tokenizer;
use codex_track::telemetry::TelemetryConfig;
use codex_track::{RunDir, TrackConfig};
use serde::{Deserialize, Serialize};

use crate::config::{EvalConfig, TrainConfig};
use crate::error::TrainError;
use crate::state::TrainState;

/// A run to be carried out.
#[derive(Debug)]
pub struct RunPlan {
    /// Seed of initialisation, data order and samples.
    pub seed: u64,
    /// The network.
    pub model: ModelConfig,
    /// What it begins with; drawn from the seed when absent.
    pub base: Option<BaseModel>,
    /// What is trained in place of its weights, if anything.
    pub adapter: AdapterConfig,
    /// The optimization.
    pub train: TrainConfig,
    /// The evaluations during it.
    pub eval: EvalConfig,
    /// How samples are drawn.
    pub sampling: SamplingConfig,
    /// What is saved and kept.
    pub checkpoint: CheckpointConfig,
    /// What is recorded.
    pub track: TrackConfig,
    /// What is measured of the machine, and where it is shown.
    pub telemetry: TelemetryConfig,
    /// Seconds after which this process saves and stops, to be started again; 0 never.
    pub max_seconds: u64,
    /// How windows are cut and ordered.
    pub cutting: Cutting,
    /// The tokenizer that made the cache.
    pub tokenizer: Arc<dyn Tokenizer>,
    /// The tokens.
    pub data: Arc<TrainingData>,
    /// Scans the samples before anyone sees them.
    pub safety: Arc<Scanner>,
    /// The run folder.
    pub run: RunDir,
    /// Where the metrics go instead of the run folder.
    pub art_dir: Option<PathBuf>,
}

/// Weights that training begins with.
#[derive(Clone)]
pub struct BaseModel {
    digest: Digest,
    vocab_size: Option<usize>,
    read: Arc<ReadWeights>,
}

/// Reads weights, or says why it cannot.
type ReadWeights = dyn Fn() -> Result<TensorMap, String> + Send + Sync;

impl BaseModel {
    /// Weights that are held as long as this is.
    ///
    /// # Errors
    /// As [`tensor_file::digest`].
    pub fn held(weights: TensorMap) -> Result<Self, String> {
        let (digest, vocab_size) = (tensor_file::digest(&weights)?, rows(&weights));
        Ok(Self { digest, vocab_size, read: Arc::new(move || Ok(weights.clone())) })
    }

    /// The same weights, read again each time that they are asked for, so that no copy of them is kept beside the network.
    #[must_use]
    pub fn read_by(self, read: impl Fn() -> Result<TensorMap, String> + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read), ..self }
    }

    /// What the weights are known by: see [`codex_checkpoint::tensor_file::digest`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Rows of its embedding.
    pub fn vocab_size(&self) -> Option<usize> {
        self.vocab_size
    }

    /// The parameters by path.
    ///
    /// # Errors
    /// Weights that cannot be read, or are others by now.
    pub fn weights(&self) -> Result<TensorMap, ModelError> {
        let wrong = |reason: String| ModelError::BadInput { reason: format!("the base: {reason}") };
        let weights = (self.read)().map_err(wrong)?;
        let digest = tensor_file::digest(&weights).map_err(wrong)?;
        if digest != self.digest {
            return Err(wrong(format!("its digest is {digest}, and was {} a moment ago", self.digest)));
        }
        Ok(weights)
    }
}

impl fmt::Debug for BaseModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BaseModel").field("digest", &self.digest).field("vocab_size", &self.vocab_size).finish_non_exhaustive()
    }
}

fn rows(weights: &TensorMap) -> Option<usize> {
    weights.get("embedding").and_then(|table| table.shape.first().copied())
}

/// What the network is before the first step.
#[derive(Clone, Copy, Debug)]
pub struct Start<'p> {
    /// Seed of drawn weights and adapters.
    pub seed: u64,
    /// The network's shape.
    pub model: &'p ModelConfig,
    /// Weights to begin with; drawn ones without.
    pub base: Option<&'p BaseModel>,
    /// What is trained in place of its weights, if anything.
    pub adapter: &'p AdapterConfig,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// What products are computed in.
    pub precision: Precision,
}

impl Start<'_> {
    /// The network on a device with autodiff.
    ///
    /// # Errors
    /// A base that cannot be read or is of another shape; adapters that do not fit.
    pub fn network(&self, device: &Device) -> Result<Decoder, ModelError> {
        let &Self { seed, model, base, adapter, vocab_size, precision } = self;
        let mut network = match base {
            Some(base) => {
                // Read first: zeros and the file of the weights shall not be there together.
                let weights = base.weights()?;
                parameters::load(Decoder::zeros(model, vocab_size, device)?, weights)?
            }
            None => Decoder::init(model, vocab_size, seed, device)?,
        };
        if adapter.is_on() && adapter.quantize_base {
            network = network.quantize()?;
        }
        Ok(network.with_adapters(adapter, seed, device)?.with_precision(precision))
    }
}

/// `adapter.json` of a checkpoint whose weights are adapters: what they are to be put on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterRecord {
    /// The weights that they were trained on; without, those drawn from the run's seed.
    pub base: Option<Digest>,
    /// Their configuration.
    pub adapter: AdapterConfig,
}

impl AdapterRecord {
    /// The file's name.
    pub const FILE: &'static str = "adapter.json";
}

/// What determines the weights: two runs with equal keys on one kind of device end with the same bytes.
#[derive(Clone, Debug, Serialize)]
pub struct PlanKey {
    schema: &'static str,
    seed: u64,
    model: ModelConfig,
    base: Option<Digest>,
    adapter: Option<AdapterConfig>,
    train: TrainConfig,
    /// Only an early stop makes the evaluations part of what determines the weights.
    eval: Option<EvalConfig>,
    vocab_size: usize,
    tokenizer: Digest,
    data: Digest,
    shuffle: bool,
    /// In force too where some tokens are not trained.
    isolate_documents: bool,
    #[serde(skip_serializing_if = "Packing::is_auto")]
    packing: Packing,
}

impl PlanKey {
    /// The key of a run that begins with a seed, the digest of a base and adapters, and has these parts.
    ///
    /// # Errors
    /// Data that cannot be described.
    pub fn new(
        (seed, base, adapter): (u64, Option<Digest>, &AdapterConfig),
        model: &ModelConfig,
        train: &TrainConfig,
        eval: &EvalConfig,
        tokenizer: &dyn Tokenizer,
        data: &TrainingData,
        cutting: Cutting,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            schema: "codex plan v1",
            seed,
            model: model.clone(),
            base,
            adapter: adapter.is_on().then(|| adapter.clone()),
            // Which does not change a bit, so that a run may go on with it where memory runs out.
            train: TrainConfig { recompute_activations: false, ..train.clone() },
            eval: (train.patience > 0).then(|| eval.clone()),
            vocab_size: tokenizer.vocab_size(),
            tokenizer: tokenizer.digest(),
            data: data.key()?,
            shuffle: cutting.shuffle,
            isolate_documents: cutting.isolate_documents || data.is_masked(),
            packing: cutting.packing,
        })
    }

    /// The digest of its canonical JSON.
    pub fn digest(&self) -> Result<Digest, TrainError> {
        Digest::of_json(self).map_err(|error| TrainError::State { step: 0, reason: format!("the plan cannot be written as JSON: {error}") })
    }
}

impl RunPlan {
    /// The key of this run.
    ///
    /// # Errors
    /// As [`PlanKey::new`].
    pub fn key(&self) -> Result<PlanKey, TrainError> {
        let begin = (self.seed, self.base.as_ref().map(BaseModel::digest), &self.adapter);
        PlanKey::new(begin, &self.model, &self.train, &self.eval, self.tokenizer.as_ref(), &self.data, self.cutting)
    }

    /// Rows of the embedding: the tokenizer's ids, or as many as the base has, which may be more.
    pub fn vocab_size(&self) -> usize {
        self.base.as_ref().and_then(BaseModel::vocab_size).unwrap_or_else(|| self.tokenizer.vocab_size())
    }

    /// The network before its first step, on a device with autodiff.
    pub fn network(&self, device: &Device) -> Result<Decoder, ModelError> {
        let Self { seed, model, adapter, base, .. } = self;
        let (vocab_size, precision) = (self.vocab_size(), self.train.precision);
        Start { seed: *seed, model, base: base.as_ref(), adapter, vocab_size, precision }.network(device)
    }

    /// Whether training has had as many epochs or tokens as it may.
    pub(crate) fn reaches_limit(&self, state: &TrainState, loader: &MixtureLoader) -> bool {
        let epochs = state.cursor.position as f64 / loader.windows_per_epoch().max(1) as f64;
        let TrainConfig { max_epochs, max_tokens, .. } = self.train;
        max_epochs > 0.0 && epochs >= max_epochs || max_tokens > 0 && state.tokens >= max_tokens
    }

    /// How windows are cut and ordered.
    pub fn windows(&self) -> Windows {
        windows(self.seed, &self.model, &self.train, self.cutting)
    }

    /// Windows of the training splits in the order of training.
    ///
    /// # Errors
    /// A source without windows.
    pub fn train_loader(&self) -> Result<MixtureLoader, TrainError> {
        Ok(self.data.train_loader(&self.windows())?)
    }

    /// The bytes of text that each token id stands for.
    pub fn token_bytes(&self) -> Vec<usize> {
        token_bytes(self.tokenizer.as_ref())
    }
}

/// How a run with this seed and these parts cuts and orders its windows.
pub fn windows(seed: u64, model: &ModelConfig, train: &TrainConfig, cutting: Cutting) -> Windows {
    Windows { context_length: model.context_length, seed, cutting, windows_per_step: train.windows_per_step() }
}

/// The bytes of text that each token id of a tokenizer stands for; special tokens stand for none.
pub fn token_bytes(tokenizer: &dyn Tokenizer) -> Vec<usize> {
    (0..tokenizer.vocab_size() as u32).map(|id| tokenizer.token_bytes(id).unwrap_or(0)).collect()
}
