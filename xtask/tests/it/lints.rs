//! The lints of Cargo.toml and clippy.toml against code that breaks each: an entry with a misspelt path would hold nothing.
//!
//! burn is too large to compile here; stand-ins with the same paths take its place, so what is shown is that the entries are read and matched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One line of code that breaks a lint, with a word that its message must contain. For clippy.toml the word is the path of the entry.
const BROKEN: &[(&str, &str, &str)] = &[
    ("clippy::disallowed_types", "std::collections::HashMap", "pub type A1 = std::collections::HashMap<u8, u8>;"),
    ("clippy::disallowed_types", "std::collections::HashSet", "pub type A2 = std::collections::HashSet<u8>;"),
    ("clippy::disallowed_types", "std::time::Instant", "pub fn a3() { let _now = std::time::Instant::now(); }"),
    ("clippy::disallowed_types", "std::time::SystemTime", "pub fn a4() { let _now = std::time::SystemTime::now(); }"),
    ("clippy::disallowed_types", "std::net::TcpStream", "pub fn a5() { let _ = std::net::TcpStream::connect(\"localhost:1\"); }"),
    ("clippy::disallowed_types", "std::net::TcpListener", "pub fn a6() { let _ = std::net::TcpListener::bind(\"localhost:1\"); }"),
    ("clippy::disallowed_types", "std::net::UdpSocket", "pub fn a7() { let _ = std::net::UdpSocket::bind(\"localhost:1\"); }"),
    (
        "clippy::disallowed_types",
        "std::os::unix::net::UnixStream",
        "pub fn a8() { let _ = std::os::unix::net::UnixStream::connect(\"x\"); }",
    ),
    (
        "clippy::disallowed_types",
        "std::os::unix::net::UnixListener",
        "pub fn a9() { let _ = std::os::unix::net::UnixListener::bind(\"x\"); }",
    ),
    ("clippy::disallowed_methods", "std::fs::symlink_metadata", "pub fn b20() { let _ = std::fs::symlink_metadata(\"x\"); }"),
    ("clippy::disallowed_methods", "std::path::Path::metadata", "pub fn b21(p: &std::path::Path) { let _ = p.metadata(); }"),
    (
        "clippy::disallowed_methods",
        "std::path::Path::symlink_metadata",
        "pub fn b22(p: &std::path::Path) { let _ = p.symlink_metadata(); }",
    ),
    ("clippy::disallowed_methods", "std::path::Path::read_dir", "pub fn b23(p: &std::path::Path) { let _ = p.read_dir(); }"),
    ("clippy::disallowed_methods", "std::io::stdout", "pub fn b24() { let _out = std::io::stdout(); }"),
    ("clippy::disallowed_methods", "std::io::stderr", "pub fn b25() { let _out = std::io::stderr(); }"),
    ("clippy::disallowed_methods", "jiff::Timestamp::now", "pub fn b26() { jiff::Timestamp::now(); }"),
    ("clippy::disallowed_methods", "jiff::Zoned::now", "pub fn b27() { jiff::Zoned::now(); }"),
    ("clippy::disallowed_methods", "std::fs::read", "pub fn b1() { let _ = std::fs::read(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::read_to_string", "pub fn b2() { let _ = std::fs::read_to_string(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::write", "pub fn b3() { let _ = std::fs::write(\"x\", \"\"); }"),
    ("clippy::disallowed_methods", "std::fs::copy", "pub fn b4() { let _ = std::fs::copy(\"x\", \"y\"); }"),
    ("clippy::disallowed_methods", "std::fs::rename", "pub fn b5() { let _ = std::fs::rename(\"x\", \"y\"); }"),
    ("clippy::disallowed_methods", "std::fs::hard_link", "pub fn b6() { let _ = std::fs::hard_link(\"x\", \"y\"); }"),
    ("clippy::disallowed_methods", "std::fs::remove_file", "pub fn b7() { let _ = std::fs::remove_file(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::remove_dir", "pub fn b8() { let _ = std::fs::remove_dir(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::remove_dir_all", "pub fn b9() { let _ = std::fs::remove_dir_all(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::create_dir", "pub fn b10() { let _ = std::fs::create_dir(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::create_dir_all", "pub fn b11() { let _ = std::fs::create_dir_all(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::read_dir", "pub fn b12() { let _ = std::fs::read_dir(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::metadata", "pub fn b13() { let _ = std::fs::metadata(\"x\"); }"),
    (
        "clippy::disallowed_methods",
        "std::fs::set_permissions",
        "pub fn b14(p: std::fs::Permissions) { let _ = std::fs::set_permissions(\"x\", p); }",
    ),
    ("clippy::disallowed_methods", "std::fs::File::open", "pub fn b15() { let _ = std::fs::File::open(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::File::create", "pub fn b16() { let _ = std::fs::File::create(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::File::create_new", "pub fn b17() { let _ = std::fs::File::create_new(\"x\"); }"),
    ("clippy::disallowed_methods", "std::fs::File::options", "pub fn b18() { let _o = std::fs::File::options(); }"),
    ("clippy::disallowed_methods", "std::fs::OpenOptions::new", "pub fn b19() { let _o = std::fs::OpenOptions::new(); }"),
    ("clippy::disallowed_methods", "std::env::var", "pub fn c1() { let _ = std::env::var(\"X\"); }"),
    ("clippy::disallowed_methods", "std::env::var_os", "pub fn c2() { let _ = std::env::var_os(\"X\"); }"),
    ("clippy::disallowed_methods", "std::env::vars", "pub fn c3() { let _all = std::env::vars(); }"),
    ("clippy::disallowed_methods", "std::env::vars_os", "pub fn c4() { let _all = std::env::vars_os(); }"),
    ("clippy::disallowed_methods", "burn_tensor::Tensor::random", "pub fn d1() { burn::tensor::Tensor::random(); }"),
    ("clippy::disallowed_methods", "burn_tensor::Tensor::random_like", "pub fn d2(t: &burn::tensor::Tensor) { t.random_like(); }"),
    (
        "clippy::disallowed_methods",
        "burn_core::module::Module::load_record",
        "pub fn d3<M: burn::module::Module>(m: M) { m.load_record(); }",
    ),
    ("clippy::disallowed_methods", "burn_core::module::Module::load_file", "pub fn d4<M: burn::module::Module>(m: M) { m.load_file(); }"),
    ("clippy::disallowed_methods", "burn_core::module::Module::save_file", "pub fn d5<M: burn::module::Module>(m: M) { m.save_file(); }"),
    ("clippy::iter_over_hash_type", "hash", "pub fn e1(m: &std::collections::HashMap<u8, u8>) { for k in m.keys() { e2(*k); } }"),
    ("clippy::print_stdout", "print", "pub fn e2(k: u8) { println!(\"{k}\"); }"),
    ("clippy::print_stderr", "print", "pub fn e3() { eprintln!(\"x\"); }"),
    ("clippy::dbg_macro", "dbg", "pub fn e4(x: u8) -> u8 { dbg!(x) }"),
    ("clippy::todo", "todo", "pub fn e5() { todo!() }"),
    ("clippy::unimplemented", "unimplemented", "pub fn e6() { unimplemented!() }"),
    ("clippy::panic", "panic", "pub fn e7() { panic!(\"x\") }"),
    ("clippy::unwrap_used", "unwrap", "pub fn e8(x: Option<u8>) -> u8 { x.unwrap() }"),
    ("clippy::expect_used", "expect", "pub fn e9(x: Option<u8>) -> u8 { x.expect(\"x\") }"),
    ("clippy::exit", "exit", "pub fn e10() { std::process::exit(1) }"),
    ("clippy::float_cmp", "f32", "pub fn e11(x: f32, y: f32) -> bool { x == y }"),
    ("clippy::allow_attributes", "allow", "#[allow(dead_code)] fn e12() {}"),
    ("unsafe_code", "unsafe", "pub fn e13(x: *const u8) -> u8 { unsafe { *x } }"),
    ("missing_docs", "documentation", "pub fn e14() {}"),
];

/// What may stand in for it, and must not be reported.
const KEPT: &str = "//! Kept.
/// In order.
pub type Names = std::collections::BTreeMap<u8, u8>;
/// Waits for nothing.
pub fn wait(time: std::time::Duration) -> u128 {
    time.as_millis()
}
/// Looks, and opens nothing.
pub fn look(path: &std::path::Path) -> bool {
    path.is_file()
}
";

fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).parent().unwrap().to_owned()
}

/// The lint table of the workspace as flags of rustc, lowest priority first.
fn lint_flags() -> Vec<String> {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let mut flags = Vec::new();
    for (tool, prefix) in [("rust", ""), ("clippy", "clippy::")] {
        for (name, setting) in manifest["workspace"]["lints"][tool].as_table().unwrap() {
            let level = setting.get("level").unwrap_or(setting).as_str().unwrap().to_owned();
            let priority = setting.get("priority").and_then(toml::Value::as_integer).unwrap_or(0);
            flags.push((priority, format!("--{level}={prefix}{name}")));
        }
    }
    flags.sort();
    flags.into_iter().map(|(_, flag)| flag).collect()
}

/// Stand-ins for the crates of burn, compiled into `folder`.
fn compile_stand_ins(folder: &Path) {
    let crates = [
        (
            "burn_tensor",
            "mod tensor { pub struct Tensor; impl Tensor { pub fn random() {} pub fn random_like(&self) {} } } pub use tensor::Tensor;",
        ),
        ("burn_core", "pub mod module { pub trait Module: Sized { fn load_record(self) {} fn load_file(self) {} fn save_file(self) {} } }"),
        ("jiff", "pub struct Timestamp; impl Timestamp { pub fn now() {} } pub struct Zoned; impl Zoned { pub fn now() {} }"),
        ("burn", "pub mod tensor { pub use burn_tensor::*; } pub use burn_core::module;"),
    ];
    for (name, text) in crates {
        let source = folder.join(format!("{name}.rs"));
        fs::write(&source, text).unwrap();
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "--crate-type=rlib", "--out-dir"]).arg(folder).arg("-L").arg(folder).arg(&source);
        if name == "burn" {
            rustc.args(["--extern", "burn_tensor", "--extern", "burn_core"]);
        }
        let output = rustc.current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Runs clippy on the text with the workspace's settings: for each line, the lints with their messages.
fn clippy(folder: &Path, text: &str) -> BTreeMap<u64, Vec<(String, String)>> {
    let source = folder.join("probe.rs");
    fs::write(&source, text).unwrap();
    let output = Command::new("clippy-driver")
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--error-format=json", "--cap-lints=warn", "--out-dir"])
        .arg(folder)
        .arg("-L")
        .arg(folder)
        .args(["--extern", "burn", "--extern", "jiff"])
        .args(lint_flags())
        .arg(&source)
        .env("CLIPPY_CONF_DIR", root())
        .current_dir(root())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let mut found: BTreeMap<u64, Vec<(String, String)>> = BTreeMap::new();
    for message in stderr.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        let lint = message["code"]["code"].as_str().unwrap_or_default().to_owned();
        let line = message["spans"][0]["line_start"].as_u64().unwrap_or(0);
        found.entry(line).or_default().push((lint, message["message"].as_str().unwrap_or_default().to_owned()));
    }
    found
}

#[test]
fn each_lint_bites() {
    let folder = tempfile::tempdir().unwrap();
    compile_stand_ins(folder.path());
    let text = BROKEN.iter().map(|(_, _, code)| *code).collect::<Vec<_>>().join("\n");
    let found = clippy(folder.path(), &text);
    for (line, (lint, word, code)) in (1..).zip(BROKEN) {
        let here = found.get(&line).map(Vec::as_slice).unwrap_or_default();
        // The closing backtick tells `std::fs::read` from `std::fs::read_dir`.
        let word = if word.contains("::") { format!("`{word}`") } else { (*word).to_owned() };
        assert!(here.iter().any(|(name, message)| name == lint && message.contains(&word)), "`{lint}` does not see `{code}`: {here:?}");
    }
    assert_eq!(clippy(folder.path(), KEPT), BTreeMap::new());
}

#[test]
fn the_room_for_unsafe_has_the_lints_of_the_workspace_but_for_that() {
    let table = |path: &str| -> toml::Table { fs::read_to_string(root().join(path)).unwrap().parse().unwrap() };
    let (own, all) = (table("crates/codex-kernels/Cargo.toml"), table("Cargo.toml"));
    let (own, all) = (&own["lints"], &all["workspace"]["lints"]);
    for tool in ["rust", "rustdoc", "clippy"] {
        let (mut own, mut all) = (own[tool].as_table().unwrap().clone(), all[tool].as_table().unwrap().clone());
        assert_eq!(all.remove("unsafe_code").is_some(), own.remove("unsafe_code") == Some("deny".into()), "{tool}");
        assert_eq!(own.remove("inline_always").is_some(), tool == "clippy");
        // The names of what the crash programme takes out of other crates.
        assert_eq!(all.remove("unexpected_cfgs").is_some(), tool == "rust");
        assert_eq!(own, all, "{tool}");
    }
}

#[test]
fn each_entry_of_the_configuration_has_a_case_and_a_reason() {
    let config: toml::Table = fs::read_to_string(root().join("clippy.toml")).unwrap().parse().unwrap();
    let tried: BTreeSet<(&str, &str)> = BROKEN.iter().map(|(lint, path, _)| (*lint, *path)).collect();
    for (list, lint) in [("disallowed-types", "clippy::disallowed_types"), ("disallowed-methods", "clippy::disallowed_methods")] {
        for entry in config[list].as_array().unwrap() {
            let path = entry["path"].as_str().unwrap();
            assert!(tried.contains(&(lint, path)), "no case breaks `{path}`");
            assert!(entry["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "`{path}` has no reason");
        }
    }
}
