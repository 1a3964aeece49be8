//! The test program of codex-checkpoint, built and run for one part at a time.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::cases::{Cases, progress};
use super::teeth::Tooth;
use crate::coverage;
use crate::log::Log;
use crate::steps::fresh_folder;
use crate::workspace::{Workspace, cargo};

/// The test that runs the plan it finds, and the two files that it and this know.
const TEST: &str = "crash::runs_a_part_when_there_is_a_plan";
const PLAN: &str = "crash-plan.json";
const CASES: &str = "crash-cases.ndjson";

const POLL: Duration = Duration::from_millis(200);
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// What is to be run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan<'a> {
    /// The part, by the name that the test program knows.
    pub part: &'a str,
    /// What places and moments are drawn from.
    pub seed: u64,
    /// About how many cases of each group, where a sample is enough.
    pub limit: Option<usize>,
}

/// A test program that is built.
#[derive(Debug)]
pub struct Programme {
    executable: PathBuf,
    folder: PathBuf,
}

impl Programme {
    /// Builds it, with a tooth pulled or as it is.
    pub fn build(workspace: &Workspace, folder: &Path, tooth: Option<Tooth>) -> Result<Self> {
        let name = tooth.map_or("whole", Tooth::name);
        let log = Log::create(&folder.join(format!("build-{name}.log")))?;
        let mut build = cargo();
        build.args(["test", "--locked", "--no-run", "--package", "codex-checkpoint", "--test", "it"]);
        build.args(["--message-format", "json-render-diagnostics"]).current_dir(&workspace.root);
        if let Some(tooth) = tooth {
            // In a folder of its own and under names of its own: nothing that is built so is ever taken for the product.
            build.arg("--target-dir").arg(folder.join("teeth")).env("RUSTC_WORKSPACE_WRAPPER", tooth.wrapper(folder)?);
            // Nobody waits for what these few cases compute, but for the compiler.
            build.args(["--config", "profile.dev.package.\"*\".opt-level=0"]);
        }
        let built = log.capture(&mut build, &folder.join(format!("build-{name}.json"))).with_context(|| {
            format!("the tests of codex-checkpoint do not build; `{}` says why", folder.join(format!("build-{name}.log")).display())
        })?;
        let executable = coverage::executables(&built).into_iter().next_back().context("cargo named no test program")?;
        Ok(Self { executable: executable.into(), folder: folder.to_owned() })
    }

    /// Where it runs and writes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a plan in a folder of this name, and tells of its progress; what came of each case.
    pub fn run(&self, name: &str, plan: &Plan<'_>, tells: bool) -> Result<Cases> {
        let folder = self.folder.join(name);
        fresh_folder(&folder)?;
        let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).with_context(|| format!("cannot write `{name}`"));
        write(PLAN, &serde_json::to_vec(plan)?)?;
        let log = fs::File::create(folder.join("output.log")).context("cannot write `output.log`")?;
        let mut command = contained(&self.executable);
        command.args(["--exact", TEST, "--test-threads=1", "--nocapture"]).current_dir(&folder).stdin(Stdio::null());
        command.env_remove("RUST_BACKTRACE").stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start `{}`", self.executable.display()))?;
        let read = || Cases::read(&fs::read_to_string(folder.join(CASES)).unwrap_or_default());
        let (start, is_terminal) = (Instant::now(), std::io::stdout().is_terminal());
        let mut told = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().context("cannot wait for the test program")? {
                break status;
            }
            sleep(POLL);
            if tells && (is_terminal || told.elapsed() >= SIGN_OF_LIFE) {
                told = Instant::now();
                show(&progress(plan.part, &read(), start.elapsed().as_secs_f64()), is_terminal);
            }
        };
        if tells {
            show(&progress(plan.part, &read(), start.elapsed().as_secs_f64()), is_terminal);
            if is_terminal {
                println!();
            }
        }
        let cases = read();
        if !status.success() || !cases.has_ended {
            bail!("the part `{}` ended early ({status}); `{}` says why", plan.part, folder.join("output.log").display());
        }
        Ok(cases)
    }
}

/// The program where its mounts are seen by nobody else and go when it does, however it ends; as it is where that is not permitted.
fn contained(executable: &Path) -> Command {
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if probe.status().is_ok_and(|status| status.success()) {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--"]).arg(executable);
        command
    } else {
        Command::new(executable)
    }
}

/// A line of progress, over the last one where a person looks on.
fn show(line: &str, is_terminal: bool) {
    if is_terminal {
        use std::io::Write as _;
        print!("\r\x1b[K    {line}");
        // Progress that cannot be shown is no reason to stop.
        std::io::stdout().flush().unwrap_or_default();
    } else {
        println!("    {line}");
    }
}

/// Why calls cannot be traced here.
pub fn obstacle_to_tracing(folder: &Path) -> Option<String> {
    if env::consts::OS != "linux" {
        return Some(format!("system calls are traced by `strace`, which {} has not", env::consts::OS));
    }
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o"]).arg(folder.join("probe.strace")).arg("true");
    match strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => None,
        Ok(_) => Some("`strace` may not trace here: allow ptrace (in a container, `--cap-add SYS_PTRACE`)".to_owned()),
        Err(_) => Some("`strace` is missing: run `apt-get install -y strace`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for the test program: it writes these lines and ends with this code.
    fn stand_in(folder: &Path, lines: &str, code: u8) -> Programme {
        let executable = folder.join("it");
        let script = format!("#!/bin/sh\ntest -s {PLAN} || exit 9\nprintf '%s\\n' '{lines}' > {CASES}\nsleep 0.3\nexit {code}\n");
        fs::write(&executable, script).unwrap();
        fs::set_permissions(&executable, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Programme { executable, folder: folder.to_owned() }
    }

    #[test]
    fn what_a_part_writes_is_read_and_an_early_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan { part: "damage", seed: 3, limit: Some(2) };
        let whole =
            "{\"group\":\"flipped bit\",\"planned\":1}\n{\"case\":\"1\",\"failure\":null,\"group\":\"flipped bit\"}\n{\"end\":true}";
        let cases = stand_in(folder.path(), whole, 0).run("damage", &plan, true).unwrap();
        assert_eq!((cases.group("flipped bit").passed, cases.has_ended), (1, true));
        let written = fs::read_to_string(folder.path().join("damage").join(PLAN)).unwrap();
        assert_eq!(written, "{\"part\":\"damage\",\"seed\":3,\"limit\":2}");
        for (lines, code) in [(whole, 1), ("{\"group\":\"flipped bit\",\"planned\":1}", 0)] {
            let programme = stand_in(folder.path(), lines, code);
            let error = programme.run("damage", &plan, false).unwrap_err().to_string();
            assert!(error.contains("`damage` ended early") && error.contains("output.log"), "{error}");
            assert_eq!(programme.folder(), folder.path());
        }
        let nothing = Programme { executable: folder.path().join("nothing"), folder: folder.path().to_owned() };
        assert!(nothing.run("damage", &plan, false).is_err());
    }

    #[test]
    fn calls_can_be_traced_or_it_is_said_why_not() {
        let folder = tempfile::tempdir().unwrap();
        if let Some(why) = obstacle_to_tracing(folder.path()) {
            assert!(why.contains("strace"), "{why}");
        }
    }
}
