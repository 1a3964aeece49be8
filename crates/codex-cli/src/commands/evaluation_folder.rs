//! The folder of an evaluation: what its files say, published whole, and never in the place of something else.
//!
//! No file names a time or a place of the model, so that the same evaluation has the same bytes wherever and whenever it is made.

use std::path::Path;

use codex_core::{Digest, FolderDraft, files};
use codex_eval::Measured;
use codex_track::{CsvWriter, NdjsonWriter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::CliError;

/// The version of all files.
pub(super) const SCHEMA: u32 = 1;
pub(super) const SUMMARY: &str = "summary.json";
pub(super) const RECORDS: &str = "records.ndjson";
pub(super) const DATASET: &str = "dataset_manifest.json";
pub(super) const MANIFEST: &str = "evaluation_manifest.json";

/// What `evaluation_manifest.json` says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) schema: u32,
    /// First digits of the digest of `evaluation`.
    pub(super) key: String,
    /// Everything that decides what the other files say.
    pub(super) evaluation: Value,
    /// The other files.
    pub(super) files: Vec<ListedFile>,
}

/// A file of the folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ListedFile {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) blake3: Digest,
}

/// The files of an evaluation by name.
pub(super) type Files = Vec<(&'static str, Vec<u8>)>;

/// A number, or the name of one that JSON does not have.
pub(super) fn number(value: f64) -> Value {
    let name = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    if value.is_finite() { json!(value) } else { json!(name) }
}

/// The key of an evaluation.
pub(super) fn key(evaluation: &Value) -> Result<String, CliError> {
    Ok(Digest::of_json(evaluation).map_err(encode)?.short())
}

/// The bytes of a JSON file.
pub(super) fn pretty(value: &impl Serialize) -> Result<Vec<u8>, CliError> {
    Ok((serde_json::to_string_pretty(value).map_err(encode)? + "\n").into_bytes())
}

fn encode(error: serde_json::Error) -> CliError {
    CliError::Output { source: error.into() }
}

/// What the lines of the metrics say besides names and values.
pub(super) struct Labels<'a> {
    pub(super) run_id: &'a str,
    pub(super) step: u64,
    pub(super) dataset: &'a str,
    pub(super) n_records: usize,
}

/// `metrics.ndjson` and `metrics.csv` in the form of a run's. An evaluation has no time: its `timestamp` is null, and empty in the table.
pub(super) fn metric_files(measured: &[Measured], labels: &Labels<'_>) -> Files {
    let &Labels { run_id, step, dataset, n_records } = labels;
    let (mut lines, mut previous) = (Vec::new(), Digest::of_bytes(b""));
    let mut table = "step,split,metric,value,dataset,run_id,timestamp\n".to_owned();
    for Measured { name, value, .. } in measured {
        let value = number(*value);
        let line = json!({
            "schema_version": "v1", "timestamp": null, "run_id": run_id, "step": step, "split": SPLIT, "metric": name, "value": value,
            "dataset": dataset, "tags": { "phase": "evaluation", "records": n_records, "previous": previous },
        });
        let line = line.to_string();
        previous = Digest::of_bytes(line.as_bytes());
        lines.extend_from_slice(line.as_bytes());
        lines.push(b'\n');
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.push_str(&format!("{step},{SPLIT},{name},{shown},{},{run_id},\n", cell(dataset)));
    }
    vec![(NdjsonWriter::FILE, lines), (CsvWriter::FILE, table.into_bytes())]
}

/// The split of all lines.
const SPLIT: &str = "evaluation";

/// A cell of a table, quoted where it must be.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Refuses a place where something else is.
pub(super) fn check_place(folder: &Path, key: &str) -> Result<(), CliError> {
    if !folder.exists() {
        return Ok(());
    }
    let manifest = files::read(&folder.join(MANIFEST)).ok().and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
    match manifest {
        Some(manifest) if manifest.key == key => Ok(()),
        Some(_) => Err(taken(folder, "another evaluation")),
        None => Err(taken(folder, "no evaluation")),
    }
}

fn taken(folder: &Path, what: &str) -> CliError {
    let what = format!("`{}` is there and holds {what}", folder.display());
    CliError::usage(what, "nothing is overwritten: name another folder with `--out`, or move away what is there")
}

/// Publishes the files with their manifest; where the same evaluation is there already, compares its bytes instead. Tells whether it was written.
pub(super) fn publish(folder: &Path, key: &str, evaluation: &Value, files: &Files) -> Result<bool, CliError> {
    let listed = |(name, bytes): &(&str, Vec<u8>)| ListedFile {
        name: (*name).to_owned(),
        bytes: bytes.len() as u64,
        blake3: Digest::of_bytes(bytes),
    };
    let files_listed = files.iter().map(listed).collect();
    let manifest = pretty(&Manifest { schema: SCHEMA, key: key.to_owned(), evaluation: evaluation.clone(), files: files_listed })?;
    let all = || files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).chain([(MANIFEST, manifest.as_slice())]);
    check_place(folder, key)?;
    if folder.exists() {
        for (name, bytes) in all() {
            let path = folder.join(name);
            if files::read(&path).ok().as_deref() != Some(bytes) {
                return Err(CliError::Integrity {
                    path,
                    reason: "the same evaluation was made before and has other bytes there".to_owned(),
                    hint: "the file was changed, or this build computes otherwise: keep both by `--out DIR` and see `eval compare`",
                });
            }
        }
        return Ok(false);
    }
    let draft = FolderDraft::create(folder)?;
    for (name, bytes) in all() {
        draft.write(name, bytes)?;
    }
    draft.publish()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_are_lines_and_rows_without_a_time() {
        let measured = [("loss", 2.5), ("perplexity", f64::INFINITY)].map(|(name, value)| Measured {
            name,
            value,
            interval: None,
            per_record: Vec::new(),
        });
        let labels = Labels { run_id: "eval-1", step: 7, dataset: "a, \"b\".jsonl", n_records: 3 };
        let files = metric_files(&measured, &labels);
        let text = |idx: usize| String::from_utf8(files[idx].1.clone()).unwrap();
        let lines: Vec<Value> = text(0).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["value"], &lines[1]["value"], &lines[0]["timestamp"]), (&json!(2.5), &json!("Infinity"), &Value::Null));
        assert_eq!(lines[1]["tags"]["phase"], "evaluation");
        assert_eq!(lines[1]["tags"]["previous"], Digest::of_bytes(text(0).lines().next().unwrap().as_bytes()).to_string());
        let rows =
            "7,evaluation,loss,2.5,\"a, \"\"b\"\".jsonl\",eval-1,\n7,evaluation,perplexity,Infinity,\"a, \"\"b\"\".jsonl\",eval-1,\n";
        assert_eq!(text(1), format!("step,split,metric,value,dataset,run_id,timestamp\n{rows}"));
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let files = |text: &str| vec![(SUMMARY, text.as_bytes().to_vec())];
        let made = json!({"n": 1});
        assert!(publish(&folder, "k", &made, &files("one")).unwrap());
        assert!(!publish(&folder, "k", &made, &files("one")).unwrap(), "the same is there");
        let other = publish(&folder, "k", &made, &files("two")).unwrap_err().to_string();
        assert!(other.contains("summary.json") && other.contains("other bytes"), "{other}");
        assert!(publish(&folder, "other", &made, &files("one")).unwrap_err().to_string().contains("holds another evaluation"));
        assert!(publish(dir.path(), "k", &made, &files("one")).unwrap_err().to_string().contains("holds no evaluation"));
        assert_eq!(files::read(&folder.join(SUMMARY)).unwrap(), b"one");
    }
}
