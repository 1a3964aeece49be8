//! Running a job of this test program under `strace`: watched, killed at a call, or with a call made to fail.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use codex_core::files;

use crate::child::{self, Job};

/// Every call that the publishing of a checkpoint may use; those with `?` do not exist on every machine.
const CALLS: &str = "?open,openat,?creat,read,write,pwrite64,fsync,fdatasync,?sync_file_range,ftruncate,?rename,?renameat,renameat2,\
                     ?link,linkat,?unlink,unlinkat,?rmdir,?mkdir,mkdirat";

/// One call that the job made, with the how-manieth of its name it was in the thread.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) nth: usize,
    /// The whole line, with the path of every descriptor.
    pub(super) line: String,
}

impl Call {
    /// Whether it changes what is on the disk.
    pub(super) fn changes(&self) -> bool {
        match self.name.as_str() {
            "read" => false,
            "open" | "openat" => self.line.contains("O_CREAT"),
            _ => true,
        }
    }
}

/// What is done to the job.
#[derive(Clone, Debug)]
pub(super) enum Injection {
    Nothing,
    Kill(Call),
    Fail(Call, &'static str),
}

/// How the job ended, and the calls it made on the paths of its folder.
pub(super) struct Outcome {
    pub(super) was_killed: bool,
    pub(super) succeeded: bool,
    pub(super) calls: Vec<Call>,
}

/// Runs the job in its own folder, which holds `run/store/` and the job's two logs.
pub(super) fn run(folder: &Path, job: &Job, injection: &Injection) -> Outcome {
    child::prepare(folder, job);
    let log = folder.join("strace.log");
    // Calls are counted by thread: those of the loader, which looks in every folder that cargo names, would come before the job's.
    let mut command = Command::new("strace");
    command.env_remove("LD_LIBRARY_PATH");
    command.args(["-f", "-y", "-qq", "-s", "0", "-e", "signal=none", "-e", &format!("trace={CALLS}"), "-o"]).arg(&log);
    match injection {
        Injection::Nothing => {}
        Injection::Kill(call) => drop(command.args(["-e", &format!("inject={}:signal=KILL:when={}", call.name, call.nth)])),
        Injection::Fail(call, errno) => drop(command.args(["-e", &format!("inject={}:error={errno}:when={}", call.name, call.nth)])),
    }
    // One test at a time, so that the n-th call is the same call each time.
    command.arg(std::env::current_exe().unwrap()).args(["--exact", child::TEST, "--test-threads=1", "--nocapture"]);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().unwrap_or_else(|error| panic!("cannot run `strace` ({error}); install it: apt-get install -y strace"));
    let was_killed = status.signal() == Some(9) || status.code() == Some(137);
    Outcome { was_killed, succeeded: status.success(), calls: calls_below(&log, &folder.join("run")) }
}

/// The store's folder of a job's folder.
pub(super) fn store_of(folder: &Path) -> PathBuf {
    folder.join("run/store")
}

fn calls_below(log: &Path, folder: &Path) -> Vec<Call> {
    let text = String::from_utf8_lossy(&files::read(log).unwrap_or_default()).into_owned();
    let folder = folder.display().to_string();
    let mut counts = std::collections::BTreeMap::<(String, String), usize>::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        let count = counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *count += 1;
        if rest.contains(&folder) {
            calls.push(Call { name: name.to_owned(), nth: *count, line: rest.trim_start().to_owned() });
        }
    }
    calls
}
