//! Rules for Rust files. Each looks at text, not at types: what needs types is clippy's (clippy.toml).

use super::{Context, File};

/// Lines of code that a file may have, tests apart.
pub const CEILING: usize = 400;

const VAGUE_NAMES: [&str; 7] = ["base.rs", "common.rs", "helpers.rs", "misc.rs", "mod.rs", "types.rs", "utils.rs"];
const BACKENDS: [&str; 10] = ["cpu", "cuda", "flex", "libtorch", "metal", "ndarray", "rocm", "vulkan", "webgpu", "wgpu"];

/// A file is named after the noun it defines.
pub fn file_name(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    let vague = VAGUE_NAMES.contains(&file.name());
    vague.then(|| (1, format!("`{}` says nothing: name the file after the noun it defines", file.name()))).into_iter().collect()
}

/// A file opens by saying what it is.
pub fn file_header(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    let missing = file.source.is_some() && !file.text.starts_with("//!");
    missing.then(|| (1, "the file does not open with `//!`: say what it is, and what it is not".to_owned())).into_iter().collect()
}

/// A file stays readable in one sitting.
pub fn file_ceiling(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    let lines = file.source.as_ref().map_or(0, crate::source::Source::code_lines);
    let message =
        || format!("{lines} lines of code, over {CEILING}: split it by noun, or name an exception with its reason in xtask/src/tidy.rs");
    (lines > CEILING).then(|| (1, message())).into_iter().collect()
}

/// Nothing is left for later.
pub fn unfinished(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    let Some(source) = &file.source else { return Vec::new() };
    let confession = concat!("not ", "implemented");
    let mut found = Vec::new();
    for ((idx, text), code) in file.text.lines().enumerate().zip(&source.code) {
        if source.is_test[idx] {
            continue;
        }
        for word in ["todo!", "unimplemented!"].into_iter().filter(|word| code.contains(word)) {
            found.push((idx + 1, format!("`{word}`: write it, or leave it out of the interface")));
        }
        if text.to_lowercase().contains(confession) {
            found.push((idx + 1, format!("`{confession}`: write it, or leave it out of the interface")));
        }
    }
    found
}

/// No device depends on the features of a build or on a variable.
pub fn device_default(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    lines_with(file, false, |code| code.contains("Device::default") || code.contains("Device as Default>"))
        .map(|line| (line, "`Device::default()` depends on features and `BURN_DEVICE`: take a `&Device`".to_owned()))
        .collect()
}

/// Only codex-cli chooses a device; tests may.
pub fn device_constructor(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    if file.is_in("codex-cli") {
        return Vec::new();
    }
    lines_with(file, true, |code| BACKENDS.iter().any(|backend| has_word(code, &format!("Device::{backend}"))))
        .map(|line| (line, "only codex-cli constructs a `Device`: take a `&Device`".to_owned()))
        .collect()
}

/// Two checkouts may share a target folder, and cargo does not build anew for another path: what is compiled must not hold its own.
pub fn compiled_in_path(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    let named = |line: usize| file.text.lines().nth(line - 1).is_some_and(|text| text.contains("CARGO_MANIFEST_DIR"));
    lines_with(file, false, |code| has_word(code, "env!"))
        .filter(|&line| named(line))
        .map(|line| {
            (line, "the folder is that of the checkout which was built first: ask `std::env::var` when the program runs".to_owned())
        })
        .collect()
}

/// Tests run, always, and wait for nothing.
pub fn test_discipline(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    let Some(source) = &file.source else { return Vec::new() };
    let mut found = Vec::new();
    for (idx, code) in source.code.iter().enumerate() {
        if code.contains("#[ignore") {
            found.push((idx + 1, "an ignored test proves nothing: make it quick, or remove it".to_owned()));
        }
        if has_word(code, "should_panic") {
            found.push((idx + 1, "`should_panic` accepts any panic: assert on the error".to_owned()));
        }
        if source.is_test[idx] && has_word(code, "thread::sleep") {
            found.push((idx + 1, "a sleeping test is slow or wrong: wait for what happens".to_owned()));
        }
    }
    found
}

/// No connection is opened below the server.
pub fn network(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    if file.is_in("codex-serve") || file.is_in("codex-track") {
        return Vec::new();
    }
    lines_with(file, false, |code| has_word(code, "std::net"))
        .map(|line| (line, "`std::net` belongs to codex-serve and to codex-track's exporter".to_owned()))
        .collect()
}

/// No random number but from a seeded stream: a second net beside clippy.toml, which cannot see burn from here.
pub fn randomness(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    lines_with(file, true, |code| has_word(code, "Tensor::random") || code.contains("::random_like(") || code.contains(".random_like("))
        .map(|line| (line, "the backend's generator depends on access order: draw from `codex_core::stream`".to_owned()))
        .collect()
}

/// A crate may not lift the lints that hold an invariant; the files that may are exceptions with a reason.
pub fn lint_exception(file: &File, _: &Context<'_>) -> Vec<(usize, String)> {
    const HELD: [&str; 4] = ["clippy::disallowed_methods", "clippy::disallowed_types", "clippy::print_stdout", "clippy::print_stderr"];
    if file.path.starts_with("xtask/") {
        return Vec::new();
    }
    lines_with(file, true, |code| HELD.iter().any(|lint| has_word(code, lint)))
        .map(|line| (line, "this lint holds an invariant of the house: use what clippy.toml names instead".to_owned()))
        .collect()
}

/// The lines, from 1, whose code meets the condition; `but_tests` leaves out test code.
fn lines_with<'a>(file: &'a File, but_tests: bool, condition: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = usize> + 'a {
    file.source
        .iter()
        .flat_map(|source| source.code.iter().zip(&source.is_test).enumerate())
        .filter(move |(_, (code, is_test))| !(but_tests && **is_test) && condition(code))
        .map(|(idx, _)| idx + 1)
}

/// Whether `code` has `word` with no letter, digit or underscore on either side.
fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| !is_part(code[..at].chars().next_back()) && !is_part(code[at + word.len()..].chars().next()))
}
