//! What the loop holds: every writer of a run, its events and its machine samples. What fails is reported once and left out; the run goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use codex_core::{Clock, failure};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::config::TrackConfig;
use crate::csv_writer::CsvWriter;
use crate::error::TrackError;
use crate::event::{self, Event, Level};
use crate::line_log::LineLog;
use crate::metric::{MetricPoint, MetricWriter, WriterContext, writers};
use crate::ndjson_writer::NdjsonWriter;
use crate::number::Number;
use crate::run_dir::RunDir;
use crate::shared_folder::SharedFolder;
use crate::system::{self, Sampling};

/// Something that was asked for and is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Degraded {
    /// What is off, such as `csv`, `events` or `sampler disk`.
    pub component: String,
    /// Why.
    pub reason: String,
}

impl Degraded {
    /// One line for a person, or `None` when nothing is off: `[telemetry] degraded: csv (cannot open …); …`.
    pub fn banner(all: &[Self]) -> Option<String> {
        let parts: Vec<String> = all.iter().map(|one| format!("{} ({})", one.component, one.reason)).collect();
        (!parts.is_empty()).then(|| format!("[telemetry] degraded: {}", parts.join("; ")))
    }
}

/// Keeps what a run reports.
#[derive(Debug)]
pub struct Tracker {
    run_id: String,
    clock: Arc<dyn Clock>,
    writers: Vec<Writer>,
    events: Option<LineLog>,
    system: Option<LineLog>,
    degraded: Vec<Degraded>,
    /// Held as long as the writers are.
    shared: Option<SharedFolder>,
}

struct Writer(Box<dyn MetricWriter>);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

impl Tracker {
    /// Opens the files of a run. `art_dir` takes `metrics.*` elsewhere; other runs may share it one after the other, and other tools at any time.
    /// One that cannot be had, because another run is writing to it or it cannot be made, leaves the metrics in the run's folder.
    ///
    /// With `resume_step` the metrics keep what they have up to that step and lose what is later; without it they begin anew. Events and machine
    /// samples are never taken out, only a torn last line.
    ///
    /// A file that cannot be opened is no error: see [`degraded`](Self::degraded). A folder that is not there is one.
    pub fn open(
        run: &RunDir,
        art_dir: Option<&Path>,
        resume_step: Option<u64>,
        clock: Arc<dyn Clock>,
        config: &TrackConfig,
    ) -> Result<Self, TrackError> {
        let run = RunDir::open(run.path())?;
        let mut tracker =
            Self { run_id: run.id(), clock, writers: Vec::new(), events: None, system: None, degraded: Vec::new(), shared: None };
        match LineLog::open(&run.path().join(event::FILE)) {
            Ok(log) => tracker.events = Some(log),
            Err(error) => tracker.degrade("events", &error),
        }
        match resume_step {
            Some(step) => tracker.event("resumed", Level::Info, &format!("resumed at step {step}"), json!({ "step": step })),
            None => tracker.event("started", Level::Info, "started", Value::Null),
        }
        let shared = match art_dir.map(SharedFolder::take).transpose() {
            Ok(shared) => shared,
            Err(error) => {
                tracker.degrade("metrics folder", &error);
                None
            }
        };
        if let Err(error) = run.redirect_metrics(shared.as_ref().map(SharedFolder::path)) {
            tracker.degrade("metrics location", &error);
        }
        let dir = shared.as_ref().map_or(run.path(), SharedFolder::path);
        let run_id = tracker.run_id.clone();
        let context = WriterContext { dir, run_id: &run_id, resume_step, shared: shared.is_some() };
        match writers() {
            Ok(registry) => {
                let wanted = [Some(NdjsonWriter::NAME), config.csv.then_some(CsvWriter::NAME)];
                for name in wanted.into_iter().flatten() {
                    match registry.resolve(name) {
                        Ok(open) => tracker.add(name, open(&context)),
                        Err(error) => tracker.degrade(name, &error),
                    }
                }
            }
            Err(error) => tracker.degrade("metrics", &error),
        }
        if config.system_every_seconds > 0.0 {
            match LineLog::open(&run.path().join(system::FILE)) {
                Ok(log) => tracker.system = Some(log),
                Err(error) => tracker.degrade("system", &error),
            }
        }
        tracker.shared = shared;
        Ok(tracker)
    }

    /// Adds a writer of another kind; one that could not be opened is reported like any other.
    pub fn add(&mut self, name: &str, opened: Result<Box<dyn MetricWriter>, TrackError>) {
        match opened {
            Ok(writer) => self.writers.push(Writer(writer)),
            Err(error) => self.degrade(name, &error),
        }
    }

    /// Hands a point to every writer.
    pub fn metrics(&mut self, point: &MetricPoint<'_>) {
        let at = self.clock.now();
        self.each_writer(|writer| writer.write(point, at));
    }

    /// Keeps an event. The names `ts`, `level`, `kind` and `message` are the event's own; see [`Event::new`].
    pub fn event(&mut self, kind: &str, level: Level, message: &str, fields: Value) {
        let event = Event::new(self.clock.now(), level, kind, message, fields);
        if let Some(log) = &mut self.events
            && let Err(error) = event.append_to(log)
        {
            self.events = None;
            self.degrade("events", &error);
        }
    }

    /// Takes a sample of the machine when one is due, and keeps it in `system.ndjson`.
    pub fn sample_system(&mut self, sampling: &mut Sampling, step: u64) {
        if self.system.is_none() || !sampling.due(self.clock.elapsed_seconds()) {
            return;
        }
        let (values, failures) = sampling.sample();
        for (sampler, error) in failures {
            self.degrade(&format!("sampler {sampler}"), &error);
        }
        let mut line: Map<String, Value> = values.into_iter().map(|(name, value)| (name, json!(Number(value)))).collect();
        line.insert("ts".to_owned(), self.clock.now().to_rfc3339().into());
        line.insert("step".to_owned(), step.into());
        let mut bytes = Value::Object(line).to_string().into_bytes();
        bytes.push(b'\n');
        if let Some(Err(error)) = self.system.as_mut().map(|log| log.append(&bytes)) {
            self.system = None;
            self.degrade("system", &error);
        }
    }

    /// What was asked for and is not done, in the order in which it was found.
    pub fn degraded(&self) -> &[Degraded] {
        &self.degraded
    }

    /// Makes everything kept so far survive a power loss. What cannot be flushed is not tried again.
    pub fn flush(&mut self) {
        self.each_writer(|writer| writer.flush());
        if let Some(Err(error)) = self.system.as_mut().map(LineLog::sync) {
            self.system = None;
            self.degrade("system", &error);
        }
        if let Some(Err(error)) = self.events.as_mut().map(LineLog::sync) {
            self.events = None;
            self.degrade("events", &error);
        }
    }

    fn each_writer(&mut self, mut call: impl FnMut(&mut dyn MetricWriter) -> Result<(), TrackError>) {
        let mut failed = Vec::new();
        self.writers.retain_mut(|Writer(writer)| match call(writer.as_mut()) {
            Ok(()) => true,
            Err(error) => {
                failed.push((writer.name().to_owned(), error));
                false
            }
        });
        for (name, error) in failed {
            self.degrade(&name, &error);
        }
    }

    /// Reports a component once.
    pub fn degrade(&mut self, component: &str, error: &dyn std::error::Error) {
        if self.degraded.iter().any(|known| known.component == component) {
            return;
        }
        let one = Degraded { component: component.to_owned(), reason: failure::chain(error) };
        let message = format!("`{component}` is off: {}", one.reason);
        let fields = json!({ "component": one.component, "reason": one.reason });
        self.degraded.push(one);
        self.event("degraded", Level::Warn, &message, fields);
    }
}

/// Samples by name, as one line of `system.ndjson` holds them.
pub(crate) type SystemValues = BTreeMap<String, f64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_each_component_once() {
        assert_eq!(Degraded::banner(&[]), None);
        let one = |component: &str, reason: &str| Degraded { component: component.into(), reason: reason.into() };
        let banner = Degraded::banner(&[one("csv", "disk full"), one("events", "read-only")]);
        assert_eq!(banner.unwrap(), "[telemetry] degraded: csv (disk full); events (read-only)");
    }
}
