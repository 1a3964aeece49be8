//! `eval compare`: two evaluations of the same data, record by record; or several models on several tasks, for what learning has cost and gained.

use std::path::{Path, PathBuf};

use codex_core::{Digest, files};
use codex_eval::measure::{difference_interval, token_share};
use codex_eval::{EvalMetric, EvalTotals, MetricKind, Resampling, Share, Transfer, TransferMatrix};
use serde_json::{Map, Value, json};

use crate::arguments::Compare;
use crate::commands::evaluation::LEVEL;
use crate::commands::evaluation_folder::{MANIFEST, Manifest, RECORDS, SCHEMA, SUMMARY, number};
use crate::failure::CliError;
use crate::terminal::{Terminal, table};

/// How many changed records are named.
const SHOWN: usize = 5;

pub(super) fn run(arguments: &Compare, terminal: &Terminal) -> Result<(), CliError> {
    let open = |paths: &[PathBuf]| paths.iter().map(|path| Evaluation::open(path)).collect::<Result<Vec<_>, _>>();
    let evaluations = open(&arguments.evaluations)?;
    let baseline = open(&arguments.baseline)?;
    let metrics = common_metrics(&arguments.metric, &evaluations)?;
    if arguments.matrix {
        return show_transfer(&Tasks::new(&evaluations, &baseline)?, &metrics, terminal);
    }
    let resampling = Resampling { n_resamples: arguments.resamples, level: LEVEL, seed: arguments.seed };
    let [first, others @ ..] = evaluations.as_slice() else { return Ok(()) };
    let (mut values, mut texts) = (Vec::new(), Vec::new());
    for other in others {
        check_same_records(first, other)?;
        let differences = metrics.iter().map(|metric| Difference::new(metric, first, other, resampling)).collect::<Result<Vec<_>, _>>()?;
        let settings = changed_settings(first, other);
        texts.push(described(first, other, &settings, &differences));
        values.push(json!({
            "first": first.folder, "second": other.folder, "n_records": first.records.len(), "changed_settings": settings,
            "metrics": differences.iter().map(|it| (it.metric.name.to_owned(), it.value())).collect::<Map<_, _>>(),
        }));
    }
    terminal.result(&json!({ "comparisons": values }), || texts.join("\n\n"))
}

/// An evaluation as it lies in its folder.
struct Evaluation {
    folder: PathBuf,
    /// What decided it.
    identity: Value,
    summary: Value,
    records: Vec<Value>,
}

impl Evaluation {
    /// Opens a folder, or the one of a summary; every file must be what its manifest says.
    fn open(path: &Path) -> Result<Self, CliError> {
        let folder = if path.file_name().is_some_and(|name| name == SUMMARY) { files::parent(path) } else { path };
        if !folder.join(MANIFEST).is_file() {
            let what = format!("`{}` is no evaluation: `{MANIFEST}` is not there", folder.display());
            return Err(CliError::usage(what, "`codex-cli eval MODEL --data FILE --metrics NAMES` makes one"));
        }
        let damaged = |name: &str, reason: String| CliError::Integrity {
            path: folder.join(name),
            reason,
            hint: "make the evaluation again: it gives the same bytes",
        };
        let manifest = files::read(&folder.join(MANIFEST))?;
        let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|error| damaged(MANIFEST, error.to_string()))?;
        if manifest.schema != SCHEMA {
            return Err(damaged(MANIFEST, format!("its schema is {}, expected {SCHEMA}", manifest.schema)));
        }
        let verified = |name: &str| {
            let listed = manifest.files.iter().find(|file| file.name == name);
            let listed = listed.ok_or_else(|| damaged(MANIFEST, format!("it does not list `{name}`")))?;
            let bytes = files::read(&folder.join(name))?;
            let found = Digest::of_bytes(&bytes);
            if found == listed.blake3 { Ok(bytes) } else { Err(damaged(name, format!("expected digest {}, found {found}", listed.blake3))) }
        };
        let json = |name: &str, bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|error| damaged(name, error.to_string()));
        let summary = json(SUMMARY, &verified(SUMMARY)?)?;
        let lines = verified(RECORDS)?;
        let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let records = lines.map(|line| json(RECORDS, line)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { folder: folder.to_owned(), identity: manifest.evaluation, summary, records })
    }

    /// The value of a metric; `None` where it was not computed.
    fn value(&self, metric: &str) -> Option<f64> {
        read_number(&self.summary["metrics"][metric]["value"])
    }

    fn score(&self, record: usize, metric: &str) -> Option<f64> {
        read_number(&self.records.get(record)?["scores"][metric])
    }

    /// What each record adds to a metric.
    fn shares(&self, metric: &EvalMetric) -> Vec<Share> {
        let none = Share { part: 0.0, of: 0.0 };
        let share = |(idx, record): (usize, &Value)| match metric.kind {
            MetricKind::Token(kind) => {
                let tokens = &record["tokens"];
                let count = |name: &str| tokens[name].as_u64().unwrap_or(0);
                let totals = EvalTotals {
                    nll: read_number(&tokens["nll"]).unwrap_or(0.0),
                    tokens: count("tokens"),
                    bytes: count("bytes"),
                    correct: count("correct"),
                };
                token_share(kind, &totals).unwrap_or(none)
            }
            _ => self.score(idx, metric.name).map_or(none, |part| Share { part, of: 1.0 }),
        };
        self.records.iter().enumerate().map(share).collect()
    }

    fn dataset(&self) -> &Value {
        &self.identity["dataset_digest"]
    }

    /// How the data is called.
    fn dataset_name(&self) -> String {
        let data = self.identity["data"].as_array();
        let names: Vec<&str> = data.into_iter().flatten().filter_map(|file| file["path"].as_str()).collect();
        names.join(", ")
    }

    fn model_name(&self) -> String {
        let model = &self.identity["model"];
        let step = model["step"].as_u64().map(|step| format!(" step {step}")).unwrap_or_default();
        format!("{}{step}", model["name"].as_str().unwrap_or("?"))
    }

    /// What tells one model from another.
    fn model(&self) -> [&Value; 3] {
        let model = &self.identity["model"];
        [&model["weights"], &model["base"], &model["held"]]
    }
}

/// A number, or the name of one that JSON does not have.
fn read_number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

/// The metrics that were asked for, or those that all evaluations have.
fn common_metrics(asked: &[String], evaluations: &[Evaluation]) -> Result<Vec<EvalMetric>, CliError> {
    let lacking = |metric: &EvalMetric| evaluations.iter().find(|evaluation| evaluation.value(metric.name).is_none());
    if !asked.is_empty() {
        let metrics = EvalMetric::by_names(asked.iter().map(String::as_str))?;
        return match metrics.iter().find_map(|metric| Some((metric, lacking(metric)?))) {
            None => Ok(metrics),
            Some((metric, lacking)) => {
                let what = format!("`{}` has no `{}`", lacking.folder.display(), metric.name);
                Err(CliError::usage(what, "make it with that metric, or name another"))
            }
        };
    }
    let names = evaluations.first().and_then(|first| first.identity["metrics"].as_array()).cloned().unwrap_or_default();
    let mut metrics = EvalMetric::by_names(names.iter().filter_map(Value::as_str))?;
    metrics.retain(|metric| lacking(metric).is_none());
    if metrics.is_empty() {
        return Err(CliError::usage("the evaluations have no metric in common", "make them with the same `--metrics`"));
    }
    Ok(metrics)
}

fn check_same_records(first: &Evaluation, second: &Evaluation) -> Result<(), CliError> {
    let lines = |evaluation: &Evaluation| evaluation.records.iter().map(|record| record["line"].clone()).collect::<Vec<_>>();
    if first.dataset() == second.dataset() && lines(first) == lines(second) {
        return Ok(());
    }
    let what = format!("`{}` and `{}` are evaluations of different rows", first.folder.display(), second.folder.display());
    Err(CliError::usage(what, "compare evaluations of the same files, or use `--matrix` for several tasks"))
}

/// Settings that are not the same, `name: first -> second`.
fn changed_settings(first: &Evaluation, second: &Evaluation) -> Vec<String> {
    let mut changed = Vec::new();
    for name in ["device", "instruction_set", "program", "safety"] {
        push_if_changed(&mut changed, name, &first.identity[name], &second.identity[name]);
    }
    let settings = |evaluation: &Evaluation| evaluation.identity["settings"].as_object().cloned().unwrap_or_default();
    let other = settings(second);
    for (name, value) in settings(first) {
        push_if_changed(&mut changed, &name, &value, &other.get(&name).cloned().unwrap_or_default());
    }
    changed
}

fn push_if_changed(changed: &mut Vec<String>, name: &str, first: &Value, second: &Value) {
    if first != second {
        changed.push(format!("{name}: {first} -> {second}"));
    }
}

/// How a metric of the second evaluation differs from the first's.
struct Difference {
    metric: EvalMetric,
    first: f64,
    second: f64,
    interval: Option<(f64, f64)>,
    better: usize,
    worse: usize,
    /// The first changed records: place and both scores.
    changed: Vec<(usize, f64, f64)>,
}

impl Difference {
    fn new(metric: &EvalMetric, first: &Evaluation, second: &Evaluation, resampling: Resampling) -> Result<Self, CliError> {
        let interval = difference_interval(metric, &first.shares(metric), &second.shares(metric), resampling)?;
        let of = |evaluation: &Evaluation| evaluation.value(metric.name).unwrap_or(f64::NAN);
        let (was, is) = (of(first), of(second));
        let mut found = Self { metric: *metric, first: was, second: is, interval, better: 0, worse: 0, changed: Vec::new() };
        for idx in 0..first.records.len() {
            let (Some(was), Some(is)) = (first.score(idx, metric.name), second.score(idx, metric.name)) else { continue };
            let Some(order) = is.partial_cmp(&was).filter(|order| order.is_ne()) else { continue };
            if order.is_gt() == metric.higher_is_better {
                found.better += 1;
            } else {
                found.worse += 1;
            }
            if found.changed.len() < SHOWN {
                found.changed.push((idx, was, is));
            }
        }
        Ok(found)
    }

    fn value(&self) -> Value {
        let ends = |(low, high): (f64, f64)| json!({ "low": number(low), "high": number(high), "level": LEVEL });
        let changed = |&(idx, was, is): &(usize, f64, f64)| json!({ "index": idx, "first": number(was), "second": number(is) });
        json!({
            "first": number(self.first), "second": number(self.second), "difference": number(self.second - self.first),
            "interval": self.interval.map(ends), "higher_is_better": self.metric.higher_is_better, "better": self.better, "worse": self.worse,
            "changed": self.changed.iter().map(changed).collect::<Vec<_>>(),
        })
    }

    fn row(&self) -> Vec<String> {
        let interval = self.interval.map_or_else(|| "-".to_owned(), |(low, high)| format!("{low:+.4} to {high:+.4}"));
        let changed: Vec<String> = self.changed.iter().map(|(idx, ..)| idx.to_string()).collect();
        let numbers = [self.first, self.second].map(|value| format!("{value:.4}"));
        let [first, second] = numbers;
        vec![
            self.metric.name.to_owned(),
            first,
            second,
            format!("{:+.4}", self.second - self.first),
            interval,
            format!("{} better, {} worse", self.better, self.worse),
            changed.join(", "),
        ]
    }
}

fn described(first: &Evaluation, second: &Evaluation, settings: &[String], differences: &[Difference]) -> String {
    let header = ["metric", "first", "second", "difference", "95 % interval", "records", "first changed"];
    let text = table(&header, differences.iter().map(Difference::row));
    let settings = if settings.is_empty() { String::new() } else { format!("\nset otherwise: {}", settings.join("; ")) };
    format!(
        "{} ({}) -> {} ({}), {} records of {}{settings}\n{text}",
        first.model_name(),
        first.folder.display(),
        second.model_name(),
        second.folder.display(),
        first.records.len(),
        first.dataset_name()
    )
}

/// Values by model and task.
type Values = Vec<Vec<Option<f64>>>;

/// Evaluations as models x tasks.
struct Tasks<'e> {
    /// One evaluation of each model, in the order of training.
    models: Vec<&'e Evaluation>,
    /// One evaluation of each task, in the order of learning.
    tasks: Vec<&'e Evaluation>,
    /// By model and task.
    cells: Vec<Vec<Option<&'e Evaluation>>>,
    /// By task.
    baseline: Vec<Option<&'e Evaluation>>,
}

impl<'e> Tasks<'e> {
    fn new(evaluations: &'e [Evaluation], baseline: &'e [Evaluation]) -> Result<Self, CliError> {
        let (mut models, mut tasks): (Vec<&Evaluation>, Vec<&Evaluation>) = (Vec::new(), Vec::new());
        for evaluation in evaluations {
            if models.iter().all(|other| other.model() != evaluation.model()) {
                models.push(evaluation);
            }
            if tasks.iter().all(|other| other.dataset() != evaluation.dataset()) {
                tasks.push(evaluation);
            }
        }
        if models.len() != tasks.len() || models.len() < 2 {
            let what = format!("{} models on {} tasks", models.len(), tasks.len());
            return Err(CliError::usage(
                what,
                "give as many models as tasks, two at least: the model after each task, on the tasks in their order",
            ));
        }
        let mut cells = vec![vec![None; tasks.len()]; models.len()];
        for evaluation in evaluations {
            let model = models.iter().position(|other| other.model() == evaluation.model()).unwrap_or(0);
            let task = tasks.iter().position(|other| other.dataset() == evaluation.dataset()).unwrap_or(0);
            if let Some(other) = cells[model][task].replace(evaluation) {
                let what = format!("`{}` and `{}` are of the same model and task", other.folder.display(), evaluation.folder.display());
                return Err(CliError::usage(what, "give each pair once"));
            }
        }
        let of_task = |task: &&Evaluation| baseline.iter().find(|evaluation| evaluation.dataset() == task.dataset());
        let baseline = tasks.iter().map(of_task).collect();
        Ok(Self { models, tasks, cells, baseline })
    }

    /// The values of a metric, and what follows from them: differences are above 0 where more is better, whichever way the metric points.
    fn transfer(&self, metric: &EvalMetric) -> Result<(Values, Transfer), CliError> {
        let sign = if metric.higher_is_better { 1.0 } else { -1.0 };
        let of = |cell: Option<&Evaluation>| cell.and_then(|evaluation| evaluation.value(metric.name));
        let values: Values = self.cells.iter().map(|row| row.iter().map(|cell| of(*cell)).collect()).collect();
        let turned = values.iter().map(|row| row.iter().map(|value| value.map(|value| sign * value)).collect()).collect();
        let baseline: Vec<Option<f64>> = self.baseline.iter().map(|cell| of(*cell).map(|value| sign * value)).collect();
        let transfer = TransferMatrix::new(turned)?.transfer(&baseline);
        Ok((values, Transfer { average: transfer.average.map(|value| sign * value), ..transfer }))
    }
}

fn show_transfer(tasks: &Tasks<'_>, metrics: &[EvalMetric], terminal: &Terminal) -> Result<(), CliError> {
    let (mut values, mut texts) = (Map::new(), Vec::new());
    let names: Vec<String> = tasks.tasks.iter().map(|task| task.dataset_name()).collect();
    for metric in metrics {
        let (matrix, transfer) = tasks.transfer(metric)?;
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        let rows = tasks.models.iter().zip(&matrix);
        let rows = rows.map(|(model, row)| std::iter::once(model.model_name()).chain(row.iter().map(|&value| shown(value))).collect());
        let header: Vec<&str> = std::iter::once("model").chain(names.iter().map(String::as_str)).collect();
        texts.push(format!(
            "{}\n{}\naverage {}  backward transfer {}  forward transfer {}  forgetting {}",
            metric.name,
            table(&header, rows),
            shown(transfer.average),
            shown(transfer.backward),
            shown(transfer.forward),
            shown(transfer.forgetting)
        ));
        let matrix: Vec<Vec<Value>> =
            matrix.iter().map(|row| row.iter().map(|value| value.map_or(Value::Null, number)).collect()).collect();
        values
            .insert(metric.name.to_owned(), json!({ "matrix": matrix, "transfer": transfer, "higher_is_better": metric.higher_is_better }));
    }
    let models: Vec<String> = tasks.models.iter().map(|model| model.model_name()).collect();
    terminal.result(&json!({ "models": models, "tasks": names, "metrics": values }), || texts.join("\n\n"))
}
