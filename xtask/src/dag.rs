//! Who may depend on whom: the crate graph of docs/ARCHITECTURE.md, checked against the manifests. It reads what is declared, not what is used.

use anyhow::{Context as _, Result};

use crate::workspace::{Dependency, Package, Workspace, cargo};

/// The codex crates that each member may use outside its tests. A member that is not listed is refused.
pub const EDGES: &[(&str, &[&str])] = &[
    ("codex-core", &[]),
    ("codex-config", &["codex-core"]),
    ("codex-tokenize", &["codex-core"]),
    ("codex-safety", &["codex-core"]),
    ("codex-track", &["codex-core"]),
    ("codex-sweep", &["codex-core"]),
    ("codex-data", &["codex-core", "codex-tokenize", "codex-safety"]),
    ("codex-kernels", &[]),
    ("codex-ops", &["codex-core", "codex-kernels"]),
    ("codex-model", &["codex-core", "codex-kernels", "codex-ops"]),
    ("codex-checkpoint", &["codex-core"]),
    ("codex-hub", &["codex-core", "codex-model"]),
    ("codex-eval", &["codex-core", "codex-data", "codex-model", "codex-tokenize"]),
    (
        "codex-train",
        &[
            "codex-core",
            "codex-data",
            "codex-model",
            "codex-ops",
            "codex-checkpoint",
            "codex-eval",
            "codex-track",
            // The tokenizer and the scanner of the plan: samples are decoded and scanned before anyone sees them.
            "codex-tokenize",
            "codex-safety",
        ],
    ),
    ("codex-serve", &["codex-core", "codex-model", "codex-tokenize", "codex-safety", "codex-track"]),
    (
        "codex-cli",
        &[
            "codex-core",
            "codex-config",
            "codex-tokenize",
            "codex-safety",
            "codex-track",
            "codex-data",
            "codex-kernels",
            "codex-ops",
            "codex-model",
            "codex-checkpoint",
            "codex-hub",
            "codex-eval",
            "codex-train",
            "codex-sweep",
            "codex-serve",
        ],
    ),
    ("xtask", &[]),
];

/// The members that may name burn.
const BURN: &[&str] =
    &["codex-ops", "codex-model", "codex-checkpoint", "codex-hub", "codex-eval", "codex-train", "codex-serve", "codex-cli"];

/// The features of burn that choose a backend.
const BACKENDS: &[&str] = &["cpu", "cuda", "flex", "metal", "ndarray", "remote", "rocm", "tch", "vulkan", "webgpu", "wgpu"];

/// Backends that a crate needs whichever one the program chooses: the kernels work on Flex's memory.
const NEEDED: &[(&str, &str)] = &[("codex-ops", "flex")];

/// Sources of randomness that are no seeded stream.
const RANDOMNESS: &[&str] = &["fastrand", "getrandom", "rand", "rand_chacha", "rand_core", "rand_distr", "rand_pcg"];

/// Crates that open connections, or exist to serve those that do.
const HTTP: &[&str] = &[
    "attohttpc",
    "curl",
    "curl-sys",
    "h2",
    "hf-hub",
    "hyper",
    "hyper-util",
    "isahc",
    "minreq",
    "native-tls",
    "openssl",
    "openssl-sys",
    "reqwest",
    "rustls",
    "surf",
    "tungstenite",
    "ureq",
];

/// What breaks the graph, one sentence each.
pub fn check(packages: &[Package]) -> Vec<String> {
    packages.iter().flat_map(check_package).collect()
}

fn check_package(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, allowed)) = EDGES.iter().find(|(member, _)| *member == name) else {
        return vec![format!("`{name}` is not in the crate graph: add it to docs/ARCHITECTURE.md and to EDGES in xtask/src/dag.rs")];
    };
    let mut found = Vec::new();
    for dependency in &package.dependencies {
        let on = dependency.name.as_str();
        let is_dev = dependency.kind.as_deref() == Some("dev");
        if EDGES.iter().any(|(member, _)| *member == on) && !allowed.contains(&on) && (!is_dev || name == "xtask") {
            found.push(format!("`{name}` may not depend on `{on}`: it may on {}", list(allowed)));
        }
        if is_burn(on) && !BURN.contains(&name) {
            found.push(format!("`{name}` may not name `{on}`: only {} may", list(BURN)));
        }
        if is_burn(on) && !is_dev && name != "codex-cli" {
            let refused = backends_of(dependency).filter(|backend| !NEEDED.contains(&(name, backend)));
            found.extend(refused.map(|backend| format!("`{name}` turns on the backend `{backend}` of `{on}`: only codex-cli may")));
        }
        if is_backend_crate(on) && !is_dev && name != "codex-cli" {
            found.push(format!("`{name}` depends on the backend `{on}`: only codex-cli may"));
        }
        if on == "burn" && dependency.uses_default_features && name != "codex-cli" {
            found.push(format!("`{name}` takes the default features of `{on}`, which are codex-cli's to choose"));
        }
        if RANDOMNESS.contains(&on) {
            found.push(format!("`{name}` depends on `{on}`: every random draw comes from `codex_core::stream`"));
        }
    }
    if name != "codex-cli" {
        for (feature, enabled) in &package.features {
            let backend = enabled
                .iter()
                .filter_map(|item| item.split_once('/'))
                .find(|(on, backend)| is_burn(on.trim_end_matches('?')) && BACKENDS.contains(backend));
            if let Some((on, backend)) = backend {
                found.push(format!("feature `{feature}` of `{name}` turns on the backend `{backend}` of `{on}`: only codex-cli may"));
            }
        }
    }
    found
}

fn is_burn(name: &str) -> bool {
    name == "burn" || name.starts_with("burn-") || name.starts_with("cubecl")
}

/// `burn-wgpu` and its like.
fn is_backend_crate(name: &str) -> bool {
    name.strip_prefix("burn-").is_some_and(|backend| BACKENDS.contains(&backend))
}

fn backends_of(dependency: &Dependency) -> impl Iterator<Item = &str> {
    dependency.features.iter().map(String::as_str).filter(|feature| BACKENDS.contains(feature))
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "no codex crate".to_owned() } else { names.join(", ") }
}

/// What a build that goes to users contains although it must not; `tree` has one `name vVERSION` to a line.
pub fn check_tree(tree: &str) -> Vec<String> {
    let mut names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| HTTP.contains(name));
    names.into_iter().map(|name| format!("the default build contains `{name}`: codex opens no outbound connection")).collect()
}

/// Checks the manifests of the workspace, and the tree of its default build on every platform.
pub fn check_workspace(workspace: &Workspace) -> Result<Vec<String>> {
    let mut found = check(&workspace.packages);
    let output = cargo()
        .args([
            "tree",
            "--locked",
            "--package",
            "codex-cli",
            "--edges",
            "normal,build",
            "--target",
            "all",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(&workspace.root)
        .output()
        .context("cannot run `cargo tree`")?;
    if !output.status.success() {
        found.push(format!("`cargo tree` failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    found.extend(check_tree(&String::from_utf8_lossy(&output.stdout)));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace of one member with one dependency, through the JSON that cargo writes.
    fn member(name: &str, on: &str, kind: &str, features: &str, own_features: &str) -> Vec<Package> {
        let json = format!(
            r#"{{"workspace_root":"/w","target_directory":"/t","packages":[{{"name":"{name}","manifest_path":"/w/Cargo.toml",
            "dependencies":[{{"name":"{on}","kind":{kind},"features":[{features}]}}],"features":{{{own_features}}}}}]}}"#
        );
        Workspace::from_metadata(json.as_bytes()).unwrap().packages
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let cases = [
            ("codex-core", "codex-track", "null", "", "", "may not depend on `codex-track`: it may on no codex crate"),
            ("codex-config", "codex-safety", "null", "", "", "may not depend on `codex-safety`: it may on codex-core"),
            ("codex-tokenize", "codex-safety", "\"build\"", "", "", "may not depend on `codex-safety`"),
            ("codex-data", "codex-track", "null", "", "", "may not depend on `codex-track`"),
            ("codex-model", "codex-data", "null", "", "", "may not depend on `codex-data`"),
            ("codex-eval", "codex-train", "null", "", "", "may not depend on `codex-train`"),
            ("codex-train", "codex-cli", "null", "", "", "may not depend on `codex-cli`"),
            ("codex-serve", "codex-train", "null", "", "", "may not depend on `codex-train`"),
            ("xtask", "codex-core", "\"dev\"", "", "", "may not depend on `codex-core`"),
            ("codex-extra", "serde", "null", "", "", "is not in the crate graph"),
            ("codex-data", "burn", "null", "", "", "may not name `burn`"),
            ("codex-track", "burn-tensor", "\"dev\"", "", "", "may not name `burn-tensor`"),
            ("xtask", "cubecl", "\"dev\"", "", "", "may not name `cubecl`"),
            ("codex-model", "burn", "null", "\"std\",\"flex\"", "", "turns on the backend `flex`"),
            ("codex-ops", "burn", "null", "\"flex\",\"ndarray\"", "", "turns on the backend `ndarray`"),
            ("codex-train", "burn", "\"build\"", "\"wgpu\"", "", "turns on the backend `wgpu`"),
            ("codex-eval", "serde", "null", "", "\"gpu\":[\"burn?/cuda\"]", "feature `gpu` of `codex-eval` turns on the backend `cuda`"),
            ("codex-model", "burn-wgpu", "null", "", "", "depends on the backend `burn-wgpu`"),
            ("codex-core", "rand", "null", "", "", "depends on `rand`"),
            ("codex-data", "rand_core", "\"dev\"", "", "", "depends on `rand_core`"),
        ];
        for (name, on, kind, features, own_features, expected) in cases {
            let found = check(&member(name, on, kind, features, own_features));
            assert_eq!(found.len(), 1, "{name} -> {on}: {found:?}");
            assert!(found[0].contains(expected), "{}", found[0]);
        }
    }

    #[test]
    fn default_features_of_burn_are_refused() {
        let mut packages = member("codex-model", "burn", "null", "", "");
        packages[0].dependencies[0].uses_default_features = true;
        assert!(check(&packages)[0].contains("default features of `burn`"));
    }

    #[test]
    fn the_picture_in_the_docs_is_the_table() {
        // What a crate may use through another is left out of the picture; what is drawn must be allowed, and each crate must be drawn.
        let text = include_str!("../../docs/ARCHITECTURE.md");
        let picture = text.split("```mermaid").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let mut full = std::collections::BTreeMap::new();
        for word in picture.split(|c: char| c.is_whitespace() || c == '&').filter(|word| word.contains('[')) {
            let (short, name) = word.trim_end_matches(']').split_once('[').unwrap();
            full.insert(short, name);
        }
        for line in picture.lines().filter(|line| line.contains("-->")) {
            let (from, to) = line.split_once("-->").unwrap();
            let short = |word: &str| word.trim().split('[').next().unwrap().to_owned();
            for from in from.split('&').map(short) {
                for to in to.split('&').map(short) {
                    let (from, to) = (full[from.as_str()], full[to.as_str()]);
                    let allowed = EDGES.iter().find(|(member, _)| *member == from).unwrap().1;
                    assert!(allowed.contains(&to), "{from} --> {to} is drawn in docs/ARCHITECTURE.md and not allowed");
                }
            }
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        let cases = [
            ("codex-config", "codex-core", "null", "", ""),
            ("codex-train", "codex-tokenize", "\"dev\"", "", ""),
            ("codex-model", "burn", "\"dev\"", "\"flex\"", ""),
            ("codex-model", "burn", "null", "\"std\",\"autodiff\"", ""),
            ("codex-cli", "burn", "null", "\"flex\"", "\"wgpu\":[\"burn/wgpu\"]"),
            ("codex-serve", "codex-track", "null", "", ""),
            ("xtask", "serde", "null", "", ""),
        ];
        for (name, on, kind, features, own_features) in cases {
            assert_eq!(check(&member(name, on, kind, features, own_features)), [""; 0], "{name} -> {on}");
        }
    }

    #[test]
    fn the_table_has_no_cycle() {
        // Peeling off members whose dependencies are gone leaves nothing exactly when there is no cycle.
        let mut left: Vec<&(&str, &[&str])> = EDGES.iter().collect();
        while let Some(idx) = left.iter().position(|(_, on)| on.iter().all(|name| left.iter().all(|(member, _)| member != name))) {
            left.remove(idx);
        }
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn an_http_client_in_the_tree_is_found_once() {
        let tree = "codex-cli v0.1.0 (/w)\nserde v1.0.0\nureq v3.5.2\nureq v3.5.2 (*)\nhyper v1.0.0\n";
        let found = check_tree(tree);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("`hyper`") && found[1].contains("`ureq`"));
        assert_eq!(check_tree("codex-cli v0.1.0\nhyperfine v1.0.0\n"), [""; 0]);
    }
}
