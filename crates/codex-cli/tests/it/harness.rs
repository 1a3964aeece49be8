//! A folder of its own and the program run in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use codex_core::files;
use serde_json::Value;

/// A temporary folder in which the program runs, without any `CODEX_` variable.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

/// What the program answered.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A run of seconds: the smallest model, few steps.
pub(crate) const SMALL: &[&str] = &[
    "model=nano",
    "tokenizer.vocab_size=300",
    "train.steps=12",
    "train.warmup_steps=2",
    "train.batch_size=4",
    "eval.every_steps=6",
    "eval.max_windows=4",
    "eval.sample_tokens=6",
    "checkpoint.every_steps=4",
    "data.train=[\"text.txt\"]",
    "data.validation=[\"held-out.txt\"]",
];

impl Bench {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// With a text to train on and one to validate on.
    pub(crate) fn with_text() -> Self {
        let bench = Self::new();
        let novel = std::path::absolute("../../fixtures/corpus/train/emma.txt").unwrap();
        let novel = files::read_to_string(&novel).unwrap();
        bench.write("text.txt", &novel[..40_000]);
        bench.write("held-out.txt", &novel[40_000..48_000]);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        files::create_dir_all(files::parent(&path)).unwrap();
        files::write_atomic(&path, text.as_ref()).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codex-cli"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("RAYON_NUM_THREADS").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(&self.command(arguments).output().unwrap())
    }

    /// Runs with `--json`, expects success and returns the result.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let answer = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.err);
        serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", answer.out))
    }

    /// `train` with the small run's values and these.
    pub(crate) fn train(&self, more: &[&str]) -> Answer {
        self.run(&train_arguments(more))
    }

    /// Starts a small training run without waiting for it.
    pub(crate) fn spawn_train(&self, more: &[&str]) -> Child {
        self.command(&train_arguments(more)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The only run folder, or the newest.
    pub(crate) fn run_folder(&self) -> PathBuf {
        let runs = files::list_dir(&self.path("runs")).unwrap();
        runs.into_iter().rfind(|path| path.join("run.json").exists()).expect("there is a run")
    }

    /// The bytes of a checkpoint's file.
    pub(crate) fn checkpoint(&self, step: u64, file: &str) -> Vec<u8> {
        files::read(&self.run_folder().join(format!("checkpoints/step-{step:08}")).join(file)).unwrap()
    }

    /// Waits until a path below the newest run exists or the child ends.
    pub(crate) fn wait_for(&self, child: &mut Child, step: u64) {
        let name = format!("checkpoints/step-{step:08}/manifest.json");
        let there = || {
            let runs = files::list_dir(&self.path("runs")).unwrap_or_default();
            runs.iter().any(|run| run.join(&name).exists())
        };
        while !there() {
            assert!(child.try_wait().unwrap().is_none(), "the run ended before step {step} was saved");
            std::thread::yield_now();
        }
    }
}

pub(crate) fn train_arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    // A value given again replaces the small run's: the same key twice is an error.
    let key = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
    let given: Vec<String> = more.iter().map(|argument| key(argument)).collect();
    let small = SMALL.iter().copied().filter(|argument| !given.contains(&key(argument)));
    std::iter::once("train").chain(small).chain(more.iter().copied()).collect()
}

impl Answer {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// Every file below a folder, while others may change it; none where there is no folder.
pub(crate) fn all_files_if_any(folder: &Path) -> Vec<PathBuf> {
    let listed = files::list_dir(folder).unwrap_or_default();
    listed.into_iter().flat_map(|path| if path.is_dir() { all_files_if_any(&path) } else { vec![path] }).collect()
}

/// Every file below a folder.
pub(crate) fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in files::list_dir(folder).unwrap() {
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
