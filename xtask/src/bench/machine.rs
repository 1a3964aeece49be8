//! The machine that measured: what a reader needs to judge a number, and nothing that names a person or a place.

use std::fs;
use std::thread::available_parallelism;

use serde::Serialize;

/// Extensions that numeric code chooses its paths by.
const FLAGS: [&str; 16] = [
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
];

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// The processor's name; family and model number tell apart what has the same name.
    pub cpu: String,
    /// Processors that may be used.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// The instruction-set extensions that matter.
    pub flags: Vec<String>,
    /// Kernel and its version.
    pub system: String,
}

impl Machine {
    /// Asks the system; what it does not say is `unknown`.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let system = format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim());
        let cores = available_parallelism().map_or(1, usize::from);
        Self::parse(&read("/proc/cpuinfo"), &read("/proc/meminfo"), cores, system.trim())
    }

    fn parse(cpuinfo: &str, meminfo: &str, cores: usize, system: &str) -> Self {
        let field = |name: &str| {
            let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
        };
        let mut cpu = field("model name").unwrap_or_else(|| "unknown processor".to_owned());
        if let (Some(family), Some(model)) = (field("cpu family"), field("model")) {
            cpu = format!("{cpu} (family {family}, model {model})");
        }
        let all = field("flags").or_else(|| field("Features")).unwrap_or_default();
        let flags = FLAGS.iter().filter(|flag| all.split_whitespace().any(|word| word == **flag)).map(|&flag| flag.to_owned()).collect();
        Self { cpu, cores, memory_bytes: kilobytes(meminfo, "MemTotal"), flags, system: system.to_owned() }
    }

    /// One line for a reader.
    pub fn line(&self) -> String {
        let memory = self.memory_bytes.map_or_else(|| "unknown memory".to_owned(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9));
        format!("{}, {} cores, {memory}, {}, {}", self.cpu, self.cores, self.flags.join(" "), self.system)
    }
}

/// Bytes that a new process could take without swapping.
pub fn available_bytes() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

/// Processor seconds that anybody has used since the machine started, those that a hypervisor took away counted in; `None` where the system does not tell.
pub fn busy_seconds() -> Option<f64> {
    busy_in(&fs::read_to_string("/proc/stat").ok()?)
}

fn busy_in(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are counted in user already. Linux always tells in hundredths.
    let used = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|column| ticks.get(column)).sum::<f64>();
    (ticks.len() >= 4).then_some(used / 100.0)
}

/// How many processes wanted to run, on the mean of the last minute.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

fn kilobytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_files_are_read() {
        let cpuinfo = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 fma avx512f avx512_bf16 avx512fx\n";
        let machine = Machine::parse(cpuinfo, "MemTotal:       24000000 kB\nMemFree: 1 kB\n", 2, "linux 6.1");
        let expected = "AMD EPYC (family 26, model 2), 2 cores, 24.6 GB, avx2 fma avx512f avx512_bf16, linux 6.1";
        assert_eq!(machine.line(), expected);
        assert_eq!(machine.memory_bytes, Some(24_576_000_000));
    }

    #[test]
    fn idle_time_is_not_busy() {
        assert_eq!(busy_in("cpu  100 20 300 9000 800 1 2 77 5 5\ncpu0 1 2 3 4\n"), Some(5.0));
        assert_eq!(busy_in("intr 1\n"), None);
    }

    #[test]
    fn what_is_not_told_is_unknown() {
        let machine = Machine::parse("", "", 1, "x");
        assert_eq!(machine.line(), "unknown processor, 1 cores, unknown memory, , x");
        assert!(Machine::here().cores > 0);
    }
}
