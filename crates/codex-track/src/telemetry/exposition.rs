//! The metrics of a run as Prometheus reads them. What was never measured is not there: no metric begins as an invented zero.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codex_core::Clock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use serde_json::Value;
use sysinfo::{Pid, System};

use super::gpu::throttle_reasons;
use crate::event::Level;
use crate::metric::MetricPoint;
use crate::system::ProcessReading;

/// More series than this are not kept; how many were refused is a metric.
const MAX_SERIES: usize = 4096;
/// A label is cut to this many characters.
const MAX_LABEL_CHARS: usize = 200;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
}

impl Format {
    /// The content type it is served with.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
}

/// What feeds a metric, so that what it no longer tells can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Run,
    System,
    Process,
}

/// One series at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name as it is written, with `_total` behind a counter's.
    pub metric: String,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// What tells the series of a metric apart.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
    /// What it means.
    pub description: &'static str,
}

/// A metric: its name without the ending of counters, its kind, where it is from, and what it means.
#[derive(Debug)]
struct Metric(&'static str, Kind, Origin, &'static str);

macro_rules! metrics {
    ($($constant:ident = $name:literal $kind:ident $origin:ident $help:literal;)*) => {
        $(const $constant: Metric = Metric($name, Kind::$kind, Origin::$origin, $help);)*
    };
}

metrics! {
    STEP = "codex_train_step" Gauge Run "Optimizer steps taken.";
    TOKENS = "codex_train_tokens" Counter Run "Target tokens trained on.";
    EPOCH = "codex_train_epoch" Gauge Run "Passes over the data.";
    LOSS = "codex_train_loss" Gauge Run "Training loss of the last step, in nats per token.";
    LEARNING_RATE = "codex_learning_rate" Gauge Run "Learning rate of the last step.";
    SPEED = "codex_tokens_per_second" Gauge Run "Training speed of the last step.";
    GRADIENT = "codex_gradient_norm" Gauge Run "Norm of the gradient of the last step, before clipping.";
    OTHER = "codex_metric" Gauge Run "Another metric of a split.";
    VALIDATION = "codex_validation_loss" Gauge Run "Loss on a validation set, in nats per token.";
    PERPLEXITY = "codex_validation_perplexity" Gauge Run "Perplexity on a validation set.";
    CHECKPOINTS = "codex_checkpoints" Counter Run "Checkpoints saved by this process.";
    CHECKPOINT_STEP = "codex_checkpoint_step" Gauge Run "The step of the last checkpoint.";
    CHECKPOINT_AGE = "codex_checkpoint_age_seconds" Gauge Process "Time since the last checkpoint of this process.";
    EVENTS = "codex_events" Counter Run "Events of the run by level.";
    REFUSED = "codex_telemetry_refused_series" Counter Run "Values without a series, because there are too many.";
    CPU = "codex_cpu_usage_ratio" Gauge System "Use of all cores of the machine together.";
    LOAD = "codex_load_average" Gauge System "Mean number of processes that want to run.";
    MEMORY_USED = "codex_memory_used_bytes" Gauge System "Memory of the machine in use.";
    MEMORY = "codex_memory_installed_bytes" Gauge System "Memory of the machine.";
    SWAP_USED = "codex_swap_used_bytes" Gauge System "Swap in use.";
    SWAP = "codex_swap_installed_bytes" Gauge System "Swap of the machine.";
    DISK_FREE = "codex_disk_free_bytes" Gauge System "Free space where the run is.";
    DISK = "codex_disk_size_bytes" Gauge System "Space where the run is.";
    GPU_USE = "codex_gpu_utilization_ratio" Gauge System "Part of the time in which a kernel ran.";
    GPU_MEMORY_USE = "codex_gpu_memory_utilization_ratio" Gauge System "Part of the time in which memory was read or written.";
    GPU_MEMORY_USED = "codex_gpu_memory_used_bytes" Gauge System "Memory of the device in use.";
    GPU_MEMORY = "codex_gpu_memory_installed_bytes" Gauge System "Memory of the device.";
    GPU_TEMPERATURE = "codex_gpu_temperature_celsius" Gauge System "Temperature of the chip.";
    GPU_POWER = "codex_gpu_power_watts" Gauge System "Power draw of the board.";
    GPU_CLOCK = "codex_gpu_clock_hertz" Gauge System "Clock of a part of the device.";
    GPU_THROTTLED = "codex_gpu_throttled" Gauge System "Whether clocks are held down, by reason.";
    PROCESS_CPU = "process_cpu_seconds" Counter Process "User and system time of the process.";
    PROCESS_RSS = "process_resident_memory_bytes" Gauge Process "Resident memory of the process.";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes" Gauge Process "Virtual memory of the process.";
    PROCESS_START = "process_start_time_seconds" Gauge Process "Start of the process in seconds since 1970.";
    PROCESS_THREADS = "process_threads" Gauge Process "Threads of the process.";
    PROCESS_FDS = "process_open_fds" Gauge Process "Open file descriptors.";
    PROCESS_MAX_FDS = "process_max_fds" Gauge Process "The most file descriptors that may be open.";
    PROCESS_READ = "codex_process_read_bytes" Counter Process "Bytes that the process had read from the disk.";
    PROCESS_WRITTEN = "codex_process_written_bytes" Counter Process "Bytes that the process had written to the disk.";
}

type Labels = Vec<(String, String)>;

#[derive(Debug)]
struct Family {
    metric: &'static Metric,
    series: BTreeMap<Labels, f64>,
}

#[derive(Debug)]
struct Values {
    families: BTreeMap<&'static str, Family>,
    n_series: usize,
    checkpoint_at: Option<f64>,
    system: System,
}

impl Values {
    fn set(&mut self, metric: &'static Metric, labels: &[(&str, &str)], value: f64) {
        self.change(metric, labels, |known| *known = value);
    }

    fn add(&mut self, metric: &'static Metric, labels: &[(&str, &str)], more: f64) {
        self.change(metric, labels, |known| *known += more);
    }

    fn change(&mut self, metric: &'static Metric, labels: &[(&str, &str)], change: impl FnOnce(&mut f64)) {
        let labels: Labels = labels.iter().map(|(name, value)| ((*name).to_owned(), shortened(value))).collect();
        let family = self.families.entry(metric.0).or_insert_with(|| Family { metric, series: BTreeMap::new() });
        if let Some(known) = family.series.get_mut(&labels) {
            change(known);
        } else if self.n_series < MAX_SERIES {
            let mut value = 0.0;
            change(&mut value);
            family.series.insert(labels, value);
            self.n_series += 1;
        } else if metric.0 != REFUSED.0 {
            // The one series past the limit, so that it is seen.
            let refused = self.families.entry(REFUSED.0).or_insert_with(|| Family { metric: &REFUSED, series: BTreeMap::new() });
            *refused.series.entry(Labels::new()).or_insert(0.0) += 1.0;
        }
    }

    fn clear(&mut self, origin: Origin) {
        for family in self.families.values_mut().filter(|family| family.metric.2 == origin) {
            self.n_series -= family.series.len();
            family.series.clear();
        }
        self.families.retain(|_, family| !family.series.is_empty());
    }

    /// What is true only at the moment of the look.
    fn look(&mut self, elapsed_seconds: f64) {
        self.clear(Origin::Process);
        if let Some(at) = self.checkpoint_at {
            self.set(&CHECKPOINT_AGE, &[], (elapsed_seconds - at).max(0.0));
        }
        let Some(process) = ProcessReading::of(&mut self.system, Pid::from_u32(std::process::id())) else { return };
        self.set(&PROCESS_CPU, &[], process.cpu_seconds);
        self.set(&PROCESS_RSS, &[], process.rss_bytes as f64);
        self.set(&PROCESS_VIRTUAL, &[], process.virtual_bytes as f64);
        self.set(&PROCESS_START, &[], process.started_seconds as f64);
        let counts = [
            (&PROCESS_THREADS, process.threads),
            (&PROCESS_FDS, process.open_files),
            (&PROCESS_MAX_FDS, process.max_open_files),
            (&PROCESS_READ, process.read_bytes),
            (&PROCESS_WRITTEN, process.written_bytes),
        ];
        for (metric, count) in counts {
            if let Some(count) = count {
                self.set(metric, &[], count as f64);
            }
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_LABEL_CHARS).collect()
}

/// The metrics of one run. It is fed by the loop and read by the server, the `.prom` file and `prometheus.ndjson`.
#[derive(Debug)]
pub struct Exposition {
    values: Arc<Mutex<Values>>,
    registry: Registry,
    clock: Arc<dyn Clock>,
}

/// Hands the values to the encoder.
#[derive(Debug)]
struct Source(Arc<Mutex<Values>>);

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, family) in &locked(&self.0).families {
            let Metric(_, kind, _, help) = family.metric;
            let kind_of = if *kind == Kind::Gauge { MetricType::Gauge } else { MetricType::Counter };
            let mut metric = encoder.encode_descriptor(name, help, None, kind_of)?;
            for (labels, value) in &family.series {
                let mut one = metric.encode_family(labels)?;
                match kind {
                    Kind::Gauge => one.encode_gauge(value)?,
                    Kind::Counter => one.encode_counter::<NoLabelSet, f64, f64>(value, None)?,
                }
            }
        }
        Ok(())
    }
}

/// A thread that panicked while it held the lock left whole values.
fn locked(values: &Mutex<Values>) -> MutexGuard<'_, Values> {
    values.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exposition {
    /// The metrics of the run with this id, which every series carries as the label `run`; none is there yet.
    pub fn new(run_id: &str, clock: Arc<dyn Clock>) -> Self {
        let values = Values { families: BTreeMap::new(), n_series: 0, checkpoint_at: None, system: System::new() };
        let values = Arc::new(Mutex::new(values));
        let mut registry = Registry::with_labels([(Cow::Borrowed("run"), Cow::Owned(shortened(run_id)))].into_iter());
        registry.register_collector(Box::new(Source(Arc::clone(&values))));
        Self { values, registry, clock }
    }

    /// Takes what was measured at a step.
    pub fn point(&self, point: &MetricPoint<'_>) {
        let mut values = locked(&self.values);
        if point.split == "train" {
            values.set(&STEP, &[], point.step as f64);
            values.set(&EPOCH, &[], point.epoch);
        }
        values.set(&TOKENS, &[], point.tokens as f64);
        let set = match point.split.split_once('/') {
            Some(("validation", set)) => Some(set),
            _ => (point.split == "validation").then_some("main"),
        };
        for &(name, value) in point.values {
            match (point.split, set, name) {
                ("train", _, "loss") => values.set(&LOSS, &[], value),
                ("train", _, "learning_rate") => values.set(&LEARNING_RATE, &[], value),
                ("train", _, "tokens_per_second") => values.set(&SPEED, &[], value),
                ("train", _, "grad_norm") => values.set(&GRADIENT, &[], value),
                (_, Some(set), "loss") => values.set(&VALIDATION, &[("set", set)], value),
                (_, Some(set), "perplexity") => values.set(&PERPLEXITY, &[("set", set)], value),
                (split, ..) => values.set(&OTHER, &[("split", split), ("metric", name)], value),
            }
        }
    }

    /// Takes a sample of the machine, with the names of `system.ndjson`. What it lacks is no longer shown.
    pub fn system(&self, sample: &BTreeMap<String, f64>) {
        let mut values = locked(&self.values);
        values.clear(Origin::System);
        for (name, &value) in sample {
            match name.as_str() {
                "cpu_percent" => values.set(&CPU, &[], value / 100.0),
                "load_average_1m" => values.set(&LOAD, &[("minutes", "1")], value),
                "load_average_5m" => values.set(&LOAD, &[("minutes", "5")], value),
                "load_average_15m" => values.set(&LOAD, &[("minutes", "15")], value),
                "memory_used_bytes" => values.set(&MEMORY_USED, &[], value),
                "memory_total_bytes" => values.set(&MEMORY, &[], value),
                "swap_used_bytes" => values.set(&SWAP_USED, &[], value),
                "swap_total_bytes" => values.set(&SWAP, &[], value),
                "disk_free_bytes" => values.set(&DISK_FREE, &[], value),
                "disk_total_bytes" => values.set(&DISK, &[], value),
                other => {
                    if let Some((idx, metric)) = other.strip_prefix("gpu").and_then(|rest| rest.split_once('_')) {
                        gpu(&mut values, idx, metric, value);
                    }
                }
            }
        }
    }

    /// Takes an event of the run, as [`Tracker::event`](crate::Tracker::event) does.
    pub fn event(&self, kind: &str, level: Level, fields: &Value) {
        let now = self.clock.elapsed_seconds();
        let mut values = locked(&self.values);
        values.add(&EVENTS, &[("level", level.as_str())], 1.0);
        if kind == "checkpoint" {
            values.add(&CHECKPOINTS, &[], 1.0);
            values.checkpoint_at = Some(now);
            if let Some(step) = fields.get("step").and_then(Value::as_u64) {
                values.set(&CHECKPOINT_STEP, &[], step as f64);
            }
        }
    }

    /// Everything at this moment, this process measured anew.
    pub fn text(&self, format: Format) -> String {
        locked(&self.values).look(self.clock.elapsed_seconds());
        let mut out = String::new();
        let written = match format {
            Format::OpenMetrics => text::encode(&mut out, &self.registry),
            Format::Text => prometheus_text::encode(&mut out, &self.registry),
        };
        // A `String` takes everything.
        debug_assert!(written.is_ok());
        out
    }

    /// Everything at this moment, series by series, without the label `run`.
    pub fn samples(&self) -> Vec<Sample> {
        let mut values = locked(&self.values);
        values.look(self.clock.elapsed_seconds());
        let of_family = |family: &Family| {
            let Metric(name, kind, _, description) = family.metric;
            let (metric, kind) = match kind {
                Kind::Gauge => ((*name).to_owned(), "gauge"),
                Kind::Counter => (format!("{name}_total"), "counter"),
            };
            let sample = |(labels, value): (&Labels, &f64)| Sample {
                metric: metric.clone(),
                kind,
                labels: labels.iter().cloned().collect(),
                value: *value,
                description,
            };
            family.series.iter().map(sample).collect::<Vec<_>>()
        };
        values.families.values().flat_map(of_family).collect()
    }
}

fn gpu(values: &mut Values, idx: &str, metric: &str, value: f64) {
    if idx.parse::<u32>().is_err() {
        return;
    }
    let gpu = ("gpu", idx);
    match metric {
        "utilization_percent" => values.set(&GPU_USE, &[gpu], value / 100.0),
        "memory_utilization_percent" => values.set(&GPU_MEMORY_USE, &[gpu], value / 100.0),
        "memory_used_bytes" => values.set(&GPU_MEMORY_USED, &[gpu], value),
        "memory_total_bytes" => values.set(&GPU_MEMORY, &[gpu], value),
        "temperature_celsius" => values.set(&GPU_TEMPERATURE, &[gpu], value),
        "power_watts" => values.set(&GPU_POWER, &[gpu], value),
        "sm_clock_mhz" => values.set(&GPU_CLOCK, &[gpu, ("clock", "sm")], value * 1e6),
        "memory_clock_mhz" => values.set(&GPU_CLOCK, &[gpu, ("clock", "memory")], value * 1e6),
        "throttle_reasons" => {
            for (reason, is_set) in throttle_reasons(value as u64) {
                values.set(&GPU_THROTTLED, &[gpu, ("reason", reason)], f64::from(u8::from(is_set)));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::FixedClock;
    use serde_json::json;

    fn exposition(run: &str) -> Exposition {
        Exposition::new(run, Arc::new(FixedClock::new(0, 1000)))
    }

    fn lines(text: &str, start: &str) -> Vec<String> {
        text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }

    #[test]
    fn only_what_was_measured_is_there() {
        let text = exposition("r").text(Format::OpenMetrics);
        assert!(lines(&text, "codex_train").is_empty() && text.ends_with("# EOF\n"), "{text}");
        assert_eq!(lines(&text, "process_resident_memory_bytes{run=\"r\"} ").len(), 1);
    }

    #[test]
    fn points_events_and_samples_have_their_names() {
        let all = exposition("r");
        let values = [("loss", 2.5), ("learning_rate", 3e-4), ("tokens_per_second", 1e3), ("grad_norm", f64::INFINITY), ("spikes", 1.0)];
        all.point(&MetricPoint { step: 7, split: "train", values: &values, tokens: 96, epoch: 0.5 });
        for split in ["validation", "validation/code"] {
            all.point(&MetricPoint {
                step: 7,
                split,
                values: &[("loss", 2.0), ("perplexity", 7.4), ("accuracy", 0.5)],
                tokens: 96,
                epoch: 0.5,
            });
        }
        all.event("checkpoint", Level::Info, &json!({ "step": 7 }));
        all.event("checkpoint", Level::Info, &json!({}));
        all.event("spike", Level::Warn, &Value::Null);
        let text = all.text(Format::Text);
        let expected = [
            "codex_train_step{run=\"r\"} 7.0",
            "codex_train_tokens_total{run=\"r\"} 96.0",
            "codex_train_loss{run=\"r\"} 2.5",
            "codex_learning_rate{run=\"r\"} 0.0003",
            "codex_validation_loss{run=\"r\",set=\"code\"} 2.0",
            "codex_validation_loss{run=\"r\",set=\"main\"} 2.0",
            "codex_metric{run=\"r\",split=\"train\",metric=\"spikes\"} 1.0",
            "codex_metric{run=\"r\",split=\"validation/code\",metric=\"accuracy\"} 0.5",
            "codex_checkpoints_total{run=\"r\"} 2.0",
            "codex_checkpoint_step{run=\"r\"} 7.0",
            "codex_events_total{run=\"r\",level=\"info\"} 2.0",
            "# TYPE codex_train_tokens_total counter",
        ];
        for line in expected {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(lines(&text, "codex_checkpoint_age_seconds{").len(), 1);
    }

    #[test]
    fn a_value_that_the_machine_no_longer_tells_is_no_longer_shown() {
        let all = exposition("r");
        let sample =
            [("cpu_percent", 50.0), ("gpu0_throttle_reasons", 4.0), ("gpu0_sm_clock_mhz", 1980.0), ("gpu_count", 1.0), ("gpux_y", 1.0)];
        all.system(&sample.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        let text = all.text(Format::Text);
        assert_eq!(lines(&text, "codex_cpu_usage_ratio"), ["codex_cpu_usage_ratio{run=\"r\"} 0.5"]);
        assert_eq!(lines(&text, "codex_gpu_clock_hertz"), ["codex_gpu_clock_hertz{run=\"r\",gpu=\"0\",clock=\"sm\"} 1980000000.0"]);
        let throttled = lines(&text, "codex_gpu_throttled{");
        assert_eq!(throttled.iter().filter(|line| line.ends_with(" 1.0")).count(), 1, "{throttled:?}");
        all.system(&BTreeMap::from([("cpu_percent".to_owned(), 10.0)]));
        let text = all.text(Format::Text);
        assert!(lines(&text, "codex_gpu").is_empty() && lines(&text, "codex_cpu_usage_ratio")[0].ends_with(" 0.1"), "{text}");
    }

    #[test]
    fn series_are_bounded_and_the_refused_are_counted() {
        let all = exposition("r");
        for idx in 0..MAX_SERIES + 10 {
            let name = format!("m{idx}");
            all.point(&MetricPoint { step: 1, split: "probe", values: &[(&name, 1.0)], tokens: 1, epoch: 0.0 });
        }
        let samples = all.samples();
        assert!(samples.len() <= MAX_SERIES + 1, "{}", samples.len());
        let refused = samples.iter().find(|sample| sample.metric == "codex_telemetry_refused_series_total").unwrap();
        assert!(refused.value >= 10.0, "{refused:?}");
    }

    #[test]
    fn a_label_cannot_end_its_line() {
        let all = exposition("a\"b\\c\nd");
        all.point(&MetricPoint { step: 1, split: "x\"\n# EOF", values: &[("y\\", 1.0)], tokens: 1, epoch: 0.0 });
        for format in [Format::Text, Format::OpenMetrics] {
            let text = all.text(format);
            let line = r#"codex_metric{run="a\"b\\c\nd",split="x\"\n# EOF",metric="y\\"} 1.0"#;
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
