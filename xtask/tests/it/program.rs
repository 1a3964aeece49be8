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
    assert_eq!(names, ["fmt", "tidy", "dag", "deny", "clippy", "wgpu", "doc", "vendor", "test", "coverage"]);
}

#[test]
fn a_gate_that_could_not_run_a_step_fails_and_says_so_last() {
    let output = xtask(&["gate", "--only", "coverage", "--no-install"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().last(), Some("gate: 0 passed, 0 failed, 1 not run"), "{text}");
}
