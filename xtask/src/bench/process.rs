//! A child process, run to its end and measured: wall time, and the peak resident memory that the system itself reports for that child (`wait4`).
//!
//! The peak is of the largest single process among the child and those it waited for, not their sum. Linux carries the peak of the starting
//! process over `exec`, so no child shows less than xtask itself had, which is some 5 MB.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use wait4::Wait4 as _;

use super::machine::busy_seconds;
use crate::log::spell;

/// Lines of stderr that a failure shows.
const TAIL_LINES: usize = 15;

/// Seconds that a child must live for the load beside it to mean something.
const SHORTEST_FOR_OTHERS: f64 = 0.3;

/// What a child left behind.
#[derive(Clone, Debug, Default)]
pub struct Finished {
    /// From before the start until the system said that it had ended.
    pub seconds: f64,
    /// When it was started, in seconds since 1970.
    pub started_unix_s: f64,
    /// The largest resident memory.
    pub peak_rss_bytes: u64,
    /// Processors that others kept busy meanwhile, on the mean; `None` where that cannot be told.
    pub others: Option<f64>,
    /// Everything it wrote to stdout.
    pub stdout: String,
    /// Everything it wrote to stderr.
    pub stderr: String,
}

/// Runs a command to its end. Its output is kept beside `log` with the endings `out` and `err`; one that fails is an error with the tail of its stderr.
pub fn run(command: &mut Command, log: &Path) -> Result<Finished> {
    let (finished, status) = run_any(command, log)?;
    if !status.success() {
        let lines: Vec<&str> = finished.stderr.lines().collect();
        let tail: Vec<String> = lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("  | {line}")).collect();
        bail!("`{}` ended with {status}\n{}\n  (all of it: `{}`)", spell(command), tail.join("\n"), log.with_extension("err").display());
    }
    Ok(finished)
}

/// Runs a command to its end, whatever that is.
pub fn run_any(command: &mut Command, log: &Path) -> Result<(Finished, ExitStatus)> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    }
    let (out, err) = (log.with_extension("out"), log.with_extension("err"));
    let create = |path: &Path| File::create(path).with_context(|| format!("cannot write `{}`", path.display()));
    command.stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&err)?);
    let started_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let busy_before = busy_seconds();
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    let used = child.wait4().with_context(|| format!("cannot wait for `{}`", command.get_program().display()))?;
    let seconds = start.elapsed().as_secs_f64();
    let own = (used.rusage.utime + used.rusage.stime).as_secs_f64();
    let others = busy_before.zip(busy_seconds()).map(|(before, after)| ((after - before - own) / seconds).max(0.0));
    let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let finished = Finished {
        seconds,
        started_unix_s,
        peak_rss_bytes: used.rusage.maxrss,
        // The system counts in hundredths of a second.
        others: others.filter(|_| seconds >= SHORTEST_FOR_OTHERS),
        stdout: read(&out).with_context(|| format!("cannot read `{}`", out.display()))?,
        stderr: read(&err).with_context(|| format!("cannot read `{}`", err.display()))?,
    };
    Ok((finished, used.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_child_is_reported_with_the_tail_of_its_stderr() {
        let folder = tempfile::tempdir().unwrap();
        let script = "i=0; while [ $i -lt 40 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
        let error = run(Command::new("sh").args(["-c", script]), &folder.path().join("x")).unwrap_err().to_string();
        assert!(error.contains("ended with exit status: 3") && error.contains("  | line 39"), "{error}");
        assert!(error.contains("  | line 25") && !error.contains("line 24"), "{error}");
        let error = run(&mut Command::new("no-such-program-here"), &folder.path().join("x")).unwrap_err().to_string();
        assert_eq!(error, "cannot start `no-such-program-here`");
    }

    #[test]
    fn memory_is_that_of_this_child_and_output_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        // One buffer of 400 MB, filled; the child before and the child after must not show it.
        let mut large = Command::new("dd");
        large.args(["if=/dev/zero", "of=/dev/null", "bs=400000000", "count=1"]);
        let small = |name: &str| run(Command::new("sh").args(["-c", "echo small"]), &folder.path().join(name)).unwrap();
        let before = small("before");
        let finished = run(&mut large, &folder.path().join("large")).unwrap();
        let after = small("after");
        assert!(finished.stderr.contains("400000000 bytes"), "{}", finished.stderr);
        assert!(finished.peak_rss_bytes > 400_000_000, "{}", finished.peak_rss_bytes);
        assert!(before.peak_rss_bytes.max(after.peak_rss_bytes) < 400_000_000, "{} {}", before.peak_rss_bytes, after.peak_rss_bytes);
        assert_eq!(after.stdout, "small\n");
        assert!(after.peak_rss_bytes > 0 && after.started_unix_s > 1.7e9 && after.seconds > 0.0);
    }
}
