//! `cargo xtask interop` with stand-ins for codex-cli and Python: who read what, who was absent, and whether it fails then.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// A codex-cli whose first run saves and then hangs until it is killed, and whose second one says where it is.
const CODEX: &str = r#"#!/bin/sh
test "$1" = --version && { echo "codex-cli 0.1.0"; exit; }
for word in "$@"; do case "$word" in run.folder=*) folder=$(echo "$word" | sed "s/^run.folder='//; s/'$//") ;; esac; done
if [ "$2" = --json ]; then echo "{\"run\": \"$folder/one\"}"; exit; fi
test -z "$ENDS" || exit "$ENDS"
mkdir -p "$folder/one/checkpoints/step-00000020"; echo {} > "$folder/one/checkpoints/step-00000020/manifest.json"
exec sleep 600
"#;

/// A Python whose scripts say what they are told to say.
const PYTHON: &str = r#"#!/bin/sh
test "$1" = -c && { echo '{}'; exit; }
name=$(basename "$1" .py)
echo "noise of $name: $2"
case "$name" in
    prometheus) echo "{\"reader\":\"promtool\",\"version\":\"2.42\",\"passed\":${PASSED:-2},\"failed\":[]}" ;;
    trace) test -z "$ABSENT" && echo '{"reader":"perfetto","version":"1","passed":3,"failed":[]}' \
        || echo '{"reader":"perfetto","version":null,"passed":0,"failed":[],"absent":"no trace processor"}' ;;
    schema) test -z "$SILENT" && echo '{"reader":"jsonschema","version":"4","passed":5,"failed":[]}' || exit 3 ;;
    *) echo "{\"reader\":\"$name\",\"version\":\"1\",\"passed\":7,\"failed\":[]}" ;;
esac
"#;

/// Whether it succeeded, and what it printed.
fn interop(arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let stage = tempfile::tempdir().unwrap();
    for (name, text) in [("python", PYTHON), ("codex-cli", CODEX)] {
        let path = stage.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["interop", "--bin"]).arg(stage.path().join("codex-cli"));
    if !arguments.contains(&"--python") {
        command.arg("--python").arg(stage.path().join("python"));
    }
    let output =
        command.args(arguments).env("CARGO_TARGET_DIR", stage.path().join("target")).envs(variables.iter().copied()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn every_reader_is_a_line_and_all_must_be_there_when_that_is_asked_for() {
    let (succeeded, text) = interop(&["--strict"], &[]);
    assert!(succeeded && text.ends_with("interop: 5 passed, 0 failed, 0 ABSENT\n"), "{text}");
    assert!(text.contains("promtool                     2.42       passed         2       0"), "{text}");
    let (succeeded, text) = interop(&[], &[("ABSENT", "1")]);
    assert!(succeeded && text.contains("    no trace processor\n") && text.ends_with("interop: 4 passed, 0 failed, 1 ABSENT\n"), "{text}");
    assert!(!interop(&["--strict"], &[("ABSENT", "1")]).0);
}

#[test]
fn a_reader_that_read_nothing_or_said_nothing_has_failed() {
    let (succeeded, text) = interop(&["--only", "prometheus"], &[("PASSED", "0")]);
    assert!(!succeeded && text.contains("    nothing was read\n") && text.contains("interop: 0 passed, 1 failed"), "{text}");
    let (succeeded, text) = interop(&["--only", "schema,overrides"], &[("SILENT", "1")]);
    assert!(!succeeded && text.contains("did not say what it read") && text.contains("interop: 1 passed, 1 failed"), "{text}");
}

#[test]
fn without_python_every_script_is_absent_and_a_run_that_cannot_be_made_is_told() {
    let (succeeded, text) = interop(&["--only", "schema", "--python", "no-such-python"], &[]);
    assert!(succeeded && text.contains("ABSENT") && text.contains("no-such-python"), "{text}");
    let (succeeded, text) = interop(&["--only", "tracking"], &[("ENDS", "2")]);
    assert!(!succeeded && text.contains("was to be interrupted and ended before with exit status: 2"), "{text}");
}
