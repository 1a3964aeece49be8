//! What may be typed after `cargo xtask bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::shape::{Arch, Shape};

/// A benchmark.
#[derive(Clone, Debug, Subcommand)]
pub enum Bench {
    /// A training step: tokens per second and peak memory, beside PyTorch (eager, compile, bf16, bf16-compile).
    Train(Train),
    /// One stream of greedy generation: tokens per second, beside transformers with a KV cache.
    Generate(Generate),
    /// Text to token cache beside Hugging Face `datasets.map`, training a tokenizer beside the library's trainer, a warm start, and reading an epoch.
    Data(Data),
    /// Saving a checkpoint: bandwidth and stall, beside `cp` with fsync and safetensors from Python.
    Checkpoint(Checkpoint),
    /// Scanning text for secrets and personal data: MB per second, beside `grep -E` and Python's `re` with as many patterns.
    Safety(Safety),
    /// Starting: `--help`, and `train` until its first step, beside `python3 -c 'import torch'` and PyTorch's first step.
    Start(Start),
    /// Speed and memory against parameters, context, batch and threads, with codex's own forecast of the memory beside what was measured.
    Scaling(Scaling),
    /// Instructions of each kernel, counted by valgrind's callgrind, beside the last record.
    Kernels(Kernels),
}

impl Bench {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Train(_) => "train",
            Self::Generate(_) => "generate",
            Self::Data(_) => "data",
            Self::Checkpoint(_) => "checkpoint",
            Self::Safety(_) => "safety",
            Self::Start(_) => "start",
            Self::Scaling(_) => "scaling",
            Self::Kernels(_) => "kernels",
        }
    }

    /// The options that all of them have.
    pub fn shared(&self) -> &Shared {
        match self {
            Self::Train(options) => &options.shared,
            Self::Generate(options) => &options.shared,
            Self::Data(options) => &options.shared,
            Self::Checkpoint(options) => &options.shared,
            Self::Safety(options) => &options.shared,
            Self::Start(options) => &options.shared,
            Self::Scaling(options) => &options.shared,
            Self::Kernels(options) => &options.shared,
        }
    }
}

/// Options of every benchmark.
#[derive(Clone, Debug, Args)]
pub struct Shared {
    /// Measure this codex-cli instead of building the workspace's in release mode.
    #[arg(long, value_name = "PATH")]
    pub bin: Option<PathBuf>,
    /// The Python whose packages are the peers.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: String,
    /// Write the result as JSON to this file as well as into `<target>/bench/`.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Put the result into docs/BENCHMARKS.md, with its picture in docs/bench/.
    #[arg(long)]
    pub record: bool,
    /// How often each side is measured, in turns.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Wait up to so long before each measurement until others leave the processors.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub patience: u64,
    /// CPU threads of each side; 0 takes one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// A precision of the matrix products of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// 16 bits of bfloat16, accumulated in 32.
    Bf16,
}

impl Precision {
    /// The name that is typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// Options of `bench kernels`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench kernels\n  cargo xtask bench kernels --only product\n  cargo xtask bench kernels --record"
)]
pub struct Kernels {
    /// Options of every benchmark.
    #[command(flatten)]
    pub shared: Shared,
    /// Only the kernels with this in their name.
    #[arg(long, value_name = "PART")]
    pub only: Option<String>,
}

/// Options of `bench train`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench train --record\n  cargo xtask bench train --arch llama --precision f32 --rounds 5\n  \
    cargo xtask bench train --bin target/release/codex-cli --python target/venv/bin/python --steps 6 --rounds 1\n\n\
    Without options: both architectures, both precisions, the reference step (6 layers x 384, context 256, batch 8, 4,096 ids).\n\
    The peers come from PyPI: python3 -m pip install torch numpy"
)]
pub struct Train {
    /// Options of every benchmark.
    #[command(flatten)]
    pub shared: Shared,
    /// Architectures.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Arch::Gpt2, Arch::Llama])]
    pub arch: Vec<Arch>,
    /// Precisions.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Precision::F32, Precision::Bf16])]
    pub precision: Vec<Precision>,
    /// Width of the model.
    #[arg(long, default_value_t = 384)]
    pub d_model: u64,
    /// Layers.
    #[arg(long, default_value_t = 6)]
    pub layers: u64,
    /// Attention heads.
    #[arg(long, default_value_t = 6)]
    pub heads: u64,
    /// Tokens of a window.
    #[arg(long, default_value_t = 256)]
    pub context: u64,
    /// Windows of a step.
    #[arg(long, default_value_t = 8)]
    pub batch: u64,
    /// Token ids.
    #[arg(long, default_value_t = 4096)]
    pub vocab: u64,
    /// Steps that are counted, after three that are not.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
}

/// Options of `bench generate`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench generate --record\n  cargo xtask bench generate --shape tiny --tokens 64 --rounds 5\n\n\
    The models are random: one training step of that shape. The peers come from PyPI: python3 -m pip install torch transformers"
)]
pub struct Generate {
    /// Options of every benchmark.
    #[command(flatten)]
    pub shared: Shared,
    /// Shapes: `tiny` is the default run's, `124m` is GPT-2's (100 M with the ids that the novels give).
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Size::Tiny, Size::Gpt2])]
    pub shape: Vec<Size>,
    /// Tokens to generate.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub tokens: u64,
}

/// A shape with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// The default run's: 4 layers x 128, like LLaMA, tied.
    Tiny,
    /// The reference step's: 6 layers x 384, like GPT-2, not tied.
    Reference,
    /// GPT-2's: 12 layers x 768, context 1,024, tied; 100 M with the ids that the novels give.
    #[value(name = "124m")]
    Gpt2,
}

impl Size {
    /// The shape that is asked for.
    pub fn shape(self) -> Shape {
        match self {
            Self::Tiny => Shape::TINY,
            Self::Reference => Shape::REFERENCE,
            Self::Gpt2 => Shape::GPT2,
        }
    }
}

/// A part of `bench data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DataPart {
    /// Text to tokens on the disk.
    Tokens,
    /// Training a tokenizer.
    Tokenizer,
    /// Starting on a warm cache.
    Start,
    /// Reading an epoch from memory.
    Epoch,
}

/// Options of `bench data`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask bench data --record\n  cargo xtask bench data --megabytes 10 --rounds 1\n\n\
    codex's time is that of a training run of one step with an empty cache, less that of the same run with the cache filled.\n\
    The peers come from PyPI: python3 -m pip install datasets tokenizers")]
pub struct Data {
    /// Options of every benchmark.
    #[command(flatten)]
    pub shared: Shared,
    /// Size of the text: the novels of fixtures/corpus again and again, as documents that all differ.
    #[arg(long, value_name = "MB", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..))]
    pub megabytes: u64,
    /// Token ids of the tokenizer.
    #[arg(long, default_value_t = 4096)]
    pub vocab: u64,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub parts: Vec<DataPart>,
    /// Token ids of the tokenizer that is trained.
    #[arg(long, value_name = "IDS", default_value_t = 8192)]
    pub trained_vocab: u64,
    /// Processes of `datasets.map`.
    #[arg(long, default_value_t = 2)]
    pub processes: u64,
}

/// Options of `bench checkpoint`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench checkpoint --record\n  cargo xtask bench checkpoint --shape reference --saves 5\n\n\
    A save goes on beside training. What training waits for it, and what it loses beside it, is told below the table.\n\
    The peers: GNU coreutils, and python3 -m pip install safetensors numpy"
)]
pub struct Checkpoint {
    /// Options of every benchmark.
    #[command(flatten)]
    pub shared: Shared,
    /// The shape whose checkpoint is saved.
    #[arg(long, value_enum, default_value_t = Size::Gpt2)]
    pub shape: Size,
    /// Saves of a round beside training, every third step; one more ends the run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub saves: u64,
}

/// Options of `bench safety`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask bench safety --record\n  cargo xtask bench safety --megabytes 8\n\n\
    The peers are tools for searching, not for safety: they look for as many patterns as codex has rules (xtask/peers/patterns.txt), and do no \
    checksums, entropy or context.")]
pub struct Safety {
    /// Options of every benchmark.
    #[command(flatten)]
    pub shared: Shared,
    /// Size of the text.
    #[arg(long, value_name = "MB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=200))]
    pub megabytes: u64,
}

/// Options of `bench start`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask bench start --record\n  cargo xtask bench start --launches 100\n\n\
    The peers come from PyPI: python3 -m pip install torch numpy")]
pub struct Start {
    /// Options of every benchmark.
    #[command(flatten)]
    pub shared: Shared,
    /// How often `--help` is started; `--rounds` is for the first step.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub launches: u32,
}

/// Options of `bench scaling`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench scaling --rounds 1 --record\n  cargo xtask bench scaling --over parameters --max-parameters 100000000\n\n\
    No peer takes part: it shows how codex grows, and whether its forecast of the memory holds."
)]
pub struct Scaling {
    /// Options of every benchmark.
    #[command(flatten)]
    pub shared: Shared,
    /// What grows.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Axis::Parameters, Axis::Context, Axis::Batch, Axis::Threads])]
    pub over: Vec<Axis>,
    /// Largest model.
    #[arg(long, value_name = "N", default_value_t = 300_000_000)]
    pub max_parameters: u64,
    /// Steps that are counted, after two that are not.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// The precision.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
}

/// What grows in `bench scaling`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Axis {
    /// Width and depth, 2 M to 300 M parameters.
    Parameters,
    /// 128 to 4,096 tokens, the tokens of a step kept at 4,096.
    Context,
    /// 1 to 32 windows.
    Batch,
    /// 1 thread to one per core.
    Threads,
}
