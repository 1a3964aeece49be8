//! What must be in a store after the process that wrote it, or its machine, stopped at any moment.

use std::collections::BTreeMap;
use std::path::Path;

use codex_checkpoint::retention::kept;
use codex_checkpoint::{CheckpointStore, FolderStore};
use codex_core::{Digest, files};
use serde_json::Value;

use crate::child::Job;
use crate::sample::{Sample, assert_is_sample, config, plan};

/// What a job has promised by what it reported.
pub(super) struct Promise<'a> {
    pub(super) job: &'a Job,
    /// The steps that were there before the job, whole.
    pub(super) before: &'a [u64],
    /// A step that was there, damaged.
    pub(super) damaged: Option<u64>,
    /// The steps that the job reported as saved.
    pub(super) reported: &'a [u64],
}

impl Promise<'_> {
    /// Whether nothing is promised: not even the store's folder need be there.
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.reported.is_empty()
    }

    /// Looks at the store as it was left, and again as the next process leaves it when it opens it.
    pub(super) fn check(&self, store: &Path, case: &str) {
        if !store.is_dir() {
            assert!(self.is_empty(), "{case}: the store is gone");
            return;
        }
        self.look(&FolderStore::read_only(store).unwrap(), &format!("{case}, as it was left"));
        self.look_at_pointers(store, case);
        let config = config(self.job.keep_last, self.job.keep_best);
        self.look(&FolderStore::open(store, &config).unwrap(), &format!("{case}, after the sweep"));
        let left = files::list_dir(store).unwrap();
        assert!(!left.iter().any(|path| path.display().to_string().contains(".tmp-")), "{case}: {left:?}");
    }

    fn look(&self, store: &FolderStore, case: &str) {
        for step in store.steps().unwrap() {
            // The damaged one may still be there; nothing else may be under a checkpoint's name unless it is whole.
            match store.load(step) {
                Ok(loaded) => assert_is_sample(&loaded),
                Err(error) => assert!(self.unreported_damage() == Some(step), "{case}: {error}"),
            }
        }
        let latest = match store.load_latest(Some(plan())) {
            Ok(latest) => latest.map(|loaded| loaded.step),
            Err(error) => panic!("{case}: {error}"),
        };
        let mut values = self.promised();
        if let Some(&last) = self.reported.last().or(self.before.last()) {
            let latest = latest.unwrap_or_else(|| panic!("{case}: nothing is left"));
            assert!(latest >= last, "{case}: {last} was reported, {latest} is the newest");
            // A save that was not reported may have removed one already.
            values.entry(latest).or_insert_with(|| self.job.sample(latest).loss.unwrap());
        }
        let values: Vec<(u64, Option<f64>)> = values.into_iter().map(|(step, loss)| (step, Some(loss))).collect();
        if !values.is_empty() {
            for step in kept(&values, &config(self.job.keep_last, self.job.keep_best)) {
                assert_is_sample(&store.load(step).unwrap_or_else(|error| panic!("{case}: {error}")));
            }
        }
    }

    /// `latest.json` and `best.json` name what is there, and are not behind what was reported.
    fn look_at_pointers(&self, store: &Path, case: &str) {
        let read = |name: &str| files::read(&store.join(name)).ok().map(|bytes| serde_json::from_slice::<Value>(&bytes).expect(case));
        let (latest, best) = (read("latest.json"), read("best.json"));
        if let Some(&last) = self.reported.last() {
            let step = latest.as_ref().and_then(|latest| latest["step"].as_u64());
            assert!(step >= Some(last), "{case}: {last} was reported, `latest.json` names {step:?}");
        }
        if let Some(latest) = latest.filter(|latest| latest["step"].as_u64() != self.unreported_damage()) {
            let manifest = store.join(latest["folder"].as_str().unwrap()).join("manifest.json");
            let digest =
                Digest::of_file(&manifest).unwrap_or_else(|error| panic!("{case}: `latest.json` names what is not there: {error}"));
            assert_eq!(latest["manifest_blake3"], digest.to_string(), "{case}");
        }
        let items = best.as_ref().and_then(|best| best["items"].as_array()).cloned().unwrap_or_default();
        for item in items.iter().filter(|item| item["step"].as_u64() != self.unreported_damage()) {
            assert!(store.join(item["folder"].as_str().unwrap()).is_dir(), "{case}: `best.json` names what is not there: {item}");
        }
        if self.job.keep_best > 0 && !self.reported.is_empty() {
            let promised = self.promised().into_values().fold(f64::INFINITY, f64::min);
            let named = items.first().and_then(|item| item["value"].as_f64());
            assert!(named.is_some_and(|named| named <= promised), "{case}: {promised} was reported, `best.json` names {named:?}");
        }
    }

    /// The loss of each step that was there or was reported.
    fn promised(&self) -> BTreeMap<u64, f64> {
        let before = self.before.iter().map(|&step| (step, Sample::of(step).loss.unwrap()));
        before.chain(self.reported.iter().map(|&step| (step, self.job.sample(step).loss.unwrap()))).collect()
    }

    fn unreported_damage(&self) -> Option<u64> {
        self.damaged.filter(|step| !self.reported.contains(step))
    }
}

/// Does in this process what the job had still to do; the newest step afterwards.
pub(super) fn go_on(store: &Path, job: &Job) -> Option<u64> {
    let mut store = FolderStore::open(store, &config(job.keep_last, job.keep_best)).unwrap();
    let from = store.load_latest(Some(plan())).unwrap().map_or(0, |loaded| loaded.step);
    for &step in job.steps.iter().filter(|step| **step >= from) {
        job.sample(step).save(&mut store).unwrap();
    }
    store.load_latest(Some(plan())).unwrap().map(|loaded| loaded.step)
}
