//! `config show` and `config check`.

use serde_json::json;

use crate::arguments::Config;
use crate::failure::CliError;
use crate::run_config;
use crate::terminal::{Terminal, table};

pub(super) fn run(arguments: &Config, terminal: &Terminal) -> Result<(), CliError> {
    match arguments {
        Config::Show(configuration) => {
            let resolved = run_config::resolve(configuration.config.as_ref(), &configuration.overrides)?;
            let value = json!({ "config": resolved.value, "sources": resolved.sources_json(), "digest": resolved.digest() });
            terminal.result(&value, || {
                let rows = resolved.rows().iter().map(|row| vec![row.key.clone(), row.value.clone(), row.source.to_string()]);
                format!("{}\nconfig digest {}", table(&["key", "value", "set by"], rows), resolved.digest())
            })
        }
        Config::Check { file } => {
            let resolved = run_config::resolve(Some(file), &[])?;
            let value = json!({ "file": file, "valid": true, "digest": resolved.digest() });
            terminal.result(&value, || format!("{}: valid, config digest {}", file.display(), resolved.digest()))
        }
    }
}
