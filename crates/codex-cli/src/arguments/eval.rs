//! What is to be evaluated and how, and which evaluations are compared.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::arguments::Model;

/// `eval MODEL`, or `eval compare`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Examples:\n  codex-cli eval\n  codex-cli eval runs/20261124-120000-austen --checkpoint best --json\n  codex-cli eval \
    --data held-out.jsonl --max-windows 0\n  codex-cli eval RUN --data questions.jsonl --metrics acc,acc_norm\n  codex-cli eval RUN --data \
    sums.jsonl --sample --metrics exact_match --extract '#### (-?[0-9]+)' --stop 'Question:'\n  codex-cli eval RUN --data predictions.jsonl \
    --metrics bleu,chrf,rouge_l --out scores\n  codex-cli eval compare BEFORE AFTER\n\nRows of --data (JSON lines): `text`; `prompt` or `messages`, with \
    `completion` or `references` (a list); `prompt`, `choices` (a list) and `answer` (place or text); a `prediction` that is there already. Without \
    --metrics and --sample the loss of the text is printed and nothing is written."
)]
pub(crate) struct EvalCommand {
    #[command(subcommand)]
    pub(crate) action: Option<EvalAction>,
    #[command(flatten)]
    pub(crate) eval: Eval,
}

/// What can be done with evaluations.
#[derive(Debug, Subcommand)]
pub(crate) enum EvalAction {
    /// Compare evaluations of the same data, or tell what learning one task after another has cost and gained
    Compare(Compare),
}

/// Options of `eval`.
#[derive(Debug, Args)]
pub(crate) struct Eval {
    #[command(flatten)]
    pub(crate) model: Model,
    /// Files or folders to evaluate on; the run's own validation text when absent. With --metrics or --sample: files of JSON lines or of text
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Vec<String>,
    /// Most windows to read; 0 reads all. On the run's own text as many as its evaluations read, on other text all
    #[arg(long, conflicts_with_all = ["metrics", "sample"])]
    pub(crate) max_windows: Option<u64>,
    /// Windows, or with --metrics and --sample sequences, per forward pass
    #[arg(long, default_value_t = 16)]
    pub(crate) batch_size: usize,
    /// Metrics to compute of each row, parted by commas; a wrong name lists all there are
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) metrics: Vec<String>,
    #[command(flatten)]
    pub(crate) task: TaskArguments,
}

/// How a task is judged.
#[derive(Debug, Args)]
pub(crate) struct TaskArguments {
    /// Let the model write a prediction for each row; judged by exact_match and f1 unless --metrics says otherwise
    #[arg(long)]
    pub(crate) sample: bool,
    /// Where the files go; `artifacts/eval/KEY` in the run folder, or `eval/KEY`, when absent
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Read no more rows than this; 0 reads all
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) max_records: usize,
    /// How often records are drawn again for the intervals
    #[arg(long, default_value_t = codex_eval::text::DEFAULT_RESAMPLES, value_name = "N")]
    pub(crate) resamples: usize,
    /// Seed of sampling and of the intervals
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// The template of chats: a file, a model folder, or one that ships with the program; when absent the model's own
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) template: Option<String>,
    /// Judge only what this pattern finds in a prediction: its first group, or the whole match. The last match counts; without one the prediction
    /// is empty
    #[arg(long, value_name = "REGEX")]
    pub(crate) extract: Option<String>,
    /// Let the first match count
    #[arg(long, requires = "extract")]
    pub(crate) extract_first: bool,
    /// Most tokens to write for a row
    #[arg(long, default_value_t = 128, requires = "sample", value_name = "N")]
    pub(crate) max_new_tokens: usize,
    /// Divides the scores; 0 takes the most likely token each time
    #[arg(long, default_value_t = 0.0, requires = "sample")]
    pub(crate) temperature: f64,
    /// Only the k most likely tokens; 0 keeps all
    #[arg(long, default_value_t = 0, requires = "sample")]
    pub(crate) top_k: usize,
    /// The smallest set of tokens that reaches this probability
    #[arg(long, default_value_t = 1.0, requires = "sample")]
    pub(crate) top_p: f64,
    /// End a prediction before this text; can be given more than once
    #[arg(long, requires = "sample", value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
}

/// Options of `eval compare`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  codex-cli eval compare eval/3f2a9c01d7be eval/90b1c2d3e4f5\n  codex-cli eval compare BEFORE AFTER --metric f1 --json\n  \
    codex-cli eval compare --matrix M1-TASK1 M1-TASK2 M2-TASK1 M2-TASK2 --baseline M0-TASK1 --baseline M0-TASK2\n\nWith --matrix the models are in \
    the order of training and the tasks in the order of learning: both as they come first among the evaluations."
)]
pub(crate) struct Compare {
    /// Folders of evaluations, or their summary.json
    #[arg(required = true, num_args = 2.., value_name = "EVALUATION")]
    pub(crate) evaluations: Vec<PathBuf>,
    /// Only this metric; can be given more than once. All that the evaluations share when absent
    #[arg(long, value_name = "NAME")]
    pub(crate) metric: Vec<String>,
    /// Take the evaluations as models x tasks: average, backward and forward transfer, forgetting
    #[arg(long)]
    pub(crate) matrix: bool,
    /// An evaluation of the model before any of the tasks was learnt, for forward transfer; can be given more than once
    #[arg(long, requires = "matrix", value_name = "EVALUATION")]
    pub(crate) baseline: Vec<PathBuf>,
    /// How often records are drawn again for the intervals
    #[arg(long, default_value_t = codex_eval::text::DEFAULT_RESAMPLES, value_name = "N")]
    pub(crate) resamples: usize,
    /// Seed of the intervals
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}
