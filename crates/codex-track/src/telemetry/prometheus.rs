//! Where the metrics of a run go for Prometheus: an address, a `.prom` file, or lines in the run folder where the address cannot be had.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::{Clock, Timestamp, failure, files};
use serde_json::json;

use super::config::TelemetryConfig;
use super::error::TelemetryError;
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

/// Shows the metrics of a run to Prometheus. It is a [`MetricWriter`], so the tracker can feed it; machine samples and events are fed to its
/// [`exposition`](Self::exposition).
#[derive(Debug)]
pub struct Prometheus {
    exposition: Arc<Exposition>,
    server: Option<Server>,
    fallback: Option<Fallback>,
    file: Option<PathBuf>,
    every_seconds: f64,
    next_at: f64,
    clock: Arc<dyn Clock>,
    status: TelemetryStatus,
}

#[derive(Debug)]
struct Fallback {
    log: LineLog,
    path: PathBuf,
    bytes: u64,
    max_bytes: u64,
}

impl Prometheus {
    /// The name of the writer.
    pub const NAME: &'static str = "prometheus";

    /// Opens what the config asks for; `None` when it asks for nothing. An address that cannot be had leaves the lines in the run folder, and the
    /// [status](Self::status) says so.
    pub fn open(run: &RunDir, config: &TelemetryConfig, clock: &Arc<dyn Clock>) -> Option<Self> {
        let address = config.prometheus_address();
        if matches!(address, Ok(None)) && config.prometheus_file.is_none() {
            return None;
        }
        let exposition = Arc::new(Exposition::new(&run.id(), Arc::clone(clock)));
        let limits = ServerLimits { any_host: config.prometheus_any_host, ..ServerLimits::default() };
        let served = address.and_then(|address| address.map(|address| Server::bind(address, Arc::clone(&exposition), limits)).transpose());
        let mut places = Vec::new();
        let mut reasons = Vec::new();
        let (mut server, mut fallback) = (None, None);
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
                        fallback = Some(opened);
                    }
                    Err(error) => reasons.push(failure::chain(&error)),
                }
            }
        }
        places.extend(config.prometheus_file.as_ref().map(|path| format!("the file `{}`", path.display())));
        let state = if reasons.is_empty() { State::On } else { State::Degraded(reasons.join("; ")) };
        Some(Self {
            exposition,
            server,
            fallback,
            file: config.prometheus_file.clone(),
            // As often as Prometheus reads by default where the machine is not sampled.
            every_seconds: if config.every_seconds > 0.0 { config.every_seconds } else { 15.0 },
            next_at: f64::NEG_INFINITY,
            clock: Arc::clone(clock),
            status: TelemetryStatus::new(Component::Prometheus, state, &places.join(", ")),
        })
    }

    /// What takes machine samples and events, and can be held beside the tracker.
    pub fn exposition(&self) -> Arc<Exposition> {
        Arc::clone(&self.exposition)
    }

    /// Where the metrics are served, if they are.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// Whether everything that was asked for works, and what does.
    pub fn status(&self) -> &TelemetryStatus {
        &self.status
    }

    /// Writes the files with what is known at this moment. A file that failed is not tried again, and the server goes on.
    pub fn publish(&mut self) -> Result<(), TelemetryError> {
        let mut first = Ok(());
        if let Some(path) = &self.file
            && let Err(error) = files::write_atomic(path, self.exposition.text(Format::Text).as_bytes())
        {
            self.file = None;
            first = Err(error.into());
        }
        let now = self.clock.now();
        if let Some(Err(error)) = self.fallback.as_mut().map(|fallback| fallback.append(&self.exposition, now)) {
            self.fallback = None;
            first = first.and(Err(error));
        }
        first
    }

    /// Notes in the status what stopped working. The server is kept, which an error to the tracker would drop.
    fn publish_or_note(&mut self) {
        if let Err(error) = self.publish() {
            self.status.state = State::Degraded(failure::chain(&error));
        }
    }
}

impl MetricWriter for Prometheus {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn write(&mut self, point: &MetricPoint<'_>, _: Timestamp) -> Result<(), TrackError> {
        self.exposition.point(point);
        let elapsed = self.clock.elapsed_seconds();
        if elapsed >= self.next_at {
            self.next_at = elapsed + self.every_seconds;
            self.publish_or_note();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        self.publish_or_note();
        Ok(())
    }
}

impl Fallback {
    fn open(folder: &Path, max_bytes: u64) -> Result<Self, TelemetryError> {
        let path = folder.join(FALLBACK_FILE);
        let log = LineLog::open(&path)?;
        Ok(Self { bytes: files::size(&path)?, log, path, max_bytes })
    }

    /// Appends a line for each series.
    fn append(&mut self, exposition: &Exposition, at: Timestamp) -> Result<(), TelemetryError> {
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
            return Err(TelemetryError::Full { path: self.path.clone(), max_bytes: self.max_bytes });
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
        let mut second = Prometheus::open(&run, &config(&taken, None), &clock()).unwrap();
        let sentence = second.status().sentence();
        assert!(
            sentence.starts_with(&format!("Prometheus output is not being served in full: cannot listen at `{taken}`: ")),
            "{sentence}"
        );
        assert!(sentence.ends_with("; what there is: the file `prometheus.ndjson` in the run folder"), "{sentence}");
        assert_eq!(second.address(), None);
        second.write(&point(3), Timestamp(0)).unwrap();
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
        // The clock moves a second at each look: at a point, at each text, and at a publication.
        let mut prometheus = Prometheus::open(&run, &config("off", Some(path.clone())), &clock()).unwrap();
        let steps = |text: &str| text.lines().find_map(|line| line.strip_prefix("codex_train_step{")?.rsplit_once(' ')?.1.parse().ok());
        let read = || steps(&files::read_to_string(&path).unwrap()).unwrap_or(f64::NAN);
        prometheus.write(&point(1), Timestamp(0)).unwrap();
        assert!((read() - 1.0).abs() < 1e-9);
        prometheus.write(&point(2), Timestamp(0)).unwrap();
        assert!((read() - 1.0).abs() < 1e-9, "published before it was due");
        prometheus.flush().unwrap();
        assert!((read() - 2.0).abs() < 1e-9);
        files::remove_file(&path).unwrap();
        files::create_dir_all(&path).unwrap();
        prometheus.flush().unwrap();
        assert!(
            matches!(&prometheus.status().state, State::Degraded(reason) if reason.contains("codex.prom")),
            "{:?}",
            prometheus.status()
        );
    }

    #[test]
    fn the_lines_end_at_their_limit() {
        let dir = tempfile::tempdir().unwrap();
        let exposition = Exposition::new("x", clock());
        let mut fallback = Fallback::open(dir.path(), 20_000).unwrap();
        exposition.point(&point(1));
        let error = (0..1000).find_map(|_| fallback.append(&exposition, Timestamp(0)).err()).unwrap();
        assert_eq!(error.code(), "file_full");
        assert!(files::size(&dir.path().join(FALLBACK_FILE)).unwrap() <= 20_000);
    }
}
