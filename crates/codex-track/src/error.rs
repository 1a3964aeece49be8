//! Why a run folder could not be written or read.

use std::path::PathBuf;

use codex_core::lock::LockError;
use codex_core::{ExitClass, Failure, FileError};

/// Something in a run folder that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process writes to the run.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Another run writes its metrics to a shared folder.
    #[error("`{}` is in use by another run, so the metrics are kept in the run's own folder", folder.display())]
    MetricsInUse {
        /// The shared folder.
        folder: PathBuf,
    },
    /// There is no run at the path.
    #[error("`{}` is not a run folder: it {found}", path.display())]
    NotARun {
        /// The path given.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
    },
    /// A JSON file of the run cannot be read.
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
    /// Something said of a run that it cannot keep.
    #[error("the {key} of a run: expected {expected}, found `{found}`")]
    Annotation {
        /// `name`, `tag`, `tags` or `note`.
        key: &'static str,
        /// What it may be.
        expected: String,
        /// What it has instead.
        found: String,
    },
    /// A condition on runs that cannot be read.
    #[error("cannot read `{text}`: expected {expected}")]
    Filter {
        /// What was given.
        text: String,
        /// What is understood.
        expected: &'static str,
    },
    /// More than is held in memory.
    #[error("`{}` has more than {most} {what}", path.display())]
    TooMany {
        /// Where they are.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// The most there may be.
        most: usize,
    },
    /// A run that is not taken away.
    #[error("`{}` is not removed: {reason}", path.display())]
    NotRemoved {
        /// The path given.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A table that cannot be written.
    #[error("cannot write `{}`: {reason}", path.display())]
    Table {
        /// The file it was meant for.
        path: PathBuf,
        /// What the writer said.
        reason: String,
    },
    /// A metrics table with other columns.
    #[error("`{}` has the columns `{found}`, expected `{expected}`", path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// The columns this program writes.
        expected: String,
        /// The columns found.
        found: String,
    },
    /// A sampler got no numbers from the machine.
    #[error("sampler `{sampler}` got nothing: {reason}")]
    Sampler {
        /// The sampler.
        sampler: String,
        /// What it asked for in vain.
        reason: String,
    },
    /// A record of the metrics that has no place in another program's format.
    #[error("`{name}` cannot be kept in `{}`: {reason}", path.display())]
    Name {
        /// The metric, or another name.
        name: String,
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A server did not take what it was sent.
    #[error("the server `{address}`: {reason}")]
    Server {
        /// Its address.
        address: String,
        /// What it said, or why it was not reached.
        reason: String,
    },
    /// Not all was recorded that was asked for, and that was to be an error.
    #[error("the run is complete, but not all of it was recorded: {}", components.join(", "))]
    Strict {
        /// What was off, such as `csv`.
        components: Vec<String>,
    },
}

impl Failure for TrackError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::File(error) => error.exit_class(),
            Self::Lock(error) => error.exit_class(),
            Self::MetricsInUse { .. } => ExitClass::Busy,
            Self::NotARun { .. } | Self::Annotation { .. } | Self::Filter { .. } => ExitClass::Usage,
            Self::Json { .. } | Self::Schema { .. } | Self::Columns { .. } => ExitClass::Integrity,
            Self::Encode { .. } | Self::TooMany { .. } => ExitClass::Data,
            Self::NotRemoved { .. } => ExitClass::Policy,
            Self::Table { .. } | Self::Sampler { .. } | Self::Name { .. } | Self::Server { .. } | Self::Strict { .. } => ExitClass::Io,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::MetricsInUse { .. } => Some("give each run that is under way at the same time another folder for its metrics".to_owned()),
            Self::NotARun { .. } => Some("give a folder made by `codex-cli train`, such as `runs/20261124-013839-default`".to_owned()),
            Self::Json { .. } => Some("the file was changed by hand or by a failing disk; a new run writes a new one".to_owned()),
            Self::Schema { .. } => Some("read the run with the version of codex that wrote it".to_owned()),
            Self::Annotation { .. } => Some("give a shorter one of plain text; nothing was changed".to_owned()),
            Self::Filter { .. } => Some("such as `validation/loss<2.5`, or `started` to sort by".to_owned()),
            Self::TooMany { .. } => Some("give fewer runs or files at once".to_owned()),
            Self::NotRemoved { .. } => Some("nothing was removed; see what a removal would take with a dry run".to_owned()),
            Self::Table { .. } => Some("give another path, or write the summary as CSV".to_owned()),
            Self::Columns { .. } => Some("move that file away, or choose another folder for the metrics".to_owned()),
            Self::Encode { .. } => {
                Some("give it text keys and no value that JSON lacks; the other files of the run are not concerned".to_owned())
            }
            Self::Name { .. } => Some("call one of the two otherwise, or switch that writer off".to_owned()),
            Self::Server { .. } => Some(
                "what it took is remembered: the same command goes on from there; TLS is for a proxy beside it, such as `stunnel`"
                    .to_owned(),
            ),
            Self::Strict { .. } => Some(
                "what went wrong is in `events.ndjson`; `track.strict=false` takes it as a warning, and a resume tries again".to_owned(),
            ),
            Self::Sampler { .. } => {
                Some("the run goes on without these numbers; `telemetry.every_seconds` set to 0 asks for none".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_exit_class() {
        let path = PathBuf::from("runs/x/run.json");
        let bad = || serde_json::from_str::<u32>("x").unwrap_err();
        let errors = [
            (TrackError::NotARun { path: path.clone(), found: "is absent" }, 2, "`runs/x/run.json` is not a run folder: it is absent"),
            (TrackError::Schema { path: path.clone(), expected: 1, found: 2 }, 4, "`runs/x/run.json` has schema 2, expected 1"),
            (
                TrackError::Json { path: path.clone(), line: 1, column: 1, source: bad() },
                4,
                "`runs/x/run.json`:1:1: expected value at line 1 column 1",
            ),
            (
                TrackError::Columns { path: path.clone(), expected: "a".into(), found: "b".into() },
                4,
                "`runs/x/run.json` has the columns `b`, expected `a`",
            ),
            (
                TrackError::Encode { path: path.clone(), source: bad() },
                3,
                "cannot write `runs/x/run.json` as JSON: expected value at line 1 column 1",
            ),
            (TrackError::Sampler { sampler: "disk".into(), reason: "no disk".into() }, 5, "sampler `disk` got nothing: no disk"),
            (
                TrackError::MetricsInUse { folder: path.clone() },
                7,
                "`runs/x/run.json` is in use by another run, so the metrics are kept in the run's own folder",
            ),
            (
                TrackError::Name { name: "a/b".into(), path: "mlflow".into(), reason: "its name is also a folder's" },
                5,
                "`a/b` cannot be kept in `mlflow`: its name is also a folder's",
            ),
            (
                TrackError::Strict { components: vec!["csv".into(), "sampler disk".into()] },
                5,
                "the run is complete, but not all of it was recorded: csv, sampler disk",
            ),
            (TrackError::Lock(LockError::Busy { path }), 7, "`runs/x/run.json` is in use by another process"),
        ];
        for (error, code, message) in errors {
            assert_eq!(error.to_string(), message);
            assert_eq!(error.exit_class().code(), code, "{message}");
            assert!(error.hint().is_some(), "{message}");
        }
    }
}
