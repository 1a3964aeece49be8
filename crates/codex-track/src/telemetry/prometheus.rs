//! Where the metrics of a run go for Prometheus: an address, a `.prom` file, or lines in the run folder where the address cannot be had.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::{Clock, FileError, Timestamp, failure, files};
use serde_json::json;

use super::config::TelemetryConfig;
use super::exposition::{Exposition, Format};
use super::server::{Server, ServerLimits};
use super::status::{Component, State, TelemetryStatus};
use crate::error::TrackError;
use crate::line_log::LineLog;
use crate::metric::{MetricPoint, MetricWriter};
use crate::number::Number;
use crate::run_dir::RunDir;

/// The file that takes the metrics where they cannot be served.
pub const FALLBACK_FILE: &str = "prometheus.ndjson";

/// A longer fallback file is not continued.
const MAX_FALLBACK_BYTES: u64 = 64 << 20;

/// Shows the metrics of a run to Prometheus. The tracker feeds it through its [writers](Self::into_writers); machine samples and events are fed to its
/// [`exposition`](Self::exposition).
#[derive(Debug)]
pub struct Prometheus {
    exposition: Arc<Exposition>,
    server: Option<Server>,
    publishers: Vec<Publisher>,
    status: TelemetryStatus,
}

/// Hands points to the exposition, and keeps the server for as long.
#[derive(Debug)]
struct Feed {
    exposition: Arc<Exposition>,
    /// Held as long as there is something to serve.
    _server: Option<Server>,
}

/// Writes the metrics to one file every so often. It is a writer of its own, so that one file that fails takes nothing else with it.
#[derive(Debug)]
struct Publisher {
    exposition: Arc<Exposition>,
    place: Place,
    every_seconds: f64,
    next_at: f64,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
enum Place {
    /// The whole text, each time in place of the one before.
    File(PathBuf),
    /// A line for each series, each time behind those before.
    Lines(Fallback),
}

#[derive(Debug)]
struct Fallback {
    log: LineLog,
    path: PathBuf,
    bytes: u64,
    max_bytes: u64,
}

impl Prometheus {
    /// Opens what the config asks for; `None` when it asks for nothing. An address that cannot be had leaves the lines in the run folder, and the
    /// [status](Self::status) says so.
    pub fn open(run: &RunDir, config: &TelemetryConfig, clock: &Arc<dyn Clock>) -> Option<Self> {
        let address = config.prometheus_address();
        if matches!(address, Ok(None)) && config.prometheus_file.is_none() {
            return None;
        }
        let exposition = Arc::new(Exposition::new(&run.id(), Arc::clone(clock)));
        let publisher = |place| Publisher {
            exposition: Arc::clone(&exposition),
            place,
            // As often as Prometheus reads by default where the machine is not sampled.
            every_seconds: if config.every_seconds > 0.0 { config.every_seconds } else { 15.0 },
            next_at: f64::NEG_INFINITY,
            clock: Arc::clone(clock),
        };
        let limits = ServerLimits { any_host: config.prometheus_any_host, ..ServerLimits::default() };
        let served = address.and_then(|address| address.map(|address| Server::bind(address, Arc::clone(&exposition), limits)).transpose());
        let mut places = Vec::new();
        let mut reasons = Vec::new();
        let mut publishers = Vec::new();
        let mut server = None;
        match served {
            Ok(found) => {
                places.extend(found.as_ref().map(|server| format!("`http://{}/metrics`", server.address())));
                server = found;
            }
            Err(error) => {
                reasons.push(failure::chain(&error));
                match Fallback::open(run.path(), MAX_FALLBACK_BYTES) {
                    Ok(opened) => {
                        places.push(format!("the file `{FALLBACK_FILE}` in the run folder"));
                        publishers.push(publisher(Place::Lines(opened)));
                    }
                    Err(error) => reasons.push(failure::chain(&error)),
                }
            }
        }
        if let Some(path) = &config.prometheus_file {
            places.push(format!("the file `{}`", path.display()));
            publishers.push(publisher(Place::File(path.clone())));
        }
        let state = if reasons.is_empty() { State::On } else { State::Degraded(reasons.join("; ")) };
        let status = TelemetryStatus::new(Component::Prometheus, state, &places.join(", "));
        Some(Self { exposition, server, publishers, status })
    }

    /// What takes machine samples and events, and can be held beside the tracker.
    pub fn exposition(&self) -> Arc<Exposition> {
        Arc::clone(&self.exposition)
    }

    /// Where the metrics are served, if they are.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// Whether everything that was asked for could be opened, and what there is.
    pub fn status(&self) -> &TelemetryStatus {
        &self.status
    }

    /// What the tracker is given, each under its name and in this order. The server stops when the first is dropped.
    pub fn into_writers(self) -> Vec<Box<dyn MetricWriter>> {
        let mut writers: Vec<Box<dyn MetricWriter>> = vec![Box::new(Feed { exposition: self.exposition, _server: self.server })];
        writers.extend(self.publishers.into_iter().map(|publisher| Box::new(publisher) as Box<dyn MetricWriter>));
        writers
    }
}

impl MetricWriter for Feed {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn write(&mut self, point: &MetricPoint<'_>, _: Timestamp) -> Result<(), TrackError> {
        self.exposition.point(point);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        Ok(())
    }
}

impl Publisher {
    fn publish(&mut self) -> Result<(), TrackError> {
        match &mut self.place {
            Place::File(path) => Ok(files::write_atomic(path, self.exposition.text(Format::Text).as_bytes())?),
            Place::Lines(fallback) => Ok(fallback.append(&self.exposition, self.clock.now())?),
        }
    }
}

impl MetricWriter for Publisher {
    fn name(&self) -> &'static str {
        match &self.place {
            Place::File(_) => "prometheus file",
            Place::Lines(_) => "prometheus lines",
        }
    }

    fn write(&mut self, _: &MetricPoint<'_>, _: Timestamp) -> Result<(), TrackError> {
        let elapsed = self.clock.elapsed_seconds();
        if elapsed < self.next_at {
            return Ok(());
        }
        self.next_at = elapsed + self.every_seconds;
        self.publish()
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        self.publish()
    }
}

impl Fallback {
    fn open(folder: &Path, max_bytes: u64) -> Result<Self, FileError> {
        let path = folder.join(FALLBACK_FILE);
        let log = LineLog::open(&path)?;
        Ok(Self { bytes: files::size(&path)?, log, path, max_bytes })
    }

    /// Appends a line for each series.
    fn append(&mut self, exposition: &Exposition, at: Timestamp) -> Result<(), FileError> {
        let ts = at.to_rfc3339();
        let mut lines = String::new();
        for sample in exposition.samples() {
            let line = json!({
                "metric": sample.metric, "kind": sample.kind, "value": Number(sample.value), "labels": sample.labels,
                "description": sample.description, "ts": ts,
            });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        if self.bytes + lines.len() as u64 > self.max_bytes {
            let full = io::Error::new(io::ErrorKind::FileTooLarge, format!("it would be larger than {} bytes", self.max_bytes));
            return Err(FileError::new("append to", &self.path, full));
        }
        self.log.append(lines.as_bytes())?;
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::FixedClock;
    use serde_json::Value;

    fn clock() -> Arc<dyn Clock> {
        Arc::new(FixedClock::new(1_795_484_319_250, 1000))
    }

    fn config(prometheus: &str, file: Option<PathBuf>) -> TelemetryConfig {
        TelemetryConfig { prometheus: prometheus.to_owned(), prometheus_file: file, ..TelemetryConfig::default() }
    }

    fn point(step: u64) -> MetricPoint<'static> {
        MetricPoint { step, split: "train", values: &[("loss", 2.5), ("learning_rate", f64::NAN)], tokens: step * 32, epoch: 0.5 }
    }

    fn write(writers: &mut [Box<dyn MetricWriter>], step: u64) {
        for writer in writers {
            writer.write(&point(step), Timestamp(0)).unwrap();
        }
    }

    #[test]
    fn nothing_is_opened_that_is_not_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        assert!(Prometheus::open(&run, &TelemetryConfig::default(), &clock()).is_none());
        assert!(files::list_dir(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_taken_address_leaves_lines_in_the_run_folder() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        let first = Prometheus::open(&run, &config("127.0.0.1:0", None), &clock()).unwrap();
        assert_eq!(first.status().state, State::On);
        let taken = first.address().unwrap().to_string();
        let second = Prometheus::open(&run, &config(&taken, None), &clock()).unwrap();
        let sentence = second.status().sentence();
        assert!(
            sentence.starts_with(&format!("Prometheus output is not being served in full: cannot listen at `{taken}`: ")),
            "{sentence}"
        );
        assert!(sentence.ends_with("; what there is: the file `prometheus.ndjson` in the run folder"), "{sentence}");
        assert_eq!(second.address(), None);
        let mut writers = second.into_writers();
        assert_eq!(writers.iter().map(|writer| writer.name()).collect::<Vec<_>>(), ["prometheus", "prometheus lines"]);
        write(&mut writers, 3);
        let text = files::read_to_string(&dir.path().join(FALLBACK_FILE)).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let line = |metric: &str| lines.iter().find(|line| line["metric"] == metric).unwrap_or_else(|| panic!("{metric}: {text}"));
        let loss = line("codex_train_loss");
        assert_eq!((loss["value"].as_f64(), loss["kind"].as_str()), (Some(2.5), Some("gauge")));
        assert!(loss["description"].is_string() && loss["ts"].as_str().unwrap().starts_with("2026-11-24T01:38:"));
        assert_eq!(line("codex_train_tokens_total")["kind"], "counter");
        assert_eq!(line("codex_learning_rate")["value"], "NaN");
        assert!(line("process_resident_memory_bytes")["value"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn a_file_is_kept_up_to_date_at_the_cadence_and_at_a_flush() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        let path = dir.path().join("codex.prom");
        // The clock moves a second at each look, and the file is due every five.
        let mut writers = Prometheus::open(&run, &config("off", Some(path.clone())), &clock()).unwrap().into_writers();
        let steps = |text: &str| text.lines().find_map(|line| line.strip_prefix("codex_train_step{")?.rsplit_once(' ')?.1.parse().ok());
        let read = || steps(&files::read_to_string(&path).unwrap()).unwrap_or(f64::NAN);
        write(&mut writers, 1);
        assert!((read() - 1.0).abs() < 1e-9);
        write(&mut writers, 2);
        assert!((read() - 1.0).abs() < 1e-9, "published before it was due");
        writers[1].flush().unwrap();
        assert!((read() - 2.0).abs() < 1e-9);
        (3..9).for_each(|step| write(&mut writers, step));
        assert!(read() > 2.0);
        files::remove_file(&path).unwrap();
        files::create_dir_all(&path).unwrap();
        // The tracker says so and drops this writer alone.
        assert!(writers[1].flush().unwrap_err().to_string().contains("codex.prom"));
        assert!(writers[0].flush().is_ok());
    }

    #[test]
    fn the_lines_end_at_their_limit() {
        let dir = tempfile::tempdir().unwrap();
        let exposition = Exposition::new("x", clock());
        let mut fallback = Fallback::open(dir.path(), 20_000).unwrap();
        exposition.point(&point(1));
        let error = (0..1000).find_map(|_| fallback.append(&exposition, Timestamp(0)).err()).unwrap();
        assert!(error.to_string().ends_with("it would be larger than 20000 bytes"), "{error}");
        assert!(files::size(&dir.path().join(FALLBACK_FILE)).unwrap() <= 20_000);
    }
}
