//! What the programme is worth: builds of codex-checkpoint with one thing taken out, in each of which the part that guards it must fail.
//!
//! Each is made by the cfg `codex_teeth`, which a wrapper of rustc gives to the workspace's crates alone, in a target folder of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::programme::{Plan, Programme};
use super::report::Row;
use super::{Part, cases::Group};
use crate::workspace::Workspace;

/// A thing that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tooth {
    /// Files are not flushed.
    FileFsync,
    /// Folders are not flushed.
    FolderFsync,
    /// Name and manifest come before the files.
    Order,
    /// Digests are not compared.
    Hash,
}

impl Tooth {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FileFsync, Self::FolderFsync, Self::Order, Self::Hash];

    /// The value of the cfg.
    pub fn name(self) -> &'static str {
        match self {
            Self::FileFsync => "no_file_fsync",
            Self::FolderFsync => "no_folder_fsync",
            Self::Order => "no_order",
            Self::Hash => "no_hash",
        }
    }

    /// The parts that must fail, each with about how many cases of each group are tried. Where a disk of one's own cannot be had, the order of the
    /// flushes on the trace alone must show what is missing.
    fn guards(self) -> &'static [(&'static str, usize)] {
        match self {
            Self::FileFsync | Self::FolderFsync => &[("order", 7), ("power", 4)],
            Self::Order => &[("order", 7), ("kill", 60)],
            Self::Hash => &[("damage", 60)],
        }
    }

    /// A program that runs rustc with the cfg. Cargo keeps what different wrappers build apart by their paths.
    pub fn wrapper(self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("rustc-{}", self.name()));
        let script = format!("#!/bin/sh\nexec \"$@\" --cfg 'codex_teeth=\"{}\"'\n", self.name());
        let failed = || format!("cannot write `{}`", path.display());
        fs::write(&path, script).with_context(failed)?;
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).with_context(failed)?;
        Ok(path)
    }
}

/// Pulls each tooth in turn.
pub fn rows(workspace: &Workspace, whole: &Programme, seed: u64) -> Result<Vec<Row>> {
    let needed = Part::Teeth.needed()[0];
    let mut group = Group::default();
    for tooth in Tooth::ALL {
        println!("    teeth: building without {}", tooth.name().trim_start_matches("no_"));
        let pulled = Programme::build(workspace, whole.folder(), Some(tooth))?;
        match bites(tooth, whole, &pulled, seed)? {
            Ok(how) => {
                println!("    teeth: {}: {how}", tooth.name());
                group.passed += 1;
            }
            Err(why) => group.failures.push((tooth.name().to_owned(), why)),
        }
        group.planned += 1;
    }
    Ok(vec![Row::of(Part::Teeth, needed, group)])
}

/// Whether the same cases pass as the product is and fail with a tooth pulled: how, or what is wrong.
fn bites(tooth: Tooth, whole: &Programme, pulled: &Programme, seed: u64) -> Result<Result<String, String>> {
    let mut told = Vec::new();
    for &(part, limit) in tooth.guards() {
        let plan = Plan { part, seed, limit: Some(limit) };
        let control = whole.run(&format!("control-{part}"), &plan, false)?;
        if control.failed() > 0 {
            return Ok(Err(format!("`{part}` fails without anything taken out, so that its failure proves nothing")));
        }
        let found = pulled.run(&format!("{}-{part}", tooth.name()), &plan, false)?;
        match (found.failed(), found.not_run()) {
            (0, Some(why)) => told.push(format!("`{part}` NOT RUN: {why}")),
            (0, None) => return Ok(Err(format!("`{part}` passes all of its {} cases", found.done()))),
            (failed, _) => told.push(format!("{failed} of {} cases of `{part}` fail", found.done())),
        }
    }
    Ok(Ok(told.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tooth_is_declared_and_used() {
        let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("..");
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let sources = ["codex-core/src/files.rs", "codex-checkpoint/src/manifest.rs", "codex-checkpoint/src/folder_store.rs"];
        let text: String = sources.map(|file| fs::read_to_string(root.join("crates").join(file)).unwrap()).concat();
        for tooth in Tooth::ALL {
            assert!(manifest.contains(&format!("\"{}\"", tooth.name())), "{tooth:?} is not declared in Cargo.toml");
            assert!(text.contains(&format!("codex_teeth = \"{}\"", tooth.name())), "{tooth:?} takes nothing out");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_wrapper_gives_the_cfg_to_what_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let wrapper = Tooth::Hash.wrapper(folder.path()).unwrap();
        let said = std::process::Command::new(wrapper).args(["echo", "--crate-name", "x"]).output().unwrap().stdout;
        assert_eq!(String::from_utf8(said).unwrap(), "--crate-name x --cfg codex_teeth=\"no_hash\"\n");
    }
}
