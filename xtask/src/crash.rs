//! `cargo xtask crash`: everything that is promised of checkpoints when a process, a machine, a disk or a person stops, breaks or lies. The tests of
//! codex-checkpoint hold the cases and try a sample each time they run; this builds them, runs all of them, counts, and shows that they have teeth.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

pub mod cases;
pub mod programme;
pub mod report;
pub mod teeth;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::gate::Unsuccessful;
use crate::workspace::Workspace;
use programme::{Plan, Programme};
use report::{Report, Row};

/// Options of the programme.
#[derive(Clone, Debug, Args)]
pub struct Crash {
    /// Run only these parts.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,
    /// Fail when something could not run.
    #[arg(long)]
    pub strict: bool,
    /// Write the table and every failed case to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What the places of damage and the moments of power loss are drawn from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// A part of the programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Part {
    /// SIGKILL at each system call of a save.
    Kill,
    /// Copies of a disk that was being saved to, mounted.
    Power,
    /// Calls that the system refuses, and full disks.
    Fault,
    /// Flipped bits and cut files.
    Damage,
    /// Manifests that lead astray, and two writers.
    Manifest,
    /// The checks above fail when what they check is taken out.
    Teeth,
}

/// A group of cases, and how many of them there must be at least.
pub type Needed = (&'static str, usize);

impl Part {
    /// Every part, in the order they run.
    pub const ALL: [Self; 6] = [Self::Kill, Self::Power, Self::Fault, Self::Damage, Self::Manifest, Self::Teeth];

    /// The name that is typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
            Self::Fault => "fault",
            Self::Damage => "damage",
            Self::Manifest => "manifest",
            Self::Teeth => "teeth",
        }
    }

    /// Its groups. A group that is short of its number has failed: a programme that quietly tries less proves less.
    pub fn needed(self) -> &'static [Needed] {
        match self {
            Self::Kill => &[("order of the flushes", 7), ("SIGKILL at a system call", 500)],
            Self::Power => &[("copied after a report", 100), ("copied within a save", 100), ("copied at a system call", 100)],
            Self::Fault => &[("errno at a system call", 150), ("full disk", 80)],
            Self::Damage => &[("flipped bit", 1000), ("cut file", 200)],
            Self::Manifest => &[("name out of the folder", 40), ("link", 9), ("lie", 40), ("two writers", 20)],
            Self::Teeth => &[("check taken out", 4)],
        }
    }

    /// Whether it follows system calls.
    fn needs_tracing(self) -> bool {
        matches!(self, Self::Kill | Self::Power | Self::Fault | Self::Teeth)
    }

    /// The parts that were asked for, in the order they run; none named means all.
    pub fn selection(only: &[Self]) -> Vec<Self> {
        Self::ALL.into_iter().filter(|part| only.is_empty() || only.contains(part)).collect()
    }
}

/// Runs what can run and prints the table; an error of kind [`Unsuccessful`] when something failed, or did not run and was to be run.
pub fn run(workspace: &Workspace, options: &Crash) -> Result<()> {
    let folder = workspace.target.join("crash");
    let parts = Part::selection(&options.only);
    println!("==> building the tests of codex-checkpoint");
    let programme = Programme::build(workspace, &folder, None)?;
    let mut report = Report::default();
    for &part in &parts {
        println!("==> {}", part.name());
        let start = Instant::now();
        let rows = rows(workspace, &programme, part, options.seed);
        let rows = rows.unwrap_or_else(|error| vec![Row::failed(part, part.needed()[0], &format!("{error:#}"))]);
        for told in rows.iter().map(Row::tell).filter(|told| !told.is_empty()) {
            println!("    {told}");
        }
        report.add(rows, start.elapsed().as_secs_f64());
    }
    print!("\n{}", report.table());
    if let Some(path) = &options.json {
        std::fs::write(path, report.json(options.seed)?).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    if report.is_successful(options.strict) { Ok(()) } else { Err(Unsuccessful.into()) }
}

fn rows(workspace: &Workspace, programme: &Programme, part: Part, seed: u64) -> Result<Vec<Row>> {
    if let Some(why) = programme::obstacle_to_tracing(programme.folder()).filter(|_| part.needs_tracing()) {
        return Ok(part.needed().iter().map(|&needed| Row::not_run(part, needed, &why)).collect());
    }
    if part == Part::Teeth {
        return teeth::rows(workspace, programme, seed);
    }
    let plan = Plan { part: part.name(), seed, limit: None };
    let cases = programme.run(part.name(), &plan, true)?;
    Ok(part.needed().iter().map(|&needed| Row::of(part, needed, cases.group(needed.0))).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Cli, Task};

    fn parsed(arguments: &[&str]) -> Result<Crash, clap::Error> {
        let all = ["cargo xtask", "crash"].into_iter().chain(arguments.iter().copied());
        Cli::try_parse_from(all).map(|cli| match cli.task {
            Task::Crash(options) => options,
            other => unreachable!("{other:?}"),
        })
    }

    #[test]
    fn parts_are_selected_by_name_and_run_in_their_order() {
        let options = parsed(&["--only", "teeth,kill", "--strict", "--json", "t/crash.json", "--seed", "7"]).unwrap();
        assert_eq!(Part::selection(&options.only), [Part::Kill, Part::Teeth]);
        assert_eq!((options.strict, options.seed, options.json), (true, 7, Some(PathBuf::from("t/crash.json"))));
        assert_eq!(Part::selection(&parsed(&[]).unwrap().only), Part::ALL);
        for part in Part::ALL {
            assert_eq!(Part::from_str(part.name(), false), Ok(part));
        }
        let error = parsed(&["--only", "kil"]).unwrap_err().to_string();
        assert!(error.contains("kill") && error.contains("manifest"), "{error}");
    }

    #[test]
    fn the_help_has_examples() {
        let help = parsed(&["--help"]).unwrap_err().to_string();
        assert!(help.contains("Examples:\n  cargo xtask crash\n") && help.contains("--only power --strict"), "{help}");
    }

    #[test]
    fn the_counts_are_those_of_the_programme() {
        let sum = |part: Part| part.needed().iter().map(|(_, n)| n).sum::<usize>();
        let [kill, power, fault, damage, manifest, teeth] = Part::ALL.map(sum);
        assert!(kill >= 500 && power >= 200 && fault >= 150 && damage == 1200 && manifest >= 40 && teeth == 4);
    }

    #[test]
    fn the_groups_are_those_that_the_tests_write() {
        let member = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let folder = std::path::Path::new(&member).join("../crates/codex-checkpoint/tests/it");
        let texts: String = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        for (group, _) in Part::ALL.into_iter().filter(|part| *part != Part::Teeth).flat_map(Part::needed) {
            assert!(texts.contains(&format!("\"{group}\"")), "no test writes cases of `{group}`");
        }
    }
}
