//! A small language with rules, a tiny model, and a run folder for them.

use std::sync::{Arc, OnceLock};

use burn::tensor::Device;
use codex_checkpoint::{CheckpointConfig, OnFailure};
use codex_core::{Clock, Digest, FixedClock, Stream, TensorMap};
use codex_data::{Cutting, DataConfig, MemorySource, Packing, SourceConfig, StageConfig, TrainingData, open_sources, prepare};
use codex_model::{AdapterConfig, Decoder, ModelConfig, SamplingConfig, parameters};
use codex_safety::{SafetyConfig, Scanner};
use codex_tokenize::{ByteTokenizer, Tokenizer, TokenizerConfig};
use codex_track::{RunDir, RunRecord, TrackConfig};
use codex_train::{BaseModel, EvalConfig, Observer, Outcome, RunPlan, StepReport, StopSignal, TrainConfig, TrainError, train};

/// Sentences that a model can predict once it knows the order of words, and the unigram model cannot.
fn sentences(purpose: &str, n: u64) -> String {
    let mut stream = Stream::new(11, purpose, 0);
    let pairs = [("cat", "sleeps"), ("dog", "barks"), ("bird", "sings"), ("fish", "swims")];
    let picked = (0..n).map(|_| pairs[stream.below(4) as usize]);
    picked.map(|(who, does)| ["the ", who, " ", does, ". "].concat()).collect()
}

/// One for all: its rules take longer to compile than a run of the tests takes to train.
fn scanner() -> Arc<Scanner> {
    static SCANNER: OnceLock<Arc<Scanner>> = OnceLock::new();
    Arc::clone(SCANNER.get_or_init(|| Arc::new(Scanner::new(&SafetyConfig::default()).unwrap())))
}

/// A folder in memory where there is one: hundreds of runs save here, and each save is flushed.
fn folder() -> tempfile::TempDir {
    let in_memory = std::path::Path::new("/dev/shm");
    if in_memory.is_dir() {
        tempfile::tempdir_in(in_memory).or_else(|_| tempfile::tempdir()).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

pub(crate) struct Bench {
    folder: Arc<tempfile::TempDir>,
    pub(crate) train: TrainConfig,
    seed: u64,
    /// Short documents kept apart, instead of one long one.
    pub(crate) isolate: bool,
    pub(crate) packing: Packing,
    pub(crate) base: Option<BaseModel>,
    pub(crate) adapter: AdapterConfig,
    /// The shipped prompts and chats, instead of sentences.
    pub(crate) conversations: bool,
    pub(crate) max_seconds: u64,
    /// Two sources in two stages, and a validation set of its own.
    pub(crate) mixture: bool,
    pub(crate) on_failure: OnFailure,
}

impl Bench {
    pub(crate) fn new(configure: impl Fn(&mut TrainConfig)) -> Self {
        Self::with_seed(5, configure)
    }

    pub(crate) fn with_seed(seed: u64, configure: impl Fn(&mut TrainConfig)) -> Self {
        let mut train = TrainConfig { steps: 40, batch_size: 4, learning_rate: 1e-2, warmup_steps: 4, ..TrainConfig::default() };
        configure(&mut train);
        Self {
            folder: Arc::new(folder()),
            train,
            seed,
            isolate: false,
            packing: Packing::Auto,
            base: None,
            adapter: AdapterConfig::default(),
            conversations: false,
            max_seconds: 0,
            mixture: false,
            on_failure: OnFailure::Retry,
        }
    }

    /// The same run folder with another plan.
    pub(crate) fn changed(&self, configure: impl Fn(&mut TrainConfig)) -> Self {
        let mut train = self.train.clone();
        configure(&mut train);
        Self {
            folder: Arc::clone(&self.folder),
            train,
            seed: self.seed,
            isolate: self.isolate,
            packing: self.packing,
            base: self.base.clone(),
            adapter: self.adapter.clone(),
            conversations: self.conversations,
            max_seconds: self.max_seconds,
            mixture: self.mixture,
            on_failure: self.on_failure,
        }
    }

    pub(crate) fn run(&self, observer: &mut dyn Observer, stop: &StopSignal) -> Result<Outcome, TrainError> {
        self.run_on(&Device::flex(), observer, stop)
    }

    pub(crate) fn run_on(&self, device: &Device, observer: &mut dyn Observer, stop: &StopSignal) -> Result<Outcome, TrainError> {
        let clock: Arc<dyn Clock> = Arc::new(FixedClock::new(1_795_484_319_000, 10));
        let plan = self.plan();
        let mut record = RunRecord::read(&plan.run).unwrap_or_else(|_| {
            let nothing = Digest::of_bytes(b"");
            RunRecord::new(&plan.run, "test", &[], self.seed, nothing, nothing, clock.now())
        });
        train(&plan, device, &mut record, &clock, observer, stop)
    }

    pub(crate) fn plan(&self) -> RunPlan {
        let tokenizer: Arc<dyn Tokenizer> = Arc::new(ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap());
        let context_length = if self.conversations { 384 } else { 16 };
        let model = ModelConfig { d_model: 16, n_layers: 1, n_heads: 2, n_kv_heads: 1, context_length, ..ModelConfig::default() };
        let eval = EvalConfig { every_steps: 10, max_windows: 8, batch_size: 4, sample_prompt: "the".to_owned(), sample_tokens: 4 };
        RunPlan {
            seed: self.seed,
            model,
            base: self.base.clone(),
            adapter: self.adapter.clone(),
            train: self.train.clone(),
            eval,
            sampling: SamplingConfig::default(),
            checkpoint: CheckpointConfig { every_steps: 5, on_failure: self.on_failure, ..CheckpointConfig::default() },
            track: TrackConfig::default(),
            telemetry: codex_track::telemetry::TelemetryConfig::default(),
            max_seconds: self.max_seconds,
            cutting: Cutting { shuffle: true, isolate_documents: self.isolate, packing: self.packing },
            data: Arc::new(self.data(tokenizer.as_ref())),
            tokenizer,
            safety: scanner(),
            run: self.run_dir(),
            art_dir: None,
        }
    }

    fn data(&self, tokenizer: &dyn Tokenizer) -> TrainingData {
        let shipped = |name: &str| vec![std::path::absolute("../../fixtures/sft").unwrap().join(name).display().to_string()];
        let (train, validation) = if self.conversations {
            (shipped("train.jsonl"), shipped("validation.jsonl"))
        } else {
            (vec!["builtin:rules".to_owned()], vec!["builtin:held-out".to_owned()])
        };
        let mut config = DataConfig { train, validation, chat_template: "plain".to_owned(), ..DataConfig::default() };
        if self.mixture {
            let source = |path: &str, weight| SourceConfig { paths: vec![path.to_owned()], weight };
            config.train = Vec::new();
            config.sources = [("rules", source("builtin:rules", 3.0)), ("more", source("builtin:more", 1.0))]
                .map(|(name, source)| (name.to_owned(), source))
                .into();
            config.stages = vec![StageConfig { from_step: 7, weights: [("rules".to_owned(), 1.0), ("more".to_owned(), 2.0)].into() }];
            config.validation_sets = [("other".to_owned(), vec!["builtin:other".to_owned()])].into();
        }
        let text = sentences("train", 60);
        let rules = if self.isolate {
            // Of three lengths, so that windows hold different numbers of documents.
            let documents = text.split_inclusive(". ").enumerate().flat_map(|(i, sentence)| vec![sentence.to_owned(); 1 + i % 3]);
            let documents: Vec<String> = documents.enumerate().map(|(i, sentence)| sentence.repeat(1 + i % 2)).collect();
            MemorySource::from_documents("rules", documents)
        } else {
            MemorySource::new("rules", text)
        };
        let other = |name: &str, n| MemorySource::new(name, sentences(name, n));
        let builtins = [rules, MemorySource::new("held-out", sentences("validation", 12)), other("more", 45), other("other", 9)];
        let safety = SafetyConfig::default();
        let scanner = scanner();
        let digest = Digest::of_json(&safety).unwrap();
        let cache = |config: &DataConfig| {
            let sources = open_sources(config, &builtins)?;
            prepare(config, &sources, tokenizer, &scanner, digest, &self.folder.path().join("cache"), &mut |_| {})
        };
        TrainingData::assemble(&config, cache).unwrap()
    }

    fn run_dir(&self) -> RunDir {
        let path = self.folder.path().join("run");
        codex_core::files::create_dir_all(&path).unwrap();
        RunDir::open(&path).unwrap()
    }

    pub(crate) fn record(&self) -> RunRecord {
        RunRecord::read(&self.run_dir()).unwrap()
    }

    /// (step, value as written) of every training loss in the metrics file, in file order.
    pub(crate) fn losses(&self) -> Vec<(u64, String)> {
        let text = codex_core::files::read_to_string(&self.folder.path().join("run/metrics.ndjson")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let losses = lines.filter(|line| line["metric"] == "loss" && line["split"] == "train");
        losses.map(|line| (line["step"].as_u64().unwrap(), line["value"].to_string())).collect()
    }
}

pub(crate) fn weights(model: &Decoder) -> TensorMap {
    parameters::collect(model).unwrap()
}

/// The largest difference between two models' weights.
pub(crate) fn apart(a: &TensorMap, b: &TensorMap) -> f32 {
    let pairs = a.iter().flat_map(|(path, tensor)| tensor.values.iter().zip(&b[path].values));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Asks for a stop at a step, as a signal would.
pub(crate) struct StopAt(pub(crate) u64, pub(crate) StopSignal);

impl Observer for StopAt {
    fn step(&mut self, report: &StepReport) {
        if report.step == self.0 {
            self.1.request(15);
        }
    }
}
