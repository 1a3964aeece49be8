//! How `data inspect` shows which tokens are trained.

use std::path::PathBuf;

use clap::Args;

/// Which tokens of prompts and chats are trained.
#[derive(Debug, Args)]
pub(crate) struct Masks {
    /// Show the tokens of the first rows, trained ones marked, and count them by role
    #[arg(long)]
    pub(crate) masks: bool,
    /// A tokenizer.json, its folder, a run or a checkpoint; the newest run below `runs` when absent
    #[arg(long, value_name = "PATH", requires = "masks")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// The chat template: a file, a model folder, or one of those that ship with the program
    #[arg(long, value_name = "NAME|PATH", default_value = "chatml", requires = "masks")]
    pub(crate) template: String,
    /// How many rows are shown; all are counted
    #[arg(long, default_value_t = 5, requires = "masks")]
    pub(crate) rows: usize,
    /// Tokens that a model reads at once; the run's, or the default model's
    #[arg(long, value_name = "TOKENS", requires = "masks")]
    pub(crate) context_length: Option<usize>,
    /// What is trained of prompts and chats: `assistant` or `all`
    #[arg(long, value_name = "WHAT", default_value = "assistant", requires = "masks", value_parser = ["assistant", "all"])]
    pub(crate) train_on: String,
}
