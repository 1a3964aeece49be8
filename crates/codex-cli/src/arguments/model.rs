//! The `model` commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use codex_model::Pooling;

use super::Model;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Say what a run, a checkpoint or a model folder holds
    #[command(
        after_help = "Examples:\n  codex-cli model inspect runs/20261124-120000-austen\n  codex-cli model inspect RUN/checkpoints/step-00000700 --json\n  \
                      codex-cli model inspect models/SmolLM2-135M"
    )]
    Inspect {
        /// Run folder, checkpoint folder, Hugging Face model folder, or a name that `model list` shows
        model: PathBuf,
        /// Which checkpoint of a run: `latest`, `best` or a step
        #[arg(long, default_value = "latest", value_name = "WHICH")]
        checkpoint: String,
    },
    /// Print the scores of every next token after each position, in full precision with `--json`
    #[command(after_help = "Example:\n  codex-cli model logits runs/20261124-120000-austen --ids 12,7,300 --ids 4,4 --json")]
    Logits {
        #[command(flatten)]
        model: Model,
        /// Token ids with commas; can be given more than once
        #[arg(long, required = true)]
        ids: Vec<String>,
    },
    /// Make vectors of texts with an encoder, such as all-MiniLM-L6-v2, and compare them
    Embed(Embed),
    /// Check another program's model and keep it under a name, in one form
    #[command(
        after_help = "Examples:\n  codex-cli model import ~/Downloads/SmolLM2-135M\n  codex-cli model import DIR --name small --dtype f32"
    )]
    Import {
        /// Hugging Face folder: config.json, model.safetensors or shards with an index, tokenizer.json or tokenizer.model
        folder: PathBuf,
        /// Its name; that of the folder when absent
        #[arg(long)]
        name: Option<String>,
        /// What its numbers are kept as; as they are when absent
        #[arg(long, value_enum)]
        dtype: Option<NumberType>,
    },
    /// Write a model for other programs: a Hugging Face folder or a GGUF file, read again and compared before it gets its name
    #[command(
        after_help = "Examples:\n  codex-cli model export runs/20261124-120000-austen --out austen-hf\n  codex-cli model export RUN --out austen.gguf --dtype q8_0\n  \
                      codex-cli model export RUN --checkpoint best --out DIR --dtype bf16"
    )]
    Export {
        /// Run folder, checkpoint folder, Hugging Face model folder, or a name
        model: PathBuf,
        /// The folder or file to write, which must not exist
        #[arg(long)]
        out: PathBuf,
        /// Which checkpoint of a run: `latest`, `best` or a step
        #[arg(long, default_value = "latest", value_name = "WHICH")]
        checkpoint: String,
        /// The format; told by the name of `--out` when absent: gguf where it ends so, else hf
        #[arg(long, value_enum)]
        format: Option<ExportFormat>,
        /// What the adapters of a folder of peft are on, if not what their files name
        #[arg(long, value_name = "MODEL")]
        base: Option<PathBuf>,
        /// What numbers are written as; q8_0 in GGUF only
        #[arg(long, value_enum, default_value_t = NumberType::F32)]
        dtype: NumberType,
        /// The most megabytes of numbers in one file of a folder
        #[arg(long, default_value_t = 5000, value_name = "MB")]
        max_file_mb: u64,
        /// The chat template to write beside it: a file, or one that ships with the program
        #[arg(long, value_name = "NAME|FILE")]
        template: Option<String>,
    },
    /// Write a model with its adapters added into its weights, as a Hugging Face folder
    #[command(after_help = "Example:\n  codex-cli model merge runs/20261128-090000-lora --out merged")]
    Merge {
        /// A run whose weights are adapters, or a folder of peft
        model: PathBuf,
        /// The folder to write, which must not exist
        #[arg(long)]
        out: PathBuf,
        /// Which checkpoint of a run: `latest`, `best` or a step
        #[arg(long, default_value = "latest", value_name = "WHICH")]
        checkpoint: String,
        /// What the adapters of a folder of peft are on, if not what their files name
        #[arg(long, value_name = "MODEL")]
        base: Option<PathBuf>,
        /// What numbers are written as
        #[arg(long, value_enum, default_value_t = NumberType::F32)]
        dtype: NumberType,
    },
    /// List the models that have a name
    List,
    /// Say where a name leads, or every place that was looked at
    Resolve {
        /// The name, such as `gpt2-offline`
        name: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  codex-cli model embed models/all-MiniLM-L6-v2 --text 'It rained.' --text 'The street was wet.'\n  \
                  codex-cli model embed models/all-MiniLM-L6-v2 lines.txt --json\n  codex-cli model embed DIR lines.txt --pooling cls --normalize=false")]
pub(crate) struct Embed {
    /// Folder of an encoder as transformers or sentence-transformers has it, or a name that `model list` shows
    pub(crate) model: PathBuf,
    /// A file with one text in each line; standard input where there is neither that nor `--text`
    pub(crate) file: Option<PathBuf>,
    /// A text; can be given more than once
    #[arg(long)]
    pub(crate) text: Vec<String>,
    /// Which vectors of a text stand for it; as the folder's own files say when absent, else the mean
    #[arg(long, value_enum)]
    pub(crate) pooling: Option<PoolingChoice>,
    /// Divide each vector by its length, or not; as the folder's own files say when absent
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    pub(crate) normalize: Option<bool>,
    /// Most texts of one length that go through the network together; the vectors do not depend on it
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) batch: u16,
    /// The device: auto, flex, ndarray, wgpu or cuda
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    /// CPU threads; 0 takes one per core
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
}

/// Which vectors of a text stand for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PoolingChoice {
    /// The mean of all positions
    Mean,
    /// The first position
    Cls,
}

impl From<PoolingChoice> for Pooling {
    fn from(choice: PoolingChoice) -> Self {
        match choice {
            PoolingChoice::Mean => Self::Mean,
            PoolingChoice::Cls => Self::Cls,
        }
    }
}

/// A format of other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A Hugging Face folder
    Hf,
    /// One file for llama.cpp
    Gguf,
    /// An adapter for the peft package
    Peft,
}

/// What numbers are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NumberType {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
}
