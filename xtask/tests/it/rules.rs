//! Each rule of tidy against text that breaks it and text that keeps it.

use xtask::tidy::{Context, File, RULES, check_file, rust_rules::CEILING};

/// A rule, a path, text that breaks the rule there, and text that keeps it.
struct Case(&'static str, &'static str, String, String);

fn case(rule: &'static str, path: &'static str, bad: impl Into<String>, good: impl Into<String>) -> Case {
    Case(rule, path, bad.into(), good.into())
}

fn rust(body: &str) -> String {
    format!("//! x\n{body}\n")
}

fn in_tests(body: &str) -> String {
    rust(&format!("#[cfg(test)]\nmod tests {{\n    {body}\n}}"))
}

fn cases() -> Vec<Case> {
    const LIB: &str = "crates/codex-model/src/network.rs";
    const INTEGRATION: &str = "crates/codex-model/tests/it/main.rs";
    let slash = '/';
    vec![
        case("file-header", LIB, "fn f() {}\n", rust("fn f() {}")),
        case("file-header", INTEGRATION, "// x\n", "//! x\n"),
        case("file-ceiling", LIB, rust(&"f();\n".repeat(CEILING + 1)), rust(&"f();\n// why\n\n".repeat(CEILING))),
        case(
            "file-ceiling",
            LIB,
            rust(&format!("{}#[cfg(test)]\nmod tests {{}}", "f();\n".repeat(CEILING + 1))),
            in_tests(&"f();\n".repeat(CEILING + 1)),
        ),
        case("unfinished", LIB, rust("fn f() { todo!() }"), rust("/// Writes the to-do list.\nfn f() {}")),
        case("unfinished", LIB, rust("fn f() { unimplemented!() }"), rust("fn f() { g(\"todo!\") }")),
        case("unfinished", LIB, rust("fn f() { Err(\"Not Implemented\") }"), in_tests("fn f() { g(\"not implemented\") }")),
        case("unfinished", LIB, rust("/// This is not implemented."), rust("/// This is implemented.")),
        case("device-default", LIB, rust("fn f() { g(&Device::default()) }"), rust("fn f(device: &Device) {}")),
        case("device-default", LIB, in_tests("fn f() { g(NdArrayDevice::default()) }"), in_tests("fn f() { g(Device::flex()) }")),
        case("device-default", INTEGRATION, rust("fn f() { <Device as Default>::default() }"), rust("// Device::default()")),
        case("device-constructor", LIB, rust("fn f() { g(Device::flex()) }"), in_tests("fn f() { g(Device::flex()) }")),
        case(
            "device-constructor",
            LIB,
            rust("fn f() { g(Device::wgpu(DeviceKind::DefaultDevice)) }"),
            rust("fn f() { g(Device::wgpu_name()) }"),
        ),
        case("device-constructor", LIB, rust("fn f() { g(burn::Device::cuda(0)) }"), rust("fn f() { g(\"Device::cuda\") }")),
        case("test-discipline", LIB, in_tests("#[test]\n#[ignore]\nfn f() {}"), in_tests("#[test]\nfn f() {}")),
        case("test-discipline", LIB, in_tests("#[test]\n#[ignore = \"slow\"]\nfn f() {}"), in_tests("#[test]\nfn ignore() {}")),
        case("test-discipline", LIB, in_tests("#[test]\n#[should_panic(expected = \"x\")]\nfn f() {}"), in_tests("#[test]\nfn f() {}")),
        case("test-discipline", INTEGRATION, rust("fn f() { std::thread::sleep(d) }"), rust("fn f() { g(\"thread::sleep\") }")),
        case("network", LIB, rust("use std::net::TcpStream;"), rust("use std::path::Path;")),
        case("network", INTEGRATION, rust("fn f() { std::net::UdpSocket::bind(a) }"), rust("// std::net")),
        case("randomness", LIB, rust("fn f() { Tensor::random(s, d, x) }"), rust("fn f() { stream.uniform() }")),
        case("randomness", LIB, rust("fn f(t: T) { t.random_like(d) }"), in_tests("fn f(t: T) { t.random_like(d) }")),
        case(
            "lint-exception",
            LIB,
            rust("#[expect(clippy::disallowed_methods, reason = \"x\")]\nfn f() {}"),
            rust("#[expect(clippy::too_many_lines, reason = \"x\")]\nfn f() {}"),
        ),
        case(
            "compiled-in-path",
            INTEGRATION,
            rust("fn f() { env!(\"CARGO_MANIFEST_DIR\") }"),
            rust("fn f() { std::env::var(\"CARGO_MANIFEST_DIR\") }"),
        ),
        case("compiled-in-path", LIB, rust("fn f() { g(file!(), env!(\"CARGO_MANIFEST_DIR\")) }"), rust("// env!(CARGO_MANIFEST_DIR)")),
        case("lint-exception", LIB, rust("#![expect(clippy::print_stdout, reason = \"x\")]"), rust("// clippy::print_stdout")),
        case(
            "lint-table",
            "crates/codex-model/Cargo.toml",
            "[package]\nname = \"x\"\n",
            "[package]\nname = \"x\"\n[lints]\nworkspace = true\n",
        ),
        case(
            "lint-table",
            "crates/codex-model/Cargo.toml",
            "[package]\nname = \"x\"\n[lints]\nworkspace = false\n",
            "[workspace]\nmembers = []\n",
        ),
        case("lint-table", "crates/codex-model/Cargo.toml", "[package", "[workspace]\n"),
        case("absolute-path", "configs/tiny.toml", format!("path = \"{slash}home/ada/x\"\n"), "path = \"data/home/x\"\n"),
        case("absolute-path", "docs/A.md", format!("run {slash}root/codex\n"), format!("see https://x.org{slash}root/codex\n")),
        case("absolute-path", LIB, rust(&format!("// {slash}work/main")), rust(&format!("// crates{slash}work/main"))),
        case("doc-link", "docs/A.md", "see [b](B.md)\n", "see [c](C.md) and [readme](../README.md)\n"),
        case("doc-link", "docs/A.md", "![curve](../../curve.png)\n", "![curve](https://x.org/curve.png)\n"),
        case("doc-link", "README.md", "[a]: docs/B.md\n", "```\n[a](docs/B.md)\n```\n`[a](docs/B.md)`\n"),
        case("doc-link", "README.md", "# One thing\n[a](#another)\n", "# One thing\n[a](#one-thing)\n"),
        case("doc-command", "README.md", "`cargo xtask gaet`\n", "`cargo xtask gate --only tidy` or `cargo xtask --help`\n"),
        case("file-name", "crates/codex-model/src/utils.rs", "//! x\n", ""),
        case("file-name", "crates/codex-model/src/layers/mod.rs", "//! x\n", ""),
    ]
}

fn broken_rules(path: &str, text: &str) -> Vec<&'static str> {
    let exists = |path: &str| ["README.md", "docs/C.md"].contains(&path);
    let tasks = ["gate".to_owned(), "lint".to_owned()];
    check_file(&File::new(path, text, false), &Context { exists: &exists, tasks: &tasks })
        .into_iter()
        .map(|violation| violation.rule)
        .collect()
}

#[test]
fn each_rule_bites_and_only_where_it_should() {
    for Case(rule, path, bad, good) in cases() {
        assert_eq!(broken_rules(path, &bad), [rule], "{path}:\n{bad}");
        if rule != "file-name" {
            assert_eq!(broken_rules(path, &good), [""; 0], "{path}:\n{good}");
        }
    }
}

#[test]
fn each_rule_has_a_case() {
    let cases = cases();
    for rule in RULES {
        assert!(cases.iter().any(|case| case.0 == rule.name), "no case breaks `{}`", rule.name);
    }
}

#[test]
fn every_vague_name_is_refused() {
    for name in ["base", "utils", "common", "helpers", "misc", "mod", "types"] {
        assert_eq!(broken_rules(&format!("crates/codex-data/src/{name}.rs"), "//! x\n"), ["file-name"]);
    }
}

#[test]
fn the_rooms_with_a_right_keep_it() {
    assert_eq!(broken_rules("crates/codex-cli/src/device.rs", &rust("fn f() { Device::wgpu(k) }")), [""; 0]);
    assert_eq!(broken_rules("crates/codex-cli/src/device.rs", &rust("fn f() { Device::default() }")), ["device-default"]);
    assert_eq!(broken_rules("crates/codex-serve/src/listener.rs", &rust("use std::net::TcpListener;")), [""; 0]);
    assert_eq!(broken_rules("crates/codex-track/src/exporter.rs", &rust("use std::net::TcpListener;")), [""; 0]);
}

#[test]
fn violations_say_where() {
    let exists = |_: &str| true;
    let file = File::new("crates/codex-data/src/order.rs", "//! x\n\nfn f() { todo!() }\n", false);
    let violations = check_file(&file, &Context { exists: &exists, tasks: &[] });
    assert_eq!(
        violations[0].to_string(),
        "crates/codex-data/src/order.rs:3: [unfinished] `todo!`: write it, or leave it out of the interface"
    );
}

#[test]
fn this_workspace_is_tidy() {
    let member = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let root = std::path::Path::new(&member).parent().unwrap();
    for exception in xtask::tidy::EXCEPTIONS {
        assert!(root.join(exception.path).is_file(), "the exception for `{}` is of no use", exception.path);
    }
    let violations: Vec<String> = xtask::tidy::check_workspace(root).unwrap().iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
