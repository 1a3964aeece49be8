//! Where the time goes: spans of the loop, streamed to a file in Chrome's trace format, and a table of them by name. Names are the caller's.
//!
//! The file is an array of complete events (`"ph":"X"`, times in microseconds), as the "Trace Event Format" describes and Perfetto reads. Only whole
//! events are ever written, so what a killed process leaves is the beginning of that array, which those readers accept without its end.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codex_core::{Clock, FileError, files};
use serde_json::{Map, Value, json};

use super::time_table::{TimeTable, Times};

/// The file in a run folder.
pub const FILE: &str = "trace.json";

/// More events than this are counted in the table and not written: about 100 bytes each.
pub const MAX_EVENTS: u64 = 1_000_000;
/// Events are gathered up to this size before they are written.
const BUFFER_BYTES: usize = 64 << 10;
/// A name is cut to this many characters.
const MAX_NAME_CHARS: usize = 100;
/// More names than this share one row of the table.
const MAX_NAMES: usize = 500;
const OTHER_NAMES: &str = "(other spans)";
/// A thread's spans nested deeper than this are not followed.
const MAX_DEPTH: usize = 256;

thread_local! {
    static THREAD: u64 = {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// Renames what an earlier process traced to the first free `trace-1.json`, `trace-2.json`, …
pub(super) fn put_away(path: &Path) -> Result<(), FileError> {
    if !files::is_plain_file(path) {
        return Ok(());
    }
    let mut names = (1_u32..).map(|n| path.with_file_name(format!("trace-{n}.json")));
    names.find(|name| !name.exists()).map_or(Ok(()), |name| files::rename_new(path, &name))
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRecord<'a> {
    /// What was done.
    pub name: &'a str,
    /// The number of the thread; see [`this_thread`].
    pub thread: u64,
    /// When it began, in seconds of the trace's clock.
    pub start_seconds: f64,
    /// How long it took.
    pub duration_seconds: f64,
    /// What else belongs to it, by name.
    pub args: Map<String, Value>,
}

/// A small number for the thread that asks, the same for as long as it lives.
pub fn this_thread() -> u64 {
    THREAD.with(|number| *number)
}

/// Takes spans. Clones share the trace.
#[derive(Clone, Debug)]
pub struct Trace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    began: f64,
    pid: u32,
    state: Mutex<TraceState>,
}

#[derive(Debug)]
struct TraceState {
    /// `None` once writing has failed or the trace has ended.
    file: Option<File>,
    path: PathBuf,
    buffer: String,
    is_first: bool,
    max_events: u64,
    n_events: u64,
    n_dropped: u64,
    error: Option<FileError>,
    open: BTreeMap<u64, Vec<OpenSpan>>,
    named_threads: BTreeSet<u64>,
    table: BTreeMap<String, Times>,
    next_id: u64,
}

#[derive(Debug)]
struct OpenSpan {
    id: u64,
    name: String,
    start: f64,
    /// How much of it was spent in spans below.
    below: f64,
}

/// What came of a trace.
#[derive(Debug)]
pub struct TraceReport {
    /// The spans by name.
    pub table: TimeTable,
    /// Events in the file, the names of threads among them.
    pub n_events: u64,
    /// Spans that are in the table only, because the file has its fill.
    pub n_dropped: u64,
    /// Why the file ends before the trace does, if it does.
    pub error: Option<FileError>,
}

/// A span that ends when it is dropped.
#[must_use = "a span ends where it is dropped"]
#[derive(Debug)]
pub struct Span<'a> {
    trace: &'a Trace,
    id: u64,
    thread: u64,
    args: Map<String, Value>,
}

impl Trace {
    /// Begins a trace in a new file, in place of what is there.
    pub fn start(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, FileError> {
        Self::start_bounded(path, clock, MAX_EVENTS)
    }

    /// The same with at most this many events in the file.
    pub fn start_bounded(path: &Path, clock: Arc<dyn Clock>, max_events: u64) -> Result<Self, FileError> {
        files::write_atomic(path, b"[\n")?;
        let state = TraceState {
            file: Some(files::open_append(path)?),
            path: path.to_owned(),
            buffer: String::new(),
            is_first: true,
            max_events,
            n_events: 0,
            n_dropped: 0,
            error: None,
            open: BTreeMap::new(),
            named_threads: BTreeSet::new(),
            table: BTreeMap::new(),
            next_id: 0,
        };
        let began = clock.elapsed_seconds();
        let trace = Self(Arc::new(Inner { clock, began, pid: std::process::id(), state: Mutex::new(state) }));
        let name = trace.0.metadata("process_name", 0, "codex");
        trace.0.locked().write(&name);
        Ok(trace)
    }

    /// Begins a span in this thread, inside those of this thread that are open.
    pub fn span(&self, name: &str) -> Span<'_> {
        let (thread, id) = self.begin(name);
        Span { trace: self, id, thread, args: Map::new() }
    }

    /// Begins a span that ends by [`end`](Self::end): the thread's number and the span's.
    pub(crate) fn begin(&self, name: &str) -> (u64, u64) {
        let thread = this_thread();
        let start = self.0.clock.elapsed_seconds();
        let mut state = self.0.locked();
        state.next_id += 1;
        let id = state.next_id;
        let open = state.open.entry(thread).or_default();
        if open.len() < MAX_DEPTH {
            open.push(OpenSpan { id, name: shortened(name).into_owned(), start, below: 0.0 });
        }
        (thread, id)
    }

    /// Ends a span. One that is not open is nothing.
    pub(crate) fn end(&self, thread: u64, id: u64, args: Map<String, Value>) {
        let now = self.0.clock.elapsed_seconds();
        let mut state = self.0.locked();
        let Some(open) = state.open.get_mut(&thread) else { return };
        let Some(at) = open.iter().rposition(|span| span.id == id) else { return };
        let span = open.remove(at);
        let duration = (now - span.start).max(0.0);
        if let Some(parent) = at.checked_sub(1).and_then(|parent| open.get_mut(parent)) {
            parent.below += duration;
        }
        let record = SpanRecord { name: &span.name, thread, start_seconds: span.start, duration_seconds: duration, args };
        self.0.keep(&mut state, &record, (duration - span.below).max(0.0));
    }

    /// Adds a span that was measured elsewhere, with the trace's clock. All its time counts as its own.
    pub fn record(&self, span: &SpanRecord<'_>) {
        self.0.keep(&mut self.0.locked(), span, span.duration_seconds);
    }

    /// Writes what is gathered, so that a killed process leaves it.
    pub fn flush(&self) {
        self.0.locked().flush();
    }

    /// The spans so far by name.
    pub fn table(&self) -> TimeTable {
        let elapsed = self.0.clock.elapsed_seconds() - self.0.began;
        TimeTable::new(&self.0.locked().table, elapsed)
    }

    /// Ends the file and says what was measured. Spans that are still open, here or in clones, are not in it.
    pub fn finish(self) -> TraceReport {
        let elapsed = self.0.clock.elapsed_seconds() - self.0.began;
        let mut state = self.0.locked();
        if state.n_dropped > 0 {
            let text = format!("{} later spans are not in this file", state.n_dropped);
            let event = json!({
                "name": text, "ph": "i", "s": "g", "ts": self.0.microseconds(elapsed + self.0.began), "pid": self.0.pid, "tid": 0,
            });
            state.write_past_limit(&event);
        }
        state.buffer.push_str("\n]\n");
        state.flush();
        state.file = None;
        let error = state.error.take();
        TraceReport { table: TimeTable::new(&state.table, elapsed), n_events: state.n_events, n_dropped: state.n_dropped, error }
    }
}

impl Inner {
    /// A thread that panicked while it held the lock left whole events.
    fn locked(&self) -> MutexGuard<'_, TraceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the trace began, in steps of a nanosecond.
    fn microseconds(&self, seconds: f64) -> f64 {
        ((seconds - self.began) * 1e9).round() / 1e3
    }

    fn metadata(&self, kind: &str, thread: u64, name: &str) -> Value {
        json!({ "name": kind, "ph": "M", "pid": self.pid, "tid": thread, "args": { "name": name } })
    }

    fn keep(&self, state: &mut TraceState, span: &SpanRecord<'_>, own_seconds: f64) {
        let name = shortened(span.name);
        let row = if state.table.contains_key(name.as_ref()) || state.table.len() < MAX_NAMES { name.as_ref() } else { OTHER_NAMES };
        state.table.entry(row.to_owned()).or_default().add(span.duration_seconds, own_seconds);
        if state.n_events >= state.max_events {
            state.n_dropped += 1;
            return;
        }
        if span.thread == this_thread() && state.named_threads.insert(span.thread) {
            let current = std::thread::current();
            let event = self.metadata("thread_name", span.thread, &shortened(current.name().unwrap_or("thread")));
            state.write(&event);
        }
        let mut event = json!({
            "name": name, "cat": "codex", "ph": "X", "ts": self.microseconds(span.start_seconds),
            "dur": (span.duration_seconds * 1e9).round() / 1e3, "pid": self.pid, "tid": span.thread,
        });
        if !span.args.is_empty() {
            event["args"] = Value::Object(span.args.clone());
        }
        state.write(&event);
    }
}

impl TraceState {
    fn write(&mut self, event: &Value) {
        if self.n_events < self.max_events {
            self.write_past_limit(event);
        }
    }

    fn write_past_limit(&mut self, event: &Value) {
        if self.file.is_none() {
            return;
        }
        // The comma stands before an event, so that the file always ends with a whole one.
        self.buffer.push_str(if std::mem::take(&mut self.is_first) { "" } else { ",\n" });
        self.buffer.push_str(&event.to_string());
        self.n_events += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// One write of whole events. After an error the file is left alone.
    fn flush(&mut self) {
        let Some(file) = &mut self.file else { return };
        if let Err(source) = file.write_all(self.buffer.as_bytes()) {
            self.error = Some(FileError::new("append to", &self.path, source));
            self.file = None;
        }
        self.buffer.clear();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.locked().flush();
    }
}

impl Span<'_> {
    /// Adds something that belongs to the span.
    pub fn arg(&mut self, name: &str, value: impl Into<Value>) {
        self.args.insert(name.to_owned(), value.into());
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        self.trace.end(self.thread, self.id, std::mem::take(&mut self.args));
    }
}

fn shortened(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(MAX_NAME_CHARS) {
        None => Cow::Borrowed(name),
        Some((end, _)) => Cow::Borrowed(&name[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::FixedClock;

    /// A clock that moves by a millisecond at each look.
    fn clock() -> Arc<dyn Clock> {
        Arc::new(FixedClock::new(0, 1))
    }

    fn events(path: &Path) -> Vec<Value> {
        let text = files::read_to_string(path).unwrap();
        let whole = if text.ends_with("]\n") { text } else { format!("{text}]") };
        serde_json::from_str(&whole).unwrap()
    }

    fn spans(events: &[Value]) -> Vec<(&str, f64, f64)> {
        let only = events.iter().filter(|event| event["ph"] == "X");
        only.map(|event| (event["name"].as_str().unwrap(), event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap())).collect()
    }

    #[test]
    fn spans_nest_in_the_file_and_in_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let trace = Trace::start(&path, clock()).unwrap();
        {
            let mut step = trace.span("step");
            step.arg("step", 7);
            for name in ["forward", "backward", "forward"] {
                drop(trace.span(name));
            }
        }
        let report = trace.finish();
        let events = events(&path);
        // Each look at the clock is a millisecond: the trace begins at 0, the step at 1.
        let expected = [("forward", 2e3, 1e3), ("backward", 4e3, 1e3), ("forward", 6e3, 1e3), ("step", 1e3, 7e3)];
        assert_eq!(spans(&events), expected);
        assert_eq!(events.iter().find(|event| event["name"] == "step").unwrap()["args"]["step"], 7);
        let names: Vec<&Value> = events.iter().filter(|event| event["ph"] == "M").map(|event| &event["args"]["name"]).collect();
        assert_eq!(names.len(), 2);
        assert_eq!((names[0], names[1].as_str()), (&json!("codex"), std::thread::current().name()));
        assert_eq!((report.n_events, report.n_dropped, report.error.is_none()), (6, 0, true));
        let row = |name: &str| report.table.rows.iter().find(|row| row.name == name).unwrap().clone();
        assert_eq!((row("forward").count, row("step").count), (2, 1));
        assert!((row("step").total_seconds - 0.007).abs() < 1e-9 && (row("step").own_seconds - 0.004).abs() < 1e-9, "{:?}", row("step"));
    }

    #[test]
    fn what_a_killed_process_leaves_is_the_beginning_of_an_array() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let trace = Trace::start(&path, clock()).unwrap();
        assert_eq!(files::read_to_string(&path).unwrap(), "[\n");
        let mut n = 0;
        while files::size(&path).unwrap() < 3 {
            drop(trace.span("forward"));
            n += 1;
        }
        assert!(n > 100, "written one by one");
        // As after a kill: nothing more is written, and there is no end.
        let text = files::read_to_string(&path).unwrap();
        assert!(text.ends_with('}') && serde_json::from_str::<Value>(&text).is_err());
        assert_eq!(spans(&events(&path)).len(), n);
        drop(trace.span("late"));
        trace.flush();
        assert_eq!(spans(&events(&path)).len(), n + 1);
        drop(trace.finish());
        assert!(serde_json::from_str::<Value>(&files::read_to_string(&path).unwrap()).is_ok());
    }

    #[test]
    fn a_full_file_says_so_and_the_table_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let trace = Trace::start_bounded(&path, clock(), 4).unwrap();
        (0..10).for_each(|_| drop(trace.span("forward")));
        let report = trace.finish();
        assert_eq!(report.table.rows[0].count, 10);
        let events = events(&path);
        assert_eq!((spans(&events).len(), report.n_dropped), (2, 8));
        assert_eq!(events.last().unwrap()["name"], "8 later spans are not in this file");
    }

    #[test]
    fn threads_have_numbers_and_names_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let trace = Trace::start(&path, clock()).unwrap();
        let outer = trace.span("step");
        let other = trace.clone();
        std::thread::Builder::new().name("saver".to_owned()).spawn(move || drop(other.span("save"))).unwrap().join().unwrap();
        drop(outer);
        let record = SpanRecord { name: "elsewhere", thread: 99, start_seconds: 0.5, duration_seconds: 0.25, args: Map::new() };
        trace.record(&record);
        let report = trace.finish();
        let events = events(&path);
        let thread = |name: &str| events.iter().find(|event| event["ph"] == "X" && event["name"] == name).unwrap()["tid"].clone();
        assert!(thread("save") != thread("step") && thread("elsewhere") == 99);
        assert!(events.iter().any(|event| event["ph"] == "M" && event["args"]["name"] == "saver" && event["tid"] == thread("save")));
        // Another thread's span is not inside this one's.
        let step = report.table.rows.iter().find(|row| row.name == "step").unwrap();
        assert!((step.own_seconds - step.total_seconds).abs() < 1e-12);
    }

    #[test]
    fn names_and_depth_are_bounded_and_ends_out_of_order_are_borne() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let trace = Trace::start(&path, clock()).unwrap();
        let deep: Vec<Span<'_>> = (0..MAX_DEPTH + 5).map(|idx| trace.span(&format!("{}{idx}", "ä".repeat(300)))).collect();
        // Dropped from the outermost on.
        drop(deep);
        (0..MAX_NAMES + 5).for_each(|idx| drop(trace.span(&format!("n{idx}"))));
        let report = trace.finish();
        assert!(report.table.rows.len() <= MAX_NAMES + 1);
        assert!(report.table.rows.iter().any(|row| row.name == OTHER_NAMES));
        assert_eq!(spans(&events(&path)).len(), MAX_DEPTH + MAX_NAMES + 5);
        assert!(report.table.rows.iter().all(|row| row.name.chars().count() <= MAX_NAME_CHARS));
    }
}
