//! A run handed to an MLflow server over its REST API (`/api/2.0/mlflow`, MLflow 2 and 3): parameters, tags, every value of `metrics.ndjson`, and the files
//! that say what it was. Nothing is sent unless it is asked for; an outage never stops training, because it is pushed from the run folder afterwards.
//!
//! What the server has is remembered in the run, so that a push that was cut off goes on, and one that is repeated sends nothing twice.

use std::collections::BTreeMap;
use std::time::Duration;

use codex_core::files;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catch_up::moment;
use crate::error::TrackError;
use crate::metric::ReadLine;
use crate::number;
use crate::run_dir::{RunDir, read_json_at, write_json_at};
use crate::run_info::RunInfo;
use crate::run_manifest::ARTIFACTS;
use crate::run_record::{RunRecord, RunStatus};
use crate::summary::for_each_metric;

/// The most metrics of one request, as the server allows.
const BATCH: usize = 1000;
/// The most parameters or tags of one request.
const SMALL_BATCH: usize = 100;
/// The longest value of a parameter that the server takes.
const MAX_PARAM_CHARS: usize = 6000;
/// The largest answer that is read.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// The longest that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Files of a run that go to the server's artifacts, where it takes some.
const FILES: [&str; 6] =
    ["config.resolved.toml", "environment.json", "dataset_checksums.json", "report.html", "run.json", "run.manifest.json"];

/// An MLflow server.
#[derive(Clone, Debug)]
pub struct MlflowServer {
    base: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

/// What a push has sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// The run's id on the server.
    pub run_id: String,
    /// The experiment's.
    pub experiment_id: String,
    /// Values of metrics that were sent now.
    pub values: u64,
    /// Values that the server had.
    pub values_before: u64,
    /// Files that were sent.
    pub files: u64,
}

/// `artifacts/mlflow.push.json`: what a server has of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    schema: u32,
    server: String,
    experiment_id: String,
    run_id: String,
    has_params: bool,
    /// By metric the last step that was sent.
    last_steps: BTreeMap<String, u64>,
}

const CURSOR: &str = "mlflow.push.json";

impl MlflowServer {
    /// The server at an address such as `http://127.0.0.1:5000`; `authorization` is the header of that name, such as `Bearer …`.
    ///
    /// # Errors
    /// An address that does not begin with `http://`: this build speaks no TLS.
    pub fn new(address: &str, authorization: Option<String>) -> Result<Self, TrackError> {
        let base = address.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") || base.len() < 8 {
            return Err(TrackError::Server { address: base, reason: "expected an address that begins with `http://`".to_owned() });
        }
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        Ok(Self { base, authorization, agent: config.into() })
    }

    fn failed(&self, reason: impl ToString) -> TrackError {
        TrackError::Server { address: self.base.clone(), reason: reason.to_string() }
    }

    /// The answer to a question.
    fn get(&self, path: &str, key: &str, value: &str) -> Result<(u16, Value), TrackError> {
        let request = self.agent.get(format!("{}{path}", self.base)).query(key, value);
        self.read(self.authorized(request).call())
    }

    /// The answer to something that is sent.
    fn send(&self, request: ureq::RequestBuilder<ureq::typestate::WithBody>, body: &[u8]) -> Result<(u16, Value), TrackError> {
        self.read(self.authorized(request.header("content-type", "application/json")).send(body))
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    /// The status of an answer and its JSON, null where there is none.
    fn read(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, Value), TrackError> {
        let mut answer = answer.map_err(|error| self.failed(error))?;
        let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string().map_err(|error| self.failed(error))?;
        Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// The answer of a call of the API, which has to succeed.
    fn call(&self, what: &str, body: &Value) -> Result<Value, TrackError> {
        let request = self.agent.post(format!("{}/api/2.0/mlflow/{what}", self.base));
        let (status, answer) = self.send(request, body.to_string().as_bytes())?;
        if status == 200 {
            return Ok(answer);
        }
        let code = answer["error_code"].as_str().unwrap_or("no error code");
        let message: String = answer["message"].as_str().unwrap_or_default().chars().take(300).collect();
        Err(self.failed(format!("`{what}` was answered with {status}: {code}: {message}")))
    }

    fn experiment(&self, name: &str) -> Result<String, TrackError> {
        let (status, answer) = self.get("/api/2.0/mlflow/experiments/get-by-name", "experiment_name", name)?;
        let id = |answer: &Value| answer.as_str().map(str::to_owned);
        if status == 200
            && let Some(found) = id(&answer["experiment"]["experiment_id"])
        {
            return Ok(found);
        }
        let made = self.call("experiments/create", &json!({ "name": name }))?;
        id(&made["experiment_id"]).ok_or_else(|| self.failed("no experiment was made"))
    }
}

/// Sends what the server does not have of a run to an experiment of this name.
///
/// # Errors
/// A server that cannot be reached or refuses something; what it took until then is remembered.
pub fn push(run: &RunDir, server: &MlflowServer, experiment: &str) -> Result<Pushed, TrackError> {
    let (record, info) = (RunRecord::read(run)?.seen(run), RunInfo::of_run(run));
    let folder = run.path().join(ARTIFACTS);
    files::create_dir_all(&folder)?;
    let path = folder.join(CURSOR);
    let known: Option<Cursor> = match read_json_at(&path) {
        Err(TrackError::File(error)) if error.is_not_found() => None,
        read => Some(read?),
    };
    let known = known.filter(|cursor| cursor.schema == 1 && cursor.server == server.base);
    let mut cursor = match known {
        Some(cursor) => cursor,
        None => begin(server, experiment, &record, &info)?,
    };
    write_json_at(&path, &cursor)?;
    if !cursor.has_params {
        parameters(server, &cursor.run_id, &info)?;
        cursor.has_params = true;
        write_json_at(&path, &cursor)?;
    }
    let mut pushed = Pushed { run_id: cursor.run_id.clone(), experiment_id: cursor.experiment_id.clone(), ..Pushed::default() };
    metrics(run, server, &mut cursor, &mut pushed, &path)?;
    let status = match record.status {
        RunStatus::Running => "RUNNING",
        RunStatus::Finished => "FINISHED",
        RunStatus::Failed => "FAILED",
        _ => "KILLED",
    };
    let mut end = json!({ "run_id": cursor.run_id, "status": status });
    if let Some(finished) = record.finished.as_deref().filter(|_| record.status != RunStatus::Running) {
        end["end_time"] = moment(finished).0.into();
    }
    server.call("runs/update", &end)?;
    pushed.files = artifacts(run, server, &cursor)?;
    Ok(pushed)
}

/// Makes the run on the server.
fn begin(server: &MlflowServer, experiment: &str, record: &RunRecord, info: &RunInfo) -> Result<Cursor, TrackError> {
    let experiment_id = server.experiment(experiment)?;
    let mut tags: Vec<Value> = info.tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    tags.push(json!({ "key": "codex.tags", "value": record.tags.join(" ") }));
    let started = moment(&record.started).0;
    let made = server
        .call("runs/create", &json!({ "experiment_id": experiment_id, "run_name": info.name, "start_time": started, "tags": tags }))?;
    let run_id = made["run"]["info"]["run_id"].as_str().ok_or_else(|| server.failed("no run was made"))?.to_owned();
    Ok(Cursor { schema: 1, server: server.base.clone(), experiment_id, run_id, ..Cursor::default() })
}

fn parameters(server: &MlflowServer, run_id: &str, info: &RunInfo) -> Result<(), TrackError> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let of =
        |(key, value): (&String, &Value)| json!({ "key": key, "value": text(value).chars().take(MAX_PARAM_CHARS).collect::<String>() });
    let all: Vec<Value> = info.hyperparameters().iter().map(of).collect();
    for part in all.chunks(SMALL_BATCH) {
        server.call("runs/log-batch", &json!({ "run_id": run_id, "params": part }))?;
    }
    Ok(())
}

/// Sends the values behind those that the server has. Steps that are taken again after a resume have the same values, and are not sent again.
fn metrics(
    run: &RunDir,
    server: &MlflowServer,
    cursor: &mut Cursor,
    pushed: &mut Pushed,
    path: &std::path::Path,
) -> Result<(), TrackError> {
    let mut waiting: Vec<Value> = Vec::new();
    let mut reached = cursor.last_steps.clone();
    let mut failed = None;
    let mut send = |waiting: &mut Vec<Value>, reached: &BTreeMap<String, u64>| -> Result<(), TrackError> {
        if waiting.is_empty() {
            return Ok(());
        }
        server.call("runs/log-batch", &json!({ "run_id": cursor.run_id, "metrics": waiting }))?;
        pushed.values += waiting.len() as u64;
        waiting.clear();
        cursor.last_steps.clone_from(reached);
        write_json_at(path, cursor)
    };
    let before = reached.clone();
    let mut n_before = 0;
    for_each_metric(run, |line: ReadLine| {
        let key = format!("{}/{}", line.split, line.metric);
        if failed.is_some() {
            return;
        }
        if before.get(&key).is_some_and(|last| line.step <= *last) {
            n_before += 1;
            return;
        }
        let at = moment(line.timestamp.as_deref().unwrap_or_default()).0;
        let value = if line.value.0.is_finite() { json!(line.value.0) } else { json!(number::text(line.value.0)) };
        waiting.push(json!({ "key": key, "value": value, "timestamp": at, "step": line.step }));
        reached.insert(key, line.step);
        if waiting.len() == BATCH {
            failed = send(&mut waiting, &reached).err();
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    send(&mut waiting, &reached)?;
    pushed.values_before = n_before;
    Ok(())
}

/// Sends files to a server that takes them for its store; another's store is out of reach.
fn artifacts(run: &RunDir, server: &MlflowServer, cursor: &Cursor) -> Result<u64, TrackError> {
    let (_, answer) = server.get("/api/2.0/mlflow/runs/get", "run_id", &cursor.run_id)?;
    let uri = answer["run"]["info"]["artifact_uri"].as_str().unwrap_or_default();
    let Some(place) = uri.strip_prefix("mlflow-artifacts:/") else { return Ok(0) };
    let mut n_sent = 0;
    for name in FILES {
        let path = run.path().join(name);
        if !files::is_plain_file(&path) {
            continue;
        }
        let target = format!("{}/api/2.0/mlflow-artifacts/artifacts/{}/{name}", server.base, place.trim_start_matches('/'));
        let (status, _) = server.send(server.agent.put(target), &files::read(&path)?)?;
        if status != 200 {
            return Err(server.failed(format!("`{name}` was answered with {status}")));
        }
        n_sent += 1;
    }
    Ok(n_sent)
}
