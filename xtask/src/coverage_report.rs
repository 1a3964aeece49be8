//! Which lines the tests ran, by crate and by file. Lines of tests are left out: a test that runs says nothing about what it tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::tidy::File;

/// How often each line of each file ran.
pub type Lines = BTreeMap<String, BTreeMap<usize, u64>>;

/// The report, as it is written to `report.json`.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What the numbers mean.
    pub counted: &'static str,
    /// All crates together.
    pub total: Share,
    /// Each crate.
    pub crates: BTreeMap<String, Share>,
    /// Each file.
    pub files: BTreeMap<String, FileShare>,
    /// Files of counters that could not be read, because their process was killed while it wrote them.
    pub dropped_counter_files: usize,
    /// Crates whose tests ran without counters; none of their lines is in the figures.
    pub not_measured: Vec<String>,
}

/// How many lines can run, and how many did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Lines that can run.
    pub lines: usize,
    /// Lines that ran.
    pub ran: usize,
}

impl Share {
    /// In percent; 100 when there is nothing to run.
    pub fn percent(self) -> f64 {
        if self.lines == 0 { 100.0 } else { 100.0 * self.ran as f64 / self.lines as f64 }
    }

    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.ran += other.ran;
    }
}

/// One file.
#[derive(Debug, Serialize)]
pub struct FileShare {
    /// How much of it ran.
    #[serde(flatten)]
    pub share: Share,
    /// The lines that did not, as `3, 7-9`.
    pub missed: String,
}

/// The path without detours: a file that another names by `#[path = "../…"]` is the same file.
fn direct(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| *part != ".") {
        if part != ".." || parts.pop().is_none() {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// Reads what `llvm-cov export --format=lcov` writes; files outside the workspace are left out.
pub fn parse_lcov(text: &str, root: &Path) -> Lines {
    let mut lines = Lines::new();
    let mut file: Option<String> = None;
    for record in text.lines() {
        if let Some(path) = record.strip_prefix("SF:") {
            file = Path::new(path).strip_prefix(root).ok().map(|path| direct(&path.to_string_lossy().replace('\\', "/")));
        } else if let (Some((line, count)), Some(file)) = (record.strip_prefix("DA:").and_then(|data| data.split_once(',')), &file)
            && let (Ok(line), Ok(count)) = (line.parse::<usize>(), count.parse::<u64>())
        {
            *lines.entry(file.clone()).or_default().entry(line).or_default() += count;
        }
    }
    lines
}

impl Report {
    /// Counts the lines that are not tests; `read` gives the text of a file, or `None` for one that no longer exists.
    pub fn new(lines: &Lines, read: impl Fn(&str) -> Option<String>) -> Self {
        let mut report = Self { counted: "lines of code outside tests", ..Self::default() };
        for (path, counts) in lines {
            let Some(source) = read(path).and_then(|text| File::new(path, &text, false).source) else { continue };
            let is_test = |line: usize| source.is_test.get(line.wrapping_sub(1)).copied().unwrap_or(true);
            let product: Vec<(usize, u64)> =
                counts.iter().map(|(line, count)| (*line, *count)).filter(|(line, _)| !is_test(*line)).collect();
            let missed: Vec<usize> = product.iter().filter(|(_, count)| *count == 0).map(|(line, _)| *line).collect();
            let share = Share { lines: product.len(), ran: product.len() - missed.len() };
            if share.lines > 0 {
                report.files.insert(path.clone(), FileShare { share, missed: ranges(&missed) });
            }
        }
        report.sum_up();
        report
    }

    /// Forgets every other crate.
    pub fn keep_crate(&mut self, name: &str) {
        self.files.retain(|path, _| crate_of(path) == name);
        self.sum_up();
    }

    fn sum_up(&mut self) {
        self.total = Share::default();
        self.crates.clear();
        for (path, file) in &self.files {
            self.total.add(file.share);
            self.crates.entry(crate_of(path).to_owned()).or_default().add(file.share);
        }
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut out = format!("{:<20} {:>6} {:>6} {:>8}\n", "crate", "lines", "ran", "percent");
        let rows = self.crates.iter().map(|(name, share)| (name.as_str(), *share)).chain([("total", self.total)]);
        for (name, share) in rows {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name:<20} {:>6} {:>6} {:>7.2}%", share.lines, share.ran, share.percent());
        }
        let _ = writeln!(out, "{}; {} unreadable counter files dropped", self.counted, self.dropped_counter_files);
        if !self.not_measured.is_empty() {
            let _ = writeln!(out, "not measured, though tested: {}", self.not_measured.join(", "));
        }
        out
    }
}

fn crate_of(path: &str) -> &str {
    path.strip_prefix("crates/").unwrap_or(path).split('/').next().unwrap_or_default()
}

/// `[3, 7, 8, 9]` as `3, 7-9`.
fn ranges(lines: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &line in lines {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == line => *last = line,
            _ => runs.push((line, line)),
        }
    }
    let spelled: Vec<String> =
        runs.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") }).collect();
    spelled.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LCOV: &str = "SF:/w/crates/codex-core/src/a.rs\nFN:1,f\nDA:1,2\nDA:2,0\nDA:3,0\nDA:6,9\nend_of_record\n\
                        SF:/w/crates/codex-core/tests/it/main.rs\nDA:1,0\nend_of_record\nSF:/cargo/registry/x.rs\nDA:1,1\nend_of_record\n\
                        SF:/w/xtask/src/b.rs\nDA:1,0\nend_of_record\nSF:/w/xtask/tests/./it/../../src/b.rs\nDA:1,1\nend_of_record\nSF:/w/crates/gone.rs\nDA:1,1\nend_of_record\n";

    fn report() -> Report {
        let text = |path: &str| match path {
            "crates/codex-core/src/a.rs" => Some("fn f() {\n    g();\n}\n\n#[cfg(test)]\nmod tests {}\n".to_owned()),
            "crates/gone.rs" => None,
            _ => Some("fn f() {}\n".to_owned()),
        };
        Report::new(&parse_lcov(LCOV, Path::new("/w")), text)
    }

    #[test]
    fn tests_and_dependencies_are_left_out() {
        let report = report();
        assert_eq!(report.files.keys().collect::<Vec<_>>(), ["crates/codex-core/src/a.rs", "xtask/src/b.rs"]);
        assert_eq!(report.crates["codex-core"], Share { lines: 3, ran: 1 });
        assert_eq!(report.crates["xtask"], Share { lines: 1, ran: 1 });
        assert_eq!(report.total, Share { lines: 4, ran: 2 });
        assert_eq!(report.files["crates/codex-core/src/a.rs"].missed, "2-3");
        assert!(report.text().contains("total                     4      2   50.00%"), "{}", report.text());
    }

    #[test]
    fn one_crate_can_be_kept() {
        let mut report = report();
        report.keep_crate("xtask");
        assert_eq!(report.total, Share { lines: 1, ran: 1 });
        assert_eq!(report.files.len(), 1);
        assert_eq!(report.crates.len(), 1);
    }

    #[test]
    fn runs_of_lines_are_joined() {
        assert_eq!(ranges(&[3, 7, 8, 9, 11]), "3, 7-9, 11");
        assert_eq!(ranges(&[]), "");
        assert!((Share::default().percent() - 100.0).abs() < 1e-12);
    }
}
