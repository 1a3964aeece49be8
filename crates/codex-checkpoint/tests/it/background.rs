//! Saving beside the program: what is promised about memory, order, errors and the end.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use codex_checkpoint::{
    BackgroundSaver, CheckpointError, CheckpointStore, Entry, FolderStore, Loaded, Manifest, MemoryStore, SavedCheckpoint, Snapshot,
};
use codex_core::{Digest, SystemClock, Values, files};

use crate::sample::{Sample, assert_is_sample, config, plan};

/// A store that drops the tensors when it is told to, and saves when it is told to again.
#[derive(Debug)]
struct Held {
    inner: Arc<Mutex<MemoryStore>>,
    go: Receiver<()>,
}

impl CheckpointStore for Held {
    fn prune(&mut self, _saved: u64) -> Result<Vec<u64>, CheckpointError> {
        Ok(Vec::new())
    }

    fn publish(&mut self, snapshot: Snapshot) -> Result<SavedCheckpoint, CheckpointError> {
        let step = snapshot.step;
        self.go.recv().unwrap();
        drop(snapshot);
        self.go.recv().unwrap();
        Sample::of(step).save(&mut *self.inner.lock().unwrap())
    }

    fn load_latest(&self, plan: Option<Digest>) -> Result<Option<Loaded>, CheckpointError> {
        self.inner.lock().unwrap().load_latest(plan)
    }

    fn load_model(&self, step: u64) -> Result<Loaded, CheckpointError> {
        self.inner.lock().unwrap().load_model(step)
    }

    fn load_latest_model(&self) -> Result<Option<Loaded>, CheckpointError> {
        self.inner.lock().unwrap().load_latest_model()
    }

    fn load(&self, step: u64) -> Result<Loaded, CheckpointError> {
        self.inner.lock().unwrap().load(step)
    }

    fn list(&self) -> Result<Vec<Entry>, CheckpointError> {
        self.inner.lock().unwrap().list()
    }

    fn steps(&self) -> Result<Vec<u64>, CheckpointError> {
        self.inner.lock().unwrap().steps()
    }

    fn verify(&self, step: u64) -> Result<Manifest, CheckpointError> {
        self.inner.lock().unwrap().verify(step)
    }

    fn best(&self) -> Result<Option<u64>, CheckpointError> {
        self.inner.lock().unwrap().best()
    }
}

fn held() -> (BackgroundSaver, Sender<()>, Arc<Mutex<MemoryStore>>) {
    let (go, told) = channel();
    let kept = Arc::new(Mutex::new(MemoryStore::new(&config(9, 1))));
    let store = Held { inner: Arc::clone(&kept), go: told };
    (BackgroundSaver::new(store, Arc::new(SystemClock::new())).unwrap(), go, kept)
}

#[test]
fn memory_is_given_back_before_the_save_is_reported() {
    let (mut saver, go, kept) = held();
    let memory: Arc<dyn AsRef<[f32]> + Send + Sync> = Arc::new(vec![0.5_f32; 3]);
    let mut sample = Sample::of(1);
    sample.weights.get_mut("norm.weight").unwrap().values = Values::shared(Arc::clone(&memory));
    assert_eq!(saver.begin(sample.snapshot()).unwrap(), None);
    drop(sample);
    assert_eq!(Arc::strong_count(&memory), 2, "the snapshot holds it");
    assert_eq!(saver.poll().unwrap(), None);
    go.send(()).unwrap();
    saver.wait_for_release();
    assert_eq!(Arc::strong_count(&memory), 1);
    assert_eq!(saver.poll().unwrap(), None, "it is not saved yet");
    assert!(kept.lock().unwrap().steps().unwrap().is_empty());
    go.send(()).unwrap();
    let report = saver.wait().unwrap().unwrap();
    assert_eq!(report.checkpoint.step, 1);
    assert!(report.seconds >= 0.0);
    assert_eq!(saver.wait().unwrap(), None, "each is reported once");
}

#[test]
fn a_save_waits_for_the_one_before_it_and_the_end_for_all() {
    let (mut saver, go, kept) = held();
    saver.begin(Sample::of(1).snapshot()).unwrap();
    for _ in 0..4 {
        go.send(()).unwrap();
    }
    assert_eq!(saver.begin(Sample::of(2).snapshot()).unwrap().unwrap().checkpoint.step, 1);
    drop(saver);
    assert_eq!(kept.lock().unwrap().steps().unwrap(), [1, 2]);
}

#[test]
fn a_failed_save_is_told_once_and_the_next_one_may_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let store = FolderStore::open(dir.path(), &config(9, 1)).unwrap();
    let mut saver = BackgroundSaver::new(store, Arc::new(SystemClock::new())).unwrap();
    let mut bad = Sample::of(1);
    bad.weights.get_mut("norm.weight").unwrap().values[2] = f32::NAN;
    saver.begin(bad.snapshot()).unwrap();
    saver.wait_for_release();
    assert!(matches!(saver.wait().unwrap_err(), CheckpointError::NotFinite { step: 1, .. }));
    assert_eq!(saver.poll().unwrap(), None);
    saver.begin(Sample::of(2).snapshot()).unwrap();
    assert_eq!(saver.wait().unwrap().unwrap().checkpoint.step, 2);
    drop(saver);
    let store = FolderStore::read_only(dir.path()).unwrap();
    assert_eq!(store.steps().unwrap(), [2], "nothing of the bad one is left");
    assert_is_sample(&store.load_latest(Some(plan())).unwrap().unwrap());
}

#[test]
fn a_model_is_loaded_without_its_moments_which_may_even_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = FolderStore::open(dir.path(), &config(9, 1)).unwrap();
    let path = Sample::of(3).save(&mut store).unwrap().path;
    let moments = path.join("optimizer.safetensors");
    let mut bytes = files::read(&moments).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    files::write_atomic(&moments, &bytes).unwrap();
    assert!(matches!(store.load(3).unwrap_err(), CheckpointError::Digest { .. }));
    for loaded in [store.load_model(3).unwrap(), store.load_latest_model().unwrap().unwrap()] {
        assert_eq!(loaded.weights, Sample::of(3).weights);
        assert!(loaded.moments.is_empty() && loaded.extra.contains_key("tokenizer.json"));
    }
    let weights = path.join("model.safetensors");
    let bytes = files::read(&weights).unwrap();
    files::write_atomic(&weights, &bytes[1..]).unwrap();
    assert!(matches!(store.load_model(3).unwrap_err(), CheckpointError::Size { .. }), "the weights are verified");
}
