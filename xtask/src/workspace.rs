//! Where the workspace is, which files it has, and what cargo says about its packages; no judgement on any of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The workspace that this xtask belongs to, wherever it was called from.
#[derive(Debug)]
pub struct Workspace {
    /// The folder of the root manifest.
    pub root: PathBuf,
    /// Where cargo puts what it builds.
    pub target: PathBuf,
    /// The members, in the order of their names.
    pub packages: Vec<Package>,
}

/// A member of the workspace, as `cargo metadata` describes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its manifest, absolute.
    pub manifest_path: PathBuf,
    /// What it depends on, of every kind.
    pub dependencies: Vec<Dependency>,
    /// Its features, and what each one turns on.
    pub features: BTreeMap<String, Vec<String>>,
}

/// One declared dependency.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    /// The name of the package, not the name it is renamed to.
    pub name: String,
    /// `None` is a normal dependency; otherwise `dev` or `build`.
    pub kind: Option<String>,
    /// The features it is asked for.
    pub features: Vec<String>,
    /// Whether its default features are on.
    #[serde(default)]
    pub uses_default_features: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Finds the workspace and asks cargo about it.
    pub fn locate() -> Result<Self> {
        let member =
            env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).context("run it by `cargo xtask`, which says where the workspace is")?;
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(member.join("Cargo.toml"))
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed");
        }
        Self::from_metadata(&output.stdout)
    }

    /// Reads the output of `cargo metadata --no-deps`.
    pub fn from_metadata(json: &[u8]) -> Result<Self> {
        let mut metadata: Metadata = serde_json::from_slice(json).context("cannot read the output of `cargo metadata`")?;
        metadata.packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory, packages: metadata.packages })
    }
}

/// A cargo command that reads nothing from stdin, writes no colours, and is not told about the package that runs it.
pub fn cargo() -> Command {
    without_package(Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// The same of any command that starts cargo.
pub fn without_package(mut command: Command) -> Command {
    command.stdin(Stdio::null()).env("CARGO_TERM_COLOR", "never");
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") || name_text.starts_with("CARGO_BIN_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The files that are committed or about to be: relative paths with `/`, sorted. Without git, all files outside the folders of build outputs.
pub fn files(root: &Path) -> Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let mut paths: Vec<String> = match listed {
        Ok(output) if output.status.success() => output
            .stdout
            .split(|&byte| byte == 0)
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .filter(|path| !path.is_empty())
            .collect(),
        _ => walk(root)?,
    };
    paths.retain(|path| root.join(path).is_file());
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn walk(root: &Path) -> Result<Vec<String>> {
    const SKIPPED: [&str; 6] = [".git", "artifacts", "runs", "target", "tools", "vendor"];
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if folder != root || !SKIPPED.contains(&name.as_str()) {
                    pending.push(path);
                }
            } else if let Ok(relative) = path.strip_prefix(root) {
                found.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_build_outputs_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a.rs", "sub/b.rs", "target/c.rs", "vendor/d/e.rs", "sub/target/f.rs"] {
            fs::create_dir_all(folder.path().join(path).parent().unwrap()).unwrap();
            fs::write(folder.path().join(path), "x").unwrap();
        }
        let mut found = walk(folder.path()).unwrap();
        found.sort();
        assert_eq!(found, ["a.rs", "sub/b.rs", "sub/target/f.rs"]);
    }

    #[test]
    fn metadata_gives_members_in_order() {
        let json = br#"{"workspace_root":"/w","target_directory":"/t","packages":[
            {"name":"b","manifest_path":"/w/b/Cargo.toml","dependencies":[{"name":"a","kind":"dev","features":["x"]}],"features":{}},
            {"name":"a","manifest_path":"/w/a/Cargo.toml","dependencies":[],"features":{"f":["a/x"]}}]}"#;
        let workspace = Workspace::from_metadata(json).unwrap();
        assert_eq!(workspace.packages.iter().map(|package| package.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(workspace.packages[1].dependencies[0].kind.as_deref(), Some("dev"));
        assert!(Workspace::from_metadata(b"{}").is_err());
    }
}
