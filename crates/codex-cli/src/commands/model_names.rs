//! `model list` and `model resolve`: models that have a name, and where a name leads.

use std::path::{Path, PathBuf};

use codex_hub::HfConfig;
use serde_json::{Value, json};

use crate::failure::CliError;
use crate::model_place::Places;
use crate::stored_model;
use crate::terminal::{Terminal, table};

pub(super) fn list(terminal: &Terminal) -> Result<(), CliError> {
    let places = Places::here();
    let all = places.list();
    let describe = |path: &Path| match HfConfig::read(&path.join("config.json")) {
        Ok(config) => (config.family.model_type().to_owned(), config.model.n_parameters(config.vocab_size).to_string()),
        Err(error) => (format!("not usable: {error}"), String::new()),
    };
    let rows: Vec<(String, PathBuf, String, (String, String))> =
        all.into_iter().map(|(name, place)| (name, place.path.clone(), place.because, describe(&place.path))).collect();
    let value: Vec<Value> = rows
        .iter()
        .map(|(name, path, because, (family, n))| json!({ "name": name, "path": path, "because": because, "family": family, "parameters": n.parse::<u64>().ok() }))
        .collect();
    terminal.result(&value, || {
        if rows.is_empty() {
            return format!("no model has a name; `codex-cli model import FOLDER` puts one into `{}`\n", places.models_folder().display());
        }
        table(
            &["name", "family", "parameters", "place"],
            rows.iter().map(|(name, path, _, (family, n))| vec![name.clone(), family.clone(), n.clone(), path.display().to_string()]),
        )
    })
}

pub(super) fn resolve(name: &Path, terminal: &Terminal) -> Result<(), CliError> {
    let place = Places::here().resolve(name)?;
    let found = stored_model::find(&place.path, "latest");
    let problem = found.as_ref().err().map(|error| codex_core::failure::chain(error));
    let value = json!({ "name": name, "path": place.path, "because": place.because, "usable": problem.is_none(), "problem": problem });
    terminal.result(&value, || {
        let verdict = problem.as_ref().map_or_else(|| "usable".to_owned(), |problem| format!("not usable: {problem}"));
        format!("{}\n(by {}; {verdict})\n", place.path.display(), place.because)
    })
}
