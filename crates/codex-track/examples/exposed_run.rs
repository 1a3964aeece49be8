//! A small run that Prometheus can read while it goes on: `exposed_run FOLDER ADDRESS [FILE.prom] [gpu]`. It trains a bigram model of characters on the
//! Apache licence, then serves what it measured until its standard input ends. `xtask/interop/prometheus.py` and `trace.py` read what it makes.

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::{Clock, Stream, SystemClock, files};
use codex_track::telemetry::{Exposition, Telemetry, TelemetryConfig, Trace, status};
use codex_track::{Degraded, Level, MetricPoint, RunDir, Sampling, TrackConfig, Tracker};
use serde_json::json;

const TEXT: &[u8] = include_bytes!("../../../LICENSE-APACHE");
const LETTERS: usize = 128;
const STEPS: u64 = 400;
const BATCH: usize = 256;

/// The scores of the next character for each character.
struct Bigram(Vec<[f64; LETTERS]>);

impl Bigram {
    fn probabilities(&self, from: u8) -> [f64; LETTERS] {
        let mut parts = self.0[usize::from(from)];
        let most = parts.iter().copied().fold(f64::MIN, f64::max);
        parts = parts.map(|part| (part - most).exp());
        let sum: f64 = parts.iter().sum();
        parts.map(|part| part / sum)
    }

    fn loss(&self, pairs: &[(u8, u8)]) -> f64 {
        pairs.iter().map(|&(from, to)| -self.probabilities(from)[usize::from(to)].ln()).sum::<f64>() / pairs.len() as f64
    }

    fn gradient(&self, pairs: &[(u8, u8)]) -> Vec<[f64; LETTERS]> {
        let mut gradient = vec![[0.0; LETTERS]; LETTERS];
        for &(from, to) in pairs {
            let row = &mut gradient[usize::from(from)];
            for (idx, probability) in self.probabilities(from).into_iter().enumerate() {
                row[idx] += (probability - f64::from(u8::from(idx == usize::from(to)))) / pairs.len() as f64;
            }
        }
        gradient
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    serve(&std::env::args().skip(1).collect::<Vec<_>>(), &mut std::io::stdin())
}

/// Trains and serves as these arguments say, until nothing more comes from `until`.
pub(crate) fn serve(arguments: &[String], until: &mut dyn Read) -> Result<(), Box<dyn Error>> {
    let [folder, address, more @ ..] = arguments else { return Err("exposed_run FOLDER ADDRESS [FILE.prom] [gpu]".into()) };
    let config = TelemetryConfig {
        every_seconds: 0.1,
        gpu: more.iter().any(|word| word == "gpu"),
        prometheus: address.clone(),
        prometheus_file: more.iter().map(PathBuf::from).find(|path| path.extension().is_some()),
        trace: true,
        ..TelemetryConfig::default()
    };
    if let Some((key, message)) = config.problems().into_iter().next() {
        return Err(format!("telemetry.{key}: {message}").into());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let run = RunDir::create(Path::new(folder), "exposed", clock.as_ref())?;
    let mut tracker = Tracker::open(&run, None, None, Arc::clone(&clock), &TrackConfig::default())?;
    let Telemetry { mut sampling, prometheus, trace, statuses } = Telemetry::open(&run, &config, None, &clock);
    status::report(&statuses, &mut tracker);
    run.write_json("telemetry.json", &json!({ "banner": Degraded::banner(tracker.degraded()), "statuses": statuses }))?;
    let (prometheus, trace) = (prometheus.ok_or("nothing is asked for")?, trace.ok_or("no trace")?);
    let exposition = prometheus.exposition();
    for writer in prometheus.into_writers() {
        let name = writer.name().to_owned();
        tracker.add(&name, Ok(writer));
    }

    train(&run, &mut tracker, &exposition, &mut sampling, &trace, clock.as_ref())?;
    tracker.flush();
    let report = trace.finish();
    run.write_json("time.json", &report.table)?;
    run.write_text("time.txt", &report.table.text())?;
    until.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn train(
    run: &RunDir,
    tracker: &mut Tracker,
    exposition: &Exposition,
    sampling: &mut Sampling,
    trace: &Trace,
    clock: &dyn Clock,
) -> Result<(), Box<dyn Error>> {
    let pairs: Vec<(u8, u8)> = TEXT.windows(2).map(|pair| (pair[0] & 127, pair[1] & 127)).collect();
    let (validation, training) = pairs.split_at(pairs.len() / 10);
    let mut model = Bigram(vec![[0.0; LETTERS]; LETTERS]);
    for step in 1..=STEPS {
        let began = clock.elapsed_seconds();
        let mut whole = trace.span("step");
        whole.arg("step", step);
        let batch: Vec<(u8, u8)> = {
            let _span = trace.span("data");
            let mut stream = Stream::new(7, "batch", step);
            (0..BATCH).map(|_| training[stream.below(training.len() as u64) as usize]).collect()
        };
        let loss = {
            let _span = trace.span("forward");
            model.loss(&batch)
        };
        let gradient = {
            let _span = trace.span("backward");
            model.gradient(&batch)
        };
        let learning_rate = 12.0 * (1.0 - step as f64 / (STEPS + 1) as f64);
        {
            let _span = trace.span("optimizer");
            for (row, by) in model.0.iter_mut().zip(&gradient) {
                row.iter_mut().zip(by).for_each(|(score, part)| *score -= learning_rate * part);
            }
        }
        let norm = gradient.iter().flatten().map(|part| part * part).sum::<f64>().sqrt();
        let speed = BATCH as f64 / (clock.elapsed_seconds() - began).max(1e-9);
        let values = [("loss", loss), ("learning_rate", learning_rate), ("grad_norm", norm), ("tokens_per_second", speed)];
        let (tokens, epoch) = (step * BATCH as u64, (step * BATCH as u64) as f64 / training.len() as f64);
        tracker.metrics(&MetricPoint { step, split: "train", values: &values, tokens, epoch });
        if step % 50 == 0 {
            let loss = {
                let _span = trace.span("validation");
                model.loss(validation)
            };
            let values = [("loss", loss), ("perplexity", loss.exp())];
            tracker.metrics(&MetricPoint { step, split: "validation", values: &values, tokens, epoch });
            let _span = trace.span("save");
            let bytes: Vec<u8> = model.0.iter().flatten().flat_map(|score| score.to_le_bytes()).collect();
            files::write_atomic(&run.path().join("model.f64"), &bytes)?;
            let fields = json!({ "step": step, "bytes": bytes.len() });
            exposition.event("checkpoint", Level::Info, &fields);
            tracker.event("checkpoint", Level::Info, "saved", fields);
        }
        if sampling.due(clock.elapsed_seconds()) {
            let (values, failures) = sampling.sample();
            exposition.system(&values);
            for (sampler, error) in failures {
                tracker.degrade(&sampler, &error);
            }
        }
    }
    Ok(())
}
