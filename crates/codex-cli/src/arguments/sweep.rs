//! What can be asked of sweeps.

use std::path::PathBuf;

use clap::Args;

/// A sweep.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  codex-cli sweep sweep.toml\n  codex-cli sweep sweep.toml --dry-run\n  codex-cli sweep sweep.toml --submit\n  \
    codex-cli sweep runs/widths-1a2b3c4d --results\n\nRun again it goes on: trials that have ended are not run again. docs/SWEEPS.md says what a file can hold."
)]
pub(crate) struct SweepCommand {
    /// The sweep file; with `--results` also the folder of a sweep
    pub(crate) file: PathBuf,
    /// The folder that holds the sweep's folder
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
    /// Say which trials there are and what a scheduler would be given; write and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Hand the trials to the scheduler that the file names
    #[arg(long)]
    pub(crate) submit: bool,
    /// Only show what came of the trials so far
    #[arg(long, conflicts_with_all = ["dry_run", "submit"])]
    pub(crate) results: bool,
    /// Trials at a time on this machine, in place of what the file says
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) parallel: Option<u16>,
    /// More arguments of `codex-cli train` for every trial, behind `--`
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
}
