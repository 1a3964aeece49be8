//! Rules for manifests, and for every committed text.

use std::path::Path;

use super::{Context, File};

/// Folders that exist on one machine only. Written without slashes, so that this file keeps its own rule.
const MACHINE_FOLDERS: [&str; 3] = ["root", "home", "work"];

/// Every member takes the lints of the workspace.
pub fn lint_table(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    if file.name() != "Cargo.toml" {
        return Vec::new();
    }
    let manifest = match file.text.parse::<toml::Table>() {
        Ok(manifest) => manifest,
        Err(error) => return vec![(1, format!("cannot be read: {}", error.message()))],
    };
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) == Some(true);
    let missing = manifest.contains_key("package") && !inherits;
    missing
        .then(|| (1, "the crate leaves the lints of the workspace: add `[lints]` with `workspace = true`".to_owned()))
        .into_iter()
        .collect()
}

/// No committed text names a folder of the machine it was written on.
pub fn absolute_path(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    let is_prose = Path::new(&file.path).extension().is_some_and(|extension| extension == "txt");
    if is_prose || file.name() == "Cargo.lock" {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (idx, line) in file.text.lines().enumerate() {
        for folder in MACHINE_FOLDERS {
            let path = format!("/{folder}/");
            let is_absolute = |at: usize| !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "_-.*})>/~$".contains(c));
            if line.match_indices(&path).any(|(at, _)| is_absolute(at)) {
                found.push((idx + 1, format!("`{path}` exists on one machine only: use a relative path or a variable")));
            }
        }
    }
    found
}
