//! Runs that were there before: the one a plan goes on with, and what sets a plan apart from the nearest.

use std::path::Path;

use codex_core::Digest;
use codex_track::{RunDir, RunEntry, RunRecord, list_runs};
use codex_train::{BaseModel, PlanKey};

use crate::failure::CliError;
use crate::prepared::Prepared;
use crate::run_config::{self, RunConfig};
use crate::terminal::Terminal;

/// The digest of what determines the weights.
pub(super) fn plan_key(config: &RunConfig, prepared: &Prepared) -> Result<Digest, CliError> {
    let begin = (config.run.seed, prepared.base.as_ref().map(BaseModel::digest), &config.adapter);
    let key = PlanKey::new(
        begin,
        &config.model,
        &config.train,
        &config.eval,
        prepared.tokenizer.as_ref(),
        &prepared.data,
        config.data.cutting(),
    )?;
    Ok(key.digest()?)
}

/// The newest run of this plan. A run whose record cannot be read is told: it may be the one.
pub(super) fn find_run(folder: &Path, key: Digest, terminal: &Terminal) -> Result<Option<(RunDir, RunRecord)>, CliError> {
    if !folder.is_dir() {
        return Ok(None);
    }
    for entry in list_runs(folder)?.into_iter().rev() {
        match entry.record {
            Ok(record) if record.plan_digest == key => return Ok(Some((RunDir::open(&entry.path)?, record))),
            Ok(_) => {}
            Err(error) => terminal.warn(&format!("`{}` is passed over: {error}", entry.path.display())),
        }
    }
    Ok(None)
}

/// Says what sets this plan apart from the newest run of the same name, so that nobody starts over unawares.
pub(super) fn tell_nearest(config: &RunConfig, terminal: &Terminal) {
    let runs = list_runs(&config.run.folder).unwrap_or_default();
    let of_name = |run: &RunEntry| run.record.as_ref().is_ok_and(|record| record.name == config.run.name);
    let Some(nearest) = runs.into_iter().rev().find(of_name) else { return };
    let Ok(theirs) = run_config::of_run(&nearest.path) else { return };
    let path = nearest.path.display();
    let mut differences = run_config::plan_differences(&theirs, config);
    let more = differences.len().saturating_sub(5);
    differences.truncate(5);
    let mut told = if differences.is_empty() { "its texts or its tokenizer were others".to_owned() } else { differences.join("; ") };
    if more > 0 {
        told += &format!("; and {more} more");
    }
    terminal.say(&format!("not going on with {path}, which is another plan: {told}"));
}
