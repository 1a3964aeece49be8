//! The tests of the crate with `unsafe`, under what finds wrong reads and writes: AddressSanitizer on every path of this processor, Miri on the
//! portable one.
//!
//! Both need a nightly toolchain, which nothing else here does; what is missing is named in the table with the command that installs it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::gate::{Outcome, Unsuccessful};
use crate::log::Log;
use crate::steps;
use crate::tools::output;
use crate::workspace::{Workspace, without_package};

/// The crate whose tests are run.
const PACKAGE: &str = "codex-kernels";
/// Targets for which nightly toolchains bring the runtime of AddressSanitizer.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
/// A program that AddressSanitizer must stop.
const PROBE: &str = include_str!("../probes/past_the_end.rs");
/// What it then says.
const CAUGHT: &str = "AddressSanitizer: heap-buffer-overflow";
/// The tests that Miri runs: those that an interpreter finishes in minutes, with the portable path of every kernel and the allocator among them.
const MIRI_TESTS: [&str; 18] = [
    "adamw::literal_values",
    "attention::refusals_are_typed",
    "attention::rotary::tests",
    "attention::tile::tests",
    "attention::visible::tests",
    "convert::lengths_must_agree",
    "cross_entropy::literal_values",
    "dropout::a_dropped_infinity_is_zero",
    "embedding::literal_values",
    "exponential::limits_are_exact",
    "gemm::nothing_to_add_up_leaves_what_follows",
    "gemm::what_does_not_fit_is_refused_and_nothing_is_written",
    "lengths::messages",
    "norm::literal_values",
    "philox::tests",
    "pool::tests::another_size_takes_the_place_of_what_is_kept",
    "quantized::literal_numbers",
    "quantized::thin::tests",
];

/// A way to look for wrong reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Address,
    Miri,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Miri => "miri",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Address => "all tests of codex-kernels under AddressSanitizer",
            Self::Miri => "some tests of codex-kernels under Miri, on the portable path",
        }
    }
}

/// A line of the table.
#[derive(Debug)]
struct Row {
    check: Check,
    outcome: Outcome,
    seconds: f64,
    log: String,
}

/// Runs what can run and prints the table; an error of kind [`Unsuccessful`] when something that ran failed.
pub fn run(workspace: &Workspace) -> Result<()> {
    let host = nightly_host();
    let rows: Vec<Row> = [Check::Address, Check::Miri].into_iter().map(|check| run_one(workspace, check, host.as_deref())).collect();
    print!("\n{}", table(&rows));
    if rows.iter().any(|row| matches!(row.outcome, Outcome::Failed(_))) { Err(Unsuccessful.into()) } else { Ok(()) }
}

fn run_one(workspace: &Workspace, check: Check, host: Option<&str>) -> Row {
    println!("==> {:<9} {}", check.name(), check.what());
    let host = match obstacle(check, host) {
        Ok(host) => host,
        Err(why) => {
            println!("    NOT RUN: {why}");
            return Row { check, outcome: Outcome::NotRun(why), seconds: 0.0, log: String::new() };
        }
    };
    let path = workspace.target.join("sanitize").join(format!("{}.log", check.name()));
    let start = Instant::now();
    let result = Log::create(&path).and_then(|log| {
        let measured = match check {
            Check::Address => address(workspace, host, &log),
            Check::Miri => miri(workspace, &log),
        };
        measured.inspect_err(|_| print_end(&log.text()))
    });
    let outcome = match result {
        Ok(measured) => Outcome::Passed(measured),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    Row { check, outcome, seconds: start.elapsed().as_secs_f64(), log: path.display().to_string() }
}

/// The lines from the first finding on, or the last ones.
fn print_end(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let finding = lines.iter().position(|line| line.contains("ERROR: AddressSanitizer") || line.contains("Undefined Behavior"));
    for line in lines.iter().skip(finding.unwrap_or(lines.len().saturating_sub(60))).take(60) {
        println!("    | {line}");
    }
}

/// The host of the nightly toolchain, or why a check cannot run.
fn obstacle(check: Check, host: Option<&str>) -> Result<&str, String> {
    let host = host.ok_or("there is no nightly toolchain: run `rustup toolchain install nightly --profile minimal`")?;
    match check {
        Check::Address if !TARGETS.contains(&host) => Err(format!("AddressSanitizer is not used for `{host}`")),
        Check::Miri if output(nightly("cargo").args(["miri", "--version"]).stderr(Stdio::null())).is_none() => {
            Err("Miri is missing: run `rustup component add --toolchain nightly miri rust-src`".to_owned())
        }
        Check::Address | Check::Miri => Ok(host),
    }
}

/// The target that an installed nightly toolchain builds for by itself.
fn nightly_host() -> Option<String> {
    let about = output(nightly("rustc").arg("-vV").stderr(Stdio::null()))?;
    about.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// A program of the nightly toolchain. `cargo +nightly` would be rustup's cargo, which a cargo that runs this program hides.
fn nightly(program: &str) -> Command {
    let mut command = without_package(Command::new("rustup"));
    command.args(["run", "nightly", program]);
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
}

/// Shows that AddressSanitizer bites, then runs all tests under it.
fn address(workspace: &Workspace, host: &str, log: &Log) -> Result<String> {
    let folder = workspace.target.join("sanitize");
    let caught = probe(&folder, host, log)?;
    let mut test = nightly("cargo");
    test.args(["test", "--locked", "--package", PACKAGE, "--lib", "--tests", "--no-fail-fast", "--target", host]);
    test.arg("--target-dir").arg(folder.join("address")).current_dir(&workspace.root).env("RUSTFLAGS", "-Zsanitizer=address");
    log.run(&mut test)?;
    let passed = passed(&log.text())?;
    let (had, lacked): (Vec<_>, Vec<_>) = paths().into_iter().partition(|(_, is_available)| *is_available);
    let names = |paths: &[(&'static str, bool)]| paths.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let lacked = if lacked.is_empty() { String::new() } else { format!("; NOT on {}, which this processor lacks", names(&lacked)) };
    Ok(format!("{passed} tests on {}{lacked}; {caught}", names(&had)))
}

/// Builds a program that reads past the end, and checks that it is stopped; what it was caught at.
fn probe(folder: &Path, host: &str, log: &Log) -> Result<String> {
    let (source, program) = (folder.join("past_the_end.rs"), folder.join(format!("past_the_end{}", env::consts::EXE_SUFFIX)));
    fs::write(&source, PROBE).with_context(|| format!("cannot write `{}`", source.display()))?;
    let mut build = nightly("rustc");
    build.args(["--edition", "2024", "-Zsanitizer=address", "-O", "--target", host, "-o"]).arg(&program).arg(&source);
    log.run(&mut build)?;
    let is_wide = paths().contains(&("avx512", true));
    for way in [Some("plain"), is_wide.then_some("masked")].into_iter().flatten() {
        let found = Command::new(&program).arg(way).stdin(Stdio::null()).output().context("cannot start the probe")?;
        let said = String::from_utf8_lossy(&found.stderr);
        if found.status.success() || !said.contains(CAUGHT) {
            bail!("a {way} read past the end of a vector was not caught: silence about the kernels would mean nothing");
        }
        log.line(&format!("probe: a {way} read past the end was caught, as it must be"))?;
    }
    Ok(if is_wide { "a plain and a masked read past the end were caught" } else { "a plain read past the end was caught" }.to_owned())
}

/// Runs some tests under Miri.
fn miri(workspace: &Workspace, log: &Log) -> Result<String> {
    let mut test = nightly("cargo");
    test.args(["miri", "test", "--locked", "--package", PACKAGE, "--lib", "--tests", "--no-fail-fast", "--target-dir"]);
    test.arg(workspace.target.join("sanitize/miri")).arg("--").args(MIRI_TESTS).current_dir(&workspace.root);
    // crossbeam, below rayon, needs the rules of Tree Borrows; rayon's threads outlive the tests.
    log.run(test.env("MIRIFLAGS", "-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-disable-isolation"))?;
    Ok(format!("{} tests on portable", passed(&log.text())?))
}

/// How many tests passed, of all that the log tells of.
fn passed(log: &str) -> Result<usize> {
    match steps::count(log).passed {
        0 => bail!("no test ran"),
        passed => Ok(passed),
    }
}

/// The paths of codex-kernels' `Isa`, by the names that records carry, and whether this processor has each.
fn paths() -> [(&'static str, bool); 4] {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma");
        let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
        [("portable", true), ("avx2", avx2), ("avx512", avx512), ("avx512_bf16", avx512 && has!("avx512bf16"))]
    }
    #[cfg(not(target_arch = "x86_64"))]
    [("portable", true), ("avx2", false), ("avx512", false), ("avx512_bf16", false)]
}

/// The table, and the line that counts.
fn table(rows: &[Row]) -> String {
    let mut out = format!("{:<9} {:<8} {:>8}  log\n", "check", "result", "seconds");
    let mut counts = [("passed", 0), ("failed", 0), ("NOT RUN", 0)];
    for row in rows {
        let (place, result, note) = match &row.outcome {
            Outcome::Passed(note) => (0, "passed", note),
            Outcome::Failed(note) => (1, "FAILED", note),
            Outcome::NotRun(note) => (2, "NOT RUN", note),
        };
        counts[place].1 += 1;
        out.push_str(format!("{:<9} {result:<8} {:>8.1}  {}", row.check.name(), row.seconds, row.log).trim_end());
        // Writing to a String cannot fail.
        let _ = write!(out, "\n{:9} {}\n", "", note.lines().next().unwrap_or_default());
    }
    let counts: Vec<String> = counts.iter().map(|(word, n)| format!("{n} {word}")).collect();
    let _ = writeln!(out, "sanitize: {}", counts.join(", "));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_loud_and_named() {
        let why = obstacle(Check::Miri, None).unwrap_err();
        assert_eq!(why, "there is no nightly toolchain: run `rustup toolchain install nightly --profile minimal`");
        assert_eq!(obstacle(Check::Address, Some("riscv64")).unwrap_err(), "AddressSanitizer is not used for `riscv64`");
        assert_eq!(obstacle(Check::Address, Some(TARGETS[0])), Ok(TARGETS[0]));
        let address = Row {
            check: Check::Address,
            outcome: Outcome::Passed("93 tests on portable".to_owned()),
            seconds: 80.25,
            log: "t/address.log".to_owned(),
        };
        let miri = Row { check: Check::Miri, outcome: Outcome::NotRun(why), seconds: 0.0, log: String::new() };
        assert_eq!(
            table(&[address, miri]),
            "check     result    seconds  log\naddress   passed       80.2  t/address.log\n          93 tests on portable\nmiri      NOT RUN       0.0\n          \
             there is no nightly toolchain: run `rustup toolchain install nightly --profile minimal`\nsanitize: 1 passed, 0 failed, 1 NOT RUN\n"
        );
    }

    #[test]
    fn a_run_without_tests_is_no_success() {
        assert_eq!(passed("test result: ok. 7 passed; 0 failed; 0 ignored; finished in 0.0s\n").unwrap(), 7);
        assert_eq!(passed("test result: ok. 0 passed; 0 failed; 0 ignored; finished in 0.0s\n").unwrap_err().to_string(), "no test ran");
    }

    #[test]
    fn the_tests_for_miri_exist() {
        // A filter that matches nothing would be passed over in silence.
        let root = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("../crates").join(PACKAGE);
        for filter in MIRI_TESTS {
            let (module, test) = filter.rsplit_once("::").unwrap();
            let file = |folder: &str, module: &str| root.join(folder).join(format!("{}.rs", module.replace("::", "/")));
            let (path, wanted) = match test {
                "tests" => (file("src", module), "mod tests {".to_owned()),
                _ => match module.strip_suffix("::tests") {
                    Some(module) => (file("src", module), format!("fn {test}()")),
                    None => (file("tests/it", module), format!("fn {test}()")),
                },
            };
            assert!(fs::read_to_string(path).unwrap().contains(&wanted), "there is no test `{filter}`");
        }
    }
}
