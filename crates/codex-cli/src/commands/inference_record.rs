//! The record of what was generated with a run's model, filed in the run's folder.

use std::path::{Path, PathBuf};

use codex_core::{Clock, Digest, FileError, SystemClock, files};
use codex_track::run_manifest::ARTIFACTS;
use serde_json::Value;

use crate::failure::CliError;
use crate::terminal::Terminal;

/// Files a record as `artifacts/infer/<YYYYmmdd-HHMMSS>-<first digits of its digest>.json`; a record that cannot be written is told and is no failure.
pub(super) fn file(run: &Path, record: &Value, terminal: &Terminal) -> Result<Option<PathBuf>, CliError> {
    let text = serde_json::to_string_pretty(record).map_err(|error| CliError::Output { source: error.into() })? + "\n";
    let now = SystemClock::new().now();
    let name = format!("{}-{}.json", now.to_compact(), Digest::of_bytes(text.as_bytes()).short());
    let path = run.join(ARTIFACTS).join("infer").join(name);
    Ok(match write(&path, text.as_bytes()) {
        Ok(()) => Some(path),
        Err(error) => {
            let why = codex_core::failure::chain(&error);
            terminal.warn(&format!("what was generated is not recorded: {why} (`--no-record` leaves the record out)"));
            None
        }
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    files::create_dir_all(files::parent(path))?;
    files::write_atomic(path, bytes)
}
