//! The `[launcher]` of a sweep file. Each text is held to the signs that its place in a script or a job can hold.

use crate::document::{Item, Section};
use crate::value::Value;

/// What every task is told, wherever it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskConfig {
    /// The program as the task finds it.
    pub program: Option<String>,
    /// The sweep file as the task sees it.
    pub sweep_file: Option<String>,
    /// The folder that the task runs in.
    pub working_dir: Option<String>,
    /// More arguments for `codex-cli train`.
    pub arguments: Vec<String>,
}

/// A job array of Slurm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlurmConfig {
    /// What every task is told.
    pub task: TaskConfig,
    /// `--partition`
    pub partition: Option<String>,
    /// `--time`, such as `04:00:00`
    pub time: Option<String>,
    /// `--gpus`, such as `1` or `a100:2`
    pub gpus: Option<String>,
    /// `--cpus-per-task`
    pub cpus: Option<u64>,
    /// `--mem`, such as `16G`
    pub memory: Option<String>,
    /// Tasks at a time; `parallel` of the sweep when absent.
    pub max_parallel: Option<u64>,
    /// The cluster's `MaxArraySize`: no task has this index or a higher one.
    pub max_array_size: u64,
    /// Seconds before the end of its time at which a task is asked to save and stop.
    pub signal_seconds: u64,
    /// More options of `sbatch`, each one line that begins with `--`.
    pub extra: Vec<String>,
}

/// A claim on a volume and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeConfig {
    /// The name of the PersistentVolumeClaim.
    pub claim: String,
    /// The folder in the container.
    pub path: String,
}

/// An Indexed Job of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// What every task is told.
    pub task: TaskConfig,
    /// The container's image.
    pub image: String,
    /// The namespace.
    pub namespace: Option<String>,
    /// GPUs of NVIDIA for each task.
    pub gpus: Option<u64>,
    /// CPUs, such as `4` or `500m`.
    pub cpus: Option<String>,
    /// Memory, such as `16Gi`.
    pub memory: Option<String>,
    /// Tasks at a time; `parallel` of the sweep when absent.
    pub max_parallel: Option<u64>,
    /// How often a task that fails is tried again.
    pub retries: u64,
    /// The volumes.
    pub volumes: Vec<VolumeConfig>,
}

/// Jobs of Ray.
#[derive(Clone, Debug, PartialEq)]
pub struct RayConfig {
    /// What every task is told.
    pub task: TaskConfig,
    /// The cluster's address.
    pub address: Option<String>,
    /// CPUs for each task.
    pub cpus: Option<u64>,
    /// GPUs for each task.
    pub gpus: Option<u64>,
    /// Bytes of memory for each task.
    pub memory_bytes: Option<u64>,
}

/// Who runs the trials.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LauncherConfig {
    /// Processes on this machine.
    Local(TaskConfig),
    /// A job array of Slurm.
    Slurm(SlurmConfig),
    /// An Indexed Job of Kubernetes.
    Kubernetes(KubernetesConfig),
    /// Jobs of Ray.
    Ray(RayConfig),
}

impl Default for LauncherConfig {
    fn default() -> Self {
        Self::Local(TaskConfig::default())
    }
}

/// The longest text of this section.
const MAX_CHARS: usize = 500;

#[derive(Clone, Copy)]
enum Kind {
    Local,
    Slurm,
    Kubernetes,
    Ray,
}

pub(crate) fn read(mut section: Section<'_>) -> Option<LauncherConfig> {
    let kinds = [("local", Kind::Local), ("slurm", Kind::Slurm), ("kubernetes", Kind::Kubernetes), ("ray", Kind::Ray)];
    let kind = section.choice("kind", &kinds);
    if section.is_absent("kind") {
        section.tell(section.line, "kind", "this key is missing", Some("write `kind = \"local\"`"));
    }
    let task = task(&mut section);
    let config = match kind? {
        Kind::Local => Some(LauncherConfig::Local(task)),
        Kind::Slurm => Some(LauncherConfig::Slurm(slurm(&mut section, task))),
        Kind::Kubernetes => kubernetes(&mut section, task).map(LauncherConfig::Kubernetes),
        Kind::Ray => Some(LauncherConfig::Ray(ray(&mut section, task))),
    };
    section.finish();
    config
}

fn task(section: &mut Section<'_>) -> TaskConfig {
    let arguments = section.texts("arguments").map_or_else(Vec::new, |(line, arguments)| {
        for text in arguments.iter().filter(|text| text.chars().any(char::is_control) || text.len() > MAX_CHARS) {
            let found = Item::Value(Value::Text(text.clone())).found();
            section.tell(line, "arguments", format!("{found} is too long for an argument, or has a control character"), None);
        }
        arguments
    });
    let mut path = |name| section.word(name, MAX_CHARS, "a path", |c| !c.is_control());
    TaskConfig { program: path("program"), sweep_file: path("sweep_file"), working_dir: path("working_dir"), arguments }
}

fn slurm(section: &mut Section<'_>, task: TaskConfig) -> SlurmConfig {
    let extra = section.texts("extra").map_or_else(Vec::new, |(line, extra)| {
        for text in &extra {
            // A directive is one line of printable characters, which bash reads as a comment.
            if !text.starts_with("--")
                || text.len() > MAX_CHARS
                || text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
            {
                let found = Item::Value(Value::Text(text.clone())).found();
                section.tell(line, "extra", format!("{found} is no option of sbatch"), Some("write it as `--account=name`, on one line"));
            }
        }
        extra
    });
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ',' | ':');
    SlurmConfig {
        task,
        partition: section.word("partition", 200, "letters, digits and `_-.,`", is_word),
        time: section.word("time", 32, "digits, `:` and `-`", |c| c.is_ascii_digit() || matches!(c, ':' | '-')),
        gpus: section.word("gpus", 64, "letters, digits and `_-.,:`", is_word),
        cpus: section.integer("cpus", 1..=10_000),
        memory: section.word("memory", 16, "digits and a unit", |c| c.is_ascii_alphanumeric()),
        max_parallel: section.integer("max_parallel", 1..=10_000),
        max_array_size: section.integer("max_array_size", 1..=4_000_001).unwrap_or(1001),
        signal_seconds: section.integer("signal_seconds", 1..=65_535).unwrap_or(120),
        extra,
    }
}

fn kubernetes(section: &mut Section<'_>, task: TaskConfig) -> Option<KubernetesConfig> {
    let is_image = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':' | '@');
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_quantity = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let image = section.word("image", 300, "letters, digits and `.-_/:@`", is_image);
    if section.is_absent("image") {
        section.tell(section.line, "image", "this launcher needs the image that has `codex-cli`", None);
    }
    let volumes = section.take("volumes").map_or_else(Vec::new, |entry| {
        let Item::List(items) = entry.item else {
            section.tell(entry.line, "volumes", "expected a list of `{ claim = \"…\", path = \"…\" }`", None);
            return Vec::new();
        };
        let volume = |item: Item| {
            let Item::Table { entries, .. } = item else {
                section.tell(entry.line, "volumes", "expected `{ claim = \"…\", path = \"…\" }`", None);
                return None;
            };
            let mut volume = Section::new(&section.key("volumes"), entry.line, entries, section.problems);
            let claim = volume.word("claim", 253, "small letters, digits, `-` and `.`", |c| is_label(c) || c == '.');
            // Kubernetes refuses a mount path with a colon.
            let path = volume.word("path", MAX_CHARS, "a path without `:`", |c| !c.is_control() && c != ':');
            if volume.is_absent("claim") || volume.is_absent("path") {
                volume.tell(entry.line, "claim", "a volume has a `claim` and a `path`", None);
            }
            volume.finish();
            Some(VolumeConfig { claim: claim?, path: path? })
        };
        items.into_iter().filter_map(volume).collect()
    });
    Some(KubernetesConfig {
        task,
        namespace: section.word("namespace", 63, "small letters, digits and `-`", is_label),
        gpus: section.integer("gpus", 0..=1000),
        cpus: section.word("cpus", 16, "digits and a unit, in quotes", is_quantity),
        memory: section.word("memory", 16, "digits and a unit", is_quantity),
        max_parallel: section.integer("max_parallel", 1..=10_000),
        retries: section.integer("retries", 0..=1000).unwrap_or(3),
        volumes,
        image: image?,
    })
}

fn ray(section: &mut Section<'_>, task: TaskConfig) -> RayConfig {
    let is_address = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':' | '[' | ']');
    RayConfig {
        task,
        address: section.word("address", 300, "letters, digits and `.-_/:[]`", is_address),
        cpus: section.integer("cpus", 0..=10_000),
        gpus: section.integer("gpus", 0..=1000),
        memory_bytes: section.integer("memory_bytes", 1..=1 << 50),
    }
}
