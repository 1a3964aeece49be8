//! What may be typed after `cargo xtask`, and what it means; this is the gate's documentation.

use clap::{Parser, Subcommand};

use crate::bench::options::Bench;
use crate::crash::Crash;
use crate::gate::Step;
use crate::interop::Interop;
use crate::parity::Parity;

/// Checks and measures the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// One task.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Run every check, cheapest first, and show one table.
    ///
    /// Tools are looked for before the first step. `cargo-deny` is installed at its pinned version into `<target>/tools`, and LLVM's coverage
    /// tools by `apt-get` where that is possible; with `--no-install`, or when that fails, the step is not run and the exact command is named.
    ///
    /// When one of fmt, tidy, dag or deny fails, the steps that compile are not run. A step that did not run is never counted as passed, and
    /// the exit code is 0 only when every selected step passed. Logs are in `<target>/gate/`, the coverage report in `<target>/coverage/`. The
    /// tests run once, with coverage on, in a network namespace of their own; where the system does not permit one, `--with-network` runs them
    /// all the same, and the table says so.
    Gate {
        /// Install nothing; name the command instead.
        #[arg(long)]
        no_install: bool,
        /// Run the tests with the network in reach where `unshare --net` is not permitted.
        #[arg(long)]
        with_network: bool,
        /// Run only these steps.
        #[arg(long, value_enum, value_delimiter = ',', value_name = "STEP")]
        only: Vec<Step>,
        /// Check, test and measure one crate only; for development.
        #[arg(long, short, value_name = "CRATE")]
        package: Option<String>,
        /// List the steps and stop.
        #[arg(long)]
        list: bool,
    },
    /// The quick half of the gate: fmt, tidy, dag, clippy, doc.
    Lint {
        /// Install nothing; name the command instead.
        #[arg(long)]
        no_install: bool,
    },
    /// Check the sources by the rules of the house: names, sizes, headers, devices, links.
    Tidy,
    /// Check who depends on whom.
    Dag,
    /// Put the sources of all dependencies into `vendor/`, for a build without a registry.
    Vendor {
        /// Type-check the workspace from the vendored tree with an empty cargo home.
        #[arg(long)]
        check: bool,
        /// Build the workspace from the vendored tree with an empty cargo home.
        #[arg(long)]
        build: bool,
        /// Check or build one crate only; for development.
        #[arg(long, short, value_name = "CRATE")]
        package: Option<String>,
    },
    /// Compare what codex reads, computes and writes with the libraries that others use for it.
    ///
    /// Builds codex-cli in release mode and runs the scripts of xtask/parity: models, exports and adapters beside transformers, peft, gguf and llama.cpp,
    /// token ids beside tokenizers, sentencepiece and tiktoken, chat templates beside transformers. The libraries come from PyPI, in the Python that
    /// `--python` names; what is missing is not run, and is named in the table with the command that installs it. The exit code is 0 unless
    /// something that ran failed; with `--strict` everything must have run. Logs are in `<target>/parity/`.
    Parity(Parity),
    /// Have what codex writes read by the programs that others use for it.
    ///
    /// Builds codex-cli in release mode, makes a short run that is interrupted and goes on, with every writer on, and runs the scripts of
    /// xtask/interop: the run in TensorBoard, MLflow and W&B, its metrics in promtool and prometheus_client, the JSON Schema of configurations in
    /// jsonschema, overrides in hydra's own parser. The readers come from PyPI, in the Python that `--python` names, and promtool from the path; one that
    /// is absent is a line of the table, with the command that installs it. The exit code is 0 unless a reader failed; with `--strict` every one must
    /// be there. Run and logs are in `<target>/interop/`.
    #[command(
        after_help = "Examples:\n  cargo xtask interop --python .venv/bin/python --strict\n  cargo xtask interop --only tracking --bin target/release/codex-cli"
    )]
    Interop(Interop),
    /// Kill, starve, cut off and damage checkpoints while they are saved and loaded, in full, and count what was lost.
    ///
    /// kill: SIGKILL at each system call of a save that changes the disk. power: a disk in a file is copied while checkpoints are saved to it, and each copy is mounted.
    /// fault: calls that the system refuses, and full disks. damage: flipped bits and cut files. manifest: names and links that lead out of the folder, lies,
    /// two writers. teeth: the product is built without file fsync, folder fsync, order and digests, and the checks must fail in each build.
    ///
    /// Builds the tests of codex-checkpoint, which also try a sample of each part whenever tests run. kill and fault need `strace`; power and full
    /// disks need root, `mkfs.ext4` and a loop device. What cannot run is named in the table and does not fail; with `--strict` everything must
    /// have run. The exit code is 0 only when nothing failed and no group had fewer cases than it must have. Logs are in `<target>/crash/`.
    #[command(
        after_help = "Examples:\n  cargo xtask crash\n  cargo xtask crash --only power --strict\n  cargo xtask crash --only kill,fault --json crash.json\n  \
                      cargo xtask crash --only damage --seed 2"
    )]
    Crash(Crash),
    /// Run the tests of codex-kernels, the crate with `unsafe`, under AddressSanitizer and Miri.
    ///
    /// AddressSanitizer sees every path that this processor has, after a program that reads past the end of a vector has shown that it bites; Miri
    /// sees the portable path, in a chosen subset of the tests. Both need a nightly toolchain. What is missing is not run, is named in the table
    /// with the command that installs it, and does not fail: the exit code is 0 unless something that ran failed. Logs are in
    /// `<target>/sanitize/`.
    Sanitize,
    /// Measure codex beside its peers, in turns, and show medians, ratios, spreads and peak memory.
    ///
    /// Each benchmark builds codex-cli in release mode, runs it and its peers round by round, prints a table and writes JSON and a picture to
    /// `<target>/bench/`. Peers come from PyPI, in the Python that `--python` names; one that is missing is named with the command that installs
    /// it. Runs, models, caches and the children's output are in `<target>/bench/` too; the folder may be removed at any time. What a number means and how to judge it is in
    /// docs/BENCHMARKS.md.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        what: Bench,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn steps_are_selected_by_name_and_unknown_ones_refused() {
        let cli = Cli::try_parse_from(["cargo xtask", "gate", "--only", "tidy,dag"]).unwrap();
        assert!(matches!(cli.task, Task::Gate { only, .. } if only == [Step::Tidy, Step::Dag]));
        let error = Cli::try_parse_from(["cargo xtask", "gate", "--only", "tydy"]).unwrap_err().to_string();
        assert!(error.contains("tidy"), "{error}");
    }
}
