//! What the system allows this process: the control group of a container and the limits of the shell. What it does not say is `None`.

use std::path::{Path, PathBuf};

use codex_core::files;
use serde::{Deserialize, Serialize};

const MAX_FILE_BYTES: u64 = 64 << 10;
/// Version 1 writes a number near the largest where there is no limit.
const NO_LIMIT: u64 = 1 << 62;

/// The limits of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitsRecord {
    /// The memory of its control group, the least on the way to the root; `None` where there is no limit, or no control group.
    pub memory_bytes: Option<u64>,
    /// The processor time of its control group, in cores.
    pub cpu_cores: Option<f64>,
    /// The version of the control groups, 1 or 2; `None` where there are none.
    pub cgroup_version: Option<u8>,
    /// Files that may be open at once.
    pub open_files: Option<u64>,
    /// Threads and processes of the user.
    pub processes: Option<u64>,
    /// Memory that may be kept from being swapped out.
    pub locked_memory_bytes: Option<u64>,
    /// The largest file.
    pub file_size_bytes: Option<u64>,
}

impl LimitsRecord {
    /// The limits of this process.
    pub fn take() -> Self {
        Self::of(Path::new("/"))
    }

    /// The same from the files below `root`.
    fn of(root: &Path) -> Self {
        let mut record = Self::default();
        if let Some(limits) = small(&root.join("proc/self/limits")) {
            record.open_files = soft_limit(&limits, "Max open files");
            record.processes = soft_limit(&limits, "Max processes");
            record.locked_memory_bytes = soft_limit(&limits, "Max locked memory");
            record.file_size_bytes = soft_limit(&limits, "Max file size");
        }
        let Some(groups) = small(&root.join("proc/self/cgroup")) else { return record };
        let cgroups = root.join("sys/fs/cgroup");
        if cgroups.join("cgroup.controllers").exists() {
            record.cgroup_version = Some(2);
            let path = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
            let folders = on_the_way(&cgroups, path);
            record.memory_bytes = folders.iter().filter_map(|folder| small(&folder.join("memory.max"))?.parse().ok()).min();
            record.cpu_cores = least(folders.iter().filter_map(|folder| {
                let text = small(&folder.join("cpu.max"))?;
                let (quota, period) = text.split_once(' ')?;
                cores(quota, period)
            }));
        } else if cgroups.exists() {
            record.cgroup_version = Some(1);
            let of = |controller: &str| {
                let of_line = |line: &str| {
                    let (_, rest) = line.split_once(':')?;
                    let (names, path) = rest.split_once(':')?;
                    names.split(',').any(|name| name == controller).then(|| path.to_owned())
                };
                on_the_way(&cgroups.join(controller), &groups.lines().find_map(of_line).unwrap_or_else(|| "/".to_owned()))
            };
            let bytes = |folder: &PathBuf| small(&folder.join("memory.limit_in_bytes"))?.parse().ok().filter(|bytes| *bytes < NO_LIMIT);
            record.memory_bytes = of("memory").iter().filter_map(bytes).min();
            let quota = |folder: &PathBuf| cores(&small(&folder.join("cpu.cfs_quota_us"))?, &small(&folder.join("cpu.cfs_period_us"))?);
            record.cpu_cores = least(of("cpu").iter().filter_map(quota));
        }
        record
    }
}

/// The folders of a group and of those above it. A container may see itself as the root, so a path that is not there is no failure.
fn on_the_way(base: &Path, group: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = group.split('/').filter(|part| !part.is_empty() && *part != "..").take(64).collect();
    (0..=parts.len()).map(|n| parts[..n].iter().fold(base.to_owned(), |path, part| path.join(part))).collect()
}

fn cores(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

fn least(all: impl Iterator<Item = f64>) -> Option<f64> {
    all.min_by(f64::total_cmp)
}

/// The first number behind a name in `/proc/self/limits`; `None` where there is no limit.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn small(path: &Path) -> Option<String> {
    // The size of such a file is 0, so it is read and not asked for.
    let bytes = files::read_bounded(path, MAX_FILE_BYTES).ok()?;
    Some(String::from_utf8(bytes).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(entries: &[(&str, &str)]) -> LimitsRecord {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in entries {
            let path = dir.path().join(name);
            files::create_dir_all(path.parent().unwrap()).unwrap();
            files::write_atomic(&path, text.as_bytes()).unwrap();
        }
        LimitsRecord::of(dir.path())
    }

    #[test]
    fn the_least_limit_on_the_way_counts() {
        let found = root(&[
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory"),
            ("proc/self/cgroup", "0::/pod/box\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "1000000\n"),
            ("sys/fs/cgroup/pod/box/memory.max", "2000000\n"),
            ("sys/fs/cgroup/pod/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/pod/box/cpu.max", "150000 100000\n"),
        ]);
        assert_eq!((found.cgroup_version, found.memory_bytes, found.cpu_cores), (Some(2), Some(1_000_000), Some(1.5)));
    }

    #[test]
    fn the_older_groups_are_read_too() {
        let found = root(&[
            ("proc/self/cgroup", "4:memory:/box\n2:cpu,cpuacct:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "4096\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!((found.cgroup_version, found.memory_bytes, found.cpu_cores), (Some(1), Some(4096), None));
    }

    #[test]
    fn what_is_not_there_or_nonsense_is_none() {
        assert_eq!(root(&[]), LimitsRecord::default());
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            20000   20000   files\nMax file size   unlimited unlimited bytes\n";
        let found = root(&[("proc/self/limits", limits), ("proc/self/cgroup", "x"), ("sys/fs/cgroup/cgroup.controllers", "")]);
        assert_eq!((found.open_files, found.file_size_bytes, found.memory_bytes), (Some(20000), None, None));
        if cfg!(target_os = "linux") {
            assert!(LimitsRecord::take().open_files.is_some());
        }
    }
}
