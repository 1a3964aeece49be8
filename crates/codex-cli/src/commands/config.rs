//! `config`: shows, checks and compares configurations, and says what they can hold.

use std::path::Path;

use codex_config::{Resolved, Side, diff, reference_markdown, schema_of};
use codex_core::files;
use serde_json::json;

use crate::arguments::Config;
use crate::failure::CliError;
use crate::run_config::{self, RunConfig};
use crate::terminal::{Terminal, table};

/// What the schema is called; it is a name and no address that anything is fetched from.
const SCHEMA_ID: &str = "urn:codex:run-config";

pub(super) fn run(arguments: &Config, terminal: &Terminal) -> Result<(), CliError> {
    match arguments {
        Config::Show { configuration, sources } => {
            let resolved = run_config::resolve(configuration.config.as_ref(), &configuration.overrides)?;
            let value = json!({ "config": resolved.value, "sources": resolved.sources_json(), "digest": resolved.digest() });
            terminal.result(&value, || {
                if !sources {
                    return format!("# config digest {}\n{}", resolved.digest(), resolved.to_toml());
                }
                let rows = resolved.rows().iter().map(|row| vec![row.key.clone(), row.value.clone(), row.source.to_string()]);
                format!("{}\nconfig digest {}", table(&["key", "value", "set by"], rows), resolved.digest())
            })
        }
        Config::Check { file } => {
            let resolved = run_config::resolve(Some(file), &[])?;
            let value = json!({ "file": file, "valid": true, "digest": resolved.digest() });
            terminal.result(&value, || format!("{}: valid, config digest {}", file.display(), resolved.digest()))
        }
        Config::Diff { first, second } => difference(first, second, terminal),
        Config::Schema { out } => {
            let schema = schema();
            let text = format!("{schema:#}\n");
            match out {
                Some(out) => {
                    files::write_atomic(out, text.as_bytes())?;
                    terminal.result(&json!({ "schema": out }), || {
                        format!("{}; name it in a file's first line: `#:schema {}`", out.display(), out.display())
                    })
                }
                None => terminal.text(&schema, &text),
            }
        }
        Config::Reference => {
            let text = reference();
            terminal.text(&json!({ "markdown": text }), &text)
        }
    }
}

/// The schema of what a configuration file can hold.
fn schema() -> serde_json::Value {
    schema_of::<RunConfig>(SCHEMA_ID, "codex configuration")
}

/// What every key is: docs/CONFIG_KEYS.md.
fn reference() -> String {
    format!(
        "# Every key of a configuration\n\nMade from the types by `codex-cli config reference`; a test compares. [CONFIGURATION.md](CONFIGURATION.md) says how files, groups \
         and overrides come together.\n\n{}",
        reference_markdown(&schema())
    )
}

/// The configuration of a file over what ships with the program, or that of a run.
fn resolved(path: &Path) -> Result<Resolved<RunConfig>, CliError> {
    if path.is_dir() { run_config::resolved_of_run(path) } else { run_config::resolve_file(path) }
}

fn difference(first: &Path, second: &Path, terminal: &Terminal) -> Result<(), CliError> {
    let found = diff(&resolved(first)?, &resolved(second)?);
    let side = |side: &Option<Side>| side.as_ref().map(|side| json!({ "value": side.value, "source": side.source.to_json() }));
    let rows: Vec<_> =
        found.differences.iter().map(|it| json!({ "key": it.key, "first": side(&it.first), "second": side(&it.second) })).collect();
    terminal.result(&json!({ "first": first, "second": second, "same": found.same_digest, "differences": rows }), || {
        if found.differences.is_empty() {
            return "no difference".to_owned();
        }
        let cell = |side: &Option<Side>| side.as_ref().map_or_else(|| "-".to_owned(), |side| format!("{}\n{}", side.value, side.source));
        let rows = found.differences.iter().map(|it| vec![it.key.clone(), cell(&it.first), cell(&it.second)]);
        table(&["key", &first.display().to_string(), &second.display().to_string()], rows)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_of_keys_is_the_one_in_docs() {
        // The tests of a package run in its folder.
        let there = files::read_to_string(Path::new("../../docs/CONFIG_KEYS.md")).unwrap_or_default();
        assert!(there == reference(), "run `cargo run -p codex-cli -- config reference > docs/CONFIG_KEYS.md`");
    }

    #[test]
    fn every_key_is_described() {
        fn walk(at: &str, schema: &serde_json::Value, root: &serde_json::Value, bare: &mut Vec<String>) {
            let Some(keys) = schema["properties"].as_object() else { return };
            for (name, key) in keys {
                let at = format!("{at}.{name}");
                let named = key["$ref"].as_str().and_then(|name| root["$defs"].get(name.strip_prefix("#/$defs/")?));
                if key["description"].as_str().is_none_or(str::is_empty) && named.is_none_or(|it| it["description"].is_null()) {
                    bare.push(at.clone());
                }
                walk(&at, named.unwrap_or(key), root, bare);
            }
        }
        let schema = schema();
        let mut bare = Vec::new();
        walk("", &schema, &schema, &mut bare);
        assert_eq!(bare, [""; 0], "keys without a description");
        assert!(schema["properties"].as_object().is_some_and(|keys| keys.len() >= 12));
    }
}
