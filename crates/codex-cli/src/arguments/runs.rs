//! What can be asked about runs.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Looking at runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Runs {
    /// List runs: all, or those that are looked for
    List(ListRuns),
    /// Show one run: its record and the course of its metrics
    Show {
        /// The run folder; the newest run when absent
        run: Option<PathBuf>,
    },
    /// Recompute the digest of every file of a run, its checkpoints included, and follow the chain of its metrics
    Verify(Verify),
    /// Say where runs differ: configuration by key, data by file, metrics by the step at which two of them part
    Compare {
        /// The run folders, two or more
        #[arg(required = true, num_args = 2..)]
        runs: Vec<PathBuf>,
        /// Write a page with the curves of all to this file
        #[arg(long, value_name = "FILE.html")]
        page: Option<PathBuf>,
    },
    /// Say which runs are best by a metric, and which checkpoint of theirs
    Best(BestOf),
    /// Follow a run that is under way
    Tail(TailRun),
    /// Sum up the metrics of runs: how many values, first, last, least, greatest and mean of each
    Summarize(Summarize),
    /// Draw the report of a run again
    Report {
        /// The run folder; the newest run when absent
        run: Option<PathBuf>,
        /// Where to; when absent the run folder, or `artifacts/report.html` in it once the run has ended
        #[arg(long, value_name = "FILE.html")]
        out: Option<PathBuf>,
    },
    /// Send a run to an MLflow server; needs a build with `--features mlflow-rest`
    Push {
        /// The run folder; the newest run when absent
        run: Option<PathBuf>,
        /// The server, such as http://127.0.0.1:5000. MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, are heeded
        #[arg(long, value_name = "URL")]
        to: String,
        /// The experiment; made when there is none
        #[arg(long, default_value = "codex")]
        experiment: String,
    },
    /// Give a run another name, tags or a note
    Note(NoteRun),
    /// Remove runs; not one that is under way, nor one that others were made from
    Rm {
        /// The run folders
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Walk from a model back to the run, the program and the texts that made it
    Lineage(Lineage),
}

/// Options of `runs list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  codex-cli runs list\n  codex-cli runs list --tag baseline --sort validation/loss --limit 10\n  \
    codex-cli runs list --where 'validation/loss<2.5' --status finished --json")]
pub(crate) struct ListRuns {
    /// The folder that holds them
    #[arg(long, default_value = "runs")]
    pub(crate) folder: PathBuf,
    /// Only those with this status: running, finished, interrupted, failed or killed; can be given more than once
    #[arg(long)]
    pub(crate) status: Vec<String>,
    /// Only those with this tag; of several, all
    #[arg(long)]
    pub(crate) tag: Vec<String>,
    /// Only those with a name like this: `*` stands for anything, `?` for one character
    #[arg(long, value_name = "PATTERN")]
    pub(crate) name: Option<String>,
    /// Only those with a last value like this, such as `validation/loss<2.5`; of several, all
    #[arg(long = "where", value_name = "METRIC<VALUE")]
    pub(crate) bounds: Vec<String>,
    /// Sort by started, updated, duration, step, name or a metric, the smallest first
    #[arg(long, value_name = "KEY")]
    pub(crate) sort: Option<String>,
    /// The greatest first
    #[arg(long, requires = "sort")]
    pub(crate) descending: bool,
    /// At most so many
    #[arg(long)]
    pub(crate) limit: Option<usize>,
}

/// Options of `runs best`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  codex-cli runs best\n  codex-cli runs best --metric validation/token_accuracy --limit 3\n  \
    codex-cli runs best --folder runs/sweep-1a2b3c4d/trials --ever")]
pub(crate) struct BestOf {
    /// The folder that holds the runs
    #[arg(long, default_value = "runs")]
    pub(crate) folder: PathBuf,
    /// The metric
    #[arg(long, default_value = "validation/loss")]
    pub(crate) metric: String,
    /// Which values are better: min or max; as is usual for the metric when absent
    #[arg(long, value_name = "min|max")]
    pub(crate) goal: Option<String>,
    /// Look at every value that was measured, not only at the last
    #[arg(long)]
    pub(crate) ever: bool,
    /// At most so many
    #[arg(long, default_value_t = 5)]
    pub(crate) limit: usize,
}

/// Options of `runs tail`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  codex-cli runs tail\n  codex-cli runs tail runs/20261128-090000-austen --every 1\n  codex-cli runs tail --once --json"
)]
pub(crate) struct TailRun {
    /// The run folder; the newest run when absent
    pub(crate) run: Option<PathBuf>,
    /// Seconds between two looks
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub(crate) every: f64,
    /// Look once and end
    #[arg(long)]
    pub(crate) once: bool,
}

/// Options of `runs summarize`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  codex-cli runs summarize\n  codex-cli runs summarize runs/a runs/b --format csv --out summary.csv\n  \
    codex-cli runs summarize metrics.ndjson --json"
)]
pub(crate) struct Summarize {
    /// Run folders, or files of metrics; the newest run when absent
    pub(crate) runs: Vec<PathBuf>,
    /// How it is written
    #[arg(long, value_enum, default_value_t = SummaryFormat::Table)]
    pub(crate) format: SummaryFormat,
    /// Write it to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// How a summary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SummaryFormat {
    Table,
    Csv,
    Json,
    /// Needs a build with `--features parquet`, and `--out`
    Parquet,
}

/// Options of `runs note`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  codex-cli runs note runs/20261128-090000-austen --tag baseline --note 'before the new tokenizer'\n  \
    codex-cli runs note runs/20261128-090000-austen --name 'austen, wide' --remove-tag baseline")]
pub(crate) struct NoteRun {
    /// The run folder
    pub(crate) run: PathBuf,
    /// Another name; the folder keeps its own
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A tag to add; can be given more than once
    #[arg(long)]
    pub(crate) tag: Vec<String>,
    /// A tag to take away; can be given more than once
    #[arg(long)]
    pub(crate) remove_tag: Vec<String>,
    /// Another note; an empty one takes it away
    #[arg(long)]
    pub(crate) note: Option<String>,
}

/// Options of `runs lineage`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  codex-cli runs lineage austen.gguf\n  codex-cli runs lineage models/austen --data\n  codex-cli runs lineage runs/20261128-090000-austen --json"
)]
pub(crate) struct Lineage {
    /// A run, a checkpoint, or a model that was exported: a folder, a GGUF file or adapters
    pub(crate) model: PathBuf,
    /// The folder with the runs, one of which wrote it
    #[arg(long, default_value = "runs")]
    pub(crate) runs: PathBuf,
    /// Read the texts again as well
    #[arg(long)]
    pub(crate) data: bool,
}

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  codex-cli verify\n  codex-cli verify runs/20261128-090000-austen --data\n  codex-cli verify --json")]
pub(crate) struct Verify {
    /// The run folder; the newest run when absent
    pub(crate) run: Option<PathBuf>,
    /// Read the data that it was trained on again as well
    #[arg(long)]
    pub(crate) data: bool,
}
