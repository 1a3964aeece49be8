//! What the machine does while a run goes on: samplers and when they are asked. Nothing runs in the background; the loop asks between steps.

use std::path::{Path, PathBuf};

use codex_core::files;
use sysinfo::{CpuRefreshKind, DiskRefreshKind, Disks, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use crate::error::TrackError;
use crate::run_dir::RunDir;
use crate::telemetry::TelemetryConfig;
use crate::tracker::SystemValues;

/// The file of the samples.
pub const FILE: &str = "system.ndjson";

/// Something that measures the machine.
pub trait SystemSampler: Send {
    /// A short name for messages.
    fn name(&self) -> &str;

    /// Values by name, with the unit in the name. A value that this machine does not have is left out.
    fn sample(&mut self) -> Result<SystemValues, TrackError>;

    /// What it has found since it was last asked that this machine does not measure: names of values and the reason. Each is told once.
    fn newly_absent(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Processor, memory and this process.
///
/// `cpu_percent` (of all cores together) and `process_cpu_percent` (of one core) are means since the sample before and left out of the first.
#[derive(Debug)]
pub struct ProcSampler {
    system: System,
    pid: Pid,
    is_first: bool,
}

impl ProcSampler {
    /// A sampler of this process and the machine it runs on.
    pub fn new() -> Self {
        let kinds = RefreshKind::nothing()
            .with_memory(MemoryRefreshKind::nothing().with_ram().with_swap())
            .with_cpu(CpuRefreshKind::nothing().with_cpu_usage());
        Self { system: System::new_with_specifics(kinds), pid: Pid::from_u32(std::process::id()), is_first: true }
    }
}

impl Default for ProcSampler {
    fn default() -> Self {
        Self::new()
    }
}

impl SystemSampler for ProcSampler {
    fn name(&self) -> &'static str {
        "process"
    }

    fn sample(&mut self) -> Result<SystemValues, TrackError> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram().with_swap());
        let process = ProcessReading::of(&mut self.system, self.pid);
        let mut values = SystemValues::new();
        let mut note = |name: &str, value: f64| values.extend([(name.to_owned(), value)]);
        if self.system.total_memory() == 0 {
            return Err(TrackError::Sampler { sampler: "process".to_owned(), reason: "the system tells no memory size".to_owned() });
        }
        note("memory_total_bytes", self.system.total_memory() as f64);
        note("memory_used_bytes", self.system.used_memory() as f64);
        note("swap_total_bytes", self.system.total_swap() as f64);
        note("swap_used_bytes", self.system.used_swap() as f64);
        note("cpu_count", self.system.cpus().len() as f64);
        let load = System::load_average();
        note("load_average_1m", load.one);
        note("load_average_5m", load.five);
        note("load_average_15m", load.fifteen);
        if !self.is_first {
            note("cpu_percent", f64::from(self.system.global_cpu_usage()));
        }
        if let Some(process) = process {
            note("process_rss_bytes", process.rss_bytes as f64);
            note("process_cpu_seconds", process.cpu_seconds);
            if !self.is_first {
                note("process_cpu_percent", process.cpu_percent);
            }
            let counts = [
                ("process_peak_rss_bytes", process.peak_rss_bytes),
                ("process_threads", process.threads),
                ("process_open_files", process.open_files),
                ("process_read_bytes", process.read_bytes),
                ("process_written_bytes", process.written_bytes),
            ];
            for (name, count) in counts {
                if let Some(count) = count {
                    note(name, count as f64);
                }
            }
        }
        self.is_first = false;
        Ok(values)
    }
}

/// What the system says of this process; what it does not say is `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ProcessReading {
    pub(crate) rss_bytes: u64,
    pub(crate) virtual_bytes: u64,
    pub(crate) cpu_seconds: f64,
    /// Of one core, since the reading before.
    pub(crate) cpu_percent: f64,
    /// In seconds since 1970.
    pub(crate) started_seconds: u64,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) threads: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) max_open_files: Option<u64>,
    /// From and to the disk, past the cache.
    pub(crate) read_bytes: Option<u64>,
    pub(crate) written_bytes: Option<u64>,
}

impl ProcessReading {
    pub(crate) fn of(system: &mut System, pid: Pid) -> Option<Self> {
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().with_disk_usage().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
        let process = system.process(pid)?;
        let status = process_status().unwrap_or_default();
        let disk = process.disk_usage();
        // Where the system keeps no account of a process, a process that has loaded itself has read nothing.
        let has_account = disk.total_read_bytes > 0 || disk.total_written_bytes > 0 || Path::new("/proc/self/io").exists();
        Some(Self {
            rss_bytes: process.memory(),
            virtual_bytes: process.virtual_memory(),
            cpu_seconds: process.accumulated_cpu_time() as f64 / 1000.0,
            cpu_percent: f64::from(process.cpu_usage()),
            started_seconds: process.start_time(),
            peak_rss_bytes: status_field(&status, "VmHWM").map(|kib| kib * 1024),
            threads: status_field(&status, "Threads"),
            open_files: process.open_files().map(|n| n as u64),
            max_open_files: process.open_files_limit().map(|n| n as u64),
            read_bytes: has_account.then_some(disk.total_read_bytes),
            written_bytes: has_account.then_some(disk.total_written_bytes),
        })
    }
}

/// The memory that this process may have: the machine's, or its control group's where that is less. `None` where the system does not say.
pub fn memory_limit_bytes() -> Option<u64> {
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()));
    let total = Some(system.total_memory()).filter(|total| *total > 0)?;
    Some(system.cgroup_limits().map_or(total, |limits| limits.total_memory.min(total)))
}

/// The most memory this process ever held at once, in bytes, where the system says so (Linux).
pub fn peak_rss_bytes() -> Option<u64> {
    status_field(&process_status()?, "VmHWM").map(|kib| kib * 1024)
}

fn process_status() -> Option<String> {
    files::read_to_string(Path::new("/proc/self/status")).ok()
}

/// The number behind `<field>:` in a text like `/proc/self/status`.
fn status_field(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The disk that a folder is on.
#[derive(Debug)]
pub struct DiskSampler {
    path: PathBuf,
    disks: Disks,
}

impl DiskSampler {
    /// A sampler of the disk that holds `path`.
    pub fn new(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            path: path.canonicalize().unwrap_or(path),
            disks: Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage()),
        }
    }
}

impl SystemSampler for DiskSampler {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn sample(&mut self) -> Result<SystemValues, TrackError> {
        self.disks.refresh_specifics(false, DiskRefreshKind::nothing().with_storage());
        let holding = self.disks.list().iter().filter(|disk| self.path.starts_with(disk.mount_point()));
        // The longest mount point is the one that the path is really on.
        let disk = holding.max_by_key(|disk| disk.mount_point().components().count());
        let reason = || format!("no disk is known to hold `{}`", self.path.display());
        let disk = disk.ok_or_else(|| TrackError::Sampler { sampler: "disk".to_owned(), reason: reason() })?;
        Ok(SystemValues::from([
            ("disk_free_bytes".to_owned(), disk.available_space() as f64),
            ("disk_total_bytes".to_owned(), disk.total_space() as f64),
        ]))
    }
}

/// The samplers of a run and their cadence.
pub struct Sampling {
    every_seconds: f64,
    next_at: f64,
    samplers: Vec<Box<dyn SystemSampler>>,
}

impl std::fmt::Debug for Sampling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.samplers.iter().map(|sampler| sampler.name()).collect();
        f.debug_struct("Sampling").field("every_seconds", &self.every_seconds).field("samplers", &names).finish_non_exhaustive()
    }
}

impl Sampling {
    /// This process, the machine, and the run's disk, as often as the config says.
    pub fn new(run: &RunDir, config: &TelemetryConfig) -> Self {
        let is_on = config.every_seconds > 0.0;
        let samplers: Vec<Box<dyn SystemSampler>> =
            if is_on { vec![Box::new(ProcSampler::new()), Box::new(DiskSampler::new(run.path()))] } else { Vec::new() };
        Self::with(samplers, config.every_seconds)
    }

    /// These samplers at this cadence; 0 never asks them.
    pub fn with(samplers: Vec<Box<dyn SystemSampler>>, every_seconds: f64) -> Self {
        Self { every_seconds, next_at: f64::NEG_INFINITY, samplers }
    }

    /// Whether a sample is due; asking moves the next one a full interval away, so a late one is not made up for.
    pub fn due(&mut self, elapsed_seconds: f64) -> bool {
        let is_due = self.every_seconds > 0.0 && !self.samplers.is_empty() && elapsed_seconds >= self.next_at;
        if is_due {
            self.next_at = elapsed_seconds + self.every_seconds;
        }
        is_due
    }

    /// The values of all samplers, the samplers that failed, which are not asked again, and the values that one found to be absent.
    pub fn sample(&mut self) -> (SystemValues, Vec<(String, TrackError)>) {
        let mut values = SystemValues::new();
        let mut failures = Vec::new();
        self.samplers.retain_mut(|sampler| match sampler.sample() {
            Ok(more) => {
                values.extend(more);
                let absent = sampler.newly_absent().into_iter();
                failures.extend(absent.map(|(names, reason)| (names.clone(), TrackError::Sampler { sampler: names, reason })));
                true
            }
            Err(error) => {
                failures.push((sampler.name().to_owned(), error));
                false
            }
        });
        (values, failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scripted(&'static str, Vec<f64>);

    impl SystemSampler for Scripted {
        fn name(&self) -> &str {
            self.0
        }

        fn sample(&mut self) -> Result<SystemValues, TrackError> {
            let value = self.1.pop().ok_or_else(|| TrackError::Sampler { sampler: self.0.to_owned(), reason: "empty".to_owned() })?;
            Ok(SystemValues::from([(self.0.to_owned(), value)]))
        }
    }

    #[test]
    fn a_sample_is_due_at_once_and_then_a_full_interval_after_the_last() {
        let mut sampling = Sampling::with(vec![Box::new(Scripted("a", vec![]))], 5.0);
        let due: Vec<bool> = [0.0, 4.9, 5.0, 17.0, 20.0, 22.0].into_iter().map(|at| sampling.due(at)).collect();
        assert_eq!(due, [true, false, true, true, false, true]);
        assert!(!Sampling::with(vec![Box::new(Scripted("a", vec![]))], 0.0).due(1.0));
        assert!(!Sampling::with(Vec::new(), 1.0).due(1.0));
    }

    #[test]
    fn a_sampler_that_fails_is_told_once_and_not_asked_again() {
        let mut sampling = Sampling::with(vec![Box::new(Scripted("a", vec![2.0, 1.0])), Box::new(Scripted("b", vec![3.0]))], 1.0);
        assert!(sampling.sample().1.is_empty());
        let (values, failures) = sampling.sample();
        assert_eq!(values, SystemValues::from([("a".to_owned(), 2.0)]));
        assert_eq!(failures.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(format!("{sampling:?}"), "Sampling { every_seconds: 1.0, samplers: [\"a\"], .. }");
    }

    #[test]
    fn this_process_and_its_disk_can_be_measured() {
        let mut sampler = ProcSampler::default();
        let first = sampler.sample().unwrap();
        assert!(first["memory_total_bytes"] > first["process_rss_bytes"] && first["process_rss_bytes"] > 0.0, "{first:?}");
        assert!(!first.contains_key("cpu_percent"));
        let second = sampler.sample().unwrap();
        assert!(second.contains_key("cpu_percent") && second["cpu_count"] >= 1.0);
        assert!(second["swap_used_bytes"] <= second["swap_total_bytes"] && second["process_cpu_seconds"] >= first["process_cpu_seconds"]);
        if cfg!(target_os = "linux") {
            assert!(second["process_threads"] >= 1.0 && second["process_open_files"] >= 3.0, "{second:?}");
            assert!(second["process_read_bytes"] >= 0.0 && second["process_written_bytes"] >= 0.0);
        }
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        let mut sampling = Sampling::new(&run, &TelemetryConfig::default());
        let (values, failures) = sampling.sample();
        // A container may hide its disks; then it is said, and nothing is made up.
        assert!(values.contains_key("disk_free_bytes") || failures.len() == 1, "{values:?}");
        assert!(!Sampling::new(&run, &TelemetryConfig { every_seconds: 0.0, ..TelemetryConfig::default() }).due(0.0));
        if let Some(peak) = peak_rss_bytes() {
            assert!(peak > 1 << 20);
        }
    }

    #[test]
    fn fields_of_a_status_are_read() {
        let status = "Name:\tcodex\nVmHWM:\t  2048 kB\nThreads:\t7\nBroken:\n";
        assert_eq!(["VmHWM", "Threads", "Broken", "Vm"].map(|field| status_field(status, field)), [Some(2048), Some(7), None, None]);
    }
}
