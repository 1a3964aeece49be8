//! The program itself: as `cargo xtask`, and as the stand-in for rustc.

use std::fs;
use std::process::{Command, Output};

fn xtask(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).output().unwrap()
}

#[test]
fn the_stand_in_keeps_every_variable_and_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = folder.path().join("rustc-with-counters");
    fs::copy(env!("CARGO_BIN_EXE_xtask"), &stand_in).unwrap();
    let variable = "CARGO_BIN_EXE_codex-cli";
    let output = Command::new(&stand_in).args(["env", "-u", "build_script_build"]).env(variable, "kept").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("CARGO_BIN_EXE_codex-cli=kept\n"));
    let output = Command::new(&stand_in).args(["sh", "-c", "echo $0 $1 $2; exit 7", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "x -C instrument-coverage\n");
}

#[test]
fn the_steps_are_listed_in_their_order() {
    let output = xtask(&["gate", "--list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["fmt", "tidy", "dag", "deny", "clippy", "features", "doc", "vendor", "test", "coverage"]);
}

#[test]
fn a_gate_that_could_not_run_a_step_fails_and_says_so_last() {
    let output = xtask(&["gate", "--only", "coverage", "--no-install"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().last(), Some("gate: 0 passed, 0 failed, 1 not run"), "{text}");
}

/// A `rustup` whose nightly toolchain finds what it is told to find.
const RUSTUP: &str = r#"#!/bin/sh
shift 2
case "$*" in
    "rustc -vV") echo "host: x86_64-unknown-linux-gnu" ;;
    "cargo miri --version") test -n "$HAS_MIRI" ;;
    rustc*) while [ "$1" != -o ]; do shift; done
        printf '#!/bin/sh\necho "ERROR: %s" >&2; exit 1\n' "$PROBE_SAYS" > "$2"; chmod +x "$2" ;;
    cargo*) echo "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s"; exit ${TESTS_END:-0} ;;
esac
"#;

#[cfg(target_os = "linux")]
#[test]
fn sanitizing_says_what_ran_what_did_not_and_whether_it_bites() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let rustup = folder.path().join("rustup");
    fs::write(&rustup, RUSTUP).unwrap();
    fs::set_permissions(&rustup, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let sanitize = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("sanitize").env("PATH", &path).env("CARGO_TARGET_DIR", folder.path().join("target"));
        let output = command.env("PROBE_SAYS", "AddressSanitizer: heap-buffer-overflow").envs(variables.iter().copied()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (succeeded, text) = sanitize(&[]);
    assert!(succeeded && text.contains("sanitize: 1 passed, 0 failed, 1 NOT RUN") && text.contains("7 tests on portable"), "{text}");
    assert!(text.contains("Miri is missing: run `rustup component add"), "{text}");
    let (succeeded, text) = sanitize(&[("HAS_MIRI", "1")]);
    assert!(succeeded && text.contains("sanitize: 2 passed, 0 failed, 0 NOT RUN"), "{text}");
    // A sanitizer that does not bite proves nothing, and a failed test fails.
    let (succeeded, text) = sanitize(&[("PROBE_SAYS", "nothing")]);
    assert!(!succeeded && text.contains("was not caught"), "{text}");
    let (succeeded, text) = sanitize(&[("TESTS_END", "1")]);
    assert!(!succeeded && text.contains("sanitize: 0 passed, 1 failed, 1 NOT RUN"), "{text}");
}
