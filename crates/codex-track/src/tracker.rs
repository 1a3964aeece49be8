//! What the loop holds: every writer of a run, its events and its machine samples. What fails is reported once and left out; the run goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::{Clock, failure};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::catch_up::{catch_up, kept_texts, text_of};
use crate::config::TrackConfig;
use crate::csv_writer::CsvWriter;
use crate::error::TrackError;
use crate::event::{self, Event, Level};
use crate::line_log::LineLog;
use crate::metric::{MetricPoint, MetricWriter, WriterContext, writers};
use crate::mlflow_writer::MlflowWriter;
use crate::ndjson_writer::NdjsonWriter;
use crate::number::Number;
use crate::run_dir::RunDir;
use crate::run_info::{RunEnd, RunInfo};
use crate::run_record::RunStatus;
use crate::shared_folder::SharedFolder;
use crate::system::{self, Sampling};
use crate::telemetry::Exposition;
use crate::tensorboard_writer::TensorboardWriter;
use crate::wandb_writer::WandbWriter;

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

    /// One row for each, as the table at the end of a run shows it: the component and the reason.
    pub fn rows(all: &[Self]) -> Vec<[String; 2]> {
        all.iter().map(|one| [one.component.clone(), one.reason.clone()]).collect()
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
    /// Where machine samples go; `None` once that was tried.
    system_path: Option<PathBuf>,
    exposition: Option<Arc<Exposition>>,
    degraded: Vec<Degraded>,
    strict: bool,
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
        let mut tracker = Self {
            run_id: run.id(),
            clock,
            writers: Vec::new(),
            events: None,
            system: None,
            system_path: Some(run.path().join(system::FILE)),
            exposition: None,
            degraded: Vec::new(),
            strict: config.strict,
            shared: None,
        };
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
        let rotate_bytes = config.rotate_mib.saturating_mul(1 << 20);
        let context = WriterContext { dir, run_dir: run.path(), run_id: &run_id, resume_step, shared: shared.is_some(), rotate_bytes };
        tracker.open_writers(&run, &context, config);
        tracker.shared = shared;
        Ok(tracker)
    }

    /// Opens `metrics.ndjson`, and then every view of it that is asked for, which is brought to what it holds.
    fn open_writers(&mut self, run: &RunDir, context: &WriterContext<'_>, config: &TrackConfig) {
        let registry = match writers() {
            Ok(registry) => registry,
            Err(error) => return self.degrade("metrics", &error),
        };
        let mut open = |name: &str| match registry.resolve(name) {
            Ok(open) => open(context).map_err(|error| self.degrade(name, &error)).ok(),
            Err(error) => {
                self.degrade(name, &error);
                None
            }
        };
        let truth = open(NdjsonWriter::NAME);
        let views = [
            (CsvWriter::NAME, config.csv),
            (TensorboardWriter::NAME, config.tensorboard),
            (MlflowWriter::NAME, config.mlflow),
            (WandbWriter::NAME, config.wandb),
        ];
        let mut opened: Vec<_> = views.iter().filter(|(_, is_wanted)| *is_wanted).filter_map(|(name, _)| open(name)).collect();
        let has_truth = truth.is_some();
        self.writers.extend(truth.map(Writer));
        let (info, texts, at) = (RunInfo::of_run(run), kept_texts(run, context.resume_step), self.clock.now());
        for mut view in opened.drain(..) {
            let brought = view.start(&info, at).and_then(|()| {
                // Without the truth a view is only shortened to the step that the run goes on from.
                if has_truth { catch_up(view.as_mut(), context, &texts) } else { view.settle(context.resume_step) }
            });
            match brought {
                Ok(()) => self.writers.push(Writer(view)),
                Err(error) => self.degrade(view.name(), &error),
            }
        }
    }

    /// Adds a writer of another kind; one that could not be opened is reported like any other.
    pub fn add(&mut self, name: &str, opened: Result<Box<dyn MetricWriter>, TrackError>) {
        match opened {
            Ok(writer) => self.writers.push(Writer(writer)),
            Err(error) => self.degrade(name, &error),
        }
    }

    /// Tells every writer what the run is called and how it is configured. What the run folder says of that they know already.
    pub fn start(&mut self, info: &RunInfo) {
        let at = self.clock.now();
        self.each_writer(|writer| writer.start(info, at));
    }

    /// Keeps a text of a step as an event of the kind `text`, and hands it to every writer.
    pub fn text(&mut self, step: u64, name: &str, text: &str) {
        self.event("text", Level::Info, name, json!({ "step": step, "name": name, "text": text }));
    }

    /// Tells every writer how the run ended, after all that there was to write, and flushes. The run may be taken up again by a tracker that is
    /// opened anew.
    pub fn finish(&mut self, status: RunStatus, summary: &BTreeMap<String, f64>) {
        let (at, end) = (self.clock.now(), RunEnd { status, summary: summary.clone() });
        self.each_writer(|writer| writer.finish(&end, at));
        self.flush();
    }

    /// What `track.strict` makes of a run that did not record all that was asked for. It is for the end: the run goes on until then.
    pub fn strict_failure(&self) -> Option<TrackError> {
        let components = || self.degraded.iter().map(|one| one.component.clone()).collect();
        (self.strict && !self.degraded.is_empty()).then(|| TrackError::Strict { components: components() })
    }

    /// Shows machine samples and events to whoever reads this from now on; points come to it through a [writer](Self::add).
    pub fn expose(&mut self, exposition: Arc<Exposition>) {
        self.exposition = Some(exposition);
    }

    /// Hands a point to every writer.
    pub fn metrics(&mut self, point: &MetricPoint<'_>) {
        let at = self.clock.now();
        self.each_writer(|writer| writer.write(point, at));
    }

    /// Keeps an event; the text of a `sample` goes to every writer too. The names `ts`, `level`, `kind` and `message` are the event's own; see [`Event::new`].
    pub fn event(&mut self, kind: &str, level: Level, message: &str, fields: Value) {
        let at = self.clock.now();
        let event = Event::new(at, level, kind, message, fields);
        if let Some(exposition) = &self.exposition {
            exposition.event(kind, level, &Value::Object(event.fields.clone()));
        }
        if let Some((step, name, text)) = text_of(kind, &event.fields) {
            self.each_writer(|writer| writer.text(step, &name, &text, at));
        }
        if let Some(log) = &mut self.events
            && let Err(error) = event.append_to(log)
        {
            self.events = None;
            self.degrade("events", &error);
        }
    }

    /// Takes a sample of the machine when one is due, and keeps it in `system.ndjson`.
    pub fn sample_system(&mut self, sampling: &mut Sampling, step: u64) {
        if !sampling.due(self.clock.elapsed_seconds()) {
            return;
        }
        if let Some(path) = self.system_path.take() {
            match LineLog::open(&path) {
                Ok(log) => self.system = Some(log),
                Err(error) => self.degrade("system", &error),
            }
        }
        if self.system.is_none() && self.exposition.is_none() {
            return;
        }
        let (values, failures) = sampling.sample();
        if let Some(exposition) = &self.exposition {
            exposition.system(&values);
        }
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
