//! SIGKILL before each call that changes the disk: no checkpoint that was reported is lost, and nothing half made has a checkpoint's name.
//!
//! It shows nothing about power loss, which the kernel's cache survives a kill of the process; the order of the flushes is checked on the trace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use codex_checkpoint::{CheckpointStore, FolderStore};
use codex_core::files;

use crate::child::{self, Job};
use crate::sample::{Sample, assert_is_sample, config, folder_with, plan};
use crate::store::memory_folder;
use crate::trace::{self, Call, Injection, store_of};

/// A job, and what is in its store beforehand.
struct Scenario {
    name: &'static str,
    before: Vec<u64>,
    damaged: Option<u64>,
    steps: Vec<u64>,
    keep_last: usize,
    keep_best: usize,
    /// What can be loaded whatever happens.
    safe: Vec<u64>,
}

/// A run that saves and prunes, and one that replaces a damaged checkpoint of the very step it saves.
fn scenarios() -> Vec<Scenario> {
    let first = Scenario {
        name: "saving and pruning",
        before: vec![],
        damaged: None,
        steps: vec![1, 2, 3, 4],
        keep_last: 2,
        keep_best: 0,
        safe: vec![],
    };
    let second = Scenario {
        name: "replacing a damaged one",
        before: vec![1, 2],
        damaged: Some(2),
        steps: vec![2],
        keep_last: 9,
        keep_best: 1,
        safe: vec![1],
    };
    vec![first, second]
}

impl Scenario {
    fn prepare(&self, folder: &Path) -> Job {
        let store = store_of(folder);
        if !self.before.is_empty() {
            folder_with(&store, &self.before);
        }
        if let Some(step) = self.damaged {
            let path = store.join(format!("step-{step:08}/model.safetensors"));
            let whole = files::read(&path).unwrap();
            files::write_atomic(&path, &whole[..whole.len() - 1]).unwrap();
        }
        Job { store, steps: self.steps.clone(), keep_last: self.keep_last, keep_best: self.keep_best }
    }

    /// What must hold in the store after a kill, before and after the sweep of the next process.
    fn check(&self, folder: &Path, case: &str) {
        let store_path = store_of(folder);
        let reported = child::saved(folder);
        if !store_path.is_dir() {
            assert!(reported.is_empty() && self.before.is_empty(), "{case}");
            return;
        }
        let look = |store: &FolderStore, when: &str| {
            for step in store.steps().unwrap() {
                // The damaged one may still be there; nothing else may be under a checkpoint's name unless it is whole.
                match store.load(step) {
                    Ok(loaded) => assert_is_sample(&loaded),
                    Err(error) => assert!(self.damaged == Some(step) && !reported.contains(&step), "{case}, {when}: {error}"),
                }
            }
            for step in &self.safe {
                assert_is_sample(&store.load(*step).unwrap_or_else(|error| panic!("{case}, {when}: {error}")));
            }
            if let Some(&last) = reported.last() {
                let latest = store.load_latest(Some(plan())).unwrap_or_else(|error| panic!("{case}, {when}: {error}")).unwrap();
                assert!(latest.step >= last, "{case}, {when}: {} was reported, {} is the newest", last, latest.step);
                // A save that was not reported may have removed one already.
                let mut all: BTreeSet<u64> = reported.iter().copied().collect();
                all.insert(latest.step);
                for &step in all.iter().rev().take(self.keep_last) {
                    assert_is_sample(&store.load(step).unwrap_or_else(|error| panic!("{case}, {when}: {error}")));
                }
            }
        };
        look(&FolderStore::read_only(&store_path).unwrap(), "as it was left");
        let config = config(self.keep_last, self.keep_best);
        look(&FolderStore::open(&store_path, &config).unwrap(), "after the sweep");
        let left = files::list_dir(&store_path).unwrap();
        let is_draft = |path: &PathBuf| path.display().to_string().contains(".tmp-");
        assert!(!left.iter().any(is_draft), "{case}: {left:?}");
    }

    /// The calls of an undisturbed run, and a check that it did what it should.
    fn rehearse(&self) -> Vec<Call> {
        let dir = tempfile::tempdir_in(memory_folder()).unwrap();
        let job = self.prepare(dir.path());
        let outcome = trace::run(dir.path(), &job, &Injection::Nothing);
        assert!(outcome.succeeded, "{}: {:?}", self.name, child::failed(dir.path()));
        assert_eq!(child::saved(dir.path()), self.steps, "{}", self.name);
        self.check(dir.path(), self.name);
        outcome.calls
    }
}

#[test]
fn a_kill_at_any_publish_call_loses_no_checkpoint() {
    let mut kills = 0;
    let mut by_name = BTreeMap::<String, usize>::new();
    for scenario in scenarios() {
        for call in scenario.rehearse().into_iter().filter(Call::changes) {
            let dir = tempfile::tempdir_in(memory_folder()).unwrap();
            let case = format!("{}, killed at {} {}: {}", scenario.name, call.name, call.nth, call.line);
            let job = scenario.prepare(dir.path());
            let outcome = trace::run(dir.path(), &job, &Injection::Kill(call.clone()));
            assert!(outcome.was_killed, "{case}: it was not killed");
            let last = outcome.calls.last().unwrap_or_else(|| panic!("{case}: killed before it touched the store"));
            assert_eq!((&last.name, last.nth), (&call.name, call.nth), "{case}: killed elsewhere, at {}", last.line);
            scenario.check(dir.path(), &case);
            // The next process goes on where this one stopped.
            let again = go_on(&scenario, dir.path());
            assert_eq!(again, scenario.steps.last().copied(), "{case}");
            kills += 1;
            *by_name.entry(call.name).or_default() += 1;
        }
    }
    assert!(kills >= 100, "{kills} kills: {by_name:?}");
    assert!(by_name.len() >= 5, "{by_name:?}");
}

/// Does in this process what the killed job had still to do; the newest step afterwards.
fn go_on(scenario: &Scenario, folder: &Path) -> Option<u64> {
    let mut store = FolderStore::open(&store_of(folder), &config(scenario.keep_last, scenario.keep_best)).unwrap();
    let from = store.load_latest(Some(plan())).unwrap().map_or(0, |loaded| loaded.step);
    for &step in scenario.steps.iter().filter(|step| **step >= from) {
        Sample::of(step).save(&mut store).unwrap();
    }
    store.load_latest(Some(plan())).unwrap().map(|loaded| loaded.step)
}

#[test]
fn every_flush_comes_before_what_relies_on_it() {
    for scenario in scenarios() {
        let calls = scenario.rehearse();
        check_order(&calls, scenario.steps.len());
    }
}

/// Follows what is written but not flushed, by path, and what each rename and removal may assume.
fn check_order(calls: &[Call], saves: usize) {
    let mut unflushed: BTreeMap<String, &str> = BTreeMap::new();
    let mut renamed_in = BTreeSet::new();
    let (mut published, mut pointed) = (0, 0);
    let mut last_file = String::new();
    let mut pointed_since_publish = Vec::new();
    for call in calls {
        let paths = quoted(&call.line);
        let of_descriptor = call.line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned());
        match call.name.as_str() {
            "openat" | "open" if call.line.contains("O_CREAT") && !paths[0].ends_with("/.lock") => {
                unflushed.insert(paths[0].clone(), "created");
                unflushed.insert(parent(&paths[0]), "has a new entry");
                last_file.clone_from(&paths[0]);
            }
            "mkdir" | "mkdirat" => drop(unflushed.insert(parent(&paths[0]), "has a new entry")),
            "write" => drop(unflushed.insert(of_descriptor.unwrap(), "written")),
            "fsync" | "fdatasync" => {
                let path = of_descriptor.unwrap();
                unflushed.remove(&path);
                renamed_in.remove(&path);
            }
            "rename" | "renameat" | "renameat2" => {
                let (from, to) = (&paths[0], &paths[1]);
                let is_folder = to.contains("/step-") && !to.contains(".tmp-");
                let is_pointer = ["/latest.json", "/best.json"].iter().any(|pointer| to.ends_with(pointer));
                for (path, why) in &unflushed {
                    let inside = path == from || path.starts_with(&format!("{from}/"));
                    assert!(!inside, "`{path}` is {why} and not flushed at {}", call.line);
                }
                if is_folder {
                    assert!(last_file.ends_with("/manifest.json"), "the manifest is not the last file, `{last_file}` is");
                    published += 1;
                    pointed_since_publish.clear();
                } else if is_pointer {
                    assert!(!renamed_in.contains(&parent(to)), "the name before is not flushed at {}", call.line);
                    pointed += 1;
                    pointed_since_publish.push(to.clone());
                } else if to.contains(".tmp-removed-") {
                    assert_eq!(pointed_since_publish.len(), 2, "removed before both pointers are swapped: {}", call.line);
                    assert!(!renamed_in.contains(&parent(to)), "a pointer is not flushed at {}", call.line);
                }
                unflushed.insert(parent(to), "has a new name");
                renamed_in.insert(parent(to));
            }
            "unlinkat" | "unlink" | "rmdir" => {
                let target = paths.last().unwrap();
                let home = of_descriptor.unwrap_or_default();
                assert!(target.contains(".tmp-") || home.contains(".tmp-"), "removed under a name that counts: {}", call.line);
            }
            _ => {}
        }
    }
    assert_eq!((published, pointed), (saves, 2 * saves));
    let left: Vec<_> = unflushed.iter().filter(|(path, _)| !path.contains(".tmp-")).collect();
    assert!(left.is_empty(), "not flushed at the end: {left:?}");
}

fn quoted(line: &str) -> Vec<String> {
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn parent(path: &str) -> String {
    files::parent(Path::new(path)).display().to_string()
}
