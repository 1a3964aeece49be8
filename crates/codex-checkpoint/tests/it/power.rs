//! Power loss: a disk is copied while checkpoints are saved to it, and what a machine would find on the copy must be what was reported.
//!
//! The disk is an image behind a loop device, so that the file of the image holds what has been written to the device and nothing of the
//! kernel's cache. It is copied while the saver waits after a report, while it is stopped at some moment of a save, and after a kill at each
//! call of a save. It is never copied while blocks are being written: such a copy has a later block without an earlier one, and no disk had.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use codex_core::{Stream, files};

use crate::child::{self, Job};
use crate::disk::{self, Mounted};
use crate::kill::Scenario;
use crate::store::memory_folder;
use crate::survivors::go_on;
use crate::tally::Tally;
use crate::trace::{self, Call, Injection, store_of};

/// How many images are taken within the saves of one saver, on one disk; one more is taken after each report.
const IMAGES_EACH: usize = 22;
/// How many savers there are.
const SAVERS: usize = 5;

const AFTER: &str = "copied after a report";
const WITHIN: &str = "copied within a save";
const CALL: &str = "copied at a system call";

/// A folder with a disk to save to, at `run` as a job has it, and a place for a copy.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(memory_folder()).unwrap();
        for folder in ["run", "copy"] {
            files::create_dir_all(&dir.path().join(folder)).unwrap();
        }
        Self { dir }
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    /// What the disk would hold if the power failed: the image, as it was at one moment.
    fn copy(&self) -> Vec<u8> {
        let mut first = files::read(&self.image()).unwrap();
        for _ in 0..10_000 {
            let second = files::read(&self.image()).unwrap();
            // Nothing changed between the end of the first reading and the start of the second.
            if first == second {
                return second;
            }
            first = second;
        }
        panic!("the image never stays the same for the time of two readings");
    }

    /// Mounts a copy, which plays its journal back, and looks for what was reported.
    fn check(&self, copy: &[u8], scenario: &Scenario, job: &Job, reported: &[u64], case: &str) {
        let (image, at) = (self.dir.path().join("copy.img"), self.dir.path().join("copy"));
        files::write_atomic(&image, copy).unwrap();
        let mounted = Mounted::image(&image, &at).unwrap_or_else(|why| panic!("{case}: {why}"));
        let store = at.join("store");
        let there = Job { store: store.clone(), steps: vec![reported.last().unwrap_or(&0) + 2], ..job.clone() };
        scenario.promise(&there, reported).check(&store, case);
        // The machine is on again, and the run goes on.
        assert_eq!(go_on(&store, &there), there.steps.last().copied(), "{case}");
        drop(mounted);
    }
}

/// A job that runs, and waits after each report until it is told to go on.
struct Saver {
    process: Child,
    told: ChildStdin,
}

impl Saver {
    fn start(folder: &Path, job: &Job) -> Self {
        child::prepare(folder, job);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", child::TEST, "--test-threads=1", "--nocapture"]).current_dir(folder);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let told = process.stdin.take().unwrap();
        Self { process, told }
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for this many reports.
    fn wait(&mut self, folder: &Path, reports: usize) -> Vec<u64> {
        loop {
            let saved = child::saved(folder);
            if saved.len() >= reports {
                return saved;
            }
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "the saver ended: {:?}", child::failed(folder));
            std::thread::yield_now();
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Copies the disk of a saver after reports and within saves, in turns.
fn copies(seed: u64, saver: usize, tally: &mut Tally) {
    let scenario = Scenario::long(saver);
    let bench = Bench::new();
    disk::format(&bench.image()).unwrap();
    let folder = bench.dir.path();
    let mounted = Mounted::image(&bench.image(), &folder.join("run")).unwrap();
    let job = Job { paced: true, ..scenario.job(store_of(folder)) };
    let mut process = Saver::start(folder, &job);
    let mut stream = Stream::new(seed, "moments", saver as u64);
    // About as long as a save takes, in looks at what was reported.
    let mut longest = 100;
    let (wanted, mut within) = (tally.of(IMAGES_EACH), 0);
    // Half of the moments come too late for their save; a clock that is never in time must not go on for ever.
    for n in 1..=20 * wanted {
        let reported = process.wait(folder, n);
        let case = format!("saver {saver}, after report {n}");
        let copy = bench.copy();
        tally.case(AFTER, &case, || bench.check(&copy, &scenario, &job, &reported, &case));
        if within == wanted {
            break;
        }
        process.told.write_all(b"\n").unwrap();
        for _ in 0..stream.below(longest) {
            drop(child::saved(folder));
        }
        process.signal("STOP");
        let reported = child::saved(folder);
        let is_within = reported.len() == n;
        longest = if is_within { longest * 5 / 4 + 1 } else { longest * 3 / 4 + 1 };
        if is_within {
            let copy = bench.copy();
            let case = format!("saver {saver}, within the save after report {n}");
            tally.case(WITHIN, &case, || bench.check(&copy, &scenario, &job, &reported, &case));
            within += 1;
        }
        process.signal("CONT");
    }
    drop(process);
    drop(mounted);
}

/// Kills a saver at each call, and takes what is on the disk then, not what is in the kernel's cache.
fn calls(tally: &mut Tally) {
    let scenario = Scenario::saving_and_pruning();
    let bench = Bench::new();
    disk::format(&bench.image()).unwrap();
    let empty = files::read(&bench.image()).unwrap();
    let folder = bench.dir.path();
    let job = scenario.job(store_of(folder));
    let run = |injection: &Injection| {
        files::write_atomic(&bench.image(), &empty).unwrap();
        let mounted = Mounted::image(&bench.image(), &folder.join("run")).unwrap();
        let outcome = trace::run(folder, &job, injection);
        let copy = bench.copy();
        drop(mounted);
        (outcome, copy)
    };
    let (rehearsal, copy) = run(&Injection::Nothing);
    let all: Vec<Call> = tally.spread(rehearsal.calls.into_iter().filter(Call::changes).collect());
    tally.plan(CALL, all.len() + 1);
    tally.case(CALL, "at the end", || bench.check(&copy, &scenario, &job, &child::saved(folder), "at the end"));
    for call in all {
        let case = format!("at {} {}: {}", call.name, call.nth, call.line);
        tally.case(CALL, &case, || {
            let (outcome, copy) = run(&Injection::Kill(call));
            assert!(outcome.was_killed, "{case}: it was not killed");
            bench.check(&copy, &scenario, &job, &child::saved(folder), &case);
        });
    }
}

/// Why a disk of our own cannot be had here.
fn obstacle() -> Result<(), String> {
    let bench = Bench::new();
    disk::format(&bench.image())?;
    Mounted::image(&bench.image(), &bench.dir.path().join("run")).map(drop)
}

/// The part of the programme.
pub(super) fn losses(seed: u64, tally: &mut Tally) {
    if let Err(why) = obstacle() {
        for group in [AFTER, WITHIN, CALL] {
            tally.not_run(group, &why);
        }
        return;
    }
    // About half of the moments are within a save.
    for (group, times) in [(AFTER, 2), (WITHIN, 1)] {
        tally.plan(group, times * SAVERS * tally.of(IMAGES_EACH));
    }
    for saver in 0..SAVERS {
        copies(seed, saver, tally);
    }
    calls(tally);
}

#[test]
fn what_was_reported_is_on_the_disk() {
    // Where one may not mount, there is nothing to test: `cargo xtask crash` says so.
    if obstacle().is_ok() {
        let mut tally = Tally::sample(6);
        copies(1, 1, &mut tally);
        assert!(tally.passed() >= 13, "{}", tally.passed());
    }
}
