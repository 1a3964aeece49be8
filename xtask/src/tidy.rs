//! The rules of the house that a compiler cannot hold: names, sizes, headers, devices, links. Formatting is rustfmt's, style clippy's.

pub mod doc_rules;
pub mod manifest_rules;
pub mod rust_rules;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::arguments::Cli;
use crate::source::Source;
use crate::workspace;

/// Files that may break a rule, each with its reason. One that breaks nothing is itself reported.
pub const EXCEPTIONS: &[Exception] = &[
    Exception { rule: "lint-table", path: "crates/codex-kernels/Cargo.toml", reason: "it denies `unsafe` where the others forbid it" },
    Exception { rule: "lint-exception", path: "crates/codex-core/src/files.rs", reason: "the one place that calls std::fs" },
    Exception { rule: "lint-exception", path: "crates/codex-core/src/lock.rs", reason: "it opens the lock file" },
    Exception { rule: "lint-exception", path: "crates/codex-core/src/clock.rs", reason: "the one place that asks what time it is" },
    Exception { rule: "lint-exception", path: "crates/codex-cli/src/environment.rs", reason: "the one place that reads the environment" },
    Exception { rule: "lint-exception", path: "crates/codex-cli/src/terminal.rs", reason: "the one place that writes to the terminal" },
    Exception { rule: "lint-exception", path: "crates/codex-track/src/telemetry/server.rs", reason: "the exporter that clippy.toml names" },
    Exception { rule: "lint-exception", path: "crates/codex-kernels/examples/kernel_counts.rs", reason: "a program that a benchmark runs" },
    Exception { rule: "lint-exception", path: "crates/codex-data/examples/read_epoch.rs", reason: "a program that a benchmark runs" },
    Exception { rule: "lint-exception", path: "crates/codex-kernels/examples/quantized_bandwidth.rs", reason: "it prints what it times" },
    Exception { rule: "lint-exception", path: "crates/codex-cli/build.rs", reason: "a build script reads files and variables itself" },
];

/// A file that may break one rule.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// The rule.
    pub rule: &'static str,
    /// The file, relative to the root.
    pub path: &'static str,
    /// Why it may.
    pub reason: &'static str,
}

/// A rule broken at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The file, relative to the root.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule.
    pub rule: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.message)
    }
}

/// A rule: what it is called, and how it is tried on one file.
pub struct Rule {
    /// Its name in messages and exceptions.
    pub name: &'static str,
    /// Returns the line and message of each place that breaks it.
    pub check: fn(&File, &Context<'_>) -> Vec<(usize, String)>,
}

/// Every rule.
pub const RULES: &[Rule] = &[
    Rule { name: "file-name", check: rust_rules::file_name },
    Rule { name: "file-header", check: rust_rules::file_header },
    Rule { name: "file-ceiling", check: rust_rules::file_ceiling },
    Rule { name: "unfinished", check: rust_rules::unfinished },
    Rule { name: "device-default", check: rust_rules::device_default },
    Rule { name: "device-constructor", check: rust_rules::device_constructor },
    Rule { name: "test-discipline", check: rust_rules::test_discipline },
    Rule { name: "network", check: rust_rules::network },
    Rule { name: "randomness", check: rust_rules::randomness },
    Rule { name: "compiled-in-path", check: rust_rules::compiled_in_path },
    Rule { name: "lint-exception", check: rust_rules::lint_exception },
    Rule { name: "lint-table", check: manifest_rules::lint_table },
    Rule { name: "absolute-path", check: manifest_rules::absolute_path },
    Rule { name: "doc-link", check: doc_rules::links },
    Rule { name: "doc-command", check: doc_rules::commands },
];

/// What rules may ask about the rest of the workspace.
pub struct Context<'a> {
    /// Whether a path, relative to the root, is a file or a folder.
    pub exists: &'a dyn Fn(&str) -> bool,
    /// The names of the tasks of `cargo xtask`.
    pub tasks: &'a [String],
}

/// A file to judge.
#[derive(Debug)]
pub struct File {
    /// Its path, relative to the root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Its Rust, when it is Rust.
    pub source: Option<Source>,
}

impl File {
    /// A file with this text; `all_test` says that it is compiled only for tests.
    pub fn new(path: &str, text: &str, all_test: bool) -> Self {
        let in_tests = all_test || path.split('/').any(|part| part == "tests" || part == "benches");
        let is_rust = Path::new(path).extension().is_some_and(|extension| extension == "rs");
        Self { path: path.to_owned(), text: text.to_owned(), source: is_rust.then(|| Source::new(text, in_tests)) }
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether the file belongs to this member of the workspace.
    pub fn is_in(&self, member: &str) -> bool {
        self.path.strip_prefix("crates/").unwrap_or(&self.path).split('/').next() == Some(member)
    }
}

/// Tries every rule on one file.
pub fn check_file(file: &File, context: &Context<'_>) -> Vec<Violation> {
    RULES
        .iter()
        .flat_map(|rule| {
            (rule.check)(file, context).into_iter().map(|(line, message)| Violation {
                path: file.path.clone(),
                line,
                rule: rule.name,
                message,
            })
        })
        .collect()
}

/// Drops what the exceptions permit, and reports the exceptions that permit nothing.
pub fn apply_exceptions(mut violations: Vec<Violation>, exceptions: &[Exception]) -> Vec<Violation> {
    let mut unused = Vec::new();
    for exception in exceptions {
        let before = violations.len();
        violations.retain(|violation| violation.rule != exception.rule || violation.path != exception.path);
        if violations.len() == before {
            let message = format!("the exception ({}) permits nothing: remove it from xtask/src/tidy.rs", exception.reason);
            unused.push(Violation { path: exception.path.to_owned(), line: 1, rule: exception.rule, message });
        }
    }
    violations.extend(unused);
    violations
}

/// Tries every rule on every file of the workspace at `root`.
pub fn check_workspace(root: &Path) -> Result<Vec<Violation>> {
    let paths = workspace::files(root)?;
    let mut files = Vec::new();
    for path in &paths {
        let bytes = std::fs::read(root.join(path)).with_context(|| format!("cannot read `{path}`"))?;
        // Whatever is not UTF-8 is data, and has no rule.
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File::new(path, &text, false));
        }
    }
    mark_test_modules(&mut files);
    let tasks: Vec<String> = Cli::command().get_subcommands().map(|task| task.get_name().to_owned()).collect();
    let exists = |path: &str| root.join(path).exists();
    let context = Context { exists: &exists, tasks: &tasks };
    // A workspace without the file is another one; that ours has each file is a test's to show.
    let exceptions: Vec<Exception> = EXCEPTIONS.iter().copied().filter(|exception| exists(exception.path)).collect();
    Ok(apply_exceptions(files.iter().flat_map(|file| check_file(file, &context)).collect(), &exceptions))
}

/// Marks the files of modules that are declared under `#[cfg(test)]`.
fn mark_test_modules(files: &mut [File]) {
    let mut test_paths = BTreeSet::new();
    for file in files.iter() {
        let stem = file.path.trim_end_matches(".rs");
        let folder = match file.name() {
            "lib.rs" | "main.rs" => stem.rsplit_once('/').map_or("", |(folder, _)| folder),
            _ => stem,
        };
        for module in file.source.iter().flat_map(|source| &source.test_modules) {
            test_paths.insert(format!("{folder}/{module}.rs"));
        }
    }
    for file in files.iter_mut().filter(|file| test_paths.contains(&file.path)) {
        *file = File::new(&file.path, &file.text, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(rule: &'static str, path: &str) -> Violation {
        Violation { path: path.to_owned(), line: 1, rule, message: String::new() }
    }

    #[test]
    fn an_exception_covers_one_rule_in_one_file() {
        let exceptions = [Exception { rule: "a", path: "x.rs", reason: "generated" }];
        let left = apply_exceptions(vec![violation("a", "x.rs"), violation("b", "x.rs"), violation("a", "y.rs")], &exceptions);
        assert_eq!(left, [violation("b", "x.rs"), violation("a", "y.rs")]);
    }

    #[test]
    fn an_exception_that_permits_nothing_is_reported() {
        let left = apply_exceptions(Vec::new(), &[Exception { rule: "a", path: "x.rs", reason: "generated" }]);
        assert_eq!(left.len(), 1);
        assert!(left[0].message.contains("generated"), "{}", left[0]);
    }

    #[test]
    fn files_of_test_modules_are_test_code() {
        let mut files = [
            File::new("crates/a/src/lib.rs", "//! a\n#[cfg(test)]\nmod probe;\n", false),
            File::new("crates/a/src/probe.rs", "fn f() {}\n", false),
            File::new("crates/b/src/probe.rs", "fn f() {}\n", false),
        ];
        mark_test_modules(&mut files);
        let is_test = |index: usize| files[index].source.as_ref().unwrap().is_test[0];
        assert!(is_test(1));
        assert!(!is_test(2));
    }
}
