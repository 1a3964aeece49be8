//! NVIDIA GPUs: which there are, and what they do. Each reading may be missing on a device; what is missing is named and never made up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use codex_core::failure;
use serde::{Deserialize, Serialize};

use super::error::TelemetryError;
use crate::error::TrackError;
use crate::system::SystemSampler;
use crate::tracker::SystemValues;

/// More devices than this are not asked.
const MAX_DEVICES: u32 = 64;
/// A reason of a driver is cut to this many characters.
const MAX_REASON_CHARS: usize = 200;

/// Something that a device may tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuMetric {
    /// The part of the time in which a kernel ran, in percent.
    Utilization,
    /// The part of the time in which memory was read or written, in percent.
    MemoryUtilization,
    /// Memory in use by all processes, in bytes.
    MemoryUsed,
    /// All memory, in bytes.
    MemoryTotal,
    /// Of the chip, in degrees Celsius.
    Temperature,
    /// What the board draws, in watts.
    Power,
    /// Of the multiprocessors, in MHz.
    SmClock,
    /// Of the memory, in MHz.
    MemoryClock,
    /// Why clocks are held down, as NVML's bits; see [`throttle_reasons`].
    ThrottleReasons,
}

impl GpuMetric {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Utilization,
        Self::MemoryUtilization,
        Self::MemoryUsed,
        Self::MemoryTotal,
        Self::Temperature,
        Self::Power,
        Self::SmClock,
        Self::MemoryClock,
        Self::ThrottleReasons,
    ];

    /// Its name in `system.ndjson`, behind `gpu<index>_`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utilization => "utilization_percent",
            Self::MemoryUtilization => "memory_utilization_percent",
            Self::MemoryUsed => "memory_used_bytes",
            Self::MemoryTotal => "memory_total_bytes",
            Self::Temperature => "temperature_celsius",
            Self::Power => "power_watts",
            Self::SmClock => "sm_clock_mhz",
            Self::MemoryClock => "memory_clock_mhz",
            Self::ThrottleReasons => "throttle_reasons",
        }
    }
}

/// The reasons that are set in NVML's bits, but that the device idles, which holds nothing back.
pub fn throttle_reasons(bits: u64) -> impl Iterator<Item = (&'static str, bool)> {
    const REASONS: [(&str, u64); 8] = [
        ("applications_clocks_setting", 0x2),
        ("sw_power_cap", 0x4),
        ("hw_slowdown", 0x8),
        ("sync_boost", 0x10),
        ("sw_thermal_slowdown", 0x20),
        ("hw_thermal_slowdown", 0x40),
        ("hw_power_brake_slowdown", 0x80),
        ("display_clock_setting", 0x100),
    ];
    REASONS.into_iter().map(move |(name, bit)| (name, bits & bit != 0))
}

/// Something that knows GPUs. A reason is why this one value is not known, such as that the device does not support it.
pub trait GpuSource: Send {
    /// How many devices there are; they are numbered from 0.
    fn count(&self) -> Result<u32, String>;

    /// What the maker calls a device.
    fn device_name(&self, idx: u32) -> Result<String, String>;

    /// One reading of a device.
    fn read(&self, idx: u32, metric: GpuMetric) -> Result<f64, String>;

    /// The version of the driver.
    fn driver_version(&self) -> Result<String, String>;

    /// The newest CUDA that the driver runs, such as `12.8`.
    fn cuda_version(&self) -> Result<String, String>;
}

/// Opens NVIDIA's library at `library`, or where the system looks for it. Nothing is linked: an absent library is an error here and nowhere else.
#[cfg(feature = "nvml")]
pub fn open_nvml(library: Option<&Path>) -> Result<Box<dyn GpuSource>, TelemetryError> {
    Ok(Box::new(super::nvml::Nvml::open(library)?))
}

/// This build has no NVML.
#[cfg(not(feature = "nvml"))]
pub fn open_nvml(_: Option<&Path>) -> Result<Box<dyn GpuSource>, TelemetryError> {
    Err(TelemetryError::NvmlNotBuilt)
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuRecord {
    /// What the maker calls it; `None` where it does not tell.
    pub name: Option<String>,
    /// Its memory.
    pub memory_total_bytes: Option<u64>,
}

/// The GPUs of a machine, or why they are not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuInventory {
    /// The devices in their order; `None` where they are not known.
    pub devices: Option<Vec<GpuRecord>>,
    /// The version of the driver.
    pub driver: Option<String>,
    /// The newest CUDA that the driver runs.
    pub cuda: Option<String>,
    /// Why something above is not known.
    pub reason: Option<String>,
}

impl Default for GpuInventory {
    fn default() -> Self {
        Self::unknown("not asked for")
    }
}

impl GpuInventory {
    /// Nothing is known, and why.
    pub fn unknown(reason: &str) -> Self {
        Self { devices: None, driver: None, cuda: None, reason: Some(reason.to_owned()) }
    }

    /// The names of the devices, for a sentence.
    pub fn names(&self) -> String {
        let name = |device: &GpuRecord| device.name.clone().unwrap_or_else(|| "a device without a name".to_owned());
        self.devices.iter().flatten().map(name).collect::<Vec<_>>().join(", ")
    }

    /// What a source tells; `opened` may be the reason why there is none.
    pub fn take(opened: &Result<Box<dyn GpuSource>, TelemetryError>) -> Self {
        let source = match opened {
            Ok(source) => source,
            Err(error) => return Self::unknown(&failure::chain(error)),
        };
        let mut reasons = BTreeSet::new();
        let devices = known(source.count(), &mut reasons).map(|n| {
            let device = |idx| GpuRecord {
                name: known(source.device_name(idx), &mut reasons),
                memory_total_bytes: known(source.read(idx, GpuMetric::MemoryTotal), &mut reasons).map(|bytes| bytes as u64),
            };
            (0..n.min(MAX_DEVICES)).map(device).collect()
        });
        let driver = known(source.driver_version(), &mut reasons);
        let cuda = known(source.cuda_version(), &mut reasons);
        let reason = (!reasons.is_empty()).then(|| reasons.into_iter().collect::<Vec<_>>().join("; "));
        Self { devices, driver, cuda, reason }
    }
}

fn known<T>(reading: Result<T, String>, reasons: &mut BTreeSet<String>) -> Option<T> {
    reading.map_err(|reason| reasons.insert(shortened(&reason))).ok()
}

fn shortened(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_REASON_CHARS).collect()
}

/// Samples every device.
pub struct GpuSampler {
    opened: Result<Box<dyn GpuSource>, TelemetryError>,
    /// What was told to be absent.
    absent: BTreeSet<(u32, GpuMetric)>,
    /// The reasons of what was found to be absent since the last look, with the names.
    news: BTreeMap<String, Vec<String>>,
}

impl std::fmt::Debug for GpuSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuSampler").field("error", &self.opened.as_ref().err()).field("absent", &self.absent).finish_non_exhaustive()
    }
}

impl GpuSampler {
    /// A sampler of this source. Where `opened` is an error, its first sample fails with it.
    pub fn new(opened: Result<Box<dyn GpuSource>, TelemetryError>) -> Self {
        Self { opened, absent: BTreeSet::new(), news: BTreeMap::new() }
    }

    /// The devices and the driver.
    pub fn inventory(&self) -> GpuInventory {
        GpuInventory::take(&self.opened)
    }
}

impl SystemSampler for GpuSampler {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn sample(&mut self) -> Result<SystemValues, TrackError> {
        let failed = |reason: String| TrackError::Sampler { sampler: "gpu".to_owned(), reason };
        let source = self.opened.as_ref().map_err(|error| failed(failure::chain(error)))?;
        let n = source.count().map_err(|reason| failed(shortened(&reason)))?.min(MAX_DEVICES);
        if n == 0 {
            return Err(failed("NVML lists no device".to_owned()));
        }
        let mut values = SystemValues::from([("gpu_count".to_owned(), f64::from(n))]);
        for (idx, metric) in (0..n).flat_map(|idx| GpuMetric::ALL.map(|metric| (idx, metric))) {
            let name = format!("gpu{idx}_{}", metric.name());
            match source.read(idx, metric) {
                Ok(value) => drop(values.insert(name, value)),
                Err(reason) if self.absent.insert((idx, metric)) => self.news.entry(shortened(&reason)).or_default().push(name),
                Err(_) => {}
            }
        }
        if values.len() == 1 {
            self.news.clear();
            return Err(failed(format!("none of {n} devices tells anything")));
        }
        Ok(values)
    }

    fn newly_absent(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.news).into_iter().map(|(reason, names)| (names.join(", "), reason)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two devices: the second tells neither power nor why its clocks are held down, and its temperature only at the first look.
    #[derive(Default)]
    pub(crate) struct Scripted {
        looks: std::sync::atomic::AtomicU32,
    }

    impl GpuSource for Scripted {
        fn count(&self) -> Result<u32, String> {
            Ok(2)
        }

        fn device_name(&self, idx: u32) -> Result<String, String> {
            if idx == 0 { Ok("Device A".to_owned()) } else { Err("not\n supported".to_owned()) }
        }

        fn read(&self, idx: u32, metric: GpuMetric) -> Result<f64, String> {
            let seldom = idx == 1 && metric == GpuMetric::Temperature && self.looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0;
            if seldom {
                return Err("lost".to_owned());
            }
            match (idx, metric) {
                (1, GpuMetric::Power | GpuMetric::ThrottleReasons) => Err("not supported".to_owned()),
                (_, GpuMetric::MemoryTotal) => Ok(8e9),
                (_, GpuMetric::ThrottleReasons) => Ok(f64::from(0x1 | 0x4)),
                _ => Ok(f64::from(idx) * 10.0 + 5.0),
            }
        }

        fn driver_version(&self) -> Result<String, String> {
            Ok("570.1".to_owned())
        }

        fn cuda_version(&self) -> Result<String, String> {
            Err("unknown".to_owned())
        }
    }

    #[test]
    fn what_a_device_does_not_tell_is_left_out_and_named_once() {
        let mut sampler = GpuSampler::new(Ok(Box::new(Scripted::default())));
        let first = sampler.sample().unwrap();
        assert_eq!((first["gpu_count"], first["gpu0_power_watts"], first["gpu1_temperature_celsius"]), (2.0, 5.0, 15.0));
        assert!(first.len() == 1 + 9 + 7 && !first.contains_key("gpu1_power_watts"), "{first:?}");
        let named = sampler.newly_absent();
        assert_eq!(named, [("gpu1_power_watts, gpu1_throttle_reasons".to_owned(), "not supported".to_owned())]);
        assert!(!sampler.sample().unwrap().contains_key("gpu1_temperature_celsius"));
        assert_eq!(sampler.newly_absent(), [("gpu1_temperature_celsius".to_owned(), "lost".to_owned())]);
        sampler.sample().unwrap();
        assert!(sampler.newly_absent().is_empty());
    }

    #[test]
    fn an_inventory_says_what_it_lacks() {
        let inventory = GpuInventory::take(&Ok(Box::new(Scripted::default())));
        let devices = inventory.devices.clone().unwrap();
        assert_eq!((devices[0].name.as_deref(), devices[1].name.as_deref()), (Some("Device A"), None));
        assert_eq!((inventory.driver.as_deref(), inventory.cuda.as_deref()), (Some("570.1"), None));
        assert_eq!(inventory.reason.as_deref(), Some("not supported; unknown"));
        let json = serde_json::to_string(&inventory).unwrap();
        assert_eq!(serde_json::from_str::<GpuInventory>(&json).unwrap(), inventory);
    }

    #[test]
    fn an_absent_library_is_a_reason_and_no_panic() {
        let opened = open_nvml(Some(Path::new("/nonexistent/libnvidia-ml.so.1")));
        let inventory = GpuInventory::take(&opened);
        assert_eq!((inventory.devices, inventory.driver), (None, None));
        let reason = inventory.reason.unwrap();
        let expected = if cfg!(feature = "nvml") { "/nonexistent/libnvidia-ml.so.1" } else { "this build has no NVML" };
        assert!(reason.contains(expected) && !reason.contains('\n'), "{reason}");
        let mut sampler = GpuSampler::new(opened);
        let error = sampler.sample().unwrap_err().to_string();
        assert!(error.starts_with("sampler `gpu` got nothing: ") && error.contains(expected), "{error}");
        assert!(format!("{sampler:?}").contains("Nvml"));
    }

    #[test]
    fn reasons_are_read_from_bits() {
        let set = |bits| throttle_reasons(bits).filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(set(0x1), Vec::<&str>::new());
        assert_eq!(set(0x44), ["sw_power_cap", "hw_thermal_slowdown"]);
        assert_eq!(set(u64::MAX).len(), 8);
    }
}
