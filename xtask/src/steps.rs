//! What each step of the gate does. A step returns what it measured, or an error; its commands write to its log.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::coverage;
use crate::gate::{Options, Step};
use crate::log::Log;
use crate::tools::Tools;
use crate::workspace::{Workspace, cargo};
use crate::{dag, tidy, vendor};

/// Runs one step.
pub fn run(step: Step, workspace: &Workspace, options: &Options, tools: &Tools, log: &Log) -> Result<String> {
    match step {
        Step::Fmt => log.run(in_root(workspace).args(["fmt", "--all", "--check", "--", "--color", "never"])).map(|()| String::new()),
        Step::Tidy => violations(log, &tidy::check_workspace(&workspace.root)?),
        Step::Dag => violations(log, &dag::check_workspace(workspace)?),
        Step::Deny => {
            // On a new machine the sources are not there yet, and cargo-deny is told to fetch nothing.
            log.run(in_root(workspace).args(["fetch", "--locked"]))?;
            let mut deny = Command::new(tools.cargo_deny.as_deref().context("cargo-deny is missing")?);
            deny.args(["--offline", "--locked", "check", "bans", "licenses", "sources"]).current_dir(&workspace.root).stdin(Stdio::null());
            log.run(&mut deny).map(|()| String::new())
        }
        Step::Clippy => {
            let mut clippy = in_root(workspace);
            clippy.args(["clippy", "--locked", "--all-targets"]).args(selected(options)).args(["--", "-D", "warnings"]);
            log.run(&mut clippy).map(|()| String::new())
        }
        Step::Features => {
            let features = "wgpu,parquet,mlflow-rest";
            log.run(in_root(workspace).args(["check", "--locked", "--package", "codex-cli", "--features", features]))
                .map(|()| String::new())
        }
        Step::Doc => {
            let mut doc = in_root(workspace);
            doc.args(["doc", "--locked", "--no-deps"]).args(selected(options)).env("RUSTDOCFLAGS", "-D warnings");
            log.run(&mut doc).map(|()| String::new())
        }
        Step::Vendor => vendor::step(workspace, log),
        Step::Test => test(workspace, options, log),
        Step::Coverage => coverage::measure(workspace, options.package.as_deref(), tools, log),
    }
}

fn in_root(workspace: &Workspace) -> Command {
    let mut command = cargo();
    command.current_dir(&workspace.root);
    command
}

fn selected(options: &Options) -> Vec<String> {
    options.package.as_ref().map_or_else(|| vec!["--workspace".to_owned()], |name| vec!["--package".to_owned(), name.clone()])
}

fn violations<V: std::fmt::Display>(log: &Log, found: &[V]) -> Result<String> {
    for violation in found {
        log.line(&violation.to_string())?;
    }
    if !found.is_empty() {
        bail!("{} violations", found.len());
    }
    Ok(String::new())
}

/// The gate draws the same cases each time, so that what it says depends on the sources alone; `cargo test` draws new ones.
const SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "20261128");

/// Builds the tests with counters in the members of the workspace only, then runs them without a network.
fn test(workspace: &Workspace, options: &Options, log: &Log) -> Result<String> {
    let folder = coverage::Folder::fresh(&workspace.target)?;
    let built = {
        let mut build = in_root(workspace);
        build.args(["test", "--locked", "--no-run", "--message-format", "json-render-diagnostics"]).args(selected(options));
        log.capture(folder.instrument(&mut build), &folder.build_messages())?
    };
    folder.keep_executables(&coverage::executables(&built))?;

    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let (mut run, note) = match isolation() {
        Some(words) => {
            let mut run = Command::new(words[0]);
            run.args(&words[1..]).args(["sh", "-c", "ip link set lo up 2>/dev/null; exec \"$@\"", "sh"]).arg(cargo);
            (run, "no network")
        }
        None if options.with_network => (Command::new(cargo), "the network was in reach"),
        None => bail!("`unshare --net` is not permitted here, so the tests would have the network in reach; `--with-network` accepts that"),
    };
    run.args(["test", "--locked", "--offline", "--no-fail-fast"]).args(selected(options)).current_dir(&workspace.root).stdin(Stdio::null());
    if env::var_os(SEED.0).is_none() {
        run.env(SEED.0, SEED.1);
    }
    log.run(folder.instrument(&mut run))?;
    let counts = count(&log.text());
    if counts.passed == 0 {
        bail!("no test ran");
    }
    Ok(format!("{} tests, {} ignored, {note}", counts.passed, counts.ignored))
}

/// How many tests a log tells of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that passed.
    pub passed: usize,
    /// Those that did not run.
    pub ignored: usize,
}

/// Adds up the `test result` lines.
pub fn count(log: &str) -> Counts {
    let mut counts = Counts::default();
    for line in log.lines().filter(|line| line.starts_with("test result:")) {
        let number = |word: &str| {
            let before = line.split(word).next().unwrap_or_default();
            before.trim_end().rsplit(' ').next().and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0)
        };
        counts.passed += number(" passed");
        counts.ignored += number(" ignored");
    }
    counts
}

/// The words that put before a command take the network from it; `None` where the system does not permit it.
fn isolation() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["unshare", "--net", "--"], &["unshare", "--map-current-user", "--net", "--"]];
    WAYS.into_iter().find(|words| {
        let probe =
            Command::new(words[0]).args(&words[1..]).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    })
}

/// Empties a folder, or makes it.
pub fn fresh_folder(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("cannot remove `{}`", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("cannot create `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let log = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                   test result: ok. 14 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        assert_eq!(count(log), Counts { passed: 17, ignored: 1 });
        assert_eq!(count("running 0 tests\n"), Counts::default());
    }

    #[test]
    fn one_crate_or_all() {
        let options = |package: Option<&str>| Options {
            no_install: true,
            with_network: false,
            steps: Vec::new(),
            package: package.map(str::to_owned),
        };
        assert_eq!(selected(&options(None)), ["--workspace"]);
        assert_eq!(selected(&options(Some("codex-core"))), ["--package", "codex-core"]);
    }

    #[test]
    fn violations_fail_the_step_and_stand_in_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(&folder.path().join("tidy.log")).unwrap();
        assert_eq!(violations(&log, &["a:1: x", "b:2: y"]).unwrap_err().to_string(), "2 violations");
        assert_eq!(log.text(), "a:1: x\nb:2: y\n");
        assert_eq!(violations::<String>(&log, &[]).unwrap(), "");
    }
}
