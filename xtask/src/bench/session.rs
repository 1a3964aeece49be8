//! What all benchmarks share while they run: the program, the peers, the folder, and the voice.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::options::{Precision, Shared};
use super::program::{Program, QUIET, Tokenizer};
use super::python::Python;
use super::runner::Progress;
use super::shape::Shape;

/// A benchmark that runs.
pub struct Session {
    /// codex-cli.
    pub program: Program,
    /// The Python peers.
    pub python: Python,
    /// `<target>/bench`.
    pub folder: PathBuf,
    /// The root of the workspace.
    pub root: PathBuf,
    /// The options of every benchmark.
    pub shared: Shared,
    /// The name of the benchmark.
    pub name: &'static str,
}

impl Session {
    /// Where the output of a child is kept.
    pub fn log(&self, child: &str) -> PathBuf {
        let name: String = child.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        self.folder.join("logs").join(self.name).join(name)
    }

    /// Rounds as a count.
    pub fn rounds(&self) -> usize {
        self.shared.rounds as usize
    }

    /// A line on stderr.
    pub fn say(line: &str) {
        super::say(line);
    }

    /// Progress of so many measurements, on stderr.
    pub fn progress(&self, measurements: usize) -> Progress {
        let name = self.name;
        let patience = Duration::from_secs(self.shared.patience);
        Progress::new(measurements, move |line| super::say(&format!("{name} {line}"))).with_patience(patience)
    }

    /// The tokenizer for a vocabulary, trained once.
    pub fn tokenizer(&self, vocab: u64) -> Result<Tokenizer> {
        self.program.tokenizer(vocab, &mut Self::say)
    }

    /// The settings of a measured run: shape, tokenizer, threads, steps.
    pub fn settings(&self, shape: &Shape, tokenizer: &Tokenizer, steps: u64) -> Vec<String> {
        let mut settings = shape.settings();
        settings.extend(QUIET.iter().map(|&setting| setting.to_owned()));
        settings.push(format!("tokenizer.file={}", tokenizer.file.display()));
        settings.push(format!("run.threads={}", self.shared.threads));
        settings.push(format!("train.steps={steps}"));
        settings
    }

    /// The setting for a precision, or why this codex-cli cannot be measured with it. One that knows no precisions computes in f32.
    pub fn precision(&self, precision: Precision) -> Result<Result<Option<String>, String>> {
        let setting = format!("train.precision={}", precision.name());
        Ok(match (self.program.accepts(&setting)?, precision) {
            (Ok(()), _) => Ok(Some(setting)),
            (Err(_), Precision::F32) => Ok(None),
            (Err(why), Precision::Bf16) => Err(why),
        })
    }

    /// Threads for a peer.
    pub fn peer_threads(&self) -> [String; 2] {
        ["--threads".to_owned(), self.shared.threads.to_string()]
    }
}
