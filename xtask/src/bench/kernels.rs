//! `bench kernels`: instructions of each kernel, counted by callgrind. They are the same whatever else the machine does, so that a kernel that got worse
//! shows where its time would drown in noise.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::options::Kernels;
use super::process;
use super::report::Outcome;
use super::session::Session;
use super::table::{Table, grouped};
use crate::workspace::{Workspace, cargo};

/// Counts that are compared with, of the last record.
const KEPT: &str = "docs/bench/kernels.json";

/// Counts, and compares with the last record.
pub fn run(session: &Session, workspace: &Workspace, options: &Kernels) -> Result<Outcome> {
    let example = build(workspace)?;
    let listed = process::run(&mut Command::new(&example), &session.log("list"))?.stdout;
    let names: Vec<&str> = listed.lines().filter(|name| options.only.as_ref().is_none_or(|part| name.contains(part.as_str()))).collect();
    if names.is_empty() {
        bail!("no kernel has `{}` in its name; `{}` lists them", options.only.as_deref().unwrap_or_default(), example.display());
    }
    let kept_path = session.root.join(KEPT);
    let kept: BTreeMap<String, u64> = match fs::read(&kept_path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("cannot read `{}`", kept_path.display()))?,
        Err(_) => BTreeMap::new(),
    };
    let mut counts = kept.clone();
    let mut table = Table::new("instructions of one call on one thread", &["kernel", "instructions", "at the last record", "change"]);
    for (index, name) in names.iter().enumerate() {
        Session::say(&format!("kernels [{}/{}] {name}", index + 1, names.len()));
        // What starting and making ready cost is in both, and goes away.
        let (once, twice) = (count(session, &example, name, 1)?, count(session, &example, name, 2)?);
        let each = twice.saturating_sub(once);
        counts.insert((*name).to_owned(), each);
        let before = kept.get(*name).copied();
        table.rows.push(vec![
            (*name).to_owned(),
            grouped(each),
            before.map_or_else(|| "-".to_owned(), grouped),
            before.map_or_else(|| "-".to_owned(), |before| change(before, each)),
        ]);
    }
    table.notes.push("under valgrind, which knows no AVX-512: the AVX2 path".to_owned());
    if session.shared.record {
        super::write(&kept_path, &format!("{}\n", serde_json::to_string_pretty(&counts)?))?;
    }
    Ok(Outcome { tables: vec![table], ..Outcome::default() })
}

fn change(before: u64, now: u64) -> String {
    format!("{:+.2} %", 100.0 * (now as f64 - before as f64) / before.max(1) as f64)
}

/// The example program of codex-kernels, built in release mode.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    Session::say("building codex-kernels' example in release mode");
    let arguments = ["build", "--release", "--locked", "--package", "codex-kernels", "--example", "kernel_counts"];
    let status = cargo().args(arguments).current_dir(&workspace.root).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`cargo {}` ended with {status}", arguments.join(" "));
    }
    Ok(workspace.target.join("release/examples/kernel_counts"))
}

/// Instructions of the program that runs a kernel so many times.
fn count(session: &Session, example: &Path, name: &str, times: u32) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(example).args([name, &times.to_string()]);
    let finished =
        process::run(&mut valgrind, &session.log(&format!("{name}-{times}"))).context("install it with `apt-get install valgrind`")?;
    collected(&finished.stderr)
        .with_context(|| format!("callgrind told no count for `{name}`: see its log in `{}`", session.folder.display()))
}

/// The count in callgrind's last lines.
fn collected(stderr: &str) -> Option<u64> {
    let line = stderr.lines().rev().find_map(|line| line.split_once("Collected :"))?;
    line.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_in_the_last_lines() {
        let stderr =
            "==12== Callgrind, a call-graph generating cache profiler\n==12== Events    : Ir\n==12== Collected : 7654321\n==12== \n";
        assert_eq!(collected(stderr), Some(7_654_321));
        assert_eq!(collected("==12== Events    : Ir\n"), None);
    }

    #[test]
    fn a_change_has_its_sign() {
        assert_eq!([change(1000, 1010), change(1000, 990), change(0, 0)], ["+1.00 %", "-1.00 %", "+0.00 %"]);
    }
}
