//! `environment.json`: the machine, the build and the command of a run. It holds no host name, no user name and no secret.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use codex_core::{Digest, Failure, Timestamp, failure};
use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::error::TrackError;
use crate::git::GitState;
use crate::run_dir::{RunDir, write_json_at};
use crate::telemetry::gpu::GpuInventory;
use crate::telemetry::limits::LimitsRecord;
use crate::{git, mask};

/// How long `git` may take to say whether files differ from the commit.
const GIT_WAIT: Duration = Duration::from_secs(2);

/// The file's name.
pub const FILE: &str = "environment.json";

/// What the program knows of itself and hands in.
#[derive(Clone, Copy, Debug)]
pub struct EnvironmentInputs<'a> {
    /// The command line; secrets in it are masked.
    pub argv: &'a [String],
    /// The variables of the process; only `CODEX_…` and `RAYON_NUM_THREADS` are kept, masked like the command.
    pub variables: &'a BTreeMap<String, String>,
    /// The folder the command was given in: where the git revision is looked for.
    pub current_dir: &'a Path,
    /// The seed of the run.
    pub seed: u64,
    /// What `rustc --version` said when the program was built.
    pub rustc: Option<&'a str>,
    /// The features the program was built with.
    pub features: &'a [&'a str],
    /// The digest of the locked dependencies.
    pub lock_digest: Option<Digest>,
    /// The device the run computes on, in words.
    pub device: Option<&'a str>,
}

/// `environment.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The version of this format: 1.
    pub schema: u32,
    /// When it was taken, RFC 3339 in UTC.
    pub captured: String,
    /// The operating system.
    pub os: OsRecord,
    /// The processor.
    pub cpu: CpuRecord,
    /// Installed memory.
    pub memory_total_bytes: u64,
    /// The device the run computes on.
    pub device: Option<String>,
    /// The compiler.
    pub rustc: Option<String>,
    /// The features of the build.
    pub features: Vec<String>,
    /// The digest of the locked dependencies.
    pub lock_digest: Option<Digest>,
    /// The commit checked out.
    pub git_revision: Option<String>,
    /// The branch, and whether files differ from the commit.
    #[serde(default)]
    pub git: GitState,
    /// The GPUs; not known unless they were [asked for](Self::with_gpu).
    #[serde(default)]
    pub gpu: GpuInventory,
    /// What the system allows the process.
    #[serde(default)]
    pub limits: LimitsRecord,
    /// The seed.
    pub seed: u64,
    /// The command line, masked.
    pub command: Vec<String>,
    /// The variables that the program heeds, masked.
    pub variables: BTreeMap<String, String>,
}

/// The operating system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsRecord {
    /// Such as `linux`.
    pub family: String,
    /// Such as `Linux (Debian GNU/Linux 12)`.
    pub version: Option<String>,
    /// The kernel's version.
    pub kernel: Option<String>,
}

/// The processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuRecord {
    /// What the maker calls it.
    pub brand: String,
    /// The instruction set, such as `x86_64`.
    pub arch: String,
    /// Cores.
    pub physical_cores: Option<usize>,
    /// Hardware threads.
    pub logical_cores: usize,
    /// How many threads this process may use, after limits of the system.
    pub available_parallelism: Option<usize>,
    /// The extensions that numeric code chooses its paths by.
    pub flags: Vec<String>,
}

impl Environment {
    /// What there is to know at this moment.
    pub fn capture(inputs: &EnvironmentInputs<'_>, now: Timestamp) -> Self {
        let kinds = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()).with_cpu(CpuRefreshKind::nothing());
        let system = System::new_with_specifics(kinds);
        let git = git::state(inputs.current_dir, Path::new("git"), GIT_WAIT);
        Self {
            schema: 1,
            captured: now.to_rfc3339(),
            os: OsRecord { family: std::env::consts::OS.to_owned(), version: System::long_os_version(), kernel: System::kernel_version() },
            cpu: CpuRecord {
                brand: system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default(),
                arch: std::env::consts::ARCH.to_owned(),
                physical_cores: System::physical_core_count(),
                logical_cores: system.cpus().len(),
                available_parallelism: std::thread::available_parallelism().ok().map(std::num::NonZero::get),
                flags: cpu_flags(),
            },
            memory_total_bytes: system.total_memory(),
            device: inputs.device.map(str::to_owned),
            rustc: inputs.rustc.map(str::to_owned),
            features: inputs.features.iter().map(|&feature| feature.to_owned()).collect(),
            lock_digest: inputs.lock_digest,
            git_revision: git.revision.clone(),
            git,
            gpu: GpuInventory::default(),
            limits: LimitsRecord::take(),
            seed: inputs.seed,
            command: mask::command(inputs.argv),
            variables: mask::variables(inputs.variables),
        }
    }

    /// The same with the GPUs of the machine.
    #[must_use]
    pub fn with_gpu(self, gpu: GpuInventory) -> Self {
        Self { gpu, ..self }
    }

    /// The environment in a run folder.
    pub fn read(run: &RunDir) -> Result<Self, TrackError> {
        run.read_json(FILE)
    }

    /// Publishes the environment in a folder.
    pub fn write(&self, dir: &Path) -> Result<(), TrackError> {
        write_json_at(&dir.join(FILE), self)
    }

    /// Publishes the environment in a folder; returns what to warn of when that failed, and the run goes on.
    pub fn write_or_warn(&self, dir: &Path) -> Option<String> {
        let error = self.write(dir).err()?;
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Some(format!("the environment of this run is not recorded: {}{hint}", failure::chain(&error)))
    }
}

/// The extensions of this processor that numeric code chooses its paths by.
fn cpu_flags() -> Vec<String> {
    macro_rules! detect {
        ($detected:ident: $($name:tt)*) => {
            [$(($name, std::arch::$detected!($name))),*].into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
        };
    }
    #[cfg(target_arch = "x86_64")]
    return detect!(is_x86_feature_detected:
        "sse4.2" "avx" "avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16" "avx512fp16");
    #[cfg(target_arch = "aarch64")]
    return detect!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "i8mm" "bf16" "sve" "sve2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Vec::new();
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::files;

    #[test]
    fn the_machine_the_build_and_the_masked_command_are_recorded() {
        let root = tempfile::tempdir().unwrap();
        files::create_dir_all(&root.path().join(".git")).unwrap();
        files::write_atomic(&root.path().join(".git/HEAD"), "ab".repeat(20).as_bytes()).unwrap();
        let argv = ["codex-cli", "train", "--token", "hunter2"].map(str::to_owned);
        let variables = [("CODEX_SERVE__PASSWORD", "hunter2"), ("CODEX_SEED", "7"), ("USER", "someone")];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let inputs = EnvironmentInputs {
            argv: &argv,
            variables: &variables,
            current_dir: root.path(),
            seed: 7,
            rustc: Some("rustc 1.95.0"),
            features: &["flex"],
            lock_digest: Some(Digest::of_bytes(b"lock")),
            device: Some("cpu"),
        };
        let environment = Environment::capture(&inputs, Timestamp(0));
        assert_eq!(environment.git_revision.as_deref(), Some("abababababababababababababababababababab"));
        assert!(environment.cpu.logical_cores > 0 && environment.memory_total_bytes > 1 << 20, "{environment:?}");
        assert_eq!(environment.command, ["codex-cli", "train", "--token", "[masked]"]);
        assert_eq!(environment.variables.keys().collect::<Vec<_>>(), ["CODEX_SEED", "CODEX_SERVE__PASSWORD"]);
        assert_eq!(environment.gpu.reason.as_deref(), Some("not asked for"));
        let environment = environment.with_gpu(GpuInventory::unknown("no driver"));
        assert_eq!(environment.git.revision, environment.git_revision);
        assert_eq!(environment.write_or_warn(root.path()), None);
        assert_eq!(Environment::read(&RunDir::open(root.path()).unwrap()).unwrap(), environment);
        let text = files::read_to_string(&root.path().join(FILE)).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("someone"), "{text}");
        // A file of a version that knew less.
        let mut older: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in ["git", "gpu", "limits"] {
            assert!(older.as_object_mut().unwrap().remove(key).is_some());
        }
        let older: Environment = serde_json::from_value(older).unwrap();
        assert_eq!((older.git, older.gpu.devices), (GitState::default(), None));
        let warning = environment.write_or_warn(&root.path().join("absent")).unwrap();
        assert!(warning.starts_with("the environment of this run is not recorded: cannot create "), "{warning}");
        assert!(warning.ends_with("(check the path; relative paths start at the current folder)"), "{warning}");
    }
}
