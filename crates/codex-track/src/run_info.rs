//! What a run is called, how it was configured and how it ended, as the writers of other programs' formats are told.

use std::collections::BTreeMap;

use codex_core::{Timestamp, files};
use serde_json::Value;

use crate::catch_up::moment;
use crate::run_dir::RunDir;
use crate::run_record::{RunRecord, RunStatus};

/// A larger resolved configuration is not handed on.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// The resolved configuration in a run folder.
const CONFIG: &str = "config.resolved.toml";

/// What is known of a run when it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct RunInfo {
    /// What the user called it.
    pub name: String,
    /// When it began, the first time.
    pub started: Option<Timestamp>,
    /// The resolved configuration; null when it is not known.
    pub config: Value,
    /// What else is to be found by, such as `git_revision`.
    pub tags: BTreeMap<String, String>,
    /// The metrics that runs are compared by, as `split/metric`.
    pub judged_by: Vec<String>,
}

/// How a run, or this process of it, ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEnd {
    /// How.
    pub status: RunStatus,
    /// The newest values by name, such as `validation/loss`.
    pub summary: BTreeMap<String, f64>,
}

impl RunInfo {
    /// What the run folder says: `run.json` and `config.resolved.toml`, as far as they are there.
    pub fn of_run(run: &RunDir) -> Self {
        let record = RunRecord::read(run).ok();
        let mut tags = BTreeMap::from([("run_id".to_owned(), run.id())]);
        if let Some(record) = &record {
            let known = [("device", &record.device), ("instruction_set", &record.instruction_set), ("promise", &record.promise)];
            tags.extend(known.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value.clone())));
            tags.extend(record.git_revision.clone().map(|revision| ("git_revision".to_owned(), revision)));
            tags.insert("seed".to_owned(), record.seed.to_string());
            tags.insert("plan_digest".to_owned(), record.plan_digest.to_string());
        }
        let config = files::read_bounded(&run.path().join(CONFIG), MAX_CONFIG_BYTES).ok();
        let config = config.and_then(|bytes| toml::from_str(&String::from_utf8(bytes).ok()?).ok());
        Self {
            name: record.as_ref().map_or_else(|| run.id(), |record| record.name.clone()),
            started: record.map(|record| moment(&record.started)),
            config: config.unwrap_or(Value::Null),
            tags,
            judged_by: vec!["validation/loss".to_owned(), "train/loss".to_owned()],
        }
    }

    /// The leaves of the configuration by dotted key; a list is one leaf.
    pub fn hyperparameters(&self) -> BTreeMap<String, Value> {
        let mut leaves = BTreeMap::new();
        flatten("", &self.config, &mut leaves);
        leaves
    }
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                flatten(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, into);
            }
        }
        Value::Null => {}
        leaf => drop(into.insert(prefix.to_owned(), leaf.clone())),
    }
}

/// A leaf as plain text: a string without its quotes.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::Digest;
    use serde_json::json;

    #[test]
    fn a_folder_tells_what_it_knows() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        let bare = RunInfo::of_run(&run);
        assert_eq!((bare.name, bare.started, bare.config), (run.id(), None, Value::Null));
        let digest = Digest::of_bytes(b"x");
        RunRecord::new(&run, "tiny", &[], 7, digest, digest, Timestamp(1500)).write(&run).unwrap();
        run.write_text(CONFIG, "seed = 7\n[train]\nlr = 0.5\n[data]\nfiles = [\"a\"]\n").unwrap();
        let info = RunInfo::of_run(&run);
        assert_eq!((info.name.as_str(), info.started, info.tags["seed"].as_str()), ("tiny", Some(Timestamp(1500)), "7"));
        let expected = [("data.files", json!(["a"])), ("seed", json!(7)), ("train.lr", json!(0.5))];
        assert_eq!(info.hyperparameters().into_iter().collect::<Vec<_>>(), expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!((plain(&json!("a")), plain(&json!([1]))), ("a".to_owned(), "[1]".to_owned()));
    }
}
