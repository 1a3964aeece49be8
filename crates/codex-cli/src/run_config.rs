//! The whole configuration of a run: one section per crate, put together here.

use std::path::{Path, PathBuf};

use codex_checkpoint::CheckpointConfig;
use codex_config::{Layers, Library, Problem, Resolved, Schema};
use codex_core::Digest;
use codex_data::{DataConfig, Windows};
use codex_model::{AdapterConfig, ModelConfig, SamplingConfig};
use codex_safety::SafetyConfig;
use codex_tokenize::TokenizerConfig;
use codex_track::TrackConfig;
use codex_track::telemetry::TelemetryConfig;
use codex_train::{EvalConfig, TrainConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment;
use crate::failure::CliError;

/// The configs that ship with the program.
pub(crate) static LIBRARY: Library = Library::new(include!(concat!(env!("OUT_DIR"), "/configs.rs")));

/// What `codex-cli train` is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RunConfig {
    /// The run itself.
    pub(crate) run: RunSection,
    /// The tokenizer to train or load.
    pub(crate) tokenizer: TokenizerConfig,
    /// The text.
    pub(crate) data: DataConfig,
    /// The network.
    pub(crate) model: ModelConfig,
    /// What is trained in place of the network's weights.
    pub(crate) adapter: AdapterConfig,
    /// The optimization.
    pub(crate) train: TrainConfig,
    /// The evaluations during training.
    pub(crate) eval: EvalConfig,
    /// How text is generated.
    pub(crate) sampling: SamplingConfig,
    /// What is saved and kept.
    pub(crate) checkpoint: CheckpointConfig,
    /// What is looked for in text.
    pub(crate) safety: SafetyConfig,
    /// What is recorded.
    pub(crate) track: TrackConfig,
    /// What is measured of the machine, and where it is shown.
    pub(crate) telemetry: TelemetryConfig,
}

/// Where and how the run happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RunSection {
    /// Part of the run folder's name.
    pub(crate) name: String,
    /// The folder that holds all runs and caches.
    pub(crate) folder: PathBuf,
    /// The run or checkpoint whose weights, shape and tokenizer training begins with; drawn weights when absent.
    pub(crate) base: Option<PathBuf>,
    /// Seed of everything random.
    pub(crate) seed: u64,
    /// `auto`, `flex`, `ndarray`, `wgpu` or `cuda`.
    pub(crate) device: String,
    /// CPU threads; 0 takes one per core. The result is the same for any number.
    pub(crate) threads: usize,
    /// Instructions that the processor's kernels use: `auto` takes the best there are, or `portable`, `avx2`, `avx512`, `avx512_bf16`. Each rounds
    /// in its own way.
    pub(crate) instruction_set: String,
    /// Minutes after which a process of training saves, stops and exits with 75, to be started again; 0 never. The weights do not depend on it.
    pub(crate) max_minutes: f64,
    /// Most memory that is kept from one step for the next, in MiB; 0 gives all back at once.
    pub(crate) pool_mib: usize,
}

impl Default for RunSection {
    fn default() -> Self {
        Self {
            name: "run".to_owned(),
            folder: PathBuf::from("runs"),
            base: None,
            seed: 1337,
            device: "auto".to_owned(),
            threads: 0,
            instruction_set: "auto".to_owned(),
            max_minutes: 0.0,
            pool_mib: 1024,
        }
    }
}

impl RunConfig {
    /// How windows are cut and ordered.
    pub(crate) fn windows(&self) -> Windows {
        codex_train::plan::windows(self.run.seed, &self.model, &self.train, self.data.cutting())
    }
}

/// What `checkpoint.metric` may name: what a checkpoint's manifest can hold.
const METRICS: [&str; 5] =
    ["validation/loss", "validation/perplexity", "validation/bits_per_byte", "validation/token_accuracy", "train/loss"];

fn or_of_sets(sets: &[&str], example: &str) -> String {
    if sets.is_empty() { String::new() } else { format!(", or `{example}` with NAME one of {}", sets.join(", ")) }
}

impl Schema for RunConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let sections = [
            ("tokenizer", self.tokenizer.problems()),
            ("data", self.data.problems()),
            ("model", self.model.problems()),
            ("adapter", self.adapter.problems()),
            ("train", self.train.problems()),
            ("eval", self.eval.problems()),
            ("sampling", self.sampling.problems()),
            ("checkpoint", self.checkpoint.problems()),
            ("safety", self.safety.problems()),
            ("track", self.track.problems()),
            ("telemetry", self.telemetry.problems()),
        ];
        for (section, problems) in sections {
            found.extend(problems.into_iter().map(|(key, message)| Problem::new(format!("{section}.{key}"), message)));
        }
        if !crate::device::NAMES.contains(&self.run.device.as_str()) {
            let expected = crate::device::NAMES.join(", ");
            found.push(Problem::new("run.device", format!("expected one of {expected}, found `{}`", self.run.device)));
        }
        let sets = self.data.named_sets();
        // `validation/NAME/loss` is that of a set.
        let of_all = sets.iter().find_map(|set| self.checkpoint.metric.strip_prefix(&format!("validation/{set}/")));
        let metric = of_all.map_or_else(|| self.checkpoint.metric.clone(), |name| format!("validation/{name}"));
        if !METRICS.contains(&metric.as_str()) {
            let expected = format!("expected one of {}{}", METRICS.join(", "), or_of_sets(&sets, "validation/NAME/loss"));
            found.push(Problem::new("checkpoint.metric", format!("{expected}, found `{}`", self.checkpoint.metric)));
        }
        let set = &self.train.patience_set;
        if !set.is_empty() && !sets.contains(&set.as_str()) {
            let expected =
                if sets.is_empty() { "there are no sets with names".to_owned() } else { format!("there are: {}", sets.join(", ")) };
            found.push(Problem::new("train.patience_set", format!("there is no validation set `{set}`; {expected}")));
        }
        if let Err(message) = crate::device::instruction_set(&self.run.instruction_set) {
            found.push(Problem::new("run.instruction_set", message));
        }
        if !(0.0..=1e7).contains(&self.run.max_minutes) {
            found.push(Problem::new("run.max_minutes", format!("expected 0 to 10000000, found {}", self.run.max_minutes)));
        }
        if self.run.pool_mib > 1 << 20 {
            found.push(Problem::new("run.pool_mib", format!("expected at most {}, found {}", 1 << 20, self.run.pool_mib)));
        }
        if self.run.threads > 1024 {
            found.push(Problem::new("run.threads", format!("expected at most 1024, found {}", self.run.threads)));
        }
        if !self.run.name.chars().any(char::is_alphanumeric) || self.run.name.len() > 100 {
            found.push(Problem::new("run.name", "expected 1 to 100 characters with a letter or digit among them"));
        }
        found
    }
}

/// Resolves the layers: compiled-in default, the file, the environment, the arguments.
pub(crate) fn resolve(file: Option<&PathBuf>, overrides: &[String]) -> Result<Resolved<RunConfig>, CliError> {
    let mut layers = Layers::<RunConfig>::new(LIBRARY).base("default").search_folder("configs");
    if let Some(path) = file {
        layers = layers.file(path);
    }
    Ok(layers.environment("CODEX_", environment::variables()).variables(environment::variables()).overrides(overrides).resolve()?)
}

/// The compiled-in default and a file, whatever the environment says today.
pub(crate) fn resolve_file(file: &Path) -> Result<Resolved<RunConfig>, CliError> {
    let layers = Layers::<RunConfig>::new(LIBRARY).base("default").search_folder("configs").file(file);
    Ok(layers.variables(environment::variables()).resolve()?)
}

/// The options of a group, for `glob(…)`.
pub(crate) fn options(group: &str) -> std::collections::BTreeSet<String> {
    Layers::<RunConfig>::new(LIBRARY).search_folder("configs").options(group)
}

/// The same, with the network's shape taken from a base in place of what the layers below the arguments say. Only what ships with the program may
/// have said anything else: what a user has set would be lost in silence.
pub(crate) fn resolve_on(
    file: Option<&PathBuf>,
    overrides: &[String],
    first: &Resolved<RunConfig>,
    base: &ModelConfig,
) -> Result<Resolved<RunConfig>, CliError> {
    let shipped = Layers::<RunConfig>::new(LIBRARY).base("default").resolve()?;
    let is_set = |(key, source): &(&String, &codex_config::Source)| key.starts_with("model.") && shipped.source(key) != *source;
    if let Some((key, source)) = first.sources().iter().find(is_set) {
        return Err(CliError::usage(
            format!("`{key}` is set by {source}, and `run.base` decides the network's shape"),
            "leave the `model` section and group out, or `run.base`",
        ));
    }
    let shape = serde_json::to_value(base).map_err(|error| CliError::usage(error.to_string(), "see `codex-cli config show`"))?;
    let mut all = overrides.to_vec();
    flatten("model", &shape, &mut all);
    resolve(file, &all)
}

/// `key=value` arguments of a table.
fn flatten(key: &str, value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(table) => table.iter().for_each(|(name, value)| flatten(&format!("{key}.{name}"), value, into)),
        leaf => into.push(format!("{key}={leaf}")),
    }
}

/// The configuration that a run was made with, whatever the environment says today.
pub(crate) fn of_run(run: &Path) -> Result<RunConfig, CliError> {
    Ok(resolved_of_run(run)?.value)
}

/// The digest of a run's configuration as its folder has it.
pub(crate) fn digest_of_run(run: &Path) -> Result<Digest, CliError> {
    Ok(resolved_of_run(run)?.digest())
}

pub(crate) fn resolved_of_run(run: &Path) -> Result<Resolved<RunConfig>, CliError> {
    Ok(Layers::<RunConfig>::new(LIBRARY).file(run.join("config.resolved.toml")).resolve()?)
}

/// What sets two plans apart, one `key is this, was that` each: the sections that determine the weights.
pub(crate) fn plan_differences(theirs: &RunConfig, ours: &RunConfig) -> Vec<String> {
    let mut found = Vec::new();
    if theirs.run.seed != ours.run.seed {
        found.push(format!("run.seed is {}, was {}", ours.run.seed, theirs.run.seed));
    }
    let values = |config: &RunConfig| serde_json::to_value(config).unwrap_or_default();
    let (was, is) = (values(theirs), values(ours));
    for section in ["tokenizer", "data", "model", "adapter", "train", "safety"] {
        let empty = serde_json::Map::new();
        for (key, value) in is[section].as_object().unwrap_or(&empty) {
            if was[section][key] != *value && key != "cache_dir" {
                found.push(format!("{section}.{key} is {value}, was {}", was[section][key]));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_plans_are_told_apart_by_their_keys() {
        let theirs = RunConfig::default();
        let mut ours = theirs.clone();
        assert_eq!(plan_differences(&theirs, &ours), [""; 0]);
        ours.run.seed = 7;
        ours.train.steps = 2;
        ours.checkpoint.every_steps = 1;
        ours.data.cache_dir = Some(PathBuf::from("elsewhere"));
        let expected = [format!("run.seed is 7, was {}", theirs.run.seed), format!("train.steps is 2, was {}", theirs.train.steps)];
        assert_eq!(plan_differences(&theirs, &ours), expected);
    }

    #[test]
    fn every_shipped_config_is_valid() {
        for name in LIBRARY.names() {
            let layers = Layers::<RunConfig>::new(LIBRARY).base("default");
            let resolved = match name.split_once('/') {
                Some((group, option)) => layers.overrides(&[format!("{group}={option}")]).resolve(),
                None => Layers::<RunConfig>::new(LIBRARY).base(name).resolve(),
            };
            let config = resolved.unwrap_or_else(|error| panic!("{name}: {error}")).value;
            assert!(config.model.n_layers > 0 && config.train.steps > 0, "{name}");
        }
        assert!(LIBRARY.names().count() >= 7);
    }

    #[test]
    fn the_problems_of_every_section_are_told_with_their_keys() {
        let mut config = RunConfig::default();
        config.run.device = "tpu".to_owned();
        config.train.steps = 0;
        config.model.n_heads = 3;
        let keys: Vec<String> = config.problems().into_iter().map(|problem| problem.key).collect();
        for key in ["run.device", "train.steps", "model.n_heads", "data.train"] {
            assert!(keys.iter().any(|found| found == key), "{key} is not in {keys:?}");
        }
    }
}
