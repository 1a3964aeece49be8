//! The `data` commands.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Configuration, Masks, Surveyed};

#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// Show what is in files: lengths, writing systems, longest and emptiest documents, duplicates, bad rows, what the safety rules find; with `--masks`
    /// which tokens are trained
    #[command(after_help = "Examples:\n  codex-cli data inspect mine.jsonl logs/ --near --svg mine.svg\n  \
        codex-cli data inspect mine.jsonl --masks --tokenizer RUN --template chatml --rows 3")]
    Inspect {
        #[command(flatten)]
        surveyed: Surveyed,
        #[command(flatten)]
        masks: Masks,
    },
    /// Count bytes, characters, words, lines and tokens of documents, with percentiles
    #[command(after_help = "Example:\n  codex-cli data stats mine.jsonl --tokenizer RUN --json")]
    Stats {
        #[command(flatten)]
        surveyed: Surveyed,
        /// Count its tokens too: a tokenizer.json, its folder, a run or a checkpoint
        #[arg(long)]
        tokenizer: Option<PathBuf>,
    },
    /// Train the tokenizer and tokenize, as training with the same configuration would do first
    #[command(
        after_help = "Examples:\n  codex-cli data prepare 'data.train=[\"logs/*.jsonl.gz\"]' data.validation=[] data.validation_fraction=0.01\n  \
        codex-cli data prepare --config run.toml --json"
    )]
    Prepare {
        #[command(flatten)]
        configuration: Configuration,
    },
    /// Recompute every digest of the caches
    #[command(after_help = "Example:\n  codex-cli data verify runs/.cache")]
    Verify {
        /// The folder of the caches
        #[arg(default_value = "runs/.cache")]
        cache: PathBuf,
    },
    /// Remove the caches that no run uses, and say how large they were
    #[command(after_help = "Examples:\n  codex-cli data gc --dry-run\n  codex-cli data gc --runs experiments --cache /fast/cache")]
    Gc {
        /// The folder with the runs
        #[arg(long, default_value = "runs")]
        runs: PathBuf,
        /// The folder of the caches; `.cache` beside the runs when absent
        #[arg(long)]
        cache: Option<PathBuf>,
        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
}
