//! The whole gate on a small workspace: it passes there, and each step fails when what it guards is broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CLEAN: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n\n[workspace.lints.clippy]\nunwrap_used = \"warn\"\n\n[profile.dev]\ndebug = false\n",
    ),
    (
        "Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"codex-cli\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"codex-core\"\nversion = \"0.1.0\"\n",
    ),
    ("README.md", "Run `cargo xtask gate`.\n"),
    ("deny.toml", "[licenses]\nallow = [\"MIT\"]\n"),
    ("xtask/coverage-floor.toml", "lines = 80.0\n"),
    (
        "crates/codex-core/Cargo.toml",
        "[package]\nname = \"codex-core\"\nversion = \"0.1.0\"\nedition = \"2024\"\nlicense = \"MIT\"\n\n[lints]\nworkspace = true\n",
    ),
    (
        "crates/codex-core/src/lib.rs",
        "//! Sums.\n\n/// The sum.\npub fn sum(a: u32, b: u32) -> u32 {\n    a + b\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn two_and_two() {\n        \
         assert_eq!(super::sum(2, 2), 4);\n    }\n}\n",
    ),
    (
        "crates/codex-cli/Cargo.toml",
        "[package]\nname = \"codex-cli\"\nversion = \"0.1.0\"\nedition = \"2024\"\nlicense = \"MIT\"\n\n[features]\nwgpu = []\nparquet = []\nmlflow-rest = []\n\n[lints]\nworkspace = true\n",
    ),
    ("crates/codex-cli/src/main.rs", "//! Ends well.\n\nfn main() {}\n"),
    (
        "crates/codex-cli/tests/it/main.rs",
        "//! Starts the program.\n\n#[test]\nfn it_ends_well() {\n    assert!(std::env::var_os(\"PROPTEST_RNG_SEED\").is_some());\n    let status = std::process::Command::new(env!(\"CARGO_BIN_EXE_codex-cli\")).status();\n    \
         assert!(status.is_ok_and(|status| status.success()));\n}\n",
    ),
];

/// What breaks each step: a file, what is added to its end, and what the gate then says.
const BREAKS: &[(&str, &str, &str, &str)] = &[
    ("fmt", "crates/codex-cli/src/main.rs", "\nfn  crooked() {}\n", "+fn crooked() {}"),
    ("tidy", "README.md", "[gone](gone.md)\n", "README.md:2: [doc-link] `gone.md` does not exist"),
    (
        "dag",
        "crates/codex-core/Cargo.toml",
        "\n[dependencies]\ncodex-cli = { path = \"../codex-cli\" }\n",
        "`codex-core` may not depend on `codex-cli`",
    ),
    ("deny", "deny.toml", "\n[bans]\ndeny = [{ crate = \"codex-core\" }]\n", "bans FAILED"),
    (
        "clippy",
        "crates/codex-core/src/lib.rs",
        "\n/// Gives in.\npub fn give_in(x: Option<u32>) -> u32 {\n    x.unwrap()\n}\n",
        "used `unwrap()`",
    ),
    ("features", "crates/codex-cli/src/main.rs", "\n#[cfg(feature = \"wgpu\")]\ncompile_error!(\"no device\");\n", "error: no device"),
    (
        "features",
        "crates/codex-cli/src/main.rs",
        "\n#[cfg(feature = \"mlflow-rest\")]\ncompile_error!(\"no server\");\n",
        "error: no server",
    ),
    ("doc", "crates/codex-core/src/lib.rs", "\n/// See [`Gone`].\npub struct Here;\n", "unresolved link to `Gone`"),
    ("vendor", "crates/codex-core/Cargo.toml", "\n[dependencies]\nno-such-crate-here = \"1\"\n", "no-such-crate-here"),
    (
        "test",
        "crates/codex-core/src/lib.rs",
        "\n#[cfg(test)]\nmod wrong {\n    #[test]\n    fn one_and_one() {\n        assert_eq!(super::sum(1, 1), 3);\n    }\n}\n",
        "wrong::one_and_one",
    ),
    (
        "test,coverage",
        "crates/codex-core/src/lib.rs",
        "\n/// Never run.\npub fn never(a: u32) -> u32 {\n    let b = a + 1;\n    let c = b + 1;\n    c + 1\n}\n",
        "under the floor of 80.00 %",
    ),
];

struct Workspace {
    folder: tempfile::TempDir,
}

impl Workspace {
    fn clean() -> Self {
        let workspace = Self { folder: tempfile::tempdir().unwrap() };
        for (path, text) in CLEAN {
            workspace.write(path, text);
        }
        workspace
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn gate(&self, steps: &str) -> Output {
        let path =
            std::env::join_paths(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).chain(tools_of_the_outer_gate()));
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["gate", "--no-install", "--only", steps])
            .env("CARGO_MANIFEST_DIR", self.path().join("crates/codex-core"))
            .env("CARGO_TARGET_DIR", self.path().join("target"))
            .env("PATH", path.unwrap())
            .env("CARGO_NET_OFFLINE", "true")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            // Handed down by the outer gate; whether this one sets it is asked.
            .env_remove("PROPTEST_RNG_SEED")
            .current_dir(self.path())
            .output()
            .unwrap()
    }
}

fn tools_of_the_outer_gate() -> Option<PathBuf> {
    Some(Path::new(env!("CARGO_BIN_EXE_xtask")).parent()?.parent()?.join("tools/bin"))
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

/// Steps whose tools this machine lacks, because no outer gate has installed them.
fn without_tools(workspace: &Workspace) -> Vec<&'static str> {
    let cannot_run = |step: &&str| String::from_utf8_lossy(&workspace.gate(step).stdout).contains(&format!("{step:<9} cannot run"));
    ["deny", "coverage"].into_iter().filter(cannot_run).collect()
}

#[test]
fn a_clean_workspace_passes_and_each_break_is_seen() {
    let workspace = Workspace::clean();
    let lacking = without_tools(&workspace);
    let all = workspace.gate("fmt,tidy,dag,deny,clippy,features,doc,vendor,test,coverage");
    let expected = match lacking.len() {
        0 => "gate: 10 passed, 0 failed".to_owned(),
        n => format!("gate: {} passed, 0 failed, {n} not run", 10 - n),
    };
    assert_eq!(last_line(&all), expected, "{}", String::from_utf8_lossy(&all.stdout));
    assert_eq!(all.status.success(), lacking.is_empty());

    for (steps, path, addition, said) in BREAKS {
        let step = steps.rsplit(',').next().unwrap();
        if lacking.contains(&step) {
            // Not shown here, and not claimed: the expectation above has already counted it as not run.
            continue;
        }
        let clean = fs::read_to_string(workspace.path().join(path)).unwrap();
        workspace.write(path, &format!("{clean}{addition}"));
        let broken = workspace.gate(steps);
        workspace.write(path, &clean);
        let output = String::from_utf8_lossy(&broken.stdout);
        assert!(!broken.status.success() && last_line(&broken).contains("1 failed"), "`{step}` passes a broken workspace:\n{output}");
        assert!(output.contains(said), "`{step}` fails, but not by what was broken:\n{output}");
    }
}
