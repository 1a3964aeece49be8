//! SIGKILL before each call that changes the disk: no checkpoint that was reported is lost, and nothing half made has a checkpoint's name.
//!
//! It shows nothing about power loss, which the kernel's cache survives a kill of the process: that is `power`'s, and the order of the flushes
//! is checked here on the trace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use codex_core::files;

use crate::child::{self, Job};
use crate::sample::folder_with;
use crate::store::memory_folder;
use crate::survivors::{Promise, go_on};
use crate::tally::Tally;
use crate::trace::{self, Call, Injection, store_of};

/// A job, and what is in its store beforehand.
#[derive(Default)]
pub(super) struct Scenario {
    name: &'static str,
    before: Vec<u64>,
    /// One more that is there, damaged.
    damaged: Option<u64>,
    steps: Vec<u64>,
    keep_last: usize,
    keep_best: usize,
    rising: bool,
}

/// What runs do with checkpoints; the first two have most of it.
#[rustfmt::skip]
pub(super) fn scenarios() -> Vec<Scenario> {
    let none = Scenario::default;
    vec![
        Scenario { name: "saving and pruning", steps: vec![1, 2, 3, 4], keep_last: 2, ..none() },
        Scenario { name: "replacing a damaged one", before: vec![1], damaged: Some(2), steps: vec![2], keep_last: 9, keep_best: 1, ..none() },
        Scenario { name: "saving the same again", before: vec![1, 2], steps: vec![2], keep_last: 9, keep_best: 1, ..none() },
        Scenario { name: "pruning around the best", steps: vec![1, 2, 3, 4], keep_last: 1, keep_best: 1, rising: true, ..none() },
        Scenario { name: "swapping latest and best", steps: vec![1, 2, 3], keep_last: 9, keep_best: 2, ..none() },
        Scenario { name: "going on after others", before: vec![1, 2, 3], steps: vec![4, 5], keep_last: 2, keep_best: 1, rising: true, ..none() },
        Scenario { name: "going back behind a damaged one", before: vec![1, 2], damaged: Some(9), steps: vec![3, 4], keep_last: 1, ..none() },
    ]
}

impl Scenario {
    /// The first one, whose calls are also where `power` stops.
    pub(super) fn saving_and_pruning() -> Self {
        scenarios().swap_remove(0)
    }

    /// One that `power` watches for as long as it likes, of several kinds.
    pub(super) fn long(kind: usize) -> Self {
        let (keep_last, keep_best, rising) = [(2, 0, false), (2, 1, false), (1, 1, true), (3, 2, true), (1, 2, false)][kind % 5];
        Self { name: "saving on and on", steps: (1..=1000).collect(), keep_last, keep_best, rising, ..Self::default() }
    }

    /// Fills the store of the job that is to run in this folder.
    pub(super) fn prepare(&self, folder: &Path) -> Job {
        let store = store_of(folder);
        let there: Vec<u64> = self.before.iter().copied().chain(self.damaged).collect();
        if !there.is_empty() {
            folder_with(&store, &there);
        }
        if let Some(step) = self.damaged {
            let path = store.join(format!("step-{step:08}/model.safetensors"));
            let whole = files::read(&path).unwrap();
            files::write_atomic(&path, &whole[..whole.len() - 1]).unwrap();
        }
        self.job(store)
    }

    /// The job that saves into this store.
    pub(super) fn job(&self, store: std::path::PathBuf) -> Job {
        let (keep_last, keep_best, rising) = (self.keep_last, self.keep_best, self.rising);
        Job { store, steps: self.steps.clone(), keep_last, keep_best, rising, paced: false }
    }

    /// What must hold after these were reported.
    pub(super) fn promise<'a>(&'a self, job: &'a Job, reported: &'a [u64]) -> Promise<'a> {
        Promise { job, before: &self.before, damaged: self.damaged, reported }
    }

    /// The calls of an undisturbed run, and a check that it did what it should.
    fn rehearse(&self) -> Vec<Call> {
        let dir = tempfile::tempdir_in(memory_folder()).unwrap();
        let job = self.prepare(dir.path());
        let outcome = trace::run(dir.path(), &job, &Injection::Nothing);
        assert!(outcome.succeeded, "{}: {:?}", self.name, child::failed(dir.path()));
        assert_eq!(child::saved(dir.path()), self.steps, "{}", self.name);
        self.promise(&job, &self.steps).check(&job.store, self.name);
        outcome.calls
    }

    /// A kill at this call, and the next process after it.
    fn kill_at(&self, call: &Call, case: &str) {
        let dir = tempfile::tempdir_in(memory_folder()).unwrap();
        let job = self.prepare(dir.path());
        let outcome = trace::run(dir.path(), &job, &Injection::Kill(call.clone()));
        assert!(outcome.was_killed, "{case}: it was not killed");
        let last = outcome.calls.last().unwrap_or_else(|| panic!("{case}: killed before it touched the store"));
        assert_eq!((&last.name, last.nth), (&call.name, call.nth), "{case}: killed elsewhere, at {}", last.line);
        self.promise(&job, &child::saved(dir.path())).check(&job.store, case);
        // The next process goes on where this one stopped.
        assert_eq!(go_on(&job.store, &job), self.steps.last().copied(), "{case}");
        self.promise(&job, &self.steps).check(&job.store, case);
    }
}

/// Kills the job of each scenario at each of its calls; how many calls of each name those were.
pub(super) fn kills(scenarios: &[Scenario], tally: &mut Tally) -> BTreeMap<String, usize> {
    const GROUP: &str = "SIGKILL at a system call";
    let mut points: Vec<(&Scenario, Call)> = Vec::new();
    for scenario in scenarios {
        points.extend(scenario.rehearse().into_iter().filter(Call::changes).map(|call| (scenario, call)));
    }
    let points = tally.spread(points);
    tally.plan(GROUP, points.len());
    let mut by_name = BTreeMap::<String, usize>::new();
    for (scenario, call) in points {
        let case = format!("{}, killed at {} {}: {}", scenario.name, call.name, call.nth, call.line);
        tally.case(GROUP, &case, || scenario.kill_at(&call, &case));
        *by_name.entry(call.name).or_default() += 1;
    }
    by_name
}

/// Checks on a trace of each scenario that every flush comes before what relies on it.
pub(super) fn orders(scenarios: &[Scenario], tally: &mut Tally) {
    const GROUP: &str = "order of the flushes";
    tally.plan(GROUP, scenarios.len());
    for scenario in scenarios {
        tally.case(GROUP, scenario.name, || {
            let is_there = |step: &&u64| scenario.before.contains(step);
            let folders = scenario.steps.len() - scenario.steps.iter().filter(is_there).count();
            check_order(&scenario.rehearse(), folders, scenario.steps.len());
        });
    }
}

#[test]
fn a_kill_at_any_publish_call_loses_no_checkpoint() {
    let mut tally = Tally::in_test();
    let by_name = kills(&scenarios()[..2], &mut tally);
    assert!(tally.passed() >= 100, "{} kills: {by_name:?}", tally.passed());
    assert!(by_name.len() >= 5, "{by_name:?}");
}

#[test]
fn every_flush_comes_before_what_relies_on_it() {
    orders(&scenarios(), &mut Tally::in_test());
}

/// Follows what is written but not flushed, by path, and what each rename and removal may assume.
fn check_order(calls: &[Call], folders: usize, saves: usize) {
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
    assert_eq!((published, pointed), (folders, 2 * saves));
    let left: Vec<_> = unflushed.iter().filter(|(path, _)| !path.contains(".tmp-")).collect();
    assert!(left.is_empty(), "not flushed at the end: {left:?}");
}

fn quoted(line: &str) -> Vec<String> {
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn parent(path: &str) -> String {
    files::parent(Path::new(path)).display().to_string()
}
