//! The layers as a program uses them: files on a disk, an environment, a command line.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails; clippy knows `#[test]` functions only, not what they call"
)]

mod any_input;
mod bad_arguments;
mod bad_inputs;
mod composing;
mod documents;
mod hydra;
mod interpolating;
mod layering;
mod odd_types;
mod overriding;
mod sweeping;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codex_config::{ConfigError, Layers, Library, Problem, Resolved, Schema};
use codex_core::files;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
/// A run.
#[serde(default, deny_unknown_fields)]
struct TestConfig {
    /// The run's name.
    name: String,
    /// Seed of everything random.
    seed: u64,
    model: Network,
    train: Train,
    data: Data,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
/// The network.
#[serde(default, deny_unknown_fields)]
struct Network {
    /// Width of a token's vector. A multiple of
    /// `n_heads`.
    ///
    /// Not in the reference.
    d_model: usize,
    n_heads: usize,
    dropout: f32,
    tied: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Train {
    learning_rate: f64,
    max_steps: usize,
    betas: [f64; 2],
    schedule: Schedule,
    early_stop: Option<usize>,
    /// Low-rank | adapters.
    lora: Option<Lora>,
    note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Schedule {
    /// Half a wave.
    Cosine,
    Linear,
    Constant,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Lora {
    rank: usize,
    alpha: f64,
    #[serde(default)]
    targets: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Data {
    paths: Vec<PathBuf>,
    weights: BTreeMap<String, f64>,
    span: Span,
}

/// Two values that are only right together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawSpan")]
struct Span {
    from: u32,
    to: u32,
}

#[derive(Deserialize, JsonSchema)]
struct RawSpan {
    from: u32,
    to: u32,
}

impl TryFrom<RawSpan> for Span {
    type Error = String;

    fn try_from(raw: RawSpan) -> Result<Self, String> {
        if raw.from < raw.to {
            Ok(Self { from: raw.from, to: raw.to })
        } else {
            Err(format!("`from` {} is not below `to` {}", raw.from, raw.to))
        }
    }
}

impl Default for Span {
    fn default() -> Self {
        Self { from: 0, to: 10 }
    }
}

impl Default for TestConfig {
    fn default() -> Self {
        Self { name: "run".to_owned(), seed: 1, model: Network::default(), train: Train::default(), data: Data::default() }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self { d_model: 64, n_heads: 4, dropout: 0.1, tied: true }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            max_steps: 100,
            betas: [0.9, 0.95],
            schedule: Schedule::Cosine,
            early_stop: None,
            lora: None,
            note: None,
        }
    }
}

impl Schema for TestConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.train.learning_rate <= 0.0 {
            problems.push(Problem::new("train.learning_rate", format!("`{}` is not above 0", self.train.learning_rate)));
        }
        if self.model.n_heads == 0 || !self.model.d_model.is_multiple_of(self.model.n_heads) {
            let message = format!("`{}` is no multiple of `model.n_heads`, which is `{}`", self.model.d_model, self.model.n_heads);
            problems.push(Problem::new("model.d_model", message).with_hint("choose `n_heads` among the divisors of `d_model`"));
        }
        problems
    }
}

const LIBRARY: Library = Library::new(&[
    ("default", "defaults = [\"model/tiny\"]\n\n[train]\nmax_steps = 200\n"),
    ("model/tiny", "[model]\nd_model = 32\nn_heads = 2\n"),
    ("model/small", "[model]\nd_model = 128\nn_heads = 8\n"),
]);

/// A folder with files, and what a test resolves over it.
struct Case {
    folder: tempfile::TempDir,
    file: Option<PathBuf>,
    folders: Vec<PathBuf>,
    variables: Vec<(String, String)>,
    interpolated: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Case {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            file: None,
            folders: Vec::new(),
            variables: Vec::new(),
            interpolated: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// The user's file.
    fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.file = Some(self.write(name, content.as_ref()));
        self
    }

    /// Some other file in the folder.
    fn beside(self, name: &str, content: &str) -> Self {
        self.write(name, content.as_bytes());
        self
    }

    fn search(mut self, name: &str) -> Self {
        self.folders.push(self.folder.path().join(name));
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable that `${env:…}` finds.
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.interpolated.push((name.to_owned(), value.to_owned()));
        self
    }

    fn arg(mut self, text: &str) -> Self {
        self.arguments.push(text.to_owned());
        self
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        files::create_dir_all(files::parent(&path)).unwrap();
        files::write_atomic(&path, content).unwrap();
        path
    }

    fn resolve(&self) -> Result<Resolved<TestConfig>, ConfigError> {
        let mut layers = Layers::<TestConfig>::new(LIBRARY)
            .base("default")
            .environment("CODEX_", self.variables.clone())
            .overrides(&self.arguments)
            .variables(self.interpolated.clone());
        if let Some(path) = &self.file {
            layers = layers.file(path);
        }
        for folder in &self.folders {
            layers = layers.search_folder(folder);
        }
        layers.resolve()
    }

    fn value(&self) -> TestConfig {
        self.resolve().unwrap_or_else(|error| panic!("{error}")).value
    }

    /// The complete message, with the folder's name taken off.
    fn message(&self) -> String {
        let error = self.resolve().map(|resolved| resolved.value).expect_err("a problem");
        self.told(&error)
    }

    fn told(&self, error: &ConfigError) -> String {
        shown(&error.to_string(), self.folder.path())
    }
}

fn shown(text: &str, folder: &Path) -> String {
    text.replace(&format!("{}/", folder.display()), "")
}
