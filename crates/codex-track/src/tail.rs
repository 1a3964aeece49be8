//! Following a run that goes on: what has been added to its metrics and events since the last look. Nothing here waits; whoever follows decides when to look
//! again.
//!
//! A file may not be there yet, be put away (`metrics.ndjson` becomes `metrics-00001.ndjson`), be cut or written anew by a resume, and end in half a line. A
//! file is known by its device and inode, and that it still is what was read by the bytes before the place that was reached.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use codex_core::{FileError, files};
use serde::Serialize;

use crate::error::TrackError;
use crate::event::{self, Event};
use crate::line_log::Line;
use crate::metric_files::put_away_before;
use crate::ndjson_writer::NdjsonWriter;
use crate::run_dir::RunDir;
use crate::summary::read_line;

/// How much of a file is read at once; a longer line is a bad one.
const CHUNK_BYTES: usize = 1 << 20;
/// The most lines of one look.
const MAX_LINES: usize = 20_000;
/// How many bytes before the place that was reached are compared.
const REMEMBERED_BYTES: usize = 64;

/// Something that was added.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TailItem {
    /// A value.
    Metric(TailPoint),
    /// Something that happened.
    Event(Event),
    /// The file is another than the one that was read, or was cut, as by a resume: what was told of it counts no more, and all of it is told again.
    Rewound {
        /// Which file.
        file: &'static str,
    },
    /// Finished lines that are none of ours.
    BadLines {
        /// Which file.
        file: &'static str,
        /// How many.
        count: u64,
    },
}

/// A value of a metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TailPoint {
    /// Optimizer steps taken.
    pub step: u64,
    /// `train`, `validation`, or `validation/NAME`.
    pub split: String,
    /// Such as `loss`.
    pub metric: String,
    /// What it was measured on, where that is said.
    pub dataset: Option<String>,
    /// The value.
    #[serde(serialize_with = "crate::number::serialize")]
    pub value: f64,
    /// Target tokens trained on so far, where that is said.
    pub tokens: Option<u64>,
    /// When it was written, RFC 3339 in UTC, where that is said.
    pub at: Option<String>,
}

/// A run that is followed.
#[derive(Debug)]
pub struct Tail {
    run: RunDir,
    metrics: Followed,
    /// Whose lines in the metrics are this run's; `None` where all are.
    only: Option<String>,
    events: Followed,
    is_behind: bool,
}

impl Tail {
    /// Follows the run in this folder, from its beginning. The files may come later; nothing is opened or read before the first look.
    ///
    /// # Errors
    /// A folder that is none.
    pub fn open(path: &Path) -> Result<Self, TrackError> {
        let run = RunDir::open(path)?;
        let (dir, is_shared) = run.metrics_location();
        let only = is_shared.then(|| run.id());
        let (metrics, events) = (Followed::new(NdjsonWriter::FILE, &dir), Followed::new(event::FILE, run.path()));
        Ok(Self { metrics, only, events, run, is_behind: false })
    }

    /// The run.
    pub fn run(&self) -> &RunDir {
        &self.run
    }

    /// Whether the last look ended before everything that was there had been told: look again at once.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// What has been added since the last look, metrics before events, each in the order of its file; at most some ten thousand things at once.
    ///
    /// # Errors
    /// A file that is there and cannot be read; the next look tries again.
    pub fn poll(&mut self) -> Result<Vec<TailItem>, TrackError> {
        let mut items = Vec::new();
        let (dir, is_shared) = self.run.metrics_location();
        let path = dir.join(NdjsonWriter::FILE);
        if self.metrics.path != path {
            if self.metrics.open.is_some() {
                items.push(TailItem::Rewound { file: NdjsonWriter::FILE });
            }
            self.metrics = Followed::new(NdjsonWriter::FILE, &dir);
            self.only = is_shared.then(|| self.run.id());
        }
        let only = self.only.clone();
        let mut metric = |line: &[u8]| match read_line(&Line::Whole(line)) {
            Ok(Some(line)) if only.as_ref().is_none_or(|id| *id == line.run_id) => Ok(Some(TailItem::Metric(TailPoint {
                step: line.step,
                split: line.split,
                metric: line.metric,
                dataset: line.dataset,
                value: line.value.0,
                tokens: line.tags.tokens,
                at: line.timestamp,
            }))),
            Ok(_) => Ok(None),
            // In a shared folder those are other tools'.
            Err(()) if only.is_some() => Ok(None),
            Err(()) => Err(()),
        };
        let is_behind = self.metrics.poll(&mut items, &mut metric)?;
        let mut happened = |line: &[u8]| serde_json::from_slice::<Event>(line).map(|event| Some(TailItem::Event(event))).map_err(|_| ());
        self.is_behind = self.events.poll(&mut items, &mut happened)? || is_behind;
        Ok(items)
    }
}

/// A file that is followed.
#[derive(Debug)]
struct Followed {
    name: &'static str,
    path: PathBuf,
    open: Option<Open>,
}

/// The part of it that is being read.
#[derive(Debug)]
struct Open {
    file: File,
    identity: Option<(u64, u64)>,
    /// Behind the last whole line that was read.
    offset: u64,
    /// The last bytes before the offset.
    before: Vec<u8>,
    /// Whether a line is passed over that is too long.
    is_skipping: bool,
}

/// What comes of a line: an item, nothing, or that it is none of ours.
type ReadLineOf<'a> = &'a mut dyn FnMut(&[u8]) -> Result<Option<TailItem>, ()>;

impl Followed {
    fn new(name: &'static str, folder: &Path) -> Self {
        Self { name, path: folder.join(name), open: None }
    }

    /// Adds what is new; tells whether there is more.
    fn poll(&mut self, items: &mut Vec<TailItem>, read: ReadLineOf<'_>) -> Result<bool, TrackError> {
        let mut left = MAX_LINES;
        let mut bad = 0;
        if self.open.as_mut().map_or(Ok(false), Open::is_other)? {
            self.rewind(items);
        }
        loop {
            if self.open.is_none() {
                // The oldest that was turned over comes first.
                let first = put_away_before(&self.path).into_iter().next().unwrap_or_else(|| self.path.clone());
                self.open = Open::at(&first)?;
            }
            let Some(open) = &mut self.open else { break };
            let is_at_end = open.lines(&mut left, items, &mut bad, read).map_err(|source| FileError::new("read", &self.path, source))?;
            if !is_at_end {
                break;
            }
            match self.next() {
                Next::Same => break,
                Next::After(path) => match Open::at(&path)? {
                    // What came between the end and the turning over has been read by now: nothing is added to a file that was turned over.
                    Some(next) => {
                        let Some(open) = &mut self.open else { break };
                        open.lines(&mut left, items, &mut bad, read).map_err(|source| FileError::new("read", &self.path, source))?;
                        if left == 0 {
                            break;
                        }
                        self.open = Some(next);
                    }
                    None => break,
                },
                Next::Gone => {
                    self.rewind(items);
                    if !self.path.exists() {
                        break;
                    }
                }
            }
        }
        if bad > 0 {
            items.push(TailItem::BadLines { file: self.name, count: bad });
        }
        Ok(left == 0)
    }

    fn rewind(&mut self, items: &mut Vec<TailItem>) {
        // What was read of it in this look counts no more either.
        let name = self.name;
        items.retain(|item| match item {
            TailItem::Metric(_) => name != NdjsonWriter::FILE,
            TailItem::Event(_) => name != event::FILE,
            TailItem::Rewound { .. } | TailItem::BadLines { .. } => true,
        });
        items.push(TailItem::Rewound { file: self.name });
        self.open = None;
    }

    /// Where to go on when all of the open file has been read.
    fn next(&self) -> Next {
        let Some(identity) = self.open.as_ref().and_then(|open| open.identity) else { return Next::Same };
        if identity_at(&self.path) == Some(identity) {
            return Next::Same;
        }
        let older = put_away_before(&self.path);
        let newer = |idx: usize| older.get(idx + 1).unwrap_or(&self.path).clone();
        older.iter().position(|path| identity_at(path) == Some(identity)).map_or(Next::Gone, |idx| Next::After(newer(idx)))
    }
}

enum Next {
    /// It is the file that is written to.
    Same,
    /// It was turned over, and this one came after it.
    After(PathBuf),
    /// It has no name any more.
    Gone,
}

impl Open {
    /// Opens a file at its beginning; `None` where it is not there.
    fn at(path: &Path) -> Result<Option<Self>, TrackError> {
        match files::open(path) {
            Ok(file) => {
                let identity = file.metadata().ok().and_then(|it| identity_of(&it));
                Ok(Some(Self { file, identity, offset: 0, before: Vec::new(), is_skipping: false }))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the file is not what was read of it: it is shorter, or has other bytes there.
    fn is_other(&mut self) -> Result<bool, TrackError> {
        let failed = |source| FileError::new("read", Path::new(NdjsonWriter::FILE), source);
        if self.file.metadata().map_err(failed)?.len() < self.offset {
            return Ok(true);
        }
        let mut before = vec![0; self.before.len()];
        self.file.seek(SeekFrom::Start(self.offset - before.len() as u64)).map_err(failed)?;
        Ok(self.file.read_exact(&mut before).is_err() || before != self.before)
    }

    /// Reads whole lines until there are no more, or enough; tells whether the end was reached.
    fn lines(&mut self, left: &mut usize, items: &mut Vec<TailItem>, bad: &mut u64, read: ReadLineOf<'_>) -> std::io::Result<bool> {
        let mut chunk = Vec::new();
        loop {
            self.file.seek(SeekFrom::Start(self.offset))?;
            chunk.clear();
            (&mut self.file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
            let mut taken = 0;
            while let Some(n) = chunk[taken..].iter().position(|&byte| byte == b'\n') {
                if *left == 0 {
                    self.advance(&chunk[..taken]);
                    return Ok(false);
                }
                *left -= 1;
                let line = &chunk[taken..taken + n];
                taken += n + 1;
                // An empty line stands for one that was taken out.
                match (std::mem::take(&mut self.is_skipping), line.is_empty()) {
                    (true, _) => *bad += 1,
                    (false, true) => {}
                    (false, false) => match read(line) {
                        Ok(item) => items.extend(item),
                        Err(()) => *bad += 1,
                    },
                }
            }
            let is_full = chunk.len() == CHUNK_BYTES;
            if is_full && taken == 0 {
                self.is_skipping = true;
                taken = chunk.len();
            }
            self.advance(&chunk[..taken]);
            if !is_full {
                return Ok(true);
            }
        }
    }

    fn advance(&mut self, read: &[u8]) {
        self.offset += read.len() as u64;
        self.before.extend_from_slice(&read[read.len().saturating_sub(REMEMBERED_BYTES)..]);
        let n = self.before.len().saturating_sub(REMEMBERED_BYTES);
        self.before.drain(..n);
    }
}

fn identity_at(path: &Path) -> Option<(u64, u64)> {
    files::metadata(path).ok().and_then(|it| identity_of(&it))
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems tell none")]
fn identity_of(it: &std::fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((it.dev(), it.ino()))
}

/// Other systems tell no such thing in the standard library; the bytes that were read have to do.
#[cfg(not(unix))]
fn identity_of(_it: &std::fs::Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(step: u64) -> String {
        format!(r#"{{"timestamp":"t","run_id":"r","step":{step},"split":"train","metric":"loss","value":{step}.5}}"#) + "\n"
    }

    fn lines(steps: std::ops::RangeInclusive<u64>) -> String {
        steps.map(line).collect()
    }

    fn append(path: &Path, text: &str) {
        files::open_append(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// `3 4`, `<` for a rewinding, `!2` for bad lines, `e` for an event.
    fn told(tail: &mut Tail) -> String {
        let word = |item: TailItem| match item {
            TailItem::Metric(point) => point.step.to_string(),
            TailItem::Event(event) => event.kind,
            TailItem::Rewound { .. } => "<".to_owned(),
            TailItem::BadLines { count, .. } => format!("!{count}"),
        };
        tail.poll().unwrap().into_iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_added_is_told_once_whenever_it_comes() {
        let root = tempfile::tempdir().unwrap();
        let mut tail = Tail::open(root.path()).unwrap();
        let (metrics, events) = (root.path().join("metrics.ndjson"), root.path().join("events.ndjson"));
        assert_eq!(told(&mut tail), "");
        append(&metrics, &lines(1..=2));
        assert_eq!(told(&mut tail), "1 2");
        assert_eq!(told(&mut tail), "");
        // Half a line is told when it is whole.
        let (half, rest) = (line(3)[..20].to_owned(), line(3)[20..].to_owned());
        append(&metrics, &half);
        assert_eq!(told(&mut tail), "");
        append(&metrics, &(rest + "nonsense\n\n" + &line(4)));
        append(&events, "{\"ts\":\"t\",\"level\":\"warn\",\"kind\":\"k\",\"message\":\"m\"}\nx\n");
        assert_eq!(told(&mut tail), "3 4 !1 k !1");
        assert!(Tail::open(&root.path().join("absent")).is_err());
    }

    #[test]
    fn a_resume_that_cuts_or_rewrites_is_told_from_the_beginning() {
        let root = tempfile::tempdir().unwrap();
        let metrics = root.path().join("metrics.ndjson");
        append(&metrics, &lines(1..=5));
        let mut tail = Tail::open(root.path()).unwrap();
        assert_eq!(told(&mut tail), "1 2 3 4 5");
        // Written anew, as `retain` does.
        files::write_atomic(&metrics, lines(1..=3).as_bytes()).unwrap();
        assert_eq!(told(&mut tail), "< 1 2 3");
        // Cut where it is.
        files::truncate(&metrics, lines(1..=2).len() as u64).unwrap();
        append(&metrics, &line(9));
        assert_eq!(told(&mut tail), "< 1 2 9");
        // Cut and grown beyond where it was, between two looks.
        files::truncate(&metrics, 0).unwrap();
        append(&metrics, &lines(4..=8));
        assert_eq!(told(&mut tail), "< 4 5 6 7 8");
        // A torn line that is taken off was never told.
        append(&metrics, "{\"st");
        assert_eq!(told(&mut tail), "");
        crate::line_log::repair(&metrics).unwrap();
        append(&metrics, &line(10));
        assert_eq!(told(&mut tail), "10");
        files::remove_file(&metrics).unwrap();
        assert_eq!(told(&mut tail), "<");
        append(&metrics, &line(1));
        assert_eq!(told(&mut tail), "1");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_turned_over_loses_nothing_and_repeats_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = |part: &str| root.path().join(format!("metrics{part}.ndjson"));
        append(&path("-00001"), &lines(1..=2));
        append(&path(""), &lines(3..=4));
        let mut tail = Tail::open(root.path()).unwrap();
        assert_eq!(told(&mut tail), "1 2 3 4");
        // One more line before it is turned over, and two turns between two looks.
        append(&path(""), &line(5));
        files::rename_new(&path(""), &path("-00002")).unwrap();
        append(&path(""), &line(6));
        files::rename_new(&path(""), &path("-00003")).unwrap();
        append(&path(""), &line(7));
        assert_eq!(told(&mut tail), "5 6 7");
        append(&path(""), &line(8));
        assert_eq!(told(&mut tail), "8");
    }

    #[test]
    fn a_long_file_is_told_in_parts_and_a_long_line_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let metrics = root.path().join("metrics.ndjson");
        let n = MAX_LINES as u64 + 10;
        append(&metrics, &lines(1..=n));
        let mut tail = Tail::open(root.path()).unwrap();
        assert_eq!((tail.poll().unwrap().len(), tail.is_behind()), (MAX_LINES, true));
        assert_eq!((tail.poll().unwrap().len(), tail.is_behind()), (10, false));
        append(&metrics, &("x".repeat(2 * CHUNK_BYTES + 5) + "\n" + &line(1)));
        assert_eq!(told(&mut tail), "1 !1");
    }

    #[test]
    fn metrics_that_lie_elsewhere_are_followed_there_and_others_left_out() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        append(&root.path().join("metrics.ndjson"), &line(1));
        let mut tail = Tail::open(root.path()).unwrap();
        assert_eq!(told(&mut tail), "1");
        run.redirect_metrics(Some(elsewhere.path())).unwrap();
        let ours = line(2).replace("\"r\"", &format!("\"{}\"", run.id()));
        append(&elsewhere.path().join("metrics.ndjson"), &(line(7) + "other\n" + &ours));
        assert_eq!(told(&mut tail), "< 2");
    }
}
