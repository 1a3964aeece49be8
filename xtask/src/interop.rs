//! `cargo xtask interop`: what codex writes, read by the programs that others use for it: TensorBoard, MLflow, W&B, Prometheus, JSON Schema, Hydra's
//! parser. One short run with an interruption is made; the scripts in `xtask/interop` read it. A reader that is absent is a line of the table like any
//! other, and never counts as passed.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::bench::process;
use crate::bench::program::Program;
use crate::bench::python::Python;
use crate::gate::Unsuccessful;
use crate::log::Log;
use crate::workspace::Workspace;

/// Options of the reading.
#[derive(Clone, Debug, Args)]
pub struct Interop {
    /// Fail when a reader is absent.
    #[arg(long)]
    pub strict: bool,
    /// Python with the readers.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: String,
    /// Let this codex-cli write instead of building one.
    #[arg(long, value_name = "PATH")]
    pub bin: Option<PathBuf>,
    /// Run only these scripts.
    #[arg(long, value_delimiter = ',', value_name = "SCRIPT", value_parser = ["tracking", "prometheus", "trace", "schema", "overrides"])]
    pub only: Vec<String>,
}

/// A script, and what it reads.
#[derive(Debug)]
struct Script {
    name: &'static str,
    what: &'static str,
}

const SCRIPTS: [Script; 5] = [
    Script { name: "tracking", what: "a resumed run in TensorBoard, MLflow and W&B" },
    Script { name: "prometheus", what: "its metrics in promtool and prometheus_client" },
    Script { name: "trace", what: "its trace as Chrome and Perfetto read one" },
    Script { name: "schema", what: "the JSON Schema of configurations in jsonschema" },
    Script { name: "overrides", what: "overrides in hydra's own parser" },
];

/// The settings of the run that is read: every writer, a few steps of a small network.
const RUN: [&str; 15] = [
    "model=nano",
    "train.steps=200",
    "train.warmup_steps=10",
    "train.batch_size=2",
    "eval.every_steps=40",
    "eval.max_windows=2",
    "checkpoint.every_steps=20",
    "run.name=interop",
    "track.csv=true",
    "track.tensorboard=true",
    "track.mlflow=true",
    "track.wandb=true",
    "telemetry.every_seconds=0.2",
    "telemetry.trace=true",
    "tokenizer.vocab_size=512",
];

/// What one reader said.
#[derive(Debug, Deserialize)]
struct Reading {
    reader: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    passed: u64,
    #[serde(default)]
    failed: Vec<String>,
    /// Why it was not there.
    #[serde(default)]
    absent: Option<String>,
}

/// Makes the run, has it read, and prints the table; an error of kind [`Unsuccessful`] when something failed, or was absent and was to be there.
pub fn run(workspace: &Workspace, options: &Interop) -> Result<()> {
    let folder = workspace.target.join("interop");
    let chosen: Vec<&Script> =
        SCRIPTS.iter().filter(|script| options.only.is_empty() || options.only.iter().any(|name| name == script.name)).collect();
    let mut say = |line: &str| println!("==> {line}");
    let program = Program::find(workspace, options.bin.as_deref(), &folder, &mut say)?;
    let python = Python::probe(&options.python, &[], &workspace.root.join("xtask/interop"), &folder.join("logs/python"));
    let wants_run = chosen.iter().any(|script| matches!(script.name, "tracking" | "prometheus" | "trace"));
    let made = if wants_run { Some(interrupted_run(&program, &folder, &mut say)?) } else { None };
    let mut readings = Vec::new();
    for script in chosen {
        println!("==> {:<11} {}", script.name, script.what);
        readings.extend(read(workspace, script, &python, &program, made.as_deref(), &folder)?);
    }
    print!("\n{}", table(&readings));
    let is_bad = |reading: &Reading| !reading.failed.is_empty() || (options.strict && reading.absent.is_some());
    if readings.iter().any(is_bad) { Err(Unsuccessful.into()) } else { Ok(()) }
}

/// A run that is killed once it has saved, and goes on.
fn interrupted_run(program: &Program, folder: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Answer {
        run: PathBuf,
    }
    say("making a run that is interrupted and goes on");
    let runs = folder.join("runs");
    if runs.is_dir() {
        fs::remove_dir_all(&runs).with_context(|| format!("cannot remove `{}`", runs.display()))?;
    }
    let settings = || {
        let mut all: Vec<String> = RUN.iter().map(|&setting| setting.to_owned()).collect();
        all.push(format!("run.folder='{}'", runs.display()));
        all.push(format!("telemetry.prometheus_file='{}'", runs.join("metrics.prom").display()));
        all
    };
    let log = folder.join("logs/run");
    let mut child = program.command();
    child.args(["train", "--quiet"]).args(settings()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().context("cannot run codex-cli")?;
    while !has_checkpoint(&runs) {
        if let Some(status) = child.try_wait()? {
            bail!("the run was to be interrupted and ended before with {status}: try `codex-cli train {}`", settings().join(" "));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    let finished = process::run(program.command().args(["train", "--json"]).args(settings()), &log)?;
    let answer: Answer = serde_json::from_str(&finished.stdout).context("cannot read what `codex-cli train --json` wrote")?;
    Ok(answer.run)
}

/// Whether a run below a folder has saved.
fn has_checkpoint(runs: &Path) -> bool {
    let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    folders(runs).iter().flat_map(|run| folders(&run.join("checkpoints"))).any(|step| step.join("manifest.json").is_file())
}

/// Runs a script and reads its lines.
fn read(
    workspace: &Workspace,
    script: &Script,
    python: &Python,
    program: &Program,
    run: Option<&Path>,
    folder: &Path,
) -> Result<Vec<Reading>> {
    if let Some(why) = python.missing(&[]) {
        return Ok(vec![Reading { reader: script.name.to_owned(), version: None, passed: 0, failed: Vec::new(), absent: Some(why) }]);
    }
    let path = folder.join("logs").join(format!("{}.log", script.name));
    let log = Log::create(&path)?;
    let mut command = python.command();
    command.arg(workspace.root.join("xtask/interop").join(format!("{}.py", script.name))).current_dir(&workspace.root);
    match (script.name, run) {
        ("tracking", Some(run)) => command.arg(run),
        ("prometheus", Some(run)) => command.arg(run.with_file_name("metrics.prom")),
        ("trace", Some(run)) => command.arg(run.join("trace.json")),
        ("schema", _) => command.arg(&program.path),
        _ => command.arg("--check"),
    };
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1").stdin(Stdio::null());
    let status = log.status(&mut command)?;
    let readings = readings_of(&log.text());
    let has_failed = readings.iter().any(|reading| !reading.failed.is_empty());
    if readings.is_empty() || (!status.success() && !has_failed && readings.iter().all(|reading| reading.absent.is_none())) {
        let failed = vec![format!("`{}.py` ended with {status} and did not say what it read: `{}`", script.name, path.display())];
        return Ok(vec![Reading { reader: script.name.to_owned(), version: None, passed: 0, failed, absent: None }]);
    }
    Ok(readings)
}

/// The lines that are a reader's.
fn readings_of(text: &str) -> Vec<Reading> {
    text.lines().filter(|line| line.starts_with('{')).filter_map(|line| serde_json::from_str(line).ok()).map(told).collect()
}

/// A reader that is there and has read nothing has failed.
fn told(mut reading: Reading) -> Reading {
    if reading.absent.is_none() && reading.failed.is_empty() && reading.passed == 0 {
        reading.failed.push("nothing was read".to_owned());
    }
    reading
}

/// The table, and the line that counts.
fn table(readings: &[Reading]) -> String {
    let mut out = format!("{:<28} {:<10} {:<8} {:>7} {:>7}\n", "reader", "version", "result", "passed", "failed");
    let mut totals = [("passed", 0), ("failed", 0), ("ABSENT", 0)];
    for Reading { reader, version, passed, failed, absent } in readings {
        let (place, result) = match (absent, failed.is_empty()) {
            (_, false) => (1, "FAILED"),
            (Some(_), true) => (2, "ABSENT"),
            (None, true) => (0, "passed"),
        };
        totals[place].1 += 1;
        let version = version.as_deref().unwrap_or("-");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{reader:<28} {version:<10} {result:<8} {passed:>7} {:>7}", failed.len());
        for line in failed.iter().take(10).chain(absent) {
            let _ = writeln!(out, "    {line}");
        }
    }
    let totals: Vec<String> = totals.iter().map(|(word, n)| format!("{n} {word}")).collect();
    let _ = writeln!(out, "interop: {}", totals.join(", "));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_reader_is_counted_and_nothing_read_is_a_failure() {
        let text = "noise\n{\"reader\":\"tensorboard\",\"version\":\"2.21.0\",\"passed\":9,\"failed\":[]}\n\
                    {\"reader\":\"wandb\",\"version\":null,\"passed\":0,\"failed\":[],\"absent\":\"pip install wandb\"}\n\
                    {\"reader\":\"mlflow\",\"version\":\"3.17.2\",\"passed\":0,\"failed\":[]}\n{\"other\":1}\n";
        let found = readings_of(text);
        assert_eq!(
            table(&found),
            "reader                       version    result    passed  failed\n\
             tensorboard                  2.21.0     passed         9       0\n\
             wandb                        -          ABSENT         0       0\n    pip install wandb\n\
             mlflow                       3.17.2     FAILED         0       1\n    nothing was read\n\
             interop: 1 passed, 1 failed, 1 ABSENT\n"
        );
    }

    #[test]
    fn the_scripts_exist() {
        let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("interop");
        for script in SCRIPTS {
            assert!(folder.join(format!("{}.py", script.name)).is_file(), "{}", script.name);
        }
    }
}
