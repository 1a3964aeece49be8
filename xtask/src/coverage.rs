//! Line coverage from rustc's counters: only members of the workspace are compiled with them, so dependencies are shared with every other build.
//!
//! The counters of every process count, also of a `codex-cli` that a test starts. What is reported is in `coverage_report`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::coverage_report::{Report, parse_lcov};
use crate::log::Log;
use crate::steps::fresh_folder;
use crate::tools::{Llvm, Tools};
use crate::workspace::Workspace;

/// The name under which a copy of this program stands in for rustc. A shell script would not do: `sh` drops variables such as
/// `CARGO_BIN_EXE_codex-cli`, whose names it cannot spell.
const WRAPPER: &str = "rustc-with-counters";

/// What stands for the root of the workspace in the paths that counters belong to.
const ROOT: &str = "/codex";

/// Crates that are compiled without counters, in their tests too: one in every inner loop makes the kernels a hundred times slower, because
/// threads share it and loops with it are not vectorised.
const NOT_MEASURED: [&str; 1] = ["codex-kernels"];

/// When this program was started as rustc's stand-in: runs rustc, with counters, and returns how it ended.
pub fn stand_in_for_rustc() -> Option<ExitCode> {
    let mut arguments = env::args_os();
    let is_wrapper = arguments.next().is_some_and(|program| Path::new(&program).file_stem().is_some_and(|name| name == WRAPPER));
    if !is_wrapper {
        return None;
    }
    // Cargo runs rustc in the root of the workspace.
    let root = env::current_dir().unwrap_or_default();
    let arguments = with_counters(arguments.collect(), &root);
    let status = arguments.split_first().and_then(|(rustc, rest)| Command::new(rustc).args(rest).status().ok());
    Some(status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Build scripts run before the tests and are not measured. The root is written as [`ROOT`]: another checkout may share the target folder, and
/// cargo then takes what the first one built.
fn with_counters(mut arguments: Vec<OsString>, root: &Path) -> Vec<OsString> {
    let is_left_out = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument == "build_script_build" || NOT_MEASURED.iter().any(|name| argument.starts_with(&format!("crates/{name}/")))
    };
    if !arguments.iter().any(is_left_out) {
        arguments.extend(["-C", "instrument-coverage", "--remap-path-prefix"].map(OsString::from));
        let mut remapped = root.as_os_str().to_owned();
        remapped.push("=");
        remapped.push(ROOT);
        arguments.push(remapped);
    }
    arguments
}

/// The committed floor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Floor {
    lines: f64,
}

/// `<target>/coverage`: counters, the list of executables, the report.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    wrapper: PathBuf,
}

impl Folder {
    /// The folder with nothing of an earlier run in it.
    pub fn fresh(target: &Path) -> Result<Self> {
        let folder = Self::of(target);
        fresh_folder(&folder.path)?;
        fresh_folder(&folder.counters())?;
        let program = env::current_exe().context("this program does not know where it is")?;
        if let Some(parent) = folder.wrapper.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create `{}`", parent.display()))?;
        }
        fs::copy(&program, &folder.wrapper)
            .with_context(|| format!("cannot copy `{}` to `{}`", program.display(), folder.wrapper.display()))?;
        Ok(folder)
    }

    fn of(target: &Path) -> Self {
        Self { path: target.join("coverage"), wrapper: target.join("gate").join(format!("{WRAPPER}{}", env::consts::EXE_SUFFIX)) }
    }

    fn counters(&self) -> PathBuf {
        self.path.join("counters")
    }

    /// Where cargo's messages about the build are kept.
    pub fn build_messages(&self) -> PathBuf {
        self.path.join("build-messages.json")
    }

    /// Makes a cargo command build and run with counters.
    pub fn instrument<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("RUSTC_WORKSPACE_WRAPPER", &self.wrapper).env("LLVM_PROFILE_FILE", self.counters().join("%p-%m.profraw"))
    }

    /// Remembers which executables the counters belong to.
    pub fn keep_executables(&self, executables: &[String]) -> Result<()> {
        if executables.is_empty() {
            bail!("cargo built no test");
        }
        self.write("executables.txt", &executables.join("\n")).map(drop)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    }
}

/// The executables in cargo's messages (`--message-format json`), each once.
pub fn executables(messages: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<String>,
    }
    let mut found: Vec<String> =
        messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()).filter_map(|message| message.executable).collect();
    found.sort();
    found.dedup();
    found
}

/// Merges the counters of the last test run, writes the report, and compares it with the floor.
pub fn measure(workspace: &Workspace, package: Option<&str>, tools: &Tools, log: &Log) -> Result<String> {
    let llvm = tools.llvm.as_ref().context("llvm-cov is missing")?;
    let folder = Folder::of(&workspace.target);
    let (profile, dropped) = merge(&folder, llvm, log)?;
    let lcov = export(&folder, llvm, &profile, log)?;
    let mut report = Report::new(&parse_lcov(&lcov, Path::new(ROOT)), |path| fs::read_to_string(workspace.root.join(path)).ok());
    report.dropped_counter_files = dropped;
    report.not_measured = NOT_MEASURED.iter().map(|name| (*name).to_owned()).collect();
    if let Some(name) = package {
        report.keep_crate(name);
    }
    let json = format!("{}\n", serde_json::to_string_pretty(&report).context("cannot write the report")?);
    let hash = blake3::hash(json.as_bytes()).to_hex().to_string();
    let json_path = folder.write("report.json", &json)?;
    let text_path = folder.write("report.txt", &report.text())?;
    folder.write("report.json.blake3", &format!("{hash}  report.json\n"))?;
    let text = format!("{}blake3 {hash}  {}", report.text(), json_path.display());
    log.line(&text)?;
    for line in text.lines() {
        println!("    {line}");
    }

    let floor_path = workspace.root.join("xtask/coverage-floor.toml");
    let floor_text = fs::read_to_string(&floor_path).with_context(|| format!("cannot read `{}`", floor_path.display()))?;
    let floor: Floor = toml::from_str(&floor_text).with_context(|| format!("cannot read `{}`", floor_path.display()))?;
    judge(report.total.percent(), floor.lines, &format!("{}, blake3 {}", text_path.display(), &hash[..16]))
}

fn judge(percent: f64, floor: f64, place: &str) -> Result<String> {
    if percent < floor {
        bail!("{percent:.2} % of lines are tested, under the floor of {floor:.2} % in xtask/coverage-floor.toml ({place})");
    }
    Ok(format!("{percent:.2} % of lines, floor {floor:.2} % ({place})"))
}

/// One profile from all counters, and how many files of counters a killed process left unreadable.
fn merge(folder: &Folder, llvm: &Llvm, log: &Log) -> Result<(PathBuf, usize)> {
    let counters = folder.counters();
    let mut whole = Vec::new();
    let mut dropped = 0;
    for entry in fs::read_dir(&counters).with_context(|| format!("cannot list `{}`", counters.display()))? {
        let path = entry?.path();
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0) { whole.push(path.display().to_string()) } else { dropped += 1 }
    }
    if whole.is_empty() {
        bail!("the tests left no counters in `{}`", counters.display());
    }
    whole.sort();
    let list = folder.write("counters.txt", &whole.join("\n"))?;
    let profile = folder.path.join("merged.profdata");
    let mut merge = Command::new(&llvm.profdata);
    merge.args(["merge", "--sparse", "--failure-mode=all", "--input-files"]).arg(&list).arg("--output").arg(&profile).stdin(Stdio::null());
    let before = log.text().len();
    log.run(&mut merge)?;
    dropped += unreadable(log.text().get(before..).unwrap_or_default());
    Ok((profile, dropped))
}

/// The files that `llvm-profdata` says it left out.
fn unreadable(messages: &str) -> usize {
    messages.lines().filter(|line| line.starts_with("warning: ") && line.contains(".profraw")).count()
}

fn export(folder: &Folder, llvm: &Llvm, profile: &Path, log: &Log) -> Result<String> {
    let list = folder.path.join("executables.txt");
    let executables = fs::read_to_string(&list).with_context(|| format!("cannot read `{}`", list.display()))?;
    let mut export = Command::new(&llvm.cov);
    export.args(["export", "--format=lcov", "--instr-profile"]).arg(profile).stdin(Stdio::null());
    for (idx, executable) in executables.lines().enumerate() {
        if idx > 0 {
            export.arg("--object");
        }
        export.arg(executable);
    }
    log.capture(&mut export, &folder.path.join("lines.lcov"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_come_from_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":\"/t/b\"}\n{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/a\"}\n{\"reason\":\"build-finished\",\"success\":true}\nnoise\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/a\"}\n";
        assert_eq!(executables(messages), ["/t/a", "/t/b"]);
    }

    #[test]
    fn under_the_floor_fails_and_at_the_floor_passes() {
        assert!(judge(79.99, 80.0, "r").unwrap_err().to_string().contains("under the floor of 80.00 %"));
        assert_eq!(judge(80.0, 80.0, "r").unwrap(), "80.00 % of lines, floor 80.00 % (r)");
    }

    #[test]
    fn the_committed_floor_is_at_least_80() {
        let floor: Floor = toml::from_str(include_str!("../coverage-floor.toml")).unwrap();
        assert!(floor.lines >= 80.0, "{floor:?}");
    }

    #[test]
    fn a_fresh_folder_forgets_the_last_run() {
        let target = tempfile::tempdir().unwrap();
        let folder = Folder::fresh(target.path()).unwrap();
        fs::write(folder.counters().join("1.profraw"), "x").unwrap();
        let again = Folder::fresh(target.path()).unwrap();
        assert_eq!(fs::read_dir(again.counters()).unwrap().count(), 0);
        assert!(again.wrapper.is_file());
        assert!(again.keep_executables(&[]).is_err());
    }

    #[test]
    fn build_scripts_get_no_counters() {
        let arguments = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let library = with_counters(arguments(&["rustc", "--crate-name", "codex_core"]), Path::new("/w"));
        let added = ["rustc", "--crate-name", "codex_core", "-C", "instrument-coverage", "--remap-path-prefix", "/w=/codex"];
        assert_eq!(library, arguments(&added));
        let script = arguments(&["rustc", "--crate-name", "build_script_build"]);
        assert_eq!(with_counters(script.clone(), Path::new("/w")), script);
        let kernels = arguments(&["rustc", "--crate-name", "it", "crates/codex-kernels/tests/it/main.rs"]);
        assert_eq!(with_counters(kernels.clone(), Path::new("/w")), kernels);
        assert!(stand_in_for_rustc().is_none());
    }

    #[test]
    fn unreadable_counters_are_counted() {
        let messages =
            "$ llvm-profdata merge\nwarning: /t/12-3.profraw: truncated profile data\nwarning: /t/13-3.profraw: invalid\nwarning: x\n";
        assert_eq!(unreadable(messages), 2);
    }
}
