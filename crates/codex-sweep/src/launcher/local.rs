//! Processes on this machine, some at a time, each with its output in the folder of its trial.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use codex_core::{FileError, files};

use super::{Context, Launcher, RenderedFile, Task};
use crate::error::SweepError;
use crate::launcher_config::TaskConfig;
use crate::sweep::Sweep;

pub(super) struct Local<'c>(pub(super) &'c TaskConfig);

impl Launcher for Local<'_> {
    fn name(&self) -> &'static str {
        "local"
    }

    fn render(&self, _: &Sweep, _: &Context) -> Result<Vec<RenderedFile>, SweepError> {
        Ok(Vec::new())
    }

    /// One command for each trial, to be [run] in the working folder.
    fn commands(&self, sweep: &Sweep, context: &Context) -> Result<Vec<Vec<String>>, SweepError> {
        let task = Task::new(self.0, context);
        Ok((0..sweep.n_trials()).map(|index| task.argv(&index.to_string())).collect())
    }
}

/// A process to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The index of its trial.
    pub index: usize,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The folder it runs in; absent, the one this process is in.
    pub working_dir: Option<PathBuf>,
    /// Where what it says goes, behind what is there.
    pub log: PathBuf,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The index of its trial.
    pub index: usize,
    /// Its exit code, as a shell tells it: 128 and the signal's number if a signal ended it.
    pub code: i32,
}

/// What happens while processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A process was started.
    Started {
        /// The index of its trial.
        index: usize,
        /// The process, for passing on signals.
        pid: u32,
    },
    /// A process ended.
    Ended(Ended),
}

/// Runs processes, at most `parallel` at a time, in the order given, and returns how each ended, in the order of the indices.
///
/// Before each start `go_on` is asked; once it says no, nothing is started any more and those that run are waited for. Signals are the caller's:
/// `tell` hears which processes there are. A process that cannot be started ends the run of all in the same way, and is the error.
///
/// # Errors
/// A program that cannot be started; a log that cannot be written.
pub fn run(
    jobs: impl IntoIterator<Item = Job>,
    parallel: usize,
    mut go_on: impl FnMut() -> bool,
    mut tell: impl FnMut(Event),
) -> Result<Vec<Ended>, SweepError> {
    let (sender, ends) = mpsc::channel();
    let mut jobs = jobs.into_iter();
    let (mut n_running, mut all, mut failed) = (0_usize, Vec::new(), None);
    loop {
        while n_running < parallel.max(1) && failed.is_none() && go_on() {
            let Some(job) = jobs.next() else { break };
            match start(&job) {
                Ok(mut child) => {
                    n_running += 1;
                    tell(Event::Started { index: job.index, pid: child.id() });
                    let sender = sender.clone();
                    // A thread for each process: the standard library waits for one, not for whichever ends first.
                    std::thread::spawn(move || {
                        let code = child.wait().map(code_of);
                        // Nobody listens any more only when this function is gone.
                        drop(sender.send((job.index, job.argv, code)));
                    });
                }
                Err(error) => failed = Some(error),
            }
        }
        if n_running == 0 {
            break;
        }
        let Ok((index, argv, code)) = ends.recv() else { break };
        n_running -= 1;
        match code {
            Ok(code) => {
                let ended = Ended { index, code };
                tell(Event::Ended(ended));
                all.push(ended);
            }
            Err(source) => failed = failed.or(Some(SweepError::Start { program: argv.join(" "), source })),
        }
    }
    all.sort_by_key(|ended| ended.index);
    failed.map_or(Ok(all), Err)
}

fn start(job: &Job) -> Result<std::process::Child, SweepError> {
    files::create_dir_all(files::parent(&job.log))?;
    let log = files::open_append(&job.log)?;
    let both = log.try_clone().map_err(|source| FileError::new("open", &job.log, source))?;
    let [program, arguments @ ..] = job.argv.as_slice() else {
        return Err(SweepError::Start { program: String::new(), source: std::io::ErrorKind::InvalidInput.into() });
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(both);
    if let Some(dir) = &job.working_dir {
        command.current_dir(dir);
    }
    command.spawn().map_err(|source| SweepError::Start { program: program.clone(), source })
}

/// The exit code as a shell tells it.
fn code_of(status: std::process::ExitStatus) -> i32 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128 + signal;
    }
    status.code().unwrap_or(-1)
}
