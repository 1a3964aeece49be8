//! Two writers: the second is told that the first is there (exit code 7), and neither harms what the other saves.

use std::process::{Child, Command, Stdio};

use codex_checkpoint::{CheckpointStore, FolderStore};

use crate::child::{self, Job};
use crate::sample::{Sample, assert_is_sample, config, folder_with, plan};
use crate::store::memory_folder;
use crate::tally::Tally;
use crate::trace::store_of;

/// The part of the programme: so many times one that comes while the other is there, and so many times two at once.
pub(super) fn two_writers(n: u64, tally: &mut Tally) {
    const GROUP: &str = "two writers";
    let n = tally.of(n as usize) as u64;
    tally.plan(GROUP, 2 * n as usize);
    for case in 0..n {
        tally.case(GROUP, &format!("the second comes after {case} saves of the first"), || a_second_comes(case));
        tally.case(GROUP, &format!("both at once, {} saves each", case + 1), || both_at_once(case + 1));
    }
}

fn a_second_comes(saves: u64) {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let store = store_of(dir.path());
    let mut first = FolderStore::open(&store, &config(2, 1)).unwrap();
    for step in 1..=saves {
        Sample::of(step).save(&mut first).unwrap();
    }
    assert!(start(dir.path(), &job(&store, saves + 3)).wait().unwrap().success());
    let failed = child::failed(dir.path());
    assert_eq!((failed.len(), child::saved(dir.path()).len()), (1, 0), "{failed:?}");
    assert_eq!(failed[0].code, 7, "{}", failed[0].message);
    assert!(failed[0].message.contains(&store.join(".lock").display().to_string()), "{}", failed[0].message);
    // The first goes on as if nobody had come.
    Sample::of(saves + 1).save(&mut first).unwrap();
    let latest = first.load_latest(Some(plan())).unwrap().unwrap();
    assert_eq!((latest.step, latest.skipped.len()), (saves + 1, 0));
    assert_is_sample(&latest);
}

fn both_at_once(saves: u64) {
    let root = tempfile::tempdir_in(memory_folder()).unwrap();
    let store = store_of(root.path());
    folder_with(&store, &[1]);
    let folders = [root.path().join("a"), root.path().join("b")];
    let job = job(&store, saves);
    let mut both = folders.each_ref().map(|folder| {
        codex_core::files::create_dir_all(folder).unwrap();
        start(folder, &job)
    });
    assert!(both.iter_mut().all(|process| process.wait().unwrap().success()));
    let mut finished = 0;
    for folder in &folders {
        let (saved, failed) = (child::saved(folder), child::failed(folder));
        match failed.first() {
            None => {
                assert_eq!(saved, job.steps);
                finished += 1;
            }
            Some(failed) => assert_eq!((failed.code, saved.len()), (7, 0), "{}", failed.message),
        }
    }
    assert!(finished >= 1, "neither saved");
    let store = FolderStore::read_only(&store).unwrap();
    for step in store.steps().unwrap() {
        assert_is_sample(&store.load(step).unwrap());
    }
    assert_eq!(store.load_latest(Some(plan())).unwrap().unwrap().step, saves);
}

/// Saves steps from 1 on, of which the first is there.
fn job(store: &std::path::Path, saves: u64) -> Job {
    Job { store: store.to_owned(), steps: (1..=saves).collect(), keep_last: 99, keep_best: 1, rising: false, paced: false }
}

fn start(folder: &std::path::Path, job: &Job) -> Child {
    child::prepare(folder, job);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", child::TEST, "--test-threads=1", "--nocapture"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_second_writer_is_refused_and_harms_nothing() {
    let mut tally = Tally::in_test();
    two_writers(2, &mut tally);
    assert_eq!(tally.passed(), 4);
}
