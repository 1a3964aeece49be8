//! What a person sees: results on standard output, progress and warnings on standard error, plain lines where there is no terminal.
#![expect(clippy::disallowed_methods, reason = "the one place that writes to the terminal")]

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use codex_core::{Clock, Failure, SystemClock, failure};
use codex_train::{EvaluationReport, Observer, StepReport, StopSignal};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::arguments::Global;
use crate::environment;
use crate::failure::CliError;
use crate::memory;

/// Standard output and standard error, used by turns.
#[derive(Debug)]
pub(crate) struct Terminal {
    quiet: bool,
    json: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Terminal {
    pub(crate) fn new(global: &Global) -> Self {
        let level = if global.verbose { "debug" } else { "warn" };
        let filter = tracing_subscriber::EnvFilter::new(level);
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // With `--verbose` each phase of a step is a line when it ends, with the time it took.
        let builder = builder.with_span_events(FmtSpan::CLOSE).with_ansi(std::io::stderr().is_terminal() && !refuses_colour());
        // A second subscriber cannot be set; the first one then stays, which is what an embedding test wants.
        drop(builder.try_init());
        Self { quiet: global.quiet, json: global.json, bar: Mutex::new(None) }
    }

    /// A result: the JSON of `value` with `--json`, otherwise `text`.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<(), CliError> {
        let shown = if self.json {
            serde_json::to_string_pretty(value).map_err(|error| CliError::Output { source: error.into() })?
        } else {
            text()
        };
        Self::write(format!("{}\n", shown.trim_end()).as_bytes())
    }

    /// A result that is text itself: its very bytes, or the JSON of `value` with `--json`.
    pub(crate) fn text<T: Serialize>(&self, value: &T, text: &str) -> Result<(), CliError> {
        if self.json { self.result(value, String::new) } else { Self::write(text.as_bytes()) }
    }

    /// A part of a result as soon as it is there; with `--json` it comes with the rest at the end.
    pub(crate) fn reply(&self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { Self::write(format!("{text}\n").as_bytes()) }
    }

    /// A piece of a text that is shown while it is made.
    pub(crate) fn part(text: &str) -> Result<(), CliError> {
        Self::write(text.as_bytes())
    }

    /// Whether a person reads standard output.
    pub(crate) fn is_watched() -> bool {
        std::io::stdout().is_terminal()
    }

    /// Columns of the terminal; 80 where there is none.
    pub(crate) fn width() -> usize {
        Table::new().width().map_or(80, usize::from)
    }

    /// Asks a person for the next line.
    pub(crate) fn ask() {
        let mut err = std::io::stderr().lock();
        // Without it the line can be typed all the same.
        drop(err.write_all(b"> ").and_then(|()| err.flush()));
    }

    fn write(bytes: &[u8]) -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // A reader that has seen enough, such as `head`, is no failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|source| CliError::Output { source }),
        }
    }

    /// Whether results may be coloured: on a terminal, and unless `NO_COLOR` is set.
    pub(crate) fn has_colour() -> bool {
        std::io::stdout().is_terminal() && !refuses_colour()
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A line of progress for a person.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            self.line(line);
        }
    }

    /// Something a person should know, also with `--quiet`.
    pub(crate) fn warn(&self, message: &str) {
        self.line(&format!("warning: {message}"));
    }

    /// A failure with its causes and the next step.
    pub(crate) fn error(&self, error: &CliError) {
        if let Some(bar) = self.lock().take() {
            bar.abandon();
        }
        let mut text = format!("error: {}", failure::chain(error));
        if let Some(hint) = error.hint() {
            text.push_str(&format!("\n hint: {hint}"));
        }
        self.line(&text);
    }

    fn line(&self, line: &str) {
        let print = || drop(writeln!(std::io::stderr().lock(), "{line}"));
        match self.lock().as_ref() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Starts a progress bar where there is a terminal to draw it on; tells whether it did.
    pub(crate) fn start_bar(&self, length: u64, position: u64, template: &str) -> bool {
        if self.quiet || !std::io::stderr().is_terminal() {
            return false;
        }
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(8)).with_position(position);
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.reset_eta();
        *self.lock() = Some(bar);
        true
    }

    pub(crate) fn move_bar(&self, position: u64, message: String) {
        if let Some(bar) = self.lock().as_ref() {
            bar.set_position(position);
            bar.set_message(message);
        }
    }

    /// Changes what stands behind the bar.
    pub(crate) fn show(&self, message: String) {
        if let Some(bar) = self.lock().as_ref() {
            bar.set_message(message);
        }
    }

    pub(crate) fn end_bar(&self) {
        if let Some(bar) = self.lock().take() {
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether `NO_COLOR` is set (no-color.org).
fn refuses_colour() -> bool {
    environment::variables().iter().any(|(name, value)| name == "NO_COLOR" && !value.is_empty())
}

/// A table with a header.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// Bytes in the unit a person reads.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// Seconds as a person says them.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Shows training as it goes: a bar on a terminal, a line now and then elsewhere.
pub(crate) struct TrainView<'t> {
    terminal: &'t Terminal,
    clock: SystemClock,
    has_bar: bool,
    began: f64,
    first_step: u64,
    last_line: f64,
    steps: u64,
    stop: StopSignal,
    has_told_stop: bool,
    pool_mib: usize,
    watch: Option<Watch<'t>>,
}

/// Is shown each evaluation; whether training shall end.
pub(crate) type Watch<'w> = Box<dyn FnMut(&EvaluationReport) -> bool + Send + 'w>;

/// Seconds between two lines where there is no terminal.
const LINE_SECONDS: f64 = 5.0;

impl<'t> TrainView<'t> {
    pub(crate) fn new(terminal: &'t Terminal, stop: &StopSignal, pool_mib: usize) -> Self {
        Self {
            terminal,
            clock: SystemClock::new(),
            has_bar: false,
            began: 0.0,
            first_step: 0,
            last_line: f64::NEG_INFINITY,
            steps: 0,
            stop: stop.clone(),
            has_told_stop: false,
            pool_mib,
            watch: None,
        }
    }

    /// The same, with someone who may end training after an evaluation.
    pub(crate) fn watched(mut self, watch: Option<Watch<'t>>) -> Self {
        self.watch = watch;
        self
    }

    /// Says, once, that a signal was heard; between two calls of the observer there may be none left to say it in.
    pub(crate) fn tell_stop(&mut self) {
        if self.stop.requested().is_some() && !self.has_told_stop {
            self.has_told_stop = true;
            self.terminal.say("stopping: the state is saved first; a second signal quits at once and leaves the last checkpoint");
        }
    }
}

impl Observer for TrainView<'_> {
    fn started(&mut self, first_step: u64, steps: u64) {
        // The network is there: what is asked for from here on is asked for again in the next step.
        memory::set_pool(self.pool_mib);
        self.first_step = first_step;
        self.steps = steps;
        let template = "{bar:24} {pos}/{len} {msg}";
        self.has_bar = self.terminal.start_bar(steps, first_step, template);
        self.began = self.clock.elapsed_seconds();
    }

    fn evaluating(&mut self, done: u64, all: u64) {
        self.tell_stop();
        if self.has_bar {
            self.terminal.show(format!("evaluating {done}/{all} windows"));
        }
    }

    fn step(&mut self, report: &StepReport) {
        self.tell_stop();
        let elapsed = self.clock.elapsed_seconds();
        let per_step = (elapsed - self.began) / (report.step - self.first_step).max(1) as f64;
        let eta = duration(per_step * (report.steps - report.step) as f64);
        let shown =
            format!("loss {:.4}  lr {:.2e}  {:.0} tokens/s  ETA {eta}", report.loss, report.learning_rate, report.tokens_per_second);
        if self.has_bar {
            self.terminal.move_bar(report.step, shown);
        } else if elapsed - self.last_line >= LINE_SECONDS || report.step == report.steps {
            self.last_line = elapsed;
            self.terminal.say(&format!("step {}/{}  {shown}", report.step, report.steps));
        }
    }

    fn evaluation(&mut self, report: &EvaluationReport) {
        let mark = if report.is_best { "  best so far" } else { "" };
        self.terminal.say(&format!(
            "evaluation at step {}/{}: validation loss {:.4} (unigram {:.4})  perplexity {:.1}  {:.3} bits/byte  accuracy {:.1} %{mark}",
            report.step,
            self.steps,
            report.metrics.loss,
            report.baseline.loss,
            report.metrics.perplexity,
            report.metrics.bits_per_byte,
            100.0 * report.metrics.token_accuracy
        ));
        if !report.sets.is_empty() {
            let sets: Vec<String> = report.sets.iter().map(|(name, metrics)| format!("{name} {:.4}", metrics.loss)).collect();
            self.terminal.say(&format!("  by set: {}", sets.join("  ")));
        }
        if self.watch.as_mut().is_some_and(|watch| watch(report)) {
            self.stop.request_end();
        }
        if let Some((prompt, text)) = &report.sample {
            self.terminal.say(&format!("  sample: {prompt} >>> {}", text.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }

    fn saved(&mut self, step: u64, path: &std::path::Path) {
        self.tell_stop();
        if !self.has_bar {
            self.terminal.say(&format!("saved step {step} to {}", path.display()));
        }
    }

    fn note(&mut self, message: &str) {
        self.terminal.say(message);
    }

    fn warning(&mut self, message: &str) {
        self.terminal.warn(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_readable() {
        assert_eq!([bytes(12), bytes(1_500), bytes(2_000_000), bytes(3_210_000_000)], ["12 B", "1.5 kB", "2.0 MB", "3.21 GB"]);
        assert_eq!([duration(-1.0), duration(59.4), duration(61.0), duration(7260.0)], ["0 s", "59 s", "1 min 01 s", "2 h 01 min"]);
        assert!(table(&["a", "b"], [vec!["1".to_owned(), "2".to_owned()]]).contains('1'));
    }
}
