//! The tools that steps need: found, or installed at a pinned version, or named with the command that installs them.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::gate::{Options, Step};
use crate::log::Log;
use crate::steps::fresh_folder;
use crate::workspace::{Workspace, cargo};

/// The version of cargo-deny that `deny.toml` is written for.
pub const CARGO_DENY: &str = "0.20.2";

/// What the tests start besides the workspace's own programs, and Debian's package of each: the one kills a writer at a system call, the
/// other takes the network away.
const TEST_PROGRAMS: [(&str, &str); 2] = [("strace", "strace"), ("unshare", "util-linux")];

/// What was found.
#[derive(Debug, Default)]
pub struct Tools {
    /// cargo-deny at its pinned version.
    pub cargo_deny: Option<PathBuf>,
    /// The coverage tools of rustc's LLVM.
    pub llvm: Option<Llvm>,
}

/// LLVM's coverage tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Llvm {
    /// `llvm-profdata`.
    pub profdata: PathBuf,
    /// `llvm-cov`.
    pub cov: PathBuf,
    /// The version of both.
    pub version: String,
}

/// Looks for what the steps need, installs what may be installed, and says for each step that cannot run what would help.
pub fn prepare(workspace: &Workspace, options: &Options) -> (Tools, BTreeMap<Step, String>) {
    let mut tools = Tools::default();
    let mut missing = BTreeMap::new();
    for &step in &options.steps {
        let result = match step {
            Step::Fmt => component("fmt", "rustfmt"),
            Step::Clippy => component("clippy", "clippy"),
            Step::Deny => cargo_deny(workspace, options.no_install).map(|path| tools.cargo_deny = Some(path)),
            Step::Test => TEST_PROGRAMS.iter().try_for_each(|(name, package)| program(workspace, options.no_install, name, package)),
            Step::Coverage => llvm(workspace, options.no_install).map(|llvm| tools.llvm = Some(llvm)),
            Step::Tidy | Step::Dag | Step::Features | Step::Doc | Step::Vendor => Ok(()),
        };
        if let Err(why) = result {
            missing.insert(step, why);
        }
    }
    (tools, missing)
}

/// A part of the toolchain; rustup installs it with the toolchain that `rust-toolchain.toml` names.
fn component(subcommand: &str, name: &str) -> Result<(), String> {
    match output(cargo().args([subcommand, "--version"])) {
        Some(_) => Ok(()),
        None => Err(format!("{name} is missing: run `rustup component add {name}`")),
    }
}

fn cargo_deny(workspace: &Workspace, no_install: bool) -> Result<PathBuf, String> {
    let folder = workspace.target.join("tools");
    let own = folder.join("bin").join(format!("cargo-deny{}", env::consts::EXE_SUFFIX));
    let is_pinned =
        |path: &Path| output(Command::new(path).arg("--version")).is_some_and(|text| version_in(&text).as_deref() == Some(CARGO_DENY));
    if let Some(found) = [own.clone(), PathBuf::from("cargo-deny")].into_iter().find(|path| is_pinned(path)) {
        return Ok(found);
    }
    let package = format!("cargo-deny@{CARGO_DENY}");
    let command = format!("cargo install --locked --root {} {package}", folder.display());
    if no_install {
        return Err(format!("cargo-deny {CARGO_DENY} is missing: run `{command}`"));
    }
    println!("==> installing {package} into {}", folder.display());
    let build = folder.join("build");
    let mut install = cargo();
    install.args(["install", "--locked", "--root"]).arg(&folder).arg("--target-dir").arg(&build).arg(&package);
    let log = workspace.target.join("gate/install-cargo-deny.log");
    let installed = fresh_folder(&build).and_then(|()| Log::create(&log)).and_then(|log| log.run(&mut install));
    // What it was built from is of no more use; a folder that cannot be removed costs only room.
    if let Err(error) = std::fs::remove_dir_all(&build) {
        println!("    left behind: {}: {error}", build.display());
    }
    match installed {
        Ok(()) if is_pinned(&own) => Ok(own),
        Ok(()) => Err(format!("cargo-deny {CARGO_DENY} was installed but does not start: see {}", log.display())),
        Err(error) => {
            Err(format!("cargo-deny {CARGO_DENY} is missing and could not be installed ({error}; {}): run `{command}`", log.display()))
        }
    }
}

/// The coverage tools must be of the LLVM that rustc was built with: the format of the counters changes between major versions.
fn llvm(workspace: &Workspace, no_install: bool) -> Result<Llvm, String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let about = output(Command::new(&rustc).arg("-vV")).ok_or_else(|| "`rustc -vV` failed".to_owned())?;
    let major = about
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .and_then(major_of)
        .ok_or_else(|| "`rustc -vV` names no LLVM version".to_owned())?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"])).unwrap_or_default();
    let rustup_bin = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
    let find = || {
        candidates(&rustup_bin, major, |name| env::var_os(name).map(PathBuf::from))
            .into_iter()
            .find_map(|(cov, profdata)| try_llvm(cov, profdata, major))
    };

    if let Some(found) = find() {
        return Ok(found);
    }
    let package = format!("llvm-{major}");
    let command = format!("apt-get update && apt-get install -y --no-install-recommends {package}");
    let advice = format!(
        "llvm-cov and llvm-profdata {major} are missing: run `{command}` or `rustup component add llvm-tools`, or set LLVM_COV and LLVM_PROFDATA"
    );
    if !may_install(no_install) {
        return Err(advice);
    }
    let log = workspace.target.join("gate/install-llvm.log");
    match install(&package, &log) {
        Ok(()) => find().ok_or_else(|| format!("{package} was installed but its tools do not start: see {}", log.display())),
        Err(error) => Err(format!("{advice} (tried: {error}; {})", log.display())),
    }
}

/// A program that Debian has, found on the path or installed.
fn program(workspace: &Workspace, no_install: bool, name: &str, package: &str) -> Result<(), String> {
    let is_there = || output(Command::new(name).arg("--version")).is_some();
    if is_there() {
        return Ok(());
    }
    let advice = format!("{name} is missing: run `apt-get update && apt-get install -y --no-install-recommends {package}`");
    if !may_install(no_install) {
        return Err(advice);
    }
    let log = workspace.target.join("gate").join(format!("install-{name}.log"));
    match install(package, &log) {
        Ok(()) if is_there() => Ok(()),
        Ok(()) => Err(format!("{package} was installed but `{name}` does not start: see {}", log.display())),
        Err(error) => Err(format!("{advice} (tried: {error}; {})", log.display())),
    }
}

/// Whether Debian's packages can be installed here, and may be.
fn may_install(no_install: bool) -> bool {
    !no_install
        && output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0")
        && output(Command::new("apt-get").arg("--version")).is_some()
}

fn install(package: &str, log: &Path) -> anyhow::Result<()> {
    println!("==> installing {package} with apt-get");
    let log = Log::create(log)?;
    // A mirror that is down need not matter: the package lists may already be here.
    if let Err(error) = log.run(apt_get().arg("update")) {
        log.line(&format!("{error:#}"))?;
    }
    log.run(apt_get().args(["install", "-y", "--no-install-recommends", package]))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

/// Where `llvm-cov` and `llvm-profdata` may be, best first: named by the user, rustup's own, Debian's, whatever is on the path.
fn candidates(rustup_bin: &Path, major: u32, variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<(PathBuf, PathBuf)> {
    let mut pairs = Vec::new();
    if let (Some(cov), Some(profdata)) = (variable("LLVM_COV"), variable("LLVM_PROFDATA")) {
        pairs.push((cov, profdata));
    }
    pairs.push((rustup_bin.join("llvm-cov"), rustup_bin.join("llvm-profdata")));
    pairs.push((format!("llvm-cov-{major}").into(), format!("llvm-profdata-{major}").into()));
    let debian = PathBuf::from(format!("/usr/lib/llvm-{major}/bin"));
    pairs.push((debian.join("llvm-cov"), debian.join("llvm-profdata")));
    pairs.push(("llvm-cov".into(), "llvm-profdata".into()));
    pairs
}

fn try_llvm(cov: PathBuf, profdata: PathBuf, major: u32) -> Option<Llvm> {
    let version = [&cov, &profdata].map(|tool| output(Command::new(tool).arg("--version")).and_then(|text| llvm_version(&text)));
    match version {
        [Some(of_cov), Some(of_profdata)] if of_cov == of_profdata && major_of(&of_cov) == Some(major) => {
            Some(Llvm { profdata, cov, version: of_cov })
        }
        _ => None,
    }
}

fn llvm_version(text: &str) -> Option<String> {
    text.split("LLVM version ").nth(1)?.split_whitespace().next().map(str::to_owned)
}

fn major_of(version: &str) -> Option<u32> {
    version.trim().split('.').next()?.parse().ok()
}

/// The first word that is a version.
fn version_in(text: &str) -> Option<String> {
    text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.')).map(str::to_owned)
}

/// What a command writes to stdout, or `None` when it does not start or does not succeed.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn versions_are_read_as_the_tools_write_them() {
        assert_eq!(llvm_version("Debian LLVM version 22.1.8\n  Optimized build.\n").as_deref(), Some("22.1.8"));
        assert_eq!(
            llvm_version("LLVM (http://llvm.org/):\n  LLVM version 22.1.2-rust-1.95.0-stable\n").as_deref(),
            Some("22.1.2-rust-1.95.0-stable")
        );
        assert_eq!(llvm_version("gcov 12"), None);
        assert_eq!(major_of("22.1.2-rust"), Some(22));
        assert_eq!(version_in("cargo-deny 0.20.2\n").as_deref(), Some("0.20.2"));
    }

    #[test]
    fn tools_named_by_the_user_come_first() {
        let none = candidates(Path::new("s"), 22, |_| None);
        assert_eq!(none[0].0, Path::new("s/llvm-cov"));
        assert_eq!(none[1], ("llvm-cov-22".into(), "llvm-profdata-22".into()));
        let named = candidates(Path::new("s"), 22, |name| Some(PathBuf::from(format!("my-{name}"))));
        assert_eq!(named[0], ("my-LLVM_COV".into(), "my-LLVM_PROFDATA".into()));
        assert_eq!(candidates(Path::new("s"), 22, |name| (name == "LLVM_COV").then(|| "x".into())), none);
    }

    #[test]
    fn tools_of_another_llvm_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tool = |name: &str, version: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho LLVM version {version}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let (new, old, also_new) = (tool("new", "22.1.8"), tool("old", "14.0.6"), tool("also-new", "22.1.8"));
        assert_eq!(try_llvm(new.clone(), also_new, 22).unwrap().version, "22.1.8");
        assert_eq!(try_llvm(new.clone(), old.clone(), 22), None);
        assert_eq!(try_llvm(old.clone(), old, 22), None);
        assert_eq!(try_llvm(new, "no-such-tool-here".into(), 22), None);
    }

    #[test]
    fn without_installing_the_command_is_named() {
        let target = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: target.path().to_owned(), target: target.path().to_owned(), packages: Vec::new() };
        if let Err(why) = cargo_deny(&workspace, true) {
            assert!(why.contains("cargo install --locked --root") && why.ends_with("cargo-deny@0.20.2`"), "{why}");
        }
        assert_eq!(
            program(&workspace, true, "sh-with-a-typo", "dash").unwrap_err(),
            "sh-with-a-typo is missing: run `apt-get update && apt-get install -y --no-install-recommends dash`"
        );
        program(&workspace, true, "cargo", "cargo").unwrap();
    }
}
