//! What reaches the disk and in which order, seen in the system calls of this test program run again under `strace`.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails; clippy knows `#[test]` functions only, not what they call"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use codex_core::files;

/// The folder that the job below makes, when its own folder holds this file.
const JOB: &str = "make-folder.job";

#[test]
fn makes_a_folder_when_there_is_a_job() {
    let Ok(path) = files::read_to_string(Path::new(JOB)) else { return };
    files::create_dir_all(Path::new(&path)).unwrap();
}

/// The `mkdir` and `fsync` calls of the job, as `(call, path)`.
fn calls_of_making(folder: &Path, path: &Path) -> Vec<(String, String)> {
    files::write_atomic(&folder.join(JOB), path.display().to_string().as_bytes()).unwrap();
    let log = folder.join("strace.log");
    // Calls are counted by thread: those of the loader, which looks in every folder that cargo names, would come before the job's.
    let mut command = Command::new("strace");
    command.env_remove("LD_LIBRARY_PATH");
    command.args(["-f", "-y", "-qq", "-e", "signal=none", "-e", "trace=?mkdir,mkdirat,fsync", "-o"]).arg(&log);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "makes_a_folder_when_there_is_a_job", "--test-threads=1"]);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().unwrap_or_else(|error| panic!("cannot run `strace` ({error}); install it: apt-get install -y strace"));
    assert!(status.success());
    let text = files::read_to_string(&log).unwrap();
    let call = |line: &str| {
        let (name, rest) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        let done = rest.contains(" = 0");
        let path = if name == "fsync" { rest.split_once('<')?.1.split_once('>')?.0 } else { rest.split('"').nth(1)? };
        done.then(|| (name.trim_end_matches("at").to_owned(), path.to_owned()))
    };
    text.lines().filter_map(call).collect()
}

#[test]
fn each_new_folder_is_flushed_into_the_one_above_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let found = calls_of_making(&root, &root.join("a/b/c"));
    let at = |name: &str, path: &str| (name.to_owned(), root.join(path).display().to_string());
    let root_itself = ("fsync".to_owned(), root.display().to_string());
    assert_eq!(found, [at("mkdir", "a"), root_itself, at("mkdir", "a/b"), at("fsync", "a"), at("mkdir", "a/b/c"), at("fsync", "a/b")]);
    assert_eq!(calls_of_making(&root, &root.join("a/b")), [], "what is there is left as it is");
}
