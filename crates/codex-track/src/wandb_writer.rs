//! `wandb/`: the run as an offline run of Weights & Biases, for `wandb sync` and `wandb leet`. Nothing is sent from here.
//!
//! Each process of a run has a folder of its own with the same run id; a row of the history is what was measured at one step. The format is in
//! `wandb_log`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use codex_core::{Digest, Timestamp, files};
use serde_json::Value;

use crate::catch_up::{is_same, moment};
use crate::error::TrackError;
use crate::line_log::LineLog;
use crate::metric::{MetricPoint, MetricWriter, WriterContext};
use crate::number;
use crate::protobuf::Message;
use crate::run_info::{RunEnd, RunInfo};
use crate::run_record::RunStatus;
use crate::tensorboard_writer::shortened;
use crate::wandb_log::{self as format, Held, Records, framed, item, kind, record};

const PROJECT: &str = "codex";
const PREFIX: &str = "offline-run-";
/// The exit code of a process that was killed or failed.
const FAILED: u8 = 1;
/// A longer text is cut.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Appends to the log of an offline run of its own.
#[derive(Debug)]
pub struct WandbWriter {
    root: PathBuf,
    id: String,
    name: String,
    resume_step: Option<u64>,
    /// The logs of processes before, in order.
    earlier: Vec<PathBuf>,
    review: Option<Review>,
    held_texts: BTreeSet<(u64, String)>,
    log: Option<Log>,
    /// What is measured at the step that the run is at.
    row: Option<Row>,
    info: Option<RunInfo>,
    started: Option<Timestamp>,
    /// The newest value of each metric, as JSON.
    summary: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Log {
    file: LineLog,
    at: u64,
    records: u64,
}

impl Log {
    fn append(&mut self, kind: u32, content: &Message) -> Result<(), TrackError> {
        let bytes = framed(self.at, &record(self.records + 1, kind, content));
        self.file.append(&bytes)?;
        self.at += bytes.len() as u64;
        self.records += 1;
        Ok(())
    }

    /// What a log ends with; without it a run counts as crashed.
    fn close(&mut self, summary: &BTreeMap<String, String>, exit_code: u8) -> Result<(), TrackError> {
        let updates = summary.iter().fold(Message::new(), |all, (key, json)| all.message(1, &item(key, json)));
        self.append(kind::SUMMARY, &updates)?;
        self.append(kind::EXIT, &Message::new().int(1, u64::from(exit_code)))?;
        self.append(kind::FOOTER, &Message::new())?;
        self.file.sync()?;
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Row {
    step: u64,
    at: Timestamp,
    items: Vec<(String, String)>,
}

#[derive(Debug)]
struct Review {
    idx: usize,
    records: Records,
    /// Rows that are passed in this file.
    rows: u64,
    has_exit: bool,
    ahead: Option<Ahead>,
}

/// The row that is compared.
#[derive(Debug)]
struct Ahead {
    start: u64,
    step: u64,
    at: Timestamp,
    left: VecDeque<(String, String)>,
    passed: Vec<(String, String)>,
    texts: Vec<(String, String)>,
}

impl WandbWriter {
    /// The writer's name.
    pub const NAME: &'static str = "wandb";
    /// The folder in that of the run.
    pub const FOLDER: &'static str = "wandb";

    /// Opens the folder. From the first row on that the truth does not have, rows are taken out of the logs that are there; what is written goes
    /// to a new one.
    pub fn open(context: &WriterContext<'_>) -> Result<Self, TrackError> {
        let root = context.run_dir.join(Self::FOLDER);
        files::create_dir_all(&root)?;
        let id = Digest::of_bytes(context.run_id.as_bytes()).short();
        let is_ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let mut earlier = Vec::new();
        for folder in files::list_dir(&root)?.into_iter().filter(is_ours) {
            let log = folder.join(format!("run-{id}.wandb"));
            if context.resume_step.is_some() && log.is_file() {
                earlier.push(log);
            } else {
                files::remove_dir_all(&folder)?;
            }
        }
        let mut writer = Self {
            root,
            id,
            name: context.run_id.to_owned(),
            resume_step: context.resume_step,
            earlier,
            review: None,
            held_texts: BTreeSet::new(),
            log: None,
            row: None,
            info: None,
            started: None,
            summary: BTreeMap::new(),
        };
        writer.review = writer.review_of(0)?;
        Ok(writer)
    }

    fn review_of(&self, idx: usize) -> Result<Option<Review>, TrackError> {
        let Some(path) = self.earlier.get(idx) else { return Ok(None) };
        Ok(Some(Review { idx, records: Records::open(path)?, rows: 0, has_exit: false, ahead: None }))
    }

    /// Makes sure that the row that is compared has a value left; false where there is no more.
    fn look_ahead(&mut self) -> Result<bool, TrackError> {
        loop {
            let Some(review) = &mut self.review else { return Ok(false) };
            if let Some(row) = &review.ahead {
                if !row.left.is_empty() {
                    return Ok(true);
                }
                if self.resume_step.is_none_or(|last| row.step > last) {
                    self.cut()?;
                    continue;
                }
                let step = row.step;
                self.held_texts.extend(row.texts.iter().map(|(key, _)| (step, key.clone())));
                review.rows += 1;
                review.ahead = None;
            }
            match review.records.next()? {
                Some((start, Held::Row { step, items })) => review.ahead = Some(ahead(start, step, items)),
                Some((_, Held::Exit)) => review.has_exit = true,
                Some((_, Held::Other)) => {}
                // A log that has lost its end, and has others behind it, is as good as damaged.
                None if review.records.is_damaged || !review.has_exit || self.earlier.len() == review.idx + 1 => self.cut()?,
                None => {
                    let next = review.idx + 1;
                    self.review = self.review_of(next)?;
                }
            }
        }
    }

    /// Takes off the row that is compared and all behind it. What of the row is in the truth is written again; the log that remains gets an end.
    fn cut(&mut self) -> Result<(), TrackError> {
        let Some(review) = self.review.take() else { return Ok(()) };
        for log in self.earlier.drain(review.idx + 1..).rev() {
            files::remove_dir_all(files::parent(&log))?;
        }
        let Some(path) = self.earlier.last().cloned() else { return Ok(()) };
        let is_cut = review.ahead.is_some();
        let end = review.ahead.as_ref().map_or(review.records.end, |row| row.start);
        let records = review.records.count - u64::from(is_cut);
        if review.rows == 0 {
            files::remove_dir_all(files::parent(&path))?;
            self.earlier.pop();
        } else {
            if files::size(&path)? > end {
                files::truncate(&path, end)?;
            }
            if is_cut || !review.has_exit {
                Log { file: LineLog::create(&path)?, at: end, records }.close(&self.summary, FAILED)?;
            }
        }
        if let Some(row) = review.ahead
            && self.resume_step.is_some_and(|last| row.step <= last)
        {
            let texts = row.texts.iter().map(|(name, json)| (format!("text/{name}"), json.clone()));
            let items: Vec<_> = row.passed.into_iter().chain(texts).collect();
            self.held_texts.extend(row.texts.iter().map(|(name, _)| (row.step, name.clone())));
            self.row = (!items.is_empty()).then_some(Row { step: row.step, at: row.at, items });
        }
        Ok(files::sync_dir(&self.root)?)
    }

    /// The log of this process, which is made and named so that it comes behind those that are there.
    fn log(&mut self, at: Timestamp) -> Result<&mut Log, TrackError> {
        let log = match self.log.take() {
            Some(log) => log,
            None => self.create(at)?,
        };
        Ok(self.log.insert(log))
    }

    fn create(&self, mut at: Timestamp) -> Result<Log, TrackError> {
        let last = self.earlier.last().and_then(|log| files::parent(log).file_name()).map(|name| name.to_string_lossy().into_owned());
        let name = |at: Timestamp| format!("{PREFIX}{}-{}", at.to_compact().replace('-', "_"), self.id);
        // By its digits alone: seconds are added until it is behind the last.
        while last.as_ref().is_some_and(|last| name(at) <= *last) {
            at.0 += 1000;
            if let Some(behind) = last.as_deref().and_then(started_after) {
                at = at.max(behind);
            }
        }
        let folder = self.root.join(name(at));
        files::create_dir_all(&folder.join("files"))?;
        files::create_dir_all(&folder.join("logs"))?;
        let mut log = Log { file: LineLog::create(&folder.join(format!("run-{}.wandb", self.id)))?, at: 0, records: 0 };
        log.file.append(&format::HEADER)?;
        log.at = format::HEADER.len() as u64;
        let version = Message::new().text(1, concat!("codex-", env!("CARGO_PKG_VERSION"))).text(2, "0.0.1");
        log.append(kind::HEADER, &Message::new().message(1, &version))?;
        let start =
            Message::new().int(1, u64::try_from(at.0 / 1000).unwrap_or(0)).int(2, u64::try_from(at.0 % 1000).unwrap_or(0) * 1_000_000);
        let mut run = Message::new().text(1, &self.id).text(3, PROJECT).message(4, &self.configuration());
        run = run.text(8, self.info.as_ref().map_or(&self.name, |info| &info.name)).text(9, &self.notes()).message(17, &start);
        if let Some(revision) = self.info.as_ref().and_then(|info| info.tags.get("git_revision")) {
            run = run.message(21, &Message::new().text(2, revision));
        }
        log.append(kind::RUN, &run)?;
        Ok(log)
    }

    fn configuration(&self) -> Message {
        let top = self.info.as_ref().and_then(|info| info.config.as_object());
        top.into_iter().flatten().fold(Message::new(), |all, (key, value)| all.message(1, &item(key, &value.to_string())))
    }

    /// The tags as one line each: tags of Weights & Biases are words without values.
    fn notes(&self) -> String {
        let tags = self.info.iter().flat_map(|info| &info.tags);
        tags.map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join("\n")
    }

    fn add(&mut self, step: u64, key: String, json: String, at: Timestamp) -> Result<(), TrackError> {
        if self.row.as_ref().is_some_and(|row| row.step != step || row.items.iter().any(|(other, _)| *other == key)) {
            self.end_row()?;
        }
        self.row.get_or_insert_with(|| Row { step, at, items: Vec::new() }).items.push((key, json));
        Ok(())
    }

    /// Writes the row.
    fn end_row(&mut self) -> Result<(), TrackError> {
        let Some(Row { step, at, items }) = self.row.take() else { return Ok(()) };
        let seconds = at.0 as f64 / 1000.0;
        let began = *self.started.get_or_insert(at);
        let runtime = (at.0 - began.0).max(0) as f64 / 1000.0;
        let own = [("_step", step.to_string()), ("_timestamp", number::text(seconds)), ("_runtime", number::text(runtime))];
        let own = own.map(|(key, json)| (key.to_owned(), json));
        let all = items.iter().chain(&own);
        let history = all.fold(Message::new(), |all, (key, json)| all.message(1, &item(key, json)));
        self.log(at)?.append(kind::HISTORY, &history.message(2, &Message::new().int(1, step)))
    }
}

/// The second after that of a folder's name.
fn started_after(folder: &str) -> Option<Timestamp> {
    let digits = folder.strip_prefix(PREFIX)?.get(..15)?;
    let part = |from: usize, to: usize| digits.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(9, 11)?, part(11, 13)?, part(13, 15)?);
    Some(Timestamp(moment(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).0 + 1000))
}

fn ahead(start: u64, step: u64, items: Vec<(String, String)>) -> Ahead {
    let mut row = Ahead { start, step, at: Timestamp(0), left: VecDeque::new(), passed: Vec::new(), texts: Vec::new() };
    for (key, json) in items {
        if key == "_timestamp" {
            row.at = Timestamp((json.parse::<f64>().unwrap_or(0.0) * 1000.0).round() as i64);
        } else if let Some(name) = key.strip_prefix("text/").filter(|_| json.starts_with('"')) {
            row.texts.push((name.to_owned(), json));
        } else if !key.starts_with('_') {
            row.left.push_back((key, json));
        }
    }
    row
}

impl MetricWriter for WandbWriter {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn start(&mut self, info: &RunInfo, _at: Timestamp) -> Result<(), TrackError> {
        self.started = info.started;
        self.info = Some(info.clone());
        let configuration = self.configuration();
        self.log.as_mut().map_or(Ok(()), |log| log.append(kind::CONFIG, &configuration))
    }

    fn has(&mut self, step: u64, split: &str, metric: &str, value: f64) -> Result<bool, TrackError> {
        if !self.look_ahead()? {
            return Ok(false);
        }
        let key = format!("{split}/{metric}");
        if let Some(row) = self.review.as_mut().and_then(|review| review.ahead.as_mut())
            && let Some(next) = row.left.pop_front()
            && row.step == step
            && next.0 == key
            && next.1.parse().is_ok_and(|held| is_same(held, value))
        {
            row.passed.push(next.clone());
            self.summary.insert(next.0, next.1);
            return Ok(true);
        }
        self.cut()?;
        Ok(false)
    }

    fn settle(&mut self, keep_up_to: Option<u64>) -> Result<(), TrackError> {
        while self.look_ahead()? {
            let Some(row) = self.review.as_mut().and_then(|review| review.ahead.as_mut()) else { break };
            if row.passed.is_empty() && keep_up_to.is_some_and(|last| row.step <= last) {
                let passed: Vec<_> = row.left.drain(..).collect();
                self.summary.extend(passed);
            } else {
                self.cut()?;
            }
        }
        Ok(())
    }

    fn has_text(&mut self, step: u64, name: &str) -> bool {
        self.held_texts.contains(&(step, name.to_owned()))
    }

    fn write(&mut self, point: &MetricPoint<'_>, at: Timestamp) -> Result<(), TrackError> {
        for &(metric, value) in point.values {
            let (key, json) = (format!("{}/{metric}", point.split), number::text(value));
            self.summary.insert(key.clone(), json.clone());
            self.add(point.step, key, json, at)?;
        }
        Ok(())
    }

    fn text(&mut self, step: u64, name: &str, text: &str, at: Timestamp) -> Result<(), TrackError> {
        self.add(step, format!("text/{name}"), Value::from(shortened(text, MAX_TEXT_BYTES)).to_string(), at)
    }

    fn finish(&mut self, end: &RunEnd, at: Timestamp) -> Result<(), TrackError> {
        self.end_row()?;
        self.summary.extend(end.summary.iter().map(|(key, value)| (key.clone(), number::text(*value))));
        let exit_code = match end.status {
            RunStatus::Finished => 0,
            RunStatus::Interrupted => 130,
            RunStatus::Running | RunStatus::Failed | RunStatus::Killed => FAILED,
        };
        let summary = self.summary.clone();
        self.log(at)?.close(&summary, exit_code)
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        self.end_row()?;
        self.log.as_mut().map_or(Ok(()), |log| Ok(log.file.sync()?))
    }
}
