//! The sources of all dependencies beside the workspace, and the proof that they suffice: a build with an empty cargo home and no network.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::log::Log;
use crate::steps::fresh_folder;
use crate::workspace::{Workspace, cargo};

/// Where the tree goes, relative to the root; git ignores it.
const FOLDER: &str = "vendor";
/// The configuration that turns the registry into the tree, relative to the root.
const CONFIG: &str = "vendor/config.toml";

/// Vendors, and with `prove` compiles from what was vendored: type-checks, or with `build` builds.
pub fn run(workspace: &Workspace, prove: bool, build: bool, package: Option<&str>) -> Result<()> {
    let mut vendor = cargo();
    vendor.args(["vendor", "--locked", "--versioned-dirs", FOLDER]).current_dir(&workspace.root);
    println!("==> vendor    the sources of all dependencies into {FOLDER}/");
    let log_path = workspace.target.join("gate/vendor.log");
    let log = Log::create(&log_path)?;
    let config = log
        .capture(&mut vendor, &workspace.target.join("gate/vendor-config.toml"))
        .with_context(|| format!("see {}", log_path.display()))?;
    let config = relative_config(&config)?;
    let config_path = workspace.root.join(CONFIG);
    fs::write(&config_path, config).with_context(|| format!("cannot write `{}`", config_path.display()))?;
    println!("    build with: cargo build --workspace --locked --offline --config {CONFIG}");
    if prove {
        self::prove(workspace, build, package, &log).with_context(|| format!("see {}", log_path.display()))?;
    }
    Ok(())
}

/// The configuration that cargo proposes, made independent of the folder it was written in.
fn relative_config(proposed: &str) -> Result<String> {
    let mut config: toml::Table = proposed.parse().context("cannot read the configuration that `cargo vendor` proposes")?;
    let sources = config.get_mut("source").and_then(toml::Value::as_table_mut).context("`cargo vendor` proposes no source")?;
    for (_, source) in sources.iter_mut() {
        if let Some(directory) = source.get_mut("directory") {
            *directory = FOLDER.into();
        }
    }
    toml::to_string(&config).context("cannot write the configuration")
}

fn prove(workspace: &Workspace, build: bool, package: Option<&str>, log: &Log) -> Result<()> {
    let scratch = workspace.target.join("vendor-check");
    let home = scratch.join("empty-cargo-home");
    fresh_folder(&scratch)?;
    fresh_folder(&home)?;
    let verb = if build { "build" } else { "check" };
    let mut proof = cargo();
    proof.args([verb, "--locked", "--offline", "--config", CONFIG]).arg("--target-dir").arg(scratch.join("target"));
    match package {
        Some(name) => proof.args(["--package", name]),
        None => proof.arg("--workspace"),
    };
    proof.env("CARGO_HOME", &home).env_remove("CARGO_TARGET_DIR").current_dir(&workspace.root);
    println!("==> {verb}     from {FOLDER}/ with an empty cargo home");
    log.run(&mut proof)?;
    refuse_downloads(&home)?;
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove `{}`", scratch.display()))?;
    println!("    it suffices");
    Ok(())
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
    fn the_configuration_names_no_folder_of_this_machine() {
        let proposed =
            "[source.crates-io]\nreplace-with = \"vendored-sources\"\n\n[source.vendored-sources]\ndirectory = \"/somewhere/vendor\"\n";
        let config: toml::Table = relative_config(proposed).unwrap().parse().unwrap();
        assert_eq!(config["source"]["vendored-sources"]["directory"].as_str(), Some("vendor"));
        assert_eq!(config["source"]["crates-io"]["replace-with"].as_str(), Some("vendored-sources"));
        assert!(relative_config("").is_err());
        assert!(relative_config("[source").is_err());
    }

    #[test]
    fn a_home_that_gained_crates_is_refused() {
        let home = tempfile::tempdir().unwrap();
        refuse_downloads(home.path()).unwrap();
        fs::create_dir_all(home.path().join("registry/cache")).unwrap();
        assert!(refuse_downloads(home.path()).unwrap_err().to_string().contains("fetched crates"));
    }
}
