//! Names, ids and `meta.yaml` of an MLflow file store. What is written to it, and when, is in [`mlflow_writer`](crate::mlflow_writer).

use std::path::{Path, PathBuf};

use codex_core::{Digest, FileError, Timestamp, files};

use crate::run_record::RunStatus;

/// A longer value of a parameter is cut; MLflow takes 6000 characters.
pub(crate) const MAX_PARAM_BYTES: usize = 6000;
/// A longer value of a tag is cut; MLflow takes 8000 characters.
pub(crate) const MAX_TAG_BYTES: usize = 8000;
/// MLflow takes names of 250 characters.
const MAX_KEY_BYTES: usize = 240;
const EXPERIMENT: &str = "codex";

/// A name as MLflow takes it: letters, digits, `_`, `-`, `.`, spaces, and slashes between parts. One that had to be changed ends with a digest of what it
/// was, so that two never become one.
pub(crate) fn key(name: &str) -> String {
    let part = |part: &str| match part {
        "" | "." | ".." => "_".to_owned(),
        part => part.chars().map(|c| if c.is_ascii_alphanumeric() || "_-. ".contains(c) { c } else { '_' }).collect(),
    };
    let mut key = name.split('/').map(part).collect::<Vec<String>>().join("/");
    key.truncate(MAX_KEY_BYTES);
    if key == name { key } else { format!("{}-{}", key.trim_end_matches('/'), &Digest::of_bytes(name.as_bytes()).short()[..8]) }
}

/// The step and value of a line of a metric that has its end.
pub(crate) fn parse_metric(line: &str) -> Option<(u64, f64)> {
    let mut words = line.strip_suffix('\n')?.split(' ');
    let (_, value, step) = (words.next()?.parse::<i64>().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some((step, value))
}

/// What `meta.yaml` says of the run and its experiment.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    root: PathBuf,
    pub(crate) experiment_id: String,
    pub(crate) run_id: String,
    pub(crate) name: String,
    pub(crate) started: Timestamp,
    /// 1 running, 3 finished, 4 failed, 5 killed.
    status: u8,
    ended: Option<Timestamp>,
}

impl Meta {
    /// That of a run that is running; `root` is the store.
    pub(crate) fn new(run_id: &str, root: &Path) -> Self {
        let number = Digest::of_bytes(EXPERIMENT.as_bytes()).as_bytes().iter().take(7).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        Self {
            root: root.to_owned(),
            experiment_id: format!("{:018}", 100_000_000_000_000_000 + number),
            run_id: Digest::of_bytes(format!("mlflow:{run_id}").as_bytes()).to_string()[..32].to_owned(),
            name: run_id.to_owned(),
            started: Timestamp(0),
            status: 1,
            ended: None,
        }
    }

    pub(crate) fn end(&mut self, status: RunStatus, at: Timestamp) {
        (self.status, self.ended) = match status {
            RunStatus::Running => (1, None),
            RunStatus::Finished => (3, Some(at)),
            RunStatus::Failed => (4, Some(at)),
            RunStatus::Interrupted | RunStatus::Killed => (5, Some(at)),
        };
    }

    /// Writes the run's file and those of the experiments.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), FileError> {
        self.experiment("0", "Default")?;
        self.experiment(&self.experiment_id, EXPERIMENT)?;
        let ended = self.ended.map_or_else(|| "null".to_owned(), |at| at.0.to_string());
        let lines = [
            format!("artifact_uri: {}", quoted(&uri(&self.root.join(&self.experiment_id).join(&self.run_id).join("artifacts")))),
            format!("end_time: {ended}"),
            "entry_point_name: ''".to_owned(),
            format!("experiment_id: '{}'", self.experiment_id),
            "lifecycle_stage: active".to_owned(),
            format!("run_id: {}", quoted(&self.run_id)),
            format!("run_name: {}", quoted(&self.name)),
            "source_name: ''".to_owned(),
            "source_type: 4".to_owned(),
            "source_version: ''".to_owned(),
            format!("start_time: {}", self.started.0),
            format!("status: {}", self.status),
            "tags: []".to_owned(),
            "user_id: ''".to_owned(),
        ];
        files::write_atomic(&folder.join("meta.yaml"), (lines.join("\n") + "\n").as_bytes())
    }

    fn experiment(&self, id: &str, name: &str) -> Result<(), FileError> {
        let folder = self.root.join(id);
        files::create_dir_all(&folder)?;
        let lines = [
            format!("artifact_location: {}", quoted(&uri(&folder))),
            format!("creation_time: {}", self.started.0),
            format!("experiment_id: '{id}'"),
            format!("last_update_time: {}", self.started.0),
            "lifecycle_stage: active".to_owned(),
            format!("name: {name}"),
        ];
        files::write_atomic(&folder.join("meta.yaml"), (lines.join("\n") + "\n").as_bytes())
    }
}

/// A text in double quotes: those of JSON are those of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn uri(path: &Path) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encoded = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    format!("file://{}", path.to_string_lossy().bytes().map(encoded).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_mlflow_takes_and_stay_apart() {
        assert_eq!(["validation/loss", "a b.c-d_e"].map(key), ["validation/loss", "a b.c-d_e"]);
        let odd = ["a,b", "a;b", "../x", "/x", "a//b", "", ".", "a/", "ä"].map(key);
        for (idx, name) in odd.iter().enumerate() {
            assert!(!name.starts_with(['/', '.']) && !name.contains("//") && !odd[..idx].contains(name), "{odd:?}");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-. /".contains(&byte)), "{odd:?}");
        }
        assert!(key(&"x".repeat(400)).len() < 250);
    }

    #[test]
    fn a_line_is_milliseconds_value_and_step() {
        assert_eq!(parse_metric("5 -Infinity 7\n"), Some((7, f64::NEG_INFINITY)));
        assert!(parse_metric("5 NaN 7\n").unwrap().1.is_nan());
        for wrong in ["5 1.0 7", "5 1.0\n", "5 1.0 7 8\n", "x 1.0 7\n", "5 1.0 -7\n", "\n"] {
            assert_eq!(parse_metric(wrong), None, "{wrong}");
        }
        assert_eq!(uri(Path::new("/a b/ä")), "file:///a%20b/%C3%A4");
    }

    #[test]
    fn a_run_has_the_same_ids_whenever_it_is_opened() {
        let (one, two) = (Meta::new("r", Path::new("/a")), Meta::new("r", Path::new("/b")));
        assert_eq!((&one.run_id, &one.experiment_id), (&two.run_id, &two.experiment_id));
        assert!(one.run_id.len() == 32 && one.experiment_id.len() == 18 && one.run_id != Meta::new("s", Path::new("/a")).run_id);
    }
}
