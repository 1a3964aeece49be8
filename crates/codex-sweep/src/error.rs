//! Why a sweep could not be read, run or looked at.

use std::fmt;
use std::path::{Path, PathBuf};

use codex_core::lock::LockError;
use codex_core::{ExitClass, Failure, FileError};

/// A problem of a sweep file, at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The dotted key; empty when the problem is not one key's.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

/// ``3: `space.x`: message`` and below it `  hint: …`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\n  hint: {hint}"))
    }
}

/// Something of a sweep that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The sweep file holds these problems, in the order of its lines; there is at least one.
    #[error("{}", problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect::<Vec<_>>().join("\n"))]
    Problems {
        /// The sweep file.
        path: PathBuf,
        /// Every problem that was found.
        problems: Vec<Problem>,
    },
    /// There is no trial of this index.
    #[error("the sweep `{name}` has no trial {index}: it has {n_trials}, counted from 0")]
    NoTrial {
        /// The sweep.
        name: String,
        /// The index asked for.
        index: usize,
        /// How many there are.
        n_trials: usize,
    },
    /// The parameters of a trial are the answer of a sampler.
    #[error("trial {index} of the sweep `{name}` has no parameters yet: Optuna chooses them when the trial begins")]
    NotAsked {
        /// The sweep.
        name: String,
        /// The trial.
        index: usize,
    },
    /// The folder holds no sweep.
    #[error("`{}` is not the folder of a sweep: it has no `sweep.json`", path.display())]
    NotASweep {
        /// The folder.
        path: PathBuf,
    },
    /// A JSON file of the sweep cannot be read.
    #[error("`{}`:{line}:{column}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A value has no JSON form.
    #[error("cannot write `{}` as JSON: {source}", path.display())]
    Encode {
        /// The file it was meant for.
        path: PathBuf,
        /// What the serializer said.
        #[source]
        source: serde_json::Error,
    },
    /// A file of another version of this program.
    #[error("`{}` has schema {found}, expected {expected}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema this program writes.
        expected: u32,
        /// The schema found.
        found: u32,
    },
    /// The folder of a trial holds another trial.
    #[error("`{}` is the record of trial {found}, expected {expected}", path.display())]
    OtherTrial {
        /// The record.
        path: PathBuf,
        /// The index and digest of the trial that was claimed.
        expected: String,
        /// Those of the record.
        found: String,
    },
    /// The base configuration of a captured sweep is not what it was.
    #[error("`{}` makes other trials than when it was captured{}", path.display(), changed(base.as_deref()))]
    Changed {
        /// The captured sweep file.
        path: PathBuf,
        /// The base configuration.
        base: Option<PathBuf>,
    },
    /// A configuration file that trials are made from is not what it was.
    #[error("`{}` is not what it was when {trial} was made from it", path.display())]
    ChangedFile {
        /// The file.
        path: PathBuf,
        /// A trial that was made from it before.
        trial: String,
    },
    /// A launcher cannot write a text safely.
    #[error("{launcher} cannot be given {what} `{text}`: only {accepted} can be written there safely")]
    Unsafe {
        /// The launcher.
        launcher: &'static str,
        /// What the text is.
        what: &'static str,
        /// The text.
        text: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A program ended with a failure.
    #[error("`{program}` {ended}: {message}")]
    Program {
        /// The program and what it was asked to do.
        program: String,
        /// How it ended.
        ended: String,
        /// The end of what it said.
        message: String,
    },
    /// Optuna answered something else than it was asked for.
    #[error("the answer of `{program}` cannot be used: {message}")]
    Answer {
        /// The program and what it was asked to do.
        program: String,
        /// What does not fit.
        message: String,
    },
}

fn changed(base: Option<&Path>) -> String {
    base.map(|base| format!(": its base `{}` has changed", base.display())).unwrap_or_default()
}

impl Failure for SweepError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::File(error) => error.exit_class(),
            Self::Lock(error) => error.exit_class(),
            Self::Problems { .. } | Self::NoTrial { .. } | Self::NotASweep { .. } | Self::Unsafe { .. } | Self::NotAsked { .. } => {
                ExitClass::Usage
            }
            Self::Json { .. } | Self::Schema { .. } | Self::OtherTrial { .. } | Self::Changed { .. } | Self::ChangedFile { .. } => {
                ExitClass::Integrity
            }
            Self::Encode { .. } => ExitClass::Data,
            Self::Start { .. } | Self::Program { .. } | Self::Answer { .. } => ExitClass::Io,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::Problems { .. } => None,
            Self::NoTrial { n_trials, .. } => {
                Some(format!("give an index from 0 to {}, or raise `n_trials` in the sweep file", n_trials.saturating_sub(1)))
            }
            Self::NotAsked { .. } => Some("run the trial, and its folder has them".to_owned()),
            Self::NotASweep { .. } => Some("give a folder made by `codex-cli sweep`, such as `runs/rates-1f0c9a2b`".to_owned()),
            Self::Json { .. } => {
                Some("the file was changed by hand or by a failing disk; remove its folder to run that trial again".to_owned())
            }
            Self::Encode { .. } => Some("a number without end has no JSON form; see which value the trial gave".to_owned()),
            Self::Schema { .. } => Some("read the sweep with the version of codex that wrote it".to_owned()),
            Self::OtherTrial { .. } => Some("the sweep's folder was mixed with another's; start the sweep in a new folder".to_owned()),
            Self::ChangedFile { .. } => Some("put back what was changed, or begin a new sweep under another `name`".to_owned()),
            Self::Changed { .. } => Some("put back what was changed, or start a new sweep from your own sweep file".to_owned()),
            Self::Unsafe { .. } => Some("choose another name or path, without spaces and signs that a shell reads".to_owned()),
            Self::Start { program, source } if source.kind() == std::io::ErrorKind::NotFound && program.ends_with("optuna") => {
                Some("install it with `python3 -m pip install optuna`, or set `optuna.program` to where it is".to_owned())
            }
            Self::Start { .. } => Some("see that the program is installed, and on the PATH".to_owned()),
            Self::Program { .. } => Some("run that command by hand to see all that it says".to_owned()),
            Self::Answer { .. } => Some("this was written for Optuna 5; see `optuna --version`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_exit_class_and_its_hint() {
        let path = || PathBuf::from("runs/x");
        let text = |text: &str| text.to_owned();
        let bad = || serde_json::from_str::<u32>("x").unwrap_err();
        let absent = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let errors = [
            (SweepError::File(FileError::new("read", "x".as_ref(), absent())), 5),
            (SweepError::Lock(LockError::Busy { path: path() }), 7),
            (SweepError::NoTrial { name: text("s"), index: 3, n_trials: 3 }, 2),
            (SweepError::NotAsked { name: text("s"), index: 3 }, 2),
            (SweepError::NotASweep { path: path() }, 2),
            (SweepError::Json { path: path(), line: 1, column: 1, source: bad() }, 4),
            (SweepError::Encode { path: path(), source: bad() }, 3),
            (SweepError::Schema { path: path(), expected: 1, found: 2 }, 4),
            (SweepError::OtherTrial { path: path(), expected: text("a"), found: text("b") }, 4),
            (SweepError::Changed { path: path(), base: Some(path()) }, 4),
            (SweepError::ChangedFile { path: path(), trial: text("trial-0000") }, 4),
            (SweepError::Unsafe { launcher: "ray", what: "the word", text: text("a b"), accepted: "letters" }, 2),
            (SweepError::Start { program: text("x"), source: absent() }, 5),
            (SweepError::Program { program: text("x"), ended: text("ended with 1"), message: text("m") }, 5),
            (SweepError::Answer { program: text("x"), message: text("m") }, 5),
        ];
        for (error, code) in errors {
            assert_eq!(error.exit_class().code(), code, "{error}");
            assert!(error.hint().is_some_and(|hint| !hint.ends_with('.')) && !error.to_string().ends_with('.'), "{error}");
        }
    }
}
