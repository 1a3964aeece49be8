//! Cases that are counted: in a test the first failure ends it, in the programme of `cargo xtask crash` each is written down and the next one runs.

use std::any::Any;
use std::fs::File;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use codex_core::files;
use serde_json::{Value, json};

/// Counts cases.
pub(super) struct Tally {
    /// Where they are written down, a line of JSON each.
    log: Option<File>,
    /// About how many cases of a group are wanted, where a sample is enough.
    limit: Option<usize>,
    passed: usize,
}

impl Tally {
    /// One for a test.
    pub(super) fn in_test() -> Self {
        Self { log: None, limit: None, passed: 0 }
    }

    /// One for a test that tries about so many cases of each group.
    pub(super) fn sample(limit: usize) -> Self {
        Self { limit: Some(limit), ..Self::in_test() }
    }

    /// One that writes to this file and never stops.
    pub(super) fn to(log: &Path, limit: Option<usize>) -> Self {
        Self { log: Some(files::open_append(log).unwrap()), limit, passed: 0 }
    }

    /// How many of so many cases are to be tried.
    pub(super) fn of(&self, n: usize) -> usize {
        self.limit.map_or(n, |limit| limit.min(n))
    }

    /// These cases, or as many as are wanted with the same distance between each two.
    pub(super) fn spread<T>(&self, cases: Vec<T>) -> Vec<T> {
        let (all, wanted) = (cases.len(), self.of(cases.len()));
        cases.into_iter().enumerate().filter(|(i, _)| (i + 1) * wanted / all != i * wanted / all).map(|(_, case)| case).collect()
    }

    /// Says how many cases of a group are to come.
    pub(super) fn plan(&mut self, group: &str, n: usize) {
        self.write(&json!({ "group": group, "planned": n }));
    }

    /// Runs a case, which fails by a panic; whether it passed.
    pub(super) fn case(&mut self, group: &str, case: &str, run: impl FnOnce()) -> bool {
        let ended = catch_unwind(AssertUnwindSafe(run));
        let failure = match ended {
            Err(payload) if self.log.is_none() => resume_unwind(payload),
            Err(payload) => Some(message(&*payload)),
            Ok(()) => None,
        };
        self.passed += usize::from(failure.is_none());
        self.write(&json!({ "group": group, "case": case, "failure": failure }));
        failure.is_none()
    }

    /// Says that a group cannot run here, and why.
    pub(super) fn not_run(&mut self, group: &str, why: &str) {
        self.write(&json!({ "group": group, "not_run": why }));
    }

    /// Says that no case is left.
    pub(super) fn end(mut self) {
        self.write(&json!({ "end": true }));
    }

    /// How many cases have passed.
    pub(super) fn passed(&self) -> usize {
        self.passed
    }

    fn write(&mut self, line: &Value) {
        if let Some(log) = &mut self.log {
            log.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
    }
}

/// What a panic said.
fn message(payload: &(dyn Any + Send)) -> String {
    let said = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    said.unwrap_or("a panic without words").to_owned()
}

#[test]
fn failures_are_written_down_and_the_next_case_runs() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("cases");
    let mut tally = Tally::to(&log, Some(4));
    assert_eq!((tally.of(9), tally.of(3)), (4, 3));
    assert_eq!(tally.spread((0..10).collect()), [2, 4, 7, 9]);
    tally.plan("a", 2);
    assert!(!tally.case("a", "1", || assert!(dir.path().is_file(), "not {}", "so")));
    assert!(tally.case("a", "2", || ()));
    tally.not_run("b", "no disk");
    assert_eq!(tally.passed(), 1);
    tally.end();
    let lines = [
        json!({ "group": "a", "planned": 2 }),
        json!({ "group": "a", "case": "1", "failure": "not so" }),
        json!({ "group": "a", "case": "2", "failure": null }),
        json!({ "group": "b", "not_run": "no disk" }),
        json!({ "end": true }),
    ];
    let text = files::read_to_string(&log).unwrap();
    assert_eq!(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>(), lines);
}
