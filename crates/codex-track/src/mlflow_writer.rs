//! `mlflow/`: the run as a file store of MLflow, with one experiment and one run in it: configuration, tags, metrics and artifacts.
//!
//! The layout is that of MLflow's `FileStore`: `<experiment>/<run>/{meta.yaml, params/KEY, tags/KEY, metrics/KEY, artifacts/}`, where a metric is lines of
//! `milliseconds value step`. The run's id is made from that of the run folder, so a resume finds it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use codex_core::{FileError, Timestamp, files};

use crate::catch_up::is_same;
use crate::error::TrackError;
use crate::line_log::LineLog;
use crate::metric::{MetricPoint, MetricWriter, WriterContext};
use crate::mlflow_store::{self as store, Meta};
use crate::number;
use crate::run_dir::RunDir;
use crate::run_info::{RunEnd, RunInfo, plain};
use crate::tensorboard_writer::shortened;

/// Files held open at a time.
const MAX_OPEN: usize = 128;
/// A longer line is none of ours.
const MAX_LINE_BYTES: u64 = 256;
/// What the run folder has that belongs to the artifacts too.
const ARTIFACTS: [&str; 4] = ["config.resolved.toml", "environment.json", "dataset_checksums.json", "report.html"];
/// A larger file is not copied.
const MAX_ARTIFACT_BYTES: u64 = 64 << 20;
const TEXTS: &str = "texts";

/// Appends to the files of a store, one for each metric.
#[derive(Debug)]
pub struct MlflowWriter {
    run_dir: PathBuf,
    /// The run's folder in the store.
    folder: PathBuf,
    resume_step: Option<u64>,
    meta: Meta,
    /// The metrics from before that are being compared; those that are not named here were not asked for yet.
    review: BTreeMap<String, Past>,
    /// The metrics whose past ends here.
    done: BTreeSet<String>,
    logs: BTreeMap<String, LineLog>,
}

/// How far a metric's file is compared.
#[derive(Debug, Default)]
struct Past {
    at: u64,
    reader: Option<BufReader<File>>,
}

impl MlflowWriter {
    /// The writer's name.
    pub const NAME: &'static str = "mlflow";
    /// The folder in that of the run.
    pub const FOLDER: &'static str = "mlflow";

    /// Opens or makes the store. Of each metric, lines are taken out from the first on that the truth does not have.
    pub fn open(context: &WriterContext<'_>) -> Result<Self, TrackError> {
        let root = context.run_dir.join(Self::FOLDER);
        let meta = Meta::new(context.run_id, &std::path::absolute(&root).unwrap_or_else(|_| root.clone()));
        let folder = root.join(&meta.experiment_id).join(&meta.run_id);
        for name in ["metrics", "params", "tags", "artifacts"] {
            files::create_dir_all(&folder.join(name))?;
        }
        Ok(Self {
            run_dir: context.run_dir.to_owned(),
            folder,
            resume_step: context.resume_step,
            meta,
            review: BTreeMap::new(),
            done: BTreeSet::new(),
            logs: BTreeMap::new(),
        })
    }

    fn metric_path(&self, key: &str) -> PathBuf {
        self.folder.join("metrics").join(key)
    }

    /// The next line of a metric from before; `None` behind the last whole one. With `keep`, the line is passed over where it says yes.
    fn pass(&mut self, key: &str, keep: impl FnOnce(u64, f64) -> bool) -> Result<bool, TrackError> {
        let path = self.metric_path(key);
        if !self.review.contains_key(key) {
            let open = self.review.values().filter(|past| past.reader.is_some()).count();
            if open >= MAX_OPEN {
                self.review.values_mut().for_each(|past| past.reader = None);
            }
        }
        let past = self.review.entry(key.to_owned()).or_default();
        let failed = |source| FileError::new("read", &path, source);
        if past.reader.is_none() {
            let mut file = match files::open(&path) {
                Err(error) if error.is_not_found() => return Ok(false),
                opened => opened?,
            };
            file.seek(SeekFrom::Start(past.at)).map_err(failed)?;
            past.reader = Some(BufReader::new(file));
        }
        let Some(reader) = past.reader.as_mut() else { return Ok(false) };
        let mut line = Vec::new();
        let n = std::io::Read::take(reader, MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
        let found = std::str::from_utf8(&line).ok().and_then(store::parse_metric);
        let stays = found.is_some_and(|(step, value)| keep(step, value));
        if stays {
            past.at += n as u64;
        }
        Ok(stays)
    }

    /// Ends the past of a metric where its comparison is.
    fn cut(&mut self, key: &str) -> Result<(), TrackError> {
        let at = self.review.remove(key).unwrap_or_default().at;
        self.done.insert(key.to_owned());
        let path = self.metric_path(key);
        match files::size(&path) {
            Err(error) if error.is_not_found() => Ok(()),
            // MLflow calls an empty file damaged.
            Ok(_) if at == 0 => Ok(files::remove_file(&path)?),
            Ok(size) if size > at => Ok(files::truncate(&path, at)?),
            size => Ok(size.map(drop)?),
        }
    }

    /// The file of a metric, which its name may not share with a folder of others.
    fn log(&mut self, key: &str) -> Result<&mut LineLog, TrackError> {
        if !self.logs.contains_key(key) {
            if self.logs.len() >= MAX_OPEN {
                self.flush()?;
                self.logs.clear();
            }
            let path = self.metric_path(key);
            let metrics = self.folder.join("metrics");
            if path.is_dir() || path.ancestors().skip(1).take_while(|above| *above != metrics).any(Path::is_file) {
                let reason = "another metric's name is the folder of its own";
                return Err(TrackError::Name { name: key.to_owned(), path: metrics, reason });
            }
            files::create_dir_all(files::parent(&path))?;
            let log = LineLog::open(&path)?;
            self.logs.insert(key.to_owned(), log);
        }
        let missing = TrackError::Name { name: key.to_owned(), path: self.folder.clone(), reason: "its file is closed" };
        self.logs.get_mut(key).ok_or(missing)
    }

    fn text_path(&self, step: u64, name: &str) -> PathBuf {
        self.folder.join("artifacts").join(TEXTS).join(format!("{}-{step:08}.txt", store::key(name).replace('/', "-")))
    }
}

/// Copies what a run folder has of its configuration, environment and report to the artifacts of its file store, where it has one; returns how
/// many files there are of these.
pub fn copy_artifacts(run: &RunDir) -> Result<usize, TrackError> {
    let root = run.path().join(MlflowWriter::FOLDER);
    let meta = Meta::new(&run.id(), &root);
    let artifacts = root.join(&meta.experiment_id).join(&meta.run_id).join("artifacts");
    let mut n = 0;
    for name in ARTIFACTS.iter().filter(|_| artifacts.is_dir()) {
        match files::read_bounded(&run.path().join(name), MAX_ARTIFACT_BYTES) {
            Err(error) if error.is_not_found() => {}
            bytes => {
                files::write_atomic(&artifacts.join(name), &bytes?)?;
                n += 1;
            }
        }
    }
    Ok(n)
}

/// Writes small files that are made again at each start, and takes out others; none of it is waited for.
fn fill(folder: &Path, values: &BTreeMap<String, String>) -> Result<(), TrackError> {
    files::create_dir_all(folder)?;
    for path in files::list_dir(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !values.contains_key(&name) {
            if path.is_dir() { files::remove_dir_all(&path)? } else { files::remove_file(&path)? }
        }
    }
    for (name, value) in values {
        let path = folder.join(name);
        if files::read(&path).is_ok_and(|old| old == value.as_bytes()) {
            continue;
        }
        files::remove_file(&path)?;
        let written = files::open_append(&path)?.write_all(value.as_bytes());
        written.map_err(|source| FileError::new("write", &path, source))?;
    }
    Ok(())
}

/// The files below a folder, by their path in it.
fn files_below(folder: &Path, prefix: &str, depth: u32, into: &mut Vec<String>) -> Result<(), FileError> {
    for path in files::list_dir(folder)? {
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() && depth > 0 {
            files_below(&path, &format!("{name}/"), depth - 1, into)?;
        } else if !path.is_dir() {
            into.push(name);
        }
    }
    Ok(())
}

impl MetricWriter for MlflowWriter {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn start(&mut self, info: &RunInfo, at: Timestamp) -> Result<(), TrackError> {
        self.meta.name.clone_from(&info.name);
        self.meta.started = info.started.unwrap_or(at);
        let flat = |key: &str| store::key(key).replace('/', "_");
        let params = info.hyperparameters();
        let params = params.iter().map(|(key, value)| (flat(key), shortened(&plain(value), store::MAX_PARAM_BYTES).to_owned()));
        fill(&self.folder.join("params"), &params.collect())?;
        let tags = info.tags.iter().map(|(key, value)| (flat(key), shortened(value, store::MAX_TAG_BYTES).to_owned()));
        let name = ("mlflow.runName".to_owned(), info.name.clone());
        fill(&self.folder.join("tags"), &tags.chain(std::iter::once(name)).collect())?;
        Ok(self.meta.write(&self.folder)?)
    }

    fn has(&mut self, step: u64, split: &str, metric: &str, value: f64) -> Result<bool, TrackError> {
        let key = store::key(&format!("{split}/{metric}"));
        if self.done.contains(&key) {
            return Ok(false);
        }
        let is_next = self.pass(&key, |at, held| at == step && is_same(held, value))?;
        if !is_next {
            self.cut(&key)?;
        }
        Ok(is_next)
    }

    fn settle(&mut self, keep_up_to: Option<u64>) -> Result<(), TrackError> {
        let mut keys = Vec::new();
        files_below(&self.folder.join("metrics"), "", 8, &mut keys)?;
        keys.retain(|key| !self.done.contains(key));
        for key in &keys {
            while self.pass(key, |step, _| keep_up_to.is_some_and(|last| step <= last))? {}
            self.cut(key)?;
        }
        self.review.clear();
        let texts = self.folder.join("artifacts").join(TEXTS);
        for path in files::list_dir(&texts).unwrap_or_default() {
            let step = path.file_stem().and_then(|stem| stem.to_str()?.rsplit_once('-')?.1.parse::<u64>().ok());
            if step.is_none_or(|step| self.resume_step.is_none_or(|last| step > last)) {
                files::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn has_text(&mut self, step: u64, name: &str) -> bool {
        files::is_plain_file(&self.text_path(step, name))
    }

    fn write(&mut self, point: &MetricPoint<'_>, at: Timestamp) -> Result<(), TrackError> {
        for &(metric, value) in point.values {
            let line = format!("{} {} {}\n", at.0, number::text(value), point.step);
            self.log(&store::key(&format!("{}/{metric}", point.split)))?.append(line.as_bytes())?;
        }
        Ok(())
    }

    fn text(&mut self, step: u64, name: &str, text: &str, _at: Timestamp) -> Result<(), TrackError> {
        let path = self.text_path(step, name);
        files::create_dir_all(files::parent(&path))?;
        Ok(files::write_atomic(&path, text.as_bytes())?)
    }

    fn finish(&mut self, end: &RunEnd, at: Timestamp) -> Result<(), TrackError> {
        self.meta.end(end.status, at);
        self.meta.write(&self.folder)?;
        let tags = self.folder.join("tags");
        for (name, value) in &end.summary {
            let path = tags.join(format!("summary.{}", store::key(name).replace('/', ".")));
            files::write_atomic(&path, number::text(*value).as_bytes())?;
        }
        copy_artifacts(&RunDir::open(&self.run_dir)?).map(drop)
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        Ok(self.logs.values_mut().try_for_each(LineLog::sync)?)
    }
}
