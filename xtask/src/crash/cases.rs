//! What a part of the programme writes down while it runs, a line of JSON for each case.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The cases of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// How many were to be tried.
    pub planned: usize,
    /// How many passed.
    pub passed: usize,
    /// Those that failed, with what was said.
    pub failures: Vec<(String, String)>,
    /// Why none of them could run.
    pub not_run: Option<String>,
}

/// What was written so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cases {
    groups: BTreeMap<String, Group>,
    /// Whether the part came to its end.
    pub has_ended: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    group: String,
    planned: usize,
    case: Option<String>,
    failure: Option<String>,
    not_run: Option<String>,
    end: bool,
}

impl Cases {
    /// Reads the lines; one that is not whole yet is left for the next time.
    pub fn read(text: &str) -> Self {
        let mut cases = Self::default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            cases.has_ended |= line.end;
            if line.group.is_empty() {
                continue;
            }
            let group = cases.groups.entry(line.group).or_default();
            group.planned += line.planned;
            match (line.case, line.failure) {
                (Some(case), Some(failure)) => group.failures.push((case, failure)),
                (Some(_), None) => group.passed += 1,
                (None, _) => {}
            }
            group.not_run = group.not_run.take().or(line.not_run);
        }
        cases
    }

    /// The cases of a group; none when it was not begun.
    pub fn group(&self, name: &str) -> Group {
        self.groups.get(name).cloned().unwrap_or_default()
    }

    /// How many have run.
    pub fn done(&self) -> usize {
        self.groups.values().map(|group| group.passed + group.failures.len()).sum()
    }

    /// How many are to run, as far as is known.
    pub fn planned(&self) -> usize {
        self.groups.values().map(|group| group.planned).sum::<usize>().max(self.done())
    }

    /// How many have failed.
    pub fn failed(&self) -> usize {
        self.groups.values().map(|group| group.failures.len()).sum()
    }

    /// The first reason why something could not run.
    pub fn not_run(&self) -> Option<&str> {
        self.groups.values().find_map(|group| group.not_run.as_deref())
    }
}

/// How far it is, and how long it takes at the pace so far.
pub fn progress(name: &str, cases: &Cases, seconds: f64) -> String {
    let (done, planned) = (cases.done(), cases.planned());
    let left = if done == 0 { String::new() } else { format!(", about {:.0} s left", seconds / done as f64 * (planned - done) as f64) };
    let failed = if cases.failed() == 0 { String::new() } else { format!(", {} FAILED", cases.failed()) };
    format!("{name}: {done} of {planned} cases in {seconds:.0} s{failed}{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_group_and_half_a_line_is_left() {
        let text = concat!(
            "{\"group\":\"a\",\"planned\":4}\n{\"case\":\"1\",\"failure\":null,\"group\":\"a\"}\n",
            "{\"case\":\"2\",\"failure\":\"lost\",\"group\":\"a\"}\n{\"group\":\"b\",\"not_run\":\"no disk\"}\n{\"case\":\"3\",\"fai"
        );
        let cases = Cases::read(text);
        let failures = vec![("2".to_owned(), "lost".to_owned())];
        assert_eq!(cases.group("a"), Group { planned: 4, passed: 1, failures, not_run: None });
        assert_eq!((cases.done(), cases.planned(), cases.failed(), cases.has_ended), (2, 4, 1, false));
        assert_eq!((cases.not_run(), cases.group("c")), (Some("no disk"), Group::default()));
        assert_eq!(progress("kill", &cases, 10.0), "kill: 2 of 4 cases in 10 s, 1 FAILED, about 10 s left");
        assert_eq!(progress("kill", &Cases::default(), 1.0), "kill: 0 of 0 cases in 1 s");
        assert!(Cases::read("{\"end\":true}\n").has_ended);
    }
}
