//! The table of the programme, and the same as JSON.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::cases::Group;
use super::{Needed, Part};
use crate::gate::Outcome;

/// How many failed cases of a group are told on the terminal; all of them are in the JSON.
const TOLD: usize = 5;

/// A line of the table: a group of cases.
#[derive(Clone, Debug)]
pub struct Row {
    part: Part,
    group: &'static str,
    needed: usize,
    outcome: Outcome,
    cases: Group,
}

impl Row {
    /// What a group's cases come to.
    pub fn of(part: Part, (group, needed): Needed, cases: Group) -> Self {
        let run = cases.passed + cases.failures.len();
        let outcome = match &cases.not_run {
            _ if !cases.failures.is_empty() => Outcome::Failed(format!("{} of {run} cases failed", cases.failures.len())),
            Some(why) => Outcome::NotRun(why.clone()),
            None if run < needed => Outcome::Failed(format!("only {run} of the {needed} cases that it must have")),
            None => Outcome::Passed(String::new()),
        };
        Self { part, group, needed, outcome, cases }
    }

    /// A group that came to no end.
    pub fn failed(part: Part, (group, needed): Needed, why: &str) -> Self {
        Self { part, group, needed, outcome: Outcome::Failed(why.to_owned()), cases: Group::default() }
    }

    /// A group that cannot run here.
    pub fn not_run(part: Part, needed: Needed, why: &str) -> Self {
        Self::of(part, needed, Group { not_run: Some(why.to_owned()), ..Group::default() })
    }

    /// What is to be known before the table is shown; empty when all passed.
    pub fn tell(&self) -> String {
        let (word, why) = match &self.outcome {
            Outcome::Passed(_) => return String::new(),
            Outcome::Failed(why) => ("FAILED", why),
            Outcome::NotRun(why) => ("NOT RUN", why),
        };
        let mut out = format!("{word}: {}: {why}", self.group);
        for (case, failure) in self.cases.failures.iter().take(TOLD) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\n    | {case}\n    |   {}", failure.lines().collect::<Vec<_>>().join(" "));
        }
        out
    }

    fn result(&self) -> &'static str {
        match self.outcome {
            Outcome::Passed(_) => "passed",
            Outcome::Failed(_) => "FAILED",
            Outcome::NotRun(_) => "NOT RUN",
        }
    }
}

/// Every group, and how long each part took.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    seconds: Vec<(Part, f64)>,
}

impl Report {
    /// Adds the groups of a part.
    pub fn add(&mut self, rows: Vec<Row>, seconds: f64) {
        self.seconds.extend(rows.first().map(|row| (row.part, seconds)));
        self.rows.extend(rows);
    }

    /// Whether nothing failed, and with `strict` everything ran.
    pub fn is_successful(&self, strict: bool) -> bool {
        self.rows.iter().all(|row| match row.outcome {
            Outcome::Passed(_) => true,
            Outcome::Failed(_) => false,
            Outcome::NotRun(_) => !strict,
        })
    }

    /// The table, and the line that counts.
    pub fn table(&self) -> String {
        let mut out =
            format!("{:<9} {:<24} {:<8} {:>7} {:>7} {:>7} {:>8}\n", "part", "cases", "result", "needed", "passed", "failed", "seconds");
        let mut last = None;
        for row in &self.rows {
            let is_first = last.replace(row.part) != Some(row.part);
            let name = if is_first { row.part.name() } else { "" };
            let (passed, failed) = (row.cases.passed, row.cases.failures.len());
            let line = format!("{name:<9} {:<24} {:<8} {:>7} {passed:>7} {failed:>7}", row.group, row.result(), row.needed);
            let seconds = self.seconds.iter().find(|(part, _)| is_first && *part == row.part);
            let seconds = seconds.map_or_else(String::new, |(_, seconds)| format!(" {seconds:>8.1}"));
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{line}{seconds}");
            if let Outcome::Failed(why) | Outcome::NotRun(why) = &row.outcome {
                let _ = writeln!(out, "{:9} {}", "", why.lines().next().unwrap_or_default());
            }
        }
        let count = |word: &str| self.rows.iter().filter(|row| row.result() == word).count();
        let cases: usize = self.rows.iter().map(|row| row.cases.passed).sum();
        let _ = writeln!(
            out,
            "crash: {} groups passed ({cases} cases), {} failed, {} NOT RUN",
            count("passed"),
            count("FAILED"),
            count("NOT RUN")
        );
        out
    }

    /// The same for programs.
    pub fn json(&self, seed: u64) -> Result<String> {
        let groups: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let why = match &row.outcome {
                    Outcome::Passed(_) => None,
                    Outcome::Failed(why) | Outcome::NotRun(why) => Some(why),
                };
                let failures: Vec<_> = row.cases.failures.iter().map(|(case, said)| json!({ "case": case, "failure": said })).collect();
                json!({
                    "part": row.part.name(), "cases": row.group, "result": row.result().to_lowercase().replace(' ', "_"), "why": why,
                    "needed": row.needed, "passed": row.cases.passed, "failed": row.cases.failures.len(), "failures": failures,
                })
            })
            .collect();
        let seconds: serde_json::Map<_, _> = self.seconds.iter().map(|(part, seconds)| (part.name().to_owned(), json!(seconds))).collect();
        let report = json!({ "schema": 1, "seed": seed, "passed": self.is_successful(true), "groups": groups, "seconds": seconds });
        Ok(format!("{}\n", serde_json::to_string_pretty(&report).context("cannot write the report")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(passed: usize, failures: &[(&str, &str)], not_run: Option<&str>) -> Group {
        let failures = failures.iter().map(|(case, said)| ((*case).to_owned(), (*said).to_owned())).collect();
        Group { planned: 0, passed, failures, not_run: not_run.map(str::to_owned) }
    }

    fn report() -> Report {
        let mut report = Report::default();
        let kill = Row::of(Part::Kill, ("SIGKILL at a system call", 2), group(3, &[], None));
        let order = Row::of(Part::Kill, ("order of the flushes", 7), group(6, &[("saving", "`a` is\nwritten")], None));
        report.add(vec![order, kill], 80.25);
        report.add(vec![Row::of(Part::Damage, ("cut file", 200), group(199, &[], None))], 1.0);
        report.add(vec![Row::not_run(Part::Power, ("copied within a save", 100), "`mount`: not permitted")], 0.0);
        report
    }

    #[test]
    fn the_table_tells_what_failed_what_is_short_and_what_did_not_run() {
        assert_eq!(
            report().table(),
            "part      cases                    result    needed  passed  failed  seconds\n\
             kill      order of the flushes     FAILED         7       6       1     80.2\n          1 of 7 cases failed\n\
             \x20         SIGKILL at a system call passed         2       3       0\n\
             damage    cut file                 FAILED       200     199       0      1.0\n          only 199 of the 200 cases that it must have\n\
             power     copied within a save     NOT RUN      100       0       0      0.0\n          `mount`: not permitted\n\
             crash: 1 groups passed (208 cases), 2 failed, 1 NOT RUN\n"
        );
        let told: Vec<String> = report().rows.iter().map(Row::tell).collect();
        assert_eq!(told[0], "FAILED: order of the flushes: 1 of 7 cases failed\n    | saving\n    |   `a` is written");
        assert_eq!((told[1].as_str(), told[3].as_str()), ("", "NOT RUN: copied within a save: `mount`: not permitted"));
    }

    #[test]
    fn what_did_not_run_fails_only_where_all_must() {
        let row = |group| Row::of(Part::Kill, ("x", 1), group);
        let mut report = Report::default();
        report.add(vec![row(group(1, &[], None)), row(group(0, &[], Some("no strace")))], 1.0);
        assert_eq!((report.is_successful(false), report.is_successful(true)), (true, false));
        report.add(vec![Row::failed(Part::Power, ("x", 1), "it ended early")], 1.0);
        assert!(!report.is_successful(false));
    }

    #[test]
    fn the_json_has_every_failure() {
        let json: serde_json::Value = serde_json::from_str(&report().json(7).unwrap()).unwrap();
        assert_eq!((&json["seed"], &json["passed"], &json["seconds"]["kill"]), (&json!(7), &json!(false), &json!(80.25)));
        assert_eq!(json["groups"][0]["failures"], json!([{ "case": "saving", "failure": "`a` is\nwritten" }]));
        assert_eq!((&json["groups"][3]["result"], &json["groups"][3]["needed"]), (&json!("not_run"), &json!(100)));
    }
}
