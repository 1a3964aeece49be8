//! What a run of codex leaves on the disk, as far as benchmarks read it: docs/FORMATS.md has the whole of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Steps and times of a run, from its `metrics.ndjson`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps {
    /// For each step its tokens per second, and when its line was written in seconds since 1970.
    pub by_step: BTreeMap<u64, (f64, f64)>,
}

#[derive(Deserialize)]
struct MetricLine {
    timestamp: String,
    step: u64,
    split: String,
    metric: String,
    // `"NaN"` and its like are no speeds.
    value: serde_json::Value,
}

impl Steps {
    /// Reads `metrics.ndjson` of a run folder.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join("metrics.ndjson");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot read `{}`", path.display()))
    }

    /// Reads the text of a `metrics.ndjson`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut by_step = BTreeMap::new();
        for (idx, line) in text.lines().enumerate() {
            let line: MetricLine = serde_json::from_str(line).with_context(|| format!("line {}", idx + 1))?;
            if line.split == "train" && line.metric == "tokens_per_second" {
                let rate = line.value.as_f64().with_context(|| format!("line {}: no number", idx + 1))?;
                by_step.insert(line.step, (rate, unix_seconds(&line.timestamp).with_context(|| format!("line {}", idx + 1))?));
            }
        }
        if by_step.is_empty() {
            bail!("it has no training step");
        }
        Ok(Self { by_step })
    }

    /// The tokens per second of the steps after the first `n`.
    pub fn rates_after(&self, n: u64) -> Vec<f64> {
        self.by_step.range(n + 1..).map(|(_, (rate, _))| *rate).collect()
    }
}

/// A save, from `events.ndjson`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Save {
    /// The step it is of.
    pub step: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// From its begin until it was whole on the disk.
    pub seconds: f64,
    /// How much of that training waited.
    pub waited_seconds: f64,
}

/// The saves of a run, from the text of its `events.ndjson`.
pub fn saves(text: &str) -> Result<Vec<Save>> {
    #[derive(Deserialize)]
    struct EventLine {
        kind: String,
        step: Option<u64>,
        bytes: Option<u64>,
        seconds: Option<f64>,
        waited_seconds: Option<f64>,
    }
    let mut found = Vec::new();
    for (idx, line) in text.lines().enumerate() {
        let event: EventLine = serde_json::from_str(line).with_context(|| format!("line {}", idx + 1))?;
        if event.kind == "checkpoint" {
            let missing = || format!("line {}: the save of a step misses a number", idx + 1);
            let (step, bytes) = event.step.zip(event.bytes).with_context(missing)?;
            let (seconds, waited_seconds) = event.seconds.zip(event.waited_seconds).with_context(missing)?;
            found.push(Save { step, bytes, seconds, waited_seconds });
        }
    }
    Ok(found)
}

/// The peak resident memory until the last step, as the run sampled it between its steps; `None` when the steps were too short for a sample.
///
/// A run ends with a save, whose memory is in the peak of the whole process.
pub fn peak_of_steps(run: &Path) -> Option<f64> {
    let text = fs::read_to_string(run.join("system.ndjson")).ok()?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter_map(|line| line["process_peak_rss_bytes"].as_f64()).next_back()
}

/// The newest checkpoint folder of a run.
pub fn newest_checkpoint(run: &Path) -> Result<std::path::PathBuf> {
    let folder = run.join("checkpoints");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot list `{}`", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("step-") && !name.contains(".tmp-") {
            names.push(name);
        }
    }
    names.sort();
    names.pop().map(|name| folder.join(name)).with_context(|| format!("`{}` has no checkpoint", folder.display()))
}

/// The number of parameters in a safetensors file, from its header.
pub fn count_parameters(path: &Path) -> Result<u64> {
    let context = || format!("cannot read `{}`", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut length = [0_u8; 8];
    file.read_exact(&mut length).with_context(context)?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length).min(1 << 26)).read_to_end(&mut header).with_context(context)?;
    let tensors: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&header).with_context(context)?;
    let shapes = tensors.iter().filter(|(name, _)| *name != "__metadata__").map(|(_, tensor)| &tensor["shape"]);
    let count = |shape: &serde_json::Value| shape.as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64).product::<u64>();
    Ok(shapes.map(count).sum())
}

fn unix_seconds(timestamp: &str) -> Result<f64> {
    let parsed: jiff::Timestamp = timestamp.parse().with_context(|| format!("`{timestamp}` is no timestamp"))?;
    Ok(parsed.as_millisecond() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that a run of `model=nano` wrote, with a save after each of its eight steps.
    const METRICS: &str = include_str!("../../tests/it/bench/metrics.ndjson");
    const EVENTS: &str = include_str!("../../tests/it/bench/events.ndjson");

    #[test]
    fn speeds_are_read_from_a_real_run() {
        let steps = Steps::parse(METRICS).unwrap();
        assert_eq!(steps.by_step.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(steps.rates_after(3).len(), 5);
        let (rate, at) = steps.by_step[&1];
        assert_eq!((rate.to_bits(), at.to_bits()), (74_980.852_057_802_05_f64.to_bits(), 1_795_634_863.526_f64.to_bits()));
    }

    #[test]
    fn saves_are_read_from_a_real_run() {
        let saves = saves(EVENTS).unwrap();
        assert_eq!(saves.len(), 8);
        let first = Save { step: 1, bytes: 1_212_503, seconds: 0.031_842_628_000_000_15, waited_seconds: 0.000_835_127_000_000_213_1 };
        assert_eq!(saves[0], first);
        let error = super::saves(r#"{"kind":"checkpoint","step":1,"bytes":2}"#).unwrap_err().to_string();
        assert_eq!(error, "line 1: the save of a step misses a number");
    }

    #[test]
    fn a_damaged_line_is_named() {
        let damaged = format!("{METRICS}{{\"step\":");
        let n_lines = METRICS.lines().count();
        let error = format!("{:#}", Steps::parse(&damaged).unwrap_err());
        assert!(error.starts_with(&format!("line {}", n_lines + 1)), "{error}");
        assert_eq!(Steps::parse("").unwrap_err().to_string(), "it has no training step");
    }

    #[test]
    fn the_peak_before_the_save_is_that_of_the_last_sample() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(peak_of_steps(folder.path()), None);
        let lines = r#"{"load_average_1m":2.47,"process_peak_rss_bytes":345935872.0,"step":1,"ts":"2026-11-25T17:12:20.577Z"}
{"cpu_percent":95.4,"process_peak_rss_bytes":346537984.0,"step":2,"ts":"2026-11-25T17:12:20.808Z"}
{"cpu_perc"#;
        fs::write(folder.path().join("system.ndjson"), lines).unwrap();
        assert_eq!(peak_of_steps(folder.path()), Some(346_537_984.0));
    }

    #[test]
    fn parameters_are_counted_from_the_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},"b":{"dtype":"F32","shape":[5],"data_offsets":[48,68]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        fs::write(&path, bytes).unwrap();
        assert_eq!(count_parameters(&path).unwrap(), 17);
        assert!(count_parameters(&folder.path().join("none")).is_err());
    }
}
