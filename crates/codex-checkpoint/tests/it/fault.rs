//! Calls that the operating system refuses while a checkpoint is saved: the error is typed, with path and errno, and what was saved stays.

use std::path::Path;

use codex_checkpoint::{CheckpointStore, FolderStore};
use codex_core::files;

use crate::child::{self, Job};
use crate::sample::{Sample, assert_is_sample, config, folder_with, plan};
use crate::store::memory_folder;
use crate::trace::{self, Call, Injection, store_of};

/// The errno, its number, and the calls that may meet it.
const FAULTS: [(&str, i32, &[&str]); 5] = [
    ("ENOSPC", 28, &["openat", "open", "write", "mkdir", "mkdirat", "fsync", "fdatasync"]),
    ("EDQUOT", 122, &["write"]),
    ("EIO", 5, &["write", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlinkat"]),
    ("EROFS", 30, &["openat", "open", "mkdir", "mkdirat", "rename", "renameat", "renameat2"]),
    ("EMFILE", 24, &["openat", "open"]),
];

fn job(folder: &Path) -> Job {
    folder_with(&store_of(folder), &[1]);
    Job { store: store_of(folder), steps: vec![2], keep_last: 1, keep_best: 0 }
}

#[test]
fn a_refused_call_is_told_and_costs_nothing_that_was_saved() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let rehearsal = trace::run(dir.path(), &job(dir.path()), &Injection::Nothing);
    assert_eq!(child::saved(dir.path()), [2]);
    let calls: Vec<Call> = rehearsal.calls.into_iter().filter(|call| call.changes() && !call.line.contains("/.lock")).collect();
    let mut points = 0;
    for (errno, number, names) in FAULTS {
        for call in calls.iter().filter(|call| names.contains(&call.name.as_str())) {
            let dir = tempfile::tempdir_in(memory_folder()).unwrap();
            let outcome = trace::run(dir.path(), &job(dir.path()), &Injection::Fail(call.clone(), errno));
            let case = format!("{errno} at {} {}: {}", call.name, call.nth, call.line);
            assert!(outcome.succeeded, "{case}: the job ended badly");
            let failed = child::failed(dir.path());
            assert_eq!((failed.len(), child::saved(dir.path()).len()), (1, 0), "{case}: {failed:?}");
            let told = &failed[0].message;
            assert_eq!(failed[0].code, 5, "{case}: {told}");
            assert!(told.contains(&format!("(os error {number})")), "{case}: {told}");
            assert!(told.contains(&dir.path().join("run").display().to_string()), "{case}: {told}");
            check_store(dir.path(), &case);
            points += 1;
        }
    }
    assert!(points >= 50, "{points}");
}

/// Whatever failed, the newest is step 1 or 2 and whole, no draft stays when it could be removed, and the next process saves.
fn check_store(folder: &Path, case: &str) {
    let path = store_of(folder);
    let reader = FolderStore::read_only(&path).unwrap();
    for step in reader.steps().unwrap() {
        assert_is_sample(&reader.load(step).unwrap_or_else(|error| panic!("{case}: {error}")));
    }
    let newest = reader.load_latest(Some(plan())).unwrap().unwrap_or_else(|| panic!("{case}: nothing is left"));
    assert!(newest.skipped.is_empty(), "{case}");
    let drafts = files::list_dir(&path).unwrap().into_iter().filter(|path| {
        let name = path.display().to_string();
        name.contains(".tmp-") && !name.contains(".tmp-removed-")
    });
    assert_eq!(drafts.count(), 0, "{case}");
    let mut store = FolderStore::open(&path, &config(1, 0)).unwrap();
    Sample::of(2).save(&mut store).unwrap();
    assert_is_sample(&store.load_latest(Some(plan())).unwrap().unwrap());
    assert_eq!(store.steps().unwrap(), [2], "{case}");
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_not_taken_for_a_damaged_one() {
    let again = |folder: &Path| {
        folder_with(&store_of(folder), &[1, 2]);
        Job { store: store_of(folder), steps: vec![2], keep_last: 9, keep_best: 1 }
    };
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let calls = trace::run(dir.path(), &again(dir.path()), &Injection::Nothing).calls;
    let reads: Vec<Call> = calls.into_iter().filter(|call| call.name == "read" && call.line.contains("/step-00000002/")).collect();
    assert!(reads.len() >= 10, "{reads:?}");
    for call in reads {
        let dir = tempfile::tempdir_in(memory_folder()).unwrap();
        let case = format!("{} {}: {}", call.name, call.nth, call.line);
        let job = again(dir.path());
        let outcome = trace::run(dir.path(), &job, &Injection::Fail(call, "EIO"));
        assert!(outcome.succeeded, "{case}");
        // A list passes over what cannot be read; the save itself must not.
        assert!(!outcome.calls.iter().any(|call| call.line.contains(".tmp-damaged-")), "{case}");
        let store = FolderStore::read_only(&store_of(dir.path())).unwrap();
        assert_is_sample(&store.load(2).unwrap_or_else(|error| panic!("{case}: {error}")));
        assert!(child::failed(dir.path()).iter().all(|failed| failed.code == 5), "{case}: {:?}", child::failed(dir.path()));
    }
}
