//! What can be typed: every command, its arguments and its help. Nothing is decided here.

mod chat;
mod data;
mod eval;
mod masks;
mod model;
mod replay;
mod runs;
mod sweep;
mod tokenizer;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use chat::{CachePrecision, Chat};
pub(crate) use data::Data;
pub(crate) use eval::{Compare, Eval, EvalAction, EvalCommand};
pub(crate) use masks::Masks;
pub(crate) use model::{Embed, ExportFormat, ModelCommand, NumberType};
pub(crate) use replay::{FindLearningRate, LearningRate, Replay, Selftest};
pub(crate) use runs::{BestOf, Lineage, ListRuns, NoteRun, Runs, Summarize, SummaryFormat, TailRun, Verify};
pub(crate) use sweep::SweepCommand;
pub(crate) use tokenizer::{Tokenizer, TokenizerFormat};

/// Trains, evaluates and samples language models offline, reproducibly.
#[derive(Debug, Parser)]
#[command(name = "codex-cli", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 ok; 2 usage or configuration; 3 data; 4 integrity; 5 input/output; 6 refused by policy; 7 busy; \
    130/143 after a signal, with the state saved.\n\nStart with: codex-cli train")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Print debugging messages
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model; goes on with an interrupted run of the same plan
    Train(Train),
    /// Train many runs that differ: a grid, random draws, pairs, or what Optuna asks for; here or by a scheduler
    Sweep(SweepCommand),
    /// Look for a learning rate
    #[command(subcommand)]
    Lr(LearningRate),
    /// Take steps of a run again and compare every loss, gradient norm and digest
    Replay(Replay),
    /// Measure this program's promises on a model and this device: cached as uncached, packed as unpacked, and more
    Selftest(Selftest),
    /// Prove a run: recompute every digest from data to checkpoints, follow the chain of its metrics
    Verify(Verify),
    /// Evaluate a trained model: loss, perplexity, bits per byte, token accuracy; tasks by any metric; compare evaluations
    Eval(EvalCommand),
    /// Continue a prompt
    Generate(Generate),
    /// Talk with a model that was trained for it
    Chat(Chat),
    /// Train, check and use tokenizers
    #[command(subcommand)]
    Tokenizer(Tokenizer),
    /// Look at data before training on it
    #[command(subcommand)]
    Data(Data),
    /// Look into models, ask for their scores, bring them in and hand them on
    #[command(subcommand)]
    Model(ModelCommand),
    /// List and verify the checkpoints of a run
    #[command(subcommand)]
    Checkpoint(Checkpoint),
    /// List and show runs
    #[command(subcommand)]
    Runs(Runs),
    /// Show and check configurations
    #[command(subcommand)]
    Config(Config),
    /// Find and redact secrets and personal data
    #[command(subcommand)]
    Safety(Safety),
    /// Say what this machine and this build can do
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// A configuration: a file and single values.
#[derive(Clone, Debug, Args)]
pub(crate) struct Configuration {
    /// Configuration file (TOML or YAML); it may start with `defaults = ["model/tiny", …]`
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Values such as `train.steps=100`, or a group such as `model=small`
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  codex-cli train\n  codex-cli train train.steps=2000 model=small\n  codex-cli train \
    'data.train=[\"notes/\"]' data.validation=[] data.validation_fraction=0.1 run.name=notes\n  codex-cli train --config run.toml --dry-run")]
#[command(group = clap::ArgGroup::new("many").args(["multirun", "sweep_file"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct Train {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    /// Start over in a new run folder even if a run of the same plan can go on
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Say what would be done, with a forecast of memory and time, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Measure where the time of a step goes, operation by operation, and write it to profile.json in the run folder
    #[arg(long)]
    pub(crate) profile: bool,
    /// Write the metrics to this folder instead of the run folder
    #[arg(long, value_name = "DIR")]
    pub(crate) art_dir: Option<PathBuf>,
    /// The device: auto, flex, ndarray, wgpu or cuda (the same as run.device=…)
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// End with exit code 5 when a tracking writer could not work, after the run is saved (the same as track.strict=true)
    #[arg(long)]
    pub(crate) strict_tracking: bool,
    /// A tag of the run, which `runs list --tag` finds; can be given more than once
    #[arg(long)]
    pub(crate) tag: Vec<String>,
    /// What you want to remember of the run
    #[arg(long)]
    pub(crate) note: Option<String>,
    /// Train every combination of the values: `train.learning_rate=1e-3,3e-4 'model=choice(nano,tiny)'`
    #[arg(long, conflicts_with_all = ["fresh", "dry_run", "art_dir"])]
    pub(crate) multirun: bool,
    /// Train one trial of this sweep
    #[arg(long, value_name = "FILE", requires = "index", conflicts_with_all = ["config", "overrides", "fresh", "dry_run", "art_dir"])]
    pub(crate) sweep_file: Option<PathBuf>,
    /// Which trial, from 0
    #[arg(long, requires = "sweep_file")]
    pub(crate) index: Option<usize>,
    /// The folder that holds the sweep's folder
    #[arg(long, value_name = "DIR", default_value = "runs", requires = "many")]
    pub(crate) runs: PathBuf,
}

impl Train {
    /// What of these arguments holds for a trial as well.
    pub(crate) fn for_trial(&self) -> Self {
        Self {
            configuration: Configuration { config: None, overrides: Vec::new() },
            fresh: false,
            dry_run: false,
            profile: self.profile,
            art_dir: None,
            device: self.device.clone(),
            strict_tracking: self.strict_tracking,
            tag: self.tag.clone(),
            note: self.note.clone(),
            multirun: false,
            sweep_file: None,
            index: None,
            runs: self.runs.clone(),
        }
    }
}

/// A trained model and where it runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct Model {
    /// Run folder, checkpoint folder, Hugging Face model folder, or a name that `model list` shows; the newest run below `runs` when absent
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Which checkpoint of a run: `latest`, `best` or a step
    #[arg(long, default_value = "latest", value_name = "WHICH")]
    pub(crate) checkpoint: String,
    /// What the adapters of a folder of peft are on, if not what their files name
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<PathBuf>,
    /// The device: auto, flex, ndarray, wgpu or cuda
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    /// CPU threads; 0 takes one per core
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// How the weights of linear layers are held: int8 reads a quarter of the memory of f32 and is not exact
    #[arg(long, value_enum, default_value_t = Weights::F32)]
    pub(crate) weights: Weights,
}

/// How weights are held while a model is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Weights {
    F32,
    Int8,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  codex-cli generate --prompt 'It was a'\n  echo 'Emma said' | codex-cli generate --temperature 0 --json\n  \
                  codex-cli generate --prompt 'It was a' --samples 8\n  \
                  codex-cli generate --prompt 'It was a' --weights int8 --kv-cache bf16\n  \
                  codex-cli generate --prompt 'It was a' --stream | tee text.txt"
)]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(crate) model: Model,
    /// The text to continue; standard input when absent
    #[arg(long, short)]
    pub(crate) prompt: Option<String>,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// How many texts, made together; each has the seed after that of the one before
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) samples: u16,
    /// Print the text while it is made, as on a terminal: words that no stop text and no safety rule can still take back. Not of several samples,
    /// and not with `--json`
    #[arg(long, conflicts_with = "samples")]
    pub(crate) stream: bool,
    /// File no record under the run's `artifacts/infer/`
    #[arg(long)]
    pub(crate) no_record: bool,
    /// How keys and values of what was read are kept: bf16 takes half the memory of f32 and is not exact
    #[arg(long, value_enum, default_value_t = CachePrecision::F32)]
    pub(crate) kv_cache: CachePrecision,
}

/// How tokens are chosen.
#[derive(Clone, Debug, Args)]
pub(crate) struct Sampling {
    /// Most tokens to generate [default: the run's `sampling.max_new_tokens`, 100]
    #[arg(long)]
    pub(crate) max_new_tokens: Option<usize>,
    /// Divides the scores; 0 takes the most likely token each time [default: the run's `sampling.temperature`, 0.8]
    #[arg(long)]
    pub(crate) temperature: Option<f64>,
    /// Only the k most likely tokens; 0 keeps all [default: the run's `sampling.top_k`, 0]
    #[arg(long)]
    pub(crate) top_k: Option<usize>,
    /// The smallest set of tokens that reaches this probability [default: the run's `sampling.top_p`, 0.95]
    #[arg(long)]
    pub(crate) top_p: Option<f64>,
    /// Only tokens with this share of the most likely one's probability; 0 keeps all [default: the run's `sampling.min_p`, 0]
    #[arg(long)]
    pub(crate) min_p: Option<f64>,
    /// Makes tokens that were read or generated less likely; 1 does not [default: the run's `sampling.repetition_penalty`, 1]
    #[arg(long)]
    pub(crate) repetition_penalty: Option<f64>,
    /// Seed of the draws: the same seed gives the same text [default: the run's `sampling.seed`, 0]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// End before this text; can be given more than once [default: the run's `sampling.stop`, none]
    #[arg(long)]
    pub(crate) stop: Vec<String>,
}

/// Files that are looked at.
#[derive(Debug, Args)]
pub(crate) struct Surveyed {
    /// Files or folders
    #[arg(required = true)]
    pub(crate) paths: Vec<String>,
    /// The field of a JSONL row that holds the text
    #[arg(long, default_value = "text")]
    pub(crate) text_field: String,
    /// Look for near duplicates too, not only for equal texts
    #[arg(long)]
    pub(crate) near: bool,
    /// Draw lengths and writing systems in this SVG file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Checkpoint {
    /// List the checkpoints of a run
    List {
        /// The run folder; the newest run when absent
        run: Option<PathBuf>,
    },
    /// Recompute every digest of the checkpoints of a run
    Verify {
        /// The run folder or one checkpoint; the newest run when absent
        run: Option<PathBuf>,
    },
    /// Say which tensors of two checkpoints differ, and by how much
    Diff {
        /// A checkpoint, such as RUN/checkpoints/step-00000100
        first: PathBuf,
        /// Another
        second: PathBuf,
    },
    /// Remove the checkpoints that the retention does not keep; never the newest nor the best
    Prune {
        /// The run folder; the newest run when absent
        run: Option<PathBuf>,
        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
        /// How many of the newest are kept; as the run's configuration says when absent
        #[arg(long)]
        keep_last: Option<usize>,
        /// How many of the best are kept; never fewer than the run itself keeps
        #[arg(long)]
        keep_best: Option<usize>,
        /// Steps between those that are kept for good
        #[arg(long)]
        keep_every: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  codex-cli config show --sources train.steps=100 model=small\n  codex-cli config check run.toml\n  \
    codex-cli config diff run.toml runs/20261128-090000-austen\n  codex-cli config schema --out codex.schema.json")]
pub(crate) enum Config {
    /// Print the configuration that these layers come to, as TOML
    Show {
        #[command(flatten)]
        configuration: Configuration,
        /// Print every value with the layer that set it
        #[arg(long)]
        sources: bool,
    },
    /// Check a configuration file: every problem at once
    Check {
        /// The file
        file: PathBuf,
    },
    /// Say where two configurations differ, and what set each value
    Diff {
        /// A configuration file or a run folder
        first: PathBuf,
        /// Another
        second: PathBuf,
    },
    /// Print the JSON Schema of configuration files, for editors
    Schema {
        /// Write it to this file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print what every key is, as Markdown
    Reference,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Safety {
    /// Report findings in files and folders; the matched text is never shown
    Scan {
        /// Files or folders
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Print a text with every finding replaced
    Redact {
        /// The file; standard input when absent
        path: Option<PathBuf>,
    },
    /// List the rules
    Rules,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_consistent() {
        Arguments::command().debug_assert();
    }
}
