//! The sources of all dependencies beside the workspace, and the proof that they suffice: a build with an empty cargo home and no network.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::log::Log;
use crate::steps::fresh_folder;
use crate::workspace::{Workspace, cargo};

/// Where the tree of `cargo xtask vendor` goes, relative to the root; git ignores it.
const FOLDER: &str = "vendor";
/// The configuration that turns the registry into the tree, beside the crates.
const CONFIG: &str = "config.toml";

/// What is done with the vendored tree to show that it suffices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Type-check.
    Check,
    /// Build.
    Build,
}

/// Vendors into the workspace, and compiles from what was vendored when a proof is asked for.
pub fn run(workspace: &Workspace, proof: Option<Proof>, package: Option<&str>) -> Result<()> {
    let log_path = workspace.target.join("gate/vendor.log");
    let log = Log::create(&log_path)?;
    into_workspace(workspace, proof, package, &log).with_context(|| format!("see {}", log_path.display()))
}

fn into_workspace(workspace: &Workspace, proof: Option<Proof>, package: Option<&str>, log: &Log) -> Result<()> {
    println!("==> vendor    the sources of all dependencies into {FOLDER}/");
    let config = vendor(workspace, Path::new(FOLDER), log)?;
    println!("    build with: cargo build --workspace --locked --offline --config {}", config.display());
    if let Some(proof) = proof {
        println!("==> compiling from {FOLDER}/ with an empty cargo home");
        prove(workspace, &config, proof, package, log)?;
        println!("    it suffices");
    }
    Ok(())
}

/// The step of the gate: vendors below the target folder and builds the workspace from it. What it built is kept, so that the next time is quick.
pub fn step(workspace: &Workspace, log: &Log) -> Result<String> {
    let config = vendor(workspace, &scratch(workspace).join("tree"), log)?;
    prove(workspace, &config, Proof::Build, None, log)?;
    Ok(String::new())
}

fn scratch(workspace: &Workspace) -> PathBuf {
    workspace.target.join("vendor-check")
}

/// Puts the sources into `folder`, and beside them the configuration that uses them; the path of that.
fn vendor(workspace: &Workspace, folder: &Path, log: &Log) -> Result<PathBuf> {
    let mut vendor = cargo();
    vendor.args(["vendor", "--locked", "--versioned-dirs"]).arg(folder).current_dir(&workspace.root);
    let proposed = log.capture(&mut vendor, &workspace.target.join("gate/vendor-config.toml"))?;
    let path = folder.join(CONFIG);
    let place = workspace.root.join(&path);
    fs::create_dir_all(workspace.root.join(folder)).with_context(|| format!("cannot create `{}`", folder.display()))?;
    fs::write(&place, config_for(&proposed, folder)?).with_context(|| format!("cannot write `{}`", place.display()))?;
    Ok(path)
}

/// The configuration that cargo proposes, with the folder as it was given. It proposes none for a workspace without dependencies.
fn config_for(proposed: &str, folder: &Path) -> Result<String> {
    let mut config: toml::Table = proposed.parse().context("cannot read the configuration that `cargo vendor` proposes")?;
    for (_, source) in config.get_mut("source").and_then(toml::Value::as_table_mut).into_iter().flatten() {
        if let Some(directory) = source.get_mut("directory") {
            *directory = folder.display().to_string().into();
        }
    }
    toml::to_string(&config).context("cannot write the configuration")
}

fn prove(workspace: &Workspace, config: &Path, proof: Proof, package: Option<&str>, log: &Log) -> Result<()> {
    let scratch = scratch(workspace);
    let home = scratch.join("empty-cargo-home");
    fresh_folder(&home)?;
    let verb = match proof {
        Proof::Check => "check",
        Proof::Build => "build",
    };
    let mut command = cargo();
    command.args([verb, "--locked", "--offline", "--config"]).arg(config).arg("--target-dir").arg(scratch.join("target"));
    // The question is whether everything is there, so the quickest build answers it.
    command.args(["--config", "profile.dev.opt-level=0", "--config", "profile.dev.debug=false"]);
    command.args(["--config", "profile.dev.package.\"*\".opt-level=0"]);
    match package {
        Some(name) => command.args(["--package", name]),
        None => command.arg("--workspace"),
    };
    command.env("CARGO_HOME", &home).env_remove("CARGO_TARGET_DIR").current_dir(&workspace.root);
    log.run(&mut command)?;
    refuse_downloads(&home)
}

/// An empty cargo home that has gained a registry was not enough.
fn refuse_downloads(home: &Path) -> Result<()> {
    let fetched = home.join("registry/cache");
    if fetched.exists() {
        bail!("the build fetched crates into `{}`", fetched.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_folder_as_it_was_given() {
        let proposed =
            "[source.crates-io]\nreplace-with = \"vendored-sources\"\n\n[source.vendored-sources]\ndirectory = \"/somewhere/vendor\"\n";
        let config: toml::Table = config_for(proposed, Path::new(FOLDER)).unwrap().parse().unwrap();
        assert_eq!(config["source"]["vendored-sources"]["directory"].as_str(), Some("vendor"));
        assert_eq!(config["source"]["crates-io"]["replace-with"].as_str(), Some("vendored-sources"));
        assert_eq!(config_for("", Path::new(FOLDER)).unwrap(), "");
        assert!(config_for("[source", Path::new(FOLDER)).is_err());
    }

    #[test]
    fn a_home_that_gained_crates_is_refused() {
        let home = tempfile::tempdir().unwrap();
        refuse_downloads(home.path()).unwrap();
        fs::create_dir_all(home.path().join("registry/cache")).unwrap();
        assert!(refuse_downloads(home.path()).unwrap_err().to_string().contains("fetched crates"));
    }
}
