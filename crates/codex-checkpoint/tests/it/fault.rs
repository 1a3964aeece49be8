//! Calls that the operating system refuses while a checkpoint is saved: the error is typed, with path and errno, and what was saved stays.

use std::path::Path;

use codex_checkpoint::{CheckpointStore, FolderStore};
use codex_core::files;

use crate::child::{self, Job};
use crate::disk::Mounted;
use crate::sample::{Sample, assert_is_sample, config, folder_with, plan};
use crate::store::memory_folder;
use crate::tally::Tally;
use crate::trace::{self, Call, Injection, store_of};

/// The errno, its number, and the calls that may meet it.
const FAULTS: [(&str, i32, &[&str]); 5] = [
    ("ENOSPC", 28, &["openat", "open", "write", "mkdir", "mkdirat", "fsync", "fdatasync"]),
    ("EDQUOT", 122, &["write"]),
    ("EIO", 5, &["write", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlinkat"]),
    ("EROFS", 30, &["openat", "open", "mkdir", "mkdirat", "rename", "renameat", "renameat2"]),
    ("EMFILE", 24, &["openat", "open"]),
];

/// A job that meets a fault while it saves step 2.
#[derive(Clone, Copy, Debug)]
enum Case {
    /// Step 1 is removed afterwards.
    Pruning,
    /// A damaged step 2 makes way.
    Replacing,
    /// Step 1 is kept as the best, and a loss that rises leaves it so.
    Keeping,
}

impl Case {
    fn job(self, folder: &Path) -> Job {
        let store = store_of(folder);
        match self {
            Self::Replacing => {
                folder_with(&store, &[1, 2]);
                let weights = store.join("step-00000002/model.safetensors");
                let whole = files::read(&weights).unwrap();
                files::write_atomic(&weights, &whole[1..]).unwrap();
            }
            Self::Pruning | Self::Keeping => folder_with(&store, &[1]),
        }
        let (keep_last, keep_best) = self.kept();
        Job { store, steps: vec![2], keep_last, keep_best, rising: matches!(self, Self::Keeping), paced: false }
    }

    fn kept(self) -> (usize, usize) {
        match self {
            Self::Pruning => (1, 0),
            Self::Replacing => (9, 1),
            Self::Keeping => (1, 1),
        }
    }

    /// The steps that are there after the next process has saved step 2.
    fn afterwards(self) -> &'static [u64] {
        if matches!(self, Self::Pruning) { &[2] } else { &[1, 2] }
    }

    /// Makes this call fail, and checks what is told and what is left.
    fn refuse(self, call: &Call, errno: &'static str, number: i32, case: &str) {
        let dir = tempfile::tempdir_in(memory_folder()).unwrap();
        let outcome = trace::run(dir.path(), &self.job(dir.path()), &Injection::Fail(call.clone(), errno));
        assert!(outcome.succeeded, "{case}: the job ended badly");
        check_told(dir.path(), number, case);
        self.check_store(dir.path(), case);
    }

    /// Whatever failed, the newest is step 1 or 2 and whole, no draft stays when it could be removed, and the next process saves.
    fn check_store(self, folder: &Path, case: &str) {
        let path = store_of(folder);
        let reader = FolderStore::read_only(&path).unwrap();
        let is_damaged = |step| step == 2 && matches!(self, Self::Replacing);
        for step in reader.steps().unwrap() {
            match reader.load(step) {
                Ok(loaded) => assert_is_sample(&loaded),
                Err(error) => assert!(is_damaged(step), "{case}: {error}"),
            }
        }
        let newest = reader.load_latest(Some(plan())).unwrap().unwrap_or_else(|| panic!("{case}: nothing is left"));
        assert!(newest.skipped.iter().all(|skipped| is_damaged(skipped.step)), "{case}");
        assert_is_sample(&newest);
        let drafts = files::list_dir(&path).unwrap().into_iter().filter(|path| {
            let name = path.display().to_string();
            name.contains(".tmp-") && !name.contains(".tmp-removed-") && !name.contains(".tmp-damaged-")
        });
        assert_eq!(drafts.count(), 0, "{case}");
        let (keep_last, keep_best) = self.kept();
        let mut store = FolderStore::open(&path, &config(keep_last, keep_best)).unwrap();
        let next = if matches!(self, Self::Keeping) { Sample::rising(2) } else { Sample::of(2) };
        next.save(&mut store).unwrap();
        assert_is_sample(&store.load_latest(Some(plan())).unwrap().unwrap());
        assert_eq!(store.steps().unwrap(), self.afterwards(), "{case}");
    }
}

/// That the job met one error, of exit code 5, with this errno and a path below its run.
fn check_told(folder: &Path, number: i32, case: &str) {
    let failed = child::failed(folder);
    assert_eq!((failed.len(), child::saved(folder).len()), (1, 0), "{case}: {failed:?}");
    let told = &failed[0].message;
    assert_eq!(failed[0].code, 5, "{case}: {told}");
    assert!(told.contains(&format!("(os error {number})")), "{case}: {told}");
    assert!(told.contains(&folder.join("run").display().to_string()), "{case}: {told}");
}

/// Refuses each call of some jobs in turn.
fn injected(cases: &[Case], tally: &mut Tally) {
    const GROUP: &str = "errno at a system call";
    let mut points = Vec::new();
    for &case in cases {
        let dir = tempfile::tempdir_in(memory_folder()).unwrap();
        let rehearsal = trace::run(dir.path(), &case.job(dir.path()), &Injection::Nothing);
        assert_eq!(child::saved(dir.path()), [2]);
        let calls: Vec<Call> = rehearsal.calls.into_iter().filter(|call| call.changes() && !call.line.contains("/.lock")).collect();
        for (errno, number, names) in FAULTS {
            let met = calls.iter().filter(|call| names.contains(&call.name.as_str()));
            points.extend(met.map(|call| (case, errno, number, call.clone())));
        }
    }
    let points = tally.spread(points);
    tally.plan(GROUP, points.len());
    for (case, errno, number, call) in points {
        let name = format!("{case:?}: {errno} at {} {}: {}", call.name, call.nth, call.line);
        tally.case(GROUP, &name, || case.refuse(&call, errno, number, &name));
    }
}

/// What a full disk itself says, page by page and name by name, until there is room.
fn full_disks(tally: &mut Tally) {
    const GROUP: &str = "full disk";
    const ROOM: usize = 40;
    let probe = tempfile::tempdir_in(memory_folder()).unwrap();
    if let Err(why) = Mounted::memory(probe.path(), "size=64k").map(drop) {
        return tally.not_run(GROUP, &why);
    }
    tally.plan(GROUP, 2 * ROOM);
    for bound in ["size", "nr_inodes"] {
        let mut fitted = false;
        for room in 0..ROOM {
            let name = format!("{room} {} free", if bound == "size" { "pages" } else { "names" });
            tally.case(GROUP, &name, || fitted |= full_disk(bound, room, &name));
        }
        assert!(fitted, "with {ROOM} there is room");
    }
}

/// Saves into a folder of memory with so much room beside a checkpoint; whether it fitted.
fn full_disk(bound: &str, room: usize, case: &str) -> bool {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let run = dir.path().join("run");
    files::create_dir_all(&run).unwrap();
    let disk = Mounted::memory(&run, "size=4m").unwrap();
    let job = Case::Pruning.job(dir.path());
    let used = disk.used(bound);
    disk.remount(&if bound == "size" { format!("size={}k", 4 * (used + room)) } else { format!("nr_inodes={}", used + room) });
    let outcome = trace::run(dir.path(), &job, &Injection::Nothing);
    assert!(outcome.succeeded, "{case}: the job ended badly");
    let fitted = child::saved(dir.path()) == [2];
    if !fitted {
        check_told(dir.path(), 28, case);
    }
    disk.remount("size=4m,nr_inodes=1000");
    Case::Pruning.check_store(dir.path(), case);
    fitted
}

/// The part of the programme.
pub(super) fn faults(tally: &mut Tally) {
    injected(&[Case::Pruning, Case::Replacing, Case::Keeping], tally);
    full_disks(tally);
}

#[test]
fn a_refused_call_is_told_and_costs_nothing_that_was_saved() {
    let mut tally = Tally::in_test();
    injected(&[Case::Pruning], &mut tally);
    assert!(tally.passed() >= 50, "{}", tally.passed());
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_not_taken_for_a_damaged_one() {
    let again = |folder: &Path| {
        folder_with(&store_of(folder), &[1, 2]);
        Job { store: store_of(folder), steps: vec![2], keep_last: 9, keep_best: 1, rising: false, paced: false }
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
