//! Saving while training goes on.
//!
//! One save is under way at a time, in a thread of its own. It reads the tensors' own memory, so nothing is copied; whoever wants to write there
//! waits for the [release](BackgroundSaver::wait_for_release), which comes when the bytes are with the operating system and before they are
//! flushed. A checkpoint counts as saved when the save is reported, not when it is begun.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use codex_core::Clock;

use crate::error::CheckpointError;
use crate::store::{CheckpointStore, SavedCheckpoint, Snapshot};

/// A store that saves in a thread of its own.
#[derive(Debug)]
pub struct BackgroundSaver {
    /// `None` once the thread is to end.
    snapshots: Option<Sender<Snapshot>>,
    reports: Receiver<Result<SaveReport, CheckpointError>>,
    thread: Option<JoinHandle<()>>,
    /// Of the save that is under way.
    release: Option<Receiver<()>>,
    is_busy: bool,
}

/// A checkpoint that is on the disk.
#[derive(Clone, Debug, PartialEq)]
pub struct SaveReport {
    /// The checkpoint.
    pub checkpoint: SavedCheckpoint,
    /// Seconds from its begin until it was whole on the disk and the pointers named it; retention comes after.
    pub seconds: f64,
}

impl BackgroundSaver {
    /// Starts the thread.
    pub fn new(mut store: impl CheckpointStore + Send + 'static, clock: Arc<dyn Clock>) -> Result<Self, CheckpointError> {
        let (snapshots, to_save) = channel::<Snapshot>();
        let (reporter, reports) = channel();
        let work = move || {
            for snapshot in to_save {
                let began = clock.elapsed_seconds();
                let report = store.publish(snapshot).and_then(|saved| {
                    let seconds = clock.elapsed_seconds() - began;
                    let pruned = store.prune(saved.step)?;
                    Ok(SaveReport { checkpoint: SavedCheckpoint { pruned, ..saved }, seconds })
                });
                if reporter.send(report).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(work);
        let thread = thread.map_err(|source| CheckpointError::Thread { reason: source.to_string() })?;
        Ok(Self { snapshots: Some(snapshots), reports, thread: Some(thread), release: None, is_busy: false })
    }

    /// Begins to save a snapshot, after the one before it is on the disk; that one's report is returned.
    pub fn begin(&mut self, snapshot: Snapshot) -> Result<Option<SaveReport>, CheckpointError> {
        let before = self.wait()?;
        let (lease, release) = channel();
        let snapshot = Snapshot { lease: Some(lease), ..snapshot };
        self.snapshots.as_ref().and_then(|snapshots| snapshots.send(snapshot).ok()).ok_or_else(ended)?;
        (self.release, self.is_busy) = (Some(release), true);
        Ok(before)
    }

    /// Waits until the tensors of the last snapshot may be written again.
    pub fn wait_for_release(&mut self) {
        if let Some(release) = self.release.take() {
            // Nothing is ever sent: this returns when the other end is dropped.
            let _closed = release.recv();
        }
    }

    /// The report of a save that has ended since the last call, without waiting.
    pub fn poll(&mut self) -> Result<Option<SaveReport>, CheckpointError> {
        if !self.is_busy {
            return Ok(None);
        }
        match self.reports.try_recv() {
            Ok(report) => self.ended(report),
            Err(std::sync::mpsc::TryRecvError::Empty) => Ok(None),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Err(ended()),
        }
    }

    /// The report of the save that is under way, when it has ended; `None` when none is.
    pub fn wait(&mut self) -> Result<Option<SaveReport>, CheckpointError> {
        if !self.is_busy {
            return Ok(None);
        }
        let report = self.reports.recv().map_err(|_| ended())?;
        self.ended(report)
    }

    fn ended(&mut self, report: Result<SaveReport, CheckpointError>) -> Result<Option<SaveReport>, CheckpointError> {
        (self.release, self.is_busy) = (None, false);
        report.map(Some)
    }
}

impl Drop for BackgroundSaver {
    /// A save that was begun is completed.
    fn drop(&mut self) {
        self.snapshots = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn ended() -> CheckpointError {
    CheckpointError::Thread { reason: "it has ended".to_owned() }
}
