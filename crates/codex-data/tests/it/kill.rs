//! SIGKILL before each call of a preparation that changes the disk: no cache that can be opened ever holds other tokens, and the next
//! preparation ends with the right ones and leaves nothing else behind.
//!
//! The killed process is this test program, run again under `strace`.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use codex_core::{Digest, files};
use codex_data::{DataConfig, DataError, Split, TokenCache, open_sources, prepare};
use codex_safety::{SafetyConfig, Scanner};
use codex_tokenize::{ByteTokenizer, TokenizerConfig};

use crate::content;

/// The calls that a preparation may change the disk with; those with `?` do not exist on every machine.
const CALLS: &str = "?open,openat,?creat,write,pwrite64,fsync,fdatasync,flock,ftruncate,?rename,?renameat,renameat2,?link,linkat,?unlink,\
                     unlinkat,?rmdir,?mkdir,mkdirat";

/// A file that tells the test below that it is the process to kill.
const JOB: &str = "prepare.job";
const TEST: &str = "kill::prepares_when_there_is_a_job";

#[test]
fn prepares_when_there_is_a_job() {
    if !Path::new(JOB).exists() {
        return;
    }
    // `strace` counts the calls of each thread: after these, no count of the test harness is as high as one of the preparation's.
    for _ in 0..100 {
        files::open_append(Path::new("padding")).unwrap().write_all(b".").unwrap();
    }
    prepare_in(&std::env::current_dir().unwrap()).unwrap();
}

fn prepare_in(folder: &Path) -> Result<TokenCache, DataError> {
    let names = ["data/a.jsonl", "data/b.txt"].map(|name| folder.join(name).display().to_string());
    let config = DataConfig { train: names.to_vec(), validation_fraction: 0.3, ..DataConfig::default() };
    let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
    // The rules take longer to compile than everything else here takes together, and write nothing.
    let scanner = Scanner::with_rules(&SafetyConfig::default(), Vec::new()).unwrap();
    let sources = open_sources(&config, &[])?;
    prepare(&config, &sources, &tokenizer, &scanner, Digest::of_bytes(b"safety"), &root_of(folder), &mut |_| {})
}

fn root_of(folder: &Path) -> PathBuf {
    folder.join("run/cache")
}

/// What is in the cache's root beforehand.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    /// The cache itself, with a damaged file that is discarded first.
    Damaged,
    /// The cache of other data under this one's key.
    Anothers,
}

/// The tokens and records of the only right cache.
type Right = (Digest, Vec<(String, Vec<u8>)>);

fn new_folder(before: Before) -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let rows = (0..40).map(|i| format!("{{\"text\":\"document number {i}\"}}\n")).collect::<Vec<_>>().concat();
    files::create_dir_all(&dir.path().join("data")).unwrap();
    files::write_atomic(&dir.path().join("data/a.jsonl"), rows.as_bytes()).unwrap();
    files::write_atomic(&dir.path().join("data/b.txt"), "naïve text\n".as_bytes()).unwrap();
    files::create_dir_all(&dir.path().join("run")).unwrap();
    if !matches!(before, Before::Nothing) {
        let cache = prepare_in(dir.path()).unwrap();
        match before {
            Before::Anothers => {
                files::write_atomic(&dir.path().join("data/b.txt"), b"other text").unwrap();
                let other = prepare_in(dir.path()).unwrap();
                files::remove_dir_all(cache.folder()).unwrap();
                files::rename_new(other.folder(), cache.folder()).unwrap();
                files::write_atomic(&dir.path().join("data/b.txt"), "naïve text\n".as_bytes()).unwrap();
            }
            _ => files::write_atomic(&cache.folder().join("train-00000.tokens"), b"damaged").unwrap(),
        }
    }
    files::write_atomic(&dir.path().join(JOB), b"").unwrap();
    dir
}

/// One call on the cache's root, with the how-manieth of its name it was in the thread.
#[derive(Clone, Debug)]
struct Call {
    name: String,
    nth: usize,
    line: String,
}

/// Runs the job, killed at a call when one is given; whether it was killed, and the calls that it made.
fn run(folder: &Path, kill_at: Option<&Call>) -> (bool, Vec<Call>) {
    let log = folder.join("strace.log");
    // Calls are counted by thread: those of the loader, which looks in every folder that cargo names, would come before the job's.
    let mut command = Command::new("strace");
    command.env_remove("LD_LIBRARY_PATH");
    command.args(["-f", "-y", "-qq", "-s", "0", "-e", "signal=none", "-e", &format!("trace={CALLS}"), "-o"]).arg(&log);
    if let Some(call) = kill_at {
        command.args(["-e", &format!("inject={}:signal=KILL:when={}", call.name, call.nth)]);
    }
    command.arg(std::env::current_exe().unwrap()).args(["--exact", TEST, "--test-threads=1", "--nocapture"]);
    // The heaps of threads make glibc open a file of its own at a moment that differs from run to run.
    command.env("MALLOC_ARENA_MAX", "1");
    // Whichever thread needs the pool of threads first would look for the number of processors in a hundred files, and count those calls as its own.
    command.env("RAYON_NUM_THREADS", "2");
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().unwrap_or_else(|error| panic!("cannot run `strace` ({error}); install it: apt-get install -y strace"));
    let was_killed = status.signal() == Some(9) || status.code() == Some(137);
    assert!(was_killed || status.success(), "{status}");
    let text = String::from_utf8_lossy(&files::read(&log).unwrap()).into_owned();
    let root = folder.join("run").display().to_string();
    let mut counts = BTreeMap::<(String, String), usize>::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        let nth = counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *nth += 1;
        if rest.contains(&root) {
            calls.push(Call { name: name.to_owned(), nth: *nth, line: rest.trim_start().to_owned() });
        }
    }
    (was_killed, calls)
}

/// Only the right cache can be opened as it was left, and the next preparation ends with it alone.
fn check(folder: &Path, before: Before, right: &Right, case: &str) {
    let target = root_of(folder).join(right.0.to_string());
    let data =
        |cache: &TokenCache| (cache.key(), content(cache.folder()).into_iter().filter(|(name, _)| name != "manifest.json").collect());
    match TokenCache::open(&target) {
        Ok(cache) if cache.key() == right.0 => assert_eq!(data(&cache), *right, "{case}"),
        // What was wrong before may be there still, and is no cache of this key.
        Ok(_) => assert!(matches!(before, Before::Anothers), "{case}"),
        Err(error) => assert!(matches!(before, Before::Damaged) || !target.exists(), "{case}: {error}"),
    }
    let cache = prepare_in(folder).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(data(&cache), *right, "{case}");
    assert!(cache.split(Split::Train).n_tokens() > 0, "{case}");
    let left: Vec<PathBuf> = files::list_dir(&root_of(folder)).unwrap();
    let all_right = left.iter().all(|path| *path == target);
    // A preparation that finds its cache sweeps nothing.
    assert!(all_right || left.iter().all(|path| *path == target || path.display().to_string().contains(".tmp-")), "{case}: {left:?}");
}

#[test]
fn a_kill_at_any_call_leaves_no_cache_with_wrong_tokens() {
    let reference = new_folder(Before::Nothing);
    let cache = prepare_in(reference.path()).unwrap();
    let files_of = content(cache.folder()).into_iter().filter(|(name, _)| name != "manifest.json").collect();
    let right: Right = (cache.key(), files_of);
    let mut kills = 0;
    let mut missed = Vec::new();
    for before in [Before::Nothing, Before::Damaged, Before::Anothers] {
        let rehearsal = new_folder(before);
        let (was_killed, calls) = run(rehearsal.path(), None);
        assert!(!was_killed);
        check(rehearsal.path(), before, &right, "undisturbed");
        let changes = |call: &Call| !call.name.starts_with("open") || call.line.contains("O_CREAT");
        for call in calls.into_iter().filter(changes) {
            let case = format!("{before:?}, killed at {} {}: {}", call.name, call.nth, call.line);
            // Threads share the work as they come to it, so one may have made a call that another made in the rehearsal, and the kill is
            // at another call: what it leaves is looked at all the same, and the kill is tried again.
            let hits = (0..10).any(|_| {
                let dir = new_folder(before);
                let (was_killed, calls) = run(dir.path(), Some(&call));
                check(dir.path(), before, &right, &case);
                was_killed && calls.iter().any(|other| (&other.name, other.nth) == (&call.name, call.nth))
            });
            kills += usize::from(hits);
            missed.extend((!hits).then_some(case));
        }
    }
    assert!(kills >= 60 && missed.len() <= kills / 10, "{kills} kills, but none at {missed:#?}");
}
