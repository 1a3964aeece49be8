//! The gate: which steps there are, in which order they run, and how the result is shown. What a step does is in `steps`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use crate::log::Log;
use crate::steps;
use crate::tools::{self, Tools};
use crate::workspace::Workspace;

/// A step of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Step {
    /// rustfmt changes nothing.
    Fmt,
    /// The rules of the house for sources and docs.
    Tidy,
    /// The crate graph.
    Dag,
    /// Licences, bans and sources of all dependencies.
    Deny,
    /// Clippy on every target, warnings refused.
    Clippy,
    /// The features that a default build leaves out type-check.
    Features,
    /// rustdoc, warnings refused.
    Doc,
    /// The workspace builds from vendored sources, with nothing fetched.
    Vendor,
    /// Every test, once, with coverage on.
    Test,
    /// The lines that the tests ran, against the committed floor.
    Coverage,
}

impl Step {
    /// Every step, in the order they run: cheapest first.
    pub const ALL: [Self; 10] =
        [Self::Fmt, Self::Tidy, Self::Dag, Self::Deny, Self::Clippy, Self::Features, Self::Doc, Self::Vendor, Self::Test, Self::Coverage];
    /// The quick half.
    pub const QUICK: [Self; 5] = [Self::Fmt, Self::Tidy, Self::Dag, Self::Clippy, Self::Doc];

    /// The name that is typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Tidy => "tidy",
            Self::Dag => "dag",
            Self::Deny => "deny",
            Self::Clippy => "clippy",
            Self::Features => "features",
            Self::Doc => "doc",
            Self::Vendor => "vendor",
            Self::Test => "test",
            Self::Coverage => "coverage",
        }
    }

    /// One line on what it checks.
    pub fn what(self) -> &'static str {
        match self {
            Self::Fmt => "rustfmt changes nothing",
            Self::Tidy => "the rules of the house for sources and docs",
            Self::Dag => "the crate graph, and no HTTP client in the default build",
            Self::Deny => "licences, bans and sources of all dependencies (cargo-deny)",
            Self::Clippy => "clippy on every target, warnings refused",
            Self::Features => "the features that a default build leaves out type-check: wgpu, parquet, mlflow-rest",
            Self::Doc => "rustdoc, warnings refused",
            Self::Vendor => "the workspace builds from vendored sources, with nothing fetched",
            Self::Test => "every test, once, with coverage on and no network",
            Self::Coverage => "the lines that the tests ran, against xtask/coverage-floor.toml",
        }
    }

    /// Whether it compiles the workspace, or needs what does.
    fn is_expensive(self) -> bool {
        !matches!(self, Self::Fmt | Self::Tidy | Self::Dag | Self::Deny)
    }

    /// The steps that were asked for, in the order they run; none named means all.
    pub fn selection(only: &[Self]) -> Vec<Self> {
        Self::ALL.into_iter().filter(|step| only.is_empty() || only.contains(step)).collect()
    }
}

/// How the gate is run.
#[derive(Debug)]
pub struct Options {
    /// Whether missing tools are only named.
    pub no_install: bool,
    /// Whether the tests may run where the network cannot be taken from them.
    pub with_network: bool,
    /// The steps, in the order they run.
    pub steps: Vec<Step>,
    /// The one crate to check, instead of all.
    pub package: Option<String>,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran, and found nothing; what it measured.
    Passed(String),
    /// It ran, and found something.
    Failed(String),
    /// It did not run, and why.
    NotRun(String),
}

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    /// The step.
    pub step: Step,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
    /// Where its log is; empty when there is none.
    pub log: String,
}

/// The gate has said what is wrong; nothing is left to print.
#[derive(Debug)]
pub struct Unsuccessful;

impl fmt::Display for Unsuccessful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the gate did not pass")
    }
}

impl std::error::Error for Unsuccessful {}

/// Runs the steps and prints the table; an error of kind [`Unsuccessful`] when one did not pass.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let (tools, missing) = tools::prepare(workspace, options);
    for (step, why) in &missing {
        println!("{:<9} cannot run: {why}", step.name());
    }
    let rows = run_steps(&options.steps, &missing, |step| run_one(workspace, options, &tools, step));
    print!("\n{}", table(&rows));
    if rows.iter().all(|row| matches!(row.outcome, Outcome::Passed(_))) { Ok(()) } else { Err(Unsuccessful.into()) }
}

/// Runs each step that can run, and says why the others did not.
pub fn run_steps(steps: &[Step], missing: &BTreeMap<Step, String>, mut run: impl FnMut(Step) -> Row) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for &step in steps {
        let obstacle = missing.get(&step).cloned().or_else(|| obstacle(step, &rows));
        rows.push(match obstacle {
            Some(why) => Row { step, outcome: Outcome::NotRun(why), seconds: 0.0, log: String::new() },
            None => run(step),
        });
    }
    rows
}

fn obstacle(step: Step, rows: &[Row]) -> Option<String> {
    let failed: Vec<&str> = rows
        .iter()
        .filter(|row| matches!(row.outcome, Outcome::Failed(_)) && !row.step.is_expensive())
        .map(|row| row.step.name())
        .collect();
    if step.is_expensive() && !failed.is_empty() {
        return Some(format!("{} failed", failed.join(", ")));
    }
    let tested = rows.iter().any(|row| row.step == Step::Test && matches!(row.outcome, Outcome::Passed(_)));
    (step == Step::Coverage && !tested).then(|| "it measures the step `test`, which has not passed in this run".to_owned())
}

fn run_one(workspace: &Workspace, options: &Options, tools: &Tools, step: Step) -> Row {
    println!("==> {:<9} {}", step.name(), step.what());
    let path = workspace.target.join("gate").join(format!("{}.log", step.name()));
    let start = Instant::now();
    let log = Log::create(&path);
    let result =
        log.as_ref().map_err(|error| anyhow::anyhow!("{error:#}")).and_then(|log| steps::run(step, workspace, options, tools, log));
    let seconds = start.elapsed().as_secs_f64();
    let text = log.map(|log| log.text()).unwrap_or_default();
    if step == Step::Test {
        for line in text.lines().filter(|line| line.starts_with("test result:")) {
            println!("    {line}");
        }
    }
    let outcome = match result {
        Ok(measured) => {
            println!("    passed in {seconds:.1} s{}{measured}", if measured.is_empty() { "" } else { ": " });
            Outcome::Passed(measured)
        }
        Err(error) => {
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(60)..] {
                println!("    | {line}");
            }
            println!("    FAILED in {seconds:.1} s: {error:#}");
            Outcome::Failed(format!("{error:#}"))
        }
    };
    Row { step, outcome, seconds, log: path.display().to_string() }
}

/// The table, and the line that counts; the last line is alone and always the same shape.
pub fn table(rows: &[Row]) -> String {
    let mut out = format!("{:<9} {:<8} {:>8}  log\n", "step", "result", "seconds");
    let (mut passed, mut failed, mut not_run) = (0, 0, 0);
    for row in rows {
        let (result, note) = match &row.outcome {
            Outcome::Passed(note) => {
                passed += 1;
                ("passed", note)
            }
            Outcome::Failed(note) => {
                failed += 1;
                ("FAILED", note)
            }
            Outcome::NotRun(note) => {
                not_run += 1;
                ("not run", note)
            }
        };
        out.push_str(format!("{:<9} {result:<8} {:>8.1}  {}", row.step.name(), row.seconds, row.log).trim_end());
        out.push('\n');
        if !note.is_empty() {
            let _ = writeln!(out, "{:9} {}", "", note.lines().next().unwrap_or_default());
        }
    }
    // Writing to a String cannot fail.
    let _ = write!(out, "gate: {passed} passed, {failed} failed");
    if not_run > 0 {
        let _ = write!(out, ", {not_run} not run");
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(failing: &[Step], missing: &[Step]) -> Vec<(Step, &'static str)> {
        let missing = missing.iter().map(|step| (*step, "no tool".to_owned())).collect();
        let rows = run_steps(&Step::ALL, &missing, |step| {
            let outcome = if failing.contains(&step) { Outcome::Failed("x".to_owned()) } else { Outcome::Passed(String::new()) };
            Row { step, outcome, seconds: 0.5, log: String::new() }
        });
        let word = |row: &Row| match row.outcome {
            Outcome::Passed(_) => "passed",
            Outcome::Failed(_) => "failed",
            Outcome::NotRun(_) => "not run",
        };
        rows.iter().map(|row| (row.step, word(row))).filter(|(_, word)| *word != "passed").collect()
    }

    #[test]
    fn a_cheap_failure_stops_what_compiles_but_not_what_is_cheap() {
        let stopped = [Step::Clippy, Step::Features, Step::Doc, Step::Vendor, Step::Test, Step::Coverage].map(|step| (step, "not run"));
        let mut expected = vec![(Step::Tidy, "failed")];
        expected.extend(stopped);
        assert_eq!(outcomes(&[Step::Tidy], &[]), expected);
    }

    #[test]
    fn coverage_needs_tests_that_passed() {
        assert_eq!(outcomes(&[Step::Test], &[]), [(Step::Test, "failed"), (Step::Coverage, "not run")]);
        assert_eq!(outcomes(&[], &[Step::Test]), [(Step::Test, "not run"), (Step::Coverage, "not run")]);
        assert_eq!(outcomes(&[Step::Clippy], &[]), [(Step::Clippy, "failed")]);
    }

    #[test]
    fn a_missing_tool_stops_its_own_step_only() {
        assert_eq!(outcomes(&[], &[Step::Deny]), [(Step::Deny, "not run")]);
        assert_eq!(outcomes(&[], &[]), []);
    }

    #[test]
    fn the_last_line_counts() {
        let row = |step, outcome| Row { step, outcome, seconds: 1.25, log: "t/x.log".to_owned() };
        let rows = [row(Step::Fmt, Outcome::Passed(String::new())), row(Step::Coverage, Outcome::Passed("91.2 % of lines".to_owned()))];
        assert_eq!(
            table(&rows),
            "step      result    seconds  log\nfmt       passed        1.2  t/x.log\ncoverage  passed        1.2  t/x.log\n          91.2 % of lines\ngate: 2 passed, 0 failed\n"
        );
        let rows = [row(Step::Fmt, Outcome::Failed("x".to_owned())), row(Step::Test, Outcome::NotRun("fmt failed".to_owned()))];
        assert_eq!(table(&rows).lines().last(), Some("gate: 0 passed, 1 failed, 1 not run"));
    }

    #[test]
    fn steps_run_in_the_order_of_their_cost_whatever_was_typed() {
        assert_eq!(Step::selection(&[Step::Test, Step::Fmt]), [Step::Fmt, Step::Test]);
        assert_eq!(Step::selection(&[]), Step::ALL);
        for step in Step::ALL {
            assert_eq!(Step::from_str(step.name(), false), Ok(step));
        }
    }
}
