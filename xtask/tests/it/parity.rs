//! `cargo xtask parity` with a stand-in for Python: what ran, what did not, and whether it fails then.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// A Python that has all packages but those in `ABSENT`, and whose scripts find what they are told to find.
const PYTHON: &str = r#"#!/bin/sh
case "$1" in
    -c) shift 2
        printf '{'
        for name in "$@"; do case " $ABSENT " in *" $name "*) ;; *) printf '%s"%s": "1.0"' "$comma" "$name"; comma=, ;; esac; done
        echo '}' ;;
    */exports.py) echo "codex: $2 $CODEX_SEED"; test -z "$SAYS" || echo "x: read by codex FAIL: $SAYS"
        echo "beside gguf 1.0"; echo "3 passed, ${FAILED:-0} failed, ${SKIPPED:-0} skipped"; exit ${ENDS:-0} ;;
    *) echo "tokens: $TOKENS $2"; echo "${PASSED:-2} passed, 0 failed" ;;
esac
"#;

struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("python", PYTHON), ("codex-cli", ""), ("tokens", "")] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn parity(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["parity", "--bin"]).arg(self.path().join("codex-cli")).arg("--tokens").arg(self.path().join("tokens"));
        if !arguments.contains(&"--python") {
            command.arg("--python").arg(self.path().join("python"));
        }
        command.args(arguments).env("CARGO_TARGET_DIR", self.path().join("target")).env("CODEX_SEED", "3");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    fn log(&self, script: &str) -> String {
        fs::read_to_string(self.path().join("target/parity").join(format!("{script}.log"))).unwrap()
    }
}

#[test]
fn every_script_gets_its_program_and_is_counted() {
    let stage = Stage::new();
    let (succeeded, text) = stage.parity(&["--strict"], &[]);
    assert!(succeeded && text.ends_with("parity: 4 passed, 0 failed, 0 NOT RUN\n"), "{text}");
    assert!(text.contains("exports         passed         3       0        0") && text.contains("beside gguf 1.0"), "{text}");
    // No setting of the caller reaches codex.
    assert!(stage.log("exports").contains("/codex-cli \n"), "{}", stage.log("exports"));
    assert!(stage.log("chat_templates").contains("/tokens --check\n"), "{}", stage.log("chat_templates"));
    let (succeeded, text) = stage.parity(&["--only", "tokenizer_ids"], &[]);
    assert!(succeeded && text.ends_with("parity: 1 passed, 0 failed, 0 NOT RUN\n"), "{text}");
}

#[test]
fn an_absent_package_is_loud_and_fatal_when_strict() {
    let stage = Stage::new();
    let absent = [("ABSENT", "tiktoken xllamacpp"), ("SKIPPED", "1"), ("ENDS", "3")];
    let (succeeded, text) = stage.parity(&[], &absent);
    assert!(succeeded && text.ends_with("parity: 1 passed, 0 failed, 3 NOT RUN\n"), "{text}");
    assert!(text.contains("NOT RUN: no tiktoken in `") && text.contains("-m pip install tiktoken"), "{text}");
    assert!(text.contains("in part: no xllamacpp in `"), "{text}");
    assert!(!stage.parity(&["--strict"], &absent).0);
    // Without any Python nothing is built or run.
    let (succeeded, text) = stage.parity(&["--python", "no-such-python"], &[]);
    assert!(succeeded && text.ends_with("parity: 0 passed, 0 failed, 4 NOT RUN\n"), "{text}");
    assert!(!stage.parity(&["--strict", "--python", "no-such-python"], &[]).0);
}

#[test]
fn a_difference_fails_and_so_does_a_script_that_compared_nothing() {
    let stage = Stage::new();
    let (succeeded, text) = stage.parity(&[], &[("FAILED", "2"), ("SAYS", "0.5"), ("ENDS", "1")]);
    assert!(!succeeded && text.ends_with("parity: 3 passed, 1 failed, 0 NOT RUN\n"), "{text}");
    assert!(text.contains("| x: read by codex FAIL: 0.5") && text.contains("2 cases failed"), "{text}");
    let (succeeded, text) = stage.parity(&["--only", "chat_templates"], &[("PASSED", "0")]);
    assert!(!succeeded && text.contains("no case was compared"), "{text}");
    let (succeeded, text) = stage.parity(&["--only", "chat_templates"], &[("PASSED", "none")]);
    assert!(!succeeded && text.contains("did not say what it compared"), "{text}");
}
