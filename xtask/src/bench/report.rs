//! The result of a benchmark with what a reader needs to judge it, as text, JSON and a record.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use serde::Serialize;

use super::comparison::Comparison;
use super::machine::{Machine, load_average};
use super::picture::{Chart, Lines};
use super::program::Program;
use super::session::Session;
use super::table::Table;

/// What a benchmark found.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// codex beside its peers.
    pub comparisons: Vec<Comparison>,
    /// The tables: one for each comparison, and others.
    pub tables: Vec<Table>,
    /// Curves for the picture.
    #[serde(skip)]
    pub lines: Vec<Lines>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Adds a comparison and its table.
    pub fn add(&mut self, comparison: Comparison) {
        self.tables.push(comparison.table());
        self.comparisons.push(comparison);
    }

    /// Sides that were not measured, each once, with what would help.
    pub fn absent(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for side in self.comparisons.iter().flat_map(|comparison| &comparison.sides) {
            let line = side.obstacle.as_ref().map(|why| format!("{}: {why}", side.name));
            found.extend(line.filter(|line| !found.contains(line)));
        }
        found
    }

    /// The panels of the picture.
    pub fn charts(&self) -> Vec<Chart> {
        let bars = super::picture::bars_of(&self.comparisons).into_iter().map(Chart::Bars);
        bars.chain(self.lines.iter().cloned().map(Chart::Lines)).collect()
    }
}

/// A result with its circumstances.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub schema: u32,
    /// The name of the benchmark.
    pub bench: &'static str,
    /// The command, folders of this machine left out.
    pub command: String,
    /// When it began, in UTC.
    pub began: String,
    /// When it ended, in UTC.
    pub ended: String,
    /// The commit that was checked out.
    pub commit: String,
    /// Whether the tree had changes that were not committed, the records of benchmarks apart.
    pub is_dirty: bool,
    /// The machine.
    pub machine: Machine,
    /// Processes that wanted to run before it began, on the mean of a minute: more than 0 means that it was not alone.
    pub load_before: Option<f64>,
    /// The program that was measured.
    pub program: Program,
    /// The peers' packages and versions.
    pub peers: BTreeMap<String, String>,
    /// Variables that change the number of threads.
    pub variables: BTreeMap<String, String>,
    /// What was not measured.
    pub absent: Vec<String>,
    /// What was found.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What is known before anything is measured.
#[derive(Debug)]
pub struct Beginning {
    at: Timestamp,
    load: Option<f64>,
}

impl Beginning {
    /// Notes time and load.
    pub fn now() -> Self {
        Self { at: Timestamp::now(), load: load_average() }
    }
}

impl Report {
    /// Puts together what was found and where.
    pub fn new(session: &Session, beginning: &Beginning, outcome: Outcome) -> Self {
        let variables = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"];
        let second = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        Self {
            schema: 1,
            bench: session.name,
            command: command(env::args().skip(1)),
            began: second(beginning.at),
            ended: second(Timestamp::now()),
            commit: commit(&session.root),
            is_dirty: is_dirty(&session.root),
            machine: Machine::here(),
            load_before: beginning.load,
            program: session.program.clone(),
            peers: session.python.versions.clone(),
            variables: variables.iter().filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?))).collect(),
            absent: outcome.absent(),
            outcome,
        }
    }

    /// What stands above the tables, a line each.
    pub fn circumstances(&self) -> Vec<String> {
        let dirty = if self.is_dirty { ", with changes that are not committed" } else { "" };
        let origin = if self.program.is_built_here { "built from this tree" } else { "given by --bin" };
        let load = self.load_before.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
        let peers: Vec<String> = self.peers.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let peers = if peers.is_empty() { "none installed".to_owned() } else { peers.join(", ") };
        let mut lines = vec![
            format!("command: `{}`, {} to {}", self.command, self.began, self.ended.split_once(' ').map_or("", |(_, time)| time)),
            format!("commit: {}{dirty}; {} {origin}, BLAKE3 {}", self.commit, self.program.version, &self.program.blake3[..16]),
            format!("machine: {}; load before {load}", self.machine.line()),
            format!("Python packages: {peers}"),
        ];
        if !self.variables.is_empty() {
            let set: Vec<String> = self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
            lines.push(format!("variables: {}", set.join(" ")));
        }
        lines
    }

    /// The whole result as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for table in &self.outcome.tables {
            out += &format!("{}\n", table.text());
        }
        for note in &self.outcome.notes {
            out += &format!("note: {note}\n");
        }
        for line in self.circumstances() {
            out += &format!("{line}\n");
        }
        if !self.absent.is_empty() {
            out += &format!("\nNOT MEASURED ({}):\n", self.absent.len());
            out.extend(self.absent.iter().map(|line| format!("  {line}\n")));
        }
        out
    }

    /// The record for docs/BENCHMARKS.md, with a link to its picture.
    pub fn markdown(&self, picture: &str) -> String {
        let dirty = if self.is_dirty { ", not committed" } else { "" };
        let mut out = format!("## {}: {}, {}{dirty}\n\n", self.bench, self.began, self.commit);
        out.extend(self.circumstances().iter().map(|line| format!("{line}  \n")));
        for table in &self.outcome.tables {
            out += &format!("\n{}", table.markdown());
        }
        if !self.outcome.notes.is_empty() {
            out += &format!("\n{}\n", self.outcome.notes.join("  \n"));
        }
        if !self.absent.is_empty() {
            out += &format!("\nNot measured: {}.\n", self.absent.join("; "));
        }
        out += &format!("\n![{} at {}]({picture})\n", self.bench, self.commit);
        out
    }
}

/// The command as it could be typed; of a folder of this machine only the last part is kept.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut spelled = "cargo xtask".to_owned();
    for argument in arguments {
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (format!("{option}="), value.to_owned()),
            _ => (String::new(), argument),
        };
        let value = if Path::new(&value).is_absolute() { value.rsplit('/').next().unwrap_or_default().to_owned() } else { value };
        spelled += &format!(" {option}{value}");
    }
    spelled
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(root).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn commit(root: &Path) -> String {
    git(root, &["rev-parse", "--short=10", "HEAD"]).unwrap_or_else(|| "no commit".to_owned())
}

/// Records of benchmarks may be new: several are made one after the other.
fn is_dirty(root: &Path) -> bool {
    let arguments = ["status", "--porcelain", "--", ".", ":(exclude)docs/BENCHMARKS.md", ":(exclude)docs/bench"];
    git(root, &arguments).is_none_or(|changes| !changes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_no_folder_of_this_machine() {
        let typed = ["bench", "train", "--bin", "/opt/x/codex-cli", "--python=/opt/v/bin/python", "--rounds", "5", "--json", "out/a.json"];
        let expected = "cargo xtask bench train --bin codex-cli --python=python --rounds 5 --json out/a.json";
        assert_eq!(command(typed.into_iter().map(str::to_owned)), expected);
    }

    #[test]
    fn a_tree_is_dirty_when_something_else_than_a_record_changed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let run = |arguments: &[&str]| assert!(git(root, arguments).is_some(), "{arguments:?}");
        let write = |path: &str, text: &str| {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        };
        assert_eq!((commit(root).as_str(), is_dirty(root)), ("no commit", true));
        run(&["init", "--quiet"]);
        write("a.txt", "a");
        write("docs/BENCHMARKS.md", "b");
        run(&["add", "."]);
        run(&["-c", "user.name=x", "-c", "user.email=x@example.invalid", "commit", "--quiet", "-m", "x"]);
        assert_eq!((commit(root).len(), is_dirty(root)), (10, false));
        write("docs/BENCHMARKS.md", "c");
        write("docs/bench/a.svg", "<svg/>");
        assert!(!is_dirty(root));
        write("a.txt", "b");
        assert!(is_dirty(root));
    }
}
